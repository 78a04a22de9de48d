/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Hand-made image headers for tests, and real ones from qemu-img where it is installed.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/slice.h"

#define SAMPLE_BYTES (64 * 1024)

static inline void put_be(unsigned char *p, size_t offset, unsigned width, uint64_t v)
{
    for (unsigned i = 0; i < width; i++)
        p[offset + i] = (unsigned char)(v >> (8 * (width - 1 - i)));
}

static inline void put_le(unsigned char *p, size_t offset, unsigned width, uint64_t v)
{
    for (unsigned i = 0; i < width; i++)
        p[offset + i] = (unsigned char)(v >> (8 * i));
}

/* A sound version 3 image of 1 GiB with 64 KiB clusters, 256 KiB long. */
#define SAMPLE_QCOW2_FILE_BYTES (4 * 65536ull)
static inline void sample_qcow2(unsigned char *p)
{
    memset(p, 0, SAMPLE_BYTES);
    memcpy(p, "QFI\xfb", 4);
    put_be(p, 4, 4, 3);
    put_be(p, 20, 4, 16);
    put_be(p, 24, 8, 1ull << 30);
    put_be(p, 36, 4, 2);
    put_be(p, 40, 8, 3 * 65536);
    put_be(p, 48, 8, 65536);
    put_be(p, 56, 4, 1);
    put_be(p, 96, 4, 4);
    put_be(p, 100, 4, 112);
}

static inline size_t sample_extension(unsigned char *p, size_t at, uint32_t type, const char *data,
                                      size_t n)
{
    put_be(p, at, 4, type);
    put_be(p, at + 4, 4, n);
    memcpy(p + at + 8, data, n);
    return at + 8 + (n + 7) / 8 * 8;
}

static inline void sample_backing(unsigned char *p, const char *name)
{
    put_be(p, 8, 8, 528);
    put_be(p, 16, 4, strlen(name));
    memcpy(p + 528, name, strlen(name));
}

/*
 * Runs a shell command in a new directory and reads the head, tail and size of its file "img".
 * Returns false when the command fails (qemu-img is missing).
 */
struct sample_file {
    char head[SAMPLE_BYTES];
    char tail[1536];
    size_t head_bytes, tail_bytes;
    uint64_t file_bytes;
};

static inline bool sample_make(const char *command, struct sample_file *ret)
{
    char dir[] = "/tmp/larder-sample-XXXXXX";
    char line[4096];
    bool ok = false;

    if (!mkdtemp(dir))
        return false;
    snprintf(line, sizeof(line), "cd %s && { %s; } >/dev/null 2>&1", dir, command);
    if (system(line) == 0) {
        snprintf(line, sizeof(line), "%s/img", dir);
        int fd = open(line, O_RDONLY | O_CLOEXEC);
        off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
        if (size > 0) {
            size_t tail = (size_t)size < sizeof(ret->tail) ? (size_t)size : sizeof(ret->tail);
            ssize_t head_got = pread(fd, ret->head, sizeof(ret->head), 0);
            ssize_t tail_got = pread(fd, ret->tail, tail, size - (off_t)tail);
            ret->head_bytes = head_got > 0 ? (size_t)head_got : 0;
            ret->tail_bytes = tail_got > 0 ? (size_t)tail_got : 0;
            ret->file_bytes = (uint64_t)size;
            ok = true;
        }
        if (fd >= 0)
            close(fd);
    }
    snprintf(line, sizeof(line), "rm -rf %s", dir);
    return system(line) == 0 && ok;
}
