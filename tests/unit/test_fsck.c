/* SPDX-License-Identifier: Apache-2.0 */
/* fsck: each kind of finding, told once, repaired only when asked, foreign files never touched. */
#include "upkeep.h"

#include "store/dir/blob.h"
#include "store/dir/memo.h"

struct found {
    unsigned kinds[LARDER_FSCK_BAD_RECORD + 1];
    unsigned total, repaired, harmless;
    char object[300];
};

static void problem(void *arg, const struct larder_fsck_problem *p)
{
    struct found *found = arg;
    assert_true(p->object[0] && p->text[0]);
    found->kinds[p->kind]++;
    found->total++;
    found->repaired += p->is_repaired;
    found->harmless += p->is_harmless;
    snprintf(found->object, sizeof(found->object), "%s", p->object);
}

static int check(struct bed *bed, bool repair, bool deep, struct found *found)
{
    struct larder_fsck_options options = LARDER_FSCK_OPTIONS_INIT;
    struct larder_fsck_report report;
    memset(found, 0, sizeof(*found));
    options.repair = repair;
    options.deep = deep;
    options.problem = problem;
    options.arg = found;
    int result = larder_fsck(bed->store, &options, &report, NULL);
    if (result == 0 || result == -LARDER_CORRUPT)
        assert_true(report.problems == found->total && report.repaired == found->repaired &&
                    report.harmless == found->harmless);
    return result;
}

/* One finding: told, then repaired (or not), then gone. */
static void expect(struct bed *bed, enum larder_fsck_kind kind, bool is_harmless,
                   bool is_repairable, bool deep)
{
    struct found found;
    int bad = is_harmless ? 0 : -LARDER_CORRUPT;
    assert_int_equal(check(bed, false, deep, &found), bad);
    if (found.total != 1 || found.kinds[kind] != 1)
        fail_msg("%u findings, the last at %s", found.total, found.object);
    assert_true(found.repaired == 0 && found.harmless == is_harmless);
    assert_int_equal(check(bed, false, deep, &found), bad); /* telling changes nothing */
    assert_true(found.total == 1 && found.kinds[kind] == 1);
    assert_int_equal(check(bed, true, deep, &found), is_repairable ? 0 : bad);
    assert_true(found.kinds[kind] == 1 && found.repaired >= is_repairable);
    assert_int_equal(check(bed, false, deep, &found), is_repairable ? 0 : bad);
    assert_true(found.kinds[kind] == !is_repairable);
}

static void a_good_store_is_clean(void **state)
{
    struct bed *bed = *state;
    struct larder_fsck_report report;
    struct larder_fsck_options options = LARDER_FSCK_OPTIONS_INIT;
    struct larder_digest digests[3];
    char id[LARDER_LEASE_ID_BYTES];
    bed_fill(bed, 3, digests);
    OK(larder_ref_set(bed->store, "x", &digests[0], NULL, e));
    OK(larder_lease_until(bed->store, &digests[0], clock_realtime_ns() + DAY_NS, "test", id, e));
    options.deep = options.rebuild_index = true;
    OK(larder_fsck(bed->store, &options, &report, e));
    assert_true(report.problems == 0 && report.blobs == 3 && report.refs == 1 &&
                report.leases == 1);
    OK(larder_fsck(bed->store, NULL, &report, e));
    assert_true(report.problems == 0);
    struct larder_usage usage;
    OK(larder_usage_get(bed->store, &usage, e));
    assert_true(usage.blobs == 3);
}

static void temporaries(void **state)
{
    bed_write(*state, "tmp/.tmp-999999999-1-00", "left");
    expect(*state, LARDER_FSCK_TEMPORARY, true, true, false);
}

static void dead_leases(void **state)
{
    char id[LARDER_LEASE_ID_BYTES];
    struct bed *bed = *state;
    struct larder_digest digest = bed_put(bed, "a");
    OK(larder_lease_until(bed->store, &digest, clock_realtime_ns() - 1, "test", id, e));
    expect(bed, LARDER_FSCK_DEAD_LEASE, true, true, false);
}

static void bad_leases(void **state)
{
    char id[LARDER_LEASE_ID_BYTES], name[96];
    struct bed *bed = *state;
    struct larder_digest digest = bed_put(bed, "a");
    OK(larder_lease_until(bed->store, &digest, clock_realtime_ns() + DAY_NS, "test", id, e));
    snprintf(name, sizeof(name), "leases/%s", id);
    bed_write(bed, name, "{\"version\": 1");
    expect(bed, LARDER_FSCK_BAD_LEASE, false, true, false);
    snprintf(name, sizeof(name), "state/bad-lease.%s.0", id);
    assert_true(bed_exists(bed, name));
}

static void orphan_memos(void **state)
{
    struct bed *bed = *state;
    char path[256];
    struct larder_digest digest = bed_put(bed, "a");
    assert_int_equal(unlink(bed_file(bed, "blobs", &digest, path)), 0);
    expect(bed, LARDER_FSCK_ORPHAN_MEMO, true, true, false);
}

static void bad_modes(void **state)
{
    struct bed *bed = *state;
    struct stat st;
    char path[256];
    struct found found;
    struct larder_digest digest = bed_put(bed, "a");
    clock_sleep_ns(2100 * NS_PER_MS);
    assert_int_equal(chmod(bed_file(bed, "blobs", &digest, path), 0664), 0);
    assert_int_equal(check(bed, false, false, &found), -LARDER_CORRUPT);
    assert_true(found.total == 1 && found.kinds[LARDER_FSCK_BAD_MODE] == 1);
    assert_int_equal(check(bed, true, false, &found), 0);
    assert_true(found.kinds[LARDER_FSCK_BAD_MODE] == 1 && found.repaired == 1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0444);
    assert_int_equal(check(bed, false, false, &found), 0);
    assert_true(found.total == 0);
}

static void foreign_files(void **state)
{
    static const char *const names[] = {
        "notes.txt",
        "blobs/readme",
        "blobs/sha256/readme",
        "blobs/sha256/abcd",
        "memo/sha512/zz",
        "refs/%2",
        "refs/a b",
        "leases/hello",
        "tmp/precious",
        "quarantine/sha256-00.1",
        "updates/notes",
    };
    struct bed *bed = *state;
    struct found found;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        bed_write(bed, names[i], "mine");
        assert_int_equal(check(bed, true, true, &found), 0);
        if (found.total != 1 || found.kinds[LARDER_FSCK_FOREIGN] != 1 || found.repaired != 0 ||
            strcmp(found.object, names[i]) != 0)
            fail_msg("%s: %u findings, the last at %s", names[i], found.total, found.object);
        assert_true(bed_exists(bed, names[i]));
        char path[256];
        snprintf(path, sizeof(path), "%s/%s", bed->path, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    /* A link in a blob's place is not followed, and not touched. */
    char path[256];
    struct larder_digest digest = bed_put(bed, "a");
    assert_int_equal(unlink(bed_file(bed, "blobs", &digest, path)), 0);
    OK(memo_remove(bed->store, &digest, e));
    assert_int_equal(symlink("/etc/hostname", path), 0);
    assert_int_equal(check(bed, true, true, &found), 0);
    assert_true(found.total == 1 && found.kinds[LARDER_FSCK_FOREIGN] == 1);
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
}

static void corrupt_blobs(void **state)
{
    struct bed *bed = *state;
    struct found found;
    struct larder_digest digest = bed_put(bed, "flipped"), same = bed_put(bed, "untouched");
    bed_rot(bed, &digest);
    /* mtime and size are as before: only a full read tells. */
    assert_int_equal(check(bed, false, false, &found), 0);
    assert_true(found.total == 0);
    expect(bed, LARDER_FSCK_CORRUPT_BLOB, false, true, true);
    assert_true(!bed_has(bed, &digest) && bed_has(bed, &same));
}

static void truncated_blobs(void **state)
{
    struct bed *bed = *state;
    char path[256];
    struct larder_digest digest = bed_put(bed, "a long text that is cut");
    assert_int_equal(chmod(bed_file(bed, "blobs", &digest, path), 0644), 0);
    assert_int_equal(truncate(path, 5), 0);
    assert_int_equal(chmod(path, 0444), 0);
    expect(bed, LARDER_FSCK_CORRUPT_BLOB, false, true, false);
}

static void unsure_blobs(void **state)
{
    struct bed *bed = *state;
    struct larder_digest digest = bed_put(bed, "a");
    OK(memo_remove(bed->store, &digest, e));
    clock_sleep_ns(2100 * NS_PER_MS);
    expect(bed, LARDER_FSCK_UNSURE_BLOB, true, true, false);
}

static void dangling_refs(void **state)
{
    struct bed *bed = *state;
    struct larder_digest digest = bed_put(bed, "a");
    OK(larder_ref_set(bed->store, "image/x", &digest, NULL, e));
    OK(blob_remove(bed->store, &digest, e));
    expect(bed, LARDER_FSCK_DANGLING_REF, true, false, false);
}

static void bad_refs(void **state)
{
    struct bed *bed = *state;
    bed_write(bed, "refs/x", "{}");
    expect(bed, LARDER_FSCK_BAD_REF, false, true, false);
    assert_true(bed_exists(bed, "state/bad-ref.x.0") && !bed_exists(bed, "refs/x"));
    bed_write(bed, "refs/x", "");
    expect(bed, LARDER_FSCK_BAD_REF, false, true, false);
    assert_true(bed_exists(bed, "state/bad-ref.x.1"));
}

static void records(void **state)
{
    static const char name[] = "updates/"
                               "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct bed *bed = *state;
    bed_write(bed, name, "{\"version\": 1");
    expect(bed, LARDER_FSCK_BAD_RECORD, false, true, false);
    assert_false(bed_exists(bed, name));
    /* Of a newer larder: not ours to remove. */
    bed_write(bed, name, "{\"version\": 2}");
    expect(bed, LARDER_FSCK_BAD_RECORD, false, false, false);
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", bed->path, name);
    assert_int_equal(unlink(path), 0);
    bed_write(bed, "updates/.tmp-record", "left");
    expect(bed, LARDER_FSCK_TEMPORARY, true, true, false);
    /* A store of before there were any: looking makes no place for them. */
    struct found found;
    snprintf(path, sizeof(path), "%s/updates", bed->path);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(check(bed, false, false, &found), 0);
    assert_true(found.total == 0 && !bed_exists(bed, "updates"));
}

static void overdue_marks(void **state)
{
    struct bed *bed = *state;
    char path[256];
    struct found found;
    struct larder_digest digest = bed_put(bed, "a");
    OK(blob_mark_invalid(bed->store, &digest, "test", e));
    int fd = open(bed_file(bed, "blobs", &digest, path), O_RDONLY | O_CLOEXEC);
    assert_int_equal(check(bed, true, false, &found), 0);
    assert_true(found.total == 0 && bed_has(bed, &digest));
    close(fd);
    expect(bed, LARDER_FSCK_OVERDUE_MARK, true, true, false);
    assert_false(bed_has(bed, &digest));
}

static void bad_indexes(void **state)
{
    struct bed *bed = *state;
    struct found found;
    struct larder_usage usage;
    bed_fill(bed, 3, NULL);
    OK(larder_usage_get(bed->store, &usage, e));
    struct index *index = NULL;
    OK(store_index(bed->store, &index, e));
    index_idle(index); /* else the log would repair it */
    index_close(index);
    bed_write(bed, "index.sqlite", "not a database");
    assert_int_equal(check(bed, false, false, &found), 0);
    assert_true(found.total == 1 && found.kinds[LARDER_FSCK_BAD_INDEX] == 1 && found.harmless == 1);
    assert_int_equal(check(bed, false, false, &found), 0);
    assert_true(found.total == 0);
}

static void read_only_stores_can_be_checked(void **state)
{
    struct bed *bed = *state;
    struct found found;
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    bed_fill(bed, 3, NULL);
    larder_store_close(bed->store);
    options.flags = LARDER_STORE_READ_ONLY;
    OK(larder_store_open(bed->path, &options, &bed->store, e));
    assert_int_equal(check(bed, false, true, &found), 0);
    assert_int_equal(found.total, 0);
    assert_int_equal(check(bed, true, true, &found), -LARDER_DENIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, bed_setup, bed_teardown)
        T(a_good_store_is_clean),
        T(temporaries),
        T(dead_leases),
        T(bad_leases),
        T(orphan_memos),
        T(bad_modes),
        T(foreign_files),
        T(corrupt_blobs),
        T(truncated_blobs),
        T(unsure_blobs),
        T(dangling_refs),
        T(bad_refs),
        T(records),
        T(overdue_marks),
        T(bad_indexes),
        T(read_only_stores_can_be_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
