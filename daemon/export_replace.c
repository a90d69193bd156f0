/*
 * An export without an image, because its client was cut off from the cluster, or because it could
 * not be opened again: the gate holds its I/O, and a thread opens the image once more, unless
 * somebody else has taken its lock meanwhile.
 */
#include "daemon/export.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/thread.h"
#include "core/gate.h"
#include "daemon/access.h"
#include "daemon/client_pool.h"
#include "daemon/quiesce.h"

#define ATTEMPT_TIMEOUT 30 /* seconds, to open an image once more */
#define PAUSE		2  /* between two attempts */

/* Others that may write to it may do so meanwhile, too. */
void export_reopen_request(const struct daemon_export *export, struct map_request *ret)
{
	access_request(export->names, export->access, ret);
	ret->read_only = export->read_only;
	ret->identity = export->opened.image->identity;
	ret->former_client = *export->former ? export->former : NULL;
	ret->former_held = export->former_held;
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
	export->former_held = false;
	atomic_store(&export->cut_off, false);
	gate_resume(export->gate, opened->image);
}

int export_reopen(struct daemon_export *export, struct opener_tries *tries,
		  const struct timespec *deadline, struct error *err)
{
	struct client_pool *clients = export->exports->clients;
	struct map_request request;
	struct opened opened;
	int r;

	export_reopen_request(export, &request);
	request.timeout = deadline_left(deadline);
	r = opener_reopen(clients, &request, tries, &opened, err);
	if (r == 0 && (export->exclusive || *export->former)) {
		export->former_held = false; /* from here on others may be in its place */
		r = opener_take_lock(&opened, &request, err);
		if (r < 0)
			opener_close(clients, &opened);
	}
	if (r < 0)
		return r;
	attach(export, &opened);
	return 0;
}

/* For good: what is left to do is to unexport it. */
static void fail(struct daemon_export *export, const struct error *why)
{
	pthread_mutex_lock(&export->exports->lock);
	snprintf(export->reason, sizeof(export->reason), "%s", why->text);
	export->closed = true;
	pthread_mutex_unlock(&export->exports->lock);
	gate_fail(export->gate);
	log_error("%s fails all requests: %s", export->uri, why->text);
}

/* Or until it ends by force. */
static void pause_work(struct daemon_export *export)
{
	struct exports *exports = export->exports;
	struct timespec end = deadline_in(PAUSE);

	pthread_mutex_lock(&exports->lock);
	while (!export_is_forced(export) &&
	       pthread_cond_timedwait(&exports->changed, &exports->lock, &end) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&exports->lock);
}

/* Until its image is open, or is known to be another's. */
static void look_for_image(struct daemon_export *export)
{
	struct opener_tries tries = { 0 };
	struct error err = ERROR_NONE;
	struct timespec deadline;
	int r = -EAGAIN;

	while (!export_is_forced(export) && r < 0) {
		deadline = deadline_in(ATTEMPT_TIMEOUT);
		r = export_reopen(export, &tries, &deadline, &err);
		if (r == 0 || export_is_forced(export))
			break;
		if (opener_is_final(r)) {
			fail(export, &err);
			break;
		}
		export_set_reason(export, err.text);
		log_warning("%s waits for its image: %s", export->uri, err.text);
		pause_work(export);
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
	while (!*export->former && !export_await_closed(export, &deadline) &&
	       !export_is_forced(export));
	look_for_image(export);
	pthread_mutex_lock(&exports->lock);
	export_end_work(export, EXPORT_LIVE);
	pthread_mutex_unlock(&exports->lock);
	return NULL;
}

void export_await_image(struct daemon_export *export, const char *reason)
{
	struct exports *exports = export->exports;

	export_set_reason(export, reason);
	pthread_mutex_lock(&exports->lock);
	if (export->state != EXPORT_STOPPING)
		export_set_state(export, EXPORT_BLOCKED);
	export->forsaken = true;
	pthread_mutex_unlock(&exports->lock);
	sweeper_wake(&exports->replacer);
}

/* Everything comes back from a client that is cut off, and quickly as a rule. */
static bool detach(struct daemon_export *export)
{
	struct timespec deadline;

	gate_hold(export->gate);
	do
		deadline = deadline_in(1);
	while (!gate_wait_idle(export->gate, &deadline, &export->forcing) &&
	       !export_is_forced(export));
	return !export_is_forced(export);
}

/* What its cache held is lost with it: the next flush of every client says so. */
static void leave_client(struct daemon_export *export)
{
	struct opened old = { .client = export->opened.client };

	old.image = gate_take_inner(export->gate);
	if (old.image->info.volatile_cache)
		atomic_fetch_add(&export->opened.image->lost, 1);
	if (!export->read_only) {
		snprintf(export->former, sizeof(export->former), "%s",
			 rbd_client_address(pooled_client_rbd(old.client)));
		export->former_held = export->exclusive;
	}
	client_pool_retire(export->exports->clients, old.client);
	export->opened.client = NULL;
	export->opened.rbd = NULL;
	export_close_aside(export, &old);
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

/* With the lock. What waits for a client that is cut off would keep one that ends from ending. */
static bool ends_in_vain(const struct daemon_export *export)
{
	return export->state == EXPORT_STOPPING && atomic_load(&export->cut_off) && export->gate;
}

/* With the lock. Without a client of a cluster nobody can cut it off. */
static bool has_lost_client(const struct daemon_export *export)
{
	return atomic_load(&export->cut_off) && export->state == EXPORT_LIVE && !export->closed &&
	       export->opened.client;
}

static bool begin(struct daemon_export *export, void *(*main)(void *data))
{
	if (thread_detached(main, export) == 0)
		return true;
	log_error("No thread can be had to open the image of %s once more yet.", export->uri);
	return false;
}

/* With the lock. */
static bool begin_replacing(struct daemon_export *export)
{
	if (!begin(export, replace_main))
		return false;
	export->in_work = true;
	snprintf(export->reason, sizeof(export->reason), "its client was cut off from the cluster");
	export_set_state(export, EXPORT_BLOCKED);
	return true;
}

/* With the lock. False when there is no thread. */
static bool begin_what_is_due(struct daemon_export *export)
{
	if (export->forsaken)
		export->forsaken = !begin(export, look_main);
	else if (ends_in_vain(export))
		gate_fail(export->gate);
	else if (has_lost_client(export))
		return begin_replacing(export);
	return !export->forsaken;
}

bool exports_replace(void *data)
{
	struct exports *exports = data;
	bool begun = true;

	pthread_mutex_lock(&exports->lock);
	list_for_each(entry, &exports->table)
		begun &= begin_what_is_due(list_entry(entry, struct daemon_export, entry));
	pthread_mutex_unlock(&exports->lock);
	return begun;
}
