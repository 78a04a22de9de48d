/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes and reads image layouts and archives without a registry or a store:
 *
 *     layout_tool oci|oci-archive PATH put NAME...   an image for each name; a flush at the end
 *     layout_tool oci|oci-archive PATH each NAME...  the same, with a flush for each
 *     layout_tool oci|oci-archive PATH check         "NAME DIGEST" for each; every byte is hashed
 *
 * An image has a config and a layer of its own, and a layer that all images share; layers are tar
 * files of one file each, so that engines can load them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive/tar.h"
#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "oci/manifest.h"
#include "store/store.h"

static struct store_descriptor describe(const char *type, const void *data, size_t n)
{
    struct store_descriptor d = {.size_bytes = n};
    if (hash_of(LARDER_DIGEST_SHA256, data, n, &d.digest, NULL) < 0)
        abort();
    snprintf(d.media_type, sizeof(d.media_type), "%s", type);
    return d;
}

static int put_blob(struct store *s, const struct store_descriptor *blob, const void *data,
                    struct larder_error *e)
{
    struct blob_writer writer;
    bool exists = false;
    int r = s->ops->blob_begin(s, blob, &writer, &exists, e);
    if (r < 0 || exists)
        return r;
    if (fd_pwrite_full(writer.fd, data, (size_t)blob->size_bytes, writer.start) < 0)
        r = error_errno(e, errno, "write");
    if (r == 0)
        r = s->ops->blob_commit(s, blob, &writer, e);
    if (r < 0)
        s->ops->blob_abort(s, &writer, true);
    return r;
}

static void print_descriptor(struct buf *out, const struct store_descriptor *d)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    buf_printf(out, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%llu}", d->media_type,
               larder_digest_format(&d->digest, text), (unsigned long long)d->size_bytes);
}

static void make_layer(const char *name, const void *data, size_t n, struct buf *out)
{
    static const char zeros[3 * TAR_BLOCK];
    if (tar_head(name, n, out, NULL) < 0)
        abort();
    buf_append(out, data, n);
    buf_append(out, zeros, (size_t)tar_padded(n) - n + 2 * (size_t)TAR_BLOCK);
}

static int put_image(struct store *s, const char *name, struct larder_error *e)
{
    static char zeros[64 * 1024];
    struct buf out = BUF_INIT(1UL << 20), config = BUF_INIT(1UL << 20);
    struct buf shared = BUF_INIT(1UL << 20), own = BUF_INIT(1UL << 20);
    struct store_descriptor parts[3];
    char text[2][LARDER_DIGEST_TEXT_BYTES];
    make_layer("shared", zeros, sizeof(zeros), &shared);
    make_layer("own", name, strlen(name), &own);
    parts[1] = describe(OCI_TYPE_LAYER, shared.p, shared.n);
    parts[2] = describe(OCI_TYPE_LAYER, own.p, own.n);
    buf_printf(&config,
               "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},"
               "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"%s\",\"%s\"]}}",
               larder_digest_format(&parts[1].digest, text[0]),
               larder_digest_format(&parts[2].digest, text[1]));
    parts[0] = describe(OCI_TYPE_CONFIG, config.p, config.n);
    int r = put_blob(s, &parts[0], config.p, e);
    if (r == 0)
        r = put_blob(s, &parts[1], shared.p, e);
    if (r == 0)
        r = put_blob(s, &parts[2], own.p, e);
    buf_puts(&out, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"config\":");
    print_descriptor(&out, &parts[0]);
    buf_puts(&out, ",\"layers\":[");
    print_descriptor(&out, &parts[1]);
    buf_putc(&out, ',');
    print_descriptor(&out, &parts[2]);
    buf_puts(&out, "]}");
    if (r == 0) {
        struct store_descriptor manifest = describe(OCI_TYPE_MANIFEST, out.p, out.n);
        r = s->ops->manifest_put(s, &manifest, buf_slice(&out), &name, 1, e);
    }
    buf_done(&out);
    buf_done(&config);
    buf_done(&shared);
    buf_done(&own);
    return r;
}

/* ---- reading ---- */

struct reading {
    struct store *store;
    struct larder_error *e;
};

static int check_blob(struct store *s, const struct oci_descriptor *d, struct larder_error *e)
{
    struct store_descriptor blob = {.digest = d->digest, .size_bytes = d->size_bytes};
    struct larder_digest actual;
    struct store_extent extent;
    int r = s->ops->blob_extent(s, &blob, &extent, e);
    if (r < 0)
        return r;
    char *data = malloc(extent.n_bytes + 1);
    if (!data ||
        fd_pread_full(extent.fd, data, extent.n_bytes, extent.offset) != (ssize_t)extent.n_bytes)
        r = error_set(e, LARDER_IO, "cut off");
    if (r == 0)
        r = hash_of(d->digest.alg, data, extent.n_bytes, &actual, e);
    if (r == 0 && !larder_digest_equal(&actual, &d->digest))
        r = error_set(e, LARDER_CORRUPT, "other bytes");
    free(data);
    close(extent.fd);
    return r;
}

static int check_manifest(struct store *s, const char *ref, const struct larder_digest *digest,
                          struct store_descriptor *ret, struct larder_error *e)
{
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    CLEANUP(oci_manifest_freep) struct oci_manifest *manifest = NULL;
    int r = s->ops->manifest_get(s, ref, digest, &bytes, ret, e);
    if (r == 0)
        r = oci_manifest_parse(buf_slice(&bytes), ret->media_type, &manifest, e);
    if (r == 0 && manifest->kind == OCI_KIND_IMAGE)
        r = check_blob(s, &manifest->config, e);
    for (size_t i = 0; r == 0 && i < manifest->n_layers; i++)
        r = check_blob(s, &manifest->layers[i], e);
    for (size_t i = 0; r == 0 && i < manifest->n_manifests; i++) {
        struct store_descriptor member;
        r = check_manifest(s, NULL, &manifest->manifests[i].digest, &member, e);
    }
    buf_done(&bytes);
    return r;
}

static int check_ref(void *arg, const char *ref)
{
    struct reading *reading = arg;
    struct store_descriptor found;
    char text[LARDER_DIGEST_TEXT_BYTES];
    int r = check_manifest(reading->store, ref, NULL, &found, reading->e);
    if (r == 0)
        printf("%s %s\n", ref, larder_digest_format(&found.digest, text));
    return r;
}

int main(int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *s = NULL;
    if (argc < 4)
        return 2;
    bool is_archive = strcmp(argv[1], "oci-archive") == 0;
    bool is_check = strcmp(argv[3], "check") == 0, is_each = strcmp(argv[3], "each") == 0;
    unsigned flags = is_check ? 0 : STORE_OPEN_WRITE;
    int r = is_archive ? archive_open(argv[2], flags, NULL, &s, &e)
                       : layout_open(argv[2], flags, NULL, &s, &e);
    if (r == 0 && is_check) {
        struct reading reading = {s, &e};
        r = s->ops->each_ref(s, check_ref, &reading, &e);
    }
    for (int i = 4; r == 0 && !is_check && i < argc; i++) {
        r = put_image(s, argv[i], &e);
        if (r == 0 && (is_each || i == argc - 1))
            r = s->ops->flush(s, &e);
    }
    store_close(s);
    if (r < 0)
        fprintf(stderr, "layout_tool: %s\n", e.msg);
    return r < 0 ? 1 : 0;
}
