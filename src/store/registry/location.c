/* SPDX-License-Identifier: Apache-2.0 */
#include "store/registry/location.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

/* Signed URLs reach 2 KiB; servers refuse more than 8. */
#define LOCATION_BYTES_MAX 16384

/* A URL's parts; all point into it. */
struct parts {
    struct slice scheme;
    struct slice authority; /* host[:port] */
    struct slice path;
    struct slice query; /* with "?" */
};

static struct parts split(const char *url)
{
    struct parts p = {0};
    const char *mark = strstr(url, "://");
    const char *authority = mark ? mark + 3 : url;
    p.scheme = (struct slice){url, mark ? (size_t)(mark - url) : 0};
    p.authority = (struct slice){authority, strcspn(authority, "/?#")};
    const char *path = authority + p.authority.n;
    p.path = (struct slice){path, strcspn(path, "?#")};
    const char *query = path + p.path.n;
    p.query = (struct slice){query, strcspn(query, "#")};
    return p;
}

static struct slice host_of(struct slice authority)
{
    const char *at = memrchr(authority.p, '@', authority.n);
    if (at)
        authority = (struct slice){at + 1, authority.n - (size_t)(at + 1 - authority.p)};
    const char *colon = memrchr(authority.p, ':', authority.n);
    const char *bracket = memrchr(authority.p, ']', authority.n);
    if (colon && (!bracket || colon > bracket))
        authority.n = (size_t)(colon - authority.p);
    return authority;
}

/* ---- addresses that are nobody's but the local network's ---- */

static bool is_private_v4(const uint8_t b[4])
{
    return b[0] == 0 || b[0] == 10 || b[0] == 127 || (b[0] == 169 && b[1] == 254) ||
           (b[0] == 172 && (b[1] & 0xf0) == 16) || (b[0] == 192 && b[1] == 168) ||
           (b[0] == 100 && (b[1] & 0xc0) == 64);
}

static bool is_private_v6(const uint8_t b[16])
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t zero[15] = {0};
    if (memcmp(b, mapped, sizeof(mapped)) == 0)
        return is_private_v4(b + 12);
    return (b[0] & 0xfe) == 0xfc || (b[0] == 0xfe && (b[1] & 0xc0) == 0x80) ||
           (memcmp(b, zero, sizeof(zero)) == 0 && b[15] <= 1);
}

static bool is_private(struct slice host)
{
    char text[INET6_ADDRSTRLEN + 2];
    uint8_t bytes[16];
    if (slice_equal_nocase(host, SLICE_LIT("localhost")))
        return true;
    bool is_v6 = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    if (is_v6)
        host = (struct slice){host.p + 1, host.n - 2};
    if (host.n >= sizeof(text))
        return false;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    if (is_v6)
        return inet_pton(AF_INET6, text, bytes) == 1 && is_private_v6(bytes);
    /* inet_aton takes what a resolver takes, too: "127.1", "0x7f000001". */
    struct in_addr v4;
    if (inet_aton(text, &v4) == 0)
        return false;
    memcpy(bytes, &v4, 4);
    return is_private_v4(bytes);
}

/* ---- resolving ---- */

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_clean(struct slice target)
{
    if (target.n == 0 || target.n > LOCATION_BYTES_MAX)
        return false;
    for (size_t i = 0; i < target.n; i++)
        if ((unsigned char)target.p[i] <= ' ' || target.p[i] == 0x7f || target.p[i] == '\\')
            return false;
    return true;
}

/* Length of "scheme:" in front; 0: there is none. */
static size_t scheme_bytes(struct slice target)
{
    size_t n = 0;
    while (n < target.n && (is_alnum(target.p[n]) || strchr("+-.", target.p[n])))
        n++;
    return n > 0 && n < target.n && target.p[n] == ':' ? n : 0;
}

/* Appends path without "." and ".." (RFC 3986 section 5.2.4). */
static void put_path(struct buf *out, struct slice path)
{
    size_t floor = out->n;
    const char *end = path.p + path.n;
    for (const char *p = path.p; p < end;) {
        const char *start = *p == '/' ? p + 1 : p;
        const char *slash = memchr(start, '/', (size_t)(end - start));
        const char *stop = slash ? slash : end;
        struct slice part = {start, (size_t)(stop - start)};
        bool is_up = slice_equal(part, SLICE_LIT(".."));
        if (is_up) {
            while (out->n > floor && out->p[out->n - 1] != '/')
                out->n--;
            out->n -= out->n > floor;
        }
        if (is_up || slice_equal(part, SLICE_LIT("."))) {
            if (!slash)
                buf_putc(out, '/');
        } else {
            buf_putc(out, '/');
            buf_append_slice(out, part);
        }
        p = stop;
    }
}

static void resolve_relative(const struct parts *base, struct slice target, struct buf *out)
{
    size_t path_bytes = 0;
    while (path_bytes < target.n && !strchr("?#", target.p[path_bytes]))
        path_bytes++;
    struct slice path = {target.p, path_bytes};
    struct slice query = {target.p + path_bytes, target.n - path_bytes};
    buf_append_slice(out, base->scheme);
    buf_puts(out, "://");
    buf_append_slice(out, base->authority);
    if (path.n == 0) {
        put_path(out, base->path);
    } else if (path.p[0] == '/') {
        put_path(out, path);
    } else {
        struct buf joined = BUF_INIT(2 * LOCATION_BYTES_MAX);
        const char *slash = memrchr(base->path.p, '/', base->path.n);
        buf_append(&joined, base->path.p, slash ? (size_t)(slash - base->path.p) : 0);
        buf_putc(&joined, '/');
        buf_append_slice(&joined, path);
        if (joined.failed)
            out->failed = joined.failed;
        put_path(out, buf_slice(&joined));
        buf_done(&joined);
    }
    const char *hash = query.n > 0 ? memchr(query.p, '#', query.n) : NULL;
    if (hash)
        query.n = (size_t)(hash - query.p);
    buf_append_slice(out, query);
}

static int resolve_absolute(const struct parts *base, const char *target, struct buf *out,
                            struct larder_error *e)
{
    struct parts to = split(target);
    struct slice host = host_of(to.authority);
    struct slice base_host = host_of(base->authority);
    bool is_https = slice_equal_nocase(to.scheme, SLICE_LIT("https"));
    if (!is_https && !slice_equal_nocase(to.scheme, SLICE_LIT("http")))
        return error_set(e, LARDER_PROTO, "its scheme is neither http nor https");
    if (host.n == 0 || memchr(to.authority.p, '@', to.authority.n))
        return error_set(e, LARDER_PROTO, "it has no host, or a user");
    bool is_same_host = slice_equal_nocase(host, base_host);
    if (!is_same_host && is_private(host) && !is_private(base_host))
        return error_set(e, LARDER_UNSAFE, "it leads into a private network (%.*s)", (int)host.n,
                         host.p);
    if (!is_https && slice_equal_nocase(base->scheme, SLICE_LIT("https"))) {
        if (!is_same_host)
            return error_set(e, LARDER_UNSAFE, "it leads from https to http");
        /* A proxy that ends TLS and does not tell the registry behind it. */
        to.scheme = base->scheme;
        to.authority = base->authority;
    }
    buf_append_slice(out, to.scheme);
    buf_puts(out, "://");
    buf_append_slice(out, to.authority);
    buf_append_slice(out, to.path);
    buf_append_slice(out, to.query);
    return 0;
}

int location_resolve(const char *base, struct slice target, char **ret, struct larder_error *e)
{
    struct parts from = split(base);
    struct slice clean = slice_trim(target);
    if (!is_clean(clean))
        return error_set(e, LARDER_PROTO, "it is empty, too long, or has blanks");
    struct buf out = BUF_INIT(3 * LOCATION_BYTES_MAX);
    int rc = 0;
    if (scheme_bytes(clean) > 0 || slice_starts(clean, SLICE_LIT("//"))) {
        struct buf absolute = BUF_INIT(2 * LOCATION_BYTES_MAX);
        if (clean.p[0] == '/') {
            buf_append_slice(&absolute, from.scheme);
            buf_putc(&absolute, ':');
        }
        buf_append_slice(&absolute, clean);
        rc = buf_failed(&absolute, e);
        if (rc == 0)
            rc = resolve_absolute(&from, absolute.p, &out, e);
        buf_done(&absolute);
    } else {
        resolve_relative(&from, clean, &out);
    }
    if (rc == 0)
        rc = buf_failed(&out, e);
    if (rc == 0)
        *ret = buf_take(&out);
    buf_done(&out);
    return rc;
}

char *location_escape(const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = malloc(3 * strlen(text) + 1);
    if (!out)
        return NULL;
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        if (is_alnum(*p) || strchr("-._~", *p)) {
            out[n++] = *p;
            continue;
        }
        out[n++] = '%';
        out[n++] = hex[(unsigned char)*p >> 4];
        out[n++] = hex[(unsigned char)*p & 15];
    }
    out[n] = '\0';
    return out;
}

int location_add(const char *url, const char *key, const char *value, char **ret,
                 struct larder_error *e)
{
    CLEANUP_FREE char *escaped = location_escape(value);
    char *out = NULL;
    if (!escaped)
        return error_nomem(e);
    const char *query = strchr(url, '?');
    const char *mark = "?";
    if (query)
        mark = query[1] == '\0' ? "" : "&";
    if (asprintf(&out, "%s%s%s=%s", url, mark, key, escaped) < 0)
        return error_nomem(e);
    *ret = out;
    return 0;
}
