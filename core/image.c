#include "core/image.h"

#include <errno.h>

#include "common/deadline.h"
#include "core/figures.h"

#define PAUSE_MS 2

static bool writes(enum request_op op)
{
	return op == REQUEST_WRITE || op == REQUEST_DISCARD || op == REQUEST_WRITE_ZEROES;
}

static bool in_range(const struct image *image, const struct request *request)
{
	uint64_t size = atomic_load_explicit(&image->info.size, memory_order_relaxed);

	return request->length <= size && request->offset <= size - request->length;
}

/* 0, or why the image does nothing of that kind. */
static int check_op(const struct image_info *info, enum request_op op)
{
	if (op >= REQUEST_OPS)
		return -EINVAL;
	if (writes(op) && info->read_only)
		return -EROFS;
	if (op == REQUEST_DISCARD && info->discard_granularity == 0)
		return -EOPNOTSUPP;
	if (op == REQUEST_WRITE_ZEROES && info->max_write_zeroes == 0)
		return -EOPNOTSUPP;
	return 0;
}

bool image_takes(const struct image *image, enum request_op op)
{
	return check_op(&image->info, op) == 0;
}

/* 0, or why the image cannot do what the request asks. */
static int check(const struct image *image, const struct request *request)
{
	const struct image_info *info = &image->info;
	int r;

	if (atomic_load_explicit(&info->gone, memory_order_relaxed))
		return -EIO;
	if (request->op == REQUEST_FLUSH)
		return 0;
	r = check_op(info, request->op);
	if (r < 0)
		return r;
	if (request->length == 0)
		return -EINVAL;
	if ((request->offset | request->length) & (info->block_size - 1))
		return -EINVAL;
	if (!in_range(image, request))
		return writes(request->op) ? -ENOSPC : -EINVAL;
	return 0;
}

void image_submit(struct image *image, struct request *request)
{
	int r = check(image, request);

	request->image = image;
	if (image->figures)
		figures_submitted(request);
	atomic_fetch_add_explicit(&image->in_flight, 1, memory_order_relaxed);
	if (r < 0)
		request_complete(request, r);
	else
		image->ops->submit(image, request);
}

void image_listen(struct image *image, void (*changed)(struct image *image, void *data), void *data)
{
	pthread_mutex_lock(&image->listener_lock);
	image->changed = changed;
	image->changed_data = data;
	pthread_mutex_unlock(&image->listener_lock);
}

int image_watch_snapshots(struct image *image, const struct image_quiesce *quiesce)
{
	if (!image->ops->watch_snapshots)
		return -EOPNOTSUPP;
	return image->ops->watch_snapshots(image, quiesce);
}

bool image_set_snapshots(struct image *image, enum image_snapshots to)
{
	return !image->ops->set_snapshots || image->ops->set_snapshots(image, to);
}

static void tell_change(struct image *image)
{
	pthread_mutex_lock(&image->listener_lock);
	if (image->changed)
		image->changed(image, image->changed_data);
	pthread_mutex_unlock(&image->listener_lock);
}

void image_set_size(struct image *image, uint64_t size)
{
	if (atomic_exchange(&image->info.size, size) != size)
		tell_change(image);
}

void image_set_gone(struct image *image)
{
	if (!atomic_exchange(&image->info.gone, true))
		tell_change(image);
}

static void follow(struct image *inner, void *data)
{
	struct image *outer = data;

	image_set_size(outer, atomic_load(&inner->info.size));
	if (atomic_load(&inner->info.gone))
		image_set_gone(outer);
}

void image_follow(struct image *outer, struct image *inner)
{
	image_listen(inner, follow, outer);
	follow(inner, outer);
}

static void wait_idle(struct image *image)
{
	while (atomic_load_explicit(&image->in_flight, memory_order_acquire) > 0)
		pause_ms(PAUSE_MS);
}

int image_close(struct image *image)
{
	struct figures *figures;
	int r;

	if (!image)
		return 0;
	wait_idle(image);
	figures = image->figures;
	r = image->ops->close(image);
	figures_free(figures);
	return r;
}
