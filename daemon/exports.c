#include "daemon/exports.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/list.h"
#include "common/log.h"
#include "common/text.h"
#include "common/thread.h"
#include "common/worker.h"
#include "control/client.h"
#include "core/figures.h"
#include "core/flush.h"
#include "core/gate.h"
#include "daemon/access.h"
#include "daemon/client_pool.h"
#include "daemon/opener.h"
#include "daemon/queues.h"
#include "daemon/quiesce.h"
#include "daemon/settings.h"
#include "daemon/stat.h"
#include "daemon/trim.h"
#include "nbd/address.h"
#include "nbd/server.h"

#define URI_MAX 16384

/* A file's whole path with its type. What is longer is no name of an export either. */
#define SPEC_MAX (PATH_MAX + 16)

/* How long clients get to finish when the daemon ends. */
#define STOP_GRACE 5

/* How much longer than its clients an image may take to close. */
#define CLOSE_GRACE 1

/* Seconds that an unexport by force waits for the image. */
#define FORCED_CLOSE 4

#define ATTEMPT_TIMEOUT 30 /* seconds, to open an image once more */
#define PAUSE		2  /* between two attempts */

#define FORMER_MAX 256

enum export_state { EXPORT_OPENING, EXPORT_LIVE, EXPORT_CHANGING, EXPORT_BLOCKED, EXPORT_STOPPING };

static const char *const state_names[] = { "opening", "live", "changing", "blocked", "stopping" };

/*
 * In the table from before its image is opened until it is closed. Whoever moves it to `opening`,
 * `changing` (→ live, blocked) or `stopping` works on it without the lock. A blocked one has no
 * image as yet: its I/O is held, and a thread looks for one (→ live). An end by force does not wait
 * for whoever changes it or looks for its image: they give way when they can, and the export is
 * freed when they have.
 */
struct daemon_export {
	struct list entry;
	struct exports *exports;
	unsigned long id;
	enum export_state state;
	json_t *names;	/* {type, pool, namespace, image, snapshot} */
	json_t *access; /* see access.h; `settings` of it changes, with the lock */
	char *name, *listen;
	char *uri; /* once live */
	bool read_only, exclusive;
	struct address *address; /* of whoever works on it, or while live */
	struct opened opened;	 /* its image is that of the gate */
	struct gate *gate;
	struct idleness idleness;
	bool closed;   /* its image could not be opened again: every request fails */
	bool given_up; /* it ends, and its image may hold requests for ever: nobody waits for it */
	bool in_work;  /* of who changes it or looks for its image */
	unsigned closing;	     /* images that it had and that are being closed */
	atomic_bool cut_off;	     /* its client is; set on any thread */
	char former[FORMER_MAX];     /* the client that was, see image/fence.h; "": none */
	atomic_uint forcing;	     /* it ends by force: whoever works on it gives way */
	char reason[ERROR_TEXT_MAX]; /* why it is blocked */
	bool force;		     /* of its end */
	unsigned timeout;	     /* likewise */
};

struct exports {
	struct queues *queues;
	struct client_pool *clients;
	struct addresses *addresses;
	struct export_address first; /* what start-up listens at; strings are its address's */

	pthread_mutex_t lock; /* the table */
	pthread_cond_t changed;
	struct list table;
	struct worker replacer; /* woken when an export is `cut_off` */

	unsigned long last_id;
};

/* --- One export ------------------------------------------------------------------------------- */

static void export_free(struct daemon_export *export)
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

static struct daemon_export *export_new(struct exports *exports,
					const struct export_request *request)
{
	const struct image_names *names = &request->image.names;
	struct daemon_export *export = calloc(1, sizeof(*export));
	char spec[SPEC_MAX];

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

/* With the lock. */
static void set_state(struct daemon_export *export, enum export_state state)
{
	export->state = state;
	pthread_cond_broadcast(&export->exports->changed);
}

static json_t *result_of(const struct daemon_export *export, bool existing)
{
	return json_pack("{s:s, s:s, s:b, s:b}", "name", export->name, "uri", export->uri,
			 "existing", existing, "read_only", export->read_only);
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

static void close_export(struct daemon_export *export)
{
	struct exports *exports = export->exports;
	struct address *address;

	await_workers(export);
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

/* Of one that is live: why it serves nobody, or NULL. */
static const char *failure_of(const struct daemon_export *export)
{
	if (export->closed)
		return export->reason;
	return atomic_load(&export->opened.image->info.gone) ? IMAGE_GONE : NULL;
}

/* Queue thread: no lock, no allocation. */
static void export_cut_off(void *data)
{
	struct daemon_export *export = data;

	if (!atomic_exchange(&export->cut_off, true))
		worker_wake(&export->exports->replacer);
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

/* Opens the image and offers it. */
static int open_export(struct daemon_export *export, const struct export_request *request,
		       struct error *err)
{
	struct exports *exports = export->exports;
	char uri[URI_MAX], spec[SPEC_MAX];
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

/* --- Adding ----------------------------------------------------------------------------------- */

/* With the lock: the export that has this name at this address. */
static struct daemon_export *find_at(struct exports *exports, const char *name, const char *listen)
{
	list_for_each(entry, &exports->table) {
		struct daemon_export *export = list_entry(entry, struct daemon_export, entry);

		if (!export->given_up && strcmp(export->name, name) == 0 &&
		    strcmp(export->listen, listen) == 0)
			return export;
	}
	return NULL;
}

/* With the lock: 1 and *ret when it is there as it is wanted, 0 when @export may enter. */
static int look_for_existing(const struct daemon_export *export,
			     const struct export_address *wanted, json_t **ret, struct error *err)
{
	struct daemon_export *other = find_at(export->exports, export->name, export->listen);
	const char *hook = access_quiesce_hook(export->access);
	int r;

	if (!other)
		return 0;
	if (other->state != EXPORT_LIVE)
		return error_set(err, -EBUSY,
				 "'%s' is being exported, unexported or changed by somebody else. "
				 "Try again.",
				 export->name);
	if (failure_of(other))
		return error_set(
			err, -EBUSY,
			"It is exported already, and has failed (%s). Unexport that first.",
			failure_of(other));
	if (!json_equal(other->names, export->names) || other->read_only != export->read_only)
		return error_set(err, -EEXIST,
				 "There is another export '%s' at %s. Give this one its own "
				 "--export-name.",
				 export->name, export->listen);
	if (export->exclusive && !other->exclusive)
		return error_set(
			err, -EBUSY,
			"It is exported without --exclusive already. Unexport that first.");
	if (hook && !text_same(hook, access_quiesce_hook(other->access)))
		return error_set(
			err, -EBUSY,
			"It is exported without that --quiesce hook already. Unexport that "
			"first.");
	r = address_check(other->address, wanted, err);
	if (r < 0)
		return r;
	*ret = result_of(other, true);
	return 1;
}

static int enter(struct daemon_export *export, const struct export_address *wanted, json_t **ret,
		 struct error *err)
{
	struct exports *exports = export->exports;
	int r;

	pthread_mutex_lock(&exports->lock);
	r = look_for_existing(export, wanted, ret, err);
	if (r == 0) {
		export->id = ++exports->last_id;
		list_append(&exports->table, &export->entry);
	}
	pthread_mutex_unlock(&exports->lock);
	return r;
}

static int add(struct exports *exports, const struct export_request *request, json_t **ret,
	       struct error *err)
{
	struct daemon_export *export = export_new(exports, request);
	int r;

	if (!export)
		return error_set(err, -ENOMEM, "Out of memory.");
	r = enter(export, &request->address, ret, err);
	if (r != 0) {
		export_free(export);
		return r < 0 ? r : 0;
	}
	r = open_export(export, request, err);
	if (r < 0) {
		close_export(export);
		return r;
	}
	pthread_mutex_lock(&exports->lock);
	*ret = result_of(export, false);
	log_info("%s is exported%s", export->uri, export->read_only ? ", read-only" : "");
	set_state(export, EXPORT_LIVE);
	pthread_mutex_unlock(&exports->lock);
	return 0;
}

int exports_listen(struct exports *exports, const struct export_address *address, struct error *err)
{
	struct address *opened = NULL;
	int r = address_get(exports->addresses, address, &opened, err);

	if (r < 0)
		return r;
	exports->first = (struct export_address){ .listen = opened->listen,
						  .tls_certificates = opened->tls_certificates,
						  .tls_keys = opened->tls_keys };
	log_info("NBD clients are served at %s", opened->listen);
	return 0;
}

int exports_add(struct exports *exports, const struct export_request *request, json_t **ret,
		struct error *err)
{
	struct export_request complete = *request;

	/* That of start-up is there for good, and first. */
	if (!complete.address.listen)
		complete.address = exports->first;
	if (!complete.address.listen)
		return error_set(err, -EINVAL,
				 "This urbdd listens nowhere: say where to, with --listen "
				 "unix:PATH or --listen HOST:PORT.");
	return add(exports, &complete, ret, err);
}

/* --- Removing --------------------------------------------------------------------------------- */

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

static int not_exported(const struct unexport_request *request, struct error *err)
{
	char spec[SPEC_MAX];

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
		return not_exported(request, err);
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

/* With the lock. Waits for one that is being opened: it is live then, or was never there. */
static int find_settled(struct exports *exports, const struct unexport_request *request,
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
	close_export(export);
	return NULL;
}

/* With the lock. */
static int begin_end(struct daemon_export *export, bool force, unsigned timeout, struct error *err)
{
	int r;

	export->given_up = failure_of(export) && atomic_load(&export->opened.image->in_flight) > 0;
	export->force = force; /* written once, before the thread is there */
	export->timeout = timeout;
	r = thread_detached(end_export, export);
	if (r < 0)
		return error_set(err, r, "Cannot start a thread: %s.", errno_text(r));
	atomic_store(&export->forcing, force);
	set_state(export, EXPORT_STOPPING);
	return 0;
}

/* With the lock. */
static int end_or_join(struct daemon_export *export, const struct unexport_request *request,
		       struct error *err)
{
	if (export->state != EXPORT_STOPPING)
		return begin_end(export, request->force, request->timeout, err);
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
	r = find_settled(exports, request, &export, err);
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

/* --- Settings --------------------------------------------------------------------------------- */

/* Others that may write to it may do so meanwhile, too. */
static void export_reopen_request(const struct daemon_export *export, struct map_request *ret)
{
	access_request(export->names, export->access, ret);
	ret->read_only = export->read_only;
	ret->identity = export->opened.image->identity;
	ret->former_client = *export->former ? export->former : NULL;
	ret->former_held = *export->former && export->exclusive;
}

/* With the lock: *ret is changing, and the caller's. */
static int begin_change(struct exports *exports, const struct unexport_request *request,
			struct daemon_export **ret, struct error *err)
{
	int r = find_settled(exports, request, ret, err);

	if (r == 0 && (*ret)->state != EXPORT_LIVE)
		return not_exported(request, err);
	if (r == 0 && failure_of(*ret))
		return error_set(err, -EBUSY, "It has failed (%s). Unexport it.", failure_of(*ret));
	if (r == 0) {
		(*ret)->state = EXPORT_CHANGING;
		(*ret)->in_work = true;
	}
	return r;
}

/* With the lock: whoever worked on it does so no more, and it may be gone. */
static void end_work(struct daemon_export *export, enum export_state state)
{
	export->in_work = false;
	set_state(export, export->state == EXPORT_STOPPING ? EXPORT_STOPPING : state);
	worker_wake(&export->exports->replacer); /* its client may have been cut off meanwhile */
}

static bool is_forced(struct daemon_export *export)
{
	return atomic_load(&export->forcing) > 0;
}

static int taken_away(const struct daemon_export *export, struct error *err)
{
	return error_set(err, -ECANCELED, "%s is being unexported by force, or urbdd ends.",
			 export->name);
}

static void set_settings(struct daemon_export *export, json_t *settings)
{
	pthread_mutex_lock(&export->exports->lock);
	json_object_set(export->access, "settings", settings);
	pthread_mutex_unlock(&export->exports->lock);
}

static void attach(struct daemon_export *export, const struct opened *opened)
{
	struct error err = ERROR_NONE;

	if (quiesce_watch(opened->image, access_quiesce_hook(export->access), export->uri, &err) <
	    0)
		log_error("%s: %s", export->uri, err.text);
	export->opened.client = opened->client;
	export->opened.rbd = opened->rbd;
	*export->former = '\0';
	atomic_store(&export->cut_off, false);
	gate_resume(export->gate, opened->image);
}

static int open_again(struct daemon_export *export, const struct timespec *deadline,
		      struct error *err)
{
	struct client_pool *clients = export->exports->clients;
	struct map_request request;
	struct opened opened;
	int r;

	export_reopen_request(export, &request);
	request.timeout = deadline_left(deadline);
	r = opener_open_claimed(clients, &request, &opened, err);
	if (r == 0 && (export->exclusive || *export->former)) {
		r = opener_take_lock(&opened, &request, err);
		if (r < 0)
			opener_close(clients, &opened);
	}
	if (r < 0)
		return r;
	attach(export, &opened);
	return is_forced(export) ? taken_away(export, err) : 0;
}

/*
 * A flush that fails at a close is nobody's request, and may leave nothing to be flushed again: so
 * the image is flushed before, and what fails then fails the next flush of every client.
 */
static int store_cache(struct daemon_export *export, struct image *inner,
		       const struct timespec *deadline, struct error *err)
{
	int r = 0;

	if (inner->info.volatile_cache)
		r = image_flush(inner, export->exports->queues->list[0], deadline,
				&export->forcing);
	if (r == 0 || is_forced(export))
		return r;
	atomic_fetch_add(&export->opened.image->lost, 1);
	log_error("%s: its storage did not take what is in its cache (%s)", export->uri,
		  errno_text(r));
	return error_set(err, r,
			 "Nothing is changed: its storage did not take what is in its cache (%s). "
			 "The clients' next flushes fail, too.",
			 errno_text(r));
}

struct aside {
	struct daemon_export *export;
	struct opened opened;
};

static void *aside_main(void *data)
{
	struct aside *aside = data;
	struct daemon_export *export = aside->export;
	struct exports *exports = export->exports;

	close_opened(export, &aside->opened);
	free(aside);
	pthread_mutex_lock(&exports->lock);
	export->closing--;
	pthread_cond_broadcast(&exports->changed);
	pthread_mutex_unlock(&exports->lock);
	return NULL;
}

/* On a thread of its own, because a cluster that does not answer takes its time. */
static void begin_close(struct daemon_export *export, struct opened *opened)
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
	close_opened(export, opened);
	pthread_mutex_lock(&export->exports->lock);
	export->closing--;
	pthread_mutex_unlock(&export->exports->lock);
}

/* False when it is still being closed at @deadline, or the export is to end. */
static bool await_closed(struct daemon_export *export, const struct timespec *deadline)
{
	struct exports *exports = export->exports;
	bool closed;

	pthread_mutex_lock(&exports->lock);
	while (export->closing && !is_forced(export))
		if (pthread_cond_timedwait(&exports->changed, &exports->lock, deadline) ==
		    ETIMEDOUT)
			break;
	closed = !export->closing;
	pthread_mutex_unlock(&exports->lock);
	return closed && !is_forced(export);
}

static int give_back(struct daemon_export *export, struct image *inner, struct error *err)
{
	gate_resume(export->gate, inner);
	return is_forced(export) ? taken_away(export, err) : err->code;
}

/* Held, then closed: see await_closed(). After a failure it goes on as before. */
static int close_image(struct daemon_export *export, const struct timespec *deadline,
		       struct error *err)
{
	struct opened old = { .client = export->opened.client };

	gate_hold(export->gate);
	if (!gate_wait_idle(export->gate, deadline, &export->forcing)) {
		settings_refuse_busy(err);
		return give_back(export, gate_take_inner(export->gate), err);
	}
	old.image = gate_take_inner(export->gate);
	if (store_cache(export, old.image, deadline, err) < 0)
		return give_back(export, old.image, err);
	export->opened.client = NULL;
	export->opened.rbd = NULL;
	begin_close(export, &old);
	return 0;
}

static void set_reason(struct daemon_export *export, const char *reason)
{
	pthread_mutex_lock(&export->exports->lock);
	snprintf(export->reason, sizeof(export->reason), "%s", reason);
	pthread_mutex_unlock(&export->exports->lock);
}

static void pause_work(struct daemon_export *export, unsigned seconds)
{
	struct exports *exports = export->exports;
	struct timespec end = deadline_in(seconds);

	pthread_mutex_lock(&exports->lock);
	while (!is_forced(export) &&
	       pthread_cond_timedwait(&exports->changed, &exports->lock, &end) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&exports->lock);
}

/* For good: what is left to do is to unexport it. */
static void fail(struct daemon_export *export, const struct error *why)
{
	set_reason(export, why->text);
	export->closed = true;
	gate_fail(export->gate);
	log_error("%s fails all requests: %s", export->uri, why->text);
}

/* Until its image is open, or is known to be another's. */
static void look_for_image(struct daemon_export *export)
{
	struct error err = ERROR_NONE;
	struct timespec deadline;
	int r = -EAGAIN;

	while (!is_forced(export) && r < 0) {
		deadline = deadline_in(ATTEMPT_TIMEOUT);
		r = open_again(export, &deadline, &err);
		if (r == 0 || is_forced(export))
			break;
		if (opener_is_final(r)) {
			fail(export, &err);
			break;
		}
		set_reason(export, err.text);
		log_warning("%s waits for its image: %s", export->uri, err.text);
		pause_work(export, PAUSE);
	}
	if (r == 0)
		log_info("%s goes on", export->uri);
}

static void *look_main(void *data)
{
	struct daemon_export *export = data;
	struct exports *exports = export->exports;
	struct timespec deadline;

	do
		deadline = deadline_in(PAUSE);
	while (!*export->former && !await_closed(export, &deadline) && !is_forced(export));
	look_for_image(export);
	pthread_mutex_lock(&exports->lock);
	end_work(export, EXPORT_LIVE);
	pthread_mutex_unlock(&exports->lock);
	return NULL;
}

/* Of who works on it, and does so no more: a thread goes on with it. */
static void await_image(struct daemon_export *export, const char *reason)
{
	struct exports *exports = export->exports;

	set_reason(export, reason);
	pthread_mutex_lock(&exports->lock);
	if (export->state != EXPORT_STOPPING)
		set_state(export, EXPORT_BLOCKED);
	pthread_mutex_unlock(&exports->lock);
	if (thread_detached(look_main, export) < 0)
		look_main(export);
}

static int stay_closing(struct daemon_export *export, struct error *err)
{
	if (is_forced(export))
		return taken_away(export, err);
	return error_set(err, -ETIMEDOUT,
			 "Nothing is changed, and the I/O of %s is held: its storage did not let "
			 "go of the image in time. It goes on by itself when the storage does.",
			 export->name);
}

static int open_as_before(struct daemon_export *export, json_t *before, struct error *err)
{
	set_settings(export, before);
	if (is_forced(export))
		return taken_away(export, err);
	return error_prefix(err, "Nothing is changed: ");
}

/* *ret_why: NULL, or why the export has no image yet. */
static int carry_out(struct daemon_export *export, json_t *after, const struct timespec *deadline,
		     const char **ret_why, struct error *err)
{
	cleanup_json json_t *before = settings_of(export->access);
	int r = close_image(export, deadline, err);

	if (r < 0)
		return r;
	*ret_why = "its storage does not let go of the image";
	if (!await_closed(export, deadline))
		return stay_closing(export, err);
	set_settings(export, after);
	r = open_again(export, deadline, err);
	*ret_why = r < 0 ? "its image could not be opened again" : NULL;
	return r < 0 ? open_as_before(export, before, err) : 0;
}

static int change(struct daemon_export *export, json_t *changes, const struct timespec *deadline,
		  const char **ret_why, struct error *err)
{
	struct client_pool *clients = export->exports->clients;
	struct map_request request;
	struct settings_plan plan;
	int r;

	export_reopen_request(export, &request);
	request.timeout = deadline_left(deadline);
	r = settings_plan(clients, &request, changes, &plan, err);
	if (r < 0)
		return r;
	if (plan.changes)
		r = carry_out(export, plan.settings, deadline, ret_why, err);
	settings_plan_end(clients, &plan);
	return r;
}

int exports_set(struct exports *exports, const struct unexport_request *request, json_t *changes,
		json_t **ret, struct error *err)
{
	struct timespec deadline = deadline_in(request->timeout);
	struct daemon_export *export;
	const char *blocked = NULL;
	int r;

	pthread_mutex_lock(&exports->lock);
	r = begin_change(exports, request, &export, err);
	pthread_mutex_unlock(&exports->lock);
	if (r < 0)
		return r;
	r = change(export, changes, &deadline, &blocked, err);
	if (blocked) {
		await_image(export, blocked);
		return r;
	}
	pthread_mutex_lock(&exports->lock);
	if (r == 0) {
		log_info("%s has the settings that were asked for", export->uri);
		*ret = json_pack("{s:s, s:o}", "export", export->name, "settings",
				 settings_of(export->access));
	}
	end_work(export, EXPORT_LIVE);
	pthread_mutex_unlock(&exports->lock);
	return r;
}

/* --- Another client -------------------------------------------------------------------------- */

/* Everything comes back from a client that is cut off, and quickly as a rule. */
static bool detach(struct daemon_export *export)
{
	struct timespec deadline;

	gate_hold(export->gate);
	do
		deadline = deadline_in(1);
	while (!gate_wait_idle(export->gate, &deadline, &export->forcing) && !is_forced(export));
	return !is_forced(export);
}

/* What its cache held is lost with it: the next flush of every client says so. */
static void leave_client(struct daemon_export *export)
{
	struct opened old = { .client = export->opened.client };

	old.image = gate_take_inner(export->gate);
	if (old.image->info.volatile_cache)
		atomic_fetch_add(&export->opened.image->lost, 1);
	if (!export->read_only)
		snprintf(export->former, sizeof(export->former), "%s",
			 rbd_client_address(pooled_client_rbd(old.client)));
	client_pool_retire(export->exports->clients, old.client);
	export->opened.client = NULL;
	export->opened.rbd = NULL;
	begin_close(export, &old);
}

static void *replace_main(void *data)
{
	struct daemon_export *export = data;

	log_warning("%s: its client is cut off from the cluster (blocklisted); its I/O waits",
		    export->uri);
	if (detach(export))
		leave_client(export);
	return look_main(export);
}

/* With the lock. Without a client of a cluster nobody can cut it off. */
static bool is_due(const struct daemon_export *export)
{
	return atomic_load(&export->cut_off) && export->state == EXPORT_LIVE && !export->closed &&
	       export->opened.client;
}

/* With the lock. False when there is no thread. */
static bool begin_replacing(struct daemon_export *export)
{
	if (thread_detached(replace_main, export) < 0) {
		log_error("No thread can be had to find another client for %s yet.", export->uri);
		return false;
	}
	export->in_work = true;
	snprintf(export->reason, sizeof(export->reason), "its client was cut off from the cluster");
	set_state(export, EXPORT_BLOCKED);
	return true;
}

/* What somebody else works on is looked at again when that is over. */
static bool replace_all(void *data)
{
	struct exports *exports = data;
	bool begun = true;

	pthread_mutex_lock(&exports->lock);
	list_for_each(entry, &exports->table) {
		struct daemon_export *export = list_entry(entry, struct daemon_export, entry);

		if (is_due(export))
			begun &= begin_replacing(export);
	}
	pthread_mutex_unlock(&exports->lock);
	return begun;
}

/* --- All of them ------------------------------------------------------------------------------ */

/* With the lock. */
static json_t *row_of(const struct daemon_export *export)
{
	bool blocked = export->state == EXPORT_BLOCKED;
	bool live = export->state == EXPORT_LIVE || export->state == EXPORT_CHANGING || blocked;
	const char *failure = export->state == EXPORT_LIVE ? failure_of(export) : NULL;
	const char *reason = blocked ? export->reason : failure;
	json_t *row = json_pack(
		"{s:s, s:s, s:s, s:s, s:b, s:b, s:i, s:s*, s:s*}", "name", export->name, "uri",
		live ? export->uri : "", "listen", export->listen, "state",
		failure ? "failed" : state_names[export->state], "read_only", export->read_only,
		"tls", live && (export->address->tls_certificates || export->address->tls_keys),
		"clients", live ? nbd_server_clients(export->address->server, export->name) : 0,
		"quiesce_hook", access_quiesce_hook(export->access), "reason", reason);

	json_object_update(row, export->names);
	settings_show(row, export->access);
	return row;
}

json_t *exports_list(struct exports *exports)
{
	json_t *rows = json_array();

	pthread_mutex_lock(&exports->lock);
	list_for_each(entry, &exports->table) {
		const struct daemon_export *export = list_entry(entry, struct daemon_export, entry);

		if (!export->given_up)
			json_array_append_new(rows, row_of(export));
	}
	pthread_mutex_unlock(&exports->lock);
	return rows;
}

/* The image of an export that is not live is being opened or closed. */
void exports_visit(struct exports *exports, stat_visit *visit, void *data)
{
	pthread_mutex_lock(&exports->lock);
	list_for_each(entry, &exports->table) {
		const struct daemon_export *export = list_entry(entry, struct daemon_export, entry);
		const struct stat_source source = {
			.export = export->name,
			.listen = export->listen,
			.uri = export->uri,
			.names = export->names,
			.image = export->opened.image,
		};

		if (export->state == EXPORT_LIVE)
			visit(&source, data);
	}
	pthread_mutex_unlock(&exports->lock);
}

bool exports_trim(struct exports *exports, unsigned seconds)
{
	bool any = false;

	pthread_mutex_lock(&exports->lock);
	list_for_each(entry, &exports->table) {
		struct daemon_export *export = list_entry(entry, struct daemon_export, entry);

		if (export->state != EXPORT_LIVE ||
		    !idleness_reached(&export->idleness, export->opened.image, seconds))
			continue;
		nbd_server_trim(export->address->server, export->name);
		any = true;
	}
	pthread_mutex_unlock(&exports->lock);
	return any;
}

static void exports_free(struct exports *exports)
{
	addresses_destroy(exports->addresses);
	pthread_cond_destroy(&exports->changed);
	pthread_mutex_destroy(&exports->lock);
	free(exports);
}

int exports_create(struct queues *queues, struct client_pool *clients,
		   const struct export_limits *limits, struct exports **ret, struct error *err)
{
	struct exports *exports = calloc(1, sizeof(*exports));
	int r;

	if (!exports)
		return error_set(err, -ENOMEM, "Out of memory.");
	exports->queues = queues;
	exports->clients = clients;
	pthread_mutex_init(&exports->lock, NULL);
	deadline_condition(&exports->changed);
	list_init(&exports->table);
	r = addresses_create(queues, limits, &exports->addresses, err);
	if (r == 0) {
		r = worker_start(&exports->replacer, "urbd-exports", replace_all, exports);
		if (r < 0)
			error_set(err, r, "Cannot start a thread: %s.", errno_text(r));
	}
	if (r < 0) {
		exports_free(exports);
		return r;
	}
	*ret = exports;
	return 0;
}

/* With the lock. */
static unsigned count(const struct exports *exports)
{
	unsigned n = 0;

	list_for_each(entry, &exports->table)
		n++;
	return n;
}

/* With the lock. */
static void begin_all_ends(struct exports *exports, const struct timespec *deadline)
{
	struct error ignored = ERROR_NONE;

	list_for_each(entry, &exports->table) {
		struct daemon_export *export = list_entry(entry, struct daemon_export, entry);

		if (export->state == EXPORT_BLOCKED)
			begin_end(export, true, 0, &ignored);
		else if (export->state == EXPORT_LIVE)
			begin_end(export, false, MIN(deadline_left(deadline), STOP_GRACE),
				  &ignored);
	}
}

unsigned exports_stop(struct exports *exports, const struct timespec *deadline)
{
	unsigned left;

	if (!exports)
		return 0;
	pthread_mutex_lock(&exports->lock);
	do /* one that was being opened or changed may be live by then */
		begin_all_ends(exports, deadline);
	while ((left = count(exports)) > 0 &&
	       pthread_cond_timedwait(&exports->changed, &exports->lock, deadline) != ETIMEDOUT);
	pthread_mutex_unlock(&exports->lock);
	return left;
}

void exports_destroy(struct exports *exports)
{
	if (!exports)
		return;
	worker_stop(&exports->replacer);
	exports_free(exports);
}
