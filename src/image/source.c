/* SPDX-License-Identifier: Apache-2.0 */
#include "image/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/slice.h"

bool source_is_url(const char *source)
{
    return url_is_http(source);
}

bool source_is_registry(const char *source, const char **ret_reference)
{
    static const char *const schemes[] = {"oras://", "oci://", "docker://"};
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if (strncmp(source, schemes[i], n) != 0)
            continue;
        if (ret_reference)
            *ret_reference = source + n;
        return true;
    }
    return false;
}

int source_basename(const char *source, char **ret, struct larder_error *e)
{
    if (source_is_url(source))
        return url_basename(source, ret, e);
    char *name = slice_dup(slice_basename(slice_of(source)));
    if (!name)
        return error_nomem(e);
    *ret = name;
    return 0;
}

int source_sibling(const char *source, const char *name, char **ret, struct larder_error *e)
{
    if (source_is_url(source))
        return url_sibling(source, name, ret, e);
    const char *slash = strrchr(source, '/');
    int dir_bytes = slash ? (int)(slash - source) + 1 : 0;
    char *path = NULL;
    if (asprintf(&path, "%.*s%s", dir_bytes, source, name) < 0)
        return error_nomem(e);
    *ret = path;
    return 0;
}

void source_state_done(struct source_state *state)
{
    free(state->etag);
    free(state->last_modified);
    free(state->final_url);
    memset(state, 0, sizeof(*state));
}

char *source_local_etag(const struct stat *st)
{
    char *text = NULL;
    if (asprintf(&text, "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 ".%09ld-%" PRIx64 ".%09ld\"",
                 (uint64_t)st->st_ino, (uint64_t)st->st_size, (uint64_t)st->st_mtim.tv_sec,
                 st->st_mtim.tv_nsec, (uint64_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec) < 0)
        return NULL;
    return text;
}

static int ask_local(const char *path, struct source_state *ret, struct larder_error *e)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        int code = errno == ENOENT || errno == ENOTDIR ? LARDER_GONE : LARDER_IO;
        return error_errno_code(e, (enum larder_code)code, errno, "source %s", path);
    }
    if (!S_ISREG(st.st_mode))
        return error_set(e, LARDER_INVAL, "source %s: not a regular file", path);
    char *etag = source_local_etag(&st);
    if (!etag)
        return error_nomem(e);
    ret->etag = etag;
    ret->size_bytes = (uint64_t)st.st_size;
    return 0;
}

/* A question that failed in a way that may pass is asked once more; what it stands for is a copy
 * that is here. */
static int ask_head(struct http_client *client, const char *url, struct http_response *ret,
                    struct larder_error *e)
{
    const struct http_request request = {.method = HTTP_HEAD, .url = url, .no_cache = true};
    struct larder_error why = LARDER_ERROR_INIT;
    int r = -1;
    for (int tries = 0; tries < 2; tries++) {
        struct http_response response = {0};
        error_clear(&why);
        r = http_perform(client, &request, &response, &why);
        if (r == 0 && response.status >= 200 && response.status <= 299) {
            *ret = response;
            return 0;
        }
        if (r == 0)
            r = http_status_error(url, response.status, &why);
        http_response_done(&response);
        if (!http_is_transient(&why))
            break;
    }
    if (e)
        *e = why;
    return r;
}

int source_state_ask(struct larder_store *store, struct http_client *client,
                     const struct image_entry *entry, struct source_state *ret,
                     struct larder_error *e)
{
    (void)store;
    if (!source_is_url(entry->source))
        return ask_local(entry->source, ret, e);
    struct http_response response = {0};
    int r = ask_head(client, entry->source, &response, e);
    if (r < 0)
        return r;
    ret->etag = TAKE_PTR(response.etag);
    ret->last_modified = TAKE_PTR(response.last_modified);
    ret->final_url = TAKE_PTR(response.final_url);
    ret->size_bytes = response.has_length ? response.length_bytes : 0;
    http_response_done(&response);
    return 0;
}
