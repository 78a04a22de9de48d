/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The second half of a transfer: a thread that hashes the source bytes and, when they are
 * compressed, unpacks them into a sparse file and hashes that too. Inside src/net.
 *
 *     pipeline_new -> pipeline_fill* (before start: the head is looked at)
 *     pipeline_start(format) -> pipeline_put(buffer), pipeline_get ... -> pipeline_finish
 *
 * All functions are called from one thread, the transfer's. None of them waits longer than
 * PIPELINE_WAIT_NS without calling `wait`, so that a cancel is obeyed however slow the other side
 * is.
 */
#include <stdbool.h>
#include <stdint.h>

#include <larder/digest.h>
#include <larder/error.h>

#include "archive/unpack.h"
#include "base/ring.h"

/* 8 MiB in all: enough that neither side waits for the other's hiccups. */
#define PIPELINE_BUFFER_BYTES (2UL * 1024 * 1024)
#define PIPELINE_BUFFERS      4UL
#define PIPELINE_WAIT_NS      (100LL * 1000 * 1000)

struct pipeline_options {
    unsigned source_alg_bits;
    unsigned result_alg_bits;
    int unpack_fd; /* borrowed */
    /* Called while waiting; negative ends the wait with that code. */
    int (*wait)(void *arg, struct larder_error *e);
    void *arg;
};

struct pipeline;

int pipeline_new(const struct pipeline_options *options, struct pipeline **ret,
                 struct larder_error *e);
/* Stops the thread if it runs. */
void pipeline_free(struct pipeline *p);
DEFINE_CLEANUP(struct pipeline *, pipeline_free)
/* NONE: only hash. Before the first put. */
int pipeline_start(struct pipeline *p, enum unpack_format format, struct larder_error *e);
/* A free buffer, to be filled and put. The thread's error when it failed. */
int pipeline_get(struct pipeline *p, struct ring_buffer **ret, struct larder_error *e);
void pipeline_put(struct pipeline *p, struct ring_buffer *buffer);
/* End of input: waits for the thread, which ends the unpacked file. */
int pipeline_finish(struct pipeline *p, struct larder_error *e);
/* The thread's error as soon as there is one, else 0. */
int pipeline_check(struct pipeline *p, struct larder_error *e);
/* Bytes of the unpacked file written so far. */
uint64_t pipeline_result_bytes(const struct pipeline *p);
/* After pipeline_finish; arrays of LARDER_DIGEST_ALG_MAX. */
int pipeline_digests(struct pipeline *p, struct larder_digest *ret_source,
                     struct larder_digest *ret_result, struct larder_error *e);
