/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Options as a table. One row says everything about an option; parsing, --help, the OPTIONS
 * sections of the manual pages and the shell completion all read it.
 *
 *     static struct { bool dry_run; int64_t keep_for_ns; } args;
 *     static const struct opt opts[] = {
 *         OPT_FLAG('n', "dry-run", &args.dry_run, "say what would be removed, remove nothing"),
 *         OPT_DURATION(0, "keep-for", &args.keep_for_ns, "AGE", "keep what ..."),
 *     };
 *
 * A field has the type of its kind (the macros check it). opt_parse() first sets every field to
 * "not given": false, NULL, OPT_NS_UNSET, OPT_BYTES_UNSET, OPT_COUNT_UNSET, OPT_BOOL_UNSET, and no
 * items in a list.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/error.h>

enum opt_kind {
    OPT_KIND_FLAG,
    OPT_KIND_STRING,
    OPT_KIND_PATH,     /* a file; completes as one */
    OPT_KIND_DIR,      /* a directory */
    OPT_KIND_ENUM,     /* one of choices */
    OPT_KIND_DURATION, /* duration_parse() */
    OPT_KIND_SIZE,     /* size_parse() */
    OPT_KIND_COUNT,    /* 0 to OPT_COUNT_MAX */
    OPT_KIND_BOOL,     /* --name, --name=true, --name=false */
    OPT_KIND_LIST,     /* may be given again; all values count */
};

#define OPT_NS_UNSET    INT64_MIN
#define OPT_BYTES_UNSET UINT64_MAX
#define OPT_COUNT_UNSET (-1)
#define OPT_COUNT_MAX   10000
#define OPT_BOOL_UNSET  (-1)

/* Values in the order they were given, borrowed from argv. The array stays for the next parse. */
struct opt_list {
    const char **items;
    size_t count;
    size_t capacity;
};

struct opt {
    const char *name; /* long name */
    char letter;      /* short name, or 0 */
    enum opt_kind kind;
    const char *arg;     /* what its argument is called; NULL for flags */
    const char *choices; /* of ENUM: "auto|always|never" */
    const char *help;    /* for people: a phrase in lower case without a full stop */
    union {
        bool *flag;
        const char **text; /* borrowed from argv */
        int64_t *ns;
        uint64_t *bytes;
        int *count;
        int *boolean; /* 0, 1 or OPT_BOOL_UNSET */
        struct opt_list *list;
    } field;
};

#define OPT_FLAG(letter_, name_, field_, help_)                 \
    {                                                           \
        (name_), (letter_), OPT_KIND_FLAG, NULL, NULL, (help_), \
        {                                                       \
            .flag = (field_)                                    \
        }                                                       \
    }
#define OPT_STRING(letter_, name_, field_, arg_, help_)             \
    {                                                               \
        (name_), (letter_), OPT_KIND_STRING, (arg_), NULL, (help_), \
        {                                                           \
            .text = (field_)                                        \
        }                                                           \
    }
#define OPT_PATH(letter_, name_, field_, arg_, help_)             \
    {                                                             \
        (name_), (letter_), OPT_KIND_PATH, (arg_), NULL, (help_), \
        {                                                         \
            .text = (field_)                                      \
        }                                                         \
    }
#define OPT_DIR(letter_, name_, field_, arg_, help_)             \
    {                                                            \
        (name_), (letter_), OPT_KIND_DIR, (arg_), NULL, (help_), \
        {                                                        \
            .text = (field_)                                     \
        }                                                        \
    }
#define OPT_ENUM(letter_, name_, field_, choices_, help_)                   \
    {                                                                       \
        (name_), (letter_), OPT_KIND_ENUM, (choices_), (choices_), (help_), \
        {                                                                   \
            .text = (field_)                                                \
        }                                                                   \
    }
#define OPT_DURATION(letter_, name_, field_, arg_, help_)             \
    {                                                                 \
        (name_), (letter_), OPT_KIND_DURATION, (arg_), NULL, (help_), \
        {                                                             \
            .ns = (field_)                                            \
        }                                                             \
    }
#define OPT_SIZE(letter_, name_, field_, arg_, help_)             \
    {                                                             \
        (name_), (letter_), OPT_KIND_SIZE, (arg_), NULL, (help_), \
        {                                                         \
            .bytes = (field_)                                     \
        }                                                         \
    }
#define OPT_COUNT(letter_, name_, field_, arg_, help_)             \
    {                                                              \
        (name_), (letter_), OPT_KIND_COUNT, (arg_), NULL, (help_), \
        {                                                          \
            .count = (field_)                                      \
        }                                                          \
    }
#define OPT_BOOL(letter_, name_, field_, help_)                         \
    {                                                                   \
        (name_), (letter_), OPT_KIND_BOOL, NULL, "true|false", (help_), \
        {                                                               \
            .boolean = (field_)                                         \
        }                                                               \
    }
#define OPT_LIST(letter_, name_, field_, arg_, help_)             \
    {                                                             \
        (name_), (letter_), OPT_KIND_LIST, (arg_), NULL, (help_), \
        {                                                         \
            .list = (field_)                                      \
        }                                                         \
    }

struct opt_set {
    const struct opt *opts;
    size_t count;
};
#define OPT_SET(array)                              \
    {                                               \
        (array), sizeof(array) / sizeof((array)[0]) \
    }

/* Most options one command may have, together with the global ones (checked, INVAL). */
#define OPT_MAX 56

/* Sets every field of the set to "not given". */
void opt_reset(const struct opt_set *set);

/*
 * Parses argv[1..]. With stop_at_word it ends at the first word that is no option (global options
 * before the command), else options and words may be mixed up to "--" and argv is reordered, words
 * last. *ret_first is the index of the first word. what ("image get") goes into messages.
 * INVAL: unknown option (with a suggestion as hint), missing or bad argument.
 * Not for two threads at once (getopt_long keeps its state in globals).
 */
int opt_parse(const char *what, const struct opt_set *sets, size_t set_count, int argc, char **argv,
              bool stop_at_word, int *ret_first, struct larder_error *e);

/*
 * Writes out each long option of argv that is cut short and can only mean one of the set, whatever
 * options of other sets begin alike: for commands that take the place of others. The new words are
 * in *ret_memory (free() it when argv is no longer needed). NOMEM.
 */
int opt_write_out(const struct opt_set *set, int argc, char **argv, char **ret_memory,
                  struct larder_error *e);

/* Whether word is one of "a|b|c". */
bool opt_is_choice(const char *choices, const char *word);

/* "--keep-for AGE" / "-n, --dry-run"; returns out. */
char *opt_format(const struct opt *opt, char *out, size_t out_bytes);
