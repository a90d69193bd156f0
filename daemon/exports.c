#include "daemon/export.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/text.h"
#include "daemon/access.h"
#include "daemon/settings.h"
#include "daemon/stat.h"
#include "nbd/server.h"

/* How long clients get to finish when the daemon ends. */
#define STOP_GRACE 5
#define RETRY_MS   1000 /* until what had no thread to end it gets another try */

static const char *const state_names[] = { "opening", "live", "changing", "blocked", "stopping" };

/* --- Adding ----------------------------------------------------------------------------------- */

static json_t *result_of(const struct daemon_export *export, bool existing)
{
	return json_pack("{s:s, s:s, s:b, s:b}", "name", export->name, "uri", export->uri,
			 "existing", existing, "read_only", export->read_only);
}

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
	if (other->state == EXPORT_BLOCKED)
		return error_set(err, -EBUSY,
				 "It is exported already, and waits for its storage: %s%s",
				 other->reason, text_stop(other->reason));
	if (other->state != EXPORT_LIVE)
		return error_set(err, -EBUSY,
				 "'%s' is being exported, unexported or changed by somebody else. "
				 "Try again.",
				 export->name);
	if (export_failure(other))
		return error_set(
			err, -EBUSY,
			"It is exported already, and has failed (%s). Unexport that first.",
			export_failure(other));
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
	r = export_open(export, request, err);
	if (r < 0) {
		export_close(export);
		return r;
	}
	pthread_mutex_lock(&exports->lock);
	*ret = result_of(export, false);
	log_info("%s is exported%s", export->uri, export->read_only ? ", read-only" : "");
	export_set_state(export, EXPORT_LIVE);
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

/* --- All of them ------------------------------------------------------------------------------ */

/* With the lock. */
static json_t *row_of(const struct daemon_export *export)
{
	bool blocked = export->state == EXPORT_BLOCKED;
	bool live = export->state == EXPORT_LIVE || export->state == EXPORT_CHANGING || blocked;
	const char *failure = export->state == EXPORT_LIVE ? export_failure(export) : NULL;
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
		r = sweeper_start(&exports->replacer, "urbd-exports", exports_replace, exports);
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

/* With the lock: those that were given up, or the others. */
static unsigned count(const struct exports *exports, bool given_up)
{
	unsigned n = 0;

	list_for_each(entry, &exports->table)
		n += list_entry(entry, struct daemon_export, entry)->given_up == given_up;
	return n;
}

/* With the lock. */
static void begin_all_ends(struct exports *exports, const struct timespec *deadline)
{
	struct error ignored = ERROR_NONE;

	list_for_each(entry, &exports->table) {
		struct daemon_export *export = list_entry(entry, struct daemon_export, entry);

		if (export->state == EXPORT_BLOCKED)
			export_begin_end(export, true, 0, &ignored);
		else if (export->state == EXPORT_LIVE)
			export_begin_end(export, false, MIN(deadline_left(deadline), STOP_GRACE),
					 &ignored);
	}
}

/* With the lock. Not for long: one for whose end there was no thread gets another try. */
static void wait_for_ends(struct exports *exports, const struct timespec *deadline)
{
	struct timespec next = deadline_in_ms(MIN(RETRY_MS, deadline_left_ms(deadline)));

	pthread_cond_timedwait(&exports->changed, &exports->lock, &next);
}

unsigned exports_stop(struct exports *exports, const struct timespec *deadline,
		      unsigned *ret_given_up)
{
	unsigned left;

	pthread_mutex_lock(&exports->lock);
	for (;;) { /* one that was being opened or changed may be live by then */
		begin_all_ends(exports, deadline);
		left = count(exports, false);
		if (left == 0 || deadline_passed(deadline))
			break;
		wait_for_ends(exports, deadline);
	}
	*ret_given_up = count(exports, true);
	pthread_mutex_unlock(&exports->lock);
	return left;
}

void exports_destroy(struct exports *exports)
{
	if (!exports)
		return;
	sweeper_stop(&exports->replacer);
	exports_free(exports);
}
