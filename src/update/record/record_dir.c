/* SPDX-License-Identifier: Apache-2.0 */
#include "update/record/record_dir.h"

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
#include "store/dir/dir.h"
#include "update/record/record_file.h"

#define DIR_MODE  0755
#define FILE_MODE 0644
/* A reference, two paths and what is between them. */
#define KEY_BYTES_MAX (256UL * 1024)
/* References are read into memory to be sorted. */
#define RECORD_COUNT_MAX 1000000

struct record_dir {
    char *path;
    struct larder_store *store; /* NULL: a state directory */
    int fd;                     /* -1: not there yet; borrowed from the store */
    bool may_create;
};

const char *record_dir_path(const struct record_dir *dir)
{
    return dir->path;
}

void record_dir_close(struct record_dir *dir)
{
    if (!dir)
        return;
    if (!dir->store)
        fd_closep(&dir->fd);
    free(dir->path);
    free(dir);
}

/* ---- opening ---- */

static int dir_new(const char *path, struct record_dir **ret, struct larder_error *e)
{
    struct record_dir *dir = calloc(1, sizeof(*dir));
    if (!dir)
        return error_nomem(e);
    dir->fd = -1;
    dir->path = strdup(path);
    if (!dir->path) {
        free(dir);
        return error_nomem(e);
    }
    *ret = dir;
    return 0;
}

/* Whoever may write to the directory can swap what is in it. */
static int check_state_dir(const char *path, int fd, struct larder_error *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_errno(e, errno, "%s", path);
    if (st.st_mode & S_IWOTH) {
        error_set(e, LARDER_UNSAFE, "%s: everybody may write to the directory", path);
        return error_hint(e, "check what is in it, then chmod o-w");
    }
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return error_set(e, LARDER_UNSAFE, "%s: owned by uid %u, expected uid %u or root", path,
                         (unsigned)st.st_uid, (unsigned)geteuid());
    return 0;
}

static int open_state_dir(struct record_dir *dir, struct larder_error *e)
{
    CLEANUP_CLOSE int fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(e, errno, "%s", dir->path);
    int r = check_state_dir(dir->path, fd, e);
    if (r == 0)
        dir->fd = TAKE_FD(fd);
    return r;
}

/* NOENT when it is not there. */
static int open_for_reading(struct record_dir *dir, struct larder_error *e)
{
    struct stat st;
    int root = -1;
    if (dir->fd >= 0)
        return 0;
    if (!dir->store)
        return open_state_dir(dir, e);
    /* store_place() would make it. */
    int r = store_place(dir->store, STORE_ROOT, &root, e);
    if (r < 0)
        return r;
    if (fstatat(root, store_place_name(STORE_UPDATES), &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(e, errno, "%s", dir->path);
    return store_place(dir->store, STORE_UPDATES, &dir->fd, e);
}

static int make_state_dir(struct record_dir *dir, struct larder_error *e)
{
    int r = path_make(dir->path, DIR_MODE, e);
    if (r == 0)
        r = open_state_dir(dir, e);
    if (r < 0)
        return r;
    /* Best effort: the parent may be readable for nobody. */
    CLEANUP_CLOSE int parent = openat(dir->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent >= 0)
        (void)fsync(parent);
    return 0;
}

static int open_for_writing(struct record_dir *dir, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int r;
    if (dir->store) {
        r = store_require_writable(dir->store, e);
        return r < 0 || dir->fd >= 0 ? r : store_place(dir->store, STORE_UPDATES, &dir->fd, e);
    }
    r = open_for_reading(dir, &why);
    if (r == -LARDER_NOENT && dir->may_create)
        return make_state_dir(dir, e);
    if (r < 0 && e)
        *e = why;
    return r;
}

/* A state directory that is not to be used fails whoever needs it, not a check that doesn't. */
static int dir_open(struct record_dir *dir, struct record_dir **ret, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int r = open_for_reading(dir, &why);
    if (r < 0 && dir->store && r != -LARDER_NOENT) {
        record_dir_close(dir);
        if (e)
            *e = why;
        return r;
    }
    *ret = dir;
    return 0;
}

int record_dir_open(const char *path, bool may_create, struct record_dir **ret,
                    struct larder_error *e)
{
    struct record_dir *dir = NULL;
    if (!*path)
        return error_set(e, LARDER_INVAL, "state directory: empty path");
    int r = dir_new(path, &dir, e);
    if (r < 0 || !dir)
        return r;
    dir->may_create = may_create;
    return dir_open(dir, ret, e);
}

int record_dir_open_store(struct larder_store *store, struct record_dir **ret,
                          struct larder_error *e)
{
    struct record_dir *dir = NULL;
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/%s", larder_store_path(store), store_place_name(STORE_UPDATES)) < 0) {
        path = NULL;
        return error_nomem(e);
    }
    int r = dir_new(path, &dir, e);
    if (r < 0 || !dir)
        return r;
    dir->store = store;
    return dir_open(dir, ret, e);
}

/* ---- keys ---- */

/* With lengths, so that no two lists of texts have one key; what is left out leaves a prefix. */
static void add_part(struct buf *key, const char *kind, const char *text)
{
    if (text)
        buf_printf(key, "%s%zu:%s,", kind, strlen(text), text);
}

int record_key(const char *ref, const char *platform, const char *place, const char *commit,
               char **ret, struct larder_error *e)
{
    struct buf key = BUF_INIT(KEY_BYTES_MAX);
    add_part(&key, "", ref);
    add_part(&key, "", platform);
    add_part(&key, "at ", place);
    add_part(&key, "commit ", commit);
    int r = buf_failed(&key, e);
    char *text = r == 0 ? buf_take(&key) : NULL;
    buf_done(&key);
    if (r < 0)
        return r;
    if (!text)
        return error_nomem(e);
    *ret = text;
    return 0;
}

/* A file that was renamed by somebody is another's record. */
static int check_key(const struct update_record *record, const char *key, struct larder_error *e)
{
    CLEANUP_FREE char *begin = NULL;
    int r = record_key(record->ref, record->platform, NULL, NULL, &begin, e);
    if (r == 0 && strncmp(key, begin, strlen(begin)) != 0)
        r = error_set(e, LARDER_CORRUPT, "it is that of %s for %s, expected another", record->ref,
                      record->platform);
    return r;
}

/* ---- one record ---- */

static int named(const struct record_dir *dir, const char *file, int code, struct larder_error *e)
{
    if (code < 0)
        error_context(e, "record %s/%.16s...", dir->path, file);
    return code;
}

static int get(struct record_dir *dir, const char *key, const char *file, struct update_record *ret,
               struct larder_error *e)
{
    struct update_record record;
    int r = record_file_read(dir->fd, file, &record, e);
    if (r < 0)
        return r;
    r = check_key(&record, key, e);
    if (r < 0) {
        record_done(&record);
        return r;
    }
    *ret = record;
    return 0;
}

int record_dir_get(struct record_dir *dir, const char *key, struct update_record *ret,
                   struct larder_error *e)
{
    char file[RECORD_FILE_BYTES];
    int r = open_for_reading(dir, e);
    if (r == 0)
        r = record_file_name(key, file, e);
    return r < 0 ? r : named(dir, file, get(dir, key, file, ret, e), e);
}

static mode_t mode_of_files(const struct record_dir *dir)
{
    return dir->store ? store_file_mode(dir->store) : FILE_MODE;
}

/* The content, on disk, under the temporary's name. The lock is held: whoever left one is gone. */
static int write_temp(const struct record_dir *dir, struct slice text, int64_t checked_ns)
{
    struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = checked_ns / NS_PER_S, .tv_nsec = checked_ns % NS_PER_S},
    };
    if (unlinkat(dir->fd, RECORD_TEMP, 0) < 0 && errno != ENOENT)
        return -1;
    CLEANUP_CLOSE int fd =
        openat(dir->fd, RECORD_TEMP, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_full(fd, text.p, text.n) < 0 || fchmod(fd, mode_of_files(dir)) < 0 ||
        futimens(fd, times) < 0 || fsync(fd) < 0)
        return -1;
    return 0;
}

/* Under the lock. */
static int replace(const struct record_dir *dir, const char *file, struct slice text,
                   int64_t checked_ns, struct larder_error *e)
{
    if (write_temp(dir, text, checked_ns) < 0 ||
        renameat(dir->fd, RECORD_TEMP, dir->fd, file) < 0) {
        int r = error_errno(e, errno, "write");
        (void)unlinkat(dir->fd, RECORD_TEMP, 0);
        return r;
    }
    return dir_sync(dir->fd, dir->path, e);
}

static int put(struct record_dir *dir, const char *file, struct slice text, int64_t checked_ns,
               struct larder_error *e)
{
    CLEANUP_CLOSE int lock = -1;
    int r = record_file_lock(dir->fd, true, &lock, e);
    return r < 0 ? r : replace(dir, file, text, checked_ns, e);
}

int record_dir_put(struct record_dir *dir, const char *key, const struct update_record *record,
                   struct larder_error *e)
{
    struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    char file[RECORD_FILE_BYTES];

    int r = record_check(record, e);
    if (r == 0)
        r = check_key(record, key, e);
    if (r == 0)
        r = record_format(record, &text, e);
    if (r == 0)
        r = open_for_writing(dir, e);
    if (r == 0)
        r = record_file_name(key, file, e);
    if (r == 0)
        r = named(dir, file, put(dir, file, buf_slice(&text), record->checked_ns, e), e);
    buf_done(&text);
    return r;
}

/* A member of the group may replace a file of another, but not set its times. */
static int rewrite(struct record_dir *dir, const char *key, const char *file, int64_t checked_ns,
                   struct larder_error *e)
{
    struct buf text = BUF_INIT(RECORD_BYTES_MAX);
    struct update_record record;
    int r = get(dir, key, file, &record, e);
    if (r < 0)
        return r;
    record.checked_ns = checked_ns;
    r = record_format(&record, &text, e);
    if (r == 0)
        r = replace(dir, file, buf_slice(&text), checked_ns, e);
    buf_done(&text);
    record_done(&record);
    return r;
}

static int touch(struct record_dir *dir, const char *key, const char *file, int64_t checked_ns,
                 struct larder_error *e)
{
    struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = checked_ns / NS_PER_S, .tv_nsec = checked_ns % NS_PER_S},
    };
    CLEANUP_CLOSE int lock = -1;
    if (checked_ns < 0)
        return error_set(e, LARDER_INVAL, "checked before 1970");
    int r = record_file_lock(dir->fd, true, &lock, e);
    if (r < 0 || utimensat(dir->fd, file, times, AT_SYMLINK_NOFOLLOW) == 0)
        return r;
    if (errno == EPERM || errno == EACCES)
        return rewrite(dir, key, file, checked_ns, e);
    return error_errno(e, errno, "set its time");
}

int record_dir_touch(struct record_dir *dir, const char *key, int64_t checked_ns,
                     struct larder_error *e)
{
    char file[RECORD_FILE_BYTES];
    int r = dir->store ? store_require_writable(dir->store, e) : 0;
    if (r == 0)
        r = open_for_reading(dir, e);
    if (r == 0)
        r = record_file_name(key, file, e);
    return r < 0 ? r : named(dir, file, touch(dir, key, file, checked_ns, e), e);
}

static int remove_one(struct record_dir *dir, const char *file, struct larder_error *e)
{
    CLEANUP_CLOSE int lock = -1;
    struct stat st;
    if (fstatat(dir->fd, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : error_errno(e, errno, "look");
    int r = dir->store ? store_require_writable(dir->store, e) : 0;
    if (r == 0)
        r = record_file_lock(dir->fd, true, &lock, e);
    if (r < 0)
        return r;
    if (unlinkat(dir->fd, file, 0) < 0)
        return errno == ENOENT ? 0 : error_errno(e, errno, "remove");
    r = dir_sync(dir->fd, dir->path, e);
    return r < 0 ? r : 1;
}

int record_dir_remove(struct record_dir *dir, const char *key, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    char file[RECORD_FILE_BYTES];
    int r = open_for_reading(dir, &why);
    if (r == -LARDER_NOENT)
        return 0;
    if (r < 0) {
        if (e)
            *e = why;
        return r;
    }
    r = record_file_name(key, file, e);
    return r < 0 ? r : named(dir, file, remove_one(dir, file, e), e);
}

/* ---- all of them ---- */

struct listed {
    char file[RECORD_FILE_BYTES];
    bool is_damaged;
    char *ref; /* NULL when damaged */
    char *platform;
};

struct list {
    int dirfd;
    struct listed *p;
    size_t n, cap;
    struct larder_error *e;
};

static int list_grow(struct list *list)
{
    size_t cap = list->cap ? 2 * list->cap : 64;
    if (list->n >= RECORD_COUNT_MAX)
        return error_set(list->e, LARDER_LIMIT, "more than %d records", RECORD_COUNT_MAX);
    struct listed *p = reallocarray(list->p, cap, sizeof(*p));
    if (!p)
        return error_nomem(list->e);
    list->p = p;
    list->cap = cap;
    return 0;
}

/* Only what is sorted by is kept: the manifests of a thousand records would be many. */
static int list_add(void *arg, const char *name, unsigned char d_type)
{
    struct list *list = arg;
    struct update_record record = {0};
    (void)d_type;
    if (!record_file_is_name(name))
        return 0;
    int r = list->n == list->cap ? list_grow(list) : 0;
    if (r < 0)
        return r;
    r = record_file_read(list->dirfd, name, &record, NULL);
    if (r == -LARDER_NOENT)
        return 0;
    if (r == -LARDER_NOMEM)
        return error_nomem(list->e);
    struct listed *one = &list->p[list->n++];
    memset(one, 0, sizeof(*one));
    memcpy(one->file, name, RECORD_FILE_BYTES);
    one->is_damaged = r < 0;
    one->ref = TAKE_PTR(record.ref);
    one->platform = TAKE_PTR(record.platform);
    record_done(&record);
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;
    if (x->is_damaged != y->is_damaged)
        return x->is_damaged ? 1 : -1;
    int order = x->is_damaged ? 0 : strcmp(x->ref, y->ref);
    if (order == 0 && !x->is_damaged)
        order = strcmp(x->platform, y->platform);
    return order ? order : strcmp(x->file, y->file);
}

static int give(struct record_dir *dir, const char *file,
                int (*fn)(void *arg, const char *file, const struct update_record *record,
                          const struct larder_error *error),
                void *arg, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct update_record record = {0};
    int r = named(dir, file, record_file_read(dir->fd, file, &record, &why), &why);
    if (r == -LARDER_NOENT)
        return 0;
    if (r == -LARDER_NOMEM)
        return error_nomem(e);
    r = r < 0 ? fn(arg, file, NULL, &why) : fn(arg, file, &record, NULL);
    record_done(&record);
    return r;
}

int record_dir_each(struct record_dir *dir,
                    int (*fn)(void *arg, const char *file, const struct update_record *record,
                              const struct larder_error *error),
                    void *arg, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct list list = {.e = e};
    int r = open_for_reading(dir, &why);
    if (r == -LARDER_NOENT)
        return 0;
    if (r < 0) {
        if (e)
            *e = why;
        return r;
    }
    list.dirfd = dir->fd;
    r = dir_each(dir->fd, list_add, &list, e);
    if (list.n)
        qsort(list.p, list.n, sizeof(*list.p), compare);
    for (size_t i = 0; r == 0 && i < list.n; i++)
        r = give(dir, list.p[i].file, fn, arg, e);
    for (size_t i = 0; i < list.n; i++) {
        free(list.p[i].ref);
        free(list.p[i].platform);
    }
    free(list.p);
    return r;
}
