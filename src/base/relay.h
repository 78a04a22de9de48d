/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * An observer that may be called from any thread, in front of one that may not: what helper
 * threads tell waits until the owner's thread asks for it.
 *
 *     relay_new(observer, &relay, e);       the calling thread becomes the owner
 *     ... open things with relay_observer(relay), run threads that use them ...
 *     while (they run) observer_pump(relay_observer(relay));
 *     relay_free(relay);                    tells the rest
 *
 * Calls made by the owner's thread go straight through. Of progress only the latest is kept.
 */
#include <stdbool.h>

#include <larder/error.h>
#include <larder/observer.h>

#include "base/mem.h"

struct relay;

/* to: borrowed; NULL: silent. */
int relay_new(const struct larder_observer *to, struct relay **ret, struct larder_error *e);
/* By the owner's thread, when no other uses the observer any more. */
void relay_free(struct relay *relay);
DEFINE_CLEANUP(struct relay *, relay_free)
/* Lives as long as the relay. */
const struct larder_observer *relay_observer(struct relay *relay);

/*
 * Tells what waits in a relay, and asks whether to stop; the answer stays. By the owner's thread.
 * An observer that is no relay's (NULL, too) is only asked.
 */
bool observer_pump(const struct larder_observer *observer);
