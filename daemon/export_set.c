/* Settings of an export's image, changed while clients use it: see settings.h. */
#include "daemon/export.h"

#include <errno.h>

#include "common/log.h"
#include "control/client.h"
#include "core/flush.h"
#include "core/gate.h"
#include "daemon/queues.h"
#include "daemon/quiesce.h"
#include "daemon/settings.h"

/* With the lock: *ret is changing, and the caller's. */
static int begin_change(struct exports *exports, const struct unexport_request *request,
			struct daemon_export **ret, struct error *err)
{
	int r = export_find(exports, request, ret, err);

	if (r == 0 && (*ret)->state != EXPORT_LIVE)
		return export_not_found(request, err);
	if (r == 0 && export_failure(*ret))
		return error_set(err, -EBUSY, "It has failed (%s). Unexport it.",
				 export_failure(*ret));
	if (r == 0) {
		(*ret)->state = EXPORT_CHANGING;
		(*ret)->in_work = true;
	}
	return r;
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
	if (r == 0 || export_is_forced(export))
		return r;
	atomic_fetch_add(&export->opened.image->lost, 1);
	log_error("%s: its storage did not take what is in its cache (%s)", export->uri,
		  errno_text(r));
	return error_set(err, r,
			 "Nothing is changed: its storage did not take what is in its cache (%s). "
			 "The clients' next flushes fail, too.",
			 errno_text(r));
}

/* What its client still had cannot be stored, and its lock not let go of. */
static int check_client(struct daemon_export *export, const struct timespec *deadline,
			struct error *err)
{
	if (!atomic_load(&export->cut_off) && !opener_is_cut_off(&export->opened, deadline))
		return 0;
	export_cut_off(export);
	return error_set(err, -EAGAIN,
			 "The client of %s was cut off from the cluster; the export goes on with "
			 "another one. Try again.",
			 export->name);
}

/* Until nothing of it is on the way to the storage any more. */
static int come_to_rest(struct daemon_export *export, const struct timespec *deadline,
			struct error *err)
{
	int r = quiesce_end(export->opened.image, export->name, deadline, &export->forcing, err);

	gate_hold(export->gate);
	if (r < 0)
		return r;
	if (!gate_wait_idle(export->gate, deadline, &export->forcing))
		return settings_refuse_busy(err);
	return check_client(export, deadline, err);
}

static int give_back(struct daemon_export *export, struct image *inner, struct error *err)
{
	quiesce_go_on(inner);
	gate_resume(export->gate, inner);
	return export_is_forced(export) ? taken_away(export, err) : err->code;
}

/* Held, then closed: see export_await_closed(). After a failure it goes on as before. */
static int close_image(struct daemon_export *export, const struct timespec *deadline,
		       struct error *err)
{
	struct opened old = { .client = export->opened.client };
	int r = come_to_rest(export, deadline, err);

	old.image = gate_take_inner(export->gate);
	if (r == 0)
		r = store_cache(export, old.image, deadline, err);
	if (r < 0)
		return give_back(export, old.image, err);
	export->opened.client = NULL;
	export->opened.rbd = NULL;
	export_close_aside(export, &old);
	return 0;
}

static int stay_closing(struct daemon_export *export, struct error *err)
{
	if (export_is_forced(export))
		return taken_away(export, err);
	return error_set(err, -ETIMEDOUT,
			 "Nothing is changed, and the I/O of %s is held: its storage did not let "
			 "go of the image in time. It goes on by itself when the storage does.",
			 export->name);
}

static int open_as_before(struct daemon_export *export, json_t *before, struct error *err)
{
	set_settings(export, before);
	if (export_is_forced(export))
		return taken_away(export, err);
	return error_prefix(err, "Nothing is changed: ");
}

/* *ret_why: NULL, or why the export has no image yet. */
static int carry_out(struct daemon_export *export, json_t *after, const struct timespec *deadline,
		     const char **ret_why, struct error *err)
{
	cleanup_json json_t *before = settings_of(export->access);
	struct opener_tries first = { 0 };
	int r = close_image(export, deadline, err);

	if (r < 0)
		return r;
	*ret_why = "its storage does not let go of the image";
	if (!export_await_closed(export, deadline))
		return stay_closing(export, err);
	set_settings(export, after);
	r = export_reopen(export, &first, deadline, err);
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
		export_await_image(export, blocked);
		return r;
	}
	pthread_mutex_lock(&exports->lock);
	if (r == 0) {
		log_info("%s has the settings that were asked for", export->uri);
		*ret = json_pack("{s:s, s:o}", "export", export->name, "settings",
				 settings_of(export->access));
	}
	export_end_work(export, EXPORT_LIVE);
	pthread_mutex_unlock(&exports->lock);
	return r;
}
