/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * An empty qcow2 (version 3) on a backing file: header, backing format, one refcount table, one
 * refcount block, an empty L1 table. What `qemu-img create -f qcow2 -b BASE -F FORMAT` makes;
 * `qemu-img check` finds no error (qemu docs/interop/qcow2).
 */
#include <stdint.h>

#include <larder/error.h>

/* fd: a new, empty file. backing: absolute path, at most 1023 bytes. virtual_bytes is rounded up
 * to 512. INVAL when the path is too long, LIMIT when the size is beyond what one L1 table of
 * 32 MiB describes (2 PiB with 64 KiB clusters). */
int overlay_write(int fd, const char *backing, const char *backing_format, uint64_t virtual_bytes,
                  struct larder_error *e);
