/* SPDX-License-Identifier: Apache-2.0 */
/*
 * larder image use NAME -- CMD: runs CMD with the image's path in its environment and the image
 * leased to CMD's process.
 *
 * The lease must follow CMD even when larder itself is killed, so it is CMD's own: the child is
 * forked first and waits on a pipe; the lease is taken for its pid (which exec does not change);
 * one byte through the pipe lets it go on. When the parent dies before that, the child reads the
 * end of the pipe and ends without having run anything. Between get and lease a gc could take the
 * image: the blob is looked at again once the lease stands.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/image/image.h"

/* As the shell has them. */
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND      127
/* The command never ran, for a reason of ours that was told already. */
#define EXIT_NOT_STARTED 125

/* How often the image is fetched again because gc was faster than the lease. */
#define USE_ATTEMPTS 3

static struct {
    struct image_get_args get;
} args;

static const struct opt opts[] = {
    IMAGE_GET_OPTS(&args.get),
};

struct use_child {
    pid_t pid; /* 0: none */
    int go_fd; /* one byte lets it exec */
};

/* Signals that concern CMD: held back in the parent, which waits for them. */
static void watched_signals(sigset_t *set)
{
    static const int numbers[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT,
                                  SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT};

    sigemptyset(set);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        sigaddset(set, numbers[i]);
}

static int set_environment(const struct larder_image_result *image)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];

    if (setenv("LARDER_IMAGE", image->path, 1) < 0 ||
        setenv("LARDER_IMAGE_DIGEST", larder_digest_format(&image->digest, digest), 1) < 0 ||
        setenv("LARDER_IMAGE_FORMAT", image->format ? image->format : "", 1) < 0)
        return -1;
    return 0;
}

/* In the child: waits for the lease, then becomes CMD. */
_Noreturn static void become(int go_fd, char **argv, const sigset_t *old_mask,
                             const struct cli *cli)
{
    static const int handled[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action;
    char go;
    int status;

    if (fd_read_full(go_fd, &go, 1) != 1)
        _exit(EXIT_NOT_STARTED);
    /* Our handlers must be gone before the signals held back are let through, or one would be
     * noted by us and lost to CMD. exec keeps what is ignored: CMD is to have what we were given.
     */
    for (size_t i = 0; i < ARRAY_LEN(handled); i++) {
        if (sigaction(handled[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            signal(handled[i], SIG_DFL);
    }
    signal(SIGPIPE, cli->is_pipe_ignored ? SIG_IGN : SIG_DFL);
    signal(SIGXFSZ, cli->is_size_ignored ? SIG_IGN : SIG_DFL);
    sigprocmask(SIG_SETMASK, old_mask, NULL);
    execvp(argv[0], argv);
    status = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
    fprintf(stderr, "larder: %s: %s\n", argv[0], strerror(errno));
    _exit(status);
}

static int child_start(struct cli *cli, struct use_child *child, char **argv,
                       const sigset_t *old_mask, struct larder_error *e)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_errno(e, errno, "pipe");
    fflush(stdout);
    pid = fork();
    if (pid < 0) {
        int saved = errno;

        close(fds[0]);
        close(fds[1]);
        return error_errno(e, saved, "fork");
    }
    if (pid == 0) {
        close(fds[1]);
        become(fds[0], argv, old_mask, cli);
    }
    close(fds[0]);
    child->pid = pid;
    child->go_fd = fds[1];
    return 0;
}

/* Ends a child that was not let go. */
static void child_abandon(struct use_child *child)
{
    if (child->pid == 0)
        return;
    close(child->go_fd);
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    child->pid = 0;
}

/*
 * Waits for CMD and passes signals on. What the terminal sends (si_code > 0: from the kernel) goes
 * to the whole foreground group, so CMD has it already and must not get it twice.
 */
static int child_wait(const struct use_child *child, const sigset_t *watched)
{
    int status = 0;

    for (;;) {
        siginfo_t info;
        int number;
        pid_t pid = waitpid(child->pid, &status, WNOHANG);

        if (pid == child->pid)
            break;
        if (pid < 0 && errno != EINTR)
            return EXIT_FAILED;
        number = sigwaitinfo(watched, &info);
        if (number > 0 && number != SIGCHLD && info.si_code <= 0)
            kill(child->pid, number);
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/*
 * Gets the image and starts the child that waits, with a lease of its own. *ret_is_lost: after a
 * get that worked gc or somebody who invalidates was faster than the lease. While the child is here
 * the watched signals are held back; on success they stay so.
 */
static int start_leased(struct cli *cli, struct larder_store *store, char **argv,
                        const sigset_t *watched, struct use_child *child, char *lease,
                        bool *ret_is_lost, struct larder_error *e)
{
    struct larder_image_result image = {0};
    struct larder_blob_info info;
    sigset_t old_mask;
    int rc;

    rc = image_get(cli, argv[0], &args.get, NULL, &image, e);
    if (rc < 0)
        return rc;
    sigprocmask(SIG_BLOCK, watched, &old_mask);
    if (set_environment(&image) < 0)
        rc = error_nomem(e);
    if (rc == 0)
        rc = child_start(cli, child, argv + 1, &old_mask, e);
    if (rc == 0)
        rc = larder_lease_process(store, &image.digest, child->pid, "image use", lease, e);
    if (rc == 0)
        rc = larder_blob_stat(store, &image.digest, &info, e);
    if (rc < 0) {
        *ret_is_lost = rc == -LARDER_NOENT;
        child_abandon(child); /* and with it its lease is dead */
        sigprocmask(SIG_SETMASK, &old_mask, NULL);
    }
    larder_image_result_done(&image);
    return rc;
}

static int run_use(struct cli *cli, int argc, char **argv)
{
    struct larder_error e = LARDER_ERROR_INIT;
    struct use_child child = {0, -1};
    struct larder_store *store = NULL;
    char lease[LARDER_LEASE_ID_BYTES] = "";
    sigset_t watched;
    int status;
    int rc;

    (void)argc;
    watched_signals(&watched);
    signal(SIGCHLD, SIG_DFL); /* ignored, children could not be waited for */
    if (cli_store(cli, image_store_flags(argv[0]), &store, &e) < 0)
        return cli_fail(cli, &e);
    for (int attempt = 1;; attempt++) {
        bool is_lost = false;

        rc = start_leased(cli, store, argv, &watched, &child, lease, &is_lost, &e);
        if (!is_lost || attempt == USE_ATTEMPTS)
            break;
        lease[0] = 0;
    }
    if (rc < 0)
        return cli_fail(cli, &e);
    progress_clear(&cli->progress);
    /* A child that has gone already leaves nobody to read: waiting finds that out. */
    if (write(child.go_fd, "", 1) < 0 && errno != EPIPE)
        cli_say(cli, true, "%s: %s", argv[1], strerror(errno));
    close(child.go_fd);
    status = child_wait(&child, &watched);
    if (larder_lease_release(store, lease, &e) < 0)
        cli_say(cli, true, "%s", e.msg); /* it is dead anyhow: its process is */
    return status;
}

const struct command command_image_use = {
    .name = "image use",
    .group = COMMAND_GROUP_IMAGES,
    .summary = "run a command while an image is kept for it",
    .about = "Gets the image and runs CMD with its path in $LARDER_IMAGE, its digest in "
             "$LARDER_IMAGE_DIGEST and its format in $LARDER_IMAGE_FORMAT. The image is leased "
             "to CMD's process, even should larder be killed. Signals are passed on; the exit "
             "status is CMD's (128 + the signal's number when one ended it; 126 or 127 when CMD "
             "could not be run).",
    .usage = "NAME|SOURCE -- CMD [ARG...]",
    .min_words = 2,
    .max_words = COMMAND_ANY_WORDS,
    .words = COMMAND_WORDS_ENTRY_OR_FILE,
    .opts = OPT_SET(opts),
    .exits =
        COMMAND_EXIT(3) | COMMAND_EXIT(5) | COMMAND_EXIT(6) | COMMAND_EXIT(7) | COMMAND_EXIT(8),
    .run = run_use,
};
