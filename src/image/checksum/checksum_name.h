/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the name of a checksum file says: which algorithm, and which image it is the sidecar of.
 * Names may be paths; only the last component counts. Pure, no I/O.
 */
#include <stdbool.h>

#include <larder/digest.h>

#include "base/slice.h"

/*
 * The algorithm a file name promises: "x.sha512", "SHA512SUMS", "x.qcow2.sha256sum", "md5.txt",
 * "CHECKSUM.SHA256-FreeBSD-14.0"; NONE when it promises none ("CHECKSUM", "x.digest").
 */
enum larder_digest_alg checksum_name_alg(struct slice file_name);

/*
 * Whether this is the sidecar of one image: "X.<checksum extension>" (then *ret_image is the "X"
 * inside file_name). ".txt", ".asc" and ".gpg" may follow the extension. ret_image may be NULL.
 */
bool checksum_name_is_sidecar(struct slice file_name, struct slice *ret_image);
/* Whether this is a list for a whole directory: SHA256SUMS, CHECKSUM, sha512sums.txt, ... */
bool checksum_name_is_list(struct slice file_name);
/* Whether the sidecar file_name belongs to image_name ("X.sha256" covers "X", nothing else). */
bool checksum_name_covers(struct slice file_name, struct slice image_name);
