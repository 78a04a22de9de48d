/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/slice.h"
#include "base/text.h"
#include "net/http/http.h"
#include "net/http/url.h"

/* Longer ones are refused by most servers (8 KiB) and by no honest user. */
#define URL_MAX_BYTES 16384

bool url_is_http(const char *url)
{
    return strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0;
}

/* Where the path starts: after scheme and authority, at "/", "?", "#" or the end. */
static const char *path_of(const char *url)
{
    const char *authority = strstr(url, "://");
    authority = authority ? authority + 3 : url;
    return authority + strcspn(authority, "/?#");
}

/* End of the path: the query, the fragment or the end. */
static const char *path_end(const char *url)
{
    const char *path = path_of(url);
    return path + strcspn(path, "?#");
}

/* A host, and a port that exists: a name without colons or an address in brackets. */
static int check_authority(const char *url, struct larder_error *e)
{
    struct slice host = url_host(url); /* brackets taken off when there is a pair */
    struct slice port_text = url_port(url);
    uint64_t port = 0;
    if (host.n == 0)
        return error_set(e, LARDER_INVAL, "url: has no host");
    if (!slice_parse_u64(port_text, &port) || port == 0 || port > UINT16_MAX)
        return error_set(e, LARDER_INVAL, "url: port %.*s, expected 1 to 65535",
                         port_text.n < 32 ? (int)port_text.n : 32, port_text.p);
    bool is_bracketed = host.p[-1] == '[';
    if (memchr(host.p, '[', host.n) || memchr(host.p, ']', host.n) ||
        (!is_bracketed && memchr(host.p, ':', host.n)))
        return error_set(e, LARDER_INVAL, "url: host %.*s, expected a name or [an address]",
                         host.n < 256 ? (int)host.n : 256, host.p);
    return 0;
}

int url_check(const char *url, struct larder_error *e)
{
    if (!url_is_http(url))
        return error_set(e, LARDER_INVAL, "url: scheme is neither http nor https");
    size_t n = strlen(url);
    if (n > URL_MAX_BYTES)
        return error_set(e, LARDER_LIMIT, "url: %zu bytes, at most %d are accepted", n,
                         URL_MAX_BYTES);
    /* Programs disagree about what these mean ("http://a\@b"): then so might libcurl and we. */
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '\\')
            return error_set(e, LARDER_INVAL, "url: has a blank, control or backslash character");
    return check_authority(url, e);
}

/* A percent sequence that is none stays as it is; %00 too: results are C strings. */
static char *percent_decode(struct slice s)
{
    char *out = malloc(s.n + 1);
    if (!out)
        return NULL;
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%' && i + 2 < s.n) {
            int high = hex_value(s.p[i + 1]);
            int low = hex_value(s.p[i + 2]);
            if (high >= 0 && low >= 0 && high + low > 0) {
                c = (char)(high * 16 + low);
                i += 2;
            }
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return out;
}

int url_split_userinfo(const char *url, char **ret_url, char **ret_user, char **ret_password,
                       struct larder_error *e)
{
    const char *authority = strstr(url, "://") + 3;
    const char *end = path_of(url);
    const char *fragment = url + strcspn(url, "#");
    const char *at = memrchr(authority, '@', (size_t)(end - authority));
    const char *host = at ? at + 1 : authority;

    CLEANUP_FREE char *clean = NULL;
    CLEANUP_FREE char *user = NULL;
    CLEANUP_FREE char *password = NULL;
    size_t scheme_bytes = (size_t)(authority - url);
    size_t rest_bytes = (size_t)(fragment - host);
    clean = malloc(scheme_bytes + rest_bytes + 1);
    if (!clean)
        return error_nomem(e);
    memcpy(clean, url, scheme_bytes);
    memcpy(clean + scheme_bytes, host, rest_bytes);
    clean[scheme_bytes + rest_bytes] = '\0';
    if (at) {
        const char *colon = memchr(authority, ':', (size_t)(at - authority));
        const char *user_end = colon ? colon : at;
        struct slice pass = {at, 0};
        if (colon)
            pass = (struct slice){colon + 1, (size_t)(at - colon - 1)};
        user = percent_decode((struct slice){authority, (size_t)(user_end - authority)});
        password = percent_decode(pass);
        if (!user || !password)
            return error_nomem(e);
    }
    *ret_url = TAKE_PTR(clean);
    *ret_user = TAKE_PTR(user);
    *ret_password = TAKE_PTR(password);
    return 0;
}

bool url_is_https(const char *url)
{
    return strncasecmp(url, "https://", 8) == 0;
}

struct authority {
    struct slice host;
    struct slice port;
};

static struct authority authority_of(const char *url)
{
    const char *start = strstr(url, "://") + 3;
    const char *end = path_of(url);
    const char *at = memrchr(start, '@', (size_t)(end - start));
    struct slice all = {at ? at + 1 : start, 0};
    all.n = (size_t)(end - all.p);
    struct authority a = {all, url_is_https(url) ? SLICE_LIT("443") : SLICE_LIT("80")};
    const char *colon = memrchr(all.p, ':', all.n);
    const char *bracket = memrchr(all.p, ']', all.n); /* [::1] has colons of its own */
    if (colon && (!bracket || colon > bracket)) {
        a.host.n = (size_t)(colon - all.p);
        struct slice port = {colon + 1, all.n - a.host.n - 1};
        while (port.n > 1 && port.p[0] == '0') {
            port.p++;
            port.n--;
        }
        if (port.n > 0)
            a.port = port;
    }
    return a;
}

bool url_same_origin(const char *a, const char *b)
{
    struct authority x = authority_of(a);
    struct authority y = authority_of(b);
    return url_is_https(a) == url_is_https(b) && slice_equal_nocase(x.host, y.host) &&
           slice_equal(x.port, y.port);
}

struct slice url_host(const char *url)
{
    struct slice host = authority_of(url).host;
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        host = (struct slice){host.p + 1, host.n - 2};
    return host;
}

struct slice url_port(const char *url)
{
    return authority_of(url).port;
}

/* RFC 3986 section 5.2.4, of an absolute path */
static void remove_dots(struct slice path, struct buf *out)
{
    size_t start = out->n;
    while (path.n > 0 && out->failed == LARDER_OK) {
        const char *next = memchr(path.p + 1, '/', path.n - 1);
        struct slice part = {path.p, next ? (size_t)(next - path.p) : path.n};
        bool is_last = !next;
        if (slice_equal(part, SLICE_LIT("/.")) || slice_equal(part, SLICE_LIT("/.."))) {
            if (part.n == 3) {
                const char *slash =
                    out->n > start ? memrchr(out->p + start, '/', out->n - start) : NULL;
                out->n = slash ? (size_t)(slash - out->p) : start;
            }
            if (is_last)
                buf_putc(out, '/');
        } else {
            buf_append_slice(out, part);
        }
        path.p += part.n;
        path.n -= part.n;
    }
}

int url_target(const char *url, struct buf *out, struct larder_error *e)
{
    const char *path = path_of(url);
    const char *end = path_end(url);
    if (path == end)
        buf_putc(out, '/');
    remove_dots((struct slice){path, (size_t)(end - path)}, out);
    if (*end == '?')
        buf_append(out, end, strcspn(end, "#"));
    return buf_failed(out, e);
}

static void append_encoded(const char *text, struct buf *out)
{
    for (const char *p = text; *p; p++)
        if (*p == ' ' || (unsigned char)*p >= 0x80)
            buf_printf(out, "%%%02X", (unsigned)(unsigned char)*p);
        else
            buf_putc(out, *p);
}

/* "scheme:" in front */
static bool has_scheme(const char *location)
{
    size_t n =
        strspn(location, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    return n > 0 && location[n] == ':';
}

static void resolve_path(const char *base, const char *location, struct buf *out)
{
    const char *path = path_of(base);
    const char *end = path_end(base);
    const char *slash = memrchr(path, '/', (size_t)(end - path));
    size_t named = strcspn(location, "?#");
    struct buf merged = BUF_INIT(out->max_bytes);
    if (named == 0)
        buf_append(&merged, path, (size_t)(end - path));
    else if (location[0] != '/' && slash)
        buf_append(&merged, path, (size_t)(slash - path) + 1);
    else if (location[0] != '/')
        buf_putc(&merged, '/');
    buf_append(&merged, location, named);
    if (merged.failed != LARDER_OK)
        out->failed = merged.failed;
    else if (merged.n > 0)
        remove_dots(buf_slice(&merged), out);
    buf_done(&merged);
    const char *query = location[named] == '?' ? location + named : "";
    if (named == 0 && location[0] != '?')
        query = end;
    buf_append(out, query, strcspn(query, "#"));
}

int url_resolve(const char *base, const char *location, char **ret, struct larder_error *e)
{
    struct buf encoded = BUF_INIT(4UL * URL_MAX_BYTES);
    struct buf out = BUF_INIT(8UL * URL_MAX_BYTES);
    append_encoded(location, &encoded);
    const char *to = encoded.p ? encoded.p : "";
    if (has_scheme(to)) {
        buf_puts(&out, to);
    } else if (strncmp(to, "//", 2) == 0) {
        buf_append(&out, base, (size_t)(strstr(base, "://") + 1 - base));
        buf_puts(&out, to);
    } else {
        buf_append(&out, base, (size_t)(path_of(base) - base));
        resolve_path(base, to, &out);
    }
    int rc = buf_failed(&encoded, e);
    if (rc == 0)
        rc = buf_failed(&out, e);
    char *text = rc == 0 ? buf_take(&out) : NULL;
    if (rc == 0 && !text)
        rc = error_nomem(e);
    if (text)
        *ret = text;
    buf_done(&encoded);
    buf_done(&out);
    return rc;
}

int url_sibling(const char *url, const char *name, char **ret, struct larder_error *e)
{
    const char *path = path_of(url);
    const char *end = path_end(url);
    const char *slash = memrchr(path, '/', (size_t)(end - path));
    size_t head = slash ? (size_t)(slash - url) + 1 : (size_t)(path - url);
    size_t name_bytes = strlen(name);
    char *out = malloc(head + name_bytes + 2);
    if (!out)
        return error_nomem(e);
    memcpy(out, url, head);
    if (!slash)
        out[head++] = '/';
    memcpy(out + head, name, name_bytes + 1);
    *ret = out;
    return 0;
}

int url_basename(const char *url, char **ret, struct larder_error *e)
{
    const char *path = path_of(url);
    const char *end = path_end(url);
    const char *slash = memrchr(path, '/', (size_t)(end - path));
    const char *start = slash ? slash + 1 : end;
    char *out = percent_decode((struct slice){start, (size_t)(end - start)});
    if (!out)
        return error_nomem(e);
    *ret = out;
    return 0;
}

int url_bust_cache(const char *url, char **ret, struct larder_error *e)
{
    uint64_t nonce = 0;
    if (getrandom(&nonce, sizeof(nonce), GRND_NONBLOCK) != (ssize_t)sizeof(nonce))
        nonce = (uint64_t)clock_realtime_ns();
    size_t keep = strcspn(url, "#");
    char mark = memchr(url, '?', keep) ? '&' : '?';
    char *out = NULL;
    if (asprintf(&out, "%.*s%clarder-nocache=%016llx", (int)keep, url, mark,
                 (unsigned long long)nonce) < 0)
        return error_nomem(e);
    *ret = out;
    return 0;
}
