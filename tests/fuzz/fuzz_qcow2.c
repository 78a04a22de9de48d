/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input: eight bytes for the length of the file, then its head. Views must lie in the head, and
 * what QEMU is told to read must lie in the file.
 */
#include "fuzz.h"
#include "image/format/backing.h"
#include "image/format/endian.h"
#include "image/format/qcow2.h"

static void check_view(struct slice view, struct slice head)
{
    FUZZ_CHECK(view.n == 0 || (view.p >= head.p && view.p + view.n <= head.p + head.n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice head = {(const char *)data, size};
    struct qcow2_header h;
    enum backing_kind kind;
    char *path = NULL;

    if (size < 8)
        return 0;
    uint64_t file_bytes = endian_le(head, 0, 8);
    head = (struct slice){head.p + 8, size - 8};
    if (head.n > QCOW2_HEAD_BYTES)
        head.n = QCOW2_HEAD_BYTES;
    if (file_bytes < head.n)
        file_bytes = head.n;
    if (qcow2_parse(head, file_bytes, &h, NULL) < 0)
        return 0;
    check_view(h.backing_name, head);
    check_view(h.backing_format, head);
    check_view(h.data_file_name, head);
    FUZZ_CHECK(h.cluster_bits >= 9 && h.cluster_bits <= 21);
    FUZZ_CHECK(h.backing_name.n <= QCOW2_BACKING_NAME_BYTES_MAX);
    FUZZ_CHECK(h.l1_offset <= file_bytes && 8ull * h.l1_entries <= file_bytes - h.l1_offset);
    if (backing_resolve(h.backing_name, "/o", &kind, &path, NULL) >= 0) {
        FUZZ_CHECK((kind == BACKING_LOCAL) == (path != NULL));
        FUZZ_CHECK(!path || path[0] == '/');
    }
    free(path);
    return 0;
}
