/* SPDX-License-Identifier: Apache-2.0 */
/* What people are told about updates: the lines of `bootc upgrade --check` and ours, for each state
 * and for the deployments of a host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "cli/update/update_print.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

static char ref[] = "docker://example.org/os:stable";
static char v1[] = "38.1";
static char v2[] = "39.20240110.0";

static struct larder_update_image image(const char *digest, char *version, int64_t timestamp_s)
{
    struct larder_update_image image = {.timestamp_ns = timestamp_s * NS_PER_S};

    image.version = version;
    assert_int_equal(larder_digest_parse(digest, strlen(digest), &image.digest, NULL), 0);
    return image;
}

static struct larder_update update(enum larder_update_state state)
{
    struct larder_update update = {.size = sizeof(update), .state = state, .ref = ref};

    update.current = image(A, v1, 1700000000);
    if (update_has(&update)) {
        update.update = image(B, v2, 0);
        update.diff.total = (struct larder_update_sum){68, 684500000};
        update.diff.removed = (struct larder_update_sum){2, 75900000};
        update.diff.added = (struct larder_update_sum){2, 75900000};
        update.diff.here = (struct larder_update_sum){66, 608600000};
        update.diff.needed = (struct larder_update_sum){2, 75900000};
    }
    return update;
}

/* Runs update_text() and gives what it printed; free() it. */
static char *text_of(const struct larder_update *u, bool is_kept)
{
    char name[] = "/tmp/larder-print.XXXXXX";
    int fd = mkstemp(name);
    int saved = dup(STDOUT_FILENO);
    char *text = calloc(1, 4096);

    assert_true(fd >= 0 && saved >= 0 && text);
    assert_int_equal(unlink(name), 0);
    fflush(stdout);
    assert_true(dup2(fd, STDOUT_FILENO) >= 0);
    update_text(u, is_kept);
    fflush(stdout);
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);
    assert_true(pread(fd, text, 4095, 0) >= 0);
    close(saved);
    close(fd);
    return text;
}

static void test_found(void **state)
{
    struct larder_update u = update(LARDER_UPDATE_AVAILABLE);
    char *text = text_of(&u, false);

    (void)state;
    assert_string_equal(text, "Update available for: docker://example.org/os:stable\n"
                              "  Version: 39.20240110.0\n"
                              "  Digest: " B "\n"
                              "Total new layers: 68    Size: 684.5 MB\n"
                              "Removed layers:   2     Size: 75.9 MB\n"
                              "Added layers:     2     Size: 75.9 MB\n"
                              "Already here:     66    Size: 608.6 MB\n"
                              "To fetch:         2     Size: 75.9 MB\n"
                              "Current: 38.1 (2023-11-14T22:13:20Z) " A "\n");
    free(text);
    /* Columns give way, sizes are GLib's. */
    u.update.version = NULL;
    u.update.timestamp_ns = 1704888000 * NS_PER_S;
    u.current = (struct larder_update_image){.version = NULL};
    u.diff.total = (struct larder_update_sum){12345, 1};
    text = text_of(&u, false);
    assert_non_null(strstr(text, "stable\n  Digest: " B "\n  Timestamp: 2024-01-10T12:00:00Z\n"
                                 "Total new layers: 12345  Size: 1 byte\n"));
    assert_null(strstr(text, "Current"));
    free(text);
}

static void test_states(void **state)
{
    static const struct {
        enum larder_update_state state;
        const char *text;
    } cases[] = {
        {LARDER_UPDATE_UNKNOWN, "Nothing recorded for: docker://example.org/os:stable\n"},
        {LARDER_UPDATE_UNCHANGED, "No changes in: docker://example.org/os:stable\n"},
        {LARDER_UPDATE_CORRUPT, "Damaged record for: docker://example.org/os:stable\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_update u = update(cases[i].state);
        struct buf expected = BUF_INIT(4096);
        char *text;

        u.checked_at_ns = clock_realtime_ns() - 7200 * NS_PER_S - NS_PER_S / 2;
        buf_printf(&expected, "%sCurrent: 38.1 (2023-11-14T22:13:20Z) %s\n", cases[i].text, A);
        text = text_of(&u, false);
        assert_string_equal(text, expected.p);
        free(text);
        buf_puts(&expected, "Last checked: 2h ago\n");
        text = text_of(&u, true);
        assert_string_equal(text, expected.p);
        free(text);
        buf_done(&expected);
    }
}

static void test_deployments(void **state)
{
    static char roles[][16] = {"image", "booted", "staged", "rollback", ""};
    struct larder_update u = update(LARDER_UPDATE_STAGED);
    struct larder_update_holder holders[ARRAY_LEN(roles)];
    char *text;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        holders[i] = (struct larder_update_holder){.role = roles[i], .image = u.current};
    holders[1].update = u.update; /* the one told already */
    holders[2].image = image(B, v2, 0);
    holders[2].update = image(C, NULL, 0); /* what was found after B was staged */
    holders[3].is_corrupt = true;
    u.holders = holders;
    u.n_holders = ARRAY_LEN(roles);
    text = text_of(&u, false);
    assert_non_null(strstr(text, "To fetch:         2     Size: 75.9 MB\n"
                                 "Booted: 38.1 (2023-11-14T22:13:20Z) " A "\n"
                                 "Staged: 39.20240110.0 " B "\n"
                                 "  Update: " C "\n"
                                 "Rollback: 38.1 (2023-11-14T22:13:20Z) " A "\n"
                                 "  Its record is damaged\n"
                                 "Staged already\n"));
    assert_null(strstr(text, "Current"));
    free(text);
    /* Packages were layered on the image: a commit of its own. */
    holders[1].image = (struct larder_update_image){.version = NULL};
    holders[1].commit = v1;
    text = text_of(&u, false);
    assert_non_null(strstr(text, "\nBooted: commit 38.1\nStaged: "));
    free(text);
}

static void test_terminals(void **state)
{
    char evil[] = "1\033[31m\n  Digest: no";
    struct larder_update u = update(LARDER_UPDATE_AVAILABLE);
    char *text;

    (void)state;
    u.update.version = evil;
    u.current.version = evil;
    text = text_of(&u, false);
    assert_null(strchr(text, '\033'));
    assert_null(strstr(text, "\n  Digest: no"));
    free(text);
}

/* A registry may say any length; a column, a line and a terminal are not for that. */
static void test_long_version(void **state)
{
    char version[5000];
    struct larder_update u = update(LARDER_UPDATE_AVAILABLE);
    char *text;

    (void)state;
    /* Two bytes a character: the cut is not in one. */
    version[0] = 'v';
    for (size_t i = 1; i + 1 < sizeof(version); i += 2)
        memcpy(version + i, "\xc3\xa9", 2);
    version[4999] = '\0';
    u.update.version = version;
    u.current.version = version;
    text = text_of(&u, false);
    assert_in_range(strlen(text), 400, 1500);
    assert_non_null(strstr(text, "\xc3\xa9...\n  Digest: " B));
    assert_non_null(strstr(text, "\xc3\xa9... (2023-11-14T22:13:20Z) " A "\n"));
    assert_null(strstr(text, "\\x"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),        cmocka_unit_test(test_states),
        cmocka_unit_test(test_deployments),  cmocka_unit_test(test_terminals),
        cmocka_unit_test(test_long_version),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
