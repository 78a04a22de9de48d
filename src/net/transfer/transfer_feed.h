/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What reading from a server and reading from a file have in common: bytes go into buffers, to the
 * partial file and on to the pipeline; the first ones are looked at before. Inside src/net.
 *
 * A pass is one run over the source from its first byte. It survives broken connections (which go
 * on at `offset`) and ends when the source turns out to have other bytes now.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/sparse.h"
#include "net/http/pipeline.h"
#include "net/transfer/transfer.h"

struct feed {
    struct transfer *t;
    const char *what;     /* for progress */
    const char *name;     /* what TRANSFER_UNPACK_AUTO judges by */
    uint64_t total_bytes; /* 0: unknown */
    uint64_t resumed_bytes;
    int64_t progress_ns; /* monotonic: last report */

    /* of this pass */
    uint64_t offset; /* bytes taken */
    struct pipeline *pipeline;
    struct ring_buffer *buffer; /* being filled; NULL */
    size_t unwritten_bytes;     /* at the buffer's end; the rest came from the partial */
    int64_t buffer_ns;          /* monotonic: first byte into the buffer */
    struct sparse_writer partial;
    uint64_t flushed_bytes; /* of the partial, handed to the disk */
    bool is_started;
    bool has_peeked_result;
    enum unpack_format format;
};

/* A new pass: the partial file is cut to keep_bytes (which feed_prefix() then takes). */
int feed_begin(struct feed *f, uint64_t keep_bytes, struct larder_error *e);
/* Reads the first n bytes of the partial file as if they came from the source now. */
int feed_prefix(struct feed *f, uint64_t n, struct larder_error *e);
int feed_bytes(struct feed *f, const void *data, size_t n, struct larder_error *e);
/* Without a copy: *ret has room for *ret_n bytes, then tell how many were put there. */
int feed_reserve(struct feed *f, char **ret, size_t *ret_n, struct larder_error *e);
int feed_commit(struct feed *f, size_t n, struct larder_error *e);
/* Progress, cancel, errors of the thread, and a buffer that waits too long; every 100 ms. */
int feed_tick(struct feed *f, struct larder_error *e);
/* End of the source: all is written, hashed and told in t. */
int feed_end(struct feed *f, struct larder_error *e);
/* After a failure: what came is in the partial file, for the next run. */
void feed_keep_partial(struct feed *f);
void feed_done(struct feed *f);
