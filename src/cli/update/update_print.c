/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/update/update_print.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"

/* A version is as long as a registry likes, and a terminal, a column or a line of a log is not. */
#define VERSION_BYTES_SHOWN 200
/* Version (a byte may become four), time and digest of an image. */
#define IMAGE_TEXT_BYTES_MAX 2048

static bool is_image(const struct larder_update_image *image)
{
    return image->digest.alg != LARDER_DIGEST_NONE;
}

/* ---- JSON ---- */

static void image_json(struct doc *doc, const struct larder_update_image *image)
{
    doc_digest(doc, "digest", &image->digest);
    doc_text(doc, "version", image->version);
    doc_time(doc, "timestamp", image->timestamp_ns);
}

static void layer_json(struct doc *doc, const struct larder_update_layer *layer)
{
    static const char *const changes[] = {
        [LARDER_UPDATE_KEPT] = "kept",
        [LARDER_UPDATE_ADDED] = "added",
        [LARDER_UPDATE_REMOVED] = "removed",
    };
    static const char *const presences[] = {
        [LARDER_UPDATE_NEEDED] = "needed",
        [LARDER_UPDATE_HERE] = "here",
        [LARDER_UPDATE_HERE_DIFF_ID] = "here_diff_id",
    };

    doc_object(doc, NULL);
    doc_digest(doc, "digest", &layer->digest);
    doc_digest(doc, "diff_id", &layer->diff_id);
    doc_number(doc, "size", layer->size_bytes);
    doc_text(doc, "change", changes[layer->change]);
    doc_text(doc, "presence", presences[layer->presence]);
    doc_end(doc);
}

static void diff_json(struct doc *doc, const struct larder_update_diff *diff)
{
    doc_object(doc, "diff");
    doc_number(doc, "total", diff->total.layers);
    doc_number(doc, "total_size", diff->total.bytes);
    doc_number(doc, "removed", diff->removed.layers);
    doc_number(doc, "removed_size", diff->removed.bytes);
    doc_number(doc, "added", diff->added.layers);
    doc_number(doc, "added_size", diff->added.bytes);
    doc_number(doc, "here", diff->here.layers);
    doc_number(doc, "here_size", diff->here.bytes);
    doc_array(doc, "layers");
    for (size_t i = 0; i < diff->n_layers; i++)
        layer_json(doc, &diff->layers[i]);
    doc_end(doc);
    doc_end(doc);
}

static void holder_json(struct doc *doc, const struct larder_update_holder *holder)
{
    doc_object(doc, NULL);
    doc_text(doc, "role", holder->role);
    doc_text(doc, "commit", holder->commit);
    image_json(doc, &holder->image);
    if (is_image(&holder->update)) {
        doc_object(doc, "update");
        image_json(doc, &holder->update);
        doc_end(doc);
    }
    if (holder->is_corrupt)
        doc_bool(doc, "corrupt", true);
    doc_end(doc);
}

void update_json(struct doc *doc, const struct larder_update *update)
{
    doc_text(doc, "ref", update->ref);
    doc_text(doc, "platform", update->platform);
    doc_text(doc, "place", update->place);
    doc_text(doc, "state", larder_update_state_name(update->state));
    if (is_image(&update->current)) {
        doc_object(doc, "current");
        image_json(doc, &update->current);
        doc_end(doc);
    }
    if (update_has(update)) {
        doc_object(doc, "update");
        image_json(doc, &update->update);
        diff_json(doc, &update->diff);
        doc_number(doc, "layersNeeded", update->diff.needed.layers);
        doc_number(doc, "bytesNeeded", update->diff.needed.bytes);
        doc_time(doc, "checkedAt", update->checked_at_ns);
        doc_bool(doc, "persisted", update->is_persisted);
        doc_end(doc);
    }
    doc_digest(doc, "listed", &update->listed);
    doc_time(doc, "checkedAt", update->checked_at_ns);
    doc_bool(doc, "persisted", update->is_persisted);
    doc_text(doc, "record", update->record);
    doc_text(doc, "why", update->why);
    doc_array(doc, "holders");
    for (size_t i = 0; i < update->n_holders; i++)
        holder_json(doc, &update->holders[i]);
    doc_end(doc);
}

/* ---- text ---- */

void update_version_text(const char *version, struct buf *out)
{
    struct slice shown = slice_of(version);
    bool is_long = shown.n > VERSION_BYTES_SHOWN;

    if (is_long) {
        shown.n = VERSION_BYTES_SHOWN;
        while (shown.n && ((unsigned char)version[shown.n] & 0xc0) == 0x80)
            shown.n--; /* in a character */
    }
    text_sanitize(shown, out);
    buf_puts(out, is_long ? "..." : "");
}

void update_image_text(const struct larder_update_image *image, struct buf *out)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];
    char when[40];

    if (image->version) {
        update_version_text(image->version, out);
        buf_putc(out, ' ');
    }
    if (image->timestamp_ns)
        buf_printf(out, "(%s) ", time_format(image->timestamp_ns, when));
    buf_puts(out, larder_digest_format(&image->digest, digest));
}

static void put_line(const char *title, const char *value)
{
    fputs(title, stdout);
    put_text(stdout, value);
    putchar('\n');
}

static void put_version(const char *title, const char *version)
{
    struct buf text = BUF_INIT(IMAGE_TEXT_BYTES_MAX);

    update_version_text(version, &text);
    put_line(title, text.p ? text.p : "");
    buf_done(&text);
}

static void put_image(const char *title, const struct larder_update_image *image)
{
    struct buf text = BUF_INIT(IMAGE_TEXT_BYTES_MAX);

    update_image_text(image, &text);
    put_line(title, text.p ? text.p : "");
    buf_done(&text);
}

static void put_sum(const char *title, const struct larder_update_sum *sum)
{
    char size[32];

    /* The widths are bootc's. */
    printf("%-18s%-4llu  Size: %s\n", title, (unsigned long long)sum->layers,
           size_format_si(sum->bytes, size));
}

static void put_found(const struct larder_update *update)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];
    char when[40];

    put_line("Update available for: ", update->ref);
    if (update->update.version)
        put_version("  Version: ", update->update.version);
    put_line("  Digest: ", larder_digest_format(&update->update.digest, digest));
    if (update->update.timestamp_ns)
        put_line("  Timestamp: ", time_format(update->update.timestamp_ns, when));
    put_sum("Total new layers: ", &update->diff.total);
    put_sum("Removed layers:", &update->diff.removed);
    put_sum("Added layers:", &update->diff.added);
    put_sum("Already here:", &update->diff.here);
    put_sum("To fetch:", &update->diff.needed);
}

static const char *holder_title(const char *role)
{
    static const char *const titles[][2] = {{"booted", "Booted: "},
                                            {"staged", "Staged: "},
                                            {"pending", "Pending: "},
                                            {"rollback", "Rollback: "}};

    for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++) {
        if (strcmp(titles[i][0], role) == 0)
            return titles[i][1];
    }
    return NULL;
}

/* A deployment with packages layered on the image has a commit of its own, and no image's digest.
 */
static void put_holder(const char *title, const struct larder_update_holder *holder)
{
    if (is_image(&holder->image)) {
        put_image(title, &holder->image);
        return;
    }
    fputs(title, stdout);
    put_line("commit ", holder->commit ? holder->commit : "?");
}

/* Who has what: the deployments of a sysroot, else the base alone. */
static void put_holders(const struct larder_update *update)
{
    bool is_told = false;

    for (size_t i = 0; i < update->n_holders; i++) {
        const struct larder_update_holder *holder = &update->holders[i];
        const char *title = holder_title(holder->role);

        if (!title)
            continue;
        is_told = true;
        put_holder(title, holder);
        if (holder->is_corrupt)
            puts("  Its record is damaged");
        else if (is_image(&holder->update) &&
                 !larder_digest_equal(&holder->update.digest, &update->update.digest))
            put_image("  Update: ", &holder->update);
    }
    if (!is_told && is_image(&update->current))
        put_image("Current: ", &update->current);
}

void update_text(const struct larder_update *update, bool is_kept)
{
    char age[48];

    switch (update->state) {
    case LARDER_UPDATE_UNKNOWN:
        put_line("Nothing recorded for: ", update->ref);
        break;
    case LARDER_UPDATE_UNCHANGED:
        put_line("No changes in: ", update->ref);
        break;
    case LARDER_UPDATE_AVAILABLE:
    case LARDER_UPDATE_STAGED:
        put_found(update);
        break;
    case LARDER_UPDATE_CORRUPT:
        put_line("Damaged record for: ", update->ref);
        break;
    }
    put_holders(update);
    if (update->state == LARDER_UPDATE_STAGED)
        puts("Staged already");
    if (is_kept && update->checked_at_ns)
        put_line("Last checked: ", age_format(update->checked_at_ns, age));
}

static int fail_corrupt(struct cli *cli, const struct larder_update *update)
{
    struct larder_error e = LARDER_ERROR_INIT;

    error_set(&e, LARDER_CORRUPT, "%s: the record of its update is damaged%s%s", update->ref,
              update->why ? ": " : "", update->why ? update->why : "");
    error_hint(&e, "`larder update check` makes a new one, `larder update clear` forgets it");
    return cli_fail(cli, &e);
}

int update_print(struct cli *cli, const struct larder_update *update, bool is_kept, bool is_status)
{
    char digest[LARDER_DIGEST_TEXT_BYTES];

    progress_clear(&cli->progress);
    if (globals.json) {
        struct doc doc = DOC_INIT;

        doc_object(&doc, NULL);
        update_json(&doc, update);
        doc_end(&doc);
    } else if (!globals.quiet) {
        update_text(update, is_kept);
    } else if (update_has(update)) {
        puts(larder_digest_format(&update->update.digest, digest));
    }
    if (update->state == LARDER_UPDATE_CORRUPT)
        return fail_corrupt(cli, update);
    return is_status && !update_has(update) ? EXIT_UNCHANGED : 0;
}
