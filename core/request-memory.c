#include "core/request-memory.h"

#include <sys/mman.h>

void *request_memory_map(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	madvise(at, size, MADV_NOHUGEPAGE);
	madvise(at, size, MADV_DONTDUMP);
	madvise(at, size, MADV_DONTFORK);
	return at;
}
