/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The lock files of Python's flufl.lock (5.x), which coreos-assembler takes around every change of
 * meta.json and builds.json. To lock DIR/NAME:
 *
 *   1. write the claim "DIR/NAME|HOST|PID|RANDOM", its content its own path, its mtime the time
 *      when the lock may be broken
 *   2. link the claim to DIR/NAME; EEXIST: somebody has it, wait and try again
 *   3. unlock: unlink DIR/NAME, then the claim
 *
 * coreos-assembler's locks last for 52 weeks, so a killed one would block everybody for a year.
 * Here a holder that is proven dead is not waited for: one of larder's own by pid, start time, boot
 * and pid namespace (they are in RANDOM, which others ignore), another's of this very host name
 * when its pid is gone and it has held the lock for longer than any writer needs. Ours last five
 * minutes, for those who know no such proof.
 *
 * Threads: a lock belongs to one thread; two threads of a process may wait for each other.
 */
#include <larder/error.h>
#include <larder/observer.h>

#include "base/mem.h"

struct flufl_lock;

/*
 * Waits for the lock as long as somebody has it; CANCELED when the observer says so. A wait is told
 * once as a warning that names the holder. directory: a descriptor of path, borrowed until release.
 * DENIED (read-only), UNSUPPORTED (no hard links), IO.
 */
int flufl_lock_take(int directory, const char *path, const char *name,
                    const struct larder_observer *observer, struct flufl_lock **ret,
                    struct larder_error *e);
/* Gives the lock back; NULL is fine. */
void flufl_lock_release(struct flufl_lock *lock);
DEFINE_CLEANUP(struct flufl_lock *, flufl_lock_release)

/* Removes a lock, and claims to it, that killed larder processes left; what can't be removed stays.
 * Without it the next one to take the lock does that, or its five minutes end. */
void flufl_lock_sweep(int directory, const char *name);

/* How long another program's lock must be held before a dead pid is believed: within a container
 * of the same host name pids mean something else, but nobody holds a lock for so long. */
#define FLUFL_FOREIGN_AGE_NS (10 * 1000000000LL)
/* The same where the holder calls itself localhost: then on a local disk only. */
#define FLUFL_NAMELESS_AGE_NS (60 * 1000000000LL)
