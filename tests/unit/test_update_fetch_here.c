/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching with what is here: hashed, held against gc, unpacked, left out. */
#include "update_fetch_fixture.h"

#include <larder/maintain.h>

#include "base/clock.h"
#include "update/base/base.h"

/* ---- a repository that has some layers, and a record as ostree-ext writes it ---- */

static struct fake_repository {
    struct larder_digest layers[4];
    size_t n_layers;
    const struct update_record *record; /* NULL */
    const struct base_holder *holders;  /* what they name is all that is looked at */
    size_t n_holders, record_of;        /* the holder with the record */
} repository;

static int copy_text(struct buf *to, const struct buf *from)
{
    *to = BUF_INIT(1 << 20);
    buf_append(to, from->p, from->n);
    return buf_failed(to, NULL);
}

static int repository_holders(struct base *b, struct base_holders *ret, struct larder_error *e)
{
    (void)b;
    (void)e;
    ret->n = repository.n_holders;
    ret->list = calloc(ret->n + 1, sizeof(*ret->list));
    assert_non_null(ret->list);
    for (size_t i = 0; i < ret->n; i++) {
        struct base_holder *h = &ret->list[i];
        const struct base_holder *from = &repository.holders[i];
        *h = (struct base_holder){
            .role = from->role, .digest = from->digest, .is_rewritten = from->is_rewritten};
        h->commit = strdup(from->role);
        h->media_type = strdup(OCI_TYPE_MANIFEST);
        copy_text(&h->manifest, &from->manifest);
        copy_text(&h->config, &from->config);
    }
    return 0;
}

static int repository_record(struct base *b, const struct base_holder *holder,
                             struct update_record *ret, struct larder_error *e)
{
    const struct update_record *from = repository.record;

    (void)b;
    if (!from || (holder && holder->commit && repository.n_holders > 0 &&
                  strcmp(holder->role, repository.holders[repository.record_of].role) != 0))
        return error_set(e, LARDER_NOENT, "no record");
    *ret = *from;
    ret->ref = strdup(from->ref);
    ret->platform = strdup(from->platform);
    ret->media_type = NULL;
    ret->commit = ret->name = NULL;
    copy_text(&ret->manifest, &from->manifest);
    copy_text(&ret->config, &from->config);
    return 0;
}

static int repository_layers(struct base *b, const struct image_view *view,
                             enum larder_update_presence *presence, struct larder_error *e)
{
    (void)e;
    for (size_t i = 0; i < view->n_layers; i++) {
        presence[i] = b->ask->store ? LARDER_UPDATE_HERE : LARDER_UPDATE_NEEDED;
        for (size_t k = 0; k < repository.n_layers; k++)
            if (larder_digest_equal(&view->layers[i].digest, &repository.layers[k]))
                presence[i] = LARDER_UPDATE_HERE;
    }
    return 0;
}

static void repository_close(struct base *b)
{
    free(b);
}

int base_ostree_open(const struct update_ask *ask, struct base **ret, struct larder_error *e)
{
    static const struct base_ops ops = {.holders = repository_holders,
                                        .record_get = repository_record,
                                        .layers_here = repository_layers,
                                        .close = repository_close};
    struct base *b = calloc(1, sizeof(*b));

    (void)e;
    assert_non_null(b);
    b->ops = &ops;
    b->ask = ask;
    b->place = strdup("/ostree/repo");
    b->identity = strdup("/ostree/repo");
    *ret = b;
    return 0;
}

int base_ostree_each(struct larder_store *store, const struct larder_update_options *options,
                     int (*fn)(void *arg, const char *ref, const char *platform), void *arg,
                     struct larder_error *e)
{
    (void)store;
    (void)options;
    (void)fn;
    (void)arg;
    (void)e;
    return 0;
}

int base_ostree_identity(const struct larder_update_options *options, char **ret,
                         struct larder_error *e)
{
    (void)options;
    *ret = strdup("/ostree/repo");
    return *ret ? 0 : error_nomem(e);
}

int base_ostree_follows(const char *sysroot, char **ret_ref, struct larder_error *e)
{
    (void)sysroot;
    (void)ret_ref;
    return error_set(e, LARDER_NOENT, "none");
}

/* ---- what is here ---- */

static void damage(const struct bed *b, const struct larder_digest *digest)
{
    char path[WORDS], hex[LARDER_DIGEST_TEXT_BYTES];
    struct stat st;

    snprintf(path, sizeof(path), "%s/blobs/sha256/%s", b->path, larder_digest_hex(digest, hex));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "!?", 2, 100), 2);
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static void what_is_here_is_hashed(void **state)
{
    struct bed *b = *state;
    struct layer l[3] = {layer_of(1, 5000), layer_of(2, 6000), layer_of(3, 7000)};
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    char layout[WORDS];

    put_image("a/b", "latest", "1", l, 2, NULL);
    record_now(b);
    fetch_ok(b, NULL);
    struct larder_digest v2 = put_image("a/b", "latest", "2", l, 3, NULL);
    record_now(b);
    damage(b, &l[0].digest);
    fetch_ok(b, NULL);
    assert_true(is_base(b, &v2));
    assert_int_equal(b->got.layers_fetched, 2);
    assert_int_equal(b->got.layers_here, 1);
    done(larder_blob_verify(b->store, &l[0].digest, LARDER_VERIFY_DEEP, &b->e), &b->e);

    /* On its way to a layout it is hashed as it is copied. */
    struct larder_digest v3 = put_image("a/b", "latest", "3", l, 3, NULL);
    record_now(b);
    damage(b, &l[1].digest);
    snprintf(layout, sizeof(layout), "oci:%s/out", b->dir);
    to.to = layout;
    fetch_ok(b, &to);
    assert_true(larder_digest_equal(&b->got.digest, &v3));
    assert_true(b->got.layers_fetched >= 1);
    assert_true(is_base(b, &v2));
    /* In the layout it is not ours to remove. */
    char path[WORDS], hex[LARDER_DIGEST_TEXT_BYTES];
    snprintf(path, sizeof(path), "%s/out/blobs/sha256/%s", b->dir,
             larder_digest_hex(&l[2].digest, hex));
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "!", 1, 0), 1);
    close(fd);
    to.to = strcat(layout, ":again");
    assert_int_equal(fetch_with(b, &plain, &to), -LARDER_CORRUPT);
    layers_free(l, 3);
}

static void layers_are_unpacked_by_diff_id(void **state)
{
    struct bed *b = *state;
    struct layer tar, packed, other = layer_of(9, 4000);
    struct larder_update_fetch_options dry = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    char layout[WORDS];

    dry.dry_run = true;
    layers_of_one_content(b, &tar, &packed);
    put_image("a/b", "latest", "1", &packed, 1, NULL);
    record_now(b);
    fetch_ok(b, NULL);
    struct layer l[2] = {tar, other};
    struct larder_digest v2 = put_image("a/b", "latest", "2", l, 2, NULL);
    record_now(b);
    fetch_ok(b, &dry);
    assert_int_equal(b->got.layers_unpacked, 1);
    /* To a layout from the store's, and into the store. */
    registry_server_set(&server, "{}");
    snprintf(layout, sizeof(layout), "oci:%s/out:x", b->dir);
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    to.to = layout;
    fetch_ok(b, &to);
    assert_int_equal(b->got.layers_unpacked, 1);
    assert_int_equal(b->got.layers_fetched, 1);
    /* manifest, configuration, the other layer */
    assert_int_equal(registry_server_count(&server, ""), 3);
    /* Damaged, what it would be made from: fetched. */
    damage(b, &packed.digest);
    registry_server_set(&server, "{}");
    fetch_ok(b, NULL);
    assert_int_equal(b->got.layers_unpacked, 0);
    assert_int_equal(b->got.layers_fetched, 2);
    assert_true(is_base(b, &v2));
    layers_free(l, 2);
    free(packed.data);
}

/* ---- gc at the same time ---- */

static bool is_one_held(void)
{
    struct buf waiting = BUF_INIT(1 << 20);
    int status = registry_server_ask(&server, "GET", "/_waiting", "-", "", 0, &waiting);
    bool is_held = status == 200 && !strstr(waiting.p, "\"held\": []");

    buf_done(&waiting);
    return is_held;
}

/* Begins when a request is held, and lets it go after some rounds. */
static pid_t collector(const struct bed *b)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct larder_store *store = NULL;
        struct larder_gc_options options = LARDER_GC_OPTIONS_INIT;
        struct larder_gc_report report;
        options.keep_for_ns = 0;
        options.keep_partial_ns = 0;
        while (!is_one_held())
            clock_sleep_ns(10 * NS_PER_MS);
        if (larder_store_open(b->path, NULL, &store, NULL) < 0)
            _exit(2);
        for (unsigned i = 0;; i++) {
            if (larder_gc(store, &options, &report, NULL) < 0)
                _exit(3);
            if (i == 5)
                registry_server_ask(&server, "DELETE", "/_waiting", "-", "", 0, NULL);
        }
    }
    return pid;
}

#define RACE_LAYERS 140 /* more than are published together, see dir_store.c */

/*
 * Layers that no ref keeps are here, others come, 128 of them long before the last one: meanwhile
 * gc runs and keeps nothing for its age.
 */
static void gc_takes_nothing_of_it(void **state)
{
    struct bed *b = *state;
    struct layer l[RACE_LAYERS];
    struct larder_update_fetch_options other = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    char hex[LARDER_DIGEST_TEXT_BYTES];
    struct buf rules = BUF_INIT(1 << 20);
    int status;

    for (unsigned i = 0; i < RACE_LAYERS; i++)
        l[i] = layer_of(100 + i, 300);
    put_image("a/b", "latest", "0", l, 6, NULL);
    record_now(b);
    other.to = "store:other";
    fetch_ok(b, &other);
    done(larder_ref_remove(b->store, "oci/other", &b->e), &b->e);
    struct larder_digest v = put_image("a/b", "latest", "1", l, RACE_LAYERS, NULL);
    record_now(b);
    buf_printf(&rules, "{\"rules\": [{\"hold\": true, \"match\": \"%s\"}]}",
               larder_digest_hex(&l[RACE_LAYERS - 1].digest, hex));
    registry_server_set(&server, rules.p);
    buf_done(&rules);

    pid_t pid = collector(b);
    int rc = fetch_with(b, &plain, NULL);
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0); /* still well */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    done(rc, &b->e);
    assert_true(is_base(b, &v));
    assert_int_equal(b->got.layers_here, 6);
    for (unsigned i = 0; i < RACE_LAYERS; i++)
        done(larder_blob_verify(b->store, &l[i].digest, LARDER_VERIFY_DEEP, &b->e), &b->e);
    assert_int_equal(b->got.requests, 1 + 1 + RACE_LAYERS - 6);
    layers_free(l, RACE_LAYERS);
}

/* ---- for an ostree repository ---- */

/* What ostree-ext keeps: the same document, written anew, so that the digest is not its bytes'. */
static struct update_record rewritten(struct bed *b, const struct larder_digest *digest)
{
    struct update_record r = {.manifest_digest = *digest,
                              .listed = *digest,
                              .has_update = true,
                              .is_rewritten = true,
                              .manifest = BUF_INIT(1 << 20),
                              .config = BUF_INIT(1 << 20)};
    struct larder_manifest m = {0};

    done(larder_manifest_get(NULL, ref(), NULL, NULL, &m, &b->e), &b->e);
    buf_append(&r.manifest, m.bytes, m.n_bytes);
    buf_puts(&r.manifest, "\n");
    larder_manifest_done(&m);
    r.ref = strdup(ref());
    r.platform = strdup(PLATFORM);
    registry_server_set(&server, "{}");
    return r;
}

static void a_layout_for_the_importer(void **state)
{
    struct bed *b = *state;
    struct layer l[3] = {layer_of(1, 5000), layer_of(2, 6000), layer_of(3, 7000)};
    struct larder_update_options ostree = {
        .size = sizeof(ostree), .platform = PLATFORM, .ostree_repo = b->dir};
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    struct larder_digest v1 = put_image("a/b", "latest", "1", l, 3, NULL);
    struct update_record record = rewritten(b, &v1);
    char layout[WORDS], path[WORDS], hex[LARDER_DIGEST_TEXT_BYTES];

    memset(&repository, 0, sizeof(repository));
    repository.layers[0] = l[1].digest;
    repository.n_layers = 1;
    repository.record = &record;
    snprintf(layout, sizeof(layout), "oci:%s/out:v1", b->dir);
    to.to = layout;
    to.is_partial = true;
    done(fetch_with(b, &ostree, &to), &b->e);
    assert_true(b->got.is_partial && larder_digest_equal(&b->got.digest, &v1));
    assert_int_equal(b->got.layers_fetched, 2);
    assert_int_equal(b->got.layers_here, 1);
    snprintf(path, sizeof(path), "%s/out/blobs/sha256/%s", b->dir,
             larder_digest_hex(&l[1].digest, hex));
    assert_int_equal(access(path, F_OK), -1);
    struct larder_manifest m = {0};
    done(larder_manifest_get(NULL, layout, NULL, NULL, &m, &b->e), &b->e);
    assert_true(larder_digest_equal(&m.digest, &v1));
    larder_manifest_done(&m);
    done(fetch_with(b, &ostree, &to), &b->e);
    assert_true(b->got.was_there && b->got.is_partial);
    /* All of it; by default into the store, under REF's name. */
    to.is_partial = false;
    done(fetch_with(b, &ostree, &to), &b->e);
    assert_int_equal(b->got.layers_fetched, 1);
    assert_int_equal(access(path, F_OK), 0);
    done(fetch_with(b, &ostree, NULL), &b->e);
    assert_true(says(b->got.location, "store:127.0.0.1") && is_base(b, &v1));
    to.to = "store:x";
    to.is_partial = true;
    assert_int_equal(fetch_with(b, &ostree, &to), -LARDER_INVAL);
    record_done(&record);
    layers_free(l, 3);
}

static void what_is_staged_was_fetched(void **state)
{
    struct bed *b = *state;
    struct layer l = layer_of(1, 5000);
    struct larder_update_options ostree = {
        .size = sizeof(ostree), .platform = PLATFORM, .ostree_repo = b->dir};
    struct larder_update_fetch_options to = LARDER_UPDATE_FETCH_OPTIONS_INIT;
    struct larder_digest v2 = put_image("a/b", "latest", "2", &l, 1, NULL);
    struct update_record record = rewritten(b, &v2);
    struct base_holder holders[2] = {
        {.role = "image", .digest = v2, .is_rewritten = true, .manifest = record.manifest},
        {.role = "booted", .digest = digest_of("v1", 2), .manifest = record.manifest},
    };
    char layout[WORDS];

    /* Imported, and the record is with the booted deployment's commit still. */
    record.base = holders[1].digest;
    memset(&repository, 0, sizeof(repository));
    repository.record = &record;
    repository.holders = holders;
    repository.n_holders = 2;
    repository.record_of = 1;
    done(fetch_with(b, &ostree, NULL), &b->e);
    assert_true(b->got.was_there && larder_digest_equal(&b->got.digest, &v2));
    assert_string_equal(b->got.location, "/ostree/repo");
    assert_int_equal(registry_server_count(&server, ""), 0);
    /* Who asks for it elsewhere gets it. */
    snprintf(layout, sizeof(layout), "oci:%s/out", b->dir);
    to.to = layout;
    done(fetch_with(b, &ostree, &to), &b->e);
    assert_int_equal(b->got.layers_fetched, 1);
    assert_string_equal(b->got.location, layout);
    /* Another one is recorded there: of what is in use nothing is. */
    record.manifest_digest = digest_of("v3", 2);
    assert_int_equal(fetch_with(b, &ostree, NULL), -LARDER_NOENT);
    record_done(&record);
    free(l.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_is_here_is_hashed),    T(layers_are_unpacked_by_diff_id), T(gc_takes_nothing_of_it),
        T(a_layout_for_the_importer), T(what_is_staged_was_fetched),
    };

    if (!registry_server_is_possible())
        return 0;
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
