/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Repositories for tests, made and asked by the ostree program, and libostree as the other program
 * that has keys in the same dictionaries.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <ostree.h>

#include <larder/visibility.h>

/* A command of the shell that has to succeed. */
static inline void run(const char *fmt, ...) LARDER_PRINTF(1, 2);
static inline void run(const char *fmt, ...)
{
    static char command[64 * 1024];
    va_list ap;
    va_start(ap, fmt);
    assert_in_range(vsnprintf(command, sizeof(command), fmt, ap), 1, sizeof(command) - 1);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

/* What a command prints, without the last newline; one text at a time. */
static inline char *output(const char *fmt, ...) LARDER_PRINTF(1, 2);
static inline char *output(const char *fmt, ...)
{
    static char text[64 * 1024];
    static char command[64 * 1024];
    va_list ap;
    va_start(ap, fmt);
    assert_in_range(vsnprintf(command, sizeof(command), fmt, ap), 1, sizeof(command) - 1);
    va_end(ap);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(text, 1, sizeof(text) - 1, pipe);
    pclose(pipe);
    text[n > 0 && text[n - 1] == '\n' ? n - 1 : n] = '\0';
    return text;
}

/* A system to deploy in. Deployments would be made immutable, and only chattr, which is not on
 * every machine, could then have them removed. */
static inline void make_sysroot(const char *path)
{
    assert_int_equal(setenv("OSTREE_SYSROOT_DEBUG", "mutable-deployments", 1), 0);
    run("mkdir %s && ostree admin init-fs %s && ostree admin os-init --sysroot=%s os >/dev/null",
        path, path, path);
}

/* A value of the detached metadata, as ostree prints it; "" when there is none. */
static inline char *detached(const char *repo, const char *commit, const char *key)
{
    return output("ostree --repo=%s show --print-detached-metadata-key=%s %s 2>/dev/null", repo,
                  key, commit);
}

static inline const char *detached_path(const char *repo, const char *commit)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/objects/%.2s/%s.commitmeta", repo, commit, commit + 2);
    return path;
}

/* Writes a whole new dictionary, as ostree-ext does; NULL in the end of key and text pairs. */
static inline void write_detached(const char *path, const char *commit, ...)
{
    g_autoptr(OstreeRepo) repo = ostree_repo_open_at(AT_FDCWD, path, NULL, NULL);
    GVariantDict d;
    va_list ap;
    const char *key;
    assert_non_null(repo);
    g_variant_dict_init(&d, NULL);
    va_start(ap, commit);
    while ((key = va_arg(ap, const char *)) != NULL) {
        const char *text = va_arg(ap, const char *);
        g_variant_dict_insert(&d, key, "s", text);
    }
    va_end(ap);
    g_autoptr(GVariant) dict = g_variant_ref_sink(g_variant_dict_end(&d));
    assert_true(ostree_repo_write_commit_detached_metadata(repo, commit, dict, NULL, NULL));
}

/* Keys of another program's, one of a type that strings don't fit into; what was there stays. */
static inline void add_signatures(const char *path, const char *commit)
{
    g_autoptr(OstreeRepo) repo = ostree_repo_open_at(AT_FDCWD, path, NULL, NULL);
    g_autoptr(GVariant) old = NULL;
    GVariantDict d;
    GVariantBuilder builder;
    assert_non_null(repo);
    assert_true(ostree_repo_read_commit_detached_metadata(repo, commit, &old, NULL, NULL));
    g_variant_dict_init(&d, old);
    g_variant_builder_init(&builder, G_VARIANT_TYPE("aay"));
    g_variant_builder_add_value(&builder, g_variant_new_bytestring("not really one"));
    g_variant_dict_insert_value(&d, "ostree.gpgsigs", g_variant_builder_end(&builder));
    g_variant_dict_insert(&d, "other", "s", "stays");
    g_variant_dict_insert(&d, "count", "u", 5);
    g_autoptr(GVariant) dict = g_variant_ref_sink(g_variant_dict_end(&d));
    assert_true(ostree_repo_write_commit_detached_metadata(repo, commit, dict, NULL, NULL));
}
static inline void check_signatures(const char *path, const char *commit)
{
    assert_string_equal(detached(path, commit, "ostree.gpgsigs"), "[b'not really one']");
    assert_string_equal(detached(path, commit, "other"), "'stays'");
    /* Shown as if it were big-endian, which those of ostree are. */
    assert_string_equal(detached(path, commit, "count"), "uint32 83886080");
}
