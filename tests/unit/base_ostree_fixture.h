/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * An ostree repository with an image in it, its base and its records. Commits are made by the
 * ostree program, as ostree-ext would make them; other programs' writing is libostree's.
 */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "ostree_repo.h"
#include "update/base/base_ostree.h"
#include "update/record/record_dir.h"

#define REF       "docker://example.org/os:stable"
#define OTHER_REF "docker://example.org/os:next"
#define IMAGE     "ostree/container/image/docker_3A__2F__2F_example_2E_org/os_3A_"
#define BLOB      "ostree/container/blob/sha256_3A_"
#define CACHED    "ostree-ext.cached."
#define OCI_TYPE  "application/vnd.oci.image.manifest.v1+json"
#define OLD_TYPE  "application/vnd.docker.distribution.manifest.v2+json"

static char dir[64], repo_path[80];
static struct larder_error e;

struct image {
    char manifest[16 * 1024];
    char config[16 * 1024];
    struct larder_digest digest;
    char text[LARDER_DIGEST_TEXT_BYTES];
};

/* 64 digits, all the same; one text at a time. */
static inline const char *digits(char c)
{
    static char text[65];
    memset(text, c, 64);
    return text;
}

static inline void digest_text(const char *bytes, char text[LARDER_DIGEST_TEXT_BYTES])
{
    struct larder_digest digest;
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, bytes, strlen(bytes), &digest, NULL), 0);
    larder_digest_format(&digest, text);
}

/* Layers "aa..", "bb.." of contents "00..", "11.." by the letters and digits that are given. */
static inline void make_image(struct image *image, const char *arch, const char *version,
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

static inline void commit_image(const char *repo, const char *ref, const struct image *image,
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

static inline int make_repo(void **state __attribute__((unused)))
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

static inline int remove_repo(void **state __attribute__((unused)))
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

static inline void open_base(struct fixture *f, const char *ref, const char *platform,
                             const char *sysroot)
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

static inline void close_base(struct fixture *f)
{
    base_holders_done(&f->holders);
    base_close(f->base);
    update_ask_done(&f->ask);
}

static inline void fill_record(struct update_record *record, const struct image *found,
                               bool has_update, const char *media_type)
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

static inline int put(struct fixture *f, const struct image *found, bool has_update)
{
    struct update_record record;
    fill_record(&record, found, has_update,
                strstr(found->manifest, "docker") ? OLD_TYPE : OCI_TYPE);
    int r = f->base->ops->record_put(f->base, f->holders.list, &record, &e);
    record_done(&record);
    return r;
}

static inline int get(struct fixture *f, struct update_record *record)
{
    return f->base->ops->record_get(f->base, f->holders.list, record, &e);
}

static inline int clear(struct fixture *f)
{
    return f->base->ops->record_remove(f->base, f->holders.list, &e);
}

static inline int get_code(struct fixture *f)
{
    struct update_record record = {0};
    int r = get(f, &record);
    record_done(&record);
    return r;
}
