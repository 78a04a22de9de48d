/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Cleanup attributes and the vocabulary of ownership: _init/_done in place, _new/_free on the heap
 * (free(NULL) is fine), _open/_close, _take transfers. Out of memory is an error like any other:
 * every allocation is checked (tests fail each one in turn).
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static inline void mem_freep(void *p)
{
    free(*(void **)p);
}

/* close(2) that keeps errno; no retry on EINTR: on Linux the descriptor is gone either way. */
static inline void fd_closep(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
        *fd = -1;
    }
}

#define CLEANUP(fn)   __attribute__((cleanup(fn)))
#define CLEANUP_FREE  CLEANUP(mem_freep)
#define CLEANUP_CLOSE CLEANUP(fd_closep)

/* Defines name##_freep for CLEANUP(name##_freep) from a destructor `void name(type)`. */
#define DEFINE_CLEANUP(type, fn)      \
    static inline void fn##p(type *p) \
    {                                 \
        if (*p)                       \
            fn(*p);                   \
    }

/* Gives the value away: the variable no longer owns it. */
#define TAKE_PTR(p)                 \
    __extension__({                 \
        __typeof__(p) taken_ = (p); \
        (p) = NULL;                 \
        taken_;                     \
    })
#define TAKE_FD(fd)        \
    __extension__({        \
        int taken_ = (fd); \
        (fd) = -1;         \
        taken_;            \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
