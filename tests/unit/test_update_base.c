/* SPDX-License-Identifier: Apache-2.0 */
/* Where records are, what they mean for a base, and each of them. */
#include <larder/update.h>

#include "store_fixture.h"

#include "update_fixture.h"

/* ---- the state directory ---- */

static void falls_back_to_state_dir(void **state)
{
    struct fixture *f = *state;
    struct larder_update_options o = amd64();
    enum base_record_place place = BASE_RECORD_NONE;
    struct made_image v1, v2, v3;
    struct update_record record;
    char dir[128];
    snprintf(dir, sizeof(dir), "%s/state", f->dir);
    put_version(f, NAME, "1", "a", &v1);
    make_image("2", "amd64", "b", &v2);
    make_image("3", "amd64", "c", &v3);
    keep(f, &v1.digest, &v2);
    make_record(REF, NAME, &v1.digest, &v3, &record);
    record.checked_ns += 1;

    /* Read-only: nowhere, then there. */
    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY), 0);
    assert_int_equal(put_by(f, &o, &record, &place), -LARDER_DENIED);
    assert_int_equal(place, BASE_RECORD_NONE);
    o.state_dir = dir;
    struct larder_update u = shown(f, &o); /* makes nothing */
    larder_update_done(&u);
    assert_int_equal(access(dir, F_OK), -1);
    assert_int_equal(put_by(f, &o, &record, &place), 0);
    assert_int_equal(place, BASE_RECORD_STATE_DIR);
    u = shown(f, &o);
    assert_string_equal(u.update.version, "3");
    assert_string_equal(u.record, "state directory");
    assert_true(u.is_persisted);
    larder_update_done(&u);
    assert_state(f, LARDER_UPDATE_AVAILABLE, "1", "2"); /* who does not know of it */

    /* Writable again: it goes to the store, and the other goes. */
    assert_int_equal(fixture_open(f, 0), 0);
    assert_int_equal(put_by(f, &o, &record, &place), 0);
    assert_int_equal(place, BASE_RECORD_STORE);
    struct larder_update_options elsewhere = o;
    assert_int_equal(larder_ref_remove(f->store, "oci/" NAME, &f->e), 0);
    u = shown(f, &elsewhere);
    assert_int_equal(u.state, LARDER_UPDATE_UNKNOWN);
    larder_update_done(&u);
    record_done(&record);
}

/* Both have one: which counts. Letters: place, then state directory; '-' none, 'o' of another base,
 * 'd' damaged, a digit its time. */
static void takes_the_newer(void **state)
{
    struct fixture *f = *state;
    static const struct {
        char place, state;
        int result;
        enum base_record_place from;
    } rows[] = {
        {'-', '-', -LARDER_NOENT, BASE_RECORD_NONE},
        {'1', '-', 0, BASE_RECORD_STORE},
        {'-', '1', 0, BASE_RECORD_STATE_DIR},
        {'1', '2', 0, BASE_RECORD_STATE_DIR},
        {'2', '1', 0, BASE_RECORD_STORE},
        {'1', '1', 0, BASE_RECORD_STORE},
        {'o', '1', 0, BASE_RECORD_STATE_DIR},
        {'1', 'o', 0, BASE_RECORD_STORE},
        {'d', '1', 0, BASE_RECORD_STATE_DIR},
        {'d', 'o', -LARDER_CORRUPT, BASE_RECORD_NONE},
        {'d', '-', -LARDER_CORRUPT, BASE_RECORD_NONE},
        {'1', 'd', 0, BASE_RECORD_STORE},
        {'-', 'd', -LARDER_CORRUPT, BASE_RECORD_NONE},
    };
    struct made_image v1, v2;
    char dir[128], command[512];
    snprintf(dir, sizeof(dir), "%s/state", f->dir);
    put_version(f, NAME, "1", "a", &v1);
    make_image("2", "amd64", "b", &v2);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char kinds[] = {rows[i].place, rows[i].state};
        snprintf(command, sizeof(command), "rm -rf %s %s/updates", dir, f->path);
        assert_int_equal(system(command), 0);
        for (int k = 1; k >= 0; k--) { /* the place's last: it would remove the other's */
            struct larder_digest other = digest_of("another base");
            struct larder_digest base = kinds[k] == 'o' ? other : v1.digest;
            struct update_record record;
            struct opened o;
            enum base_record_place place;
            if (kinds[k] == '-')
                continue;
            make_record(REF, NAME, &base, &v2, &record);
            record.checked_ns += kinds[k] == '2';
            assert_int_equal(fixture_open(f, k == 1 ? LARDER_STORE_READ_ONLY : 0), 0);
            open_base(f, k == 1 ? dir : NULL, &o);
            assert_int_equal(base_record_put(o.base, NULL, &record, &place, &f->e), 0);
            assert_int_equal(place, k == 1 ? BASE_RECORD_STATE_DIR : BASE_RECORD_STORE);
            close_base(&o);
            record_done(&record);
            snprintf(command, sizeof(command), "cd %s/%s && for f in *; do echo '{' > $f; done",
                     k == 1 ? f->dir : f->path, k == 1 ? "state" : "updates");
            if (kinds[k] == 'd')
                assert_int_equal(system(command), 0);
        }
        struct update_record found = {0};
        struct opened o;
        enum base_record_place from = BASE_RECORD_NONE;
        assert_int_equal(fixture_open(f, 0), 0);
        open_base(f, dir, &o);
        int r = base_record_get(o.base, &o.holders.list[0], &found, &from, &f->e);
        if (r != rows[i].result || from != rows[i].from)
            print_error("%c%c: %d %d\n", rows[i].place, rows[i].state, r, from);
        assert_int_equal(r, rows[i].result);
        assert_int_equal(from, rows[i].from);
        record_done(&found);
        if (r == 0) {
            /* The one that counts gets the time. */
            const int64_t now = 1800000000LL * 1000000000LL;
            assert_int_equal(base_record_touch(o.base, &o.holders.list[0], now, &f->e), 0);
            assert_int_equal(base_record_get(o.base, &o.holders.list[0], &found, &from, &f->e), 0);
            assert_int_equal(found.checked_ns, now);
            assert_int_equal(from, rows[i].from);
            record_done(&found);
        }
        /* Both go. */
        bool had = rows[i].place != '-' || rows[i].state != '-';
        assert_int_equal(base_record_remove(o.base, &o.holders.list[0], &f->e), had);
        assert_int_equal(base_record_remove(o.base, &o.holders.list[0], &f->e), 0);
        assert_int_equal(base_record_get(o.base, &o.holders.list[0], &found, &from, NULL),
                         -LARDER_NOENT);
        close_base(&o);
    }
}

static void keeps_what_it_may_not_remove(void **state)
{
    struct fixture *f = *state;
    struct made_image v1, v2;
    struct opened o;
    put_version(f, NAME, "1", "a", &v1);
    make_image("2", "amd64", "b", &v2);
    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY), 0);
    open_base(f, NULL, &o);
    assert_int_equal(base_record_remove(o.base, NULL, &f->e), 0);
    close_base(&o);
    assert_int_equal(fixture_open(f, 0), 0);
    keep(f, &v1.digest, &v2);
    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY), 0);
    open_base(f, NULL, &o);
    assert_int_equal(base_record_remove(o.base, NULL, &f->e), -LARDER_DENIED);
    close_base(&o);
    assert_state(f, LARDER_UPDATE_AVAILABLE, "1", "2");
}

/* ---- meanings ---- */

static void means(void **state __attribute__((unused)))
{
    /* Digests and commits by letter; '-' none, '0' no record (holder). update: '-' unchanged. */
    static const struct {
        char bound, found, commit, holder, holder_commit;
        bool has_update;
        enum record_meaning meaning;
    } rows[] = {
        {'0', '-', '-', 'a', '-', false, RECORD_VOID},
        {'0', '-', '-', '0', '-', false, RECORD_VOID},
        {'a', 'a', '-', 'a', '-', false, RECORD_UNCHANGED},
        {'a', 'b', '-', 'a', '-', true, RECORD_UPDATE},
        {'a', 'b', '-', 'b', '-', true, RECORD_CONSUMED},
        {'a', 'b', '-', 'c', '-', true, RECORD_VOID},
        {'a', 'b', '-', '0', '-', true, RECORD_VOID},
        {'a', 'a', '-', 'b', '-', false, RECORD_VOID},
        {'a', 'a', '-', '0', '-', false, RECORD_VOID},
        {'-', 'b', '-', '0', '-', true, RECORD_UPDATE},
        {'-', 'b', '-', 'b', '-', true, RECORD_CONSUMED},
        {'-', 'b', '-', 'a', '-', true, RECORD_VOID},
        {'-', 'b', '-', '0', '-', false, RECORD_VOID},
        {'a', 'b', 'x', 'a', 'x', true, RECORD_UPDATE},
        {'a', 'b', 'x', 'a', 'y', true, RECORD_VOID},
        {'a', 'b', 'x', 'a', '-', true, RECORD_UPDATE},
        {'a', 'b', 'x', 'b', 'y', true, RECORD_CONSUMED},
        {'a', 'a', 'x', 'a', 'x', true, RECORD_CONSUMED},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct update_record record = {.has_update = rows[i].has_update};
        struct base_holder holder = {.role = "image"};
        char commits[2][2] = {{rows[i].commit, 0}, {rows[i].holder_commit, 0}};
        char texts[3][2] = {{rows[i].bound, 0}, {rows[i].found, 0}, {rows[i].holder, 0}};
        if (rows[i].bound != '-')
            record.base = digest_of(texts[0]);
        record.manifest_digest = digest_of(texts[1]);
        holder.digest = digest_of(texts[2]);
        record.commit = rows[i].commit == '-' ? NULL : commits[0];
        holder.commit = rows[i].holder_commit == '-' ? NULL : commits[1];
        enum record_meaning m = record_meaning(rows[i].bound == '0' ? NULL : &record,
                                               rows[i].holder == '0' ? NULL : &holder);
        if (m != rows[i].meaning)
            print_error("row %zu: %d\n", i, m);
        assert_int_equal(m, rows[i].meaning);
    }
}

/* ---- each ---- */

static int append_told(void *arg, const struct larder_update *u)
{
    buf_printf(arg, "%s %s %s %s\n", u->ref, u->platform, larder_update_state_name(u->state),
               u->update.version ? u->update.version : "-");
    return 0;
}

static int stop_at_once(void *arg, const struct larder_update *u __attribute__((unused)))
{
    ++*(int *)arg;
    return 77;
}

static void take_warning(void *arg, const char *text)
{
    buf_printf(arg, "%s\n", text);
}

static void tells_each(void **state)
{
    struct fixture *f = *state;
    struct larder_update_options o = defaults;
    struct buf out = BUF_INIT(4096), warnings = BUF_INIT(4096);
    const struct larder_observer observer = {.warning = take_warning, .arg = &warnings};
    struct made_image v1, v2;
    char dir[128];
    snprintf(dir, sizeof(dir), "%s/state", f->dir);
    o.observer = &observer;

    assert_int_equal(larder_update_each(f->store, &o, append_told, &out, &f->e), 0);
    assert_int_equal(out.n, 0);
    put_version(f, NAME, "1", "a", &v1);
    put_version(f, "mine", "1", "a", &v1);
    make_image("2", "amd64", "b", &v2);
    keep_as(f, "docker://example.org/zz:1", "example.org/zz:1", NULL, &v2);
    keep_as(f, REF, NAME, &v1.digest, &v2);
    keep_as(f, "docker://example.org/aa:1", "mine", &v1.digest, NULL);
    /* Of the state directory: ours, another store's, and one that the store has, too. */
    assert_int_equal(fixture_open(f, LARDER_STORE_READ_ONLY), 0);
    struct larder_update_options with = amd64();
    with.state_dir = dir;
    static const char *const refs[] = {"docker://example.org/bb:1", REF};
    for (size_t i = 0; i < 2; i++) {
        struct update_record record;
        enum base_record_place place;
        make_record(refs[i], i ? NAME : "example.org/bb:1", i ? &v1.digest : NULL, &v2, &record);
        assert_int_equal(put_by(f, &with, &record, &place), 0);
        assert_int_equal(place, BASE_RECORD_STATE_DIR);
        record_done(&record);
    }
    struct record_dir *stranger = NULL;
    struct update_record record;
    char *key = NULL;
    make_record("docker://example.org/cc:1", "x", NULL, &v2, &record);
    assert_int_equal(record_key(record.ref, record.platform, "/elsewhere", NULL, &key, NULL), 0);
    assert_int_equal(record_dir_open(dir, true, &stranger, &f->e), 0);
    assert_int_equal(record_dir_put(stranger, key, &record, &f->e), 0);
    record_dir_close(stranger);
    record_done(&record);
    free(key);

    assert_int_equal(larder_update_each(f->store, &o, append_told, &out, &f->e), 0);
    assert_string_equal(out.p, "docker://example.org/aa:1 linux/amd64 unchanged -\n" REF
                               " linux/amd64 available 2\n"
                               "docker://example.org/zz:1 linux/amd64 available 2\n");
    buf_reset(&out);
    o.state_dir = dir;
    assert_int_equal(larder_update_each(f->store, &o, append_told, &out, &f->e), 0);
    assert_string_equal(out.p, "docker://example.org/aa:1 linux/amd64 unchanged -\n"
                               "docker://example.org/bb:1 linux/amd64 available 2\n" REF
                               " linux/amd64 available 2\n"
                               "docker://example.org/zz:1 linux/amd64 available 2\n");
    assert_int_equal(warnings.n, 0);
    int n = 0;
    assert_int_equal(larder_update_each(f->store, &o, stop_at_once, &n, &f->e), 77);
    assert_int_equal(n, 1);
    /* A damaged one hides no other. */
    char name[80] = "updates/";
    memset(name + 8, 'a', 64);
    fixture_write(f, name, "{");
    buf_reset(&out);
    assert_int_equal(larder_update_each(f->store, &o, append_told, &out, &f->e), 0);
    assert_non_null(strstr(out.p, "zz:1"));
    assert_non_null(strstr(warnings.p, "aaaaaaaa"));
    /* Not of one that an image of the store is called by. */
    char command[512];
    snprintf(command, sizeof(command), "cd %s/updates && for f in *; do echo '{' > $f; done",
             f->path);
    assert_int_equal(system(command), 0);
    buf_reset(&out);
    buf_reset(&warnings);
    o.state_dir = NULL;
    o.platform = "linux/amd64";
    assert_int_equal(larder_update_each(f->store, &o, append_told, &out, &f->e), 0);
    assert_string_equal(out.p, REF " linux/amd64 corrupt -\n");
    assert_non_null(strstr(warnings.p, "aaaaaaaa"));
    o.name = "x";
    assert_int_equal(larder_update_each(f->store, &o, append_told, &out, &f->e), -LARDER_INVAL);
    buf_done(&out);
    buf_done(&warnings);
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(falls_back_to_state_dir),
        WITH_STORE(takes_the_newer),
        WITH_STORE(keeps_what_it_may_not_remove),
        cmocka_unit_test(means),
        WITH_STORE(tells_each),
    };
    return cmocka_run_group_tests_name("update_base", tests, NULL, NULL);
}
