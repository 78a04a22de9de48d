/* SPDX-License-Identifier: Apache-2.0 */
#include "net/transfer/header_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "base/slice.h"

/* Servers refuse more than this in all headers together long before. */
#define HEADER_FILE_MAX_BYTES (64 * 1024)

void header_list_done(struct header_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->lines[i]);
    free(list->lines);
    *list = (struct header_list){NULL, 0};
}

/* RFC 9110 section 5.6.2 */
bool header_is_name(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool is_alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!is_alnum && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return s.n > 0;
}

static bool has_control(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (((unsigned char)s.p[i] < ' ' && s.p[i] != '\t') || s.p[i] == 0x7f)
            return true;
    return false;
}

/* Framing, ranges and encodings are what the digest check rests on: not for the user to change. */
static bool is_ours(struct slice name)
{
    static const char *const names[] = {
        "Host",          "Content-Length", "Transfer-Encoding", "Connection",
        "Range",         "If-Range",       "Accept-Encoding",   "TE",
        "If-None-Match", "If-Match",       "If-Modified-Since", "Expect",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_equal_nocase(name, slice_of(names[i])))
            return true;
    return false;
}

/* Messages never quote the line: it holds a secret. */
static int parse_line(const char *path, size_t number, struct slice line, char **ret,
                      struct larder_error *e)
{
    const char *colon = memchr(line.p, ':', line.n);
    struct slice name = {line.p, colon ? (size_t)(colon - line.p) : 0};
    if (!header_is_name(name))
        return error_set(e, LARDER_INVAL, "header file %s: line %zu: expected \"Name: value\"",
                         path, number);
    struct slice value =
        slice_trim((struct slice){colon + 1, line.n - (size_t)(colon + 1 - line.p)});
    if (has_control(value))
        return error_set(e, LARDER_INVAL, "header file %s: line %zu: has a control character", path,
                         number);
    if (is_ours(name))
        return error_set(e, LARDER_INVAL, "header file %s: line %zu: %.*s can't be set", path,
                         number, (int)name.n, name.p);
    char *out = NULL;
    if (asprintf(&out, "%.*s: %.*s", (int)name.n, name.p, (int)value.n, value.p) < 0)
        return error_nomem(e);
    *ret = out;
    return 0;
}

static int parse_text(const char *path, struct slice text, struct header_list *list,
                      struct larder_error *e)
{
    struct slice line;
    for (size_t number = 1; slice_next_line(&text, &line); number++) {
        if (slice_trim(line).n == 0 || line.p[0] == '#')
            continue;
        char **more = realloc(list->lines, (list->n + 1) * sizeof(*more));
        if (!more)
            return error_nomem(e);
        list->lines = more;
        int rc = parse_line(path, number, line, &list->lines[list->n], e);
        if (rc < 0)
            return rc;
        list->n++;
    }
    return 0;
}

int header_file_read(const char *path, const struct larder_observer *observer,
                     struct header_list *ret, struct larder_error *e)
{
    struct header_list list = {NULL, 0};
    struct buf text = BUF_INIT(HEADER_FILE_MAX_BYTES);
    struct stat st;
    int rc = file_read(AT_FDCWD, path, &text, e);
    if (rc < 0) {
        error_context(e, "header file");
        goto out;
    }
    if (observer && observer->warning && stat(path, &st) == 0 && (st.st_mode & S_IROTH)) {
        char msg[256];
        snprintf(msg, sizeof(msg), "header file %.150s: can be read by everybody, chmod it to 0600",
                 path);
        observer->warning(observer->arg, msg);
    }
    rc = parse_text(path, buf_slice(&text), &list, e);
    if (rc < 0)
        goto out;
    *ret = list;
    list = (struct header_list){NULL, 0};
out:
    /* The text is secret: don't leave it in freed memory. */
    if (text.p)
        explicit_bzero(text.p, text.cap);
    buf_done(&text);
    header_list_done(&list);
    return rc;
}
