/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our HTTP engine, given any bytes as a whole connection: it ends, within its limits, and a body
 * that it calls whole has the length that the head told. The first byte chooses the request.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "net/http/http.h"
#include "net/http/plain.h"

struct sink {
    char room[777];
    uint64_t bytes;
};

static void *sink_room(void *arg, size_t *ret_n)
{
    struct sink *sink = arg;
    *ret_n = sizeof(sink->room);
    return sink->room;
}

static int sink_body(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct sink *sink = arg;
    (void)e;
    if (data == sink->room && n > sizeof(sink->room))
        abort();
    sink->bytes += n;
    return 0;
}

static void talk(struct http_client *client, int fd, unsigned choice)
{
    struct plain p = {0};
    struct sink sink = {.bytes = 0};
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf head = BUF_INIT(4096);
    struct buf page = BUF_INIT(100);
    const struct http_upload upload = {.data = "abc", .n = 3, .fd = -1};
    const struct http_request request = {
        .method = choice & 1   ? HTTP_HEAD
                  : choice & 2 ? HTTP_PUT
                               : HTTP_GET,
        .url = "http://h/a",
        .upload = (choice & 3) == 2 ? &upload : NULL,
        .room = choice & 4 ? sink_room : NULL,
        .body = sink_body,
        .error_body = choice & 8 ? &page : NULL,
        .max_body_bytes = choice & 16 ? 50 : 0,
        .arg = &sink,
    };
    struct exchange x = {.client = client, .request = &request, .url = request.url};
    bool is_kept = false;
    exchange_begin(&x);
    if (plain_conn_adopt(fd, &p.conn, NULL) < 0)
        return;
    p.x = &x;
    int rc = plain_compose(&x, &head, &e);
    p.head = buf_slice(&head);
    if (rc == 0)
        rc = plain_talk(&p, &is_kept, &e);
    if (rc < 0 && e.code == LARDER_OK)
        abort();
    if (rc == 0 && exchange_is_wanted(&x) && x.response.has_length && !exchange_is_bodiless(&x) &&
        sink.bytes != x.response.length_bytes)
        abort();
    /* A connection that is used again begins with the next answer. */
    if (is_kept &&
        (rc < 0 || p.conn->n > 0 || (x.response.is_until_close && !exchange_is_bodiless(&x))))
        abort();
    (void)http_response_header(&x.response, "a", 0);
    free(p.big);
    plain_conn_free(p.conn);
    exchange_done(&x);
    buf_done(&head);
    buf_done(&page);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct http_client *client;
    const struct http_options options = {.no_netrc = true};
    int fds[2];
    if (!client && http_client_new(&options, &client, NULL) < 0)
        return 0;
    /* All of it must fit into the socket: nobody reads while it is written. */
    if (n == 0 || n > 100000 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return 0;
    if (send(fds[1], data + 1, n - 1, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n - 1) {
        shutdown(fds[1], SHUT_WR);
        talk(client, fds[0], data[0]);
    } else {
        close(fds[0]);
    }
    close(fds[1]);
    return 0;
}
