/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client: its options, redirects, statuses as errors, and small documents. One request and its
 * answer are in exchange.c.
 */
#include "net/http/http.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "net/http/exchange.h"
#include "net/http/plain.h"
#include "net/http/retry.h"
#include "net/http/url.h"

#define CONNECT_TIMEOUT_NS (20 * NS_PER_S)
#define STALL_TIMEOUT_NS   (30 * NS_PER_S)
#define REDIRECTS_MAX      10
/* The authorities of one registry; the system's 140 are 220 KiB. */
#define EXTRA_CAS_MAX_BYTES (4UL * 1024 * 1024)
/* A small document that drips keeps somebody waiting, with an entry locked, however often a byte
 * comes. */
#define TEXT_TIMEOUT_NS (120 * NS_PER_S)

/* What messages call a URL by. */
#define URL_SHOWN_MAX_BYTES 512

static void show_url(const char *url, struct buf *out)
{
    *out = BUF_INIT(URL_SHOWN_MAX_BYTES);
    url_redact(url, out);
}

static const char *shown(const struct buf *url)
{
    return url->p ? url->p : "url";
}

static int url_context(const char *url, struct larder_error *e, int rc)
{
    struct buf text;
    show_url(url, &text);
    error_context(e, "%s", shown(&text));
    buf_done(&text);
    return rc;
}

/* ---- client ---- */

static int copy_text(const char *text, char **ret, struct larder_error *e)
{
    if (!text || !*text)
        return 0;
    *ret = strdup(text);
    return *ret ? 0 : error_nomem(e);
}

static int find_netrc(char **ret, struct larder_error *e)
{
    const char *file = getenv("NETRC");
    if (file && *file)
        return copy_text(file, ret, e);
    const char *home = getenv("HOME");
    if (!home || !*home)
        return 0;
    char *path = NULL;
    if (asprintf(&path, "%s/.netrc", home) < 0)
        return error_nomem(e);
    *ret = path;
    return 0;
}

static int set_tls(struct http_client *client, const struct http_options *options,
                   struct larder_error *e)
{
    client->is_tls_insecure = options->insecure_tls;
    client->no_loopback_proxy = options->no_loopback_proxy;
    client->extra_cas = BUF_INIT(EXTRA_CAS_MAX_BYTES);
    /* libcurl knows neither $NETRC nor $SSL_CERT_FILE, only its tool does. */
    int rc = copy_text(options->ca_file ? options->ca_file : getenv("SSL_CERT_FILE"),
                       &client->ca_file, e);
    if (rc == 0)
        rc = copy_text(options->client_cert, &client->client_cert, e);
    if (rc == 0)
        rc = copy_text(options->client_key, &client->client_key, e);
    if (rc == 0 && options->ca_dir)
        rc = curl_read_cas(options->ca_dir, &client->extra_cas, e);
    return rc;
}

int http_client_make(const struct http_options *options, bool is_quiet, struct http_client **ret,
                     struct larder_error *e)
{
    CLEANUP(http_client_freep) struct http_client *client = calloc(1, sizeof(*client));
    if (!client)
        return error_nomem(e);
    client->connect_timeout_ns =
        options->connect_timeout_ns > 0 ? options->connect_timeout_ns : CONNECT_TIMEOUT_NS;
    client->stall_timeout_ns =
        options->stall_timeout_ns > 0 ? options->stall_timeout_ns : STALL_TIMEOUT_NS;
    client->answer_timeout_ns = options->answer_timeout_ns;
    client->retries = options->retries;
    client->retry_wait_ns = options->retry_wait_ns;
    client->observer = options->observer;
    const char *engine = getenv("LARDER_HTTP_ENGINE");
    client->is_curl_forced = engine && strcmp(engine, "curl") == 0;

    int rc = set_tls(client, options, e);
    if (rc == 0 && !options->no_netrc)
        rc = find_netrc(&client->netrc_file, e);
    if (rc == 0)
        rc = copy_text(options->header_origin, &client->header_origin, e);
    if (rc == 0 && options->header_file)
        rc = header_file_read(options->header_file, is_quiet ? NULL : options->observer,
                              &client->headers, e);
    if (rc < 0)
        return rc;
    *ret = TAKE_PTR(client);
    return 0;
}

int http_client_new(const struct http_options *options, struct http_client **ret,
                    struct larder_error *e)
{
    return http_client_make(options, false, ret, e);
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    plain_client_done(client);
    curl_client_done(client);
    for (size_t i = 0; i < client->headers.n; i++)
        explicit_bzero(client->headers.lines[i], strlen(client->headers.lines[i]));
    header_list_done(&client->headers);
    free(client->ca_file);
    free(client->client_cert);
    free(client->client_key);
    buf_done(&client->extra_cas);
    free(client->netrc_file);
    free(client->header_origin);
    free(client);
}

/* ---- one request with redirects ---- */

/* Replaces *url by the clean form of the redirect's target. */
static int follow(char **url, const char *target, struct larder_error *e)
{
    int rc = url_check(target, e);
    if (rc < 0) {
        if (e && rc == -LARDER_INVAL)
            e->code = LARDER_PROTO; /* the server's mistake, not the caller's */
        error_context(e, "redirect");
        return rc == -LARDER_INVAL ? -LARDER_PROTO : rc;
    }
    CLEANUP_FREE char *next = NULL;
    CLEANUP_FREE char *user = NULL; /* credentials that a server makes up are not ours to send */
    CLEANUP_FREE char *password = NULL;
    rc = url_split_userinfo(target, &next, &user, &password, e);
    if (rc < 0)
        return rc;
    if (url_is_https(*url) && !url_is_https(next))
        return error_set(e, LARDER_UNSAFE, "redirect from https to http refused");
    free(*url);
    *url = TAKE_PTR(next);
    return 0;
}

/* Moves the exchange's response out; its final_url is the exchange's. */
static int take_response(struct exchange *x, struct http_response *ret, struct larder_error *e)
{
    char *final_url = strdup(x->url);
    if (!final_url)
        return error_nomem(e);
    *ret = x->response;
    ret->final_url = final_url;
    x->response = (struct http_response){0};
    return 0;
}

/* Whether the request may be made again at the place a redirect names. */
static int check_redirect(const struct http_request *request, const struct exchange *x,
                          struct larder_error *e)
{
    int status = x->response.status;
    const struct http_upload *upload = request->upload;
    if (request->method == HTTP_GET || request->method == HTTP_HEAD)
        return 0;
    if (status != 307 && status != 308)
        return error_set(e, LARDER_PROTO, "status %d to %s: only 307 and 308 keep the method",
                         status, http_method_name(request->method));
    if (upload && !upload->data && upload->fd < 0 && x->is_read_begun)
        return error_set(e, LARDER_PROTO, "redirect after a part of the body was sent");
    return 0;
}

static int perform_hops(struct http_client *client, const struct http_request *request,
                        const char *first, const char *user, const char *password, char **url,
                        struct http_response *ret, struct larder_error *e)
{
    bool is_home = true;
    for (unsigned hop = 0; hop <= REDIRECTS_MAX; hop++) {
        /* Whoever was asked in between may know more about the way back than we want to tell. */
        is_home = is_home && url_same_origin(first, *url);
        struct exchange x = {
            .client = client,
            .request = request,
            .url = *url,
            .has_secrets = is_home,
            .user = user,
            .password = password,
        };
        int rc = exchange_run(&x, e);
        bool is_final = rc == 0 && !x.redirect_url;
        if (rc == 0 && !is_final)
            rc = check_redirect(request, &x, e);
        if (is_final)
            rc = take_response(&x, ret, e);
        else if (rc == 0)
            rc = follow(url, x.redirect_url, e);
        exchange_done(&x);
        if (rc < 0 || is_final)
            return rc;
    }
    return error_set(e, LARDER_PROTO, "more than %d redirects", REDIRECTS_MAX);
}

int http_perform(struct http_client *client, const struct http_request *request,
                 struct http_response *ret, struct larder_error *e)
{
    int rc = url_check(request->url, e);
    if (rc < 0)
        return rc;
    CLEANUP_FREE char *first = NULL;
    CLEANUP_FREE char *user = NULL;
    CLEANUP_FREE char *password = NULL;
    rc = url_split_userinfo(request->url, &first, &user, &password, e);
    if (rc < 0)
        return rc;
    CLEANUP_FREE char *url = strdup(first);
    if (!url)
        return error_nomem(e);
    rc = perform_hops(client, request, first, user, password, &url, ret, e);
    if (password)
        explicit_bzero(password, strlen(password));
    return rc < 0 ? url_context(url, e, rc) : 0;
}

/* ---- statuses ---- */

static enum larder_code status_code(int status)
{
    switch (status) {
    case 404:
    case 410:
        return LARDER_GONE;
    case 401:
    case 403:
    case 407:
        return LARDER_AUTH;
    case 408:
    case 429:
        return LARDER_UNREACHABLE;
    default:
        return status >= 500 && status <= 599 ? LARDER_UNREACHABLE : LARDER_PROTO;
    }
}

static const char *status_words(int status)
{
    static const struct {
        int status;
        const char *words;
    } known[] = {
        {401, " (credentials needed)"},
        {403, " (forbidden)"},
        {404, " (not found)"},
        {407, " (proxy wants credentials)"},
        {408, " (request timed out)"},
        {410, " (gone)"},
        {416, " (range not satisfiable)"},
        {429, " (too many requests)"},
        {500, " (internal server error)"},
        {502, " (bad gateway)"},
        {503, " (service unavailable)"},
        {504, " (gateway timed out)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (known[i].status == status)
            return known[i].words;
    return "";
}

int http_status_error(const char *url, int status, struct larder_error *e)
{
    struct buf text;
    show_url(url, &text);
    int rc = error_set(e, status_code(status), "%s: the server answered with status %d%s",
                       shown(&text), status, status_words(status));
    buf_done(&text);
    if (status == 401 || status == 403)
        error_hint(e, "credentials come from ~/.netrc, $NETRC or a header file");
    if (e)
        e->http_status = status;
    return rc;
}

bool http_is_transient(const struct larder_error *e)
{
    if (e->code != LARDER_UNREACHABLE)
        return false;
    if (e->http_status != 0)
        return e->http_status != 501 && e->http_status != 505;
    return e->sys_errno == ECONNRESET || e->sys_errno == ETIME;
}

/* ---- small documents ---- */

struct text_get {
    struct buf *out;
    int64_t deadline_ns; /* monotonic */
};

static int text_body(void *arg, const void *data, size_t n, struct larder_error *e)
{
    const struct text_get *get = arg;
    buf_append(get->out, data, n);
    return buf_failed(get->out, e);
}

static int text_head(void *arg, const struct http_response *response, struct larder_error *e)
{
    (void)arg;
    const char *coding = response->content_encoding;
    if (response->status == 200 && coding && strcasecmp(coding, "identity") != 0)
        return error_set(e, LARDER_PROTO, "the server encoded it (%.40s) unasked", coding);
    return 0;
}

static int text_tick(void *arg, struct larder_error *e)
{
    const struct text_get *get = arg;
    char text[32];
    if (clock_monotonic_ns() < get->deadline_ns)
        return 0;
    return error_errno_code(e, LARDER_UNREACHABLE, ETIMEDOUT, "not complete after %s",
                            duration_format(TEXT_TIMEOUT_NS, text));
}

static bool is_text_answer(const struct http_request *request, int status)
{
    return status == 200 ||
           (status == 304 && (request->if_none_match || request->if_modified_since));
}

int http_get_text(struct http_client *client, const struct http_request *request, struct buf *out,
                  struct http_response *ret, struct larder_error *e)
{
    struct http_request own = *request;
    struct text_get get = {out, 0};
    own.range_start = 0;
    /* What a HEAD says of the coding is about an object that nobody reads here. */
    own.head = request->method == HTTP_HEAD ? NULL : text_head;
    own.body = text_body;
    own.tick = text_tick;
    own.arg = &get;
    own.max_body_bytes = out->max_bytes;

    struct retry retry;
    retry_init(&retry, client->retries, client->retry_wait_ns, client->observer);
    for (;;) {
        struct http_response response = {0};
        struct larder_error failure = LARDER_ERROR_INIT;
        buf_reset(out);
        get.deadline_ns = clock_monotonic_ns() + TEXT_TIMEOUT_NS;
        int rc = http_perform(client, &own, &response, &failure);
        if (rc == 0 && is_text_answer(request, response.status)) {
            *ret = response;
            return 0;
        }
        if (rc == 0)
            rc = http_status_error(request->url, response.status, &failure);
        int64_t after_ns = response.retry_after_ns;
        http_response_done(&response);
        bool again = retry_may(&retry, &failure, after_ns);
        if (again)
            rc = retry_wait(&retry, after_ns, &failure);
        if (!again || rc < 0) {
            if (e)
                *e = failure;
            return rc;
        }
    }
}
