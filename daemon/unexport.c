/* Exports that end, and how they are found by what people call them. */
#include "daemon/export.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/thread.h"
#include "core/gate.h"
#include "daemon/access.h"
#include "nbd/address.h"
#include "nbd/server.h"

/* How much longer than its clients an image may take to close. */
#define CLOSE_GRACE 1

/* Seconds that an unexport by force waits for the image. */
#define FORCED_CLOSE 4

static bool names_match(const struct daemon_export *export, const struct image_names *names)
{
	struct image_names own;

	access_names(export->names, &own);
	return image_names_equal(&own, names);
}

static bool matches(const struct daemon_export *export, const struct unexport_request *request)
{
	if (request->names.image && names_match(export, &request->names))
		return true;
	if (!request->name)
		return false;
	if (strcmp(export->name, request->name) == 0)
		return true;
	return export->state != EXPORT_OPENING && nbd_address_uri_same(export->uri, request->name);
}

int export_not_found(const struct unexport_request *request, struct error *err)
{
	char spec[EXPORT_SPEC_MAX];

	if (request->name)
		return error_set(err, -ENXIO, "%s is not exported.", request->name);
	image_names_format(&request->names, spec, sizeof(spec));
	return error_set(err, -ENXIO, "%s is not exported.", spec);
}

/* With the lock. One that is live goes before those that come or go. */
static int find_one(struct exports *exports, const struct unexport_request *request,
		    struct daemon_export **ret, struct error *err)
{
	struct daemon_export *found = NULL, *other = NULL;

	list_for_each(entry, &exports->table) {
		struct daemon_export *export = list_entry(entry, struct daemon_export, entry);

		if (export->given_up || !matches(export, request))
			continue;
		if (export->state != EXPORT_LIVE)
			other = export;
		else if (found)
			return error_set(err, -ENOTUNIQ,
					 "Several exports have that name or image. Give the URI "
					 "instead; `urbd list` shows them.");
		else
			found = export;
	}
	if (!found && !other)
		return export_not_found(request, err);
	*ret = found ? found : other;
	return 0;
}

/* With the lock. Somebody works on it, and it stays when that is over. */
static bool is_unsettled(const struct daemon_export *export)
{
	return export->state == EXPORT_OPENING || export->state == EXPORT_CHANGING ||
	       export->state == EXPORT_BLOCKED;
}

/* With the lock. What is asked by force waits for nobody who gives way. */
static bool is_waited_for(const struct daemon_export *export, bool force)
{
	return is_unsettled(export) && !(force && export->in_work);
}

int export_find(struct exports *exports, const struct unexport_request *request,
		struct daemon_export **ret, struct error *err)
{
	unsigned patience = request->force ? MIN(request->timeout, FORCED_CLOSE) : request->timeout;
	struct timespec deadline = deadline_in(patience);
	int r;

	while ((r = find_one(exports, request, ret, err)) == 0 &&
	       is_waited_for(*ret, request->force))
		if (pthread_cond_timedwait(&exports->changed, &exports->lock, &deadline) ==
		    ETIMEDOUT)
			return error_set(
				err, -ETIMEDOUT,
				"It is still being exported or changed: its storage does not "
				"answer. Try again later; what is changed can be unexported with "
				"--force.");
	return r;
}

/* A thread of its own: an image of a dead cluster can hold its requests for ever. */
static void *end_export(void *data)
{
	struct daemon_export *export = data;
	struct error ignored = ERROR_NONE;

	/* What is forced from here on comes through nbd_server_cut(). */
	if (export->force)
		gate_fail(export->gate);
	nbd_server_remove(export->address->server, export->name, export->force, export->timeout,
			  &ignored);
	log_info("%s is no longer exported", export->uri);
	export_close(export);
	return NULL;
}

int export_begin_end(struct daemon_export *export, bool force, unsigned timeout, struct error *err)
{
	int r;

	export->force = force; /* written once, before the thread is there */
	export->timeout = timeout;
	r = thread_detached(end_export, export);
	if (r < 0)
		return error_set(err, r, "Cannot start a thread: %s.", errno_text(r));
	export->given_up =
		export_failure(export) && atomic_load(&export->opened.image->in_flight) > 0;
	atomic_store(&export->forcing, force);
	export_set_state(export, EXPORT_STOPPING);
	return 0;
}

/* With the lock. */
static int end_or_join(struct daemon_export *export, const struct unexport_request *request,
		       struct error *err)
{
	if (export->state != EXPORT_STOPPING)
		return export_begin_end(export, request->force, request->timeout, err);
	if (request->force && export->address)
		nbd_server_cut(export->address->server, export->name);
	return 0;
}

/* With the lock. NULL when nobody needs to wait for it. */
static struct daemon_export *find_awaited(struct exports *exports, unsigned long id)
{
	list_for_each(entry, &exports->table) {
		struct daemon_export *export = list_entry(entry, struct daemon_export, entry);

		if (export->id == id)
			return export->given_up ? NULL : export;
	}
	return NULL;
}

/* With the lock. By force it is gone for everybody, whatever its storage does. */
static int give_up(struct daemon_export *export, bool force, struct error *err)
{
	if (!force)
		return error_set(err, -ETIMEDOUT,
				 "It is no longer exported, but its storage still holds "
				 "requests; the image is closed when they end.");
	export->given_up = true;
	pthread_cond_broadcast(&export->exports->changed);
	log_warning("%s: its storage does not let go of the image yet", export->name);
	return 0;
}

/* With the lock. Clients get the time that was given, closing the image a little more; all of the
 * time is the image's where clients get none. */
static int await_end(struct exports *exports, unsigned long id,
		     const struct unexport_request *request, struct error *err)
{
	unsigned patience = request->force ? MIN(request->timeout, FORCED_CLOSE)
					   : request->timeout + CLOSE_GRACE;
	struct timespec deadline = deadline_in(patience);
	struct daemon_export *export;

	while ((export = find_awaited(exports, id)))
		if (pthread_cond_timedwait(&exports->changed, &exports->lock, &deadline) ==
		    ETIMEDOUT)
			return give_up(export, request->force, err);
	return 0;
}

int exports_remove(struct exports *exports, const struct unexport_request *request, json_t **ret,
		   struct error *err)
{
	struct daemon_export *export = NULL;
	json_t *result = NULL;
	unsigned long id = 0;
	int r;

	pthread_mutex_lock(&exports->lock);
	r = export_find(exports, request, &export, err);
	if (r == 0) {
		id = export->id;
		result = json_pack("{s:s}", "name", export->name);
		r = end_or_join(export, request, err);
	}
	if (r == 0)
		r = await_end(exports, id, request, err);
	pthread_mutex_unlock(&exports->lock);
	if (r < 0)
		json_decref(result);
	else
		*ret = result;
	return r;
}
