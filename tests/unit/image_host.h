/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A store, a directory of sources and an observer that counts, for tests of the image room: setup
 * and teardown of cmocka, *state is a struct host.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <larder/image.h>

#include "base/buf.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/mem.h"
#include "image_samples.h"
#include "scratch.h"

struct host {
    struct scratch scratch;
    char source_dir[96]; /* where images to be fetched are */
    char store_dir[96];
    struct larder_store *store;
    struct larder_observer observer;
    unsigned warnings, notes, fetches; /* fetches: notes that begin one */
    char last_warning[512];
    struct larder_error e; /* of the last call */
};

static inline void host_warning(void *arg, const char *msg)
{
    struct host *h = arg;
    h->warnings++;
    snprintf(h->last_warning, sizeof(h->last_warning), "%s", msg);
}

static inline void host_note(void *arg, const char *msg)
{
    struct host *h = arg;
    h->notes++;
    h->fetches += strstr(msg, ": fetching ") != NULL;
}

static inline void host_open(struct host *h, unsigned flags)
{
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    options.flags = flags;
    options.observer = &h->observer;
    if (larder_store_open(h->store_dir, &options, &h->store, &h->e) < 0)
        fail_msg("%s", h->e.msg);
}

static inline int host_setup(void **state)
{
    void *made = NULL;
    struct host *h = calloc(1, sizeof(*h));
    if (!h || scratch_setup(&made) != 0)
        return -1;
    h->scratch = *(struct scratch *)made;
    free(made);
    snprintf(h->source_dir, sizeof(h->source_dir), "%s/src", h->scratch.path);
    snprintf(h->store_dir, sizeof(h->store_dir), "%s/store", h->scratch.path);
    h->observer = (struct larder_observer){.arg = h, .warning = host_warning, .note = host_note};
    if (mkdir(h->source_dir, 0755) < 0)
        return -1;
    host_open(h, LARDER_STORE_CREATE);
    *state = h;
    return 0;
}

static inline int host_teardown(void **state)
{
    struct host *h = *state;
    struct scratch *s = malloc(sizeof(*s));
    void *again = s;
    larder_store_close(h->store);
    if (!s)
        return -1;
    *s = h->scratch;
    free(h);
    return scratch_teardown(&again);
}

#define ON_HOST(test) cmocka_unit_test_setup_teardown(test, host_setup, host_teardown)

/* Path of a source; valid until the fourth next call. */
static inline const char *host_path(struct host *h, const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", h->source_dir, name);
    return path;
}

static inline void host_write(struct host *h, const char *name, const void *data, size_t n)
{
    const char *path = host_path(h, name);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, data, n), 0);
    close(fd);
}

static inline void host_text(struct host *h, const char *name, const char *text)
{
    host_write(h, name, text, strlen(text));
}

/* A sound qcow2 of 256 KiB; another seed makes other bytes. */
static inline void host_image(struct host *h, const char *name, unsigned seed)
{
    static unsigned char bytes[SAMPLE_QCOW2_FILE_BYTES];
    memset(bytes, 0, sizeof(bytes));
    sample_qcow2(bytes);
    put_be(bytes, 3 * 65536 + 4096, 4, seed);
    for (size_t i = 0; i < 65536; i++)
        bytes[2 * 65536 + i] = (unsigned char)(i * 31 + seed);
    host_write(h, name, bytes, sizeof(bytes));
}

/* Digest of a file; hex only. Valid until the fourth next call. */
static inline const char *host_hex(const char *path, enum larder_digest_alg alg)
{
    static char texts[4][LARDER_DIGEST_TEXT_BYTES];
    static unsigned next;
    struct buf bytes = BUF_INIT(64 * 1024 * 1024);
    struct larder_digest digest;
    assert_int_equal(file_read(AT_FDCWD, path, &bytes, NULL), 0);
    assert_int_equal(hash_of(alg, bytes.p, bytes.n, &digest, NULL), 0);
    buf_done(&bytes);
    return larder_digest_hex(&digest, texts[next++ % 4]);
}

/* Writes "HEX  name\n" for a source into another file beside it. */
static inline void host_sums(struct host *h, const char *sums, const char *name,
                             enum larder_digest_alg alg)
{
    char line[512];
    snprintf(line, sizeof(line), "%s  %s\n", host_hex(host_path(h, name), alg), name);
    host_text(h, sums, line);
}

static inline void host_shell(struct host *h, const char *command)
{
    char line[4096];
    snprintf(line, sizeof(line), "cd '%s' && { %s; } >/dev/null 2>&1", h->source_dir, command);
    if (system(line) != 0)
        fail_msg("failed: %s", command);
}

#define expect_code(h, call, code)                                                      \
    do {                                                                                \
        memset(&(h)->e, 0, sizeof((h)->e));                                             \
        int got_ = (call);                                                              \
        if (got_ != -(int)(code))                                                       \
            fail_msg("%d (%s), expected %s", got_, (h)->e.msg, larder_code_name(code)); \
    } while (0)

#define expect_ok(h, call)                        \
    do {                                          \
        memset(&(h)->e, 0, sizeof((h)->e));       \
        int got_ = (call);                        \
        if (got_ < 0)                             \
            fail_msg("%d: %s", got_, (h)->e.msg); \
    } while (0)

static inline void expect_message(const struct host *h, const char *words)
{
    if (!strstr(h->e.msg, words))
        fail_msg("\"%s\", expected \"%s\"", h->e.msg, words);
}
