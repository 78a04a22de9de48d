/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/fdio.h"
#include "publish/meta_json.h"
#include "scratch.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define L "sha256:1111111111111111111111111111111111111111111111111111111111111111"

static const struct larder_observer silent;

static struct ordered *parse(const char *text)
{
    struct ordered *document = NULL;
    struct larder_error e = LARDER_ERROR_INIT;
    if (ordered_parse(slice_of(text), &document, &e) < 0)
        fail_msg("%s: %s", text, e.msg);
    return document;
}

static struct meta_record record_of(const char *repository, const char *digest,
                                    const char *const *tags, size_t n)
{
    struct meta_record record = {.repository = repository, .tags = tags, .n_tags = n};
    assert_int_equal(larder_digest_parse(digest, (size_t)-1, &record.digest, NULL), 0);
    assert_int_equal(larder_digest_parse(L, (size_t)-1, &record.list_digest, NULL), 0);
    return record;
}

#define ENTRY(repo, digest, tags)                                                     \
    "{\"image\":\"" repo "\",\"digest\":\"" digest "\",\"manifest-list-digest\":\"" L \
    "\",\"tags\":[" tags "]}"
#define ENTRY_MORE(repo, digest, tags, more)                                          \
    "{\"image\":\"" repo "\",\"digest\":\"" digest "\",\"manifest-list-digest\":\"" L \
    "\",\"tags\":[" tags "],\"additional-images\":[" more "]}"

/* Recording repository "r" with digest A and tags x, y under "k". */
static const struct {
    const char *what, *before, *after; /* after NULL: refused */
    enum meta_state state;
} rows[] = {
    {"a first push", "{\"z\":1}", "{\"z\":1,\"k\":" ENTRY("r", A, "\"x\",\"y\"") "}", META_MISSING},
    {"an empty key", "{\"k\":{},\"z\":1}", "{\"k\":" ENTRY("r", A, "\"x\",\"y\"") ",\"z\":1}",
     META_MISSING},
    {"null", "{\"k\":null}", "{\"k\":" ENTRY("r", A, "\"x\",\"y\"") "}", META_MISSING},
    {"the same again", "{\"k\":" ENTRY("r", A, "\"x\",\"y\"") "}",
     "{\"k\":" ENTRY("r", A, "\"x\",\"y\"") "}", META_EQUAL},
    {"more tags than now, in another order", "{\"k\":" ENTRY("r", A, "\"y\",\"z\",\"x\"") "}",
     "{\"k\":" ENTRY("r", A, "\"y\",\"z\",\"x\"") "}", META_EQUAL},
    {"a new digest in place", "{\"k\":" ENTRY("r", B, "\"x\",\"y\"") ",\"z\":1.0}",
     "{\"k\":" ENTRY("r", A, "\"x\",\"y\"") ",\"z\":1.0}", META_DIFFERENT},
    {"a missing tag: the new ones first", "{\"k\":" ENTRY("r", A, "\"old\",\"y\"") "}",
     "{\"k\":" ENTRY("r", A, "\"x\",\"y\",\"old\"") "}", META_DIFFERENT},
    {"an entry of an earlier version", "{\"k\":{\"image\":\"r\",\"comment\":\"c\"}}",
     "{\"k\":{\"image\":\"r\",\"comment\":\"c\",\"digest\":\"" A "\",\"manifest-list-digest\":\"" L
     "\",\"tags\":[\"x\",\"y\"]}}",
     META_DIFFERENT},
    {"a second repository", "{\"k\":" ENTRY("q", B, "\"x\"") "}",
     "{\"k\":" ENTRY_MORE("q", B, "\"x\"", ENTRY("r", A, "\"x\",\"y\"")) "}", META_MISSING},
    {"the second again", "{\"k\":" ENTRY_MORE("q", B, "\"x\"", ENTRY("r", A, "\"x\",\"y\"")) "}",
     "{\"k\":" ENTRY_MORE("q", B, "\"x\"", ENTRY("r", A, "\"x\",\"y\"")) "}", META_EQUAL},
    {"the second with another digest",
     "{\"k\":" ENTRY_MORE("q", B, "\"x\"",
                          ENTRY("p", B, "\"x\"") "," ENTRY("r", B, "\"x\",\"y\"")) "}",
     "{\"k\":" ENTRY_MORE("q", B, "\"x\"",
                          ENTRY("p", B, "\"x\"") "," ENTRY("r", A, "\"x\",\"y\"")) "}",
     META_DIFFERENT},
    {"duplicates that others left, of the primary",
     "{\"k\":" ENTRY_MORE("r", A, "\"x\",\"y\"",
                          ENTRY("r", A, "\"x\",\"w\"") "," ENTRY("q", B, "\"x\"")) "}",
     "{\"k\":" ENTRY_MORE("r", A, "\"x\",\"y\",\"w\"", ENTRY("q", B, "\"x\"")) "}", META_DIFFERENT},
    {"duplicates of an additional one",
     "{\"k\":" ENTRY_MORE("q", B, "\"x\"",
                          ENTRY("r", A, "\"x\",\"y\"") "," ENTRY("r", B, "\"x\",\"y\"")) "}",
     "{\"k\":" ENTRY_MORE("q", B, "\"x\"", ENTRY("r", A, "\"x\",\"y\"")) "}", META_DIFFERENT},
    {"a key of something else", "{\"k\":\"text\"}", NULL, META_MISSING},
    {"a key of another object", "{\"k\":{\"path\":\"p\"}}", NULL, META_MISSING},
};

static void records(void **state __attribute__((unused)))
{
    static const char *const tags[] = {"x", "y"};
    struct meta_record record = record_of("r", A, tags, 2);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ordered *document = parse(rows[i].before);
        struct larder_error e = LARDER_ERROR_INIT;
        assert_int_equal(meta_state_of(document, "k", &record), rows[i].state);
        int r = meta_record(document, "k", &record, &e);
        if (!rows[i].after) {
            assert_int_equal(r, -LARDER_INVAL);
            ordered_free(document);
            continue;
        }
        struct ordered *expected = parse(rows[i].after);
        if (r < 0 || (r == 1) != (rows[i].state != META_EQUAL) ||
            !ordered_equal(document, expected))
            fail_msg("%s: %d %s", rows[i].what, r, e.msg);
        /* Twice is once. */
        assert_int_equal(meta_state_of(document, "k", &record), META_EQUAL);
        assert_int_equal(meta_record(document, "k", &record, NULL), 0);
        assert_true(meta_has_tag(document, "k", "r", &record.digest, "y"));
        assert_false(meta_has_tag(document, "k", "r", &record.digest, "other"));
        assert_false(meta_has_tag(document, "k", "s", &record.digest, "x"));
        assert_false(meta_has_tag(document, "k", "r", &record.list_digest, "x"));
        ordered_free(document);
        ordered_free(expected);
    }
}

/* coreos-assembler's own rule: what the file says must be what the writer had read. */
static void same_build(void **state __attribute__((unused)))
{
    static const struct {
        const char *now, *before;
        bool is_same;
    } cases[] = {
        {"{}", "{\"ostree-commit\":\"a\"}", true},
        {"{\"ostree-commit\":\"a\"}", "{\"ostree-commit\":\"a\"}", true},
        {"{\"ostree-commit\":\"a\"}", "{\"ostree-commit\":\"b\"}", false},
        {"{\"ostree-commit\":\"a\"}", "{}", false},
        {"{\"ostree-commit\":\"\"}", "{}", true},
        {"{\"ostree-content-checksum\":\"a\"}", "{}", false},
        {"{\"coreos-assembler.image-config-checksum\":\"a\"}", "{}", false},
        {"{\"coreos-assembler.container-config-git\":{\"commit\":\"a\"}}",
         "{\"coreos-assembler.container-config-git\":{\"commit\":\"b\"}}", false},
        {"{\"coreos-assembler.container-config-git\":{\"commit\":\"a\",\"dirty\":\"t\"}}",
         "{\"coreos-assembler.container-config-git\":{\"commit\":\"a\"}}", true},
        {"{\"other\":1}", "{\"other\":2}", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ordered *now = parse(cases[i].now), *before = parse(cases[i].before);
        int r = meta_check_same(now, before, NULL);
        if (r != (cases[i].is_same ? 0 : -LARDER_MISMATCH))
            fail_msg("case %zu: %d", i, r);
        ordered_free(now);
        ordered_free(before);
    }
}

static void write_file(struct scratch *s, const char *name, const char *text)
{
    assert_int_equal(file_write_atomic(s->fd, name, text, strlen(text), 0600, NULL), 0);
}

static char *read_text(struct scratch *s, const char *name)
{
    struct buf out = BUF_INIT(1 << 20);
    assert_int_equal(file_read(s->fd, name, &out, NULL), 0);
    return buf_take(&out);
}

static int count(void *arg, const char *name, unsigned char d_type)
{
    (void)d_type;
    (void)name;
    ++*(unsigned *)arg;
    return 0;
}

static void saves(void **state)
{
    struct scratch *s = *state;
    static const char *const tags[] = {"stable", "1.2"};
    struct meta_record record = record_of("example.org/a", A, tags, 2);
    struct meta_place place = {s->fd, s->path, "base", &silent};
    struct ordered *before = NULL;
    struct stat st, again;
    unsigned n_files = 0;

    write_file(s, "meta.json",
               "{\"b\": 1.0, \"name\": \"\xc3\xa9\", \"coreos-assembler.meta-stamp\": 17}");
    assert_int_equal(meta_json_read(&place, &before, NULL), 0);
    assert_int_equal(meta_json_save(&place, before, &record, NULL), 1);
    char *text = read_text(s, "meta.json");
    static const char head[] = "{\n    \"b\": 1.0,\n    \"name\": \"\\u00e9\",\n"
                               "    \"coreos-assembler.meta-stamp\": ";
    static const char tail[] =
        ",\n    \"base\": {\n        \"image\": \"example.org/a\",\n        \"digest\": \"" A
        "\",\n        \"manifest-list-digest\": \"" L "\",\n        \"tags\": [\n"
        "            \"stable\",\n            \"1.2\"\n        ]\n    }\n}";
    assert_true(strncmp(text, head, strlen(head)) == 0);
    char *digits = text + strlen(head);
    assert_true(strspn(digits, "0123456789") == 19);
    assert_string_equal(digits + 19, tail);
    free(text);
    assert_int_equal(fstatat(s->fd, "meta.json", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    /* Nothing to say: the file is not touched. */
    assert_int_equal(meta_json_save(&place, before, &record, NULL), 0);
    assert_int_equal(fstatat(s->fd, "meta.json", &again, 0), 0);
    assert_true(st.st_ino == again.st_ino && st.st_mtim.tv_nsec == again.st_mtim.tv_nsec);
    assert_int_equal(dir_each(s->fd, count, &n_files, NULL), 0);
    assert_int_equal(n_files, 1);
    /* Of another build now. */
    write_file(s, "meta.json", "{\"ostree-commit\": \"x\"}");
    assert_int_equal(meta_json_save(&place, before, &record, NULL), -LARDER_MISMATCH);
    write_file(s, "meta.json", "{\"ostree-commit\": ");
    assert_int_equal(meta_json_save(&place, before, &record, NULL), -LARDER_INVAL);
    assert_int_equal(unlinkat(s->fd, "meta.json", 0), 0);
    assert_int_equal(meta_json_save(&place, before, &record, NULL), -LARDER_NOENT);
    n_files = 0;
    assert_int_equal(dir_each(s->fd, count, &n_files, NULL), 0);
    assert_int_equal(n_files, 0);
    ordered_free(before);
}

/* Changes that are to be merged later go to a file of their own. */
static void delayed(void **state)
{
    struct scratch *s = *state;
    static const char *const tags[] = {"t"};
    struct meta_record record = record_of("r", A, tags, 1);
    struct meta_place place = {s->fd, s->path, "base", &silent};
    struct ordered *before = NULL, *after = NULL;
    static const char meta[] = "{\"coreos-assembler.delayed-meta-merge\": true, \"z\": 1}";

    write_file(s, "meta.json", meta);
    assert_int_equal(meta_json_read(&place, &before, NULL), 0);
    assert_int_equal(meta_json_save(&place, before, &record, NULL), 1);
    char *text = read_text(s, "meta.json");
    assert_string_equal(text, meta);
    free(text);
    assert_int_equal(meta_json_read(&place, &after, NULL), 0);
    assert_int_equal(meta_state_of(after, "base", &record), META_EQUAL);
    assert_string_equal(ordered_get(after, "z")->spelled, "1");
    assert_int_equal(faccessat(s->fd, "meta.base.json", F_OK, 0), 0);
    assert_int_equal(meta_json_save(&place, before, &record, NULL), 0);
    place.key = "a/b";
    assert_int_equal(meta_json_save(&place, before, &record, NULL), -LARDER_INVAL);
    ordered_free(before);
    ordered_free(after);
}

/* Several commands, each with a key of its own: none is lost. */
static void in_parallel(void **state)
{
    struct scratch *s = *state;
    enum { WRITERS = 6, TIMES = 15 };
    pid_t children[WRITERS];
    struct ordered *after = NULL;

    write_file(s, "meta.json", "{}");
    for (int i = 0; i < WRITERS; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] > 0)
            continue;
        char key[16], tag[16];
        const char *const tags[] = {tag};
        snprintf(key, sizeof(key), "key%d", i);
        struct meta_place place = {s->fd, s->path, key, &silent};
        for (int t = 0; t < TIMES; t++) {
            struct ordered *before = NULL;
            snprintf(tag, sizeof(tag), "tag%d", t);
            struct meta_record record = record_of("r", A, tags, 1);
            if (meta_json_read(&place, &before, NULL) < 0 ||
                meta_json_save(&place, before, &record, NULL) != 1)
                _exit(1);
            ordered_free(before);
        }
        _exit(0);
    }
    for (int i = 0; i < WRITERS; i++) {
        int status = 0;
        assert_true(waitpid(children[i], &status, 0) == children[i]);
        assert_int_equal(status, 0);
    }
    struct meta_place place = {s->fd, s->path, "key0", &silent};
    assert_int_equal(meta_json_read(&place, &after, NULL), 0);
    for (int i = 0; i < WRITERS; i++) {
        char key[16];
        snprintf(key, sizeof(key), "key%d", i);
        const struct ordered *tags = ordered_get(ordered_get(after, key), "tags");
        assert_non_null(tags);
        assert_int_equal(tags->n_items, TIMES);
    }
    ordered_free(after);
    unsigned n_files = 0;
    assert_int_equal(dir_each(s->fd, count, &n_files, NULL), 0);
    assert_int_equal(n_files, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records),
        cmocka_unit_test(same_build),
        cmocka_unit_test_setup_teardown(saves, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(delayed, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(in_parallel, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
