/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Images in stores in memory, for tests of copying: made, copied as v1, and compared. Included
 * after cmocka.h.
 */
#include "fake_store.h"

#include "store/copy/copy.h"

/* Several buffers, and enough for a write past the page cache. */
#define BIG_BYTES ((size_t)1300 * 1000 + 13)

/* Those that must be there. (The compiler does not know that asserts end a test.) */
static inline struct fake_object *object_of(struct fake_store *f, const struct larder_digest *d,
                                            bool is_manifest)
{
    struct fake_object *o = fake_find(f, d, is_manifest);

    if (!o)
        abort();
    return o;
}

static inline struct oci_manifest *manifest_of(struct fake_store *f, const struct larder_digest *d)
{
    struct fake_object *o = object_of(f, d, true);
    struct oci_manifest *m = NULL;

    if (oci_manifest_parse((struct slice){o->bytes, o->n}, o->media_type, &m, NULL) < 0 || !m)
        abort();
    return m;
}

/* ---- making images ---- */

static inline void random_bytes(char *to, size_t n, unsigned seed)
{
    uint32_t x = seed * 2654435761u + 1;

    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        to[i] = (char)x;
    }
}

static inline struct store_descriptor add_blob(struct fake_store *f, size_t n, unsigned seed)
{
    char *bytes = malloc(n + 1);
    struct store_descriptor d;

    assert_non_null(bytes);
    random_bytes(bytes, n, seed);
    d = fake_add(f, bytes, n, "");
    free(bytes);
    return d;
}

static inline void put_descriptor(struct buf *b, const char *type, const struct store_descriptor *d,
                                  const char *more)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    buf_printf(b, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%llu%s}", type,
               larder_digest_format(&d->digest, text), (unsigned long long)d->size_bytes, more);
}

/* Config of 50 bytes and layers of the given sizes, numbered from seed. */
static inline struct store_descriptor add_image(struct fake_store *f, unsigned seed,
                                                const size_t *sizes, size_t n)
{
    struct buf b = BUF_INIT(1 << 20);
    struct store_descriptor config = add_blob(f, 50, seed + 1000);
    struct store_descriptor d;

    buf_puts(&b, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":");
    put_descriptor(&b, OCI_TYPE_CONFIG, &config, "");
    buf_puts(&b, ",\"layers\":[");
    for (size_t i = 0; i < n; i++) {
        struct store_descriptor layer = add_blob(f, sizes[i], seed + (unsigned)i);
        buf_puts(&b, i ? "," : "");
        put_descriptor(&b, OCI_TYPE_LAYER_GZIP, &layer, "");
    }
    buf_puts(&b, "]}");
    d = fake_add(f, b.p, b.n, OCI_TYPE_MANIFEST);
    buf_done(&b);
    return d;
}

static inline struct store_descriptor add_index(struct fake_store *f,
                                                const struct store_descriptor *members, size_t n)
{
    static const char *const platforms[] = {"amd64", "arm64", "riscv64", "s390x"};
    struct buf b = BUF_INIT(8 << 20);
    struct store_descriptor d;

    buf_puts(&b, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[");
    for (size_t i = 0; i < n; i++) {
        char more[100];
        snprintf(more, sizeof(more), ",\"platform\":{\"architecture\":\"%s\",\"os\":\"linux\"}",
                 platforms[i % 4]);
        buf_puts(&b, i ? "," : "");
        put_descriptor(&b, members[i].media_type, &members[i],
                       media_type_is_manifest(members[i].media_type) ? more : "");
    }
    buf_puts(&b, "]}");
    d = fake_add(f, b.p, b.n, OCI_TYPE_INDEX);
    buf_done(&b);
    return d;
}

/* An index of two images that share a layer, and of an index with one more; tagged v1. */
static inline struct store_descriptor add_tree(struct fake_store *f)
{
    static const size_t sizes[] = {BIG_BYTES, 3000, 0, 100000};
    struct store_descriptor members[3];
    struct store_descriptor inner;
    struct store_descriptor root;

    members[0] = add_image(f, 1, sizes, 4);
    members[1] = add_image(f, 2, sizes + 1, 3);
    inner = add_image(f, 7, sizes, 2);
    members[2] = add_index(f, &inner, 1);
    root = add_index(f, members, 3);
    fake_tag(f, "v1", &root);
    return root;
}

/* Whether `to` has everything that root names. */
static inline bool has_tree(struct fake_store *to, const struct larder_digest *root)
{
    struct oci_manifest *m = fake_find_whole(to, root, true) ? manifest_of(to, root) : NULL;
    bool has = m != NULL;

    for (size_t i = 0; has && i < m->n_manifests; i++)
        has = has_tree(to, &m->manifests[i].digest);
    if (has && m->kind == OCI_KIND_IMAGE) {
        has = fake_find_whole(to, &m->config.digest, false) != NULL;
        for (size_t i = 0; has && i < m->n_layers; i++)
            has = fake_find_whole(to, &m->layers[i].digest, false) != NULL;
    }
    oci_manifest_free(m);
    return has;
}

static const char *const v1[] = {"v1"};

static inline int copy_v1(struct fake_store *from, struct fake_store *to,
                          const struct copy_options *options, struct copy_result *ret,
                          struct larder_error *e)
{
    return copy_image(&from->store, "v1", NULL, &to->store, v1, 1, options, ret, e);
}

static inline void assert_has_tree(struct fake_store *to, const struct store_descriptor *root)
{
    assert_true(has_tree(to, &root->digest));
    struct fake_ref *ref = fake_ref_find(to, "v1");
    assert_true(ref && larder_digest_equal(&ref->to.digest, &root->digest));
}

/* Of every kind of source to every kind of destination. */
static const struct {
    bool from_remote, to_remote;
} pairs[] = {{true, false}, {false, true}, {false, false}, {true, true}};
