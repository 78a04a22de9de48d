/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/command.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/suggest.h"

const struct command *const command_table[] = {
    &command_image,
    &command_image_get,
    &command_image_use,
    &command_image_overlay,
    &command_image_copy,
    &command_image_push,
    &command_image_add,
    &command_image_remove,
    &command_image_list,
    &command_image_show,
    &command_image_verify,
    &command_image_invalidate,
    &command_image_check,
    &command_image_adopt,
    &command_copy,
    &command_inspect,
    &command_list_tags,
    &command_delete,
    &command_diff,
    &command_login,
    &command_logout,
    &command_publish,
    &command_cosa,
    &command_cosa_push_container_manifest,
    &command_update,
    &command_update_check,
    &command_update_show,
    &command_update_fetch,
    &command_update_clear,
    &command_update_list,
    &command_update_watch,
    &command_status,
    &command_du,
    &command_gc,
    &command_scrub,
    &command_fsck,
    &command_maintain,
    &command_blob,
    &command_blob_put,
    &command_blob_cat,
    &command_blob_path,
    &command_blob_verify,
    &command_config,
    &command_config_show,
    &command_config_example,
    &command_completion,
    &command_completion_bash,
    &command_help,
    &command_man,
    NULL,
};

const struct exit_status exit_table[] = {
    {0, "done; what was asked about is valid"},
    {1, "failed, for a reason that is none of the following"},
    {2, "usage: an option, a name, a configuration value or a file's syntax is wrong"},
    {3, "not found"},
    {4, "outdated: upstream has other bytes now"},
    {5, "corrupt: bytes differ from their digest, or upstream contradicts itself"},
    {6, "gone upstream"},
    {7, "busy: in use, or locked by another process"},
    {8, "unknown: upstream could not be asked"},
    {EXIT_UNCHANGED, "unchanged: there is no update (only with --exit-code)"},
    {0, NULL},
};

const struct command *command_find(const char *name)
{
    for (size_t i = 0; command_table[i]; i++) {
        if (strcmp(command_table[i]->name, name) == 0)
            return command_table[i];
    }
    return NULL;
}

const struct command *command_alias(const char *program)
{
    const char *slash = strrchr(program, '/');

    if (strcmp(slash ? slash + 1 : program, "cmd-push-container-manifest") == 0)
        return &command_cosa_push_container_manifest;
    return NULL;
}

bool command_is_member(const struct command *member, const struct command *group)
{
    size_t n = strlen(group->name);

    return strncmp(member->name, group->name, n) == 0 && member->name[n] == ' ';
}

static int unknown_command(const char *word, struct larder_error *e)
{
    struct suggest near = SUGGEST_INIT(word);

    for (size_t i = 0; command_table[i]; i++) {
        if (command_table[i]->group == COMMAND_GROUP_HIDDEN)
            continue;
        suggest_offer(&near, command_table[i]->name);
        /* "larder get" is "larder image get" for most people. */
        if (strchr(command_table[i]->name, ' ') &&
            strcmp(strchr(command_table[i]->name, ' ') + 1, word) == 0) {
            near.nearest = command_table[i]->name;
            break;
        }
    }
    error_set(e, LARDER_INVAL, "unknown command '%s'", word);
    if (near.nearest)
        return error_hint(e, "did you mean `larder %s`?", near.nearest);
    return error_hint(e, "`larder help` lists the commands");
}

static int unknown_member(const struct command *group, const char *word, struct larder_error *e)
{
    size_t skip = strlen(group->name) + 1;
    struct suggest near = SUGGEST_INIT(word);

    for (size_t i = 0; command_table[i]; i++) {
        if (command_is_member(command_table[i], group))
            suggest_offer(&near, command_table[i]->name + skip);
    }
    error_set(e, LARDER_INVAL, "unknown command '%s %s'", group->name, word);
    if (near.nearest)
        return error_hint(e, "did you mean `larder %s %s`?", group->name, near.nearest);
    return error_hint(e, "`larder help %s` lists its commands", group->name);
}

int command_lookup(int argc, char *const argv[], const struct command **ret, int *ret_words,
                   struct larder_error *e)
{
    const struct command *group = command_find(argv[0]);
    size_t skip;

    if (!group)
        return unknown_command(argv[0], e);
    *ret_words = 1;
    if (group->run || argc < 2 || argv[1][0] == '-') {
        *ret = group;
        return 0;
    }
    skip = strlen(group->name) + 1;
    for (size_t i = 0; command_table[i]; i++) {
        if (command_is_member(command_table[i], group) &&
            strcmp(command_table[i]->name + skip, argv[1]) == 0) {
            *ret = command_table[i];
            *ret_words = 2;
            return 0;
        }
    }
    return unknown_member(group, argv[1], e);
}
