/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Marks of every public declaration. LARDER_API exports a symbol from liblarder (everything else is
 * hidden), LARDER_PRINTF lets the compiler check format strings, LARDER_BEGIN/END_DECLS make the
 * headers usable from C++.
 */
#ifdef __cplusplus
#define LARDER_BEGIN_DECLS extern "C" {
#define LARDER_END_DECLS   }
#else
#define LARDER_BEGIN_DECLS
#define LARDER_END_DECLS
#endif

#if defined(__GNUC__)
#define LARDER_API          __attribute__((visibility("default")))
#define LARDER_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define LARDER_MUST_CHECK   __attribute__((warn_unused_result))
#else
#define LARDER_API
#define LARDER_PRINTF(f, a)
#define LARDER_MUST_CHECK
#endif
