/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "cli/cli.h"

void secret_free(char *secret)
{
    if (!secret)
        return;
    explicit_bzero(secret, strlen(secret));
    free(secret);
}

/*
 * Holds back what asks to stop, but for when read_line() waits: one that came just before a read
 * would be noticed only after it, and a second one would end us with a terminal that hides.
 */
static void hold_signals(sigset_t *old)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, old);
}

/*
 * One line, or all there is; *ret_n without the newline. -1 with errno: EINTR when a signal ends
 * the question, which waits with the signals of `waiting`.
 */
static int read_line(int fd, const sigset_t *waiting, char *out, size_t room, bool is_one_line,
                     size_t *ret_n)
{
    size_t n = 0;

    while (n < room) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};

        if (cli_caught_signal()) {
            errno = EINTR;
            return -1;
        }
        if (ppoll(&ready, 1, NULL, waiting) < 0)
            return -1;
        ssize_t got = read(fd, out + n, is_one_line ? 1 : room - n);
        if (got < 0)
            return -1;
        if (got == 0 || (is_one_line && out[n] == '\n'))
            break;
        n += (size_t)got;
    }
    if (n == room) {
        errno = EMSGSIZE;
        return -1;
    }
    *ret_n = n;
    return 0;
}

/* Keeps a copy of exactly its size; the buffer is wiped. */
static int keep(char *buffer, size_t n, const char *what, char **ret, struct larder_error *e)
{
    char *copy = NULL;
    int rc = 0;

    if (n == 0)
        rc = error_set(e, LARDER_INVAL, "%s: found nothing", what);
    else if (memchr(buffer, 0, n) || memchr(buffer, '\n', n))
        rc = error_set(e, LARDER_INVAL, "%s: found more than one line, expected one", what);
    else if (!(copy = strndup(buffer, n)))
        rc = error_nomem(e);
    if (buffer)
        explicit_bzero(buffer, n);
    if (rc == 0)
        *ret = copy;
    return rc;
}

static int read_failed(const char *what, struct larder_error *e)
{
    if (errno == EINTR)
        return error_set(e, LARDER_CANCELED, "%s: interrupted", what);
    if (errno == EMSGSIZE)
        return error_set(e, LARDER_LIMIT, "%s: longer than %zu bytes", what, SECRET_BYTES_MAX);
    return error_errno(e, errno, "%s", what);
}

int secret_read_stdin(char **ret, struct larder_error *e)
{
    char *buffer CLEANUP_FREE = malloc(SECRET_BYTES_MAX);
    sigset_t old;
    size_t n = 0;

    if (!buffer)
        return error_nomem(e);
    hold_signals(&old);
    int rc = read_line(STDIN_FILENO, &old, buffer, SECRET_BYTES_MAX, false, &n);
    int error = errno;
    sigprocmask(SIG_SETMASK, &old, NULL);
    errno = error;
    if (rc < 0)
        return read_failed("standard input", e);
    if (n && buffer[n - 1] == '\n')
        n--;
    if (n && buffer[n - 1] == '\r')
        n--;
    return keep(buffer, n, "standard input", ret, e);
}

int secret_ask(const char *prompt, bool is_hidden, char **ret, struct larder_error *e)
{
    int fd CLEANUP_CLOSE = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    char *buffer CLEANUP_FREE = malloc(SECRET_BYTES_MAX);
    struct termios old;
    struct termios quiet;
    sigset_t signals;
    size_t n = 0;
    int rc;

    if (!buffer)
        return error_nomem(e);
    if (fd < 0 || tcgetattr(fd, &old) < 0)
        return error_set(e, LARDER_INVAL, "%s: there is no terminal to ask", prompt);
    quiet = old;
    if (is_hidden)
        quiet.c_lflag &= ~(tcflag_t)ECHO;
    hold_signals(&signals);
    /* First this, which drops what was typed before the question. */
    (void)tcsetattr(fd, TCSAFLUSH, &quiet);
    (void)fd_write_full(fd, prompt, strlen(prompt));
    (void)fd_write_full(fd, ": ", 2);
    rc = read_line(fd, &signals, buffer, SECRET_BYTES_MAX, true, &n);
    int error = errno;
    (void)tcsetattr(fd, TCSAFLUSH, &old);
    if (is_hidden || rc < 0)
        (void)fd_write_full(fd, "\n", 1);
    sigprocmask(SIG_SETMASK, &signals, NULL);
    errno = error;
    return rc < 0 ? read_failed(prompt, e) : keep(buffer, n, prompt, ret, e);
}
