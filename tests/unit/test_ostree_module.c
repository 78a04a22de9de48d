/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module on repositories that the ostree program made; libostree itself, used directly, is the
 * other program that has keys in the same dictionaries.
 */
#include <errno.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "ostree_repo.h"
#include "update/ostree/module.h"

/* libostree asks for a lock that is taken once a second. */
#define WRITERS 4
#define ROUNDS  2

static const struct ostree_module *module;
static char dir[64], repo_path[80];
static char commit_a[65], commit_b[65];

static int make_repo(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    if (!module && ostree_module_get(&module, &e) < 0)
        fail_msg("%s (%s)", e.msg, e.hint);
    strcpy(dir, "/tmp/larder-ostree-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0755), 0);
    snprintf(repo_path, sizeof(repo_path), "%s/repo", dir);
    run("ostree --repo=%s init --mode=bare-user && mkdir %s/tree && echo hello >%s/tree/file",
        repo_path, dir, dir);
    strcpy(commit_a,
           output("ostree --repo=%s commit -b b/one --no-bindings %s/tree", repo_path, dir));
    strcpy(
        commit_b,
        output("ostree --repo=%s commit -b b/two --no-bindings %s/tree "
               "--add-metadata-string=text=words '--add-metadata=number=uint64 504403158265495552' "
               "'--add-metadata=list=[\"x\"]'",
               repo_path, dir));
    run("ostree --repo=%s refs --create=c/deep/two %s", repo_path, commit_b);
    return 0;
}

static int remove_repo(void **state __attribute__((unused)))
{
    run("rm -rf %s", dir);
    return 0;
}

static struct ostree_repo *open_repo(const char *path)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = NULL;
    if (module->open(path, false, &repo, &e) < 0)
        fail_msg("%s", e.msg);
    return repo;
}

static int nothing(void *arg, const struct ostree_value *values)
{
    *(bool *)arg = values[0].type == OSTREE_VALUE_NONE && !values[0].text;
    return 0;
}

static int ostree_set(struct ostree_repo *repo, const char *key, const char *text,
                      struct larder_error *e)
{
    struct ostree_value value = {key, text ? OSTREE_VALUE_STRING : OSTREE_VALUE_NONE, text, 0};
    return module->edit(repo, commit_b, &value, 1, e);
}

/* ---- reading ---- */

static void opened_and_resolved(void **state __attribute__((unused)))
{
    static const char *const bad[] = {"",         "c/deep/two^", "remote:c/deep/two",
                                      "../b/one", "/a",          commit_b};
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = NULL;
    char commit[65] = "untouched";

    assert_int_equal(module->open("/nonexistent", false, &repo, &e), -LARDER_NOENT);
    assert_non_null(strstr(e.msg, "/nonexistent"));
    assert_int_equal(module->open(dir, false, &repo, &e), -LARDER_NOENT);
    assert_int_equal(module->open(dir, true, &repo, &e), -LARDER_NOENT);
    assert_null(repo);
    repo = open_repo(repo_path);
    assert_string_equal(module->path(repo), repo_path);
    assert_int_equal(module->resolve(repo, "c/deep/none", commit, &e), -LARDER_NOENT);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(module->resolve(repo, bad[i], commit, &e), -LARDER_INVAL);
    assert_string_equal(commit, "untouched");
    assert_int_equal(module->resolve(repo, "c/deep/two", commit, &e), 0);
    assert_string_equal(commit, commit_b);
    /* One that only a remote has is none of ours. */
    run("mkdir -p %s/refs/remotes/r/c && echo %s >%s/refs/remotes/r/c/far", repo_path, commit_b,
        repo_path);
    assert_int_equal(module->resolve(repo, "c/far", commit, &e), -LARDER_NOENT);
    module->close(repo);
    run("echo '[core' >%s/config", repo_path);
    assert_int_equal(module->open(repo_path, false, &repo, &e), -LARDER_CORRUPT);
}

static int collect(void *arg, const char *ref, const char *commit)
{
    char *text = arg;
    assert_int_equal(strlen(commit), 64);
    strcat(strcat(text, ref), " ");
    return strcmp(ref, "c/stop") == 0 ? 7 : 0;
}

static void refs_in_order(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = open_repo(repo_path);
    char text[200] = "";

    run("ostree --repo=%s refs --create=c/a %s; ostree --repo=%s refs --create=c/z %s; "
        "ostree --repo=%s refs --create=cc %s; mkdir -p %s/refs/remotes/r/c; "
        "echo %s >%s/refs/remotes/r/c/far",
        repo_path, commit_a, repo_path, commit_a, repo_path, commit_a, repo_path, commit_b,
        repo_path);
    assert_int_equal(module->each_ref(repo, "c", collect, text, &e), 0);
    assert_string_equal(text, "c/a c/deep/two c/z ");
    text[0] = '\0';
    assert_int_equal(module->each_ref(repo, "none/here", collect, text, &e), 0);
    assert_string_equal(text, "");
    run("ostree --repo=%s refs --create=c/stop %s", repo_path, commit_a);
    assert_int_equal(module->each_ref(repo, "c", collect, text, &e), 7);
    assert_string_equal(text, "c/a c/deep/two c/stop ");
    module->close(repo);
}

static int four_values(void *arg, const struct ostree_value *v)
{
    (void)arg;
    assert_int_equal(v[0].type, OSTREE_VALUE_STRING);
    assert_string_equal(v[0].text, "words");
    assert_int_equal(v[1].type, OSTREE_VALUE_NUMBER);
    assert_int_equal(v[1].number, 7);
    assert_int_equal(v[2].type, OSTREE_VALUE_OTHER);
    assert_null(v[2].text);
    assert_int_equal(v[3].type, OSTREE_VALUE_NONE);
    return 42;
}

static void values_of_a_commit(void **state __attribute__((unused)))
{
    static char none[] = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = open_repo(repo_path);
    struct ostree_value values[4] = {
        {.key = "text"}, {.key = "number"}, {.key = "list"}, {.key = "none", .text = "left over"}};
    bool is_none = false;

    assert_int_equal(module->metadata(repo, commit_b, false, values, 4, four_values, NULL, &e), 42);
    assert_int_equal(module->metadata(repo, commit_b, true, values, 4, nothing, &is_none, &e), 0);
    assert_true(is_none);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(module->metadata(repo, none, i, values, 4, nothing, &is_none, &e),
                         -LARDER_NOENT);
        assert_int_equal(module->metadata(repo, "main", i, values, 4, nothing, &is_none, &e),
                         -LARDER_INVAL);
    }
    module->close(repo);
}

/* ---- changing ---- */

static void edited_among_others(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = open_repo(repo_path);
    struct ostree_value set[] = {
        {"x.text", OSTREE_VALUE_STRING, "\"h\xc3\xa9\"\n", 0},
        {"x.time", OSTREE_VALUE_NUMBER, NULL, 1700000000123456789},
        {"x.none", OSTREE_VALUE_NONE, NULL, 0},
    };
    struct ostree_value gone[] = {{.key = "x.text"}, {.key = "x.time"}, {.key = "x.none"}};
    struct stat before, after;

    add_signatures(repo_path, commit_b);
    assert_int_equal(module->edit(repo, commit_b, set, 3, &e), 1);
    assert_string_equal(output("ostree --repo=%s show --print-detached-metadata-key=x.text %s",
                               repo_path, commit_b),
                        "'\"h\xc3\xa9\"\\n'");
    assert_string_equal(output("ostree --repo=%s show --print-detached-metadata-key=x.time %s",
                               repo_path, commit_b),
                        "uint64 1700000000123456789");
    check_signatures(repo_path, commit_b);
    assert_int_equal(stat(detached_path(repo_path, commit_b), &before), 0);
    assert_int_equal(module->edit(repo, commit_b, set, 3, &e), 0);
    assert_int_equal(stat(detached_path(repo_path, commit_b), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    set[1].number--;
    assert_int_equal(module->edit(repo, commit_b, set, 3, &e), 1);
    assert_int_equal(module->edit(repo, commit_b, gone, 3, &e), 1);
    assert_int_equal(module->edit(repo, commit_b, gone, 3, &e), 0);
    check_signatures(repo_path, commit_b);
    /* The commit is as it was. */
    run("ostree --repo=%s fsck -q >/dev/null", repo_path);
    module->close(repo);
}

static void not_edited(void **state __attribute__((unused)))
{
    static char none[] = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = open_repo(repo_path);
    struct ostree_value value = {"x", OSTREE_VALUE_STRING, "\xff", 0};

    assert_int_equal(module->edit(repo, commit_b, &value, 1, &e), -LARDER_INVAL);
    value.type = OSTREE_VALUE_OTHER;
    assert_int_equal(module->edit(repo, commit_b, &value, 1, &e), -LARDER_INVAL);
    assert_int_equal(access(detached_path(repo_path, commit_b), F_OK), -1);
    value = (struct ostree_value){"x", OSTREE_VALUE_STRING, "y", 0};
    assert_int_equal(module->edit(repo, none, &value, 1, &e), -LARDER_NOENT);
    assert_int_equal(access(detached_path(repo_path, none), F_OK), -1);
    module->close(repo);
}

/* Nothing there, an empty file, and one of no keys are the same. */
static void empty_files(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = open_repo(repo_path);
    struct ostree_value value = {.key = "x"};
    bool is_none = false;
    struct stat st;

    run(": >%s", detached_path(repo_path, commit_b));
    assert_int_equal(module->metadata(repo, commit_b, true, &value, 1, nothing, &is_none, &e), 0);
    assert_true(is_none);
    assert_int_equal(ostree_set(repo, "x", NULL, &e), 0);
    assert_int_equal(ostree_set(repo, "x", "y", &e), 1);
    assert_string_equal(
        output("ostree --repo=%s show --print-detached-metadata-key=x %s", repo_path, commit_b),
        "'y'");
    assert_int_equal(ostree_set(repo, "x", NULL, &e), 1);
    assert_int_equal(stat(detached_path(repo_path, commit_b), &st), 0);
    assert_int_equal(st.st_size, 0);
    run("ostree --repo=%s show %s >/dev/null && ostree --repo=%s fsck -q >/dev/null", repo_path,
        commit_b, repo_path);
    module->close(repo);
}

static int any_text(void *arg, const struct ostree_value *values)
{
    (void)arg;
    for (int i = 0; i < 2; i++) {
        if (values[i].type == OSTREE_VALUE_STRING)
            assert_true(strlen(values[i].text) < 100);
    }
    return 0;
}

/* Cut at each length, and each byte wrong: told as damage or read, never followed out of the file;
 * and who writes next makes it whole. */
static void damaged_files(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = open_repo(repo_path);
    struct ostree_value values[] = {{.key = "x"}, {.key = "other"}};
    char path[256], bytes[512], copy[512];
    size_t n_corrupt = 0;

    snprintf(path, sizeof(path), "%s", detached_path(repo_path, commit_b));
    add_signatures(repo_path, commit_b);
    assert_int_equal(ostree_set(repo, "x", "some text", &e), 1);
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, bytes, sizeof(bytes));
    close(fd);
    assert_in_range(n, 60, 400);
    for (ssize_t i = 1; i < 2 * n; i++) {
        memcpy(copy, bytes, (size_t)n);
        if (i >= n)
            copy[i - n] = (char)~copy[i - n];
        fd = open(path, O_WRONLY | O_TRUNC);
        assert_int_equal(write(fd, copy, (size_t)(i < n ? i : n)), i < n ? i : n);
        close(fd);
        int r = module->metadata(repo, commit_b, true, values, 2, any_text, NULL, &e);
        assert_true(r == 0 || r == -LARDER_CORRUPT);
        n_corrupt += r < 0;
        if (r < 0 && i % 8 == 0) {
            assert_int_equal(ostree_set(repo, "x", "some text", &e), 1);
            assert_int_equal(module->metadata(repo, commit_b, true, values, 2, any_text, NULL, &e),
                             0);
        }
    }
    assert_in_range(n_corrupt, n, 2 * n);
    module->close(repo);
}

/* As a file system leaves it after a loss of power: it seems to have millions of keys. */
static void a_file_of_zeros(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = open_repo(repo_path);
    struct ostree_value values[] = {{.key = "x"}, {.key = "other"}};
    char path[256];

    snprintf(path, sizeof(path), "%s", detached_path(repo_path, commit_b));
    assert_int_equal(ostree_set(repo, "x", "some text", &e), 1);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(truncate(path, 32 << 20), 0);
    clock_t start = clock();
    assert_int_equal(module->metadata(repo, commit_b, true, values, 2, any_text, NULL, &e),
                     -LARDER_CORRUPT);
    assert_int_equal(ostree_set(repo, "x", "some text", &e), 1);
    assert_true(clock() - start < 60 * CLOCKS_PER_SEC); /* of CPU time: it took minutes */
    assert_int_equal(module->metadata(repo, commit_b, true, values, 2, any_text, NULL, &e), 0);
    assert_string_equal(detached(repo_path, commit_b, "x"), "'some text'");
    module->close(repo);
}

/* ---- who may ---- */

static int in_child(void (*fn)(void), int uid)
{
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (uid && (setgid((gid_t)uid) < 0 || setuid((uid_t)uid) < 0))
            _exit(99);
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* In a child, where asserting can't end the test: the exit code says which line. */
static void reads_and_is_denied(void)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_value values[4] = {
        {.key = "text"}, {.key = "number"}, {.key = "list"}, {.key = "none"}};
    struct ostree_repo *repo = NULL;
    char commit[65];
    if (module->open(repo_path, false, &repo, &e) < 0)
        _exit(1);
    if (module->resolve(repo, "c/deep/two", commit, &e) < 0)
        _exit(2);
    if (module->metadata(repo, commit, false, values, 4, four_values, NULL, &e) != 42)
        _exit(3);
    if (ostree_set(repo, "x", "z", &e) != -LARDER_DENIED || !e.sys_errno ||
        !strstr(e.msg, repo_path))
        _exit(4);
    if (ostree_set(repo, "x", "y", &e) != 0)
        _exit(5);
    module->close(repo);
}

static void not_to_be_written(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;

    if (getuid() != 0) {
        print_message("# skipped: only root can be somebody else, or mount\n");
        return;
    }
    struct ostree_repo *repo = open_repo(repo_path);
    assert_int_equal(ostree_set(repo, "x", "y", &e), 1);
    module->close(repo);
    assert_int_equal(in_child(reads_and_is_denied, 65534), 0);
    if (mount(repo_path, repo_path, NULL, MS_BIND, NULL) < 0) {
        print_message("# skipped: may not mount: %s\n", strerror(errno));
        return;
    }
    int r = mount(NULL, repo_path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL);
    int status = r == 0 ? in_child(reads_and_is_denied, 0) : -1;
    umount2(repo_path, MNT_DETACH);
    assert_int_equal(status, 0);
}

static void busy(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;

    run("ostree --repo=%s config set core.lock-timeout-secs 0", repo_path);
    struct ostree_repo *repo = open_repo(repo_path);
    g_autoptr(OstreeRepo) other = ostree_repo_open_at(AT_FDCWD, repo_path, NULL, NULL);
    assert_true(ostree_repo_lock_push(other, OSTREE_REPO_LOCK_SHARED, NULL, NULL));
    assert_int_equal(ostree_set(repo, "x", "y", &e), -LARDER_BUSY);
    assert_true(ostree_repo_lock_pop(other, OSTREE_REPO_LOCK_SHARED, NULL, NULL));
    assert_int_equal(ostree_set(repo, "x", "y", &e), 1);
    /* And is not kept locked by us. */
    assert_true(ostree_repo_lock_push(other, OSTREE_REPO_LOCK_EXCLUSIVE, NULL, NULL));
    assert_true(ostree_repo_lock_pop(other, OSTREE_REPO_LOCK_EXCLUSIVE, NULL, NULL));
    module->close(repo);
}

static int writer;

static void write_own_keys(void)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = NULL;
    char key[32];
    if (module->open(repo_path, false, &repo, &e) < 0)
        _exit(1);
    for (int i = 0; i < ROUNDS; i++) {
        snprintf(key, sizeof(key), "w.%d.%d", writer, i);
        if (ostree_set(repo, key, key, &e) != 1)
            _exit(2);
    }
    module->close(repo);
}

/* Read, change and write again are one step: nobody's key is lost. */
static void many_writers(void **state __attribute__((unused)))
{
    pid_t pids[WRITERS];
    int status;

    /* libostree looks once a second whether it gets the lock. */
    run("ostree --repo=%s config set core.lock-timeout-secs 3600", repo_path);
    add_signatures(repo_path, commit_b);
    for (writer = 0; writer < WRITERS; writer++) {
        pids[writer] = fork();
        if (pids[writer] == 0) {
            write_own_keys();
            _exit(0);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    g_autoptr(OstreeRepo) other = ostree_repo_open_at(AT_FDCWD, repo_path, NULL, NULL);
    g_autoptr(GVariant) dict = NULL;
    assert_true(ostree_repo_read_commit_detached_metadata(other, commit_b, &dict, NULL, NULL));
    assert_int_equal(g_variant_n_children(dict), WRITERS * ROUNDS + 3);
}

/* ---- where it goes ---- */

static void pruned_and_pulled(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = open_repo(repo_path);
    char path[256];

    assert_int_equal(ostree_set(repo, "x", "y", &e), 1);
    snprintf(path, sizeof(path), "%s", detached_path(repo_path, commit_b));
    run("ostree --repo=%s/copy init --mode=archive && ostree --repo=%s/copy pull-local %s "
        "c/deep/two >/dev/null",
        dir, dir, repo_path);
    assert_string_equal(
        output("ostree --repo=%s/copy show --print-detached-metadata-key=x %s", dir, commit_b),
        "'y'");
    run("ostree --repo=%s refs --delete c/deep/two && ostree --repo=%s refs --delete b/two && "
        "ostree --repo=%s prune --refs-only "
        ">/dev/null",
        repo_path, repo_path, repo_path);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(ostree_set(repo, "x", "y", &e), -LARDER_NOENT);
    module->close(repo);
}

static int one_text(void *arg, const struct ostree_value *values)
{
    strcpy(arg, values[0].type == OSTREE_VALUE_STRING ? values[0].text : "");
    return 0;
}

static void parent_repository(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = open_repo(repo_path);
    struct ostree_value value = {.key = "x"};
    char path[100], text[20];

    assert_int_equal(ostree_set(repo, "x", "y", &e), 1);
    module->close(repo);
    snprintf(path, sizeof(path), "%s/child", dir);
    run("ostree --repo=%s init --mode=bare-user && ostree --repo=%s config set core.parent %s",
        path, path, repo_path);
    repo = open_repo(path);
    assert_int_equal(module->metadata(repo, commit_b, true, &value, 1, one_text, text, &e), 0);
    assert_string_equal(text, "y");
    assert_int_equal(ostree_set(repo, "own", "here", &e), 1);
    assert_int_equal(module->metadata(repo, commit_b, true, &value, 1, one_text, text, &e), 0);
    assert_string_equal(text, "y");
    assert_int_equal(ostree_set(repo, "x", NULL, &e), 1);
    assert_int_equal(ostree_set(repo, "own", NULL, &e), 1);
    assert_int_equal(module->metadata(repo, commit_b, true, &value, 1, one_text, text, &e), 0);
    assert_string_equal(text, "");
    module->close(repo);
    assert_string_equal(
        output("ostree --repo=%s show --print-detached-metadata-key=x %s", repo_path, commit_b),
        "'y'");
}

static int deployment(void *arg, const struct ostree_deployment_info *info)
{
    char *text = arg;
    assert_int_equal(strlen(info->commit), 64);
    sprintf(text + strlen(text), "[%s %s %s]", info->role, info->os_name,
            info->image ? info->image : "-");
    return 0;
}

static void deployments(void **state __attribute__((unused)))
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_repo *repo = open_repo(repo_path);
    char text[500] = "", sysroot[100];

    assert_int_equal(module->each_deployment(repo, deployment, text, &e), 0);
    assert_string_equal(text, "");
    module->close(repo);
    if (getuid() != 0) {
        print_message("# skipped: only root can deploy\n");
        return;
    }
    snprintf(sysroot, sizeof(sysroot), "%s/sysroot", dir);
    make_sysroot(sysroot);
    run("t=%s/tree; mkdir -p $t/usr/lib/modules/6.1 $t/usr/etc && "
        "echo kernel >$t/usr/lib/modules/6.1/vmlinuz && echo ID=os >$t/usr/etc/os-release && "
        "ostree --repo=%s/ostree/repo commit -b os/main $t >/dev/null",
        dir, sysroot);
    for (int i = 0; i < 2; i++)
        run("ostree admin deploy --sysroot=%s --os=os os/main >/dev/null", sysroot);
    run("for f in %s/ostree/deploy/os/deploy/*.0.origin; do "
        "printf '[origin]\\ncontainer-image-reference=ostree-image-signed:docker://a.b/c\\n' >$f; "
        "done",
        sysroot);
    assert_int_equal(module->open(sysroot, true, &repo, &e), 0);
    snprintf(text, sizeof(text), "%s/ostree/repo", sysroot);
    assert_string_equal(module->path(repo), text);
    text[0] = '\0';
    assert_int_equal(module->each_deployment(repo, deployment, text, &e), 0);
    assert_string_equal(text, "[pending os -][ os ostree-image-signed:docker://a.b/c]");
    module->close(repo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opened_and_resolved, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(refs_in_order, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(values_of_a_commit, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(edited_among_others, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(not_edited, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(empty_files, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(damaged_files, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(a_file_of_zeros, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(not_to_be_written, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(busy, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(many_writers, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(pruned_and_pulled, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(parent_repository, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(deployments, make_repo, remove_repo),
    };
    umask(022); /* other users are to read what we make */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
