/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A store in a directory of its own for a test, and what tests of the store do again and again.
 * Included after the library's headers.
 */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <larder/store.h>

#include "store/users.h"

/* The store's own tests need no room above it. (Weak: a test that links one has the real one.) */
__attribute__((weak)) const struct users_probe *const store_default_users = NULL;

struct fixture {
    char dir[64];   /* removed at the end */
    char path[128]; /* of the store, in dir */
    struct larder_store *store;
    struct larder_error e;
};

static inline int fixture_remove_one(const char *path, const struct stat *st, int type,
                                     struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline int fixture_open(struct fixture *f, unsigned flags)
{
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    options.flags = flags;
    larder_store_close(f->store);
    f->store = NULL;
    return larder_store_open(f->path, &options, &f->store, &f->e);
}

static inline int fixture_setup_bare(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    snprintf(f->dir, sizeof f->dir, "/tmp/larder-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/store", f->dir);
    *state = f;
    return 0;
}

static inline int fixture_setup(void **state)
{
    fixture_setup_bare(state);
    struct fixture *f = *state;
    int r = fixture_open(f, LARDER_STORE_CREATE);
    if (r < 0)
        print_error("%s\n", f->e.msg);
    return r;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    larder_store_close(f->store);
    nftw(f->dir, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

/* Path of a file in the store; valid until the next call. */
static inline const char *fixture_path(const struct fixture *f, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    return path;
}

static inline bool fixture_has(const struct fixture *f, const char *name)
{
    struct stat st;
    return lstat(fixture_path(f, name), &st) == 0;
}

static inline void fixture_write(const struct fixture *f, const char *name, const char *text)
{
    int fd = open(fixture_path(f, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static inline struct larder_digest fixture_put(struct fixture *f, const char *text)
{
    struct larder_digest digest = {0};
    int r = larder_blob_put(f->store, text, strlen(text), NULL, &digest, &f->e);
    if (r < 0)
        print_error("%s\n", f->e.msg);
    assert_int_equal(r, 0);
    return digest;
}

/* "blobs/sha256/<hex>"; valid until the next call. */
static inline const char *fixture_blob_name(const char *place, const struct larder_digest *digest)
{
    static char name[256];
    char hex[LARDER_DIGEST_TEXT_BYTES];
    snprintf(name, sizeof name, "%s/%s/%s", place, larder_digest_alg_name(digest->alg),
             larder_digest_hex(digest, hex));
    return name;
}

/* Number of names in a place of the store, without . and .. */
static inline int fixture_count(const struct fixture *f, const char *place)
{
    char command[600];
    int n = -1;
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", fixture_path(f, place));
    FILE *p = popen(command, "re");
    assert_non_null(p);
    assert_int_equal(fscanf(p, "%d", &n), 1);
    pclose(p);
    return n;
}

/*
 * Runs fn in so many processes that start together; each gets its number. Returns how many
 * returned something else than 0.
 */
static inline int fixture_race(int count, int (*fn)(struct fixture *f, int i), struct fixture *f)
{
    int gate[2];
    int failed = 0;
    assert_int_equal(pipe(gate), 0);
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            char c;
            close(gate[1]);
            (void)!read(gate[0], &c, 1); /* until the parent closes its end */
            _exit(fn(f, i) == 0 ? 0 : 1);
        }
    }
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < count; i++) {
        int status = 0;
        assert_true(wait(&status) > 0);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            failed++;
    }
    return failed;
}
