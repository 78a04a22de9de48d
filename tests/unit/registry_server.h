/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * tests/registry/server.py as a child of a unit test; its head is the manual.
 *
 *     struct registry_server r;
 *     registry_server_start(&r, false);
 *     registry_server_image(&r, "{\"repo\": \"a/b\", \"platforms\": [\"linux/amd64\"]}");
 *     registry_server_set(&r, "{\"auth\": \"bearer\"}");      // all others: default; empty log
 *     ... docker://127.0.0.1:<r.port>/a/b: registry_server_reference(&r, "a/b:latest") ...
 *     assert_int_equal(registry_server_count(&r, "HEAD /v2/"), 1);
 *     registry_server_stop(&r);
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fdio.h"
#include "base/mem.h"

struct registry_server {
    pid_t pid;
    int port, other_port, admin_port;
    bool is_tls;
    char dir[64]; /* log, headers, cert.pem, key.pem; for the test, too */
    char text[4096];
};

/* Path of a file of the server's directory; the buffer is the server's. */
static inline const char *registry_server_path(struct registry_server *r, const char *name)
{
    snprintf(r->text, sizeof(r->text), "%s/%s", r->dir, name);
    return r->text;
}

/* "docker://127.0.0.1:PORT/a/b:latest"; the buffer is the server's. */
static inline const char *registry_server_reference(struct registry_server *r, const char *rest)
{
    snprintf(r->text, sizeof(r->text), "docker://127.0.0.1:%d/%s", r->port, rest);
    return r->text;
}

/* Asks the admin port: status, and the answer's body in *ret (buf_done() it) unless NULL. */
static inline int registry_server_ask(struct registry_server *r, const char *method,
                                      const char *path, const char *media_type, const void *body,
                                      size_t n, struct buf *ret)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct buf answer = BUF_INIT(64 << 20);
    char head[1024];
    char piece[4096];
    ssize_t got;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    address.sin_port = htons((uint16_t)r->admin_port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    int length = snprintf(head, sizeof(head),
                          "%s %s HTTP/1.1\r\nConnection: close\r\nContent-Type: %s\r\n"
                          "Content-Length: %zu\r\n\r\n",
                          method, path, media_type, n);
    assert_true(length > 0 && (size_t)length < sizeof(head));
    assert_int_equal(fd_write_full(fd, head, (size_t)length), 0);
    assert_int_equal(fd_write_full(fd, body, n), 0);
    while ((got = read(fd, piece, sizeof(piece))) > 0)
        buf_append(&answer, piece, (size_t)got);
    close(fd);
    assert_non_null(answer.p);
    int status = atoi(strchr(answer.p, ' ') + 1);
    char *start = strstr(answer.p, "\r\n\r\n");
    assert_non_null(start);
    if (ret)
        buf_append(ret, start + 4, answer.n - (size_t)(start + 4 - answer.p));
    buf_done(&answer);
    return status;
}

static inline void registry_server_set(struct registry_server *r, const char *json)
{
    assert_int_equal(registry_server_ask(r, "PUT", "/_control", "-", json, strlen(json), NULL),
                     200);
    assert_int_equal(registry_server_ask(r, "DELETE", "/_log", "-", "", 0, NULL), 200);
}

/* Makes an image as POST /_image is told; its digest, in the server's buffer. */
static inline const char *registry_server_image(struct registry_server *r, const char *json)
{
    struct buf answer = BUF_INIT(1 << 20);
    assert_int_equal(registry_server_ask(r, "POST", "/_image", "-", json, strlen(json), &answer),
                     200);
    const char *at = strstr(answer.p, "sha256:");
    assert_non_null(at);
    snprintf(r->text, sizeof(r->text), "%.71s", at);
    buf_done(&answer);
    return r->text;
}

/* The request log; buf_done() it. */
static inline struct buf registry_server_log(struct registry_server *r)
{
    struct buf log = BUF_INIT(64 << 20);
    assert_int_equal(registry_server_ask(r, "GET", "/_log", "-", "", 0, &log), 200);
    return log;
}

/* How many lines of the log hold text ("" counts all). */
static inline int registry_server_count(struct registry_server *r, const char *text)
{
    struct buf log = registry_server_log(r);
    int n = 0;
    for (char *line = log.p; line && *line;) {
        char *end = strchr(line, '\n');
        if (end)
            *end = '\0';
        n += strstr(line, text) != NULL;
        line = end ? end + 1 : NULL;
    }
    buf_done(&log);
    return n;
}

static inline void registry_server_exec(struct registry_server *r)
{
    const char *source = getenv("LARDER_SOURCE");
    char script[1024];
    char path[4][80];
    static const char *const names[] = {"log", "headers", "cert.pem", "key.pem"};
    for (size_t i = 0; i < 4; i++)
        snprintf(path[i], sizeof(path[i]), "%s/%s", r->dir, names[i]);
    snprintf(script, sizeof(script), "%s/tests/registry/server.py", source ? source : ".");
    if (r->is_tls)
        execlp("python3", "python3", script, "--log", path[0], "--headers", path[1], "--tls-cert",
               path[2], "--tls-key", path[3], (char *)NULL);
    else
        execlp("python3", "python3", script, "--log", path[0], "--headers", path[1], (char *)NULL);
    _exit(127);
}

/* is_tls: with a certificate of its own for 127.0.0.1 and localhost, cert.pem in its directory. */
static inline void registry_server_start(struct registry_server *r, bool is_tls)
{
    int pipe_fd[2];
    *r = (struct registry_server){.is_tls = is_tls};
    snprintf(r->dir, sizeof(r->dir), "/tmp/larder-test-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    if (is_tls) {
        char command[512];
        snprintf(command, sizeof(command),
                 "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
                 "-addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout %s/key.pem "
                 "-out %s/cert.pem 2>/dev/null",
                 r->dir, r->dir);
        assert_int_equal(system(command), 0);
    }
    assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid == 0) {
        dup2(pipe_fd[1], 1);
        registry_server_exec(r);
    }
    close(pipe_fd[1]);
    FILE *f = fdopen(pipe_fd[0], "r");
    assert_non_null(f);
    int got = fscanf(f, "%d %d %d", &r->port, &r->other_port, &r->admin_port);
    fclose(f);
    assert_int_equal(got, 3);
}

static inline void registry_server_stop(struct registry_server *r)
{
    char command[128];
    kill(r->pid, SIGTERM);
    waitpid(r->pid, NULL, 0);
    snprintf(command, sizeof(command), "rm -rf -- '%s'", r->dir);
    assert_int_equal(system(command), 0);
}

/* Whether these tests can run; else says so in TAP. The environment's proxies would be asked. */
static inline bool registry_server_is_possible(void)
{
    static const char *const names[] = {
        "http_proxy",    "https_proxy",   "all_proxy", "HTTPS_PROXY",     "ALL_PROXY",
        "SSL_CERT_FILE", "DOCKER_CONFIG", "HOME",      "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unsetenv(names[i]);
    setenv("XDG_RUNTIME_DIR", "/nowhere", 1); /* else /run, with credentials of this machine */
    if (system("python3 -c 'import socketserver, ssl' 2>/dev/null") == 0)
        return true;
    puts("1..0 # SKIP python3 not found");
    return false;
}
