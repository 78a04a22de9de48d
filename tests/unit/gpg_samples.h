/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Keys and signatures made by gpg(1) in a directory of its own. Made once for a group: keys are
 * slow. The directory has: good.gpg (binary keyring), good.asc (armored), two.asc (two blocks),
 * other.gpg (another key), old.gpg (a key that has expired), and fingerprints in *.fpr (primary)
 * and good.sub (the signing subkey).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fdio.h"

static char gpg_dir[64];

static inline const char *gpg_path(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", gpg_dir, name);
    return path;
}

/* A shell command in the directory, with $G as gpg. */
static inline int gpg_run(const char *command)
{
    char line[4096];
    snprintf(line, sizeof(line),
             "cd %s && GNUPGHOME=%s/home G='gpg -q --batch --yes --no-tty --pinentry-mode loopback "
             "--passphrase \"\"' && export GNUPGHOME && { %s; } >log 2>&1",
             gpg_dir, gpg_dir, command);
    return system(line);
}

static inline int gpg_setup(void **state)
{
    (void)state;
    strcpy(gpg_dir, "/tmp/larder-gpg-XXXXXX");
    if (!mkdtemp(gpg_dir))
        return -1;
    return gpg_run(
        "mkdir -m 700 home && g() { eval \"$G\" '\"$@\"'; } && "
        "g --quick-gen-key good ed25519 cert 0 && "
        "F=$(g --with-colons --list-keys good | awk -F: '/^fpr/{print $10; exit}') && "
        "g --quick-add-key $F ed25519 sign 0 && echo $F >good.fpr && "
        "g --with-colons --list-keys good | awk -F: '/^fpr/{f=$10} END{print f}' >good.sub && "
        "g --quick-gen-key other ed25519 sign 0 && "
        "g --with-colons --list-keys other | awk -F: '/^fpr/{print $10; exit}' >other.fpr && "
        "g --faked-system-time 20200101T000000 --quick-gen-key old ed25519 sign 1d && "
        "g --export good >good.gpg && g --export other >other.gpg && g --export old >old.gpg && "
        "g --armor --export good >good.asc && g --armor --export other >two.asc && "
        "cat good.asc >>two.asc");
}

static inline int gpg_teardown(void **state)
{
    char line[256];
    (void)state;
    snprintf(line, sizeof(line),
             "GNUPGHOME=%s/home gpgconf --kill all >/dev/null 2>&1; rm -rf -- %s", gpg_dir,
             gpg_dir);
    return system(line);
}

/* A file of the directory into an empty buffer. */
static inline void gpg_read(const char *name, struct buf *out)
{
    *out = BUF_INIT(1024 * 1024);
    assert_int_equal(file_read(AT_FDCWD, gpg_path(name), out, NULL), 0);
}

/* A fingerprint file without its line end; out 128 bytes. */
static inline char *gpg_fingerprint(const char *name, char out[128])
{
    struct buf text;
    gpg_read(name, &text);
    snprintf(out, 128, "%.*s", (int)strcspn(text.p, "\n"), text.p);
    buf_done(&text);
    return out;
}
