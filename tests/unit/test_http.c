/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client against the scripted server. */
#include "http_server.h"

#include <errno.h>

#include "base/clock.h"
#include "net/http/http.h"

static struct server server;
static struct server secure;

static struct http_client *client_with(struct http_options options)
{
    struct http_client *client = NULL;
    struct larder_error e = LARDER_ERROR_INIT;
    if (options.retry_wait_ns == 0)
        options.retry_wait_ns = NS_PER_MS;
    if (options.stall_timeout_ns == 0)
        options.stall_timeout_ns = 3600 * NS_PER_S; /* the test's own time limit is shorter */
    int rc = http_client_new(&options, &client, &e);
    assert_string_equal(e.msg, "");
    assert_int_equal(rc, 0);
    return client;
}

struct got {
    int rc;
    int status;
    struct buf body;
    struct larder_error e;
    struct http_response response;
};

static int take(void *arg, const void *data, size_t n, struct larder_error *e)
{
    buf_append(arg, data, n);
    return buf_failed(arg, e);
}

static struct got perform(struct http_options options, struct http_request request,
                          const char *target)
{
    struct got got = {.body = BUF_INIT(64 << 20), .e = LARDER_ERROR_INIT};
    struct http_client *client = client_with(options);
    CLEANUP_FREE char *url = strdup(*target == '/' ? server_url(&server, target) : target);
    request.url = url;
    request.body = take;
    request.arg = &got.body;
    got.rc = http_perform(client, &request, &got.response, &got.e);
    got.status = got.response.status;
    http_client_free(client);
    return got;
}

static struct got get(const char *target)
{
    return perform((struct http_options){0}, (struct http_request){0}, target);
}

static void got_done(struct got *got)
{
    buf_done(&got->body);
    http_response_done(&got->response);
}

/* ---- answers ---- */

static void test_plain_answers(void **state)
{
    (void)state;
    struct got got = get("/a.txt");
    assert_string_equal(got.e.msg, "");
    assert_int_equal(got.rc, 0);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body.p, "hello");
    assert_true(got.response.has_length && got.response.has_total);
    assert_int_equal(got.response.total_bytes, 5);
    assert_true(got.response.accepts_ranges);
    assert_int_equal(got.response.etag[0], '"');
    assert_string_equal(got.response.last_modified, "Tue, 14 Nov 2023 22:13:20 GMT");
    assert_non_null(got.response.date);
    assert_non_null(strstr(got.response.final_url, "/a.txt"));
    got_done(&got);

    got = perform((struct http_options){0}, (struct http_request){.method = HTTP_HEAD}, "/a.txt");
    assert_int_equal(got.rc, 0);
    assert_int_equal(got.response.length_bytes, 5);
    assert_int_equal(got.body.n, 0);
    got_done(&got);

    got = get("/a.txt?x.chunked=true");
    assert_int_equal(got.rc, 0);
    assert_false(got.response.has_length);
    assert_string_equal(got.body.p, "hello");
    got_done(&got);
    assert_int_equal(server_log_count(&server, "accept-encoding"), 0);
}

static void test_range_and_conditions(void **state)
{
    (void)state;
    struct got got =
        perform((struct http_options){0}, (struct http_request){.range_start = 2}, "/a.txt");
    assert_int_equal(got.status, 206);
    assert_string_equal(got.body.p, "llo");
    assert_int_equal(got.response.range_start, 2);
    assert_int_equal(got.response.range_end, 5);
    assert_int_equal(got.response.total_bytes, 5);
    CLEANUP_FREE char *etag = strdup(got.response.etag);
    got_done(&got);

    got = perform((struct http_options){0},
                  (struct http_request){.range_start = 2, .if_range = "\"other\""}, "/a.txt");
    assert_int_equal(got.status, 200);
    got_done(&got);
    got = perform((struct http_options){0}, (struct http_request){.if_none_match = etag}, "/a.txt");
    assert_int_equal(got.status, 304);
    assert_int_equal(got.rc, 0);
    got_done(&got);
    got = perform((struct http_options){0},
                  (struct http_request){.if_modified_since = "Tue, 14 Nov 2023 22:13:20 GMT"},
                  "/a.txt");
    assert_int_equal(got.status, 304);
    got_done(&got);
    got = perform((struct http_options){0}, (struct http_request){.range_start = 5}, "/a.txt");
    assert_int_equal(got.rc, 0);
    assert_int_equal(got.status, 416);
    assert_int_equal(got.response.total_bytes, 5);
    assert_int_equal(got.body.n, 0);
    got_done(&got);
}

static void test_statuses(void **state)
{
    (void)state;
    static const struct {
        int status;
        enum larder_code code;
        bool is_transient;
    } rows[] = {
        {404, LARDER_GONE, false},        {410, LARDER_GONE, false},
        {401, LARDER_AUTH, false},        {403, LARDER_AUTH, false},
        {408, LARDER_UNREACHABLE, true},  {429, LARDER_UNREACHABLE, true},
        {500, LARDER_UNREACHABLE, true},  {503, LARDER_UNREACHABLE, true},
        {501, LARDER_UNREACHABLE, false}, {400, LARDER_PROTO, false},
        {302, LARDER_PROTO, false},       {204, LARDER_PROTO, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char target[64];
        snprintf(target, sizeof(target), "/a.txt?x.status=%d", rows[i].status);
        struct got got = get(target);
        assert_int_equal(got.rc, 0);
        assert_int_equal(got.status, rows[i].status);
        got_done(&got);
        struct larder_error e = LARDER_ERROR_INIT;
        assert_int_equal(http_status_error("http://u:secret@h/x", rows[i].status, &e),
                         -(int)rows[i].code);
        assert_int_equal(e.http_status, rows[i].status);
        assert_int_equal(http_is_transient(&e), rows[i].is_transient);
        assert_null(strstr(e.msg, "secret"));
    }
}

static void test_broken_answers(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        enum larder_code code;
        bool is_transient;
    } rows[] = {
        {"/a.txt?x.reset_after=2", LARDER_UNREACHABLE, true},
        {"/a.txt?x.close_after=2", LARDER_UNREACHABLE, true},
        {"/a.txt?x.length=%22%2B9%22", LARDER_UNREACHABLE, true},
        {"/a.txt?x.chunked=true&x.close_after=2", LARDER_UNREACHABLE, true},
        {"/a.txt?x.raw=", LARDER_UNREACHABLE, true},
        {"/a.txt?x.raw=garbage%0a%0a", LARDER_PROTO, false},
        {"/a.txt?x.raw=HTTP/"
         "1.1+200+X%0d%0aContent-Length:+3%0d%0aContent-Length:+4%0d%0a%0d%0aabcd",
         LARDER_PROTO, false},
        {"/a.txt?x.raw=HTTP/1.1+206+X%0d%0aContent-Length:+3%0d%0a%0d%0aabc", LARDER_PROTO, false},
        {"/a.txt?x.raw=HTTP/1.1+206+X%0d%0aContent-Range:+bytes+0-9/5%0d%0a%0d%0a", LARDER_PROTO,
         false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct got got = get(rows[i].target);
        if (got.rc != -(int)rows[i].code)
            fail_msg("%s: %d %s", rows[i].target, got.rc, got.e.msg);
        assert_int_equal(http_is_transient(&got.e), rows[i].is_transient);
        got_done(&got);
    }
    /* An error's page may break: the status is the answer. */
    struct got got = get("/a.txt?x.raw=HTTP/1.1+404+X%0d%0aContent-Length:+99%0d%0a%0d%0aabc");
    assert_int_equal(got.rc, 0);
    assert_int_equal(got.status, 404);
    got_done(&got);
}

static void test_limits_and_stalls(void **state)
{
    (void)state;
    struct got got =
        perform((struct http_options){0}, (struct http_request){.max_body_bytes = 4}, "/a.txt");
    assert_int_equal(got.rc, -LARDER_LIMIT);
    got_done(&got);
    got = perform((struct http_options){.stall_timeout_ns = 300 * NS_PER_MS},
                  (struct http_request){0}, "/a.txt?x.stall_after=2");
    assert_int_equal(got.rc, -LARDER_UNREACHABLE);
    assert_int_equal(got.e.sys_errno, ETIME);
    assert_true(http_is_transient(&got.e));
    got_done(&got);
    got = perform((struct http_options){.stall_timeout_ns = 300 * NS_PER_MS},
                  (struct http_request){0}, "/a.txt?x.delay=3600");
    assert_int_equal(got.rc, -LARDER_UNREACHABLE);
    got_done(&got);
    /* What comes by the byte would take longer than this test may. */
    got = perform((struct http_options){.stall_timeout_ns = NS_PER_S}, (struct http_request){0},
                  "/big?x.drip=[1,0.2]");
    assert_int_equal(got.rc, -LARDER_UNREACHABLE);
    assert_int_equal(got.e.sys_errno, ETIME);
    assert_true(http_is_transient(&got.e));
    got_done(&got);
    /* Slow is not stalled. On a machine that is slow itself all is done more slowly. */
    static const char *const slow[] = {"/big?x.drip=[2000,0.12]", "/big?x.drip=[2000,0.6]",
                                       "/big?x.drip=[2000,3]", "/big?x.drip=[2000,15]"};
    int rc = -1;
    int64_t stall_ns = 300 * NS_PER_MS;
    for (size_t i = 0; i < ARRAY_LEN(slow) && rc < 0; i++, stall_ns *= 5) {
        got = perform((struct http_options){.stall_timeout_ns = stall_ns}, (struct http_request){0},
                      slow[i]);
        rc = got.rc;
        got_done(&got);
    }
    assert_int_equal(rc, 0);
}

static bool cancel_soon(void *arg)
{
    return clock_monotonic_ns() > *(const int64_t *)arg;
}

static void test_cancel_while_stalled(void **state)
{
    (void)state;
    int64_t when = clock_monotonic_ns() + 150 * NS_PER_MS;
    struct larder_observer observer = {.arg = &when, .is_canceled = cancel_soon};
    struct got got = perform((struct http_options){.observer = &observer}, (struct http_request){0},
                             "/a.txt?x.stall_after=2");
    assert_int_equal(got.rc, -LARDER_CANCELED);
    got_done(&got);
}

static void test_unreachable(void **state)
{
    (void)state;
    struct got got = get("http://127.0.0.1:1/x");
    assert_int_equal(got.rc, -LARDER_UNREACHABLE);
    assert_int_equal(got.e.sys_errno, ECONNREFUSED);
    assert_false(http_is_transient(&got.e));
    got_done(&got);
    got = get("http://user:secret@host.invalid/x?token=secret");
    assert_int_equal(got.rc, -LARDER_UNREACHABLE);
    assert_false(http_is_transient(&got.e));
    assert_null(strstr(got.e.msg, "secret"));
    got_done(&got);
    got = get("file:///etc/passwd");
    assert_int_equal(got.rc, -LARDER_INVAL);
    got_done(&got);
}

/* ---- redirects and credentials ---- */

static void write_private(struct server *s, const char *name, const char *text, mode_t mode)
{
    server_file(s, name, text, strlen(text));
    assert_int_equal(chmod(server_path(s, name), mode), 0);
}

static void test_redirects(void **state)
{
    (void)state;
    struct got got = get("/r?x.redirect=/a.txt");
    assert_int_equal(got.rc, 0);
    assert_string_equal(got.body.p, "hello");
    assert_non_null(strstr(got.response.final_url, "/a.txt"));
    got_done(&got);
    got = get("/d/r?x.redirect=../a.txt%3fq&x.status=308");
    assert_int_equal(got.status, 200);
    got_done(&got);
    got = get("/r?x.redirect=/r%3fx.redirect=/r");
    assert_int_equal(got.status, 404);
    got_done(&got);
    server_control(&server, "{\"/loop\": {\"redirect\": \"/loop\"}}");
    server_log_reset(&server);
    got = get("/loop");
    assert_int_equal(got.rc, -LARDER_PROTO);
    assert_int_equal(server_log_count(&server, "\"/loop\""), 11);
    got_done(&got);
    got = get("/r?x.redirect=file:///etc/passwd");
    assert_int_equal(got.rc, -LARDER_PROTO);
    got_done(&got);
    got = get("/r?x.redirect=ftp://127.0.0.1/x");
    assert_int_equal(got.rc, -LARDER_PROTO);
    got_done(&got);
}

static void test_credentials_stay_at_their_origin(void **state)
{
    (void)state;
    write_private(&server, "headers", "# token\nX-Token: abc\n\nAuthorization: Bearer t1\n", 0600);
    CLEANUP_FREE char *headers = strdup(server_path(&server, "headers"));
    struct http_options options = {.header_file = headers};
    server_log_reset(&server);
    struct got got = perform(options, (struct http_request){0}, "/r?x.redirect=/a.txt");
    assert_int_equal(got.rc, 0);
    assert_int_equal(server_log_count(&server, "Bearer t1"), 2);
    got_done(&got);

    server_log_reset(&server);
    got = perform(options, (struct http_request){0},
                  "/r?x.redirect=http://u:p@localhost:{port}/a.txt");
    assert_int_equal(got.rc, 0);
    assert_string_equal(got.body.p, "hello");
    assert_int_equal(server_log_count(&server, "Bearer t1"), 1);
    assert_int_equal(server_log_count(&server, "x-token"), 1);
    assert_int_equal(server_log_count(&server, "authorization"), 1);
    assert_null(strchr(strstr(got.response.final_url, "://"), '@'));
    got_done(&got);

    write_private(&server, "netrc",
                  "machine 127.0.0.1 login joe password s3cret\n"
                  "machine localhost login joe password s3cret\n",
                  0600);
    setenv("NETRC", server_path(&server, "netrc"), 1);
    got = get("/a.txt?x.auth=joe:s3cret");
    assert_int_equal(got.status, 200);
    got_done(&got);
    server_log_reset(&server);
    got = get("/r?x.redirect=http://localhost:{port}/a.txt");
    assert_int_equal(got.status, 200);
    assert_int_equal(server_log_count(&server, "authorization"), 1);
    got_done(&got);
    got = perform((struct http_options){.no_netrc = true}, (struct http_request){0},
                  "/a.txt?x.auth=joe:s3cret");
    assert_int_equal(got.status, 401);
    got_done(&got);
    unsetenv("NETRC");

    char url[128];
    snprintf(url, sizeof(url), "http://joe:s3cret@127.0.0.1:%d/a.txt?x.auth=joe:s3cret",
             server.port);
    got = get(url);
    assert_int_equal(got.status, 200);
    assert_null(strchr(got.response.final_url, '@'));
    got_done(&got);
}

static void count_warning(void *arg, const char *msg)
{
    assert_non_null(strstr(msg, "header file"));
    ++*(int *)arg;
}

static void test_header_files(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
    } rows[] = {
        {"", 0},
        {"A: b\r\nC:d\n#x\n", 0},
        {"A\n", -LARDER_INVAL},
        {": b\n", -LARDER_INVAL},
        {"A B: c\n", -LARDER_INVAL},
        {"A : c\n", -LARDER_INVAL},
        {"A: b\x01\n", -LARDER_INVAL},
        {"Host: b\n", -LARDER_INVAL},
        {"range: bytes=1-\n", -LARDER_INVAL},
        {"A: b\rC d\n", -LARDER_INVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        write_private(&server, "h", rows[i].text, i == 0 ? 0644 : 0600);
        int warnings = 0;
        struct larder_observer observer = {.arg = &warnings, .warning = count_warning};
        struct http_options options = {.header_file = server_path(&server, "h"),
                                       .observer = &observer};
        struct http_client *client = NULL;
        struct larder_error e = LARDER_ERROR_INIT;
        int rc = http_client_new(&options, &client, &e);
        if (rc != rows[i].rc)
            fail_msg("row %zu: %d %s", i, rc, e.msg);
        assert_int_equal(warnings, i == 0);
        http_client_free(client);
    }
    struct http_options options = {.header_file = "/nonexistent/h"};
    struct http_client *client = NULL;
    assert_int_equal(http_client_new(&options, &client, NULL), -LARDER_NOENT);
}

static void test_tls(void **state)
{
    (void)state;
    CLEANUP_FREE char *url = strdup(server_url(&secure, "/a.txt"));
    struct got got = get(url);
    assert_int_equal(got.rc, -LARDER_AUTH);
    assert_false(http_is_transient(&got.e));
    got_done(&got);
    CLEANUP_FREE char *ca = strdup(server_path(&secure, "cert.pem"));
    got = perform((struct http_options){.ca_file = ca}, (struct http_request){0}, url);
    assert_string_equal(got.e.msg, "");
    assert_int_equal(got.status, 200);
    got_done(&got);
    setenv("SSL_CERT_FILE", ca, 1);
    char target[128];
    snprintf(target, sizeof(target), "/r?x.redirect=http://127.0.0.1:%d/a.txt", server.port);
    CLEANUP_FREE char *down = strdup(server_url(&secure, target));
    got = get(down);
    assert_int_equal(got.rc, -LARDER_UNSAFE);
    got_done(&got);
    snprintf(target, sizeof(target), "/r?x.redirect=https://127.0.0.1:%d/a.txt", secure.port);
    got = get(target);
    assert_int_equal(got.status, 200);
    got_done(&got);
    unsetenv("SSL_CERT_FILE");
}

/* ---- small documents ---- */

static int get_text(const char *target, struct http_options options, struct http_request request,
                    struct buf *out, struct larder_error *e)
{
    struct http_client *client = client_with(options);
    struct http_response response = {0};
    CLEANUP_FREE char *url = strdup(server_url(&server, target));
    request.url = url;
    *out = BUF_INIT(4096);
    int rc = http_get_text(client, &request, out, &response, e);
    http_response_done(&response);
    http_client_free(client);
    return rc;
}

static void test_text(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        const char *control;
        unsigned retries;
        int rc;
        int requests;
    } rows[] = {
        {"/a.txt", "{}", 0, 0, 1},
        {"/a.txt", "{\"/a.txt\": {\"times\": 2, \"status\": 503}}", 2, 0, 3},
        {"/a.txt", "{\"/a.txt\": {\"times\": 2, \"status\": 503}}", 1, -LARDER_UNREACHABLE, 2},
        {"/a.txt", "{\"/a.txt\": {\"times\": 2, \"reset_after\": 1}}", 2, 0, 3},
        {"/a.txt", "{\"/a.txt\": {\"status\": 404}}", 5, -LARDER_GONE, 1},
        {"/a.txt", "{\"/a.txt\": {\"encoding\": \"gzip\"}}", 5, -LARDER_PROTO, 1},
        {"/a.txt", "{\"/a.txt\": {\"encoding\": \"identity\"}}", 0, 0, 1},
        {"/a.txt", "{\"/a.txt\": {\"status\": 429, \"retry_after\": \"9999\"}}", 5,
         -LARDER_UNREACHABLE, 1},
        {"/big", "{}", 5, -LARDER_LIMIT, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out;
        struct larder_error e = LARDER_ERROR_INIT;
        server_control(&server, rows[i].control);
        server_log_reset(&server);
        int rc = get_text(rows[i].target, (struct http_options){.retries = rows[i].retries},
                          (struct http_request){.no_cache = true}, &out, &e);
        if (rc != rows[i].rc || server_log_count(&server, "\"path\"") != rows[i].requests)
            fail_msg("row %zu: %d %s", i, rc, e.msg);
        if (rc == 0)
            assert_string_equal(out.p, "hello");
        assert_int_equal(server_log_count(&server, "no-cache"), rows[i].requests);
        buf_done(&out);
    }
}

static void test_retry_after_is_waited_for(void **state)
{
    (void)state;
    struct buf out;
    server_control(&server,
                   "{\"/a.txt\": {\"times\": 1, \"status\": 429, \"retry_after\": \"1\"}}");
    int64_t start = clock_monotonic_ns();
    assert_int_equal(get_text("/a.txt", (struct http_options){.retries = 1},
                              (struct http_request){0}, &out, NULL),
                     0);
    assert_true(clock_monotonic_ns() - start >= NS_PER_S);
    buf_done(&out);
    /* A cancel ends the wait. */
    server_control(&server,
                   "{\"/a.txt\": {\"times\": 1, \"status\": 429, \"retry_after\": \"60\"}}");
    int64_t when = clock_monotonic_ns() + 100 * NS_PER_MS;
    struct larder_observer observer = {.arg = &when, .is_canceled = cancel_soon};
    assert_int_equal(get_text("/a.txt", (struct http_options){.retries = 1, .observer = &observer},
                              (struct http_request){0}, &out, NULL),
                     -LARDER_CANCELED);
    buf_done(&out);
}

static int setup(void **state)
{
    (void)state;
    char big[5000];
    memset(big, 'x', sizeof(big));
    server_start(&server, false);
    server_start(&secure, true);
    server_file(&server, "a.txt", "hello", 5);
    server_file(&server, "big", big, sizeof(big));
    server_file(&secure, "a.txt", "hello", 5);
    setenv("HOME", server.dir, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    server_stop(&server);
    server_stop(&secure);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_answers),
        cmocka_unit_test(test_range_and_conditions),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_broken_answers),
        cmocka_unit_test(test_limits_and_stalls),
        cmocka_unit_test(test_cancel_while_stalled),
        cmocka_unit_test(test_unreachable),
        cmocka_unit_test(test_redirects),
        cmocka_unit_test(test_credentials_stay_at_their_origin),
        cmocka_unit_test(test_header_files),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_retry_after_is_waited_for),
    };
    if (!server_is_possible())
        return 0;
    return cmocka_run_group_tests_name("http", tests, setup, teardown);
}
