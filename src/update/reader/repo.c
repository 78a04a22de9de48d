/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A repository's configuration, refs and commits: ostree's repo format, version 1, which is the
 * same in all modes for these.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "update/reader/gvariant.h"
#include "update/reader/inside.h"

#define CONFIG_BYTES_MAX (64UL * 1024)
/* 64 digits and a line's end; others put blanks after it. */
#define REF_FILE_BYTES_MAX 128
/* A commit has manifest and configuration, of 4 MiB each at most, and its detached metadata two
 * more. */
#define OBJECT_BYTES_MAX (16UL * 1024 * 1024)
/* Repositories whose parent has a parent ... */
#define PARENTS_MAX 4
/* Directories of refs in each other; a name of 4096 bytes can have more, which nobody makes. */
#define REF_LEVELS_MAX 64
#define REFS_MAX       100000
/* "objects/xx/", 62 digits more, ".commitmeta". */
#define OBJECT_PATH_BYTES 96

/* ---- configuration ---- */

enum value_kind { MODE, VERSION, PARENT, FLAG, TRISTATE, NUMBER, PERCENT, SIZE, LOADER };

/* Keys that change nothing of what is read here, or that are read; ostree refuses a repository
 * for some of their values, so these are looked at. Any other key: NOT_MINE. */
static const struct known_key {
    struct slice group, key;
    enum value_kind kind;
} known_keys[] = {
    {SLICE_INIT("core"), SLICE_INIT("repo_version"), VERSION},
    {SLICE_INIT("core"), SLICE_INIT("mode"), MODE},
    {SLICE_INIT("core"), SLICE_INIT("parent"), PARENT},
    {SLICE_INIT("core"), SLICE_INIT("fsync"), FLAG},
    {SLICE_INIT("core"), SLICE_INIT("per-object-fsync"), FLAG},
    {SLICE_INIT("core"), SLICE_INIT("disable-xattrs"), FLAG},
    {SLICE_INIT("core"), SLICE_INIT("enable-uncompressed-cache"), FLAG},
    {SLICE_INIT("core"), SLICE_INIT("locking"), FLAG},
    {SLICE_INIT("core"), SLICE_INIT("add-remotes-config-dir"), FLAG},
    {SLICE_INIT("core"), SLICE_INIT("lock-timeout-secs"), NUMBER},
    {SLICE_INIT("core"), SLICE_INIT("tmp-expiry-secs"), NUMBER},
    {SLICE_INIT("core"), SLICE_INIT("min-free-space-percent"), PERCENT},
    {SLICE_INIT("core"), SLICE_INIT("min-free-space-size"), SIZE},
    {SLICE_INIT("sysroot"), SLICE_INIT("bootloader"), LOADER},
    {SLICE_INIT("sysroot"), SLICE_INIT("readonly"), FLAG},
    {SLICE_INIT("sysroot"), SLICE_INIT("bootprefix"), FLAG},
    {SLICE_INIT("archive"), SLICE_INIT("zlib-level"), NUMBER},
    {SLICE_INIT("ex-integrity"), SLICE_INIT("fsverity"), TRISTATE},
    {SLICE_INIT("ex-integrity"), SLICE_INIT("composefs"), TRISTATE},
};
_Static_assert(ARRAY_LEN(known_keys) <= 64, "a bit each");

struct config {
    uint64_t seen; /* bits of known_keys */
    struct slice parent;
};

static bool is_one_of(struct slice value, const char *words)
{
    struct slice rest = slice_of(words), word;

    while (cut_at(&rest, ' ', &word)) {
        if (slice_equal(value, word))
            return true;
    }
    return false;
}

static bool is_known_value(enum value_kind kind, struct slice value)
{
    unsigned number = 0;

    switch (kind) {
    case MODE:
        return is_one_of(value, "bare bare-user bare-user-only archive archive-z2");
    case VERSION:
        return is_one_of(value, "1");
    case PARENT:
        return value.n > 0 && value.n < PATH_MAX && value.p[0] == '/';
    case FLAG:
        return is_one_of(value, "true false");
    case TRISTATE:
        return is_one_of(value, "yes no maybe true false");
    case NUMBER:
        return read_number(value, &number);
    case PERCENT:
        return read_number(value, &number) && number <= 99;
    case SIZE: /* "500MB": no number of them that overflows */
        return value.n > 2 && value.n <= 8 && value.p[value.n - 1] == 'B' &&
               memchr("MGT", value.p[value.n - 2], 3) &&
               read_number((struct slice){value.p, value.n - 2}, &number);
    case LOADER:
        return is_one_of(value, "auto none grub2 syslinux uboot zipl");
    }
    return false;
}

static int read_key(void *arg, struct slice group, struct slice key, struct slice value)
{
    struct config *config = arg;

    /* Nothing is fetched here, so nothing depends on them. */
    if (slice_starts(group, SLICE_LIT("remote \"")) && slice_ends(group, SLICE_LIT("\"")))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(known_keys); i++) {
        const struct known_key *known = &known_keys[i];
        if (!slice_equal(group, known->group) || !slice_equal(key, known->key))
            continue;
        if ((config->seen & 1ULL << i) || !is_known_value(known->kind, value))
            return NOT_MINE;
        config->seen |= 1ULL << i;
        if (known->kind == PARENT)
            config->parent = value;
        return 0;
    }
    return NOT_MINE;
}

/* *ret_parent NULL: none. */
static int read_config(int fd, char **ret_parent, struct larder_error *e)
{
    struct buf text = BUF_INIT(CONFIG_BYTES_MAX);
    struct config config = {0};
    int r = below_read(fd, "config", &text, e);

    if (r == 0)
        r = keyfile_each(buf_slice(&text), read_key, &config);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(known_keys); i++) {
        if (known_keys[i].kind == VERSION && !(config.seen & 1ULL << i))
            r = NOT_MINE;
    }
    *ret_parent = NULL;
    if (r == 0 && config.parent.n > 0) {
        *ret_parent = slice_dup(config.parent);
        r = *ret_parent ? 0 : NOT_MINE;
    }
    buf_done(&text);
    return r == ABSENT ? NOT_MINE : r;
}

/* That may be listed: to libostree it is no repository else. */
static bool has_objects(int fd)
{
    CLEANUP_CLOSE int objects = -1;
    return below_open(fd, "objects", O_RDONLY | O_DIRECTORY, &objects) == 0;
}

int repo_reader_open(int dirfd, const char *name, unsigned depth, struct reader **ret,
                     struct larder_error *e)
{
    CLEANUP_FREE char *parent = NULL;
    struct reader *r = depth < PARENTS_MAX ? calloc(1, sizeof(*r)) : NULL;
    int code;

    if (!r)
        return NOT_MINE;
    r->fd = -1;
    if (dirfd == AT_FDCWD) {
        r->fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        code = r->fd < 0 ? NOT_MINE : 0;
    } else {
        code = below_open(dirfd, name, O_RDONLY | O_DIRECTORY, &r->fd) == 0 ? 0 : NOT_MINE;
    }
    if (code == 0)
        code = has_objects(r->fd) ? read_config(r->fd, &parent, e) : NOT_MINE;
    if (code == 0 && parent)
        code = repo_reader_open(AT_FDCWD, parent, depth + 1, &r->parent, e);
    if (code != 0) {
        reader_close(r);
        return code;
    }
    *ret = r;
    return 0;
}

/* ---- refs ---- */

/* Each part between slashes. */
static bool is_plain_ref(struct slice ref)
{
    struct slice rest = ref, part;

    while (cut_at(&rest, '/', &part)) {
        if (!is_plain_name(part))
            return false;
    }
    return !is_commit(ref) && memchr(ref.p, '/', ref.n);
}

static int read_ref(int dirfd, const char *path, char ret_commit[COMMIT_DIGITS + 1],
                    struct larder_error *e)
{
    struct buf text = BUF_INIT(REF_FILE_BYTES_MAX);
    int r = below_read(dirfd, path, &text, e);

    if (r == 0) {
        struct slice commit = buf_slice(&text);
        while (commit.n > 0 && (commit.p[commit.n - 1] == '\n' || commit.p[commit.n - 1] == ' '))
            commit.n--;
        if (is_commit(commit)) {
            memcpy(ret_commit, commit.p, COMMIT_DIGITS);
            ret_commit[COMMIT_DIGITS] = '\0';
        } else {
            r = NOT_MINE;
        }
    }
    buf_done(&text);
    return r;
}

int reader_resolve(struct reader *r, const char *ref, char ret_commit[65], struct larder_error *e)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "refs/heads/%s", ref);

    if (n < 0 || (size_t)n >= sizeof(path) || !is_plain_ref(slice_of(ref)))
        return NOT_MINE;
    int code = read_ref(r->fd, path, ret_commit, e);
    for (const struct reader *at = r->parent; at && code == ABSENT; at = at->parent)
        code = read_ref(at->fd, path, ret_commit, e);
    if (code == -LARDER_CORRUPT)
        return error_context(e, "ostree repository %s", r->path);
    if (code == ABSENT)
        return error_set(e, LARDER_NOENT, "ostree repository %s: has no ref %s", r->path, ref);
    return code;
}

struct found_ref {
    char *name;
    char commit[COMMIT_DIGITS + 1];
};

struct ref_walk {
    struct found_ref *list;
    size_t n, cap;
    struct buf name; /* of the directory, with a slash at its end */
    unsigned level;
    struct larder_error *e;
};

static int add_ref(struct ref_walk *w, int dirfd, const char *name)
{
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 64;
        struct found_ref *bigger =
            w->n < REFS_MAX ? reallocarray(w->list, cap, sizeof(*bigger)) : NULL;
        if (!bigger)
            return NOT_MINE;
        w->list = bigger;
        w->cap = cap;
    }
    struct found_ref *ref = &w->list[w->n];
    ref->name = NULL;
    int r = read_ref(dirfd, name, ref->commit, w->e);
    /* Gone meanwhile: libostree has words for that. */
    if (r != 0)
        return r == ABSENT ? NOT_MINE : r;
    size_t before = w->name.n;
    buf_puts(&w->name, name);
    ref->name = w->name.failed == LARDER_OK ? slice_dup(buf_slice(&w->name)) : NULL;
    if (!ref->name)
        return NOT_MINE;
    w->name.p[w->name.n = before] = '\0';
    w->n++;
    return 0;
}

struct level {
    struct ref_walk *walk;
    int fd;
};

static int walk_refs(struct ref_walk *w, int dirfd);

static int enter(struct ref_walk *w, int dirfd, const char *name)
{
    CLEANUP_CLOSE int fd = -1;
    size_t before = w->name.n;

    if (w->level >= REF_LEVELS_MAX || below_open(dirfd, name, O_RDONLY | O_DIRECTORY, &fd) != 0)
        return NOT_MINE;
    buf_printf(&w->name, "%s/", name);
    if (w->name.failed != LARDER_OK)
        return NOT_MINE;
    w->level++;
    int r = walk_refs(w, fd);
    w->level--;
    w->name.p[w->name.n = before] = '\0';
    return r;
}

static int look_at(void *arg, const char *name, unsigned char d_type)
{
    const struct level *level = arg;
    struct slice text = slice_of(name);

    /* What a ref can't be called like is somebody's own file; ostree passes it over, too. */
    if (name[0] == '.' || name[0] == '-')
        return 0;
    if (!is_plain_name(text))
        return NOT_MINE;
    if (d_type == DT_DIR)
        return enter(level->walk, level->fd, name);
    if (d_type == DT_REG)
        return add_ref(level->walk, level->fd, name);
    /* FIFOs and the like are no refs. */
    return d_type == DT_LNK || d_type == DT_UNKNOWN ? NOT_MINE : 0;
}

static int walk_refs(struct ref_walk *w, int dirfd)
{
    struct level level = {w, dirfd};
    int r = dir_each(dirfd, look_at, &level, NULL);
    return r == 0 || r == -LARDER_CORRUPT ? r : NOT_MINE;
}

static int compare_refs(const void *a, const void *b)
{
    return strcmp(((const struct found_ref *)a)->name, ((const struct found_ref *)b)->name);
}

int reader_each_ref(struct reader *r, const char *prefix,
                    int (*fn)(void *arg, const char *ref, const char *commit), void *arg,
                    struct larder_error *e)
{
    struct ref_walk w = {.name = BUF_INIT(PATH_MAX), .e = e};
    CLEANUP_CLOSE int fd = -1;
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "refs/heads/%s", prefix);

    if (n < 0 || (size_t)n >= sizeof(path) || !is_plain_ref(slice_of(prefix)))
        return NOT_MINE;
    /* Those of a parent repository are not listed. */
    int code = below_open(r->fd, path, O_RDONLY | O_DIRECTORY, &fd);
    if (code == ABSENT)
        return 0;
    buf_printf(&w.name, "%s/", prefix);
    if (code == 0)
        code = w.name.failed == LARDER_OK ? walk_refs(&w, fd) : NOT_MINE;
    if (code == 0 && w.n > 0)
        qsort(w.list, w.n, sizeof(*w.list), compare_refs);
    if (code == -LARDER_CORRUPT)
        error_context(e, "ostree repository %s", r->path);
    for (size_t i = 0; i < w.n && code == 0; i++)
        code = fn(arg, w.list[i].name, w.list[i].commit);
    for (size_t i = 0; i < w.n; i++)
        free(w.list[i].name);
    free(w.list);
    buf_done(&w.name);
    return code;
}

/* ---- commits ---- */

static void object_path(const char *commit, const char *suffix, char path[OBJECT_PATH_BYTES])
{
    snprintf(path, OBJECT_PATH_BYTES, "objects/%.2s/%.62s%s", commit, commit + 2, suffix);
}

/* From the nearest repository that has it. */
static int read_object(const struct reader *r, const char *commit, const char *suffix,
                       struct buf *out, struct larder_error *e)
{
    char path[OBJECT_PATH_BYTES];
    int code = ABSENT;

    object_path(commit, suffix, path);
    for (const struct reader *at = r; at && code == ABSENT; at = at->parent)
        code = below_read(at->fd, path, out, e);
    return code == -LARDER_CORRUPT ? error_context(e, "ostree repository %s", r->path) : code;
}

static bool has_commit(const struct reader *r, const char *commit)
{
    char path[OBJECT_PATH_BYTES];
    struct stat st;

    object_path(commit, ".commit", path);
    for (; r; r = r->parent) {
        if (fstatat(r->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
            return S_ISREG(st.st_mode);
        if (errno != ENOENT)
            return false;
    }
    return false;
}

/* A commit's name is the SHA-256 of its file, in every mode of repositories. */
static int check_commit(const struct reader *r, const char *commit, const struct buf *bytes,
                        struct larder_error *e)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest digest;

    if (hash_of(LARDER_DIGEST_SHA256, bytes->p, bytes->n, &digest, NULL) < 0)
        return NOT_MINE;
    if (strcmp(larder_digest_hex(&digest, hex), commit) == 0)
        return 0;
    return error_set(e, LARDER_CORRUPT, OSTREE_NOT_THAT_COMMIT, r->path, commit);
}

int reader_metadata(struct reader *r, const char *commit, bool is_detached,
                    struct ostree_value *values, size_t n,
                    int (*fn)(void *arg, const struct ostree_value *values), void *arg,
                    struct larder_error *e)
{
    struct buf bytes = BUF_INIT(OBJECT_BYTES_MAX);

    if (!is_commit(slice_of(commit)) || (is_detached && !has_commit(r, commit)))
        return NOT_MINE;
    int code = read_object(r, commit, is_detached ? ".commitmeta" : ".commit", &bytes, e);
    if (code == ABSENT && is_detached)
        code = 0; /* no keys, as in an empty file */
    else if (code == ABSENT)
        code = NOT_MINE;
    else if (code == 0 && !is_detached)
        code = check_commit(r, commit, &bytes, e);
    struct slice dict = buf_slice(&bytes);
    if (code == 0 && !gvariant_is_normal(is_detached ? GVARIANT_DICT : GVARIANT_COMMIT, dict))
        code = NOT_MINE;
    if (code == 0) {
        gvariant_values(is_detached ? dict : gvariant_commit_dict(dict), values, n);
        code = fn(arg, values);
    }
    buf_done(&bytes);
    return code;
}

int64_t reader_detached_time(const struct reader *r, const char *commit)
{
    char path[OBJECT_PATH_BYTES];
    struct stat st;

    if (!is_commit(slice_of(commit)))
        return 0;
    object_path(commit, ".commitmeta", path);
    if (fstatat(r->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    int64_t ns = 0;
    if (__builtin_mul_overflow((int64_t)st.st_mtim.tv_sec, (int64_t)1000000000, &ns) ||
        __builtin_add_overflow(ns, (int64_t)st.st_mtim.tv_nsec, &ns) || ns < 0)
        return 0;
    return ns;
}

/* ---- opening ---- */

const char *reader_path(const struct reader *r)
{
    return r->path;
}

static int open_sysroot(const char *path, struct reader **ret, struct larder_error *e)
{
    CLEANUP_CLOSE int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_CLOSE int ostree = -1;

    if (root < 0 || sysroot_open_ostree(root, &ostree) != 0)
        return NOT_MINE;
    int r = repo_reader_open(ostree, "repo", 0, ret, e);
    if (r != 0)
        return r;
    r = sysroot_load(*ret, root, ostree, path, e);
    if (r != 0)
        reader_close(*ret);
    return r;
}

int reader_open(const char *path, bool is_sysroot, struct reader **ret, struct larder_error *e)
{
    struct reader *r = NULL;
    struct buf whole = BUF_INIT(PATH_MAX);
    int code = is_sysroot ? open_sysroot(path, &r, e) : repo_reader_open(AT_FDCWD, path, 0, &r, e);

    if (code == -LARDER_CORRUPT)
        return error_context(e, "ostree %s %s", is_sysroot ? "sysroot" : "repository", path);
    if (code != 0)
        return code;
    buf_printf(&whole, "%s%s", path, is_sysroot ? "/ostree/repo" : "");
    r->path = whole.failed == LARDER_OK ? realpath(whole.p, NULL) : NULL;
    buf_done(&whole);
    if (!r->path) {
        reader_close(r);
        return NOT_MINE;
    }
    *ret = r;
    return 0;
}

void reader_close(struct reader *r)
{
    if (!r)
        return;
    fd_closep(&r->fd);
    reader_close(r->parent);
    for (size_t i = 0; i < r->n_deployments; i++) {
        free(r->deployments[i].os_name);
        free(r->deployments[i].image);
        free(r->deployments[i].version);
    }
    free(r->deployments);
    free(r->path);
    free(r);
}
