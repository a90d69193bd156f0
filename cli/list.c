/* list: the columns and members of rbd(8)'s showmapped, so that what reads that reads this. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/table.h"
#include "control/spec.h"

static const char *const columns[] = { "id", "pool", "namespace", "image", "snap", "device" };

#define NR_COLUMNS ARRAY_SIZE(columns)

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

static json_t *json_row(json_t *device)
{
	cleanup_free char *image = image_cell(device);
	json_t *id = json_object_get(device, "id");

	return json_pack("{so ss ss ss ss ss ss}", "id", id ? json_incref(id) : json_string(""),
			 "pool", json_text(device, "pool"), "namespace",
			 json_text(device, "namespace"), "image", image, "snap",
			 json_text(device, "snapshot"), "device", json_text(device, "device"),
			 "frontend", json_text(device, "frontend"));
}

/* An export has a URI where a device has its path; "device" is empty, so that nobody opens it. */
static json_t *json_export_row(json_t *export)
{
	json_t *row = json_row(export);

	json_object_set_new(row, "frontend", json_string("export"));
	json_object_set(row, "uri", json_object_get(export, "uri"));
	return row;
}

static void print_as_json(const struct cli *cli, json_t *devices, json_t *exports)
{
	cleanup_json json_t *rows = json_array();
	json_t *row;
	size_t i;

	json_array_foreach(devices, i, row) json_array_append_new(rows, json_row(row));
	json_array_foreach(exports, i, row) json_array_append_new(rows, json_export_row(row));
	print_json(cli, rows);
}

/* --- plain ------------------------------------------------------------------------------------ */

/* The cells of one row; those that were made for it are returned through @ret_made. */
static void plain_row(json_t *device, const char **cells, char *ret_made[2])
{
	const char *snapshot = json_text(device, "snapshot");
	json_t *id = json_object_get(device, "id"), *uri = json_object_get(device, "uri");

	if (asprintf(&ret_made[0], "%" JSON_INTEGER_FORMAT, json_integer_value(id)) < 0)
		ret_made[0] = NULL;
	ret_made[1] = image_cell(device);
	cells[0] = id && ret_made[0] ? ret_made[0] : "-";
	cells[1] = json_text(device, "pool");
	cells[2] = json_text(device, "namespace");
	cells[3] = ret_made[1] ? ret_made[1] : "";
	cells[4] = *snapshot ? snapshot : "-";
	cells[5] = uri ? json_string_value(uri) : json_text(device, "device");
}

static void print_plain(json_t *rows)
{
	size_t count = json_array_size(rows);
	cleanup_free const char **cells = calloc((count + 1) * NR_COLUMNS, sizeof(*cells));
	cleanup_free char *(*made)[2] = calloc(count + 1, sizeof(*made));

	if (count == 0 || !cells || !made)
		return;
	memcpy(cells, columns, sizeof(columns));
	for (size_t i = 0; i < count; i++)
		plain_row(json_array_get(rows, i), cells + (i + 1) * NR_COLUMNS, made[i]);
	table_print(cells, count + 1, NR_COLUMNS);
	for (size_t i = 0; i < count; i++) {
		free(made[i][0]);
		free(made[i][1]);
	}
}

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
		print_plain(devices);
	}
	return EXIT_OK;
}

const struct command list_command = {
	.name = "list",
	.alias = "showmapped",
	.arguments = "",
	.summary = "Show which images are mapped to which devices, and which are exported.",
	.details = "Prints the columns id, pool, namespace, image, snap and device; nothing when\n"
		   "nothing is mapped. With --format json: an array of objects that have these\n"
		   "members and frontend. An export has its NBD URI in place of a device; in json\n"
		   "that is the member uri.\n",
	.options = { format_options },
	.run = run_list,
};
