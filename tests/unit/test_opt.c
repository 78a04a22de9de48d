/* SPDX-License-Identifier: Apache-2.0 */
/* Options from tables, suggestions, and the line of progress. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/opt.h"
#include "cli/progress.h"
#include "cli/suggest.h"

#define DAY_NS (24LL * 3600 * 1000000000LL)

static struct {
    bool dry_run;
    bool force;
    const char *file;
    const char *unpack;
    int64_t age_ns;
    uint64_t size_bytes;
    int jobs;
    int tls_verify;
    struct opt_list tags;
} args;

static const struct opt rows[] = {
    OPT_FLAG('n', "dry-run", &args.dry_run, "do nothing"),
    OPT_FLAG('f', "force", &args.force, "do more"),
    OPT_PATH('o', "file", &args.file, "FILE", "a file"),
    OPT_ENUM(0, "unpack", &args.unpack, "auto|always|never", "a choice"),
    OPT_DURATION(0, "keep-for", &args.age_ns, "AGE", "a time"),
    OPT_SIZE('s', "size", &args.size_bytes, "SIZE", "a size"),
    OPT_COUNT('j', "jobs", &args.jobs, "N", "a number"),
    OPT_BOOL(0, "tls-verify", &args.tls_verify, "yes or no"),
    OPT_LIST('t', "tag", &args.tags, "TAG", "a word, more than once"),
};
static const struct opt_set set = OPT_SET(rows);

/* Parses up to six words after the command's name; *ret_argv is reordered. */
static int parse(const char *const words[], bool stop_at_word, int *ret_first, const char **argv,
                 struct larder_error *e)
{
    static char storage[8][64];
    char *writable[9];
    int argc = 1;
    int rc;

    writable[0] = strcpy(storage[0], "larder");
    for (; argc < 8 && words[argc - 1]; argc++)
        writable[argc] = strcpy(storage[argc], words[argc - 1]);
    writable[argc] = NULL;
    opt_reset(&set);
    rc = opt_parse("gc", &set, 1, argc, writable, stop_at_word, ret_first, e);
    for (int i = 0; i <= argc; i++)
        argv[i] = writable[i];
    return rc;
}

static void test_values(void **state)
{
    const char *argv[9];
    int first = 0;

    (void)state;
    assert_int_equal(parse((const char *const[]){"-n", "--keep-for", "7d", "-s4K", "x", NULL},
                           false, &first, argv, NULL),
                     0);
    assert_true(args.dry_run);
    assert_false(args.force);
    assert_true(args.age_ns == 7 * DAY_NS);
    assert_true(args.size_bytes == 4096);
    assert_null(args.file);
    assert_string_equal(argv[first], "x");
    assert_int_equal(
        parse((const char *const[]){"--unpack=never", "--keep-for=always", "--file", "a", NULL},
              false, &first, argv, NULL),
        0);
    assert_string_equal(args.unpack, "never");
    assert_string_equal(args.file, "a");
    assert_true(args.age_ns == 0);
}

static void test_unset(void **state)
{
    const char *argv[9];
    int first = 0;

    (void)state;
    assert_int_equal(parse((const char *const[]){NULL}, false, &first, argv, NULL), 0);
    assert_true(args.age_ns == OPT_NS_UNSET);
    assert_true(args.size_bytes == OPT_BYTES_UNSET);
    assert_int_equal(args.jobs, OPT_COUNT_UNSET);
    assert_int_equal(args.tls_verify, OPT_BOOL_UNSET);
    assert_int_equal(args.tags.count, 0);
    assert_null(args.unpack);
    assert_false(args.dry_run);
    assert_int_equal(first, 1);
}

static void test_numbers_and_lists(void **state)
{
    static const struct {
        const char *word;
        int tls_verify;
    } cases[] = {{"--tls-verify", 1},
                 {"--tls-verify=true", 1},
                 {"--tls-verify=false", 0},
                 {"--tls-verify=0", 0}};
    const char *argv[9];
    int first = 0;

    (void)state;
    assert_int_equal(
        parse((const char *const[]){"--tag=a", "-j", "12", "-tb", "w", "--tag", "a", NULL}, false,
              &first, argv, NULL),
        0);
    assert_int_equal(args.jobs, 12);
    assert_int_equal(args.tags.count, 3);
    assert_string_equal(args.tags.items[0], "a");
    assert_string_equal(args.tags.items[1], "b");
    assert_string_equal(args.tags.items[2], "a");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        /* The value must be joined: the word behind is none. */
        assert_int_equal(
            parse((const char *const[]){cases[i].word, "false", NULL}, false, &first, argv, NULL),
            0);
        assert_int_equal(args.tls_verify, cases[i].tls_verify);
        assert_string_equal(argv[first], "false");
        assert_int_equal(args.tags.count, 0);
    }
    free(args.tags.items);
    args.tags = (struct opt_list){NULL, 0, 0};
}

static void test_write_out(void **state)
{
    static const struct {
        const char *word;
        const char *want;
    } cases[] = {
        {"--un=auto", "--unpack=auto"},
        {"--fi", "--file"},
        {"--file", "--file"},
        {"--f", "--f"}, /* force or file */
        {"--xy", "--xy"},
        {"-n", "-n"},
        {"x", "x"},
        {"--keep-fort", "--keep-fort"},
        {"--", "--"},
        {"--dry", "--dry"},
    };
    char storage[ARRAY_LEN(cases) + 1][32];
    char *argv[ARRAY_LEN(cases) + 2] = {storage[0]};
    char *memory = NULL;

    (void)state;
    strcpy(storage[0], "larder");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        argv[i + 1] = strcpy(storage[i + 1], cases[i].word);
    assert_int_equal(opt_write_out(&set, (int)ARRAY_LEN(cases) + 1, argv, &memory, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(argv[i + 1], cases[i].want);
    free(memory);
}

static void test_words(void **state)
{
    const char *argv[9];
    int first = 0;

    (void)state;
    /* Options and words mix up to "--". */
    assert_int_equal(
        parse((const char *const[]){"a", "-n", "b", "--", "-f", NULL}, false, &first, argv, NULL),
        0);
    assert_true(args.dry_run);
    assert_false(args.force);
    assert_string_equal(argv[first], "a");
    assert_string_equal(argv[first + 1], "b");
    assert_string_equal(argv[first + 2], "-f");
    /* Global options end at the command. */
    assert_int_equal(parse((const char *const[]){"-n", "gc", "-f", NULL}, true, &first, argv, NULL),
                     0);
    assert_true(args.dry_run);
    assert_false(args.force);
    assert_int_equal(first, 2);
}

static void test_bad(void **state)
{
    static const struct {
        const char *words[4];
        const char *msg;
        const char *hint;
    } cases[] = {
        {{"--kep-for", "1d"}, "--kep-for", "--keep-for"},
        {{"--frobnicate"}, "--frobnicate", NULL},
        {{"-x"}, "-x", NULL},
        {{"-nx"}, "-x", NULL},
        {{"--file"}, "--file", NULL},
        {{"-o"}, "--file", NULL},
        {{"--file", ""}, "empty", NULL},
        {{"--dry-run=yes"}, "takes no value", NULL},
        {{"--keep-for", "soon"}, "soon", "90s"},
        {{"--keep-for", "-1d"}, "-1d", "90s"},
        {{"--size", "much"}, "much", "200G"},
        {{"--size", "99999999999T"}, "99999999999T", "200G"},
        {{"--unpack", "maybe"}, "auto|always|never", NULL},
        {{"--unpack", "auto|always"}, "auto|always|never", NULL},
        {{"--jobs", "many"}, "expected 0 to 10000", NULL},
        {{"--jobs", "-1"}, "expected 0 to 10000", NULL},
        {{"--jobs=10001"}, "10001", NULL},
        {{"--jobs=1x"}, "1x", NULL},
        {{"--tls-verify=maybe"}, "expected true or false", NULL},
        {{"--tag", ""}, "empty", NULL},
        {{"--", "x"}, NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        const char *argv[9];
        int first = 0;
        int rc = parse(cases[i].words, false, &first, argv, &e);

        if (!cases[i].msg) {
            assert_int_equal(rc, 0);
            continue;
        }
        assert_int_equal(rc, -LARDER_INVAL);
        assert_non_null(strstr(e.msg, "gc: "));
        assert_non_null(strstr(e.msg, cases[i].msg));
        if (cases[i].hint)
            assert_non_null(strstr(e.hint, cases[i].hint));
    }
}

static void test_choice(void **state)
{
    (void)state;
    assert_true(opt_is_choice("auto|always|never", "auto"));
    assert_true(opt_is_choice("auto|always|never", "never"));
    assert_false(opt_is_choice("auto|always|never", "alway"));
    assert_false(opt_is_choice("auto|always|never", ""));
    assert_false(opt_is_choice("auto|always|never", "always|never"));
}

static void test_suggest(void **state)
{
    static const char *const candidates[] = {"gc", "fsck", "scrub", "image get", "maintain"};
    static const struct {
        const char *word;
        const char *nearest;
    } cases[] = {
        {"fsk", "fsck"}, {"srub", "scrub"}, {"maintian", "maintain"},  {"main", "maintain"},
        {"xyzzy", NULL}, {"", NULL},        {"imageget", "image get"}, {"f", NULL},
    };
    char longer[200];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct suggest s = SUGGEST_INIT(cases[i].word);

        for (size_t c = 0; c < ARRAY_LEN(candidates); c++)
            suggest_offer(&s, candidates[c]);
        if (cases[i].nearest)
            assert_string_equal(s.nearest, cases[i].nearest);
        else
            assert_null(s.nearest);
    }
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = 0;
    struct suggest s = SUGGEST_INIT(longer);
    suggest_offer(&s, longer);
    assert_null(s.nearest);
}

static size_t columns_of(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

/* At every width the line fits, and the share is the last to go. */
static void test_progress_width(void **state)
{
    static const char *const names[] = {
        "debian-13", "x", "https://example.org/a/long/path/to/debian-13-generic-amd64.qcow2",
        "d\xc3\xa9j\xc3\xa0-vu-\xc3\xa9t\xc3\xa9-\xc3\xa9t\xc3\xa9-\xc3\xa9t\xc3\xa9"};
    static const uint64_t totals[] = {0, 650117120, 8ULL << 40};

    (void)state;
    for (size_t n = 0; n < ARRAY_LEN(names); n++) {
        for (size_t t = 0; t < ARRAY_LEN(totals); t++) {
            for (unsigned width = 0; width <= 220; width++) {
                struct larder_progress now = {"fetch",   names[n],      totals[t] / 3 + 1000,
                                              totals[t], totals[t] / 9, false};
                struct buf line = BUF_INIT(4096);

                progress_format(&now, 93e6, width, &line);
                assert_int_equal(buf_failed(&line, NULL), 0);
                assert_true(!line.p || columns_of(line.p) <= width);
                if (width >= 40) {
                    assert_non_null(line.p);
                    assert_non_null(strstr(line.p, totals[t] ? "33%" : "1000 B"));
                    assert_true(strncmp(line.p, "fetch ", 6) == 0);
                }
                buf_done(&line);
            }
        }
    }
}

static void test_progress_text(void **state)
{
    struct larder_progress now = {"fetch",      "debian-13",  200ULL << 20,
                                  400ULL << 20, 100ULL << 20, false};
    struct buf line = BUF_INIT(4096);

    (void)state;
    progress_format(&now, (double)(50ULL << 20), 120, &line);
    assert_non_null(strstr(line.p, "fetch debian-13"));
    assert_non_null(strstr(line.p, "200.0 MiB/400.0 MiB"));
    assert_non_null(strstr(line.p, "50%"));
    assert_non_null(strstr(line.p, "50.0 MiB/s"));
    assert_non_null(strstr(line.p, "0:04"));
    assert_non_null(strstr(line.p, "resumed at 100.0 MiB"));
    assert_non_null(strstr(line.p, "##===")); /* what was there, then what came */
    buf_reset(&line);
    now.object = "evil\033[2Jname";
    progress_format(&now, 0, 120, &line);
    assert_null(strchr(line.p, '\033'));
    buf_done(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_unset),
        cmocka_unit_test(test_numbers_and_lists),
        cmocka_unit_test(test_write_out),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_suggest),
        cmocka_unit_test(test_progress_width),
        cmocka_unit_test(test_progress_text),
    };

    return cmocka_run_group_tests_name("opt", tests, NULL, NULL);
}
