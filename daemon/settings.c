#include "daemon/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/parse.h"
#include "daemon/opener.h"
#include "image/client.h"

#define LIMIT "_limit"
#define BURST "_burst"

static int merge(json_t *now, json_t *changes, json_t **ret, struct error *err)
{
	json_t *merged = now ? json_copy(now) : json_object();
	const char *key;
	json_t *value;

	if (!merged)
		return error_set(err, -ENOMEM, "Out of memory.");
	json_object_foreach(changes, key, value) {
		if (*json_string_value(value))
			json_object_set(merged, key, value);
		else
			json_object_del(merged, key);
	}
	*ret = merged;
	return 0;
}

static int check_one(const char *key, json_t *value, struct error *err)
{
	const struct rbd_client_option option = { key, json_string_value(value) };

	return rbd_client_check_options(&option, 1, err);
}

/* A burst below its limit is one that librbd does not heed, and tells nobody. */
static int check_burst(json_t *settings, const char *key, json_t *value, struct error *err)
{
	size_t length = strlen(key), suffix = strlen(BURST);
	cleanup_free char *limit_key = NULL;
	const char *limit_text;
	uint64_t burst, limit;

	if (length <= suffix || strcmp(key + length - suffix, BURST) != 0 ||
	    asprintf(&limit_key, "%.*s" LIMIT, (int)(length - suffix), key) < 0)
		return 0;
	limit_text = json_string_value(json_object_get(settings, limit_key));
	if (!limit_text || parse_u64(limit_text, 0, UINT64_MAX, &limit) < 0 ||
	    parse_u64(json_string_value(value), 1, UINT64_MAX, &burst) < 0 || burst >= limit)
		return 0;
	return error_set(err, -EINVAL,
			 "%s is %" PRIu64 ", and less than the limit %s, which is %" PRIu64
			 ": make it 0 (no bursts) or more than that.",
			 key, burst, limit_key, limit);
}

static int check(json_t *settings, struct error *err)
{
	const char *key;
	json_t *value;
	int r;

	json_object_foreach(settings, key, value) {
		r = check_one(key, value, err);
		if (r == 0)
			r = check_burst(settings, key, value, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * librbd reads a client's configuration again whenever the image changes, so settings are those of
 * a client: another one opens the image, for reading as yet.
 */
static int look(struct client_pool *clients, const struct map_request *request,
		struct settings_plan *plan, struct error *err)
{
	struct map_request look = *request;

	look.read_only = true;
	look.former_client = NULL;
	look.settings = plan->settings;
	look.client_decides = json_object_size(plan->settings) > 0;
	return opener_open(clients, &look, &plan->look, err);
}

int settings_plan(struct client_pool *clients, const struct map_request *request, json_t *changes,
		  struct settings_plan *ret, struct error *err)
{
	struct settings_plan plan = { 0 };
	int r;

	if (strcmp(request->names.type, "rbd") != 0)
		return error_set(err, -EOPNOTSUPP,
				 "Only images in a Ceph cluster have these settings, and this is a "
				 "%s image.",
				 request->names.type);
	r = merge(request->settings, changes, &plan.settings, err);
	if (r < 0)
		return r;
	plan.changes = request->settings ? !json_equal(plan.settings, request->settings)
					 : json_object_size(plan.settings) > 0;
	r = check(plan.settings, err);
	if (r == 0 && plan.changes)
		r = look(clients, request, &plan, err);
	if (r < 0)
		json_decref(plan.settings);
	else
		*ret = plan;
	return r;
}

void settings_plan_end(struct client_pool *clients, struct settings_plan *plan)
{
	opener_close(clients, &plan->look);
	json_decref(plan->settings);
}

int settings_refuse_busy(struct error *err)
{
	return error_set(err, -ETIMEDOUT,
			 "The storage did not answer in time what was in flight; nothing is "
			 "changed. Where a limit makes it slow, give a longer --timeout.");
}

json_t *settings_of(const json_t *access)
{
	json_t *settings = json_object_get(access, "settings");

	return settings ? json_copy(settings) : json_object();
}

void settings_show(json_t *row, const json_t *access)
{
	json_t *settings = json_object_get(access, "settings");

	if (json_object_size(settings) > 0)
		json_object_set_new(row, "settings", json_copy(settings));
}
