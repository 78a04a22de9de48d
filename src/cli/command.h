/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Commands as a table: dispatch, help, manual pages and completion all read these rows. A command
 * is defined beside its code (cmd_<verb>.c, image_<verb>.c) and listed in command.c.
 */
#include <stdbool.h>
#include <stddef.h>

#include "cli/opt.h"

struct cli;

enum command_group {
    COMMAND_GROUP_IMAGES,
    COMMAND_GROUP_REGISTRIES,
    COMMAND_GROUP_UPDATES,
    COMMAND_GROUP_STORE,
    COMMAND_GROUP_OTHER,
    COMMAND_GROUP_HIDDEN, /* for the build; neither in help nor completed */
    COMMAND_GROUP_MAX
};

/* What a command's words are, for completion. */
enum command_words {
    COMMAND_WORDS_NONE,
    COMMAND_WORDS_ENTRY,         /* names of entries */
    COMMAND_WORDS_ENTRY_OR_FILE, /* an entry, or a path */
    COMMAND_WORDS_FILE,
    COMMAND_WORDS_DIR,
    COMMAND_WORDS_LOCATION, /* docker://..., oci:... */
    COMMAND_WORDS_COMMAND,  /* of larder */
    COMMAND_WORDS_SHELL,    /* "bash" */
};

#define COMMAND_ANY_WORDS (-1)
/* Exit status n may happen (besides 0, 1 and 2, which always may). */
#define COMMAND_EXIT(n)        (1u << (n))
#define COMMAND_EXIT_UNCHANGED COMMAND_EXIT(31) /* EXIT_UNCHANGED, which has no bit of its own */

struct command {
    const char *name; /* "gc", "image get" */
    enum command_group group;
    const char *summary; /* a phrase for the list of commands */
    const char *about;   /* sentences for --help and the manual page */
    const char *usage;   /* the words, as in "NAME FILE"; "" for none */
    int min_words;
    int max_words; /* or COMMAND_ANY_WORDS */
    enum command_words words;
    struct opt_set opts;
    size_t n_foreign; /* so many of opts come first and are another program's: see opt_write_out */
    unsigned exits;   /* COMMAND_EXIT bits */
    /* Returns the exit status. argv holds the words only. NULL: a group ("image"), whose
     * commands are those named "image ...". */
    int (*run)(struct cli *cli, int argc, char **argv);
};

/* All commands in the order of the help; NULL-terminated. */
extern const struct command *const command_table[];

/* Of a known command's name; NULL. */
const struct command *command_find(const char *name);
/* The command that a program of that name (argv[0]) is; NULL: larder itself. */
const struct command *command_alias(const char *program);
/* Whether member is "<group> <word>". */
bool command_is_member(const struct command *member, const struct command *group);
/*
 * Finds the command that argv[0..argc) begins with and how many words name it (1 or 2). INVAL with
 * a suggestion when there is none. A group without a second word is returned itself.
 */
int command_lookup(int argc, char *const argv[], const struct command **ret, int *ret_words,
                   struct larder_error *e);

struct exit_status {
    int status;
    const char *text;
};
/* The table of larder(1), ended by a NULL text. */
extern const struct exit_status exit_table[];

/* The global options, accepted before and after the command. */
extern const struct opt_set global_opts;
