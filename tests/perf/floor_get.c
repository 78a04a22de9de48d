/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor_get PORT LANES <PATHS
 *
 * GETs the paths (a line each) from 127.0.0.1 over LANES kept connections and throws the answers
 * away: nothing is parsed but Content-Length, hashed or written. What no client of that server can
 * go below. Prints seconds, and CPU seconds of its own. Status 1 if anything was not a 200.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define PATHS_MAX    100000U
#define LANES_MAX    256U
#define BUFFER_BYTES ((size_t)256 * 1024)

static char *paths[PATHS_MAX];
static size_t n_paths;
static atomic_size_t next;
static atomic_bool has_failed;
static uint16_t port;

static bool drain(int fd, char *buffer, size_t left)
{
    while (left) {
        ssize_t n = recv(fd, buffer, left < BUFFER_BYTES ? left : BUFFER_BYTES, 0);
        if (n <= 0)
            return false;
        left -= (size_t)n;
    }
    return true;
}

static bool get(int fd, const char *path, char *buffer)
{
    size_t n = (size_t)snprintf(buffer, BUFFER_BYTES,
                                "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                                "Accept: application/vnd.oci.image.index.v1+json, "
                                "application/vnd.oci.image.manifest.v1+json, */*\r\n\r\n",
                                path);
    const char *end = NULL;
    if (n >= BUFFER_BYTES || send(fd, buffer, n, MSG_NOSIGNAL) != (ssize_t)n)
        return false;
    for (n = 0; !end;) {
        ssize_t got = recv(fd, buffer + n, BUFFER_BYTES - 1 - n, 0);
        if (got <= 0)
            return false;
        n += (size_t)got;
        buffer[n] = '\0';
        end = strstr(buffer, "\r\n\r\n");
    }
    const char *length = strcasestr(buffer, "\r\nContent-Length:");
    if (strncmp(buffer, "HTTP/1.1 200", 12) != 0 || !length || length > end)
        return false;
    size_t body = strtoul(length + 17, NULL, 10);
    size_t there = n - (size_t)(end + 4 - buffer);
    return there <= body && drain(fd, buffer, body - there);
}

static void *lane(void *arg)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    CLEANUP_FREE char *buffer = malloc(BUFFER_BYTES);
    CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t i;

    (void)arg;
    if (!buffer || fd < 0 ||
        connect(fd, (const struct sockaddr *)(const void *)&to, sizeof(to)) < 0)
        atomic_store(&has_failed, true);
    while (!atomic_load(&has_failed) && (i = atomic_fetch_add(&next, 1)) < n_paths) {
        if (!get(fd, paths[i], buffer))
            atomic_store(&has_failed, true);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[LANES_MAX];
    unsigned lanes = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    unsigned started = 0;
    struct rusage usage;
    char line[1024];

    if (lanes == 0 || lanes > LANES_MAX) {
        fprintf(stderr, "usage: floor_get PORT LANES <PATHS\n");
        return 2;
    }
    port = (uint16_t)strtoul(argv[1], NULL, 10);
    while (n_paths < PATHS_MAX && fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = '\0';
        paths[n_paths] = strdup(line);
        if (!paths[n_paths++])
            return 1;
    }
    int64_t start = clock_monotonic_ns();
    while (started < lanes && pthread_create(&threads[started], NULL, lane, NULL) == 0)
        started++;
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    double seconds = (double)(clock_monotonic_ns() - start) / (double)NS_PER_S;
    getrusage(RUSAGE_SELF, &usage);
    printf("%.3f %.3f\n", seconds,
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    for (size_t i = 0; i < n_paths; i++)
        free(paths[i]);
    return atomic_load(&has_failed) || started < lanes;
}
