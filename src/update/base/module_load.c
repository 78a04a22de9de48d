/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding and opening the module of libostree. The rest of the library knows its table only.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "update/ostree/module.h"

static struct {
    pthread_once_t once;
    const struct ostree_module *module;
    struct larder_error error; /* of the only attempt; set once, then read by all */
} loader = {.once = PTHREAD_ONCE_INIT};

#if HAVE_OSTREE

/* PATH_MAX and a file name. */
#define PATH_BYTES_MAX 8192

static int open_module(const char *path, struct larder_error *e)
{
    /* Lazy: of libostree's forty libraries hardly a function is called, and to bind all of them
     * takes longer than what we do. */
    void *handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!handle) {
        error_set(e, LARDER_UNSUPPORTED, "module of ostree: %s", dlerror());
        return error_hint(e, "install libostree 2022.7 or newer (Debian: libostree-1-1)");
    }
    const struct ostree_module *module = dlsym(handle, OSTREE_MODULE_SYMBOL);
    if (!module)
        error_set(e, LARDER_UNSUPPORTED, "%s: has no %s", path, OSTREE_MODULE_SYMBOL);
    else if (module->version != OSTREE_MODULE_VERSION)
        error_set(e, LARDER_UNSUPPORTED, "%s: is of version %u, expected %d", path,
                  (unsigned)module->version, OSTREE_MODULE_VERSION);
    else
        loader.module = module;
    if (!loader.module) {
        dlclose(handle);
        return error_hint(e, "install larder and its module of the same version");
    }
    return 0;
}

/* Appends the directory that the code we are in was loaded from; nothing when that is not known. */
static void append_own_dir(struct buf *path)
{
    Dl_info info;

    if (dladdr(&loader, &info) == 0 || !info.dli_fname)
        return;
    CLEANUP_FREE char *whole = realpath(info.dli_fname, NULL);
    char *slash = whole ? strrchr(whole, '/') : NULL;
    if (slash)
        buf_append(path, whole, (size_t)(slash - whole));
}

static void load_once(void)
{
    static const struct {
        bool is_own; /* below the directory of the library, else as it stands */
        const char *path;
    } places[] = {
        {true, "/larder/" OSTREE_MODULE_FILE},
        {true, "/" OSTREE_MODULE_FILE}, /* not installed: where both were built */
        {false, LARDER_MODULE_DIR "/" OSTREE_MODULE_FILE},
    };
    const char *given = secure_getenv("LARDER_OSTREE_MODULE");

    if (given) {
        open_module(given, &loader.error);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct buf path = BUF_INIT(PATH_BYTES_MAX);
        if (places[i].is_own)
            append_own_dir(&path);
        bool is_known = !places[i].is_own || path.n > 0;
        buf_puts(&path, places[i].path);
        if (buf_failed(&path, &loader.error) < 0)
            return;
        bool is_there =
            is_known && (access(path.p, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR));
        if (is_there)
            open_module(path.p, &loader.error);
        buf_done(&path);
        if (is_there)
            return;
    }
    error_set(&loader.error, LARDER_UNSUPPORTED, "module of ostree: not found, expected %s/%s",
              LARDER_MODULE_DIR, OSTREE_MODULE_FILE);
    error_hint(&loader.error, "install larder's module of ostree");
}

#else

static void load_once(void)
{
    error_set(&loader.error, LARDER_UNSUPPORTED, "larder was built without ostree");
    error_hint(&loader.error, "build it with -Dostree=enabled");
}

#endif

int ostree_module_get(const struct ostree_module **ret, struct larder_error *e)
{
    pthread_once(&loader.once, load_once);
    if (!loader.module) {
        if (e)
            *e = loader.error;
        return -(int)loader.error.code;
    }
    *ret = loader.module;
    return 0;
}
