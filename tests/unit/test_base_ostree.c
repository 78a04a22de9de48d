/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bases and records in ostree repositories. Commits are made by the ostree program, as ostree-ext
 * would make them; other programs' writing is libostree's.
 */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "ostree_repo.h"
#include "update/base_ostree.h"
#include "update/record_dir.h"

#define REF       "docker://example.org/os:stable"
#define OTHER_REF "docker://example.org/os:next"
#define IMAGE     "ostree/container/image/docker_3A__2F__2F_example_2E_org/os_3A_"
#define BLOB      "ostree/container/blob/sha256_3A_"
#define CACHED    "ostree-ext.cached."
#define OCI_TYPE  "application/vnd.oci.image.manifest.v1+json"
#define OLD_TYPE  "application/vnd.docker.distribution.manifest.v2+json"
#define WRITERS   4
#define ROUNDS    3

static char dir[64], repo_path[80];
static struct larder_error e;

struct image {
    char manifest[16 * 1024];
    char config[16 * 1024];
    struct larder_digest digest;
    char text[LARDER_DIGEST_TEXT_BYTES];
};

/* 64 digits, all the same; one text at a time. */
static const char *digits(char c)
{
    static char text[65];
    memset(text, c, 64);
    return text;
}

static void digest_text(const char *bytes, char text[LARDER_DIGEST_TEXT_BYTES])
{
    struct larder_digest digest;
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, bytes, strlen(bytes), &digest, NULL), 0);
    larder_digest_format(&digest, text);
}

/* Layers "aa..", "bb.." of contents "00..", "11.." by the letters and digits that are given. */
static void make_image(struct image *image, const char *arch, const char *version,
                       const char *layers, const char *diff_ids, bool is_docker)
{
    char config_digest[LARDER_DIGEST_TEXT_BYTES];
    int n = snprintf(image->config, sizeof(image->config),
                     "{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{\"Labels\":"
                     "{\"version\":\"%s\",\"n\":\"h\xc3\xa9\\n\"}},\"rootfs\":{\"type\":\"layers\","
                     "\"diff_ids\":[",
                     arch, version);
    for (const char *c = diff_ids; *c; c++)
        n += snprintf(image->config + n, sizeof(image->config) - (size_t)n, "%s\"sha256:%s\"",
                      c == diff_ids ? "" : ",", digits(*c));
    snprintf(image->config + n, sizeof(image->config) - (size_t)n, "]},\"history\":[]}");
    digest_text(image->config, config_digest);
    n = snprintf(image->manifest, sizeof(image->manifest),
                 "{\"schemaVersion\":2,\"mediaType\":\"%s\",\n \"config\":{\"mediaType\":\"%s\","
                 "\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
                 is_docker ? OLD_TYPE : OCI_TYPE,
                 is_docker ? "application/vnd.docker.container.image.v1+json"
                           : "application/vnd.oci.image.config.v1+json",
                 config_digest, strlen(image->config));
    for (const char *c = layers; *c; c++)
        n += snprintf(image->manifest + n, sizeof(image->manifest) - (size_t)n,
                      "%s{\"mediaType\":\"%s\",\"digest\":\"sha256:%s\",\"size\":%d}",
                      c == layers ? "" : ",",
                      is_docker ? "application/vnd.docker.image.rootfs.diff.tar.gzip"
                                : "application/vnd.oci.image.layer.v1.tar+gzip",
                      digits(*c), 100 + *c);
    snprintf(image->manifest + n, sizeof(image->manifest) - (size_t)n, "]}");
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, image->manifest, strlen(image->manifest),
                             &image->digest, NULL),
                     0);
    larder_digest_format(&image->digest, image->text);
}

static struct image v1, v2;

static void commit_image(const char *repo, const char *ref, const struct image *image,
                         const char *config, char commit[65])
{
    strcpy(commit, output("ostree --repo=%s commit -b %s --no-bindings %s/tree "
                          "'--add-metadata-string=ostree.manifest-digest=%s' "
                          "'--add-metadata-string=ostree.manifest=%s' "
                          "'--add-metadata-string=ostree.container.image-config=%s' "
                          "--add-metadata-string=ostree.importer.version=0.15.3",
                          repo, ref, dir, image->text, image->manifest, config));
    assert_int_equal(strlen(commit), 64);
}

static char commit[65]; /* of v1, under REF */

static int make_repo(void **state __attribute__((unused)))
{
    strcpy(dir, "/tmp/larder-base-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0755), 0);
    snprintf(repo_path, sizeof(repo_path), "%s/repo", dir);
    e = (struct larder_error)LARDER_ERROR_INIT;
    run("ostree --repo=%s init --mode=bare-user && mkdir %s/tree", repo_path, dir);
    make_image(&v1, "amd64", "1", "abc", "012", false);
    make_image(&v2, "amd64", "2", "abdd", "0133", false);
    for (const char *c = "abc"; *c; c++)
        run("ostree --repo=%s commit -b " BLOB "%s --no-bindings %s/tree >/dev/null", repo_path,
            digits(*c), dir);
    commit_image(repo_path, IMAGE "stable", &v1, v1.config, commit);
    return 0;
}

static int remove_repo(void **state __attribute__((unused)))
{
    run("rm -rf %s", dir);
    return 0;
}

/* An ask, its base and its holders. */
struct fixture {
    struct larder_update_options options;
    struct update_ask ask;
    struct base *base;
    struct base_holders holders;
};

static void open_base(struct fixture *f, const char *ref, const char *platform, const char *sysroot)
{
    *f = (struct fixture){.options = LARDER_UPDATE_OPTIONS_INIT};
    f->options.platform = platform;
    f->options.sysroot = sysroot;
    f->options.ostree_repo = sysroot ? NULL : repo_path;
    if (update_ask_read(NULL, ref, &f->options, &f->ask, &e) < 0 ||
        base_ostree_open(&f->ask, &f->base, &e) < 0 ||
        f->base->ops->holders(f->base, &f->holders, &e) < 0)
        fail_msg("%s", e.msg);
}

static void close_base(struct fixture *f)
{
    base_holders_done(&f->holders);
    base_close(f->base);
    update_ask_done(&f->ask);
}

static void fill_record(struct update_record *record, const struct image *found, bool has_update,
                        const char *media_type)
{
    *record = (struct update_record){.base = v1.digest,
                                     .listed = found->digest,
                                     .manifest_digest = found->digest,
                                     .checked_ns = 1700000000123456789,
                                     .has_update = has_update};
    record->listed.bytes[0] ^= 0xff;
    if (!has_update)
        return;
    record->media_type = strdup(media_type);
    record->manifest = BUF_INIT(RECORD_MANIFEST_BYTES_MAX);
    record->config = BUF_INIT(RECORD_CONFIG_BYTES_MAX);
    buf_puts(&record->manifest, found->manifest);
    buf_puts(&record->config, found->config);
}

static int put(struct fixture *f, const struct image *found, bool has_update)
{
    struct update_record record;
    fill_record(&record, found, has_update,
                strstr(found->manifest, "docker") ? OLD_TYPE : OCI_TYPE);
    int r = f->base->ops->record_put(f->base, f->holders.list, &record, &e);
    record_done(&record);
    return r;
}

static int get(struct fixture *f, struct update_record *record)
{
    return f->base->ops->record_get(f->base, f->holders.list, record, &e);
}

static int clear(struct fixture *f)
{
    return f->base->ops->record_remove(f->base, f->holders.list, &e);
}

static int get_code(struct fixture *f)
{
    struct update_record record = {0};
    int r = get(f, &record);
    record_done(&record);
    return r;
}

/* ---- images ---- */

static void images_of_commits(void **state __attribute__((unused)))
{
    struct fixture f;
    char other[65], *place = realpath(repo_path, NULL);
    struct image odd = v2;

    open_base(&f, REF, "linux/amd64", NULL);
    assert_string_equal(f.base->place, place);
    assert_string_equal(f.base->identity, place);
    free(place);
    assert_int_equal(f.holders.n, 1);
    const struct base_holder *h = &f.holders.list[0];
    assert_string_equal(h->role, "image");
    assert_string_equal(h->commit, commit);
    assert_true(larder_digest_equal(&h->digest, &v1.digest));
    assert_false(h->is_rewritten);
    assert_string_equal(h->media_type, OCI_TYPE);
    assert_string_equal(h->manifest.p, v1.manifest);
    assert_string_equal(h->config.p, v1.config);
    assert_int_equal(h->view.n_layers, 3);
    assert_string_equal(h->view.version, "1");
    close_base(&f);
    /* A name without an image has no base; none at all is no error. */
    open_base(&f, OTHER_REF, "linux/amd64", NULL);
    assert_int_equal(f.holders.n, 0);
    assert_int_equal(get_code(&f), -LARDER_NOENT);
    assert_int_equal(put(&f, &v2, true), -LARDER_DENIED);
    assert_int_equal(clear(&f), 0);
    close_base(&f);
    /* What ostree-ext makes of a manifest is not what its digest names; and long ago it kept no
     * configuration. */
    odd.manifest[strlen("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE "\",")] = ' ';
    commit_image(repo_path, IMAGE "next", &odd, "null", other);
    open_base(&f, OTHER_REF, "linux/amd64", NULL);
    assert_int_equal(f.holders.n, 1);
    assert_true(f.holders.list[0].is_rewritten);
    assert_int_equal(f.holders.list[0].config.n, 0);
    assert_null(f.holders.list[0].view.version);
    assert_int_equal(f.holders.list[0].view.n_layers, 4);
    close_base(&f);
}

static void damaged_images(void **state __attribute__((unused)))
{
    static const char *const rows[] = {
        "--add-metadata-string=x=y",
        "--add-metadata-string=ostree.manifest-digest=sha256:00",
        "'--add-metadata=ostree.manifest-digest=uint32 5'",
        "--add-metadata-string=ostree.manifest-digest=$d",
        "--add-metadata-string=ostree.manifest-digest=$d --add-metadata-string=ostree.manifest={}",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct fixture f = {.options = LARDER_UPDATE_OPTIONS_INIT};
        run("d=%s; ostree --repo=%s commit -b " IMAGE "next --no-bindings %s/tree %s >/dev/null",
            v1.text, repo_path, dir, rows[i]);
        f.options.ostree_repo = repo_path;
        assert_int_equal(update_ask_read(NULL, OTHER_REF, &f.options, &f.ask, &e), 0);
        assert_int_equal(base_ostree_open(&f.ask, &f.base, &e), 0);
        assert_int_equal(f.base->ops->holders(f.base, &f.holders, &e), -LARDER_CORRUPT);
        assert_non_null(strstr(e.msg, repo_path));
        close_base(&f);
    }
}

/* ---- records ---- */

static void kept_and_read(void **state __attribute__((unused)))
{
    struct fixture f;
    struct update_record record = {0};
    char digest[200];

    add_signatures(repo_path, commit);
    open_base(&f, REF, "linux/amd64", NULL);
    assert_int_equal(get_code(&f), -LARDER_NOENT);
    assert_int_equal(put(&f, &v2, true), 0);
    /* For bootc: the bytes of the registry. */
    snprintf(digest, sizeof(digest), "'%s'", v2.text);
    assert_string_equal(detached(repo_path, commit, CACHED "manifest-digest"), digest);
    snprintf(digest, sizeof(digest), "'%s'", REF);
    assert_string_equal(detached(repo_path, commit, "larder.update.ref"), digest);
    assert_string_equal(detached(repo_path, commit, "larder.update.checked-at"),
                        "uint64 1700000000123456789");
    assert_int_equal(get(&f, &record), 0);
    assert_true(record.has_update);
    assert_false(record.is_rewritten);
    assert_string_equal(record.manifest.p, v2.manifest);
    assert_string_equal(record.config.p, v2.config);
    assert_string_equal(record.ref, REF);
    assert_string_equal(record.platform, "linux/amd64");
    assert_string_equal(record.commit, commit);
    assert_true(larder_digest_equal(&record.base, &v1.digest));
    assert_true(larder_digest_equal(&record.manifest_digest, &v2.digest));
    assert_int_equal(record.listed.bytes[0], v2.digest.bytes[0] ^ 0xff);
    assert_int_equal(record.checked_ns, 1700000000123456789);
    record_done(&record);
    assert_int_equal(f.base->ops->record_touch(f.base, f.holders.list, 1, &e), 0);
    assert_int_equal(clear(&f), 1);
    assert_int_equal(clear(&f), 0);
    assert_int_equal(get_code(&f), -LARDER_NOENT);
    check_signatures(repo_path, commit);
    assert_string_equal(detached(repo_path, commit, CACHED "manifest"), "");
    assert_string_equal(detached(repo_path, commit, "larder.update.ref"), "");
    close_base(&f);
}

static void of_docker(void **state __attribute__((unused)))
{
    struct fixture f;
    struct update_record record = {0};
    struct image old;

    make_image(&old, "amd64", "2", "abd", "013", true);
    open_base(&f, REF, "linux/amd64", NULL);
    assert_int_equal(put(&f, &old, true), 0);
    char *manifest = detached(repo_path, commit, CACHED "manifest");
    assert_non_null(strstr(manifest, OCI_TYPE));
    assert_null(strstr(manifest, "docker"));
    assert_int_equal(get(&f, &record), 0);
    assert_true(record.is_rewritten);
    assert_true(larder_digest_equal(&record.manifest_digest, &old.digest));
    record_done(&record);
    close_base(&f);
}

/* The digest that was listed is kept, so that the next check has one question to ask. */
static void unchanged(void **state __attribute__((unused)))
{
    struct fixture f;
    struct update_record record = {0};

    open_base(&f, REF, "linux/amd64", NULL);
    assert_int_equal(put(&f, &v2, true), 0);
    assert_int_equal(put(&f, &v1, false), 0);
    assert_string_equal(detached(repo_path, commit, CACHED "manifest-digest"), "");
    assert_string_equal(detached(repo_path, commit, CACHED "manifest"), "");
    assert_string_equal(detached(repo_path, commit, CACHED "config"), "");
    assert_int_equal(get(&f, &record), 0);
    assert_false(record.has_update);
    assert_true(larder_digest_equal(&record.base, &v1.digest));
    assert_int_equal(record.listed.bytes[0], v1.digest.bytes[0] ^ 0xff);
    record_done(&record);
    assert_int_equal(put(&f, &v2, true), 0);
    assert_int_equal(get(&f, &record), 0);
    assert_true(record.has_update);
    record_done(&record);
    /* Somebody else clears it, of whose keys ours are none: that is not "unchanged". */
    write_detached(repo_path, commit, "larder.update.state", "update", "larder.update.ref", REF,
                   "larder.update.platform", "linux/amd64", "larder.update.base", v1.text,
                   "larder.update.listed", v2.text, "larder.update.manifest-digest", v2.text, NULL);
    assert_int_equal(get_code(&f), -LARDER_NOENT);
    assert_int_equal(clear(&f), 1);
    close_base(&f);
}

/* As ostree-ext writes: its three keys and no other, its own spelling of the documents. */
static void of_others(void **state __attribute__((unused)))
{
    struct fixture f;
    struct update_record record = {0};
    struct image odd = v2;

    odd.manifest[strlen("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE "\",")] = ' ';
    open_base(&f, REF, "linux/amd64", NULL);
    assert_int_equal(put(&f, &v1, false), 0);
    write_detached(repo_path, commit, CACHED "manifest-digest", v2.text, CACHED "manifest",
                   odd.manifest, CACHED "config", v2.config, NULL);
    assert_int_equal(get(&f, &record), 0);
    assert_true(record.has_update);
    assert_true(record.is_rewritten);
    assert_string_equal(record.ref, REF);
    assert_int_equal(record.listed.alg, LARDER_DIGEST_NONE);
    assert_true(record.checked_ns > 1700000000000000000);
    assert_true(larder_digest_equal(&record.manifest_digest, &v2.digest));
    record_done(&record);
    /* The manifest may come out as it was, and the configuration not. */
    write_detached(repo_path, commit, CACHED "manifest-digest", v2.text, CACHED "manifest",
                   v2.manifest, CACHED "config", v2.config, NULL);
    assert_int_equal(get(&f, &record), 0);
    assert_false(record.is_rewritten);
    record_done(&record);
    strcat(odd.config, " ");
    write_detached(repo_path, commit, CACHED "manifest-digest", v2.text, CACHED "manifest",
                   v2.manifest, CACHED "config", odd.config, NULL);
    assert_int_equal(get(&f, &record), 0);
    assert_true(record.is_rewritten);
    record_done(&record);
    /* Who keeps our keys and writes his own makes ours those of something else. */
    for (int i = 0; i < 2; i++) {
        write_detached(repo_path, commit, CACHED "manifest-digest", v2.text, CACHED "manifest",
                       v2.manifest, CACHED "config", v2.config, "larder.update.state",
                       i == 0 ? "unchanged" : "update", "larder.update.ref", OTHER_REF,
                       "larder.update.platform", "linux/amd64", "larder.update.base", v1.text,
                       "larder.update.listed", v1.text, "larder.update.manifest-digest", v1.text,
                       NULL);
        assert_int_equal(get(&f, &record), 0);
        assert_true(record.has_update);
        assert_int_equal(record.listed.alg, LARDER_DIGEST_NONE);
        record_done(&record);
    }
    assert_int_equal(clear(&f), 1);
    assert_int_equal(get_code(&f), -LARDER_NOENT);
    close_base(&f);
}

static void write_number(const char *key)
{
    g_autoptr(OstreeRepo) repo = ostree_repo_open_at(AT_FDCWD, repo_path, NULL, NULL);
    GVariantDict d;
    g_variant_dict_init(&d, NULL);
    g_variant_dict_insert(&d, key, "u", 5);
    g_autoptr(GVariant) dict = g_variant_ref_sink(g_variant_dict_end(&d));
    assert_true(ostree_repo_write_commit_detached_metadata(repo, commit, dict, NULL, NULL));
}

static void damaged_records(void **state __attribute__((unused)))
{
    static const char *const digest = CACHED "manifest-digest";
    static const char *const manifest = CACHED "manifest";
    static const char *const config = CACHED "config";
    struct fixture f;

    open_base(&f, REF, "linux/amd64", NULL);
    const struct {
        const char *texts[7];
        int code;
    } rows[] = {
        {{digest, v2.text}, -LARDER_CORRUPT},
        {{digest, v2.text, manifest, v2.manifest}, -LARDER_CORRUPT},
        {{digest, v2.text, config, v2.config}, -LARDER_CORRUPT},
        {{digest, "sha256:12", manifest, v2.manifest, config, v2.config}, -LARDER_CORRUPT},
        {{digest, v2.text, manifest, "{", config, v2.config}, -LARDER_CORRUPT},
        {{digest, v2.text, manifest, "{}", config, v2.config}, -LARDER_CORRUPT},
        {{digest, v2.text, manifest, v2.manifest, config, "{"}, -LARDER_CORRUPT},
        {{manifest, v2.manifest, config, v2.config}, -LARDER_NOENT},
        {{"unrelated", "x"}, -LARDER_NOENT},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *const *t = rows[i].texts;
        write_detached(repo_path, commit, t[0], t[1], t[2], t[3], t[4], t[5], NULL);
        assert_int_equal(get_code(&f), rows[i].code);
        if (rows[i].code == -LARDER_CORRUPT)
            assert_non_null(strstr(e.msg, commit));
        assert_int_equal(clear(&f), strcmp(t[0], "unrelated") != 0);
        assert_int_equal(get_code(&f), -LARDER_NOENT);
    }
    /* A digest of another type; nothing; torn; and a check that finds something afterwards. */
    write_number(digest);
    assert_int_equal(get_code(&f), -LARDER_CORRUPT);
    run(": >%s", detached_path(repo_path, commit));
    assert_int_equal(get_code(&f), -LARDER_NOENT);
    assert_int_equal(put(&f, &v2, true), 0);
    run("truncate -s -20 %s", detached_path(repo_path, commit));
    assert_int_equal(get_code(&f), -LARDER_CORRUPT);
    assert_int_equal(clear(&f), 1);
    assert_int_equal(get_code(&f), -LARDER_NOENT);
    run("printf xyz >%s", detached_path(repo_path, commit));
    assert_int_equal(get_code(&f), -LARDER_CORRUPT);
    assert_int_equal(put(&f, &v2, true), 0);
    assert_int_equal(get_code(&f), 0);
    /* Of our own all bytes are known. */
    run("sed -i 's/\"version\":\"2\"/\"version\":\"3\"/' %s", detached_path(repo_path, commit));
    assert_int_equal(get_code(&f), -LARDER_CORRUPT);
    close_base(&f);
}

static void of_another_ask(void **state __attribute__((unused)))
{
    struct fixture f, other, arm;

    run("ostree --repo=%s refs --create=" IMAGE "next %s", repo_path, commit);
    open_base(&f, REF, "linux/amd64", NULL);
    open_base(&other, OTHER_REF, "linux/amd64", NULL);
    open_base(&arm, REF, "linux/arm64", NULL);
    assert_string_equal(other.holders.list->commit, commit);
    assert_int_equal(put(&f, &v2, true), 0);
    assert_int_equal(get_code(&other), -LARDER_NOENT);
    assert_int_equal(get_code(&arm), -LARDER_NOENT);
    assert_int_equal(clear(&other), 0);
    assert_int_equal(clear(&arm), 0);
    assert_int_equal(get_code(&f), 0);
    /* The image in use is of amd64, and what is recorded with it is taken for an update of it. */
    assert_int_equal(put(&arm, &v2, true), -LARDER_DENIED);
    assert_non_null(strstr(e.msg, "linux/arm64"));
    assert_int_equal(get_code(&f), 0);
    write_detached(repo_path, commit, CACHED "manifest-digest", v2.text, CACHED "manifest",
                   v2.manifest, CACHED "config", v2.config, NULL);
    assert_int_equal(get_code(&f), 0);
    assert_int_equal(get_code(&other), 0);
    assert_int_equal(get_code(&arm), -LARDER_NOENT);
    close_base(&f);
    close_base(&other);
    close_base(&arm);
}

static void not_to_be_kept(void **state __attribute__((unused)))
{
    struct fixture f;
    struct update_record record;

    open_base(&f, REF, "linux/amd64", NULL);
    fill_record(&record, &v2, true, OCI_TYPE);
    buf_append(&record.config, "\0", 1);
    assert_int_equal(f.base->ops->record_put(f.base, f.holders.list, &record, &e), -LARDER_DENIED);
    buf_reset(&record.config);
    buf_puts(&record.config, "\"\xff\"");
    assert_int_equal(f.base->ops->record_put(f.base, f.holders.list, &record, &e), -LARDER_DENIED);
    /* ostree-ext would no longer read the image in use. */
    buf_reset(&record.config);
    buf_puts(&record.config, "{\"config\":{\"Labels\":{\"n\":1}}}");
    assert_int_equal(f.base->ops->record_put(f.base, f.holders.list, &record, &e), -LARDER_DENIED);
    assert_non_null(strstr(e.msg, "Labels"));
    record_done(&record);
    assert_int_equal(access(detached_path(repo_path, commit), F_OK), -1);
    close_base(&f);
}

/* What ostree-ext requires and the registry's has not is put in. */
static void completed(void **state __attribute__((unused)))
{
    struct fixture f;
    struct update_record record;

    open_base(&f, REF, "linux/amd64", NULL);
    fill_record(&record, &v2, true, OCI_TYPE);
    char *history = strstr(record.config.p, ",\"history\":[]}");
    strcpy(history, "}");
    record.config.n = strlen(record.config.p);
    assert_int_equal(f.base->ops->record_put(f.base, f.holders.list, &record, &e), 0);
    record_done(&record);
    assert_non_null(strstr(detached(repo_path, commit, CACHED "config"), "\"history\":[]"));
    assert_int_equal(get(&f, &record), 0);
    assert_true(record.is_rewritten);
    record_done(&record);
    close_base(&f);
}

static void read_only(void **state __attribute__((unused)))
{
    struct fixture f;
    int status = 0;

    if (getuid() != 0) {
        print_message("# skipped: only root can be somebody else\n");
        return;
    }
    open_base(&f, REF, "linux/amd64", NULL);
    assert_int_equal(put(&f, &v2, true), 0);
    close_base(&f);
    pid_t pid = fork();
    if (pid == 0) {
        if (setgid(65534) < 0 || setuid(65534) < 0)
            _exit(1);
        open_base(&f, REF, "linux/amd64", NULL);
        if (get_code(&f) != 0)
            _exit(2);
        if (put(&f, &v1, false) != -LARDER_DENIED || clear(&f) != -LARDER_DENIED)
            _exit(3);
        close_base(&f);
        open_base(&f, OTHER_REF, "linux/amd64", NULL);
        if (clear(&f) != 0)
            _exit(4);
        close_base(&f);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void write_images(const struct image *image)
{
    struct fixture f;
    for (int i = 0; i < ROUNDS; i++) {
        open_base(&f, REF, "linux/amd64", NULL);
        if (put(&f, image, true) < 0 || put(&f, &v1, false) < 0 || put(&f, image, true) < 0)
            _exit(1);
        close_base(&f);
    }
}

/* Whoever reads meanwhile finds one of the records or none, and always a whole one: its documents
 * are hashed. */
static void many_writers(void **state __attribute__((unused)))
{
    struct fixture f;
    static struct image images[WRITERS];
    pid_t pids[WRITERS];
    int n_left = WRITERS, status;

    open_base(&f, REF, "linux/amd64", NULL);
    add_signatures(repo_path, commit);
    for (int i = 0; i < WRITERS; i++) {
        make_image(&images[i], "amd64", (char[2]){(char)('2' + i)}, "abd", "013", false);
        pids[i] = fork();
        if (pids[i] == 0) {
            write_images(&images[i]);
            _exit(0);
        }
    }
    while (n_left > 0) {
        int r = get_code(&f);
        assert_true(r == 0 || r == -LARDER_NOENT);
        if (waitpid(-1, &status, WNOHANG) > 0) {
            assert_int_equal(status, 0);
            n_left--;
        }
        usleep(500);
    }
    assert_int_equal(get_code(&f), 0);
    check_signatures(repo_path, commit);
    close_base(&f);
}

/* ---- layers ---- */

static void layers(void **state __attribute__((unused)))
{
    static const enum larder_update_presence with[] = {
        LARDER_UPDATE_HERE, LARDER_UPDATE_HERE, LARDER_UPDATE_NEEDED, LARDER_UPDATE_HERE_DIFF_ID,
        LARDER_UPDATE_HERE_DIFF_ID};
    enum larder_update_presence presence[5];
    struct image_view view = {0};
    struct image image;
    struct fixture f;

    /* e and f have the content of c, packed otherwise; d is new. */
    make_image(&image, "amd64", "2", "abdef", "01322", false);
    assert_int_equal(
        image_view_read(slice_of(image.manifest), OCI_TYPE, slice_of(image.config), &view, &e), 0);
    open_base(&f, OTHER_REF, "linux/amd64", NULL);
    assert_int_equal(f.base->ops->layers_here(f.base, &view, presence, &e), 0);
    assert_memory_equal(presence, with, sizeof(with));
    /* An image whose layer is gone has nothing to make it from. */
    run("ostree --repo=%s refs --delete " BLOB "%s", repo_path, digits('c'));
    assert_int_equal(f.base->ops->layers_here(f.base, &view, presence, &e), 0);
    assert_int_equal(presence[1], LARDER_UPDATE_HERE);
    for (int i = 2; i < 5; i++)
        assert_int_equal(presence[i], LARDER_UPDATE_NEEDED);
    close_base(&f);
    image_view_done(&view);
}

/* ---- all of a repository ---- */

static int collect(void *arg, const char *ref, const char *platform)
{
    strcat(strcat(strcat(strcat(arg, ref), "="), platform ? platform : "?"), " ");
    return strstr(ref, "stop") ? 5 : 0;
}

static void each_image(void **state __attribute__((unused)))
{
    const struct larder_update_options options = {.ostree_repo = repo_path};
    struct fixture f;
    char text[500] = "", other[65];

    assert_int_equal(base_ostree_each(NULL, &options, collect, text, &e), 0);
    assert_string_equal(text, "");
    commit_image(repo_path, IMAGE "next", &v2, v2.config, other);
    commit_image(repo_path, IMAGE "a", &v2, "null", other);
    run("ostree --repo=%s refs --create=ostree/container/image/not.escaped %s; "
        "ostree --repo=%s refs --create=" IMAGE "same %s",
        repo_path, other, repo_path, commit);
    write_detached(repo_path, other, CACHED "manifest-digest", "damaged", NULL);
    open_base(&f, REF, "linux/amd64", NULL);
    assert_int_equal(put(&f, &v2, true), 0);
    close_base(&f);
    assert_int_equal(base_ostree_each(NULL, &options, collect, text, &e), 0);
    assert_string_equal(text, "docker://example.org/os:a=? " REF "=linux/amd64 ");
    text[0] = '\0';
    run("ostree --repo=%s refs --create=" IMAGE "b-stop %s", repo_path, other);
    assert_int_equal(base_ostree_each(NULL, &options, collect, text, &e), 5);
    assert_string_equal(text, "docker://example.org/os:a=? docker://example.org/os:b-stop=? ");
}

static int collect_ask(void *arg, const struct update_ask *ask)
{
    return collect(arg, ask->ref, ask->platform_text);
}

/* What a check found that could not write the repository at place. */
static void keep_elsewhere(struct record_dir *state_dir, const char *ref, const char *place)
{
    struct update_record record;
    CLEANUP_FREE char *key = NULL;

    fill_record(&record, &v2, true, OCI_TYPE);
    record.ref = strdup(ref);
    record.platform = strdup("linux/amd64");
    assert_int_equal(record_key(ref, record.platform, place, NULL, &key, &e), 0);
    assert_int_equal(record_dir_put(state_dir, key, &record, &e), 0);
    record_done(&record);
}

static void each_of_both_places(void **state __attribute__((unused)))
{
    char path[80], text[500] = "";
    struct larder_update_options options = LARDER_UPDATE_OPTIONS_INIT;
    struct record_dir *state_dir = NULL;
    struct fixture f;

    snprintf(path, sizeof(path), "%s/state", dir);
    options.ostree_repo = repo_path;
    options.platform = "linux/amd64";
    assert_int_equal(record_dir_open(path, true, &state_dir, &e), 0);
    keep_elsewhere(state_dir, OTHER_REF, repo_path);
    keep_elsewhere(state_dir, REF, repo_path);
    keep_elsewhere(state_dir, "docker://example.org/os:elsewhere", "/another/repo");
    record_dir_close(state_dir);
    open_base(&f, REF, "linux/amd64", NULL);
    assert_int_equal(put(&f, &v2, true), 0);
    close_base(&f);
    assert_int_equal(base_each_ref(NULL, &options, collect_ask, text, &e), 0);
    assert_string_equal(text, REF "=linux/amd64 ");
    options.state_dir = path;
    text[0] = '\0';
    assert_int_equal(base_each_ref(NULL, &options, collect_ask, text, &e), 0);
    assert_string_equal(text, OTHER_REF "=linux/amd64 " REF "=linux/amd64 ");

    /* One that does not tell its platform, and one that does, are of one reference. */
    write_detached(repo_path, commit, CACHED "manifest-digest", "damaged", NULL);
    text[0] = '\0';
    assert_int_equal(base_each_ref(NULL, &options, collect_ask, text, &e), 0);
    assert_string_equal(text, OTHER_REF "=linux/amd64 " REF "=linux/amd64 ");
}

static void set_origin(const char *deployment, const char *image)
{
    run("printf '[origin]\\ncontainer-image-reference=%%s\\n' '%s' >%s/sysroot/ostree/deploy/os/"
        "deploy/%s.origin",
        image, dir, deployment);
}

/* Of a system that is not running: the first deployment is pending. */
static void deployments(void **state __attribute__((unused)))
{
    struct fixture f;
    char sysroot[80], repo[100], other[65], layered[65], deployment[100], *ref = NULL;
    char text[500] = "";

    if (getuid() != 0) {
        print_message("# skipped: only root can deploy\n");
        return;
    }
    snprintf(sysroot, sizeof(sysroot), "%s/sysroot", dir);
    snprintf(repo, sizeof(repo), "%s/ostree/repo", sysroot);
    make_sysroot(sysroot);
    assert_int_equal(base_ostree_follows(sysroot, &ref, &e), -LARDER_NOENT);
    run("t=%s/tree; mkdir -p $t/usr/lib/modules/6.1 $t/usr/etc && "
        "echo kernel >$t/usr/lib/modules/6.1/vmlinuz && echo ID=os >$t/usr/etc/os-release",
        dir);
    commit_image(repo, IMAGE "stable", &v2, v2.config, other);
    commit_image(repo, "old", &v1, v1.config, commit);
    strcpy(layered, output("ostree --repo=%s commit -b layered --no-bindings %s/tree", repo, dir));
    run("ostree admin deploy --sysroot=%s --os=os old >/dev/null", sysroot);
    snprintf(deployment, sizeof(deployment), "%s.0", commit);
    set_origin(deployment, "ostree-unverified-registry:example.org/os:stable");
    assert_int_equal(base_ostree_follows(sysroot, &ref, &e), 0);
    assert_string_equal(ref, REF);
    free(ref);

    /* The ref is the base; the deployment has the image before it. */
    open_base(&f, REF, "linux/amd64", sysroot);
    assert_string_equal(f.base->place, repo);
    assert_int_equal(f.holders.n, 2);
    assert_string_equal(f.holders.list[0].role, "image");
    assert_string_equal(f.holders.list[0].commit, other);
    assert_string_equal(f.holders.list[1].role, "pending");
    assert_string_equal(f.holders.list[1].commit, commit);
    assert_true(larder_digest_equal(&f.holders.list[1].digest, &v1.digest));
    assert_int_equal(put(&f, &v1, true), 0);
    assert_int_equal(f.base->ops->record_get(f.base, &f.holders.list[1], NULL, &e), -LARDER_NOENT);
    close_base(&f);
    assert_string_equal(detached(repo, commit, CACHED "manifest-digest"), "");
    assert_string_not_equal(detached(repo, other, CACHED "manifest-digest"), "");
    open_base(&f, OTHER_REF, "linux/amd64", sysroot);
    assert_int_equal(f.holders.n, 0);
    close_base(&f);

    /* Packages layered on top: a holder of which no image is known, and no base. */
    run("ostree admin deploy --sysroot=%s --os=os layered >/dev/null", sysroot);
    snprintf(deployment, sizeof(deployment), "%s.0", layered);
    set_origin(deployment, "ostree-image-signed:docker://example.org/os:stable");
    open_base(&f, REF, "linux/amd64", sysroot);
    assert_int_equal(f.holders.n, 2);
    assert_string_equal(f.holders.list[1].commit, layered);
    assert_int_equal(f.holders.list[1].digest.alg, LARDER_DIGEST_NONE);
    close_base(&f);
    run("ostree --repo=%s refs --delete " IMAGE "stable", repo);
    open_base(&f, REF, "linux/amd64", sysroot);
    assert_int_equal(f.holders.n, 0);
    close_base(&f);

    /* Without the ref what is deployed is the base, and keeps the record. */
    run("ostree admin deploy --sysroot=%s --os=os old >/dev/null", sysroot);
    snprintf(deployment, sizeof(deployment), "%s.1", commit);
    set_origin(deployment, "ostree-image-signed:docker://example.org/os:stable");
    open_base(&f, REF, "linux/amd64", sysroot);
    assert_int_equal(f.holders.n, 1);
    assert_string_equal(f.holders.list[0].role, "pending");
    assert_int_equal(put(&f, &v2, true), 0);
    assert_int_equal(get_code(&f), 0);
    close_base(&f);
    assert_int_equal(base_ostree_each(NULL, &f.options, collect, text, &e), 0);
    assert_string_equal(text, REF "=linux/amd64 ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(images_of_commits, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(damaged_images, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(kept_and_read, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(of_docker, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(unchanged, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(of_others, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(damaged_records, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(of_another_ask, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(not_to_be_kept, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(completed, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(read_only, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(many_writers, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(layers, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(each_image, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(each_of_both_places, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(deployments, make_repo, remove_repo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
