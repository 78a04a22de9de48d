/* SPDX-License-Identifier: Apache-2.0 */
/* larder image: the group, and what its commands (image_<verb>.c) share. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/image/image.h"

const struct command command_image = {
    .name = "image",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "keep disk images verified and current, and hand them out",
    .about = "An entry is a name with a source (a URL or a path). What is fetched from there is "
             "checked against the publisher's checksums, kept read-only under its digest, and "
             "replaced beside the old one when upstream publishes another.",
    .usage = "",
};

int image_spec_fill(struct cli *cli, const struct image_source_args *args,
                    struct larder_image_spec *spec, struct larder_error *e)
{
    const struct config *config = NULL;
    int rc = cli_config(cli, &config, e);

    if (rc < 0)
        return rc;
    spec->checksum = args->checksum;
    spec->keyring = args->keyring;
    spec->fingerprint = args->fingerprint;
    spec->refresh_ns = cli_ns(cli, args->refresh_ns, CONFIG_image_refresh);
    spec->format = args->format;
    spec->unpack = args->unpack ? args->unpack : config_text(config, CONFIG_image_unpack);
    spec->allow_backing = args->allow_backing;
    spec->header_file = args->header_file;
    return 0;
}

static void say_how(struct cli *cli, const struct larder_image_result *result)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];
    char size[32];

    if (result->how == LARDER_IMAGE_HIT || result->how == LARDER_IMAGE_STALE_OK)
        return; /* the library has warned about the latter */
    cli_say(cli, false, "%s: %s %s, %s", result->name, larder_image_how_name(result->how),
            size_format(result->size_bytes, size), larder_digest_format(&result->digest, digest));
    if (result->previous_path)
        cli_say(cli, false, "%s: the one before stays at %s for those who use it", result->name,
                result->previous_path);
}

unsigned image_store_flags(const char *name_or_source)
{
    return strchr(name_or_source, '/') ? LARDER_STORE_CREATE : 0;
}

int image_get(struct cli *cli, const char *name_or_source, const struct image_get_args *args,
              const struct image_source_args *source, struct larder_image_result *ret,
              struct larder_error *e)
{
    struct larder_image_get_options options = LARDER_IMAGE_GET_OPTIONS_INIT;
    struct larder_image_spec spec = LARDER_IMAGE_SPEC_INIT;
    struct image_source_args defaults = {.refresh_ns = OPT_NS_UNSET};
    struct larder_store *store = NULL;
    int rc;

    rc = cli_store_to_read(cli, image_store_flags(name_or_source), &store, e);
    if (rc == 0)
        rc = image_spec_fill(cli, source ? source : &defaults, &spec, e);
    if (rc < 0)
        return rc;
    options.require_fresh = args->require_fresh;
    options.offline = args->offline;
    options.refresh = args->fresh;
    options.spec = &spec;
    rc = larder_image_get(store, name_or_source, &options, ret, e);
    if (rc == 0)
        say_how(cli, ret);
    return rc;
}

void image_result_json(struct doc *doc, const struct larder_image_result *result)
{
    doc_text(doc, "name", result->name);
    doc_text(doc, "path", result->path);
    doc_digest(doc, "digest", &result->digest);
    doc_number(doc, "size_bytes", result->size_bytes);
    doc_text(doc, "format", result->format);
    doc_text(doc, "how", larder_image_how_name(result->how));
    doc_text(doc, "verdict", larder_verdict_name(result->verdict));
    doc_text(doc, "previous_path", result->previous_path);
}

static int name_list_add(void *arg, const char *name)
{
    struct name_list *list = arg;

    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        char **names = reallocarray(list->names, capacity, sizeof(*names));

        if (!names)
            return -LARDER_NOMEM;
        list->names = names;
        list->capacity = capacity;
    }
    list->names[list->count] = strdup(name);
    if (!list->names[list->count])
        return -LARDER_NOMEM;
    list->count++;
    return 0;
}

int name_list_read(struct larder_store *store, struct name_list *ret, struct larder_error *e)
{
    struct name_list list = {0};
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = larder_image_each(store, name_list_add, &list, &why);

    if (rc < 0) {
        name_list_done(&list);
        if (why.code == LARDER_OK) /* the walk was ended by name_list_add */
            return error_nomem(e);
        if (e)
            *e = why;
        return rc;
    }
    *ret = list;
    return 0;
}

void name_list_done(struct name_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->names[i]);
    free(list->names);
    *list = (struct name_list){0};
}
