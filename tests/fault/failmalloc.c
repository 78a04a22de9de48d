/* SPDX-License-Identifier: Apache-2.0 */
/* It takes the place of libc's functions, reserved names and all.
 * NOLINTBEGIN(cert-dcl51-cpp,cert-dcl37-c,readability-inconsistent-declaration-parameter-name) */
/*
 * LD_PRELOAD: lets the Nth allocation of a program fail, counted over all threads from the moment
 * main() begins (the loader and the constructors of libraries are not under test).
 *
 *     FAILMALLOC_AT=N      the Nth fails
 *     FAILMALLOC_STICKY=1  and all after it
 *     FAILMALLOC_REPORT=F  F gets "allocations N" when the program exits
 *
 * strdup, asprintf, fopen and the like allocate with malloc inside the C library, which looks it up
 * here as everybody else does.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* The C library's own, under the names it keeps for this purpose. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

typedef int main_function(int argc, char **argv, char **envp);
typedef int start_function(main_function *main_fn, int argc, char **argv, void (*init)(void),
                           void (*fini)(void), void (*rtld_fini)(void), void *stack_end);
start_function __libc_start_main;

static atomic_bool is_counting;
static atomic_ulong count;
static unsigned long fail_at;
static bool is_sticky;
static main_function *real_main;

static bool must_fail(void)
{
    unsigned long n;

    if (!atomic_load_explicit(&is_counting, memory_order_relaxed))
        return false;
    n = atomic_fetch_add(&count, 1) + 1;
    if (fail_at == 0 || (n != fail_at && !(is_sticky && n > fail_at)))
        return false;
    errno = ENOMEM;
    return true;
}

EXPORT void *malloc(size_t n)
{
    return must_fail() ? NULL : __libc_malloc(n);
}

EXPORT void *calloc(size_t number, size_t n)
{
    return must_fail() ? NULL : __libc_calloc(number, n);
}

EXPORT void *realloc(void *p, size_t n)
{
    return must_fail() ? NULL : __libc_realloc(p, n);
}

EXPORT void *reallocarray(void *p, size_t number, size_t n)
{
    size_t bytes;

    if (__builtin_mul_overflow(number, n, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return must_fail() ? NULL : __libc_realloc(p, bytes);
}

EXPORT void *aligned_alloc(size_t alignment, size_t n)
{
    return must_fail() ? NULL : __libc_memalign(alignment, n);
}

EXPORT void *memalign(size_t alignment, size_t n)
{
    return must_fail() ? NULL : __libc_memalign(alignment, n);
}

EXPORT int posix_memalign(void **ret, size_t alignment, size_t n)
{
    void *p;

    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0)
        return EINVAL;
    if (must_fail() || !(p = __libc_memalign(alignment, n)))
        return ENOMEM;
    *ret = p;
    return 0;
}

static void report(void)
{
    const char *path = getenv("FAILMALLOC_REPORT");
    char line[64];
    int n, fd;

    atomic_store(&is_counting, false);
    if (!path)
        return;
    n = snprintf(line, sizeof(line), "allocations %lu\n", atomic_load(&count));
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0 && write(fd, line, (size_t)n) == n)
        close(fd);
}

static int counted_main(int argc, char **argv, char **envp)
{
    const char *at = getenv("FAILMALLOC_AT");

    fail_at = at ? strtoul(at, NULL, 10) : 0;
    is_sticky = getenv("FAILMALLOC_STICKY") != NULL;
    atexit(report);
    atomic_store(&is_counting, true);
    return real_main(argc, argv, envp);
}

EXPORT int __libc_start_main(main_function *main_fn, int argc, char **argv, void (*init)(void),
                             void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
    start_function *next;
    void *symbol = dlsym(RTLD_NEXT, "__libc_start_main");

    /* ISO C has no conversion between pointers to objects and to functions; POSIX does. */
    *(void **)&next = symbol;
    real_main = main_fn;
    return next(counted_main, argc, argv, init, fini, rtld_fini, stack_end);
}
/* NOLINTEND(cert-dcl51-cpp,cert-dcl37-c,readability-inconsistent-declaration-parameter-name) */
