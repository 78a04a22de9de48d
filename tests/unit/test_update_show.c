/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of a store's records, and which layers are here. */
#include <larder/update.h>

#include "store_fixture.h"

#include "update/answer.h"
#include "update/fetch/stored.h"
#include "update_fixture.h"

/* Letters of layers: '=' kept, '+' added, '-' removed; upper case: needed; '*': by its content. */
static void tell_layers(const struct larder_update_diff *diff, struct buf *out)
{
    for (size_t i = 0; i < diff->n_layers; i++) {
        const struct larder_update_layer *l = &diff->layers[i];
        int letter = 'a';
        for (; letter <= 'z'; letter++) {
            char text[16];
            snprintf(text, sizeof(text), "layer %c", letter);
            struct larder_digest packed = digest_of(text);
            snprintf(text, sizeof(text), "content %c", letter);
            struct larder_digest plain = digest_of(text);
            if (larder_digest_equal(&packed, &l->digest) || larder_digest_equal(&plain, &l->digest))
                break;
        }
        if (l->presence == LARDER_UPDATE_NEEDED)
            letter += 'A' - 'a';
        buf_printf(out, " %c%c%s", "=+-"[l->change], letter,
                   l -> presence == LARDER_UPDATE_HERE_DIFF_ID ? "*" : "");
    }
}

static void tell_image(const struct larder_update_image *image, struct buf *out)
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    if (image->digest.alg == LARDER_DIGEST_NONE) {
        buf_puts(out, "-");
        return;
    }
    buf_printf(out, "%s(%lld,%.6s)", image->version ? image->version : "?",
               (long long)(image->timestamp_ns / 1000000000),
               larder_digest_hex(&image->digest, hex));
}

/* All of it but times of now, as one line. */
static char *tell(const struct larder_update *u)
{
    struct buf out = BUF_INIT(16384);
    char hex[LARDER_DIGEST_TEXT_BYTES];
    buf_printf(&out, "%s %s %s %s ", larder_update_state_name(u->state), u->ref, u->platform,
               u->place);
    tell_image(&u->current, &out);
    buf_puts(&out, " ");
    tell_image(&u->update, &out);
    tell_layers(&u->diff, &out);
    const struct larder_update_sum *sums[] = {&u->diff.total, &u->diff.added, &u->diff.removed,
                                              &u->diff.here, &u->diff.needed};
    for (size_t i = 0; i < 5; i++)
        buf_printf(&out, " %llu/%llu", (unsigned long long)sums[i]->layers,
                   (unsigned long long)sums[i]->bytes);
    buf_printf(&out, " %s %lld %d %s", u->listed.alg ? larder_digest_hex(&u->listed, hex) : "-",
               (long long)u->checked_at_ns, u->is_persisted, u->record ? u->record : "-");
    for (size_t i = 0; i < u->n_holders; i++) {
        buf_printf(&out, " [%s %s ", u->holders[i].role,
                   u->holders[i].commit ? u->holders[i].commit : "-");
        tell_image(&u->holders[i].image, &out);
        buf_puts(&out, " ");
        tell_image(&u->holders[i].update, &out);
        buf_printf(&out, "%s]", u->holders[i].is_corrupt ? " corrupt" : "");
    }
    return buf_take(&out);
}

static const char *layers_shown(struct fixture *f)
{
    static char text[256];
    struct buf out = BUF_INIT(sizeof(text) - 1);
    struct larder_update u = shown(f, NULL);
    tell_layers(&u.diff, &out);
    snprintf(text, sizeof(text), "%s", out.p ? out.p : "");
    buf_done(&out);
    larder_update_done(&u);
    return text;
}

/* ---- states ---- */

static void tells_states(void **state)
{
    struct fixture *f = *state;
    struct made_image v1, v2, v3;
    make_image("2", "amd64", "a c", &v2);

    assert_state(f, LARDER_UPDATE_UNKNOWN, "-", "-");
    /* Before the first fetch: unbound. */
    keep(f, NULL, &v2);
    assert_state(f, LARDER_UPDATE_AVAILABLE, "-", "2");
    assert_string_equal(layers_shown(f), " +A +C");
    /* Another image came there since. */
    put_version(f, NAME, "1", "a b", &v1);
    assert_state(f, LARDER_UPDATE_UNKNOWN, "1", "-");
    keep(f, &v1.digest, NULL);
    assert_state(f, LARDER_UPDATE_UNCHANGED, "1", "-");
    keep(f, &v1.digest, &v2);
    assert_state(f, LARDER_UPDATE_AVAILABLE, "1", "2");
    assert_string_equal(layers_shown(f), " =a +C -b");
    /* It is fetched. */
    put_version(f, NAME, "2", "a c", &v2);
    assert_state(f, LARDER_UPDATE_UNCHANGED, "2", "-");
    /* Something else is put there. */
    put_version(f, NAME, "3", "a d", &v3);
    assert_state(f, LARDER_UPDATE_UNKNOWN, "3", "-");
    /* It is removed: then what was bound to it is void. */
    assert_int_equal(larder_ref_remove(f->store, "oci/" NAME, &f->e), 0);
    assert_state(f, LARDER_UPDATE_UNKNOWN, "-", "-");
}

static void consumes_unbound(void **state)
{
    struct fixture *f = *state;
    struct made_image v1;
    make_image("1", "amd64", "a", &v1);
    keep(f, NULL, &v1);
    assert_state(f, LARDER_UPDATE_AVAILABLE, "-", "1");
    put_version(f, NAME, "1", "a", &v1);
    assert_state(f, LARDER_UPDATE_UNCHANGED, "1", "-");
}

static void fills_all(void **state)
{
    struct fixture *f = *state;
    struct made_image v1, v2;
    put_version(f, NAME, "1", "a b", &v1);
    make_image("2", "amd64", "a c", &v2);
    keep(f, &v1.digest, &v2);
    struct larder_update u = shown(f, NULL);
    assert_string_equal(u.platform, "linux/amd64");
    assert_string_equal(u.place, "store:" NAME);
    assert_true(larder_digest_equal(&u.current.digest, &v1.digest));
    assert_true(larder_digest_equal(&u.update.digest, &v2.digest));
    assert_true(larder_digest_equal(&u.listed, &v2.digest));
    assert_int_equal(u.update.timestamp_ns, 1704067200LL * 1000000000LL);
    assert_int_equal(u.checked_at_ns, 1704067200LL * 1000000000LL);
    assert_true(u.is_persisted);
    assert_string_equal(u.record, "store");
    assert_null(u.why);
    assert_int_equal(u.n_holders, 1);
    assert_string_equal(u.holders[0].role, "image");
    assert_true(larder_digest_equal(&u.holders[0].update.digest, &v2.digest));
    assert_int_equal(u.diff.total.bytes, 14);
    assert_int_equal(u.diff.needed.layers, 1);
    larder_update_done(&u);
    larder_update_done(&u);
}

/* The same words from what was just found and from what is kept. */
static void tells_what_check_told(void **state)
{
    struct fixture *f = *state;
    struct larder_update_options o = amd64();
    struct made_image v1, v2, other;
    put_version(f, NAME, "1", "a b", &v1);
    put_version(f, "other", "7", "e f:g", &other);
    make_image("2", "amd64", "a c e h:g h:g a", &v2);
    const struct made_image *updates[] = {&v2, NULL};
    for (size_t i = 0; i < 2; i++) {
        struct update_record record;
        struct update_ask ask;
        struct base_holders holders;
        struct larder_update checked = {.size = sizeof(checked)};
        struct base *base = NULL;
        enum base_record_place place;
        make_record(REF, NAME, &v1.digest, updates[i], &record);
        assert_int_equal(update_ask_read(f->store, REF, &o, &ask, &f->e), 0);
        assert_int_equal(base_open(&ask, &base, &f->e), 0);
        assert_int_equal(base->ops->holders(base, &holders, &f->e), 0);
        assert_int_equal(base_record_put(base, &holders.list[0], &record, &place, &f->e), 0);
        assert_int_equal(update_answer(base, &holders, &record, place, &checked, &f->e), 0);
        struct larder_update kept = shown(f, NULL);
        char *a = tell(&checked);
        char *b = tell(&kept);
        assert_string_equal(a, b);
        free(a);
        free(b);
        larder_update_done(&checked);
        larder_update_done(&kept);
        record_done(&record);
        base_holders_done(&holders);
        base_close(base);
        update_ask_done(&ask);
    }
}

/* ---- damage ---- */

static void tells_damaged_records(void **state)
{
    struct fixture *f = *state;
    struct made_image v1, v2;
    char command[256];
    put_version(f, NAME, "1", "a b", &v1);
    make_image("2", "amd64", "a c", &v2);
    keep(f, &v1.digest, &v2);
    snprintf(command, sizeof(command), "cd %s/updates && for f in *; do echo '{' > $f; done",
             f->path);
    assert_int_equal(system(command), 0);
    struct larder_update u = shown(f, NULL);
    assert_int_equal(u.state, LARDER_UPDATE_CORRUPT);
    assert_non_null(u.why);
    assert_string_equal(u.current.version, "1");
    assert_true(u.holders[0].is_corrupt);
    assert_int_equal(u.update.digest.alg, LARDER_DIGEST_NONE);
    larder_update_done(&u);
    keep(f, &v1.digest, &v2);
    assert_state(f, LARDER_UPDATE_AVAILABLE, "1", "2");
}

static void refuses_damaged_bases(void **state)
{
    struct fixture *f = *state;
    struct made_image v1;
    struct larder_update_options o = amd64();
    for (int row = 0; row < 5; row++) {
        struct larder_update u = {.size = sizeof(u)};
        put_version(f, NAME, row & 1 ? "1" : "2", "a b", &v1);
        const struct larder_digest *d = row < 2 ? &v1.config_digest : &v1.digest;
        const char *name = fixture_blob_name("blobs", d);
        assert_int_equal(
            unlink(fixture_path(f, row < 4 ? name : "refs/oci%2Fexample.org%2Fos%3Astable")), 0);
        if (row & 1)
            fixture_write(f, name, "other bytes");
        if (row == 4)
            fixture_write(f, "refs/oci%2Fexample.org%2Fos%3Astable", "{}");
        error_clear(&f->e);
        int r = larder_update_show(f->store, REF, &o, &u, &f->e);
        if (r != -LARDER_CORRUPT)
            print_error("row %d: %s\n", row, f->e.msg);
        assert_int_equal(r, -LARDER_CORRUPT);
        assert_null(u.ref);
        /* Reading does not repair. */
        if (row & 1)
            assert_true(fixture_has(f, name));
        if (row < 4)
            (void)!unlink(fixture_path(f, name));
    }
}

/* ---- layers that are here ---- */

static void finds_layers(void **state)
{
    struct fixture *f = *state;
    struct made_image v1, v2, image;
    put_version(f, NAME, "1", "a b", &v1);
    /* c: the digest; d, h: the content, to be unpacked; e: the content of d, which nobody can pack
     * as it was; i: nowhere. */
    make_image("2", "amd64", "a c e:d =d i =h", &v2);
    keep(f, &v1.digest, &v2);
    assert_string_equal(layers_shown(f), " =a +C +E +D +I +H -b");
    fixture_put(f, "layer c");
    assert_string_equal(layers_shown(f), " =a +c +E +D +I +H -b");
    put_version(f, "other", "7", "d h", &image);
    assert_string_equal(layers_shown(f), " =a +c +E +d* +I +h* -b");
    /* Its blob is gone. */
    struct larder_digest d = digest_of("layer d");
    assert_int_equal(unlink(fixture_path(f, fixture_blob_name("blobs", &d))), 0);
    assert_string_equal(layers_shown(f), " =a +c +E +D +I +h* -b");
    /* One that was cut off is none. */
    d = digest_of("layer c");
    const char *name = fixture_blob_name("blobs", &d);
    assert_int_equal(unlink(fixture_path(f, name)), 0);
    fixture_write(f, name, "lay");
    assert_string_equal(layers_shown(f), " =a +C +E +D +I +h* -b");
    assert_int_equal(unlink(fixture_path(f, name)), 0);
    fixture_put(f, "layer c");
    /* The base lost one. */
    d = digest_of("layer a");
    assert_int_equal(unlink(fixture_path(f, fixture_blob_name("blobs", &d))), 0);
    assert_string_equal(layers_shown(f), " =A +c +E +D +I +h* -b");
}

static void passes_over_damaged_images(void **state)
{
    struct fixture *f = *state;
    struct made_image v1, v2, one, two, three;
    put_version(f, NAME, "1", "a", &v1);
    make_image("2", "amd64", "a =d", &v2);
    keep(f, &v1.digest, &v2);
    put_version(f, "a-first", "7", "e", &one);
    put_version(f, "b-second", "8", "f", &two);
    assert_int_equal(unlink(fixture_path(f, fixture_blob_name("blobs", &one.config_digest))), 0);
    assert_int_equal(unlink(fixture_path(f, fixture_blob_name("blobs", &two.digest))), 0);
    fixture_write(f, fixture_blob_name("blobs", &two.digest), "{");
    fixture_write(f, "refs/oci%2Fc-third", "{");
    put_version(f, "d-fourth", "9", "d", &three);
    assert_string_equal(layers_shown(f), " =a +d*");
}

/* Two names of one image, and it is another one that has the layer. */
static void passes_by_images_seen(void **state)
{
    struct fixture *f = *state;
    struct made_image v1, v2, image;
    put_version(f, NAME, "1", "a", &v1);
    put_version(f, "aa", "1", "a", &v1);
    put_version(f, "bb", "1", "a", &v1);
    make_image("2", "amd64", "a =d", &v2);
    keep(f, &v1.digest, &v2);
    put_version(f, "cc", "3", "d", &image);
    assert_string_equal(layers_shown(f), " =a +d*");
}

/* Which one, for who makes the layer from it. */
static void names_twins(void **state)
{
    struct fixture *f = *state;
    struct made_image one, two, wanted;
    struct image_view view;
    struct layer_twin twins[3];
    enum larder_update_presence presence[3] = {LARDER_UPDATE_NEEDED, LARDER_UPDATE_NEEDED,
                                               LARDER_UPDATE_HERE};
    put_version(f, "example.org/zz:1", "1", "b:x", &one);
    put_version(f, "aa", "2", "c:x d", &two);
    make_image("3", "amd64", "e:x f g:d", &wanted);
    assert_int_equal(
        image_view_read(slice_of(wanted.manifest), NULL, slice_of(wanted.config), &view, &f->e), 0);
    /* An image of the same repository is asked first, whatever the names' order. */
    static const struct {
        const char *name, *blob;
    } rows[] = {
        {NULL, "layer c"},
        {"aa:3", "layer c"},
        {"example.org/zz:2", "layer b"},
        {"example.org/zz:1", "layer b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_digest d = digest_of(rows[i].blob);
        assert_int_equal(layer_twins_find(f->store, rows[i].name, &view, presence, twins, &f->e),
                         0);
        assert_true(larder_digest_equal(&twins[0].digest, &d));
        assert_int_equal(twins[0].size_bytes, 7);
        assert_string_equal(twins[0].media_type, OCI_TYPE_LAYER_GZIP);
        assert_int_equal(twins[1].digest.alg, LARDER_DIGEST_NONE);
        assert_int_equal(twins[2].digest.alg, LARDER_DIGEST_NONE); /* here already */
    }
    image_view_done(&view);
}

/* ---- indexes ---- */

static void put_index(struct fixture *f, const char *name, const struct made_image *const *members,
                      const char *const *archs, size_t n)
{
    char text[4096] = "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[";
    char hex[LARDER_DIGEST_TEXT_BYTES], ref[128];
    for (size_t i = 0; i < n; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text),
                 "%s{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"%s\",\"size\":%zu,"
                 "\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}}",
                 i ? "," : "", larder_digest_format(&members[i]->digest, hex),
                 strlen(members[i]->manifest), archs[i]);
    strcat(text, "]}");
    struct larder_digest d = fixture_put(f, text);
    snprintf(ref, sizeof(ref), "oci/%s", name);
    assert_int_equal(larder_ref_set(f->store, ref, &d, OCI_TYPE_INDEX, &f->e), 0);
}

static void chooses_members(void **state)
{
    struct fixture *f = *state;
    struct made_image amd, arm, not_here;
    make_image("amd", "amd64", "a", &amd);
    make_image("arm", "arm64", "b", &arm);
    make_image("s390", "s390x", "c", &not_here);
    put_made(f, NULL, "a", &amd);
    put_made(f, NULL, "b", &arm);
    const struct made_image *members[] = {&amd, &arm, &not_here};
    put_index(f, NAME, members, (const char *const[]){"amd64", "arm64", "s390x"}, 3);
    static const struct {
        const char *platform, *version;
    } rows[] = {{"linux/amd64", "amd"},
                {"linux/arm64", "arm"},
                {"linux/s390x", NULL},
                {"linux/riscv64", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_update_options o = defaults;
        struct larder_update u = {.size = sizeof(u)};
        o.platform = rows[i].platform;
        assert_int_equal(larder_update_show(f->store, REF, &o, &u, &f->e), 0);
        assert_int_equal(u.n_holders, rows[i].version ? 1 : 0);
        assert_string_equal(u.current.version ? u.current.version : "-",
                            rows[i].version ? rows[i].version : "-");
        larder_update_done(&u);
    }
    /* An image of another platform is no base either. */
    put_made(f, NAME, "b", &arm);
    assert_state(f, LARDER_UPDATE_UNKNOWN, "-", "-");
}

/* Members of indexes that are here count, too. */
static void finds_layers_of_members(void **state)
{
    struct fixture *f = *state;
    struct made_image v1, v2, arm, not_here;
    put_version(f, NAME, "1", "a", &v1);
    make_image("2", "amd64", "a =d", &v2);
    keep(f, &v1.digest, &v2);
    make_image("arm", "arm64", "d", &arm);
    make_image("s390", "s390x", "e", &not_here);
    put_made(f, NULL, "d", &arm);
    const struct made_image *members[] = {&not_here, &arm};
    put_index(f, "other", members, (const char *const[]){"s390x", "arm64"}, 2);
    assert_string_equal(layers_shown(f), " =a +d*");
}

/* Neither lock nor last use, and no way to: a store of nobody's. */
static void writes_nothing(void **state)
{
    struct fixture *f = *state;
    struct made_image v1, v2;
    char command[512];
    put_version(f, NAME, "1", "a", &v1);
    make_image("2", "amd64", "b", &v2);
    keep(f, &v1.digest, &v2);
    snprintf(command, sizeof(command),
             "cd %s && rm -rf locks index.sqlite* && find . -exec touch -d 2001-01-01 {} +",
             f->path);
    assert_int_equal(system(command), 0);
    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY), 0);
    struct larder_update u = shown(f, NULL);
    assert_int_equal(u.state, LARDER_UPDATE_AVAILABLE);
    larder_update_done(&u);
    snprintf(command, sizeof(command), "test -z \"$(find %s -newermt 2001-01-02)\"", f->path);
    assert_int_equal(system(command), 0);
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(tells_states),
        WITH_STORE(consumes_unbound),
        WITH_STORE(fills_all),
        WITH_STORE(tells_what_check_told),
        WITH_STORE(tells_damaged_records),
        WITH_STORE(refuses_damaged_bases),
        WITH_STORE(finds_layers),
        WITH_STORE(passes_over_damaged_images),
        WITH_STORE(passes_by_images_seen),
        WITH_STORE(names_twins),
        WITH_STORE(chooses_members),
        WITH_STORE(finds_layers_of_members),
        WITH_STORE(writes_nothing),
    };
    return cmocka_run_group_tests_name("update_show", tests, NULL, NULL);
}
