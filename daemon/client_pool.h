/*
 * The clients of a daemon: which images share a connection to a cluster.
 *
 * A connection for each image costs threads, sockets and memory; one for all of them is a
 * bottleneck, and one fate for every device. So devices that name the same cluster, user, secret
 * and options share a few connections, by policy. Any thread that may block.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "control/schema.h"
#include "image/client.h"

struct client_pool;
struct pooled_client; /* one connection; each get counts as one image on it */

/*
 * How a device's client is shared: "shared" is one connection for all, "pool:N" one for each of
 * the first N and those shared evenly by what follows, "isolated" one of its own.
 */
struct client_policy {
	bool isolated;
	unsigned max; /* connections of one key */
};

#define CLIENT_POLICY_DEFAULT ((struct client_policy){ .max = CONTROL_CLIENTS_DEFAULT })

/* Reads a policy; NULL and "" are the default. 0, or -EINVAL with a sentence. */
int client_policy_parse(const char *text, struct client_policy *ret, struct error *err);

int client_pool_create(struct client_pool **ret, struct error *err);

/* Waits for disconnects under way. Every client has been put. NULL is allowed. */
void client_pool_destroy(struct client_pool *pool);

/*
 * A connected client for one more image: a shared one, or a new one (which takes up to
 * config->timeout seconds; callers with the same configuration wait for the same attempt,
 * each for its own timeout). @policy
 * as client_policy_parse() takes it. Give the client back with client_pool_put(). 0, or a negative
 * errno with a sentence.
 */
int client_pool_get(struct client_pool *pool, const char *policy,
		    const struct rbd_client_config *config, struct pooled_client **ret,
		    struct error *err);

struct rbd_client *pooled_client_rbd(struct pooled_client *client);

/* One image fewer. The last one disconnects, on a thread of the pool's. NULL is allowed. */
void client_pool_put(struct client_pool *pool, struct pooled_client *client);

/* @client is of no use any more (blocklisted): nobody else gets it. Its holders still put it. */
void client_pool_retire(struct client_pool *pool, struct pooled_client *client);
