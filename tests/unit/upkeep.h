/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* A store in a temporary directory, and what the tests of its upkeep do to it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <larder/maintain.h>

#include "base/clock.h"
#include "store/dir/dir.h"
#include "store/upkeep/index_sync.h"
#include "store/upkeep/maintain.h"

#define DAY_NS (24LL * 3600 * NS_PER_S)

struct bed {
    char path[64];
    struct larder_store *store;
};

/* Fails the test with the library's message. */
#define OK(call)                                              \
    do {                                                      \
        struct larder_error e_ = LARDER_ERROR_INIT, *e = &e_; \
        int result_ = (call);                                 \
        if (result_ != 0)                                     \
            fail_msg("%s: %s (%d)", #call, e_.msg, result_);  \
    } while (0)

/* A child that does not outlive a test that fails. */
static inline pid_t bed_fork(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

static inline int bed_setup(void **state)
{
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    struct bed *bed = calloc(1, sizeof(*bed));
    if (!bed)
        return -1;
    snprintf(bed->path, sizeof(bed->path), "/tmp/larder-upkeep-XXXXXX");
    if (!mkdtemp(bed->path))
        return -1;
    options.flags = LARDER_STORE_CREATE;
    *state = bed;
    return larder_store_open(bed->path, &options, &bed->store, NULL);
}

static inline int bed_teardown(void **state)
{
    struct bed *bed = *state;
    char command[96];
    larder_store_close(bed->store);
    snprintf(command, sizeof(command), "rm -rf '%s'", bed->path);
    int status = system(command);
    free(bed);
    return status;
}

static inline struct larder_digest bed_put(struct bed *bed, const char *content)
{
    struct larder_digest digest;
    OK(larder_blob_put(bed->store, content, strlen(content), NULL, &digest, e));
    return digest;
}

/* n distinct small blobs; digests may be NULL. */
static inline void bed_fill(struct bed *bed, unsigned n, struct larder_digest *digests)
{
    for (unsigned i = 0; i < n; i++) {
        char content[64];
        snprintf(content, sizeof(content), "blob number %u", i);
        struct larder_digest digest = bed_put(bed, content);
        if (digests)
            digests[i] = digest;
    }
}

static inline char *bed_file(const struct bed *bed, const char *kind,
                             const struct larder_digest *digest, char out[256])
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    snprintf(out, 256, "%s/%s/%s/%s", bed->path, kind, larder_digest_alg_name(digest->alg),
             larder_digest_hex(digest, hex));
    return out;
}

static inline bool bed_has(const struct bed *bed, const struct larder_digest *digest)
{
    char path[256];
    return access(bed_file(bed, "blobs", digest, path), F_OK) == 0;
}

/* Makes the last use that long ago. */
static inline void bed_age(const struct bed *bed, const struct larder_digest *digest,
                           int64_t age_ns)
{
    char path[256];
    int64_t then = clock_realtime_ns() - age_ns;
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {.tv_sec = then / NS_PER_S, .tv_nsec = then % NS_PER_S}};
    assert_int_equal(utimensat(AT_FDCWD, bed_file(bed, "memo", digest, path), times, 0), 0);
}

/* Changes one byte behind everybody's back: content, but neither size nor mtime. */
static inline void bed_rot(const struct bed *bed, const struct larder_digest *digest)
{
    char path[256], byte = 0;
    struct stat st;
    bed_file(bed, "blobs", digest, path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(pread(fd, &byte, 1, 3) == 1);
    byte = (char)(byte ^ 4);
    assert_true(pwrite(fd, &byte, 1, 3) == 1);
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    assert_int_equal(fchmod(fd, 0444), 0);
    close(fd);
}

static inline void bed_write(const struct bed *bed, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", bed->path, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_true(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static inline bool bed_exists(const struct bed *bed, const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", bed->path, name);
    struct stat st;
    return lstat(path, &st) == 0;
}
