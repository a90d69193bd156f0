#include "daemon/access.h"

json_t *access_pack_names(const struct image_names *names)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", names->type, "pool", names->pool,
			 "namespace", names->namespace, "image", names->image, "snapshot",
			 names->snapshot);
}

static const char *text(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

void access_names(const json_t *names, struct image_names *ret)
{
	*ret = (struct image_names){
		.type = text(names, "type"),
		.pool = text(names, "pool"),
		.namespace = text(names, "namespace"),
		.image = text(names, "image"),
		.snapshot = text(names, "snapshot"),
	};
}

json_t *access_pack(const struct map_request *request)
{
	return json_pack(
		"{s:s*, s:s*, s:s*, s:s*, s:s*, s:O*, s:O*, s:s*, s:s*, s:s*, s:s*, s:I, s:i}",
		"monitors", request->monitors, "user", request->user, "key", request->key,
		"keyring", request->keyring, "conf", request->conf, "options", request->options,
		"settings", request->settings, "client", request->client, "lock", request->lock,
		"fault", request->fault, "quiesce_hook", request->quiesce_hook, "size",
		(json_int_t)request->size, "io_timeout", (int)request->io_timeout);
}

const char *access_quiesce_hook(const json_t *access)
{
	return text(access, "quiesce_hook");
}

static json_int_t number(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

void access_request(json_t *names, json_t *access, struct map_request *ret)
{
	*ret = (struct map_request){
		.size = (uint64_t)number(access, "size"),
		.fault = text(access, "fault"),
		.quiesce_hook = access_quiesce_hook(access),
		.monitors = text(access, "monitors"),
		.user = text(access, "user"),
		.key = text(access, "key"),
		.keyring = text(access, "keyring"),
		.conf = text(access, "conf"),
		.options = json_object_get(access, "options"),
		.settings = json_object_get(access, "settings"),
		.io_timeout = (unsigned)number(access, "io_timeout"),
		.client = text(access, "client"),
		.lock = text(access, "lock"),
		.timeout = MAP_TIMEOUT_DEFAULT,
	};
	if (!ret->lock)
		ret->lock = LOCK_DEFAULT; /* of a record from before there was a choice */
	access_names(names, &ret->names);
}
