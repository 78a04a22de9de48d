/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the image commands share: the options about a source and about getting an image, and how
 * an image is shown.
 */
#include <larder/image.h>

#include "cli/cli.h"
#include "cli/opt.h"
#include "cli/out.h"

/* Options that describe a source. */
struct image_source_args {
    const char *checksum;
    const char *keyring;
    const char *fingerprint;
    int64_t refresh_ns;
    const char *format;
    const char *unpack;
    bool allow_backing;
    const char *header_file;
};

#define IMAGE_SOURCE_OPTS(a)                                                                       \
    OPT_STRING(                                                                                    \
        'c', "checksum", &(a)->checksum, "DIGEST|URL|FILE",                                        \
        "what the image is checked against: a digest (sha256:...), or the URL or path of a "       \
        "checksum file; default: the usual files beside the source are tried"),                    \
        OPT_PATH(0, "keyring", &(a)->keyring, "FILE",                                              \
                 "require a good signature over the checksum file by a key of this gpgv keyring"), \
        OPT_STRING(0, "fingerprint", &(a)->fingerprint, "FINGERPRINT",                             \
                   "with --keyring: only this key, or a subkey of it, may have signed"),           \
        OPT_DURATION(0, "refresh", &(a)->refresh_ns, "AGE",                                        \
                     "ask upstream when its last answer is older: a time as 1h, always or never; " \
                     "default: image.refresh of the configuration"),                               \
        OPT_STRING(0, "format", &(a)->format, "FORMAT",                                            \
                   "refuse anything but this format (qcow2, raw, iso ...); default: by content"),  \
        OPT_ENUM(0, "unpack", &(a)->unpack, "auto|always|never",                                   \
                 "unpack gzip, xz, zstd or bzip2 while fetching; default: image.unpack of the "    \
                 "configuration"),                                                                 \
        OPT_FLAG(0, "allow-backing", &(a)->allow_backing,                                          \
                 "accept a qcow2 image that has a backing file"),                                  \
        OPT_PATH(                                                                                  \
            0, "header-file", &(a)->header_file, "FILE",                                           \
            "send the request headers in FILE (\"Name: value\" lines) to the source's origin; "    \
            "keeps credentials off the command line")

/* Options that say how current an image must be. */
struct image_get_args {
    bool require_fresh;
    bool offline;
    bool fresh;
};

#define IMAGE_GET_OPTS(a)                                                                    \
    OPT_FLAG(0, "fresh", &(a)->fresh, "ask upstream now, however young its last answer is"), \
        OPT_FLAG(0, "require-fresh", &(a)->require_fresh,                                    \
                 "fail with 8 when upstream cannot be asked, instead of warning"),           \
        OPT_FLAG(0, "offline", &(a)->offline, "use what is here and do not touch the network")

/* Fills the spec; the configuration is read for defaults. Strings are borrowed. */
int image_spec_fill(struct cli *cli, const struct image_source_args *args,
                    struct larder_image_spec *spec, struct larder_error *e);
/*
 * How the store is opened for this argument: made when it is missing only for a source, since a
 * name cannot be in a store that is not there (a mistyped LARDER_HOME must not make one).
 */
unsigned image_store_flags(const char *name_or_source);
/* Gets an image, making the store when it is missing, and says on stderr what had to be done.
 * source may be NULL. The caller gives *ret back with larder_image_result_done(). */
int image_get(struct cli *cli, const char *name_or_source, const struct image_get_args *args,
              const struct image_source_args *source, struct larder_image_result *ret,
              struct larder_error *e);
/* The fields of a result, into an open object. */
void image_result_json(struct doc *doc, const struct larder_image_result *result);

/* Names of entries, kept so that other calls can be made on each. */
struct name_list {
    char **names;
    size_t count;
    size_t capacity;
};
int name_list_read(struct larder_store *store, struct name_list *ret, struct larder_error *e);
void name_list_done(struct name_list *list);
