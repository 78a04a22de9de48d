/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Private request headers from a file ("Name: value" lines; empty lines and lines that begin with
 * '#' are skipped), so that tokens are on no command line.
 */
#include <stdbool.h>
#include <stddef.h>

#include <larder/error.h>
#include <larder/observer.h>

#include "base/slice.h"

/* Whether it can be a header's name. */
bool header_is_name(struct slice s);

struct header_list {
    char **lines; /* "Name: value", without line ends */
    size_t n;
};
void header_list_done(struct header_list *list);

/*
 * INVAL: a line that is no header, has a control byte, or names a header that the client itself
 * must decide on (Host, Range, ...). LIMIT: more than 64 KiB. NOENT, DENIED. A file that others may
 * read gets a warning.
 */
int header_file_read(const char *path, const struct larder_observer *observer,
                     struct header_list *ret, struct larder_error *e);
