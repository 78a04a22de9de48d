/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Updates of a scripted registry's images, with bases and records in a store of the test's own.
 *
 *     struct bench b;
 *     bench_start(&b);                         once
 *     bench_reset(&b, "{}");                   a new store, nothing at the registry; no state dir
 *     bench_image(&b, "os", "stable", 1, "");  seed 1; more members for POST /_image
 *     bench_copy(&b, "os:stable");             into the store: the base
 *     u = bench_check(&b, "os:stable");        or fails; larder_update_done(&u)
 *     assert_int_equal(bench_requests(&b), 1); since the last bench_quiet() or bench_check()
 *     bench_stop(&b);
 */
#include "registry_server.h"

#include <larder/copy.h>
#include <larder/update.h>

#include "base/hash.h"
#include "oci/media_type.h"

#define BENCH_TEXT 400

struct bench {
    struct registry_server server;
    char dir[64];
    char path[128]; /* of the store */
    char state_dir[128];
    char conf[128]; /* registries.conf: empty */
    struct larder_store *store;
    struct larder_update_options options;
    struct larder_registry_options registry;
    struct larder_net_options net;
    struct larder_observer observer;
    int warnings;
    char warning[512];
    bool is_canceled;
    struct larder_error e; /* of the last failure */
};

static inline void bench_warning(void *arg, const char *msg)
{
    struct bench *b = arg;
    b->warnings++;
    snprintf(b->warning, sizeof(b->warning), "%s", msg);
}

static inline bool bench_is_canceled(void *arg)
{
    const struct bench *b = arg;
    return b->is_canceled;
}

static inline void bench_run(const char *words, const char *path)
{
    char command[BENCH_TEXT + 64];
    snprintf(command, sizeof(command), "%s '%s'", words, path);
    assert_int_equal(system(command), 0);
}

static inline void bench_open(struct bench *b, unsigned flags)
{
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    options.flags = flags;
    larder_store_close(b->store);
    b->store = NULL;
    if (larder_store_open(b->path, &options, &b->store, &b->e) < 0)
        fail_msg("%s", b->e.msg);
}

static inline void bench_start(struct bench *b)
{
    memset(b, 0, sizeof(*b));
    registry_server_start(&b->server, false);
    snprintf(b->dir, sizeof(b->dir), "/tmp/larder-test-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->path, sizeof(b->path), "%s/store", b->dir);
    snprintf(b->state_dir, sizeof(b->state_dir), "%s/state", b->dir);
    snprintf(b->conf, sizeof(b->conf), "%s/conf", b->dir);
    bench_run(":>", b->conf);
}

static inline void bench_stop(struct bench *b)
{
    larder_store_close(b->store);
    registry_server_stop(&b->server);
    bench_run("rm -rf --", b->dir);
}

/* Settings of the registry; the log is empty. */
static inline void bench_set(struct bench *b, const char *settings)
{
    registry_server_set(&b->server, settings);
}

static inline void bench_quiet(struct bench *b)
{
    assert_int_equal(registry_server_ask(&b->server, "DELETE", "/_log", "-", "", 0, NULL), 200);
}

static inline void bench_reset(struct bench *b, const char *settings)
{
    const struct larder_update_options options = LARDER_UPDATE_OPTIONS_INIT;
    const struct larder_registry_options registry = LARDER_REGISTRY_OPTIONS_INIT;
    const struct larder_net_options net = LARDER_NET_OPTIONS_INIT;

    larder_store_close(b->store);
    b->store = NULL;
    bench_run("rm -rf --", b->path);
    bench_run("rm -rf --", b->state_dir);
    bench_open(b, LARDER_STORE_CREATE);
    assert_int_equal(registry_server_ask(&b->server, "DELETE", "/_content", "-", "", 0, NULL), 200);
    bench_set(b, settings);
    b->net = net;
    b->net.stall_timeout_ns = 3600LL * 1000 * 1000 * 1000; /* the test's own limit is shorter */
    b->net.retries = 0;
    b->registry = registry;
    b->registry.net = &b->net;
    b->registry.is_anonymous = true;
    b->registry.registries_conf = b->conf;
    b->observer = (struct larder_observer){
        .arg = b, .warning = bench_warning, .is_canceled = bench_is_canceled};
    b->options = options;
    b->options.platform = "linux/amd64";
    b->options.registry = &b->registry;
    b->options.observer = &b->observer;
    b->warnings = 0;
    b->is_canceled = false;
}

static inline int bench_requests(struct bench *b)
{
    return registry_server_count(&b->server, "");
}

/* "docker://127.0.0.1:PORT/<rest>"; eight at a time. */
static inline const char *bench_at(const struct bench *b, const char *rest)
{
    static char text[8][BENCH_TEXT + 64];
    static unsigned turn;
    char *to = text[turn++ % 8];
    snprintf(to, sizeof(text[0]), "docker://127.0.0.1:%d/%s", b->server.port, rest);
    return to;
}

/* ---- what is at the registry ---- */

/* Digest of what the tag points to then; more: ", \"platforms\": [...]". */
static inline struct larder_digest bench_image(struct bench *b, const char *repo, const char *tag,
                                               int seed, const char *more)
{
    struct larder_digest digest = {0};
    char text[2 * BENCH_TEXT];
    snprintf(text, sizeof(text),
             "{\"repo\": \"%s\", \"tag\": \"%s\", \"seed\": %d, \"labels\": "
             "{\"org.opencontainers.image.version\": \"%d.0\"}%s}",
             repo, tag, seed, seed, more);
    const char *found = registry_server_image(&b->server, text);
    assert_int_equal(larder_digest_parse(found, (size_t)-1, &digest, NULL), 0);
    return digest;
}

static inline struct larder_digest bench_digest(const void *data, size_t n)
{
    struct larder_digest digest = {0};
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, data, n, &digest, NULL), 0);
    return digest;
}

static inline struct buf bench_get(struct bench *b, const char *path)
{
    struct buf bytes = BUF_INIT(16 << 20);
    assert_int_equal(registry_server_ask(&b->server, "GET", path, "-", "", 0, &bytes), 200);
    return bytes;
}

static inline struct larder_digest bench_put_manifest(struct bench *b, const char *repo,
                                                      const char *tag, const char *type,
                                                      const char *data, size_t n)
{
    struct larder_digest digest = bench_digest(data, n);
    char path[BENCH_TEXT];
    char text[LARDER_DIGEST_TEXT_BYTES];
    snprintf(path, sizeof(path), "/_manifest/%s/%s", repo, larder_digest_format(&digest, text));
    assert_int_equal(registry_server_ask(&b->server, "PUT", path, type, data, n, NULL) / 100, 2);
    snprintf(path, sizeof(path), "/_manifest/%s/%s", repo, tag);
    assert_int_equal(registry_server_ask(&b->server, "PUT", path, type, data, n, NULL) / 100, 2);
    return digest;
}

/* An image of this configuration and n layers that are nowhere. */
static inline struct larder_digest bench_made(struct bench *b, const char *repo, const char *tag,
                                              const char *config, unsigned layers)
{
    struct buf manifest = BUF_INIT(16 << 20);
    struct larder_digest digest = bench_digest(config, strlen(config));
    char path[BENCH_TEXT];
    char text[LARDER_DIGEST_TEXT_BYTES];
    snprintf(path, sizeof(path), "/_blob/%s", repo);
    assert_int_equal(
        registry_server_ask(&b->server, "PUT", path, "-", config, strlen(config), NULL) / 100, 2);
    buf_printf(&manifest,
               "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST
               "\",\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG
               "\",\"size\":%zu,\"digest\":\"%s\"},\"layers\":[",
               strlen(config), larder_digest_format(&digest, text));
    for (unsigned i = 0; i < layers; i++)
        buf_printf(&manifest,
                   "%s{\"mediaType\":\"" OCI_TYPE_LAYER_GZIP
                   "\",\"size\":%u,\"digest\":\"sha256:%064x\"}",
                   i ? "," : "", 1000 + i, i + 1);
    buf_puts(&manifest, "]}");
    assert_int_equal(buf_failed(&manifest, NULL), 0);
    digest = bench_put_manifest(b, repo, tag, OCI_TYPE_MANIFEST, manifest.p, manifest.n);
    buf_done(&manifest);
    return digest;
}

/* ---- what is done ---- */

/* To the name that a check takes for the base. */
static inline void bench_copy(struct bench *b, const char *rest)
{
    struct larder_copy_options options = LARDER_COPY_OPTIONS_INIT;
    struct larder_copy_result result = {.size = sizeof(result)};
    char to[BENCH_TEXT + 64];
    const char *const list[] = {to};
    snprintf(to, sizeof(to), "store:127.0.0.1:%d/%s", b->server.port, rest);
    options.source = bench_at(b, rest);
    options.destinations = list;
    options.n_destinations = 1;
    options.source_options = &b->registry;
    if (larder_copy(b->store, &options, &result, &b->e) < 0)
        fail_msg("%s", b->e.msg);
}

static inline struct larder_update bench_check_ref(struct bench *b, const char *ref)
{
    struct larder_update update = {.size = sizeof(update)};
    bench_quiet(b);
    if (larder_update_check(b->store, ref, &b->options, &update, &b->e) < 0)
        fail_msg("%s: %s", ref, b->e.msg);
    assert_int_equal(update.size, sizeof(update));
    return update;
}

static inline struct larder_update bench_check(struct bench *b, const char *rest)
{
    return bench_check_ref(b, bench_at(b, rest));
}

static inline struct larder_update bench_show_ref(struct bench *b, const char *ref)
{
    struct larder_update update = {.size = sizeof(update)};
    if (larder_update_show(b->store, ref, &b->options, &update, &b->e) < 0)
        fail_msg("%s: %s", ref, b->e.msg);
    return update;
}

/* The answer's state and digest (NULL: none), the number of requests, and show says the same. */
static inline void bench_expect_ref(struct bench *b, const char *ref,
                                    enum larder_update_state state,
                                    const struct larder_digest *digest, int requests, int line)
{
    struct larder_update u = bench_check_ref(b, ref);
    int found = bench_requests(b);
    bench_quiet(b);
    struct larder_update shown = bench_show_ref(b, ref);
    bool is_right = u.state == state && (int)u.requests == requests && found == requests &&
                    u.is_persisted == shown.is_persisted && bench_requests(b) == 0;
    if (digest)
        is_right = is_right && larder_digest_equal(&u.update.digest, digest);
    else
        is_right = is_right && u.update.digest.alg == LARDER_DIGEST_NONE;
    if (u.is_persisted)
        is_right = is_right && shown.state == u.state && shown.checked_at_ns == u.checked_at_ns &&
                   shown.diff.n_layers == u.diff.n_layers &&
                   memcmp(&shown.update.digest, &u.update.digest, sizeof(u.update.digest)) == 0 &&
                   memcmp(&shown.listed, &u.listed, sizeof(u.listed)) == 0;
    if (!is_right) {
        char text[LARDER_DIGEST_TEXT_BYTES];
        fail_msg("line %d: %s, update %s, %d requests (%d said), kept %d; shown: %s, kept %d, "
                 "times %lld %lld; expected %s, %d requests; %s",
                 line, larder_update_state_name(u.state),
                 larder_digest_format(&u.update.digest, text), found, (int)u.requests,
                 u.is_persisted, larder_update_state_name(shown.state), shown.is_persisted,
                 (long long)u.checked_at_ns, (long long)shown.checked_at_ns,
                 larder_update_state_name(state), requests, u.why ? u.why : "");
    }
    larder_update_done(&u);
    larder_update_done(&shown);
}
#define UNCHANGED(b, rest, requests) \
    bench_expect_ref(b, bench_at(b, rest), LARDER_UPDATE_UNCHANGED, NULL, requests, __LINE__)
#define AVAILABLE(b, rest, digest, requests) \
    bench_expect_ref(b, bench_at(b, rest), LARDER_UPDATE_AVAILABLE, digest, requests, __LINE__)

/* A check that fails; nothing that is recorded changes. */
static inline void bench_fails(struct bench *b, const char *ref, enum larder_code code,
                               const char *words, int line)
{
    struct larder_update before = {.size = sizeof(before)};
    struct larder_update after = {.size = sizeof(after)};
    struct larder_update update = {.size = 77};
    struct larder_error e = LARDER_ERROR_INIT;
    bool has_shown = larder_update_show(b->store, ref, &b->options, &before, NULL) == 0;
    bench_quiet(b);
    int rc = larder_update_check(b->store, ref, &b->options, &update, &e);
    if (rc != -(int)code || !strstr(e.msg, words))
        fail_msg("line %d: %d (%s), expected %d and \"%s\"", line, rc, e.msg, -(int)code, words);
    assert_int_equal(update.size, 77);
    assert_null(update.ref);
    assert_int_equal(larder_update_show(b->store, ref, &b->options, &after, NULL) == 0, has_shown);
    assert_int_equal(before.state, after.state);
    assert_int_equal(before.checked_at_ns, after.checked_at_ns);
    assert_memory_equal(&before.update.digest, &after.update.digest, sizeof(after.update.digest));
    larder_update_done(&before);
    larder_update_done(&after);
    b->e = e;
}
#define FAILS(b, rest, code, words) bench_fails(b, bench_at(b, rest), code, words, __LINE__)
