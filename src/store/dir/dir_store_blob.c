/* SPDX-License-Identifier: Apache-2.0 */
/* The blobs of larder's own store: looked for, written, and published in batches. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fdio.h"
#include "store/dir/dir_store.h"

/* Smaller ones are fetched again rather than gone on with. */
#define PARTIAL_BYTES_MIN (1024UL * 1024)
#define BATCH_BLOBS       128
#define BATCH_BYTES       (64ULL * 1024 * 1024)

struct dir_blob {
    struct dir_blob *next;
    struct larder_digest digest;
    uint64_t size_bytes;
    struct temp_file temp;
    bool is_partial;
    bool is_taken; /* some lane publishes it now */
};

/* ---- looking ---- */

static struct dir_blob *find_waiting(struct dir_store *d, const struct larder_digest *digest)
{
    struct dir_blob *b = d->list;
    while (b && !larder_digest_equal(&b->digest, digest))
        b = b->next;
    return b;
}

static int check_size(struct dir_store *d, const struct store_descriptor *blob, uint64_t size_bytes,
                      struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];
    if (blob->size_bytes == size_bytes)
        return 1;
    return error_set(e, LARDER_CORRUPT, "%s: blob %s: %llu bytes, expected %llu", d->base.name,
                     larder_digest_format(&blob->digest, text), (unsigned long long)size_bytes,
                     (unsigned long long)blob->size_bytes);
}

/* With the mutex: 1, 0 or negative. A blob of bad bytes goes to quarantine, and is not there. */
static int has(struct dir_store *d, const struct store_descriptor *blob, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    enum blob_state state = BLOB_MISSING;
    struct stat st;
    if (find_waiting(d, &blob->digest))
        return 1;
    int r = blob_check(d->store, &blob->digest, &state, &st, NULL, e);
    if (r < 0)
        return r;
    if (state == BLOB_MISSING || state == BLOB_MARKED)
        return 0;
    if (state == BLOB_UNSURE) {
        r = larder_blob_verify(d->store, &blob->digest, LARDER_VERIFY_DEEP, &why);
        if (r == -LARDER_CORRUPT || r == -LARDER_NOENT)
            return 0;
        if (r < 0 && e)
            *e = why;
        if (r < 0)
            return r;
    }
    memo_touch(d->store, &blob->digest);
    r = check_size(d, blob, (uint64_t)st.st_size, e);
    if (r == 1 && d->is_writable && digest_set_add(&d->promised, &blob->digest, e) < 0)
        return -LARDER_NOMEM;
    return r;
}

int dir_blob_has(struct store *s, const struct store_descriptor *blob, struct larder_error *e)
{
    struct dir_store *d = lock_dir(s);
    return unlock_dir(d, has(d, blob, e));
}

int dir_blob_open(struct store *s, const struct larder_digest *digest, int *ret_fd,
                  struct stat *ret_st, struct larder_error *e)
{
    struct dir_store *d = lock_dir(s);
    bool is_waiting = find_waiting(d, digest);
    unlock_dir(d, 0);
    int r = is_waiting ? dir_flush(s, e) : 0;
    if (r < 0)
        return r;
    CLEANUP_CLOSE int fd = -1;
    lock_dir(s);
    r = unlock_dir(d, larder_blob_open(d->store, digest, &fd, e));
    if (r < 0)
        return r;
    if (fstat(fd, ret_st) < 0)
        return error_errno(e, errno, "%s", s->name);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int dir_blob_extent(struct store *s, const struct store_descriptor *blob, struct store_extent *ret,
                    struct larder_error *e)
{
    CLEANUP_CLOSE int fd = -1;
    struct stat st;
    int r = dir_blob_open(s, &blob->digest, &fd, &st, e);
    if (r == 0)
        r = check_size(dir_of(s), blob, (uint64_t)st.st_size, e);
    if (r < 0)
        return r;
    *ret = (struct store_extent){TAKE_FD(fd), 0, blob->size_bytes};
    return 0;
}

/* ---- writing blobs ---- */

#define PARTIAL_KEY_BYTES (LARDER_DIGEST_TEXT_BYTES + 8)
static char *partial_key(const struct larder_digest *digest, char out[PARTIAL_KEY_BYTES])
{
    char hex[LARDER_DIGEST_TEXT_BYTES];
    snprintf(out, PARTIAL_KEY_BYTES, "oci-%s-%s", larder_digest_alg_name(digest->alg),
             larder_digest_hex(digest, hex));
    return out;
}

uint64_t dir_blob_kept(struct store *s, const struct store_descriptor *blob)
{
    char key[PARTIAL_KEY_BYTES];
    struct stat st = {0};
    struct dir_store *d = lock_dir(s);
    bool is_there =
        unlock_dir(d, partial_stat(d->store, partial_key(&blob->digest, key), &st, NULL) == 0);
    return is_there ? store_kept_bytes(&st, blob->size_bytes) : 0;
}

static int open_temp(struct dir_store *d, struct dir_blob *blob, struct larder_error *e)
{
    char key[PARTIAL_KEY_BYTES];
    struct larder_error why = LARDER_ERROR_INIT;
    int r = -LARDER_BUSY;
    if (blob->size_bytes >= PARTIAL_BYTES_MIN) {
        r = partial_open(d->store, partial_key(&blob->digest, key), &blob->temp, &why);
        blob->is_partial = r == 0;
    }
    /* Somebody else fetches the same: both do, and one is dropped. */
    if (r == -LARDER_BUSY)
        return temp_open(d->store, &blob->temp, e);
    if (r < 0 && e)
        *e = why;
    return r;
}

static int begin(struct dir_store *d, struct dir_blob *blob, struct blob_writer *ret,
                 struct larder_error *e)
{
    struct stat st;
    int r = open_temp(d, blob, e);
    if (r < 0)
        return r;
    int failed = fstat(blob->temp.fd, &st);
    if (failed == 0 && (uint64_t)st.st_size > blob->size_bytes) {
        st.st_size = 0;
        failed = ftruncate(blob->temp.fd, 0);
    }
    if (failed < 0) {
        r = error_errno(e, errno, "%s: temporary", d->base.name);
        temp_drop(&blob->temp);
        return r;
    }
    *ret = (struct blob_writer){blob->temp.fd, 0, (uint64_t)st.st_size, blob};
    return 0;
}

int dir_blob_begin(struct store *s, const struct store_descriptor *descriptor,
                   struct blob_writer *ret, bool *ret_exists, struct larder_error *e)
{
    if (!dir_of(s)->is_writable)
        return error_set(e, LARDER_DENIED, "%s: opened for reading only", s->name);
    struct dir_blob *blob = calloc(1, sizeof(*blob));
    if (!blob)
        return error_nomem(e);
    blob->digest = descriptor->digest;
    blob->size_bytes = descriptor->size_bytes;
    blob->temp = TEMP_FILE_INIT;
    struct dir_store *d = lock_dir(s);
    int r = has(d, descriptor, e);
    bool is_new = r == 0;
    *ret_exists = r > 0;
    if (is_new)
        r = begin(d, blob, ret, e);
    if (!is_new || r < 0)
        free(blob);
    return unlock_dir(d, r < 0 ? r : 0);
}

static void drop_blob(struct dir_blob *blob, bool keep)
{
    struct stat st;
    if (keep && blob->is_partial && fstat(blob->temp.fd, &st) == 0 && st.st_size > 0)
        temp_keep(&blob->temp);
    else
        temp_drop(&blob->temp);
    free(blob);
}

void dir_blob_abort(struct store *s, struct blob_writer *writer, bool keep)
{
    (void)s;
    if (writer->private)
        drop_blob(writer->private, keep);
    *writer = (struct blob_writer){-1, 0, 0, NULL};
}

struct batch {
    struct dir_blob *blobs[BATCH_BLOBS];
    struct temp_file *temps[BATCH_BLOBS];
    const struct larder_digest *digests[BATCH_BLOBS];
    size_t n;
};

/* With the mutex held: what waits, up to a batch. */
static void take_batch(struct dir_store *d, struct batch *batch)
{
    batch->n = 0;
    for (struct dir_blob *b = d->list; b && batch->n < BATCH_BLOBS; b = b->next) {
        if (b->is_taken)
            continue;
        b->is_taken = true;
        batch->blobs[batch->n] = b;
        batch->temps[batch->n] = &b->temp;
        batch->digests[batch->n++] = &b->digest;
        d->n_waiting--;
        d->waiting_bytes -= b->size_bytes;
    }
}

static void forget_batch(struct dir_store *d, const struct batch *batch)
{
    for (size_t i = 0; i < batch->n; i++) {
        struct dir_blob **at = &d->list;
        while (*at != batch->blobs[i])
            at = &(*at)->next;
        *at = batch->blobs[i]->next;
        drop_blob(batch->blobs[i], true); /* published ones have neither name nor descriptor left */
    }
}

/* Without the mutex: others go on while the disk writes. */
static int publish_batch(struct dir_store *d, const struct batch *batch, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    CLEANUP_CLOSE int lock = -1;
    int r = temps_sync(batch->temps, batch->digests, batch->n, &why);
    pthread_mutex_lock(&d->mutex);
    if (r == 0)
        r = store_lock(d->store, "gc", false, true, &lock, &why);
    if (r == 0)
        r = blob_publish_synced(d->store, batch->temps, batch->digests, batch->n, &why);
    for (size_t i = 0; r == 0 && i < batch->n; i++)
        r = digest_set_add(&d->promised, batch->digests[i], &why);
    if (r < 0 && d->failure.code == LARDER_OK)
        d->failure = why; /* others may have been told that the blob is there */
    forget_batch(d, batch);
    pthread_cond_broadcast(&d->settled);
    pthread_mutex_unlock(&d->mutex);
    if (r < 0 && e)
        *e = why;
    return r;
}

int dir_blob_commit(struct store *s, const struct store_descriptor *descriptor,
                    struct blob_writer *writer, struct larder_error *e)
{
    struct dir_blob *blob = writer->private;
    struct batch batch = {.n = 0};
    struct stat st;
    if (fstat(blob->temp.fd, &st) < 0)
        return error_errno(e, errno, "%s: temporary", s->name);
    if ((uint64_t)st.st_size != descriptor->size_bytes)
        return check_size(dir_of(s), descriptor, (uint64_t)st.st_size, e);
    *writer = (struct blob_writer){-1, 0, 0, NULL};
    struct dir_store *d = lock_dir(s);
    blob->next = d->list;
    d->list = blob;
    d->n_waiting++;
    d->waiting_bytes += blob->size_bytes;
    if (d->n_waiting >= BATCH_BLOBS || d->waiting_bytes >= BATCH_BYTES)
        take_batch(d, &batch);
    unlock_dir(d, 0);
    return batch.n > 0 ? publish_batch(d, &batch, e) : 0;
}

int dir_flush(struct store *s, struct larder_error *e)
{
    struct batch batch;
    int r = 0;
    struct dir_store *d = dir_of(s);
    do {
        lock_dir(s);
        take_batch(d, &batch);
        unlock_dir(d, 0);
        if (batch.n > 0)
            r = publish_batch(d, &batch, e);
    } while (r == 0 && batch.n > 0);
    lock_dir(s);
    while (d->list && r == 0)
        pthread_cond_wait(&d->settled, &d->mutex);
    if (d->failure.code != LARDER_OK) {
        r = -(int)d->failure.code;
        if (e)
            *e = d->failure;
    }
    return unlock_dir(d, r);
}

/* gc takes what no ref keeps. */
int dir_blob_remove(struct store *s, const struct larder_digest *digest, struct larder_error *e)
{
    (void)digest;
    return error_set(e, LARDER_UNSUPPORTED, "%s: blobs are removed by gc only", s->name);
}

void dir_blobs_drop(struct dir_store *d)
{
    while (d->list) {
        struct dir_blob *blob = d->list;
        d->list = blob->next;
        drop_blob(blob, true);
    }
}
