/*
 * Scope-bound cleanup: `cleanup_free char *s = NULL;` frees s when the scope ends. Hand a value out
 * of its scope with take_ptr() or take_fd(), which leave the variable empty.
 */
#pragma once

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_fn(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_fn(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define cleanup(fn)   __attribute__((cleanup(fn)))
#define cleanup_free  cleanup(cleanup_free_fn)
#define cleanup_close cleanup(cleanup_close_fn)

#define take_ptr(p)                     \
	({                              \
		typeof(p) taken_ = (p); \
		(p) = NULL;             \
		taken_;                 \
	})

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}
