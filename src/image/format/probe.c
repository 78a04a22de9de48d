/* SPDX-License-Identifier: Apache-2.0 */
#include "image/format/probe.h"

#include <errno.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "image/format/safety.h"
#include "image/format/vhdx.h"

static int check_not_a_page(enum image_format format, const char *object, struct larder_error *e)
{
    if (!format_is_error_page(format))
        return 0;
    error_set(e, LARDER_PROTO, "%s: got %s, expected a disk image", object,
              format == IMAGE_FORMAT_HTML ? "an HTML or XML page" : "a text");
    error_hint(e,
               "look at it with a browser or curl: a login page, a mirror's error, a moved file");
    return -LARDER_PROTO;
}

static int check_expected(enum image_format found, const char *expected, const char *object,
                          struct larder_error *e)
{
    enum image_format wanted;
    if (!expected)
        return 0;
    int r = format_parse(expected, &wanted, e);
    if (r < 0 || wanted == found)
        return r;
    /* Any disk may be used as raw bytes when its user says so, but not what is no disk at all. */
    if (wanted == IMAGE_FORMAT_RAW && format_is_image(found) && found != IMAGE_FORMAT_QCOW2)
        return 0;
    return error_set(e, LARDER_PROTO, "%s: is %s, expected %s", object, format_name(found),
                     format_name(wanted));
}

int image_probe_head(const void *head, size_t n, const char *expected_format, const char *object,
                     struct larder_error *e)
{
    struct slice none = {0};
    /* The end is not here yet: judge as if the file were longer, so that no tail is expected. */
    uint64_t at_least = (uint64_t)n < FORMAT_HEAD_BYTES ? (uint64_t)n : UINT64_MAX / 2;
    enum image_format format = format_detect((struct slice){head, n}, none, at_least);
    int r = check_not_a_page(format, object, e);
    /* A fixed VHD looks raw until its footer is seen. */
    if (r == 0 && format != IMAGE_FORMAT_RAW && n >= FORMAT_HEAD_BYTES)
        r = check_expected(format, expected_format, object, e);
    return r;
}

int image_probe_head_compressed(const void *head, size_t n, const char *object,
                                struct larder_error *e)
{
    struct slice none = {0};
    return check_not_a_page(format_detect((struct slice){head, n}, none, UINT64_MAX / 2), object,
                            e);
}

int image_probe_fd(int fd, uint64_t size_bytes, const char *expected_format, bool allow_backing,
                   const char *object, struct image_probe *ret, struct larder_error *e)
{
    struct format_probe probe;
    char tail[FORMAT_TAIL_BYTES];
    CLEANUP_FREE char *head = malloc(FORMAT_HEAD_BYTES);
    if (!head)
        return error_nomem(e);
    uint64_t tail_want = size_bytes < sizeof(tail) ? size_bytes : sizeof(tail);
    ssize_t head_n = fd_pread_full(fd, head, FORMAT_HEAD_BYTES, 0);
    ssize_t tail_n = fd_pread_full(fd, tail, (size_t)tail_want, size_bytes - tail_want);
    if (head_n < 0 || tail_n < 0)
        return error_errno(e, errno, "%s", object);
    int r = format_probe((struct slice){head, (size_t)head_n}, (struct slice){tail, (size_t)tail_n},
                         size_bytes, &probe, e);
    if (r == 0)
        r = check_not_a_page(probe.format, object, e);
    if (r == 0)
        r = check_expected(probe.format, expected_format, object, e);
    if (r == 0)
        r = safety_check(&probe, allow_backing ? SAFETY_ALLOW_BACKING : 0, NULL, e);
    struct vhdx_info vhdx = {0};
    if (r == 0 && probe.format == IMAGE_FORMAT_VHDX)
        r = vhdx_read(fd, size_bytes, &vhdx, e);
    if (r < 0)
        return error_context(e, "%s", object);
    ret->format = probe.format;
    ret->virtual_bytes = probe.has_virtual_size ? probe.virtual_size_bytes : vhdx.virtual_bytes;
    return 0;
}
