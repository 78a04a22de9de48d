/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_hash [--threads N] [--evp] [--keep-cache] [--background] [--rate BYTES] [--print] FILE...
 *
 * Hashes the files once with hash_many and prints one line: bytes, seconds, GiB/s, peak RSS. With
 * --print the digests come first, in the form of sha256sum. Exit status 1 if any file failed.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/hash_many.h"
#include "base/mem.h"

static int job_open(struct hash_job *job, struct larder_error *e)
{
    (void)e;
    job->fd = open(job->object, O_RDONLY | O_CLOEXEC);
    return job->fd < 0 ? -LARDER_NOENT : 0;
}

static void job_close(struct hash_job *job)
{
    close(job->fd);
    job->fd = -1;
}

static int parse(int argc, char **argv, struct hash_many_options *o, bool *print)
{
    int i = 1;

    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--evp") == 0)
            o->force_evp = true;
        else if (strcmp(argv[i], "--keep-cache") == 0)
            o->keep_cache = true;
        else if (strcmp(argv[i], "--background") == 0)
            o->background = true;
        else if (strcmp(argv[i], "--print") == 0)
            *print = true;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            o->threads = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--rate") == 0 && i + 1 < argc)
            o->max_bytes_per_s = strtoull(argv[++i], NULL, 10);
        else
            return -1;
    }
    return i < argc ? i : -1;
}

int main(int argc, char **argv)
{
    struct hash_many_options options = {.what = "bench"};
    struct larder_error e = LARDER_ERROR_INIT;
    struct rusage usage;
    uint64_t bytes = 0, read_bytes = 0;
    bool print = false, failed = false;
    int first = parse(argc, argv, &options, &print);

    if (first < 0) {
        fprintf(stderr, "usage: bench_hash [--threads N] [--evp] [--keep-cache] [--background] "
                        "[--rate BYTES] [--print] FILE...\n");
        return 2;
    }
    size_t count = (size_t)(argc - first);
    CLEANUP_FREE struct hash_job *jobs = calloc(count, sizeof(*jobs));
    if (!jobs)
        return 1;
    for (size_t i = 0; i < count; i++)
        jobs[i] = (struct hash_job){.fd = -1,
                                    .open = job_open,
                                    .close = job_close,
                                    .alg_bits = HASH_BIT(LARDER_DIGEST_SHA256),
                                    .object = argv[(size_t)first + i]};

    int64_t start = clock_monotonic_ns();
    int rc = hash_many(jobs, count, &options, &e);
    double seconds = (double)(clock_monotonic_ns() - start) / (double)NS_PER_S;
    if (rc < 0)
        fprintf(stderr, "bench_hash: %s\n", e.msg);

    for (size_t i = 0; i < count; i++) {
        char hex[LARDER_DIGEST_TEXT_BYTES];
        bytes += jobs[i].size_bytes;
        read_bytes += jobs[i].read_bytes;
        if (jobs[i].result < 0) {
            failed = true;
            fprintf(stderr, "bench_hash: %s: %s\n", jobs[i].object, jobs[i].error.msg);
        } else if (print) {
            printf("%s  %s\n", larder_digest_hex(&jobs[i].digests[LARDER_DIGEST_SHA256], hex),
                   jobs[i].object);
        }
    }
    getrusage(RUSAGE_SELF, &usage);
    printf("files=%zu bytes=%llu read=%llu seconds=%.3f gib_per_s=%.2f rss_kib=%ld kernel=%s\n",
           count, (unsigned long long)bytes, (unsigned long long)read_bytes, seconds,
           (double)bytes / (1024.0 * 1024.0 * 1024.0) / seconds, usage.ru_maxrss,
           options.force_evp || !hash_has_fast_sha256() ? "evp" : "sha-ni");
    return rc < 0 || failed ? 1 : 0;
}
