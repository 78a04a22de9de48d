/* SPDX-License-Identifier: Apache-2.0 */
#include "publish/meta_json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "publish/flufl_lock.h"

#define META_NAME      "meta.json"
#define META_BYTES_MAX (32UL * 1024 * 1024)
#define META_MODE      0644

static int read_file(const struct meta_place *place, const char *name, struct ordered **ret,
                     struct larder_error *e)
{
    struct buf text = BUF_INIT(META_BYTES_MAX);
    int r = file_read(place->directory, name, &text, e);
    if (r < 0) {
        error_context(e, "%s", place->path);
    } else {
        r = ordered_parse(buf_slice(&text), ret, e);
        if (r < 0)
            error_context(e, "%s/%s", place->path, name);
    }
    buf_done(&text);
    return r;
}

/* "meta.KEY.json", where changes wait to be merged. */
static int delayed_name(const struct meta_place *place, char **ret, struct larder_error *e)
{
    if (strchr(place->key, '/'))
        return error_set(e, LARDER_INVAL, "key %s of meta.json: no part of a file name",
                         place->key);
    char *name;
    if (asprintf(&name, "meta.%s.json", place->key) < 0)
        return error_nomem(e);
    *ret = name;
    return 0;
}

/* The document and the name of the file that changes go to. */
static int read_place(const struct meta_place *place, struct ordered **ret, char **ret_name,
                      struct larder_error *e)
{
    CLEANUP(ordered_freep) struct ordered *document = NULL, *delayed = NULL;
    CLEANUP_FREE char *name = NULL;
    int r = read_file(place, META_NAME, &document, e);
    if (r < 0)
        return r;
    if (!meta_is_delayed(document)) {
        name = strdup(META_NAME);
        if (!name)
            return error_nomem(e);
    } else {
        struct larder_error why = LARDER_ERROR_INIT;
        r = delayed_name(place, &name, e);
        if (r < 0)
            return r;
        r = read_file(place, name, &delayed, &why);
        if (r < 0 && r != -LARDER_NOENT) {
            if (e)
                *e = why;
            return r;
        }
    }
    *ret = delayed ? TAKE_PTR(delayed) : TAKE_PTR(document);
    *ret_name = TAKE_PTR(name);
    return 0;
}

int meta_json_read(const struct meta_place *place, struct ordered **ret, struct larder_error *e)
{
    CLEANUP_FREE char *name = NULL;
    return read_place(place, ret, &name, e);
}

/* A name of its own would stay behind after a kill; under the lock one name is enough. */
static int replace(const struct meta_place *place, const char *name, struct slice text,
                   struct larder_error *e)
{
    CLEANUP_FREE char *temp = NULL;
    if (asprintf(&temp, ".%s.larder-new", name) < 0) {
        temp = NULL;
        return error_nomem(e);
    }
    if (unlinkat(place->directory, temp, 0) < 0 && errno != ENOENT)
        return error_errno(e, errno, "%s/%s", place->path, temp);
    CLEANUP_CLOSE int fd =
        openat(place->directory, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_errno(e, errno, "%s/%s", place->path, name);
    if (fd_write_full(fd, text.p, text.n) < 0 || fchmod(fd, META_MODE) < 0 || fsync(fd) < 0 ||
        renameat(place->directory, temp, place->directory, name) < 0) {
        int errnum = errno;
        unlinkat(place->directory, temp, 0);
        return error_errno(e, errnum, "%s/%s", place->path, name);
    }
    return dir_sync(place->directory, place->path, e);
}

/* The document's stamp stands where it stood; a new one before what is recorded, as
 * coreos-assembler sets it when it reads a file without. */
static int set_stamp(struct ordered *document, struct larder_error *e)
{
    if (ordered_set(document, META_STAMP_KEY, ordered_new_integer(clock_realtime_ns())) < 0)
        return error_nomem(e);
    return 0;
}

static int save_locked(const struct meta_place *place, const struct ordered *before,
                       const struct meta_record *record, struct larder_error *e)
{
    CLEANUP(ordered_freep) struct ordered *document = NULL;
    CLEANUP_FREE char *name = NULL;
    struct buf text = BUF_INIT(META_BYTES_MAX);
    int r = read_place(place, &document, &name, e);
    if (r < 0)
        return r;
    r = meta_check_same(document, before, e);
    if (r < 0) {
        error_context(e, "%s", place->path);
        return r;
    }
    if (meta_state_of(document, place->key, record) == META_EQUAL)
        return 0;
    r = set_stamp(document, e);
    if (r == 0)
        r = meta_record(document, place->key, record, e);
    if (r > 0)
        r = ordered_write(document, &text, e);
    if (r == 0)
        r = replace(place, name, buf_slice(&text), e);
    buf_done(&text);
    return r < 0 ? r : 1;
}

static char *lock_name_of(const char *name)
{
    char *lock_name;
    return asprintf(&lock_name, ".%s.lock", name) < 0 ? NULL : lock_name;
}

void meta_json_sweep(const struct meta_place *place)
{
    CLEANUP(ordered_freep) struct ordered *document = NULL;
    CLEANUP_FREE char *name = NULL, *lock_name = NULL;
    if (read_place(place, &document, &name, NULL) < 0)
        return;
    lock_name = lock_name_of(name);
    if (lock_name)
        flufl_lock_sweep(place->directory, lock_name);
}

int meta_json_save(const struct meta_place *place, const struct ordered *before,
                   const struct meta_record *record, struct larder_error *e)
{
    CLEANUP_FREE char *lock_name = NULL, *name = NULL;
    CLEANUP(flufl_lock_releasep) struct flufl_lock *lock = NULL;
    CLEANUP(ordered_freep) struct ordered *document = NULL;
    /* Which file it is decides which lock; that never changes for a build. */
    int r = read_place(place, &document, &name, e);
    if (r < 0)
        return r;
    lock_name = lock_name_of(name);
    if (!lock_name)
        return error_nomem(e);
    if (meta_state_of(document, place->key, record) == META_EQUAL) {
        flufl_lock_sweep(place->directory, lock_name);
        return 0;
    }
    r = flufl_lock_take(place->directory, place->path, lock_name, place->observer, &lock, e);
    if (r < 0)
        return r;
    return save_locked(place, before, record, e);
}
