/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Naming a process so that its end can be noticed: pid, start time (field 22 of
 * /proc/PID/stat, clock ticks since boot) and the kernel's boot id. A pid alone is reused, and
 * means something else in another pid namespace (a container).
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <larder/error.h>
#include <larder/observer.h>

#define BOOT_ID_BYTES 37

struct process_id {
    pid_t pid;
    uint64_t start_ticks;
    char boot_id[BOOT_ID_BYTES]; /* "" when /proc is not there */
    uint64_t pid_namespace;      /* inode of /proc/self/ns/pid; 0: not recorded */
};

enum process_state { PROCESS_DEAD, PROCESS_ALIVE, PROCESS_UNKNOWN };

int process_id_self(struct process_id *ret, struct larder_error *e);
int process_id_of(pid_t pid, struct process_id *ret, struct larder_error *e); /* NOENT */
/*
 * DEAD only on proof: recorded in an earlier boot, no such pid, the pid reused (another start
 * time), or a zombie without threads. UNKNOWN when it cannot be told: no start time recorded, no
 * /proc, another pid namespace. A store shared by several hosts must compare hosts before asking.
 */
enum process_state process_check(const struct process_id *id);
/* This boot's id, cached; "" when unknown. */
const char *process_boot_id(void);
/* Command name of a pid into out ("?" when gone). */
char *process_name(pid_t pid, char *out, size_t out_bytes);

/*
 * Runs argv (no shell, PATH looked up) with stdin from /dev/null and waits for its end. stdout is
 * appended to out, of stderr the last err->max_bytes bytes are kept; both may be NULL. Returns 0
 * and *ret_status = wait status when it ended by itself; NOENT when there is no such program. It is
 * killed after timeout_ms (IO; 0: no limit) and when it writes more than out takes (LIMIT).
 */
struct buf;
struct slice;
int process_run(const char *const argv[], int64_t timeout_ms, struct buf *out, struct buf *err,
                int *ret_status, struct larder_error *e);
/* The same with input on its stdin and in a process group of its own, all of which is killed then:
 * what such a program started may hold on to our pipes, or to a terminal. CANCELED when the
 * observer (NULL: none) says so. */
int process_run_input(const char *const argv[], struct slice input, int64_t timeout_ms,
                      const struct larder_observer *observer, struct buf *out, struct buf *err,
                      int *ret_status, struct larder_error *e);
