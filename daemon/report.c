#include "daemon/device.h"

#include <errno.h>
#include <string.h>

#include "control/schema.h"
#include "daemon/access.h"
#include "daemon/client_pool.h"
#include "daemon/frontends.h"
#include "daemon/settings.h"
#include "daemon/stat.h"

static const char *const state_names[] = { "quiesced", "mapping",  "live",  "blocked",
					   "resizing", "stopping", "failed" };

/* With the lock. */
static json_t *summary(const struct device *device)
{
	bool stalled = device->state == DEVICE_LIVE && device->stall.told_at != 0;
	json_t *row =
		json_pack("{s:i, s:b, s:s, s:b}", "id", device->id, "read_only", device->read_only,
			  "state", state_names[device->state], "stalled", stalled);

	json_object_update(row, device->names);
	json_object_set_new(row, "device", json_string(device->path));
	json_object_set_new(row, "frontend",
			    json_string(device->frontend ? device->frontend->ops->name : ""));
	return row;
}

/* With the lock; the image of a device that is mapping is not its to look at. */
static void add_image_details(json_t *row, const struct image *image)
{
	json_object_update_new(row, json_pack("{s:I, s:i, s:i, s:i}", "image_size",
					      (json_int_t)atomic_load(&image->info.size),
					      "block_size", image->info.block_size, "optimal_io",
					      image->info.optimal_io, "in_flight",
					      atomic_load(&image->in_flight)));
}

/* The param "client" where there is none. */
static json_t *sharing(const char *client)
{
	return client ? json_string(client) : json_sprintf("pool:%d", CONTROL_CLIENTS_DEFAULT);
}

/* "rbd:FSID/..." */
static void add_cluster(json_t *row, const char *identity)
{
	const char *fsid = strncmp(identity, "rbd:", 4) == 0 ? identity + 4 : "";

	json_object_set_new(row, "cluster", json_stringn(fsid, strcspn(fsid, "/")));
}

/* How the image is reached, whether it is open or not. No key is in it. */
static void add_access(json_t *row, const struct device *device)
{
	struct map_request access;

	access_request(device->names, device->access, &access);
	if (strcmp(access.names.type, "rbd") != 0)
		return;
	add_cluster(row, device->identity);
	json_object_update_new(row, json_pack("{s:s*, s:s, s:o, s:i, s:O*}", "user", access.user,
					      "lock", access.lock, "sharing",
					      sharing(access.client), "io_timeout",
					      (int)access.io_timeout, "options", access.options));
}

static void add_frontend_details(json_t *row, const struct frontend *frontend)
{
	json_object_update_new(row,
			       json_pack("{s:i, s:i, s:s}", "queues", frontend->config.nr_queues,
					 "queue_depth", frontend->config.depth, "features",
					 frontend->features));
	json_object_set_new(row, "size",
			    json_integer((json_int_t)device_kernel_size(frontend->device)));
}

/* With the lock. */
static json_t *details(const struct device *device)
{
	json_t *row = summary(device);

	json_object_set_new(row, "identity", json_string(device->identity));
	if (device_quiesce_hook(device))
		json_object_set_new(row, "quiesce_hook", json_string(device_quiesce_hook(device)));
	add_access(row, device);
	if (*device->reason)
		json_object_set_new(row, "reason", json_string(device->reason));
	settings_show(row, device->access);
	if (device->state == DEVICE_MAPPING || !device->frontend)
		return row;
	if (device->opened.client)
		json_object_set_new(
			row, "client",
			json_string(rbd_client_address(pooled_client_rbd(device->opened.client))));
	json_object_set_new(row, "mapped_at", json_integer(device->mapped_at));
	add_image_details(row, device->opened.image);
	add_frontend_details(row, device->frontend);
	return row;
}

/* In the order of ids, which is not that of the table after a recovery. */
static void insert_row(json_t *rows, json_t *row)
{
	json_int_t id = json_integer_value(json_object_get(row, "id"));
	size_t at = json_array_size(rows);

	while (at > 0 &&
	       json_integer_value(json_object_get(json_array_get(rows, at - 1), "id")) > id)
		at--;
	json_array_insert_new(rows, at, row);
}

json_t *devices_list(struct devices *devices)
{
	json_t *rows = json_array();

	pthread_mutex_lock(&devices->lock);
	list_for_each(entry, &devices->table)
		insert_row(rows, summary(list_entry(entry, struct device, entry)));
	pthread_mutex_unlock(&devices->lock);
	return rows;
}

struct orphans {
	struct devices *devices;
	json_t *paths;
};

static void note_orphan(const char *path, void *data)
{
	struct orphans *orphans = data;
	bool known;

	pthread_mutex_lock(&orphans->devices->lock);
	known = find_path(orphans->devices, path) != NULL;
	pthread_mutex_unlock(&orphans->devices->lock);
	if (!known)
		json_array_append_new(orphans->paths, json_string(path));
}

json_t *devices_orphans(struct devices *devices)
{
	struct orphans orphans = { devices, json_array() };

	frontends_visit_orphans(note_orphan, &orphans);
	return orphans.paths;
}

static json_t *status_of_one(struct devices *devices, const char *path, struct error *err)
{
	struct device *device = find_path(devices, path);
	json_t *rows;

	if (!device) {
		error_set(err, -ENXIO, "%s is not mapped.", path);
		return NULL;
	}
	rows = json_array();
	json_array_append_new(rows, details(device));
	return rows;
}

static json_t *status_of_all(struct devices *devices)
{
	json_t *rows = json_array();

	list_for_each(entry, &devices->table)
		insert_row(rows, details(list_entry(entry, struct device, entry)));
	return rows;
}

json_t *devices_status(struct devices *devices, const char *device, struct error *err)
{
	json_t *rows;

	pthread_mutex_lock(&devices->lock);
	rows = device ? status_of_one(devices, device, err) : status_of_all(devices);
	pthread_mutex_unlock(&devices->lock);
	return rows;
}

/* The image of a device that is mapping is not its to look at. */
void devices_visit(struct devices *devices, stat_visit *visit, void *data)
{
	pthread_mutex_lock(&devices->lock);
	list_for_each(entry, &devices->table) {
		const struct device *device = list_entry(entry, struct device, entry);
		struct stat_source source = { .names = device->names,
					      .image = device->opened.image };

		if (device->state == DEVICE_MAPPING || !device->frontend || !source.image)
			continue;
		source.device = device->frontend->device;
		visit(&source, data);
	}
	pthread_mutex_unlock(&devices->lock);
}
