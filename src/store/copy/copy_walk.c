/* SPDX-License-Identifier: Apache-2.0 */
#include "store/copy/copy_walk.h"

#include <string.h>

#include "base/error.h"
#include "base/pool.h"
#include "oci/manifest.h"
#include "store/blob_read.h"
#include "store/copy/blob_move.h"
#include "store/copy/blob_pull.h"

/* --- opening manifests --- */

static int add_child(struct copy_walk *w, struct copy_node *parent,
                     const struct oci_descriptor *what, bool is_blob, struct larder_error *e)
{
    struct store_descriptor d = {.digest = what->digest, .size_bytes = what->size_bytes};

    strncpy(d.media_type, what->media_type, sizeof(d.media_type) - 1);
    return copy_plan_add(&w->plan, &d, is_blob, parent->from, parent->mount_from, parent, NULL, e);
}

/* Under the lock. What is no manifest in an index is a blob: build caches are written so. */
static int add_members(struct copy_walk *w, struct copy_node *node, const struct oci_manifest *m,
                       struct larder_error *e)
{
    bool wants_blobs = !node->is_there || !w->to->ops->is_remote;

    /* The last one added is opened first. */
    for (size_t i = m->n_manifests; i-- > 0;) {
        const char *type = m->manifests[i].media_type;
        bool is_blob = !media_type_is_index(type) && !media_type_is_manifest(type) &&
                       !media_type_is_schema1(type);
        if (is_blob && !wants_blobs)
            continue;
        int rc = add_child(w, node, &m->manifests[i], is_blob, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Under the lock. */
static int add_blobs(struct copy_walk *w, struct copy_node *node, const struct oci_manifest *m,
                     struct larder_error *e)
{
    int rc = add_child(w, node, &m->config, true, e);

    for (size_t i = 0; rc == 0 && i < m->n_layers; i++) {
        /* Those are fetched from where their urls say, by who runs the image. */
        if (!media_type_is_foreign(m->layers[i].media_type))
            rc = add_child(w, node, &m->layers[i], true, e);
    }
    return rc;
}

static int open_bytes(struct copy_walk *w, struct copy_node *node, struct buf *out,
                      struct larder_error *e)
{
    struct store_descriptor found;
    int rc;

    if (node == w->root) {
        buf_append_slice(out, w->root_bytes);
        return buf_failed(out, e);
    }
    if (node->is_there && !w->to->ops->is_remote) {
        rc = w->to->ops->manifest_get(w->to, NULL, &node->digest, out, &found, NULL);
        if (rc >= 0)
            return 0;
        /* Damaged or just removed: as if it were not there. */
        node->is_there = false;
        buf_reset(out);
    }
    rc = node->from->ops->manifest_get(node->from, NULL, &node->digest, out, &found, e);
    return rc < 0 ? rc : 0;
}

static int open_children(struct copy_walk *w, struct copy_node *node, struct buf *bytes,
                         struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
    char text[LARDER_DIGEST_TEXT_BYTES];
    int rc;

    if (bytes->n != node->size_bytes)
        return error_set(e, LARDER_MISMATCH, "manifest %s: %zu bytes, expected %llu",
                         larder_digest_format(&node->digest, text), bytes->n,
                         (unsigned long long)node->size_bytes);
    rc = manifest_parse_from(node->from, buf_slice(bytes), node->media_type, &m, e);
    if (rc < 0)
        return error_context(e, "manifest %s", larder_digest_format(&node->digest, text));
    pthread_mutex_lock(&w->lock);
    if (m->kind == OCI_KIND_INDEX)
        rc = add_members(w, node, m, e);
    else if (!node->is_there || !w->to->ops->is_remote)
        rc = add_blobs(w, node, m, e);
    if (rc == 0) {
        size_t n = bytes->n;
        if (node != w->root && !node->is_there)
            copy_plan_hold(&w->plan, node, buf_take(bytes), n);
        copy_plan_opened(&w->plan, node);
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

static int add_referrers(struct copy_walk *w, struct copy_node *node, struct larder_error *e);

static void finish_node(struct copy_walk *w, struct copy_node *node)
{
    pthread_mutex_lock(&w->lock);
    copy_plan_finished(&w->plan, node);
    pthread_mutex_unlock(&w->lock);
}

/* A registry that has a manifest has what it names. Files may have been lost: they are looked at.
 */
static bool is_complete(const struct copy_walk *w, const struct copy_node *node)
{
    return node->is_there && w->to->ops->is_remote &&
           !(w->options->has_referrers && media_type_is_index(node->media_type));
}

static int step_open(struct copy_walk *w, struct copy_node *node, struct larder_error *e)
{
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    struct store_descriptor d;
    int rc = 0;

    copy_node_descriptor(node, &d);
    if (!w->is_fresh && !w->options->force && !node->is_there) {
        rc = w->to->ops->manifest_has(w->to, &d, e);
        if (rc < 0)
            return rc;
        node->is_there = rc == 1;
    }
    if (is_complete(w, node)) {
        rc = w->options->has_referrers ? add_referrers(w, node, e) : 0;
        if (rc == 0)
            finish_node(w, node);
        return rc;
    }
    rc = open_bytes(w, node, &bytes, e);
    if (rc == 0)
        rc = open_children(w, node, &bytes, e);
    buf_done(&bytes);
    return rc;
}

/* --- putting them --- */

static int put_bytes(struct copy_walk *w, struct copy_node *node, struct larder_error *e)
{
    struct buf again = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    struct slice bytes = {node->bytes, node->n_bytes};
    struct store_descriptor d;
    struct store_descriptor found;
    int rc = 0;

    copy_node_descriptor(node, &d);
    if (node == w->root) {
        bytes = w->root_bytes;
    } else if (!node->bytes && !w->options->dry_run) {
        rc = node->from->ops->manifest_get(node->from, NULL, &node->digest, &again, &found, e);
        bytes = buf_slice(&again);
    }
    if (rc >= 0 && !w->options->dry_run)
        rc = w->to->ops->manifest_put(w->to, &d, bytes, NULL, 0, e);
    buf_done(&again);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&w->lock);
    w->result->manifests_put++;
    pthread_mutex_unlock(&w->lock);
    return 0;
}

static int step_put(struct copy_walk *w, struct copy_node *node, struct larder_error *e)
{
    bool is_callers = node == w->root && !w->options->has_referrers;
    int rc = 0;

    if (!is_callers && (!node->is_there || w->options->force))
        rc = put_bytes(w, node, e);
    /* After it, as who refers to something not there may be taken for litter. */
    if (rc == 0 && w->options->has_referrers)
        rc = add_referrers(w, node, e);
    if (rc == 0)
        finish_node(w, node);
    return rc;
}

static int add_referrers(struct copy_walk *w, struct copy_node *node, struct larder_error *e)
{
    CLEANUP(oci_manifest_freep) struct oci_manifest *m = NULL;
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    int rc = 0;

    if (!node->from->ops->referrers)
        return 0;
    rc = node->from->ops->referrers(node->from, &node->digest, NULL, &bytes, e);
    if (rc >= 0) {
        rc = manifest_parse_from(node->from, buf_slice(&bytes), NULL, &m, e);
        if (rc < 0)
            error_context(e, "%s: referrers", node->from->name);
    }
    buf_done(&bytes);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; rc == 0 && i < m->n_manifests; i++) {
        const struct oci_descriptor *what = &m->manifests[i];
        struct store_descriptor d = {.digest = what->digest, .size_bytes = what->size_bytes};
        strncpy(d.media_type, what->media_type, sizeof(d.media_type) - 1);
        rc = copy_plan_add(&w->plan, &d, false, node->from, node->mount_from, NULL, NULL, e);
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

/* --- blobs --- */

struct moving {
    struct copy_walk *walk;
    struct copy_node *node;
};

static int moving_progress(void *arg, uint64_t done_bytes, struct larder_error *e)
{
    const struct moving *m = arg;

    if (atomic_load_explicit(&m->walk->is_stopped, memory_order_relaxed))
        return error_set(e, LARDER_CANCELED, "canceled");
    /* Also backwards: a blob that is begun again. */
    uint64_t before = atomic_exchange(&m->node->progress, done_bytes);
    atomic_fetch_add(&m->walk->done_bytes, done_bytes - before);
    return 0;
}

static int move_dry(struct copy_walk *w, const struct blob_move *move, enum blob_how *ret,
                    struct larder_error *e)
{
    int rc = w->is_fresh ? 0 : w->to->ops->blob_has(w->to, move->blob, e);

    if (rc < 0)
        return rc;
    *ret = rc == 1 ? BLOB_EXISTED : move->mount_from ? BLOB_MOUNTED : BLOB_COPIED;
    return 0;
}

/*
 * Whether a blob need not be asked for. Registries call a repository unknown that has blobs but no
 * manifest yet: what a run leaves that was killed before its first manifest. Its lanes began with
 * the blobs that ours begin with, and took others only when one of those was there; so as many as
 * there are lanes are asked for, and one that is there makes all others worth asking for.
 */
static bool is_missing(struct copy_walk *w)
{
    return atomic_load(&w->is_fresh) && atomic_load(&w->n_moved) >= w->n_lanes;
}

static int step_move(struct copy_walk *w, struct copy_node *node, struct larder_error *e)
{
    struct store_descriptor d;
    struct moving moving = {w, node};
    uint64_t resumed = 0;
    struct blob_move move = {.from = node->from,
                             .to = w->to,
                             .blob = &d,
                             .mount_from = node->mount_from,
                             .is_missing = is_missing(w),
                             .team = w->team,
                             .progress = moving_progress,
                             .arg = &moving,
                             .ret_resumed = &resumed};
    enum blob_how how = BLOB_COPIED;
    int rc;

    copy_node_descriptor(node, &d);
    rc = w->options->dry_run ? move_dry(w, &move, &how, e) : blob_move_run(&move, &how, e);
    if (rc < 0)
        return rc;
    atomic_fetch_add(&w->done_bytes,
                     node->size_bytes - atomic_exchange(&node->progress, node->size_bytes));
    if (how == BLOB_EXISTED)
        atomic_store(&w->is_fresh, false);
    atomic_fetch_add(&w->n_moved, 1);
    if (how != BLOB_COPIED)
        atomic_fetch_add(&w->there_bytes, node->size_bytes);
    pthread_mutex_lock(&w->lock);
    w->result->blobs_copied += how == BLOB_COPIED;
    w->result->blobs_existed += how == BLOB_EXISTED;
    w->result->blobs_mounted += how == BLOB_MOUNTED;
    w->result->bytes_copied += how == BLOB_COPIED ? node->size_bytes : 0;
    w->result->bytes_resumed += resumed;
    copy_plan_finished(&w->plan, node);
    pthread_mutex_unlock(&w->lock);
    return 0;
}

/* --- lanes --- */

static int walk_step(struct copy_walk *w, struct copy_node *node, struct larder_error *e)
{
    switch (node->step) {
    case COPY_OPEN:
        return step_open(w, node, e);
    case COPY_PUT:
        return step_put(w, node, e);
    case COPY_MOVE:
    default:
        return step_move(w, node, e);
    }
}

/* The next step, or NULL when all is over. */
static struct copy_node *walk_next(struct copy_walk *w)
{
    struct copy_node *node = NULL;

    pthread_mutex_lock(&w->lock);
    while (!w->is_over) {
        node = copy_plan_take(&w->plan);
        if (node || w->n_active == 0)
            break;
        pthread_cond_wait(&w->change, &w->lock);
    }
    if (node) {
        w->n_active++;
        /* Another lane, if there is anything for it. */
        if (copy_plan_has_work(&w->plan))
            pthread_cond_signal(&w->change);
    } else {
        w->is_over = true;
        pthread_cond_broadcast(&w->change);
    }
    pthread_mutex_unlock(&w->lock);
    return node;
}

static int walk_lane(void *arg, unsigned number, struct larder_error *e)
{
    struct copy_walk *w = arg;
    struct copy_node *node;
    int rc = 0;

    (void)number;
    while (rc >= 0 && (node = walk_next(w))) {
        rc = walk_step(w, node, e);
        pthread_mutex_lock(&w->lock);
        w->n_active--;
        if (w->n_active == 0)
            pthread_cond_signal(&w->change); /* perhaps that was all */
        pthread_mutex_unlock(&w->lock);
    }
    return rc < 0 ? rc : 0;
}

static void walk_stop(void *arg)
{
    struct copy_walk *w = arg;

    atomic_store(&w->is_stopped, true);
    pthread_mutex_lock(&w->lock);
    w->is_over = true;
    pthread_cond_broadcast(&w->change);
    pthread_mutex_unlock(&w->lock);
}

static void walk_report(struct copy_walk *w, bool is_finished)
{
    const struct larder_observer *o = w->options->observer;
    struct larder_progress progress = {.what = "copy", .object = w->object};

    if (!o || !o->progress || w->options->dry_run)
        return;
    pthread_mutex_lock(&w->lock);
    progress.total_bytes = w->plan.blob_bytes;
    pthread_mutex_unlock(&w->lock);
    progress.done_bytes = atomic_load(&w->done_bytes);
    progress.resumed_bytes = atomic_load(&w->there_bytes);
    progress.is_finished = is_finished;
    o->progress(o->arg, &progress);
}

static void walk_tick(void *arg)
{
    walk_report(arg, false);
}

/* --- the whole --- */

int copy_walk_init(struct copy_walk *w, struct store *to, const struct copy_options *options,
                   struct larder_error *e)
{
    int rc;

    memset(w, 0, sizeof(*w));
    w->to = to;
    w->options = options;
    w->object = to->name;
    if (pthread_mutex_init(&w->lock, NULL) != 0)
        return error_nomem(e);
    if (pthread_cond_init(&w->change, NULL) != 0) {
        pthread_mutex_destroy(&w->lock);
        return error_nomem(e);
    }
    rc = copy_plan_init(&w->plan, e);
    if (rc < 0)
        copy_walk_done(w);
    return rc;
}

void copy_walk_done(struct copy_walk *w)
{
    copy_plan_done(&w->plan);
    hash_team_free(w->team);
    pthread_cond_destroy(&w->change);
    pthread_mutex_destroy(&w->lock);
}

int copy_walk_run(struct copy_walk *w, struct larder_error *e)
{
    struct pool_job job = {.lanes = w->options->jobs ? w->options->jobs : POOL_LANES_DEFAULT,
                           .observer = w->options->observer,
                           .lane = walk_lane,
                           .stop = walk_stop,
                           .tick = walk_tick,
                           .arg = w};
    int rc;

    if (job.lanes > POOL_LANES_MAX)
        job.lanes = POOL_LANES_MAX;
    w->n_lanes = job.lanes;
    rc = w->options->dry_run ? 0 : blob_pull_team(job.lanes, &w->team, e);
    if (rc == 0)
        rc = pool_run(&job, e);
    if (rc < 0)
        return rc;
    walk_report(w, true);
    if (w->plan.n_undone)
        return error_set(e, LARDER_INVAL, "%s: a manifest contains itself", w->object);
    return 0;
}
