/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Images for tests of updates. A layer is a letter, its blob "layer <letter>"; its content is that
 * of the letter, or of the one after a colon: "a b:x" has a second layer of x's content. "=x" is
 * that content itself, not compressed. Included after store_fixture.h.
 */
#include "base/hash.h"
#include "base/error.h"
#include "base/mem.h"
#include "oci/media_type.h"
#include "update/base/base.h"
#include "update/record/record_dir.h"

struct made_image {
    char manifest[16384];
    char config[16384];
    struct larder_digest digest, config_digest;
};

static inline struct larder_digest digest_of(const char *text)
{
    struct larder_digest d = {0};
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, text, strlen(text), &d, NULL), 0);
    return d;
}

/* The next "a", "b:x" or "=x" of spec; false at its end. */
static inline bool next_layer(const char **spec, char blob[16], char content[16])
{
    while (**spec == ' ')
        (*spec)++;
    if (!**spec)
        return false;
    const char *p = *spec;
    if (*p == '=') {
        snprintf(blob, 16, "content %c", p[1]);
        snprintf(content, 16, "content %c", p[1]);
        *spec += 2;
        return true;
    }
    snprintf(blob, 16, "layer %c", *p);
    snprintf(content, 16, "content %c", p[1] == ':' ? p[2] : *p);
    *spec += p[1] == ':' ? 3 : 1;
    return true;
}

static inline void make_image(const char *version, const char *arch, const char *spec,
                              struct made_image *ret)
{
    char blob[16], content[16], hex[LARDER_DIGEST_TEXT_BYTES];
    struct buf layers = BUF_INIT(16384), ids = BUF_INIT(16384);
    for (const char *at = spec; next_layer(&at, blob, content);) {
        struct larder_digest d = digest_of(blob);
        struct larder_digest id = digest_of(content);
        buf_printf(&layers, "%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}",
                   layers.n ? "," : "",
                   larder_digest_equal(&d, &id) ? OCI_TYPE_LAYER : OCI_TYPE_LAYER_GZIP,
                   larder_digest_format(&d, hex), strlen(blob));
        buf_printf(&ids, "%s\"%s\"", ids.n ? "," : "", larder_digest_format(&id, hex));
    }
    snprintf(ret->config, sizeof(ret->config),
             "{\"architecture\":\"%s\",\"os\":\"linux\",\"created\":\"2024-01-01T00:00:00Z\","
             "\"config\":{\"Labels\":{\"version\":\"%s\"}},"
             "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[%s]}}",
             arch, version, ids.p ? ids.p : "");
    ret->config_digest = digest_of(ret->config);
    snprintf(ret->manifest, sizeof(ret->manifest),
             "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST
             "\",\"config\":{\"mediaType\":"
             "\"" OCI_TYPE_CONFIG "\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[%s]}",
             larder_digest_format(&ret->config_digest, hex), strlen(ret->config),
             layers.p ? layers.p : "");
    ret->digest = digest_of(ret->manifest);
    buf_done(&layers);
    buf_done(&ids);
}

/* Into the store, with a name unless NULL. */
static inline void put_made(struct fixture *f, const char *name, const char *spec,
                            const struct made_image *image)
{
    char blob[16], content[16], ref[256];
    while (next_layer(&spec, blob, content))
        fixture_put(f, blob);
    fixture_put(f, image->config);
    struct larder_digest d = fixture_put(f, image->manifest);
    assert_true(larder_digest_equal(&d, &image->digest));
    if (!name)
        return;
    snprintf(ref, sizeof(ref), "oci/%s", name);
    assert_int_equal(larder_ref_set(f->store, ref, &d, OCI_TYPE_MANIFEST, &f->e), 0);
}

static inline void put_version(struct fixture *f, const char *name, const char *version,
                               const char *spec, struct made_image *ret)
{
    make_image(version, "amd64", spec, ret);
    put_made(f, name, spec, ret);
}

/* What a check would have found; update NULL: the base. base NULL: there is none. */
static inline void make_record(const char *ref, const char *name, const struct larder_digest *base,
                               const struct made_image *update, struct update_record *ret)
{
    *ret = (struct update_record){.ref = strdup(ref),
                                  .platform = strdup("linux/amd64"),
                                  .name = name ? strdup(name) : NULL,
                                  .checked_ns = 1704067200LL * 1000000000LL,
                                  .manifest = BUF_INIT(1024UL * 1024),
                                  .config = BUF_INIT(1024UL * 1024)};
    if (base)
        ret->base = *base;
    ret->manifest_digest = update ? update->digest : *base;
    ret->listed = ret->manifest_digest;
    if (!update)
        return;
    ret->has_update = true;
    ret->media_type = strdup(OCI_TYPE_MANIFEST);
    buf_puts(&ret->manifest, update->manifest);
    buf_puts(&ret->config, update->config);
}

/* ---- records and what is told of them ---- */

#define REF  "docker://example.org/os:stable"
#define NAME "example.org/os:stable"

static const struct larder_update_options defaults = LARDER_UPDATE_OPTIONS_INIT;

static inline struct larder_update_options amd64(void)
{
    struct larder_update_options o = defaults;
    o.platform = "linux/amd64";
    return o;
}

static inline int put_by(struct fixture *f, const struct larder_update_options *options,
                         const struct update_record *record, enum base_record_place *ret_place)
{
    struct update_ask ask;
    CLEANUP(base_closep) struct base *base = NULL;
    error_clear(&f->e);
    assert_int_equal(update_ask_read(f->store, record->ref, options, &ask, &f->e), 0);
    assert_int_equal(base_open(&ask, &base, &f->e), 0);
    int r = base_record_put(base, NULL, record, ret_place, &f->e);
    base_close(TAKE_PTR(base));
    update_ask_done(&ask);
    return r;
}

static inline void keep_as(struct fixture *f, const char *ref, const char *name,
                           const struct larder_digest *base, const struct made_image *update)
{
    struct larder_update_options o = amd64();
    enum base_record_place place = BASE_RECORD_NONE;
    struct update_record record;
    make_record(ref, name, base, update, &record);
    int r = put_by(f, &o, &record, &place);
    if (r < 0)
        print_error("%s\n", f->e.msg);
    assert_int_equal(r, 0);
    assert_int_equal(place, BASE_RECORD_STORE);
    record_done(&record);
}

static inline void keep(struct fixture *f, const struct larder_digest *base,
                        const struct made_image *update)
{
    keep_as(f, REF, NAME, base, update);
}

static inline struct larder_update shown(struct fixture *f,
                                         const struct larder_update_options *options)
{
    struct larder_update_options o = options ? *options : amd64();
    struct larder_update u = {.size = sizeof(u)};
    o.platform = "linux/amd64";
    error_clear(&f->e);
    int r = larder_update_show(f->store, REF, &o, &u, &f->e);
    if (r < 0)
        print_error("%s\n", f->e.msg);
    assert_int_equal(r, 0);
    assert_int_equal(u.requests, 0);
    assert_string_equal(u.ref, REF);
    return u;
}

static inline void assert_state(struct fixture *f, enum larder_update_state state,
                                const char *current, const char *update)
{
    struct larder_update u = shown(f, NULL);
    assert_int_equal(u.state, state);
    assert_string_equal(u.current.version ? u.current.version : "-", current);
    assert_string_equal(u.update.version ? u.update.version : "-", update);
    larder_update_done(&u);
}

struct opened {
    struct larder_update_options options;
    struct update_ask ask;
    struct base *base;
    struct base_holders holders;
};

static inline void open_base(struct fixture *f, const char *state_dir, struct opened *o)
{
    o->options = amd64();
    o->options.state_dir = state_dir;
    error_clear(&f->e);
    assert_int_equal(update_ask_read(f->store, REF, &o->options, &o->ask, &f->e), 0);
    assert_int_equal(base_open(&o->ask, &o->base, &f->e), 0);
    assert_int_equal(o->base->ops->holders(o->base, &o->holders, &f->e), 0);
}

static inline void close_base(struct opened *o)
{
    base_holders_done(&o->holders);
    base_close(o->base);
    update_ask_done(&o->ask);
}
