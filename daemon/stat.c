#include "daemon/stat.h"

#include <errno.h>
#include <string.h>

#include "core/image.h"
#include "daemon/access.h"
#include "nbd/address.h"

#define SPEC_MAX 512 /* in a sentence */

struct wanted {
	const struct stat_request *request;
	json_t *rows;
};

static bool is_of_image(const struct stat_source *source, const struct image_names *names)
{
	struct image_names own;

	access_names(source->names, &own);
	return image_names_equal(&own, names);
}

static bool has_name(const struct stat_source *source, const char *name)
{
	return source->export &&
	       (strcmp(source->export, name) == 0 || nbd_address_uri_same(source->uri, name));
}

static bool is_wanted(const struct stat_request *request, const struct stat_source *source)
{
	if (request->device)
		return source->device && strcmp(source->device, request->device) == 0;
	if (request->names.image && is_of_image(source, &request->names))
		return true;
	if (request->export)
		return has_name(source, request->export);
	return !request->names.image;
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

	if (!source->image->figures || !is_wanted(wanted->request, source))
		return;
	row = json_pack("{s:s*, s:s*, s:s*, s:i, s:I, s:I, s:o}", "device", source->device,
			"export", source->export, "uri", source->uri, "in_flight",
			(int)atomic_load(&source->image->in_flight), "age_ns",
			(json_int_t)figures_age(source->image->figures), "since_ns",
			(json_int_t)figures_since(source->image->figures), "ops",
			ops_object(source->image->figures));
	json_object_update(row, source->names);
	json_array_append_new(wanted->rows, row);
}

static int nothing(const struct stat_request *request, struct error *err)
{
	char spec[SPEC_MAX];

	if (request->device)
		return error_set(err, -ENXIO, "%s is not mapped, or nothing is open behind it now.",
				 request->device);
	if (request->export)
		snprintf(spec, sizeof(spec), "%s", request->export);
	else
		image_names_format(&request->names, spec, sizeof(spec));
	return error_set(err, -ENXIO, "%s is not exported, nor a device that is served now.", spec);
}

int stat_rows(struct devices *devices, struct exports *exports, const struct stat_request *request,
	      json_t **ret, struct error *err)
{
	struct wanted wanted = { request, json_array() };
	bool all = !request->device && !request->export && !request->names.image;

	devices_visit(devices, add_row, &wanted);
	exports_visit(exports, add_row, &wanted);
	if (!all && json_array_size(wanted.rows) == 0) {
		json_decref(wanted.rows);
		return nothing(request, err);
	}
	*ret = json_pack("{s:o}", "rows", wanted.rows);
	return 0;
}
