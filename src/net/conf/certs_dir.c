/* SPDX-License-Identifier: Apache-2.0 */
#include "net/conf/certs_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "base/slice.h"

void certs_done(struct certs *certs)
{
    free(certs->dir);
    free(certs->client_cert);
    free(certs->client_key);
    *certs = (struct certs){0};
}

struct scan {
    int fd;
    const char *dir;
    struct larder_error *e;
    bool has_authorities;
    char *stem; /* of the client certificate that comes first by name; NULL */
};

static bool has_file(const struct scan *s, const char *stem, size_t n, const char *ending)
{
    char name[256 + 8];
    if (n > 255)
        return false;
    snprintf(name, sizeof(name), "%.*s%s", (int)n, stem, ending);
    return faccessat(s->fd, name, F_OK, 0) == 0;
}

/* libcurl takes one client certificate. */
static int keep_stem(struct scan *s, const char *name, size_t n)
{
    if (s->stem && strncmp(name, s->stem, n) >= 0)
        return 0;
    char *stem = strndup(name, n);
    if (!stem)
        return error_nomem(s->e);
    free(s->stem);
    s->stem = stem;
    return 0;
}

static int look_at(void *arg, const char *name, unsigned char type)
{
    struct scan *s = arg;
    struct slice file = slice_of(name);
    (void)type;
    if (slice_ends(file, SLICE_LIT(".crt"))) {
        s->has_authorities = true;
    } else if (slice_ends(file, SLICE_LIT(".cert"))) {
        if (!has_file(s, name, file.n - 5, ".key"))
            return error_set(s->e, LARDER_INVAL, "certificates %s: %s has no .key beside it",
                             s->dir, name);
        return keep_stem(s, name, file.n - 5);
    } else if (slice_ends(file, SLICE_LIT(".key"))) {
        if (!has_file(s, name, file.n - 4, ".cert"))
            return error_set(s->e, LARDER_INVAL, "certificates %s: %s has no .cert beside it",
                             s->dir, name);
    }
    return 0;
}

/* 0: *ret is filled; 1: no such directory, or none that we may read. */
static int read_dir(const char *dir, struct certs *ret, struct larder_error *e)
{
    CLEANUP_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == EACCES))
        return 1;
    if (fd < 0)
        return error_errno(e, errno, "certificates %s", dir);
    struct scan scan = {.fd = fd, .dir = dir, .e = e};
    struct certs certs = {0};
    int rc = dir_each(fd, look_at, &scan, e);
    if (rc == 0 && scan.has_authorities && !(certs.dir = strdup(dir)))
        rc = error_nomem(e);
    if (rc == 0 && scan.stem) {
        if (asprintf(&certs.client_cert, "%s/%s.cert", dir, scan.stem) < 0) {
            certs.client_cert = NULL;
            rc = error_nomem(e);
        } else if (asprintf(&certs.client_key, "%s/%s.key", dir, scan.stem) < 0) {
            certs.client_key = NULL;
            rc = error_nomem(e);
        }
    }
    free(scan.stem);
    if (rc < 0)
        certs_done(&certs);
    else
        *ret = certs;
    return rc;
}

static int read_usual(const char *base, const char *authority, struct certs *ret,
                      struct larder_error *e)
{
    CLEANUP_FREE char *dir = NULL;
    if (asprintf(&dir, "%s/certs.d/%s", base, authority) < 0) {
        dir = NULL;
        return error_nomem(e);
    }
    return read_dir(dir, ret, e);
}

int certs_find(const char *given, const char *authority, struct certs *ret, struct larder_error *e)
{
    static const char *const systems[] = {"/etc/containers", "/etc/docker"};
    CLEANUP_FREE char *own = NULL;
    const char *config = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    struct certs certs = {0};
    int rc = 1;
    int n = 0;

    if (given) {
        rc = read_dir(given, &certs, e);
        if (rc == 1)
            rc = error_set(e, LARDER_NOENT, "certificates %s: no such directory, or not readable",
                           given);
    } else {
        if (config && *config)
            n = asprintf(&own, "%s/containers", config);
        else if (home && *home)
            n = asprintf(&own, "%s/.config/containers", home);
        if (n < 0) {
            own = NULL;
            return error_nomem(e);
        }
        if (own)
            rc = read_usual(own, authority, &certs, e);
        for (size_t i = 0; rc == 1 && i < ARRAY_LEN(systems); i++)
            rc = read_usual(systems[i], authority, &certs, e);
    }
    if (rc >= 0)
        *ret = certs;
    return rc < 0 ? rc : 0;
}
