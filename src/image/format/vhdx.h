/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The metadata of a VHDX image ([MS-VHDX] 2.2.3 and 2.6), which lies behind what format.h looks at.
 */
#include <stdint.h>

#include <larder/error.h>

struct vhdx_info {
    uint64_t virtual_bytes;
};

/*
 * Reads two tables of at most 64 KiB. CORRUPT when they are damaged or end behind the file's
 * file_bytes; UNSAFE when the image is a difference to a parent.
 */
int vhdx_read(int fd, uint64_t file_bytes, struct vhdx_info *ret, struct larder_error *e);
