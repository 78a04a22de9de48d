/* SPDX-License-Identifier: Apache-2.0 */
/* larder_publish against the scripted registry: what is asked, what is sent, in which order. */
#include "registry_server.h"

#include <larder/publish.h>

#include "base/text.h"
#include "json/json.h"
#include "oci/media_type.h"

static struct registry_server server;

#define MEMBERS_MAX 4

/* Images of the repository "src" at the server, and where they are. */
static char locations[MEMBERS_MAX][200];
static const char *images[MEMBERS_MAX];

static void make_images(const char *seed)
{
    static const char *const platforms[MEMBERS_MAX] = {"linux/amd64", "linux/arm64/v8",
                                                       "linux/s390x", "linux/ppc64le"};
    char spec[400];
    struct buf answer = BUF_INIT(1 << 20);
    struct json *document = NULL;
    snprintf(spec, sizeof(spec),
             "{\"repo\": \"src\", \"seed\": \"%s\", \"tag\": \"all\", \"platforms\": [\"%s\", "
             "\"%s\", \"%s\", \"%s\"]}",
             seed, platforms[0], platforms[1], platforms[2], platforms[3]);
    assert_int_equal(
        registry_server_ask(&server, "POST", "/_image", "-", spec, strlen(spec), &answer), 200);
    assert_int_equal(json_parse(buf_slice(&answer), 1 << 20, &document, NULL), 0);
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        snprintf(locations[i], sizeof(locations[i]), "docker://127.0.0.1:%d/src@%s", server.port,
                 json_get_string(json_get(document, "members"), platforms[i]));
        images[i] = locations[i];
    }
    json_free(document);
    buf_done(&answer);
}

/* Options with the first n images for docker://HOST/NAME. */
static struct larder_publish_options options_for(const char *name, size_t n,
                                                 const char *const *tags, size_t n_tags)
{
    static char repository[200];
    static struct larder_net_options net = LARDER_NET_OPTIONS_INIT;
    static struct larder_registry_options registry = LARDER_REGISTRY_OPTIONS_INIT;
    struct larder_publish_options options = LARDER_PUBLISH_OPTIONS_INIT;
    net.stall_timeout_ns = 3600LL * 1000 * 1000 * 1000; /* the test's own limit is shorter */
    registry.is_anonymous = true;
    registry.net = &net;
    snprintf(repository, sizeof(repository), "127.0.0.1:%d/%s", server.port, name);
    options.repository = repository;
    options.images = images;
    options.n_images = n;
    options.tags = tags;
    options.n_tags = n_tags;
    options.registry = &registry;
    return options;
}

static struct larder_publish_result publish(const struct larder_publish_options *options)
{
    struct larder_publish_result result = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    assert_int_equal(registry_server_ask(&server, "DELETE", "/_log", "-", "", 0, NULL), 200);
    if (larder_publish(NULL, options, &result, &e) < 0)
        fail_msg("%s", e.msg);
    return result;
}

static void refused(const struct larder_publish_options *options, enum larder_code code,
                    const char *text)
{
    struct larder_publish_result result = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    assert_int_equal(registry_server_ask(&server, "DELETE", "/_log", "-", "", 0, NULL), 200);
    assert_int_equal(larder_publish(NULL, options, &result, &e), -(int)code);
    if (!strstr(e.msg, text))
        fail_msg("\"%s\" is not in: %s", text, e.msg);
    assert_null(result.tags);
    /* Nothing was written. */
    assert_int_equal(registry_server_count(&server, "PUT /v2/"), 0);
    assert_int_equal(registry_server_count(&server, "POST /v2/"), 0);
}

static void assert_action(struct larder_publish_result *result, enum larder_publish_action action,
                          int requests)
{
    assert_string_equal(larder_publish_action_name(result->action),
                        larder_publish_action_name(action));
    if (requests >= 0) {
        assert_int_equal(registry_server_count(&server, ""), requests);
        assert_int_equal(result->requests, requests);
    }
    larder_publish_result_done(result);
}

/* What a tag points to, as a document. */
static struct json *tag_of(const char *name, const char *tag)
{
    char path[200];
    struct buf body = BUF_INIT(8 << 20);
    struct json *document = NULL;
    snprintf(path, sizeof(path), "/_manifest/%s/%s", name, tag);
    assert_int_equal(registry_server_ask(&server, "GET", path, "-", "", 0, &body), 200);
    assert_int_equal(json_parse(buf_slice(&body), 8 << 20, &document, NULL), 0);
    buf_done(&body);
    return document;
}

/* Digests of a list's members, in order: "amd64 arm64". */
static void assert_arches(const char *name, const char *tag, const char *expected)
{
    struct json *list = tag_of(name, tag);
    struct buf arches = BUF_INIT(1000);
    for (size_t i = 0; i < json_length(json_get(list, "manifests")); i++) {
        const struct json *member = json_at(json_get(list, "manifests"), i);
        buf_printf(&arches, "%s%s", i ? " " : "",
                   json_get_string(json_get(member, "platform"), "architecture"));
    }
    assert_string_equal(arches.p ? arches.p : "", expected);
    buf_done(&arches);
    json_free(list);
}

static void put_manifest(const char *name, const char *tag, const char *type, const char *text)
{
    char path[200];
    snprintf(path, sizeof(path), "/_manifest/%s/%s", name, tag);
    assert_true(registry_server_ask(&server, "PUT", path, type, text, strlen(text), NULL) < 300);
}

static const char *const one[] = {"1"}, *const two[] = {"stable", "1.0"};

static void once_and_again(void **state __attribute__((unused)))
{
    struct larder_publish_options options = options_for("app", 2, two, 2);
    struct larder_publish_result result;
    char first[LARDER_DIGEST_TEXT_BYTES], second[LARDER_DIGEST_TEXT_BYTES];
    options.dry_run = true;
    result = publish(&options);
    larder_digest_format(&result.digest, first);
    assert_int_equal(registry_server_count(&server, "PUT"), 0);
    assert_int_equal(registry_server_count(&server, "POST"), 0);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);

    options.dry_run = false;
    result = publish(&options);
    assert_string_equal(larder_digest_format(&result.digest, second), first);
    assert_int_equal(result.n_tags, 2);
    assert_string_equal(result.tags[0].tag, "stable");
    assert_string_equal(result.tags[0].why, "absent");
    assert_true(result.tags[1].is_changed);
    assert_int_equal(result.n_images, 2);
    assert_string_equal(result.images[0].platform, "linux/amd64");
    assert_int_equal(result.blobs_copied + result.blobs_mounted, 6);
    /* Images before the list, the list by digest before the tags, those in their order. */
    struct buf log = registry_server_log(&server);
    const char *at = log.p;
    char list[200];
    snprintf(list, sizeof(list), "PUT /v2/app/manifests/%s ", second);
    for (size_t i = 0; i < 2; i++) {
        char digest[LARDER_DIGEST_TEXT_BYTES], line[200];
        snprintf(line, sizeof(line), "PUT /v2/app/manifests/%s ",
                 larder_digest_format(&result.images[i].digest, digest));
        at = strstr(at, line);
        assert_non_null(at);
    }
    at = strstr(at, list);
    assert_non_null(at);
    at = strstr(at, "PUT /v2/app/manifests/stable ");
    assert_non_null(at);
    at = strstr(at, "PUT /v2/app/manifests/1.0 ");
    assert_non_null(at);
    assert_null(strstr(at, "/blobs/"));
    buf_done(&log);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    assert_arches("app", "1.0", "amd64 arm64");

    /* Twice: a request a tag. */
    result = publish(&options);
    assert_string_equal(result.tags[0].why, "as desired");
    assert_false(result.tags[1].is_changed);
    assert_string_equal(larder_digest_format(&result.digest, second), first);
    assert_action(&result, LARDER_PUBLISH_NOTHING, 2);

    /* By force everything but blobs. */
    options.force = true;
    result = publish(&options);
    assert_int_equal(registry_server_count(&server, "PUT /v2/app/manifests/"), 5);
    assert_int_equal(registry_server_count(&server, "PUT /v2/app/blobs/"), 0);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
}

static void what_is_missing(void **state __attribute__((unused)))
{
    struct larder_publish_options options = options_for("part", 2, one, 1);
    struct larder_publish_result result = publish(&options);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    /* One more tag: that tag. */
    const char *const more[] = {"1", "2"};
    options = options_for("part", 2, more, 2);
    result = publish(&options);
    assert_false(result.tags[0].is_changed);
    assert_true(result.tags[1].is_changed);
    assert_int_equal(registry_server_count(&server, "PUT /v2/part/manifests/1 "), 0);
    assert_int_equal(registry_server_count(&server, "PUT /v2/part/manifests/2 "), 1);
    assert_int_equal(registry_server_count(&server, "/blobs/"), 0);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    /* One more image: that image's blobs. */
    options = options_for("part", 3, more, 2);
    result = publish(&options);
    assert_int_equal(result.blobs_copied + result.blobs_mounted, 3);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    assert_arches("part", "2", "amd64 arm64 s390x");
    /* One image less: the others' list, no blob. */
    options = options_for("part", 2, more, 2);
    result = publish(&options);
    assert_true(strncmp(result.tags[0].why, "has further images", 18) == 0);
    assert_int_equal(registry_server_count(&server, "/v2/part/blobs/"), 0);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    assert_arches("part", "1", "amd64 arm64");
}

/* The same images in a list of other bytes, as podman or another order makes it: it stays. */
static void lists_of_others(void **state __attribute__((unused)))
{
    struct larder_publish_options options = options_for("foreign", 2, one, 1);
    struct larder_publish_result result = publish(&options);
    struct buf text = BUF_INIT(1 << 20);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    struct json *list = tag_of("foreign", "1");
    assert_int_equal(json_dump(list, &text, NULL), 0);
    json_free(list);
    put_manifest("foreign", "1", OCI_TYPE_INDEX, text.p);
    buf_done(&text);
    result = publish(&options);
    assert_string_equal(result.tags[0].why, "as desired");
    assert_action(&result, LARDER_PUBLISH_NOTHING, 1);
    /* A second tag gets that very list. */
    const char *const more[] = {"1", "2"};
    options = options_for("foreign", 2, more, 2);
    result = publish(&options);
    assert_int_equal(registry_server_count(&server, "PUT "), 1);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    result = publish(&options);
    assert_action(&result, LARDER_PUBLISH_NOTHING, 2);
}

static void other_things_at_a_tag(void **state __attribute__((unused)))
{
    struct larder_publish_options options = options_for("src", 1, two, 1);
    struct larder_publish_result result;
    char text[LARDER_DIGEST_TEXT_BYTES];
    /* A single image: replaced, and told. */
    static const char spec[] = "{\"repo\": \"single\", \"tag\": \"stable\"}";
    registry_server_image(&server, spec);
    options = options_for("single", 2, two, 1);
    options.no_clobber = true;
    refused(&options, LARDER_EXIST, "tag stable: there is something else already: sha256:");
    options.no_clobber = false;
    result = publish(&options);
    assert_true(strncmp(result.tags[0].why, "is no list but sha256:", 22) == 0);
    larder_digest_format(&result.digest, text);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    assert_arches("single", "stable", "amd64 arm64");
    /* As desired is no clobbering. */
    options.no_clobber = true;
    result = publish(&options);
    assert_action(&result, LARDER_PUBLISH_NOTHING, 1);
    options = options_for("single", 3, two, 1);
    options.no_clobber = true;
    refused(&options, LARDER_EXIST, text);
    options.force = true;
    refused(&options, LARDER_INVAL, "exclude each other");
    /* Images that are in the repository already: no blob is touched. */
    options = options_for("src", 2, two, 1);
    result = publish(&options);
    assert_int_equal(registry_server_count(&server, "POST "), 0);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
}

static void never_takes_unknown_for_absent(void **state __attribute__((unused)))
{
    static const char *const settings[] = {
        "{\"rules\": [{\"match\": \"/v2/app/manifests\", \"status\": 503}]}",
        "{\"rules\": [{\"match\": \"/v2/app/manifests\", \"status\": 403}]}",
        "{\"rules\": [{\"match\": \"/v2/app/manifests\", \"drop\": true}]}",
    };
    struct larder_publish_options options = options_for("app", 2, one, 1);
    static const struct larder_net_options quick = {.size = sizeof(quick), .retries = 0};
    struct larder_registry_options registry = *options.registry;
    registry.net = &quick;
    options.registry = &registry;
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        struct larder_publish_result result = {0};
        registry_server_set(&server, settings[i]);
        assert_true(larder_publish(NULL, &options, &result, NULL) < 0);
        assert_int_equal(registry_server_count(&server, "PUT"), 0);
        assert_int_equal(registry_server_count(&server, "POST"), 0);
    }
    registry_server_set(&server, "{}");
}

static void what_cannot_be_published(void **state __attribute__((unused)))
{
    struct larder_publish_options options = options_for("bad", 2, one, 1);
    char index[200];
    const char *twice[2] = {images[0], images[0]};
    options.images = twice;
    refused(&options, LARDER_INVAL, "both are for linux/amd64");
    snprintf(index, sizeof(index), "docker://127.0.0.1:%d/src:all", server.port);
    const char *const an_index[] = {index};
    options.images = an_index;
    options.n_images = 1;
    refused(&options, LARDER_INVAL, "an index of several images");
    snprintf(index, sizeof(index), "docker://127.0.0.1:%d/src:none", server.port);
    refused(&options, LARDER_NOENT, "src:none");
    options = options_for("bad", 0, one, 1);
    refused(&options, LARDER_INVAL, "no image given");
    options = options_for("bad", 1, one, 0);
    refused(&options, LARDER_INVAL, "no tag given");
    static const char *const bad_tag[] = {"a:b"}, *const double_tag[] = {"a", "a"};
    options = options_for("bad", 1, bad_tag, 1);
    refused(&options, LARDER_INVAL, "tag a:b: not a tag");
    options = options_for("bad", 1, double_tag, 2);
    refused(&options, LARDER_INVAL, "tag a: given twice");
    options = options_for("bad:tag", 1, one, 1);
    refused(&options, LARDER_INVAL, "tag");
    options = options_for("bad", 1, one, 1);
    options.repository = "oci:dir:ref";
    refused(&options, LARDER_INVAL, "a layout without a ref");
}

static void as_docker(void **state __attribute__((unused)))
{
    struct larder_publish_options options = options_for("v2s2", 2, one, 1);
    struct larder_publish_result result;
    options.v2s2 = true;
    result = publish(&options);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    struct json *list = tag_of("v2s2", "1");
    assert_string_equal(json_get_string(list, "mediaType"), DOCKER_TYPE_LIST);
    const struct json *member = json_at(json_get(list, "manifests"), 0);
    assert_string_equal(json_get_string(member, "mediaType"), DOCKER_TYPE_MANIFEST);
    json_free(list);
    result = publish(&options);
    assert_string_equal(result.tags[0].why, "as desired");
    assert_action(&result, LARDER_PUBLISH_NOTHING, -1);
    /* The OCI images are others: the tag moves to them. */
    options.v2s2 = false;
    result = publish(&options);
    assert_true(strncmp(result.tags[0].why, "points to sha256:", 17) == 0);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
}

/* A registry that shows a tag late is waited for. */
static void late_tags(void **state __attribute__((unused)))
{
    struct larder_publish_options options = options_for("late", 1, one, 1);
    struct larder_publish_result result;
    registry_server_set(&server, "{\"tag_delay\": 2}");
    result = publish(&options);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    options = options_for("late", 2, one, 1);
    result = publish(&options);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    registry_server_set(&server, "{}");
    assert_arches("late", "1", "amd64 arm64");
}

static void append(const char *name, size_t image, const char *const *tags, size_t n_tags,
                   enum larder_publish_action action)
{
    struct larder_publish_options options = options_for(name, 1, tags, n_tags);
    options.images = &images[image];
    options.append = true;
    struct larder_publish_result result = publish(&options);
    assert_action(&result, action, -1);
}

static void appending(void **state __attribute__((unused)))
{
    struct larder_publish_options options;
    append("runners", 1, two, 2, LARDER_PUBLISH_PUSH);
    assert_arches("runners", "stable", "arm64");
    append("runners", 0, two, 2, LARDER_PUBLISH_PUSH);
    append("runners", 3, two, 2, LARDER_PUBLISH_PUSH);
    /* By platform, whoever came first. */
    assert_arches("runners", "stable", "amd64 arm64 ppc64le");
    assert_arches("runners", "1.0", "amd64 arm64 ppc64le");
    append("runners", 3, two, 2, LARDER_PUBLISH_NOTHING);
    assert_int_equal(registry_server_count(&server, ""), 2);
    /* The same as all at once in that order. */
    append("runners", 2, two, 1, LARDER_PUBLISH_PUSH);
    const char *const sorted[] = {images[0], images[1], images[3], images[2]};
    options = options_for("runners", 4, two, 1);
    options.images = sorted;
    struct larder_publish_result result = publish(&options);
    assert_action(&result, LARDER_PUBLISH_NOTHING, 1);
    /* An image of a platform that is there replaces that one. */
    char before[200];
    snprintf(before, sizeof(before), "%s", images[0]);
    make_images("other");
    options = options_for("runners", 1, two, 1);
    options.append = options.no_clobber = true;
    refused(&options, LARDER_EXIST, "another image of that platform");
    options.no_clobber = false;
    options.dry_run = true;
    result = publish(&options);
    assert_int_equal(registry_server_count(&server, "PUT"), 0);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    append("runners", 0, two, 1, LARDER_PUBLISH_PUSH);
    assert_arches("runners", "stable", "amd64 arm64 ppc64le s390x");
    struct json *list = tag_of("runners", "stable");
    assert_string_not_equal(json_get_string(json_at(json_get(list, "manifests"), 0), "digest"),
                            strchr(before, '@') + 1);
    json_free(list);
    make_images("1");
}

/* Members that are no images stay where they are. */
static void appending_beside_artifacts(void **state __attribute__((unused)))
{
    put_manifest("mixed", "1", OCI_TYPE_INDEX,
                 "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":["
                 "{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"sha256:"
                 "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2,"
                 "\"artifactType\":\"application/vnd.example.disk\",\"platform\":{"
                 "\"architecture\":\"amd64\",\"os\":\"linux\"}}],\"annotations\":{\"a\":\"b\"}}");
    registry_server_set(&server, "{\"manifest_check\": false}");
    append("mixed", 0, one, 1, LARDER_PUBLISH_PUSH);
    assert_arches("mixed", "1", "amd64 amd64");
    struct json *list = tag_of("mixed", "1");
    assert_string_equal(json_get_string(json_get(list, "annotations"), "a"), "b");
    assert_non_null(json_get_string(json_at(json_get(list, "manifests"), 1), "artifactType"));
    json_free(list);
    append("mixed", 0, one, 1, LARDER_PUBLISH_NOTHING);
    /* And what is compared is the images only. */
    struct larder_publish_options options = options_for("mixed", 1, one, 1);
    struct larder_publish_result result = publish(&options);
    assert_action(&result, LARDER_PUBLISH_NOTHING, 1);
    registry_server_set(&server, "{}");
}

static void into_a_layout(void **state __attribute__((unused)))
{
    char repository[200];
    struct larder_publish_options options = options_for("x", 2, two, 2);
    struct larder_publish_result result;
    char first[LARDER_DIGEST_TEXT_BYTES], second[LARDER_DIGEST_TEXT_BYTES];
    snprintf(repository, sizeof(repository), "oci:%s/layout", server.dir);
    options.repository = repository;
    result = publish(&options);
    larder_digest_format(&result.digest, first);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    result = publish(&options);
    assert_string_equal(larder_digest_format(&result.digest, second), first);
    assert_action(&result, LARDER_PUBLISH_NOTHING, -1);
    /* From there: the same list. */
    char from[2][400];
    const char *local[2] = {from[0], from[1]};
    for (size_t i = 0; i < 2; i++)
        snprintf(from[i], sizeof(from[i]), "%.300s%s", repository, strchr(images[i], '@'));
    options = options_for("again", 2, two, 2);
    options.images = local;
    result = publish(&options);
    assert_string_equal(larder_digest_format(&result.digest, second), first);
    assert_int_equal(result.blobs_copied, 6);
    assert_action(&result, LARDER_PUBLISH_PUSH, -1);
    result = publish(&options);
    assert_action(&result, LARDER_PUBLISH_NOTHING, 2);
}

static int start(void **state __attribute__((unused)))
{
    registry_server_start(&server, false);
    make_images("1");
    return 0;
}

static int stop(void **state __attribute__((unused)))
{
    registry_server_stop(&server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(once_and_again),
        cmocka_unit_test(what_is_missing),
        cmocka_unit_test(lists_of_others),
        cmocka_unit_test(other_things_at_a_tag),
        cmocka_unit_test(never_takes_unknown_for_absent),
        cmocka_unit_test(what_cannot_be_published),
        cmocka_unit_test(as_docker),
        cmocka_unit_test(late_tags),
        cmocka_unit_test(appending),
        cmocka_unit_test(appending_beside_artifacts),
        cmocka_unit_test(into_a_layout),
    };
    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, start, stop);
}
