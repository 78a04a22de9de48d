/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/process.h"

static void alive_dead_and_reused(void **state __attribute__((unused)))
{
    struct process_id id;
    struct process_id other;
    pid_t pid;

    assert_int_equal(process_id_self(&id, NULL), 0);
    assert_int_equal(id.pid, getpid());
    assert_true(id.start_ticks > 0);
    assert_string_equal(id.boot_id, process_boot_id());
    assert_int_equal(strlen(id.boot_id), BOOT_ID_BYTES - 1);
    assert_int_equal(process_check(&id), PROCESS_ALIVE);

    other = id;
    other.start_ticks++;
    assert_int_equal(process_check(&other), PROCESS_DEAD);
    other = id;
    other.boot_id[0] = other.boot_id[0] == '0' ? '1' : '0';
    assert_int_equal(process_check(&other), PROCESS_DEAD);
    other = id;
    other.start_ticks = 0;
    assert_int_equal(process_check(&other), PROCESS_UNKNOWN);
    other = id;
    other.pid_namespace++;
    assert_int_equal(process_check(&other), PROCESS_UNKNOWN);
    other.pid = 0;
    assert_int_equal(process_check(&other), PROCESS_UNKNOWN);

    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_int_equal(process_id_of(pid, &id, NULL), 0);
    assert_int_equal(process_check(&id), PROCESS_ALIVE);
    kill(pid, SIGKILL);
    /* Not reaped yet: a zombie holds nothing. */
    assert_int_equal(waitid(P_PID, (id_t)pid, NULL, WEXITED | WNOWAIT), 0);
    assert_int_equal(process_check(&id), PROCESS_DEAD);
    waitpid(pid, NULL, 0);
    assert_int_equal(process_check(&id), PROCESS_DEAD);
    assert_int_equal(process_id_of(pid, &other, NULL), -LARDER_NOENT);
    assert_int_equal(process_id_of(-1, &other, NULL), -LARDER_INVAL);
}

static void names(void **state __attribute__((unused)))
{
    char out[32];

    assert_string_equal(process_name(getpid(), out, sizeof(out)), "test_process");
    assert_string_equal(process_name(getpid(), out, 5), "test");
    assert_string_equal(process_name(0x3fffffff, out, sizeof(out)), "?");
}

static void collects_output_and_status(void **state __attribute__((unused)))
{
    static const char *const argv[] = {
        "sh", "-c", "read x; echo \"got<$x>\"; echo 0123456789abcdef >&2; exit 3", NULL};
    struct buf out = BUF_INIT(1000);
    struct buf err = BUF_INIT(8);
    int status = -1;

    assert_int_equal(process_run(argv, 0, &out, &err, &status, NULL), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 3);
    assert_string_equal(out.p, "got<>\n");
    assert_string_equal(err.p, "9abcdef\n");
    assert_int_equal(process_run(argv, 0, NULL, NULL, &status, NULL), 0);
    buf_done(&out);
    buf_done(&err);
}

static void much_output_in_pieces(void **state __attribute__((unused)))
{
    static const char *const argv[] = {"sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x", NULL};
    struct buf out = BUF_INIT(3000000);
    int status = -1;

    assert_int_equal(process_run(argv, 0, &out, NULL, &status, NULL), 0);
    assert_int_equal(status, 0);
    assert_int_equal(out.n, 3000000);
    buf_done(&out);
}

static void limits_end_it(void **state __attribute__((unused)))
{
    static const char *const sleeper[] = {"sleep", "1000", NULL};
    static const char *const endless[] = {"yes", NULL};
    static const char *const noisy[] = {"sh", "-c", "exec yes >&2", NULL};
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf out = BUF_INIT(1000);
    struct buf err = BUF_INIT(100);
    int status = 42;

    assert_int_equal(process_run(sleeper, 100, &out, NULL, &status, &e), -LARDER_IO);
    assert_non_null(strstr(e.msg, "sleep"));
    assert_int_equal(process_run(endless, 0, &out, NULL, &status, &e), -LARDER_LIMIT);
    assert_int_equal(process_run(noisy, 100, NULL, &err, &status, &e), -LARDER_IO);
    assert_int_equal(status, 42);
    /* Nothing is left to be reaped. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    buf_done(&out);
    buf_done(&err);
}

static void a_grandchild_does_not_hold_us(void **state __attribute__((unused)))
{
    static const char *const argv[] = {"sh", "-c", "sleep 1000 & echo $!", NULL};
    struct buf out = BUF_INIT(1000);
    int status = -1;

    assert_int_equal(process_run(argv, 0, &out, NULL, &status, NULL), 0);
    pid_t grandchild = (pid_t)atoi(out.p);
    assert_true(grandchild > 1);
    /* It is still there, with our pipe. */
    assert_int_equal(kill(grandchild, SIGKILL), 0);
    buf_done(&out);
}

static void input_and_group(void **state __attribute__((unused)))
{
    static const char *const argv[] = {"sh", "-c", "head -c 3; echo \"<$(cat)>\"", NULL};
    static const char *const deaf[] = {"true", NULL};
    /* The grandchild outlives its parent's death by SIGKILL, if nobody kills it. */
    static const char *const family[] = {"sh", "-c", "sleep 1000 & echo $!; wait", NULL};
    struct larder_error e = LARDER_ERROR_INIT;
    struct buf out = BUF_INIT(1000);
    int status = -1;

    assert_int_equal(
        process_run_input(argv, SLICE_LIT("abcdef\n"), 0, NULL, &out, NULL, &status, NULL), 0);
    assert_string_equal(out.p, "abc<def>\n");
    assert_int_equal(process_run_input(deaf, SLICE_LIT("x"), 0, NULL, NULL, NULL, &status, NULL),
                     0);
    assert_int_equal(status, 0);

    /* On a machine that is slow to start a shell the limit may end it before it says a word. */
    buf_reset(&out);
    for (int limit_ms = 300; out.n == 0 && limit_ms < 60000; limit_ms *= 3)
        assert_int_equal(
            process_run_input(family, SLICE_LIT(""), limit_ms, NULL, &out, NULL, &status, &e),
            -LARDER_IO);
    assert_true(out.n > 0);
    pid_t grandchild = (pid_t)atoi(out.p);
    assert_true(grandchild > 1);
    struct process_id id = {.pid = grandchild};
    for (int i = 0; i < 6000 && kill(grandchild, 0) == 0; i++) {
        if (process_id_of(grandchild, &id, NULL) < 0 || process_check(&id) == PROCESS_DEAD)
            break;
        clock_sleep_ns(20 * NS_PER_MS);
    }
    assert_true(kill(grandchild, 0) < 0 || process_check(&id) == PROCESS_DEAD);
    buf_done(&out);
}

static void no_such_program(void **state __attribute__((unused)))
{
    static const char *const argv[] = {"no-such-program-here", NULL};
    static const char *const dir[] = {"/", NULL};
    int status = 42;

    /* A directory of the path that may not be searched would be DENIED. */
    setenv("PATH", "/usr/bin:/bin", 1);
    assert_int_equal(process_run(argv, 0, NULL, NULL, &status, NULL), -LARDER_NOENT);
    assert_int_equal(process_run(dir, 0, NULL, NULL, &status, NULL), -LARDER_DENIED);
    assert_int_equal(status, 42);
}

static void works_without_stdio(void **state __attribute__((unused)))
{
    static const char *const argv[] = {"sh", "-c", "echo out; echo err >&2", NULL};
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct buf out = BUF_INIT(100);
        struct buf err = BUF_INIT(100);
        int rc;

        close(0);
        close(1);
        close(2);
        rc = process_run(argv, 0, &out, &err, &status, NULL);
        _exit(rc == 0 && status == 0 && out.n == 4 && err.n == 4 && !strcmp(out.p, "out\n") &&
                      !strcmp(err.p, "err\n")
                  ? 0
                  : 1);
    }
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alive_dead_and_reused),
        cmocka_unit_test(names),
        cmocka_unit_test(collects_output_and_status),
        cmocka_unit_test(much_output_in_pieces),
        cmocka_unit_test(limits_end_it),
        cmocka_unit_test(a_grandchild_does_not_hold_us),
        cmocka_unit_test(input_and_group),
        cmocka_unit_test(no_such_program),
        cmocka_unit_test(works_without_stdio),
    };

    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
