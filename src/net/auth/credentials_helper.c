/* SPDX-License-Identifier: Apache-2.0 */
#include "net/auth/credentials_helper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/process.h"
#include "base/text.h"
#include "net/auth/auth_token.h"
#include "net/auth/credentials_file.h"

/* Cloud helpers try a metadata service that never answers, others ask the user in a window. */
#define HELPER_TIMEOUT_NS (60 * NS_PER_S)
/* One secret; the list of a whole keychain. */
#define HELPER_OUTPUT_MAX_BYTES (256u << 10)
#define HELPER_ERRORS_MAX_BYTES (4u << 10)
#define HELPER_WORDS_MAX_BYTES  200

/* What docker itself gives to helpers for its hub. */
#define DOCKER_HUB_URL "https://index.docker.io/v1/"

struct helper {
    char *program;
    int64_t timeout_ms;
    const struct larder_observer *observer;
    struct buf out; /* wiped */
    struct buf err;
};

static int helper_init(struct helper *h, const struct credential_options *options, const char *name,
                       struct larder_error *e)
{
    int64_t timeout_ns =
        options->helper_timeout_ns > 0 ? options->helper_timeout_ns : HELPER_TIMEOUT_NS;
    *h = (struct helper){.timeout_ms = (timeout_ns + NS_PER_MS - 1) / NS_PER_MS,
                         .observer = options->observer,
                         .out = BUF_INIT(HELPER_OUTPUT_MAX_BYTES),
                         .err = BUF_INIT(HELPER_ERRORS_MAX_BYTES)};
    /* With a slash it would be a path, and not one of docker's programs. */
    for (const char *p = name; *p; p++) {
        if (*p == '/' || (unsigned char)*p <= ' ' || *p == 0x7f)
            return error_set(e, LARDER_CORRUPT,
                             "the name of a credential helper has a slash, "
                             "blank or control character");
    }
    if (asprintf(&h->program, "docker-credential-%s", name) < 0) {
        h->program = NULL;
        return error_nomem(e);
    }
    return 0;
}

static void helper_done(struct helper *h)
{
    if (h->out.p)
        explicit_bzero(h->out.p, h->out.cap);
    buf_done(&h->out);
    buf_done(&h->err);
    free(h->program);
}

static const char *server_url(const char *host)
{
    return strcmp(credential_host(host), "docker.io") == 0 ? DOCKER_HUB_URL : host;
}

/* Its own words. (A document is no message: it may hold the secret.) */
static void put_words(const struct helper *h, struct buf *out)
{
    struct slice words = slice_trim(buf_slice(&h->out));
    if (words.n == 0 || words.p[0] == '{')
        words = slice_trim(buf_slice(&h->err));
    if (words.n > HELPER_WORDS_MAX_BYTES)
        words.n = HELPER_WORDS_MAX_BYTES;
    if (words.n) {
        buf_puts(out, ": ");
        text_sanitize(words, out);
    }
}

static int status_error(const struct helper *h, const char *action, int status,
                        struct larder_error *e)
{
    struct buf words = BUF_INIT(2048);
    put_words(h, &words);
    const char *text = words.p ? words.p : "";
    int rc =
        WIFSIGNALED(status)
            ? error_set(e, LARDER_UNREACHABLE, "credential helper %s %s: killed by signal %d%s",
                        h->program, action, WTERMSIG(status), text)
            : error_set(e, LARDER_UNREACHABLE, "credential helper %s %s: exit status %d%s",
                        h->program, action, WEXITSTATUS(status), text);
    buf_done(&words);
    return rc;
}

/* docker-credential-helpers, credentials/error.go: on stdout, and the status is 1. */
static bool says_not_found(const struct helper *h)
{
    static const char text[] = "credentials not found";
    return (h->out.p && strstr(h->out.p, text)) || (h->err.p && strstr(h->err.p, text));
}

/* *ret_found false: it said that there are none. */
static int helper_run(struct helper *h, const char *action, struct slice input, bool *ret_found,
                      struct larder_error *e)
{
    const char *const argv[] = {h->program, action, NULL};
    struct larder_error why = LARDER_ERROR_INIT;
    int status = 0;
    int rc =
        process_run_input(argv, input, h->timeout_ms, h->observer, &h->out, &h->err, &status, &why);
    if (rc == -LARDER_NOMEM)
        return error_nomem(e);
    if (rc == -LARDER_CANCELED)
        return error_set(e, LARDER_CANCELED, "canceled");
    if (rc < 0) {
        rc = error_set(e, LARDER_UNREACHABLE, "credential helper: %s", why.msg);
        if (why.code == LARDER_NOENT)
            error_hint(e, "install %s, or take it out of that file", h->program);
        return rc;
    }
    *ret_found = status == 0;
    if (status != 0 && !says_not_found(h))
        return status_error(h, action, status, e);
    return 0;
}

static int nonsense(const struct helper *h, const char *action, struct larder_error *e)
{
    return error_set(e, LARDER_UNREACHABLE,
                     "credential helper %s %s: its output is not what is expected", h->program,
                     action);
}

static int read_secret(const struct helper *h, const struct json *doc, struct credentials *ret,
                       bool *ret_found, struct larder_error *e)
{
    const char *user = json_get_string(doc, "Username");
    const char *secret = json_get_string(doc, "Secret");
    if (!user || !secret)
        return nonsense(h, "get", e);
    *ret_found = *user || *secret;
    if (!*ret_found)
        return 0;
    struct credentials c = {.user = strdup(user),
                            .password = strdup(secret),
                            .source = strdup(h->program),
                            .is_from_helper = true};
    if (!c.user || !c.password || !c.source) {
        credentials_done(&c);
        return error_nomem(e);
    }
    credentials_settle(&c);
    *ret = c;
    return 0;
}

static int wipe_text_member(void *arg, const char *key, const struct json *value)
{
    const char *text = json_text(value);
    (void)arg;
    (void)key;
    if (text)
        explicit_bzero((char *)(uintptr_t)text, strlen(text));
    return 0;
}

int credential_helper_get(const struct credential_options *options, const char *name,
                          const char *host, struct credentials *ret, bool *ret_found,
                          struct larder_error *e)
{
    struct helper h;
    struct json *doc = NULL;
    bool is_found = false;
    int rc = helper_init(&h, options, name, e);
    if (rc == 0)
        rc = helper_run(&h, "get", slice_of(server_url(host)), &is_found, e);
    if (rc == 0 && is_found) {
        rc = json_parse(buf_slice(&h.out), HELPER_OUTPUT_MAX_BYTES, &doc, NULL);
        rc = rc == -LARDER_NOMEM ? error_nomem(e)
             : rc < 0            ? nonsense(&h, "get", e)
                                 : read_secret(&h, doc, ret, &is_found, e);
    }
    if (rc == 0)
        *ret_found = is_found;
    json_each(doc, wipe_text_member, NULL);
    json_free(doc);
    helper_done(&h);
    return rc;
}

int credential_helper_store(const struct credential_options *options, const char *name,
                            const char *host, const char *user, const char *password,
                            struct larder_error *e)
{
    struct helper h;
    struct buf text = BUF_INIT(HELPER_OUTPUT_MAX_BYTES);
    struct json *doc = json_new_object();
    bool is_found = true;
    int rc = helper_init(&h, options, name, e);
    if (rc == 0 && (json_set_string(doc, "ServerURL", server_url(host)) < 0 ||
                    json_set_string(doc, "Username", user) < 0 ||
                    json_set_string(doc, "Secret", password) < 0))
        rc = error_nomem(e);
    if (rc == 0)
        rc = json_dump_ordered(doc, &text, e);
    if (rc == 0)
        rc = helper_run(&h, "store", buf_slice(&text), &is_found, e);
    if (rc == 0 && !is_found)
        rc = nonsense(&h, "store", e);
    if (text.p)
        explicit_bzero(text.p, text.cap);
    buf_done(&text);
    json_each(doc, wipe_text_member, NULL);
    json_free(doc);
    helper_done(&h);
    return rc;
}

static int erase_url(const struct credential_options *options, const char *name, const char *url,
                     struct larder_error *e)
{
    struct helper h;
    bool is_found = false;
    int rc = helper_init(&h, options, name, e);
    if (rc == 0)
        rc = helper_run(&h, "erase", slice_of(url), &is_found, e);
    helper_done(&h);
    return rc;
}

int credential_helper_erase(const struct credential_options *options, const char *name,
                            const char *host, struct larder_error *e)
{
    return erase_url(options, name, server_url(host), e);
}

struct erase_all {
    const struct credential_options *options;
    const char *name;
    struct larder_error *e;
    size_t n;
};

static int erase_listed(void *arg, const char *key, const struct json *value)
{
    struct erase_all *all = arg;
    (void)value;
    int rc = erase_url(all->options, all->name, key, all->e);
    all->n += rc == 0;
    return rc;
}

int credential_helper_erase_all(const struct credential_options *options, const char *name,
                                size_t *ret_n, struct larder_error *e)
{
    struct helper h;
    struct erase_all all = {options, name, e, 0};
    struct json *doc = NULL;
    bool is_found = false;
    int rc = helper_init(&h, options, name, e);
    if (rc == 0)
        rc = helper_run(&h, "list", SLICE_LIT(""), &is_found, e);
    if (rc == 0 && is_found) {
        rc = json_parse(buf_slice(&h.out), HELPER_OUTPUT_MAX_BYTES, &doc, NULL);
        rc = rc == -LARDER_NOMEM ? error_nomem(e) : rc < 0 ? nonsense(&h, "list", e) : 0;
    }
    if (rc == 0)
        rc = json_each(doc, erase_listed, &all);
    if (rc == 0)
        *ret_n = all.n;
    json_free(doc);
    helper_done(&h);
    return rc;
}
