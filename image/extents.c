#include "image/extents.h"

bool extents_add(struct extents *extents, uint64_t length, bool data)
{
	struct extent *last = extents->count ? &extents->list[extents->count - 1] : NULL;

	if (length == 0)
		return true;
	if (last && last->data == data) {
		last->length += length;
		return true;
	}
	if (extents->count == extents->max)
		return false;
	extents->list[extents->count++] = (struct extent){ .length = length, .data = data };
	return true;
}
