/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "scratch.h"

#include "layout_fixture.h"

static struct store *open_at(void **state, unsigned flags)
{
    struct scratch *s = *state;
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = NULL;
    assert_ok(layout_open(s->path, flags, NULL, &store, &e), e);
    return store;
}

static int dir_of(void **state)
{
    return ((struct scratch *)*state)->fd;
}

static bool is_there(void **state, const char *name)
{
    return faccessat(dir_of(state), name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void made_whole_from_the_start(void **state)
{
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    CLEANUP_FREE char *mark = file_text(dir_of(state), "oci-layout");
    CLEANUP_FREE char *index = file_text(dir_of(state), "index.json");
    CLEANUP_FREE char *names = names_of(store);
    assert_string_equal(mark, "{\"imageLayoutVersion\":\"1.0.0\"}");
    assert_string_equal(index, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\","
                               "\"manifests\":[]}\n");
    assert_string_equal(names, "");
    assert_string_equal(store->ops->transport, "oci");
    store_close(store);
    assert_false(is_there(state, ".larder"));
}

static void images_come_back(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    struct store_descriptor one = put_image(store, "one", "a"), found = {0};
    struct store_descriptor blob = descriptor_of("", "one", 3), none = descriptor_of("", "x", 1);
    struct store_extent extent;
    struct buf out = BUF_INIT(65536);
    char text[4] = "";

    assert_false(put_blob(store, "waits", 5, &found));
    assert_true(put_blob(store, "waits", 5, &found)); /* of a batch that is not published yet */
    assert_false(is_there(state, blob_path(&found.digest)));
    assert_ok(store->ops->blob_extent(store, &found, &extent, &e), e);
    assert_true(is_there(state, blob_path(&found.digest)));
    close(extent.fd);
    store_close(store);

    store = open_at(state, 0);
    assert_ok(store->ops->resolve(store, "a", &found, &e), e);
    assert_true(larder_digest_equal(&found.digest, &one.digest));
    assert_int_equal(found.size_bytes, one.size_bytes);
    assert_string_equal(found.media_type, OCI_TYPE_MANIFEST);
    assert_ok(store->ops->manifest_get(store, NULL, NULL, &out, &found, &e), e);
    assert_int_equal(out.n, one.size_bytes);
    buf_reset(&out);
    memset(&found, 0, sizeof(found));
    assert_ok(store->ops->manifest_get(store, NULL, &one.digest, &out, &found, &e), e);
    assert_string_equal(found.media_type, OCI_TYPE_MANIFEST);
    assert_int_equal(store->ops->manifest_has(store, &one, &e), 1);
    assert_int_equal(store->ops->blob_has(store, &blob, &e), 1);
    assert_int_equal(store->ops->blob_has(store, &none, &e), 0);
    assert_ok(store->ops->blob_extent(store, &blob, &extent, &e), e);
    assert_int_equal(extent.n_bytes, 3);
    assert_int_equal(pread(extent.fd, text, 3, (off_t)extent.offset), 3);
    assert_string_equal(text, "one");
    close(extent.fd);
    assert_int_equal(store->ops->blob_extent(store, &none, &extent, &e), -LARDER_NOENT);
    assert_non_null(strstr(e.msg, "not in the layout"));
    assert_non_null(strstr(e.msg, store->name));
    bool exists;
    struct blob_writer writer;
    assert_int_equal(store->ops->blob_begin(store, &none, &writer, &exists, &e), -LARDER_DENIED);
    buf_done(&out);
    store_close(store);
}

static void wrong_bytes_are_found(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    struct store_descriptor one = put_image(store, "one", "a"), two, found;
    struct store_descriptor blob = descriptor_of("", "one", 3);
    struct store_extent extent;
    struct buf out = BUF_INIT(65536);

    file_put(dir_of(state), blob_path(&blob.digest), "longer");
    assert_int_equal(store->ops->blob_has(store, &blob, &e), -LARDER_CORRUPT);
    assert_int_equal(store->ops->blob_extent(store, &blob, &extent, &e), -LARDER_CORRUPT);
    assert_false(put_blob(store, "one", 3, &two)); /* written anew */
    assert_ok(store->ops->flush(store, &e), e);
    assert_int_equal(store->ops->blob_has(store, &blob, &e), 1);

    CLEANUP_FREE char *manifest = file_text(dir_of(state), blob_path(&one.digest));
    manifest[5] ^= 1;
    file_put(dir_of(state), blob_path(&one.digest), manifest);
    assert_int_equal(store->ops->manifest_get(store, "a", NULL, &out, &found, &e), -LARDER_CORRUPT);
    assert_int_equal(out.n, 0);
    assert_int_equal(unlinkat(dir_of(state), blob_path(&one.digest), 0), 0);
    assert_int_equal(store->ops->manifest_get(store, "a", NULL, &out, &found, &e), -LARDER_NOENT);
    assert_int_equal(mkdirat(dir_of(state), blob_path(&one.digest), 0755), 0);
    assert_int_equal(store->ops->manifest_get(store, "a", NULL, &out, &found, &e), -LARDER_CORRUPT);
    buf_done(&out);
    store_close(store);
}

/* What other programs wrote stays, where it was. */
static void names_are_edited_in_place(void **state)
{
    static const char digest[] =
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    struct buf out = BUF_INIT(65536);
    char hex[LARDER_DIGEST_TEXT_BYTES];
    buf_printf(&out,
               "{\"x-first\":[1,2.5],\"schemaVersion\":2,\"manifests\":["
               "{\"mediaType\":\"a/b\",\"digest\":\"%s\",\"size\":2,\"annotations\":{"
               "\"org.opencontainers.image.ref.name\":\"old\",\"y\":\"z\"}},"
               "{\"mediaType\":\"a/b\",\"digest\":\"%s\",\"size\":2,\"annotations\":{"
               "\"org.opencontainers.image.ref.name\":\"new\"}},"
               "{\"mediaType\":\"a/b\",\"digest\":\"%s\",\"size\":2,\"z\":{\"b\":1,\"a\":null}}],"
               "\"annotations\":{\"k\":\"v\"}}",
               digest, digest, digest);
    file_put(dir_of(state), "index.json", out.p);

    struct store_descriptor one = put_image(store, "one", "new");
    CLEANUP_FREE char *index = file_text(dir_of(state), "index.json");
    struct buf want = BUF_INIT(65536);
    buf_printf(&want,
               "{\"x-first\":[1,2.5],\"schemaVersion\":2,\"manifests\":["
               "{\"mediaType\":\"a/b\",\"digest\":\"%s\",\"size\":2,\"annotations\":{"
               "\"org.opencontainers.image.ref.name\":\"old\",\"y\":\"z\"}},"
               "{\"mediaType\":\"" OCI_TYPE_MANIFEST "\",\"digest\":\"%s\",\"size\":%llu,"
               "\"annotations\":{\"org.opencontainers.image.ref.name\":\"new\"}},"
               "{\"mediaType\":\"a/b\",\"digest\":\"%s\",\"size\":2,\"z\":{\"b\":1,\"a\":null}}],"
               "\"annotations\":{\"k\":\"v\"}}\n",
               digest, larder_digest_format(&one.digest, hex), (unsigned long long)one.size_bytes,
               digest);
    assert_string_equal(index, want.p);

    /* The same again writes nothing. */
    struct stat before, after;
    assert_int_equal(fstatat(dir_of(state), "index.json", &before, 0), 0);
    put_image(store, "one", "new");
    assert_int_equal(fstatat(dir_of(state), "index.json", &after, 0), 0);
    assert_true(before.st_ino == after.st_ino);

    assert_ok(store->ops->remove_ref(store, "old", &e), e);
    assert_int_equal(store->ops->remove_ref(store, "old", &e), -LARDER_NOENT);
    CLEANUP_FREE char *names = names_of(store);
    assert_string_equal(names, "new ");
    assert_ok(store->ops->manifest_remove(store, &one.digest, &e), e);
    assert_int_equal(store->ops->manifest_remove(store, &one.digest, &e), -LARDER_NOENT);
    CLEANUP_FREE char *left = file_text(dir_of(state), "index.json");
    assert_non_null(strstr(left, "\"z\":{\"b\":1,\"a\":null}"));
    assert_null(strstr(left, "ref.name"));
    buf_done(&out);
    buf_done(&want);
    store_close(store);
}

static void the_only_image(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    struct store_descriptor found, one, two, index, referrer;
    assert_int_equal(store->ops->resolve(store, NULL, &found, &e), -LARDER_NOENT);
    one = put_image(store, "one", "");
    CLEANUP_FREE char *text = file_text(dir_of(state), "index.json");
    assert_null(strstr(text, "annotations"));
    assert_ok(store->ops->resolve(store, NULL, &found, &e), e);
    assert_true(larder_digest_equal(&found.digest, &one.digest));
    put_image(store, "one", "two-names");
    put_image(store, "one", "of-one");
    assert_ok(store->ops->resolve(store, NULL, &found, &e), e);
    /* As oras lists them: members and referrers have entries of their own. */
    two = put_image(store, "two", "");
    assert_int_equal(store->ops->resolve(store, NULL, &found, &e), -LARDER_INVAL);
    assert_non_null(strstr(e.msg, "two-names"));
    assert_non_null(strstr(e.hint, "NAME"));
    assert_ok(store->ops->remove_ref(store, "two-names", &e), e);
    assert_ok(store->ops->remove_ref(store, "of-one", &e), e);
    struct store_descriptor members[] = {one, two};
    index = put_index(store, members, 2, "all");
    put_referrer(store, &index, "a/sbom", &referrer);
    assert_ok(store->ops->resolve(store, NULL, &found, &e), e);
    assert_true(larder_digest_equal(&found.digest, &index.digest));
    assert_int_equal(store->ops->resolve(store, "none", &found, &e), -LARDER_NOENT);
    assert_non_null(strstr(e.msg, "all"));
    store_close(store);
}

static void referrers_are_found(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    struct store_descriptor one = put_image(store, "one", "a"), two = put_image(store, "two", "b");
    struct store_descriptor sbom, signature, hidden, members[1];
    struct buf out = BUF_INIT(65536);
    char text[LARDER_DIGEST_TEXT_BYTES], tag[128];
    put_referrer(store, &one, "a/sbom", &sbom);
    put_referrer(store, &one, "a/sig", &signature);
    put_referrer(store, &two, "a/sbom", &hidden);

    assert_ok(store->ops->referrers(store, &one.digest, NULL, &out, &e), e);
    assert_non_null(strstr(out.p, larder_digest_format(&sbom.digest, text)));
    assert_non_null(strstr(out.p, "\"artifactType\":\"a/sbom\",\"annotations\":{\"k\":\"v\"}"));
    assert_non_null(strstr(out.p, larder_digest_format(&signature.digest, text)));
    assert_null(strstr(out.p, larder_digest_format(&hidden.digest, text)));
    buf_reset(&out);
    assert_ok(store->ops->referrers(store, &one.digest, "a/sig", &out, &e), e);
    assert_null(strstr(out.p, larder_digest_format(&sbom.digest, text)));
    assert_non_null(strstr(out.p, larder_digest_format(&signature.digest, text)));
    buf_reset(&out);
    assert_ok(store->ops->referrers(store, &sbom.digest, NULL, &out, &e), e);
    assert_string_equal(out.p, "{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\","
                               "\"manifests\":[]}\n");

    /* By the fallback tag alone. */
    assert_ok(store->ops->manifest_remove(store, &hidden.digest, &e), e);
    members[0] = hidden;
    snprintf(tag, sizeof(tag), "sha256-%s", larder_digest_hex(&two.digest, text));
    put_index(store, members, 1, tag);
    buf_reset(&out);
    assert_ok(store->ops->referrers(store, &two.digest, NULL, &out, &e), e);
    assert_non_null(strstr(out.p, larder_digest_format(&hidden.digest, text)));
    buf_done(&out);
    store_close(store);
}

static void partials_go_on(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    struct store_descriptor blob = descriptor_of("", "0123456789", 10);
    struct blob_writer writer, second;
    bool exists = false;
    assert_ok(store->ops->blob_begin(store, &blob, &writer, &exists, &e), e);
    assert_false(exists);
    assert_int_equal(writer.done_bytes, 0);
    assert_int_equal(fd_pwrite_full(writer.fd, "01234", 5, 0), 0);
    /* Another one at the same time does not disturb it. */
    assert_ok(store->ops->blob_begin(store, &blob, &second, &exists, &e), e);
    assert_int_equal(second.done_bytes, 0);
    store->ops->blob_abort(store, &second, true);
    /* Not yet all of it. */
    assert_int_equal(store->ops->blob_commit(store, &blob, &writer, &e), -LARDER_IO);
    store->ops->blob_abort(store, &writer, true);
    store_close(store);
    assert_true(is_there(state, ".larder"));

    store = open_at(state, STORE_OPEN_WRITE);
    assert_ok(store->ops->blob_begin(store, &blob, &writer, &exists, &e), e);
    assert_int_equal(writer.done_bytes, 5);
    assert_in_range(store->ops->blob_kept(store, &blob), 5, 10);
    assert_int_equal(fd_pwrite_full(writer.fd, "56789", 5, 5), 0);
    assert_ok(store->ops->blob_commit(store, &blob, &writer, &e), e);
    store_close(store); /* not flushed: a partial still */
    assert_false(is_there(state, blob_path(&blob.digest)));

    store = open_at(state, STORE_OPEN_WRITE);
    assert_ok(store->ops->blob_begin(store, &blob, &writer, &exists, &e), e);
    assert_int_equal(writer.done_bytes, 10);
    assert_ok(store->ops->blob_commit(store, &blob, &writer, &e), e);
    assert_ok(store->ops->flush(store, &e), e);
    assert_true(is_there(state, blob_path(&blob.digest)));
    assert_int_equal(store->ops->blob_kept(store, &blob), 0);
    /* Dropped: nothing stays. */
    blob = descriptor_of("", "abc", 3);
    assert_ok(store->ops->blob_begin(store, &blob, &writer, &exists, &e), e);
    assert_int_equal(fd_pwrite_full(writer.fd, "ab", 2, 0), 0);
    store->ops->blob_abort(store, &writer, false);
    store_close(store);
    assert_false(is_there(state, ".larder"));
}

/* What a killed process left is in nobody's way, and goes when it is old; what is not ours stays.
 */
static void leavings_grow_old(void **state)
{
    static const struct {
        const char *name;
        int hours;
        bool stays;
    } files[] = {
        {".larder/tmp-1-2-0", 2, false},     {".larder/tmp-1-2-1", 0, true},
        {".larder/sha256-ab", 2, true},      {".larder/sha256-cd", 8 * 24, false},
        {".tmp-1-2-0-oci-layout", 2, false}, {".tmp-1-2-1-oci-layout", 0, true},
        {".tmp-1-2-0-index.json", 2, true},  {".tmp-oci-layout.swp", 2, true},
        {"tmp-oci-layout", 2, true},
    };
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    put_image(store, "one", "a");
    store_close(store);
    assert_int_equal(mkdirat(dir_of(state), ".larder", 0755), 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct timespec times[2] = {{time(NULL) - files[i].hours * 3600, 0}};
        times[1] = times[0];
        file_put(dir_of(state), files[i].name, "x");
        assert_int_equal(utimensat(dir_of(state), files[i].name, times, 0), 0);
    }
    store = open_at(state, STORE_OPEN_WRITE);
    put_image(store, "two", "b");
    store_close(store);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (is_there(state, files[i].name) != files[i].stays)
            fail_msg("%s %s", files[i].name, files[i].stays ? "is gone" : "is there");
    }
}

static void what_is_no_layout(void **state)
{
    struct scratch *s = *state;
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = NULL;
    char path[128];
    snprintf(path, sizeof(path), "%s/none/below", s->path);
    assert_int_equal(layout_open(path, 0, NULL, &store, &e), -LARDER_NOENT);
    assert_ok(layout_open(path, STORE_OPEN_WRITE, NULL, &store, &e), e);
    store_close(store);
    /* Somebody's home. */
    assert_int_equal(layout_open(s->path, STORE_OPEN_WRITE, NULL, &store, &e), -LARDER_INVAL);
    assert_int_equal(layout_open(s->path, 0, NULL, &store, &e), -LARDER_INVAL);
    file_put(s->fd, "oci-layout", "{\"imageLayoutVersion\":\"2.0.0\"}");
    assert_int_equal(layout_open(s->path, 0, NULL, &store, &e), -LARDER_UNSUPPORTED);
    file_put(s->fd, "oci-layout", "{}");
    assert_int_equal(layout_open(s->path, 0, NULL, &store, &e), -LARDER_CORRUPT);
    file_put(s->fd, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    assert_ok(layout_open(s->path, 0, NULL, &store, &e), e);
    struct store_descriptor found;
    assert_int_equal(store->ops->resolve(store, "a", &found, &e), -LARDER_NOENT);
    static const char *const bad[] = {"", "{", "[]", "{\"manifests\":{}}", "{\"manifests\":\"\"}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        file_put(s->fd, "index.json", bad[i]);
        assert_int_equal(store->ops->resolve(store, "a", &found, &e), -LARDER_CORRUPT);
    }
    file_put(s->fd, "index.json", "{\"manifests\":null}");
    assert_int_equal(store->ops->resolve(store, NULL, &found, &e), -LARDER_NOENT);
    static const char negative[] =
        "{\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\","
        "\"size\":-1}";
    static const char *const entries[] = {
        "1",
        "{}",
        "{\"digest\":\"sha256:../../x\",\"size\":1}",
        "{\"digest\":\"md5:d41d8cd98f00b204e9800998ecf8427e\",\"size\":1}",
        negative,
    };
    for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
        char text[512];
        snprintf(text, sizeof(text), "{\"manifests\":[%s]}", entries[i]);
        file_put(s->fd, "index.json", text);
        assert_int_equal(store->ops->resolve(store, NULL, &found, &e), -LARDER_CORRUPT);
    }
    store_close(store);
}

/* docker save and its kin: a full name in another annotation, files we don't know. */
static void foreign_layout(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store_descriptor found;
    file_put(dir_of(state), "manifest.json", "[]");
    file_put(dir_of(state), "repositories", "{}");
    file_put(dir_of(state), "index.json",
             "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" OCI_TYPE_MANIFEST "\","
             "\"digest\":\"sha256:"
             "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2,"
             "\"annotations\":{\"io.containerd.image.name\":\"docker.io/library/app:1\","
             "\"org.opencontainers.image.ref.name\":\"1\"}}]}");
    struct store *store = open_at(state, 0);
    assert_ok(store->ops->resolve(store, "1", &found, &e), e);
    assert_ok(store->ops->resolve(store, "docker.io/library/app:1", &found, &e), e);
    assert_int_equal(store->ops->manifest_has(store, &found, &e), 0); /* no blobs/ at all */
    store_close(store);
}

/* ---- many at once ---- */

#define N_PROCESSES 8
#define N_TAGS      12

static int write_tags(const char *path, int number)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = NULL;
    if (layout_open(path, STORE_OPEN_WRITE, NULL, &store, &e) < 0)
        return 1;
    for (int i = 0; i < N_TAGS; i++) {
        char name[32];
        snprintf(name, sizeof(name), "t-%d-%d", number, i);
        put_image(store, i % 3 == 0 ? "shared" : name, name);
    }
    store_close(store);
    return 0;
}

static void no_entry_is_lost(void **state)
{
    struct scratch *s = *state;
    struct larder_error e = LARDER_ERROR_INIT;
    int status;
    for (int i = 0; i < N_PROCESSES; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            _exit(write_tags(s->path, i));
    }
    for (int i = 0; i < N_PROCESSES; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    struct store *store = open_at(state, 0);
    for (int i = 0; i < N_PROCESSES * N_TAGS; i++) {
        struct store_descriptor found;
        struct buf out = BUF_INIT(65536);
        char name[32];
        snprintf(name, sizeof(name), "t-%d-%d", i / N_TAGS, i % N_TAGS);
        assert_ok(store->ops->manifest_get(store, name, NULL, &out, &found, &e), e);
        buf_done(&out);
    }
    store_close(store);
}

/* A program without locks, which reads and replaces the file all the time; but for rests, longer
 * each time, so that a slow machine gets between two of its writes in the end. */
static void beside_others(void **state)
{
    struct scratch *s = *state;
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (int i = 0;; i++) {
            struct larder_error e;
            struct buf text = BUF_INIT(1 << 20);
            if (file_read(s->fd, "index.json", &text, &e) < 0)
                _exit(1);
            if (i % 2)
                buf_putc(&text, ' ');
            file_write_atomic(s->fd, "index.json", text.p, text.n, 0644, &e);
            buf_done(&text);
            usleep(i % 20 ? 300 : (useconds_t)(i < 4000 ? i : 4000) * 500);
        }
    }
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof(name), "t%d", i);
        put_image(store, name, name);
        struct store_descriptor found;
        struct larder_error e = LARDER_ERROR_INIT;
        /* The other one may drop it again, as it knows no lock; the file stays whole. */
        int r = store->ops->resolve(store, name, &found, &e);
        assert_true(r == 0 || r == -LARDER_NOENT);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    store_close(store);
}

struct lane {
    struct store *store;
    int number;
};

#define N_LANES 4
#define N_BLOBS 300

static void *write_blobs(void *arg)
{
    struct lane *lane = arg;
    for (int i = 0; i < N_BLOBS; i++) {
        struct store_descriptor blob;
        char text[32];
        snprintf(text, sizeof(text), "%d-%d", i % 5 ? lane->number : 99, i);
        put_blob(lane->store, text, strlen(text), &blob);
    }
    return NULL;
}

static void lanes_share_a_handle(void **state)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct store *store = open_at(state, STORE_OPEN_WRITE);
    struct lane lanes[N_LANES];
    pthread_t threads[N_LANES];
    for (int i = 0; i < N_LANES; i++) {
        lanes[i] = (struct lane){store, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_blobs, &lanes[i]), 0);
    }
    for (int i = 0; i < N_LANES; i++)
        pthread_join(threads[i], NULL);
    assert_ok(store->ops->flush(store, &e), e);
    for (int i = 0; i < N_LANES; i++) {
        for (int k = 0; k < N_BLOBS; k++) {
            char text[32];
            snprintf(text, sizeof(text), "%d-%d", k % 5 ? i : 99, k);
            struct store_descriptor blob = descriptor_of("", text, strlen(text));
            assert_true(is_there(state, blob_path(&blob.digest)));
        }
    }
    store_close(store);
    assert_false(is_there(state, ".larder"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(made_whole_from_the_start),
        TEST(images_come_back),
        TEST(wrong_bytes_are_found),
        TEST(names_are_edited_in_place),
        TEST(the_only_image),
        TEST(referrers_are_found),
        TEST(partials_go_on),
        TEST(leavings_grow_old),
        TEST(what_is_no_layout),
        TEST(foreign_layout),
        TEST(no_entry_is_lost),
        TEST(beside_others),
        TEST(lanes_share_a_handle),
    };
    return cmocka_run_group_tests_name("layout", tests, NULL, NULL);
}
