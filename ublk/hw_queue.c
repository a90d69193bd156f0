#include "ublk/hw_queue.h"

#include <errno.h>
#include <linux/capability.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/request-memory.h"
#include "ublk/abi.h"
#include "ublk/io_command.h"
#include "ublk/translate.h"

struct tag {
	struct ring_op op;
	struct request request;
	struct hw_queue *hwq;
	void *buffer;
	uint16_t index;
	bool at_image; /* the image holds the request */
	bool orphan;   /* it does, but the kernel has been answered already */
	bool watched;
};

struct hw_queue {
	struct hw_queue_config config;
	unsigned fetch_opcode, commit_opcode;
	const struct ublksrv_io_desc *descs; /* the kernel writes, one a tag */
	size_t descs_size;
	char *buffers; /* one a tag, and a last one that nobody reads: the sink */
	size_t buffers_size;
	void *sink;
	bool failing; /* home thread */

	/* Written by the home thread alone. */
	atomic_uint live, at_image, watched;
	atomic_int refusal; /* the first errno with which the kernel ended a command, but ABORT */

	struct work trim_work;
	atomic_bool trimming; /* it is posted */
	unsigned trim_next;   /* the tag whose turn it is */
	bool trimmed_last;    /* home thread: trims no more */

	struct ring_op fence_op;
	sem_t fence;
	struct tag tags[];
};

/* A counter with a single writer needs no read-modify-write. */
static void count(atomic_uint *counter, int step)
{
	unsigned value = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, value + (unsigned)step, memory_order_release);
}

static unsigned counted(const atomic_uint *counter)
{
	return atomic_load_explicit(counter, memory_order_acquire);
}

/* The data path, home thread. */

static void tag_issue(struct tag *tag, unsigned opcode, int32_t result)
{
	const struct hw_queue *hwq = tag->hwq;
	struct io_uring_sqe *sqe = queue_get_sqe(hwq->config.home);
	const struct ublksrv_io_cmd cmd = {
		.q_id = (uint16_t)hwq->config.index,
		.tag = tag->index,
		.result = result,
		.addr = (uintptr_t)(hwq->failing ? hwq->sink : tag->buffer),
	};

	ublk_prepare_io(sqe, hwq->config.char_fd, opcode, &cmd);
	queue_sqe_bind(sqe, &tag->op);
}

static void tag_commit(struct tag *tag, int32_t result)
{
	tag_issue(tag, tag->hwq->commit_opcode, result);
}

static void tag_ended(struct tag *tag, int result)
{
	struct hw_queue *hwq = tag->hwq;

	if (result != UBLK_IO_RES_ABORT && atomic_load(&hwq->refusal) == 0)
		atomic_store(&hwq->refusal, result < 0 ? result : -EPROTO);
	count(&hwq->live, -1);
}

/* The image answered. */
static void tag_done(struct request *request)
{
	struct tag *tag = container_of(request, struct tag, request);
	struct hw_queue *hwq = tag->hwq;

	tag->at_image = false;
	if (tag->watched) {
		tag->watched = false;
		count(&hwq->watched, -1);
	}
	if (tag->orphan)
		tag->orphan = false;
	else
		tag_commit(tag, ublk_result_of(request));
	count(&hwq->at_image, -1);
}

/* The kernel ended the tag's command: with an I/O to serve, or for good. */
static void tag_complete(struct ring_op *op, int result, uint32_t flags)
{
	struct tag *tag = container_of(op, struct tag, op);
	struct hw_queue *hwq = tag->hwq;
	int r;

	if (result != UBLK_IO_RES_OK) {
		tag_ended(tag, result);
		return;
	}
	if (hwq->failing) {
		tag_commit(tag, -EIO);
		return;
	}
	r = ublk_request_from(&hwq->descs[tag->index], FRONTEND_MAX_IO, &tag->request);
	if (r < 0) {
		tag_commit(tag, r);
		return;
	}
	tag->at_image = true;
	count(&hwq->at_image, 1);
	image_submit(hwq->config.image, &tag->request);
}

/* Trimming, home thread. */

/*
 * The kernel puts the data of a write into the buffer before it completes the tag's command, and
 * takes the data of a read out of it when it takes the next one: in between nothing of the buffer
 * is needed.
 */
static void trim_tag(struct tag *tag)
{
	if (!tag->at_image && queue_op_waits(tag->hwq->config.home, &tag->op))
		madvise(tag->buffer, FRONTEND_MAX_IO, MADV_DONTNEED);
}

/* One tag, so that others on the queue need not wait for all of them. */
static void run_trim(struct work *work)
{
	struct hw_queue *hwq = container_of(work, struct hw_queue, trim_work);

	trim_tag(&hwq->tags[hwq->trim_next++]);
	if (hwq->trim_next < hwq->config.depth && !hwq->trimmed_last) {
		queue_post(hwq->config.home, work);
		return;
	}
	hwq->trim_next = 0;
	atomic_store(&hwq->trimming, false);
}

static int end_trim(void *data)
{
	struct hw_queue *hwq = data;

	hwq->trimmed_last = true;
	return 0;
}

/* Life. */

static size_t descs_size(unsigned depth)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (depth * sizeof(struct ublksrv_io_desc) + page - 1) / page * page;
}

static int map_descs(struct hw_queue *hwq)
{
	off_t offset = (off_t)(hwq->config.index * descs_size(UBLK_MAX_QUEUE_DEPTH));
	void *p;

	hwq->descs_size = descs_size(hwq->config.depth);
	p = mmap(NULL, hwq->descs_size, PROT_READ, MAP_SHARED | MAP_POPULATE, hwq->config.char_fd,
		 UBLKSRV_CMD_BUF_OFFSET + offset);
	if (p == MAP_FAILED)
		return -errno;
	hwq->descs = p;
	return 0;
}

static int map_buffers(struct hw_queue *hwq)
{
	hwq->buffers_size = (hwq->config.depth + 1ul) * FRONTEND_MAX_IO;
	hwq->buffers = request_memory_map(hwq->buffers_size);
	if (!hwq->buffers)
		return -errno;
	hwq->sink = hwq->buffers + (size_t)hwq->config.depth * FRONTEND_MAX_IO;
	return 0;
}

static void init_tag(struct hw_queue *hwq, unsigned index)
{
	struct tag *tag = &hwq->tags[index];

	tag->op.complete = tag_complete;
	tag->hwq = hwq;
	tag->index = (uint16_t)index;
	tag->buffer = hwq->buffers + (size_t)index * FRONTEND_MAX_IO;
	tag->request.buffer = tag->buffer;
	tag->request.home = hwq->config.home;
	tag->request.done = tag_done;
}

void ublk_hw_queue_detach(struct hw_queue *hwq)
{
	if (hwq->descs)
		munmap((void *)hwq->descs, hwq->descs_size);
	hwq->descs = NULL;
}

static void hw_queue_free(struct hw_queue *hwq)
{
	ublk_hw_queue_detach(hwq);
	if (hwq->buffers)
		munmap(hwq->buffers, hwq->buffers_size);
	sem_destroy(&hwq->fence);
	free(hwq);
}

int ublk_hw_queue_create(const struct hw_queue_config *config, struct hw_queue **ret)
{
	struct hw_queue *hwq = calloc(1, sizeof(*hwq) + config->depth * sizeof(struct tag));
	int r;

	if (!hwq)
		return -ENOMEM;
	hwq->config = *config;
	hwq->trim_work.run = run_trim;
	hwq->fetch_opcode = ublk_opcode(UBLK_U_IO_FETCH_REQ, config->ioctl_encode);
	hwq->commit_opcode = ublk_opcode(UBLK_U_IO_COMMIT_AND_FETCH_REQ, config->ioctl_encode);
	sem_init(&hwq->fence, 0, 0);
	r = map_descs(hwq);
	if (r == 0)
		r = map_buffers(hwq);
	if (r < 0) {
		hw_queue_free(hwq);
		return r;
	}
	for (unsigned i = 0; i < config->depth; i++)
		init_tag(hwq, i);
	*ret = hwq;
	return 0;
}

static void fence_passed(struct ring_op *op, int result, uint32_t flags)
{
	sem_post(&container_of(op, struct hw_queue, fence_op)->fence);
}

typedef struct __user_cap_data_struct capabilities[_LINUX_CAPABILITY_U32S_3];

/* SYS_capget or SYS_capset, for the calling thread. */
static bool capabilities_call(long call, capabilities caps)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(call, &header, caps) == 0;
}

/*
 * Submits what is pending as a task without CAP_SYS_ADMIN. From one that had it START_DEV would
 * take the device for trusted, and read its partition table with the device's mutex held: if this
 * process died meanwhile, those reads would wait for a recovery which needs that mutex
 * (ublk_ctrl_start_dev() of Linux 6.12). See partitions_read().
 */
static void submit_untrusted(struct queue *queue)
{
	capabilities all = { 0 }, less;
	bool known = capabilities_call(SYS_capget, all);

	memcpy(less, all, sizeof(less));
	less[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective &= ~CAP_TO_MASK(CAP_SYS_ADMIN);
	if (known)
		known = capabilities_call(SYS_capset, less);
	queue_submit(queue);
	if (known)
		(void)!capabilities_call(SYS_capset, all);
}

/*
 * All in one system call, which death does not break into: nobody could help a queue of which some
 * tags are fetched, see reclaim.h. They fill an empty ring at most (FRONTEND_DEPTH_MAX).
 *
 * A fetch that is accepted completes only with an I/O, a refused one at once. The ring takes its
 * entries in order, so when the no-op behind them completes every refusal has been seen.
 */
static int fetch_all(void *data)
{
	struct hw_queue *hwq = data;
	struct io_uring_sqe *sqe;

	queue_submit(hwq->config.home);
	count(&hwq->live, (int)hwq->config.depth);
	for (unsigned i = 0; i < hwq->config.depth; i++)
		tag_issue(&hwq->tags[i], hwq->fetch_opcode, -1);
	submit_untrusted(hwq->config.home);
	sqe = queue_get_sqe(hwq->config.home);
	io_uring_prep_nop(sqe);
	hwq->fence_op.complete = fence_passed;
	queue_sqe_bind(sqe, &hwq->fence_op);
	return 0;
}

int ublk_hw_queue_fetch(struct hw_queue *hwq)
{
	queue_call(hwq->config.home, fetch_all, hwq);
	while (sem_wait(&hwq->fence) < 0)
		;
	return atomic_load(&hwq->refusal);
}

static int fail_all(void *data)
{
	struct hw_queue *hwq = data;

	hwq->failing = true;
	for (unsigned i = 0; i < hwq->config.depth; i++) {
		struct tag *tag = &hwq->tags[i];

		if (!tag->at_image || tag->orphan)
			continue;
		tag->orphan = true;
		tag_commit(tag, -EIO);
	}
	return 0;
}

void ublk_hw_queue_fail(struct hw_queue *hwq)
{
	queue_call(hwq->config.home, fail_all, hwq);
}

void ublk_hw_queue_trim(struct hw_queue *hwq)
{
	if (!atomic_exchange(&hwq->trimming, true))
		queue_post(hwq->config.home, &hwq->trim_work);
}

static int watch_all(void *data)
{
	struct hw_queue *hwq = data;

	for (unsigned i = 0; i < hwq->config.depth; i++) {
		struct tag *tag = &hwq->tags[i];

		if (!tag->at_image || tag->watched)
			continue;
		tag->watched = true;
		count(&hwq->watched, 1);
	}
	return 0;
}

void ublk_hw_queue_watch(struct hw_queue *hwq)
{
	queue_call(hwq->config.home, watch_all, hwq);
}

unsigned ublk_hw_queue_watched(const struct hw_queue *hwq)
{
	return counted(&hwq->watched);
}

unsigned ublk_hw_queue_live(const struct hw_queue *hwq)
{
	return counted(&hwq->live);
}

unsigned ublk_hw_queue_at_image(const struct hw_queue *hwq)
{
	return counted(&hwq->at_image);
}

static int nothing(void *data)
{
	return 0;
}

void ublk_hw_queue_destroy(struct hw_queue *hwq)
{
	if (!hwq)
		return;
	/*
	 * The home thread may still be in the function that brought a counter to 0; and behind
	 * end_trim() there may be one more piece of trimming.
	 */
	queue_call(hwq->config.home, end_trim, hwq);
	queue_call(hwq->config.home, nothing, NULL);
	hw_queue_free(hwq);
}
