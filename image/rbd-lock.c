#include "image/rbd-lock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bounded.h"
#include "image/client-rados.h"
#include "image/fence.h"
#include "image/rbd-open.h"
#include "image/rbd-watchers.h"

/* Owns the image, because the caller may have left when the claim comes back. */
struct claim_job {
	struct bounded bounded;
	struct rbd_image *rbd; /* closed, and NULL, once result is negative */
	enum rbd_lock lock;
	struct error error;
	int result;
};

/* Watchers. */

static int64_t own_id(const struct claim_job *job)
{
	return (int64_t)rados_get_instance_id(rbd_client_cluster(job->rbd->client));
}

/*
 * A client watches once for each image that it has open, and nothing tells its watches apart: one
 * of our client's is ours, and another is another opening of the image by this daemon.
 */
static const rbd_image_watcher_t *find_other(const struct watchers *watchers, int64_t own)
{
	bool own_seen = false;

	for (size_t i = 0; i < watchers->count; i++) {
		if (watchers->list[i].id != own || own_seen)
			return &watchers->list[i];
		own_seen = true;
	}
	return NULL;
}

static const rbd_image_watcher_t *find_address(const struct watchers *watchers, const char *address)
{
	for (size_t i = 0; i < watchers->count; i++)
		if (strcmp(watchers->list[i].addr, address) == 0)
			return &watchers->list[i];
	return NULL;
}

static const char *whose(const struct claim_job *job, const rbd_image_watcher_t *watcher)
{
	return watcher->id == own_id(job) ? ", this very urbdd," : "";
}

static int cannot_look(struct claim_job *job, int code)
{
	return error_set(&job->error, code,
			 "Cannot see who else uses it: %s. 'rbd status' may say more.",
			 errno_text(code));
}

/* An image without the lock: whoever watches it may write to it. */
static int check_watchers(struct claim_job *job)
{
	const rbd_image_watcher_t *other;
	struct watchers watchers;
	int r = watchers_list(job->rbd->rbd, &watchers);

	if (r < 0)
		return cannot_look(job, r);
	other = find_other(&watchers, own_id(job));
	if (other)
		r = error_set(&job->error, -EBUSY,
			      "client.%" PRId64 " at %s%s has it open for writing ('rbd status' "
			      "shows it), and it has no exclusive-lock feature that would keep two "
			      "writers apart. Let it go there first, or open it --read-only.",
			      other->id, other->addr, whose(job, other));
	watchers_free(&watchers);
	return r;
}

/* The lock. */

/* The living watch what they hold. 0 when @owner does not. */
static int check_alive(struct claim_job *job, const char *owner)
{
	const rbd_image_watcher_t *holder;
	struct watchers watchers;
	int r = watchers_list(job->rbd->rbd, &watchers);

	if (r < 0)
		return cannot_look(job, r);
	holder = find_address(&watchers, owner);
	if (holder)
		r = error_set(&job->error, -EBUSY,
			      "client.%" PRId64 " at %s%s holds its exclusive lock ('rbd lock ls' "
			      "shows it). Let it go there first.",
			      holder->id, owner, whose(job, holder));
	watchers_free(&watchers);
	return r;
}

/* 0: nobody holds the lock, or somebody dead, whom librbd fences before it takes the lock away. */
static int check_owner(struct claim_job *job)
{
	rbd_lock_mode_t mode;
	char *owner = NULL;
	size_t count = 1;
	int r = rbd_lock_get_owners(job->rbd->rbd, &mode, &owner, &count);

	if (r == -ENOENT)
		return 0;
	if (r == -EBUSY)
		return error_set(&job->error, r,
				 "It is locked by hand: 'rbd lock ls' shows by whom, and 'rbd lock "
				 "rm' takes the lock away.");
	if (r < 0)
		return cannot_look(job, r);
	r = count ? check_alive(job, owner) : 0;
	rbd_lock_get_owners_cleanup(&owner, count);
	return r;
}

static int explain_lock(struct claim_job *job, int code)
{
	switch (code) {
	case -EROFS: /* the answer of a holder that keeps it */
	case -EBUSY:
	case -EAGAIN:
		return error_set(&job->error, -EBUSY,
				 "Somebody else took its exclusive lock at the same moment ('rbd "
				 "lock ls' shows who).");
	case -EPERM:
	case -EACCES:
		return error_set(
			&job->error, code,
			"%s may not take its exclusive lock: give it the caps mon 'profile "
			"rbd', which may also blocklist a dead holder, and osd 'profile "
			"rbd'.",
			rbd_client_user(job->rbd->client));
	default:
		return error_set(&job->error, code,
				 "Cannot take its exclusive lock: %s. 'rbd lock ls' and 'ceph "
				 "health' may say more.",
				 errno_text(code));
	}
}

/*
 * librbd would ask a holder for the lock, and most give it away; but their writes would fail from
 * then on. So a holder that lives is left alone, but for one that comes between the two calls.
 */
static int take_lock(struct claim_job *job)
{
	int r = check_owner(job);

	if (r < 0)
		return r;
	r = rbd_lock_acquire(job->rbd->rbd, RBD_LOCK_MODE_EXCLUSIVE);
	if (r < 0)
		return explain_lock(job, r);
	job->rbd->held = true;
	return 0;
}

/* Claiming. */

static void close_claimed(struct claim_job *job)
{
	if (job->rbd)
		image_close(&job->rbd->image);
	job->rbd = NULL;
}

/* Closes here what was refused: that needs the cluster as well. */
static void run_claim(struct bounded *bounded)
{
	struct claim_job *job = container_of(bounded, struct claim_job, bounded);

	job->result = job->lock == RBD_LOCK_EXCLUSIVE ? take_lock(job) : check_watchers(job);
	if (job->result < 0)
		close_claimed(job);
}

static void abandon_claim(struct bounded *bounded)
{
	struct claim_job *job = container_of(bounded, struct claim_job, bounded);

	close_claimed(job);
	free(job);
}

/* Takes @rbd over, and gives it back through *ret. */
static int claim(struct rbd_image *rbd, enum rbd_lock lock, unsigned timeout, struct image **ret,
		 struct error *err)
{
	struct claim_job *job = calloc(1, sizeof(*job));
	int r;

	if (!job) {
		image_close(&rbd->image);
		return error_set(err, -ENOMEM, "Out of memory.");
	}
	job->bounded.run = run_claim;
	job->bounded.abandoned = abandon_claim;
	job->rbd = rbd;
	job->lock = lock;
	r = bounded_run(&job->bounded, timeout);
	if (r == -ETIMEDOUT)
		return error_set(err, r,
				 "Seeing who else uses it took more than %u seconds: the cluster "
				 "does not answer ('ceph health' says more).",
				 timeout);
	if (r < 0) {
		error_set(err, r, "Cannot start a thread: %s.", errno_text(r));
		close_claimed(job);
	} else if (job->result < 0) {
		r = job->result;
		*err = job->error;
	} else {
		*ret = &job->rbd->image;
	}
	free(job);
	return r;
}

static int refuse_unlockable(struct rbd_image *rbd, struct error *err)
{
	image_close(&rbd->image);
	return error_set(
		err, -EOPNOTSUPP,
		"It has no exclusive-lock feature: add that with 'rbd feature enable IMAGE "
		"exclusive-lock', or do without --exclusive.");
}

int rbd_image_claim(struct image **image, enum rbd_lock lock, unsigned timeout, struct error *err)
{
	struct rbd_image *rbd = container_of(*image, struct rbd_image, image);

	if (rbd->image.info.read_only || lock == RBD_LOCK_NONE)
		return 0;
	if (lock == RBD_LOCK_AUTO && rbd->lockable)
		return 0;
	*image = NULL;
	if (lock == RBD_LOCK_EXCLUSIVE && !rbd->lockable)
		return refuse_unlockable(rbd, err);
	return claim(rbd, lock, timeout, image, err);
}

/* Taking it over. */

/* Does not own the image, whose close waits until it is idle. */
struct take_job {
	struct bounded bounded;
	struct rbd_image *rbd;
	bool for_good;
	char *former;
	int result;
};

/* A write of nothing takes the lock as any write does, to be handed over on request. */
static void run_take(struct bounded *bounded)
{
	struct take_job *job = container_of(bounded, struct take_job, bounded);
	ssize_t r;

	if (*job->former)
		fence_break_lock(job->rbd->ioctx, job->rbd->rbd, job->former);
	r = job->for_good ? rbd_lock_acquire(job->rbd->rbd, RBD_LOCK_MODE_EXCLUSIVE)
			  : rbd_write(job->rbd->rbd, 0, 0, "");
	job->result = (int)r;
	sem_post(&job->rbd->idle);
}

static void free_take(struct take_job *job)
{
	free(job->former);
	free(job);
}

static void abandon_take(struct bounded *bounded)
{
	free_take(container_of(bounded, struct take_job, bounded));
}

static struct take_job *make_take(struct rbd_image *rbd, enum rbd_lock lock, const char *former)
{
	struct take_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->bounded.run = run_take;
	job->bounded.abandoned = abandon_take;
	job->rbd = rbd;
	job->for_good = lock == RBD_LOCK_EXCLUSIVE;
	job->former = strdup(former ? former : "");
	if (job->former)
		return job;
	free_take(job);
	return NULL;
}

/* What keeps librbd from taking the lock now will be seen by the first write. */
static int judge_take(struct rbd_image *rbd, const struct take_job *job, struct error *err)
{
	rbd->held = job->result == 0;
	if (job->result == -EROFS)
		return error_set(err, -EBUSY,
				 "Another client holds its exclusive lock and keeps it ('rbd lock "
				 "ls' shows which). Let it go there first.");
	if (job->result < 0 && job->for_good) /* who locks it by hand has not taken it */
		return error_set(err, job->result == -EBUSY ? -EAGAIN : job->result,
				 "Cannot take its exclusive lock: %s.", errno_text(job->result));
	return job->result < 0;
}

int rbd_image_take_lock(struct image *image, enum rbd_lock lock, const char *former,
			unsigned timeout, struct error *err)
{
	struct rbd_image *rbd = container_of(image, struct rbd_image, image);
	struct take_job *job;
	int r;

	if (image->info.read_only || !rbd->lockable || rbd->held)
		return 0;
	job = make_take(rbd, lock, former);
	if (!job)
		return error_set(err, -ENOMEM, "Out of memory.");
	if (sem_trywait(&rbd->idle) < 0) { /* an earlier one is at it */
		free_take(job);
		return 1;
	}
	r = bounded_run(&job->bounded, timeout);
	if (r == -ETIMEDOUT && lock != RBD_LOCK_EXCLUSIVE)
		return 1;
	if (r == -ETIMEDOUT)
		return error_set(err, r, "Taking its exclusive lock took more than %u seconds.",
				 timeout);
	if (r < 0) {
		sem_post(&rbd->idle);
		error_set(err, r, "Cannot start a thread: %s.", errno_text(r));
	} else {
		r = judge_take(rbd, job, err);
	}
	free_take(job);
	return r;
}

bool rbd_image_holds_lock(const struct image *image)
{
	return container_of(image, struct rbd_image, image)->held;
}

/* Whether it is cut off. */

struct look_job {
	struct bounded bounded;
	struct rbd_image *rbd; /* whose close waits until it is idle */
	bool cut_off;
};

static void run_look(struct bounded *bounded)
{
	struct look_job *job = container_of(bounded, struct look_job, bounded);
	struct rbd_image *rbd = job->rbd;

	job->cut_off = rados_stat(rbd->ioctx, rbd->header, NULL, NULL) == -ESHUTDOWN;
	sem_post(&rbd->idle);
}

static void abandon_look(struct bounded *bounded)
{
	free(container_of(bounded, struct look_job, bounded));
}

bool rbd_image_is_cut_off(struct image *image, unsigned timeout)
{
	struct rbd_image *rbd = container_of(image, struct rbd_image, image);
	struct look_job *job = calloc(1, sizeof(*job));
	bool cut_off = false;
	int r;

	if (!job || sem_trywait(&rbd->idle) < 0) {
		free(job);
		return false;
	}
	*job = (struct look_job){ { .run = run_look, .abandoned = abandon_look }, rbd, false };
	r = bounded_run(&job->bounded, timeout);
	if (r == -ETIMEDOUT)
		return false;
	if (r < 0)
		sem_post(&rbd->idle);
	else
		cut_off = job->cut_off;
	free(job);
	return cut_off;
}
