/* SPDX-License-Identifier: Apache-2.0 */
#include "image/format/backing.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "json/json.h"

/* "file.file.file..." deeper than any stack of filters in use. */
#define JSON_DEPTH_MAX 6
/* The longest path that is looked up, with its NUL. */
#define LAYER_PATH_BYTES (JSON_DEPTH_MAX * sizeof("file.") + sizeof("filename"))
/* qcow2 limits names to 1023 bytes; other callers may have more. */
#define JSON_BYTES_MAX 4096

/* As QEMU sees it: a ':' before the first '/'. */
static bool has_protocol(struct slice name)
{
    const char *colon = memchr(name.p, ':', name.n);
    const char *slash = memchr(name.p, '/', name.n);

    return colon && (!slash || colon < slash);
}

static struct slice skip_dot_slash(struct slice path)
{
    while (slice_starts(path, SLICE_LIT("./")))
        path = (struct slice){path.p + 2, path.n - 2};
    return path;
}

static int local_path(struct slice path, const char *overlay_dir, char **ret,
                      struct larder_error *e)
{
    struct buf out = BUF_INIT(BACKING_PATH_BYTES_MAX);

    if (path.p[0] != '/') {
        buf_puts(&out, overlay_dir);
        if (out.n == 0 || out.p[out.n - 1] != '/')
            buf_putc(&out, '/');
        path = skip_dot_slash(path);
    }
    buf_append_slice(&out, path);
    int r = buf_failed(&out, e);
    if (r >= 0)
        *ret = buf_take(&out);
    buf_done(&out);
    return r < 0 ? r : 0;
}

/* A ':' before the first '/' and a name of a file behind "file:" are read as QEMU reads them. */
static enum backing_kind classify(struct slice *name)
{
    static const struct slice file = SLICE_INIT("file:");

    if (slice_starts(*name, file))
        *name = (struct slice){name->p + file.n, name->n - file.n};
    else if (name->n > 0 && has_protocol(*name))
        return BACKING_REMOTE;
    return name->n == 0 ? BACKING_NONE : BACKING_LOCAL;
}

static bool is_one_of(const char *text, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(text, list[i]) == 0)
            return true;
    }
    return false;
}

static bool is_remote_driver(const char *driver)
{
    static const char *const drivers[] = {"nbd", "http", "https", "ftp",     "ftps", "rbd",
                                          "ssh", "nfs",  "iscsi", "gluster", "nvme", "null-co"};

    return is_one_of(driver, drivers, ARRAY_LEN(drivers));
}

static bool is_local_driver(const char *driver)
{
    static const char *const drivers[] = {"file", "host_device", "host_cdrom"};

    return is_one_of(driver, drivers, ARRAY_LEN(drivers));
}

/*
 * String at a dotted path: QEMU takes {"file": {"filename": x}} and {"file.filename": x} alike, in
 * any mixture. The path has at most JSON_DEPTH_MAX dots, which bounds the recursion.
 */
static const char *string_at(const struct json *node, const char *path)
{
    const char *found = json_get_string(node, path);

    for (const char *dot = strchr(path, '.'); !found && dot; dot = strchr(dot + 1, '.')) {
        char key[LAYER_PATH_BYTES];
        size_t n = (size_t)(dot - path);
        memcpy(key, path, n);
        key[n] = '\0';
        const struct json *child = json_get(node, key);
        if (child && json_node_is_object(child))
            found = string_at(child, dot + 1);
    }
    return found;
}

/* Non-zero when the image would need a second file beside the one we look for. */
static int is_other_file(void *arg, const char *key, const struct json *value)
{
    static const struct slice others[] = {SLICE_INIT("backing"), SLICE_INIT("data-file"),
                                          SLICE_INIT("children"), SLICE_INIT("x-image")};
    (void)arg;

    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct slice k = slice_of(key);
        if (!slice_starts(k, others[i]))
            continue;
        /* "backing": null says that there is none. */
        if (k.n > others[i].n ? k.p[others[i].n] == '.'
                              : json_node_is_object(value) || json_node_is_array(value) ||
                                    json_node_is_string(value))
            return 1;
    }
    return 0;
}

/* String `key` of the layer that is depth "file" members down. */
static const char *string_of_layer(const struct json *document, size_t depth, const char *key)
{
    char path[LAYER_PATH_BYTES];
    size_t n = 0;

    for (; depth > 0; depth--, n += strlen("file."))
        memcpy(path + n, "file.", strlen("file."));
    memcpy(path + n, key, strlen(key) + 1);
    return string_at(document, path);
}

/* *ret_name points into the document when LOCAL. */
static enum backing_kind classify_json(const struct json *document, struct slice *ret_name)
{
    if (!json_node_is_object(document) || json_each(document, is_other_file, NULL) != 0)
        return BACKING_UNKNOWN;
    for (size_t depth = 0; depth <= JSON_DEPTH_MAX; depth++) {
        const char *driver = string_of_layer(document, depth, "driver");
        if (driver && is_remote_driver(driver))
            return BACKING_REMOTE;
        const char *name = string_of_layer(document, depth, "filename");
        if (name) {
            *ret_name = slice_of(name);
            if (!driver)
                return classify(ret_name);
            return is_local_driver(driver) && *name ? BACKING_LOCAL : BACKING_UNKNOWN;
        }
    }
    return BACKING_UNKNOWN;
}

int backing_resolve(struct slice name, const char *overlay_dir, enum backing_kind *ret_kind,
                    char **ret_path, struct larder_error *e)
{
    static const struct slice json = SLICE_INIT("json:");
    CLEANUP(json_freep) struct json *document = NULL;
    enum backing_kind kind;
    char *path = NULL;
    int r;

    if (slice_starts(name, json)) {
        r = json_parse((struct slice){name.p + json.n, name.n - json.n}, JSON_BYTES_MAX, &document,
                       NULL);
        if (r == -LARDER_NOMEM)
            return error_nomem(e);
        kind = classify_json(document, &name);
    } else {
        kind = classify(&name);
    }
    if (kind == BACKING_LOCAL) {
        r = local_path(name, overlay_dir, &path, e);
        if (r < 0)
            return r;
    }
    *ret_kind = kind;
    *ret_path = path;
    return 0;
}
