/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repositories and sysroots read with and without libostree: both are asked everything, and say the
 * same, to the letter. What a case does to a repository is told with it, and whether the reader
 * answers it all, or leaves something to libostree.
 */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "ostree_repo.h"
#include "update/base/ostree_access.h"

#define IMAGES "ostree/container/image"
#define BLOBS  "ostree/container/blob"

static char dir[64], repo_path[80], sysroot_path[80];
static char commits[3][65]; /* nothing special; all kinds of values; detached values, too */

static const char *const refs[] = {
    IMAGES "/plain",
    IMAGES "/deep/down/here",
    IMAGES "/none",
    IMAGES "/alias",
    IMAGES "/broken",
    BLOBS "/sha256_3A_ab",
    BLOBS "/none",
    "in/remote",
    IMAGES "/deep",
    "heads/-x",
    "/a",
    "a//b",
    "../heads/" IMAGES "/a",
    "a^",
    "remote:in/ref",
};
static const char *const prefixes[] = {IMAGES, BLOBS, "none/here", IMAGES "/deep", IMAGES "/plain"};
static const char *const keys[] = {"text", "number", "list", "ostree.gpgsigs", "other", "missing"};

static void make_dir(void)
{
    strcpy(dir, "/tmp/larder-access-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0755), 0);
    snprintf(repo_path, sizeof(repo_path), "%s/repo", dir);
    snprintf(sysroot_path, sizeof(sysroot_path), "%s/sysroot", dir);
}

static void make_repo_of(const char *mode)
{
    make_dir();
    run("ostree --repo=%s init --mode=%s && mkdir %s/tree && echo hello >%s/tree/file", repo_path,
        mode, dir, dir);
    for (int i = 0; i < 3; i++)
        strcpy(commits[i], output("ostree --repo=%s commit --orphan --no-bindings %s/tree "
                                  "--add-metadata-string=i=%d %s",
                                  repo_path, dir, i,
                                  i ? "--add-metadata-string=text='w\303\266rds' "
                                      "'--add-metadata=number=uint64 504403158265495552' "
                                      "'--add-metadata=list=[\"x\"]'"
                                    : ""));
    add_signatures(repo_path, commits[2]);
    run("cd %s && ostree --repo=. refs --create=" IMAGES "/plain %s && "
        "ostree --repo=. refs --create=" IMAGES "/deep/down/here %s && "
        "ostree --repo=. refs --create=" BLOBS "/sha256_3A_ab %s && "
        "mkdir -p refs/remotes/r/in && echo %s >refs/remotes/r/in/remote",
        repo_path, commits[0], commits[1], commits[2], commits[0]);
}

/* A copy of the first that was made: ostree takes its time. */
static char template_dir[64], template_commits[3][65];

static int make_repo(void **state __attribute__((unused)))
{
    if (!template_dir[0]) {
        make_repo_of("bare-user");
        strcpy(template_dir, dir);
        memcpy(template_commits, commits, sizeof(commits));
    }
    memcpy(commits, template_commits, sizeof(commits));
    make_dir();
    run("cp -a %s/. %s", template_dir, dir);
    return 0;
}

static int remove_template(void **state __attribute__((unused)))
{
    if (template_dir[0])
        run("rm -rf %s", template_dir);
    return 0;
}

static int remove_repo(void **state __attribute__((unused)))
{
    run("rm -rf %s", dir);
    return 0;
}

/* ---- asking everything ---- */

struct asking {
    struct buf *out;
    bool fell_back;
};

static void tell(struct asking *a, const char *what, int r, const struct larder_error *e)
{
    buf_printf(a->out, "%s: %d %s\n", what, r, r < 0 ? e->msg : "");
    a->fell_back = a->fell_back || r == -LARDER_UNSUPPORTED;
}

static int tell_ref(void *arg, const char *ref, const char *commit)
{
    const struct asking *a = arg;
    buf_printf(a->out, "  %s %s\n", ref, commit);
    return strstr(ref, "/stop") ? 7 : 0;
}

static int tell_values(void *arg, const struct ostree_value *v)
{
    const struct asking *a = arg;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        buf_printf(a->out, "  %s %d %s %llu\n", v[i].key, (int)v[i].type,
                   v[i].type == OSTREE_VALUE_STRING ? v[i].text : "-",
                   (unsigned long long)v[i].number);
    return 5;
}

static int tell_deployment(void *arg, const struct ostree_deployment_info *info)
{
    const struct asking *a = arg;
    buf_printf(a->out, "  [%s] %s %s %s\n", info->role, info->os_name, info->commit,
               info->image ? info->image : "-");
    return 0;
}

static void ask_commit(struct asking *a, struct ostree_access *access, const char *commit)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_value values[ARRAY_LEN(keys)];

    for (int is_detached = 0; is_detached < 2; is_detached++) {
        for (size_t i = 0; i < ARRAY_LEN(keys); i++)
            values[i] = (struct ostree_value){.key = keys[i]};
        tell(a, commit,
             ostree_access_metadata(access, commit, is_detached, values, ARRAY_LEN(keys),
                                    tell_values, a, &e),
             &e);
    }
    buf_printf(a->out, "  at %lld\n", (long long)ostree_access_detached_time(access, commit));
}

/* All answers, in words; how: of LARDER_OSTREE_READER. True: something was left to libostree. */
static bool ask(const char *path, bool is_sysroot, const char *how, struct buf *out)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_access *access = NULL;
    struct asking a = {out, false};
    char commit[65] = "none";

    if (how)
        setenv("LARDER_OSTREE_READER", how, 1);
    else
        unsetenv("LARDER_OSTREE_READER");
    tell(&a, "open", ostree_access_open(path, is_sysroot, &access, &e), &e);
    if (!access)
        return a.fell_back;
    buf_printf(out, "path %s\n", ostree_access_path(access));
    for (size_t i = 0; i < ARRAY_LEN(refs); i++) {
        tell(&a, refs[i], ostree_access_resolve(access, refs[i], commit, &e), &e);
        buf_printf(out, "  %s\n", commit);
    }
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        tell(&a, prefixes[i], ostree_access_each_ref(access, prefixes[i], tell_ref, &a, &e), &e);
    for (size_t i = 0; i < ARRAY_LEN(commits); i++)
        ask_commit(&a, access, commits[i]);
    ask_commit(&a, access, "no commit");
    ask_commit(&a, access, "00000000000000000000000000000000000000000000000000000000000000aa");
    tell(&a, "deployments", ostree_access_each_deployment(access, tell_deployment, &a, &e), &e);
    ostree_access_close(access);
    return a.fell_back;
}

static bool is_child; /* where to fail a test would be to run the others again */

/* Whether the reader alone answers all that is right; questions that are wrong in themselves, and
 * what is missing, are libostree's to refuse. */
static bool compare(const char *what, const char *path, bool is_sysroot)
{
    struct buf with = BUF_INIT(1 << 20), without = BUF_INIT(1 << 20), alone = BUF_INIT(1 << 20);
    bool is_opened;

    ask(path, is_sysroot, "no", &with);
    ask(path, is_sysroot, NULL, &without);
    ask(path, is_sysroot, "only", &alone);
    bool is_same = strcmp(with.p, without.p) == 0;
    if (!is_same && is_child)
        _exit(1);
    if (!is_same)
        fail_msg("%s: with libostree:\n%s\nand without:\n%s", what, with.p, without.p);
    is_opened = strncmp(alone.p, "open: 0", 7) == 0;
    buf_done(&with);
    buf_done(&without);
    buf_done(&alone);
    return is_opened;
}

/* Of one question: whether the reader answers it alone. */
static bool answers(int (*question)(struct ostree_access *access))
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_access *access = NULL;
    int r;

    setenv("LARDER_OSTREE_READER", "only", 1);
    if (ostree_access_open(repo_path, false, &access, &e) < 0)
        fail_msg("%s", e.msg);
    r = question(access);
    ostree_access_close(access);
    return r != -LARDER_UNSUPPORTED;
}

static int find_ref(struct ostree_access *access)
{
    char commit[65];
    return ostree_access_resolve(access, IMAGES "/plain", commit, NULL);
}

static int miss_ref(struct ostree_access *access)
{
    char commit[65];
    int r = ostree_access_resolve(access, BLOBS "/none", commit, NULL);
    assert_int_equal(r, -LARDER_NOENT);
    return r;
}

static int one_ref(void *arg, const char *ref, const char *commit)
{
    (void)arg, (void)ref, (void)commit;
    return 0;
}

static int list_refs(struct ostree_access *access)
{
    return ostree_access_each_ref(access, IMAGES, one_ref, NULL, NULL);
}

static int any_value(void *arg, const struct ostree_value *values)
{
    (void)arg, (void)values;
    return 0;
}

static int read_last(struct ostree_access *access, bool is_detached)
{
    struct ostree_value value = {.key = "text"};
    return ostree_access_metadata(access, commits[2], is_detached, &value, 1, any_value, NULL,
                                  NULL);
}

static int read_commit(struct ostree_access *access)
{
    return read_last(access, false);
}

static int read_detached(struct ostree_access *access)
{
    return read_last(access, true);
}

/* ---- repositories ---- */

static void all_modes(void **state __attribute__((unused)))
{
    static const char *const modes[] = {"bare", "bare-user", "bare-user-only", "archive"};
    int (*const questions[])(struct ostree_access *) = {find_ref, miss_ref, list_refs, read_commit,
                                                        read_detached};

    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        make_repo_of(modes[i]);
        assert_true(compare(modes[i], repo_path, false));
        for (size_t k = 0; k < ARRAY_LEN(questions); k++)
            assert_true(answers(questions[k]));
        remove_repo(NULL);
    }
}

/* Run in the repository's directory; $A, $B, $C are the commits, $OBJ the last one's file without
 * its suffix. */
static void change(const char *script)
{
    run("cd %s && A=%s B=%s C=%s OBJ=objects/%.2s/%s && %s", repo_path, commits[0], commits[1],
        commits[2], commits[2], commits[2] + 2, script);
}

#define CONFIG(lines) "printf '[core]\\nrepo_version=1\\nmode=bare-user\\n" lines "' >config"

static void configurations(void **state __attribute__((unused)))
{
    static const struct {
        const char *script;
        bool is_mine;
    } cases[] = {
        {CONFIG(""), true},
        {CONFIG("# a comment\\n\\nfsync = false\\nmin-free-space-size=500MB\\n"), true},
        {CONFIG("min-free-space-percent=3\\nlocking=true\\n[sysroot]\\nreadonly=true\\n"), true},
        {CONFIG("[remote \"r\"]\\nurl=https://example.org/repo\\ngpg-verify=false\\n"), true},
        {CONFIG("[ex-integrity]\\nfsverity=maybe\\n"), true},
        {CONFIG("collection-id=org.example.Os\\n"), false},
        {CONFIG("default-repo-finders=config;\\n"), false},
        {CONFIG("default-repo-finders=nothing;\\n"), false},
        {CONFIG("min-free-space-percent=100\\n"), false},
        {CONFIG("min-free-space-size=99999999999999999999TB\\n"), false},
        {CONFIG("fsync=perhaps\\n"), false},
        {CONFIG("fsync=false \\n"), false},
        {CONFIG("mode=archive\\n"), false},
        {CONFIG("something-new=1\\n"), false},
        {CONFIG("[new]\\nkey=1\\n"), false},
        {CONFIG("parent=\\n"), false},
        {CONFIG("parent=/nonexistent\\n"), false},
        {CONFIG("parent=relative\\n"), false},
        {CONFIG("no key\\n"), false},
        {CONFIG("  indented=1\\n"), false},
        {CONFIG("name=\\\\303\\\\274\\n"), false},
        {"printf '[core]\\nmode=bare\\n' >config", false},
        {"printf '[core]\\nrepo_version=2\\nmode=bare\\n' >config", false},
        {"printf '[core]\\nrepo_version=1\\nmode=bare-split-xattrs\\n' >config", false},
        {"printf '[core]\\nrepo_version=1\\nmode=new\\n' >config", false},
        {"printf '[core' >config", false},
        {": >config", false},
        {"rm config", false},
        {"mv config c && ln -s c config", false},
        {"rm config && mkdir config", false},
        {"(cat config; head -c 70000 /dev/zero | tr '\\0' '#') >c && mv c config", false},
        {"rm -r objects", false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        make_repo(NULL);
        change(cases[i].script);
        if (compare(cases[i].script, repo_path, false) != cases[i].is_mine)
            fail_msg("%s: read by the wrong one", cases[i].script);
        remove_repo(NULL);
    }
}

static void parents(void **state __attribute__((unused)))
{
    char path[200] = "";

    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof(path), "%s/child%d", dir, i);
        run("ostree --repo=%s init --mode=bare-user && ostree --repo=%s config set core.parent "
            "%s",
            path, path, repo_path);
        strcpy(repo_path, path);
        assert_int_equal(compare(path, path, false), i < 3);
        if (i == 0) { /* a record of its own hides that of the parent */
            write_detached(path, commits[2], "text", "of the child", NULL);
            run("ostree --repo=%s refs --create=" IMAGES "/own %s", path, commits[1]);
            assert_true(compare("child", path, false));
            assert_true(answers(read_detached) && answers(read_commit) && answers(find_ref));
        }
    }
}

static void strange_refs(void **state __attribute__((unused)))
{
    static const struct {
        const char *script;
        bool finds, lists;
    } cases[] = {
        {"printf '%s \\n\\n' $B >refs/heads/" IMAGES "/plain", true, true},
        {"printf '%s' $B >refs/heads/" IMAGES "/plain", true, true},
        {"ostree --repo=. refs --alias --create=" IMAGES "/alias " IMAGES "/plain", true, false},
        {"touch refs/heads/" IMAGES "/.rsync_info refs/heads/" IMAGES "/-x", true, true},
        {"cp refs/heads/" IMAGES "/plain refs/heads/" IMAGES "/stop", true, true},
        {"cp refs/heads/" IMAGES "/plain refs/heads/" IMAGES "/with~tilde", true, false},
        {"mkfifo refs/heads/" IMAGES "/fifo", true, true},
        {"echo broken >refs/heads/" IMAGES "/plain", false, false},
        {": >refs/heads/" IMAGES "/plain", false, false},
        {"printf '%.63s\\n' $B >refs/heads/" IMAGES "/plain", false, false},
        {"printf '%s0\\n' $B >refs/heads/" IMAGES "/plain", false, false},
        {"head -c 70000 /dev/zero >refs/heads/" IMAGES "/plain", false, false},
        {"cd refs/heads && mv ostree o && ln -s o ostree", false, false},
        {"rm -r refs/heads/ostree", true, true},
        {"rm -r refs/heads/ostree && touch refs/heads/ostree", false, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        make_repo(NULL);
        change(cases[i].script);
        assert_true(compare(cases[i].script, repo_path, false));
        if (answers(find_ref) != cases[i].finds || answers(list_refs) != cases[i].lists)
            fail_msg("%s: read by the wrong one", cases[i].script);
        remove_repo(NULL);
    }
}

/* A commit that is what its name says, and is no commit. */
static void put_commit(const char *bytes_script)
{
    run("cd %s && { %s; } >x && s=$(sha256sum <x | cut -c1-64) && d=$(echo $s | cut -c1-2) && "
        "mkdir -p objects/$d && mv x objects/$d/$(echo $s | cut -c3-64).commit && echo $s >sum",
        repo_path, bytes_script);
    strcpy(commits[2], output("cat %s/sum", repo_path));
}

static void strange_commits(void **state __attribute__((unused)))
{
    static const struct {
        const char *script;
        bool reads, reads_detached;
    } cases[] = {
        {": >$OBJ.commitmeta", true, true},
        {"rm $OBJ.commitmeta", true, true},
        {"truncate -s 20 $OBJ.commitmeta", true, false},
        {"printf x >$OBJ.commitmeta", true, false},
        {"truncate -s 20M $OBJ.commitmeta", true, false},
        {"mv $OBJ.commitmeta x && ln -s ../../x $OBJ.commitmeta", true, false},
        {"rm $OBJ.commitmeta && mkdir $OBJ.commitmeta", true, false},
        {"mkdir -p state && touch state/$C.commitpartial", true, true},
        {"mv $OBJ.commit x && ln -s ../../x $OBJ.commit", false, false},
        {"rm $OBJ.commit", false, false},
        {"mv $OBJ.commit $OBJ.commit-tombstone", false, false},
        {"rm $OBJ.commit && mkdir $OBJ.commit", false, false},
        {"cp --remove-destination objects/*/$(echo $A | cut -c3-64).commit $OBJ.commit", true,
         true},
        {": >$OBJ.commit", true, true},
        {"truncate -s 100 $OBJ.commit", true, true},
        {"truncate -s +1 $OBJ.commit", true, true},
        {"printf X | dd of=$OBJ.commit bs=1 seek=40 conv=notrunc 2>/dev/null", true, true},
        {"truncate -s 17M $OBJ.commit", false, true},
    };
    static const char *const made[] = {":", "printf x", "head -c 3000 /dev/zero",
                                       "head -c 3000 /dev/zero | tr '\\0' '\\377'",
                                       "printf 'text\\0\\0\\0\\0word\\0\\0s\\5'"};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        make_repo(NULL);
        change(cases[i].script);
        assert_true(compare(cases[i].script, repo_path, false));
        if (answers(read_commit) != cases[i].reads ||
            answers(read_detached) != cases[i].reads_detached)
            fail_msg("%s: read by the wrong one", cases[i].script);
        remove_repo(NULL);
    }
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        make_repo(NULL);
        put_commit(made[i]);
        compare(made[i], repo_path, false);
        remove_repo(NULL);
    }
}

/* Cut at each length, and each byte wrong. */
static void damaged_metadata(void **state __attribute__((unused)))
{
    char path[256], bytes[512], copy[512];

    snprintf(path, sizeof(path), "%s", detached_path(repo_path, commits[2]));
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
        compare("a damaged .commitmeta", repo_path, false);
    }
}

static int open_only(bool is_sysroot, struct larder_error *e)
{
    struct ostree_access *access = NULL;
    int r;

    unsetenv("LARDER_OSTREE_READER");
    r = ostree_access_open(is_sysroot ? sysroot_path : repo_path, is_sysroot, &access, e);
    ostree_access_close(access);
    return r;
}

/* libostree would wait for somebody to write, or read on and on: it is never asked. */
static void neither_fifos_nor_devices(void **state __attribute__((unused)))
{
    static const char *const makes[] = {"mkfifo ", "cp -a /dev/zero "};
    struct ostree_access *access = NULL;
    struct larder_error e = LARDER_ERROR_INIT;
    struct ostree_value value = {.key = "text"};
    char commit[65], script[200];

    alarm(60);
    for (size_t i = 0; i < ARRAY_LEN(makes); i++) {
        if (i > 0 && geteuid() != 0)
            break;
        remove_repo(NULL);
        make_repo(NULL);
        snprintf(script, sizeof(script), "rm $OBJ.commitmeta && %s $OBJ.commitmeta", makes[i]);
        change(script);
        snprintf(script, sizeof(script), "%s refs/heads/" IMAGES "/x", makes[i]);
        change(script);
        unsetenv("LARDER_OSTREE_READER");
        assert_int_equal(ostree_access_open(repo_path, false, &access, &e), 0);
        assert_int_equal(
            ostree_access_metadata(access, commits[2], true, &value, 1, any_value, NULL, &e),
            -LARDER_CORRUPT);
        assert_non_null(strstr(e.msg, ".commitmeta: is no regular file"));
        assert_non_null(strstr(e.msg, repo_path));
        assert_int_equal(ostree_access_resolve(access, IMAGES "/x", commit, &e), -LARDER_CORRUPT);
        assert_int_equal(ostree_access_each_ref(access, IMAGES, one_ref, NULL, &e), 0);
        ostree_access_close(access);
        snprintf(script, sizeof(script), "rm $OBJ.commit config && %s config && %s $OBJ.commit",
                 makes[i], makes[i]);
        change(script);
        assert_int_equal(open_only(false, &e), -LARDER_CORRUPT);
        assert_non_null(strstr(e.msg, "config: is no regular file"));
    }
    alarm(0);
}

static void as_another(void **state __attribute__((unused)))
{
    static const char *const scripts[] = {
        "true",
        ("chmod 600 refs/heads/" IMAGES "/plain"),
        ("chmod 700 refs/heads/" IMAGES),
        "chmod 600 $OBJ.commit",
        "chmod 600 $OBJ.commitmeta",
        "chmod 700 objects",
        "chmod 600 config",
        "chmod 700 .",
    };
    int status = 0;

    if (getuid() != 0) {
        print_message("# skipped: only root can be somebody else\n");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
        remove_repo(NULL);
        make_repo(NULL);
        change(scripts[i]);
        pid_t pid = fork();
        if (pid == 0) {
            if (setgid(65534) < 0 || setuid(65534) < 0)
                _exit(99);
            is_child = true;
            compare(scripts[i], repo_path, false);
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (status != 0)
            fail_msg("%s: %d", scripts[i], status);
    }
}

/* ---- sysroots ---- */

static int make_deployments(void **state)
{
    if (getuid() != 0)
        return 0;
    make_repo(state);
    make_sysroot(sysroot_path);
    run("cd %s && t=tree && mkdir -p $t/usr/lib/modules/6.1 $t/usr/etc && "
        "echo kernel >$t/usr/lib/modules/6.1/vmlinuz && echo ID=os >$t/usr/etc/os-release && "
        "printf '[origin]\\ncontainer-image-reference=ostree-image-signed:docker://a.b/c\\n' "
        ">origin && for i in 1 2 3; do echo $i >$t/usr/n && "
        "ostree --repo=sysroot/ostree/repo commit -b os/main $t >/dev/null && "
        "ostree admin deploy --sysroot=sysroot --os=os --origin-file=origin os/main --retain "
        ">/dev/null; done && ostree admin os-init --sysroot=sysroot other >/dev/null && "
        "ostree admin deploy --sysroot=sysroot --os=other --retain os/main >/dev/null",
        dir);
    return 0;
}

static int remove_deployments(void **state)
{
    return getuid() == 0 ? remove_repo(state) : 0;
}

static void sysroots(void **state __attribute__((unused)))
{
    static const struct {
        const char *script;
        bool is_mine;
    } cases[] = {
        {"true", true},
        {"ostree admin undeploy --sysroot=. 0 >/dev/null", true},
        {"ostree admin undeploy --sysroot=. 3 >/dev/null", true},
        {"rm $(ls ostree/deploy/os/deploy/*.origin | head -1)", true},
        {"echo '[packages]' >>$(ls ostree/deploy/os/deploy/*.origin | head -1)", true},
        {"echo 'unlocked=hotfix' >>$(ls ostree/deploy/os/deploy/*.origin | head -1)", true},
        {": >boot/loader/entries/other.conf", true},
        {"rm boot/loader/entries/*", true},
        {"rm -r boot/loader.*/entries", true},
        {"rm boot/loader boot/loader.* -r", true},
        {"printf '[origin]\\nrefspec=os/main\\n' >$(ls ostree/deploy/os/deploy/*.origin | "
         "head -1)",
         true},
        {"printf '[origin]\\ncontainer-image-reference=a\\\\sb\\n' >$(ls "
         "ostree/deploy/os/deploy/*.origin | head -1)",
         false},
        {"printf 'broken\\n' >$(ls ostree/deploy/os/deploy/*.origin | head -1)", false},
        {"sed -i /^version/d boot/loader/entries/*", false},
        {"sed -i 's/^version.*/version 1/' boot/loader/entries/*", false},
        {"sed -i 's/^version.*/&\\nversion 9/' boot/loader/entries/*-2-os.conf "
         "boot/loader/entries/*-2.conf 2>/dev/null || sed -i '0,/^version.*/s//&\\nversion 9/' "
         "$(ls boot/loader/entries/* | head -1)",
         false},
        {"sed -i 's/ostree=/&x/' boot/loader/entries/*", false},
        {"sed -i /^options/d boot/loader/entries/*", false},
        {"echo 'title Caf\303\251' >>$(ls boot/loader/entries/* | head -1)", false},
        {"printf 'initrd /a\\ninitrd /b\\n' >>$(ls boot/loader/entries/* | head -1)", false},
        {"ln -s nowhere boot/loader/entries/ostree-x.conf", false},
        {"mkfifo boot/loader/entries/ostree-x.conf", false},
        {"rm boot/loader && mkdir boot/loader", false},
        {"ln -sfn loader.2 boot/loader", false},
        {"rm ostree/boot.?", false},
        {"rm -r ostree/deploy/os/deploy/*.0", false},
        {"mv boot b && ln -s b boot", false},
        {"mv ostree o && ln -s o ostree", false},
        {"rm -r boot", false},
    };

    if (getuid() != 0) {
        print_message("# skipped: only root can deploy\n");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        run("cd %s && cp -a sysroot copy && cd sysroot && { %s; }", dir, cases[i].script);
        if (compare(cases[i].script, sysroot_path, true) != cases[i].is_mine)
            fail_msg("%s: read by the wrong one", cases[i].script);
        run("cd %s && rm -r sysroot && mv copy sysroot", dir);
    }
    struct larder_error e = LARDER_ERROR_INIT;
    run("cd %s && f=$(ls ostree/deploy/os/deploy/*.origin | head -1) && rm $f && mkfifo $f",
        sysroot_path);
    alarm(60);
    assert_int_equal(open_only(true, &e), -LARDER_CORRUPT);
    assert_non_null(strstr(e.msg, ".origin: is no regular file"));
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_modes),
        cmocka_unit_test(configurations),
        cmocka_unit_test_setup_teardown(parents, make_repo, remove_repo),
        cmocka_unit_test(strange_refs),
        cmocka_unit_test(strange_commits),
        cmocka_unit_test_setup_teardown(damaged_metadata, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(neither_fifos_nor_devices, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(as_another, make_repo, remove_repo),
        cmocka_unit_test_setup_teardown(sysroots, make_deployments, remove_deployments),
    };
    return cmocka_run_group_tests(tests, NULL, remove_template);
}
