/* list: the columns and members of rbd(8)'s showmapped, so that what reads that reads this. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/table.h"
#include "control/spec.h"

static const char *const columns[] = { "id",	 "pool",     "namespace", "image", "snap",
				       "device", "frontend", "access",	  "state", "clients" };

#define NR_COLUMNS	6 /* of them: the field's */
#define NR_COLUMNS_LONG ARRAY_SIZE(columns)

static bool is_rbd(json_t *device)
{
	const char *type = json_text(device, "type");

	return !*type || strcmp(type, "rbd") == 0;
}

/* A file or null image goes by its spec. malloc'ed. */
static char *image_cell(json_t *device)
{
	char *text = is_rbd(device) ? strdup(json_text(device, "image")) : spec_format(device);

	return text ? text : strdup("");
}

/* --- json ------------------------------------------------------------------------------------- */

/* As urbdd gives them, where it does. */
static const char *const more_members[] = { "state", "stalled", "read_only", "uri",
					    "name",  "listen",	"tls",	     "clients" };

static json_t *json_row(json_t *device)
{
	cleanup_free char *image = image_cell(device);
	json_t *id = json_object_get(device, "id"), *row;

	row = json_pack("{so ss ss ss ss ss ss}", "id", id ? json_incref(id) : json_string(""),
			"pool", json_text(device, "pool"), "namespace",
			json_text(device, "namespace"), "image", image, "snap",
			json_text(device, "snapshot"), "device", json_text(device, "device"),
			"frontend", json_text(device, "frontend"));
	for (size_t i = 0; i < ARRAY_SIZE(more_members); i++)
		json_object_set(row, more_members[i], json_object_get(device, more_members[i]));
	return row;
}

/* An export has a URI where a device has its path; "device" is empty, so that nobody opens it. */
static json_t *json_export_row(json_t *export)
{
	json_t *row = json_row(export);

	json_object_set_new(row, "frontend", json_string("export"));
	return row;
}

static void print_as_json(const struct cli *cli, json_t *devices, json_t *exports)
{
	cleanup_json json_t *rows = json_array();
	json_t *row;
	size_t i;

	json_array_foreach(devices, i, row)
		json_array_append_new(rows, json_row(row));
	json_array_foreach(exports, i, row)
		json_array_append_new(rows, json_export_row(row));
	print_json(cli, rows);
}

/* --- plain ------------------------------------------------------------------------------------ */

/* The texts that are made for a row. */
struct made {
	char *id, *image, *clients;
};

static char *number_cell(json_t *number)
{
	char *text;

	if (!json_is_integer(number))
		return strdup("-");
	return asprintf(&text, "%" JSON_INTEGER_FORMAT, json_integer_value(number)) < 0 ? NULL
											: text;
}

static const char *cell(const char *text)
{
	return text ? text : "";
}

static void plain_row(json_t *device, const char *cells[NR_COLUMNS_LONG], struct made *ret_made)
{
	const char *snapshot = json_text(device, "snapshot");
	json_t *uri = json_object_get(device, "uri");

	*ret_made = (struct made){ .id = number_cell(json_object_get(device, "id")),
				   .image = image_cell(device),
				   .clients = number_cell(json_object_get(device, "clients")) };
	cells[0] = cell(ret_made->id);
	cells[1] = json_text(device, "pool");
	cells[2] = json_text(device, "namespace");
	cells[3] = cell(ret_made->image);
	cells[4] = *snapshot ? snapshot : "-";
	cells[5] = uri ? cell(json_string_value(uri)) : json_text(device, "device");
	cells[6] = uri ? "export" : json_text(device, "frontend");
	cells[7] = json_is_true(json_object_get(device, "read_only")) ? "ro" : "rw";
	cells[8] = json_is_true(json_object_get(device, "stalled")) ? "stalled"
								    : json_text(device, "state");
	cells[9] = cell(ret_made->clients);
}

static void print_plain(json_t *rows, size_t nr_columns)
{
	size_t count = json_array_size(rows);
	cleanup_free const char **cells =
		calloc((count + 1) * nr_columns + NR_COLUMNS_LONG, sizeof(*cells));
	cleanup_free struct made *made = calloc(count + 1, sizeof(*made));

	if (count == 0 || !cells || !made)
		return;
	memcpy(cells, columns, nr_columns * sizeof(*columns));
	/* A row's cells beyond the columns are overwritten by the next one's. */
	for (size_t i = 0; i < count; i++)
		plain_row(json_array_get(rows, i), cells + (i + 1) * nr_columns, &made[i]);
	table_print(cells, count + 1, nr_columns);
	for (size_t i = 0; i < count; i++) {
		free(made[i].id);
		free(made[i].image);
		free(made[i].clients);
	}
}

static int take_long(struct cli *cli, const char *value)
{
	cli->more = true;
	return CLI_CONTINUE;
}

static const struct cli_option list_options[] = {
	{ .name = "long",
	  .letter = 'l',
	  .help = "more columns: frontend, access (rw or ro), state, and of an export its clients",
	  .take = take_long },
	{ 0 },
};

static int run_list(struct cli *cli)
{
	cleanup_json json_t *result = NULL;
	struct error err = ERROR_NONE;
	json_t *devices, *exports;

	if (cli_call(cli, "list", NULL, CALL_TIMEOUT, &result, &err) < 0)
		return failure(&err);
	devices = json_object_get(result, "devices");
	exports = json_object_get(result, "exports");
	if (cli->json) {
		print_as_json(cli, devices, exports);
	} else {
		json_array_extend(devices, exports);
		print_plain(devices, cli->more ? NR_COLUMNS_LONG : NR_COLUMNS);
	}
	return EXIT_OK;
}

const struct command list_command = {
	.name = "list",
	.alias = "showmapped",
	.arguments = "",
	.summary = "Show which images are mapped to which devices, and which are exported.",
	.details =
		"Prints the columns id, pool, namespace, image, snap and device; nothing when\n"
		"nothing is mapped. With --format json: an array of objects that have these\n"
		"members, frontend, state and read_only. An export has its NBD URI in place of a\n"
		"device; in json that is the member uri, next to name, listen, tls and clients.\n",
	.options = { format_options, list_options },
	.run = run_list,
};
