/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine over libcurl, for TLS and proxies. The multi interface, because the easy one calls us
 * back only once a second when nothing comes, and a stall must be noticed and a cancel obeyed
 * sooner.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <curl/curl.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"
#include "net/http/exchange.h"
#include "net/http/url.h"

#define RECEIVE_BYTES (512L * 1024) /* libcurl's maximum in 7.88; its 16 KiB cost 1.5 x CPU */
#define SEND_BYTES    (256L * 1024)
/* libcurl's own threshold: beyond it a body waits a second for "100 Continue", so that a server
 * which refuses it can say so before a gigabyte is on its way. */
#define EXPECT_BYTES (1024ULL * 1024)
#define REQUEST_MAX  (256UL * 1024)
#define CA_FILES_MAX 1024U /* of a directory: beyond it is no certs.d */

struct conversation {
    struct exchange *x;
    struct larder_error *e;
    int rc;            /* of a callback: why libcurl was told to stop */
    bool is_cut;       /* we stopped reading a body that nobody wants */
    uint64_t sent_at;  /* of the upload */
    uint64_t sent_all; /* its size */
    char curl_message[CURL_ERROR_SIZE];
};

/* ---- callbacks ---- */

/* NOLINTNEXTLINE(readability-non-const-parameter): libcurl's type */
static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct conversation *c = arg;
    size_t bytes = size * n;
    exchange_received(c->x, bytes);
    int rc = c->x->is_head_done ? http_head_count(&c->x->head, bytes, c->e) /* trailers */
                                : exchange_line(c->x, (struct slice){data, bytes}, c->e);
    if (rc < 0) {
        c->rc = rc;
        return bytes == 0 ? 1 : 0;
    }
    return bytes;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct conversation *c = arg;
    size_t bytes = size * n;
    exchange_received(c->x, bytes);
    int rc = exchange_body(c->x, data, bytes, false, c->e);
    c->is_cut = rc > 0;
    if (rc == 0)
        rc = exchange_tick(c->x, clock_monotonic_ns(), c->e);
    if (rc != 0) {
        c->rc = rc < 0 ? rc : 0;
        return bytes == 0 ? 1 : 0; /* anything but bytes stops libcurl */
    }
    return bytes;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): libcurl's type */
static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
    struct conversation *c = arg;
    size_t got = 0;
    if (c->sent_at >= c->sent_all)
        return 0;
    int rc = exchange_upload_read(c->x, c->sent_at, to, size * n, &got, c->e);
    int64_t now = clock_monotonic_ns();
    if (rc == 0)
        rc = exchange_tick(c->x, now, c->e);
    c->x->active_ns = now;
    if (rc < 0) {
        c->rc = rc;
        return CURL_READFUNC_ABORT;
    }
    c->sent_at += got;
    exchange_sent(c->x, c->sent_at);
    c->x->is_sent = c->sent_at == c->sent_all;
    return got;
}

/* libcurl sends a body again when a kept connection was closed meanwhile, and after a 417. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct conversation *c = arg;
    const struct http_upload *u = c->x->request->upload;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > c->sent_all)
        return CURL_SEEKFUNC_FAIL;
    if (u && !u->data && u->fd < 0 && (uint64_t)offset != c->sent_at)
        return CURL_SEEKFUNC_FAIL;
    c->sent_at = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* ---- setting up ---- */

/* Authorities in memory replace those of a file in libcurl, not those of its hashed directory: what
 * was to be trusted without ours still is. */
static int add_file_cas(struct http_client *client, struct larder_error *e)
{
    const char *file = client->ca_file;
    const char *dir = NULL;
    if (!file) {
        client->lib->easy_getinfo(client->easy, CURLINFO_CAPATH, &dir);
        if (!dir)
            client->lib->easy_getinfo(client->easy, CURLINFO_CAINFO, &file);
    }
    if (!file)
        return 0;
    struct buf text = BUF_INIT(client->extra_cas.max_bytes);
    int rc = file_read(AT_FDCWD, file, &text, e);
    if (rc == 0)
        buf_append_slice(&client->extra_cas, buf_slice(&text));
    buf_done(&text);
    if (rc == 0)
        rc = buf_failed(&client->extra_cas, e);
    return rc < 0 ? error_context(e, "certificates %s", file) : 0;
}

static int client_open(struct http_client *client, struct larder_error *e)
{
    int rc = client->lib ? 0 : curl_lib_get(&client->lib, e);
    if (rc < 0)
        return rc;
    if (!client->easy) {
        client->easy = client->lib->easy_init();
        if (client->easy && client->extra_cas.n > 0)
            rc = add_file_cas(client, e);
    }
    if (!client->multi)
        client->multi = client->lib->multi_init();
    if (rc < 0)
        return rc;
    return client->easy && client->multi ? 0 : error_nomem(e);
}

void curl_client_done(struct http_client *client)
{
    if (client->easy)
        client->lib->easy_cleanup(client->easy);
    if (client->multi)
        client->lib->multi_cleanup(client->multi);
    client->easy = client->multi = NULL;
}

static int append(const struct curl_lib *lib, struct curl_slist **list, const char *line,
                  struct larder_error *e)
{
    struct curl_slist *longer = lib->slist_append(*list, line);
    if (!longer)
        return error_nomem(e);
    *list = longer;
    return 0;
}

static int append_lines(const struct curl_lib *lib, struct buf *lines, struct curl_slist **list,
                        struct larder_error *e)
{
    int rc = 0;
    for (char *line = lines->p, *end; rc == 0 && line && *line; line = end + 2) {
        end = strstr(line, "\r\n");
        if (!end)
            break;
        *end = '\0';
        /* "Name;" is how libcurl spells an empty value: "Name:" would remove the header. */
        char *colon = strchr(line, ':');
        if (colon && colon[1 + strspn(colon + 1, " \t")] == '\0') {
            *colon = ';';
            colon[1] = '\0';
        }
        rc = append(lib, list, line, e);
    }
    return rc;
}

static int request_headers(const struct exchange *x, struct curl_slist **list,
                           struct larder_error *e)
{
    const struct curl_lib *lib = x->client->lib;
    struct buf lines = BUF_INIT(REQUEST_MAX);
    bool has_body = false;
    int rc = exchange_request_lines(x, &lines, e);
    if (rc == 0)
        rc = append_lines(lib, &lines, list, e);
    if (rc == 0 && exchange_upload_bytes(x, &has_body) <= EXPECT_BYTES)
        rc = append(lib, list, "Expect:", e);
    secret_buf_done(&lines);
    return rc;
}

static long ms_of(int64_t ns)
{
    return (long)(ns / NS_PER_MS) + 1;
}

static bool set_tls(const struct http_client *client)
{
    const struct curl_lib *lib = client->lib;
    void *easy = client->easy;
    bool ok = true;
    if (client->ca_file)
        ok = !lib->easy_setopt(easy, CURLOPT_CAINFO, client->ca_file) && ok;
    if (client->extra_cas.n > 0) {
        struct curl_blob blob = {client->extra_cas.p, client->extra_cas.n, CURL_BLOB_NOCOPY};
        ok = !lib->easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob) && ok;
    }
    if (client->client_cert) {
        const char *key = client->client_key ? client->client_key : client->client_cert;
        ok = !lib->easy_setopt(easy, CURLOPT_SSLCERT, client->client_cert) && ok;
        ok = !lib->easy_setopt(easy, CURLOPT_SSLKEY, key) && ok;
    }
    if (client->is_tls_insecure) {
        ok = !lib->easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L) && ok;
        ok = !lib->easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L) && ok;
    }
    return ok;
}

static bool set_method(struct conversation *c)
{
    const struct exchange *x = c->x;
    const struct curl_lib *lib = x->client->lib;
    void *easy = x->client->easy;
    bool has_body = false;
    c->sent_all = exchange_upload_bytes(x, &has_body);
    if (!has_body && x->request->method == HTTP_GET)
        return true;
    if (x->request->method == HTTP_HEAD)
        return !lib->easy_setopt(easy, CURLOPT_NOBODY, 1L);
    bool ok = true;
    if (has_body) {
        ok = !lib->easy_setopt(easy, CURLOPT_UPLOAD, 1L) && ok;
        ok = !lib->easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->sent_all) && ok;
        ok = !lib->easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BYTES) && ok;
        ok = !lib->easy_setopt(easy, CURLOPT_READFUNCTION, on_read) && ok;
        ok = !lib->easy_setopt(easy, CURLOPT_READDATA, c) && ok;
        ok = !lib->easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek) && ok;
        ok = !lib->easy_setopt(easy, CURLOPT_SEEKDATA, c) && ok;
    }
    ok = !lib->easy_setopt(easy, CURLOPT_CUSTOMREQUEST, http_method_name(x->request->method)) && ok;
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
        {CURLOPT_SUPPRESS_CONNECT_HEADERS, 1},
        /* Our headers are for the server, not for a proxy on the way to it. */
        {CURLOPT_HEADEROPT, CURLHEADER_SEPARATE},
        {CURLOPT_TCP_KEEPALIVE, 1},
        {CURLOPT_BUFFERSIZE, RECEIVE_BYTES},
        {CURLOPT_CONNECTTIMEOUT_MS, ms_of(x->client->connect_timeout_ns)},
    };
    bool ok = true;
    for (size_t i = 0; i < ARRAY_LEN(longs); i++)
        ok = !lib->easy_setopt(easy, longs[i].option, longs[i].value) && ok;

    const struct {
        CURLoption option;
        const void *value;
    } pointers[] = {
        {CURLOPT_URL, x->url},         {CURLOPT_PROTOCOLS_STR, "http,https"},
        {CURLOPT_HTTPHEADER, headers}, {CURLOPT_ERRORBUFFER, c->curl_message},
        {CURLOPT_HEADERDATA, c},       {CURLOPT_WRITEDATA, c},
    };
    for (size_t i = 0; i < ARRAY_LEN(pointers); i++)
        ok = !lib->easy_setopt(easy, pointers[i].option, pointers[i].value) && ok;
    ok = !lib->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) && ok;
    ok = !lib->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) && ok;
    if (exchange_is_direct(x))
        ok = !lib->easy_setopt(easy, CURLOPT_NOPROXY, "*") && ok;
    ok = set_method(c) && ok;
    return set_tls(x->client) && ok;
}

/* ---- running ---- */

static void note_connected(struct exchange *x, int64_t now)
{
    const struct http_client *client = x->client;
    curl_off_t us = 0;
    if (x->active_ns != 0)
        return;
    client->lib->easy_getinfo(client->easy, CURLINFO_PRETRANSFER_TIME_T, &us);
    if (us > 0)
        x->active_ns = now;
}

/* Runs until libcurl is done (*ret_result) or we are (negative). */
static int run(struct conversation *c, CURLcode *ret_result)
{
    const struct http_client *client = c->x->client;
    const struct curl_lib *lib = client->lib;
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
        note_connected(c->x, now);
        int rc = exchange_tick(c->x, now, c->e);
        if (rc == 0)
            rc = exchange_check_stall(c->x, now, c->e);
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
    case CURLE_SEND_FAIL_REWIND:
    case CURLE_PARTIAL_FILE:
        *ret_errno = ECONNRESET;
        return LARDER_UNREACHABLE;
    default: /* TLS handshakes, proxies: nothing is known about the object */
        *ret_errno = EPROTO;
        return LARDER_UNREACHABLE;
    }
}

/* What to do about failures of TLS. libcurl tells them apart in words only. */
static const struct {
    const char *words;
    enum larder_code code; /* OK: as classified */
    const char *hint;
} tls_failures[] = {
    {"certificate has expired", LARDER_OK,
     "check this machine's clock; if it is right, the server needs a new certificate"},
    {"certificate is not yet valid", LARDER_OK, "check this machine's clock"},
    {"subject name", LARDER_OK, "the certificate is another host's: check the name in the URL"},
    {"subjectAltName", LARDER_OK, "the certificate is another host's: check the name in the URL"},
    {"local issuer certificate", LARDER_OK,
     "add the certificate of its authority as certs.d/HOST:PORT/ca.crt, or name it as CA file"},
    {"self-signed certificate", LARDER_OK,
     "add the certificate of its authority as certs.d/HOST:PORT/ca.crt, or name it as CA file"},
    {"alert certificate required", LARDER_AUTH,
     "the server wants a client certificate: certs.d/HOST:PORT/client.cert and client.key"},
    {"alert bad certificate", LARDER_AUTH,
     "the server wants a client certificate, or another: certs.d/HOST:PORT/client.cert and "
     "client.key"},
    {"alert unknown ca", LARDER_AUTH, "the server does not trust the client certificate"},
    {"alert handshake failure", LARDER_AUTH,
     "the server may want a client certificate: certs.d/HOST:PORT/client.cert and client.key"},
    {"wrong version number", LARDER_OK, "the server may speak http, not https"},
};

static int tls_hint(const struct http_client *client, int result, struct larder_error *e)
{
    for (size_t i = 0; i < ARRAY_LEN(tls_failures); i++) {
        if (!strstr(e->msg, tls_failures[i].words))
            continue;
        if (tls_failures[i].code != LARDER_OK)
            e->code = tls_failures[i].code;
        return error_hint(e, "%s", tls_failures[i].hint);
    }
    /* Its alert may be lost: with TLS 1.3 it comes when the request is already on its way. */
    if ((result == CURLE_SEND_ERROR || result == CURLE_RECV_ERROR) && !client->client_cert)
        return error_hint(e, "some servers end the connection so when they miss a client "
                             "certificate");
    if (result == CURLE_SSL_CERTPROBLEM && client->client_cert)
        return error_context(e, "client certificate %s", client->client_cert);
    return -(int)e->code;
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
    buf_done(&clean);
    if (c->e) {
        c->e->sys_errno = sys_errno;
        if (url_is_https(c->x->url))
            rc = tls_hint(client, (int)result, c->e);
    }
    return rc;
}

static int judge(struct conversation *c, CURLcode result)
{
    struct exchange *x = c->x;
    if (x->is_head_done && !exchange_is_wanted(x))
        return exchange_judge(x, c->e);
    if (result != CURLE_OK)
        return curl_failure(c, result);
    if (!x->is_head_done)
        return error_set(c->e, LARDER_PROTO, "answer without a head");
    return exchange_judge(x, c->e);
}

int curl_run(struct exchange *x, struct larder_error *e)
{
    struct curl_slist *headers = NULL;
    struct conversation *c = NULL;
    int rc = client_open(x->client, e);
    if (rc < 0)
        return rc;
    const struct curl_lib *lib = x->client->lib;
    rc = request_headers(x, &headers, e);
    if (rc < 0)
        goto out;
    c = calloc(1, sizeof(*c));
    if (!c) {
        rc = error_nomem(e);
        goto out;
    }
    c->x = x;
    c->e = e;
    bool has_upload = false;
    x->is_sent = exchange_upload_bytes(x, &has_upload) == 0;
    if (!set_options(c, headers) ||
        lib->multi_add_handle(x->client->multi, x->client->easy) != CURLM_OK) {
        rc = error_nomem(e);
        goto out;
    }
    CURLcode result = CURLE_OK;
    rc = run(c, &result);
    bool has_stalled = rc == -LARDER_UNREACHABLE && x->is_head_done && !exchange_is_wanted(x);
    if (rc == 0 || has_stalled)
        rc = judge(c, result);
    lib->multi_remove_handle(x->client->multi, x->client->easy);
out:
    lib->slist_free_all(headers);
    free(c);
    return rc;
}

/* ---- authorities ---- */

int curl_read_cas(const char *dir, struct buf *out, struct larder_error *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : error_errno(e, errno, "certificates %s", dir);
    int rc = 0;
    unsigned files = 0;
    for (const struct dirent *entry; rc == 0 && (entry = readdir(d));) {
        if (!slice_ends(slice_of(entry->d_name), SLICE_LIT(".crt")))
            continue;
        if (++files > CA_FILES_MAX) {
            rc = error_set(e, LARDER_LIMIT, "more than %u files", CA_FILES_MAX);
            break;
        }
        struct buf one = BUF_INIT(out->max_bytes);
        rc = file_read(dirfd(d), entry->d_name, &one, e);
        buf_append(out, one.p ? one.p : "", one.n);
        buf_putc(out, '\n');
        buf_done(&one);
        if (rc == 0)
            rc = buf_failed(out, e);
    }
    closedir(d);
    return rc < 0 ? error_context(e, "certificates %s", dir) : 0;
}
