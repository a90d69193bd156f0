/*
 * The text format of Prometheus (version 0.0.4). It wants the lines of one metric together, so each
 * metric walks all devices and exports; one that comes or goes meanwhile is in some and not others.
 */
#include "daemon/stat.h"

#include <inttypes.h>

#include "common/cleanup.h"
#include "core/image.h"
#include "daemon/access.h"
#include "daemon/devices.h"
#include "daemon/exports.h"
#include "daemon/version.h"

/*
 * Bounds of the histograms, from 4 us to 17 s: powers of two of the whole latency, of which people
 * want percentiles; of four of its three parts, which tell where the time goes.
 */
#define BOUND_FIRST  12
#define BOUND_LAST   34
#define LATENCY_STEP 1
#define PART_STEP    2

#define SPEC_MAX (4096 + 64)

static void print_escaped(const char *text, FILE *out)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			fputc('\\', out);
		if (*text == '\n')
			fputs("\\n", out);
		else
			fputc(*text, out);
	}
}

/* @name with what comes before it. */
static void print_label(const char *name, const char *value, FILE *out)
{
	fprintf(out, "%s=\"", name);
	print_escaped(value ? value : "", out);
	fputc('"', out);
}

static void print_labels(const struct stat_source *source, FILE *out)
{
	struct image_names names;
	char spec[SPEC_MAX];

	access_names(source->names, &names);
	image_names_format(&names, spec, sizeof(spec));
	if (source->device) {
		print_label("device", source->device, out);
	} else {
		print_label("export", source->export, out);
		print_label(",listen", source->listen, out);
	}
	print_label(",image", spec, out);
}

/* What the labels of @source look like, for the many lines that bear them. malloc'ed, or NULL. */
static char *labels_of(const struct stat_source *source)
{
	char *labels = NULL;
	size_t length;
	FILE *out = open_memstream(&labels, &length);

	if (!out)
		return NULL;
	print_labels(source, out);
	if (fclose(out) == 0)
		return labels;
	free(labels);
	return NULL;
}

struct line {
	FILE *out;
	const char *metric;
	const char *labels; /* of the device or export */
	enum request_op op;
};

/* Up to where the closing brace or another label stands. */
static void print_head(const struct line *line, const char *suffix)
{
	fprintf(line->out, "%s%s{%s,op=\"%s\"", line->metric, suffix, line->labels,
		request_op_name(line->op));
}

static void print_number(const struct line *line, uint64_t value)
{
	print_head(line, "");
	fprintf(line->out, "} %" PRIu64 "\n", value);
}

static void print_histogram(const struct line *line, const char *part,
			    const struct histogram_sum *sum, unsigned step)
{
	for (unsigned bit = BOUND_FIRST; bit <= BOUND_LAST; bit += step) {
		print_head(line, "_bucket");
		fprintf(line->out, "%s,le=\"%.9g\"} %" PRIu64 "\n", part,
			(double)(1ull << bit) / 1e9, histogram_below(sum, 1ull << bit));
	}
	print_head(line, "_bucket");
	fprintf(line->out, "%s,le=\"+Inf\"} %" PRIu64 "\n", part, sum->count);
	print_head(line, "_sum");
	fprintf(line->out, "%s} %.9f\n", part, (double)sum->sum / 1e9);
	print_head(line, "_count");
	fprintf(line->out, "%s} %" PRIu64 "\n", part, sum->count);
}

static void print_requests(const struct line *line, const struct op_figures *figures)
{
	print_number(line, figures->parts[FIGURES_LATENCY].count);
}

static void print_errors(const struct line *line, const struct op_figures *figures)
{
	print_number(line, figures->errors);
}

static void print_bytes(const struct line *line, const struct op_figures *figures)
{
	print_number(line, figures->bytes);
}

static void print_latency(const struct line *line, const struct op_figures *figures)
{
	print_histogram(line, "", &figures->parts[FIGURES_LATENCY], LATENCY_STEP);
}

static void print_parts(const struct line *line, const struct op_figures *figures)
{
	char label[32];

	for (unsigned part = 0; part < FIGURES_LATENCY; part++) {
		snprintf(label, sizeof(label), ",part=\"%s\"", figures_part_name(part));
		print_histogram(line, label, &figures->parts[part], PART_STEP);
	}
}

static const struct metric {
	const char *name, *type, *help;
	void (*print)(const struct line *line, const struct op_figures *figures);
	bool from_start; /* also of what there were no requests of yet */
} metrics[] = {
	{ "urbd_requests_total", "counter", "Requests that were answered, failed ones included.",
	  print_requests, true },
	{ "urbd_request_errors_total", "counter", "Requests that failed.", print_errors, true },
	{ "urbd_request_bytes_total", "counter", "Bytes of requests that succeeded.", print_bytes,
	  true },
	{ "urbd_request_seconds", "histogram", "Time from picking a request up to its answer.",
	  print_latency, false },
	{ "urbd_request_part_seconds", "histogram",
	  "Its parts: before the storage (frontend), in it, and until the queue saw the answer.",
	  print_parts, false },
};

struct walk {
	FILE *out;
	const struct metric *metric; /* NULL: the requests in flight */
};

static void print_in_flight(const struct stat_source *source, FILE *out)
{
	fputs("urbd_requests_in_flight{", out);
	print_labels(source, out);
	fprintf(out, "} %u\n", atomic_load(&source->image->in_flight));
}

/* No block device is asked where its image has data; of an export the image is, if it knows. */
static bool may_come(const struct stat_source *source, enum request_op op)
{
	if (op == REQUEST_EXTENTS)
		return source->export && source->image->info.extents;
	return image_takes(source->image, op);
}

/* Counters stand at 0 before the first request, which would be no increase to Prometheus else. An
 * empty histogram is not worth its many lines. */
static bool is_shown(const struct stat_source *source, const struct walk *walk, enum request_op op,
		     const struct op_figures *figures)
{
	return figures->parts[FIGURES_LATENCY].count > 0 ||
	       (walk->metric->from_start && may_come(source, op));
}

/* Of each kind of request. */
static void print_ops(const struct stat_source *source, const struct walk *walk)
{
	cleanup_free char *labels = labels_of(source);
	struct op_figures figures;

	for (unsigned op = 0; op < REQUEST_OPS && labels; op++) {
		const struct line line = { walk->out, walk->metric->name, labels, op };

		figures_read(source->image->figures, op, &figures);
		if (is_shown(source, walk, op, &figures))
			walk->metric->print(&line, &figures);
	}
}

static void print_source(const struct stat_source *source, void *data)
{
	const struct walk *walk = data;

	if (!walk->metric)
		print_in_flight(source, walk->out);
	else if (source->image->figures)
		print_ops(source, walk);
}

static void print_metric(struct devices *devices, struct exports *exports, const char *name,
			 const char *type, const char *help, struct walk *walk)
{
	fprintf(walk->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
	devices_visit(devices, print_source, walk);
	exports_visit(exports, print_source, walk);
}

/* --- What there is ---------------------------------------------------------------------------- */

/* Of a device or an export as `list` gives it. */
static void print_row_labels(json_t *row, const char *metric, FILE *out)
{
	const struct stat_source source = {
		.device = json_string_value(json_object_get(row, "device")),
		.export = json_string_value(json_object_get(row, "name")),
		.listen = json_string_value(json_object_get(row, "listen")),
		.names = row,
	};

	fprintf(out, "%s{", metric);
	print_labels(&source, out);
}

static void print_gauge_head(const char *name, const char *help, FILE *out)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
}

static void print_build(FILE *out)
{
	print_gauge_head("urbd_build_info", "1: the version of urbdd.", out);
	fputs("urbd_build_info{", out);
	print_label("version", URBD_VERSION, out);
	fputs("} 1\n", out);
}

/* A device that is being mapped for the first time has no path, and is none yet. */
static void print_states(struct devices *devices, FILE *out)
{
	json_t *rows = devices_list(devices), *row;
	size_t i;

	print_gauge_head("urbd_device_state", "1: the state of a device.", out);
	json_array_foreach(rows, i, row) {
		bool stalled = json_is_true(json_object_get(row, "stalled"));

		if (!*json_string_value(json_object_get(row, "device")))
			continue;
		print_row_labels(row, "urbd_device_state", out);
		print_label(",state",
			    stalled ? "stalled" : json_string_value(json_object_get(row, "state")),
			    out);
		fputs("} 1\n", out);
	}
	json_decref(rows);
}

static void print_clients(struct exports *exports, FILE *out)
{
	json_t *rows = exports_list(exports), *row;
	size_t i;

	print_gauge_head("urbd_export_clients", "Connections that use an export.", out);
	json_array_foreach(rows, i, row) {
		print_row_labels(row, "urbd_export_clients", out);
		fprintf(out, "} %" JSON_INTEGER_FORMAT "\n",
			json_integer_value(json_object_get(row, "clients")));
	}
	json_decref(rows);
}

void stat_print_metrics(struct devices *devices, struct exports *exports, FILE *out)
{
	struct walk walk = { .out = out };

	print_build(out);
	print_states(devices, out);
	print_clients(exports, out);
	print_metric(devices, exports, "urbd_requests_in_flight", "gauge",
		     "Requests submitted and not completed.", &walk);
	for (size_t i = 0; i < ARRAY_SIZE(metrics); i++) {
		walk.metric = &metrics[i];
		print_metric(devices, exports, metrics[i].name, metrics[i].type, metrics[i].help,
			     &walk);
	}
}
