/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How fast the readers of hash_many may go: a byte rate shared by all threads, and stepping back
 * while the machine waits for its disks. Internal to hash_many.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash_pace {
    uint64_t max_bytes_per_s; /* 0: unlimited */
    bool background;
    const atomic_bool *stop; /* ends every wait */
    pthread_mutex_t lock;    /* of all below */
    int64_t rate_free_ns;    /* monotonic: when the bytes granted so far are paid for */
    int64_t pressure_next_ns;
    bool pressure_high;
};

/* `stop` is borrowed. Nothing to release but by hash_pace_done. */
void hash_pace_init(struct hash_pace *p, uint64_t max_bytes_per_s, bool background,
                    const atomic_bool *stop);
void hash_pace_done(struct hash_pace *p);
/* The calling thread becomes the last to get the CPU and, where the I/O scheduler has classes, the
 * disk. Best effort. */
void hash_pace_background_thread(void);
/* Waits until n more bytes may be read. */
void hash_pace_wait(struct hash_pace *p, size_t n);
/* "some avg10=" of a /proc/pressure file's text in percent; -1 when it is not there. */
double hash_pace_parse_pressure(const char *text);
