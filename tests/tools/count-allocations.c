/*
 * count-allocations: counts what a program itself allocates, as opposed to the storage library
 * behind it. To be preloaded; COUNT_ALLOCATIONS names the file that holds the count, 8 bytes,
 * followed by 8 bytes for each of the first places: addresses as addr2line takes them.
 *
 * An allocation is the program's own if its code is the first on the stack that is neither the C
 * library's nor a helper's: strdup() in it counts, and a string that librbd makes for it does not.
 */
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLACES_MAX  64
#define STORAGE_MAX 8
#define DEPTH	    24

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

struct range {
	uintptr_t begin, end;
};

struct counter {
	atomic_uint_least64_t count;
	uint64_t places[PLACES_MAX];
};

static const char *const storage_names[] = { "/librbd.so", "/librados.so", "/libceph-common.so",
					     "/libstdc++.so" };

static struct range own, storage[STORAGE_MAX];
static unsigned nr_storage;
static uintptr_t own_base;
static struct counter *counter;
static __thread bool counting;

static bool is_in(const struct range *range, uintptr_t address)
{
	return address >= range->begin && address < range->end;
}

static bool is_storage(uintptr_t address)
{
	for (unsigned i = 0; i < nr_storage; i++)
		if (is_in(&storage[i], address))
			return true;
	return false;
}

/* The place in the program that an allocation is for; 0: it is not the program's own. */
static uintptr_t own_place(uintptr_t caller)
{
	void *frames[DEPTH];
	int depth;

	if (is_in(&own, caller))
		return caller;
	if (is_storage(caller))
		return 0;
	depth = backtrace(frames, DEPTH);
	for (int i = 0; i < depth; i++) {
		if (is_in(&own, (uintptr_t)frames[i]))
			return (uintptr_t)frames[i];
		if (is_storage((uintptr_t)frames[i]))
			return 0;
	}
	return 0;
}

static void count(void *caller)
{
	uintptr_t place;
	uint64_t nth;

	if (!counter || counting)
		return;
	counting = true;
	place = own_place((uintptr_t)caller);
	counting = false;
	if (!place)
		return;
	nth = atomic_fetch_add(&counter->count, 1);
	if (nth < PLACES_MAX)
		counter->places[nth] = place - own_base;
}

void *malloc(size_t size)
{
	count(__builtin_return_address(0));
	return __libc_malloc(size);
}

void *calloc(size_t nmemb, size_t size)
{
	count(__builtin_return_address(0));
	return __libc_calloc(nmemb, size);
}

void *realloc(void *memory, size_t size)
{
	count(__builtin_return_address(0));
	return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size)
{
	count(__builtin_return_address(0));
	return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	count(__builtin_return_address(0));
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
	count(__builtin_return_address(0));
	*ret = __libc_memalign(alignment, size);
	return *ret ? 0 : ENOMEM;
}

static bool code_of(const struct dl_phdr_info *info, struct range *ret)
{
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

		if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
			continue;
		ret->begin = info->dlpi_addr + segment->p_vaddr;
		ret->end = ret->begin + segment->p_memsz;
		return true;
	}
	return false;
}

/* The first object is the program. */
static int note_object(struct dl_phdr_info *info, size_t size, void *data)
{
	if (own.end == 0) {
		own_base = info->dlpi_addr;
		code_of(info, &own);
		return 0;
	}
	for (size_t i = 0; i < sizeof(storage_names) / sizeof(storage_names[0]); i++)
		if (strstr(info->dlpi_name, storage_names[i]) && nr_storage < STORAGE_MAX &&
		    code_of(info, &storage[nr_storage]))
			nr_storage++;
	return 0;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("COUNT_ALLOCATIONS");
	void *frames[1], *shared;
	int fd;

	unsetenv("LD_PRELOAD"); /* children are not of interest */
	if (!path)
		return;
	dl_iterate_phdr(note_object, NULL);
	backtrace(frames, 1); /* it loads what it needs now */
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(*counter)) < 0)
		_exit(126);
	shared = mmap(NULL, sizeof(*counter), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (shared == MAP_FAILED)
		_exit(126);
	counter = shared;
}
