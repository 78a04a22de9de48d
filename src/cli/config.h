/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Configuration: built-in defaults, then /etc/larder/larder.conf, then the user's
 * $XDG_CONFIG_HOME/larder/larder.conf, then LARDER_<SECTION>_<KEY> variables, then flags; later
 * wins. Strict: an unknown section or key, a key given twice in a file and a value out of range
 * are errors with file and line.
 *
 *     struct config config;
 *     config_init(&config);
 *     if (config_load(&config, NULL, &e) < 0) ...
 *     keep = config_ns(&config, CONFIG_gc_keep_for);
 *     config_done(&config);
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <larder/error.h>

#include "base/buf.h"
#include "base/slice.h"

enum config_id {
#define CONFIG_KEY(section, name, kind, unit, min, max, def, help) CONFIG_##section##_##name,
#include "cli/config_keys.def"
#undef CONFIG_KEY
    CONFIG_ID_MAX
};

enum config_kind {
    CONFIG_KIND_PATH,
    CONFIG_KIND_PATHS,
    CONFIG_KIND_DURATION,
    CONFIG_KIND_SIZE,
    CONFIG_KIND_COUNT,
    CONFIG_KIND_CHOICE,
    CONFIG_KIND_WORDS,
};

struct config_key {
    const char *section;
    const char *name;
    enum config_kind kind;
    const char *unit; /* of CHOICE: the words */
    uint64_t min, max;
    const char *def;
    const char *help;
};
extern const struct config_key config_keys[CONFIG_ID_MAX];

struct config_value {
    char *text; /* as given, ~ replaced; owned. Never NULL after config_init() but for no memory */
    char *origin; /* "default", "/etc/larder/larder.conf:3", "$LARDER_GC_KEEP_FOR"; owned */
    union {
        int64_t ns;
        uint64_t number; /* bytes or pieces */
    } parsed;
};

struct config {
    struct config_value values[CONFIG_ID_MAX];
};

/* The defaults. NOMEM. The config is to be given to config_done() even then. */
int config_init(struct config *config, struct larder_error *e);
void config_done(struct config *config);

/*
 * Reads what there is: file when given ($LARDER_CONFIG otherwise; it must exist then and is the
 * only one), else the two usual files, of which none need exist; then the variables. INVAL,
 * DENIED, NOENT, LIMIT (1 MiB a file).
 */
int config_load(struct config *config, const char *file, struct larder_error *e);
/* One file's text. Names it `file` in messages and origins. */
int config_parse(struct config *config, struct slice text, const char *file,
                 struct larder_error *e);
/* Sets one value; origin is copied. INVAL. */
int config_set(struct config *config, enum config_id id, const char *text, const char *origin,
               struct larder_error *e);

/* NULL when not set. Borrowed. */
const char *config_text(const struct config *config, enum config_id id);
int64_t config_ns(const struct config *config, enum config_id id);
uint64_t config_number(const struct config *config, enum config_id id);
/* The words of a value of kind WORDS: *ret is malloc'd, with them in it (one free()); NULL when
 * there are none. Returns how many, or NOMEM. */
int config_words(const struct config *config, enum config_id id, const char ***ret,
                 struct larder_error *e);

/* "gc.keep_for" -> its id; CONFIG_ID_MAX when there is no such key. */
enum config_id config_find(const char *dotted);
/* "LARDER_GC_KEEP_FOR" into out. */
void config_variable(enum config_id id, struct buf *out);
