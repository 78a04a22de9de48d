/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the HTTP client costs, against any server:
 *
 *     bench_http get URL [ROOM-KIB]    a body, thrown away: GiB/s, CPU s/GiB, peak RSS
 *     bench_http small URL COUNT       the same small request again: ns and CPU ns each
 *     bench_http put URL FILE          a file as one body
 *
 * $LARDER_HTTP_ENGINE=curl for the other engine.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/http/http.h"

struct sink {
    char *room;
    size_t room_bytes;
    uint64_t bytes;
    uint64_t pieces;
};

static void *sink_room(void *arg, size_t *ret_n)
{
    const struct sink *sink = arg;
    *ret_n = sink->room_bytes;
    return sink->room;
}

static int sink_body(void *arg, const void *data, size_t n, struct larder_error *e)
{
    struct sink *sink = arg;
    (void)data;
    (void)e;
    sink->bytes += n;
    sink->pieces++;
    return 0;
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void perform(struct http_client *client, struct http_request *request)
{
    struct http_response response = {0};
    struct larder_error e = LARDER_ERROR_INIT;
    if (http_perform(client, request, &response, &e) < 0 || response.status >= 300) {
        fprintf(stderr, "bench_http: status %d %s\n", response.status, e.msg);
        exit(1);
    }
    http_response_done(&response);
}

static void report(const char *what, uint64_t bytes, uint64_t count, int64_t start, double cpu)
{
    struct rusage u;
    double wall = (double)(clock_monotonic_ns() - start) / 1e9;
    double gib = (double)bytes / (1024.0 * 1024 * 1024);
    cpu = cpu_s() - cpu;
    getrusage(RUSAGE_SELF, &u);
    if (count > 0)
        printf("%s: %.0f ns each, CPU %.0f ns each, RSS %ld KiB\n", what,
               wall * 1e9 / (double)count, cpu * 1e9 / (double)count, u.ru_maxrss);
    else
        printf("%s: %.3f s, %.2f GiB/s, CPU %.3f s/GiB, RSS %ld KiB\n", what, wall, gib / wall,
               cpu / gib, u.ru_maxrss);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fputs("usage: bench_http get URL [KIB] | small URL COUNT | put URL FILE\n", stderr);
        return 2;
    }
    struct http_client *client = NULL;
    const struct http_options options = {.no_netrc = true};
    struct sink sink = {0};
    struct http_request request = {.url = argv[2], .body = sink_body, .arg = &sink};
    if (http_client_new(&options, &client, NULL) < 0)
        return 1;
    double cpu = cpu_s();
    int64_t start = clock_monotonic_ns();
    if (strcmp(argv[1], "small") == 0) {
        unsigned long count = argc > 3 ? strtoul(argv[3], NULL, 10) : 10000;
        for (unsigned long i = 0; i < count; i++)
            perform(client, &request);
        report("small", 0, count, start, cpu);
    } else if (strcmp(argv[1], "put") == 0 && argc > 3) {
        struct stat st;
        int fd = open(argv[3], O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) != 0)
            return 1;
        const struct http_upload upload = {.fd = fd, .n_bytes = (uint64_t)st.st_size};
        request.method = HTTP_PUT;
        request.upload = &upload;
        perform(client, &request);
        report("put", upload.n_bytes, 0, start, cpu);
        close(fd);
    } else {
        sink.room_bytes = argc > 3 ? strtoul(argv[3], NULL, 10) * 1024 : 0;
        if (sink.room_bytes > 0)
            sink.room = malloc(sink.room_bytes);
        request.room = sink.room ? sink_room : NULL;
        perform(client, &request);
        report("get", sink.bytes, 0, start, cpu);
        printf("%llu pieces\n", (unsigned long long)sink.pieces);
    }
    free(sink.room);
    http_client_free(client);
    return 0;
}
