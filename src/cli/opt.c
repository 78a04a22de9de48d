/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/opt.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/suggest.h"

/* getopt_long's result for the i-th option is this + i: out of the way of letters. */
#define LONG_BASE 256
/* Beyond any option's name with its dashes and a NUL. */
#define OPT_NAME_BYTES 64

/* A set of sets as getopt_long wants it. */
struct getopt_tables {
    const struct opt *rows[OPT_MAX];
    struct option longs[OPT_MAX + 1];
    char shorts[2 + 2 * OPT_MAX + 1];
    size_t count;
};

void opt_reset(const struct opt_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct opt *opt = &set->opts[i];

        switch (opt->kind) {
        case OPT_KIND_FLAG:
            *opt->field.flag = false;
            break;
        case OPT_KIND_STRING:
        case OPT_KIND_PATH:
        case OPT_KIND_DIR:
        case OPT_KIND_ENUM:
            *opt->field.text = NULL;
            break;
        case OPT_KIND_DURATION:
            *opt->field.ns = OPT_NS_UNSET;
            break;
        case OPT_KIND_SIZE:
            *opt->field.bytes = OPT_BYTES_UNSET;
            break;
        case OPT_KIND_COUNT:
            *opt->field.count = OPT_COUNT_UNSET;
            break;
        case OPT_KIND_BOOL:
            *opt->field.boolean = OPT_BOOL_UNSET;
            break;
        case OPT_KIND_LIST:
            opt->field.list->count = 0;
            break;
        }
    }
}

bool opt_is_choice(const char *choices, const char *word)
{
    size_t n = strlen(word);

    while (*choices) {
        size_t len = strcspn(choices, "|");

        if (len == n && memcmp(choices, word, n) == 0)
            return true;
        choices += len;
        if (*choices == '|')
            choices++;
    }
    return false;
}

char *opt_format(const struct opt *opt, char *out, size_t out_bytes)
{
    bool is_bool = opt->kind == OPT_KIND_BOOL;
    const char *space = opt->arg ? " " : "";
    const char *arg = opt->arg ? opt->arg : is_bool ? "[=BOOL]" : "";

    if (opt->letter)
        snprintf(out, out_bytes, "-%c, --%s%s%s", opt->letter, opt->name, space, arg);
    else
        snprintf(out, out_bytes, "--%s%s%s", opt->name, space, arg);
    return out;
}

static int takes_argument(const struct opt *opt)
{
    if (opt->kind == OPT_KIND_BOOL)
        return optional_argument;
    return opt->kind == OPT_KIND_FLAG ? no_argument : required_argument;
}

static int tables_fill(struct getopt_tables *t, const struct opt_set *sets, size_t set_count,
                       bool stop_at_word, struct larder_error *e)
{
    size_t at = 0;

    memset(t, 0, sizeof(*t));
    if (stop_at_word)
        t->shorts[at++] = '+';
    t->shorts[at++] = ':'; /* a missing argument is told from an unknown option */
    for (size_t s = 0; s < set_count; s++) {
        for (size_t i = 0; i < sets[s].count; i++) {
            const struct opt *opt = &sets[s].opts[i];

            if (t->count == OPT_MAX)
                return error_set(e, LARDER_LIMIT, "more than %d options in one table", OPT_MAX);
            t->rows[t->count] = opt;
            t->longs[t->count] =
                (struct option){opt->name, takes_argument(opt), NULL, LONG_BASE + (int)t->count};
            t->count++;
            if (!opt->letter)
                continue;
            t->shorts[at++] = opt->letter;
            if (takes_argument(opt) == required_argument)
                t->shorts[at++] = ':';
        }
    }
    return 0;
}

static const struct opt *row_of(const struct getopt_tables *t, int code)
{
    if (code >= LONG_BASE && (size_t)(code - LONG_BASE) < t->count)
        return t->rows[code - LONG_BASE];
    for (size_t i = 0; i < t->count; i++) {
        if (t->rows[i]->letter && t->rows[i]->letter == code)
            return t->rows[i];
    }
    return NULL;
}

static int store_count(const char *what, const struct opt *opt, const char *value,
                       struct larder_error *e)
{
    char *end = NULL;
    unsigned long number;

    errno = 0;
    number = strtoul(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || errno || number > OPT_COUNT_MAX)
        return error_set(e, LARDER_INVAL, "%s: option --%s: found '%s', expected 0 to %d", what,
                         opt->name, value, OPT_COUNT_MAX);
    *opt->field.count = (int)number;
    return 0;
}

static int store_bool(const char *what, const struct opt *opt, const char *value,
                      struct larder_error *e)
{
    /* Go's flag package, which those who type it know, takes these. */
    if (!value || opt_is_choice("true|TRUE|True|t|T|1", value))
        *opt->field.boolean = 1;
    else if (opt_is_choice("false|FALSE|False|f|F|0", value))
        *opt->field.boolean = 0;
    else
        return error_set(e, LARDER_INVAL, "%s: option --%s: found '%s', expected true or false",
                         what, opt->name, value);
    return 0;
}

static int store_item(struct opt_list *list, const char *value, struct larder_error *e)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 8;
        const char **items = reallocarray(list->items, capacity, sizeof(*items));

        if (!items)
            return error_nomem(e);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = value;
    return 0;
}

static int empty_value(const char *what, const struct opt *opt, struct larder_error *e)
{
    return error_set(e, LARDER_INVAL, "%s: option --%s: empty value, expected %s", what, opt->name,
                     opt->arg);
}

static int store_value(const char *what, const struct opt *opt, const char *value,
                       struct larder_error *e)
{
    struct larder_error why = LARDER_ERROR_INIT;

    switch (opt->kind) {
    case OPT_KIND_FLAG:
        *opt->field.flag = true;
        return 0;
    case OPT_KIND_STRING:
    case OPT_KIND_PATH:
    case OPT_KIND_DIR:
        if (!*value)
            return empty_value(what, opt, e);
        *opt->field.text = value;
        return 0;
    case OPT_KIND_ENUM:
        if (!opt_is_choice(opt->choices, value))
            return error_set(e, LARDER_INVAL, "%s: option --%s: found '%s', expected %s", what,
                             opt->name, value, opt->choices);
        *opt->field.text = value;
        return 0;
    case OPT_KIND_DURATION:
        if (duration_parse(value, opt->field.ns, &why) == 0)
            return 0;
        error_set(e, LARDER_INVAL, "%s: option --%s: %s", what, opt->name, why.msg);
        return error_hint(e, "a time is written 90s, 1h, 7d, 1h30m, always or never");
    case OPT_KIND_SIZE:
        if (size_parse(value, opt->field.bytes, &why) == 0)
            return 0;
        error_set(e, LARDER_INVAL, "%s: option --%s: %s", what, opt->name, why.msg);
        return error_hint(e, "a size is written 4096, 512M, 200G or 1.5T");
    case OPT_KIND_COUNT:
        return store_count(what, opt, value, e);
    case OPT_KIND_BOOL:
        return store_bool(what, opt, value, e);
    case OPT_KIND_LIST:
        return *value ? store_item(opt->field.list, value, e) : empty_value(what, opt, e);
    }
    return 0;
}

static int unknown_option(const char *what, const struct getopt_tables *t, char **argv,
                          struct larder_error *e)
{
    const char *word = argv[optind - 1];
    char name[SUGGEST_WORD_BYTES + 1];
    struct suggest near = SUGGEST_INIT(name);

    /* A letter unknown within a cluster ("-qx") leaves optind where it was. */
    if (optopt > 0 && optopt < LONG_BASE)
        return error_set(e, LARDER_INVAL, "%s: unknown option -%c", what, optopt);
    if (optopt >= LONG_BASE) {
        const struct opt *opt = row_of(t, optopt);

        return error_set(e, LARDER_INVAL, "%s: option --%s takes no value", what,
                         opt ? opt->name : "?");
    }
    const char *begun = word + strspn(word, "-");
    size_t begun_bytes = strcspn(begun, "=");
    const char *first = NULL;
    for (size_t i = 0; i < t->count; i++) {
        if (strncmp(t->rows[i]->name, begun, begun_bytes) != 0)
            continue;
        if (first)
            return error_set(e, LARDER_INVAL, "%s: ambiguous option %s: --%s or --%s", what, word,
                             first, t->rows[i]->name);
        first = t->rows[i]->name;
    }
    error_set(e, LARDER_INVAL, "%s: unknown option %s", what, word);
    snprintf(name, sizeof(name), "%.*s", (int)begun_bytes, begun);
    for (size_t i = 0; i < t->count; i++)
        suggest_offer(&near, t->rows[i]->name);
    if (near.nearest)
        return error_hint(e, "did you mean --%s?", near.nearest);
    return -LARDER_INVAL;
}

int opt_parse(const char *what, const struct opt_set *sets, size_t set_count, int argc, char **argv,
              bool stop_at_word, int *ret_first, struct larder_error *e)
{
    struct getopt_tables t;
    int code;
    int rc;

    rc = tables_fill(&t, sets, set_count, stop_at_word, e);
    if (rc < 0)
        return rc;
    optind = 0; /* glibc: begin anew, also its memory of POSIXLY_CORRECT and '+' */
    opterr = 0;
    while ((code = getopt_long(argc, argv, t.shorts, t.longs, NULL)) != -1) {
        const struct opt *opt = row_of(&t, code);

        if (code == ':') {
            opt = row_of(&t, optopt);
            return error_set(e, LARDER_INVAL, "%s: option --%s: found nothing, expected %s", what,
                             opt ? opt->name : "?", opt && opt->arg ? opt->arg : "a value");
        }
        if (code == '?' || !opt)
            return unknown_option(what, &t, argv, e);
        rc = store_value(what, opt, optarg, e);
        if (rc < 0)
            return rc;
    }
    *ret_first = optind;
    return 0;
}

/* The only option of the set whose name begins with those n bytes, or is them; else NULL. */
static const struct opt *find_cut(const struct opt_set *set, const char *name, size_t n)
{
    const struct opt *found = NULL;

    for (size_t i = 0; i < set->count; i++) {
        if (strncmp(set->opts[i].name, name, n) != 0)
            continue;
        if (set->opts[i].name[n] == 0)
            return &set->opts[i];
        if (found)
            return NULL;
        found = &set->opts[i];
    }
    return found;
}

int opt_write_out(const struct opt_set *set, int argc, char **argv, char **ret_memory,
                  struct larder_error *e)
{
    size_t room = 1;
    char *memory;
    char *at;

    for (int i = 1; i < argc; i++)
        room += strlen(argv[i]) + OPT_NAME_BYTES;
    memory = malloc(room);
    if (!memory)
        return error_nomem(e);
    at = memory;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *name = argv[i] + 2;
        size_t n;
        const struct opt *opt;

        if (strncmp(argv[i], "--", 2) != 0)
            continue;
        n = strcspn(name, "=");
        opt = find_cut(set, name, n);
        if (!opt || strlen(opt->name) >= OPT_NAME_BYTES - 3)
            continue;
        name += n;
        argv[i] = at;
        at += sprintf(at, "--%s%s", opt->name, name) + 1;
    }
    *ret_memory = memory;
    return 0;
}
