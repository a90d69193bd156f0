#include "image/rbd-watchers.h"

#include <errno.h>
#include <stdlib.h>

#define WATCHERS_FEW 8

int watchers_list(rbd_image_t image, struct watchers *ret)
{
	struct watchers watchers = { .count = WATCHERS_FEW };
	int r;

	do {
		free(watchers.list);
		watchers.list = calloc(watchers.count, sizeof(*watchers.list));
		if (!watchers.list)
			return -ENOMEM;
		r = rbd_watchers_list(image, watchers.list, &watchers.count);
	} while (r == -ERANGE); /* the count is what it takes then */
	if (r < 0) {
		free(watchers.list);
		return r;
	}
	*ret = watchers;
	return 0;
}

void watchers_free(struct watchers *watchers)
{
	rbd_watchers_list_cleanup(watchers->list, watchers->count);
	free(watchers->list);
}
