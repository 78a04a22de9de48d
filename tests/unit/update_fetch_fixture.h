/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Images at a scripted registry, made layer by layer, whose updates are recorded and fetched into a
 * store of the test's own.
 *
 *     struct layer l[2] = {layer_of(1, 5000), layer_of(2, 6000)};
 *     put_image("a/b", "latest", "1", l, 2, NULL);   version 1
 *     record_now(b);                                 as a check does; empties the log
 *     fetch_ok(b, NULL);                             b->got
 *     T(test) in the list; TESTS_MAIN(tests)
 */
#include "registry_server.h"

#include <larder/update.h>

#include "base/error.h"
#include "base/hash.h"
#include "oci/media_type.h"

#define WORDS     400
#define PLATFORM  "linux/amd64"
#define BIG_BYTES (3UL * 1024 * 1024)

static struct registry_server server;

struct bed {
    char dir[64];
    char path[128]; /* of the store */
    struct larder_store *store;
    struct larder_error e;
    struct larder_update_fetched got;
};

static inline int bed_setup(void **state)
{
    struct larder_store_options options = LARDER_STORE_OPTIONS_INIT;
    struct bed *b = calloc(1, sizeof(*b));

    assert_non_null(b);
    registry_server_set(&server, "{}");
    assert_int_equal(registry_server_ask(&server, "DELETE", "/_content", "-", "", 0, NULL), 200);
    strcpy(b->dir, "/tmp/larder-test-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->path, sizeof(b->path), "%s/store", b->dir);
    options.flags = LARDER_STORE_CREATE;
    assert_int_equal(larder_store_open(b->path, &options, &b->store, &b->e), 0);
    *state = b;
    return 0;
}

static inline int bed_teardown(void **state)
{
    struct bed *b = *state;
    char command[128];

    larder_update_fetched_done(&b->got);
    larder_store_close(b->store);
    snprintf(command, sizeof(command), "rm -rf -- '%s'", b->dir);
    free(b);
    return system(command);
}

/* ---- images at the registry ---- */

struct layer {
    const char *media_type;
    char *data; /* as it is stored */
    size_t n;
    struct larder_digest digest, diff_id;
};

static inline struct larder_digest digest_of(const void *data, size_t n)
{
    struct larder_digest d;

    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, data, n, &d, NULL), 0);
    return d;
}

/* Bytes that don't compress; same words, same bytes. */
static inline struct layer layer_of(unsigned seed, size_t n)
{
    struct layer l = {.media_type = OCI_TYPE_LAYER_GZIP, .data = malloc(n), .n = n};
    uint64_t x = seed * 2654435761ULL + 88172645463325252ULL;

    assert_non_null(l.data);
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        l.data[i] = (char)x;
    }
    l.digest = digest_of(l.data, n);
    l.diff_id = digest_of(&seed, sizeof(seed));
    return l;
}

/* The same layer, uncompressed and packed. */
static inline void layers_of_one_content(const struct bed *b, struct layer *plain,
                                         struct layer *packed)
{
    char command[300], name[128];
    FILE *f;

    *plain = layer_of(77, 200000);
    plain->media_type = OCI_TYPE_LAYER;
    plain->diff_id = plain->digest;
    snprintf(name, sizeof(name), "%s/plain", b->dir);
    f = fopen(name, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(plain->data, 1, plain->n, f), plain->n);
    fclose(f);
    snprintf(command, sizeof(command), "gzip -nk '%s'", name);
    assert_int_equal(system(command), 0);
    strcat(name, ".gz");
    *packed = (struct layer){.media_type = OCI_TYPE_LAYER_GZIP, .diff_id = plain->diff_id};
    f = fopen(name, "re");
    assert_non_null(f);
    packed->data = malloc(plain->n + 1000);
    assert_non_null(packed->data);
    packed->n = fread(packed->data, 1, plain->n + 1000, f);
    fclose(f);
    packed->digest = digest_of(packed->data, packed->n);
}

static inline void layers_free(struct layer *layers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(layers[i].data);
}

static inline void put_blob(const char *repo, const void *data, size_t n)
{
    char path[WORDS];

    snprintf(path, sizeof(path), "/_blob/%s", repo);
    assert_int_equal(registry_server_ask(&server, "PUT", path, "-", data, n, NULL), 200);
}

static inline void forget(const char *kind, const char *repo, const struct larder_digest *digest)
{
    char path[WORDS], text[LARDER_DIGEST_TEXT_BYTES];

    snprintf(path, sizeof(path), "/_%s/%s/%s", kind, repo, larder_digest_format(digest, text));
    assert_int_equal(registry_server_ask(&server, "DELETE", path, "-", "", 0, NULL), 200);
}

/* Puts an image with these layers; sizes: what the manifest claims (NULL: the truth). */
static inline struct larder_digest put_image(const char *repo, const char *tag, const char *version,
                                             const struct layer *layers, size_t n,
                                             const uint64_t *sizes)
{
    struct buf config = BUF_INIT(1 << 20), manifest = BUF_INIT(1 << 20);
    char text[LARDER_DIGEST_TEXT_BYTES], path[WORDS];
    struct larder_digest d;

    buf_printf(&config,
               "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Labels\":{"
               "\"version\":\"%s\"}},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[",
               version);
    for (size_t i = 0; i < n; i++)
        buf_printf(&config, "%s\"%s\"", i ? "," : "",
                   larder_digest_format(&layers[i].diff_id, text));
    buf_puts(&config, "]}}");
    put_blob(repo, config.p, config.n);
    d = digest_of(config.p, config.n);
    buf_printf(&manifest,
               "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":{"
               "\"mediaType\":\"" OCI_TYPE_CONFIG "\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
               larder_digest_format(&d, text), config.n);
    for (size_t i = 0; i < n; i++) {
        put_blob(repo, layers[i].data, layers[i].n);
        buf_printf(&manifest, "%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%llu}",
                   i ? "," : "", layers[i].media_type,
                   larder_digest_format(&layers[i].digest, text),
                   (unsigned long long)(sizes ? sizes[i] : layers[i].n));
    }
    buf_puts(&manifest, "]}");
    snprintf(path, sizeof(path), "/_manifest/%s/%s", repo, tag);
    assert_int_equal(
        registry_server_ask(&server, "PUT", path, OCI_TYPE_MANIFEST, manifest.p, manifest.n, NULL),
        200);
    d = digest_of(manifest.p, manifest.n);
    buf_done(&config);
    buf_done(&manifest);
    return d;
}

/* ---- what the tests do ---- */

static inline const char *ref(void)
{
    static char text[WORDS];

    snprintf(text, sizeof(text), "docker://127.0.0.1:%d/a/b:latest", server.port);
    return text;
}

static inline void done(int rc, const struct larder_error *e)
{
    if (rc < 0)
        fail_msg("%s", e->msg);
}

/* No stall ends a request before the test's own limit does. */
static struct larder_net_options net = LARDER_NET_OPTIONS_INIT;
static struct larder_registry_options registry = LARDER_REGISTRY_OPTIONS_INIT;
static const struct larder_update_options plain = {
    .size = sizeof(plain), .platform = PLATFORM, .registry = &registry};

static inline void record_now(struct bed *b)
{
    struct larder_update u = {.size = sizeof(u)};

    done(larder_update_check(b->store, ref(), &plain, &u, &b->e), &b->e);
    assert_int_equal(u.state, LARDER_UPDATE_AVAILABLE);
    larder_update_done(&u);
    registry_server_set(&server, "{}");
}

static inline enum larder_update_state state_now(struct bed *b)
{
    struct larder_update u = {.size = sizeof(u)};

    done(larder_update_show(b->store, ref(), &plain, &u, &b->e), &b->e);
    enum larder_update_state state = u.state;
    larder_update_done(&u);
    return state;
}

static inline int fetch_with(struct bed *b, const struct larder_update_options *options,
                             const struct larder_update_fetch_options *fetch)
{
    larder_update_fetched_done(&b->got);
    error_clear(&b->e);
    return larder_update_fetch(b->store, ref(), options, fetch, &b->got, &b->e);
}

static inline void fetch_ok(struct bed *b, const struct larder_update_fetch_options *fetch)
{
    done(fetch_with(b, &plain, fetch), &b->e);
}

static inline bool has_blob(const struct bed *b, const struct larder_digest *digest)
{
    char path[WORDS], hex[LARDER_DIGEST_TEXT_BYTES];

    snprintf(path, sizeof(path), "%s/blobs/sha256/%s", b->path, larder_digest_hex(digest, hex));
    return access(path, F_OK) == 0;
}

/* What the base's name points to; alg NONE: it is not there. */
static inline struct larder_digest base_digest(const struct bed *b)
{
    char location[WORDS];
    struct larder_manifest m = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_digest d = {0};

    snprintf(location, sizeof(location), "store:%s", ref() + strlen("docker://"));
    if (larder_manifest_get(b->store, location, NULL, NULL, &m, &e) == 0)
        d = m.digest;
    larder_manifest_done(&m);
    return d;
}

static inline bool is_base(const struct bed *b, const struct larder_digest *digest)
{
    struct larder_digest d = base_digest(b);

    return larder_digest_equal(&d, digest);
}

static inline int count_leases(const struct bed *b)
{
    char command[WORDS];
    int n = -1;

    snprintf(command, sizeof(command), "ls -A '%s/leases' | wc -l", b->path);
    FILE *p = popen(command, "re");
    assert_non_null(p);
    assert_int_equal(fscanf(p, "%d", &n), 1);
    pclose(p);
    return n;
}

static inline bool says(const char *text, const char *what)
{
    const char *all = text ? text : "";
    bool is = strstr(all, what) != NULL;

    if (!is)
        print_error("\"%s\" is not in: %s\n", what, all);
    return is;
}

static inline int group_setup(void **state)
{
    (void)state;
    net.stall_timeout_ns = 3600LL * 1000 * 1000 * 1000;
    registry.net = &net;
    registry_server_start(&server, false);
    return 0;
}

static inline int group_teardown(void **state)
{
    (void)state;
    registry_server_stop(&server);
    return 0;
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, bed_setup, bed_teardown)
