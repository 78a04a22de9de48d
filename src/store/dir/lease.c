/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/lease.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"
#include "store/dir/blob.h"
#include "store/dir/doc.h"

#define LEASE_VERSION 1
/* A path of PATH_MAX escaped as JSON, and a purpose. */
#define LEASE_BYTES_MAX   (32 * 1024)
#define LEASE_ID_RANDOM   16
#define LEASE_PURPOSE_MAX 1024

static const char *const kind_names[] = {
    [LEASE_PROCESS] = "process",
    [LEASE_FILE] = "file",
    [LEASE_UNTIL] = "until",
};

void lease_done(struct lease *lease)
{
    free(lease->media_type);
    free(lease->purpose);
    free(lease->host);
    free(lease->path);
    *lease = (struct lease){0};
}

static bool id_is_ours(const char *id)
{
    uint8_t bytes[LEASE_ID_RANDOM];
    return hex_decode(slice_of(id), bytes, sizeof bytes);
}

/* ---- documents ---- */

static int damaged(struct larder_error *e, const char *what)
{
    error_set(e, LARDER_CORRUPT, "%s", what);
    return error_hint(e, "run `larder fsck`");
}

static int parse_process(const struct json *doc, struct lease *ret, struct larder_error *e)
{
    int64_t pid = 0, start = 0, pid_namespace = 0;
    const char *boot = NULL;

    if (!doc_get_i64(doc, "pid", &pid) || pid <= 0 || pid > INT32_MAX ||
        !doc_get_i64(doc, "start_ticks", &start) || start < 0 ||
        !doc_get_string(doc, "boot_id", &boot) || strlen(boot) >= BOOT_ID_BYTES)
        return damaged(e, "a process lease without its process");
    if (doc_get_i64(doc, "pid_namespace", &pid_namespace) && pid_namespace < 0)
        return damaged(e, "pid_namespace: negative");
    ret->process.pid = (pid_t)pid;
    ret->process.start_ticks = (uint64_t)start;
    ret->process.pid_namespace = (uint64_t)pid_namespace;
    snprintf(ret->process.boot_id, sizeof ret->process.boot_id, "%s", boot);
    return 0;
}

static int parse_file(const struct json *doc, struct lease *ret, struct larder_error *e)
{
    ret->path = doc_get_path(doc);
    if (!ret->path || ret->path[0] != '/' || !doc_get_bits(doc, "device", &ret->device) ||
        !doc_get_bits(doc, "inode", &ret->inode))
        return damaged(e, "a file lease without its file");
    return 0;
}

/* One that says nothing of manifests to us may do so to a later larder: then it holds more. */
static int parse_media_type(const struct json *doc, struct lease *ret, struct larder_error *e)
{
    const char *media_type = NULL;

    if (!json_get(doc, "media_type"))
        return 0;
    if (!doc_get_string(doc, "media_type", &media_type))
        return damaged(e, "media_type: no text");
    ret->media_type = strdup(media_type);
    return ret->media_type ? 0 : error_nomem(e);
}

static int parse_common(const struct json *doc, struct lease *ret, struct larder_error *e)
{
    int64_t version = 0;
    const char *id = NULL, *kind = NULL, *digest = NULL, *purpose = NULL, *host = NULL;

    if (!doc_get_i64(doc, "version", &version))
        return damaged(e, "no version");
    if (version > LEASE_VERSION)
        return error_set(e, LARDER_UNSUPPORTED, "version %lld, larder %s knows up to %d",
                         (long long)version, LARDER_VERSION, LEASE_VERSION);
    if (!doc_get_string(doc, "id", &id) || !id_is_ours(id))
        return damaged(e, "no id");
    if (!doc_get_string(doc, "digest", &digest) ||
        larder_digest_parse(digest, (size_t)-1, &ret->digest, NULL) < 0 ||
        !larder_digest_is_identity(ret->digest.alg))
        return damaged(e, "no digest");
    if (!doc_get_string(doc, "kind", &kind) || !doc_get_string(doc, "purpose", &purpose) ||
        !doc_get_string(doc, "host", &host) || !doc_get_i64(doc, "created_ns", &ret->created_ns))
        return damaged(e, "kind, purpose, host or created_ns missing");
    bool is_known = false;
    for (size_t i = 0; i < ARRAY_LEN(kind_names); i++) {
        if (strcmp(kind, kind_names[i]) == 0) {
            ret->kind = (enum lease_kind)i;
            is_known = true;
        }
    }
    if (!is_known)
        return damaged(e, "unknown kind");
    snprintf(ret->id, sizeof ret->id, "%s", id);
    ret->purpose = strdup(purpose);
    ret->host = strdup(host);
    if (!ret->purpose || !ret->host)
        return error_nomem(e);
    return parse_media_type(doc, ret, e);
}

int lease_parse(struct slice text, struct lease *ret, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *doc = NULL;
    struct lease lease = {0};

    int r = json_parse(text, LEASE_BYTES_MAX, &doc, e);
    if (r == -LARDER_NOMEM)
        return r;
    if (r < 0)
        return damaged(e, "not a JSON document");
    r = parse_common(doc, &lease, e);
    if (r == 0) {
        switch (lease.kind) {
        case LEASE_PROCESS:
            r = parse_process(doc, &lease, e);
            break;
        case LEASE_FILE:
            r = parse_file(doc, &lease, e);
            break;
        case LEASE_UNTIL:
            if (!doc_get_i64(doc, "until_ns", &lease.until_ns))
                r = damaged(e, "a time lease without its time");
            break;
        }
    }
    if (r < 0) {
        lease_done(&lease);
        return r;
    }
    *ret = lease;
    return 0;
}

static int format_owner(struct json *doc, const struct lease *lease)
{
    int r = 0;
    switch (lease->kind) {
    case LEASE_PROCESS:
        r |= json_set_i64(doc, "pid", lease->process.pid);
        r |= doc_set_bits(doc, "start_ticks", lease->process.start_ticks);
        r |= doc_set_bits(doc, "pid_namespace", lease->process.pid_namespace);
        r |= json_set_string(doc, "boot_id", lease->process.boot_id);
        break;
    case LEASE_FILE:
        r |= doc_set_path(doc, lease->path);
        r |= doc_set_bits(doc, "device", lease->device);
        r |= doc_set_bits(doc, "inode", lease->inode);
        break;
    case LEASE_UNTIL:
        r |= json_set_i64(doc, "until_ns", lease->until_ns);
        break;
    }
    return r;
}

static int lease_format(const struct lease *lease, struct buf *out, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    CLEANUP(json_freep) struct json *doc = json_new_object();

    int r = json_set_i64(doc, "version", LEASE_VERSION);
    r |= json_set_string(doc, "id", lease->id);
    r |= json_set_string(doc, "kind", kind_names[lease->kind]);
    r |= json_set_string(doc, "digest", larder_digest_format(&lease->digest, text));
    if (lease->media_type)
        r |= json_set_string(doc, "media_type", lease->media_type);
    r |= doc_set_text(doc, "purpose", lease->purpose);
    r |= doc_set_text(doc, "host", lease->host);
    r |= json_set_i64(doc, "created_ns", lease->created_ns);
    r |= format_owner(doc, lease);
    return r < 0 ? error_nomem(e) : json_dump(doc, out, e);
}

/* ---- life ---- */

/*
 * The file is not there: gone, or is its file system not mounted? The nearest directory that is
 * there tells by its device. (Device numbers may change at boot: then nobody can tell.)
 */
static enum process_state missing_file_state(const struct lease *lease)
{
    CLEANUP_FREE char *path = strdup(lease->path);
    struct stat st;

    if (!path)
        return PROCESS_UNKNOWN;
    for (char *slash; (slash = strrchr(path, '/')) != NULL;) {
        *slash = '\0';
        const char *dir = *path ? path : "/";
        if (stat(dir, &st) == 0)
            return st.st_dev == lease->device ? PROCESS_DEAD : PROCESS_UNKNOWN;
        if (errno != ENOENT && errno != ENOTDIR)
            return PROCESS_UNKNOWN;
    }
    return PROCESS_UNKNOWN;
}

static enum process_state file_state(const struct lease *lease, bool is_other_host)
{
    struct stat st;

    if (stat(lease->path, &st) == 0) {
        if (st.st_ino == lease->inode)
            return PROCESS_ALIVE;
        /* Another file of that name: proof only when it is on the same file system. */
        return st.st_dev == lease->device && !is_other_host ? PROCESS_DEAD : PROCESS_UNKNOWN;
    }
    if ((errno != ENOENT && errno != ENOTDIR) || is_other_host)
        return PROCESS_UNKNOWN;
    return missing_file_state(lease);
}

enum process_state lease_check(const struct lease *lease)
{
    struct utsname self;
    bool is_other_host = uname(&self) < 0 || strcmp(self.nodename, lease->host) != 0;

    switch (lease->kind) {
    case LEASE_PROCESS:
        /* The same kernel under another name (a container) is no other host. */
        if (is_other_host && strcmp(lease->process.boot_id, process_boot_id()) != 0)
            return PROCESS_UNKNOWN;
        return process_check(&lease->process);
    case LEASE_FILE:
        return file_state(lease, is_other_host);
    case LEASE_UNTIL:
        return clock_realtime_ns() < lease->until_ns ? PROCESS_ALIVE : PROCESS_DEAD;
    }
    return PROCESS_UNKNOWN;
}

int lease_describe(const struct lease *lease, struct buf *out)
{
    char name[64], span[32];
    struct utsname self;
    int64_t age = clock_realtime_ns() - lease->created_ns;

    switch (lease->kind) {
    case LEASE_PROCESS:
        buf_printf(out, "process %d", (int)lease->process.pid);
        if (lease_check(lease) == PROCESS_ALIVE)
            buf_printf(out, " (%s)", process_name(lease->process.pid, name, sizeof name));
        break;
    case LEASE_FILE:
        buf_puts(out, "file ");
        text_sanitize(slice_of(lease->path), out);
        break;
    case LEASE_UNTIL:
        buf_printf(out, "until %s", time_format(lease->until_ns, name));
        break;
    }
    if (uname(&self) == 0 && strcmp(self.nodename, lease->host) != 0) {
        buf_puts(out, " on ");
        text_sanitize(slice_of(lease->host), out);
    }
    buf_printf(out, " since %s: ", duration_format(age > 0 ? age - age % NS_PER_S : 0, span));
    text_sanitize(slice_of(lease->purpose), out);
    return buf_failed(out, NULL);
}

/* ---- the directory ---- */

struct walk {
    int dirfd;
    const struct larder_digest *digest;
    int (*fn)(void *arg, const struct lease *lease);
    void *arg;
    struct larder_error *e;
};

static int walk_name(void *arg, const char *name, unsigned char type)
{
    const struct walk *w = arg;
    struct lease lease = {0};
    struct buf text = BUF_INIT(LEASE_BYTES_MAX + 1);
    (void)type;

    if (!id_is_ours(name))
        return 0;
    int r = store_read_file(w->dirfd, name, LEASE_BYTES_MAX, &text, NULL, w->e);
    if (r == -LARDER_NOENT) {
        buf_done(&text);
        error_clear(w->e);
        return 0; /* given back meanwhile */
    }
    if (r == 0)
        r = lease_parse(buf_slice(&text), &lease, w->e);
    if (r == 0 && strcmp(lease.id, name) != 0)
        r = damaged(w->e, "its id is not its name");
    buf_done(&text);
    if (r < 0) {
        lease_done(&lease);
        error_context(w->e, "leases/%s", name);
        return r;
    }
    if (!w->digest || larder_digest_equal(w->digest, &lease.digest))
        r = w->fn(w->arg, &lease);
    lease_done(&lease);
    return r;
}

int lease_each(struct larder_store *store, const struct larder_digest *digest,
               int (*fn)(void *arg, const struct lease *lease), void *arg, struct larder_error *e)
{
    struct walk w = {-1, digest, fn, arg, e};
    int r = store_place(store, STORE_LEASES, &w.dirfd, e);
    return r < 0 ? r : dir_each(w.dirfd, walk_name, &w, e);
}

static int hold(void *arg, const struct lease *lease)
{
    bool *holds = arg;
    *holds = lease_check(lease) != PROCESS_DEAD;
    return *holds;
}

int lease_holds(struct larder_store *store, const struct larder_digest *digest, bool *ret,
                struct larder_error *e)
{
    bool holds = false;
    int r = lease_each(store, digest, hold, &holds, e);
    if (r < 0)
        return r;
    *ret = holds;
    return 0;
}

struct sweep {
    struct larder_store *store;
    bool dry_run;
    uint64_t removed;
    struct larder_error *e;
};

static int sweep_lease(void *arg, const struct lease *lease)
{
    struct sweep *s = arg;
    int r = 0;
    if (lease_check(lease) != PROCESS_DEAD)
        return 0;
    if (!s->dry_run)
        r = larder_lease_release(s->store, lease->id, s->e);
    if (r == 0)
        s->removed++;
    return r;
}

int lease_sweep(struct larder_store *store, bool dry_run, uint64_t *ret_removed,
                struct larder_error *e)
{
    struct sweep s = {store, dry_run, 0, e};
    int r = lease_each(store, NULL, sweep_lease, &s, e);
    if (r < 0)
        return r;
    *ret_removed = s.removed;
    return 0;
}

/* ---- public ---- */

/* Fills what all kinds have, and writes it. The lease's strings are borrowed. */
static int take(struct larder_store *store, struct lease *lease, const char *purpose,
                bool is_durable, char ret_id[LARDER_LEASE_ID_BYTES], struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    uint8_t random[LEASE_ID_RANDOM];
    struct utsname self = {0};
    enum blob_state state = BLOB_MISSING;
    CLEANUP_CLOSE int lock = -1;

    if (strlen(purpose) > LEASE_PURPOSE_MAX)
        return error_set(e, LARDER_LIMIT, "lease: purpose of %zu bytes, expected at most %d",
                         strlen(purpose), LEASE_PURPOSE_MAX);
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random || uname(&self) < 0)
        return error_errno(e, errno, "lease");
    hex_encode(random, sizeof random, lease->id);
    lease->purpose = (char *)(uintptr_t)purpose;
    lease->created_ns = clock_realtime_ns();
    /* Under the lock gc looks again at leases: ours is either seen, or the blob is gone here. */
    int r = store_lock(store, "gc", false, true, &lock, e);
    if (r == 0)
        r = blob_check(store, &lease->digest, &state, NULL, NULL, e);
    if (r < 0)
        return r;
    if (state == BLOB_MISSING || state == BLOB_MARKED)
        return error_set(e, LARDER_NOENT, "lease: there is no blob %s",
                         larder_digest_format(&lease->digest, text));
    struct buf out = BUF_INIT(LEASE_BYTES_MAX);
    lease->host = self.nodename;
    r = lease_format(lease, &out, e);
    lease->host = NULL; /* ends with us */
    if (r == 0)
        r = store_write_file(store, STORE_LEASES, lease->id, out.p, out.n,
                             STORE_WRITE_NEW | (is_durable ? STORE_WRITE_DURABLE : 0), 0, e);
    buf_done(&out);
    if (r == 0)
        memcpy(ret_id, lease->id, LARDER_LEASE_ID_BYTES);
    return r;
}

int larder_lease_process(struct larder_store *store, const struct larder_digest *digest, pid_t pid,
                         const char *purpose, char ret_id[LARDER_LEASE_ID_BYTES],
                         struct larder_error *e)
{
    struct lease lease = {.kind = LEASE_PROCESS, .digest = *digest};
    int r = store_require_writable(store, e);
    if (r == 0)
        r = process_id_of(pid, &lease.process, e);
    /* Not durable: a power loss ends the process too. */
    return r < 0 ? r : take(store, &lease, purpose, false, ret_id, e);
}

int lease_image(struct larder_store *store, const struct larder_digest *digest,
                const char *media_type, const char *purpose, char ret_id[LARDER_LEASE_ID_BYTES],
                struct larder_error *e)
{
    struct lease lease = {.kind = LEASE_PROCESS, .digest = *digest};
    int r = store_require_writable(store, e);
    if (r == 0)
        r = process_id_self(&lease.process, e);
    lease.media_type = (char *)(uintptr_t)media_type; /* borrowed, as purpose is in take() */
    return r < 0 ? r : take(store, &lease, purpose, false, ret_id, e);
}

static int lease_file(struct larder_store *store, const struct larder_digest *digest,
                      const char *path, int fd, const char *purpose,
                      char ret_id[LARDER_LEASE_ID_BYTES], struct larder_error *e)
{
    struct lease lease = {.kind = LEASE_FILE, .digest = *digest};
    CLEANUP_FREE char *absolute = NULL;
    struct stat st;

    int r = store_require_writable(store, e);
    if (r == 0)
        r = path_absolute(path, &absolute, e);
    if (r < 0 || !absolute)
        return r;
    if ((fd >= 0 ? fstat(fd, &st) : stat(absolute, &st)) < 0)
        return error_errno(e, errno, "lease on %s", absolute);
    lease.path = absolute;
    lease.device = st.st_dev;
    lease.inode = st.st_ino;
    return take(store, &lease, purpose, true, ret_id, e);
}

int lease_unnamed_file(struct larder_store *store, const struct larder_digest *digest, int fd,
                       const char *path, const char *purpose, char ret_id[LARDER_LEASE_ID_BYTES],
                       struct larder_error *e)
{
    return lease_file(store, digest, path, fd, purpose, ret_id, e);
}

bool lease_is_there(struct larder_store *store, const char *id)
{
    struct stat st;
    int dirfd = -1;

    return store_place(store, STORE_LEASES, &dirfd, NULL) == 0 &&
           fstatat(dirfd, id, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int larder_lease_file(struct larder_store *store, const struct larder_digest *digest,
                      const char *path, const char *purpose, char ret_id[LARDER_LEASE_ID_BYTES],
                      struct larder_error *e)
{
    return lease_file(store, digest, path, -1, purpose, ret_id, e);
}

int larder_lease_until(struct larder_store *store, const struct larder_digest *digest,
                       int64_t until_ns, const char *purpose, char ret_id[LARDER_LEASE_ID_BYTES],
                       struct larder_error *e)
{
    struct lease lease = {.kind = LEASE_UNTIL, .digest = *digest, .until_ns = until_ns};
    int r = store_require_writable(store, e);
    return r < 0 ? r : take(store, &lease, purpose, true, ret_id, e);
}

int larder_lease_release(struct larder_store *store, const char *id, struct larder_error *e)
{
    int dirfd = -1;

    if (!id_is_ours(id))
        return error_set(e, LARDER_INVAL, "lease %.64s: not a lease id", id);
    int r = store_require_writable(store, e);
    if (r == 0)
        r = store_place(store, STORE_LEASES, &dirfd, e);
    return r < 0 ? r : file_remove(dirfd, id, e);
}
