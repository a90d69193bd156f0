#include "daemon/methods.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/macros.h"
#include "daemon/devices.h"
#include "daemon/exports.h"
#include "daemon/frontends.h"
#include "daemon/queues.h"
#include "daemon/stat.h"
#include "daemon/version.h"

/* One call, next to its params. */
struct call {
	const struct methods *methods;
	const struct reporter *reporter;
};

static int call_map(const struct call *call, json_t *params, json_t **ret, struct error *err)
{
	struct map_request request;
	char spec[512];
	int r;

	r = map_request_parse(params, &request, err);
	if (r < 0)
		return r;
	request.reporter = call->reporter;
	r = devices_map(call->methods->devices, &request, ret, err);
	if (r < 0) {
		image_names_format(&request.names, spec, sizeof(spec));
		return error_prefix(err, "Cannot map %s: ", spec);
	}
	return 0;
}

static int call_unmap(const struct call *call, json_t *params, json_t **ret, struct error *err)
{
	json_t *timeout = json_object_get(params, "timeout");
	struct unmap_request request = {
		.device = json_string_value(json_object_get(params, "device")),
		.force = json_is_true(json_object_get(params, "force")),
		.timeout = timeout ? (unsigned)json_integer_value(timeout) : MAP_TIMEOUT_DEFAULT,
	};
	int r = 0;

	if (json_is_true(json_object_get(params, "all")))
		return devices_unmap_all(call->methods->devices, &request, ret, err);
	if (!request.device)
		r = image_names_parse(params, &request.names, err);
	return r < 0 ? r : devices_unmap(call->methods->devices, &request, ret, err);
}

static int drain_or_resume(json_t *params,
			   int (*fn)(struct devices *devices, const char *path, unsigned timeout,
				     json_t **ret, struct error *err),
			   struct devices *devices, json_t **ret, struct error *err)
{
	json_t *timeout = json_object_get(params, "timeout");

	return fn(devices, json_string_value(json_object_get(params, "device")),
		  timeout ? (unsigned)json_integer_value(timeout) : MAP_TIMEOUT_DEFAULT, ret, err);
}

static int call_drain(const struct call *call, json_t *params, json_t **ret, struct error *err)
{
	return drain_or_resume(params, devices_drain, call->methods->devices, ret, err);
}

static int call_resume(const struct call *call, json_t *params, json_t **ret, struct error *err)
{
	return drain_or_resume(params, devices_resume, call->methods->devices, ret, err);
}

static int call_export(const struct call *call, json_t *params, json_t **ret, struct error *err)
{
	struct export_request request;
	char spec[512];
	int r;

	r = export_request_parse(params, &request, err);
	if (r < 0)
		return r;
	r = exports_add(call->methods->exports, &request, ret, err);
	if (r < 0) {
		image_names_format(&request.image.names, spec, sizeof(spec));
		return error_prefix(err, "Cannot export %s: ", spec);
	}
	return 0;
}

static int call_unexport(const struct call *call, json_t *params, json_t **ret, struct error *err)
{
	struct unexport_request request;
	int r = unexport_request_parse(params, &request, err);

	return r < 0 ? r : exports_remove(call->methods->exports, &request, ret, err);
}

static unsigned timeout_of(json_t *params)
{
	json_t *timeout = json_object_get(params, "timeout");

	return timeout ? (unsigned)json_integer_value(timeout) : MAP_TIMEOUT_DEFAULT;
}

static int set_export(const struct call *call, json_t *params, const struct image_names *names,
		      json_t **ret, struct error *err)
{
	const struct unexport_request request = {
		.name = json_string_value(json_object_get(params, "export")),
		.names = *names,
		.timeout = timeout_of(params),
	};

	return exports_set(call->methods->exports, &request, json_object_get(params, "settings"),
			   ret, err);
}

static int set_device(const struct call *call, json_t *params, const struct image_names *names,
		      json_t **ret, struct error *err)
{
	const struct unmap_request request = {
		.device = json_string_value(json_object_get(params, "device")),
		.names = *names,
		.timeout = timeout_of(params),
	};

	return devices_set(call->methods->devices, &request, json_object_get(params, "settings"),
			   ret, err);
}

/* An image is meant as a device, or where it is none as an export. */
static int call_set(const struct call *call, json_t *params, json_t **ret, struct error *err)
{
	struct image_names names = { 0 };
	char spec[512];
	int r;

	if (json_object_get(params, "export"))
		return set_export(call, params, &names, ret, err);
	if (json_object_get(params, "device"))
		return set_device(call, params, &names, ret, err);
	r = image_names_parse(params, &names, err);
	if (r == 0)
		r = set_device(call, params, &names, ret, err);
	if (r == -ENXIO)
		r = set_export(call, params, &names, ret, err);
	if (r != -ENXIO)
		return r;
	image_names_format(&names, spec, sizeof(spec));
	return error_set(err, r, "%s is neither mapped nor exported.", spec);
}

static int call_list(const struct call *call, json_t *params, json_t **ret, struct error *err)
{
	*ret = json_pack("{s:o, s:o}", "devices", devices_list(call->methods->devices), "exports",
			 exports_list(call->methods->exports));
	return 0;
}

static int call_status(const struct call *call, json_t *params, json_t **ret, struct error *err)
{
	const char *device = json_string_value(json_object_get(params, "device"));
	json_t *rows = devices_status(call->methods->devices, device, err);

	if (!rows)
		return err->code;
	*ret = json_pack("{s:s, s:i, s:i, s:o, s:o, s:o}", "version", URBD_VERSION, "pid", getpid(),
			 "queues", call->methods->queues->count, "frontends", frontends_status(),
			 "orphans", devices_orphans(call->methods->devices), "devices", rows);
	if (!device)
		json_object_set_new(*ret, "exports", exports_list(call->methods->exports));
	return 0;
}

static int call_stat(const struct call *call, json_t *params, json_t **ret, struct error *err)
{
	struct stat_request request = {
		.device = json_string_value(json_object_get(params, "device")),
		.export = json_string_value(json_object_get(params, "export")),
	};
	int r = image_names_given(params) ? image_names_parse(params, &request.names, err) : 0;

	return r < 0 ? r
		     : stat_rows(call->methods->devices, call->methods->exports, &request, ret,
				 err);
}

static int call_version(const struct call *call, json_t *params, json_t **ret, struct error *err)
{
	*ret = json_pack("{s:s}", "version", URBD_VERSION);
	return 0;
}

static const struct {
	const char *name;
	int (*call)(const struct call *call, json_t *params, json_t **ret, struct error *err);
} table[] = {
	{ "map", call_map },	 { "unmap", call_unmap },     { "export", call_export },
	{ "drain", call_drain }, { "resume", call_resume },   { "unexport", call_unexport },
	{ "list", call_list },	 { "status", call_status },   { "stat", call_stat },
	{ "set", call_set },	 { "version", call_version },
};

/* Sentences hold no keys, and params are not told. */
static void trace(const char *method, int code, const struct error *err)
{
	if (code < 0)
		log_debug("%s failed with %s: %s", method, errno_text(code), err->text);
	else
		log_debug("%s is done", method);
}

int methods_call(void *data, const struct reporter *reporter, const char *method, json_t *params,
		 json_t **ret_result, struct error *err)
{
	const struct call call = { data, reporter };
	json_t *result = NULL;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (strcmp(table[i].name, method) != 0)
			continue;
		r = table[i].call(&call, params, &result, err);
		trace(method, r, err);
		if (r < 0)
			return r;
		if (!result)
			return error_set(err, -ENOMEM, "Out of memory.");
		*ret_result = result;
		return 0;
	}
	return error_set(err, -ENOSYS, "This urbdd knows no method \"%s\".", method);
}
