/* SPDX-License-Identifier: Apache-2.0 */
/* Our own HTTP engine against answers that are wrong, late, cut, or split in unusual places. */
#include "socket_server.h"

#include <sys/mman.h>

#include "base/clock.h"
#include "net/http/http.h"

/* Longer than a test may take: whatever is shorter in a test is what ends its request. */
#define PATIENT_NS (3600 * NS_PER_S)

static struct http_client *client_with(struct http_options options)
{
    struct http_client *client = NULL;
    options.no_netrc = true;
    if (options.stall_timeout_ns == 0)
        options.stall_timeout_ns = PATIENT_NS;
    assert_int_equal(http_client_new(&options, &client, NULL), 0);
    return client;
}

struct outcome {
    int rc;
    int status;
    struct buf body;
    struct larder_error e;
};

static int take(void *arg, const void *data, size_t n, struct larder_error *e)
{
    buf_append(arg, data, n);
    return buf_failed(arg, e);
}

static struct outcome perform(struct http_client *client, struct http_request request,
                              const char *url)
{
    struct outcome got = {.body = BUF_INIT(16 << 20), .e = LARDER_ERROR_INIT};
    struct http_response response = {0};
    request.url = url;
    request.body = take;
    request.arg = &got.body;
    got.rc = http_perform(client, &request, &response, &got.e);
    got.status = response.status;
    http_response_done(&response);
    return got;
}

/* ---- a script ---- */

static struct {
    const char *bytes;
    size_t n;
    size_t piece; /* sent at a time, with a pause; 0: at once */
    bool has_reset;
} script;

static void serve_script(struct sock *s, int fd, int number)
{
    struct sock_request *r = malloc(sizeof(*r));
    (void)s;
    (void)number;
    if (r && sock_read(fd, r)) {
        size_t piece = script.piece ? script.piece : script.n;
        for (size_t at = 0; at < script.n; at += piece) {
            sock_send(fd, script.bytes + at, script.n - at < piece ? script.n - at : piece);
            const struct timespec pause = {0, 300 * 1000};
            if (script.piece)
                nanosleep(&pause, NULL);
        }
    }
    if (script.has_reset)
        sock_reset(fd);
    free(r);
}

static struct outcome talk(const char *bytes, size_t n, struct http_request request)
{
    struct sock s;
    script.bytes = bytes;
    script.n = n;
    sock_start(&s, serve_script, NULL);
    struct http_client *client = client_with((struct http_options){0});
    struct outcome got = perform(client, request, sock_url(&s, "/x"));
    http_client_free(client);
    sock_stop(&s);
    return got;
}

#define HEAD "HTTP/1.1 200 OK\r\n"
#define TE   "Transfer-Encoding: chunked\r\n"

static void test_answers(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        int rc;
        const char *body;
    } rows[] = {
        /* good ones */
        {HEAD "Content-Length: 5\r\n\r\nhello", 0, "hello"},
        {HEAD "\r\nhello", 0, "hello"},
        {"HTTP/1.0 200 OK\r\n\r\nhello", 0, "hello"},
        {"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", 0, "hello"},
        {"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", 0, "hello"},
        {"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", 0, "hello"},
        {HEAD "content-LENGTH:5\r\nContent-Length: 5\r\n\r\nhello", 0, "hello"},
        {HEAD "Content-Length: 0\r\n\r\n", 0, ""},
        {HEAD TE "\r\n5\r\nhello\r\n0\r\n\r\n", 0, "hello"},
        {HEAD TE "\r\n2 \r\nhe\r\n03;a=\"b\"\r\nllo\r\n000\r\nT: x\r\n\r\n", 0, "hello"},
        {HEAD TE "\r\n0\r\n\r\n", 0, ""},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: <x>\r\n\r\n" HEAD
         "Content-Length: 5\r\n\r\nhello",
         0, "hello"},
        {"HTTP/1.1 204 No\r\n\r\n", 0, ""},
        {"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", 0, ""},
        {"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", 0, ""},
        {HEAD "Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n", 0, "hello"},
        {"HTTP/1.1 404 No\r\nContent-Length: 50\r\n\r\nhello", 0, ""},
        {"HTTP/1.1 404 No\r\n" TE "\r\nzz\r\n", 0, ""},
        /* which status */
        {"", -LARDER_UNREACHABLE, NULL},
        {"\r\n" HEAD "\r\n", -LARDER_PROTO, NULL},
        {"garbage\r\n\r\n", -LARDER_PROTO, NULL},
        {"HTTP/0.9 200 OK\r\n\r\n", -LARDER_PROTO, NULL},
        {"HTTP/2 200\r\n\r\n", -LARDER_PROTO, NULL},
        {"HTTP/1.1 20 OK\r\n\r\n", -LARDER_PROTO, NULL},
        {"HTTP/1.1 2000 OK\r\n\r\n", -LARDER_PROTO, NULL},
        {"HTTP/1.1 099 OK\r\n\r\n", -LARDER_PROTO, NULL},
        {"HTTP/1.1  200 OK\r\n\r\n", -LARDER_PROTO, NULL},
        {"HTTP/1.1 101 Switch\r\nUpgrade: x\r\n\r\n", -LARDER_PROTO, NULL},
        {"SSH-2.0-OpenSSH_9.2\r\n", -LARDER_PROTO, NULL},
        /* which length */
        {HEAD "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "Content-Length: 5, 5\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "Content-Length: +5\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "Content-Length: 0x5\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "Content-Length: -5\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "Content-Length:\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "Content-Length: 99999999999999999999\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "Content-Length: 5\r\n" TE "\r\n5\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "Content-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE TE "\r\n5\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD "Transfer-Encoding: identity\r\n\r\nhello", -LARDER_PROTO, NULL},
        {"HTTP/1.0 200 OK\r\n" TE "\r\n5\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        /* which header */
        {HEAD " Content-Length: 5\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "Content-Length : 5\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "Content Length: 5\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD ": 5\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "nothing\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "A: b\rContent-Length: 5\r\n\r\nhello", -LARDER_PROTO, NULL},
        {HEAD "\r\r\n\r\nhello", -LARDER_PROTO, NULL},
        /* which chunk */
        {HEAD TE "\r\n-5\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "\r\n0x5\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "\r\n\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "\r\n5\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "\r\n5;xx\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "\r\n5\r\nhello\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "\r\n5 5\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "\r\n4\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "\r\nffffffffffffffff\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "\r\n5;\rx\r\nhello\r\n0\r\n\r\n", -LARDER_PROTO, NULL},
        {HEAD TE "\r\n7fffffffffffffff\r\nhello\r\n", -LARDER_UNREACHABLE, NULL},
        {HEAD TE "\r\n5\r\nhello\r\n0\r\nT: x\r\n", -LARDER_UNREACHABLE, NULL},
        {HEAD "Content-Length: 6\r\n\r\nhello", -LARDER_UNREACHABLE, NULL},
    };
    script.piece = 0;
    script.has_reset = false;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct outcome got = talk(rows[i].bytes, strlen(rows[i].bytes), (struct http_request){0});
        if (got.rc != rows[i].rc)
            fail_msg("row %zu: %d %s", i, got.rc, got.e.msg);
        if (rows[i].body)
            assert_string_equal(got.body.p ? got.body.p : "", rows[i].body);
        assert_int_equal(got.rc == 0, got.e.msg[0] == '\0');
        buf_done(&got.body);
    }
    static const char nul[] = HEAD "A: b\0c\r\nContent-Length: 5\r\n\r\nhello";
    struct outcome got = talk(nul, sizeof(nul) - 1, (struct http_request){0});
    assert_int_equal(got.rc, -LARDER_PROTO);
}

static void test_limits(void **state)
{
    (void)state;
    static const struct {
        const char *start, *unit;
        size_t bytes;
        int rc;
    } rows[] = {
        {HEAD "A: ", "b", 18000, 0},
        {HEAD "A: ", "b", 30000, -LARDER_LIMIT},
        {HEAD "A: b", "\r\nA: b", 200000, 0},
        {HEAD "A: b", "\r\nA: b", 300000, -LARDER_LIMIT},
        {HEAD "A: b", "\r\n\r\nHTTP/1.1 100 C\r\nA: b", 100, 0},
        {"HTTP/1.1 100 C\r\nA: b", "\r\n\r\nHTTP/1.1 100 C\r\nA: b", 300000, -LARDER_LIMIT},
        {HEAD TE "\r\n1;", "b", 30000, -LARDER_LIMIT},
        {HEAD TE "\r\n0", "\r\nA: b", 300000, -LARDER_LIMIT},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf text = BUF_INIT(1 << 20);
        buf_puts(&text, rows[i].start);
        while (text.n < rows[i].bytes)
            buf_puts(&text, rows[i].unit);
        buf_puts(&text, "\r\n\r\n");
        struct outcome got = talk(text.p, text.n, (struct http_request){0});
        if (got.rc != rows[i].rc)
            fail_msg("row %zu: %d %s", i, got.rc, got.e.msg);
        buf_done(&got.body);
        buf_done(&text);
    }
}

/* A part of an answer is never taken for all of it. */
static void test_cut_at_every_byte(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "HTTP/1.1 100 C\r\n\r\n" HEAD "ETag: \"a\"\r\nContent-Length: 5\r\n\r\nhello",
        HEAD TE "\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\nT: x\r\n\r\n",
    };
    for (size_t i = 0; i < 2 * ARRAY_LEN(answers); i++) {
        const char *answer = answers[i / 2];
        script.has_reset = i % 2;
        script.piece = 0;
        for (size_t n = 0; n < strlen(answer); n++) {
            struct outcome got = talk(answer, n, (struct http_request){0});
            if (got.rc != -LARDER_UNREACHABLE || got.e.sys_errno != ECONNRESET)
                fail_msg("answer %zu cut at %zu: %d %s", i, n, got.rc, got.e.msg);
            buf_done(&got.body);
        }
        /* In pieces of one byte it is whole. */
        script.piece = 1;
        script.has_reset = false;
        struct outcome got = talk(answer, strlen(answer), (struct http_request){0});
        assert_string_equal(got.e.msg, "");
        assert_string_equal(got.body.p, "hello");
        buf_done(&got.body);
    }
    script.piece = 0;
}

static void test_head_has_no_body(void **state)
{
    (void)state;
    static const char answer[] = HEAD "Content-Length: 5\r\n\r\n";
    struct outcome got =
        talk(answer, sizeof(answer) - 1, (struct http_request){.method = HTTP_HEAD});
    assert_int_equal(got.rc, 0);
    assert_int_equal(got.status, 200);
}

/* ---- connections ---- */

enum keep { KEEP_OPEN, KEEP_CLOSE, KEEP_SILENT, KEEP_SURPLUS, KEEP_SAID_CLOSE };
static enum keep keep;

static void serve_kept(struct sock *s, int fd, int number)
{
    struct sock_request *r = malloc(sizeof(*r));
    (void)s;
    while (r && sock_read(fd, r)) {
        static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        static const char end[] =
            "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok";
        if (keep == KEEP_SAID_CLOSE)
            sock_puts(fd, end);
        else
            sock_puts(fd, keep == KEEP_SURPLUS ? HEAD "Content-Length: 2\r\n\r\nok!" : ok);
        if (keep == KEEP_CLOSE) {
            sock_end(fd);
            break;
        }
        if (keep == KEEP_SILENT && number == 0) {
            sock_read(fd, r); /* the next request is read and not answered */
            break;
        }
    }
    free(r);
}

static void test_kept_connections(void **state)
{
    (void)state;
    static const struct {
        enum keep keep;
        enum http_method method;
        int rc;          /* of the second request */
        int connections; /* of two requests */
    } rows[] = {
        {KEEP_OPEN, HTTP_GET, 0, 1},
        {KEEP_OPEN, HTTP_PUT, 0, 1},
        {KEEP_CLOSE, HTTP_GET, 0, 2},
        {KEEP_CLOSE, HTTP_PATCH, 0, 2},
        {KEEP_SAID_CLOSE, HTTP_GET, 0, 2},
        {KEEP_SURPLUS, HTTP_GET, 0, 2},
        {KEEP_SILENT, HTTP_GET, 0, 2},
        {KEEP_SILENT, HTTP_PUT, 0, 2},
        {KEEP_SILENT, HTTP_PATCH, -LARDER_UNREACHABLE, 1}, /* may have been done */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sock s;
        keep = rows[i].keep;
        sock_start(&s, serve_kept, NULL);
        struct http_client *client = client_with((struct http_options){0});
        const struct http_upload upload = {.data = "abc", .n = 3, .fd = -1};
        for (int j = 0; j < 2; j++) {
            struct outcome got =
                perform(client,
                        (struct http_request){.method = rows[i].method,
                                              .upload = rows[i].method ? &upload : NULL},
                        sock_url(&s, "/x"));
            int rc = j == 0 ? 0 : rows[i].rc;
            if (got.rc != rc)
                fail_msg("row %zu: %d %s", i, got.rc, got.e.msg);
            if (rc == 0)
                assert_string_equal(got.body.p, "ok");
            buf_done(&got.body);
            if (j == 0 && keep == KEEP_CLOSE)
                sock_wait_closed(&s, 1);
        }
        if (s.connections != rows[i].connections)
            fail_msg("row %zu: %d connections", i, s.connections);
        http_client_free(client);
        sock_stop(&s);
    }
}

/* ---- room ---- */

#define ROOM_BODY (8UL * 1024 * 1024 + 12345)

struct sink {
    char buffer[300000];
    size_t used;
    uint64_t bytes;
    uint64_t sum;
    size_t in_room;
    size_t pieces;
};

static void *sink_room(void *arg, size_t *ret_n)
{
    struct sink *sink = arg;
    if (sink->used == sizeof(sink->buffer))
        sink->used = 0;
    *ret_n = sizeof(sink->buffer) - sink->used;
    return sink->buffer + sink->used;
}

static int sink_body(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct sink *sink = arg;
    (void)e;
    if (data == sink->buffer + sink->used && n <= sizeof(sink->buffer) - sink->used)
        sink->in_room++;
    sink->used += n;
    sink->pieces++;
    for (size_t i = 0; i < n; i++)
        sink->sum += ((const unsigned char *)data)[i];
    sink->bytes += n;
    return 0;
}

static void serve_big(struct sock *s, int fd, int number)
{
    struct sock_request *r = malloc(sizeof(*r));
    char *body = malloc(ROOM_BODY);
    (void)s;
    if (r && body && sock_read(fd, r)) {
        char head[100];
        memset(body, 7, ROOM_BODY);
        snprintf(head, sizeof(head), HEAD "Content-Length: %lu\r\n\r\n", ROOM_BODY);
        if (number == 1)
            snprintf(head, sizeof(head), HEAD TE "\r\n%lx\r\n", ROOM_BODY);
        sock_puts(fd, number == 2 ? HEAD "\r\n" : head);
        sock_send(fd, body, ROOM_BODY);
        if (number == 1)
            sock_puts(fd, "\r\n0\r\n\r\n");
    }
    free(body);
    free(r);
}

static void test_room(void **state)
{
    (void)state;
    struct sock s;
    struct sink *sink = malloc(sizeof(*sink));
    assert_non_null(sink);
    sock_start(&s, serve_big, NULL);
    for (int i = 0; i < 3; i++) { /* length, chunks, to the end */
        struct http_client *client = client_with((struct http_options){0});
        struct http_response response = {0};
        *sink = (struct sink){.used = 0};
        struct http_request request = {
            .url = sock_url(&s, "/x"), .room = sink_room, .body = sink_body, .arg = sink};
        assert_int_equal(http_perform(client, &request, &response, NULL), 0);
        assert_int_equal(sink->bytes, ROOM_BODY);
        assert_int_equal(sink->sum, 7 * ROOM_BODY);
        if (!getenv("LARDER_HTTP_ENGINE"))
            assert_true(sink->in_room + 3 >= sink->pieces); /* but for what came with the head */
        http_response_done(&response);
        http_client_free(client);
    }
    sock_stop(&s);
    free(sink);
}

/* ---- names, addresses, time ---- */

static bool cancel_soon(void *arg)
{
    return clock_monotonic_ns() > *(const int64_t *)arg;
}

static void test_connecting_takes_too_long(void **state)
{
    (void)state;
    /* A full backlog drops what comes: nobody answers. */
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fill[8];
    char url[64];
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    for (size_t i = 0; i < ARRAY_LEN(fill); i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(fill[i], (struct sockaddr *)&address, sizeof(address));
    }
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", ntohs(address.sin_port));
    int64_t start = clock_monotonic_ns();
    struct http_client *client =
        client_with((struct http_options){.connect_timeout_ns = 300 * NS_PER_MS});
    struct outcome got = perform(client, (struct http_request){0}, url);
    assert_int_equal(got.rc, -LARDER_UNREACHABLE);
    assert_int_equal(got.e.sys_errno, ETIMEDOUT);
    http_client_free(client);
    assert_true(clock_monotonic_ns() - start < 60 * NS_PER_S); /* the kernel's: two minutes */

    int64_t when = clock_monotonic_ns() + 150 * NS_PER_MS;
    struct larder_observer observer = {.arg = &when, .is_canceled = cancel_soon};
    client =
        client_with((struct http_options){.connect_timeout_ns = PATIENT_NS, .observer = &observer});
    got = perform(client, (struct http_request){0}, url);
    assert_int_equal(got.rc, -LARDER_CANCELED);
    http_client_free(client);
    for (size_t i = 0; i < ARRAY_LEN(fill); i++)
        close(fill[i]);
    close(fd);
}

static void test_localhost(void **state)
{
    (void)state;
    struct sock s;
    char url[64];
    keep = KEEP_OPEN;
    sock_start(&s, serve_kept, NULL); /* IPv4 only: the first address refuses */
    snprintf(url, sizeof(url), "http://LocalHost:%d", s.port);
    struct http_client *client = client_with((struct http_options){0});
    struct outcome got = perform(client, (struct http_request){0}, url);
    assert_string_equal(got.e.msg, "");
    assert_int_equal(got.status, 200);
    buf_done(&got.body);
    http_client_free(client);
    sock_stop(&s);
}

/* Never read: the client's sends stop at full buffers. */
static void serve_deaf(struct sock *s, int fd, int number)
{
    (void)number;
    (void)fd;
    while (!s->is_stopping) {
        const struct timespec pause = {0, 10 * 1000 * 1000};
        nanosleep(&pause, NULL);
    }
}

static void test_stalled_upload(void **state)
{
    (void)state;
    size_t n = 32UL << 20;
    char *big = calloc(1, n);
    int fd = memfd_create("big", MFD_CLOEXEC);
    assert_non_null(big);
    assert_int_equal(ftruncate(fd, (off_t)n), 0);
    const struct http_upload uploads[] = {{.data = big, .n = n, .fd = -1},
                                          {.fd = fd, .n_bytes = n}};
    for (size_t i = 0; i < 4; i++) {
        struct sock s;
        sock_start(&s, serve_deaf, NULL);
        int64_t when = clock_monotonic_ns() + 200 * NS_PER_MS;
        struct larder_observer observer = {.arg = &when, .is_canceled = cancel_soon};
        struct http_client *client = client_with(
            (struct http_options){.stall_timeout_ns = i < 2 ? 400 * NS_PER_MS : PATIENT_NS,
                                  .observer = i < 2 ? NULL : &observer});
        struct outcome got =
            perform(client, (struct http_request){.method = HTTP_PUT, .upload = &uploads[i % 2]},
                    sock_url(&s, "/x"));
        assert_int_equal(got.rc, i < 2 ? -LARDER_UNREACHABLE : -LARDER_CANCELED);
        http_client_free(client);
        sock_stop(&s);
    }
    close(fd);
    free(big);
}

/* An end and then a reset, while the client waits for room to send: EPIPE, and SIGPIPE with it. */
static void serve_hangup(struct sock *s, int fd, int number)
{
    const struct timespec pause = {0, 20 * 1000 * 1000};
    (void)s;
    (void)number;
    nanosleep(&pause, NULL);
    shutdown(fd, SHUT_WR);
    sock_reset(fd);
}

static void test_hangup_while_sending(void **state)
{
    (void)state;
    size_t n = 32UL << 20;
    char *big = calloc(1, n);
    int fd = memfd_create("big", MFD_CLOEXEC);
    assert_non_null(big);
    assert_int_equal(ftruncate(fd, (off_t)n), 0);
    const struct http_upload uploads[] = {{.data = big, .n = n, .fd = -1},
                                          {.fd = fd, .n_bytes = n}};
    struct sock s;
    sock_start(&s, serve_hangup, NULL);
    for (size_t i = 0; i < 6; i++) {
        struct http_client *client = client_with((struct http_options){0});
        struct outcome got =
            perform(client, (struct http_request){.method = HTTP_PUT, .upload = &uploads[i % 2]},
                    sock_url(&s, "/x"));
        assert_int_equal(got.rc, -LARDER_UNREACHABLE);
        assert_int_equal(got.e.sys_errno, ECONNRESET);
        http_client_free(client);
    }
    sock_stop(&s);
    close(fd);
    free(big);
}

static void test_answer_that_takes_long(void **state)
{
    (void)state;
    struct sock s;
    sock_start(&s, serve_deaf, NULL);
    struct http_client *client =
        client_with((struct http_options){.answer_timeout_ns = 200 * NS_PER_MS});
    struct outcome got =
        perform(client, (struct http_request){.method = HTTP_POST}, sock_url(&s, "/x"));
    assert_int_equal(got.rc, -LARDER_UNREACHABLE);
    assert_int_equal(got.e.sys_errno, ETIME);
    http_client_free(client);
    sock_stop(&s);
}

/* ---- proxies ---- */

static char proxied[200];

static void serve_proxy(struct sock *s, int fd, int number)
{
    struct sock_request *r = malloc(sizeof(*r));
    (void)s;
    (void)number;
    if (r && sock_read(fd, r)) {
        snprintf(proxied, sizeof(proxied), "%.199s", r->head);
        sock_puts(fd, HEAD "Content-Length: 0\r\n\r\n");
    }
    free(r);
}

static void test_proxies(void **state)
{
    (void)state;
    static const struct {
        const char *variable, *no_proxy;
        bool is_proxied;
    } rows[] = {
        {"http_proxy", NULL, true},
        {"all_proxy", NULL, true},
        {"ALL_PROXY", "example.com", true},
        {"HTTP_PROXY", NULL, false}, /* what a CGI program's client says */
        {"http_proxy", "other, 127.0.0.1", false},
        {"http_proxy", "*", false},
        {"http_proxy", "27.0.0.1", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sock s;
        char url[64];
        sock_start(&s, serve_proxy, NULL);
        snprintf(url, sizeof(url), "http://127.0.0.1:%d", s.port);
        setenv(rows[i].variable, url, 1);
        if (rows[i].no_proxy)
            setenv("no_proxy", rows[i].no_proxy, 1);
        struct http_client *client = client_with((struct http_options){0});
        struct outcome got = perform(client, (struct http_request){0}, sock_url(&s, "/x"));
        assert_string_equal(got.e.msg, "");
        if ((strncmp(proxied, "GET http://127.0.0.1:", 21) == 0) != rows[i].is_proxied)
            fail_msg("row %zu: %s", i, proxied);
        http_client_free(client);
        sock_stop(&s);
        unsetenv(rows[i].variable);
        unsetenv("no_proxy");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_head_has_no_body),
        cmocka_unit_test(test_kept_connections),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_connecting_takes_too_long),
        cmocka_unit_test(test_localhost),
        cmocka_unit_test(test_stalled_upload),
        cmocka_unit_test(test_hangup_while_sending),
        cmocka_unit_test(test_answer_that_takes_long),
        cmocka_unit_test(test_proxies),
    };
    static const char *const proxies[] = {"http_proxy", "all_proxy", "ALL_PROXY",
                                          "HTTP_PROXY", "no_proxy",  "NO_PROXY"};
    for (size_t i = 0; i < ARRAY_LEN(proxies); i++)
        unsetenv(proxies[i]);
    return cmocka_run_group_tests_name("plain", tests, NULL, NULL);
}
