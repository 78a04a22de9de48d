/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The alphabets of names, tags, hosts and digests.
 */
#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "oci/reference.h"
#include "oci/refuse.h"

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_lower(c) || is_digit(c) || (c >= 'A' && c <= 'Z');
}

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* */
static bool is_path_component(struct slice s)
{
    size_t i = 0;
    for (;;) {
        size_t start = i;
        while (i < s.n && (is_lower(s.p[i]) || is_digit(s.p[i])))
            i++;
        if (i == start)
            return false;
        if (i == s.n)
            return true;
        if (s.p[i] == '.') {
            i++;
        } else if (s.p[i] == '_') {
            i += i + 1 < s.n && s.p[i + 1] == '_' ? 2 : 1;
        } else {
            start = i;
            while (i < s.n && s.p[i] == '-')
                i++;
            if (i == start)
                return false;
        }
    }
}

bool oci_name_is_valid(struct slice name)
{
    if (name.n > OCI_NAME_MAX_BYTES)
        return false;
    for (;;) {
        const char *slash = name.n ? memchr(name.p, '/', name.n) : NULL;
        size_t n = slash ? (size_t)(slash - name.p) : name.n;
        if (!is_path_component((struct slice){name.p, n}))
            return false;
        if (!slash)
            return true;
        name = (struct slice){slash + 1, name.n - n - 1};
    }
}

bool oci_tag_is_valid(struct slice tag)
{
    if (tag.n == 0 || tag.n > OCI_TAG_MAX_BYTES || tag.p[0] == '.' || tag.p[0] == '-')
        return false;
    for (size_t i = 0; i < tag.n; i++) {
        if (!is_alnum(tag.p[i]) && !strchr("._-", tag.p[i] ? tag.p[i] : '/'))
            return false;
    }
    return true;
}

/* Labels as in DNS, and addresses of digits and dots. */
static bool is_domain(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        bool is_start = i == 0 || s.p[i - 1] == '.';
        bool is_end = i + 1 == s.n || s.p[i + 1] == '.';
        if (s.p[i] == '.' ? is_start || i + 1 == s.n
                          : !is_alnum(s.p[i]) && (s.p[i] != '-' || is_start || is_end))
            return false;
    }
    return s.n > 0;
}

static bool is_ipv6(struct slice s)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (s.n >= sizeof(text) || memchr(s.p, '\0', s.n))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

static bool is_port(struct slice s)
{
    uint64_t port = 0;
    return s.n <= 5 && slice_parse_u64(s, &port) && port >= 1 && port <= 65535;
}

bool oci_host_is_valid(struct slice host)
{
    if (host.n == 0 || host.n > OCI_NAME_MAX_BYTES)
        return false;
    struct slice name = host;
    const char *end = host.p + host.n;
    if (host.p[0] == '[') {
        const char *bracket = memchr(host.p, ']', host.n);
        if (!bracket || !is_ipv6((struct slice){host.p + 1, (size_t)(bracket - host.p) - 1}))
            return false;
        name.n = (size_t)(bracket + 1 - host.p);
    } else {
        const char *colon = memchr(host.p, ':', host.n);
        name.n = colon ? (size_t)(colon - host.p) : host.n;
        if (!is_domain(name))
            return false;
    }
    const char *port = name.p + name.n;
    return port == end ||
           (*port == ':' && is_port((struct slice){port + 1, (size_t)(end - port) - 1}));
}

/* comp([+._-]comp)*, comp = [a-z0-9]+ */
static bool is_algorithm(struct slice s)
{
    bool was_separator = true;
    for (size_t i = 0; i < s.n; i++) {
        bool is_separator = s.p[i] && strchr("+._-", s.p[i]);
        if (is_separator ? was_separator : !is_lower(s.p[i]) && !is_digit(s.p[i]))
            return false;
        was_separator = is_separator;
    }
    return !was_separator;
}

static bool is_encoded(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!is_alnum(s.p[i]) && !(s.p[i] && strchr("=_-", s.p[i])))
            return false;
    }
    return s.n > 0;
}

int oci_digest_parse(struct slice text, struct larder_digest *ret, struct larder_error *e)
{
    const char *colon = text.n ? memchr(text.p, ':', text.n) : NULL;
    if (!colon)
        return oci_refuse(e, LARDER_INVAL, "digest", text, "expected algorithm:hex");
    struct slice name = {text.p, (size_t)(colon - text.p)};
    struct slice encoded = {colon + 1, text.n - name.n - 1};
    if (!is_algorithm(name) || !is_encoded(encoded))
        return oci_refuse(e, LARDER_INVAL, "digest", text, "expected algorithm:hex");

    struct larder_digest digest = {LARDER_DIGEST_NONE, {0}};
    if (slice_equal(name, SLICE_LIT("sha256")))
        digest.alg = LARDER_DIGEST_SHA256;
    else if (slice_equal(name, SLICE_LIT("sha512")))
        digest.alg = LARDER_DIGEST_SHA512;
    else
        return oci_refuse(e, LARDER_UNSUPPORTED, "digest", text,
                          "algorithm is not known, expected sha256 or sha512");
    size_t n = larder_digest_size(digest.alg);
    /* Upper case would be a second name of the same blob, and another file. */
    bool is_lower = true;
    for (size_t i = 0; i < encoded.n; i++)
        is_lower &= is_digit(encoded.p[i]) | ((encoded.p[i] >= 'a') & (encoded.p[i] <= 'f'));
    if (!is_lower)
        return oci_refuse(e, LARDER_INVAL, "digest", text, "expected lower-case hex digits");
    if (!hex_decode(encoded, digest.bytes, n))
        return oci_refuse(e, LARDER_INVAL, "digest", text,
                          n == 32 ? "expected 64 hex digits" : "expected 128 hex digits");
    *ret = digest;
    return 0;
}
