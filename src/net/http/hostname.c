/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http/hostname.h"

#include <arpa/inet.h>
#include <string.h>

/* Longest text of an address: IPv6 with a zone. */
#define ADDRESS_MAX_BYTES 64

struct slice hostname_of(struct slice authority)
{
    if (authority.n && authority.p[0] == '[') {
        const char *close = memchr(authority.p, ']', authority.n);
        if (close)
            return (struct slice){authority.p + 1, (size_t)(close - authority.p) - 1};
    }
    const char *colon = authority.n ? memchr(authority.p, ':', authority.n) : NULL;
    /* More than one: a bare IPv6 address. */
    if (!colon || memchr(colon + 1, ':', authority.n - (size_t)(colon + 1 - authority.p)))
        return authority;
    return (struct slice){authority.p, (size_t)(colon - authority.p)};
}

struct slice hostname_authority(const char *url)
{
    const char *start = strstr(url, "://");
    start = start ? start + 3 : url;
    struct slice s = {start, strcspn(start, "/?#")};
    const char *at = s.n ? memrchr(s.p, '@', s.n) : NULL;
    if (at)
        s = (struct slice){at + 1, s.n - (size_t)(at + 1 - s.p)};
    return s;
}

struct address {
    bool is_v4; /* also one in IPv6's clothes */
    uint8_t bytes[16];
};

static bool parse_address(struct slice host, struct address *ret)
{
    char text[ADDRESS_MAX_BYTES];
    struct in_addr four;
    if (host.n == 0 || host.n >= sizeof(text))
        return false;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    *ret = (struct address){0};
    /* Resolvers take "127.1" and "0x7f000001", too; inet_pton does not. */
    if (inet_aton(text, &four)) {
        ret->is_v4 = true;
        memcpy(ret->bytes, &four, sizeof(four));
        return true;
    }
    text[strcspn(text, "%")] = '\0';
    if (inet_pton(AF_INET6, text, ret->bytes) != 1)
        return false;
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (memcmp(ret->bytes, mapped, sizeof(mapped)) == 0) {
        ret->is_v4 = true;
        memmove(ret->bytes, ret->bytes + 12, 4);
    }
    return true;
}

static bool is_all_zero(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

bool hostname_is_loopback(struct slice host)
{
    struct address a;
    while (host.n && host.p[host.n - 1] == '.')
        host.n--;
    if (parse_address(host, &a))
        return a.is_v4 ? a.bytes[0] == 127 : is_all_zero(a.bytes, 15) && a.bytes[15] == 1;
    size_t n = strlen("localhost");
    return host.n >= n && (host.n == n || host.p[host.n - n - 1] == '.') &&
           slice_equal_nocase((struct slice){host.p + host.n - n, n}, SLICE_LIT("localhost"));
}

bool hostname_is_local(struct slice host)
{
    struct address a;
    if (hostname_is_loopback(host))
        return true;
    if (!parse_address(host, &a))
        return false;
    if (a.is_v4)
        return a.bytes[0] == 0 || (a.bytes[0] == 169 && a.bytes[1] == 254);
    return is_all_zero(a.bytes, 16) || (a.bytes[0] == 0xfe && (a.bytes[1] & 0xc0) == 0x80);
}
