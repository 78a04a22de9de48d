/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What tests of the stores for images do again and again. Included after scratch.h and cmocka. */
#include <sys/stat.h>

#include "base/buf.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "store/store.h"

#define assert_ok(r, e)                   \
    do {                                  \
        int r_ = (r);                     \
        if (r_ < 0)                       \
            print_error("%s\n", (e).msg); \
        assert_true(r_ >= 0);             \
    } while (0)

static inline struct store_descriptor descriptor_of(const char *type, const void *bytes, size_t n)
{
    struct store_descriptor d = {0};
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, bytes, n, &d.digest, NULL), 0);
    d.size_bytes = n;
    snprintf(d.media_type, sizeof(d.media_type), "%s", type);
    return d;
}

/* Begins, writes and commits; whether it was there. */
static inline bool put_blob(struct store *s, const void *bytes, size_t n,
                            struct store_descriptor *ret)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct blob_writer writer;
    bool exists = false;
    *ret = descriptor_of("application/octet-stream", bytes, n);
    assert_ok(s->ops->blob_begin(s, ret, &writer, &exists, &e), e);
    if (exists)
        return true;
    assert_int_equal(fd_pwrite_full(writer.fd, bytes, n, writer.start), 0);
    assert_ok(s->ops->blob_commit(s, ret, &writer, &e), e);
    return false;
}

/* An image of two blobs that has the text in it; name NULL: no name. */
static inline struct store_descriptor put_image(struct store *s, const char *text, const char *name)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store_descriptor config, layer, manifest;
    char hex[2][LARDER_DIGEST_TEXT_BYTES];
    struct buf out = BUF_INIT(64UL * 1024);
    buf_printf(&out,
               "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},"
               "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]},\"author\":\"%s\"}",
               text);
    put_blob(s, out.p, out.n, &config);
    put_blob(s, text, strlen(text), &layer);
    buf_reset(&out);
    buf_printf(&out,
               "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\","
               "\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG "\",\"digest\":\"%s\",\"size\":%llu},"
               "\"layers\":[{\"mediaType\":\"" OCI_TYPE_LAYER "\",\"digest\":\"%s\","
               "\"size\":%llu}]}",
               larder_digest_format(&config.digest, hex[0]), (unsigned long long)config.size_bytes,
               larder_digest_format(&layer.digest, hex[1]), (unsigned long long)layer.size_bytes);
    manifest = descriptor_of(OCI_TYPE_MANIFEST, out.p, out.n);
    assert_ok(s->ops->manifest_put(s, &manifest, buf_slice(&out), &name, name ? 1 : 0, &e), e);
    buf_done(&out);
    return manifest;
}

/* An index of those, put by names. */
static inline struct store_descriptor
put_index(struct store *s, const struct store_descriptor *members, size_t n, const char *name)
{
    struct larder_error e = LARDER_ERROR_INIT;
    char text[LARDER_DIGEST_TEXT_BYTES];
    struct buf out = BUF_INIT(4UL * 1024 * 1024);
    buf_puts(&out, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[");
    for (size_t i = 0; i < n; i++)
        buf_printf(&out, "%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%llu}", i ? "," : "",
                   members[i].media_type, larder_digest_format(&members[i].digest, text),
                   (unsigned long long)members[i].size_bytes);
    buf_puts(&out, "]}");
    struct store_descriptor index = descriptor_of(OCI_TYPE_INDEX, out.p, out.n);
    assert_ok(s->ops->manifest_put(s, &index, buf_slice(&out), &name, name ? 1 : 0, &e), e);
    buf_done(&out);
    return index;
}

static inline void put_referrer(struct store *s, const struct store_descriptor *subject,
                                const char *type, struct store_descriptor *ret)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store_descriptor empty;
    char text[2][LARDER_DIGEST_TEXT_BYTES];
    struct buf out = BUF_INIT(64UL * 1024);
    put_blob(s, "{}", 2, &empty);
    buf_printf(&out,
               "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_MANIFEST "\","
               "\"artifactType\":\"%s\",\"config\":{\"mediaType\":\"" OCI_TYPE_EMPTY "\","
               "\"digest\":\"%s\",\"size\":2},\"layers\":[],\"subject\":{\"mediaType\":\"%s\","
               "\"digest\":\"%s\",\"size\":%llu},\"annotations\":{\"k\":\"v\"}}",
               type, larder_digest_format(&empty.digest, text[0]), subject->media_type,
               larder_digest_format(&subject->digest, text[1]),
               (unsigned long long)subject->size_bytes);
    *ret = descriptor_of(OCI_TYPE_MANIFEST, out.p, out.n);
    assert_ok(s->ops->manifest_put(s, ret, buf_slice(&out), NULL, 0, &e), e);
    buf_done(&out);
}

/* Names, each followed by a blank. */
static inline int append_name(void *arg, const char *ref)
{
    buf_printf(arg, "%s ", ref);
    return 0;
}

static inline char *names_of(struct store *s)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf out = BUF_INIT(1024UL * 1024);
    assert_ok(s->ops->each_ref(s, append_name, &out, &e), e);
    return buf_take(&out);
}

static inline char *file_text(int dirfd, const char *name)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf out = BUF_INIT(64UL * 1024 * 1024);
    assert_ok(file_read(dirfd, name, &out, &e), e);
    return buf_take(&out);
}

static inline void file_put(int dirfd, const char *name, const char *text)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

static inline const char *blob_path(const struct larder_digest *digest)
{
    static char path[256];
    char hex[LARDER_DIGEST_TEXT_BYTES];
    snprintf(path, sizeof(path), "blobs/%s/%s", larder_digest_alg_name(digest->alg),
             larder_digest_hex(digest, hex));
    return path;
}
