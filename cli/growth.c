#include "cli/growth.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "common/macros.h"

#define NS_PER_MS 1e6

/* What one look at one kind of request saw. */
struct growth_bucket {
	json_int_t bound; /* ns */
	double count;	  /* negative: of the look before */
};

static double grown(json_t *now, json_t *before, const char *name)
{
	return json_number(now, name) - json_number(before, name);
}

static double part_grown(json_t *now, json_t *before, const char *part)
{
	return grown(json_object_get(now, part), json_object_get(before, part), "total_ns");
}

static void add_counters(struct growth *growth, json_t *op, json_t *before)
{
	growth->requests += grown(op, before, "requests");
	growth->errors += grown(op, before, "errors");
	growth->bytes += grown(op, before, "bytes");
	growth->latency += part_grown(op, before, "latency");
	growth->frontend += part_grown(op, before, "frontend");
	growth->queue += part_grown(op, before, "queue");
	growth->storage += part_grown(op, before, "storage");
}

/* --- Buckets ---------------------------------------------------------------------------------- */

static void add_buckets(struct growth *growth, json_t *op, int sign)
{
	json_t *buckets = json_object_get(op, "buckets"), *bucket;
	size_t count = growth->nr_buckets + json_array_size(buckets), i;
	struct growth_bucket *all = realloc(growth->buckets, (count + 1) * sizeof(*all));

	if (!all) {
		note("Out of memory.");
		exit(EXIT_FAILED);
	}
	growth->buckets = all;
	json_array_foreach(buckets, i, bucket)
		all[growth->nr_buckets++] = (struct growth_bucket){
			.bound = json_integer_value(json_array_get(bucket, 0)),
			.count = sign * (double)json_integer_value(json_array_get(bucket, 1)),
		};
}

/* Of one bound, the look before goes first: what is added up on the way is never too much. */
static int in_order(const void *a, const void *b)
{
	const struct growth_bucket *one = a, *other = b;

	if (one->bound != other->bound)
		return one->bound > other->bound ? 1 : -1;
	return (one->count > other->count) - (one->count < other->count);
}

/* --- All of it -------------------------------------------------------------------------------- */

void growth_read(json_t *ops, json_t *before, const char *op, struct growth *ret)
{
	const char *name;
	json_t *now;

	*ret = (struct growth){ 0 };
	json_object_foreach(ops, name, now) {
		json_t *then = json_object_get(before, name);

		if (op && strcmp(name, op) != 0)
			continue;
		add_counters(ret, now, then);
		add_buckets(ret, now, 1);
		add_buckets(ret, then, -1);
	}
	if (ret->nr_buckets > 0)
		qsort(ret->buckets, ret->nr_buckets, sizeof(*ret->buckets), in_order);
}

void growth_free(struct growth *growth)
{
	free(growth->buckets);
}

double growth_each(const struct growth *growth, double ns)
{
	return growth->requests > 0 ? ns / growth->requests / NS_PER_MS : 0;
}

double growth_quantile(const struct growth *growth, unsigned permille)
{
	double left = growth->requests * permille / 1000;
	size_t i = 0;

	if (growth->requests <= 0 || growth->nr_buckets == 0)
		return 0;
	while (i < growth->nr_buckets && (left -= growth->buckets[i].count) > 0)
		i++;
	return (double)growth->buckets[MIN(i, growth->nr_buckets - 1)].bound / NS_PER_MS;
}

double growth_size(const struct growth *growth)
{
	double served = growth->requests - growth->errors;

	return served > 0 ? growth->bytes / served / 1024 : 0;
}
