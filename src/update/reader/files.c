/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "update/reader/inside.h"

/* A program that swaps names all the time gets no more tries than this out of the kernel. */
#define OPEN_TRIES 4

int below_open(int dirfd, const char *path, int flags, int *ret_fd)
{
    struct open_how how = {
        .flags = (unsigned)flags | O_CLOEXEC,
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
    };
    long fd = -1;

    /* EAGAIN: something above was renamed during the walk. */
    for (int i = 0; i < OPEN_TRIES && fd < 0; i++) {
        fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
        if (fd < 0 && errno != EAGAIN && errno != EINTR)
            break;
    }
    if (fd < 0)
        return errno == ENOENT ? ABSENT : NOT_MINE;
    *ret_fd = (int)fd;
    return 0;
}

int below_read(int dirfd, const char *path, struct buf *out, struct larder_error *e)
{
    CLEANUP_CLOSE int fd = -1;
    struct stat st;

    buf_reset(out);
    /* Not to wait for who writes to a FIFO, nor to get a terminal. */
    int r = below_open(dirfd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, &fd);
    if (r != 0)
        return r;
    if (fstat(fd, &st) < 0)
        return NOT_MINE;
    /* libostree would wait for it, or read it without an end. */
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
        return error_set(e, LARDER_CORRUPT, "%s: is no regular file", path);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > out->max_bytes)
        return NOT_MINE;
    size_t n = (size_t)st.st_size;
    char *at = buf_reserve(out, n + 1);
    if (!at)
        return NOT_MINE;
    /* One byte more: whoever writes in place makes a file that is neither. And all in one call, or
     * it is somebody else's: a layer has a ref, and a system a hundred of them. */
    ssize_t got = read(fd, at, n + 1);
    if (got != (ssize_t)n)
        return NOT_MINE;
    at[n] = '\0';
    out->n = n;
    return 0;
}

int below_link(int dirfd, const char *name, char **ret)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(dirfd, name, target, sizeof(target));

    if (n < 0)
        return errno == ENOENT ? ABSENT : NOT_MINE;
    if (n == 0 || (size_t)n == sizeof(target))
        return NOT_MINE;
    *ret = slice_dup((struct slice){target, (size_t)n});
    return *ret ? 0 : NOT_MINE;
}

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_commit(struct slice text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (!(text.p[i] >= '0' && text.p[i] <= '9') && !(text.p[i] >= 'a' && text.p[i] <= 'f'))
            return false;
    }
    return text.n == COMMIT_DIGITS;
}

bool is_plain_name(struct slice name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!is_alnum(c) && c != '_' && (i == 0 || (c != '.' && c != '-')))
            return false;
    }
    return name.n > 0 && name.n <= NAME_MAX;
}

bool read_number(struct slice text, unsigned *ret)
{
    uint64_t number;

    if (text.n == 0 || text.n > 9 || (text.n > 1 && text.p[0] == '0') ||
        !slice_parse_u64(text, &number))
        return false;
    *ret = (unsigned)number;
    return true;
}

bool cut_at(struct slice *rest, char byte, struct slice *ret)
{
    if (!rest->p)
        return false;
    const char *at = rest->n ? memchr(rest->p, byte, rest->n) : NULL;
    if (!at) {
        *ret = *rest;
        *rest = (struct slice){NULL, 0};
        return true;
    }
    *ret = (struct slice){rest->p, (size_t)(at - rest->p)};
    *rest = (struct slice){at + 1, rest->n - ret->n - 1};
    return true;
}

static bool is_key(struct slice key)
{
    for (size_t i = 0; i < key.n; i++) {
        if (!is_alnum(key.p[i]) && !memchr("-_.", key.p[i], 3))
            return false;
    }
    return key.n > 0;
}

static bool is_group(struct slice line)
{
    return line.n > 2 && line.p[line.n - 1] == ']' && !memchr(line.p + 1, '[', line.n - 1) &&
           memchr(line.p, ']', line.n) == line.p + line.n - 1;
}

static bool has_blank(struct slice text, bool is_at_end)
{
    return text.n > 0 && text.p[is_at_end ? text.n - 1 : 0] == ' ';
}

/* "key=value", "key = value" */
static bool cut_pair(struct slice line, struct slice *key, struct slice *value)
{
    const char *equals = memchr(line.p, '=', line.n);

    if (!equals)
        return false;
    *key = (struct slice){line.p, (size_t)(equals - line.p)};
    *value = (struct slice){equals + 1, line.n - key->n - 1};
    while (has_blank(*key, true))
        key->n--;
    while (has_blank(*value, false)) {
        value->p++;
        value->n--;
    }
    return is_key(*key) && !has_blank(*value, true);
}

int keyfile_each(struct slice text,
                 int (*fn)(void *arg, struct slice group, struct slice key, struct slice value),
                 void *arg)
{
    struct slice rest = text, line, group = {NULL, 0}, key, value;
    int r = 0;

    for (size_t i = 0; i < text.n; i++) {
        if ((text.p[i] < ' ' && text.p[i] != '\n') || text.p[i] > '~' || text.p[i] == '\\')
            return NOT_MINE;
    }
    while (r == 0 && cut_at(&rest, '\n', &line)) {
        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (line.p[0] == '[') {
            group = (struct slice){line.p + 1, line.n - 2};
            r = is_group(line) ? 0 : NOT_MINE;
        } else {
            r = group.p && cut_pair(line, &key, &value) ? fn(arg, group, key, value) : NOT_MINE;
        }
    }
    return r;
}
