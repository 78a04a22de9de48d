/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of records: a store's and one of its own; whoever may not write, and what is planted
 * in a record's place. */
#include "update/record/record_dir.h"

#include "store_fixture.h"

#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/error.h"
#include "record_samples.h"
#include "store/dir/dir.h"
#include "store/updates.h"
#include "update/record/record_file.h"

#define NOBODY 65534

/* Fails the test with the library's message. */
#define CHECK(call, expected)                                                        \
    do {                                                                             \
        int result_ = (call);                                                        \
        if (result_ != (expected))                                                   \
            fail_msg("%s: %d, expected %d (%s)", #call, result_, (expected), e.msg); \
    } while (0)

static struct larder_error e;
static char key[256], file[RECORD_FILE_BYTES];

static int setup(void **state)
{
    char *made = NULL;
    int r = fixture_setup(state);
    assert_int_equal(record_key(SAMPLE_REF, SAMPLE_PLATFORM, NULL, NULL, &made, NULL), 0);
    snprintf(key, sizeof(key), "%s", made);
    free(made);
    assert_int_equal(record_file_name(key, file, NULL), 0);
    return r;
}

static const char *state_path(const struct fixture *f)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/state/here", f->dir);
    return path;
}

static struct record_dir *open_state(const struct fixture *f)
{
    struct record_dir *dir = NULL;
    CHECK(record_dir_open(state_path(f), true, &dir, &e), 0);
    return dir;
}

static struct record_dir *open_updates(const struct fixture *f)
{
    struct record_dir *dir = NULL;
    CHECK(record_dir_open_store(f->store, &dir, &e), 0);
    return dir;
}

/* The record's file, or another one beside it. */
static const char *path_of(const struct record_dir *dir, const char *name)
{
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", record_dir_path(dir), name);
    return path;
}

static void put(struct record_dir *dir, const char *seed, size_t n_layers)
{
    struct update_record record = sample_record(seed, n_layers);
    CHECK(record_dir_put(dir, key, &record, &e), 0);
    record_done(&record);
}

static void expect(struct record_dir *dir, const char *seed, size_t n_layers, int64_t checked_ns)
{
    struct update_record record = sample_record(seed, n_layers), found;
    CHECK(record_dir_get(dir, key, &found, &e), 0);
    if (checked_ns)
        record.checked_ns = checked_ns;
    assert_true(sample_equal(&record, &found));
    record_done(&record);
    record_done(&found);
}

static int get(struct record_dir *dir)
{
    struct update_record found;
    e = (struct larder_error)LARDER_ERROR_INIT;
    int r = record_dir_get(dir, key, &found, &e);
    if (r == 0)
        record_done(&found);
    return r;
}

static size_t count_names(const char *path)
{
    char command[600];
    size_t n = 0;
    snprintf(command, sizeof(command), "ls -A '%s' 2>/dev/null | wc -l", path);
    FILE *p = popen(command, "re");
    assert_non_null(p);
    assert_int_equal(fscanf(p, "%zu", &n), 1);
    pclose(p);
    return n;
}

static void life(struct record_dir *dir)
{
    struct stat st;
    assert_int_equal(get(dir), -LARDER_NOENT);
    CHECK(record_dir_touch(dir, key, 5, &e), -LARDER_NOENT);
    CHECK(record_dir_remove(dir, key, &e), 0);
    put(dir, "3.1", 2);
    expect(dir, "3.1", 2, 0);
    put(dir, "3.2", 30000);
    expect(dir, "3.2", 30000, 0);
    CHECK(record_dir_touch(dir, key, 1800000000000000007, &e), 0);
    expect(dir, "3.2", 30000, 1800000000000000007);
    CHECK(record_dir_touch(dir, key, -1, &e), -LARDER_INVAL);
    put(dir, "3.3", 0);
    expect(dir, "3.3", 0, 0);
    assert_int_equal(stat(path_of(dir, file), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(count_names(record_dir_path(dir)), 1);
    CHECK(record_dir_remove(dir, key, &e), 1);
    assert_int_equal(get(dir), -LARDER_NOENT);
    CHECK(record_dir_remove(dir, key, &e), 0);
    assert_int_equal(count_names(record_dir_path(dir)), 0);
}

static void a_life_in_both(void **state)
{
    struct fixture *f = *state;
    mode_t saved = umask(077); /* which decides nothing */
    struct record_dir *dir = open_updates(f);
    assert_non_null(strstr(record_dir_path(dir), "/store/updates"));
    life(dir);
    record_dir_close(dir);
    dir = open_state(f);
    life(dir);
    record_dir_close(dir);
    umask(saved);
    record_dir_close(NULL);
}

static void keys(void **state)
{
    (void)state;
    static const char *const parts[][4] = {
        {"a", "b", NULL, NULL},        {"a", "b", "c", NULL},  {"a", "b", NULL, "c"},
        {"a", "b", "c", "d"},          {"ab", "", NULL, NULL}, {"a,1:b", "b", NULL, NULL},
        {"a", "b,at 1:c", NULL, NULL},
    };
    char *made[ARRAY_LEN(parts)];
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        CHECK(record_key(parts[i][0], parts[i][1], parts[i][2], parts[i][3], &made[i], &e), 0);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(made[i], made[j]);
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        free(made[i]);
}

/* A file's time is anybody's to set: one that no check can have had is none. */
static void odd_times(void **state)
{
    static const int64_t seconds[] = {INT64_C(1) << 34, -1, -(INT64_C(1) << 30)};
    struct record_dir *dir = open_state(*state);
    struct update_record found;

    put(dir, "3.1", 1);
    for (size_t i = 0; i < ARRAY_LEN(seconds); i++) {
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = seconds[i]}};
        assert_int_equal(utimensat(AT_FDCWD, path_of(dir, file), times, 0), 0);
        CHECK(record_dir_get(dir, key, &found, &e), 0);
        assert_int_equal(found.checked_ns, 0);
        record_done(&found);
    }
    record_dir_close(dir);
}

/* One of a state directory is kept for each place and commit. */
static void one_for_each_place(void **state)
{
    struct record_dir *dir = open_state(*state);
    static const char *const places[] = {"/sysroot/ostree/repo", "/var/other"};
    struct update_record record = sample_record("3.1", 1), found;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        char *made = NULL;
        CHECK(record_key(SAMPLE_REF, SAMPLE_PLATFORM, places[i], "abc", &made, &e), 0);
        CHECK(record_dir_get(dir, made, &found, &e), -LARDER_NOENT);
        CHECK(record_dir_put(dir, made, &record, &e), 0);
        CHECK(record_dir_get(dir, made, &found, &e), 0);
        record_done(&found);
        free(made);
    }
    assert_int_equal(get(dir), -LARDER_NOENT);
    assert_int_equal(count_names(record_dir_path(dir)), 2);
    record_done(&record);
    record_dir_close(dir);
}

static void reading_makes_nothing(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(rmdir(fixture_path(f, "updates")), 0);
    struct record_dir *dirs[] = {open_updates(f), open_state(f)};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(get(dirs[i]), -LARDER_NOENT);
        CHECK(record_dir_each(dirs[i], NULL, NULL, &e), 0);
        CHECK(record_dir_remove(dirs[i], key, &e), 0);
        CHECK(record_dir_touch(dirs[i], key, 1, &e), -LARDER_NOENT);
        assert_int_equal(access(record_dir_path(dirs[i]), F_OK), -1);
    }
    /* Made by another meanwhile: seen. */
    struct record_dir *others[] = {open_updates(f), open_state(f)};
    for (size_t i = 0; i < 2; i++) {
        put(others[i], "3.1", 1);
        expect(dirs[i], "3.1", 1, 0);
        record_dir_close(others[i]);
        record_dir_close(dirs[i]);
    }
    struct record_dir *dir = NULL;
    struct update_record record = sample_record("3.1", 1);
    char path[160];
    snprintf(path, sizeof(path), "%s/none", f->dir);
    CHECK(record_dir_open(path, false, &dir, &e), 0);
    CHECK(record_dir_put(dir, key, &record, &e), -LARDER_NOENT);
    assert_int_equal(access(path, F_OK), -1);
    record_done(&record);
    record_dir_close(dir);
    CHECK(record_dir_open("", true, &dir, &e), -LARDER_INVAL);
}

/* P2: nothing is kept that could not be believed later. */
static void what_does_not_hash_is_not_kept(void **state)
{
    struct fixture *f = *state;
    struct record_dir *dir = open_updates(f);
    struct update_record record = sample_record("3.1", 1);
    put(dir, "3.0", 1);
    record.config.p[5] ^= 1;
    CHECK(record_dir_put(dir, key, &record, &e), -LARDER_CORRUPT);
    record.config.p[5] ^= 1;
    record.is_rewritten = true;
    CHECK(record_dir_put(dir, key, &record, &e), -LARDER_INVAL);
    record.is_rewritten = false;
    record.platform[0] = 'L'; /* not that of the key */
    CHECK(record_dir_put(dir, key, &record, &e), -LARDER_CORRUPT);
    expect(dir, "3.0", 1, 0);
    record_done(&record);
    record_dir_close(dir);
}

static void torn_files(void **state)
{
    struct fixture *f = *state;
    struct record_dir *dir = open_updates(f);
    struct stat st;
    put(dir, "3.1", 1);
    assert_int_equal(stat(path_of(dir, file), &st), 0);
    for (off_t n = st.st_size - 2; n >= 0; n--) {
        assert_int_equal(truncate(path_of(dir, file), n), 0);
        CHECK(get(dir), -LARDER_CORRUPT);
    }
    assert_non_null(strstr(e.msg, record_dir_path(dir)));
    assert_non_null(strstr(e.hint, "larder update check"));
    /* Larger than any: not read. */
    assert_int_equal(truncate(path_of(dir, file), (off_t)RECORD_BYTES_MAX + 1), 0);
    CHECK(get(dir), -LARDER_CORRUPT);
    put(dir, "3.1", 1);
    expect(dir, "3.1", 1, 0);
    /* Under another's name it is another's. */
    struct update_record record = sample_record("3.1", 1);
    char *other = NULL, other_file[RECORD_FILE_BYTES], to[512];
    CHECK(record_key(SAMPLE_REF, "linux/arm64", NULL, NULL, &other, &e), 0);
    CHECK(record_file_name(other, other_file, &e), 0);
    snprintf(to, sizeof(to), "%s/%s", record_dir_path(dir), other_file);
    assert_int_equal(rename(path_of(dir, file), to), 0);
    CHECK(record_dir_get(dir, other, &record, &e), -LARDER_CORRUPT);
    free(other);
    record_done(&record);
    record_dir_close(dir);
}

static void newer_ones(void **state)
{
    struct fixture *f = *state;
    struct record_dir *dir = open_updates(f);
    char name[96];
    snprintf(name, sizeof(name), "updates/%s", file);
    fixture_write(f, name, "{\"version\":2}");
    CHECK(get(dir), -LARDER_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "version 2"));
    record_dir_close(dir);
}

static void bind_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(strlen(path) < sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path));
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
}

/* None is followed, waited for or believed; the next check puts a record in its place. */
static void planted_things(void **state)
{
    struct fixture *f = *state;
    struct record_dir *dir = open_updates(f);
    char target[600];
    put(dir, "3.1", 1);
    snprintf(target, sizeof(target), "%s/target", f->dir);
    for (int i = 0; i < 5; i++) {
        const char *path = path_of(dir, file);
        if (i == 0) {
            assert_int_equal(rename(path, target), 0);
            assert_int_equal(symlink(target, path), 0);
        } else if (i == 1) {
            assert_int_equal(unlink(path), 0);
            assert_int_equal(mkfifo(path, 0644), 0);
        } else if (i == 2) {
            assert_int_equal(unlink(path), 0);
            bind_socket(path);
        } else if (i == 3) {
            if (geteuid() != 0 || chown(path, NOBODY, NOBODY) < 0)
                continue;
        } else {
            assert_int_equal(unlink(path), 0);
            assert_int_equal(symlink("/nowhere", path_of(dir, RECORD_TEMP)), 0);
            CHECK(get(dir), -LARDER_NOENT);
            put(dir, "3.2", 1);
            assert_int_equal(access("/nowhere", F_OK), -1);
            continue;
        }
        CHECK(get(dir), -LARDER_CORRUPT);
        put(dir, "3.2", 1);
        expect(dir, "3.2", 1, 0);
    }
    assert_int_equal(access(target, F_OK), 0);
    assert_int_equal(count_names(record_dir_path(dir)), 1);
    record_dir_close(dir);
}

/* Nothing is read or written there; whoever does not need it may open it. */
static void refused(const char *path, int code)
{
    struct update_record got = {0}, record = sample_record("3.1", 1);
    struct record_dir *dir = NULL;
    CHECK(record_dir_open(path, true, &dir, &e), 0);
    CHECK(record_dir_get(dir, key, &got, &e), code);
    CHECK(record_dir_put(dir, key, &record, &e), code);
    CHECK(record_dir_remove(dir, key, &e), code);
    record_done(&record);
    record_dir_close(dir);
}

static void unsafe_directories(void **state)
{
    struct fixture *f = *state;
    struct record_dir *dir = open_state(f);
    put(dir, "3.1", 1);
    record_dir_close(dir);
    dir = NULL;
    assert_int_equal(chmod(state_path(f), 0777), 0);
    refused(state_path(f), -LARDER_UNSAFE);
    assert_int_equal(chmod(state_path(f), 0755), 0);
    if (geteuid() == 0 && chown(state_path(f), NOBODY, NOBODY) == 0)
        refused(state_path(f), -LARDER_UNSAFE);
    refused("/dev/null", -LARDER_IO);
    /* Within a store no link is followed, to the directory neither. */
    assert_int_equal(rmdir(fixture_path(f, "updates")), 0);
    assert_int_equal(symlink("/tmp", fixture_path(f, "updates")), 0);
    CHECK(record_dir_open_store(f->store, &dir, &e), -LARDER_UNSAFE);
}

/* Reads as somebody else; may not write. */
static void other_users(void **state)
{
    struct fixture *f = *state;
    struct record_dir *dirs[] = {open_updates(f), open_state(f)};
    struct update_record record = sample_record("3.2", 1);
    put(dirs[0], "3.1", 1);
    put(dirs[1], "3.1", 1);
    record_dir_close(dirs[1]);
    record_dir_close(dirs[0]);
    bool was_root = geteuid() == 0;
    if (was_root) {
        assert_int_equal(chmod(f->dir, 0755), 0);
        assert_int_equal(seteuid(NOBODY), 0);
    } else {
        assert_int_equal(chmod(fixture_path(f, "updates"), 0555), 0);
        assert_int_equal(chmod(state_path(f), 0555), 0);
    }
    CHECK(fixture_open(f, LARDER_STORE_READ_ONLY), 0);
    dirs[0] = open_updates(f);
    dirs[1] = open_state(f);
    for (size_t i = 0; i < 2; i++) {
        expect(dirs[i], "3.1", 1, 0);
        CHECK(record_dir_put(dirs[i], key, &record, &e), -LARDER_DENIED);
        /* Of one's own file the time may be set in a directory that can't be written. */
        if (i == 0 || was_root)
            CHECK(record_dir_touch(dirs[i], key, 1, &e), -LARDER_DENIED);
        CHECK(record_dir_remove(dirs[i], key, &e), -LARDER_DENIED);
        CHECK(record_dir_remove(dirs[i], "nothing", &e), 0);
    }
    record_done(&record);
    record_dir_close(dirs[0]);
    record_dir_close(dirs[1]);
    if (was_root)
        assert_int_equal(seteuid(0), 0);
    else
        assert_int_equal(chmod(fixture_path(f, "updates"), 0755) | chmod(state_path(f), 0755), 0);
}

/* Members of a group: a file of another's can't be given a time, so it is written anew. */
static void groups(void **state)
{
    struct fixture *f = *state;
    if (geteuid() != 0)
        return;
    struct record_dir *dir = NULL;
    assert_int_equal(chmod(f->dir, 0755) | chmod(f->path, 0775) | chown(f->path, 0, NOBODY), 0);
    assert_int_equal(chown(fixture_path(f, "updates"), 0, NOBODY), 0);
    assert_int_equal(chmod(fixture_path(f, "updates"), 0775), 0);
    CHECK(fixture_open(f, 0), 0);
    dir = open_updates(f);
    put(dir, "3.1", 1);
    record_dir_close(dir);
    assert_int_equal(setegid(NOBODY) | seteuid(NOBODY), 0);
    CHECK(fixture_open(f, 0), 0);
    dir = open_updates(f);
    CHECK(record_dir_touch(dir, key, 1800000000000000000, &e), 0);
    expect(dir, "3.1", 1, 1800000000000000000);
    record_dir_close(dir);
    assert_int_equal(seteuid(0) | setegid(0), 0);
    dir = open_updates(f);
    expect(dir, "3.1", 1, 1800000000000000000);
    record_dir_close(dir);
}

/* A file system of our own where we may; in CI's container the fault tests stand in. */
static void disks(void **state)
{
    struct fixture *f = *state;
    struct record_dir *dir = NULL;
    struct update_record large = sample_record("3.2", 30000);
    const char *path = fixture_path(f, "updates");
    if (geteuid() != 0 || mount("none", path, "tmpfs", MS_NOSUID, "size=1m,mode=0755") < 0) {
        record_done(&large);
        return;
    }
    CHECK(record_dir_open(path, true, &dir, &e), 0);
    put(dir, "3.1", 1);
    int full = record_dir_put(dir, key, &large, &e);
    expect(dir, "3.1", 1, 0);
    size_t n = count_names(record_dir_path(dir));
    assert_int_equal(mount("none", path, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), 0);
    expect(dir, "3.1", 1, 0);
    int denied[] = {record_dir_put(dir, key, &large, &e), record_dir_touch(dir, key, 1, &e),
                    record_dir_remove(dir, key, &e)};
    int none = record_dir_remove(dir, "nothing", &e);
    umount2(path, MNT_DETACH);
    assert_int_equal(full, -LARDER_NOSPACE);
    assert_int_equal(n, 1);
    for (size_t i = 0; i < ARRAY_LEN(denied); i++)
        assert_int_equal(denied[i], -LARDER_DENIED);
    assert_int_equal(none, 0);
    record_done(&large);
    record_dir_close(dir);
}

static void what_a_writer_left(void **state)
{
    struct fixture *f = *state;
    struct record_dir *dir = open_updates(f);
    fixture_write(f, "updates/" RECORD_TEMP, "{\"version\":");
    assert_int_equal(get(dir), -LARDER_NOENT);
    put(dir, "3.1", 1);
    assert_int_equal(count_names(record_dir_path(dir)), 1);
    record_dir_close(dir);
}

static void one_writer_at_a_time(void **state)
{
    struct fixture *f = *state;
    struct record_dir *dir = open_updates(f);
    int fd = open(record_dir_path(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC), lock = -1;
    put(dir, "3.1", 1);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    CHECK(record_file_lock(fd, false, &lock, &e), -LARDER_BUSY);
    assert_non_null(strstr(e.msg, "locked by"));
    expect(dir, "3.1", 1, 0); /* reading waits for nobody */
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        CHECK(record_dir_remove(dir, key, &e), 1);
        _exit(0);
    }
    clock_sleep_ns(100 * NS_PER_MS);
    expect(dir, "3.1", 1, 0);
    close(fd); /* the child has it still, until it ends */
    int status = 0;
    assert_int_equal(kill(pid, 0), 0);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    CHECK(record_dir_remove(dir, key, &e), 1);
    record_dir_close(dir);
}

struct seen {
    char text[400];
    int n, n_bad, stop_at;
};

static int see(void *arg, const char *name, const struct update_record *record,
               const struct larder_error *error)
{
    struct seen *seen = arg;
    size_t n = strlen(seen->text);
    assert_true(record_file_is_name(name) && !record == (error != NULL));
    if (record)
        snprintf(seen->text + n, sizeof(seen->text) - n, "%s@%s ", record->ref, record->platform);
    else
        assert_true(error->msg[0] && error->code != LARDER_OK);
    seen->n_bad += !record;
    return ++seen->n == seen->stop_at ? 7 : 0;
}

static void each(void **state)
{
    static const char *const refs[][2] = {
        {"docker://b", "p"}, {"docker://a", "q"}, {"oci:x", "p"}, {"docker://a", "p"}};
    struct fixture *f = *state;
    struct record_dir *dir = open_updates(f);
    struct seen seen = {.n = 0};
    CHECK(record_dir_each(dir, see, &seen, &e), 0);
    assert_int_equal(seen.n, 0);
    for (size_t i = 0; i < ARRAY_LEN(refs); i++) {
        struct update_record record = sample_record("3.1", i);
        char *made = NULL;
        free(record.ref);
        free(record.platform);
        record.ref = strdup(refs[i][0]);
        record.platform = strdup(refs[i][1]);
        CHECK(record_key(refs[i][0], refs[i][1], NULL, NULL, &made, &e), 0);
        CHECK(record_dir_put(dir, made, &record, &e), 0);
        free(made);
        record_done(&record);
    }
    CHECK(record_dir_each(dir, see, &seen, &e), 0);
    assert_string_equal(seen.text, "docker://a@p docker://a@q docker://b@p oci:x@p ");
    assert_int_equal(seen.n_bad, 0);
    fixture_write(f, "updates/" RECORD_TEMP, "x");
    fixture_write(f, "updates/notes", "x");
    char name[96];
    snprintf(name, sizeof(name), "updates/%s", file);
    fixture_write(f, name, "x");
    seen = (struct seen){.n = 0};
    CHECK(record_dir_each(dir, see, &seen, &e), 0);
    assert_true(seen.n == 5 && seen.n_bad == 1);
    seen = (struct seen){.stop_at = 2};
    CHECK(record_dir_each(dir, see, &seen, &e), 7);
    assert_int_equal(seen.n, 2);
    record_dir_close(dir);
}

/* What fsck asks. */
static void judged(void **state)
{
    struct fixture *f = *state;
    struct record_dir *dir = open_updates(f);
    const struct updates_probe *probe = store_updates_probe;
    char name[96], other[RECORD_FILE_BYTES];
    put(dir, "3.1", 1);
    int fd = open(record_dir_path(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(probe->judge(fd, file, &e), UPDATE_FILE_GOOD);
    CHECK(probe->remove(fd, file, &e), 0);
    assert_int_equal(probe->judge(fd, "notes", &e), UPDATE_FILE_FOREIGN);
    assert_int_equal(probe->judge(fd, ".tmp-other", &e), UPDATE_FILE_FOREIGN);
    fixture_write(f, "updates/" RECORD_TEMP, "x");
    assert_int_equal(probe->judge(fd, RECORD_TEMP, &e), UPDATE_FILE_TEMPORARY);
    int lock = -1;
    CHECK(record_file_lock(fd, false, &lock, &e), 0);
    assert_int_equal(probe->judge(fd, RECORD_TEMP, &e), UPDATE_FILE_GOOD);
    close(lock);
    CHECK(probe->remove(fd, RECORD_TEMP, &e), 1);
    CHECK(probe->remove(fd, RECORD_TEMP, &e), 0);
    /* A sound record that stands under another name. */
    memcpy(other, file, sizeof(other));
    other[0] = other[0] == 'a' ? 'b' : 'a';
    assert_int_equal(renameat(fd, file, fd, other), 0);
    assert_int_equal(probe->judge(fd, other, &e), UPDATE_FILE_CORRUPT);
    CHECK(probe->remove(fd, other, &e), 1);
    snprintf(name, sizeof(name), "updates/%s", file);
    fixture_write(f, name, "{\"version\":7}");
    assert_int_equal(probe->judge(fd, file, &e), UPDATE_FILE_UNKNOWN);
    CHECK(probe->remove(fd, file, &e), 0);
    close(fd);
    record_dir_close(dir);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_life_in_both),
        TEST(keys),
        TEST(odd_times),
        TEST(one_for_each_place),
        TEST(reading_makes_nothing),
        TEST(what_does_not_hash_is_not_kept),
        TEST(torn_files),
        TEST(newer_ones),
        TEST(planted_things),
        TEST(unsafe_directories),
        TEST(other_users),
        TEST(groups),
        TEST(disks),
        TEST(what_a_writer_left),
        TEST(one_writer_at_a_time),
        TEST(each),
        TEST(judged),
    };
    umask(022); /* other users are to read what we make */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
