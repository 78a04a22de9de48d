/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http/curl_lib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include <curl/curl.h>

#include "base/error.h"

/* The typechecking macros of curl.h would hide the prototypes that are compared below. */
#undef curl_easy_setopt
#undef curl_easy_getinfo

#define CHECK_TYPE(name, result, args)                                                     \
    _Static_assert(__builtin_types_compatible_p(result(*) args, __typeof__(&curl_##name)), \
                   "curl_" #name " has another type");
CURL_LIB_FUNCTIONS(CHECK_TYPE)
#undef CHECK_TYPE

static struct {
    pthread_once_t once;
    struct curl_lib lib;
    struct larder_error error; /* of the only attempt; set once, then read by all */
} loader = {.once = PTHREAD_ONCE_INIT};

/* ISO C has no cast from an object to a function pointer; POSIX promises that the bits fit. */
static int resolve(void *handle, const char *name, void *ret_function)
{
    void *symbol = dlsym(handle, name);
    if (!symbol)
        return error_set(&loader.error, LARDER_UNSUPPORTED, "libcurl.so.4: has no %s", name);
    memcpy(ret_function, &symbol, sizeof(symbol));
    return 0;
}

static void load_once(void)
{
    struct larder_error *e = &loader.error;
    void *handle = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        error_set(e, LARDER_UNSUPPORTED, "libcurl.so.4: can't be opened: %s", dlerror());
        error_hint(e, "install libcurl4 to use http and https sources");
        return;
    }
#define RESOLVE(name, result, args)                           \
    if (resolve(handle, "curl_" #name, &loader.lib.name) < 0) \
        return;
    CURL_LIB_FUNCTIONS(RESOLVE)
#undef RESOLVE
    unsigned (*global_init)(long) = NULL;
    if (resolve(handle, "curl_global_init", &global_init) < 0)
        return;
    if (!global_init || global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        error_set(e, LARDER_UNSUPPORTED, "libcurl.so.4: can't be initialised");
}

int curl_lib_get(const struct curl_lib **ret, struct larder_error *e)
{
    pthread_once(&loader.once, load_once);
    if (loader.error.code != LARDER_OK) {
        if (e)
            *e = loader.error;
        return -(int)loader.error.code;
    }
    *ret = &loader.lib;
    return 0;
}
