/* SPDX-License-Identifier: Apache-2.0 */
/* larder inspect: what an image is, in the words of skopeo. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/slice.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/remote.h"
#include "cli/template.h"
#include "json/json.h"

/* What the library gives at most. */
#define DOCUMENT_BYTES_MAX ((size_t)8 << 20)

static struct {
    bool raw;
    bool config;
    bool no_tags;
    const char *format;
    const char *platform;
    struct remote_args remote;
} args;

static const struct opt opts[] = {
    OPT_FLAG(0, "raw", &args.raw,
             "print the manifest or index as it is stored; with --config the configuration"),
    OPT_FLAG(0, "config", &args.config, "print the image's configuration"),
    OPT_STRING(0, "platform", &args.platform, "OS/ARCH",
               "which member of an index is meant (linux/arm64); default: this machine's"),
    OPT_STRING('f', "format", &args.format, "TEMPLATE",
               "print what a template of Go makes of the members, as '{{.Digest}}'"),
    OPT_FLAG('n', "no-tags", &args.no_tags, "do not list the tags of the repository"),
    REMOTE_OPTS(&args.remote),
    REMOTE_RETRY_OPT(&args.remote),
};

/* The members of what is printed, and what Go prints when one is not there. */
static const struct template_field fields[] = {
    {"Name", ""},        {"Digest", ""},       {"MediaType", ""},
    {"RepoTags", "[]"},  {"Created", ""},      {"DockerVersion", ""},
    {"Labels", "map[]"}, {"Architecture", ""}, {"Variant", ""},
    {"Os", ""},          {"Layers", "[]"},     {"LayersData", "[]"},
    {"Env", "[]"},       {"Tag", ""},          {NULL, NULL},
};

/* Everything that is looked at. */
struct inspected {
    struct larder_manifest top;    /* what the location names */
    struct larder_manifest member; /* of an index: the platform's; else empty */
    struct larder_manifest config;
    struct json *manifest_json; /* of the member or the top */
    struct json *config_json;
};

static void inspected_done(struct inspected *i)
{
    larder_manifest_done(&i->top);
    larder_manifest_done(&i->member);
    larder_manifest_done(&i->config);
    json_free(i->manifest_json);
    json_free(i->config_json);
}

static bool is_index(const char *media_type)
{
    return strcmp(media_type, "application/vnd.oci.image.index.v1+json") == 0 ||
           strcmp(media_type, "application/vnd.docker.distribution.manifest.list.v2+json") == 0;
}

/* A document that is none is not the user's mistake. */
static int malformed(const char *location, struct larder_error *e)
{
    if (e->code == LARDER_INVAL)
        e->code = remote_is_registry(location) ? LARDER_PROTO : LARDER_CORRUPT;
    return error_context(e, "%s", location);
}

static int parse(const struct larder_manifest *from, const char *location, struct json **ret,
                 struct larder_error *e)
{
    struct slice text = {from->bytes, from->n_bytes};

    return json_parse(text, DOCUMENT_BYTES_MAX, ret, e) < 0 ? malformed(location, e) : 0;
}

/* The config's bytes; NOENT when the manifest names none. */
static int get_config(const char *location, struct larder_store *store,
                      const struct larder_registry_options *options, struct inspected *i,
                      struct larder_error *e)
{
    const struct json *node = json_get(i->manifest_json, "config");
    const char *text = json_get_string(node, "digest");
    struct larder_digest digest;

    if (!text)
        return error_set(e, LARDER_NOENT, "%s: the manifest names no configuration", location);
    if (larder_digest_parse(text, strlen(text), &digest, e) < 0) {
        error_context(e, "configuration");
        return malformed(location, e);
    }
    return larder_manifest_blob(store, location, &digest, json_get_u64(node, "size", 0), options,
                                &i->config, e);
}

static int get(const char *location, struct larder_store *store,
               const struct larder_registry_options *options, struct inspected *i,
               struct larder_error *e)
{
    const struct larder_manifest *image = &i->top;
    char host[96];
    const char *platform = args.platform ? args.platform : remote_host_platform(host);
    bool is_top_enough = args.raw && !args.config && !args.platform;
    int rc = larder_manifest_get(store, location, NULL, options, &i->top, e);

    if (rc < 0 || is_top_enough)
        return rc;
    if (is_index(i->top.media_type)) {
        rc = larder_manifest_get(store, location, platform, options, &i->member, e);
        if (rc < 0)
            return rc;
        image = &i->member;
    }
    if (args.raw && !args.config)
        return 0;
    rc = parse(image, location, &i->manifest_json, e);
    return rc < 0 ? rc : get_config(location, store, options, i, e);
}

/* ---- printing ---- */

/* "HOST/NAME" of a registry's location, without tag and digest; false for other places. */
static bool put_name(const char *location, struct json *to)
{
    const char *start = location + strlen("docker://");
    const char *slash;
    char *name CLEANUP_FREE = NULL;

    if (!remote_is_registry(location))
        return true;
    name = strndup(start, strcspn(start, "@"));
    if (!name)
        return false;
    slash = strrchr(name, '/');
    if (strchr(slash ? slash : name, ':'))
        name[strrchr(name, ':') - name] = 0;
    return json_set_string(to, "Name", name) == 0;
}

static int add_tag(void *arg, const char *tag)
{
    return json_append(arg, json_new_string(tag));
}

/* The list of tags, as far as it can be had: registries may refuse it to who may pull. */
static int put_tags(struct cli *cli, const char *location, struct larder_store *store,
                    const struct larder_registry_options *options, struct json *to)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct json *tags = json_new_array();

    if (json_set(to, "RepoTags", tags) < 0)
        return -LARDER_NOMEM;
    if (args.no_tags || !remote_is_registry(location))
        return 0;
    if (larder_tags_each(store, location, options, add_tag, tags, &e) < 0) {
        if (e.code == LARDER_CANCELED || e.code == LARDER_OK)
            return -(int)(e.code == LARDER_OK ? LARDER_NOMEM : e.code);
        cli_say(cli, true, "the tags could not be listed: %s", e.msg);
    }
    return 0;
}

/* A member as it is; nothing when it is missing. */
static int put_as_is(struct json *to, const char *key, const struct json *from, const char *member)
{
    const struct json *node = json_get(from, member);

    return node ? json_set(to, key, json_share(node)) : 0;
}

static int put_layers(struct json *to, const struct json *manifest)
{
    const struct json *layers = json_get(manifest, "layers");
    struct json *digests = json_new_array();
    struct json *data = json_new_array();
    int rc = 0;

    for (size_t i = 0; i < json_length(layers); i++) {
        const struct json *layer = json_at(layers, i);
        const char *digest = json_get_string(layer, "digest");
        struct json *item = json_new_object();

        rc |= json_append(digests, json_new_string(digest ? digest : ""));
        rc |= json_set_string(item, "MIMEType", json_get_string(layer, "mediaType"));
        rc |= json_set_string(item, "Digest", digest);
        rc |= json_set_u64(item, "Size", json_get_u64(layer, "size", 0));
        rc |= put_as_is(item, "Annotations", layer, "annotations");
        rc |= json_append(data, item);
    }
    rc |= json_set(to, "Layers", digests);
    rc |= json_set(to, "LayersData", data);
    return rc;
}

static int put_config(struct json *to, const struct json *config)
{
    const struct json *inner = json_get(config, "config");
    int rc = 0;

    rc |= json_set_string(to, "Created", json_get_string(config, "created"));
    rc |= json_set_string(to, "DockerVersion", json_get_string(config, "docker_version"));
    rc |= put_as_is(to, "Labels", inner, "Labels");
    rc |= json_set_string(to, "Architecture", json_get_string(config, "architecture"));
    rc |= json_set_string(to, "Variant", json_get_string(config, "variant"));
    rc |= json_set_string(to, "Os", json_get_string(config, "os"));
    return rc;
}

static int print_format(const struct json *root, struct larder_error *e)
{
    struct buf out = BUF_INIT(DOCUMENT_BYTES_MAX);
    int rc = template_fill(args.format, fields, root, &out, e);

    if (rc == 0)
        fwrite(out.p, 1, out.n, stdout);
    buf_done(&out);
    return rc;
}

static int print_summary(struct cli *cli, const char *location, struct larder_store *store,
                         const struct larder_registry_options *options, struct inspected *i,
                         struct larder_error *e)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];
    struct json *root = json_new_object();
    int rc = put_name(location, root) ? 0 : -LARDER_NOMEM;

    rc |= json_set_string(root, "Digest", larder_digest_format(&i->top.digest, digest));
    rc |= json_set_string(root, "MediaType", i->top.media_type);
    if (rc == 0)
        rc = put_tags(cli, location, store, options, root);
    if (rc == 0) {
        rc |= put_config(root, i->config_json);
        rc |= put_layers(root, i->manifest_json);
        rc |= put_as_is(root, "Env", json_get(i->config_json, "config"), "Env");
    }
    if (rc == 0 && args.format) {
        rc = print_format(root, e);
        json_free(root);
        return rc;
    }
    if (rc == 0)
        rc = out_json(root);
    json_free(root);
    if (rc == -LARDER_CANCELED)
        return error_set(e, LARDER_CANCELED, "%s: interrupted", location);
    return rc < 0 ? error_nomem(e) : 0;
}

static int print(struct cli *cli, const char *location, struct larder_store *store,
                 const struct larder_registry_options *options, struct inspected *i,
                 struct larder_error *e)
{
    const struct larder_manifest *bytes = args.config       ? &i->config
                                          : i->member.bytes ? &i->member
                                                            : &i->top;
    int rc;

    if (args.raw) {
        fwrite(bytes->bytes, 1, bytes->n_bytes, stdout);
        return 0;
    }
    /* An artifact's configuration may be anything. */
    rc = parse(&i->config, location, &i->config_json, e);
    if (!args.config)
        return print_summary(cli, location, store, options, i, e);
    if (rc < 0)
        return rc;
    return out_json(i->config_json) < 0 ? error_nomem(e) : 0;
}

/* Before anything is asked. */
static int check_format(struct larder_error *e)
{
    if (!args.format)
        return 0;
    if (args.raw || args.config)
        return error_set(e, LARDER_INVAL,
                         "inspect: found --format with --raw or --config, expected one of them");
    return template_fill(args.format, fields, NULL, NULL, e);
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct remote remote CLEANUP(remote_done) = REMOTE_INIT;
    struct inspected inspected CLEANUP(inspected_done) = {.manifest_json = NULL};
    struct larder_store *store = NULL;

    (void)argc;
    if (remote_check_location(argv[0], &e) < 0 || check_format(&e) < 0 ||
        remote_fill(cli, "inspect", NULL, &args.remote, &remote, &e) < 0 ||
        remote_store(cli, (const char *const *)argv, 1, false, &store, &e) < 0 ||
        get(argv[0], store, &remote.options, &inspected, &e) < 0 ||
        print(cli, argv[0], store, &remote.options, &inspected, &e) < 0)
        return cli_fail(cli, &e);
    return 0;
}

const struct command command_inspect = {
    .name = "inspect",
    .group = COMMAND_GROUP_REGISTRIES,
    .summary = "show what an image is, without fetching it",
    .about = "Prints a JSON document with the members that skopeo prints: Name, Digest, RepoTags, "
             "Created, Labels, Architecture, Os, Layers, LayersData, Env. Of an index, Digest is "
             "the index's and the rest is of the member for --platform.",
    .usage = "LOCATION",
    .min_words = 1,
    .max_words = 1,
    .words = COMMAND_WORDS_LOCATION,
    .opts = OPT_SET(opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(8),
    .run = run,
};
