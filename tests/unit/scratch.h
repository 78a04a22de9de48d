/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* A directory of its own for a test: setup and teardown of cmocka, *state is a struct scratch. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct scratch {
    char path[64];
    int fd;
};

static inline int scratch_setup(void **state)
{
    struct scratch *s = calloc(1, sizeof(*s));

    if (!s)
        return -1;
    strcpy(s->path, "/tmp/larder-unit-XXXXXX");
    if (!mkdtemp(s->path))
        return -1;
    s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = s;
    return s->fd < 0 ? -1 : 0;
}

static inline int scratch_teardown(void **state)
{
    struct scratch *s = *state;
    char command[128];
    int rc;

    close(s->fd);
    snprintf(command, sizeof(command), "rm -rf -- '%s'", s->path);
    rc = system(command);
    free(s);
    return rc;
}
