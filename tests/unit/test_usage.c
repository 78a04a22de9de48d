/* SPDX-License-Identifier: Apache-2.0 */
/* du and the index that heals itself: whatever happens to it, it says what the files say. */
#include "upkeep.h"

#include "store/dir/blob.h"
#include "store/dir/memo.h"
#include "store/dir/quarantine.h"

static struct larder_usage usage_of(struct bed *bed)
{
    struct larder_usage usage;
    OK(larder_usage_get(bed->store, &usage, e));
    return usage;
}

static void sums_are_right(void **state)
{
    struct bed *bed = *state;
    char id[LARDER_LEASE_ID_BYTES];
    struct larder_usage usage = usage_of(bed);
    assert_true(usage.blobs == 0 && usage.refs == 0 && usage.free_bytes > 0);
    struct larder_digest a = bed_put(bed, "a"), b = bed_put(bed, "bb"), c = bed_put(bed, "ccc");
    OK(larder_ref_set(bed->store, "x", &a, NULL, e));
    OK(larder_ref_set(bed->store, "y", &a, NULL, e));
    OK(larder_lease_until(bed->store, &b, clock_realtime_ns() + DAY_NS, "test", id, e));
    bed_write(bed, "partial/p", "12345");
    bed_write(bed, "partial/p.json", "{}");
    usage = usage_of(bed);
    assert_true(usage.blobs == 3 && usage.blob_bytes == 6 && usage.blob_allocated_bytes == 12288);
    assert_true(usage.referred_blobs == 1 && usage.referred_allocated_bytes == 4096);
    assert_true(usage.leased_blobs == 1 && usage.leases == 1 && usage.refs == 2);
    assert_true(usage.partials == 1 && usage.partial_allocated_bytes == 8192);
    assert_true(usage.records == 0 && usage.record_allocated_bytes == 0);
    assert_int_equal(usage.leased_only_blobs, 1);
    assert_true(usage.oldest_verified_ns > 0 && usage.oldest_verified_ns < clock_realtime_ns());
    OK(quarantine_blob(bed->store, &c, NULL, "test", e));
    usage = usage_of(bed);
    assert_true(usage.blobs == 2 && usage.quarantined == 1);
    assert_true(usage.quarantine_allocated_bytes == 4096);
}

struct list {
    struct larder_blob_info infos[8];
    char refs[8][64];
    unsigned count;
};

static int add(void *arg, const struct larder_blob_info *info, const char *refs)
{
    struct list *list = arg;
    snprintf(list->refs[list->count], sizeof(list->refs[0]), "%s", refs);
    list->infos[list->count++] = *info;
    return 0;
}

/* A use moves the memo's mtime and no directory. */
static void uses_are_seen(void **state)
{
    struct bed *bed = *state;
    struct list list = {.count = 0};
    struct larder_digest digests[3];
    bed_fill(bed, 3, digests);
    OK(larder_ref_set(bed->store, "x", &digests[1], NULL, e));
    for (unsigned i = 0; i < 3; i++)
        bed_age(bed, &digests[i], (int64_t)(i + 1) * DAY_NS);
    OK(larder_usage_each(bed->store, add, &list, e));
    assert_int_equal(list.count, 3);
    assert_true(larder_digest_equal(&list.infos[0].digest, &digests[0]));
    assert_string_equal(list.refs[0], "");
    assert_string_equal(list.refs[1], "x");
    int64_t before = clock_coarse_ns();
    memo_touch(bed->store, &digests[2]);
    list.count = 0;
    OK(larder_usage_each(bed->store, add, &list, e));
    assert_true(larder_digest_equal(&list.infos[0].digest, &digests[2]));
    assert_true(list.infos[0].last_used_ns >= before);
}

static void deleted_and_damaged_indexes_come_back(void **state)
{
    struct bed *bed = *state;
    char path[256];
    bed_fill(bed, 20, NULL);
    assert_true(usage_of(bed).blobs == 20);
    snprintf(path, sizeof(path), "%s/index.sqlite", bed->path);
    assert_int_equal(unlink(path), 0);
    assert_true(usage_of(bed).blobs == 20);
    for (int at = 0; at <= 4096; at += 4096) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        static const char garbage[4096] = "garbage";
        struct index *index = NULL;
        OK(store_index(bed->store, &index, e));
        index_idle(index);
        index_close(index);
        assert_true(pwrite(fd, garbage, sizeof(garbage), at) == sizeof(garbage));
        close(fd);
        assert_true(usage_of(bed).blobs == 20);
    }
    bed_write(bed, "index.sqlite", "not a database");
    assert_true(usage_of(bed).blobs == 20);
    /* A directory in its place can't be put aside: in memory then. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_true(usage_of(bed).blobs == 20);
    struct index *index = NULL;
    OK(store_index(bed->store, &index, e));
    assert_true(index_is_memory(index));
    index_close(index);
}

/* An index restored from yesterday knows blobs that went and not those that came. */
static void an_old_index_catches_up(void **state)
{
    struct bed *bed = *state;
    char command[512];
    struct larder_digest digests[10];
    bed_fill(bed, 10, digests);
    OK(larder_ref_set(bed->store, "x", &digests[0], NULL, e));
    struct index *index = NULL;
    OK(store_index(bed->store, &index, e));
    index_idle(index);
    index_close(index);
    snprintf(command, sizeof(command), "cp %s/index.sqlite %s/../$(basename %s).old", bed->path,
             bed->path, bed->path);
    assert_int_equal(system(command), 0);
    OK(blob_remove(bed->store, &digests[5], e));
    OK(larder_ref_remove(bed->store, "x", e));
    OK(larder_ref_set(bed->store, "y", &digests[1], NULL, e));
    bed_put(bed, "another");
    bed_put(bed, "and another");
    snprintf(command, sizeof(command),
             "rm -f %s/index.sqlite*; mv %s/../$(basename %s).old %s/index.sqlite", bed->path,
             bed->path, bed->path, bed->path);
    assert_int_equal(system(command), 0);
    struct larder_usage usage = usage_of(bed);
    assert_true(usage.blobs == 11 && usage.refs == 1 && usage.referred_blobs == 1);
    OK(store_index(bed->store, &index, e));
    assert_false(index_is_memory(index));
    index_close(index);
}

/* Once everything is older than the racy rule, a sync writes nothing and still sees changes. */
static void settled_directories_are_skipped(void **state)
{
    struct bed *bed = *state;
    char path[256];
    struct stat before, after;
    struct larder_digest digests[5];
    bed_fill(bed, 5, digests);
    OK(larder_ref_set(bed->store, "x", &digests[0], NULL, e));
    clock_sleep_ns(2200 * NS_PER_MS);
    usage_of(bed);
    struct index *index = NULL;
    struct index_print print;
    OK(store_index(bed->store, &index, e));
    OK(index_dir_get(index, STORE_BLOBS_SHA256, &print, e));
    assert_false(index_print_is_none(&print));
    OK(index_dir_get(index, STORE_REFS, &print, e));
    assert_false(index_print_is_none(&print));
    index_close(index);
    snprintf(path, sizeof(path), "%s/index.sqlite-wal", bed->path);
    assert_int_equal(stat(path, &before), 0);
    usage_of(bed);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_size == after.st_size && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);

    OK(larder_ref_set(bed->store, "x", &digests[1], NULL, e));
    OK(blob_mark_invalid(bed->store, &digests[2], "test", e));
    OK(blob_remove(bed->store, &digests[4], e));
    struct list list = {.count = 0};
    OK(larder_usage_each(bed->store, add, &list, e));
    assert_int_equal(list.count, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_string_equal(list.refs[i],
                            larder_digest_equal(&list.infos[i].digest, &digests[1]) ? "x" : "");
}

static void a_damaged_ref_does_not_stop_du(void **state)
{
    struct bed *bed = *state;
    bed_put(bed, "a");
    bed_write(bed, "refs/x", "{ not json");
    bed_write(bed, "leases/x", "{ not json");
    assert_true(usage_of(bed).blobs == 1 && usage_of(bed).refs == 1);
}

static void read_only_stores_work(void **state)
{
    struct bed *bed = *state;
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    struct larder_usage usage;
    bed_fill(bed, 3, NULL);
    larder_store_close(bed->store);
    options.flags = LARDER_STORE_READ_ONLY;
    OK(larder_store_open(bed->path, &options, &bed->store, e));
    OK(larder_usage_get(bed->store, &usage, e));
    assert_true(usage.blobs == 3 && !bed_exists(bed, "index.sqlite"));
}

/* Eight processes syncing, two of them adding, one of them killed again and again. */
static void many_sync_at_once(void **state)
{
    struct bed *bed = *state;
    pid_t pids[8];
    bed_fill(bed, 50, NULL);
    for (unsigned p = 0; p < ARRAY_LEN(pids); p++) {
        pids[p] = bed_fork();
        if (pids[p] > 0)
            continue;
        struct larder_store *store = NULL;
        struct larder_usage usage;
        if (larder_store_open(bed->path, NULL, &store, NULL) < 0)
            _exit(2);
        for (unsigned i = 0; i < 20; i++) {
            char content[32];
            struct larder_digest digest;
            snprintf(content, sizeof(content), "%u-%u", p, i);
            if (p < 2 && larder_blob_put(store, content, strlen(content), NULL, &digest, NULL) < 0)
                _exit(3);
            if (larder_usage_get(store, &usage, NULL) < 0 || usage.blobs < 50)
                _exit(4);
        }
        larder_store_close(store);
        _exit(0);
    }
    for (unsigned i = 0; i < 20; i++) {
        pid_t victim = bed_fork();
        if (victim == 0) {
            struct larder_store *store = NULL;
            struct larder_usage usage;
            while (larder_store_open(bed->path, NULL, &store, NULL) == 0) {
                (void)!larder_usage_get(store, &usage, NULL);
                larder_store_close(store);
            }
            _exit(0);
        }
        clock_sleep_ns((int64_t)(i % 7 + 1) * 3 * NS_PER_MS);
        kill(victim, SIGKILL);
        assert_int_equal(waitpid(victim, NULL, 0), victim);
    }
    for (unsigned p = 0; p < ARRAY_LEN(pids); p++) {
        int status = 0;
        assert_int_equal(waitpid(pids[p], &status, 0), pids[p]);
        assert_int_equal(status, 0);
    }
    assert_true(usage_of(bed).blobs == 90);
    struct index *index = NULL;
    OK(store_index(bed->store, &index, e));
    assert_false(index_is_memory(index));
    OK(index_check(index, e));
    index_close(index);
    assert_false(bed_exists(bed, "index.sqlite.bad"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, bed_setup, bed_teardown)
        T(sums_are_right),
        T(uses_are_seen),
        T(deleted_and_damaged_indexes_come_back),
        T(an_old_index_catches_up),
        T(settled_directories_are_skipped),
        T(a_damaged_ref_does_not_stop_du),
        T(read_only_stores_work),
        T(many_sync_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
