#include "image/failed.h"

#include <errno.h>
#include <stdlib.h>

#define BLOCK 512

static void failed_submit(struct image *image, struct request *request)
{
	request_complete(request, -EIO);
}

static int failed_close(struct image *image)
{
	free(image);
	return 0;
}

static const struct image_ops failed_ops = {
	.name = "failed",
	.submit = failed_submit,
	.close = failed_close,
};

int failed_image_open(uint64_t size, struct image **ret, struct error *err)
{
	struct image *image = calloc(1, sizeof(*image));

	if (!image)
		return error_set(err, -ENOMEM, "Out of memory.");
	image->ops = &failed_ops;
	image->info = (struct image_info){
		.size = size,
		.block_size = BLOCK,
		.physical_block_size = BLOCK,
	};
	*ret = image;
	return 0;
}
