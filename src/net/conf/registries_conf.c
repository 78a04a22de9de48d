/* SPDX-License-Identifier: Apache-2.0 */
#include "net/conf/registries_conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "net/conf/toml.h"

#define CONF_MAX_BYTES  (1u << 20)
#define DROP_INS_MAX    1024
#define REGISTRIES_MAX  10000
#define SYSTEM_CONF     "/etc/containers/registries.conf"
#define SYSTEM_CONF_DIR "/etc/containers/registries.conf.d"

static void registry_done(struct conf_registry *r)
{
    for (size_t i = 0; i < r->n_mirrors; i++)
        free(r->mirrors[i].location);
    free(r->mirrors);
    free(r->prefix);
    free(r->location);
    free(r->where);
    *r = (struct conf_registry){0};
}

void registries_conf_done(struct registries_conf *conf)
{
    for (size_t i = 0; i < conf->n; i++)
        registry_done(&conf->list[i]);
    free(conf->list);
    *conf = (struct registries_conf){0};
}

/* ---- one table ---- */

struct table {
    const struct json *node;
    const char *file;
    struct larder_error *e;
};

static int bad(const struct table *t, const char *key, const char *expected)
{
    return error_set(t->e, LARDER_INVAL, "%s:%lld: %s: %s expected", t->file,
                     (long long)json_get_i64(t->node, TOML_LINE, 1), key, expected);
}

static int get_bool(const struct table *t, const char *key, bool *ret)
{
    if (!json_get(t->node, key))
        return 0;
    *ret = json_get_bool(t->node, key, false);
    /* (A getter of another type gives its default.) */
    return json_get_bool(t->node, key, true) == *ret ? 0 : bad(t, key, "true or false");
}

static bool is_location(const char *text)
{
    if (strstr(text, "://") || *text == '/')
        return false;
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f || strchr("?#@\\", *p))
            return false;
    }
    return true;
}

/* host[:port][/path], without a slash at its end; "" when missing. malloc'd. */
static int get_location(const struct table *t, const char *key, char **ret)
{
    const struct json *node = json_get(t->node, key);
    const char *text = node ? json_text(node) : "";
    if (!text || !is_location(text))
        return bad(t, key, "host[:port][/path], without a scheme,");
    size_t n = strlen(text);
    while (n && text[n - 1] == '/')
        n--;
    *ret = strndup(text, n);
    return *ret ? 0 : error_nomem(t->e);
}

static int get_pull_from(const struct table *t, struct conf_mirror *mirror, bool by_digest_only)
{
    const struct json *node = json_get(t->node, "pull-from-mirror");
    const char *text = node ? json_text(node) : "all";
    bool is_all = text && (strcmp(text, "all") == 0 || !*text);
    mirror->for_tags = is_all || (text && strcmp(text, "tag-only") == 0);
    mirror->for_digests = is_all || (text && strcmp(text, "digest-only") == 0);
    if (!mirror->for_tags && !mirror->for_digests)
        return bad(t, "pull-from-mirror", "all, digest-only or tag-only");
    if (by_digest_only && node && *text)
        return bad(t, "pull-from-mirror", "nothing besides mirror-by-digest-only");
    if (by_digest_only)
        mirror->for_tags = false;
    return 0;
}

static int read_mirror(const struct table *t, struct conf_registry *r)
{
    struct conf_mirror mirror = {0};
    int rc = get_location(t, "location", &mirror.location);
    if (rc == 0 && !*mirror.location)
        rc = bad(t, "location", "a mirror's host");
    if (rc == 0)
        rc = get_bool(t, "insecure", &mirror.insecure);
    if (rc == 0)
        rc = get_pull_from(t, &mirror, r->mirrors_by_digest_only);
    if (rc < 0) {
        free(mirror.location);
        return rc;
    }
    r->mirrors[r->n_mirrors++] = mirror;
    return 0;
}

static int read_mirrors(const struct table *t, struct conf_registry *r)
{
    const struct json *list = json_get(t->node, "mirror");
    size_t n = json_length(list);
    if (list && !json_node_is_array(list))
        return bad(t, "mirror", "[[registry.mirror]]");
    r->mirrors = n ? calloc(n, sizeof(*r->mirrors)) : NULL;
    if (n && !r->mirrors)
        return error_nomem(t->e);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct table mirror = {json_at(list, i), t->file, t->e};
        rc = json_node_is_object(mirror.node) ? read_mirror(&mirror, r)
                                              : bad(t, "mirror", "[[registry.mirror]]");
    }
    return rc;
}

static int check_prefix(const struct table *t, struct conf_registry *r)
{
    bool is_wild = strncmp(r->prefix, "*.", 2) == 0;
    if (!*r->prefix) {
        /* "If the prefix field is missing, it defaults to be the same as the location." */
        free(r->prefix);
        r->prefix = strdup(r->location);
        if (!r->prefix)
            return error_nomem(t->e);
    }
    if (!*r->prefix)
        return bad(t, "registry", "a prefix or a location");
    if (is_wild ? strchr(r->prefix + 1, '*') || strchr(r->prefix, '/') || !r->prefix[2]
                : strchr(r->prefix, '*') != NULL)
        return bad(t, "prefix", "host[:port][/path] or *.domain");
    if (!*r->location && !is_wild) {
        free(r->location);
        r->location = strdup(r->prefix);
        if (!r->location)
            return error_nomem(t->e);
    }
    return 0;
}

static int read_registry(const struct table *t, struct conf_registry *ret)
{
    struct conf_registry r = {0};
    int rc = get_location(t, "prefix", &r.prefix);
    if (rc == 0)
        rc = get_location(t, "location", &r.location);
    if (rc == 0)
        rc = check_prefix(t, &r);
    if (rc == 0)
        rc = get_bool(t, "insecure", &r.insecure);
    if (rc == 0)
        rc = get_bool(t, "blocked", &r.blocked);
    if (rc == 0)
        rc = get_bool(t, "mirror-by-digest-only", &r.mirrors_by_digest_only);
    if (rc == 0)
        rc = read_mirrors(t, &r);
    if (rc == 0 && asprintf(&r.where, "%s:%lld", t->file,
                            (long long)json_get_i64(t->node, TOML_LINE, 1)) < 0) {
        r.where = NULL;
        rc = error_nomem(t->e);
    }
    r.has_insecure = json_get(t->node, "insecure") != NULL;
    if (rc < 0)
        registry_done(&r);
    else
        *ret = r;
    return rc;
}

/* ---- files ---- */

/* A later file's table replaces an earlier one's of the same prefix. Takes r over. */
static int put_registry(struct registries_conf *conf, struct conf_registry *r,
                        struct larder_error *e)
{
    for (size_t i = 0; i < conf->n; i++) {
        if (strcmp(conf->list[i].prefix, r->prefix) == 0) {
            registry_done(&conf->list[i]);
            conf->list[i] = *r;
            return 0;
        }
    }
    struct conf_registry *list =
        conf->n < REGISTRIES_MAX ? realloc(conf->list, (conf->n + 1) * sizeof(*list)) : NULL;
    if (!list) {
        registry_done(r);
        return conf->n < REGISTRIES_MAX
                   ? error_nomem(e)
                   : error_set(e, LARDER_LIMIT, "registries.conf: more than %d registries",
                               REGISTRIES_MAX);
    }
    conf->list = list;
    conf->list[conf->n++] = *r;
    return 0;
}

static int read_document(struct registries_conf *conf, const char *file, const struct json *doc,
                         struct larder_error *e)
{
    const struct json *list = json_get(doc, "registry");
    const struct json *old = json_get(doc, "registries");
    struct table top = {old ? old : doc, file, e};
    /* Its "block" must not be overlooked. */
    if (old)
        return bad(&top, "registries", "version 2 ([[registry]]), not version 1,");
    if (list && !json_node_is_array(list))
        return bad(&top, "registry", "[[registry]]");
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < json_length(list); i++) {
        struct table table = {json_at(list, i), file, e};
        struct conf_registry r;
        rc = json_node_is_object(table.node) ? read_registry(&table, &r)
                                             : bad(&top, "registry", "[[registry]]");
        if (rc == 0)
            rc = put_registry(conf, &r, e);
    }
    return rc;
}

static int read_file(struct registries_conf *conf, const char *file, bool may_lack,
                     struct larder_error *e)
{
    struct buf text = BUF_INIT(CONF_MAX_BYTES);
    struct json *doc = NULL;
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = file_read(AT_FDCWD, file, &text, &why);
    if (rc < 0 && may_lack && (rc == -LARDER_NOENT || why.sys_errno == ENOTDIR)) {
        buf_done(&text);
        return 0;
    }
    if (rc < 0 && e)
        *e = why;
    if (rc == 0)
        rc = toml_parse(buf_slice(&text), file, &doc, e);
    if (rc == 0)
        rc = read_document(conf, file, doc, e);
    json_free(doc);
    buf_done(&text);
    return rc;
}

struct names {
    char *list[DROP_INS_MAX];
    size_t n;
};

static int add_name(void *arg, const char *name, unsigned char type)
{
    struct names *names = arg;
    (void)type;
    if (!slice_ends(slice_of(name), SLICE_LIT(".conf")))
        return 0;
    if (names->n == DROP_INS_MAX)
        return -LARDER_LIMIT;
    names->list[names->n] = strdup(name);
    return names->list[names->n] ? (names->n++, 0) : -LARDER_NOMEM;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_drop_ins(struct registries_conf *conf, const char *dir, struct larder_error *e)
{
    CLEANUP_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : error_errno(e, errno, "directory %s", dir);
    struct names *names = calloc(1, sizeof(*names));
    if (!names)
        return error_nomem(e);
    int rc = dir_each(fd, add_name, names, e);
    if (rc == -LARDER_LIMIT)
        rc = error_set(e, LARDER_LIMIT, "directory %s: more than %d files", dir, DROP_INS_MAX);
    else if (rc == -LARDER_NOMEM)
        rc = error_nomem(e);
    qsort(names->list, names->n, sizeof(names->list[0]), by_name);
    for (size_t i = 0; i < names->n; i++) {
        CLEANUP_FREE char *file = NULL;
        if (rc == 0 && asprintf(&file, "%s/%s", dir, names->list[i]) < 0) {
            file = NULL;
            rc = error_nomem(e);
        }
        if (rc == 0)
            rc = read_file(conf, file, false, e);
        free(names->list[i]);
    }
    free(names);
    return rc;
}

/* ~/.config/containers/NAME; *ret NULL without a home. */
static int user_path(const char *name, char **ret, struct larder_error *e)
{
    const char *config = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    int n = 0;
    if (config && *config)
        n = asprintf(ret, "%s/containers/%s", config, name);
    else if (home && *home)
        n = asprintf(ret, "%s/.config/containers/%s", home, name);
    if (n >= 0)
        return 0;
    *ret = NULL;
    return error_nomem(e);
}

/* As containers/image: a user's own file stands for the system's and its directory; a file given
 * stands for both files only. */
static int read_all(struct registries_conf *conf, const char *path, struct larder_error *e)
{
    CLEANUP_FREE char *user_file = NULL;
    CLEANUP_FREE char *user_dir = NULL;
    const char *given = path ? path : getenv("CONTAINERS_REGISTRIES_CONF");
    int rc = user_path("registries.conf", &user_file, e);
    if (rc == 0)
        rc = user_path("registries.conf.d", &user_dir, e);
    if (rc < 0)
        return rc;
    bool is_users = false;
    if (given && *given) {
        rc = read_file(conf, given, false, e);
    } else if (user_file && access(user_file, F_OK) == 0) {
        is_users = true;
        rc = read_file(conf, user_file, false, e);
    } else {
        rc = read_file(conf, SYSTEM_CONF, true, e);
    }
    if (rc == 0 && !is_users)
        rc = read_drop_ins(conf, SYSTEM_CONF_DIR, e);
    if (rc == 0 && user_dir)
        rc = read_drop_ins(conf, user_dir, e);
    return rc;
}

int registries_conf_read(const char *path, struct registries_conf *ret, struct larder_error *e)
{
    struct registries_conf conf = {0};
    int rc = read_all(&conf, path, e);
    if (rc < 0)
        registries_conf_done(&conf);
    else
        *ret = conf;
    return rc;
}

/* ---- lookup ---- */

/* How much of the name the prefix stands for; 0: it does not match. */
static size_t match(const char *prefix, const char *name)
{
    size_t n = strlen(prefix);
    size_t host_bytes = strcspn(name, "/");
    if (strncmp(prefix, "*.", 2) == 0) {
        /* ".example.com" at the end of the host, or before its port. */
        const char *suffix = prefix + 1;
        n--;
        size_t bare = strcspn(name, "/:");
        if (bare > n && strncasecmp(name + bare - n, suffix, n) == 0)
            return bare;
        if (host_bytes > n && strncasecmp(name + host_bytes - n, suffix, n) == 0)
            return host_bytes;
        return 0;
    }
    /* (Behind ":" is a port: another registry.) */
    return strncmp(prefix, name, n) == 0 && (name[n] == '\0' || name[n] == '/') ? n : 0;
}

/* Of two that stand for as much: a wildcard stands for the whole host. */
static bool is_nearer(const char *a, const char *b)
{
    return *b == '*' && (*a != '*' || strlen(a) > strlen(b));
}

const struct conf_registry *registries_conf_find(const struct registries_conf *conf,
                                                 const char *name, size_t *ret_bytes)
{
    const struct conf_registry *best = NULL;
    size_t best_bytes = 0;
    for (size_t i = 0; i < conf->n; i++) {
        const struct conf_registry *r = &conf->list[i];
        size_t n = match(r->prefix, name);
        if (n > best_bytes || (n > 0 && n == best_bytes && is_nearer(r->prefix, best->prefix))) {
            best = r;
            best_bytes = n;
        }
    }
    *ret_bytes = best_bytes;
    return best;
}
