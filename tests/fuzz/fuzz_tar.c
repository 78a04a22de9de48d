/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar file as it came: every member lies inside the file, behind the one before; the walk ends. A
 * head that is written for its name and size is read as the same.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "archive/tar.h"
#include "base/fdio.h"
#include "fuzz.h"

static int file_of(const void *data, size_t n)
{
    int fd = memfd_create("tar", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && fd_write_full(fd, data, n) == 0);
    return fd;
}

static void check_head(const char *name, uint64_t n_bytes)
{
    struct buf head = BUF_INIT(64UL * 1024);
    struct tar_reader reader;
    struct tar_member member = {0};
    FUZZ_CHECK(tar_head(name, n_bytes, &head, NULL) == 0 && head.n % TAR_BLOCK == 0);
    /* (A file of the content's size that has no content takes no space.) */
    int fd = file_of(head.p, head.n);
    FUZZ_CHECK(ftruncate(fd, (off_t)(head.n + tar_padded(n_bytes))) == 0);
    FUZZ_CHECK(tar_reader_init(&reader, fd, NULL) == 0);
    FUZZ_CHECK(tar_next(&reader, &member, NULL) == 1);
    FUZZ_CHECK(strcmp(member.name, name) == 0);
    bool is_directory = name[strlen(name) - 1] == '/';
    FUZZ_CHECK(member.type == (is_directory ? TAR_DIRECTORY : TAR_FILE));
    FUZZ_CHECK(is_directory || (member.offset == head.n && member.n_bytes == n_bytes));
    tar_reader_done(&reader);
    close(fd);
    buf_done(&head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct tar_reader reader;
    struct tar_member member = {0};
    uint64_t at = 0;
    int fd = file_of(data, size);
    int r;
    FUZZ_CHECK(tar_reader_init(&reader, fd, NULL) == 0);
    while ((r = tar_next(&reader, &member, &e)) == 1) {
        FUZZ_CHECK(*member.name && member.offset >= at + TAR_BLOCK && member.offset <= size);
        FUZZ_CHECK(member.n_bytes <= size - member.offset);
        FUZZ_CHECK(e.code == LARDER_OK);
        at = member.offset + member.n_bytes;
        check_head(member.name, member.n_bytes);
    }
    FUZZ_CHECK(r == 0 || (r < 0 && (int)e.code == -r));
    tar_reader_done(&reader);
    close(fd);
    return 0;
}
