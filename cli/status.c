/* status: the daemon, its devices and exports, for people and (json, as urbdd answers) for
 * programs. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/spec.h"

/* --- Values ----------------------------------------------------------------------------------- */

static void print_size(json_int_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB" };
	double value = (double)bytes;
	unsigned unit = 0;

	while (value >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		unit++;
	}
	if (unit > 0)
		printf("%.4g %s (%" JSON_INTEGER_FORMAT " bytes)", value, units[unit], bytes);
	else
		printf("%" JSON_INTEGER_FORMAT " bytes", bytes);
}

static void print_time(json_int_t seconds)
{
	time_t when = (time_t)seconds;
	struct tm local;
	char text[40];

	if (localtime_r(&when, &local) && strftime(text, sizeof(text), "%F %T %z", &local))
		fputs(text, stdout);
}

static void print_pairs(json_t *object)
{
	const char *name, *comma = "";
	json_t *value;

	json_object_foreach(object, name, value) {
		printf("%s%s=%s", comma, name,
		       json_is_string(value) ? json_string_value(value) : "");
		comma = ",";
	}
}

static void print_value(json_t *value, char kind)
{
	if (json_is_string(value))
		fputs(json_string_value(value), stdout);
	else if (json_is_boolean(value))
		fputs(json_is_true(value) ? "yes" : "no", stdout);
	else if (json_is_object(value))
		print_pairs(value);
	else if (kind == 's')
		print_size(json_integer_value(value));
	else if (kind == 't')
		print_time(json_integer_value(value));
	else
		printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
}

/* --- Devices and exports ---------------------------------------------------------------------- */

struct row {
	const char *member, *label;
	char kind; /* of an integer: 's' bytes, 't' seconds since 1970, else a number */
};

static const struct row device_rows[] = {
	{ "state", "state", 0 },
	{ "frontend", "frontend", 0 },
	{ "reason", "because", 0 },
	{ "read_only", "read-only", 0 },
	{ "size", "size", 's' },
	{ "image_size", "image size", 's' },
	{ "block_size", "block size", 's' },
	{ "queues", "queues", 0 },
	{ "queue_depth", "queue depth", 0 },
	{ "in_flight", "in flight", 0 },
	{ "features", "features", 0 },
	{ "cluster", "cluster", 0 },
	{ "user", "user", 0 },
	{ "client", "client", 0 },
	{ "sharing", "sharing", 0 },
	{ "lock", "lock", 0 },
	{ "io_timeout", "I/O timeout", 0 },
	{ "options", "options", 0 },
	{ "mapped_at", "mapped at", 't' },
	{ "quiesce_hook", "quiesce hook", 0 },
	{ "error", "error", 0 },
	{ 0 },
};

static const struct row export_rows[] = {
	{ "state", "state", 0 },
	{ "reason", "because", 0 },
	{ "read_only", "read-only", 0 },
	{ "tls", "TLS", 0 },
	{ "clients", "clients", 0 },
	{ "quiesce_hook", "quiesce hook", 0 },
	{ 0 },
};

/* The image's size is the device's, but after a resize that the kernel could not follow; and there
 * is a timeout where one was given. */
static bool is_usual(json_t *object, const char *member)
{
	json_t *value = json_object_get(object, member);

	if (strcmp(member, "image_size") == 0)
		return json_equal(value, json_object_get(object, "size"));
	return strcmp(member, "io_timeout") == 0 && json_integer_value(value) == 0;
}

static bool worth_showing(json_t *value)
{
	if (json_is_string(value))
		return *json_string_value(value);
	return json_is_integer(value) || json_is_boolean(value) || json_object_size(value) > 0;
}

static void print_settings(json_t *row)
{
	const char *name;
	json_t *value;

	json_object_foreach(json_object_get(row, "settings"), name, value)
		printf("  %-12s %s=%s\n", "setting", name, json_string_value(value));
}

static void print_rows(json_t *object, const struct row *rows)
{
	for (; rows->member; rows++) {
		json_t *value = json_object_get(object, rows->member);

		if (!worth_showing(value) || is_usual(object, rows->member))
			continue;
		printf("  %-12s ", rows->label);
		print_value(value, rows->kind);
		putchar('\n');
	}
	print_settings(object);
}

static void print_device(json_t *device)
{
	cleanup_free char *spec = spec_format(device);
	const char *path = json_text(device, "device");

	printf("%s: %s\n", *path ? path : "(no device yet)", spec ? spec : "");
	print_rows(device, device_rows);
}

static void print_export(json_t *export)
{
	cleanup_free char *spec = spec_format(export);
	const char *uri = json_text(export, "uri");

	if (*uri)
		printf("%s: %s\n", uri, spec ? spec : "");
	else
		printf("%s at %s: %s\n", json_text(export, "name"), json_text(export, "listen"),
		       spec ? spec : "");
	print_rows(export, export_rows);
}

/* --- The daemon ------------------------------------------------------------------------------- */

static void print_frontend(const char *name, json_t *frontend)
{
	const char *reason = json_text(frontend, "reason");

	if (json_is_true(json_object_get(frontend, "available")))
		printf("%s: available\n", name);
	else
		printf("%s: not available%s%s\n", name, *reason ? ": " : "", reason);
}

static void print_daemon(json_t *status)
{
	json_int_t queues = json_integer_value(json_object_get(status, "queues"));
	json_t *frontend, *orphan;
	const char *name;
	size_t i;

	printf("urbdd %s, pid %" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT " queue thread%s\n",
	       json_text(status, "version"), json_integer_value(json_object_get(status, "pid")),
	       queues, queues == 1 ? "" : "s");
	json_object_foreach(json_object_get(status, "frontends"), name, frontend)
		print_frontend(name, frontend);
	if (json_array_size(json_object_get(status, "devices")) == 0 &&
	    json_array_size(json_object_get(status, "exports")) == 0)
		puts("no devices and no exports");
	json_array_foreach(json_object_get(status, "orphans"), i, orphan)
		printf("%s: waits in the kernel for a server that died, without a record; urbd "
		       "unmap --force removes it\n",
		       json_string_value(orphan));
}

static void print_plain(json_t *status, bool daemon)
{
	json_t *device, *export;
	size_t i;

	if (daemon)
		print_daemon(status);
	json_array_foreach(json_object_get(status, "devices"), i, device) {
		if (daemon || i > 0)
			putchar('\n');
		print_device(device);
	}
	json_array_foreach(json_object_get(status, "exports"), i, export) {
		putchar('\n');
		print_export(export);
	}
}

static int run_status(struct cli *cli)
{
	cleanup_json json_t *status = NULL;
	struct error err = ERROR_NONE;
	int code = CLI_CONTINUE;

	if (cli->nr_operands > 0)
		code = device_take(cli, cli->operands[0]);
	if (code != CLI_CONTINUE)
		return code;
	if (cli_call(cli, "status", json_incref(cli->params), CALL_TIMEOUT, &status, &err) < 0)
		return failure(&err);
	if (cli->json)
		print_json(cli, status);
	else
		print_plain(status, cli->nr_operands == 0);
	return EXIT_OK;
}

const struct command status_command = {
	.name = "status",
	.arguments = "[DEVICE|IMAGE]",
	.summary = "Show the daemon with its devices and exports, or one device, in detail.",
	.max_operands = 1,
	.method = "status",
	.options = { format_options },
	.run = run_status,
};
