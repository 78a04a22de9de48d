/* SPDX-License-Identifier: Apache-2.0 */
#include "store/copy/blob_pull.h"

#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "store/blob_write.h"

/* All buffers of a command: as many bytes as a client may have in memory. */
#define TEAM_BYTES       ((size_t)3 * 1024 * 1024)
#define TEAM_BUFFERS_MIN 6U
#define BUFFER_BYTES_MIN ((size_t)64 * 1024)
#define BUFFER_BYTES_MAX ((size_t)512 * 1024)

int blob_pull_team(unsigned lanes, struct hash_team **ret, struct larder_error *e)
{
    size_t buffers = (size_t)lanes + 2;
    size_t bytes;

    if (buffers < TEAM_BUFFERS_MIN)
        buffers = TEAM_BUFFERS_MIN;
    bytes = TEAM_BYTES / buffers / BUFFER_BYTES_MIN * BUFFER_BYTES_MIN;
    if (bytes < BUFFER_BYTES_MIN)
        bytes = BUFFER_BYTES_MIN;
    if (bytes > BUFFER_BYTES_MAX)
        bytes = BUFFER_BYTES_MAX;
    return hash_team_new(hash_team_helpers(), buffers, bytes, ret, e);
}

/* --- the sink --- */

static void *pull_room(void *arg, size_t *ret_n)
{
    return blob_write_room(arg, ret_n);
}

static int pull_write(void *arg, const void *data, size_t n, struct larder_error *e)
{
    return blob_write_put(arg, data, n, e);
}

static int pull_restart(void *arg, struct larder_error *e)
{
    return blob_write_restart(arg, e);
}

static int pull_tick(void *arg, struct larder_error *e)
{
    return blob_write_tick(arg, e);
}

/* Goes on after the writer's kept bytes. */
static int pull_bytes(const struct blob_pull *pull, struct blob_write *w, struct larder_error *e)
{
    const struct blob_sink sink = {pull_room, pull_write, pull_restart, pull_tick, w};
    int rc = blob_write_resume(w, e);

    if (rc < 0)
        return rc;
    if (blob_write_bytes(w) < pull->blob->size_bytes || pull->blob->size_bytes == 0)
        rc = pull->from->ops->blob_get(pull->from, pull->blob, blob_write_bytes(w), &sink, e);
    return rc < 0 ? rc : blob_write_finish(w, e);
}

static int pull_once(const struct blob_pull *pull, struct hash_team *team, uint64_t *ret_resumed,
                     enum blob_how *ret, struct larder_error *e)
{
    struct blob_write w = {.to = pull->to,
                           .from_name = pull->from->name,
                           .blob = pull->blob,
                           .team = team,
                           .progress = pull->progress,
                           .arg = pull->arg};
    bool exists = false;
    int rc = blob_write_begin(&w, &exists, e);

    if (rc < 0)
        return rc;
    if (exists) {
        *ret = BLOB_EXISTED;
        return 0;
    }
    rc = pull_bytes(pull, &w, e);
    *ret_resumed = w.resumed_bytes;
    if (rc < 0) {
        blob_write_abort(&w, rc);
        return rc;
    }
    *ret = BLOB_COPIED;
    return blob_write_commit(&w, e);
}

int blob_pull_run(const struct blob_pull *pull, enum blob_how *ret, struct larder_error *e)
{
    CLEANUP(hash_team_freep) struct hash_team *own = NULL;
    struct larder_error first = LARDER_ERROR_INIT;
    uint64_t resumed = 0;
    int rc;

    if (!pull->team) {
        rc = blob_pull_team(1, &own, e);
        if (rc < 0)
            return rc;
    }
    rc = pull_once(pull, pull->team ? pull->team : own, &resumed, ret, &first);
    if (rc == -LARDER_MISMATCH && resumed > 0) {
        /* Perhaps only what was kept is wrong. It is dropped by now. */
        error_clear(&first);
        rc = pull_once(pull, pull->team ? pull->team : own, &resumed, ret, &first);
    }
    if (rc == 0 && pull->ret_resumed)
        *pull->ret_resumed = resumed;
    if (rc < 0 && e)
        *e = first;
    return rc;
}
