#include "image/null.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "image/extents.h"

#define BLOCK	   512
#define MAX_ZEROED (1ull << 31)

static void null_submit(struct image *image, struct request *request)
{
	if (request->op == REQUEST_READ)
		memset(request->buffer, 0, request->length);
	if (request->op == REQUEST_EXTENTS) {
		request->extents->count = 0;
		extents_add(request->extents, request->length, false);
	}
	request_complete(request, 0);
}

static int null_close(struct image *image)
{
	free(image);
	return 0;
}

static const struct image_ops null_ops = {
	.name = "null",
	.submit = null_submit,
	.close = null_close,
};

int null_image_open(uint64_t size, bool read_only, struct image **ret, struct error *err)
{
	struct image *image;

	if (size == 0 || size % BLOCK)
		return error_set(err, -EINVAL,
				 "A null image of %" PRIu64
				 " bytes cannot be: give it a multiple of %d bytes, and not 0.",
				 size, BLOCK);
	image = calloc(1, sizeof(*image));
	if (!image)
		return error_set(err, -ENOMEM, "Out of memory.");
	image->ops = &null_ops;
	image->info = (struct image_info){
		.size = size,
		.block_size = BLOCK,
		.physical_block_size = 4096,
		.discard_granularity = BLOCK,
		.max_discard = MAX_ZEROED,
		.max_write_zeroes = MAX_ZEROED,
		.read_only = read_only,
		.fast_zero = true,
		.extents = true,
	};
	*ret = image;
	return 0;
}
