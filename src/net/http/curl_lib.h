/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * libcurl, opened at its first use: loading it and its forty friends costs 3 ms and 6 MB, which a
 * cache hit should not pay. Inside src/net.
 *
 * The types are libcurl's as its ABI has them (CURL and CURLM are void, the codes are enums of the
 * width of unsigned or int), so that curl.h stays out of headers; curl_lib.c has the compiler
 * compare each one with the real prototype.
 */
#include <larder/error.h>

struct CURLMsg;
struct curl_slist;
struct curl_waitfd;

/* member, result, arguments: one line a function, resolved as "curl_" member */
#define CURL_LIB_FUNCTIONS(X)                                                 \
    X(easy_init, void *, (void))                                              \
    X(easy_cleanup, void, (void *))                                           \
    X(easy_reset, void, (void *))                                             \
    X(easy_setopt, unsigned, (void *, unsigned, ...))                         \
    X(easy_getinfo, unsigned, (void *, unsigned, ...))                        \
    X(easy_strerror, const char *, (unsigned))                                \
    X(multi_init, void *, (void))                                             \
    X(multi_cleanup, int, (void *))                                           \
    X(multi_add_handle, int, (void *, void *))                                \
    X(multi_remove_handle, int, (void *, void *))                             \
    X(multi_perform, int, (void *, int *))                                    \
    X(multi_poll, int, (void *, struct curl_waitfd *, unsigned, int, int *))  \
    X(multi_info_read, struct CURLMsg *, (void *, int *))                     \
    X(multi_strerror, const char *, (int))                                    \
    X(slist_append, struct curl_slist *, (struct curl_slist *, const char *)) \
    X(slist_free_all, void, (struct curl_slist *))

struct curl_lib {
#define CURL_LIB_MEMBER(name, result, args) result(*name) args;
    CURL_LIB_FUNCTIONS(CURL_LIB_MEMBER)
#undef CURL_LIB_MEMBER
};

/*
 * The library, opened and globally initialised once in the process. It is never closed. UNSUPPORTED
 * when it is not installed or lacks a function. Threads: any.
 */
int curl_lib_get(const struct curl_lib **ret, struct larder_error *e);
