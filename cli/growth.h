/*
 * What `stat` tells of the time between two looks: urbdd's counters only grow, and here is by how
 * much. A look is the object "ops" of a row of urbdd's answer; NULL is one at which all was 0.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "common/cleanup.h"

struct growth_bucket;

struct growth {
	double requests; /* that came to their end */
	double errors;	 /* those of them that failed */
	double bytes;	 /* of the others */

	/* Nanoseconds of all requests together: the latency and its parts. */
	double latency, frontend, queue, storage;

	struct growth_bucket *buckets; /* of the latency, in ascending order */
	size_t nr_buckets;
};

/* Of the requests of kind @op; NULL: of all kinds together. Give it to growth_free(). */
void growth_read(json_t *ops, json_t *before, const char *op, struct growth *ret);
void growth_free(struct growth *growth);

#define cleanup_growth cleanup(growth_free)

/* Of @ns, a sum over all requests: milliseconds for each of them. 0 where there was none. */
double growth_each(const struct growth *growth, double ns);

/* Milliseconds that @permille of a thousand requests did not exceed, up to an eighth too much. 0
 * where there was none. */
double growth_quantile(const struct growth *growth, unsigned permille);

/* KiB that a request without error had. 0 where there was none. */
double growth_size(const struct growth *growth);
