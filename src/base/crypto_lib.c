/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crypto_lib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/opensslv.h>

#include "base/error.h"

/* The ABI whose headers the types were compared with, and no other. */
#define TEXT_OF(number) #number
#define SONAME_OF(abi)  "libcrypto.so." TEXT_OF(abi)
#define SONAME          SONAME_OF(OPENSSL_SHLIB_VERSION)

#define CHECK_TYPE(name, result, args)                                              \
    _Static_assert(__builtin_types_compatible_p(result(*) args, __typeof__(&name)), \
                   #name " has another type");
CRYPTO_LIB_FUNCTIONS(CHECK_TYPE)
#undef CHECK_TYPE

static struct {
    pthread_once_t once;
    struct crypto_lib lib;
    struct larder_error error; /* of the only attempt; set once, then read by all */
} loader = {.once = PTHREAD_ONCE_INIT};

/* ISO C has no cast from an object to a function pointer; POSIX promises that the bits fit. */
static int resolve(void *handle, const char *name, void *ret_function)
{
    void *symbol = dlsym(handle, name);

    if (!symbol)
        return error_set(&loader.error, LARDER_UNSUPPORTED, "%s: has no %s", SONAME, name);
    memcpy(ret_function, &symbol, sizeof(symbol));
    return 0;
}

static void load_once(void)
{
    void *handle = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL);

    if (!handle) {
        error_set(&loader.error, LARDER_UNSUPPORTED, "%s: can't be opened: %s", SONAME, dlerror());
        error_hint(&loader.error, "install OpenSSL's libraries");
        return;
    }
#define RESOLVE(name, result, args)                   \
    if (resolve(handle, #name, &loader.lib.name) < 0) \
        return;
    CRYPTO_LIB_FUNCTIONS(RESOLVE)
#undef RESOLVE
}

int crypto_lib_get(const struct crypto_lib **ret, struct larder_error *e)
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
