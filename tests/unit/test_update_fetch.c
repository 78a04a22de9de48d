/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching what was recorded: exactly that, from a registry that moved on, lost it, or lies. */
#include "registry_server.h"

#include <larder/maintain.h>
#include <larder/update.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "oci/media_type.h"
#include "update/base.h"

#define WORDS     400
#define PLATFORM  "linux/amd64"
#define BIG_BYTES (3UL * 1024 * 1024)

static struct registry_server server;

/* ---- a repository that has some layers, and a record as ostree-ext writes it ---- */

static struct fake_repository {
    struct larder_digest layers[4];
    size_t n_layers;
    const struct update_record *record; /* NULL */
    const struct base_holder *holders;  /* what they name is all that is looked at */
    size_t n_holders, record_of;        /* the holder with the record */
} repository;

static int copy_text(struct buf *to, const struct buf *from)
{
    *to = BUF_INIT(1 << 20);
    buf_append(to, from->p, from->n);
    return buf_failed(to, NULL);
}

static int repository_holders(struct base *b, struct base_holders *ret, struct larder_error *e)
{
    (void)b;
    (void)e;
    ret->n = repository.n_holders;
    ret->list = calloc(ret->n + 1, sizeof(*ret->list));
    assert_non_null(ret->list);
    for (size_t i = 0; i < ret->n; i++) {
        struct base_holder *h = &ret->list[i];
        const struct base_holder *from = &repository.holders[i];
        *h = (struct base_holder){
            .role = from->role, .digest = from->digest, .is_rewritten = from->is_rewritten};
        h->commit = strdup(from->role);
        h->media_type = strdup(OCI_TYPE_MANIFEST);
        copy_text(&h->manifest, &from->manifest);
        copy_text(&h->config, &from->config);
    }
    return 0;
}

static int repository_record(struct base *b, const struct base_holder *holder,
                             struct update_record *ret, struct larder_error *e)
{
    const struct update_record *from = repository.record;

    (void)b;
    if (!from || (holder && holder->commit && repository.n_holders > 0 &&
                  strcmp(holder->role, repository.holders[repository.record_of].role) != 0))
        return error_set(e, LARDER_NOENT, "no record");
    *ret = *from;
    ret->ref = strdup(from->ref);
    ret->platform = strdup(from->platform);
    ret->media_type = NULL;
    ret->commit = ret->name = NULL;
    copy_text(&ret->manifest, &from->manifest);
    copy_text(&ret->config, &from->config);
    return 0;
}

static int repository_layers(struct base *b, const struct image_view *view,
                             enum larder_update_presence *presence, struct larder_error *e)
{
    (void)e;
    for (size_t i = 0; i < view->n_layers; i++) {
        presence[i] = b->ask->store ? LARDER_UPDATE_HERE : LARDER_UPDATE_NEEDED;
        for (size_t k = 0; k < repository.n_layers; k++)
            if (larder_digest_equal(&view->layers[i].digest, &repository.layers[k]))
                presence[i] = LARDER_UPDATE_HERE;
    }
    return 0;
}

static void repository_close(struct base *b)
{
    free(b);
}

int base_ostree_open(const struct update_ask *ask, struct base **ret, struct larder_error *e)
{
    static const struct base_ops ops = {.holders = repository_holders,
                                        .record_get = repository_record,
                                        .layers_here = repository_layers,
                                        .close = repository_close};
    struct base *b = calloc(1, sizeof(*b));

    (void)e;
    assert_non_null(b);
    b->ops = &ops;
    b->ask = ask;
    b->place = strdup("/ostree/repo");
    b->identity = strdup("/ostree/repo");
    *ret = b;
    return 0;
}

int base_ostree_each(struct larder_store *store, const struct larder_update_options *options,
                     int (*fn)(void *arg, const char *ref, const char *platform), void *arg,
                     struct larder_error *e)
{
    (void)store;
    (void)options;
    (void)fn;
    (void)arg;
    (void)e;
    return 0;
}

int base_ostree_follows(const char *sysroot, char **ret_ref, struct larder_error *e)
{
    (void)sysroot;
    (void)ret_ref;
    return error_set(e, LARDER_NOENT, "none");
}

struct bed {
    char dir[64];
    char path[128]; /* of the store */
    struct larder_store *store;
    struct larder_error e;
    struct larder_update_fetched got;
};

static int bed_setup(void **state)
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
    memset(&repository, 0, sizeof(repository));
    return 0;
}

static int bed_teardown(void **state)
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

static struct larder_digest digest_of(const void *data, size_t n)
{
    struct larder_digest d;

    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, data, n, &d, NULL), 0);
    return d;
}

/* Bytes that don't compress; same words, same bytes. */
static struct layer layer_of(unsigned seed, size_t n)
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
static void layers_of_one_content(const struct bed *b, struct layer *plain, struct layer *packed)
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

static void layers_free(struct layer *layers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(layers[i].data);
}

static void put_blob(const char *repo, const void *data, size_t n)
{
    char path[WORDS];

    snprintf(path, sizeof(path), "/_blob/%s", repo);
    assert_int_equal(registry_server_ask(&server, "PUT", path, "-", data, n, NULL), 200);
}

static void forget(const char *kind, const char *repo, const struct larder_digest *digest)
{
    char path[WORDS], text[LARDER_DIGEST_TEXT_BYTES];

    snprintf(path, sizeof(path), "/_%s/%s/%s", kind, repo, larder_digest_format(digest, text));
    assert_int_equal(registry_server_ask(&server, "DELETE", path, "-", "", 0, NULL), 200);
}

/* Puts an image with these layers; sizes: what the manifest claims (NULL: the truth). */
static struct larder_digest put_image(const char *repo, const char *tag, const char *version,
                                      const struct layer *layers, size_t n, const uint64_t *sizes)
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

static const char *ref(void)
{
    static char text[WORDS];

    snprintf(text, sizeof(text), "docker://127.0.0.1:%d/a/b:latest", server.port);
    return text;
}

static void done(int rc, const struct larder_error *e)
{
    if (rc < 0)
        fail_msg("%s", e->msg);
}

static const struct larder_update_options plain = {.size = sizeof(plain), .platform = PLATFORM};

static void record_now(struct bed *b)
{
    struct larder_update u = {.size = sizeof(u)};

    done(larder_update_check(b->store, ref(), &plain, &u, &b->e), &b->e);
    assert_int_equal(u.state, LARDER_UPDATE_AVAILABLE);
    larder_update_done(&u);
    registry_server_set(&server, "{}");
}

static enum larder_update_state state_now(struct bed *b)
{
    struct larder_update u = {.size = sizeof(u)};

    done(larder_update_show(b->store, ref(), &plain, &u, &b->e), &b->e);
    enum larder_update_state state = u.state;
    larder_update_done(&u);
    return state;
}

static int fetch_with(struct bed *b, const struct larder_update_options *options,
                      const struct larder_update_fetch_options *fetch)
{
    larder_update_fetched_done(&b->got);
    error_clear(&b->e);
    return larder_update_fetch(b->store, ref(), options, fetch, &b->got, &b->e);
}

static void fetch_ok(struct bed *b, const struct larder_update_fetch_options *fetch)
{
    done(fetch_with(b, &plain, fetch), &b->e);
}

static bool has_blob(const struct bed *b, const struct larder_digest *digest)
{
    char path[WORDS], hex[LARDER_DIGEST_TEXT_BYTES];

    snprintf(path, sizeof(path), "%s/blobs/sha256/%s", b->path, larder_digest_hex(digest, hex));
    return access(path, F_OK) == 0;
}

/* What the base's name points to; alg NONE: it is not there. */
static struct larder_digest base_digest(const struct bed *b)
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

static bool is_base(const struct bed *b, const struct larder_digest *digest)
{
    struct larder_digest d = base_digest(b);

    return larder_digest_equal(&d, digest);
}

static int count_leases(const struct bed *b)
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

static bool says(const char *text, const char *what)
{
    if (!strstr(text, what))
        print_error("\"%s\" is not in: %s\n", what, text);
    return strstr(text, what);
}

/* ---- the contract ---- */

static void what_was_recorded_comes(void **state)
{
    struct bed *b = *state;
    struct layer l[3] = {layer_of(1, 5000), layer_of(2, 6000), layer_of(3, 7000)};
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 2, NULL);
    char text[LARDER_DIGEST_TEXT_BYTES], question[WORDS];

    record_now(b);
    fetch_ok(b, NULL);
    assert_true(larder_digest_equal(&b->got.digest, &v1) && is_base(b, &v1));
    assert_false(b->got.was_there || b->got.is_newer || b->got.is_partial);
    assert_int_equal(b->got.layers_fetched, 2);
    assert_int_equal(b->got.bytes_fetched, 11000);
    assert_int_equal(b->got.layers_here, 0);
    /* the manifest, its configuration, two layers: nothing by the tag */
    assert_int_equal(b->got.requests, 4);
    assert_int_equal(registry_server_count(&server, ""), 4);
    assert_int_equal(registry_server_count(&server, "latest"), 0);
    assert_true(says(b->got.location, "store:127.0.0.1:"));
    assert_int_equal(count_leases(b), 0);

    /* The tag moves twice: what was recorded in between is fetched, the layer that is here not. */
    struct larder_digest v2 = put_image("a/b", "latest", "2", &l[1], 2, NULL);
    record_now(b);
    put_image("a/b", "latest", "3", l, 3, NULL);
    registry_server_set(&server, "{}");
    fetch_ok(b, NULL);
    assert_true(larder_digest_equal(&b->got.digest, &v2) && is_base(b, &v2));
    assert_int_equal(b->got.layers_fetched, 1);
    assert_int_equal(b->got.layers_here, 1);
    assert_int_equal(b->got.bytes_here, 6000);
    snprintf(question, sizeof(question), "GET /v2/a/b/manifests/%s",
             larder_digest_format(&v2, text));
    assert_int_equal(registry_server_count(&server, question), 1);
    assert_int_equal(registry_server_count(&server, "/manifests/"), 1);
    assert_true(has_blob(b, &l[2].digest));
    layers_free(l, 3);
}

static void it_is_remembered_as_the_base(void **state)
{
    struct bed *b = *state;
    struct layer l = layer_of(1, 5000);
    struct larder_digest v1 = put_image("a/b", "latest", "1", &l, 1, NULL);
    struct larder_update u = {.size = sizeof(u)};

    record_now(b);
    fetch_ok(b, NULL);
    assert_int_equal(state_now(b), LARDER_UPDATE_UNCHANGED);
    done(larder_update_check(b->store, ref(), &plain, &u, &b->e), &b->e);
    assert_int_equal(u.state, LARDER_UPDATE_UNCHANGED);
    assert_int_equal(u.requests, 1);
    larder_update_done(&u);

    /* Again: nothing is asked. */
    registry_server_set(&server, "{}");
    fetch_ok(b, NULL);
    assert_true(b->got.was_there && larder_digest_equal(&b->got.digest, &v1));
    assert_int_equal(b->got.requests, 0);
    assert_int_equal(b->got.layers_here, 1);
    assert_int_equal(registry_server_count(&server, ""), 0);
    free(l.data);
}

static void nothing_recorded(void **state)
{
    struct bed *b = *state;

    assert_int_equal(fetch_with(b, &plain, NULL), -LARDER_NOENT);
    assert_true(says(b->e.msg, "no update is recorded"));
    assert_true(says(b->e.hint, "update check"));
    assert_int_equal(registry_server_count(&server, ""), 0);
}

static void without_network_when_all_is_here(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, 6000)};
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 2, NULL);

    record_now(b);
    to.to = "store:other";
    fetch_ok(b, &to);
    assert_int_equal(base_digest(b).alg, LARDER_DIGEST_NONE);
    assert_string_equal(b->got.location, "store:other");
    /* A name alone is not enough. */
    char path[WORDS], hex[LARDER_DIGEST_TEXT_BYTES];
    snprintf(path, sizeof(path), "%s/blobs/sha256/%s", b->path, larder_digest_hex(&v1, hex));
    assert_int_equal(unlink(path), 0);
    fetch_ok(b, &to);
    assert_int_equal(b->got.requests, 1);
    assert_false(b->got.was_there);
    /* The record is still one: the base has not moved. */
    registry_server_set(&server, "{\"rules\": [{\"match\": \".\", \"drop\": true}]}");
    fetch_ok(b, NULL);
    assert_true(b->got.was_there && is_base(b, &v1));
    assert_int_equal(b->got.requests, 0);
    /* From the store to a layout, too. */
    char layout[WORDS];
    snprintf(layout, sizeof(layout), "oci:%s/out:v1", b->dir);
    to.to = layout;
    fetch_ok(b, &to);
    assert_int_equal(b->got.requests, 0);
    assert_int_equal(b->got.layers_here, 2);
    assert_string_equal(b->got.location, layout);
    assert_int_equal(registry_server_count(&server, ""), 0);
    assert_int_equal(count_leases(b), 0);
    fetch_ok(b, &to);
    assert_true(b->got.was_there);
    layers_free(l, 2);
}

static void gone(void **state)
{
    struct bed *b = *state;
    struct layer l[3] = {layer_of(1, 5000), layer_of(2, 6000), layer_of(3, BIG_BYTES)};
    struct larder_update_fetch_options one = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 1, NULL);
    one.jobs = 1;

    record_now(b);
    fetch_ok(b, NULL);
    /* The manifest. */
    struct larder_digest v2 = put_image("a/b", "latest", "2", l, 3, NULL);
    record_now(b);
    put_image("a/b", "latest", "3", l, 2, NULL);
    forget("manifest", "a/b", &v2);
    registry_server_set(&server, "{}");
    assert_int_equal(fetch_with(b, &plain, NULL), -LARDER_GONE);
    assert_int_equal(larder_exit_code(b->e.code), 6);
    assert_true(says(b->e.msg, "prepared digest gone"));
    assert_true(says(b->e.msg, larder_digest_format(&v2, text)) && says(b->e.msg, ref()));
    assert_true(says(b->e.hint, "--or-newer"));
    assert_int_equal(registry_server_count(&server, ""), 1);
    assert_true(is_base(b, &v1));
    assert_int_equal(state_now(b), LARDER_UPDATE_AVAILABLE); /* kept */
    assert_false(has_blob(b, &v2) || has_blob(b, &l[1].digest));

    /* A layer. */
    v2 = put_image("a/b", "latest", "2", l, 3, NULL);
    forget("blob", "a/b", &l[2].digest);
    registry_server_set(&server, "{}");
    assert_int_equal(fetch_with(b, &plain, &one), -LARDER_GONE);
    assert_true(says(b->e.msg, "prepared digest gone"));
    assert_true(says(b->e.msg, larder_digest_format(&l[2].digest, text)));
    assert_int_equal(registry_server_count(&server, "latest"), 0);
    assert_true(is_base(b, &v1));
    assert_int_equal(count_leases(b), 0);
    /* It comes back: what came before need not come again. */
    put_image("a/b", "latest", "2", l, 3, NULL);
    fetch_ok(b, NULL);
    assert_true(is_base(b, &v2));
    assert_int_equal(b->got.layers_fetched, 1);
    layers_free(l, 3);
}

static void or_newer(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, 6000)};
    struct larder_update_fetch_options options = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 1, NULL);

    options.or_newer = true;
    record_now(b);
    fetch_ok(b, &options);
    assert_true(is_base(b, &v1));
    struct larder_digest v2 = put_image("a/b", "latest", "2", l, 2, NULL);
    record_now(b);
    forget("manifest", "a/b", &v2);
    struct larder_digest v3 = put_image("a/b", "latest", "3", l, 2, NULL);
    fetch_ok(b, &options);
    assert_true(b->got.is_newer && larder_digest_equal(&b->got.digest, &v3) && is_base(b, &v3));
    /* The same again is gone still. */
    v2 = put_image("a/b", "latest", "4", &l[1], 1, NULL);
    record_now(b);
    forget("blob", "a/b", &l[1].digest);
    larder_store_close(b->store);
    char command[WORDS];
    snprintf(command, sizeof(command), "rm -rf '%s'", b->path);
    assert_int_equal(system(command), 0);
    struct larder_store_options create = LARDER_STORE_OPTIONS_INIT;
    create.flags = LARDER_STORE_CREATE;
    done(larder_store_open(b->path, &create, &b->store, &b->e), &b->e);
    record_now(b);
    assert_int_equal(fetch_with(b, &plain, &options), -LARDER_GONE);
    layers_free(l, 2);
}

static void no_space(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, 6000)};
    const uint64_t sizes[] = {5000, 1ULL << 55};
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    char layout[WORDS];

    put_image("a/b", "latest", "1", l, 2, sizes);
    record_now(b);
    assert_int_equal(fetch_with(b, &plain, NULL), -LARDER_NOSPACE);
    assert_true(says(b->e.msg, "36028797") && says(b->e.msg, "are free"));
    assert_int_equal(registry_server_count(&server, "/blobs/"), 0);
    assert_int_equal(count_leases(b), 0);
    snprintf(layout, sizeof(layout), "oci:%s/no/where:v1", b->dir);
    to.to = layout;
    assert_int_equal(fetch_with(b, &plain, &to), -LARDER_NOSPACE);
    snprintf(layout, sizeof(layout), "%s/no", b->dir);
    assert_int_equal(access(layout, F_OK), -1);
    layers_free(l, 2);
}

static void lies_are_seen(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, BIG_BYTES)};
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 2, NULL);
    char text[LARDER_DIGEST_TEXT_BYTES], rules[WORDS];

    record_now(b);
    snprintf(rules, sizeof(rules), "{\"rules\": [{\"match\": \"GET .*%s\", \"corrupt\": 2000}]}",
             larder_digest_format(&l[1].digest, text));
    registry_server_set(&server, rules);
    assert_int_equal(fetch_with(b, &plain, NULL), -LARDER_MISMATCH);
    assert_false(has_blob(b, &l[1].digest));
    assert_int_equal(base_digest(b).alg, LARDER_DIGEST_NONE);
    assert_int_equal(count_leases(b), 0);
    snprintf(rules, sizeof(rules), "{\"rules\": [{\"match\": \"GET .*%s\", \"text\": \"{}\"}]}",
             larder_digest_format(&v1, text));
    registry_server_set(&server, rules);
    assert_int_equal(fetch_with(b, &plain, NULL), -LARDER_MISMATCH);
    assert_int_equal(registry_server_count(&server, ""), 1);
    registry_server_set(&server, "{}");
    fetch_ok(b, NULL);
    assert_true(is_base(b, &v1));
    layers_free(l, 2);
}

/* Killed in the middle of a layer: the next run goes on there. */
static void a_killed_one_is_gone_on_with(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, BIG_BYTES)};
    struct larder_update_fetch_options dry = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 2, NULL);
    char text[LARDER_DIGEST_TEXT_BYTES], rules[WORDS], path[WORDS];
    struct stat st = {0};
    int status;

    record_now(b);
    snprintf(rules, sizeof(rules),
             "{\"rules\": [{\"match\": \"GET .*%s\", \"stall_after\": 2000000}]}",
             larder_digest_format(&l[1].digest, text));
    registry_server_set(&server, rules);
    pid_t pid = fork();
    if (pid == 0)
        _exit(fetch_with(b, &plain, NULL) == 0 ? 0 : 1);
    snprintf(path, sizeof(path), "%s/partial/oci-sha256-%s", b->path,
             larder_digest_hex(&l[1].digest, text));
    for (unsigned i = 0; i < 1000 && (stat(path, &st) < 0 || st.st_size < 1000000); i++)
        clock_sleep_ns(10 * NS_PER_MS);
    assert_true(st.st_size >= 1000000);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(count_leases(b), 1); /* of a dead process */
    assert_int_equal(base_digest(b).alg, LARDER_DIGEST_NONE);

    registry_server_set(&server, "{}");
    dry.dry_run = true;
    fetch_ok(b, &dry);
    assert_int_equal(registry_server_count(&server, ""), 0);
    assert_in_range(b->got.bytes_resumed, 1000000, 2000000);
    assert_int_equal(base_digest(b).alg, LARDER_DIGEST_NONE);
    fetch_ok(b, NULL);
    assert_true(is_base(b, &v1));
    assert_in_range(b->got.bytes_resumed, 1000000, 2000000);
    assert_true(b->got.bytes_fetched + b->got.bytes_resumed + b->got.bytes_here ==
                BIG_BYTES + 5000);
    layers_free(l, 2);
}

static void dry_runs_only_count(void **state)
{
    struct bed *b = *state;
    struct layer l[2] = {layer_of(1, 5000), layer_of(2, 6000)};
    struct larder_update_fetch_options dry = LARDER_UPDATE_FETCH_OPTIONS_INIT;

    dry.dry_run = true;
    put_image("a/b", "latest", "1", l, 1, NULL);
    record_now(b);
    fetch_ok(b, NULL);
    put_image("a/b", "latest", "2", l, 2, NULL);
    record_now(b);
    fetch_ok(b, &dry);
    assert_int_equal(b->got.layers_fetched, 1);
    assert_int_equal(b->got.bytes_fetched, 6000);
    assert_int_equal(b->got.layers_here, 1);
    assert_false(b->got.was_there);
    dry.to = "oci:/nowhere/at/all";
    fetch_ok(b, &dry);
    assert_int_equal(b->got.layers_here, 1);
    assert_int_equal(registry_server_count(&server, ""), 0);
    assert_int_equal(access("/nowhere", F_OK), -1);
    assert_false(has_blob(b, &l[1].digest));
    layers_free(l, 2);
}

/* ---- what is here ---- */

static void damage(const struct bed *b, const struct larder_digest *digest)
{
    char path[WORDS], hex[LARDER_DIGEST_TEXT_BYTES];
    struct stat st;

    snprintf(path, sizeof(path), "%s/blobs/sha256/%s", b->path, larder_digest_hex(digest, hex));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "!?", 2, 100), 2);
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static void what_is_here_is_hashed(void **state)
{
    struct bed *b = *state;
    struct layer l[3] = {layer_of(1, 5000), layer_of(2, 6000), layer_of(3, 7000)};
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    char layout[WORDS];

    put_image("a/b", "latest", "1", l, 2, NULL);
    record_now(b);
    fetch_ok(b, NULL);
    struct larder_digest v2 = put_image("a/b", "latest", "2", l, 3, NULL);
    record_now(b);
    damage(b, &l[0].digest);
    fetch_ok(b, NULL);
    assert_true(is_base(b, &v2));
    assert_int_equal(b->got.layers_fetched, 2);
    assert_int_equal(b->got.layers_here, 1);
    done(larder_blob_verify(b->store, &l[0].digest, LARDER_VERIFY_DEEP, &b->e), &b->e);

    /* On its way to a layout it is hashed as it is copied. */
    struct larder_digest v3 = put_image("a/b", "latest", "3", l, 3, NULL);
    record_now(b);
    damage(b, &l[1].digest);
    snprintf(layout, sizeof(layout), "oci:%s/out", b->dir);
    to.to = layout;
    fetch_ok(b, &to);
    assert_true(larder_digest_equal(&b->got.digest, &v3));
    assert_true(b->got.layers_fetched >= 1);
    assert_true(is_base(b, &v2));
    /* In the layout it is not ours to remove. */
    char path[WORDS], hex[LARDER_DIGEST_TEXT_BYTES];
    snprintf(path, sizeof(path), "%s/out/blobs/sha256/%s", b->dir,
             larder_digest_hex(&l[2].digest, hex));
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "!", 1, 0), 1);
    close(fd);
    to.to = strcat(layout, ":again");
    assert_int_equal(fetch_with(b, &plain, &to), -LARDER_CORRUPT);
    layers_free(l, 3);
}

static void layers_are_unpacked_by_diff_id(void **state)
{
    struct bed *b = *state;
    struct layer tar, packed, other = layer_of(9, 4000);
    struct larder_update_fetch_options dry = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    char layout[WORDS];

    dry.dry_run = true;
    layers_of_one_content(b, &tar, &packed);
    put_image("a/b", "latest", "1", &packed, 1, NULL);
    record_now(b);
    fetch_ok(b, NULL);
    struct layer l[2] = {tar, other};
    struct larder_digest v2 = put_image("a/b", "latest", "2", l, 2, NULL);
    record_now(b);
    fetch_ok(b, &dry);
    assert_int_equal(b->got.layers_unpacked, 1);
    /* To a layout from the store's, and into the store. */
    snprintf(layout, sizeof(layout), "oci:%s/out:x", b->dir);
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    to.to = layout;
    fetch_ok(b, &to);
    assert_int_equal(b->got.layers_unpacked, 1);
    assert_int_equal(b->got.layers_fetched, 1);
    /* manifest, configuration, the other layer */
    assert_int_equal(registry_server_count(&server, ""), 3);
    /* Damaged, what it would be made from: fetched. */
    damage(b, &packed.digest);
    registry_server_set(&server, "{}");
    fetch_ok(b, NULL);
    assert_int_equal(b->got.layers_unpacked, 0);
    assert_int_equal(b->got.layers_fetched, 2);
    assert_true(is_base(b, &v2));
    layers_free(l, 2);
    free(packed.data);
}

/* ---- gc at the same time ---- */

static pid_t collector(const struct bed *b)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct larder_store *store = NULL;
        struct larder_gc_options options = LARDER_GC_OPTIONS_INIT;
        struct larder_gc_report report;
        options.keep_for_ns = 0;
        options.keep_partial_ns = 0;
        clock_sleep_ns(NS_PER_S / 5); /* what is here is seen by then */
        if (larder_store_open(b->path, NULL, &store, NULL) < 0)
            _exit(2);
        for (;;)
            if (larder_gc(store, &options, &report, NULL) < 0)
                _exit(3);
    }
    return pid;
}

#define RACE_LAYERS 140 /* more than are published together, see dir_store.c */

/*
 * Layers that no ref keeps are here, others come, 128 of them long before the last: all that time
 * gc runs and keeps nothing for its age.
 */
static void gc_takes_nothing_of_it(void **state)
{
    struct bed *b = *state;
    struct layer l[RACE_LAYERS];
    struct larder_update_fetch_options other = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct buf rules = BUF_INIT(1 << 20);
    int status;

    for (unsigned i = 0; i < RACE_LAYERS; i++)
        l[i] = layer_of(100 + i, 300);
    put_image("a/b", "latest", "0", l, 6, NULL);
    record_now(b);
    other.to = "store:other";
    fetch_ok(b, &other);
    done(larder_ref_remove(b->store, "oci/other", &b->e), &b->e);
    struct larder_digest v = put_image("a/b", "latest", "1", l, RACE_LAYERS, NULL);
    record_now(b);
    buf_puts(&rules, "{\"rules\": [{\"delay\": 1, \"match\": \"");
    for (unsigned i = RACE_LAYERS - 3; i < RACE_LAYERS; i++)
        buf_printf(&rules, "%s%s", i == RACE_LAYERS - 3 ? "" : "|",
                   larder_digest_hex(&l[i].digest, hex));
    buf_puts(&rules, "\"}]}");
    registry_server_set(&server, rules.p);
    buf_done(&rules);

    pid_t pid = collector(b);
    int rc = fetch_with(b, &plain, NULL);
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0); /* still well */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    done(rc, &b->e);
    assert_true(is_base(b, &v));
    assert_int_equal(b->got.layers_here, 6);
    for (unsigned i = 0; i < RACE_LAYERS; i++)
        done(larder_blob_verify(b->store, &l[i].digest, LARDER_VERIFY_DEEP, &b->e), &b->e);
    assert_int_equal(b->got.requests, 1 + 1 + RACE_LAYERS - 6);
    layers_free(l, RACE_LAYERS);
}

/* ---- for an ostree repository ---- */

/* What ostree-ext keeps: the same document, written anew, so that the digest is not its bytes'. */
static struct update_record rewritten(struct bed *b, const struct larder_digest *digest)
{
    struct update_record r = {.manifest_digest = *digest,
                              .listed = *digest,
                              .has_update = true,
                              .is_rewritten = true,
                              .manifest = BUF_INIT(1 << 20),
                              .config = BUF_INIT(1 << 20)};
    struct larder_manifest m = {0};

    done(larder_manifest_get(NULL, ref(), NULL, NULL, &m, &b->e), &b->e);
    buf_append(&r.manifest, m.bytes, m.n_bytes);
    buf_puts(&r.manifest, "\n");
    larder_manifest_done(&m);
    r.ref = strdup(ref());
    r.platform = strdup(PLATFORM);
    registry_server_set(&server, "{}");
    return r;
}

static void a_layout_for_the_importer(void **state)
{
    struct bed *b = *state;
    struct layer l[3] = {layer_of(1, 5000), layer_of(2, 6000), layer_of(3, 7000)};
    struct larder_update_options ostree = {
        .size = sizeof(ostree), .platform = PLATFORM, .ostree_repo = b->dir};
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 3, NULL);
    struct update_record record = rewritten(b, &v1);
    char layout[WORDS], path[WORDS], hex[LARDER_DIGEST_TEXT_BYTES];

    repository.layers[0] = l[1].digest;
    repository.n_layers = 1;
    repository.record = &record;
    snprintf(layout, sizeof(layout), "oci:%s/out:v1", b->dir);
    to.to = layout;
    to.is_partial = true;
    done(fetch_with(b, &ostree, &to), &b->e);
    assert_true(b->got.is_partial && larder_digest_equal(&b->got.digest, &v1));
    assert_int_equal(b->got.layers_fetched, 2);
    assert_int_equal(b->got.layers_here, 1);
    snprintf(path, sizeof(path), "%s/out/blobs/sha256/%s", b->dir,
             larder_digest_hex(&l[1].digest, hex));
    assert_int_equal(access(path, F_OK), -1);
    struct larder_manifest m = {0};
    done(larder_manifest_get(NULL, layout, NULL, NULL, &m, &b->e), &b->e);
    assert_true(larder_digest_equal(&m.digest, &v1));
    larder_manifest_done(&m);
    done(fetch_with(b, &ostree, &to), &b->e);
    assert_true(b->got.was_there && b->got.is_partial);
    /* All of it; by default into the store, under REF's name. */
    to.is_partial = false;
    done(fetch_with(b, &ostree, &to), &b->e);
    assert_int_equal(b->got.layers_fetched, 1);
    assert_int_equal(access(path, F_OK), 0);
    done(fetch_with(b, &ostree, NULL), &b->e);
    assert_true(says(b->got.location, "store:127.0.0.1") && is_base(b, &v1));
    to.to = "store:x";
    to.is_partial = true;
    assert_int_equal(fetch_with(b, &ostree, &to), -LARDER_INVAL);
    record_done(&record);
    layers_free(l, 3);
}

static void what_is_staged_was_fetched(void **state)
{
    struct bed *b = *state;
    struct layer l = layer_of(1, 5000);
    struct larder_update_options ostree = {
        .size = sizeof(ostree), .platform = PLATFORM, .ostree_repo = b->dir};
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    struct larder_digest v2 = put_image("a/b", "latest", "2", &l, 1, NULL);
    struct update_record record = rewritten(b, &v2);
    struct base_holder holders[2] = {
        {.role = "image", .digest = v2, .is_rewritten = true, .manifest = record.manifest},
        {.role = "booted", .digest = digest_of("v1", 2), .manifest = record.manifest},
    };
    char layout[WORDS];

    /* Imported, and the record is with the booted deployment's commit still. */
    record.base = holders[1].digest;
    repository.record = &record;
    repository.holders = holders;
    repository.n_holders = 2;
    repository.record_of = 1;
    done(fetch_with(b, &ostree, NULL), &b->e);
    assert_true(b->got.was_there && larder_digest_equal(&b->got.digest, &v2));
    assert_string_equal(b->got.location, "/ostree/repo");
    assert_int_equal(registry_server_count(&server, ""), 0);
    /* Who asks for it elsewhere gets it. */
    snprintf(layout, sizeof(layout), "oci:%s/out", b->dir);
    to.to = layout;
    done(fetch_with(b, &ostree, &to), &b->e);
    assert_int_equal(b->got.layers_fetched, 1);
    assert_string_equal(b->got.location, layout);
    /* Another one is recorded there: of what is in use nothing is. */
    record.manifest_digest = digest_of("v3", 2);
    assert_int_equal(fetch_with(b, &ostree, NULL), -LARDER_NOENT);
    record_done(&record);
    free(l.data);
}

static int group_setup(void **state)
{
    (void)state;
    registry_server_start(&server, false);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    registry_server_stop(&server);
    return 0;
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, bed_setup, bed_teardown)
    const struct CMUnitTest tests[] = {
        T(what_was_recorded_comes),
        T(it_is_remembered_as_the_base),
        T(nothing_recorded),
        T(without_network_when_all_is_here),
        T(gone),
        T(or_newer),
        T(no_space),
        T(lies_are_seen),
        T(a_killed_one_is_gone_on_with),
        T(dry_runs_only_count),
        T(what_is_here_is_hashed),
        T(layers_are_unpacked_by_diff_id),
        T(gc_takes_nothing_of_it),
        T(a_layout_for_the_importer),
        T(what_is_staged_was_fetched),
    };

    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
