/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes and reads records of updates without a registry:
 *
 *     record_tool PLACE put REF SEED LAYERS   with a manifest of so many layers (0: no update)
 *     record_tool PLACE touch REF CHECKED
 *     record_tool PLACE remove REF
 *     record_tool PLACE get REF               "SEED LAYERS CHECKED", or "none"
 *     record_tool PLACE storm N               so many processes at once, half of them readers
 *
 * PLACE is a state directory, or store:PATH. The status is larder's.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <larder/store.h>

#include "base/clock.h"
#include "base/error.h"
#include "update/record/record_dir.h"

#include "../unit/record_samples.h"

#define STORM_REFS     3
#define STORM_WRITES   4
#define STORM_READS    12
#define STORM_MANIFEST 400 /* layers, 60 KB; of some 4 MB */
#define STORM_LARGE    28000
#define STORM_LEAST    16

static int open_place(const char *place, struct larder_store **ret_store, struct record_dir **ret,
                      struct larder_error *e)
{
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    if (strncmp(place, "store:", 6) != 0)
        return record_dir_open(place, true, ret, e);
    options.flags = LARDER_STORE_CREATE;
    int r = larder_store_open(place + 6, &options, ret_store, e);
    return r < 0 ? r : record_dir_open_store(*ret_store, ret, e);
}

static int put(struct record_dir *dir, const char *ref, const char *seed, size_t n_layers,
               struct larder_error *e)
{
    struct update_record record = sample_record(seed, n_layers);
    CLEANUP_FREE char *key = NULL;
    free(record.ref);
    free(record.name);
    record.ref = strdup(ref);
    record.name = strdup(seed);
    int r = record.ref && record.name ? 0 : error_nomem(e);
    if (r == 0)
        r = record_key(ref, record.platform, NULL, NULL, &key, e);
    if (r == 0)
        r = record_dir_put(dir, key, &record, e);
    record_done(&record);
    return r;
}

/* How many layers its image has, by what put() made of its seed: record.c has no part in it. */
static int check(const struct update_record *record, size_t *ret_layers, struct larder_error *e)
{
    static const char layer[] = "\"application/vnd.oci.image.layer.v1.tar+gzip\"";
    *ret_layers = 0;
    for (const char *at = record->manifest.p; at && (at = strstr(at, layer)); at++)
        ++*ret_layers;
    struct update_record made = sample_record(record->name, *ret_layers);
    free(made.ref);
    free(made.name);
    made.ref = strdup(record->ref);
    made.name = strdup(record->name);
    made.checked_ns = record->checked_ns;
    bool is_same = sample_equal(&made, record);
    record_done(&made);
    return is_same ? 0 : error_set(e, LARDER_CORRUPT, "%s: not what was put", record->ref);
}

/* NOENT is told as 1. */
static int get(struct record_dir *dir, const char *ref, bool do_print, struct larder_error *e)
{
    struct update_record record;
    CLEANUP_FREE char *key = NULL;
    size_t n_layers = 0;
    int r = record_key(ref, SAMPLE_PLATFORM, NULL, NULL, &key, e);
    if (r == 0)
        r = record_dir_get(dir, key, &record, e);
    if (r == -LARDER_NOENT && do_print)
        printf("none\n");
    if (r < 0)
        return r == -LARDER_NOENT ? 1 : r;
    r = check(&record, &n_layers, e);
    if (r == 0 && do_print)
        printf("%s %zu %lld\n", record.name, n_layers, (long long)record.checked_ns);
    record_done(&record);
    return r;
}

static int change(struct record_dir *dir, const char *ref, const char *checked,
                  struct larder_error *e)
{
    CLEANUP_FREE char *key = NULL;
    int r = record_key(ref, SAMPLE_PLATFORM, NULL, NULL, &key, e);
    if (r == 0)
        r = checked ? record_dir_touch(dir, key, atoll(checked), e)
                    : record_dir_remove(dir, key, e);
    return r;
}

/* ---- many at once ---- */

static int storm_write_one(struct record_dir *dir, unsigned number, unsigned i,
                           struct larder_error *e)
{
    char ref[64], seed[64], checked[64];
    unsigned kind = (number + i) % 8;
    snprintf(ref, sizeof(ref), "docker://example.org/os:%u", (number + i) % STORM_REFS);
    snprintf(seed, sizeof(seed), "%u-%u", number, i);
    snprintf(checked, sizeof(checked), "17%08u%09u", number, i);
    if (kind == 0)
        return change(dir, ref, NULL, e);
    if (kind == 1) {
        int r = change(dir, ref, checked, e);
        return r == -LARDER_NOENT ? 0 : r;
    }
    size_t n_layers = i == 0 && number % 100 == 2 ? STORM_LARGE : (number * 7 + i) % STORM_MANIFEST;
    return put(dir, ref, seed, n_layers, e);
}

static int storm_write(struct record_dir *dir, unsigned number, struct larder_error *e)
{
    int r = 0;
    for (unsigned i = 0; r >= 0 && i < STORM_WRITES; i++) {
        /* On a slow machine all the others take longer than anybody waits for the lock. */
        while ((r = storm_write_one(dir, number, i, e)) == -LARDER_BUSY)
            error_clear(e);
    }
    return r < 0 ? r : 0;
}

static int see(void *arg, const char *file, const struct update_record *record,
               const struct larder_error *error)
{
    size_t n_layers;
    (void)file;
    return record ? check(record, &n_layers, arg)
                  : error_set(arg, LARDER_CORRUPT, "%s", error->msg);
}

static int storm_read(struct record_dir *dir, unsigned number, struct larder_error *e)
{
    int r = 0;
    for (unsigned i = 0; r >= 0 && i < STORM_READS; i++) {
        char ref[64];
        snprintf(ref, sizeof(ref), "docker://example.org/os:%u", (number + i) % STORM_REFS);
        r = get(dir, ref, false, e);
        clock_sleep_ns((int64_t)(number * 37 + i) % 20 * NS_PER_MS);
    }
    return r < 0 ? r : record_dir_each(dir, see, e, e);
}

static int storm_child(const char *place, unsigned number, int gate)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_store *store = NULL;
    struct record_dir *dir = NULL;
    char c;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)!read(gate, &c, 1); /* until the parent closes its end */
    int r = open_place(place, &store, &dir, &e);
    if (r == 0)
        r = number % 2 ? storm_read(dir, number, &e) : storm_write(dir, number / 2, &e);
    if (r < 0)
        fprintf(stderr, "record_tool: process %u: %s\n", number, e.msg);
    record_dir_close(dir);
    larder_store_close(store);
    return r < 0 ? 1 : 0;
}

static int storm(const char *place, unsigned count)
{
    int gate[2], failed = 0;
    if (pipe2(gate, O_CLOEXEC) < 0)
        return 1;
    for (unsigned i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            close(gate[1]);
            _exit(storm_child(place, i, gate[0]));
        }
        if (pid < 0) {
            /* Not every machine has room for all of them. */
            printf("%u of %u processes: %s\n", i, count, strerror(errno));
            failed += i < STORM_LEAST;
            break;
        }
    }
    close(gate[0]);
    close(gate[1]);
    for (int status; wait(&status) > 0;)
        failed += status != 0;
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_store *store = NULL;
    struct record_dir *dir = NULL;
    if (argc < 4)
        return 2;
    if (strcmp(argv[2], "storm") == 0)
        return storm(argv[1], (unsigned)atoi(argv[3]));
    int r = open_place(argv[1], &store, &dir, &e);
    if (r < 0)
        ;
    else if (strcmp(argv[2], "put") == 0 && argc == 6)
        r = put(dir, argv[3], argv[4], strtoul(argv[5], NULL, 10), &e);
    else if (strcmp(argv[2], "touch") == 0 && argc == 5)
        r = change(dir, argv[3], argv[4], &e);
    else if (strcmp(argv[2], "remove") == 0)
        r = change(dir, argv[3], NULL, &e);
    else
        r = get(dir, argv[3], true, &e);
    record_dir_close(dir);
    larder_store_close(store);
    if (r < 0)
        fprintf(stderr, "record_tool: %s\n", e.msg);
    return r < 0 ? larder_exit_code(e.code) : 0;
}
