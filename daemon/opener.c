#include "daemon/opener.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/log.h"
#include "daemon/client_pool.h"
#include "daemon/reporter.h"
#include "image/fault.h"
#include "image/fence.h"
#include "image/file.h"
#include "image/null.h"
#include "image/rbd-lock.h"
#include "image/rbd.h"

/*
 * The request's options as the client wants them; strings stay the request's, and @seconds.
 * librados itself gives up what an OSD does not answer; devices that differ in this do not share a
 * client.
 */
static struct rbd_client_option *list_options(const struct map_request *request,
					      const char *seconds, size_t *ret_count)
{
	json_t *options = request->options, *settings = request->settings;
	struct rbd_client_option *list =
		calloc(json_object_size(options) + json_object_size(settings) + 2, sizeof(*list));
	const char *key;
	size_t count = 0;
	json_t *value;

	if (!list)
		return NULL;
	json_object_foreach(options, key, value)
		if (!json_object_get(settings, key))
			list[count++] = (struct rbd_client_option){ key, json_string_value(value) };
	json_object_foreach(settings, key, value)
		list[count++] = (struct rbd_client_option){ key, json_string_value(value) };
	if (request->io_timeout)
		list[count++] = (struct rbd_client_option){ "rados_osd_op_timeout", seconds };
	*ret_count = count;
	return list;
}

static int get_client(struct client_pool *clients, const struct map_request *request,
		      struct pooled_client **ret, struct error *err)
{
	size_t nr_options = 0;
	char seconds[16];
	cleanup_free struct rbd_client_option *options = NULL;
	struct rbd_client_config config = {
		.monitors = request->monitors,
		.user = request->user,
		.key = request->key,
		.keyring = request->keyring,
		.conf = request->conf,
		.timeout = request->timeout,
	};

	snprintf(seconds, sizeof(seconds), "%u", request->io_timeout);
	options = list_options(request, seconds, &nr_options);
	if (!options)
		return error_set(err, -ENOMEM, "Out of memory.");
	config.options = options;
	config.nr_options = nr_options;
	return client_pool_get(clients, request->client, &config, ret, err);
}

static unsigned remaining(time_t started, unsigned timeout)
{
	time_t passed = time(NULL) - started;

	return passed < (time_t)timeout ? timeout - (unsigned)passed : 1;
}

/*
 * Keeps away what the dead client may still have sent. Where the caps do not allow that, opening
 * the image waits until the cluster has given the client up: *ret_wait.
 */
static int fence_former(struct rbd_client *client, const struct map_request *request,
			bool *ret_wait, struct error *err)
{
	int r;

	*ret_wait = false;
	if (!request->former_client || !*request->former_client)
		return 0;
	report(request->reporter, "fencing the client of the urbdd that died");
	r = fence_client(client, request->former_client, request->identity ?: "", request->timeout,
			 err);
	if (r != -EPERM)
		return r;
	report(request->reporter, "waiting until the cluster gives up the client of the urbdd that "
				  "died: the caps of this user do not allow to blocklist it");
	*ret_wait = true;
	return 0;
}

static void trace(const struct opened *opened)
{
	const struct rbd_client *client = pooled_client_rbd(opened->client);

	log_debug("%s has the connection %s to cluster %s", rbd_client_user(client),
		  rbd_client_address(client), rbd_client_fsid(client));
}

/* With the client that @opened has. @await_former: see image/rbd.h. */
static int open_rbd_image(const struct map_request *request, bool await_former, unsigned timeout,
			  struct opened *opened, struct error *err)
{
	const struct rbd_image_spec spec = {
		.pool = request->names.pool,
		.namespace = request->names.namespace,
		.image = request->names.image,
		.snapshot = request->names.snapshot,
		.read_only = request->read_only,
		.identity = request->identity,
		.former_client = request->former_client,
		.former_held = request->former_held,
		.await_former = await_former,
		.client_decides = request->client_decides,
	};

	return rbd_image_open(pooled_client_rbd(opened->client), &spec, timeout, &opened->image,
			      err);
}

static int connect_and_open(struct client_pool *clients, const struct map_request *request,
			    struct opened *opened, struct error *err)
{
	time_t started = time(NULL);
	bool await_former;
	int r;

	report(request->reporter, "connecting to the cluster");
	r = get_client(clients, request, &opened->client, err);
	if (r == 0)
		r = fence_former(pooled_client_rbd(opened->client), request, &await_former, err);
	if (r < 0)
		return r;
	trace(opened);
	if (!await_former)
		report(request->reporter, "opening the image");
	return open_rbd_image(request, await_former, remaining(started, request->timeout), opened,
			      err);
}

/*
 * A client that is shared may have been cut off (blocklisted) with nobody at work who would have
 * noticed. Those who have it will, but nobody else shall get it.
 */
static int open_rbd(struct client_pool *clients, const struct map_request *request,
		    struct opened *opened, struct error *err)
{
	int r = connect_and_open(clients, request, opened, err);

	if (r != -ESHUTDOWN)
		return r;
	client_pool_retire(clients, opened->client);
	client_pool_put(clients, opened->client);
	opened->client = NULL;
	return connect_and_open(clients, request, opened, err);
}

static int open_image(struct client_pool *clients, const struct map_request *request,
		      struct opened *opened, struct error *err)
{
	const char *type = request->names.type;

	if (strcmp(type, "rbd") == 0)
		return open_rbd(clients, request, opened, err);
	report(request->reporter, "opening the image");
	if (strcmp(type, "file") == 0)
		return file_image_open(request->names.image, request->read_only, &opened->image,
				       err);
	return null_image_open(request->size, request->read_only, &opened->image, err);
}

/* What is no rbd image can only be opened by its name. */
static int check_identity(const struct map_request *request, const struct image *image,
			  struct error *err)
{
	if (!request->identity || strcmp(request->identity, image->identity) == 0)
		return 0;
	return error_set(err, -ESTALE,
			 "Another file lies at %s than the device had. Unmap it: what "
			 "was not written yet is lost.",
			 request->names.image);
}

/* Claiming. */

#define PAUSE_FIRST 50 /* ms between two looks */
#define PAUSE_LAST  500

#define TAKE_WAIT 5 /* seconds */

/* In a row: together longer than the cluster keeps the watch of a client that is dead (30 s). */
#define IN_USE_TRIES 4

#define LOOK_SECONDS 2 /* for a cluster to say that it refuses a client */

static enum rbd_lock lock_of(const struct map_request *request)
{
	if (strcmp(request->lock, "exclusive") == 0)
		return RBD_LOCK_EXCLUSIVE;
	return strcmp(request->lock, "none") == 0 ? RBD_LOCK_NONE : RBD_LOCK_AUTO;
}

/* The lock of an image that a former client had is not claimed but taken over, later. */
static enum rbd_lock claim_of(const struct map_request *request)
{
	enum rbd_lock lock = lock_of(request);

	return request->identity && lock == RBD_LOCK_EXCLUSIVE ? RBD_LOCK_AUTO : lock;
}

/* Half of it is left to chance, so that two that disturb each other do not go on doing so. */
static void sleep_about(unsigned ms)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	pause_ms(ms / 2 + (unsigned)(now.tv_nsec / 1000) % (ms / 2));
}

/* The image that was refused is closed meanwhile: its watch would hold others up. */
static int open_again(struct opened *opened, const struct map_request *request, unsigned timeout,
		      const char *identity, struct error *err)
{
	int r = open_rbd_image(request, false, timeout, opened, err);

	if (r < 0)
		return r;
	if (strcmp(opened->image->identity, identity) != 0)
		return error_set(err, -ESTALE, "Another image has its name by now. Try again.");
	return 0;
}

/*
 * A watch that was lost for a moment is renewed soon: one that was there before must be missed
 * twice. The lock needs no second look, it is ours.
 */
static int confirm(struct opened *opened, const struct map_request *request,
		   const struct timespec *deadline, struct error *err)
{
	if (claim_of(request) != RBD_LOCK_AUTO)
		return 0;
	sleep_about(PAUSE_LAST);
	return rbd_image_claim(&opened->image, RBD_LOCK_AUTO, deadline_left(deadline), err);
}

static int claim_again(struct opened *opened, const struct map_request *request,
		       const struct timespec *deadline, const char *identity, struct error *err)
{
	struct error busy = *err;
	int r = open_again(opened, request, deadline_left(deadline), identity, err);

	if (r == 0)
		r = rbd_image_claim(&opened->image, claim_of(request), deadline_left(deadline),
				    err);
	if (r == 0)
		r = confirm(opened, request, deadline, err);
	if (r != -ETIMEDOUT)
		return r;
	*err = busy; /* who was seen last says more than that the time is up */
	return busy.code;
}

static int claim_rbd(struct opened *opened, const struct map_request *request,
		     const struct timespec *deadline, struct error *err)
{
	unsigned left = deadline_left(deadline), pause = PAUSE_FIRST;
	/* The last second is for the last look. */
	struct timespec patience = deadline_in(MIN(left - 1, OPENER_CLAIM_WAIT));
	char identity[IMAGE_IDENTITY_MAX];
	int r;

	memcpy(identity, opened->image->identity, sizeof(identity));
	r = rbd_image_claim(&opened->image, claim_of(request), left, err);
	while (r == -EBUSY && !deadline_passed(&patience) && !caller_gone(request->reporter)) {
		report(request->reporter, "waiting for others to let go of the image");
		sleep_about(pause);
		pause = MIN(pause * 3 / 2, PAUSE_LAST);
		r = claim_again(opened, request, deadline, identity, err);
	}
	return r;
}

static int wrap_fault(const struct map_request *request, struct opened *opened, struct error *err)
{
	if (!request->fault)
		return 0;
	return fault_image_wrap(opened->image, request->fault, &opened->image, err);
}

int opener_open(struct client_pool *clients, const struct map_request *request, struct opened *ret,
		struct error *err)
{
	struct opened opened = { 0 };
	int r;

	r = open_image(clients, request, &opened, err);
	if (r == 0)
		r = check_identity(request, opened.image, err);
	if (r < 0) {
		opener_close(clients, &opened);
		return r;
	}
	*ret = opened;
	return 0;
}

int opener_claim(struct opened *opened, const struct map_request *request,
		 const struct timespec *deadline, struct error *err)
{
	int r = 0;

	if (strcmp(request->names.type, "rbd") == 0) {
		r = claim_rbd(opened, request, deadline, err);
		opened->rbd = opened->image;
	}
	return r < 0 ? r : wrap_fault(request, opened, err);
}

bool opener_is_cut_off(const struct opened *opened, const struct timespec *deadline)
{
	if (!opened->rbd || opened->rbd->info.read_only)
		return false;
	return rbd_image_is_cut_off(opened->rbd, MIN(deadline_left(deadline), LOOK_SECONDS));
}

int opener_take_lock(struct opened *opened, const struct map_request *request, struct error *err)
{
	int r;

	if (!opened->rbd)
		return 0;
	r = rbd_image_take_lock(opened->rbd, lock_of(request), request->former_client, TAKE_WAIT,
				err);
	opened->locked = rbd_image_holds_lock(opened->rbd);
	if (r == -EBUSY && request->identity)
		r = err->code = -ESTALE;
	return r;
}

/* *ret_in_use: it could be opened, and was found in use by others. */
static int open_claimed(struct client_pool *clients, const struct map_request *request,
			struct opened *ret, bool *ret_in_use, struct error *err)
{
	struct timespec deadline = deadline_in(request->timeout);
	struct opened opened;
	int r;

	*ret_in_use = false;
	r = opener_open(clients, request, &opened, err);
	if (r < 0)
		return r;
	r = opener_claim(&opened, request, &deadline, err);
	*ret_in_use = r == -EBUSY;
	if (r < 0) {
		opener_close(clients, &opened);
		return r;
	}
	*ret = opened;
	return 0;
}

int opener_open_claimed(struct client_pool *clients, const struct map_request *request,
			struct opened *ret, struct error *err)
{
	bool in_use;

	return open_claimed(clients, request, ret, &in_use, err);
}

static int explain_lost(struct error *err)
{
	struct error busy = *err;

	return error_set(err, -ESTALE,
			 "%s That was so for too long: what was not written here yet must not "
			 "follow what was written there. Unmap or unexport it; what waits is lost.",
			 busy.text);
}

int opener_reopen(struct client_pool *clients, const struct map_request *request,
		  struct opener_tries *tries, struct opened *ret, struct error *err)
{
	bool in_use;
	int r = open_claimed(clients, request, ret, &in_use, err);

	tries->in_use = in_use ? tries->in_use + 1 : 0;
	return tries->in_use < IN_USE_TRIES ? r : explain_lost(err);
}

int opener_close(struct client_pool *clients, struct opened *opened)
{
	int r = image_close(opened->image);

	client_pool_put(clients, opened->client);
	*opened = (struct opened){ 0 };
	return r;
}

void opener_identity(const struct map_request *request, char *ret)
{
	*ret = '\0';
	if (strcmp(request->names.type, "file") == 0)
		file_image_identity(request->names.image, ret);
}
