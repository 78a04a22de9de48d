/* SPDX-License-Identifier: Apache-2.0 */
/* Asking who uses a file when no room above knows better: locks and leases of the kernel. */
#include "store/users.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include "base/error.h"

enum use_state users_ask_kernel(int fd)
{
    /* l_len 0: to infinity. F_OFD_GETLK takes no lock and needs read permission only. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return USE_UNKNOWN;
    if (lock.l_type != F_UNLCK)
        return USE_IN_USE;
    /*
     * Whoever opens the file while we hold the lease makes the kernel signal us: with SIGIO, which
     * would kill the process. SIGURG is ignored by default.
     */
    if (fcntl(fd, F_SETSIG, SIGURG) < 0)
        return USE_UNKNOWN;
    if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
        return errno == EAGAIN || errno == EBUSY ? USE_IN_USE : USE_UNKNOWN;
    (void)fcntl(fd, F_SETLEASE, F_UNLCK);
    return USE_FREE;
}

const char *use_state_text(enum use_state state)
{
    switch (state) {
    case USE_FREE:
        return "free";
    case USE_IN_USE:
        return "in use";
    case USE_UNKNOWN:
    default:
        return "not known to be free";
    }
}

int users_ask(const struct users_probe *users, struct larder_store *store,
              const struct larder_digest *digest, int fd, const char *path, enum use_state *ret,
              bool *ret_needs_path, struct buf *who, struct larder_error *e)
{
    enum use_state state = USE_UNKNOWN;
    bool needs_path = false;
    int result = 0;
    if (!users || !users->probe)
        state = users_ask_kernel(fd);
    else
        result = users->probe(users->arg, store, digest, fd, path, &state, &needs_path, who, e);
    if (result == -LARDER_NOMEM || result == -LARDER_CANCELED)
        return result;
    if (result < 0) {
        error_clear(e);
        state = USE_UNKNOWN;
    }
    *ret = state;
    *ret_needs_path = needs_path;
    return 0;
}
