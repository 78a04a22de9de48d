/* SPDX-License-Identifier: Apache-2.0 */
/* Records in ostree repositories: read, written, of others, damaged, by many at once. */
#include "base_ostree_fixture.h"

#define WRITERS 4
#define ROUNDS  3

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

    /* libostree looks once a second whether it gets the lock. */
    run("ostree --repo=%s config set core.lock-timeout-secs 3600", repo_path);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    umask(022); /* other users are to read what we make */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
