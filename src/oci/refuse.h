/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Refusing text that came from outside: quoted at a bounded length and without control bytes.
 */
#include <larder/error.h>

#include "base/slice.h"

/* `what "text": why`; returns -code. */
int oci_refuse(struct larder_error *e, enum larder_code code, const char *what, struct slice text,
               const char *why);
