/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sysroot's deployments, in the order and with the roles that libostree gives them. The truth is
 * in the boot loader's entries; each names a link below ostree/boot.N, which leads to the
 * deployment:
 *
 *   boot/loader -> loader.N          loader.N/entries/ostree-*.conf: version (the order), options
 *   ostree=/ostree/boot.N/OS/BOOTCSUM/SERIAL     in the options
 *   ostree/boot.N -> boot.N.M
 *   ostree/boot.N.M/OS/BOOTCSUM/SERIAL -> ../../../deploy/OS/deploy/COMMIT.SERIAL
 *   ostree/deploy/OS/deploy/COMMIT.SERIAL.origin     beside the deployment's directory
 *
 *   /run/ostree/staged-deployment     of the booted system only
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fdio.h"
#include "update/reader/gvariant.h"
#include "update/reader/inside.h"

#define ENTRY_BYTES_MAX  (64UL * 1024)
#define ORIGIN_BYTES_MAX (64UL * 1024)
/* It has the kernel's arguments. */
#define STAGED_BYTES_MAX (1024UL * 1024)
/* What the boot was like. */
#define FLAG_BYTES_MAX  (64UL * 1024)
#define DEPLOYMENTS_MAX 64

/* What is the same for all deployments while they are read. */
struct loading {
    struct reader *r;
    int ostree;
    unsigned boot_version;
    const char *boot_links; /* what ostree/boot.N leads to; NULL: nowhere */
    bool may_be_booted;     /* this is the running system's sysroot */
    struct stat running;    /* "/" */
    struct larder_error *e;
};

/* ---- one deployment ---- */

static int read_origin_key(void *arg, struct slice group, struct slice key, struct slice value)
{
    struct deployment *d = arg;

    if (!slice_equal(group, SLICE_LIT("origin")) ||
        !slice_equal(key, SLICE_LIT("container-image-reference")))
        return 0;
    if (d->image)
        return NOT_MINE;
    d->image = slice_dup(value);
    return d->image ? 0 : NOT_MINE;
}

/* "COMMIT.SERIAL" */
static int read_deployment_name(struct slice name, struct deployment *d)
{
    struct slice rest = name, commit;

    if (!cut_at(&rest, '.', &commit) || !is_commit(commit) || !rest.p ||
        !read_number(rest, &d->serial))
        return NOT_MINE;
    memcpy(d->commit, commit.p, COMMIT_DIGITS);
    return 0;
}

/* Its directory, and what its origin says. */
static int look_into(const struct loading *l, struct deployment *d)
{
    struct buf origin = BUF_INIT(ORIGIN_BYTES_MAX);
    CLEANUP_CLOSE int fd = -1;
    char path[PATH_MAX];
    struct stat st;
    int n =
        snprintf(path, sizeof(path), "deploy/%s/deploy/%s.%u", d->os_name, d->commit, d->serial);

    if (n < 0 || (size_t)n + sizeof(".origin") > sizeof(path) ||
        below_open(l->ostree, path, O_PATH | O_DIRECTORY, &fd) != 0 || fstat(fd, &st) < 0)
        return NOT_MINE;
    d->is_booted = l->may_be_booted && !d->is_staged && st.st_dev == l->running.st_dev &&
                   st.st_ino == l->running.st_ino;
    snprintf(path + n, sizeof(path) - (size_t)n, ".origin");
    int r = below_read(l->ostree, path, &origin, l->e);
    if (r == 0)
        r = keyfile_each(buf_slice(&origin), read_origin_key, d);
    buf_done(&origin);
    return r == ABSENT ? 0 : r;
}

/* Room for one more, at the end. */
static struct deployment *add_deployment(struct reader *r)
{
    if (!r->deployments)
        r->deployments = calloc(DEPLOYMENTS_MAX, sizeof(*r->deployments));
    return r->deployments && r->n_deployments < DEPLOYMENTS_MAX
               ? &r->deployments[r->n_deployments++]
               : NULL;
}

/* ---- from the boot loader's entries ---- */

/* "../../../deploy/OS/deploy/COMMIT.SERIAL" */
static int read_target(const char *target, const char *os_name, struct deployment *d)
{
    struct slice rest = slice_of(target), part = {NULL, 0};
    const char *const parts[] = {"..", "..", "..", "deploy", os_name, "deploy"};

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (!cut_at(&rest, '/', &part) || !slice_equal(part, slice_of(parts[i])))
            return NOT_MINE;
    }
    return rest.p ? read_deployment_name(rest, d) : NOT_MINE;
}

/* "/ostree/boot.N/OS/BOOTCSUM/SERIAL" */
static int follow(const struct loading *l, struct slice argument, struct deployment *d)
{
    struct slice rest = argument, part = {NULL, 0}, sum = {NULL, 0};
    CLEANUP_FREE char *target = NULL;
    CLEANUP_CLOSE int fd = -1;
    char path[PATH_MAX], serial_text[16];
    unsigned serial = 0;

    snprintf(path, sizeof(path), "/ostree/boot.%u/", l->boot_version);
    if (!l->boot_links || !slice_starts(rest, slice_of(path)))
        return NOT_MINE;
    rest.p += strlen(path);
    rest.n -= strlen(path);
    if (!cut_at(&rest, '/', &part) || !is_plain_name(part) || !cut_at(&rest, '/', &sum) ||
        !is_plain_name(sum) || !rest.p || !read_number(rest, &serial))
        return NOT_MINE;
    d->os_name = slice_dup(part);
    snprintf(serial_text, sizeof(serial_text), "%u", serial);
    int n = snprintf(path, sizeof(path), "%s/%.*s/%.*s", l->boot_links, (int)part.n, part.p,
                     (int)sum.n, sum.p);
    if (!d->os_name || n < 0 || (size_t)n >= sizeof(path) ||
        below_open(l->ostree, path, O_PATH | O_DIRECTORY, &fd) != 0 ||
        below_link(fd, serial_text, &target) != 0)
        return NOT_MINE;
    int r = read_target(target, d->os_name, d);
    return r == 0 ? look_into(l, d) : r;
}

struct entry {
    struct slice version, options;
    bool has_initrd;
};

/* "key value", at the first blank. */
static int read_line(struct slice line, struct entry *entry)
{
    size_t n = 0;

    while (n < line.n && line.p[n] != ' ' && line.p[n] != '\t')
        n++;
    struct slice key = {line.p, n};
    if (n == line.n)
        return 0;
    struct slice value = {line.p + n + 1, line.n - n - 1};
    bool is_version = slice_equal(key, SLICE_LIT("version"));
    struct slice *known = is_version                               ? &entry->version
                          : slice_equal(key, SLICE_LIT("options")) ? &entry->options
                                                                   : NULL;
    if (known) {
        if (known->p)
            return NOT_MINE;
        *known = value;
    }
    if (slice_equal(key, SLICE_LIT("initrd"))) {
        /* Further ones are overlays, whose names libostree looks at. */
        if (entry->has_initrd)
            return NOT_MINE;
        entry->has_initrd = true;
    }
    return 0;
}

static int read_entry(struct slice text, struct entry *entry)
{
    struct slice rest = text, line;
    int r = 0;

    for (size_t i = 0; i < text.n; i++) {
        if ((text.p[i] < ' ' && text.p[i] != '\n' && text.p[i] != '\t') || text.p[i] > '~')
            return NOT_MINE;
    }
    while (r == 0 && cut_at(&rest, '\n', &line)) {
        if (line.n > 0 &&
            ((line.p[0] >= 'a' && line.p[0] <= 'z') || (line.p[0] >= 'A' && line.p[0] <= 'Z')))
            r = read_line(line, entry);
    }
    return r == 0 && entry->version.p && entry->options.p ? 0 : NOT_MINE;
}

static int add_entry(const struct loading *l, struct slice text)
{
    struct entry entry = {0};
    struct slice word;
    int r = read_entry(text, &entry);
    struct deployment *d = r == 0 ? add_deployment(l->r) : NULL;

    if (!d)
        return NOT_MINE;
    d->version = slice_dup(entry.version);
    if (!d->version)
        return NOT_MINE;
    while (cut_at(&entry.options, ' ', &word)) {
        if (slice_starts(word, SLICE_LIT("ostree=")))
            return follow(l, (struct slice){word.p + 7, word.n - 7}, d);
    }
    return NOT_MINE;
}

struct entries {
    const struct loading *l;
    int fd;
};

static int look_at_entry(void *arg, const char *name, unsigned char d_type)
{
    const struct entries *entries = arg;
    struct buf text = BUF_INIT(ENTRY_BYTES_MAX);

    if (!slice_starts(slice_of(name), SLICE_LIT("ostree-")) ||
        !slice_ends(slice_of(name), SLICE_LIT(".conf")))
        return d_type == DT_REG || d_type == DT_DIR ? 0 : NOT_MINE;
    /* What is no regular file is no entry. */
    int r = below_read(entries->fd, name, &text, NULL) == 0
                ? add_entry(entries->l, buf_slice(&text))
                : NOT_MINE;
    buf_done(&text);
    return r;
}

static int by_version(const void *a, const void *b)
{
    return -strverscmp(((const struct deployment *)a)->version,
                       ((const struct deployment *)b)->version);
}

static int load_entries(const struct loading *l, int boot)
{
    CLEANUP_CLOSE int fd = -1;
    char path[32];

    snprintf(path, sizeof(path), "loader.%u/entries", l->boot_version);
    int r = below_open(boot, path, O_RDONLY | O_DIRECTORY, &fd);
    if (r != 0)
        return r == ABSENT ? 0 : r;
    struct entries entries = {l, fd};
    struct reader *reader = l->r;
    r = dir_each(fd, look_at_entry, &entries, NULL);
    if (r != 0)
        return r == -LARDER_CORRUPT ? r : NOT_MINE;
    if (reader->n_deployments > 0)
        qsort(reader->deployments, reader->n_deployments, sizeof(*reader->deployments), by_version);
    size_t n_booted = reader->n_deployments > 0 && reader->deployments[0].is_booted;
    for (size_t i = 1; i < reader->n_deployments; i++) {
        /* In which order these are is left to chance. */
        if (by_version(&reader->deployments[i - 1], &reader->deployments[i]) == 0)
            return NOT_MINE;
        n_booted += reader->deployments[i].is_booted;
    }
    return n_booted == (l->may_be_booted ? 1 : 0) ? 0 : NOT_MINE;
}

/* ---- staged ---- */

/* A dictionary (a{sv}), whose "target" is another. */
static int read_staged(struct slice bytes, struct deployment *d)
{
    struct ostree_value v[] = {{.key = "name"}, {.key = "osname"}, {.key = "bootcsum"}};
    struct slice type, target;

    if (!gvariant_is_normal(GVARIANT_DICT, bytes) ||
        !gvariant_look_up(bytes, "target", &type, &target) ||
        !slice_equal(type, SLICE_LIT(GVARIANT_DICT)))
        return NOT_MINE;
    gvariant_values(target, v, ARRAY_LEN(v));
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        if (v[i].type != OSTREE_VALUE_STRING)
            return NOT_MINE;
    }
    if (!is_plain_name(slice_of(v[1].text)))
        return NOT_MINE;
    d->os_name = slice_dup(slice_of(v[1].text));
    return d->os_name ? read_deployment_name(slice_of(v[0].text), d) : NOT_MINE;
}

/* It comes first. */
static int load_staged(const struct loading *l)
{
    struct buf bytes = BUF_INIT(STAGED_BYTES_MAX);
    CLEANUP_CLOSE int run = open("/run/ostree", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct reader *r = l->r;

    int code = errno == ENOENT ? ABSENT : NOT_MINE;
    if (run >= 0)
        code = below_read(run, "staged-deployment", &bytes, l->e);
    if (code == 0) {
        struct deployment *d = add_deployment(r);
        if (d) {
            d->is_staged = true;
            code = read_staged(buf_slice(&bytes), d);
        } else {
            code = NOT_MINE;
        }
        if (code == 0)
            code = look_into(l, d);
        if (code == 0) {
            struct deployment staged = *d;
            memmove(r->deployments + 1, r->deployments,
                    (r->n_deployments - 1) * sizeof(*r->deployments));
            r->deployments[0] = staged;
        }
    }
    buf_done(&bytes);
    return code == ABSENT ? 0 : code;
}

/* ---- all ---- */

/* boot/loader tells the version, ostree/boot.N which of two trees of links is in use. */
static int read_boot_version(struct loading *l, int boot, char **ret_links)
{
    CLEANUP_FREE char *loader = NULL;
    char name[32], expected[2][48];

    int r = below_link(boot, "loader", &loader);
    if (r == NOT_MINE ||
        (r == 0 && strcmp(loader, "loader.0") != 0 && strcmp(loader, "loader.1") != 0))
        return NOT_MINE;
    l->boot_version = r == 0 && loader[7] == '1';
    snprintf(name, sizeof(name), "boot.%u", l->boot_version);
    r = below_link(l->ostree, name, ret_links);
    if (r != 0)
        return r == ABSENT ? 0 : r;
    for (unsigned i = 0; i < 2; i++)
        snprintf(expected[i], sizeof(expected[i]), "%s.%u", name, i);
    return strcmp(*ret_links, expected[0]) == 0 || strcmp(*ret_links, expected[1]) == 0 ? 0
                                                                                        : NOT_MINE;
}

/* Whether what is booted is the directory that "/" is. libostree of Debian 12 goes by that; later
 * ones by the device and the inode that the flag tells, which are of another directory where the
 * root is a composefs or an overlay. Who is right then depends on which one is installed. */
static bool is_running(const struct loading *l, struct slice flag)
{
    uint64_t number[2] = {0, 0};
    struct slice type, value;

    if (!gvariant_is_normal(GVARIANT_DICT, flag))
        return false;
    if (!gvariant_look_up(flag, "backing-root-device-inode", &type, &value))
        return true;
    if (!slice_equal(type, SLICE_LIT("(tt)")))
        return false;
    memcpy(number, value.p, sizeof(number));
    return number[0] == l->running.st_dev && number[1] == l->running.st_ino;
}

/* Whether "/" is a booted system and path its sysroot. */
static int read_booted(struct loading *l, const char *path)
{
    struct buf flag = BUF_INIT(FLAG_BYTES_MAX);
    struct stat sysroot;

    if (stat("/", &l->running) < 0 || stat(path, &sysroot) < 0)
        return NOT_MINE;
    if (sysroot.st_dev != l->running.st_dev || sysroot.st_ino != l->running.st_ino)
        return 0;
    CLEANUP_CLOSE int run = open("/run", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (run < 0)
        return errno == ENOENT ? 0 : NOT_MINE;
    int r = below_read(run, "ostree-booted", &flag, l->e);
    /* A soft reboot, of which only later ones know, is a second thing to go by. */
    if (r == 0 && (!is_running(l, buf_slice(&flag)) ||
                   faccessat(run, "ostree/nextroot-booted", F_OK, 0) == 0 || errno != ENOENT))
        r = NOT_MINE;
    l->may_be_booted = r == 0;
    buf_done(&flag);
    return r == ABSENT ? 0 : r;
}

int sysroot_open_ostree(int root, int *ret_fd)
{
    CLEANUP_FREE char *link = NULL;

    if (below_open(root, "ostree", O_PATH | O_DIRECTORY, ret_fd) == 0)
        return 0;
    /* A booted system's root is a deployment, which has the sysroot below it. */
    if (below_link(root, "ostree", &link) != 0 || strcmp(link, "sysroot/ostree") != 0)
        return NOT_MINE;
    return below_open(root, link, O_PATH | O_DIRECTORY, ret_fd) == 0 ? 0 : NOT_MINE;
}

int sysroot_load(struct reader *r, int root, int ostree, const char *path, struct larder_error *e)
{
    struct loading l = {.r = r, .ostree = ostree, .e = e};
    CLEANUP_FREE char *links = NULL;
    CLEANUP_CLOSE int boot = -1;

    if (below_open(root, "boot", O_PATH | O_DIRECTORY, &boot) != 0)
        return NOT_MINE;
    int code = read_booted(&l, path);
    if (code == 0)
        code = read_boot_version(&l, boot, &links);
    l.boot_links = links;
    if (code == 0)
        code = load_entries(&l, boot);
    if (code == 0 && l.may_be_booted)
        code = load_staged(&l);
    return code;
}

static bool is_same(const struct deployment *a, const struct deployment *b)
{
    return a && strcmp(a->os_name, b->os_name) == 0 && strcmp(a->commit, b->commit) == 0 &&
           a->serial == b->serial;
}

int reader_each_deployment(struct reader *r,
                           int (*fn)(void *arg, const struct ostree_deployment_info *info),
                           void *arg)
{
    const struct deployment *booted = NULL, *pending = NULL, *rollback = NULL;
    bool is_past = false;
    int result = 0;

    if (r->n_deployments == 0)
        return 0;
    for (size_t i = 0; i < r->n_deployments && !booted; i++)
        booted = r->deployments[i].is_booted ? &r->deployments[i] : NULL;
    const char *os_name = booted ? booted->os_name : r->deployments[0].os_name;
    /* Before the booted one and after it, of the same OS: ostree_sysroot_query_deployments_for. */
    for (size_t i = 0; i < r->n_deployments; i++) {
        const struct deployment *d = &r->deployments[i];
        if (strcmp(d->os_name, os_name) != 0)
            continue;
        if (is_same(booted, d))
            is_past = true;
        else if (!is_past && !pending)
            pending = d;
        else if (is_past && !rollback)
            rollback = d;
    }
    for (size_t i = 0; i < r->n_deployments && result == 0; i++) {
        const struct deployment *d = &r->deployments[i];
        struct ostree_deployment_info info = {
            .role = d->is_staged         ? "staged"
                    : is_same(booted, d) ? "booted"
                    : d == pending       ? "pending"
                    : d == rollback      ? "rollback"
                                         : "",
            .os_name = d->os_name,
            .commit = d->commit,
            .image = d->image,
        };
        result = fn(arg, &info);
    }
    return result;
}
