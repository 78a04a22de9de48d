/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * OpenSSL's libcrypto, opened at its first use: mapping and relocating it costs every command half
 * a millisecond and 1.4 MB, and with SHA extensions in the CPU few ever need it. Inside src/base.
 *
 * The types are tags only, so that OpenSSL's headers stay out of this one; crypto_lib.c has the
 * compiler compare each one with the real prototype.
 */
#include <stddef.h>

#include <larder/error.h>

struct evp_md_st;
struct evp_md_ctx_st;
struct ossl_lib_ctx_st;
struct ossl_param_st;

/* name, result, arguments: one line a function */
#define CRYPTO_LIB_FUNCTIONS(X)                                                                 \
    X(OSSL_LIB_CTX_new, struct ossl_lib_ctx_st *, (void))                                       \
    X(EVP_MD_fetch, struct evp_md_st *, (struct ossl_lib_ctx_st *, const char *, const char *)) \
    X(EVP_MD_CTX_new, struct evp_md_ctx_st *, (void))                                           \
    X(EVP_MD_CTX_free, void, (struct evp_md_ctx_st *))                                          \
    X(EVP_DigestInit_ex2, int,                                                                  \
      (struct evp_md_ctx_st *, const struct evp_md_st *, const struct ossl_param_st *))         \
    X(EVP_DigestUpdate, int, (struct evp_md_ctx_st *, const void *, size_t))                    \
    X(EVP_DigestFinal_ex, int, (struct evp_md_ctx_st *, unsigned char *, unsigned *))

struct crypto_lib {
#define CRYPTO_LIB_MEMBER(name, result, args) result(*name) args;
    CRYPTO_LIB_FUNCTIONS(CRYPTO_LIB_MEMBER)
#undef CRYPTO_LIB_MEMBER
};

/*
 * The library, opened once in the process and never closed. UNSUPPORTED when it is not installed
 * or lacks a function. Threads: any.
 */
int crypto_lib_get(const struct crypto_lib **ret, struct larder_error *e);
