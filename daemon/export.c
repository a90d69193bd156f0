#include "daemon/export.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/thread.h"
#include "core/figures.h"
#include "core/gate.h"
#include "daemon/access.h"
#include "daemon/queues.h"
#include "daemon/quiesce.h"
#include "nbd/server.h"

#define URI_MAX 16384

void export_free(struct daemon_export *export)
{
	if (!export)
		return;
	json_decref(export->names);
	json_decref(export->access);
	free(export->name);
	free(export->listen);
	free(export->uri);
	free(export);
}

struct daemon_export *export_new(struct exports *exports, const struct export_request *request)
{
	const struct image_names *names = &request->image.names;
	struct daemon_export *export = calloc(1, sizeof(*export));
	char spec[EXPORT_SPEC_MAX];

	if (!export)
		return NULL;
	image_names_format(names, spec, sizeof(spec));
	export->exports = exports;
	export->read_only = request->image.read_only;
	export->exclusive = !export->read_only && strcmp(request->image.lock, "exclusive") == 0;
	export->name = strdup(request->name ? request->name : spec);
	export->listen = strdup(request->address.listen);
	export->names = access_pack_names(names);
	export->access = access_pack(&request->image);
	if (export->name && export->listen && export->names && export->access)
		return export;
	export_free(export);
	return NULL;
}

void export_set_state(struct daemon_export *export, enum export_state state)
{
	export->state = state;
	pthread_cond_broadcast(&export->exports->changed);
	if (atomic_load(&export->cut_off)) /* it was left alone while somebody worked on it */
		sweeper_wake(&export->exports->replacer);
}

/* Waits for the requests that the image holds, however long. */
static void close_opened(struct daemon_export *export, struct opened *opened)
{
	int r = opener_close(export->exports->clients, opened);

	if (r < 0)
		log_error("%s: its image did not close in order (%s); what was in a cache may be "
			  "lost",
			  export->name, errno_text(r));
}

static void await_workers(struct daemon_export *export)
{
	struct exports *exports = export->exports;

	pthread_mutex_lock(&exports->lock);
	while (export->in_work || export->closing)
		pthread_cond_wait(&exports->changed, &exports->lock);
	pthread_mutex_unlock(&exports->lock);
}

/* It goes with the image. */
static void leave_gate(struct daemon_export *export)
{
	pthread_mutex_lock(&export->exports->lock);
	export->gate = NULL;
	pthread_mutex_unlock(&export->exports->lock);
}

void export_close(struct daemon_export *export)
{
	struct exports *exports = export->exports;
	struct address *address;

	await_workers(export);
	leave_gate(export);
	close_opened(export, &export->opened);
	pthread_mutex_lock(&exports->lock);
	address = export->address;
	export->address = NULL;
	pthread_mutex_unlock(&exports->lock);
	address_put(exports->addresses, address);
	pthread_mutex_lock(&exports->lock);
	list_remove(&export->entry);
	pthread_cond_broadcast(&exports->changed);
	pthread_mutex_unlock(&exports->lock);
	export_free(export);
}

/*
 * A thread of the image. Size is a thing that clients ask for. Of an image that is gone they get
 * errors, but for what librbd has in flight: it may never answer that (it waits for the exclusive
 * lock, which was in the image), so who waits for it is cut off.
 */
static void image_changed(struct image *image, void *data)
{
	struct daemon_export *export = data;

	if (!atomic_load(&image->info.gone))
		return;
	log_error("%s fails: " IMAGE_GONE, export->name);
	if (atomic_load(&image->in_flight) > 0)
		nbd_server_drop_clients(export->address->server, export->name);
}

const char *export_failure(const struct daemon_export *export)
{
	if (export->closed)
		return export->reason;
	return atomic_load(&export->opened.image->info.gone) ? IMAGE_GONE : NULL;
}

/* Queue thread: no lock, no allocation. */
void export_cut_off(void *data)
{
	struct daemon_export *export = data;

	if (!atomic_exchange(&export->cut_off, true))
		sweeper_wake(&export->exports->replacer);
}

/* The gate owns the image from here on; its figures outlive an exchange of the image behind it. */
static int make_gate(struct daemon_export *export, unsigned io_timeout, struct error *err)
{
	const struct gate_config config = {
		.queues = export->exports->queues->list,
		.nr_queues = export->exports->queues->count,
		.io_timeout = io_timeout,
		.cut_off = export_cut_off,
		.data = export,
	};

	if (gate_create(&config, export->opened.image, &export->gate) < 0)
		return error_set(err, -ENOMEM, "Out of memory.");
	export->opened.image = gate_image(export->gate);
	export->opened.image->figures = figures_create();
	if (!export->opened.image->figures)
		return error_set(err, -ENOMEM, "Out of memory.");
	image_listen(export->opened.image, image_changed, export);
	return 0;
}

int export_open(struct daemon_export *export, const struct export_request *request,
		struct error *err)
{
	struct exports *exports = export->exports;
	char uri[URI_MAX], spec[EXPORT_SPEC_MAX];
	int r = address_get(exports->addresses, &request->address, &export->address, err);

	if (r < 0)
		return r;
	r = opener_open_claimed(exports->clients, &request->image, &export->opened, err);
	if (r < 0)
		return r;
	r = make_gate(export, request->image.io_timeout, err);
	if (r < 0)
		return r;
	if (!nbd_server_uri(export->address->server, 0, export->name, uri, sizeof(uri)) ||
	    !(export->uri = strdup(uri)))
		return error_set(err, -ENOMEM, "Out of memory.");
	r = quiesce_watch(export->opened.image, request->image.quiesce_hook, export->uri, err);
	if (r < 0)
		return r;
	image_names_format(&request->image.names, spec, sizeof(spec));
	return nbd_server_add(export->address->server, export->name, spec, export->opened.image,
			      export->read_only, err);
}

bool export_is_forced(struct daemon_export *export)
{
	return atomic_load(&export->forcing) > 0;
}

void export_end_work(struct daemon_export *export, enum export_state state)
{
	export->in_work = false;
	export_set_state(export, export->state == EXPORT_STOPPING ? EXPORT_STOPPING : state);
}

void export_set_reason(struct daemon_export *export, const char *reason)
{
	pthread_mutex_lock(&export->exports->lock);
	snprintf(export->reason, sizeof(export->reason), "%s", reason);
	pthread_mutex_unlock(&export->exports->lock);
}

struct aside {
	struct daemon_export *export;
	struct opened opened;
};

static void close_counted(struct daemon_export *export, struct opened *opened)
{
	struct exports *exports = export->exports;

	close_opened(export, opened);
	pthread_mutex_lock(&exports->lock);
	export->closing--;
	pthread_cond_broadcast(&exports->changed);
	pthread_mutex_unlock(&exports->lock);
}

static void *aside_main(void *data)
{
	struct aside *aside = data;

	close_counted(aside->export, &aside->opened);
	free(aside);
	return NULL;
}

void export_close_aside(struct daemon_export *export, struct opened *opened)
{
	struct aside *aside = malloc(sizeof(*aside));

	pthread_mutex_lock(&export->exports->lock);
	export->closing++;
	pthread_mutex_unlock(&export->exports->lock);
	if (aside)
		*aside = (struct aside){ export, *opened };
	if (aside && thread_detached(aside_main, aside) == 0)
		return;
	free(aside);
	close_counted(export, opened);
}

bool export_await_closed(struct daemon_export *export, const struct timespec *deadline)
{
	struct exports *exports = export->exports;
	bool closed;

	pthread_mutex_lock(&exports->lock);
	while (export->closing && !export_is_forced(export))
		if (pthread_cond_timedwait(&exports->changed, &exports->lock, deadline) ==
		    ETIMEDOUT)
			break;
	closed = !export->closing;
	pthread_mutex_unlock(&exports->lock);
	return closed && !export_is_forced(export);
}
