/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include "archive/tar.h"
#include "layout_fixture.h"

static const char *path_of(void **state)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/images.tar", ((struct scratch *)*state)->path);
    return path;
}

static int dir_of(void **state)
{
    return ((struct scratch *)*state)->fd;
}

static struct store *open_at(void **state, unsigned flags)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = NULL;
    assert_ok(archive_open(path_of(state), flags, NULL, &store, &e), e);
    return store;
}

static int count(void *arg, const char *name, unsigned char d_type)
{
    (void)name;
    (void)d_type;
    ++*(int *)arg;
    return 0;
}

static int n_files(void **state)
{
    int n = 0;
    assert_int_equal(dir_each(dir_of(state), count, &n, NULL), 0);
    return n;
}

/* ---- tar files ---- */

static void add_member(struct buf *tar, const char *name, char type, const char *data, size_t n)
{
    static const char zeros[TAR_BLOCK];
    size_t at = tar->n;
    assert_int_equal(tar_head(name, n, tar, NULL), 0);
    if (type) { /* another type, and the sum again */
        char *header = tar->p + tar->n - TAR_BLOCK;
        unsigned sum = 0;
        header[156] = type;
        memset(header + 148, ' ', 8);
        for (size_t i = 0; i < TAR_BLOCK; i++)
            sum += (unsigned char)header[i];
        snprintf(header + 148, 8, "%06o", sum);
    }
    assert_true(tar->n - at <= TAR_HEAD_BYTES_MAX);
    buf_append(tar, data, n);
    buf_append(tar, zeros, (size_t)tar_padded(n) - n);
}

static void end_tar(void **state, struct buf *tar)
{
    static const char zeros[2 * TAR_BLOCK];
    buf_append(tar, zeros, sizeof(zeros));
    int fd = openat(dir_of(state), "images.tar", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, tar->p, tar->n), 0);
    close(fd);
    buf_done(tar);
}

#define EMPTY_INDEX "{\"schemaVersion\":2,\"manifests\":[]}"

static void heads_and_back(void **state)
{
    struct buf tar = BUF_INIT(1 << 20);
    char name[LARDER_DIGEST_TEXT_BYTES + 16] = "blobs/sha512/";
    memset(name + 13, 'a', 128);
    add_member(&tar, "dir/", 0, "", 0);
    add_member(&tar, name, 0, "x", 1);
    add_member(&tar, "empty", 0, "", 0);
    add_member(&tar, "block", 0, name, sizeof(name));
    end_tar(state, &tar);
    CLEANUP_CLOSE int fd = openat(dir_of(state), "images.tar", O_RDWR | O_CLOEXEC);
    static const struct {
        enum tar_type type;
        uint64_t n_bytes;
    } expected[] = {{TAR_DIRECTORY, 0}, {TAR_FILE, 1}, {TAR_FILE, 0}, {TAR_FILE, sizeof(name)}};
    struct tar_reader reader;
    struct tar_member member;
    assert_int_equal(tar_reader_init(&reader, fd, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_int_equal(tar_next(&reader, &member, NULL), 1);
        assert_int_equal(member.type, expected[i].type);
        assert_int_equal(member.n_bytes, expected[i].n_bytes);
        if (i == 1)
            assert_string_equal(member.name, name);
    }
    assert_int_equal(tar_next(&reader, &member, NULL), 0);
    tar_reader_done(&reader);

    /* More than 11 octal digits: a file of that size is a hole. */
    uint64_t huge = 20ULL << 30;
    assert_int_equal(tar_head("huge", huge, &tar, NULL), 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(fd_pwrite_full(fd, tar.p, tar.n, 0), 0);
    assert_int_equal(ftruncate(fd, (off_t)(tar.n + huge)), 0);
    assert_int_equal(tar_reader_init(&reader, fd, NULL), 0);
    assert_int_equal(tar_next(&reader, &member, NULL), 1);
    assert_true(member.n_bytes == huge);
    assert_string_equal(member.name, "huge");
    assert_true(member.offset == tar.n);
    assert_int_equal(tar_next(&reader, &member, NULL), 0); /* no zeros at the end: fine */
    tar_reader_done(&reader);
    buf_done(&tar);
}

/* Headers as other programs write them. */
static void foreign_heads(void **state)
{
    struct scratch *s = *state;
    char command[512];
    struct tar_reader reader;
    struct tar_member member;
    static const char *const formats[] = {"v7", "oldgnu", "gnu", "ustar", "pax"};
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        bool is_long = i == 1 || i == 2 || i == 4;
        snprintf(command, sizeof(command),
                 "cd %s && rm -rf t && mkdir -p t/%s && printf hello >t/%s/f && "
                 "tar --format=%s -cf f.tar t/*/f",
                 s->path, is_long ? "$(printf '%0200d' 1)" : "d",
                 is_long ? "$(printf '%0200d' 1)" : "d", formats[i]);
        assert_int_equal(system(command), 0);
        CLEANUP_CLOSE int fd = openat(s->fd, "f.tar", O_RDONLY | O_CLOEXEC);
        char text[6] = "";
        assert_int_equal(tar_reader_init(&reader, fd, NULL), 0);
        assert_int_equal(tar_next(&reader, &member, NULL), 1);
        assert_int_equal(member.type, TAR_FILE);
        assert_int_equal(strlen(member.name), is_long ? 204 : 5);
        assert_int_equal(member.n_bytes, 5);
        assert_int_equal(pread(fd, text, 5, (off_t)member.offset), 5);
        assert_string_equal(text, "hello");
        assert_int_equal(tar_next(&reader, &member, NULL), 0);
        tar_reader_done(&reader);
    }
}

/* Any cut and any changed byte of a header is an error or another name, never a crash. */
static void damaged_heads(void **state)
{
    struct buf tar = BUF_INIT(1 << 20);
    char name[160] = "blobs/sha512/";
    memset(name + 13, 'a', 128);
    assert_int_equal(tar_head(name, 3000, &tar, NULL), 0);
    CLEANUP_CLOSE int fd = openat(dir_of(state), "t", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    struct tar_reader reader;
    struct tar_member member;
    for (size_t n = 0; n <= tar.n; n += 37) {
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(fd_pwrite_full(fd, tar.p, n, 0), 0);
        assert_int_equal(tar_reader_init(&reader, fd, NULL), 0);
        assert_int_equal(tar_next(&reader, &member, NULL), n == 0 ? 0 : -LARDER_CORRUPT);
        tar_reader_done(&reader);
    }
    assert_int_equal(fd_pwrite_full(fd, tar.p, tar.n, 0), 0);
    assert_int_equal(ftruncate(fd, (off_t)(tar.n + 3000)), 0);
    for (size_t i = 0; i < tar.n; i++) {
        char c = (char)(tar.p[i] ^ 0x55);
        assert_int_equal(fd_pwrite_full(fd, &c, 1, i), 0);
        assert_int_equal(tar_reader_init(&reader, fd, NULL), 0);
        int r = tar_next(&reader, &member, NULL);
        assert_true(r == 1 || r == -LARDER_CORRUPT || r == -LARDER_LIMIT);
        assert_true(r == 1 ? member.offset + member.n_bytes <= tar.n + 3000 : true);
        tar_reader_done(&reader);
        assert_int_equal(fd_pwrite_full(fd, tar.p + i, 1, i), 0);
    }
    buf_done(&tar);
}

/* ---- archives ---- */

static void images_come_back(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store_descriptor one, two, found, blob = descriptor_of("", "one", 3);
    struct store_extent extent;
    struct buf out = BUF_INIT(65536);
    char text[4] = "";
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    assert_int_equal(store->ops->resolve(store, NULL, &found, &e), -LARDER_NOENT);
    assert_ok(store->ops->flush(store, &e), e);
    assert_int_equal(n_files(state), 0); /* nothing was put */
    one = put_image(store, "one", "a");
    two = put_image(store, "two", "b");
    assert_int_equal(store->ops->blob_has(store, &blob, &e), 1);
    assert_int_equal(faccessat(dir_of(state), "images.tar", F_OK, 0), -1);
    assert_ok(store->ops->flush(store, &e), e);
    assert_ok(store->ops->flush(store, &e), e);
    store_close(store);
    assert_int_equal(n_files(state), 1);

    store = open_at(state, 0);
    CLEANUP_FREE char *names = names_of(store);
    assert_string_equal(names, "a b ");
    assert_ok(store->ops->manifest_get(store, "b", NULL, &out, &found, &e), e);
    assert_true(larder_digest_equal(&found.digest, &two.digest));
    buf_reset(&out);
    assert_ok(store->ops->manifest_get(store, NULL, &one.digest, &out, &found, &e), e);
    assert_string_equal(found.media_type, OCI_TYPE_MANIFEST);
    assert_int_equal(store->ops->resolve(store, NULL, &found, &e), -LARDER_INVAL);
    assert_ok(store->ops->blob_extent(store, &blob, &extent, &e), e);
    assert_int_equal(pread(extent.fd, text, 3, (off_t)extent.offset), 3);
    assert_string_equal(text, "one");
    close(extent.fd);
    blob.size_bytes = 4;
    assert_int_equal(store->ops->blob_extent(store, &blob, &extent, &e), -LARDER_CORRUPT);
    blob = descriptor_of("", "none", 4);
    assert_int_equal(store->ops->blob_extent(store, &blob, &extent, &e), -LARDER_NOENT);
    assert_int_equal(store->ops->remove_ref(store, "a", &e), -LARDER_UNSUPPORTED);
    struct blob_writer writer;
    bool exists;
    assert_int_equal(store->ops->blob_begin(store, &blob, &writer, &exists, &e), -LARDER_DENIED);
    store_close(store);
    buf_done(&out);
}

static void warned(void *arg, const char *msg)
{
    ++*(int *)arg;
    assert_non_null(strstr(msg, "gone"));
}

static void replaced_whole_or_not(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store_descriptor one, found;
    int n_warnings = 0;
    const struct larder_observer observer = {.arg = &n_warnings, .warning = warned};
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    one = put_image(store, "one", "a");
    assert_ok(store->ops->flush(store, &e), e);
    store_close(store);

    /* What is there answers until something is put; dropped without a flush. */
    store = open_at(state, STORE_OPEN_WRITE);
    assert_ok(store->ops->resolve(store, "a", &found, &e), e);
    assert_true(larder_digest_equal(&found.digest, &one.digest));
    assert_int_equal(store->ops->blob_has(store, &one, &e), 0);
    put_image(store, "two", "b");
    assert_int_equal(store->ops->resolve(store, "a", &found, &e), -LARDER_NOENT);
    assert_int_equal(n_files(state), 2);
    store_close(store);
    assert_int_equal(n_files(state), 1);

    store = NULL;
    assert_ok(archive_open(path_of(state), STORE_OPEN_WRITE, &observer, &store, &e), e);
    assert_ok(store->ops->resolve(store, "a", &found, &e), e);
    put_image(store, "new", "a");
    assert_ok(store->ops->flush(store, &e), e);
    assert_int_equal(n_warnings, 0); /* the same name */
    /* More after a flush. */
    put_image(store, "more", "c");
    assert_ok(store->ops->flush(store, &e), e);
    store_close(store);
    store = open_at(state, 0);
    CLEANUP_FREE char *names = names_of(store);
    assert_string_equal(names, "a c ");
    store_close(store);
    assert_ok(archive_open(path_of(state), STORE_OPEN_WRITE, &observer, &store, &e), e);
    put_image(store, "new", "z");
    assert_ok(store->ops->flush(store, &e), e);
    assert_int_equal(n_warnings, 1);
    store_close(store);

    /* Somebody's file. */
    file_put(dir_of(state), "images.tar", "not an archive of images at all");
    assert_int_equal(archive_open(path_of(state), STORE_OPEN_WRITE, NULL, &store, &e),
                     -LARDER_EXIST);
    assert_non_null(strstr(e.msg, "not overwritten"));
    CLEANUP_FREE char *text = file_text(dir_of(state), "images.tar");
    assert_string_equal(text, "not an archive of images at all");
    file_put(dir_of(state), "images.tar", "");
    store = open_at(state, STORE_OPEN_WRITE);
    store_close(store);
}

static void given_up_blobs_are_none(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store_descriptor blob = descriptor_of("", "abc", 3), again = descriptor_of("", "def", 3);
    struct blob_writer writer, other;
    bool exists;
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    assert_int_equal(hash_of(LARDER_DIGEST_SHA512, "abc", 3, &blob.digest, NULL), 0);
    assert_ok(store->ops->blob_begin(store, &blob, &writer, &exists, &e), e);
    assert_int_equal(store->ops->blob_begin(store, &blob, &other, &exists, &e), -LARDER_BUSY);
    put_image(store, "one", "a");
    assert_int_equal(store->ops->flush(store, &e), -LARDER_BUSY);
    store->ops->blob_abort(store, &writer, true);
    assert_ok(store->ops->blob_begin(store, &again, &writer, &exists, &e), e);
    store->ops->blob_abort(store, &writer, true);
    assert_false(put_blob(store, "def", 3, &again)); /* in the place of the first try */
    assert_ok(store->ops->flush(store, &e), e);
    store_close(store);
    store = open_at(state, 0);
    assert_int_equal(store->ops->blob_has(store, &blob, &e), 0);
    assert_int_equal(store->ops->blob_has(store, &again, &e), 1);
    store_close(store);
}

struct lane {
    struct store *store;
    int number;
};

static size_t lane_blob_bytes(int lane, int i)
{
    return (size_t)i * 7 + (size_t)lane * 2 + 1;
}

static void *write_blobs(void *arg)
{
    struct lane *lane = arg;
    for (int i = 0; i < 200; i++) {
        struct store_descriptor blob;
        char text[2000];
        memset(text, 'a' + lane->number, sizeof(text));
        put_blob(lane->store, text, lane_blob_bytes(lane->number, i), &blob);
    }
    return NULL;
}

static void lanes_write_side_by_side(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    struct lane lanes[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        lanes[i] = (struct lane){store, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_blobs, &lanes[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    put_image(store, "one", "a");
    assert_ok(store->ops->flush(store, &e), e);
    store_close(store);
    store = open_at(state, 0);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 200; k++) {
            char text[2000], found[2000];
            size_t n = lane_blob_bytes(i, k);
            struct store_extent extent;
            memset(text, 'a' + i, sizeof(text));
            struct store_descriptor blob = descriptor_of("", text, n);
            assert_ok(store->ops->blob_extent(store, &blob, &extent, &e), e);
            assert_int_equal(fd_pread_full(extent.fd, found, n, extent.offset), n);
            assert_memory_equal(found, text, n);
            close(extent.fd);
        }
    }
    store_close(store);
}

#define BLOB "blobs/sha256/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

static void hostile_archives(void **state)
{
    static const struct {
        const char *name;
        char type;
        const char *again;
        int code;
    } cases[] = {
        {"x", 0, NULL, 0},
        {"./" BLOB, 0, NULL, 0},
        {BLOB, 0, BLOB, LARDER_UNSAFE},
        {BLOB, 0, "./" BLOB, LARDER_UNSAFE},
        {BLOB, '2', NULL, LARDER_UNSAFE},
        {BLOB, '1', NULL, LARDER_UNSAFE},
        {BLOB, '6', NULL, LARDER_UNSAFE},
        {BLOB, 'S', NULL, LARDER_UNSUPPORTED},
        {"index.json", 0, NULL, LARDER_UNSAFE},
        {"./oci-layout", '2', NULL, LARDER_UNSAFE},
        {"../x", 0, NULL, LARDER_UNSAFE},
        {"blobs/../../x", 0, NULL, LARDER_UNSAFE},
        {"a/..", '5', NULL, LARDER_UNSAFE},
        {"/etc/passwd", 0, NULL, LARDER_UNSAFE},
        {"a..b/..c", 0, NULL, 0},
        {"old.tar", '2', NULL, 0}, /* docker save has links of its own */
        {"blobs/sha256/../../../x", 0, NULL, LARDER_UNSAFE},
        {"blobs/sha256/ABC", 0, NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct buf tar = BUF_INIT(1 << 20);
        struct store *store = NULL;
        add_member(&tar, "index.json", 0, EMPTY_INDEX, strlen(EMPTY_INDEX));
        bool has_content = !cases[i].type || cases[i].type == 'S';
        add_member(&tar, cases[i].name, cases[i].type, "{}", has_content ? 2 : 0);
        if (cases[i].again)
            add_member(&tar, cases[i].again, 0, "{}", 2);
        end_tar(state, &tar);
        int r = archive_open(path_of(state), 0, NULL, &store, &e);
        if (r != -cases[i].code)
            print_error("%s: %s\n", cases[i].name, e.msg);
        assert_int_equal(r, -cases[i].code);
        assert_true(r == 0 || strstr(e.msg, "images.tar"));
        store_close(store);
    }
}

static void what_is_no_archive(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = NULL;
    struct buf tar = BUF_INIT(1 << 20);
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        {"", LARDER_INVAL},
        {"hello", LARDER_CORRUPT},
        {"\x1f\x8b\x08 gzip", LARDER_UNSUPPORTED},
        {"\x28\xb5\x2f\xfd zstd", LARDER_UNSUPPORTED},
        {"BZh9", LARDER_UNSUPPORTED},
    };
    assert_int_equal(archive_open(path_of(state), 0, NULL, &store, &e), -LARDER_NOENT);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        file_put(dir_of(state), "images.tar", cases[i].text);
        assert_int_equal(archive_open(path_of(state), 0, NULL, &store, &e), -cases[i].code);
    }
    assert_non_null(strstr(e.hint, "bzip2 -d"));
    add_member(&tar, "manifest.json", 0, "[]", 2);
    end_tar(state, &tar);
    assert_int_equal(archive_open(path_of(state), 0, NULL, &store, &e), -LARDER_INVAL);
    assert_non_null(strstr(e.msg, "index.json"));
    assert_int_equal(unlinkat(dir_of(state), "images.tar", 0), 0);
    assert_int_equal(mkdirat(dir_of(state), "images.tar", 0755), 0);
    assert_int_equal(archive_open(path_of(state), 0, NULL, &store, &e), -LARDER_INVAL);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(heads_and_back),           TEST(foreign_heads),         TEST(damaged_heads),
        TEST(images_come_back),         TEST(replaced_whole_or_not), TEST(given_up_blobs_are_none),
        TEST(lanes_write_side_by_side), TEST(hostile_archives),      TEST(what_is_no_archive),
    };
    return cmocka_run_group_tests_name("archive", tests, NULL, NULL);
}
