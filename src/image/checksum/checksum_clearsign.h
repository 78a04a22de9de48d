/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The envelope of a clearsigned message (RFC 9580, section 7): finds the signed text, undoes the
 * dash escapes and drops the trailing blanks that no signature covers. Whether the signature is
 * good is not judged here (see image/checksum/signature.h); whoever needs a signature must use the
 * text that the verifier itself gives out.
 */
#include <stdbool.h>

#include "base/buf.h"
#include "base/slice.h"

/*
 * 1: text is clearsigned and the signed lines, each with LF, are appended to out. 0: no envelope,
 * out is untouched. INVAL: a damaged or cut envelope, more than one OpenPGP block (a verifier could
 * look at another one than we do), or bytes before it that a verifier could take for a message.
 */
int checksum_clearsign_open(struct slice text, struct buf *out, struct larder_error *e);
