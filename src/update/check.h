/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One check, as check.c does it for larder_update_check() and round.c for many.
 */
#include "store/registry/registry.h"
#include "update/base/base.h"

/* What the checks of a round have in common; zero: nothing. */
struct check_context {
    struct remote_shared *shared; /* NULL */
    struct remote_limit *limit;   /* NULL: limits are waited for */
    bool is_dry;                  /* nothing is kept */
};

/* What was recorded before. */
struct check_before {
    enum larder_update_state state; /* STAGED is told as AVAILABLE */
    struct larder_digest digest;    /* of the update, when AVAILABLE */
};

/* ret->size stays; nothing is changed on failure but *ret_before and what the context points to.
 * ret_before may be NULL. */
int check_run(const struct update_ask *ask, const struct check_context *context,
              struct larder_update *ret, struct check_before *ret_before, struct larder_error *e);
