/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index_stress [SECONDS]: four writers that put, refer, forget and remove, beside readers that sync
 * the index, gc, and processes that are killed, over one store. At the end the index must be sound,
 * say what a fresh one says, and fsck must find nothing but harmless things.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <larder/maintain.h>

#include "base/clock.h"
#include "index/index.h"
#include "store/dir/dir.h"
#include "store/upkeep/index_sync.h"

#define WRITERS 4
#define READERS 2

static char path[64];

static _Noreturn void die(const char *what, const struct larder_error *e)
{
    fprintf(stderr, "index_stress: %s: %s\n", what, e->msg);
    _exit(1);
}

static struct larder_store *open_store(void)
{
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_store *store = NULL;
    options.flags = LARDER_STORE_CREATE;
    if (larder_store_open(path, &options, &store, &e) < 0)
        die("open", &e);
    return store;
}

static void write_some(struct larder_store *store, unsigned who, unsigned round)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_digest digest;
    struct larder_usage usage;
    char text[64], name[32];
    int n = snprintf(text, sizeof(text), "%u/%u", who, round % 50);
    snprintf(name, sizeof(name), "w%u/%u", who, round % 20);
    if (larder_blob_put(store, text, (size_t)n, NULL, &digest, &e) < 0)
        die("put", &e);
    /* NOENT: gc was quicker than we; that is what refs are for. */
    int result = larder_ref_set(store, name, &digest, NULL, &e);
    if (result < 0 && result != -LARDER_NOENT)
        die("ref", &e);
    if (round % 3 == 0 && larder_ref_remove(store, name, &e) < 0 && e.code != LARDER_NOENT)
        die("ref remove", &e);
    if (round % 5 == 0 && larder_usage_get(store, &usage, &e) < 0)
        die("usage", &e);
}

static void read_some(struct larder_store *store, unsigned round)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_gc_options options = LARDER_GC_OPTIONS_INIT;
    struct larder_gc_report report;
    struct index *index = NULL;
    if (store_index(store, &index, &e) < 0)
        die("index", &e);
    if (index_is_memory(index))
        die("index fell back to memory", &e);
    if (index_check(index, &e) < 0)
        die("check", &e);
    if (round % 10 == 0)
        index_idle(index);
    index_close(index);
    options.keep_for_ns = NS_PER_S;
    if (round % 20 == 0 && larder_gc(store, &options, &report, &e) < 0)
        die("gc", &e);
}

static pid_t start(unsigned who, int64_t until_ns)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct larder_store *store = open_store();
    for (unsigned round = 0; clock_monotonic_ns() < until_ns; round++) {
        if (who < WRITERS)
            write_some(store, who, round);
        else
            read_some(store, round);
    }
    larder_store_close(store);
    _exit(0);
}

static int count(void *arg, const struct index_blob *blob, const char *refs)
{
    size_t *sum = arg;
    *sum = *sum * 31 + blob->digest.bytes[0] + blob->size_bytes + strlen(refs);
    return 0;
}

static size_t sum_of(struct index *index)
{
    struct larder_error e = LARDER_ERROR_INIT;
    size_t sum = 0;
    if (index_blob_each(index, INDEX_BY_DIGEST, true, count, &sum, &e) < 0)
        die("list", &e);
    return sum;
}

static void judge(void)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_store *store = open_store();
    struct larder_fsck_report report;
    struct index *index = NULL, *fresh = NULL;
    if (store_index(store, &index, &e) < 0 || index_check(index, &e) < 0 ||
        index_open_memory(&fresh, &e) < 0 || store_index_sync(store, fresh, &e) < 0)
        die("index", &e);
    if (sum_of(index) != sum_of(fresh))
        die("the index says otherwise than the files", &e);
    index_close(index);
    index_close(fresh);
    if (larder_fsck(store, NULL, &report, &e) < 0)
        die("fsck", &e);
    larder_store_close(store);
    printf("# %llu blobs, %llu refs, %llu harmless findings\n", (unsigned long long)report.blobs,
           (unsigned long long)report.refs, (unsigned long long)report.harmless);
}

int main(int argc, char **argv)
{
    int64_t seconds = argc > 1 ? atoi(argv[1]) : 3;
    int64_t until = clock_monotonic_ns() + seconds * NS_PER_S;
    pid_t pids[WRITERS + READERS];
    char command[96];
    int failed = 0;
    snprintf(path, sizeof(path), "/tmp/larder-stress-XXXXXX");
    if (!mkdtemp(path))
        return 1;
    larder_store_close(open_store());
    for (unsigned i = 0; i < WRITERS + READERS; i++)
        pids[i] = start(i, until);
    for (unsigned i = 0; clock_monotonic_ns() < until; i++) {
        pid_t victim = start(i % 2 ? 0 : WRITERS, INT64_MAX);
        clock_sleep_ns((int64_t)(i * 7 % 50 + 1) * NS_PER_MS);
        kill(victim, SIGKILL);
        int status = 0;
        if (waitpid(victim, &status, 0) == victim && WIFEXITED(status))
            failed = 1; /* it ended by itself, so it failed */
    }
    for (unsigned i = 0; i < WRITERS + READERS; i++) {
        int status = 0;
        if (waitpid(pids[i], &status, 0) != pids[i] || status != 0)
            failed = 1;
    }
    if (!failed)
        judge();
    printf("1..1\n%s 1 - writers, readers, gc and the killed agree on the index\n",
           failed ? "not ok" : "ok");
    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    return system(command) != 0 || failed;
}
