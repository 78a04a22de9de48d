/* SPDX-License-Identifier: Apache-2.0 */
/* larder blob: bytes by their digest. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <larder/digest.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/out.h"

#define COPY_BYTES (128 * 1024)

const struct command command_blob = {
    .name = "blob",
    .group = COMMAND_GROUP_STORE,
    .summary = "store and read single blobs",
    .about = "A blob is immutable bytes named by their digest, as in sha256:9f86.... These are "
             "the plain tools below the images.",
    .usage = "",
};

/* ---- put ---- */

static struct {
    const char *expect;
} put_args;

static const struct opt put_opts[] = {
    OPT_STRING(0, "expect", &put_args.expect, "DIGEST",
               "refuse other bytes than these, and name the blob by this digest"),
};

static int run_put(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_digest expected = {LARDER_DIGEST_NONE, {0}};
    struct larder_digest digest;
    struct larder_store *store = NULL;
    int file_fd CLEANUP_CLOSE = -1;
    int fd = STDIN_FILENO;
    char text[LARDER_DIGEST_TEXT_BYTES];

    (void)argc;
    if (put_args.expect && larder_digest_parse(put_args.expect, (size_t)-1, &expected, &e) < 0)
        return cli_fail(cli, &e);
    if (strcmp(argv[0], "-") != 0) {
        file_fd = open(argv[0], O_RDONLY | O_CLOEXEC);
        if (file_fd < 0) {
            error_errno(&e, errno, "%s", argv[0]);
            return cli_fail(cli, &e);
        }
        fd = file_fd;
    }
    if (cli_store(cli, LARDER_STORE_CREATE, &store, &e) < 0 ||
        larder_blob_put_fd(store, fd, &expected, &digest, &e) < 0)
        return cli_fail(cli, &e);
    if (globals.json) {
        struct doc doc = DOC_INIT;

        doc_object(&doc, NULL);
        doc_digest(&doc, "digest", &digest);
        doc_end(&doc);
    } else {
        puts(larder_digest_format(&digest, text));
    }
    return 0;
}

const struct command command_blob_put = {
    .name = "blob put",
    .group = COMMAND_GROUP_STORE,
    .summary = "store a file's bytes and print their digest",
    .about = "Stores the bytes of FILE, or of standard input for \"-\", and prints their digest. "
             "Bytes that are there already are not stored twice.",
    .usage = "FILE|-",
    .min_words = 1,
    .max_words = 1,
    .words = COMMAND_WORDS_FILE,
    .opts = OPT_SET(put_opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(5),
    .run = run_put,
};

/* ---- cat ---- */

static int copy_out(struct cli *cli, int fd, const char *name)
{
    struct larder_error e = LARDER_ERROR_INIT;
    char *buffer CLEANUP_FREE = malloc(COPY_BYTES);

    if (!buffer) {
        error_nomem(&e);
        return cli_fail(cli, &e);
    }
    for (;;) {
        ssize_t n = fd_read_full(fd, buffer, COPY_BYTES);

        if (n < 0) {
            error_errno(&e, errno, "blob %s", name);
            return cli_fail(cli, &e);
        }
        /* Through stdio: its error state is looked at when the program ends. */
        if (n == 0 || fwrite(buffer, 1, (size_t)n, stdout) != (size_t)n)
            return 0;
        if (cli_caught_signal())
            return 128 + cli_caught_signal();
    }
}

static int run_cat(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_digest digest;
    struct larder_store *store = NULL;
    int fd CLEANUP_CLOSE = -1;

    (void)argc;
    if (larder_digest_parse(argv[0], (size_t)-1, &digest, &e) < 0 ||
        cli_store_to_read(cli, 0, &store, &e) < 0 || larder_blob_open(store, &digest, &fd, &e) < 0)
        return cli_fail(cli, &e);
    return copy_out(cli, fd, argv[0]);
}

const struct command command_blob_cat = {
    .name = "blob cat",
    .group = COMMAND_GROUP_STORE,
    .summary = "print a blob's bytes",
    .about = "Writes the bytes of the blob to standard output. Its fingerprint is checked before, "
             "its content is not hashed.",
    .usage = "DIGEST",
    .min_words = 1,
    .max_words = 1,
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(5),
    .run = run_cat,
};

/* ---- path ---- */

static int run_path(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_digest digest;
    struct larder_blob_info info;
    struct larder_store *store = NULL;
    char path[PATH_MAX];

    (void)argc;
    if (larder_digest_parse(argv[0], (size_t)-1, &digest, &e) < 0 ||
        cli_store(cli, LARDER_STORE_READ_ONLY, &store, &e) < 0 ||
        larder_blob_stat(store, &digest, &info, &e) < 0 ||
        larder_blob_path(store, &digest, path, sizeof(path), &e) < 0)
        return cli_fail(cli, &e);
    if (globals.json) {
        struct doc doc = DOC_INIT;

        doc_object(&doc, NULL);
        doc_digest(&doc, "digest", &digest);
        doc_text(&doc, "path", path);
        doc_number(&doc, "size_bytes", info.size_bytes);
        doc_number(&doc, "allocated_bytes", info.allocated_bytes);
        doc_time(&doc, "added", info.added_ns);
        doc_time(&doc, "last_used", info.last_used_ns);
        doc_time(&doc, "last_verified", info.last_verified_ns);
        doc_end(&doc);
    } else {
        puts(path);
    }
    return 0;
}

const struct command command_blob_path = {
    .name = "blob path",
    .group = COMMAND_GROUP_STORE,
    .summary = "print the path of a blob's file",
    .about = "Prints the path of the file that holds the blob. The file is read-only and stays so.",
    .usage = "DIGEST",
    .min_words = 1,
    .max_words = 1,
    .exits = COMMAND_EXIT(3),
    .run = run_path,
};

/* ---- verify ---- */

static struct {
    bool deep;
} verify_args;

static const struct opt verify_opts[] = {
    OPT_FLAG(0, "deep", &verify_args.deep,
             "hash every byte, instead of comparing what the file system says"),
};

static int run_verify(struct cli *cli, int argc, char **argv)
{
    enum larder_verify_depth depth = verify_args.deep ? LARDER_VERIFY_DEEP : LARDER_VERIFY_MEMO;
    struct larder_error e = LARDER_ERROR_INIT;
    struct larder_store *store = NULL;
    int status = 0;

    if (cli_store(cli, 0, &store, &e) < 0)
        return cli_fail(cli, &e);
    for (int i = 0; i < argc; i++) {
        struct larder_digest digest;

        if (larder_digest_parse(argv[i], (size_t)-1, &digest, &e) < 0 ||
            larder_blob_verify(store, &digest, depth, &e) < 0)
            status = cli_fail(cli, &e);
        else
            cli_say(cli, false, "%s: valid", argv[i]);
    }
    return status;
}

const struct command command_blob_verify = {
    .name = "blob verify",
    .group = COMMAND_GROUP_STORE,
    .summary = "check that blobs are still what their names say",
    .about = "Compares what the file system says with what was recorded when the bytes were last "
             "hashed, and hashes when that differs. Corrupt bytes are put into quarantine.",
    .usage = "DIGEST...",
    .min_words = 1,
    .max_words = COMMAND_ANY_WORDS,
    .opts = OPT_SET(verify_opts),
    .exits = COMMAND_EXIT(3) | COMMAND_EXIT(5),
    .run = run_verify,
};
