/* SPDX-License-Identifier: Apache-2.0 */
/* larder_image_get from a scripted HTTP server: torn publication, caches, failures. */
#include "http_server.h"
#include "image_host.h"

#include <larder/net.h>

#include "image/entry.h"

static struct server server;

static int start(void **state)
{
    (void)state;
    server_start(&server, false);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    server_stop(&server);
    return 0;
}

/* Every test begins with an empty server that does nothing special. */
static int setup(void **state)
{
    int r = host_setup(state);
    struct host *h = *state;
    struct larder_net_options net = LARDER_NET_OPTIONS_INIT;
    char command[256];
    snprintf(command, sizeof(command), "rm -f %s/x.* %s/*SUM*", server.dir, server.dir);
    net.retries = 1;
    net.stall_timeout_ns = 3600LL * 1000000000; /* the test's own limit is shorter */
    if (r != 0 || system(command) != 0)
        return -1;
    server_control(&server, "{}");
    server_log_reset(&server);
    return larder_store_set_net(h->store, &net, &h->e);
}

#define ON_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, host_teardown)

/* Each version has a time of its own, or the server would give it the old one's ETag. */
static void put(const char *name, const void *data, size_t n)
{
    static time_t when = 1700000000;
    server_file(&server, name, data, n);
    when++;
    const struct timespec times[2] = {{when, 0}, {when, 0}};
    assert_int_equal(utimensat(AT_FDCWD, server_path(&server, name), times, 0), 0);
}

/* An image on the server with other bytes for each seed; as a source of the host too. */
static void publish_image(struct host *h, const char *name, unsigned seed)
{
    struct buf bytes = BUF_INIT(1 << 20);
    host_image(h, "x.qcow2", seed);
    assert_int_equal(file_read(AT_FDCWD, host_path(h, "x.qcow2"), &bytes, NULL), 0);
    put(name, bytes.p, bytes.n);
    buf_done(&bytes);
}

/* The digest of the host's x.qcow2. */
static void publish_sums(struct host *h, const char *name)
{
    char line[256];
    snprintf(line, sizeof(line), "%s *x.qcow2\n",
             host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256));
    put(name, line, strlen(line));
}

static void add(struct host *h, int64_t refresh_ns)
{
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    spec.name = "x";
    spec.source = server_url(&server, "/x.qcow2");
    spec.refresh_ns = refresh_ns;
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
}

/* Gets what the host's x.qcow2 is. */
static void gets(struct host *h, enum larder_image_how how)
{
    struct larder_image_result result = {0};
    char hex[LARDER_DIGEST_TEXT_BYTES];
    expect_ok(h, larder_image_get(h->store, "x", NULL, &result, &h->e));
    if (result.how != how)
        fail_msg("%s, expected %s; %s", larder_image_how_name(result.how),
                 larder_image_how_name(how), h->last_warning);
    assert_string_equal(larder_digest_hex(&result.digest, hex),
                        host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256));
    assert_string_equal(host_hex(result.path, LARDER_DIGEST_SHA256), hex);
    larder_image_result_done(&result);
}

static void fails(struct host *h, enum larder_code code, const char *words)
{
    struct larder_image_result result = {0};
    expect_code(h, larder_image_get(h->store, "x", NULL, &result, &h->e), code);
    expect_message(h, words);
}

static void test_fetch_and_ask(void **state)
{
    struct host *h = *state;
    struct larder_image_info info = {0};
    publish_image(h, "x.qcow2", 1);
    publish_sums(h, "SHA256SUMS");
    add(h, LARDER_REFRESH_ALWAYS);
    gets(h, LARDER_IMAGE_FETCHED);
    server_log_reset(&server);
    gets(h, LARDER_IMAGE_HIT);
    assert_int_equal(server_log_count(&server, "\"status\": 304"), 1);
    assert_int_equal(server_log_count(&server, "\"n\""), 1); /* one question, no search */
    expect_ok(h, larder_image_show(h->store, "x", false, &info, &h->e));
    assert_non_null(strstr(info.sums_url, "/SHA256SUMS"));
    assert_non_null(info.etag);
    larder_image_info_done(&info);
    publish_image(h, "x.qcow2", 2);
    publish_sums(h, "SHA256SUMS");
    gets(h, LARDER_IMAGE_UPDATED);
    gets(h, LARDER_IMAGE_HIT);
    assert_int_equal(h->warnings, 0);
}

static void test_without_sums(void **state)
{
    struct host *h = *state;
    publish_image(h, "x.qcow2", 1);
    add(h, LARDER_REFRESH_ALWAYS);
    gets(h, LARDER_IMAGE_FETCHED);
    server_log_reset(&server);
    gets(h, LARDER_IMAGE_HIT);
    assert_int_equal(server_log_count(&server, "\"HEAD\""), 1);
    assert_int_equal(server_log_count(&server, "\"n\""), 1);
    publish_image(h, "x.qcow2", 2);
    gets(h, LARDER_IMAGE_UPDATED);
}

/* The sums come late, or early: asked once more, past every cache. */
static void test_torn_and_mended(void **state)
{
    struct host *h = *state;
    publish_image(h, "x.qcow2", 1);
    publish_sums(h, "x.old");
    publish_image(h, "x.qcow2", 2);
    publish_sums(h, "SHA256SUMS");
    server_control(&server, "{\"/SHA256SUMS\": {\"times\": 1, \"file\": \"x.old\"}}");
    add(h, LARDER_REFRESH_ALWAYS);
    gets(h, LARDER_IMAGE_FETCHED);
    assert_int_equal(h->fetches, 1); /* the bytes were right */
    assert_int_equal(h->warnings, 0);
    assert_int_equal(server_log_count(&server, "no-cache") > 0, 1);

    /* The image comes late: new sums, then once the old image. */
    publish_image(h, "x.prev", 2);
    publish_image(h, "x.qcow2", 3);
    publish_sums(h, "SHA256SUMS");
    server_control(&server, "{\"/x.qcow2\": {\"times\": 1, \"file\": \"x.prev\"}}");
    gets(h, LARDER_IMAGE_UPDATED); /* and no "stale": the first try is forgotten */
    assert_int_equal(h->fetches, 3);
    assert_int_equal(h->warnings, 0);
    gets(h, LARDER_IMAGE_HIT);
}

static void test_torn_for_good(void **state)
{
    struct host *h = *state;
    publish_image(h, "x.qcow2", 2);
    publish_sums(h, "SHA256SUMS");
    publish_image(h, "x.qcow2", 1);
    add(h, LARDER_REFRESH_ALWAYS);
    fails(h, LARDER_MISMATCH, "upstream inconsistent");
    assert_int_equal(h->fetches, 2);
    /* Nothing of the wrong bytes is taken up again. */
    publish_image(h, "x.qcow2", 2);
    gets(h, LARDER_IMAGE_FETCHED);
    publish_image(h, "x.qcow2", 3);
    host_image(h, "x.qcow2", 4);
    publish_sums(h, "SHA256SUMS");
    host_image(h, "x.qcow2", 2);
    gets(h, LARDER_IMAGE_STALE_OK);
    server_log_reset(&server);
    gets(h, LARDER_IMAGE_STALE_OK); /* upstream is left alone for a while */
    assert_int_equal(server_log_count(&server, "\"n\""), 0);
}

/* A size in the sums that the image has not: the same protocol, before all is fetched. */
static void test_wrong_length(void **state)
{
    struct host *h = *state;
    char text[512];
    publish_image(h, "x.qcow2", 1);
    snprintf(text, sizeof(text), "# x.qcow2: 1000 bytes\nSHA256 (x.qcow2) = %s\n",
             host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256));
    put("CHECKSUM.old", text, strlen(text));
    publish_sums(h, "CHECKSUM");
    server_control(&server, "{\"/CHECKSUM\": {\"times\": 1, \"file\": \"CHECKSUM.old\"}}");
    add(h, LARDER_REFRESH_ALWAYS);
    gets(h, LARDER_IMAGE_FETCHED);
    assert_int_equal(h->warnings, 0);
}

static void test_unreachable(void **state)
{
    struct host *h = *state;
    char text[128];
    publish_image(h, "x.qcow2", 1);
    publish_sums(h, "x.qcow2.sha256");
    add(h, LARDER_REFRESH_ALWAYS);
    server_control(&server, "{\"/x.qcow2.sha256\": {\"status\": 503}}");
    fails(h, LARDER_UNREACHABLE, "503"); /* that is no "there is none" */
    server_control(&server, "{}");
    gets(h, LARDER_IMAGE_FETCHED);
    server_control(&server, "{\"/x.qcow2.sha256\": {\"status\": 503}}");
    gets(h, LARDER_IMAGE_STALE_OK);
    assert_int_equal(h->warnings, 1);
    struct larder_image_get_options options = LARDER_IMAGE_GET_OPTIONS_INIT;
    struct larder_image_result result = {0};
    options.require_fresh = true;
    expect_code(h, larder_image_get(h->store, "x", &options, &result, &h->e), LARDER_UNREACHABLE);
    server_control(&server, "{\"/x.qcow2.sha256\": {\"status\": 404}, \"/x.qcow2\": "
                            "{\"status\": 404}}");
    expect_code(h, larder_image_get(h->store, "x", &options, &result, &h->e), LARDER_GONE);
    /* Sums that are gone while the image is there: what they said last holds. */
    server_control(&server, "{\"/x.qcow2\": {\"text\": \"<!DOCTYPE html><title>no\"},"
                            "\"/x.qcow2.sha256\": {\"status\": 404}}");
    gets(h, LARDER_IMAGE_STALE_OK);
    assert_non_null(strstr(h->last_warning, "not there any more"));
    /* A page in the image's place, announced by new sums. */
    server_control(&server, "{\"/x.qcow2\": {\"text\": \"<!DOCTYPE html><title>no\"}}");
    snprintf(text, sizeof(text), "%064d  x.qcow2\n", 0);
    put("x.qcow2.sha256", text, strlen(text));
    gets(h, LARDER_IMAGE_STALE_OK);
    assert_non_null(strstr(h->last_warning, "HTML"));
}

/* Changed upstream by another's word, then fetched: what is kept are the sums believed. */
static void test_evidence(void **state)
{
    struct host *h = *state;
    char text[256];
    struct larder_digest digest;
    publish_image(h, "x.qcow2", 1);
    publish_sums(h, "SHA256SUMS");
    add(h, LARDER_REFRESH_ALWAYS);
    gets(h, LARDER_IMAGE_FETCHED);
    publish_image(h, "x.qcow2", 2);
    publish_sums(h, "SHA256SUMS");
    expect_code(
        h, larder_image_verify(h->store, NULL, 0, LARDER_IMAGE_VERIFY_FRESH, NULL, NULL, &h->e),
        LARDER_OUTDATED);
    gets(h, LARDER_IMAGE_UPDATED);
    CLEANUP_ENTRY struct image_entry entry;
    expect_ok(h, image_entry_read(h->store, "x", &entry, &h->e));
    snprintf(text, sizeof(text), "%s *x.qcow2\n",
             host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256));
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, text, strlen(text), &digest, NULL), 0);
    assert_true(larder_digest_equal(&digest, &entry.sums_blob));
}

/* Cut in the middle: gone on from there, also by the next process. */
static void test_resumed(void **state)
{
    struct host *h = *state;
    publish_image(h, "x.qcow2", 1);
    publish_sums(h, "SHA256SUMS");
    add(h, LARDER_REFRESH_ALWAYS);
    server_control(&server, "{\"/x.qcow2\": {\"times\": 1, \"reset_after\": 100000}}");
    gets(h, LARDER_IMAGE_FETCHED);
    assert_int_equal(h->warnings, 0);
    assert_true(server_log_count(&server, "\"status\": 206") > 0);
}

/* Unpacked from a server: a name that promises it and content that does not keep it. */
static void test_unpacked(void **state)
{
    struct host *h = *state;
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    struct larder_image_result result = {0};
    struct buf bytes = BUF_INIT(1 << 20);
    host_image(h, "x.qcow2", 1);
    host_shell(h, "gzip -c x.qcow2 >x.gz");
    assert_int_equal(file_read(AT_FDCWD, host_path(h, "x.gz"), &bytes, NULL), 0);
    put("x.img.gz", bytes.p, bytes.n);
    buf_done(&bytes);
    spec.name = "packed";
    spec.source = server_url(&server, "/x.img.gz");
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
    expect_ok(h, larder_image_get(h->store, "packed", NULL, &result, &h->e));
    assert_string_equal(host_hex(result.path, LARDER_DIGEST_SHA256),
                        host_hex(host_path(h, "x.qcow2"), LARDER_DIGEST_SHA256));
    larder_image_result_done(&result);
    publish_image(h, "x.raw.gz", 7);
    spec.name = "misnamed";
    spec.source = server_url(&server, "/x.raw.gz");
    expect_ok(h, larder_image_add(h->store, &spec, &h->e));
    expect_ok(h, larder_image_get(h->store, "misnamed", NULL, &result, &h->e));
    assert_string_equal(result.format, "qcow2");
    larder_image_result_done(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_SERVER(test_fetch_and_ask),   ON_SERVER(test_without_sums),
        ON_SERVER(test_torn_and_mended), ON_SERVER(test_torn_for_good),
        ON_SERVER(test_wrong_length),    ON_SERVER(test_unreachable),
        ON_SERVER(test_evidence),        ON_SERVER(test_resumed),
        ON_SERVER(test_unpacked),
    };
    if (!server_is_possible())
        return 0;
    return cmocka_run_group_tests_name("image_http", tests, start, stop);
}
