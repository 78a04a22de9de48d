/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/platform.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/slice.h"
#include "base/text.h"
#include "oci/refuse.h"

/* Of an os, architecture or variant; longer names are those of no platform anybody made. */
#define PART_MAX_BYTES 32

/* What Go calls systems and machines: a lone word is looked up to tell which of the two it is. */
static const char *const systems[] = {
    "aix",   "android", "darwin", "dragonfly", "freebsd", "hurd",    "illumos", "ios", "js",
    "linux", "nacl",    "netbsd", "openbsd",   "plan9",   "solaris", "windows", "zos",
};
static const char *const machines[] = {
    "386",     "amd64",  "amd64p32", "arm",      "armbe",     "arm64",       "arm64be", "loong64",
    "mips",    "mipsle", "mips64",   "mips64le", "mips64p32", "mips64p32le", "ppc",     "ppc64",
    "ppc64le", "riscv",  "riscv64",  "s390",     "s390x",     "sparc",       "sparc64", "wasm",
};

/* Other names of machines, with the variant they stand for. */
static const struct {
    const char *name;
    const char *architecture;
    const char *variant; /* NULL: as given */
} machine_aliases[] = {
    {"i386", "386", ""},        {"i486", "386", ""},       {"i586", "386", ""},
    {"i686", "386", ""},        {"x86_64", "amd64", NULL}, {"x86-64", "amd64", NULL},
    {"aarch64", "arm64", NULL}, {"armhf", "arm", "v7"},    {"armv7l", "arm", "v7"},
    {"armel", "arm", "v6"},     {"armv6l", "arm", "v6"},   {"armv5tel", "arm", "v5"},
};

static bool is_in(const char *text, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(text, list[i]) == 0)
            return true;
    }
    return false;
}

static char to_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* "" for NULL: what is not said. */
static const char *said(const char *text)
{
    return text ? text : "";
}

struct normal {
    char os[PART_MAX_BYTES + 1];
    char architecture[PART_MAX_BYTES + 1];
    char variant[PART_MAX_BYTES + 1];
};

/* Longer names are cut, see has_long_part. */
static void lower_copy(const char *text, char out[PART_MAX_BYTES + 1])
{
    size_t n = 0;
    for (; n < PART_MAX_BYTES && said(text)[n]; n++)
        out[n] = to_lower(text[n]);
    out[n] = '\0';
}

/* text is a literal of a few bytes. */
static void set_text(char out[PART_MAX_BYTES + 1], const char *text)
{
    memcpy(out, text, strlen(text) + 1);
}

static void normalize_variant(struct normal *p)
{
    /* "8", "8.0" and "v8.0" are v8. */
    size_t n = strlen(p->variant);
    bool is_number = p->variant[0] >= '0' && p->variant[0] <= '9' &&
                     (n == 1 || (n == 3 && strcmp(p->variant + 1, ".0") == 0));
    if (is_number) {
        memmove(p->variant + 1, p->variant, n + 1);
        p->variant[0] = 'v';
        n++;
    }
    if (n == 4 && p->variant[0] == 'v' && strcmp(p->variant + 2, ".0") == 0)
        p->variant[2] = '\0';
}

/*
 * As containerd's platforms.Normalize: aliases resolved, and the variant that says nothing more
 * than the architecture left out ("arm64/v8", "amd64/v1") or, for arm, put in ("arm" is arm/v7).
 */
static void normalize(const struct oci_platform *platform, struct normal *ret)
{
    lower_copy(platform->os, ret->os);
    lower_copy(platform->architecture, ret->architecture);
    lower_copy(platform->variant, ret->variant);
    if (strcmp(ret->os, "macos") == 0)
        set_text(ret->os, "darwin");
    for (size_t i = 0; i < ARRAY_LEN(machine_aliases); i++) {
        if (strcmp(ret->architecture, machine_aliases[i].name) != 0)
            continue;
        set_text(ret->architecture, machine_aliases[i].architecture);
        if (machine_aliases[i].variant)
            set_text(ret->variant, machine_aliases[i].variant);
        break;
    }
    bool is_arm64 = strcmp(ret->architecture, "arm64") == 0;
    bool is_amd64 = strcmp(ret->architecture, "amd64") == 0;
    bool is_arm = strcmp(ret->architecture, "arm") == 0;
    if (is_arm64 || is_amd64 || is_arm)
        normalize_variant(ret);
    if (is_arm64 && strcmp(ret->variant, "v8") == 0)
        ret->variant[0] = '\0';
    if (is_amd64 && strcmp(ret->variant, "v1") == 0)
        ret->variant[0] = '\0';
    if (is_arm && !ret->variant[0])
        set_text(ret->variant, "v7");
}

static bool is_component(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = to_lower(s.p[i]);
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '.' && c != '-')
            return false;
    }
    return s.n > 0 && s.n <= PART_MAX_BYTES;
}

/* The number of parts, or 0 when there are more than three or one is malformed. */
static size_t split(struct slice text, struct slice parts[3])
{
    size_t n = 0;
    for (;;) {
        const char *slash = text.n ? memchr(text.p, '/', text.n) : NULL;
        size_t bytes = slash ? (size_t)(slash - text.p) : text.n;
        if (n == 3)
            return 0;
        parts[n] = (struct slice){text.p, bytes};
        if (!is_component(parts[n++]))
            return 0;
        if (!slash)
            return n;
        text = (struct slice){slash + 1, text.n - bytes - 1};
    }
}

/* Copies text to *at and moves that behind its NUL; NULL for "". */
static const char *put(char **at, const char *text)
{
    if (!*text)
        return NULL;
    const char *start = *at;
    *at = stpcpy(*at, text) + 1;
    return start;
}

int oci_platform_parse(const char *text, struct oci_platform *ret, char **ret_text,
                       struct larder_error *e)
{
    struct slice all = slice_of(text);
    struct slice parts[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    size_t n = split(all, parts);
    if (n == 0)
        return oci_refuse(e, LARDER_INVAL, "platform", all,
                          "expected os/architecture[/variant], as in linux/arm64");

    char words[3][PART_MAX_BYTES + 1] = {"", "", ""};
    for (size_t i = 0; i < n; i++) {
        memcpy(words[i], parts[i].p, parts[i].n);
        words[i][parts[i].n] = '\0';
    }
    struct oci_platform host = {0};
    oci_platform_host(&host);
    struct oci_platform given = {.os = words[0], .architecture = words[1], .variant = words[2]};
    struct normal normal;
    normalize(&given, &normal);
    if (n == 1 && is_in(normal.os, systems, ARRAY_LEN(systems))) {
        given = (struct oci_platform){
            .os = words[0], .architecture = host.architecture, .variant = host.variant};
    } else if (n == 1) {
        given = (struct oci_platform){.os = host.os, .architecture = words[0]};
        normalize(&given, &normal);
        if (!is_in(normal.architecture, machines, ARRAY_LEN(machines)))
            return oci_refuse(e, LARDER_INVAL, "platform", all,
                              "neither a known operating system nor a known architecture");
    }
    normalize(&given, &normal);

    char *made = malloc(sizeof(normal.os) + sizeof(normal.architecture) + sizeof(normal.variant));
    if (!made)
        return error_nomem(e);
    char *at = made;
    *ret = (struct oci_platform){.os = put(&at, normal.os),
                                 .architecture = put(&at, normal.architecture),
                                 .variant = put(&at, normal.variant)};
    *ret_text = made;
    return 0;
}

void oci_platform_host(struct oci_platform *ret)
{
    *ret = (struct oci_platform){.os = "linux"};
#if defined(__x86_64__)
    ret->architecture = "amd64";
#elif defined(__i386__)
    ret->architecture = "386";
#elif defined(__aarch64__)
    ret->architecture = "arm64";
#elif defined(__arm__)
    ret->architecture = "arm";
    ret->variant = __ARM_ARCH >= 7 ? "v7" : __ARM_ARCH == 6 ? "v6" : "v5";
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    ret->architecture = "ppc64le";
#elif defined(__s390x__)
    ret->architecture = "s390x";
#elif defined(__riscv) && __riscv_xlen == 64
    ret->architecture = "riscv64";
#elif defined(__loongarch64)
    ret->architecture = "loong64";
#elif defined(__mips64) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    ret->architecture = "mips64le";
#else
    ret->architecture = "unknown";
#endif
}

/* An empty string says nothing: Go leaves such members out. */
static const char *read_string(const struct json *node, const char *key)
{
    const char *text = json_get_string(node, key);
    return text && *text ? text : NULL;
}

bool oci_platform_read(const struct json *node, struct oci_platform *ret)
{
    struct oci_platform platform = {
        .os = read_string(node, "os"),
        .architecture = read_string(node, "architecture"),
        .variant = read_string(node, "variant"),
        .os_version = read_string(node, "os.version"),
    };
    const struct json *os_features = json_get(node, "os.features");
    const struct json *features = json_get(node, "features");
    if (json_node_is_array(os_features))
        platform.os_features = os_features;
    if (json_node_is_array(features))
        platform.features = features;
    if (!platform.os && !platform.architecture)
        return false;
    *ret = platform;
    return true;
}

void oci_platform_format(const struct oci_platform *platform, struct buf *out)
{
    text_sanitize(slice_of(platform->os ? platform->os : "unknown"), out);
    buf_putc(out, '/');
    text_sanitize(slice_of(platform->architecture ? platform->architecture : "unknown"), out);
    if (platform->variant) {
        buf_putc(out, '/');
        text_sanitize(slice_of(platform->variant), out);
    }
}

/* "v3" -> 3; `otherwise` for "" and -1 for what is no such thing. */
static int level(const char *variant, int otherwise)
{
    if (!*variant)
        return otherwise;
    if (variant[0] != 'v' || variant[1] < '1' || variant[1] > '9' || variant[2])
        return -1;
    return variant[1] - '0';
}

/* How many steps the variant is below the wanted one; -1 when it does not run there. */
static int variant_distance(const struct normal *have, const struct normal *want)
{
    if (strcmp(have->variant, want->variant) == 0)
        return 0;
    int base = strcmp(want->architecture, "amd64") == 0   ? 1
               : strcmp(want->architecture, "arm64") == 0 ? 8
               : strcmp(want->architecture, "arm") == 0   ? 7
                                                          : 0;
    if (base == 0) /* no order is known: who says nothing takes anything */
        return want->variant[0] ? -1 : 1;
    int have_level = level(have->variant, base);
    int want_level = level(want->variant, base);
    if (have_level < 0 || want_level < 0 || have_level > want_level)
        return -1;
    return want_level - have_level;
}

/* "10.0.17763" is that build at any revision, "10.0.17763.316" only itself. */
static bool version_matches(const char *have, const char *want)
{
    size_t n = strlen(want);
    return strncmp(said(have), want, n) == 0 && (!have[n] || have[n] == '.');
}

static bool has_long_part(const struct oci_platform *p)
{
    return strlen(said(p->os)) > PART_MAX_BYTES || strlen(said(p->architecture)) > PART_MAX_BYTES ||
           strlen(said(p->variant)) > PART_MAX_BYTES;
}

int oci_platform_distance(const struct oci_platform *have, const struct oci_platform *want)
{
    struct normal h;
    struct normal w;
    if (has_long_part(have) || has_long_part(want))
        return -1;
    normalize(have, &h);
    normalize(want, &w);
    if (want->os && strcmp(h.os, w.os) != 0)
        return -1;
    if (want->os_version &&
        (!have->os_version || !version_matches(have->os_version, want->os_version)))
        return -1;
    if (!want->architecture)
        return 0;
    if (strcmp(h.architecture, w.architecture) != 0)
        return -1;
    return variant_distance(&h, &w);
}

bool oci_platform_matches(const struct oci_platform *have, const struct oci_platform *want)
{
    return oci_platform_distance(have, want) >= 0;
}

int oci_platform_compare(const struct oci_platform *a, const struct oci_platform *b)
{
    int r = strcmp(said(a->os), said(b->os));
    if (r == 0)
        r = strcmp(said(a->architecture), said(b->architecture));
    if (r == 0)
        r = strcmp(said(a->variant), said(b->variant));
    if (r == 0)
        r = strcmp(said(a->os_version), said(b->os_version));
    return r;
}

static const char *const uname_names[][2] = {
    /* Go, uname */
    {"amd64", "x86_64"},
    {"arm64", "aarch64"},
};

const char *platform_arch_to_uname(const char *go_arch)
{
    for (size_t i = 0; i < ARRAY_LEN(uname_names); i++) {
        if (strcmp(go_arch, uname_names[i][0]) == 0)
            return uname_names[i][1];
    }
    return go_arch;
}

const char *platform_arch_from_uname(const char *uname_arch)
{
    for (size_t i = 0; i < ARRAY_LEN(uname_names); i++) {
        if (strcmp(uname_arch, uname_names[i][1]) == 0)
            return uname_names[i][0];
    }
    return uname_arch;
}
