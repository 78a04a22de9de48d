/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of deployments (faked), and of updates that others recorded. */
#include <larder/update.h>

#include "store_fixture.h"

#include "update/answer.h"
#include "update_fixture.h"

/* A base whose records are in memory, one a commit. */
struct fake {
    struct base base;
    struct update_record records[8];
    const char *commits[8];
    bool is_bad[8];
    size_t n;
};

static int fake_get(struct base *b, const struct base_holder *holder, struct update_record *ret,
                    struct larder_error *e)
{
    struct fake *k = (struct fake *)(void *)b;
    for (size_t i = 0; i < k->n; i++) {
        if (strcmp(k->commits[i], holder->commit) != 0)
            continue;
        if (k->is_bad[i])
            return error_set(e, LARDER_CORRUPT, "damaged");
        const struct update_record *r = &k->records[i];
        struct made_image update;
        snprintf(update.manifest, sizeof(update.manifest), "%s",
                 r->manifest.p ? r->manifest.p : "");
        snprintf(update.config, sizeof(update.config), "%s", r->config.p ? r->config.p : "");
        update.digest = r->manifest_digest;
        make_record(r->ref, NULL, &r->base, r->has_update ? &update : NULL, ret);
        return 0;
    }
    return error_set(e, LARDER_NOENT, "no record");
}

static int fake_here(struct base *b, const struct image_view *view,
                     enum larder_update_presence *presence, struct larder_error *e)
{
    (void)b;
    (void)e;
    for (size_t i = 0; i < view->n_layers; i++)
        presence[i] = LARDER_UPDATE_NEEDED;
    return 0;
}

static const struct base_ops fake_ops = {.record_get = fake_get, .layers_here = fake_here};

static void add_holder(struct base_holders *holders, const char *role, const char *commit,
                       const struct made_image *image)
{
    struct base_holder *h = &holders->list[holders->n++];
    *h = (struct base_holder){.role = role, .commit = strdup(commit), .digest = image->digest};
    assert_int_equal(
        image_view_read(slice_of(image->manifest), NULL, slice_of(image->config), &h->view, NULL),
        0);
}

/*
 * Roles and commits ("image=1 booted=1 staged=2": commit N has version N), records ("1>2": on
 * commit 1, an update to version 2; "1!": a damaged one) and what is told of them.
 */
static void tells_deployments(void **state __attribute__((unused)))
{
    static const struct {
        const char *holders, *records, *told;
    } rows[] = {
        {"image=1 booted=1", "", "unknown 1 -: image=1 booted=1"},
        {"image=1 booted=1", "1>2", "available 1 2: image=1>2 booted=1>2"},
        {"image=1 booted=1 rollback=3", "1>2", "available 1 2: image=1>2 booted=1>2 rollback=3"},
        /* The rollback has its own, older one. */
        {"image=1 booted=1 rollback=3", "1>2 3>1",
         "available 1 2: image=1>2 booted=1>2 rollback=3>1"},
        {"image=1 booted=1 rollback=3", "1>2 3!",
         "available 1 2: image=1>2 booted=1>2 rollback=3!"},
        {"image=1 booted=1", "1=1", "unchanged 1 -: image=1 booted=1"},
        /* By another ref, without the image's moving. */
        {"image=1 booted=1 staged=2", "1>2", "staged 1 2: image=1>2 booted=1>2 staged=2"},
        {"image=1 booted=1 pending=2", "1>2", "staged 1 2: image=1>2 booted=1>2 pending=2"},
        {"image=1 booted=1 rollback=2", "1>2", "available 1 2: image=1>2 booted=1>2 rollback=2"},
        {"image=1 booted=1 staged=3", "1>2", "available 1 2: image=1>2 booted=1>2 staged=3"},
        /* An upgrade moved the ref: what was found waits. */
        {"image=2 booted=1 staged=2", "1>2", "staged 1 2: image=2 booted=1>2 staged=2"},
        {"image=2 booted=1 staged=2", "1>3", "unknown 2 -: image=2 booted=1>3 staged=2"},
        {"image=2 booted=1 staged=2", "", "unknown 2 -: image=2 booted=1 staged=2"},
        {"image=2 booted=1", "1>2", "unknown 2 -: image=2 booted=1>2"},
        /* ... and a check found the next one. */
        {"image=2 booted=1 staged=2", "1>2 2>3", "available 2 3: image=2>3 booted=1>2 staged=2>3"},
        {"image=2 booted=1 staged=2", "1>2 2=2", "unchanged 2 -: image=2 booted=1>2 staged=2"},
        /* It was booted. */
        {"image=2 booted=2 rollback=1", "1>2", "unknown 2 -: image=2 booted=2 rollback=1>2"},
        {"booted=1 staged=2", "1>2", "staged 1 2: booted=1>2 staged=2"},
    };
    struct made_image versions[5];
    for (size_t i = 1; i < 5; i++) {
        char version[2] = {(char)('0' + i), 0}, spec[4] = {'z', ' ', (char)('a' + i), 0};
        make_image(version, "amd64", spec, &versions[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct update_ask ask = {.ref = strdup(REF),
                                 .platform_text = strdup("linux/amd64"),
                                 .options = &defaults,
                                 .is_ostree = true};
        struct base_holder list[8];
        struct base_holders holders = {list, 0};
        struct fake fake = {.base = {
                                .ops = &fake_ops,
                                .ask = &ask,
                            }};
        char place_text[] = "/repo";
        fake.base.place = place_text;
        struct larder_update u = {.size = sizeof(u)};
        char roles[8][16], text[256];
        static const char *const commits[] = {"0", "1", "2", "3", "4"};
        const char *p = rows[i].holders;
        for (int n = 0, c = 0, used = 0; sscanf(p, " %15[a-z]=%d%n", roles[n], &c, &used) == 2;
             n++) {
            add_holder(&holders, roles[n], commits[c], &versions[c]);
            p += used;
        }
        p = rows[i].records;
        for (int from = 0, to = 0, used = 0; sscanf(p, " %d%n", &from, &used) == 1; fake.n++) {
            p += used;
            char sign = *p++;
            fake.commits[fake.n] = commits[from];
            fake.is_bad[fake.n] = sign == '!';
            if (sign != '!')
                to = *p++ - '0';
            make_record(REF, NULL, &versions[from].digest, sign == '>' ? &versions[to] : NULL,
                        &fake.records[fake.n]);
        }
        struct update_record record = {0};
        enum base_record_place place = BASE_RECORD_NONE;
        int r = base_record_get(&fake.base, &list[0], &record, &place, &e);
        assert_int_equal(
            update_answer(&fake.base, &holders, r == 0 ? &record : NULL, place, &u, &e), 0);
        struct buf out = BUF_INIT(sizeof(text));
        buf_printf(&out, "%s %s %s:", larder_update_state_name(u.state),
                   u.current.version ? u.current.version : "-",
                   u.update.version ? u.update.version : "-");
        for (size_t k = 0; k < u.n_holders; k++)
            buf_printf(&out, " %s=%s%s%s%s", u.holders[k].role, u.holders[k].image.version,
                       u.holders[k].update.version ? ">" : "",
                       u.holders[k].update.version ? u.holders[k].update.version : "",
                       u.holders[k].is_corrupt ? "!" : "");
        assert_string_equal(out.p, rows[i].told);
        if (u.state == LARDER_UPDATE_STAGED || u.state == LARDER_UPDATE_AVAILABLE) {
            assert_int_equal(u.diff.n_layers, 3); /* z kept, one added, one removed */
            assert_int_equal(u.diff.added.layers, 1);
            assert_string_equal(u.record, "repository");
            assert_true(u.is_persisted && u.checked_at_ns > 0);
        }
        buf_done(&out);
        larder_update_done(&u);
        record_done(&record);
        for (size_t k = 0; k < fake.n; k++)
            record_done(&fake.records[k]);
        for (size_t k = 0; k < holders.n; k++) {
            free(list[k].commit);
            image_view_done(&list[k].view);
        }
        update_ask_done(&ask);
    }
}

/* What others claim (ostree-ext's) may be no image at all. */
static void tells_unreadable_updates(void **state)
{
    struct fixture *f = *state;
    struct made_image v1, bad;
    struct larder_update u = {.size = sizeof(u)};
    struct opened o;
    struct update_record record;
    put_version(f, NAME, "1", "a", &v1);
    bad = v1;
    bad.digest = digest_of("other");
    snprintf(bad.manifest, sizeof(bad.manifest), "{\"schemaVersion\":2}");
    make_record(REF, NAME, &v1.digest, &bad, &record);
    record.is_rewritten = true;
    open_base(f, NULL, &o);
    assert_int_equal(update_answer(o.base, &o.holders, &record, BASE_RECORD_REPOSITORY, &u, &f->e),
                     0);
    assert_int_equal(u.state, LARDER_UPDATE_CORRUPT);
    assert_non_null(u.why);
    assert_string_equal(u.current.version, "1");
    assert_true(u.holders[0].is_corrupt);
    larder_update_done(&u);
    record_done(&record);
    close_base(&o);
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_deployments),
        WITH_STORE(tells_unreadable_updates),
    };
    return cmocka_run_group_tests_name("update_answer", tests, NULL, NULL);
}
