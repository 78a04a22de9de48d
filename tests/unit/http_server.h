/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * tests/http/server.py as a child of a unit test, over a directory of its own.
 *
 *     struct server s;
 *     server_start(&s, false);
 *     server_file(&s, "a.img", data, n);
 *     fetch(server_url(&s, "/a.img?x.reset_after=100"));    // behaviour in the query, or:
 *     server_control(&s, "{\"/a.img\": {\"times\": 1, \"status\": 503}}");
 *     server_stop(&s);
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fdio.h"
#include "base/mem.h"

struct server {
    pid_t pid;
    int port;
    int controls; /* written so far */
    bool is_tls;
    char dir[64];
    char url[4096];
};

/* Path of a file of the server's directory; the buffer is the server's. */
static inline const char *server_path(struct server *s, const char *name)
{
    snprintf(s->url, sizeof(s->url), "%s/%s", s->dir, name);
    return s->url;
}

static inline void server_file(struct server *s, const char *name, const void *data, size_t n)
{
    int fd = open(server_path(s, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_full(fd, data, n), 0);
    /* Old enough for Last-Modified to be a strong validator. */
    const struct timespec old[2] = {{1700000000, 0}, {1700000000, 0}};
    assert_int_equal(futimens(fd, old), 0);
    close(fd);
}

static inline void server_control(struct server *s, const char *json)
{
    char temp[80];
    char name[80];
    snprintf(temp, sizeof(temp), "%s/control.tmp", s->dir);
    snprintf(name, sizeof(name), "%s/control.json", s->dir);
    FILE *f = fopen(temp, "we");
    assert_non_null(f);
    fprintf(f, "%s%*s\n", json, ++s->controls, ""); /* each one of another length */
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(temp, name), 0);
}

static inline const char *server_url(struct server *s, const char *target)
{
    snprintf(s->url, sizeof(s->url), "%s://127.0.0.1:%d%s", s->is_tls ? "https" : "http", s->port,
             target);
    return s->url;
}

/* The request log; buf_done() it. */
static inline struct buf server_log(struct server *s)
{
    struct buf log = BUF_INIT(16 << 20);
    (void)file_read(AT_FDCWD, server_path(s, "log"), &log, NULL);
    return log;
}

static inline void server_log_reset(struct server *s)
{
    unlink(server_path(s, "log"));
}

/* How often text is in the log. */
static inline int server_log_count(struct server *s, const char *text)
{
    struct buf log = server_log(s);
    int n = 0;
    for (const char *p = log.p; p && (p = strstr(p, text)); p += strlen(text))
        n++;
    buf_done(&log);
    return n;
}

static inline void server_exec(struct server *s)
{
    const char *source = getenv("LARDER_SOURCE");
    char script[1024];
    char path[4][80];
    static const char *const names[] = {"control.json", "log", "cert.pem", "key.pem"};
    for (size_t i = 0; i < 4; i++)
        snprintf(path[i], sizeof(path[i]), "%s/%s", s->dir, names[i]);
    snprintf(script, sizeof(script), "%s/tests/http/server.py", source ? source : ".");
    if (s->is_tls)
        execlp("python3", "python3", script, "--control", path[0], "--log", path[1], "--tls-cert",
               path[2], "--tls-key", path[3], s->dir, (char *)NULL);
    else
        execlp("python3", "python3", script, "--control", path[0], "--log", path[1], s->dir,
               (char *)NULL);
    _exit(127);
}

static inline void server_make_cert(struct server *s)
{
    char command[512];
    snprintf(command, sizeof(command),
             "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
             "-addext subjectAltName=IP:127.0.0.1 -keyout %s/key.pem -out %s/cert.pem 2>/dev/null",
             s->dir, s->dir);
    assert_int_equal(system(command), 0);
}

static inline void server_start(struct server *s, bool is_tls)
{
    int pipe_fd[2];
    *s = (struct server){.is_tls = is_tls};
    snprintf(s->dir, sizeof(s->dir), "/tmp/larder-test-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    if (is_tls)
        server_make_cert(s);
    assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        dup2(pipe_fd[1], 1);
        server_exec(s);
    }
    close(pipe_fd[1]);
    FILE *f = fdopen(pipe_fd[0], "r");
    assert_non_null(f);
    char line[32] = "";
    char *got = fgets(line, sizeof(line), f);
    fclose(f);
    assert_non_null(got);
    s->port = atoi(line);
    assert_true(s->port > 0);
}

static inline void server_stop(struct server *s)
{
    char command[128];
    kill(s->pid, SIGTERM);
    waitpid(s->pid, NULL, 0);
    snprintf(command, sizeof(command), "rm -rf -- '%s'", s->dir);
    assert_int_equal(system(command), 0);
}

/* Whether these tests can run; else says so in TAP. The environment's proxies would be asked. */
static inline bool server_is_possible(void)
{
    static const char *const proxies[] = {"http_proxy",  "https_proxy", "all_proxy",
                                          "HTTPS_PROXY", "ALL_PROXY",   "SSL_CERT_FILE"};
    for (size_t i = 0; i < ARRAY_LEN(proxies); i++)
        unsetenv(proxies[i]);
    if (system("python3 -c 'import socketserver' 2>/dev/null") == 0)
        return true;
    puts("1..0 # SKIP python3 not found");
    return false;
}
