/* SPDX-License-Identifier: Apache-2.0 */
#include "image/backing.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

/* As QEMU sees it: a ':' before the first '/'. */
static bool has_protocol(struct slice name)
{
    const char *colon = memchr(name.p, ':', name.n);
    const char *slash = memchr(name.p, '/', name.n);

    return colon && (!slash || colon < slash);
}

static struct slice skip_dot_slash(struct slice path)
{
    while (slice_starts(path, SLICE_LIT("./")))
        path = (struct slice){path.p + 2, path.n - 2};
    return path;
}

static int local_path(struct slice path, const char *overlay_dir, char **ret,
                      struct larder_error *e)
{
    struct buf out = BUF_INIT(BACKING_PATH_BYTES_MAX);

    if (path.p[0] != '/') {
        buf_puts(&out, overlay_dir);
        if (out.n == 0 || out.p[out.n - 1] != '/')
            buf_putc(&out, '/');
        path = skip_dot_slash(path);
    }
    buf_append_slice(&out, path);
    int r = buf_failed(&out, e);
    if (r >= 0)
        *ret = buf_take(&out);
    buf_done(&out);
    return r < 0 ? r : 0;
}

int backing_resolve(struct slice name, const char *overlay_dir, enum backing_kind *ret_kind,
                    char **ret_path, struct larder_error *e)
{
    static const struct slice file = SLICE_INIT("file:");
    enum backing_kind kind = BACKING_LOCAL;
    char *path = NULL;

    if (slice_starts(name, SLICE_LIT("json:")))
        kind = BACKING_UNKNOWN;
    else if (slice_starts(name, file))
        name = (struct slice){name.p + file.n, name.n - file.n};
    else if (name.n > 0 && has_protocol(name))
        kind = BACKING_REMOTE;
    if (name.n == 0)
        kind = BACKING_NONE;
    if (kind == BACKING_LOCAL) {
        int r = local_path(name, overlay_dir, &path, e);
        if (r < 0)
            return r;
    }
    *ret_kind = kind;
    *ret_path = path;
    return 0;
}
