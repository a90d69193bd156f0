/* stat: how much devices and exports serve, and where the time goes; in the manner of iostat. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/macros.h"
#include "common/parse.h"

#define INTERVAL_MAX 86400
#define NS_PER_MS    1e6
#define NAME_WIDTH   12
#define NUMBER_WIDTH 8

/* How the numbers are called, and the digits behind their points. */
static const struct column {
	const char *title;
	int digits;
} columns[] = {
	{ "r/s", 1 },	  { "w/s", 1 },	     { "o/s", 1 },    { "rMB/s", 1 },	 { "wMB/s", 1 },
	{ "r_await", 3 }, { "w_await", 3 },  { "p99", 3 },    { "frontend", 3 }, { "queue", 3 },
	{ "storage", 3 }, { "inflight", 0 }, { "errors", 0 },
};

#define NR_COLUMNS ARRAY_SIZE(columns)

/* --- Numbers ---------------------------------------------------------------------------------- */

static double number(json_t *object, const char *name)
{
	return (double)json_integer_value(json_object_get(object, name));
}

/* What an op has more of than before; @before may be NULL. */
static double grown(json_t *now, json_t *before, const char *name)
{
	return number(now, name) - number(before, name);
}

static double part_grown(json_t *now, json_t *before, const char *part)
{
	return grown(json_object_get(now, part), json_object_get(before, part), "total_ns");
}

/* What happened to a row between two looks, all ops together. */
struct sums {
	double requests, errors, frontend, queue, storage;
};

static struct sums sum_up(json_t *ops, json_t *ops_before)
{
	struct sums sums = { 0 };
	const char *name;
	json_t *op;

	json_object_foreach(ops, name, op) {
		json_t *before = json_object_get(ops_before, name);

		sums.requests += grown(op, before, "requests");
		sums.errors += grown(op, before, "errors");
		sums.frontend += part_grown(op, before, "frontend");
		sums.queue += part_grown(op, before, "queue");
		sums.storage += part_grown(op, before, "storage");
	}
	return sums;
}

/* Milliseconds that each request of an op took. */
static double await(json_t *ops, json_t *ops_before, const char *op)
{
	json_t *now = json_object_get(ops, op), *before = json_object_get(ops_before, op);
	double requests = grown(now, before, "requests");

	return requests > 0 ? part_grown(now, before, "latency") / requests / NS_PER_MS : 0;
}

/* --- The 99th percentile, from what the buckets have more than before ------------------------- */

struct bucket {
	json_int_t bound; /* ns */
	double count;
};

static double bucket_count(json_t *op, json_int_t bound)
{
	json_t *bucket;
	size_t i;

	json_array_foreach(json_object_get(op, "buckets"), i, bucket) {
		if (json_integer_value(json_array_get(bucket, 0)) == bound)
			return (double)json_integer_value(json_array_get(bucket, 1));
	}
	return 0;
}

static size_t count_buckets(json_t *ops)
{
	const char *name;
	size_t count = 0;
	json_t *op;

	json_object_foreach(ops, name, op)
		count += json_array_size(json_object_get(op, "buckets"));
	return count;
}

static struct bucket *add_buckets(json_t *op, json_t *before, struct bucket *next)
{
	json_t *bucket;
	size_t i;

	json_array_foreach(json_object_get(op, "buckets"), i, bucket) {
		json_int_t bound = json_integer_value(json_array_get(bucket, 0));

		*next++ = (struct bucket){ bound,
					   bucket_count(op, bound) - bucket_count(before, bound) };
	}
	return next;
}

static int by_bound(const void *a, const void *b)
{
	const struct bucket *one = a, *other = b;

	return (one->bound > other->bound) - (one->bound < other->bound);
}

/* Milliseconds that 99 of 100 requests, of all ops, did not exceed. */
static double percentile_99(json_t *ops, json_t *ops_before, double requests)
{
	size_t count = count_buckets(ops), i = 0;
	cleanup_free struct bucket *buckets = calloc(count + 1, sizeof(*buckets));
	struct bucket *next = buckets;
	double left = requests * 0.99;
	const char *name;
	json_t *op;

	if (!buckets || requests <= 0)
		return 0;
	json_object_foreach(ops, name, op)
		next = add_buckets(op, json_object_get(ops_before, name), next);
	qsort(buckets, count, sizeof(*buckets), by_bound);
	while (i < count && (left -= buckets[i].count) > 0)
		i++;
	return (double)buckets[MIN(i, count - 1)].bound / NS_PER_MS;
}

/* --- Rows ------------------------------------------------------------------------------------- */

static const char *name_of(json_t *row)
{
	const char *device = json_text(row, "device");

	return *device ? device : json_text(row, "export");
}

static bool same_row(json_t *a, json_t *b)
{
	return strcmp(name_of(a), name_of(b)) == 0 &&
	       strcmp(json_text(a, "uri"), json_text(b, "uri")) == 0;
}

/* The same device at the look before. One that was mapped anew since is younger than that. */
static json_t *find_before(json_t *rows, json_t *row)
{
	json_t *other;
	size_t i;

	json_array_foreach(rows, i, other) {
		if (same_row(other, row) && number(other, "age_ns") < number(row, "age_ns"))
			return other;
	}
	return NULL;
}

static double op_rate(json_t *ops, json_t *before, const char *op, const char *what, double seconds)
{
	return grown(json_object_get(ops, op), json_object_get(before, op), what) / seconds;
}

static void fill_values(json_t *row, json_t *before, double *values)
{
	json_t *ops = json_object_get(row, "ops"), *old = json_object_get(before, "ops");
	double seconds = grown(row, before, "age_ns") / 1e9;
	struct sums sums = sum_up(ops, old);
	double each = sums.requests > 0 ? sums.requests * NS_PER_MS : 1;
	double reads = op_rate(ops, old, "read", "requests", seconds);
	double writes = op_rate(ops, old, "write", "requests", seconds);
	const double all[] = {
		reads,
		writes,
		sums.requests / seconds - reads - writes,
		op_rate(ops, old, "read", "bytes", seconds) / 1e6,
		op_rate(ops, old, "write", "bytes", seconds) / 1e6,
		await(ops, old, "read"),
		await(ops, old, "write"),
		percentile_99(ops, old, sums.requests),
		sums.frontend / each,
		sums.queue / each,
		sums.storage / each,
		number(row, "in_flight"),
		sums.errors,
	};

	_Static_assert(ARRAY_SIZE(all) == NR_COLUMNS, "a value a column");
	memcpy(values, all, sizeof(all));
}

/* By its URI where another export, at another address, has its name. */
static const char *shown_name(json_t *rows, json_t *row)
{
	json_t *other;
	size_t i;

	json_array_foreach(rows, i, other) {
		if (other != row && strcmp(name_of(other), name_of(row)) == 0)
			return json_text(row, "uri");
	}
	return name_of(row);
}

static int name_width(json_t *rows)
{
	size_t width = NAME_WIDTH, i;
	json_t *row;

	json_array_foreach(rows, i, row)
		width = MAX(width, strlen(shown_name(rows, row)));
	return (int)width;
}

static void print_head(int width)
{
	printf("%-*s", width, "device");
	for (size_t i = 0; i < NR_COLUMNS; i++)
		printf(" %*s", NUMBER_WIDTH, columns[i].title);
	putchar('\n');
}

static void print_row(const char *name, json_t *row, json_t *before, int width)
{
	double values[NR_COLUMNS];

	fill_values(row, before, values);
	printf("%-*s", width, name);
	/* What is left of the rates may come out as -0. */
	for (size_t i = 0; i < NR_COLUMNS; i++)
		printf(" %*.*f", NUMBER_WIDTH, columns[i].digits, values[i] > 0 ? values[i] : 0.0);
	putchar('\n');
}

static void print_plain(json_t *rows, json_t *before)
{
	int width = name_width(rows);
	json_t *row;
	size_t i;

	print_head(width);
	json_array_foreach(rows, i, row)
		print_row(shown_name(rows, row), row, find_before(before, row), width);
}

/* --- The command ------------------------------------------------------------------------------ */

static int take_json(struct cli *cli, const char *value)
{
	cli->json = true;
	return CLI_CONTINUE;
}

static int take_watch(struct cli *cli, const char *value)
{
	if (cli->interval == 0)
		cli->interval = 1;
	return CLI_CONTINUE;
}

static int take_interval(struct cli *cli, const char *value)
{
	if (parse_unsigned(value, 1, INTERVAL_MAX, &cli->interval) < 0)
		return usage_error(cli, "--interval wants seconds from 1 to %d, not '%s'.",
				   INTERVAL_MAX, value);
	return CLI_CONTINUE;
}

static const struct cli_option stat_options[] = {
	{ .name = "json", .help = "the same as --format json", .take = take_json },
	{ .name = "watch",
	  .letter = 'w',
	  .help = "go on, every second: what happened since the last time",
	  .take = take_watch },
	{ .name = "interval",
	  .letter = 'i',
	  .argument = "SECONDS",
	  .help = "go on, every so many seconds",
	  .take = take_interval },
	{ 0 },
};

static void set_operand(struct cli *cli)
{
	const char *name = cli->nr_operands > 0 ? cli->operands[0] : NULL;
	cleanup_free char *real = name && *name == '/' ? realpath(name, NULL) : NULL;

	if (name)
		json_object_set_new(cli->params, *name == '/' ? "device" : "export",
				    json_string(real ? real : name));
}

/* One look; *before is what the one before saw, and becomes what this one sees. */
static int look(struct cli *cli, json_t **before, struct error *err)
{
	cleanup_json json_t *result = NULL;
	json_t *rows;
	int r = cli_call(cli, "stat", json_incref(cli->params), CALL_TIMEOUT, &result, err);

	if (r < 0)
		return r;
	rows = json_object_get(result, "rows");
	if (cli->json)
		print_json(cli, rows);
	else
		print_plain(rows, *before);
	fflush(stdout);
	json_decref(*before);
	*before = json_incref(rows);
	return 0;
}

static int run_stat(struct cli *cli)
{
	cleanup_json json_t *before = NULL;
	struct error err = ERROR_NONE;

	set_operand(cli);
	for (;;) {
		if (look(cli, &before, &err) < 0)
			return failure(&err);
		if (cli->interval == 0 || ferror(stdout))
			return EXIT_OK;
		nanosleep(&(struct timespec){ .tv_sec = cli->interval }, NULL);
		if (!cli->json)
			putchar('\n');
	}
}

const struct command stat_command = {
	.name = "stat",
	.arguments = "[DEVICE|EXPORT]",
	.summary = "Show how much devices and exports serve, and where the time goes.",
	.details =
		"Rates are a second, since the device is there; with --watch, from the second\n"
		"time on, since the time before. o/s: what neither reads nor writes. Milliseconds\n"
		"a request: r_await and w_await, of reads and writes; p99, which 99 of 100 do not\n"
		"exceed; and what all of them together consist of: frontend (until the storage is\n"
		"asked), storage, and queue (until the queue's thread sees the answer).\n"
		"With --json: the daemon's counters.\n",
	.max_operands = 1,
	.method = "stat",
	.options = { format_options, stat_options },
	.run = run_stat,
};
