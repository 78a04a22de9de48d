/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Naming a process so that its end can be noticed: pid, start time (field 22 of
 * /proc/PID/stat, clock ticks since boot) and the kernel's boot id. A pid alone is reused.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <larder/error.h>

#define BOOT_ID_BYTES 37

struct process_id {
    pid_t pid;
    uint64_t start_ticks;
    char boot_id[BOOT_ID_BYTES]; /* "" when /proc is not there */
};

enum process_state { PROCESS_DEAD, PROCESS_ALIVE, PROCESS_UNKNOWN };

int process_id_self(struct process_id *ret, struct larder_error *e);
int process_id_of(pid_t pid, struct process_id *ret, struct larder_error *e); /* NOENT */
/* UNKNOWN (never DEAD) when it cannot be told: no /proc, another boot id but same host... */
enum process_state process_check(const struct process_id *id);
/* This boot's id, cached; "" when unknown. */
const char *process_boot_id(void);
/* Command name of a pid into out ("?" when gone). */
char *process_name(pid_t pid, char *out, size_t out_bytes);

/*
 * Runs argv (no shell, PATH looked up) with stdin from /dev/null, collects stdout up to
 * max_stdout bytes and the tail of stderr; kills it after timeout_ms. Returns 0 and *ret_status =
 * wait status when it ran at all; NOENT when there is no such program.
 */
struct buf;
int process_run(const char *const argv[], int64_t timeout_ms, struct buf *out, struct buf *err,
                int *ret_status, struct larder_error *e);
