/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Writes buffers in a thread of its own, in the order in which they come, while they are hashed and
 * who gives them receives the next ones. Inside src/store, for blob_write.c.
 *
 * One thread gives; what waits is bounded by the team's buffers.
 */
#include "base/hash_team.h"

/* Few large writes: each is a call into the disk's driver, on a virtual machine into its host, and
 * costs as much as receiving 100 KiB. As many as a lane may have beside the one it fills, however
 * many lanes there are (blob_pull.c), so that nobody waits for a buffer that waits here. */
#define WRITE_BEHIND_BUFFERS 2U

struct write_behind;

/* write: n buffers, at most WRITE_BEHIND_BUFFERS, that follow each other from `at` on: 0 or an
 * errno value; called by the thread. NULL when there can't be a thread. */
struct write_behind *write_behind_new(struct hash_stream *stream,
                                      int (*write)(void *arg, struct hash_buffer *const *b,
                                                   unsigned n, uint64_t at),
                                      void *arg);
/* A shared buffer (hash_stream_share), for the file's offset `at`; it is released when it is
 * written. 0, or the errno value of a write that failed: then nothing is written any more. */
int write_behind_put(struct write_behind *behind, struct hash_buffer *b, uint64_t at);
/* Waits for all that was given. The same result. NULL is fine. */
int write_behind_end(struct write_behind *behind);
