/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reading a user's name and password: from the terminal without showing it, or a line of standard
 * input.
 */
#include <stdbool.h>
#include <stddef.h>

#include <larder/error.h>

/* Longer than any token that is pasted. */
#define SECRET_BYTES_MAX ((size_t)64 * 1024)

/*
 * A line from the terminal after "<prompt>: ", without its newline; malloc'd, wiped by
 * secret_free(). is_hidden: not echoed, and the terminal is restored also when a signal comes
 * (which ends the reading: CANCELED). INVAL when there is no terminal, or nothing was typed.
 */
int secret_ask(const char *prompt, bool is_hidden, char **ret, struct larder_error *e);
/* All of standard input up to one newline at its end. INVAL when empty, LIMIT. */
int secret_read_stdin(char **ret, struct larder_error *e);
void secret_free(char *secret);
