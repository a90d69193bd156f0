/* stat: how much devices and exports serve, and where the time goes; in the manner of iostat. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/growth.h"
#include "common/macros.h"
#include "common/parse.h"

#define INTERVAL_MAX 86400
#define NAME_WIDTH   12

/* How numbers are called, and how wide they are. */
struct column {
	const char *title;
	int width;
	int digits; /* behind the point, where there is room */
};

static const struct column columns[] = {
	{ "r/s", 6, 1 },     { "w/s", 6, 1 },	  { "o/s", 5, 1 },    { "rMB/s", 6, 1 },
	{ "wMB/s", 6, 1 },   { "areq-sz", 7, 1 }, { "aqu-sz", 6, 2 }, { "inflight", 8, 0 },
	{ "r_await", 7, 3 }, { "w_await", 7, 3 }, { "p99", 6, 3 },    { "errors", 6, 0 },
};

/* With --extended. */
static const struct column op_columns[] = {
	{ "req/s", 6, 1 },    { "MB/s", 6, 1 },	 { "areq-sz", 7, 1 }, { "aqu-sz", 6, 2 },
	{ "await", 6, 3 },    { "p50", 6, 3 },	 { "p99", 6, 3 },     { "p99.9", 6, 3 },
	{ "frontend", 8, 3 }, { "queue", 6, 3 }, { "storage", 7, 3 }, { "errors", 6, 0 },
};

#define NR_COLUMNS    ARRAY_SIZE(columns)
#define NR_OP_COLUMNS ARRAY_SIZE(op_columns)

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

/* What was mapped anew, or has another daemon, since the look before has begun to count anew. */
static json_t *find_before(json_t *rows, json_t *row)
{
	json_t *other;
	size_t i;

	json_array_foreach(rows, i, other) {
		if (same_row(other, row) &&
		    json_number(other, "since_ns") == json_number(row, "since_ns") &&
		    json_number(other, "age_ns") < json_number(row, "age_ns"))
			return other;
	}
	return NULL;
}

/* What one line tells of: a row, or one kind of its requests, between two looks. */
struct span {
	json_t *row, *ops, *before; /* before: its ops, or NULL */
	double seconds;
};

static void span_begin(json_t *row, json_t *before, struct span *ret)
{
	*ret = (struct span){
		.row = row,
		.ops = json_object_get(row, "ops"),
		.before = json_object_get(before, "ops"),
		.seconds = (json_number(row, "age_ns") - json_number(before, "age_ns")) / 1e9,
	};
}

/* Requests in flight on average, as each is there for as long as it takes. */
static double queue_size(const struct span *span, const struct growth *growth)
{
	return growth->latency / 1e9 / span->seconds;
}

static void fill_values(const struct span *span, double *values)
{
	cleanup_growth struct growth all, reads, writes;
	struct growth data;

	growth_read(span->ops, span->before, NULL, &all);
	growth_read(span->ops, span->before, "read", &reads);
	growth_read(span->ops, span->before, "write", &writes);
	data = (struct growth){ .requests = reads.requests + writes.requests,
				.errors = reads.errors + writes.errors,
				.bytes = reads.bytes + writes.bytes };
	memcpy(values,
	       (double[NR_COLUMNS]){
		       reads.requests / span->seconds,
		       writes.requests / span->seconds,
		       (all.requests - data.requests) / span->seconds,
		       reads.bytes / span->seconds / 1e6,
		       writes.bytes / span->seconds / 1e6,
		       growth_size(&data),
		       queue_size(span, &all),
		       json_number(span->row, "in_flight"),
		       growth_each(&reads, reads.latency),
		       growth_each(&writes, writes.latency),
		       growth_quantile(&all, 990),
		       all.errors,
	       },
	       NR_COLUMNS * sizeof(*values));
}

static void fill_op_values(const struct span *span, const char *op, double *values)
{
	cleanup_growth struct growth growth;

	growth_read(span->ops, span->before, op, &growth);
	memcpy(values,
	       (double[NR_OP_COLUMNS]){
		       growth.requests / span->seconds,
		       growth.bytes / span->seconds / 1e6,
		       growth_size(&growth),
		       queue_size(span, &growth),
		       growth_each(&growth, growth.latency),
		       growth_quantile(&growth, 500),
		       growth_quantile(&growth, 990),
		       growth_quantile(&growth, 999),
		       growth_each(&growth, growth.frontend),
		       growth_each(&growth, growth.queue),
		       growth_each(&growth, growth.storage),
		       growth.errors,
	       },
	       NR_OP_COLUMNS * sizeof(*values));
}

/* --- Lines ------------------------------------------------------------------------------------ */

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

static int op_width(json_t *rows)
{
	size_t width = strlen("op"), i;
	const char *op;
	json_t *row, *figures;

	json_array_foreach(rows, i, row)
		json_object_foreach(json_object_get(row, "ops"), op, figures)
			width = MAX(width, strlen(op));
	return (int)width;
}

static void print_titles(const struct column *table, size_t count)
{
	for (size_t i = 0; i < count; i++)
		printf(" %*s", table[i].width, table[i].title);
	putchar('\n');
}

/* Of a large number the digits behind the point matter less than that it stays in its column. */
static int digits_of(const struct column *column, double value)
{
	int digits = value < 10 ? 3 : value < 100 ? 2 : value < 1000 ? 1 : 0;

	return MIN(digits, column->digits);
}

/* What is left of a difference may come out as -0. */
static void print_values(const struct column *table, const double *values, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		double value = values[i] > 0 ? values[i] : 0.0;

		printf(" %*.*f", table[i].width, digits_of(&table[i], value), value);
	}
	putchar('\n');
}

static void print_plain(json_t *rows, json_t *before)
{
	double values[NR_COLUMNS];
	int width = name_width(rows);
	struct span span;
	json_t *row;
	size_t i;

	printf("%-*s", width, "device");
	print_titles(columns, NR_COLUMNS);
	json_array_foreach(rows, i, row) {
		span_begin(row, find_before(before, row), &span);
		fill_values(&span, values);
		printf("%-*s", width, shown_name(rows, row));
		print_values(columns, values, NR_COLUMNS);
	}
}

/* A line for each kind of request that there ever was; one of zeroes where there was none. */
static void print_ops(const char *name, const struct span *span, int width, int width_op)
{
	double values[NR_OP_COLUMNS] = { 0 };
	json_t *figures;
	const char *op;

	if (json_object_size(span->ops) == 0) {
		printf("%-*s %-*s", width, name, width_op, "-");
		print_values(op_columns, values, NR_OP_COLUMNS);
	}
	json_object_foreach(span->ops, op, figures) {
		fill_op_values(span, op, values);
		printf("%-*s %-*s", width, name, width_op, op);
		print_values(op_columns, values, NR_OP_COLUMNS);
	}
}

static void print_extended(json_t *rows, json_t *before)
{
	int width = name_width(rows), width_op = op_width(rows);
	struct span span;
	json_t *row;
	size_t i;

	printf("%-*s %-*s", width, "device", width_op, "op");
	print_titles(op_columns, NR_OP_COLUMNS);
	json_array_foreach(rows, i, row) {
		span_begin(row, find_before(before, row), &span);
		print_ops(shown_name(rows, row), &span, width, width_op);
	}
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

static int take_extended(struct cli *cli, const char *value)
{
	cli->more = true;
	return CLI_CONTINUE;
}

static const struct cli_option stat_options[] = {
	{ .name = "json", .help = "the same as --format json", .take = take_json },
	{ .name = "extended",
	  .letter = 'x',
	  .help = "a line for each kind of request, with percentiles and where the time goes",
	  .take = take_extended },
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

static int take_operand(struct cli *cli)
{
	if (cli->nr_operands == 0)
		return CLI_CONTINUE;
	if (cli->operands[0][0] != '/')
		return export_take_any_name(cli, "export", cli->operands[0]);
	device_take_path(cli, cli->operands[0]);
	return CLI_CONTINUE;
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
	else if (cli->more)
		print_extended(rows, *before);
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
	int code = take_operand(cli);

	if (code == CLI_CONTINUE)
		code = image_check(cli);
	if (code != CLI_CONTINUE)
		return code;
	if (cli->json && cli->more)
		return usage_error(cli, "--extended is for people: json has all of it anyway.");
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
	.arguments = "[DEVICE|IMAGE|EXPORT]",
	.summary = "Show how much devices and exports serve, and where the time goes.",
	.details =
		"Rates are a second, since the device is there; with --watch, from the second\n"
		"time on, since the time before. o/s: what neither reads nor writes. areq-sz: KiB\n"
		"that a read or write had; aqu-sz: requests in flight on average; inflight: now.\n"
		"Milliseconds: r_await and w_await, that a read and a write took; p99, that 99 of\n"
		"100 requests did not exceed.\n"
		"With --extended, by the kind of request: what it took (await), what half of\n"
		"them, 99 of 100 and 999 of 1000 did not exceed (p50, p99, p99.9), and what the\n"
		"await consists of: frontend (until the storage is asked), storage, and queue\n"
		"(until the queue's thread sees the answer).\n"
		"With --json: the daemon's counters.\n",
	.max_operands = 1,
	.method = "stat",
	.options = { format_options, stat_options },
	.run = run_stat,
};
