/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* A transfer from t->source_fd (transfer_local.c). Inside src/net. */
#include "net/transfer/transfer_feed.h"

int transfer_local_run(struct feed *f, struct larder_error *e);
