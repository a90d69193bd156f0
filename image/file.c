#include "image/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "image/extents.h"
#include "image/worker.h"

#define BLOCK	     512
#define BUFFER_ALIGN 4096	  /* what core/request.h promises of buffers */
#define IO_MAX	     (1u << 30)	  /* bytes of one ring operation */
#define ZEROED_MAX   (1ull << 31) /* bytes of one request */
#define ZEROES_SIZE  (256u * 1024)

struct file_image {
	struct image image;
	int fd;
	bool block_device;
	struct worker worker; /* extents */
};

/*
 * Where a request is. Most have one step; write-zeroes falls back to writing where the file system
 * cannot zero a range, and ends with a sync for FUA.
 */
enum step { STEP_MAIN, STEP_WRITE_ZEROES, STEP_SYNC };

/* Use of request.scratch. request.image is not ours where the image is wrapped (image/fault). */
enum scratch { SCRATCH_FILE, SCRATCH_STEP, SCRATCH_DONE /* bytes */ };

/* What zeroes are written from; never written to. */
static char zeroes[ZEROES_SIZE] __attribute__((aligned(BUFFER_ALIGN)));

static struct file_image *file_of(struct image *image)
{
	return container_of(image, struct file_image, image);
}

/* Data path. */

static unsigned next_length(const struct request *request, uint64_t max)
{
	return (unsigned)MIN(request->length - request->scratch[SCRATCH_DONE], max);
}

static void prepare_write(struct io_uring_sqe *sqe, int fd, const struct request *request,
			  const void *data, uint64_t max)
{
	io_uring_prep_write(sqe, fd, data, next_length(request, max),
			    request->offset + request->scratch[SCRATCH_DONE]);
	if (request->flags & REQUEST_FUA)
		sqe->rw_flags = RWF_DSYNC;
}

/* Punching a hole zeroes on every file system and block device that takes it. */
static int fallocate_mode(const struct request *request)
{
	if (request->op == REQUEST_WRITE_ZEROES && request->flags & REQUEST_NOUNMAP)
		return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

static void prepare_main(struct io_uring_sqe *sqe, int fd, const struct request *request)
{
	uint64_t done = request->scratch[SCRATCH_DONE];

	switch (request->op) {
	case REQUEST_READ:
		io_uring_prep_read(sqe, fd, (char *)request->buffer + done,
				   next_length(request, IO_MAX), request->offset + done);
		break;
	case REQUEST_WRITE:
		prepare_write(sqe, fd, request, (char *)request->buffer + done, IO_MAX);
		break;
	case REQUEST_FLUSH:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	default:
		io_uring_prep_fallocate(sqe, fd, fallocate_mode(request), (off_t)request->offset,
					(off_t)request->length);
	}
}

static void issue(struct request *request)
{
	struct file_image *file = (struct file_image *)request->scratch[SCRATCH_FILE];
	struct io_uring_sqe *sqe = queue_get_sqe(request->home);

	switch (request->scratch[SCRATCH_STEP]) {
	case STEP_MAIN:
		prepare_main(sqe, file->fd, request);
		break;
	case STEP_WRITE_ZEROES:
		prepare_write(sqe, file->fd, request, zeroes, ZEROES_SIZE);
		break;
	case STEP_SYNC:
		io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
		break;
	}
	queue_sqe_bind(sqe, &request->ring_op);
}

static void issue_step(struct request *request, enum step step)
{
	request->scratch[SCRATCH_STEP] = step;
	request->scratch[SCRATCH_DONE] = 0;
	issue(request);
}

static bool transfers(const struct request *request)
{
	if (request->scratch[SCRATCH_STEP] == STEP_WRITE_ZEROES)
		return true;
	return request->op == REQUEST_READ || request->op == REQUEST_WRITE;
}

/* A part of the transfer is done. The range was checked, so the file has shrunk where nothing
 * comes. */
static void transferred(struct request *request, unsigned bytes)
{
	request->scratch[SCRATCH_DONE] += bytes;
	if (bytes == 0)
		request_complete(request, -EIO);
	else if (request->scratch[SCRATCH_DONE] < request->length)
		issue(request);
	else
		request_complete(request, 0);
}

static void failed(struct request *request, int result)
{
	bool zeroing =
		request->op == REQUEST_WRITE_ZEROES && request->scratch[SCRATCH_STEP] == STEP_MAIN;

	if (result == -EINTR || result == -EAGAIN)
		issue(request);
	else if (zeroing && result == -EOPNOTSUPP && !(request->flags & REQUEST_FAST_ZERO))
		issue_step(request, STEP_WRITE_ZEROES);
	else
		request_complete(request, result);
}

static void step_completed(struct ring_op *op, int result, uint32_t flags)
{
	struct request *request = container_of(op, struct request, ring_op);

	if (result < 0)
		failed(request, result);
	else if (transfers(request))
		transferred(request, (unsigned)result);
	else if (request->op == REQUEST_WRITE_ZEROES && request->flags & REQUEST_FUA &&
		 request->scratch[SCRATCH_STEP] == STEP_MAIN)
		issue_step(request, STEP_SYNC);
	else
		request_complete(request, 0);
}

/* Extents, on the worker (the only user of the descriptor's file position). */

/* The end of the run that begins at @start, at most @end; says whether it holds data. */
static int find_run(int fd, off_t start, off_t end, off_t *ret_end, bool *ret_data)
{
	off_t data = lseek(fd, start, SEEK_DATA), hole;

	if (data < 0 && errno != ENXIO)
		return -errno;
	if (data < 0 || data > start) {
		*ret_end = data < 0 ? end : MIN(data, end);
		*ret_data = false;
		return 0;
	}
	hole = lseek(fd, start, SEEK_HOLE);
	if (hole < 0)
		return -errno;
	*ret_end = MIN(hole, end);
	*ret_data = true;
	return 0;
}

static void run_extents(struct work *work)
{
	struct request *request = container_of(work, struct request, work);
	struct file_image *file = (struct file_image *)request->scratch[SCRATCH_FILE];
	off_t start = (off_t)request->offset, end = start + (off_t)request->length, run_end = 0;
	bool has_data = false;
	int r = 0;

	request->extents->count = 0;
	while (start < end) {
		r = find_run(file->fd, start, end, &run_end, &has_data);
		if (r < 0 || !extents_add(request->extents, (uint64_t)(run_end - start), has_data))
			break;
		start = run_end;
	}
	request_complete(request, r);
}

static void submit_extents(struct file_image *file, struct request *request)
{
	int r;

	request->work.run = run_extents;
	r = worker_post(&file->worker, &request->work);
	if (r < 0)
		request_complete(request, r);
}

static void file_submit(struct image *image, struct request *request)
{
	struct file_image *file = file_of(image);

	request->scratch[SCRATCH_FILE] = (uintptr_t)file;
	if (request->op == REQUEST_EXTENTS) {
		submit_extents(file, request);
		return;
	}
	request->ring_op.complete = step_completed;
	issue_step(request, STEP_MAIN);
}

static int file_close(struct image *image)
{
	struct file_image *file = file_of(image);
	int r;

	worker_deinit(&file->worker);
	r = close(file->fd) < 0 ? -errno : 0;
	free(file);
	return r;
}

static const struct image_ops file_ops = {
	.name = "file",
	.submit = file_submit,
	.close = file_close,
};

/* Opening. */

static int refuse(const char *path, int code, struct error *err)
{
	switch (code) {
	case -ENOENT:
		return error_set(err, code, "There is no file %s.", path);
	case -EACCES:
	case -EPERM:
		return error_set(err, code, "No permission to open %s.", path);
	case -EROFS:
		return error_set(err, code, "%s cannot be written: give --read-only.", path);
	case -EBUSY:
		return error_set(err, code,
				 "%s is in use, by a mount or another device: unmount it first.",
				 path);
	default:
		return error_set(err, code, "Cannot open %s: %s.", path, errno_text(code));
	}
}

/* Whether this process has the file open otherwise than by @fd. */
static bool is_open_here(int fd)
{
	DIR *dir = opendir("/proc/self/fd");
	struct stat own = { 0 }, st;
	struct dirent *entry;
	bool found = false;

	if (!dir)
		return false;
	(void)!fstat(fd, &own);
	while (!found && (entry = readdir(dir)) != NULL)
		found = atoi(entry->d_name) != fd && fstat(atoi(entry->d_name), &st) == 0 &&
			st.st_dev == own.st_dev && st.st_ino == own.st_ino;
	closedir(dir);
	return found;
}

/* A file that another one writes is not ours to touch; one that others read is not ours to write.
 */
static int lock(int fd, const char *path, bool read_only, struct error *err)
{
	struct flock whole = {
		.l_type = read_only ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
		return 0;
	if (errno != EAGAIN && errno != EACCES)
		return error_set(err, -errno, "Cannot lock %s: %s.", path, errno_text(errno));
	return error_set(err, -EBUSY, "%s is locked: %s has it open%s.", path,
			 is_open_here(fd) ? "this very urbdd" : "another program",
			 read_only ? " for writing" : "");
}

static int read_geometry(struct file_image *file, const char *path, const struct stat *st,
			 struct error *err)
{
	struct image_info *info = &file->image.info;
	uint64_t size = (uint64_t)st->st_size;
	unsigned physical = 4096, optimal = 0;
	int logical = BLOCK;

	if (file->block_device) {
		if (ioctl(file->fd, BLKGETSIZE64, &size) < 0 ||
		    ioctl(file->fd, BLKSSZGET, &logical) < 0)
			return error_set(err, -errno, "Cannot ask %s for its size: %s.", path,
					 errno_text(errno));
		ioctl(file->fd, BLKPBSZGET, &physical);
		ioctl(file->fd, BLKIOOPT, &optimal);
	}
	if (size == 0 || size % (unsigned)logical)
		return error_set(err, -EINVAL,
				 "%s has %" PRIu64 " bytes: its size must be a multiple of %d, "
				 "and not 0 (truncate -s makes it so).",
				 path, size, logical);
	info->size = size;
	info->block_size = (uint32_t)logical;
	info->physical_block_size = MAX(physical, info->block_size);
	info->optimal_io = optimal;
	return 0;
}

/*
 * Direct I/O goes only where it takes each block of ours from each buffer of ours. The kernel says
 * so since 6.1 (STATX_DIOALIGN); where it is silent, trying to read the first block tells.
 */
static bool direct_io_fits(int fd, uint32_t block_size)
{
	char room[2 * BUFFER_ALIGN];
	void *block = (void *)(((uintptr_t)room + BUFFER_ALIGN - 1) & ~(BUFFER_ALIGN - 1ul));
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    stx.stx_mask & STATX_DIOALIGN)
		return stx.stx_dio_mem_align && stx.stx_dio_mem_align <= BUFFER_ALIGN &&
		       stx.stx_dio_offset_align <= block_size;
	return pread(fd, block, block_size, 0) == (ssize_t)block_size;
}

static void choose_direct_io(int fd, uint32_t block_size)
{
	int flags = fcntl(fd, F_GETFL);

	if (fcntl(fd, F_SETFL, flags | O_DIRECT) == 0 && !direct_io_fits(fd, block_size))
		fcntl(fd, F_SETFL, flags);
}

static int open_path(const char *path, bool read_only, struct stat *st, struct error *err)
{
	int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK, fd;

	if (stat(path, st) < 0)
		return refuse(path, -errno, err);
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return error_set(err, -EINVAL, "%s is neither a file nor a block device.", path);
	/* A block device opened so is claimed: nobody can mount it meanwhile. */
	if (S_ISBLK(st->st_mode) && !read_only)
		flags |= O_EXCL;
	fd = open(path, flags);
	if (fd < 0)
		return refuse(path, -errno, err);
	return fd;
}

/* A block device is itself, whatever file names it. */
static void format_identity(const struct stat *st, char *ret)
{
	bool block_device = S_ISBLK(st->st_mode);
	dev_t dev = block_device ? st->st_rdev : st->st_dev;

	snprintf(ret, IMAGE_IDENTITY_MAX, "file:%u.%u:%" PRIu64, major(dev), minor(dev),
		 block_device ? 0 : (uint64_t)st->st_ino);
}

void file_image_identity(const char *path, char *ret)
{
	struct stat st;

	if (stat(path, &st) == 0)
		format_identity(&st, ret);
	else
		*ret = '\0';
}

static void describe(struct file_image *file, const struct stat *st, bool read_only)
{
	struct image_info *info = &file->image.info;

	info->discard_granularity = info->physical_block_size;
	info->max_discard = ZEROED_MAX;
	info->max_write_zeroes = ZEROED_MAX;
	info->read_only = read_only;
	info->volatile_cache = true;
	info->fast_zero = true;
	info->extents = !file->block_device;
	format_identity(st, file->image.identity);
}

int file_image_open(const char *path, bool read_only, struct image **ret, struct error *err)
{
	cleanup_free struct file_image *file = calloc(1, sizeof(*file));
	cleanup_close int fd = -1;
	struct stat st;
	int r;

	if (!file)
		return error_set(err, -ENOMEM, "Out of memory.");
	fd = open_path(path, read_only, &st, err);
	if (fd < 0)
		return fd;
	file->image.ops = &file_ops;
	file->block_device = S_ISBLK(st.st_mode);
	file->fd = fd;
	r = lock(fd, path, read_only, err);
	if (r < 0)
		return r;
	r = read_geometry(file, path, &st, err);
	if (r < 0)
		return r;
	choose_direct_io(fd, file->image.info.block_size);
	describe(file, &st, read_only);
	worker_init(&file->worker);
	take_fd(&fd);
	*ret = &take_ptr(file)->image;
	return 0;
}
