/* SPDX-License-Identifier: Apache-2.0 */
/* A blob's way into a file, also by way of the thread that writes a lone large one. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/hash.h"
#include "base/mem.h"
#include "store/blob_write.h"

#define BUFFER_BYTES ((size_t)256 * 1024)
#define BUFFERS      4U
/* A thread is made for it, and its end is no whole page. */
#define BLOB_BYTES ((size_t)12 * 1024 * 1024 + 4711)

static char bytes[BLOB_BYTES];

/* A store of one file. */
struct one_file {
    struct store base;
    int fd;
    uint64_t done_bytes;
    unsigned commits, aborts;
    bool is_kept;
};

static struct one_file *file_of(struct store *s)
{
    return (struct one_file *)(void *)s;
}

static int begin(struct store *s, const struct store_descriptor *blob, struct blob_writer *ret,
                 bool *ret_exists, struct larder_error *e)
{
    (void)blob;
    (void)e;
    *ret = (struct blob_writer){.fd = file_of(s)->fd, .done_bytes = file_of(s)->done_bytes};
    *ret_exists = false;
    return 0;
}

static int commit(struct store *s, const struct store_descriptor *blob, struct blob_writer *writer,
                  struct larder_error *e)
{
    (void)blob;
    (void)writer;
    (void)e;
    file_of(s)->commits++;
    return 0;
}

static void drop(struct store *s, struct blob_writer *writer, bool keep)
{
    (void)writer;
    file_of(s)->aborts++;
    file_of(s)->is_kept = keep;
}

static const struct store_ops ops = {
    .transport = "oci", .blob_begin = begin, .blob_commit = commit, .blob_abort = drop};

struct fixture {
    struct one_file to;
    char name[5];
    struct store_descriptor blob;
    struct hash_team *team;
    struct blob_write w;
};

static void set_up(struct fixture *f, int fd, struct larder_error *e)
{
    *f = (struct fixture){.to = {.base = {.ops = &ops}, .fd = fd}, .name = "here"};
    f->to.base.name = f->name;
    uint32_t x = 7;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (char)(x >> 24);
    }
    f->blob.size_bytes = sizeof(bytes);
    assert_int_equal(hash_of(LARDER_DIGEST_SHA256, bytes, sizeof(bytes), &f->blob.digest, e), 0);
    assert_int_equal(hash_team_new(1, BUFFERS, BUFFER_BYTES, &f->team, e), 0);
    f->w = (struct blob_write){
        .to = &f->to.base, .from_name = "there", .blob = &f->blob, .team = f->team};
}

/* As a connection gives them: in pieces of any size, received where room is. */
static int receive(struct fixture *f, size_t from, size_t until, struct larder_error *e)
{
    int rc = 0;

    while (rc == 0 && from < until) {
        size_t room;
        char *to = blob_write_room(&f->w, &room);
        size_t n = until - from < room ? until - from : room;
        if (n > 77777)
            n = 77777;
        memcpy(to, bytes + from, n);
        rc = blob_write_put(&f->w, to, n, e);
        from += n;
    }
    return rc;
}

static void assert_file(int fd, size_t n)
{
    struct stat st;
    char *found = malloc(n);

    assert_non_null(found);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, n);
    assert_int_equal(fd_pread_full(fd, found, n, 0), (ssize_t)n);
    assert_memory_equal(found, bytes, n);
    free(found);
}

static int temporary(void)
{
    char path[] = "blob-write-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    return fd;
}

static void all_of_a_blob_is_written(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    CLEANUP_CLOSE int fd = temporary();
    struct fixture f;
    bool exists = true;
    size_t room;

    (void)state;
    set_up(&f, fd, &e);
    assert_int_equal(blob_write_begin(&f.w, &exists, &e), 0);
    assert_false(exists);
    assert_int_equal(receive(&f, 0, sizeof(bytes), &e), 0);
    assert_int_equal(blob_write_finish(&f.w, &e), 0);
    assert_int_equal(blob_write_commit(&f.w, &e), 0);
    assert_int_equal(f.to.commits, 1);
    assert_int_equal(f.to.aborts, 0);
    assert_file(fd, sizeof(bytes));

    /* Its first part is there already, and who ends asked for room that they didn't need. */
    f.to.done_bytes = 3 * BUFFER_BYTES + 5;
    assert_int_equal(ftruncate(fd, (off_t)f.to.done_bytes), 0);
    assert_int_equal(blob_write_begin(&f.w, &exists, &e), 0);
    f.w.written_bytes = 0;
    assert_int_equal(blob_write_resume(&f.w, &e), 0);
    assert_int_equal(blob_write_bytes(&f.w), 3 * BUFFER_BYTES);
    assert_int_equal(receive(&f, 3 * BUFFER_BYTES, sizeof(bytes), &e), 0);
    (void)blob_write_room(&f.w, &room);
    assert_int_equal(blob_write_finish(&f.w, &e), 0);
    assert_int_equal(blob_write_commit(&f.w, &e), 0);
    assert_int_equal(f.to.commits, 2);
    assert_file(fd, sizeof(bytes));
    hash_team_free(f.team);
}

/* A connection that ends: room was asked for, and nothing came. What came before is a beginning. */
static void what_is_left_is_a_beginning(void **state)
{
    const size_t n = 32 * BUFFER_BYTES + 4711;
    struct larder_error e = LARDER_ERROR_INIT;
    bool exists = true;
    size_t room;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        CLEANUP_CLOSE int fd = temporary();
        struct fixture f;
        size_t came = i & 1 ? n : 32 * BUFFER_BYTES;
        set_up(&f, fd, &e);
        assert_int_equal(blob_write_begin(&f.w, &exists, &e), 0);
        f.w.is_not_direct = i & 2; /* as file systems are that can't */
        assert_int_equal(receive(&f, 0, came - BUFFER_BYTES, &e), 0);
        /* Whoever is slower: ThreadSanitizer is to see the thread's last write beside our end,
         * which nothing orders when there is a free buffer at once. */
        usleep(20000);
        assert_int_equal(receive(&f, came - BUFFER_BYTES, came, &e), 0);
        assert_non_null(f.w.behind);
        (void)blob_write_room(&f.w, &room);
        blob_write_abort(&f.w, -LARDER_UNREACHABLE);
        assert_int_equal(f.to.aborts, 1);
        assert_true(f.to.is_kept);
        assert_file(fd, came);
        hash_team_free(f.team);
    }
}

static void a_full_disk_is_told(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    CLEANUP_CLOSE int fd = open("/dev/full", O_RDWR | O_CLOEXEC);
    struct fixture f;
    bool exists = true;

    (void)state;
    assert_true(fd >= 0);
    set_up(&f, fd, &e);
    assert_int_equal(blob_write_begin(&f.w, &exists, &e), 0);
    /* By the next buffer, or at the end. */
    int rc = receive(&f, 0, sizeof(bytes), &e);
    if (rc == 0)
        rc = blob_write_finish(&f.w, &e);
    assert_int_equal(rc, -LARDER_NOSPACE);
    assert_non_null(strstr(e.msg, "here: writing blob sha256:"));
    blob_write_abort(&f.w, rc);
    assert_int_equal(f.to.commits, 0);
    assert_int_equal(f.to.aborts, 1);

    /* One buffer waits for another, so its failure is told at the end only. */
    error_clear(&e);
    assert_int_equal(blob_write_begin(&f.w, &exists, &e), 0);
    f.w.written_bytes = 0;
    assert_int_equal(receive(&f, 0, BUFFER_BYTES, &e), 0);
    assert_int_equal(blob_write_restart(&f.w, &e), -LARDER_NOSPACE);
    blob_write_abort(&f.w, -LARDER_NOSPACE);
    hash_team_free(f.team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_a_blob_is_written),
        cmocka_unit_test(what_is_left_is_a_beginning),
        cmocka_unit_test(a_full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
