#include "core/request.h"

#include "core/figures.h"
#include "core/image.h"

static const char *const op_names[REQUEST_OPS] = {
	[REQUEST_READ] = "read",
	[REQUEST_WRITE] = "write",
	[REQUEST_FLUSH] = "flush",
	[REQUEST_DISCARD] = "discard",
	[REQUEST_WRITE_ZEROES] = "write-zeroes",
	[REQUEST_EXTENTS] = "extents",
};

const char *request_op_name(enum request_op op)
{
	return op < REQUEST_OPS ? op_names[op] : "unknown";
}

/* Only what failed can be taken back, so that what succeeds pays one comparison for it. */
static bool taken_back(struct image *image, struct request *request)
{
	return image && image->ops->take_back && image->ops->take_back(image, request);
}

/* Its image, while that keeps figures. */
static struct figures *figures_of(const struct request *request)
{
	return request->image ? request->image->figures : NULL;
}

static void finish(struct request *request)
{
	struct image *image = request->image;

	if (request->result < 0 && taken_back(image, request))
		return;
	queue_finished();
	if (figures_of(request))
		figures_finished(image->figures, request);
	request->image = NULL;
	request->done(request);
	if (image)
		atomic_fetch_sub_explicit(&image->in_flight, 1, memory_order_release);
}

static void finish_work(struct work *work)
{
	finish(container_of(work, struct request, work));
}

void request_complete(struct request *request, int result)
{
	request->result = result;
	if (queue_is_current(request->home)) {
		request->completed_at = 0;
		finish(request);
		return;
	}
	if (figures_of(request))
		figures_completed_elsewhere(request);
	request->work.run = finish_work;
	queue_post(request->home, &request->work);
}
