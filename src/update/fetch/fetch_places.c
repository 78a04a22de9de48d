/* SPDX-License-Identifier: Apache-2.0 */
/* Where an update comes from, and where it goes. */
#include <string.h>

#include "base/error.h"
#include "store/layout/referrers.h"
#include "update/fetch/fetch_run.h"

int fetch_places_read(struct fetch_run *r, struct larder_error *e)
{
    int rc = place_parse(r->to_text, &r->to, e);

    if (rc < 0)
        return rc;
    r->is_layout = r->to.location.transport == OCI_TRANSPORT_LAYOUT;
    if (!r->is_layout && r->to.location.transport != OCI_TRANSPORT_STORE)
        return error_set(e, LARDER_INVAL, "%s: expected store:NAME or oci:DIR[:REF]", r->to_text);
    if (r->to.digest)
        return error_set(e, LARDER_INVAL, "%s: an update has its own digest", r->to_text);
    if (!r->is_layout && !r->to.ref)
        return error_set(e, LARDER_INVAL, "%s: expected a name behind it", r->to_text);
    if (!r->is_layout && !r->ask->store)
        return error_set(e, LARDER_INVAL, "%s: no store is open", r->to_text);
    if (r->options->is_partial && !(r->is_layout && r->ask->is_ostree))
        return error_set(e, LARDER_INVAL,
                         "%s: layers are left out only with an ostree repository and an oci: "
                         "destination",
                         r->to_text);
    return 0;
}

const char *fetch_to_ref(const struct fetch_run *r)
{
    return r->to.ref ? r->to.ref : "";
}

static int open_to(struct fetch_run *r, unsigned flags, struct larder_error *e)
{
    struct store *before = TAKE_PTR(r->to.store);

    store_close(before);
    return place_open(&r->to, r->ask->store, NULL, relay_observer(r->relay), flags, e);
}

int fetch_to_look(struct fetch_run *r, struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;
    int rc = open_to(r, 0, &why);

    /* Not there, or one that a run which failed had only begun to make. (A directory of something
     * else is refused when it is to be written.) */
    if (r->is_layout && (rc == -LARDER_NOENT || rc == -LARDER_INVAL))
        return 0;
    if (rc < 0 && e)
        *e = why;
    return rc;
}

int fetch_to_write(struct fetch_run *r, struct larder_error *e)
{
    return open_to(r, STORE_OPEN_WRITE, e);
}

/* ---- the source ---- */

int fetch_gone(const struct fetch_run *r, struct larder_error *e)
{
    char text[LARDER_DIGEST_TEXT_BYTES];

    if (!e)
        return -LARDER_GONE;
    struct larder_error why = *e;
    error_set(e, LARDER_GONE, "prepared digest gone: %s of %s: %s",
              larder_digest_format(&r->root.digest, text), r->ask->ref, why.msg);
    e->http_status = why.http_status;
    return error_hint(e, "--or-newer fetches what it points to now");
}

static int open_source(struct fetch_run *r, struct larder_error *e)
{
    int rc = place_parse(r->ask->ref, &r->source, e);

    return rc < 0 ? rc
                  : place_open(&r->source, r->ask->store, r->ask->options->registry,
                               relay_observer(r->relay), 0, e);
}

/* By the digest, never by the tag: whatever that points to now, it was not what was recorded. */
static int ask_manifest(struct fetch_run *r, struct buf *out, struct store_descriptor *ret,
                        struct larder_error *e)
{
    struct larder_error own = LARDER_ERROR_INIT;
    struct store *s = r->source.store;
    int rc = s->ops->manifest_get(s, NULL, &r->root.digest, out, ret, &own);

    if (rc == -LARDER_NOENT || rc == -LARDER_GONE)
        rc = fetch_gone(r, &own);
    /* Other bytes than the digest's, from elsewhere: nothing of ours is damaged. */
    if (rc == -LARDER_CORRUPT && s->ops->is_remote) {
        own.code = LARDER_MISMATCH;
        rc = -LARDER_MISMATCH;
    }
    if (rc < 0 && e)
        *e = own;
    return rc < 0 ? rc : 0;
}

int fetch_source_ask(struct fetch_run *r, struct larder_error *e)
{
    struct buf bytes = BUF_INIT(OCI_MANIFEST_BYTES_MAX);
    struct store_descriptor found = {0};
    int rc = r->source.store ? 0 : open_source(r, e);

    if (rc == 0)
        rc = ask_manifest(r, &bytes, &found, e);
    /* What the document says of itself counts; servers of plain files know no types. */
    if (rc == 0 && !found.media_type[0])
        rc = manifest_media_type(buf_slice(&bytes), found.media_type, e);
    if (rc < 0) {
        buf_done(&bytes);
        return rc;
    }
    if (!found.media_type[0])
        memcpy(found.media_type, r->root.media_type, sizeof(found.media_type));
    r->root = found;
    buf_done(&r->manifest);
    r->manifest = bytes;
    if (r->is_exact)
        return 0;
    r->is_exact = true;
    return fetch_blobs_read(r, e);
}
