/* SPDX-License-Identifier: Apache-2.0 */
#include "image_host.h"

#include "image/entry.h"
#include "image/service.h"
#include "store/dir/ref.h"

static char *text(const char *value)
{
    char *copy = strdup(value);
    assert_non_null(copy);
    return copy;
}

static struct larder_digest digest_of(enum larder_digest_alg alg, const char *value)
{
    struct larder_digest digest;
    assert_int_equal(hash_of(alg, value, strlen(value), &digest, NULL), 0);
    return digest;
}

/* Every member has a value of its own, so that a pair mixed up is seen. */
static void fill(struct image_entry *entry)
{
    char **const texts[] = {&entry->name,          &entry->source,
                            &entry->checksum,      &entry->keyring,
                            &entry->fingerprint,   &entry->format,
                            &entry->unpack,        &entry->header_file,
                            &entry->transform,     &entry->invalidated_why,
                            &entry->sums_url,      &entry->sums_inner_name,
                            &entry->signed_by,     &entry->sums_etag,
                            &entry->etag,          &entry->sums_last_modified,
                            &entry->last_modified, &entry->final_url,
                            &entry->failed_why};
    int64_t *const times[] = {&entry->refresh_ns, &entry->added_ns,   &entry->fetched_ns,
                              &entry->checked_ns, &entry->changed_ns, &entry->failed_ns};
    uint64_t *const sizes[] = {&entry->size_bytes,   &entry->virtual_bytes,
                               &entry->source_bytes, &entry->published_bytes,
                               &entry->sums_bytes,   &entry->signature_bytes};
    char value[32];
    image_entry_init(entry);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        snprintf(value, sizeof(value), "text %zu \"\\ \xc3\xa4", i);
        *texts[i] = text(value);
    }
    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        *times[i] = INT64_MAX - (int64_t)i;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        *sizes[i] = (uint64_t)INT64_MAX - 100 - i;
    entry->allow_backing = entry->is_invalidated = true;
    entry->found_format = IMAGE_FORMAT_VHDX;
    entry->failed_code = LARDER_MISMATCH;
    entry->digest = digest_of(LARDER_DIGEST_SHA512, "r");
    entry->sums_blob = digest_of(LARDER_DIGEST_SHA256, "sums");
    entry->signature_blob = digest_of(LARDER_DIGEST_SHA256, "signature");
    for (unsigned alg = 1; alg < LARDER_DIGEST_ALG_MAX; alg++) {
        entry->source_digests.by_alg[alg] = digest_of((enum larder_digest_alg)alg, "s");
        entry->published.by_alg[alg] = digest_of((enum larder_digest_alg)alg, "u");
    }
}

static void same_text(const char *a, const char *b)
{
    if (!a || !b)
        assert_ptr_equal(a, b);
    else
        assert_string_equal(a, b);
}

static void same_entry(const struct image_entry *a, const struct image_entry *b)
{
    const char *const pairs[][2] = {{a->name, b->name},
                                    {a->source, b->source},
                                    {a->checksum, b->checksum},
                                    {a->keyring, b->keyring},
                                    {a->fingerprint, b->fingerprint},
                                    {a->format, b->format},
                                    {a->unpack, b->unpack},
                                    {a->header_file, b->header_file},
                                    {a->transform, b->transform},
                                    {a->invalidated_why, b->invalidated_why},
                                    {a->sums_url, b->sums_url},
                                    {a->sums_inner_name, b->sums_inner_name},
                                    {a->signed_by, b->signed_by},
                                    {a->sums_etag, b->sums_etag},
                                    {a->sums_last_modified, b->sums_last_modified},
                                    {a->etag, b->etag},
                                    {a->last_modified, b->last_modified},
                                    {a->final_url, b->final_url},
                                    {a->failed_why, b->failed_why}};
    const int64_t numbers[][2] = {{a->refresh_ns, b->refresh_ns},
                                  {a->added_ns, b->added_ns},
                                  {a->fetched_ns, b->fetched_ns},
                                  {a->checked_ns, b->checked_ns},
                                  {a->changed_ns, b->changed_ns},
                                  {a->failed_ns, b->failed_ns},
                                  {(int64_t)a->size_bytes, (int64_t)b->size_bytes},
                                  {(int64_t)a->virtual_bytes, (int64_t)b->virtual_bytes},
                                  {(int64_t)a->source_bytes, (int64_t)b->source_bytes},
                                  {(int64_t)a->published_bytes, (int64_t)b->published_bytes},
                                  {(int64_t)a->sums_bytes, (int64_t)b->sums_bytes},
                                  {(int64_t)a->signature_bytes, (int64_t)b->signature_bytes},
                                  {a->allow_backing, b->allow_backing},
                                  {a->is_invalidated, b->is_invalidated},
                                  {(int64_t)a->found_format, (int64_t)b->found_format},
                                  {(int64_t)a->failed_code, (int64_t)b->failed_code}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        same_text(pairs[i][0], pairs[i][1]);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (numbers[i][0] != numbers[i][1])
            fail_msg("number %zu: %lld, expected %lld", i, (long long)numbers[i][0],
                     (long long)numbers[i][1]);
    assert_memory_equal(&a->digest, &b->digest, sizeof(a->digest));
    assert_memory_equal(&a->sums_blob, &b->sums_blob, sizeof(a->sums_blob));
    assert_memory_equal(&a->signature_blob, &b->signature_blob, sizeof(a->signature_blob));
    assert_memory_equal(&a->source_digests, &b->source_digests, sizeof(a->source_digests));
    assert_memory_equal(&a->published, &b->published, sizeof(a->published));
}

static void round_trip(const struct image_entry *entry)
{
    struct image_entry back;
    struct json *document = NULL, *parsed = NULL;
    struct buf bytes = BUF_INIT(REF_BYTES_MAX);
    struct larder_error e = LARDER_ERROR_INIT;
    assert_int_equal(image_entry_to_json(entry, &document, &e), 0);
    assert_int_equal(json_dump(document, &bytes, &e), 0);
    assert_int_equal(json_parse(buf_slice(&bytes), REF_BYTES_MAX, &parsed, &e), 0);
    if (image_entry_from_json(parsed, &back, &e) < 0)
        fail_msg("%s: %s", e.msg, bytes.p);
    same_entry(&back, entry);
    image_entry_done(&back);
    json_free(document);
    json_free(parsed);
    buf_done(&bytes);
}

static void test_round_trip(void **state)
{
    struct image_entry entry;
    (void)state;
    fill(&entry);
    round_trip(&entry);
    image_entry_done(&entry);

    image_entry_init(&entry); /* nothing but what must be there */
    entry.name = text("n");
    entry.source = text("/s");
    entry.refresh_ns = LARDER_REFRESH_ALWAYS;
    round_trip(&entry);
    image_entry_done(&entry);
}

static void test_store(void **state)
{
    struct host *h = *state;
    struct image_entry entry, back;
    fill(&entry);
    expect_ok(h, image_entry_write(h->store, &entry, &h->e));
    expect_ok(h, image_entry_read(h->store, entry.name, &back, &h->e));
    same_entry(&back, &entry);
    image_entry_done(&back);
    image_entry_done(&entry);
    expect_code(h, image_entry_read(h->store, "no", &back, &h->e), LARDER_NOENT);
    expect_message(h, "image no: ");
    assert_null(strstr(h->e.msg, "image/"));
}

#define DOC(version, name, rest) \
    "{\"version\":" version ",\"name\":\"" name "\",\"image\":{\"wanted\":" rest "}}"
#define SOURCE "{\"source\":\"/s\"}"

static void test_damaged(void **state)
{
    static const struct {
        const char *json;
        enum larder_code code;
    } cases[] = {
        {DOC("1", "image/a", SOURCE), LARDER_OK},
        {DOC("1", "image/a", "{\"source\":\"/s\",\"refreshNs\":\"1h\",\"new\":[]}"), LARDER_OK},
        {"[]", LARDER_UNSUPPORTED},
        {"{}", LARDER_UNSUPPORTED},
        {DOC("2", "image/a", SOURCE), LARDER_UNSUPPORTED},
        {DOC("\"1\"", "image/a", SOURCE), LARDER_UNSUPPORTED},
        {DOC("1", "tag/a", SOURCE), LARDER_CORRUPT},
        {DOC("1", "image/a", "{}"), LARDER_CORRUPT},
        {DOC("1", "image/a", "{\"source\":7}"), LARDER_CORRUPT},
        {"{\"version\":1,\"name\":\"image/a\"}", LARDER_CORRUPT},
        {"{\"version\":1,\"name\":\"image/a\",\"descriptor\":{\"digest\":\"sha256:12\"},"
         "\"image\":{\"wanted\":" SOURCE "}}",
         LARDER_CORRUPT},
        {"{\"version\":1,\"name\":\"image/a\",\"descriptor\":{\"digest\":"
         "\"md5:d41d8cd98f00b204e9800998ecf8427e\"},\"image\":{\"wanted\":" SOURCE "}}",
         LARDER_CORRUPT},
        {"{\"version\":1,\"name\":\"image/a\",\"image\":{\"wanted\":" SOURCE
         ",\"upstream\":{\"published\":{\"sha256\":\"zz\"}}}}",
         LARDER_CORRUPT},
        {"{\"version\":1,\"name\":\"image/a\",\"image\":{\"wanted\":" SOURCE
         ",\"upstream\":{\"sums\":\"x\"}}}",
         LARDER_CORRUPT},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct json *document = NULL;
        struct image_entry entry;
        image_entry_init(&entry);
        assert_int_equal(json_parse(slice_of(cases[i].json), 4096, &document, &e), 0);
        int r = image_entry_from_json(document, &entry, &e);
        if (r != -(int)cases[i].code)
            fail_msg("%s: %d (%s), expected %s", cases[i].json, r, e.msg,
                     larder_code_name(cases[i].code));
        image_entry_done(&entry);
        json_free(document);
    }
}

static void test_spec(void **state)
{
    static const struct larder_image_spec base = LARDER_IMAGE_SPEC_INIT;
    static const struct {
        const char *source, *checksum, *keyring, *fingerprint, *format, *unpack;
        int64_t refresh_ns;
        enum larder_code code;
    } cases[] = {
        {"/b.qcow2", NULL, NULL, NULL, NULL, NULL, 0, LARDER_OK},
        {"https://example.org/b.qcow2", "https://example.org/SUMS", "/k", "ab", "raw", "never",
         LARDER_REFRESH_NEVER, LARDER_OK},
        {NULL, NULL, NULL, NULL, NULL, NULL, 0, LARDER_INVAL},
        {"", NULL, NULL, NULL, NULL, NULL, 0, LARDER_INVAL},
        {"ftp://example.org/b", NULL, NULL, NULL, NULL, NULL, 0, LARDER_UNSUPPORTED},
        {"/a", "ftp://example.org/s", NULL, NULL, NULL, NULL, 0, LARDER_UNSUPPORTED},
        {"/a", NULL, NULL, NULL, NULL, NULL, -1, LARDER_INVAL},
        {"/a", NULL, NULL, "ab", NULL, NULL, 0, LARDER_INVAL},
        {"/a", "md5:d41d8cd98f00b204e9800998ecf8427e", "/k", NULL, NULL, NULL, 0, LARDER_INVAL},
        {"/a", NULL, NULL, NULL, "floppy", NULL, 0, LARDER_INVAL},
        {"/a", NULL, NULL, NULL, NULL, "sometimes", 0, LARDER_INVAL},
        {"/a\xff", NULL, NULL, NULL, NULL, NULL, 0, LARDER_INVAL},
        {"/a\n", NULL, NULL, NULL, NULL, NULL, 0, LARDER_INVAL},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct larder_image_spec spec = base;
        struct image_entry entry;
        spec.source = cases[i].source;
        spec.checksum = cases[i].checksum;
        spec.keyring = cases[i].keyring;
        spec.fingerprint = cases[i].fingerprint;
        spec.format = cases[i].format;
        spec.unpack = cases[i].unpack;
        spec.refresh_ns = cases[i].refresh_ns;
        int r = image_entry_from_spec(&spec, &entry, &e);
        if (r != -(int)cases[i].code)
            fail_msg("case %zu: %d (%s), expected %s", i, r, e.msg,
                     larder_code_name(cases[i].code));
        if (r < 0)
            continue;
        same_text(entry.source, spec.source);
        same_text(entry.checksum, spec.checksum);
        assert_true(entry.refresh_ns == spec.refresh_ns);
        assert_true(entry.added_ns > 0);
        assert_int_equal(image_name_check(entry.name, NULL), 0);
        image_entry_done(&entry);
    }
}

static void test_relative(void **state)
{
    struct host *h = *state;
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    struct image_entry entry;
    char here[512];
    assert_non_null(getcwd(here, sizeof(here)));
    assert_int_equal(chdir(h->source_dir), 0);
    spec.source = "./x.qcow2";
    spec.checksum = "sums";
    expect_ok(h, image_entry_from_spec(&spec, &entry, &h->e));
    assert_string_equal(entry.source, host_path(h, "x.qcow2"));
    assert_string_equal(entry.checksum, host_path(h, "sums"));
    image_entry_done(&entry);
    /* A digest as people paste it. */
    spec.checksum = "D41D8CD98F00B204E9800998ECF8427E";
    expect_ok(h, image_entry_from_spec(&spec, &entry, &h->e));
    assert_string_equal(entry.checksum, "md5:D41D8CD98F00B204E9800998ECF8427E");
    image_entry_done(&entry);
    assert_int_equal(chdir(here), 0);
}

static void test_names(void **state)
{
    static const char *const good[] = {"a", "debian-13", "a/b.c@d", "\xc3\xa4", "a b"};
    static const char *const bad[] = {"",     "-a",   "/a",    "a/",   "a//b",
                                      "a..b", "a\tb", "a\x7f", "\xff", "../x"};
    char long_name[130];
    (void)state;
    memset(long_name, 'a', sizeof(long_name));
    long_name[128] = '\0';
    assert_int_equal(image_name_check(long_name, NULL), 0);
    long_name[128] = 'a';
    long_name[129] = '\0';
    assert_int_equal(image_name_check(long_name, NULL), -LARDER_INVAL);
    assert_int_equal(image_name_check(NULL, NULL), -LARDER_INVAL);
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (image_name_check(good[i], NULL) < 0)
            fail_msg("%s refused", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (image_name_check(bad[i], NULL) != -LARDER_INVAL)
            fail_msg("%s accepted", bad[i]);
}

static void test_names_from_sources(void **state)
{
    static const struct {
        const char *source, *prefix;
    } cases[] = {
        {"/a/b.qcow2", "b.qcow2@"},         {"https://example.org/x/b%20c.img?token=1", "b_c.img@"},
        {"https://example.org/", "image@"}, {"/a/-x", "image@"},
        {"/a/b..c...d", "b_.c__.d@"},       {"/a/\xc3\xa4.img", "__.img@"},
    };
    char *name = NULL, *other = NULL;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(image_name_from_source(cases[i].source, &name, NULL), 0);
        if (strncmp(name, cases[i].prefix, strlen(cases[i].prefix)) ||
            strlen(name) != strlen(cases[i].prefix) + 12 || image_name_check(name, NULL) < 0)
            fail_msg("%s: %s, expected %s...", cases[i].source, name, cases[i].prefix);
        free(name);
    }
    assert_int_equal(image_name_from_source("/a/b", &name, NULL), 0);
    assert_int_equal(image_name_from_source("/c/b", &other, NULL), 0);
    assert_string_not_equal(name, other);
    free(name);
    free(other);
}

static void test_digest_sets(void **state)
{
    struct digest_set a = {0}, b = {0};
    (void)state;
    assert_null(digest_set_strongest(&a));
    assert_int_equal(digest_set_compare(&a, &b), -1);
    a.by_alg[LARDER_DIGEST_MD5] = digest_of(LARDER_DIGEST_MD5, "x");
    assert_int_equal(digest_set_strongest(&a)->alg, LARDER_DIGEST_MD5);
    b.by_alg[LARDER_DIGEST_SHA256] = digest_of(LARDER_DIGEST_SHA256, "x");
    assert_int_equal(digest_set_compare(&a, &b), -1);
    b.by_alg[LARDER_DIGEST_MD5] = digest_of(LARDER_DIGEST_MD5, "x");
    assert_int_equal(digest_set_compare(&a, &b), 1);
    assert_int_equal(digest_set_strongest(&b)->alg, LARDER_DIGEST_SHA256);
    /* One that differs outweighs all that agree. */
    a.by_alg[LARDER_DIGEST_SHA256] = digest_of(LARDER_DIGEST_SHA256, "y");
    assert_int_equal(digest_set_compare(&a, &b), 0);
    a.by_alg[LARDER_DIGEST_SHA512] = digest_of(LARDER_DIGEST_SHA512, "y");
    assert_int_equal(digest_set_strongest(&a)->alg, LARDER_DIGEST_SHA512);
}

static void test_due(void **state)
{
    static const int64_t s = 1000000000;
    static const struct {
        int64_t refresh_ns, checked_ns, changed_ns, failed_ns;
        enum larder_code failed_code;
        bool is_due;
    } cases[] = {
        {10, 100, 0, 0, LARDER_OK, false},
        {10, 90, 0, 0, LARDER_OK, true},
        {10, 91, 0, 0, LARDER_OK, false},
        {0, 100, 0, 0, LARDER_OK, true},
        {10, 0, 0, 0, LARDER_OK, true},
        {10, 101, 0, 0, LARDER_OK, true}, /* the clock was set back */
        {10, 100, 99, 0, LARDER_OK, true},
        {INT64_MAX, 0, 0, 0, LARDER_OK, false},
        {0, 50, 50, 99, LARDER_MISMATCH, false}, /* not again for a while */
        {0, 50, 50, 99, LARDER_UNREACHABLE, true},
        {0, 50, 50, 101, LARDER_MISMATCH, true},
    };
    struct image_entry entry;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        image_entry_init(&entry);
        bool is_never = cases[i].refresh_ns == INT64_MAX;
        entry.refresh_ns = is_never ? LARDER_REFRESH_NEVER : cases[i].refresh_ns * s;
        entry.checked_ns = cases[i].checked_ns * s;
        entry.changed_ns = cases[i].changed_ns * s;
        entry.failed_ns = cases[i].failed_ns * s;
        entry.failed_code = cases[i].failed_code;
        if (image_entry_is_due(&entry, 100 * s) != cases[i].is_due)
            fail_msg("case %zu: expected %s", i, cases[i].is_due ? "due" : "not due");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        ON_HOST(test_store),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_spec),
        ON_HOST(test_relative),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_names_from_sources),
        cmocka_unit_test(test_digest_sets),
        cmocka_unit_test(test_due),
    };
    return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}
