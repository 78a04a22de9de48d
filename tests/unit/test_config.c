/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: defaults, text, what is refused and with which words, variables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "cli/config.h"

#define S_NS 1000000000LL

static int parse(struct config *config, const char *text, struct larder_error *e)
{
    return config_parse(config, slice_of(text), "larder.conf", e);
}

static void test_defaults(void **state)
{
    struct config config;

    (void)state;
    assert_int_equal(config_init(&config, NULL), 0);
    assert_true(config_ns(&config, CONFIG_gc_keep_for) == 7 * 24 * 3600 * S_NS);
    assert_true(config_number(&config, CONFIG_gc_max_quarantine) == 10ULL << 30);
    assert_true(config_ns(&config, CONFIG_maintain_every) == INT64_MAX);
    assert_null(config_text(&config, CONFIG_store_path));
    assert_string_equal(config.values[CONFIG_gc_keep_for].origin, "default");
    config_done(&config);
}

static void test_text(void **state)
{
    struct config config;

    (void)state;
    setenv("HOME", "/home/u", 1);
    assert_int_equal(config_init(&config, NULL), 0);
    assert_int_equal(parse(&config,
                           "# comment\n[gc]\nkeep_for = 90s\nmax_size=200G\n"
                           "[store]\npath = ~/store\n"
                           "[image]\nrefresh = always\nunpack = never\n"
                           "guest_dirs = \"/a::~/b c:/d\"\n[net]\nretries = 0\n",
                           NULL),
                     0);
    assert_true(config_ns(&config, CONFIG_gc_keep_for) == 90 * S_NS);
    assert_true(config_number(&config, CONFIG_gc_max_size) == 200ULL << 30);
    assert_string_equal(config_text(&config, CONFIG_store_path), "/home/u/store");
    assert_string_equal(config_text(&config, CONFIG_image_guest_dirs), "/a:/home/u/b c:/d");
    assert_true(config_ns(&config, CONFIG_image_refresh) == 0);
    assert_string_equal(config_text(&config, CONFIG_image_unpack), "never");
    assert_true(config_number(&config, CONFIG_net_retries) == 0);
    assert_string_equal(config.values[CONFIG_gc_keep_for].origin, "larder.conf:3");
    /* A later file takes a path back. */
    assert_int_equal(parse(&config, "[store]\npath =\n", NULL), 0);
    assert_null(config_text(&config, CONFIG_store_path));
    config_done(&config);
}

static void test_words(void **state)
{
    struct config config;
    const char **words;

    (void)state;
    assert_int_equal(config_init(&config, NULL), 0);
    assert_int_equal(config_words(&config, CONFIG_update_refs, &words, NULL), 0);
    assert_null(words);
    assert_int_equal(parse(&config, "[update]\nrefs = \" a  docker://h/n:t\tc \"\n", NULL), 0);
    assert_int_equal(config_words(&config, CONFIG_update_refs, &words, NULL), 3);
    assert_string_equal(words[0], "a");
    assert_string_equal(words[1], "docker://h/n:t");
    assert_string_equal(words[2], "c");
    free(words);
    /* The tightest: a letter a word. */
    assert_int_equal(parse(&config, "[update]\nrefs = a b c d e\n", NULL), 0);
    assert_int_equal(config_words(&config, CONFIG_update_refs, &words, NULL), 5);
    assert_string_equal(words[4], "e");
    free(words);
    assert_int_equal(parse(&config, "[update]\nrefs = \"  \"\n", NULL), 0);
    assert_int_equal(config_words(&config, CONFIG_update_refs, &words, NULL), 0);
    free(words);
    config_done(&config);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text;
        const char *msg;
        const char *hint;
    } cases[] = {
        {"[gc]\nkeepfor = 1d\n", "larder.conf:2: unknown key 'keepfor'", "keep_for"},
        {"[gc]\nstall_timeout = 1s\n", "larder.conf:2: unknown key", "[net]"},
        {"[gcc]\nkeep_for = 1d\n", "larder.conf:2: unknown section [gcc]", "[gc]"},
        {"keep_for = 1d\n", "larder.conf:1", NULL},
        {"[gc \"a\"]\nkeep_for = 1d\n", "larder.conf:2", NULL},
        {"[gc]\nkeep_for = 1d\n\nkeep_for = 2d\n", "larder.conf:4: key 'keep_for'", NULL},
        {"[gc]\nkeep_for = soon\n", "larder.conf:2: gc.keep_for: found 'soon'", NULL},
        {"[gc]\nkeep_for =\n", "larder.conf:2: gc.keep_for: found ''", NULL},
        {"[gc]\nmax_size = lots\n", "larder.conf:2: gc.max_size: found 'lots'", NULL},
        {"[net]\nretries = -1\n", "net.retries: found '-1'", NULL},
        {"[net]\nretries = 101\n", "out of range", NULL},
        {"[net]\nstall_timeout = 0\n", "out of range", NULL},
        {"[net]\nconnect_timeout = never\n", "out of range", NULL},
        {"[image]\nunpack = maybe\n", "expected auto|always|never", NULL},
        {"[store]\npath = store\n", "expected an absolute path", NULL},
        {"[image]\nguest_dirs = /a:b\n", "expected an absolute path", NULL},
        {"[gc\n", "larder.conf:1", NULL},
        {"[gc]\nnonsense\n", "larder.conf:2", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct larder_error e = LARDER_ERROR_INIT;
        struct config config;

        assert_int_equal(config_init(&config, NULL), 0);
        assert_int_equal(parse(&config, cases[i].text, &e), -LARDER_INVAL);
        if (!strstr(e.msg, cases[i].msg))
            fail_msg("case %zu: '%s', expected '%s'", i, e.msg, cases[i].msg);
        if (cases[i].hint)
            assert_non_null(strstr(e.hint, cases[i].hint));
        config_done(&config);
    }
}

/* A value that is refused leaves the old one. */
static void test_unchanged(void **state)
{
    struct config config;

    (void)state;
    assert_int_equal(config_init(&config, NULL), 0);
    assert_int_equal(config_set(&config, CONFIG_gc_max_size, "1G", "here", NULL), 0);
    assert_int_equal(config_set(&config, CONFIG_gc_max_size, "1X", "there", NULL), -LARDER_INVAL);
    assert_true(config_number(&config, CONFIG_gc_max_size) == 1ULL << 30);
    assert_string_equal(config.values[CONFIG_gc_max_size].origin, "here");
    config_done(&config);
}

static void test_names(void **state)
{
    struct buf name = BUF_INIT(64);

    (void)state;
    assert_int_equal(config_find("gc.keep_for"), CONFIG_gc_keep_for);
    assert_int_equal(config_find("gc.keep"), CONFIG_ID_MAX);
    assert_int_equal(config_find("keep_for"), CONFIG_ID_MAX);
    assert_int_equal(config_find(""), CONFIG_ID_MAX);
    config_variable(CONFIG_net_ca_file, &name);
    assert_string_equal(name.p, "LARDER_NET_CA_FILE");
    buf_done(&name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),  cmocka_unit_test(test_text),
        cmocka_unit_test(test_words),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_unchanged), cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
