/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Every command's row, for the table in command.c.
 */
#include "cli/command.h"

extern const struct command command_image;
extern const struct command command_image_get;
extern const struct command command_image_use;
extern const struct command command_image_overlay;
extern const struct command command_image_copy;
extern const struct command command_image_push;
extern const struct command command_image_add;
extern const struct command command_image_remove;
extern const struct command command_image_list;
extern const struct command command_image_show;
extern const struct command command_image_verify;
extern const struct command command_image_invalidate;
extern const struct command command_image_check;
extern const struct command command_image_adopt;
extern const struct command command_copy;
extern const struct command command_inspect;
extern const struct command command_list_tags;
extern const struct command command_delete;
extern const struct command command_diff;
extern const struct command command_login;
extern const struct command command_logout;
extern const struct command command_publish;
extern const struct command command_cosa;
extern const struct command command_cosa_push_container_manifest;
extern const struct command command_update;
extern const struct command command_update_check;
extern const struct command command_update_show;
extern const struct command command_update_fetch;
extern const struct command command_update_clear;
extern const struct command command_update_list;
extern const struct command command_update_watch;
extern const struct command command_status;
extern const struct command command_du;
extern const struct command command_gc;
extern const struct command command_scrub;
extern const struct command command_fsck;
extern const struct command command_maintain;
extern const struct command command_blob;
extern const struct command command_blob_put;
extern const struct command command_blob_cat;
extern const struct command command_blob_path;
extern const struct command command_blob_verify;
extern const struct command command_config;
extern const struct command command_config_show;
extern const struct command command_config_example;
extern const struct command command_completion;
extern const struct command command_completion_bash;
extern const struct command command_help;
extern const struct command command_man;
