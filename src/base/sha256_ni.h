/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * SHA-256 compression with the x86 SHA extensions, over one to four independent streams at once.
 * One stream is bound by the latency of sha256rnds2, each waiting for the one before; further
 * streams fill the gaps.
 *
 * Only whole 64-byte blocks; padding is the caller's. The state is the eight words of FIPS 180-4
 * in host order. All functions are pure and safe in any thread. Where the CPU lacks the extensions
 * (sha256_ni_is_there() is false) only that function may be called.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_BLOCK_BYTES 64
#define SHA256_STATE_WORDS 8
#define SHA256_NI_STREAMS  4

/* What the CPU says; asks each time (a few hundred cycles, more in a virtual machine). */
bool sha256_ni_is_there(void);

/*
 * Puts `blocks` blocks of each of `streams` (1..4) streams through the compression function.
 * `ahead`: NULL, or for each stream an address whose lines are asked into the L2 cache in step with
 * its blocks: the memory system works while the SHA unit is what everything waits for. Nothing is
 * read there and any address is allowed.
 */
void sha256_ni_blocks(unsigned streams, uint32_t *const state[], const uint8_t *const data[],
                      const uint8_t *const ahead[], size_t blocks);

/* The state before the first block. */
void sha256_ni_init(uint32_t state[SHA256_STATE_WORDS]);
/*
 * Ends a stream of total_bytes: n (< SHA256_BLOCK_BYTES) bytes after its last whole block, padding
 * and length. out: 32 bytes.
 */
void sha256_ni_final(uint32_t state[SHA256_STATE_WORDS], const uint8_t *rest, size_t n,
                     uint64_t total_bytes, uint8_t *out);
