#include "daemon/stat.h"

#include <errno.h>
#include <string.h>

#include "core/image.h"
#include "nbd/address.h"

struct wanted {
	const char *device, *export; /* NULL both: all */
	json_t *rows;
};

static bool is_wanted(const struct wanted *wanted, const struct stat_source *source)
{
	if (wanted->device)
		return source->device && strcmp(source->device, wanted->device) == 0;
	if (wanted->export)
		return source->export && (strcmp(source->export, wanted->export) == 0 ||
					  nbd_address_uri_same(source->uri, wanted->export));
	return true;
}

static json_t *part_object(const struct histogram_sum *sum)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "total_ns", (json_int_t)sum->sum, "p50_ns",
			 (json_int_t)histogram_quantile(sum, 500), "p99_ns",
			 (json_int_t)histogram_quantile(sum, 990), "p999_ns",
			 (json_int_t)histogram_quantile(sum, 999));
}

/* [bound, count] of each bucket that holds something. */
static json_t *bucket_array(const struct histogram_sum *sum)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		if (sum->buckets[i] > 0)
			json_array_append_new(array,
					      json_pack("[I, I]", (json_int_t)histogram_bound(i),
							(json_int_t)sum->buckets[i]));
	return array;
}

static json_t *op_object(const struct op_figures *figures)
{
	const struct histogram_sum *latency = &figures->parts[FIGURES_LATENCY];
	json_t *op = json_pack("{s:I, s:I, s:I, s:o}", "requests", (json_int_t)latency->count,
			       "errors", (json_int_t)figures->errors, "bytes",
			       (json_int_t)figures->bytes, "buckets", bucket_array(latency));

	for (unsigned part = 0; part < FIGURES_PARTS; part++)
		json_object_set_new(op, figures_part_name(part),
				    part_object(&figures->parts[part]));
	return op;
}

static json_t *ops_object(const struct figures *figures)
{
	json_t *ops = json_object();
	struct op_figures read;

	for (unsigned op = 0; op < REQUEST_OPS; op++) {
		figures_read(figures, op, &read);
		if (read.parts[FIGURES_LATENCY].count > 0)
			json_object_set_new(ops, request_op_name(op), op_object(&read));
	}
	return ops;
}

static void add_row(const struct stat_source *source, void *data)
{
	struct wanted *wanted = data;
	json_t *row;

	if (!source->image->figures || !is_wanted(wanted, source))
		return;
	row = json_pack("{s:s*, s:s*, s:s*, s:i, s:I, s:o}", "device", source->device, "export",
			source->export, "uri", source->uri, "in_flight",
			(int)atomic_load(&source->image->in_flight), "age_ns",
			(json_int_t)figures_age(source->image->figures), "ops",
			ops_object(source->image->figures));
	json_object_update(row, source->names);
	json_array_append_new(wanted->rows, row);
}

int stat_rows(struct devices *devices, struct exports *exports, const char *device,
	      const char *export, json_t **ret, struct error *err)
{
	struct wanted wanted = { device, export, json_array() };

	devices_visit(devices, add_row, &wanted);
	exports_visit(exports, add_row, &wanted);
	if ((device || export) && json_array_size(wanted.rows) == 0) {
		json_decref(wanted.rows);
		return error_set(err, -ENXIO, "%s is not %s.", device ? device : export,
				 device ? "mapped, or nothing is open behind it now" : "exported");
	}
	*ret = json_pack("{s:o}", "rows", wanted.rows);
	return 0;
}
