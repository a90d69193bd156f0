#include "image/rbd.h"

#include <errno.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "image/extents.h"
#include "image/rbd-open.h"

/* Use of request.scratch. request.image is not ours where the image is wrapped (image/fault). */
enum scratch { SCRATCH_IMAGE, SCRATCH_FLUSHING /* the flush that FUA asks for is on its way */ };

static struct rbd_image *rbd_of(struct image *image)
{
	return container_of(image, struct rbd_image, image);
}

/*
 * The header: its size, and whether it is still there. librbd tells that something has happened to
 * it before it knows what, on a thread that must not wait for it. It does so, too, when a watch
 * that was lost (with the header, for example) has been asked for again. That the header is gone it
 * says only to the first who asks for anything, often itself: the object is looked for instead.
 */

static void run_look(struct work *work)
{
	struct rbd_image *rbd = container_of(work, struct rbd_image, look_work);
	uint64_t size;

	atomic_store(&rbd->look_posted, false);
	if (rados_stat(rbd->ioctx, rbd->header, NULL, NULL) == -ENOENT)
		image_set_gone(&rbd->image);
	else if (rbd_get_size(rbd->rbd, &size) == 0)
		image_set_size(&rbd->image, size - size % rbd->image.info.block_size);
}

static void header_changed(void *data)
{
	struct rbd_image *rbd = data;

	if (atomic_exchange(&rbd->look_posted, true))
		return;
	if (worker_post(&rbd->worker, &rbd->look_work) < 0)
		atomic_store(&rbd->look_posted, false);
}

/* Data path. */

static bool wants_flush(const struct rbd_image *rbd, const struct request *request)
{
	return request->flags & REQUEST_FUA && rbd->image.info.volatile_cache &&
	       !request->scratch[SCRATCH_FLUSHING];
}

/*
 * librbd says how many bytes it read; everything else ends in 0. What it gives up after the user's
 * time (rados_osd_op_timeout) is an I/O error to whoever is above, on every frontend.
 */
static int result_of(const struct request *request, ssize_t r)
{
	if (r == -ETIMEDOUT)
		return -EIO;
	if (r < 0)
		return (int)r;
	if (request->op == REQUEST_READ && (uint64_t)r != request->length)
		return -EIO;
	return 0;
}

static void start(struct rbd_image *rbd, struct request *request);

/* On a thread of librbd. */
static void completed(rbd_completion_t completion, void *data)
{
	struct request *request = data;
	struct rbd_image *rbd = (struct rbd_image *)request->scratch[SCRATCH_IMAGE];
	int result = result_of(request, rbd_aio_get_return_value(completion));

	rbd_aio_release(completion);
	if (result == 0 && wants_flush(rbd, request)) {
		request->scratch[SCRATCH_FLUSHING] = true;
		start(rbd, request);
		return;
	}
	if (result == -ENOENT) /* of an object that is not there, librbd makes zeroes */
		header_changed(rbd);
	request_complete(request, result);
}

static int call_librbd(struct rbd_image *rbd, const struct request *request, rbd_completion_t c)
{
	int thick = request->flags & REQUEST_NOUNMAP ? RBD_WRITE_ZEROES_FLAG_THICK_PROVISION : 0;

	if (request->scratch[SCRATCH_FLUSHING])
		return rbd_aio_flush(rbd->rbd, c);
	switch (request->op) {
	case REQUEST_READ:
		return rbd_aio_read(rbd->rbd, request->offset, request->length, request->buffer, c);
	case REQUEST_WRITE:
		return rbd_aio_write(rbd->rbd, request->offset, request->length, request->buffer,
				     c);
	case REQUEST_FLUSH:
		return rbd_aio_flush(rbd->rbd, c);
	case REQUEST_DISCARD:
		return rbd_aio_discard(rbd->rbd, request->offset, request->length, c);
	case REQUEST_WRITE_ZEROES:
		return rbd_aio_write_zeroes(rbd->rbd, request->offset, request->length, c, thick,
					    0);
	default:
		return -EOPNOTSUPP;
	}
}

static void start(struct rbd_image *rbd, struct request *request)
{
	rbd_completion_t completion;
	int r = rbd_aio_create_completion(request, completed, &completion);

	if (r < 0) {
		request_complete(request, r);
		return;
	}
	r = call_librbd(rbd, request, completion);
	if (r < 0) {
		rbd_aio_release(completion);
		request_complete(request, r);
	}
}

/* Extents, on the worker: librbd looks them up in blocking calls. */

struct walk {
	struct extents *extents;
	uint64_t next, end; /* what is not answered yet */
	bool full;
};

/* librbd reports what is allocated, in order; what lies between is a hole. */
static int walk_run(uint64_t offset, size_t length, int exists, void *data)
{
	struct walk *walk = data;
	uint64_t start = MAX(offset, walk->next), end = MIN(offset + length, walk->end);

	if (walk->full)
		return -ECANCELED;
	if (!exists || end <= start)
		return 0;
	if (!extents_add(walk->extents, start - walk->next, false) ||
	    !extents_add(walk->extents, end - start, true)) {
		walk->full = true;
		return -ECANCELED;
	}
	walk->next = end;
	return 0;
}

/*
 * librbd of before 2022 reports wrong offsets for a range that does not begin with an object, so
 * ask from the object's begin on.
 */
static int walk_image(struct rbd_image *rbd, struct walk *walk)
{
	uint64_t begin = walk->next - walk->next % rbd->object_size;
	int r = rbd_diff_iterate2(rbd->rbd, NULL, begin, walk->end - begin, true, rbd->fast_extents,
				  walk_run, walk);

	if (walk->full)
		return 0;
	if (r < 0)
		return r;
	extents_add(walk->extents, walk->end - walk->next, false);
	return 0;
}

static void run_extents(struct work *work)
{
	struct request *request = container_of(work, struct request, work);
	struct rbd_image *rbd = (struct rbd_image *)request->scratch[SCRATCH_IMAGE];
	struct walk walk = {
		.extents = request->extents,
		.next = request->offset,
		.end = request->offset + request->length,
	};

	request->extents->count = 0;
	if (rbd->image.info.extents) {
		request_complete(request, walk_image(rbd, &walk));
		return;
	}
	extents_add(request->extents, request->length, true);
	request_complete(request, 0);
}

static void submit_extents(struct rbd_image *rbd, struct request *request)
{
	int r;

	request->work.run = run_extents;
	r = worker_post(&rbd->worker, &request->work);
	if (r < 0)
		request_complete(request, r);
}

static void rbd_submit(struct image *image, struct request *request)
{
	struct rbd_image *rbd = rbd_of(image);

	request->scratch[SCRATCH_IMAGE] = (uintptr_t)rbd;
	request->scratch[SCRATCH_FLUSHING] = false;
	if (request->op == REQUEST_EXTENTS)
		submit_extents(rbd, request);
	else if (request->flags & REQUEST_FAST_ZERO && request->flags & REQUEST_NOUNMAP)
		request_complete(request, -EOPNOTSUPP); /* every byte would be written */
	else
		start(rbd, request);
}

static void header_gone(void *data)
{
	struct rbd_image *rbd = data;

	image_set_gone(&rbd->image);
}

/* librbd has no watch on what it does not write to. */
static int look_after_header(struct rbd_image *rbd)
{
	int r;

	rbd->lookout = (struct lookout){
		.ioctx = rbd->ioctx,
		.object = rbd->header,
		.gone = header_gone,
		.data = rbd,
	};
	r = lookout_start(&rbd->lookout);
	rbd->looked_after = r == 0;
	return r;
}

static int watch_header(struct rbd_image *rbd)
{
	int r;

	rbd->look_work.run = run_look;
	r = rbd_update_watch(rbd->rbd, &rbd->watch, header_changed, rbd);
	rbd->watched = r == 0;
	if (r == 0 && rbd->image.info.read_only)
		r = look_after_header(rbd);
	return r;
}

static int rbd_watch_snapshots(struct image *image, const struct image_quiesce *quiesce)
{
	struct rbd_image *rbd = rbd_of(image);

	return rbd_quiesce_start(rbd->rbd, quiesce, &rbd->quiesce);
}

static bool rbd_set_snapshots(struct image *image, enum image_snapshots to)
{
	struct rbd_quiesce *quiesce = rbd_of(image)->quiesce;

	return !quiesce || rbd_quiesce_set(quiesce, to);
}

static int rbd_image_close(struct image *image)
{
	struct rbd_image *rbd = rbd_of(image);

	rbd_quiesce_stop(rbd->quiesce);
	if (rbd->looked_after)
		lookout_stop(&rbd->lookout);
	if (rbd->watched)
		rbd_update_unwatch(rbd->rbd, rbd->watch);
	return rbd_image_free(rbd);
}

static const struct image_ops rbd_ops = {
	.name = "rbd",
	.submit = rbd_submit,
	.watch_snapshots = rbd_watch_snapshots,
	.set_snapshots = rbd_set_snapshots,
	.close = rbd_image_close,
};

int rbd_image_open(struct rbd_client *client, const struct rbd_image_spec *spec, unsigned timeout,
		   struct image **ret, struct error *err)
{
	struct rbd_image *rbd;
	int r = rbd_image_open_bounded(client, spec, timeout ? timeout : RBD_CLIENT_TIMEOUT_DEFAULT,
				       &rbd, err);

	if (r < 0)
		return r;
	rbd->image.ops = &rbd_ops;
	r = watch_header(rbd);
	if (r < 0) {
		rbd_image_close(&rbd->image);
		return error_set(err, r, "Cannot watch image %s: %s.", spec->image, errno_text(r));
	}
	*ret = &rbd->image;
	return 0;
}
