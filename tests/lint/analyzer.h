/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Put before each source by the clang-tidy step. The analyzer sees one file at a time: without
 * this it follows paths on which a failing call, `return error_set(...)`, succeeded.
 */
#include "base/error.h"

static inline int analyzer_negative(int code)
{
    return code < 0 ? code : -1;
}

#define error_set(...)        analyzer_negative(error_set(__VA_ARGS__))
#define error_errno(...)      analyzer_negative(error_errno(__VA_ARGS__))
#define error_errno_code(...) analyzer_negative(error_errno_code(__VA_ARGS__))
#define error_context(...)    analyzer_negative(error_context(__VA_ARGS__))
#define error_hint(...)       analyzer_negative(error_hint(__VA_ARGS__))
#define error_nomem(...)      analyzer_negative(error_nomem(__VA_ARGS__))
