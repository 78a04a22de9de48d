/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A registry store on tests/registry/server.py, with sources and sinks of blobs that remember what
 * happened to them.
 */
#include "registry_server.h"

#include <larder/registry.h>

#include "base/error.h"
#include "base/hash.h"
#include "store/registry/registry.h"
#include "store/store.h"

#define WAIT_NS (2LL * 1000 * 1000) /* between tries */

struct fixture {
    struct registry_server server;
    struct larder_registry_options options;
    struct larder_net_options net;
    struct larder_observer observer;
    struct store *store;
    struct larder_error e;
    char conf[96]; /* registries.conf, empty at first */
    int warnings, notes;
    char warning[512], note[1024];
    bool is_canceled;
};

static inline void fixture_warning(void *arg, const char *msg)
{
    struct fixture *f = arg;
    f->warnings++;
    snprintf(f->warning, sizeof(f->warning), "%s", msg);
}

static inline void fixture_note(void *arg, const char *msg)
{
    struct fixture *f = arg;
    f->notes++;
    snprintf(f->note, sizeof(f->note), "%s", msg);
}

static inline bool fixture_is_canceled(void *arg)
{
    const struct fixture *f = arg;
    return f->is_canceled;
}

static inline struct remote_options fixture_remote(struct fixture *f)
{
    return (struct remote_options){
        .options = &f->options,
        .observer = &f->observer,
        .retry_wait_ns = WAIT_NS,
    };
}

static inline void fixture_reset(struct fixture *f)
{
    const struct larder_registry_options options = LARDER_REGISTRY_OPTIONS_INIT;
    const struct larder_net_options net = LARDER_NET_OPTIONS_INIT;
    f->options = options;
    f->options.registries_conf = f->conf;
    f->options.is_anonymous = true;
    f->net = net;
    f->net.stall_timeout_ns = 3600LL * 1000 * 1000 * 1000; /* the test's own limit is shorter */
    f->options.net = &f->net;
    f->observer = (struct larder_observer){
        .arg = f,
        .warning = fixture_warning,
        .note = fixture_note,
        .is_canceled = fixture_is_canceled,
    };
    f->warnings = f->notes = 0;
    f->is_canceled = false;
    f->warning[0] = f->note[0] = '\0';
    error_clear(&f->e);
}

/* The server with these settings and without content; the old store is closed, none is open. */
static inline void fixture_set(struct fixture *f, const char *json)
{
    store_close(f->store);
    f->store = NULL;
    fixture_reset(f);
    registry_server_set(&f->server, json);
}

static inline void fixture_forget(struct fixture *f)
{
    assert_int_equal(registry_server_ask(&f->server, "DELETE", "/_content", "-", "", 0, NULL), 200);
}

/* Opens (again) the repository; nothing that was learned is known to it. */
static inline struct store *fixture_open(struct fixture *f, const char *repository, bool is_write)
{
    struct oci_reference reference = {0};
    char text[512];
    const struct remote_options remote = fixture_remote(f);
    store_close(f->store);
    f->store = NULL;
    snprintf(text, sizeof(text), "127.0.0.1:%d/%s", f->server.port, repository);
    assert_int_equal(oci_reference_parse(text, &reference, &f->e), 0);
    int rc = registry_open(&reference, &remote, is_write ? STORE_OPEN_WRITE : 0, &f->store, &f->e);
    oci_reference_done(&reference);
    if (rc < 0)
        print_message("%s\n", f->e.msg);
    assert_int_equal(rc, 0);
    return f->store;
}

static inline int fixture_count(struct fixture *f, const char *text)
{
    return registry_server_count(&f->server, text);
}

/* Shows the log when the count is another. */
static inline void fixture_expect(struct fixture *f, const char *text, int n, int line)
{
    int found = fixture_count(f, text);
    if (found == n)
        return;
    struct buf log = registry_server_log(&f->server);
    print_message("line %d: %d times \"%s\" in:\n%s", line, found, text, log.p ? log.p : "");
    buf_done(&log);
    fail();
}
#define EXPECT(f, text, n) fixture_expect(f, text, n, __LINE__)

static inline void fixture_rc(struct fixture *f, int rc, int expected, int line)
{
    if (rc == expected)
        return;
    struct buf log = registry_server_log(&f->server);
    print_message("line %d: %d (%s; %s), expected %d; log:\n%s", line, rc, f->e.msg, f->e.hint,
                  expected, log.p ? log.p : "");
    buf_done(&log);
    fail();
}
#define RC(f, rc, expected) fixture_rc(f, rc, expected, __LINE__)

/* ---- bytes ---- */

static inline char *fixture_bytes(size_t n, unsigned seed)
{
    char *p = malloc(n + 1);
    assert_non_null(p);
    uint32_t x = seed * 2654435761U + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525U + 1013904223U;
        p[i] = (char)(x >> 24);
    }
    return p;
}

static inline struct store_descriptor fixture_descriptor(const void *data, size_t n)
{
    struct store_descriptor d = {.size_bytes = n};
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, data, n, &d.digest, NULL), 0);
    return d;
}

/* Bytes that the server gets without a request of ours. */
static inline struct store_descriptor fixture_has_blob(struct fixture *f, const char *repository,
                                                       const void *data, size_t n)
{
    char path[256];
    snprintf(path, sizeof(path), "/_blob/%s", repository);
    assert_int_equal(registry_server_ask(&f->server, "PUT", path, "-", data, n, NULL), 200);
    return fixture_descriptor(data, n);
}

/* Whether the server has exactly these bytes. */
static inline bool fixture_stored(struct fixture *f, const char *repository, const void *data,
                                  size_t n)
{
    struct buf got = BUF_INIT(256 << 20);
    char path[512];
    char digest[LARDER_DIGEST_TEXT_BYTES];
    struct store_descriptor d = fixture_descriptor(data, n);
    snprintf(path, sizeof(path), "/_blob/%s/%s", repository,
             larder_digest_format(&d.digest, digest));
    int status = registry_server_ask(&f->server, "GET", path, "-", "", 0, &got);
    bool is_same = status == 200 && got.n == n && (n == 0 || memcmp(got.p, data, n) == 0);
    buf_done(&got);
    return is_same;
}

/* ---- a sink ---- */

struct sink {
    struct buf bytes;
    int restarts;
    size_t fail_at; /* write fails there; 0: never */
    char room[8192];
    bool has_room;
};

static inline int sink_write(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct sink *s = arg;
    if (s->fail_at > 0 && s->bytes.n + n >= s->fail_at)
        return error_set(e, LARDER_NOSPACE, "disk full");
    buf_append(&s->bytes, data, n);
    return buf_failed(&s->bytes, e);
}

static inline int sink_restart(void *arg, struct larder_error *e)
{
    struct sink *s = arg;
    (void)e;
    s->restarts++;
    s->bytes.n = 0;
    return 0;
}

static inline void *sink_room(void *arg, size_t *ret_n)
{
    struct sink *s = arg;
    *ret_n = sizeof(s->room);
    return s->room;
}

static inline int fixture_get(struct fixture *f, const struct store_descriptor *blob,
                              struct sink *s)
{
    struct blob_sink sink = {.write = sink_write, .restart = sink_restart, .arg = s};
    if (s->has_room)
        sink.room = sink_room;
    buf_done(&s->bytes);
    s->bytes = BUF_INIT(256 << 20);
    s->restarts = 0;
    error_clear(&f->e);
    return f->store->ops->blob_get(f->store, blob, 0, &sink, &f->e);
}

/* ---- a source ---- */

struct source {
    const char *data;
    size_t n, at;
    int seeks;
    uint64_t sent_bytes;
};

static inline int source_read(void *arg, void *to, size_t n, size_t *ret_n, struct larder_error *e)
{
    struct source *s = arg;
    (void)e;
    size_t left = s->n - s->at;
    *ret_n = n < left ? n : left;
    memcpy(to, s->data + s->at, *ret_n);
    s->at += *ret_n;
    return 0;
}

static inline int source_seek(void *arg, uint64_t offset, struct larder_error *e)
{
    struct source *s = arg;
    (void)e;
    s->seeks++;
    s->at = (size_t)offset;
    return 0;
}

static inline int source_sent(void *arg, uint64_t done_bytes, struct larder_error *e)
{
    struct source *s = arg;
    (void)e;
    s->sent_bytes = done_bytes;
    return 0;
}

enum source_kind { SOURCE_FILE, SOURCE_SEEK, SOURCE_ONCE };

/* Pushes data; how comes back in *ret_how. */
static inline int fixture_put(struct fixture *f, enum source_kind kind, const void *data, size_t n,
                              const char *from, bool is_missing, enum blob_how *ret_how)
{
    struct store_descriptor d = fixture_descriptor(data, n);
    struct source s = {.data = data, .n = n};
    struct blob_source source = {
        .extent = {.fd = -1}, .read = source_read, .sent = source_sent, .arg = &s};
    char name[] = "/tmp/larder-test-XXXXXX";
    if (kind == SOURCE_SEEK)
        source.seek = source_seek;
    if (kind == SOURCE_FILE) {
        int fd = mkostemp(name, O_CLOEXEC);
        assert_true(fd >= 0);
        unlink(name);
        assert_int_equal(fd_write_full(fd, "leading", 7), 0);
        assert_int_equal(fd_write_full(fd, data, n), 0);
        assert_int_equal(fd_write_full(fd, "trailing", 8), 0);
        source.extent = (struct store_extent){fd, 7, n};
        source.read = NULL;
    }
    error_clear(&f->e);
    enum blob_how how = BLOB_EXISTED;
    int rc = f->store->ops->blob_put(f->store, &d, &source, from, is_missing, &how, &f->e);
    if (source.extent.fd >= 0)
        close(source.extent.fd);
    if (rc == 0 && how == BLOB_COPIED)
        assert_int_equal(s.sent_bytes, n);
    if (ret_how)
        *ret_how = how;
    return rc;
}

static inline void fixture_conf(struct fixture *f, const char *text)
{
    FILE *file = fopen(f->conf, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static inline int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    registry_server_start(&f->server, false);
    snprintf(f->conf, sizeof(f->conf), "%s/registries.conf", f->server.dir);
    fixture_conf(f, "");
    fixture_reset(f);
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    registry_server_stop(&f->server);
    free(f);
    return 0;
}
