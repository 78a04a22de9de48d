/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include "store_fixture.h"

#include "layout_fixture.h"
#include "store/dir/blob.h"

#include <larder/maintain.h>

static struct store *open_store(struct fixture *f, unsigned flags)
{
    struct store *s = NULL;
    assert_ok(dir_store_open(f->store, flags, &s, &f->e), f->e);
    assert_string_equal(s->ops->transport, "store");
    return s;
}

static void images_come_back(void **state)
{
    struct fixture *f = *state;
    struct store *s = open_store(f, STORE_OPEN_WRITE);
    struct store_descriptor one, found, blob = descriptor_of("", "one", 3);
    struct store_extent extent;
    struct buf out = BUF_INIT(65536);
    char text[4] = "";
    assert_int_equal(s->ops->resolve(s, "app:1", &found, &f->e), -LARDER_NOENT);
    assert_int_equal(s->ops->resolve(s, NULL, &found, &f->e), -LARDER_INVAL);
    one = put_image(s, "one", "example.org/app:1");
    assert_ok(s->ops->resolve(s, "example.org/app:1", &found, &f->e), f->e);
    assert_true(larder_digest_equal(&found.digest, &one.digest));
    assert_int_equal(found.size_bytes, one.size_bytes);
    assert_string_equal(found.media_type, OCI_TYPE_MANIFEST);
    assert_ok(s->ops->manifest_get(s, NULL, &one.digest, &out, &found, &f->e), f->e);
    assert_string_equal(found.media_type, OCI_TYPE_MANIFEST);
    assert_int_equal(s->ops->manifest_has(s, &one, &f->e), 1);
    assert_int_equal(s->ops->blob_has(s, &blob, &f->e), 1);
    assert_ok(s->ops->blob_extent(s, &blob, &extent, &f->e), f->e);
    assert_int_equal(pread(extent.fd, text, 3, (off_t)extent.offset), 3);
    assert_string_equal(text, "one");
    close(extent.fd);
    blob.size_bytes = 4;
    assert_int_equal(s->ops->blob_has(s, &blob, &f->e), -LARDER_CORRUPT);
    /* The public view of the same: plain refs and blobs. */
    CLEANUP_FREE char *json = NULL;
    assert_ok(larder_ref_get(f->store, "oci/example.org/app:1", &json, &f->e), f->e);
    assert_ok(larder_blob_verify(f->store, &one.digest, LARDER_VERIFY_DEEP, &f->e), f->e);
    put_image(s, "two", "b");
    CLEANUP_FREE char *names = names_of(s);
    assert_string_equal(names, "b example.org/app:1 ");
    assert_ok(s->ops->remove_ref(s, "b", &f->e), f->e);
    assert_int_equal(s->ops->remove_ref(s, "b", &f->e), -LARDER_NOENT);
    assert_ok(s->ops->manifest_remove(s, &one.digest, &f->e), f->e);
    assert_int_equal(s->ops->manifest_remove(s, &one.digest, &f->e), -LARDER_NOENT);
    assert_int_equal(s->ops->resolve(s, "example.org/app:1", &found, &f->e), -LARDER_NOENT);
    store_close(s);
    s = open_store(f, 0);
    struct blob_writer writer;
    bool exists;
    blob = descriptor_of("", "x", 1);
    assert_ok(s->ops->manifest_get(s, NULL, &one.digest, &out, &found, &f->e), f->e);
    int r = s->ops->blob_begin(s, &blob, &writer, &exists, &f->e);
    assert_int_equal(r, -LARDER_DENIED);
    store_close(s);
    buf_done(&out);
}

static void bad_bytes_are_not_there(void **state)
{
    struct fixture *f = *state;
    struct store *s = open_store(f, STORE_OPEN_WRITE);
    struct store_descriptor one = put_image(s, "one", "a"), blob, found;
    struct buf out = BUF_INIT(65536);
    put_blob(s, "content", 7, &blob);
    assert_ok(s->ops->flush(s, &f->e), f->e);
    const char *path = fixture_path(f, fixture_blob_name("blobs", &blob.digest));
    assert_int_equal(chmod(path, 0644), 0);
    fixture_write(f, fixture_blob_name("blobs", &blob.digest), "c0ntent");
    assert_int_equal(s->ops->blob_has(s, &blob, &f->e), 0);
    assert_int_equal(fixture_count(f, "quarantine") > 0, 1);
    assert_false(put_blob(s, "content", 7, &blob));
    assert_ok(s->ops->flush(s, &f->e), f->e);
    assert_int_equal(s->ops->blob_has(s, &blob, &f->e), 1);
    path = fixture_path(f, fixture_blob_name("blobs", &one.digest));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(s->ops->manifest_get(s, "a", NULL, &out, &found, &f->e), -LARDER_NOENT);
    buf_done(&out);
    store_close(s);
}

static void partials_go_on(void **state)
{
    struct fixture *f = *state;
    struct store *s = open_store(f, STORE_OPEN_WRITE);
    size_t n = 3UL * 1024 * 1024;
    char *bytes = malloc(n);
    assert_non_null(bytes);
    memset(bytes, 'x', n);
    struct store_descriptor blob = descriptor_of("", bytes, n), small;
    struct blob_writer writer, second;
    bool exists;
    assert_ok(s->ops->blob_begin(s, &blob, &writer, &exists, &f->e), f->e);
    assert_int_equal(writer.done_bytes, 0);
    assert_int_equal(s->ops->blob_kept(s, &blob), 0);
    assert_int_equal(fd_pwrite_full(writer.fd, bytes, n / 2, 0), 0);
    assert_ok(s->ops->blob_begin(s, &blob, &second, &exists, &f->e), f->e);
    assert_int_equal(second.done_bytes, 0);
    s->ops->blob_abort(s, &second, true);
    assert_int_equal(s->ops->blob_commit(s, &blob, &writer, &f->e), -LARDER_CORRUPT);
    s->ops->blob_abort(s, &writer, true);
    assert_int_equal(s->ops->blob_kept(s, &blob), n / 2);
    put_blob(s, "small", 5, &small);
    assert_int_equal(s->ops->blob_kept(s, &small), 0);
    store_close(s); /* finished ones stay */
    s = open_store(f, STORE_OPEN_WRITE);
    assert_int_equal(s->ops->blob_has(s, &small, &f->e), 1);
    assert_ok(s->ops->blob_begin(s, &blob, &writer, &exists, &f->e), f->e);
    assert_int_equal(writer.done_bytes, n / 2);
    assert_int_equal(fd_pwrite_full(writer.fd, bytes + n / 2, n - n / 2, n / 2), 0);
    assert_ok(s->ops->blob_commit(s, &blob, &writer, &f->e), f->e);
    assert_ok(s->ops->flush(s, &f->e), f->e);
    assert_ok(larder_blob_verify(f->store, &blob.digest, LARDER_VERIFY_DEEP, &f->e), f->e);
    store_close(s);
    assert_int_equal(fixture_count(f, "partial"), 0);
    assert_int_equal(fixture_count(f, "tmp"), 0);
    free(bytes);
}

static void referrers_are_found(void **state)
{
    struct fixture *f = *state;
    struct store *s = open_store(f, STORE_OPEN_WRITE);
    struct store_descriptor one = put_image(s, "one", "a"), sbom, signature;
    struct buf out = BUF_INIT(65536);
    char text[LARDER_DIGEST_TEXT_BYTES];
    put_referrer(s, &one, "a/sbom", &sbom);
    put_referrer(s, &sbom, "a/sig", &signature);
    assert_ok(s->ops->referrers(s, &one.digest, NULL, &out, &f->e), f->e);
    assert_non_null(strstr(out.p, larder_digest_format(&sbom.digest, text)));
    assert_null(strstr(out.p, larder_digest_format(&signature.digest, text)));
    buf_reset(&out);
    assert_ok(s->ops->referrers(s, &sbom.digest, "a/sig", &out, &f->e), f->e);
    assert_non_null(strstr(out.p, larder_digest_format(&signature.digest, text)));
    buf_reset(&out);
    assert_ok(s->ops->referrers(s, &signature.digest, NULL, &out, &f->e), f->e);
    assert_null(strstr(out.p, "sha256:"));
    buf_done(&out);
    store_close(s);
}

/* gc between the last blob and the ref. */
static void no_ref_without_its_blobs(void **state)
{
    struct fixture *f = *state;
    struct store *s = open_store(f, STORE_OPEN_WRITE);
    struct store_descriptor blob, manifest;
    static const char text[] = "{\"schemaVersion\":2,\"config\":{},\"layers\":[]}";
    const char *name = "a";
    put_blob(s, "lost", 4, &blob);
    assert_ok(s->ops->flush(s, &f->e), f->e);
    assert_int_equal(unlink(fixture_path(f, fixture_blob_name("blobs", &blob.digest))), 0);
    manifest = descriptor_of(OCI_TYPE_MANIFEST, text, strlen(text));
    assert_int_equal(s->ops->manifest_put(s, &manifest, slice_of(text), &name, 1, &f->e),
                     -LARDER_BUSY);
    assert_non_null(strstr(f->e.hint, "again"));
    assert_int_equal(s->ops->resolve(s, "a", &manifest, &f->e), -LARDER_NOENT);
    store_close(s);
}

struct lane {
    struct store *store;
    int number;
};

static void *write_blobs(void *arg)
{
    struct lane *lane = arg;
    for (int i = 0; i < 150; i++) {
        struct store_descriptor blob;
        char text[32];
        snprintf(text, sizeof(text), "%d-%d", i % 5 ? lane->number : 99, i);
        put_blob(lane->store, text, strlen(text), &blob);
    }
    return NULL;
}

static void lanes_share_a_handle(void **state)
{
    struct fixture *f = *state;
    struct store *s = open_store(f, STORE_OPEN_WRITE);
    struct lane lanes[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        lanes[i] = (struct lane){s, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_blobs, &lanes[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_ok(s->ops->flush(s, &f->e), f->e);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 150; k++) {
            char text[32];
            snprintf(text, sizeof(text), "%d-%d", k % 5 ? i : 99, k);
            struct store_descriptor blob = descriptor_of("", text, strlen(text));
            enum blob_state state_of;
            assert_ok(blob_check(f->store, &blob.digest, &state_of, NULL, NULL, &f->e), f->e);
            assert_int_equal(state_of, BLOB_GOOD); /* recorded: nothing is hashed again */
        }
    }
    store_close(s);
    assert_int_equal(fixture_count(f, "tmp"), 0);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(images_come_back),    TEST(bad_bytes_are_not_there),  TEST(partials_go_on),
        TEST(referrers_are_found), TEST(no_ref_without_its_blobs), TEST(lanes_share_a_handle),
    };
    return cmocka_run_group_tests_name("dir_store", tests, NULL, NULL);
}
