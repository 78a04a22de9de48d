/* SPDX-License-Identifier: Apache-2.0 */
#include "update/base/ostree_readable.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "json/json.h"
#include "oci/manifest.h"

enum shape { TEXT, TEXTS, TEXT_MAP, EMPTY_MAP, FLAG, NUMBER, DIGEST, OBJECT };

struct member {
    const char *key;
    enum shape shape;
    bool is_required; /* else null, too, is fine */
};

static const struct member manifest_members[] = {
    {"schemaVersion", NUMBER, true}, {"mediaType", TEXT, false}, {"artifactType", TEXT, false},
    {"config", OBJECT, true},        {"subject", OBJECT, false}, {"annotations", TEXT_MAP, false},
};
static const struct member descriptor_members[] = {
    {"mediaType", TEXT, true},        {"digest", DIGEST, true},    {"size", NUMBER, true},
    {"urls", TEXTS, false},           {"platform", OBJECT, false}, {"artifactType", TEXT, false},
    {"annotations", TEXT_MAP, false}, {"data", TEXT, false},
};
static const struct member platform_members[] = {
    {"architecture", TEXT, true},  {"os", TEXT, true},       {"os.version", TEXT, false},
    {"os.features", TEXTS, false}, {"variant", TEXT, false}, {"features", TEXTS, false},
};
static const struct member image_members[] = {
    {"created", TEXT, false}, {"author", TEXT, false},     {"architecture", TEXT, true},
    {"os", TEXT, true},       {"os.version", TEXT, false}, {"os.features", TEXTS, false},
    {"variant", TEXT, false}, {"config", OBJECT, false},   {"rootfs", OBJECT, true},
};
static const struct member rootfs_members[] = {{"type", TEXT, true}, {"diff_ids", TEXTS, true}};
static const struct member config_members[] = {
    {"User", TEXT, false},       {"ExposedPorts", EMPTY_MAP, false},
    {"Env", TEXTS, false},       {"Entrypoint", TEXTS, false},
    {"Cmd", TEXTS, false},       {"Volumes", EMPTY_MAP, false},
    {"WorkingDir", TEXT, false}, {"Labels", TEXT_MAP, false},
    {"StopSignal", TEXT, false},
};
static const struct member history_members[] = {
    {"created", TEXT, false}, {"author", TEXT, false},      {"created_by", TEXT, false},
    {"comment", TEXT, false}, {"empty_layer", FLAG, false},
};

static int refuse(struct larder_error *e, const char *where, const char *key)
{
    return error_set(e, LARDER_UNSUPPORTED, "%s%s%s: ostree-ext can't read it", where,
                     *where ? "." : "", key);
}

static int no_text(void *arg, const char *key, const struct json *value)
{
    (void)arg;
    (void)key;
    return json_text(value) ? 0 : 1;
}

static int no_empty(void *arg, const char *key, const struct json *value)
{
    (void)arg;
    (void)key;
    return json_node_is_object(value) ? 0 : 1;
}

static bool is_texts(const struct json *node)
{
    bool is_good = json_node_is_array(node);

    for (size_t i = 0; is_good && i < json_length(node); i++)
        is_good = json_text(json_at(node, i)) != NULL;
    return is_good;
}

/* Upper-case digits name the same thing here, and nothing there. */
static bool is_digest(const char *text)
{
    return text && strncmp(text, "sha", 3) == 0 && !strpbrk(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

/* A getter gives its default for what is of another type. */
static bool has_shape(const struct json *object, const struct member *m)
{
    const struct json *node = json_get(object, m->key);

    switch (m->shape) {
    case TEXT:
        return json_text(node) != NULL;
    case TEXTS:
        return is_texts(node);
    case TEXT_MAP:
        return json_node_is_object(node) && json_each(node, no_text, NULL) == 0;
    case EMPTY_MAP:
        return json_node_is_object(node) && json_each(node, no_empty, NULL) == 0;
    case FLAG:
        return json_get_bool(object, m->key, false) == json_get_bool(object, m->key, true);
    case NUMBER:
        return json_get_u64(object, m->key, 1) == json_get_u64(object, m->key, 2);
    case DIGEST:
        return is_digest(json_text(node));
    case OBJECT:
        return json_node_is_object(node);
    }
    return false;
}

static int check_members(const struct json *object, const char *where, const struct member *members,
                         size_t n, struct larder_error *e)
{
    if (!json_node_is_object(object))
        return refuse(e, "", *where ? where : "document");
    for (size_t i = 0; i < n; i++) {
        bool may_be_null = !members[i].is_required;
        if (may_be_null && json_node_is_null(json_get(object, members[i].key)))
            continue;
        if (!has_shape(object, &members[i]))
            return refuse(e, where, members[i].key);
    }
    return 0;
}
#define CHECK_MEMBERS(object, where, members, e) \
    check_members(object, where, members, ARRAY_LEN(members), e)

static int check_descriptor(const struct json *node, const char *where, struct larder_error *e)
{
    const struct json *platform = json_get(node, "platform");
    int r = CHECK_MEMBERS(node, where, descriptor_members, e);

    if (r == 0 && !json_node_is_null(platform))
        r = CHECK_MEMBERS(platform, "platform", platform_members, e);
    return r;
}

int ostree_readable_manifest(struct slice manifest, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    int r = json_parse(manifest, OCI_MANIFEST_BYTES_MAX, &document, e);

    if (r == 0)
        r = CHECK_MEMBERS(document, "", manifest_members, e);
    if (r == 0)
        r = check_descriptor(json_get(document, "config"), "config", e);
    if (r == 0 && !json_node_is_null(json_get(document, "subject")))
        r = check_descriptor(json_get(document, "subject"), "subject", e);
    const struct json *layers = json_get(document, "layers");
    if (r == 0 && !json_node_is_array(layers))
        r = refuse(e, "", "layers");
    for (size_t i = 0; r == 0 && i < json_length(layers); i++)
        r = check_descriptor(json_at(layers, i), "layers", e);
    return r;
}

/* ---- configurations ---- */

static int check_history(const struct json *history, struct larder_error *e)
{
    int r = json_node_is_array(history) ? 0 : refuse(e, "", "history");

    for (size_t i = 0; r == 0 && i < json_length(history); i++)
        r = CHECK_MEMBERS(json_at(history, i), "history", history_members, e);
    return r;
}

static bool is_missing(const struct json *object, const char *key)
{
    return json_node_is_null(json_get(object, key));
}

/* A member, else what is given, which is taken over. */
static struct json *share_or(const struct json *object, const char *key, struct json *otherwise)
{
    if (is_missing(object, key))
        return otherwise;
    json_free(otherwise);
    return json_share(json_get(object, key));
}

/* As Go leaves them when nobody set them. 1: something was put in. */
static int complete(struct json *document, struct larder_error *e)
{
    int r = 0;
    bool is_changed = false;

    if (!json_node_is_object(document))
        return refuse(e, "", "document");
    for (size_t i = 0; i < ARRAY_LEN(image_members); i++) {
        const struct member *m = &image_members[i];
        if (m->is_required && m->shape == TEXT && is_missing(document, m->key)) {
            r |= json_set_string(document, m->key, "");
            is_changed = true;
        }
    }
    const struct json *rootfs = json_get(document, "rootfs");
    bool is_whole = !is_missing(rootfs, "type") && !is_missing(rootfs, "diff_ids");
    if (json_node_is_null(rootfs) || (json_node_is_object(rootfs) && !is_whole)) {
        struct json *made = json_new_object();
        r |= json_set(made, "type", share_or(rootfs, "type", json_new_string("layers")));
        r |= json_set(made, "diff_ids", share_or(rootfs, "diff_ids", json_new_array()));
        r |= json_set(document, "rootfs", made);
        is_changed = true;
    }
    if (is_missing(document, "history")) {
        r |= json_set(document, "history", json_new_array());
        is_changed = true;
    }
    return r ? error_nomem(e) : is_changed;
}

int ostree_readable_config(struct slice config, struct buf *out, struct larder_error *e)
{
    CLEANUP(json_freep) struct json *document = NULL;
    int r = json_parse(config, OCI_MANIFEST_BYTES_MAX, &document, e);
    int completed = r < 0 ? r : complete(document, e);

    if (completed < 0)
        return completed;
    r = CHECK_MEMBERS(document, "", image_members, e);
    if (r == 0)
        r = CHECK_MEMBERS(json_get(document, "rootfs"), "rootfs", rootfs_members, e);
    if (r == 0 && !is_missing(document, "config"))
        r = CHECK_MEMBERS(json_get(document, "config"), "config", config_members, e);
    if (r == 0)
        r = check_history(json_get(document, "history"), e);
    if (r < 0)
        return r;
    if (completed)
        return json_dump_ordered(document, out, e);
    buf_append_slice(out, config);
    return buf_failed(out, e);
}
