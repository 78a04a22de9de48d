/* SPDX-License-Identifier: Apache-2.0 */
#include "net/auth/credentials_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/text.h"

/* ---- places ---- */

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* Takes path over; NULL: out of memory. */
/* NOLINTNEXTLINE(readability-non-const-parameter): it is kept */
static int add_file(struct credential_files *files, char *path, bool is_docker, bool is_flat,
                    struct larder_error *e)
{
    if (!path)
        return error_nomem(e);
    files->list[files->n++] = (struct credential_file){path, is_docker, is_flat};
    return 0;
}

static char *join(const char *dir, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

static char *runtime_file(void)
{
    char *path = NULL;
    if (env("XDG_RUNTIME_DIR"))
        return join(env("XDG_RUNTIME_DIR"), "containers/auth.json");
    return asprintf(&path, "/run/containers/%u/auth.json", (unsigned)getuid()) < 0 ? NULL : path;
}

/* A file that docker's programs read, too, if the user says --authfile ~/.docker/config.json. */
static bool is_docker_name(const char *path)
{
    return slice_equal(slice_basename(slice_of(path)), SLICE_LIT("config.json"));
}

static int add_usual(struct credential_files *files, struct larder_error *e)
{
    const char *home = env("HOME");
    int rc = add_file(files, runtime_file(), false, false, e);
    if (rc == 0 && env("XDG_CONFIG_HOME"))
        rc = add_file(files, join(env("XDG_CONFIG_HOME"), "containers/auth.json"), false, false, e);
    else if (rc == 0 && home)
        rc = add_file(files, join(home, ".config/containers/auth.json"), false, false, e);
    if (rc == 0 && env("DOCKER_CONFIG"))
        rc = add_file(files, join(env("DOCKER_CONFIG"), "config.json"), true, false, e);
    else if (rc == 0 && home)
        rc = add_file(files, join(home, ".docker/config.json"), true, false, e);
    if (rc == 0 && home)
        rc = add_file(files, join(home, ".dockercfg"), true, true, e);
    return rc;
}

int credential_files_find(const struct credential_options *options, struct credential_files *ret,
                          struct larder_error *e)
{
    struct credential_files files = {0};
    const char *given = options->authfile ? options->authfile : env("REGISTRY_AUTH_FILE");
    files.is_given = given != NULL;
    int rc = given ? add_file(&files, strdup(given), is_docker_name(given), false, e)
                   : add_usual(&files, e);
    if (rc < 0)
        credential_files_done(&files);
    else
        *ret = files;
    return rc;
}

void credential_files_done(struct credential_files *files)
{
    for (size_t i = 0; i < files->n; i++)
        free(files->list[i].path);
    *files = (struct credential_files){0};
}

/* ---- documents ---- */

static void wipe_text(const char *text)
{
    if (text)
        explicit_bzero((char *)(uintptr_t)text, strlen(text));
}

void credential_entry_wipe(const struct json *entry)
{
    static const char *const secrets[] = {"auth", "password", "identitytoken", "registrytoken"};
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++)
        wipe_text(json_get_string(entry, secrets[i]));
}

static int wipe_entry(void *arg, const char *key, const struct json *entry)
{
    (void)arg;
    (void)key;
    credential_entry_wipe(entry);
    return 0;
}

void credential_doc_free(struct json *doc)
{
    json_each(doc, wipe_entry, NULL);
    json_each(json_get(doc, "auths"), wipe_entry, NULL);
    json_free(doc);
}

/* The parser's message without its text, which quotes what it stumbled over. */
static int syntax_error(const char *path, const struct larder_error *why, struct larder_error *e)
{
    int line = 0;
    int column = 0;
    if (sscanf(why->msg, "JSON document: line %d, column %d", &line, &column) == 2)
        return error_set(e, LARDER_CORRUPT, "credentials file %s: line %d, column %d: no JSON",
                         path, line, column);
    return error_set(e, LARDER_CORRUPT, "credentials file %s: no JSON", path);
}

static int parse(const struct credential_file *file, struct slice text, struct json **ret,
                 struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct json *doc = NULL;
    /* `touch` makes such a file, and so do failed writes of others; it says nothing. */
    if (slice_trim(text).n == 0)
        return 0;
    int rc = json_parse(text, CREDENTIAL_FILE_MAX_BYTES, &doc, &why);
    if (rc == -LARDER_INVAL)
        return syntax_error(file->path, &why, e);
    if (rc < 0) {
        if (e)
            *e = why;
        return rc;
    }
    const struct json *entries = json_get(doc, "auths");
    if (!json_node_is_object(doc) || (entries && !json_node_is_object(entries))) {
        credential_doc_free(doc);
        return error_set(e, LARDER_CORRUPT,
                         "credentials file %s: an object with an object \"auths\" expected",
                         file->path);
    }
    *ret = doc;
    return 0;
}

int credential_file_read(const struct credential_file *file, struct json **ret,
                         struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    struct buf text = BUF_INIT(CREDENTIAL_FILE_MAX_BYTES);
    struct json *doc = NULL;
    int rc = file_read(AT_FDCWD, file->path, &text, &why);
    if (rc == 0)
        rc = parse(file, buf_slice(&text), &doc, &why);
    else if (rc == -LARDER_NOENT || why.sys_errno == ENOTDIR)
        rc = 0;
    else
        error_context(&why, "credentials");
    if (text.p)
        explicit_bzero(text.p, text.cap);
    buf_done(&text);
    if (rc == 0)
        *ret = doc;
    else if (e)
        *e = why;
    return rc;
}

const struct json *credential_entries(const struct credential_file *file, const struct json *doc)
{
    return file->is_flat ? doc : json_get(doc, "auths");
}

/* ---- keys ---- */

static const char docker_hub[] = "docker.io";

static bool is_docker_hub(struct slice host)
{
    return slice_equal_nocase(host, SLICE_LIT("docker.io")) ||
           slice_equal_nocase(host, SLICE_LIT("index.docker.io")) ||
           slice_equal_nocase(host, SLICE_LIT("registry-1.docker.io"));
}

const char *credential_host(const char *host)
{
    return is_docker_hub(slice_of(host)) ? docker_hub : host;
}

/* Old docker kept the address of the API. "host/ns" is podman's namespace, no address. */
static bool is_api_path(struct slice path)
{
    return slice_equal(path, SLICE_LIT("")) || slice_equal(path, SLICE_LIT("/")) ||
           slice_equal(path, SLICE_LIT("/v1")) || slice_equal(path, SLICE_LIT("/v1/")) ||
           slice_equal(path, SLICE_LIT("/v2")) || slice_equal(path, SLICE_LIT("/v2/"));
}

bool credential_key_is_host(const char *key, const char *host)
{
    bool has_scheme = false;
    if (strncasecmp(key, "https://", 8) == 0 || strncasecmp(key, "http://", 7) == 0) {
        key = strstr(key, "://") + 3;
        has_scheme = true;
    }
    struct slice name = {key, strcspn(key, "/")};
    if (!has_scheme && !is_api_path(slice_of(key + name.n)))
        return false;
    if (is_docker_hub(name))
        return strcmp(credential_host(host), docker_hub) == 0;
    return slice_equal_nocase(name, slice_of(host));
}

struct key_search {
    const char *host;
    const struct json *value;
};

/* docker leaves an empty entry behind for what a helper has. */
static bool says_something(const struct json *entry)
{
    static const char *const members[] = {"auth", "username", "password", "identitytoken",
                                          "registrytoken"};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const char *text = json_get_string(entry, members[i]);
        if (text && *text)
            return true;
    }
    return false;
}

static int match_entry(void *arg, const char *key, const struct json *value)
{
    struct key_search *search = arg;
    if (!credential_key_is_host(key, search->host) || !says_something(value))
        return 0;
    search->value = value;
    return 1;
}

const struct json *credential_entry_find(const struct json *entries, const char *host,
                                         const char *repository)
{
    CLEANUP_FREE char *path = NULL;
    host = credential_host(host);
    int n = asprintf(&path, "%s%s%s", host, repository ? "/" : "", repository ? repository : "");
    if (n < 0) {
        path = NULL;
        return NULL;
    }
    for (char *end = path + n; end; end = memrchr(path, '/', (size_t)(end - path))) {
        *end = '\0';
        const struct json *entry = json_get(entries, path);
        if (says_something(entry))
            return entry;
    }
    struct key_search search = {host, NULL};
    json_each(entries, match_entry, &search);
    return search.value;
}

static int match_helper(void *arg, const char *key, const struct json *value)
{
    struct key_search *search = arg;
    const char *name = json_text(value);
    if (!name || !*name || !credential_key_is_host(key, search->host))
        return 0;
    search->value = value;
    return 1;
}

const char *credential_helper_of(const struct json *doc, const char *host)
{
    struct key_search search = {credential_host(host), NULL};
    if (json_each(json_get(doc, "credHelpers"), match_helper, &search))
        return json_text(search.value);
    const char *name = json_get_string(doc, "credsStore");
    return name && *name ? name : NULL;
}

/* ---- entries ---- */

/* "user:password" in base64. */
static bool decode_auth(const char *auth, char **ret_user, char **ret_password)
{
    size_t digits = strcspn(auth, "=");
    size_t n = digits / 4 * 3 + (digits % 4 ? digits % 4 - 1 : 0);
    char *pair = calloc(1, n + 1);
    if (!pair)
        return false;
    bool is_good = base64_decode_exact(slice_of(auth), (uint8_t *)pair, n);
    /* Some programs pad the password with NUL bytes. */
    char *colon = is_good ? strchr(pair, ':') : NULL;
    char *user = colon ? strndup(pair, (size_t)(colon - pair)) : NULL;
    char *password = colon ? strdup(colon + 1) : NULL;
    explicit_bzero(pair, n);
    free(pair);
    if (!user || !password) {
        free(user);
        free(password);
        return false;
    }
    *ret_user = user;
    *ret_password = password;
    return true;
}

static int take_text(const struct json *entry, const char *member, char **ret,
                     struct larder_error *e)
{
    const char *text = json_get_string(entry, member);
    if (*ret || !text || !*text)
        return 0;
    *ret = strdup(text);
    return *ret ? 0 : error_nomem(e);
}

int credential_entry_read(const struct json *entry, struct credentials *ret, struct larder_error *e)
{
    struct credentials c = {0};
    const char *auth = json_get_string(entry, "auth");
    int rc = 0;
    if (auth && *auth && !decode_auth(auth, &c.user, &c.password))
        rc = error_set(e, LARDER_CORRUPT, "\"auth\" is not user:password in base64");
    if (rc == 0)
        rc = take_text(entry, "username", &c.user, e);
    if (rc == 0)
        rc = take_text(entry, "password", &c.password, e);
    if (rc == 0)
        rc = take_text(entry, "identitytoken", &c.identity_token, e);
    if (rc == 0)
        rc = take_text(entry, "registrytoken", &c.registry_token, e);
    if (rc < 0) {
        credentials_done(&c);
        return rc;
    }
    credentials_settle(&c);
    *ret = c;
    return 0;
}
