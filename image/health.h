/* What a cluster says of itself, for people who wonder why their I/O waits. */
#pragma once

#include <stddef.h>

#include "image/client.h"

/*
 * Writes a clause into @text: the cluster's health in its own words, or why it cannot be had. Takes
 * @timeout seconds at most. A client that waits for an answer is not made to ask again. Any thread
 * that may block.
 */
void cluster_health(struct rbd_client *client, unsigned timeout, char *text, size_t size);
