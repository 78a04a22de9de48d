/* SPDX-License-Identifier: Apache-2.0 */
/* gc: what goes, what stays and why, beside processes that use the store. */
#include "upkeep.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/process.h"
#include "oci/media_type.h"
#include "store/dir/blob.h"
#include "store/dir/lease.h"
#include "store/dir/memo.h"
#include "store/dir/quarantine.h"
#include "store/upkeep/gc.h"

struct told {
    unsigned removed, kept;
    char last_why[200];
};

static void told_removed(void *arg, const char *what, const char *name, uint64_t bytes,
                         const char *why)
{
    struct told *told = arg;
    (void)bytes;
    assert_true(what[0] && name[0] && why[0]);
    told->removed++;
}

static void told_kept(void *arg, const char *name, uint64_t bytes, const char *why)
{
    struct told *told = arg;
    (void)name;
    (void)bytes;
    told->kept++;
    snprintf(told->last_why, sizeof(told->last_why), "%s", why);
}

static struct larder_gc_report collect(struct bed *bed, int64_t keep_for_ns, uint64_t max_size,
                                       bool dry_run, struct told *told)
{
    struct larder_gc_options options = LARDER_GC_OPTIONS_INIT;
    struct larder_gc_report report;
    options.keep_for_ns = keep_for_ns;
    options.max_size_bytes = max_size;
    options.dry_run = dry_run;
    if (told) {
        memset(told, 0, sizeof(*told));
        options.removed = told_removed;
        options.kept = told_kept;
        options.arg = told;
    }
    OK(larder_gc(bed->store, &options, &report, e));
    return report;
}

static void only_the_unused_goes(void **state)
{
    struct bed *bed = *state;
    struct told told;
    struct larder_digest old = bed_put(bed, "old"), young = bed_put(bed, "young"),
                         referred = bed_put(bed, "referred");
    OK(larder_ref_set(bed->store, "image/a", &referred, NULL, e));
    bed_age(bed, &old, 8 * DAY_NS);
    bed_age(bed, &referred, 80 * DAY_NS);

    struct larder_gc_report dry = collect(bed, 7 * DAY_NS, 0, true, &told);
    assert_true(told.removed == 1 && bed_has(bed, &old));
    struct larder_gc_report wet = collect(bed, 7 * DAY_NS, 0, false, &told);
    assert_memory_equal(&dry, &wet, sizeof(dry));
    assert_true(wet.removed_blobs == 1 && wet.removed_bytes == 4096 && told.removed == 1);
    assert_true(wet.kept_blobs == 2 && wet.pinned_blobs == 0);
    assert_false(bed_has(bed, &old));
    assert_true(bed_has(bed, &young) && bed_has(bed, &referred));
    char path[256];
    assert_int_equal(access(bed_file(bed, "memo", &old, path), F_OK), -1);
    wet = collect(bed, 0, 0, false, NULL);
    assert_true(wet.removed_blobs == 1 && !bed_has(bed, &young));
}

static void leases_hold(void **state)
{
    struct bed *bed = *state;
    struct told told;
    char id[LARDER_LEASE_ID_BYTES], until[LARDER_LEASE_ID_BYTES];
    struct larder_digest held = bed_put(bed, "held"), later = bed_put(bed, "later");
    pid_t pid = bed_fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    OK(larder_lease_process(bed->store, &held, pid, "test", id, e));
    OK(larder_lease_until(bed->store, &later, clock_realtime_ns() + DAY_NS, "test", until, e));
    bed_age(bed, &held, 8 * DAY_NS);
    bed_age(bed, &later, 8 * DAY_NS);
    struct larder_gc_report report = collect(bed, 0, 1, false, &told);
    assert_true(report.removed_blobs == 0 && report.pinned_blobs == 2 && told.kept == 2);
    assert_string_equal(told.last_why, "a lease holds it");

    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    report = collect(bed, 0, 0, false, &told);
    assert_true(report.removed_leases == 1 && report.removed_blobs == 1);
    assert_true(!bed_has(bed, &held) && bed_has(bed, &later));
}

/* A manifest that names a config and a layer of those texts, which need not be there. */
static struct larder_digest put_manifest(struct bed *bed, const char *config, const char *layer)
{
    char text[1024], hex[2][LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest digest[2];
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, config, strlen(config), &digest[0], NULL), 0);
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, layer, strlen(layer), &digest[1], NULL), 0);
    snprintf(text, sizeof(text),
             "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\","
             "\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG "\",\"digest\":\"%s\",\"size\":%zu},"
             "\"layers\":[{\"mediaType\":\"" OCI_TYPE_LAYER "\",\"digest\":\"%s\",\"size\":%zu}]}",
             larder_digest_format(&digest[0], hex[0]), strlen(config),
             larder_digest_format(&digest[1], hex[1]), strlen(layer));
    return bed_put(bed, text);
}

/* One lease holds what the manifest names: what is here, and what comes later. */
static void an_image_is_held_whole(void **state)
{
    struct bed *bed = *state;
    struct told told;
    char id[LARDER_LEASE_ID_BYTES];
    struct larder_digest manifest = put_manifest(bed, "config", "layer"),
                         layer = bed_put(bed, "layer"), other = bed_put(bed, "other");
    bed_age(bed, &manifest, 8 * DAY_NS);
    bed_age(bed, &layer, 8 * DAY_NS);
    bed_age(bed, &other, 8 * DAY_NS);
    OK(lease_image(bed->store, &manifest, OCI_TYPE_MANIFEST, "test", id, e));
    struct larder_gc_report report = collect(bed, 0, 1, false, &told);
    assert_true(report.removed_blobs == 1 && report.pinned_blobs == 2);
    assert_string_equal(told.last_why, "a lease holds it");
    assert_true(bed_has(bed, &manifest) && bed_has(bed, &layer) && !bed_has(bed, &other));

    struct larder_digest config = bed_put(bed, "config");
    report = collect(bed, 0, 1, false, NULL);
    assert_true(report.removed_blobs == 0 && bed_has(bed, &config));

    /* What can't be read may hold anything. */
    other = bed_put(bed, "other");
    struct larder_usage usage;
    OK(larder_usage_get(bed->store, &usage, e));
    assert_true(usage.blobs == 4 && usage.leases == 1 && usage.leased_blobs == 3);
    assert_true(usage.leased_only_blobs == 3 && usage.leased_only_allocated_bytes == 12288);
    OK(larder_ref_set(bed->store, "oci/x", &manifest, OCI_TYPE_MANIFEST, e));
    OK(larder_usage_get(bed->store, &usage, e));
    assert_true(usage.referred_blobs == 3 && usage.leased_blobs == 3);
    assert_true(usage.leased_only_blobs == 0 && usage.leased_only_allocated_bytes == 0);
    OK(larder_ref_remove(bed->store, "oci/x", e));
    bed_rot(bed, &manifest);
    struct stat st;
    char path[256];
    assert_int_equal(stat(bed_file(bed, "blobs", &manifest, path), &st), 0);
    const struct timespec times[2] = {st.st_atim, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    report = collect(bed, 0, 1, false, NULL);
    assert_true(report.removed_blobs == 0 && bed_has(bed, &other) && bed_has(bed, &layer));

    OK(larder_lease_release(bed->store, id, e));
    collect(bed, 0, 1, false, NULL);
    assert_true(!bed_has(bed, &layer) && !bed_has(bed, &config) && !bed_has(bed, &other));
}

/* A damaged lease or ref may be about anything: nothing goes for lack of a reference. */
static void what_cannot_be_read_protects(void **state)
{
    struct bed *bed = *state;
    struct told told;
    struct larder_gc_report report;
    struct larder_error why = LARDER_ERROR_INIT;
    struct larder_digest old = bed_put(bed, "old");
    bed_age(bed, &old, 8 * DAY_NS);
    bed_write(bed, "refs/x", "{ not json");
    report = collect(bed, 0, 0, false, &told);
    assert_true(report.removed_blobs == 0 && report.pinned_blobs == 1);
    assert_non_null(strstr(told.last_why, "ref x is damaged"));
    char id[LARDER_LEASE_ID_BYTES], name[96];
    OK(larder_lease_until(bed->store, &old, clock_realtime_ns() - 1, "test", id, e));
    snprintf(name, sizeof(name), "leases/%s", id);
    bed_write(bed, name, "{ not json");
    assert_int_equal(larder_gc(bed->store, NULL, &report, &why), -LARDER_CORRUPT);
    assert_true(bed_has(bed, &old));
}

static void an_open_file_stays(void **state)
{
    struct bed *bed = *state;
    struct told told;
    int fd = -1;
    struct larder_digest old = bed_put(bed, "old");
    OK(larder_blob_open(bed->store, &old, &fd, e));
    bed_age(bed, &old, 8 * DAY_NS);
    struct larder_gc_report report = collect(bed, DAY_NS, 0, false, &told);
    assert_true(report.pinned_blobs == 1 && report.removed_blobs == 0 && bed_has(bed, &old));
    assert_string_equal(told.last_why, "in use");
    close(fd);
    report = collect(bed, DAY_NS, 0, false, &told);
    assert_true(report.removed_blobs == 1 && !bed_has(bed, &old));
}

struct fake {
    enum use_state state;
    bool needs_path;
    int asked;
};

static int fake_probe(void *arg, struct larder_store *store, const struct larder_digest *digest,
                      int fd, const char *path, enum use_state *ret, bool *ret_needs_path,
                      struct buf *who, struct larder_error *e)
{
    struct fake *fake = arg;
    (void)store;
    (void)digest;
    (void)path;
    (void)who;
    assert_true(fd >= 0);
    fake->asked++;
    if (fake->asked > 1000)
        return error_set(e, LARDER_IO, "no answer");
    *ret = fake->state;
    *ret_needs_path = fake->needs_path;
    return 0;
}

static void the_probe_decides(void **state)
{
    struct bed *bed = *state;
    static const struct {
        struct fake fake;
        bool goes;
    } cases[] = {
        {{USE_UNKNOWN, false, 0}, false}, {{USE_IN_USE, false, 0}, false},
        {{USE_FREE, true, 0}, false},     {{USE_FREE, false, 1000}, false},
        {{USE_FREE, false, 0}, true},
    };
    struct larder_digest old = bed_put(bed, "old");
    bed_age(bed, &old, 8 * DAY_NS);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fake fake = cases[i].fake;
        const struct users_probe probe = {&fake, fake_probe};
        struct larder_gc_report report;
        OK(store_gc(bed->store, NULL, &probe, &report, e));
        assert_true(bed_has(bed, &old) == !cases[i].goes);
        assert_true(report.removed_blobs == cases[i].goes && report.pinned_blobs == !cases[i].goes);
    }
}

static void beyond_the_cap_the_oldest_go(void **state)
{
    struct bed *bed = *state;
    struct told told;
    struct larder_digest digests[5];
    bed_fill(bed, 5, digests);
    for (unsigned i = 0; i < 5; i++)
        bed_age(bed, &digests[i], (int64_t)(5 - i) * 3600 * NS_PER_S);
    OK(larder_ref_set(bed->store, "image/a", &digests[0], NULL, e));
    bed_age(bed, &digests[4], 0); /* handed out just now */
    struct larder_gc_report dry = collect(bed, DAY_NS, 3 * 4096, true, &told);
    struct larder_gc_report wet = collect(bed, DAY_NS, 3 * 4096, false, &told);
    assert_memory_equal(&dry, &wet, sizeof(dry));
    assert_true(wet.removed_blobs == 2 && wet.kept_blobs == 3);
    assert_true(!bed_has(bed, &digests[0]) && !bed_has(bed, &digests[1]));
    assert_true(bed_exists(bed, "refs/image%2Fa")); /* the next get fetches again */
    wet = collect(bed, DAY_NS, 1, false, &told);
    assert_true(wet.removed_blobs == 2 && wet.pinned_blobs == 1 && bed_has(bed, &digests[4]));
    assert_string_equal(told.last_why, "used just now");
    wet = collect(bed, 0, 1, false, &told);
    assert_true(wet.removed_blobs == 1);
}

/* The kernel is asked before and under the lock; whoever opens it between keeps its bytes. */
static void a_late_opener_keeps_its_bytes(void **state)
{
    struct bed *bed = *state;
    char path[256], text[8] = "", why[GC_WHY_BYTES];
    enum removal how = REMOVAL_KEPT;
    uint64_t bytes = 0;
    struct roots roots = {.bad_ref = NULL};
    struct fake fake = {USE_FREE, false, 0};
    const struct users_probe probe = {&fake, fake_probe}; /* sees nobody */
    const struct removal_terms terms = {.used_before_ns = INT64_MAX, .users = &probe};
    struct larder_digest old = bed_put(bed, "old");
    int fd = open(bed_file(bed, "blobs", &old, path), O_RDONLY | O_CLOEXEC);
    OK(roots_load(bed->store, &roots, e));
    OK(gc_remove_blob(bed->store, &old, &terms, &roots, &how, &bytes, why, e));
    assert_true(how == REMOVAL_OPEN && bytes == 4096);
    assert_true(read(fd, text, sizeof(text)) == 3);
    assert_string_equal(text, "old");
    close(fd);
    roots_done(&roots);
}

/* Refs, leases and uses that came after the list was made. */
static void it_looks_again(void **state)
{
    struct bed *bed = *state;
    char why[GC_WHY_BYTES], id[LARDER_LEASE_ID_BYTES];
    enum removal how = REMOVAL_DONE;
    uint64_t bytes = 0;
    struct roots roots = {.bad_ref = NULL};
    struct removal_terms terms = {.used_before_ns = clock_realtime_ns() - DAY_NS};
    struct larder_digest a = bed_put(bed, "a"), b = bed_put(bed, "b"), c = bed_put(bed, "c");
    bed_age(bed, &a, 8 * DAY_NS);
    bed_age(bed, &b, 8 * DAY_NS);
    clock_sleep_ns(80 * NS_PER_MS); /* so that the roots are settled, and remembered */
    OK(roots_load(bed->store, &roots, e));
    assert_false(index_print_is_none(&roots.refs_print));
    OK(larder_ref_set(bed->store, "x", &a, NULL, e));
    OK(larder_lease_until(bed->store, &b, clock_realtime_ns() + DAY_NS, "test", id, e));
    OK(gc_remove_blob(bed->store, &a, &terms, &roots, &how, &bytes, why, e));
    assert_int_equal(how, REMOVAL_KEPT);
    OK(gc_remove_blob(bed->store, &b, &terms, &roots, &how, &bytes, why, e));
    assert_int_equal(how, REMOVAL_PINNED);
    OK(gc_remove_blob(bed->store, &c, &terms, &roots, &how, &bytes, why, e));
    assert_int_equal(how, REMOVAL_KEPT);
    assert_string_equal(why, "used meanwhile");
    terms.only_marked = true;
    OK(gc_remove_blob(bed->store, &c, &terms, &roots, &how, &bytes, why, e));
    assert_int_equal(how, REMOVAL_KEPT);
    memset(&c.bytes, 1, 32);
    OK(gc_remove_blob(bed->store, &c, &terms, &roots, &how, &bytes, why, e));
    assert_int_equal(how, REMOVAL_GONE);
    roots_done(&roots);
}

static void marked_blobs_go_when_free(void **state)
{
    struct bed *bed = *state;
    char path[256];
    struct larder_digest bad = bed_put(bed, "bad");
    OK(larder_ref_set(bed->store, "x", &bad, NULL, e));
    OK(blob_mark_invalid(bed->store, &bad, "test", e));
    int fd = open(bed_file(bed, "blobs", &bad, path), O_RDONLY | O_CLOEXEC);
    assert_true(collect(bed, DAY_NS, 0, false, NULL).pinned_blobs == 1);
    close(fd);
    assert_true(collect(bed, DAY_NS, 0, false, NULL).removed_blobs == 1);
    assert_false(bed_has(bed, &bad));
}

static unsigned quarantined(struct bed *bed)
{
    struct larder_usage usage;
    OK(larder_usage_get(bed->store, &usage, e));
    return (unsigned)usage.quarantined;
}

static void the_quarantine_is_trimmed(void **state)
{
    struct bed *bed = *state;
    struct larder_gc_options options = LARDER_GC_OPTIONS_INIT;
    struct larder_gc_report report;
    struct larder_digest digests[3];
    char text[32] = "", path[256];
    bed_fill(bed, 3, digests);
    int fd = open(bed_file(bed, "blobs", &digests[0], path), O_RDONLY | O_CLOEXEC);
    for (unsigned i = 0; i < 3; i++)
        OK(quarantine_blob(bed->store, &digests[i], NULL, "test", e));
    options.max_quarantine_bytes = 4096;
    options.dry_run = true;
    OK(larder_gc(bed->store, &options, &report, e));
    assert_true(report.removed_quarantined == 2 - 0 && quarantined(bed) == 3);
    options.dry_run = false;
    OK(larder_gc(bed->store, &options, &report, e));
    /* The oldest is open: it stays, and counts, so both younger ones go. */
    assert_true(report.removed_quarantined == 2 && report.pinned_bytes == 4096);
    assert_int_equal(quarantined(bed), 1);
    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    assert_string_equal(text, "blob number 0");
    close(fd);
    options.max_quarantine_bytes = 0;
    OK(larder_gc(bed->store, &options, &report, e));
    assert_int_equal(quarantined(bed), 0);
}

static void released_bytes_go_when_free(void **state)
{
    struct bed *bed = *state;
    struct larder_gc_options options = LARDER_GC_OPTIONS_INIT;
    struct larder_gc_report report;
    struct larder_digest digests[2];
    char path[256], name[192], note[128], hex[LARDER_DIGEST_TEXT_BYTES];
    bed_fill(bed, 2, digests);
    int fd = open(bed_file(bed, "blobs", &digests[0], path), O_RDONLY | O_CLOEXEC);
    for (unsigned i = 0; i < 2; i++)
        OK(quarantine_blob(bed->store, &digests[i], NULL, "test", e));
    larder_digest_hex(&digests[0], hex);
    snprintf(name, sizeof(name), "sha256-%s.0", hex);
    OK(quarantine_release(bed->store, name, e));
    OK(larder_gc(bed->store, &options, &report, e));
    assert_true(report.removed_quarantined == 0 && report.pinned_bytes == 4096);
    assert_int_equal(quarantined(bed), 2);
    close(fd);
    options.dry_run = true;
    OK(larder_gc(bed->store, &options, &report, e));
    assert_true(report.removed_quarantined == 1 && quarantined(bed) == 2);
    options.dry_run = false;
    OK(larder_gc(bed->store, &options, &report, e));
    /* There is room for evidence: the other one stays. */
    assert_true(report.removed_quarantined == 1 && quarantined(bed) == 1);
    /* Gone meanwhile: success, and no note is left alone. */
    OK(quarantine_release(bed->store, name, e));
    snprintf(note, sizeof(note), "quarantine/%.100s.json", name);
    assert_false(bed_exists(bed, note));
}

static void temporaries_of_the_dead_go(void **state)
{
    struct bed *bed = *state;
    struct told told;
    bed_write(bed, "tmp/.tmp-999999999-1-00", "left");
    struct larder_gc_report dry = collect(bed, DAY_NS, 0, true, &told);
    assert_true(dry.removed_temporaries == 1 && told.removed == 1);
    struct larder_gc_report wet = collect(bed, DAY_NS, 0, false, &told);
    assert_memory_equal(&dry, &wet, sizeof(dry));
    assert_false(bed_exists(bed, "tmp/.tmp-999999999-1-00"));
}

/*
 * Writers that put and set refs beside a collector that takes all it may: no ref ever dangles that
 * was set after its put returned.
 */
static void put_and_gc_race(void **state)
{
    struct bed *bed = *state;
    pid_t collector = bed_fork();
    if (collector == 0) {
        struct larder_store *store = NULL;
        struct larder_gc_options options = LARDER_GC_OPTIONS_INIT;
        struct larder_gc_report report;
        options.keep_for_ns = 3600 * NS_PER_S; /* longer than a writer takes from put to ref */
        if (larder_store_open(bed->path, NULL, &store, NULL) < 0)
            _exit(2);
        for (;;)
            if (larder_gc(store, &options, &report, NULL) < 0)
                _exit(3);
    }
    for (unsigned i = 0; i < 60; i++) {
        char content[32], name[32];
        snprintf(content, sizeof(content), "race %u", i);
        snprintf(name, sizeof(name), "race/%u", i);
        struct larder_digest digest = bed_put(bed, content);
        OK(larder_ref_set(bed->store, name, &digest, NULL, e));
        bed_age(bed, &digest, 30 * DAY_NS);
        if (i >= 8) {
            snprintf(name, sizeof(name), "race/%u", i - 8);
            snprintf(content, sizeof(content), "race %u", i - 8);
            OK(larder_ref_remove(bed->store, name, e));
        }
    }
    int status = 0;
    assert_int_equal(waitpid(collector, &status, WNOHANG), 0); /* still well */
    kill(collector, SIGKILL);
    assert_int_equal(waitpid(collector, &status, 0), collector);
    struct larder_usage usage; /* the last eight are referred to, so all there */
    OK(larder_usage_get(bed->store, &usage, e));
    assert_true(usage.refs == 8 && usage.referred_blobs == 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, bed_setup, bed_teardown)
        T(only_the_unused_goes),
        T(leases_hold),
        T(an_image_is_held_whole),
        T(what_cannot_be_read_protects),
        T(an_open_file_stays),
        T(the_probe_decides),
        T(beyond_the_cap_the_oldest_go),
        T(a_late_opener_keeps_its_bytes),
        T(it_looks_again),
        T(marked_blobs_go_when_free),
        T(the_quarantine_is_trimmed),
        T(released_bytes_go_when_free),
        T(temporaries_of_the_dead_go),
        T(put_and_gc_race),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
