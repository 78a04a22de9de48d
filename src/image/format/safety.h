/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Whether a probed image may enter the store. An image that names other files makes whoever
 * converts or boots it read those files of the host (a qcow2's backing or data file, a VMDK's
 * extents), so such images are refused unless their user said otherwise. Pure, no I/O.
 */
#include "base/buf.h"
#include "image/format/format.h"

enum safety_flags {
    SAFETY_ALLOW_BACKING = 1u << 0, /* the user knows the backing file (--allow-backing) */
};

/* What is worth a warning though not refused. */
enum safety_warning {
    SAFETY_WARN_BITMAPS = 1u << 0,    /* QEMU rewrites parts of it even when merely opened */
    SAFETY_WARN_ENCRYPTED = 1u << 1,  /* its content can't be looked at */
    SAFETY_WARN_SNAPSHOTS = 1u << 2,  /* has internal snapshots: not a pristine image */
    SAFETY_WARN_HYBRID_MBR = 1u << 3, /* MBR and GPT list different partitions */
};

/*
 * 0 and *ret_warnings (SAFETY_WARN_* bits, may be NULL), or UNSAFE with the reason in the message
 * and the way out in the hint. Pages, texts and empty files are refused too. Compressed files
 * pass: what is inside is judged when it is unpacked.
 */
int safety_check(const struct format_probe *probe, unsigned flags, unsigned *ret_warnings,
                 struct larder_error *e);
/* A sentence for people about one warning, static. */
const char *safety_warning_text(enum safety_warning warning);

/* The part of it about VMDK (safety_vmdk.c). */
int safety_check_vmdk(const struct format_probe *probe, struct larder_error *e);
