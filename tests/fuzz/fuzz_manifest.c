/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests and indexes, as a server sends them. The first byte chooses what was announced. What is
 * read and written again reads the same, and is written the same from then on.
 */
#include <string.h>

#include "fuzz.h"
#include "json/span.h"
#include "oci/manifest.h"
#include "oci/write.h"

static void check_descriptor(const struct oci_descriptor *d)
{
    struct larder_error e = LARDER_ERROR_INIT;
    char *data = NULL;
    FUZZ_CHECK(d->media_type && *d->media_type && strlen(d->media_type) < OCI_MEDIA_TYPE_BYTES);
    FUZZ_CHECK(larder_digest_is_identity(d->digest.alg));
    FUZZ_CHECK(d->size_bytes <= INT64_MAX);
    int r = oci_descriptor_data(d, &data, &e);
    FUZZ_CHECK((r == 0) == (data != NULL));
    FUZZ_CHECK(r == 0 || r == -LARDER_CORRUPT || (r == -LARDER_NOENT && !d->data));
    free(data);
}

static struct oci_manifest *read_again(const struct buf *text, const char *type)
{
    struct oci_manifest *m = NULL;
    FUZZ_CHECK(oci_manifest_parse(buf_slice(text), type, &m, NULL) == 0);
    return m;
}

static void write_index(const struct oci_manifest *m, struct buf *out)
{
    struct oci_index_entry *entries = calloc(m->n_manifests + 1, sizeof(*entries));
    FUZZ_CHECK(entries);
    for (size_t i = 0; i < m->n_manifests; i++)
        oci_index_entry_of(&m->manifests[i], &entries[i]);
    FUZZ_CHECK(oci_index_write(entries, m->n_manifests, false, m->annotations, out, NULL) == 0);
    free(entries);
}

static void check_index(const struct oci_manifest *m)
{
    struct buf first = BUF_INIT(64UL * 1024 * 1024);
    struct buf second = BUF_INIT(64UL * 1024 * 1024);
    write_index(m, &first);
    struct oci_manifest *again = read_again(&first, OCI_TYPE_INDEX);
    FUZZ_CHECK(again->n_manifests == m->n_manifests);
    for (size_t i = 0; i < m->n_manifests; i++) {
        check_descriptor(&m->manifests[i]);
        FUZZ_CHECK(larder_digest_equal(&m->manifests[i].digest, &again->manifests[i].digest));
        FUZZ_CHECK(m->manifests[i].has_platform == again->manifests[i].has_platform);
    }
    write_index(again, &second);
    FUZZ_CHECK(slice_equal(buf_slice(&first), buf_slice(&second)));
    oci_manifest_free(again);
    buf_done(&first);
    buf_done(&second);
}

static void check_image(const struct oci_manifest *m)
{
    struct buf out = BUF_INIT(64UL * 1024 * 1024);
    struct larder_error e = LARDER_ERROR_INIT;
    check_descriptor(&m->config);
    for (size_t i = 0; i < m->n_layers; i++)
        check_descriptor(&m->layers[i]);
    int r = oci_manifest_to_docker(m, &out, &e);
    FUZZ_CHECK(r == 0 || (r == -LARDER_INVAL && out.n == 0 && e.msg[0]));
    if (r == 0) {
        struct oci_manifest *again = read_again(&out, DOCKER_TYPE_MANIFEST);
        FUZZ_CHECK(again->is_docker && again->n_layers == m->n_layers);
        oci_manifest_free(again);
    }
    buf_done(&out);
}

/* The tree's node and the piece of text are of one kind and hold the same. */
static void check_same(const struct json *node, struct json_span span, unsigned depth)
{
    const char *at = NULL;
    struct json_span key;
    struct json_span one;
    size_t n = 0;
    FUZZ_CHECK(json_node_is_null(node) == json_span_is_null(span));
    FUZZ_CHECK(json_node_is_object(node) == json_span_is_object(span));
    FUZZ_CHECK(json_node_is_array(node) == json_span_is_array(span));
    FUZZ_CHECK(json_node_is_string(node) == json_span_is_string(span));
    if (json_span_is_string(span)) {
        char *text = malloc(span.n);
        FUZZ_CHECK(text);
        text[json_span_decode(span, text)] = '\0';
        FUZZ_CHECK(strcmp(text, json_text(node)) == 0);
        free(text);
    }
    if (depth == 0)
        return;
    while (json_span_next_member(span, &at, &key, &one)) {
        char *name = malloc(key.n);
        FUZZ_CHECK(name);
        name[json_span_decode(key, name)] = '\0';
        const char *const keys[] = {name};
        struct json_span found;
        json_span_fields(span, keys, 1, &found);
        FUZZ_CHECK(found.p == one.p || key.n > 200);
        check_same(json_get(node, name), one, depth - 1);
        free(name);
        n++;
    }
    while (json_span_is_array(span) && json_span_next(span, &at, &one))
        check_same(json_at(node, n++), one, depth - 1);
    FUZZ_CHECK(n == json_length(node));
}

/* Two readers, one verdict. */
static void check_readers(struct slice text)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_error e_tree = LARDER_ERROR_INIT;
    struct json *doc = NULL;
    struct json_span all = {NULL, 0};
    int r = json_check(text, OCI_MANIFEST_BYTES_MAX, &all, &e);
    int r_tree = json_parse(text, OCI_MANIFEST_BYTES_MAX, &doc, &e_tree);
    if (r != r_tree)
        FUZZ_CHECK(r == 0 ? strstr(e_tree.msg, "real number overflow") != NULL
                          : strstr(e.msg, "nested too deep") || strstr(e.msg, "too large"));
    if (r == 0 && r_tree == 0)
        check_same(doc, all, 5);
    json_free(doc);
}

static void check_config(struct slice text)
{
    struct json *doc = NULL;
    struct oci_platform p = {.os = NULL};
    struct buf out = BUF_INIT(8UL * 1024 * 1024);
    int r = oci_config_platform(text, &doc, &p, NULL);
    FUZZ_CHECK((r == 0) == (doc != NULL));
    if (r == 0) {
        FUZZ_CHECK(p.os || p.architecture);
        int distance = oci_platform_distance(&p, &p);
        FUZZ_CHECK(distance == 0 || distance == -1);
        oci_platform_format(&p, &out);
        FUZZ_CHECK(buf_failed(&out, NULL) == 0);
        buf_reset(&out);
        go_json_node(&out, doc);
        FUZZ_CHECK(buf_failed(&out, NULL) == 0);
    }
    json_free(doc);
    buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const claims[] = {NULL,
                                         OCI_TYPE_INDEX,
                                         OCI_TYPE_MANIFEST,
                                         DOCKER_TYPE_LIST,
                                         DOCKER_TYPE_MANIFEST,
                                         DOCKER_TYPE_SCHEMA1,
                                         "application/json"};
    struct larder_error e = LARDER_ERROR_INIT;
    struct oci_manifest *m = NULL;

    if (size == 0)
        return 0;
    struct slice text = {(const char *)data + 1, size - 1};
    const char *claim = claims[data[0] % ARRAY_LEN(claims)];
    int r = oci_manifest_parse(text, claim, &m, &e);
    FUZZ_CHECK((r == 0) == (m != NULL));
    FUZZ_CHECK((int)e.code == -r);
    check_config(text);
    check_readers(text);
    if (!m)
        return 0;
    if (m->has_subject)
        check_descriptor(&m->subject);
    if (m->kind == OCI_KIND_INDEX)
        check_index(m);
    else
        check_image(m);
    oci_manifest_free(m);
    return 0;
}
