#include "image/rbd-open.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bounded.h"
#include "common/cleanup.h"
#include "common/deadline.h"
#include "image/client-rados.h"
#include "image/fence.h"
#include "image/rbd-options.h"

#define BLOCK	      512
#define ID_MAX	      128
/* Who takes an image only for a moment, as 'rbd snap create' does, is looked at so often, so far
 * apart. */
#define PASSING_LOOKS 20
#define LOOK_MS	      250

#define ZEROED_OBJECTS 32 /* stripes that one discard may cover: bounds what waits behind it */

/*
 * What librbd discards is rounded inwards to this many bytes (rbd_discard_granularity_bytes), which
 * is also krbd's alloc_size: a file system made on either finds the same geometry.
 */
#define ALLOC_SIZE (64u * 1024)

/* Owns what the open touches, because the caller may have left when it comes back. */
struct open_job {
	struct bounded bounded;
	struct rbd_client *client; /* a reference */
	char *pool, *namespace, *name, *snapshot;
	char *turn;
	char path[512]; /* for sentences: pool/namespace/image@snapshot */
	char *identity, *former_client;
	bool read_only, await_former, former_held, client_decides;
	struct timespec patience; /* for others: ends before the caller's time does */
	struct rbd_image *image;  /* the outcome */
	struct error error;
	int result;
};

int rbd_image_free(struct rbd_image *rbd)
{
	int r = 0;

	worker_deinit(&rbd->worker);
	while (sem_wait(&rbd->idle) < 0)
		;
	sem_destroy(&rbd->idle);
	if (rbd->rbd)
		r = rbd_close(rbd->rbd);
	if (rbd->ioctx)
		rados_ioctx_destroy(rbd->ioctx);
	rbd_client_unref(rbd->client);
	free(rbd);
	return r;
}

/* Sentences. */

static bool snapshot_alone_is_absent(const struct open_job *job, rados_ioctx_t ioctx)
{
	rbd_image_t image;

	if (!job->snapshot || rbd_open_read_only(ioctx, job->name, &image, NULL) < 0)
		return false;
	rbd_close(image);
	return true;
}

static bool namespace_is_absent(const struct open_job *job, rados_ioctx_t ioctx)
{
	bool exists = true;

	return job->namespace && rbd_namespace_exists(ioctx, job->namespace, &exists) == 0 &&
	       !exists;
}

static int explain_absent(struct open_job *job, rados_ioctx_t ioctx)
{
	if (snapshot_alone_is_absent(job, ioctx))
		return error_set(&job->error, -ENOENT,
				 "Image %s has no snapshot '%s' ('rbd snap ls' lists them).",
				 job->name, job->snapshot);
	if (namespace_is_absent(job, ioctx))
		return error_set(&job->error, -ENOENT,
				 "Pool %s has no namespace '%s': check the name ('rbd namespace ls "
				 "%s' lists them), or create it.",
				 job->pool, job->namespace, job->pool);
	return error_set(&job->error, -ENOENT,
			 "There is no image '%s' in pool %s%s%s: create it, or check the names.",
			 job->name, job->pool, job->namespace ? ", namespace " : "",
			 job->namespace ? job->namespace : "");
}

static int explain_caps(struct open_job *job, int code)
{
	const char *user = rbd_client_user(job->client);

	if (job->read_only)
		return error_set(&job->error, code,
				 "%s may not read %s: give it the caps mon 'profile rbd' and osd "
				 "'profile rbd-read-only pool=%s'.",
				 user, job->path, job->pool);
	return error_set(&job->error, code,
			 "%s may not write to %s: give it the caps mon 'profile rbd' and osd "
			 "'profile rbd pool=%s', or use it read-only.",
			 user, job->path, job->pool);
}

static int explain_open(struct open_job *job, rados_ioctx_t ioctx, int code)
{
	switch (code) {
	case -ENOENT:
		return explain_absent(job, ioctx);
	case -EPERM:
	case -EACCES:
		return explain_caps(job, code);
	case -EROFS:
		return error_set(&job->error, code, "%s cannot be written: use it read-only.",
				 job->path);
	case -ESHUTDOWN:
		return error_set(
			&job->error, code,
			"The cluster has blocklisted this client: remove it with 'ceph osd "
			"blocklist rm %s' ('ceph osd blocklist ls' shows it), and map "
			"again.",
			rbd_client_address(job->client));
	case -ENOSYS:
		return error_set(&job->error, code,
				 "%s has features that this librbd does not know ('rbd info' lists "
				 "them): upgrade librbd on this node, or take them away with 'rbd "
				 "feature disable'.",
				 job->path);
	default:
		return error_set(&job->error, code,
				 "Cannot open %s: %s. 'rbd info' and 'ceph health' may say more.",
				 job->path, errno_text(code));
	}
}

static int explain_pool(struct open_job *job, int code)
{
	if (code == -ENOENT)
		return error_set(
			&job->error, code,
			"There is no pool '%s' in cluster %s: create it, or check the name.",
			job->pool, rbd_client_fsid(job->client));
	return error_set(&job->error, code,
			 "Cannot use pool %s as %s: %s. Check the user's caps ('ceph auth get') "
			 "and the pool ('ceph osd pool ls detail').",
			 job->pool, rbd_client_user(job->client), errno_text(code));
}

/* Describing an open image. */

/* A clone's object map is silent on what its parent holds. */
static bool has_parent(rbd_image_t image)
{
	rbd_linked_image_spec_t parent;
	rbd_snap_spec_t snapshot;

	if (rbd_get_parent(image, &parent, &snapshot) < 0)
		return false;
	rbd_linked_image_spec_cleanup(&parent);
	rbd_snap_spec_cleanup(&snapshot);
	return true;
}

static int describe_layout(struct rbd_image *rbd)
{
	struct image_info *info = &rbd->image.info;
	uint64_t unit, count, features, stripe;
	rbd_image_info_t stat;
	int r;

	if ((r = rbd_stat(rbd->rbd, &stat, sizeof(stat))) < 0 ||
	    (r = rbd_get_stripe_unit(rbd->rbd, &unit)) < 0 ||
	    (r = rbd_get_stripe_count(rbd->rbd, &count)) < 0 ||
	    (r = rbd_get_features(rbd->rbd, &features)) < 0)
		return r;
	stripe = stat.obj_size * count;
	info->size = stat.size - stat.size % BLOCK;
	info->optimal_io = stripe > UINT32_MAX ? (uint32_t)stat.obj_size : (uint32_t)stripe;
	info->max_discard = info->max_write_zeroes = stripe * ZEROED_OBJECTS;
	/* With fancy striping librbd reports the runs out of order. */
	info->extents = count == 1 && unit == stat.obj_size;
	rbd->object_size = stat.obj_size;
	rbd->lockable = features & RBD_FEATURE_EXCLUSIVE_LOCK;
	rbd->fast_extents = features & RBD_FEATURE_FAST_DIFF && !has_parent(rbd->rbd);
	return 0;
}

/* Images of the old format have no id. */
static void name_header(struct rbd_image *rbd, const char *name)
{
	char id[ID_MAX];

	if (rbd_get_id(rbd->rbd, id, sizeof(id)) == 0)
		snprintf(rbd->header, sizeof(rbd->header), "rbd_header.%s", id);
	else
		snprintf(rbd->header, sizeof(rbd->header), "%s.rbd", name);
}

static int describe(struct rbd_image *rbd, const struct open_job *job)
{
	struct image_info *info = &rbd->image.info;
	int r;

	*info = (struct image_info){
		.block_size = BLOCK,
		.physical_block_size = BLOCK,
		.minimum_io = ALLOC_SIZE,
		.discard_granularity = ALLOC_SIZE,
		.read_only = job->read_only,
		.fast_zero = true,
	};
	name_header(rbd, job->name);
	r = describe_layout(rbd);
	if (r < 0)
		return r;
	if (!job->read_only)
		rbd_describe_writes(rbd->rbd, info);
	return 0;
}

/* The parts of an identity, as identify() joins them. */
struct known {
	char fsid[64], namespace[256], id[ID_MAX];
	int64_t pool;
	uint64_t snapshot;
	bool has_snapshot;
};

static bool parse_identity(const char *text, struct known *ret)
{
	char *copy = strdup(text), *rest = copy, *fsid, *pool, *namespace, *snapshot;
	bool whole = false;

	if (!copy)
		return false;
	strsep(&rest, ":");
	fsid = strsep(&rest, "/");
	pool = strsep(&rest, "/");
	namespace = strsep(&rest, "/");
	if (rest && strncmp(text, "rbd:", 4) == 0) {
		snapshot = strrchr(rest, '@');
		ret->has_snapshot = snapshot != NULL;
		ret->snapshot = snapshot ? strtoull(snapshot + 1, NULL, 10) : 0;
		if (snapshot)
			*snapshot = '\0';
		ret->pool = strtoll(pool, NULL, 10);
		whole = snprintf(ret->fsid, sizeof(ret->fsid), "%s", fsid) <
				(int)sizeof(ret->fsid) &&
			snprintf(ret->namespace, sizeof(ret->namespace), "%s", namespace) <
				(int)sizeof(ret->namespace) &&
			snprintf(ret->id, sizeof(ret->id), "%s", rest) < (int)sizeof(ret->id);
	}
	free(copy);
	return whole;
}

/* Images of the old format have no id; within a pool their name stands for it. */
static int identify(struct rbd_image *rbd, const struct open_job *job)
{
	char id[ID_MAX], snapshot[32] = "";
	uint64_t snapshot_id;
	int r;

	if (rbd_get_id(rbd->rbd, id, sizeof(id)) < 0)
		snprintf(id, sizeof(id), "=%s", job->name);
	if (job->snapshot) {
		r = rbd_snap_get_id(rbd->rbd, job->snapshot, &snapshot_id);
		if (r < 0)
			return r;
		snprintf(snapshot, sizeof(snapshot), "@%" PRIu64, snapshot_id);
	}
	r = snprintf(rbd->image.identity, sizeof(rbd->image.identity), "rbd:%s/%" PRId64 "/%s/%s%s",
		     rbd_client_fsid(job->client), rados_ioctx_get_id(rbd->ioctx),
		     job->namespace ? job->namespace : "", id, snapshot);
	return r < (int)sizeof(rbd->image.identity) ? 0 : -ENAMETOOLONG;
}

/* Opening. */

static int open_pool(struct open_job *job, struct rbd_image *rbd)
{
	int r = rados_ioctx_create(rbd_client_cluster(job->client), job->pool, &rbd->ioctx);

	if (r < 0) {
		rbd->ioctx = NULL;
		return explain_pool(job, r);
	}
	if (job->namespace)
		rados_ioctx_set_namespace(rbd->ioctx, job->namespace);
	return 0;
}

/* Opening again what was open before: by its ids, so that no other image can take its place. */

static int explain_gone(struct open_job *job)
{
	return error_set(&job->error, -ESTALE,
			 "The image that was %s is gone; one that bears its name now is another.",
			 job->path);
}

static int open_by_id(struct rbd_image *rbd, const struct known *known, bool read_only)
{
	const char *name = known->id[0] == '=' ? known->id + 1 : NULL;
	int r;

	if (name)
		r = read_only ? rbd_open_read_only(rbd->ioctx, name, &rbd->rbd, NULL)
			      : rbd_open(rbd->ioctx, name, &rbd->rbd, NULL);
	else
		r = read_only ? rbd_open_by_id_read_only(rbd->ioctx, known->id, &rbd->rbd, NULL)
			      : rbd_open_by_id(rbd->ioctx, known->id, &rbd->rbd, NULL);
	if (r < 0)
		rbd->rbd = NULL;
	else if (known->has_snapshot)
		r = rbd_snap_set_by_id(rbd->rbd, known->snapshot);
	return r;
}

static int open_known(struct open_job *job, struct rbd_image *rbd)
{
	struct known known;
	int r;

	if (!parse_identity(job->identity, &known))
		return error_set(&job->error, -EINVAL, "'%s' is no identity of an image.",
				 job->identity);
	if (strcmp(known.fsid, rbd_client_fsid(job->client)) != 0)
		return error_set(
			&job->error, -ESTALE,
			"The monitors are those of cluster %s now, and %s was in cluster %s.",
			rbd_client_fsid(job->client), job->path, known.fsid);
	r = rados_ioctx_create2(rbd_client_cluster(job->client), known.pool, &rbd->ioctx);
	if (r < 0) {
		rbd->ioctx = NULL;
		return r == -ENOENT ? explain_gone(job) : explain_pool(job, r);
	}
	rados_ioctx_set_namespace(rbd->ioctx, known.namespace);
	r = open_by_id(rbd, &known, job->read_only);
	if (r == -ENOENT)
		return explain_gone(job);
	if (r < 0)
		return explain_open(job, rbd->ioctx, r);
	if ((r = describe(rbd, job)) < 0)
		return error_set(&job->error, r, "Cannot read what %s is: %s.", job->path,
				 errno_text(r));
	snprintf(rbd->image.identity, sizeof(rbd->image.identity), "%s", job->identity);
	return 0;
}

/*
 * Where the former client has left in order there is nothing of its to keep away, and others are
 * free to pass by.
 */
static int look_for_owner(struct open_job *job, struct rbd_image *rbd, char *owner, size_t size)
{
	int r = fence_owner(rbd->rbd, job->former_client, owner, size);

	for (int i = 0; r == FENCE_OTHER && !*job->former_client && i < PASSING_LOOKS; i++) {
		pause_ms(LOOK_MS);
		r = fence_owner(rbd->rbd, job->former_client, owner, size);
	}
	return r;
}

static int explain_taken(struct open_job *job, const char *owner)
{
	return error_set(&job->error, -ESTALE,
			 "%s%s has taken %s meanwhile, and may have written to it: what was not "
			 "written here yet must not follow.",
			 *owner ? "The client at " : "Another client", owner, job->path);
}

/*
 * The next open of the image waits for this one: it must not wait on when nobody wants it any more.
 */
static int await_former(struct open_job *job, struct rbd_image *rbd)
{
	int r = fence_await_unwatched(rbd->rbd, job->former_client, &job->patience);

	if (r < 0)
		return error_set(&job->error, r, "Cannot read who watches %s: %s.", job->path,
				 errno_text(r));
	if (r > 0)
		return error_set(&job->error, -ETIMEDOUT,
				 "The cluster has not given up the former client of %s yet ('rbd "
				 "status' shows its watch).",
				 job->path);
	return 0;
}

/* Whether another has had the lock since the former client. */
static bool is_taken(const struct open_job *job, enum fence_owner owner)
{
	return owner == FENCE_OTHER || (job->former_held && owner != FENCE_FORMER);
}

/* Nobody may have written to the image since its former client did. */
static int succeed_former(struct open_job *job, struct rbd_image *rbd)
{
	char owner[128] = "";
	int r;

	if (!job->identity || !job->former_client || job->read_only)
		return 0;
	r = rbd->lockable ? look_for_owner(job, rbd, owner, sizeof(owner)) : FENCE_FORMER;
	if (r < 0)
		return error_set(&job->error, r, "Cannot see who has the lock of %s: %s.",
				 job->path, errno_text(r));
	if (is_taken(job, r))
		return explain_taken(job, owner);
	if (r == FENCE_BY_HAND)
		return error_set(&job->error, -EBUSY,
				 "%s is locked by hand: 'rbd lock ls' shows by whom, and 'rbd lock "
				 "rm' takes the lock away.",
				 job->path);
	return job->await_former ? await_former(job, rbd) : 0;
}

static int open_image(struct open_job *job, struct rbd_image *rbd)
{
	int r;

	if (job->read_only)
		r = rbd_open_read_only(rbd->ioctx, job->name, &rbd->rbd, job->snapshot);
	else
		r = rbd_open(rbd->ioctx, job->name, &rbd->rbd, NULL);
	if (r < 0) {
		rbd->rbd = NULL;
		return explain_open(job, rbd->ioctx, r);
	}
	if ((r = describe(rbd, job)) < 0 || (r = identify(rbd, job)) < 0)
		return error_set(
			&job->error, r,
			"Cannot read what %s is: %s. 'rbd info' may say more; if it works, "
			"map again.",
			job->path, errno_text(r));
	if (rbd->image.info.size == 0)
		return error_set(&job->error, -EINVAL, "%s has no size: resize it first.",
				 job->path);
	return 0;
}

static void run_open(struct bounded *bounded)
{
	struct open_job *job = container_of(bounded, struct open_job, bounded);
	struct rbd_image *rbd = calloc(1, sizeof(*rbd));

	if (!rbd) {
		job->result = error_set(&job->error, -ENOMEM, "Out of memory.");
		return;
	}
	rbd->client = rbd_client_ref(job->client);
	worker_init(&rbd->worker);
	sem_init(&rbd->idle, 0, 1);
	/* A map from before the cluster was back would cost it 10 s to find the OSDs. */
	if (bounded->waited)
		rados_wait_for_latest_osdmap(rbd_client_cluster(job->client));
	if (job->identity)
		job->result = open_known(job, rbd);
	else if ((job->result = open_pool(job, rbd)) == 0)
		job->result = open_image(job, rbd);
	if (job->result == 0)
		job->result = succeed_former(job, rbd);
	if (job->result == 0 && job->client_decides)
		job->result = rbd_check_limits(rbd->rbd, job->path, &job->error);
	if (job->result == 0)
		job->image = rbd;
	else
		rbd_image_free(rbd);
}

static void free_job(struct open_job *job)
{
	rbd_client_unref(job->client);
	free(job->pool);
	free(job->namespace);
	free(job->name);
	free(job->snapshot);
	free(job->identity);
	free(job->former_client);
	free(job->turn);
	free(job);
}

static void abandon_open(struct bounded *bounded)
{
	struct open_job *job = container_of(bounded, struct open_job, bounded);

	if (job->image)
		rbd_image_free(job->image);
	free_job(job);
}

static bool given(const char *text)
{
	return text && *text;
}

/*
 * Opens of one image wait for each other, whichever client they have: on a cluster that does not
 * answer each would leave a thread and a connection behind. What is read-only may get on where the
 * other does not (the pool is full), and other monitors may answer.
 */
static char *name_turn(const struct open_job *job)
{
	char monitors[1024] = "", *name;
	int r;

	rados_conf_get(rbd_client_cluster(job->client), "mon_host", monitors, sizeof(monitors));
	r = asprintf(&name, "open %s %s/%s/%s@%s%s", monitors, job->pool, job->namespace ?: "",
		     job->name, job->snapshot ?: "", job->read_only ? " read-only" : "");
	return r < 0 ? NULL : name;
}

static struct open_job *make_job(struct rbd_client *client, const struct rbd_image_spec *spec)
{
	struct open_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->bounded.run = run_open;
	job->bounded.abandoned = abandon_open;
	job->client = rbd_client_ref(client);
	job->read_only = spec->read_only || given(spec->snapshot);
	job->pool = strdup(spec->pool);
	job->name = strdup(spec->image);
	job->namespace = given(spec->namespace) ? strdup(spec->namespace) : NULL;
	job->snapshot = given(spec->snapshot) ? strdup(spec->snapshot) : NULL;
	job->identity = given(spec->identity) ? strdup(spec->identity) : NULL;
	job->former_client = spec->former_client ? strdup(spec->former_client) : NULL;
	job->await_former = spec->await_former;
	job->former_held = spec->former_held;
	job->client_decides = spec->client_decides;
	snprintf(job->path, sizeof(job->path), "%s%s%s/%s%s%s", spec->pool,
		 job->namespace ? "/" : "", job->namespace ? job->namespace : "", spec->image,
		 job->snapshot ? "@" : "", job->snapshot ? job->snapshot : "");
	job->bounded.name = job->turn = name_turn(job);
	if (job->pool && job->name && job->turn && !job->namespace == !given(spec->namespace) &&
	    !job->snapshot == !given(spec->snapshot) && !job->identity == !given(spec->identity) &&
	    !job->former_client == !spec->former_client)
		return job;
	free_job(job);
	return NULL;
}

static int explain_late(const char *image, unsigned timeout, int code, struct error *err)
{
	if (code == -EALREADY)
		return error_set(err, -ETIMEDOUT,
				 "Opening image %s was not begun: an earlier try has not ended "
				 "within %u seconds ('ceph health' may say why).",
				 image, timeout);
	return error_set(err, code,
			 "Opening image %s took more than %u seconds: the cluster does not answer "
			 "('ceph health' says more).",
			 image, timeout);
}

int rbd_image_open_bounded(struct rbd_client *client, const struct rbd_image_spec *spec,
			   unsigned timeout, struct rbd_image **ret, struct error *err)
{
	struct open_job *job = make_job(client, spec);
	int r;

	if (!job)
		return error_set(err, -ENOMEM, "Out of memory.");
	job->patience = deadline_in(timeout > 0 ? timeout - 1 : 0);
	r = bounded_run(&job->bounded, timeout);
	if (r == -ETIMEDOUT || r == -EALREADY)
		return explain_late(spec->image, timeout, r, err);
	if (r < 0) {
		error_set(err, r, "Cannot start a thread: %s.", errno_text(r));
	} else if (job->result < 0) {
		r = job->result;
		*err = job->error;
	} else {
		*ret = job->image;
	}
	free_job(job);
	return r;
}
