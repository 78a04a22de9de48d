/* SPDX-License-Identifier: Apache-2.0 */
#include "store/dir/ref.h"

#include "store_fixture.h"

#define ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void set_get_remove(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    struct larder_digest none = {.alg = LARDER_DIGEST_SHA256};
    CLEANUP_FREE char *text = NULL;

    assert_int_equal(larder_ref_get(f->store, "image/x", &text, &f->e), -LARDER_NOENT);
    assert_null(text);
    assert_int_equal(larder_ref_set(f->store, "image/x", &none, NULL, &f->e), -LARDER_NOENT);
    assert_int_equal(larder_ref_set(f->store, "image/x", &digest, "text/plain", &f->e), 0);
    assert_int_equal(larder_ref_get(f->store, "image/x", &text, &f->e), 0);
    assert_non_null(strstr(text, ABC));
    assert_non_null(strstr(text, "text/plain"));
    /* One file in its directory, whatever the name. */
    assert_int_equal(larder_ref_set(f->store, "../../evil", &digest, NULL, &f->e), 0);
    assert_int_equal(larder_ref_set(f->store, ".hidden", &digest, NULL, &f->e), 0);
    assert_int_equal(fixture_count(f, "refs"), 3);
    assert_int_equal(larder_ref_remove(f->store, "image/x", &f->e), 0);
    assert_int_equal(larder_ref_remove(f->store, "image/x", &f->e), -LARDER_NOENT);

    char longest[512];
    memset(longest, 'n', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    static const char *const bad[] = {"", "a\nb", "a\xff"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(larder_ref_set(f->store, bad[i], &digest, NULL, &f->e), -LARDER_INVAL);
    assert_int_equal(larder_ref_set(f->store, longest, &digest, NULL, &f->e), -LARDER_INVAL);
}

static void an_entry_is_not_overwritten(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    fixture_write(f, "refs/x", "{\"version\":1,\"name\":\"x\",\"image\":{\"source\":\"s\"}}");
    assert_int_equal(larder_ref_set(f->store, "x", &digest, NULL, &f->e), -LARDER_EXIST);
    fixture_write(f, "refs/x", "{\"version\":1,\"name\":\"x\"}");
    assert_int_equal(larder_ref_set(f->store, "x", &digest, NULL, &f->e), 0);
}

static void damage_is_named(void **state)
{
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        {"", LARDER_CORRUPT},
        {"{\"version\":1,\"name\":\"x\"", LARDER_CORRUPT},
        {"[]", LARDER_CORRUPT},
        {"{\"name\":\"x\"}", LARDER_CORRUPT},
        {"{\"version\":0,\"name\":\"x\"}", LARDER_CORRUPT},
        {"{\"version\":1}", LARDER_CORRUPT},
        {"{\"version\":1,\"name\":\"y\"}", LARDER_CORRUPT},
        {"{\"version\":2,\"name\":\"x\"}", LARDER_UNSUPPORTED},
        {"{\"version\":1,\"name\":\"x\",\"descriptor\":{}}", LARDER_CORRUPT},
        {"{\"version\":1,\"name\":\"x\",\"descriptor\":{\"digest\":\"md5:"
         "d41d8cd98f00b204e9800998ecf8427e\"}}",
         LARDER_CORRUPT},
        {"{\"version\":1,\"name\":\"x\",\"keeps\":{}}", LARDER_CORRUPT},
        {"{\"version\":1,\"name\":\"x\",\"keeps\":[1]}", LARDER_CORRUPT},
        {"{\"version\":1,\"name\":\"x\",\"keeps\":[]}", 0},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json *doc = NULL;
        fixture_write(f, "refs/x", cases[i].text);
        assert_int_equal(ref_read(f->store, "x", &doc, &f->e), -cases[i].code);
        if (cases[i].code == 0) {
            json_free(doc);
            continue;
        }
        assert_null(doc);
        assert_non_null(strstr(f->e.msg, fixture_path(f, "refs/x")));
        if (cases[i].code == LARDER_CORRUPT)
            assert_non_null(strstr(f->e.hint, "fsck"));
    }
}

static void write_checks_the_document(void **state)
{
    struct fixture *f = *state;
    struct json *doc = json_new_object();
    assert_int_equal(json_set_i64(doc, "version", 1), 0);
    assert_int_equal(ref_write(f->store, "x", doc, &f->e), -LARDER_INVAL);
    assert_int_equal(json_set_string(doc, "name", "y"), 0);
    assert_int_equal(ref_write(f->store, "x", doc, &f->e), -LARDER_INVAL);
    assert_int_equal(ref_write(f->store, "y", doc, &f->e), 0);
    json_free(doc);
    assert_int_equal(fixture_count(f, "refs"), 1);
    assert_int_equal(fixture_count(f, "tmp"), 0);
}

struct seen {
    char names[256];
    int n, stop_at;
};

static int see(void *arg, const char *name)
{
    struct seen *seen = arg;
    snprintf(seen->names + strlen(seen->names), sizeof seen->names - strlen(seen->names), "%s ",
             name);
    return ++seen->n == seen->stop_at ? 7 : 0;
}

static void each_is_sorted_and_stops(void **state)
{
    static const char *const names[] = {"image/b", "image/a", "other", "image/a/c", "image"};
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    struct seen all = {0}, some = {0}, first = {.stop_at = 1};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(larder_ref_set(f->store, names[i], &digest, NULL, &f->e), 0);
    fixture_write(f, "refs/.tmp-1-1-x", "");
    fixture_write(f, "refs/%zz", "");
    assert_int_equal(larder_ref_each(f->store, NULL, see, &all, &f->e), 0);
    assert_string_equal(all.names, "image image/a image/a/c image/b other ");
    assert_int_equal(larder_ref_each(f->store, "image/", see, &some, &f->e), 0);
    assert_string_equal(some.names, "image/a image/a/c image/b ");
    assert_int_equal(larder_ref_each(f->store, "", see, &first, &f->e), 7);
    assert_int_equal(first.n, 1);
}

static int count(void *arg, const struct larder_digest *digest)
{
    assert_int_equal(digest->alg, LARDER_DIGEST_SHA256);
    ++*(int *)arg;
    return 0;
}

static void digests_of_a_document(void **state)
{
    (void)state;
    static const char text[] = "{\"version\":1,\"name\":\"x\",\"descriptor\":{\"digest\":\"" ABC
                               "\"},\"keeps\":[{\"digest\":\"" ABC "\"},{\"digest\":\"" ABC "\"}]}";
    struct json *doc = NULL;
    int n = 0;
    assert_int_equal(ref_parse(SLICE_LIT(text), NULL, &doc, NULL), 0);
    assert_int_equal(ref_each_digest(doc, count, &n, NULL), 0);
    assert_int_equal(n, 3);
    json_free(doc);
}

static int rewrite(struct fixture *f, int i)
{
    struct larder_digest digest;
    if (fixture_open(f, 0) < 0 || larder_digest_parse(ABC, (size_t)-1, &digest, NULL) < 0)
        return -1;
    for (int n = 0; n < 20; n++) {
        CLEANUP_FREE char *text = NULL;
        if (i % 2 ? larder_ref_set(f->store, "x", &digest, n % 2 ? "a/b" : NULL, &f->e)
                  : larder_ref_get(f->store, "x", &text, &f->e)) {
            fprintf(stderr, "%s\n", f->e.msg);
            return -1;
        }
    }
    return 0;
}

static void readers_see_whole_documents(void **state)
{
    struct fixture *f = *state;
    struct larder_digest digest = fixture_put(f, "abc");
    assert_int_equal(larder_ref_set(f->store, "x", &digest, NULL, &f->e), 0);
    assert_int_equal(fixture_race(8, rewrite, f), 0);
}

int main(void)
{
#define STORE(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        STORE(set_get_remove),
        STORE(an_entry_is_not_overwritten),
        STORE(damage_is_named),
        STORE(write_checks_the_document),
        STORE(each_is_sorted_and_stops),
        cmocka_unit_test(digests_of_a_document),
        STORE(readers_see_whole_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
