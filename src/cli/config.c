/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fdio.h"
#include "base/ini.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/opt.h"
#include "cli/suggest.h"

/* The limit of the INI dialect (base/ini.h). */
#define CONFIG_FILE_BYTES_MAX (1024 * 1024)
#define CONFIG_NAME_BYTES_MAX 4096

#define SYSTEM_CONFIG "/etc/larder/larder.conf"
#define USER_CONFIG   "larder/larder.conf"

const struct config_key config_keys[CONFIG_ID_MAX] = {
#define CONFIG_KEY(section, name, kind, unit, min, max, def, help) \
    {#section, #name, CONFIG_KIND_##kind, unit, min, max, def, help},
#include "cli/config_keys.def"
#undef CONFIG_KEY
};

static int value_invalid(const struct config_key *key, const char *origin, const char *text,
                         const char *expected, struct larder_error *e)
{
    return error_set(e, LARDER_INVAL, "%s: %s.%s: found '%s', expected %s", origin, key->section,
                     key->name, text, expected);
}

/* A path as written in a file or variable: absolute, or below the home directory. Each part of a
 * list is one. */
static int expand_paths(const struct config_key *key, const char *origin, const char *text,
                        struct buf *out, struct larder_error *e)
{
    const char *home = getenv("HOME");
    const char *at = text;

    while (*at) {
        size_t n = key->kind == CONFIG_KIND_PATHS ? strcspn(at, ":") : strlen(at);

        if (n == 0) {
            at++; /* an empty part of a list */
            continue;
        }
        if (out->n)
            buf_putc(out, ':');
        if (n >= 2 && at[0] == '~' && at[1] == '/') {
            if (!home || home[0] != '/')
                return value_invalid(key, origin, text, "$HOME to be an absolute path", e);
            buf_puts(out, home);
            buf_append(out, at + 1, n - 1);
        } else if (at[0] == '/') {
            buf_append(out, at, n);
        } else {
            return value_invalid(key, origin, text, "an absolute path or ~/...", e);
        }
        at += n;
    }
    return buf_failed(out, e);
}

static int check_range(const struct config_key *key, const char *origin, const char *text,
                       uint64_t number, struct larder_error *e)
{
    if (key->max && (number < key->min || number > key->max))
        return error_set(e, LARDER_INVAL,
                         "%s: %s.%s: found '%s', which is out of range (larder.conf(5))", origin,
                         key->section, key->name, text);
    return 0;
}

static int parse_value(const struct config_key *key, const char *origin, const char *text,
                       struct config_value *value, struct larder_error *e)
{
    uint64_t number = 0;

    switch (key->kind) {
    case CONFIG_KIND_PATH:
    case CONFIG_KIND_PATHS:
    case CONFIG_KIND_WORDS:
        return 0;
    case CONFIG_KIND_CHOICE:
        if (!opt_is_choice(key->unit, text))
            return value_invalid(key, origin, text, key->unit, e);
        return 0;
    case CONFIG_KIND_DURATION:
        if (duration_parse(text, &value->parsed.ns, NULL) < 0)
            return value_invalid(key, origin, text, "a time as 90s, 1h, 7d, always or never", e);
        return check_range(key, origin, text, (uint64_t)value->parsed.ns, e);
    case CONFIG_KIND_SIZE:
        if (size_parse(text, &number, NULL) < 0)
            return value_invalid(key, origin, text, "a size as 4096, 512M or 200G", e);
        break;
    case CONFIG_KIND_COUNT:
        if (!slice_parse_u64(slice_of(text), &number))
            return value_invalid(key, origin, text, "a number", e);
        break;
    }
    value->parsed.number = number;
    return check_range(key, origin, text, number, e);
}

int config_set(struct config *config, enum config_id id, const char *text, const char *origin,
               struct larder_error *e)
{
    const struct config_key *key = &config_keys[id];
    struct config_value value = {0};
    struct buf expanded = BUF_INIT(CONFIG_FILE_BYTES_MAX);
    int rc;

    rc = parse_value(key, origin, text, &value, e);
    if (rc == 0 && (key->kind == CONFIG_KIND_PATH || key->kind == CONFIG_KIND_PATHS)) {
        rc = expand_paths(key, origin, text, &expanded, e);
        if (rc == 0)
            value.text = buf_take(&expanded);
    } else if (rc == 0) {
        value.text = strdup(text);
    }
    buf_done(&expanded);
    if (rc < 0)
        return rc;
    value.origin = strdup(origin);
    if (!value.text || !value.origin) {
        free(value.text);
        free(value.origin);
        return error_nomem(e);
    }
    free(config->values[id].text);
    free(config->values[id].origin);
    config->values[id] = value;
    return 0;
}

int config_init(struct config *config, struct larder_error *e)
{
    int rc = 0;

    memset(config, 0, sizeof(*config));
    for (unsigned i = 0; rc == 0 && i < CONFIG_ID_MAX; i++)
        rc = config_set(config, (enum config_id)i, config_keys[i].def, "default", e);
    return rc;
}

void config_done(struct config *config)
{
    for (size_t i = 0; i < CONFIG_ID_MAX; i++) {
        free(config->values[i].text);
        free(config->values[i].origin);
    }
    memset(config, 0, sizeof(*config));
}

const char *config_text(const struct config *config, enum config_id id)
{
    const char *text = config->values[id].text;

    return text && *text ? text : NULL;
}

int64_t config_ns(const struct config *config, enum config_id id)
{
    return config->values[id].parsed.ns;
}

uint64_t config_number(const struct config *config, enum config_id id)
{
    return config->values[id].parsed.number;
}

int config_words(const struct config *config, enum config_id id, const char ***ret,
                 struct larder_error *e)
{
    const char *text = config_text(config, id);
    size_t n = text ? strlen(text) : 0;
    const char **words;
    int count = 0;
    char *copy;
    char *rest;

    *ret = NULL;
    if (!text)
        return 0;
    /* A word and a blank take two bytes, so there are at most that many words; the text behind. */
    words = malloc((n / 2 + 1) * sizeof(*words) + n + 1);
    if (!words)
        return error_nomem(e);
    copy = memcpy(words + n / 2 + 1, text, n + 1);
    for (char *word = strtok_r(copy, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest))
        words[count++] = word;
    *ret = words;
    return count;
}

enum config_id config_find(const char *dotted)
{
    const char *dot = strchr(dotted, '.');

    for (unsigned i = 0; dot && i < CONFIG_ID_MAX; i++) {
        const struct config_key *key = &config_keys[i];

        if (strlen(key->section) == (size_t)(dot - dotted) &&
            strncmp(key->section, dotted, (size_t)(dot - dotted)) == 0 &&
            strcmp(key->name, dot + 1) == 0)
            return (enum config_id)i;
    }
    return CONFIG_ID_MAX;
}

void config_variable(enum config_id id, struct buf *out)
{
    buf_puts(out, "LARDER_");
    for (const char *p = config_keys[id].section; *p; p++)
        buf_putc(out, (char)toupper((unsigned char)*p));
    buf_putc(out, '_');
    for (const char *p = config_keys[id].name; *p; p++)
        buf_putc(out, (char)toupper((unsigned char)*p));
}

/* ---- files ---- */

struct parse_state {
    struct config *config;
    unsigned lines[CONFIG_ID_MAX]; /* where this file gave the key; 0: not yet */
};

static int unknown_key(const struct ini_item *item, struct larder_error *e)
{
    const char *section = NULL;
    const char *key = NULL;
    struct suggest near_section = SUGGEST_INIT(item->section);
    struct suggest near_key = SUGGEST_INIT(item->key);
    bool is_section = false;

    for (size_t i = 0; i < CONFIG_ID_MAX; i++) {
        suggest_offer(&near_section, config_keys[i].section);
        is_section |= strcmp(config_keys[i].section, item->section) == 0;
    }
    if (!is_section) {
        error_set(e, LARDER_INVAL, "%s:%u: unknown section [%s]", item->file, item->line,
                  item->section);
        if (near_section.nearest)
            return error_hint(e, "did you mean [%s]?", near_section.nearest);
        return error_hint(e, "larder.conf(5) lists the sections");
    }
    for (size_t i = 0; i < CONFIG_ID_MAX; i++) {
        const struct config_key *known = &config_keys[i];

        if (strcmp(known->name, item->key) == 0) { /* right key, wrong section */
            section = known->section;
            key = known->name;
        } else if (!section && strcmp(known->section, item->section) == 0) {
            suggest_offer(&near_key, known->name);
        }
    }
    error_set(e, LARDER_INVAL, "%s:%u: unknown key '%s' in section [%s]", item->file, item->line,
              item->key, item->section);
    if (section)
        return error_hint(e, "'%s' belongs into section [%s]", key, section);
    if (near_key.nearest)
        return error_hint(e, "did you mean '%s'?", near_key.nearest);
    return error_hint(e, "larder.conf(5) lists the keys");
}

static int handle_item(void *arg, const struct ini_item *item, struct larder_error *e)
{
    struct parse_state *state = arg;
    char *origin CLEANUP_FREE = NULL;
    enum config_id id = CONFIG_ID_MAX;

    if (*item->section_name)
        return error_set(e, LARDER_INVAL, "%s:%u: section [%s \"%s\"]: found a name, expected none",
                         item->file, item->line, item->section, item->section_name);
    for (unsigned i = 0; i < CONFIG_ID_MAX; i++) {
        if (strcmp(config_keys[i].section, item->section) == 0 &&
            strcmp(config_keys[i].name, item->key) == 0)
            id = (enum config_id)i;
    }
    if (id == CONFIG_ID_MAX)
        return unknown_key(item, e);
    if (state->lines[id])
        return error_set(e, LARDER_INVAL, "%s:%u: key '%s' was given already in line %u",
                         item->file, item->line, item->key, state->lines[id]);
    state->lines[id] = item->line;
    if (asprintf(&origin, "%s:%u", item->file, item->line) < 0) {
        origin = NULL;
        return error_nomem(e);
    }
    return config_set(state->config, id, item->value, origin, e);
}

int config_parse(struct config *config, struct slice text, const char *file, struct larder_error *e)
{
    struct parse_state state = {.config = config};

    return ini_parse(text, file, handle_item, &state, e);
}

static int load_file(struct config *config, const char *file, bool must_exist,
                     struct larder_error *e)
{
    struct buf text = BUF_INIT(CONFIG_FILE_BYTES_MAX);
    struct larder_error why = LARDER_ERROR_INIT;
    int rc;

    rc = file_read(AT_FDCWD, file, &text, &why);
    if (rc == 0)
        rc = config_parse(config, buf_slice(&text), file, e);
    else if (rc == -LARDER_NOENT && !must_exist)
        rc = 0;
    else if (e)
        *e = why;
    buf_done(&text);
    return rc;
}

static int load_user_file(struct config *config, struct larder_error *e)
{
    const char *base = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    struct buf path = BUF_INIT(CONFIG_NAME_BYTES_MAX);
    int rc;

    /* XDG base directory specification: a relative path is to be ignored. */
    if (base && base[0] == '/')
        buf_printf(&path, "%s/%s", base, USER_CONFIG);
    else if (home && home[0] == '/')
        buf_printf(&path, "%s/.config/%s", home, USER_CONFIG);
    else
        return 0;
    rc = buf_failed(&path, e);
    if (rc == 0)
        rc = load_file(config, path.p, false, e);
    buf_done(&path);
    return rc;
}

/* $LARDER_HOME is like --store: a relative path is one from here. */
static int set_home(struct config *config, const char *home, struct larder_error *e)
{
    char *here CLEANUP_FREE = NULL;
    char *absolute CLEANUP_FREE = NULL;

    if (home[0] == '/')
        return config_set(config, CONFIG_store_path, home, "$LARDER_HOME", e);
    here = get_current_dir_name();
    if (!here)
        return error_errno(e, errno, "current directory");
    if (asprintf(&absolute, "%s/%s", here, home) < 0) {
        absolute = NULL;
        return error_nomem(e);
    }
    return config_set(config, CONFIG_store_path, absolute, "$LARDER_HOME", e);
}

static int load_variables(struct config *config, struct larder_error *e)
{
    struct buf name = BUF_INIT(CONFIG_NAME_BYTES_MAX);
    const char *home = getenv("LARDER_HOME");
    int rc = 0;

    /* The store has a second, older name; the precise one wins. */
    if (home && *home)
        rc = set_home(config, home, e);
    for (unsigned i = 0; rc == 0 && i < CONFIG_ID_MAX; i++) {
        const char *value;

        buf_reset(&name);
        buf_putc(&name, '$');
        config_variable((enum config_id)i, &name);
        rc = buf_failed(&name, e);
        if (rc < 0)
            break;
        value = getenv(name.p + 1);
        if (value && *value)
            rc = config_set(config, (enum config_id)i, value, name.p, e);
    }
    buf_done(&name);
    return rc;
}

int config_load(struct config *config, const char *file, struct larder_error *e)
{
    int rc;

    if (!file)
        file = getenv("LARDER_CONFIG");
    if (file && *file) {
        rc = load_file(config, file, true, e);
    } else {
        rc = load_file(config, SYSTEM_CONFIG, false, e);
        if (rc == 0)
            rc = load_user_file(config, e);
    }
    if (rc == 0)
        rc = load_variables(config, e);
    return rc;
}
