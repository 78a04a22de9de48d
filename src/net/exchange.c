/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request over libcurl's multi interface: the easy one calls us back only once a second when
 * nothing comes, and a stall must be noticed and a cancel obeyed sooner.
 *
 * Time limits: libcurl's own for looking up, connecting and TLS; from then on ours, which ends the
 * exchange when no byte came for stall_timeout_ns. Time spent in the caller's callbacks (a full
 * disk queue) is not the server's and doesn't count.
 */
#include "net/exchange.h"

#include <errno.h>
#include <string.h>

#include <curl/curl.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "net/url.h"

#define TICK_NS       (100 * NS_PER_MS)
#define RECEIVE_BYTES (512L * 1024) /* libcurl's maximum in 7.88; its 16 KiB cost 1.5 x CPU */
/* Pages of errors and redirects are read only to keep the connection. */
#define OTHER_BODY_MAX    (64 * 1024)
#define REDIRECT_BODY_MAX (1024 * 1024)

struct conversation {
    struct exchange *x;
    struct http_head head;
    struct larder_error *e;
    int rc; /* of a callback: why libcurl was told to stop */
    bool is_head_done;
    bool is_redirect;
    bool is_cut; /* we stopped reading a body that nobody wants */
    uint64_t body_bytes;
    int64_t active_ns; /* monotonic: last byte; 0: not connected yet */
    int64_t tick_ns;
    char curl_message[CURL_ERROR_SIZE];
};

static int tick(struct conversation *c, int64_t now)
{
    if (now - c->tick_ns < TICK_NS)
        return 0;
    const struct larder_observer *o = c->x->client->observer;
    const struct http_request *request = c->x->request;
    if (o && o->is_canceled && o->is_canceled(o->arg))
        return error_set(c->e, LARDER_CANCELED, "canceled");
    int rc = request->tick ? request->tick(request->arg, c->e) : 0;
    c->tick_ns = clock_monotonic_ns();
    return rc;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): libcurl's type */
static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct conversation *c = arg;
    size_t bytes = size * n;
    c->active_ns = clock_monotonic_ns();
    if (c->is_head_done) { /* trailers of a chunked body */
        c->rc = http_head_count(&c->head, bytes, c->e);
        return c->rc < 0 ? 0 : bytes;
    }
    int state = http_head_line(&c->head, (struct slice){data, bytes}, c->e);
    if (state == HTTP_HEAD_FINAL) {
        c->is_head_done = true;
        c->is_redirect = http_head_is_redirect(&c->head);
        const struct http_request *request = c->x->request;
        if (!c->is_redirect && request->head)
            state = request->head(request->arg, &c->x->response, c->e);
        c->active_ns = clock_monotonic_ns();
    }
    if (state < 0) {
        c->rc = state;
        return 0;
    }
    return bytes;
}

static int take_body(struct conversation *c, const char *data, size_t n)
{
    const struct http_request *request = c->x->request;
    int status = c->x->response.status;
    if (!c->is_head_done)
        return error_set(c->e, LARDER_PROTO, "a body before the response's head ended");
    c->body_bytes += n;
    if (status < 200 || status > 299) {
        c->is_cut = c->body_bytes > (c->is_redirect ? REDIRECT_BODY_MAX : OTHER_BODY_MAX);
        return c->is_cut ? -LARDER_PROTO : 0;
    }
    if (request->max_body_bytes > 0 && c->body_bytes > request->max_body_bytes)
        return error_set(c->e, LARDER_LIMIT, "body is larger than %llu bytes",
                         (unsigned long long)request->max_body_bytes);
    return request->body ? request->body(request->arg, data, n, c->e) : 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct conversation *c = arg;
    size_t bytes = size * n;
    int rc = take_body(c, data, bytes);
    int64_t now = clock_monotonic_ns();
    c->active_ns = now;
    if (rc == 0)
        rc = tick(c, now);
    if (rc < 0) {
        c->rc = rc;
        return bytes == 0 ? 1 : 0; /* anything but bytes stops libcurl */
    }
    return bytes;
}

/* ---- setting up ---- */

static struct curl_slist *append(const struct curl_lib *lib, struct curl_slist *list, bool *is_ok,
                                 const char *name, const char *value)
{
    CLEANUP_FREE char *line = NULL;
    if (!*is_ok || asprintf(&line, "%s%s", name, value) < 0) {
        line = NULL;
        *is_ok = false;
        return list;
    }
    struct curl_slist *longer = lib->slist_append(list, line);
    *is_ok = longer != NULL;
    return longer ? longer : list;
}

static struct curl_slist *request_headers(const struct exchange *x, bool *is_ok)
{
    const struct curl_lib *lib = x->client->lib;
    const struct http_request *request = x->request;
    struct curl_slist *list = NULL;
    if (request->range_start > 0) {
        char range[48];
        snprintf(range, sizeof(range), "bytes=%llu-", (unsigned long long)request->range_start);
        list = append(lib, list, is_ok, "Range: ", range);
        if (request->if_range)
            list = append(lib, list, is_ok, "If-Range: ", request->if_range);
    }
    if (request->if_none_match)
        list = append(lib, list, is_ok, "If-None-Match: ", request->if_none_match);
    if (request->if_modified_since)
        list = append(lib, list, is_ok, "If-Modified-Since: ", request->if_modified_since);
    if (request->no_cache)
        list = append(lib, list, is_ok, "Cache-Control: ", "no-cache");
    const char *origin = x->client->header_origin;
    bool has_headers = x->has_secrets && (!origin || url_same_origin(origin, x->url));
    for (size_t i = 0; has_headers && i < x->client->headers.n; i++)
        list = append(lib, list, is_ok, x->client->headers.lines[i], "");
    return list;
}

static long ms_of(int64_t ns)
{
    return (long)(ns / NS_PER_MS) + 1;
}

static bool set_secrets(const struct exchange *x)
{
    const struct curl_lib *lib = x->client->lib;
    void *easy = x->client->easy;
    bool ok = true;
    if (x->client->netrc_file) {
        ok = !lib->easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_OPTIONAL) && ok;
        ok = !lib->easy_setopt(easy, CURLOPT_NETRC_FILE, x->client->netrc_file) && ok;
    }
    if (x->user) {
        ok = !lib->easy_setopt(easy, CURLOPT_USERNAME, x->user) && ok;
        ok = !lib->easy_setopt(easy, CURLOPT_PASSWORD, x->password) && ok;
    }
    return ok;
}

static bool set_options(struct conversation *c, struct curl_slist *headers)
{
    const struct exchange *x = c->x;
    const struct curl_lib *lib = x->client->lib;
    void *easy = x->client->easy;
    lib->easy_reset(easy);

    const struct {
        CURLoption option;
        long value;
    } longs[] = {
        {CURLOPT_NOSIGNAL, 1},
        {CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1},
        {CURLOPT_FOLLOWLOCATION, 0},
        {CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC},
        {CURLOPT_SUPPRESS_CONNECT_HEADERS, 1},
        {CURLOPT_TCP_KEEPALIVE, 1},
        {CURLOPT_BUFFERSIZE, RECEIVE_BYTES},
        {CURLOPT_CONNECTTIMEOUT_MS, ms_of(x->client->connect_timeout_ns)},
        {CURLOPT_NOBODY, x->request->method == HTTP_HEAD},
    };
    bool ok = true;
    for (size_t i = 0; i < ARRAY_LEN(longs); i++)
        ok = !lib->easy_setopt(easy, longs[i].option, longs[i].value) && ok;

    const struct {
        CURLoption option;
        const void *value;
    } pointers[] = {
        {CURLOPT_URL, x->url},
        {CURLOPT_PROTOCOLS_STR, "http,https"},
        {CURLOPT_USERAGENT, "larder/" LARDER_VERSION},
        {CURLOPT_HTTPHEADER, headers},
        {CURLOPT_ERRORBUFFER, c->curl_message},
        {CURLOPT_HEADERDATA, c},
        {CURLOPT_WRITEDATA, c},
    };
    for (size_t i = 0; i < ARRAY_LEN(pointers); i++)
        ok = !lib->easy_setopt(easy, pointers[i].option, pointers[i].value) && ok;
    ok = !lib->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) && ok;
    ok = !lib->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) && ok;
    if (x->client->ca_file)
        ok = !lib->easy_setopt(easy, CURLOPT_CAINFO, x->client->ca_file) && ok;
    if (x->has_secrets)
        ok = set_secrets(x) && ok;
    return ok;
}

/* ---- running ---- */

static bool is_connected(const struct http_client *client)
{
    curl_off_t us = 0;
    client->lib->easy_getinfo(client->easy, CURLINFO_PRETRANSFER_TIME_T, &us);
    return us > 0;
}

static int check_stall(struct conversation *c, int64_t now)
{
    const struct http_client *client = c->x->client;
    if (c->active_ns == 0) {
        if (is_connected(client))
            c->active_ns = now;
        return 0;
    }
    if (now - c->active_ns < client->stall_timeout_ns)
        return 0;
    char text[32];
    return error_errno_code(c->e, LARDER_UNREACHABLE, ETIME, "no byte for %s",
                            duration_format(client->stall_timeout_ns, text));
}

/* Runs until libcurl is done (*ret_result) or we are (negative). */
static int run(struct conversation *c, CURLcode *ret_result)
{
    const struct http_client *client = c->x->client;
    const struct curl_lib *lib = client->lib;
    c->tick_ns = clock_monotonic_ns();
    for (;;) {
        int running = 0;
        int code = lib->multi_perform(client->multi, &running);
        int queued = 0;
        const CURLMsg *msg = lib->multi_info_read(client->multi, &queued);
        if (msg && msg->msg == CURLMSG_DONE) {
            *ret_result = msg->data.result;
            return c->rc;
        }
        if (code == CURLM_OK)
            code = lib->multi_poll(client->multi, NULL, 0, (int)(TICK_NS / NS_PER_MS), NULL);
        if (code != CURLM_OK)
            return error_set(c->e, code == CURLM_OUT_OF_MEMORY ? LARDER_NOMEM : LARDER_IO,
                             "libcurl: %s", lib->multi_strerror(code));
        int64_t now = clock_monotonic_ns();
        int rc = tick(c, now);
        if (rc == 0)
            rc = check_stall(c, now);
        if (rc < 0)
            return rc;
    }
}

/* What the caller can act on, see http_is_transient(): sys_errno tells the kinds of UNREACHABLE
 * apart. */
static enum larder_code classify(CURLcode result, long os_errno, int *ret_errno)
{
    *ret_errno = 0;
    switch ((int)result) {
    case CURLE_OUT_OF_MEMORY:
        return LARDER_NOMEM;
    case CURLE_URL_MALFORMAT:
    case CURLE_SSL_CACERT_BADFILE:
        return LARDER_INVAL;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CERTPROBLEM:
        return LARDER_AUTH;
    case CURLE_UNSUPPORTED_PROTOCOL: /* the scheme was checked: an answer like HTTP/0.9 */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_BAD_CONTENT_ENCODING:
        return LARDER_PROTO;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        *ret_errno = ENXIO;
        return LARDER_UNREACHABLE;
    case CURLE_COULDNT_CONNECT:
        *ret_errno = os_errno > 0 ? (int)os_errno : ECONNREFUSED;
        return LARDER_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT:
        *ret_errno = ETIMEDOUT;
        return LARDER_UNREACHABLE;
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
        *ret_errno = ECONNRESET;
        return LARDER_UNREACHABLE;
    default: /* TLS handshakes, proxies: nothing is known about the object */
        *ret_errno = EPROTO;
        return LARDER_UNREACHABLE;
    }
}

static int curl_failure(struct conversation *c, CURLcode result)
{
    const struct http_client *client = c->x->client;
    long os_errno = 0;
    client->lib->easy_getinfo(client->easy, CURLINFO_OS_ERRNO, &os_errno);
    int sys_errno = 0;
    enum larder_code code = classify(result, os_errno, &sys_errno);
    if (code == LARDER_NOMEM)
        return error_nomem(c->e);
    /* libcurl quotes what the server sent. */
    const char *text = c->curl_message[0] ? c->curl_message : client->lib->easy_strerror(result);
    struct buf clean = BUF_INIT(1024);
    text_sanitize(slice_of(text), &clean);
    int rc = error_set(c->e, code, "%s", clean.p ? clean.p : "request failed");
    if (c->e)
        c->e->sys_errno = sys_errno;
    buf_done(&clean);
    return rc;
}

static int keep_redirect(struct exchange *x, struct larder_error *e)
{
    const char *to = NULL; /* libcurl's, absolute */
    x->client->lib->easy_getinfo(x->client->easy, CURLINFO_REDIRECT_URL, &to);
    if (!to)
        return error_set(e, LARDER_PROTO, "redirect to nowhere");
    x->redirect_url = strdup(to);
    return x->redirect_url ? 0 : error_nomem(e);
}

/* Whether the body matters: it is a success's, or that of a redirect, which must end properly for
 * libcurl to say where to. */
static bool is_wanted(const struct conversation *c)
{
    int status = c->x->response.status;
    return (status >= 200 && status <= 299) || c->is_redirect;
}

static int judge(struct conversation *c, CURLcode result)
{
    struct exchange *x = c->x;
    const struct http_response *r = &x->response;
    if (c->is_head_done && !is_wanted(c))
        return 0; /* the status is the answer, however its page ended */
    if (c->is_redirect && c->is_cut)
        return error_set(c->e, LARDER_PROTO, "page of a redirect is larger than %d bytes",
                         REDIRECT_BODY_MAX);
    if (c->is_redirect && result == CURLE_OK)
        return keep_redirect(x, c->e);
    if (result != CURLE_OK)
        return curl_failure(c, result);
    if (!c->is_head_done)
        return error_set(c->e, LARDER_PROTO, "answer without a head");
    /* libcurl checks it too; this is what "whole" rests on. */
    if (x->request->method == HTTP_GET && r->has_length && r->status != 204 &&
        c->body_bytes != r->length_bytes)
        return error_errno_code(
            c->e, LARDER_UNREACHABLE, ECONNRESET, "body has %llu bytes, its Content-Length is %llu",
            (unsigned long long)c->body_bytes, (unsigned long long)r->length_bytes);
    return 0;
}

int exchange_run(struct exchange *x, struct larder_error *e)
{
    const struct curl_lib *lib = x->client->lib;
    struct conversation *c = calloc(1, sizeof(*c));
    if (!c)
        return error_nomem(e);
    c->x = x;
    c->e = e;
    c->head.response = &x->response;

    bool is_ok = true;
    struct curl_slist *headers = request_headers(x, &is_ok);
    int rc = 0;
    if (!is_ok || !set_options(c, headers) ||
        lib->multi_add_handle(x->client->multi, x->client->easy) != CURLM_OK) {
        rc = error_nomem(e);
        goto out;
    }
    CURLcode result = CURLE_OK;
    rc = run(c, &result);
    bool has_stalled = rc == -LARDER_UNREACHABLE && c->is_head_done && !is_wanted(c);
    if (rc == 0 || c->is_cut || has_stalled)
        rc = judge(c, result);
    lib->multi_remove_handle(x->client->multi, x->client->easy);
out:
    lib->slist_free_all(headers);
    free(c);
    return rc;
}

void exchange_done(struct exchange *x)
{
    http_response_done(&x->response);
    free(x->redirect_url);
    x->redirect_url = NULL;
}
