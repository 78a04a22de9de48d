/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that send something: methods, headers, authorization and bodies. */
#include "socket_server.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "net/http/http.h"
#include "net/http/http_pool.h"

#define BIG (6UL * 1024 * 1024)

static struct sock_request last;
static char heads[16][sizeof(last.head)]; /* of all requests, in order */
static _Atomic int n_heads;

static void remember(void)
{
    int i = atomic_fetch_add(&n_heads, 1);
    memcpy(heads[i % 16], last.head, last.head_bytes + 1);
}

struct outcome {
    int rc;
    struct larder_error e;
    struct http_response response;
};

static struct http_client *client_new(void)
{
    struct http_client *client = NULL;
    const struct http_options options = {.no_netrc = true, .stall_timeout_ns = 3600 * NS_PER_S};
    assert_int_equal(http_client_new(&options, &client, NULL), 0);
    return client;
}

static struct outcome perform(struct http_request request)
{
    struct outcome got = {.e = LARDER_ERROR_INIT};
    struct http_client *client = client_new();
    got.rc = http_perform(client, &request, &got.response, &got.e);
    http_client_free(client);
    return got;
}

/* ---- what arrives ---- */

static void serve_created(struct sock *s, int fd, int number)
{
    (void)s;
    (void)number;
    while (sock_read_head(fd, &last)) {
        if (sock_has(&last, "\r\nexpect: 100-continue"))
            sock_puts(fd, "HTTP/1.1 100 Continue\r\n\r\n");
        if (!sock_read_body(fd, &last, sock_length(&last)))
            return;
        remember();
        sock_puts(fd, "HTTP/1.1 201 Created\r\nLocation: /v2/x\r\nX-A: 1\r\nx-a:  2 \r\n"
                      "Content-Length: 0\r\n\r\n");
    }
}

static void test_methods(void **state)
{
    (void)state;
    static const struct {
        enum http_method method;
        const char *line;
        bool has_length;
    } rows[] = {
        {HTTP_GET, "GET /a HTTP/1.1\r\n", false},    {HTTP_HEAD, "HEAD /a HTTP/1.1\r\n", false},
        {HTTP_POST, "POST /a HTTP/1.1\r\n", true},   {HTTP_PUT, "PUT /a HTTP/1.1\r\n", true},
        {HTTP_PATCH, "PATCH /a HTTP/1.1\r\n", true}, {HTTP_DELETE, "DELETE /a HTTP/1.1\r\n", false},
    };
    struct sock s;
    sock_start(&s, serve_created, NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct http_header headers[] = {{"Accept", "a/b"}, {"Accept", "c/d"}, {"X-E", ""}};
        struct outcome got = perform((struct http_request){.method = rows[i].method,
                                                           .url = sock_url(&s, "/a"),
                                                           .headers = headers,
                                                           .n_headers = 3,
                                                           .authorization = "Bearer t"});
        assert_string_equal(got.e.msg, "");
        assert_int_equal(got.response.status, 201);
        assert_memory_equal(last.head, rows[i].line, strlen(rows[i].line));
        assert_int_equal(sock_has(&last, "\r\nContent-Length: 0\r\n"), rows[i].has_length);
        assert_true(sock_has(&last, "\r\nAuthorization: Bearer t\r\n"));
        assert_true(sock_has(&last, "\r\nAccept: a/b\r\nAccept: c/d\r\nX-E:"));
        assert_false(sock_has(&last, "*/*"));
        assert_false(sock_has(&last, "Content-Type"));
        assert_false(sock_has(&last, "Expect"));
        struct slice a = http_response_header(&got.response, "X-a", 1);
        assert_int_equal(a.n, 1);
        assert_int_equal(*a.p, '2');
        assert_null(http_response_header(&got.response, "X-A", 2).p);
        assert_int_equal(http_response_header(&got.response, "location", 0).n, 5);
        http_response_done(&got.response);
    }
    sock_stop(&s);
}

struct source {
    uint64_t left;
    bool is_short;
};

static int read_source(void *arg, void *to, size_t n, size_t *ret_n, struct larder_error *e)
{
    struct source *source = arg;
    (void)e;
    size_t take = n < source->left ? n : (size_t)source->left;
    if (source->is_short && source->left < BIG / 2)
        take = 0;
    memset(to, 3, take);
    source->left -= take;
    *ret_n = take;
    return 0;
}

static int file_of(const void *data, size_t n)
{
    int fd = memfd_create("upload", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, n), (ssize_t)n);
    return fd;
}

static void test_bodies(void **state)
{
    (void)state;
    char *big = malloc(BIG);
    assert_non_null(big);
    memset(big, 3, BIG);
    int fd = file_of(big, BIG);
    static const size_t sizes[] = {0, 1, 15000, 70000, BIG - 7};
    struct sock s;
    sock_start(&s, serve_created, NULL);
    for (size_t i = 0; i < 3 * ARRAY_LEN(sizes); i++) {
        size_t n = sizes[i / 3];
        struct source source = {n, false};
        struct http_upload upload = {.data = big, .n = n, .fd = -1};
        if (i % 3 == 1)
            upload = (struct http_upload){.fd = fd, .offset = 7, .n_bytes = n};
        if (i % 3 == 2)
            upload =
                (struct http_upload){.fd = -1, .n_bytes = n, .read = read_source, .arg = &source};
        struct outcome got = perform((struct http_request){
            .method = HTTP_PUT, .url = sock_url(&s, "/b"), .upload = &upload});
        assert_string_equal(got.e.msg, "");
        assert_int_equal(got.response.status, 201);
        assert_int_equal(last.body_bytes, n);
        assert_int_equal(last.sum, 3 * n);
        http_response_done(&got.response);
    }
    /* A file or a source that ends too soon is not the server's fault. */
    struct http_upload upload = {.fd = fd, .offset = 100, .n_bytes = BIG};
    struct outcome got = perform(
        (struct http_request){.method = HTTP_PUT, .url = sock_url(&s, "/b"), .upload = &upload});
    assert_int_equal(got.rc, -LARDER_BUSY);
    struct source source = {BIG, true};
    upload = (struct http_upload){.fd = -1, .n_bytes = BIG, .read = read_source, .arg = &source};
    got = perform(
        (struct http_request){.method = HTTP_PATCH, .url = sock_url(&s, "/b"), .upload = &upload});
    assert_int_equal(got.rc, -LARDER_BUSY);
    sock_stop(&s);
    close(fd);
    free(big);
}

static void test_bad_headers(void **state)
{
    (void)state;
    static const struct http_header rows[] = {
        {"A b", "c"}, {"", "c"}, {"A", "b\r\nC: d"}, {"A", "b\n"}, {"A\r\nB", "c"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct outcome got = perform((struct http_request){
            .url = "http://127.0.0.1:1/", .headers = &rows[i], .n_headers = 1});
        assert_int_equal(got.rc, -LARDER_INVAL);
    }
    struct outcome got = perform(
        (struct http_request){.url = "http://127.0.0.1:1/", .authorization = "Basic x\r\nA: b"});
    assert_int_equal(got.rc, -LARDER_INVAL);
}

/* ---- errors and redirects ---- */

static _Atomic int n_refused; /* requests that have ended */

static void serve_refusal(struct sock *s, int fd, int number)
{
    if (!sock_read_head(fd, &last))
        return;
    /* Before a byte of the body is read, and then no more is. */
    sock_puts(fd, "HTTP/1.1 401 No\r\nContent-Length: 12\r\n"
                  "WWW-Authenticate: Bearer realm=\"x\"\r\nConnection: close\r\n\r\n"
                  "{\"errors\":[]");
    shutdown(fd, SHUT_WR);
    while (!s->is_stopping && n_refused <= number)
        usleep(1000);
}

static void test_refusal_while_sending(void **state)
{
    (void)state;
    char *big = calloc(1, BIG);
    assert_non_null(big);
    int fd = file_of(big, BIG);
    struct sock s;
    n_refused = 0;
    sock_start(&s, serve_refusal, NULL);
    for (int i = 0; i < 30; i++) {
        struct source source = {BIG, false};
        struct http_upload upload = {.data = big, .n = BIG, .fd = -1};
        if (i % 3 == 1)
            upload = (struct http_upload){.fd = fd, .n_bytes = BIG};
        if (i % 3 == 2)
            upload =
                (struct http_upload){.fd = -1, .n_bytes = BIG, .read = read_source, .arg = &source};
        struct buf page = BUF_INIT(8);
        int64_t start = clock_monotonic_ns();
        struct outcome got = perform((struct http_request){
            .method = HTTP_PUT, .url = sock_url(&s, "/b"), .upload = &upload, .error_body = &page});
        assert_string_equal(got.e.msg, "");
        assert_int_equal(got.response.status, 401);
        assert_string_equal(page.p, "{\"errors"); /* cut */
        assert_int_equal(http_response_header(&got.response, "WWW-Authenticate", 0).n, 16);
        /* It was asked first; a server that says nothing for a second is sent the body. */
        if (i % 3 == 2 && clock_monotonic_ns() - start < NS_PER_S)
            assert_int_equal(source.left, BIG);
        n_refused++;
        buf_done(&page);
        http_response_done(&got.response);
    }
    sock_stop(&s);
    close(fd);
    free(big);
}

static int redirect_status;

static void serve_redirect(struct sock *s, int fd, int number)
{
    (void)number;
    while (sock_read(fd, &last)) {
        char answer[256];
        remember();
        if (sock_has(&last, " /from"))
            snprintf(answer, sizeof(answer),
                     "HTTP/1.1 %d X\r\nLocation: http://localhost:%d/back\r\n"
                     "Content-Length: 3\r\n\r\nabc",
                     redirect_status, s->port);
        else if (sock_has(&last, " /back"))
            snprintf(answer, sizeof(answer),
                     "HTTP/1.1 %d X\r\nLocation: http://127.0.0.1:%d/to\r\n"
                     "Content-Length: 0\r\nConnection: close\r\n\r\n",
                     redirect_status, s->port);
        else
            snprintf(answer, sizeof(answer), "HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n");
        sock_puts(fd, answer);
        if (!sock_has(&last, " /to"))
            return;
    }
}

static void test_redirects_of_uploads(void **state)
{
    (void)state;
    static const struct {
        enum http_method method;
        int status;
        int kind; /* of body: 0 none, 1 memory, 2 file, 3 read */
        int rc;
    } rows[] = {
        {HTTP_GET, 302, 0, 0},
        {HTTP_HEAD, 301, 0, 0},
        {HTTP_POST, 307, 0, 0},
        {HTTP_PUT, 307, 1, 0},
        {HTTP_PUT, 308, 2, 0},
        {HTTP_PUT, 307, 3, -LARDER_PROTO},
        {HTTP_POST, 302, 0, -LARDER_PROTO},
        {HTTP_PUT, 303, 1, -LARDER_PROTO},
        {HTTP_DELETE, 301, 0, -LARDER_PROTO},
    };
    char data[3000];
    memset(data, 3, sizeof(data));
    int fd = file_of(data, sizeof(data));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sock s;
        struct source source = {sizeof(data), false};
        const struct http_upload uploads[] = {
            {.fd = -1},
            {.data = data, .n = sizeof(data), .fd = -1},
            {.fd = fd, .n_bytes = sizeof(data)},
            {.fd = -1, .n_bytes = sizeof(data), .read = read_source, .arg = &source},
        };
        redirect_status = rows[i].status;
        n_heads = 0;
        sock_start(&s, serve_redirect, NULL);
        struct outcome got =
            perform((struct http_request){.method = rows[i].method,
                                          .url = sock_url(&s, "/from"),
                                          .upload = rows[i].kind ? &uploads[rows[i].kind] : NULL,
                                          .authorization = "Bearer secret"});
        if (got.rc != rows[i].rc)
            fail_msg("row %zu: %d %s", i, got.rc, got.e.msg);
        if (got.rc == 0) {
            assert_int_equal(n_heads, 3);
            assert_int_equal(got.response.status, 200);
            assert_int_equal(last.sum, rows[i].kind ? 3 * sizeof(data) : 0);
            assert_non_null(strstr(heads[0], "Bearer secret"));
            assert_null(strstr(heads[1], "Bearer secret"));
            assert_null(strstr(heads[2], "Bearer secret")); /* home, but sent by another */
        }
        http_response_done(&got.response);
        /* As it is, when asked for. */
        got = perform((struct http_request){.url = sock_url(&s, "/from"), .no_redirect = true});
        assert_int_equal(got.response.status, rows[i].status);
        assert_true(http_response_header(&got.response, "location", 0).n > 10);
        http_response_done(&got.response);
        sock_stop(&s);
    }
    close(fd);
}

/* ---- pool ---- */

static struct http_pool *pool;
static char pool_url[256];

static void *pool_main(void *arg)
{
    for (int i = 0; i < 20; i++) {
        struct http_client *client = NULL;
        struct http_response response = {0};
        struct http_request request = {.method = HTTP_PUT, .url = pool_url};
        if (http_pool_get(pool, &client, NULL) < 0)
            return arg;
        int rc = http_perform(client, &request, &response, NULL);
        int status = response.status;
        http_response_done(&response);
        http_pool_put(pool, client);
        if (rc < 0 || status != 201)
            return arg;
    }
    return NULL;
}

/* Each connection its own thread: clients keep theirs open. */
static void *serve_one(void *arg)
{
    int fd = (int)(intptr_t)arg;
    struct sock_request *r = malloc(sizeof(*r));
    while (r && sock_read(fd, r))
        sock_puts(fd, "HTTP/1.1 201 X\r\nContent-Length: 0\r\n\r\n");
    free(r);
    close(fd);
    return NULL;
}

static void serve_many(struct sock *s, int fd, int number)
{
    pthread_t thread;
    (void)s;
    (void)number;
    if (pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)dup(fd)) == 0)
        pthread_detach(thread);
}

static void test_pool(void **state)
{
    (void)state;
    char ca[] = "/nonexistent/ca"; /* copied: not used for http */
    struct http_options options = {.no_netrc = true, .ca_file = ca};
    struct sock s;
    sock_start(&s, serve_many, NULL);
    snprintf(pool_url, sizeof(pool_url), "%s", sock_url(&s, "/p"));
    assert_int_equal(http_pool_new(&options, &pool, NULL), 0);
    memset(ca, 'x', sizeof(ca) - 1);
    struct http_client *a = NULL;
    struct http_client *b = NULL;
    assert_int_equal(http_pool_get(pool, &a, NULL), 0);
    assert_int_equal(http_pool_get(pool, &b, NULL), 0);
    assert_ptr_not_equal(a, b);
    http_pool_put(pool, a);
    http_pool_put(pool, b);
    assert_int_equal(http_pool_get(pool, &a, NULL), 0);
    assert_ptr_equal(a, b); /* the warm one */
    http_pool_put(pool, a);
    pthread_t threads[8];
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pool_main, &s), 0);
    for (size_t i = 0; i < 8; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_in_range(s.connections, 1, 8);
    http_pool_free(pool);
    sock_stop(&s);
    options.header_file = "/nonexistent/headers";
    assert_int_equal(http_pool_new(&options, &pool, NULL), -LARDER_NOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_refusal_while_sending),
        cmocka_unit_test(test_redirects_of_uploads),
        cmocka_unit_test(test_pool),
    };
    static const char *const proxies[] = {"http_proxy", "all_proxy", "ALL_PROXY"};
    for (size_t i = 0; i < ARRAY_LEN(proxies); i++)
        unsetenv(proxies[i]);
    return cmocka_run_group_tests_name("http_upload", tests, NULL, NULL);
}
