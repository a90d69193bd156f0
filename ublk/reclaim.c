#include "ublk/reclaim.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdint.h>

#include "core/ring-order.h"
#include "ublk/abi.h"
#include "ublk/io_command.h"

/* The driver wants an address with each tag. Nothing comes, so nothing is put there. */
static char nowhere[4096];

static void prepare_fetch(struct io_uring_sqe *sqe, const struct ublk_reclaim *reclaim,
			  unsigned index, unsigned tag)
{
	const struct ublksrv_io_cmd cmd = {
		.q_id = (uint16_t)index,
		.tag = (uint16_t)tag,
		.addr = (uintptr_t)nowhere,
	};

	ublk_prepare_io(sqe, reclaim->char_fd,
			ublk_opcode(UBLK_U_IO_FETCH_REQ, reclaim->ioctl_encode), &cmd);
}

/*
 * In one system call: death does not break into that, and a queue of which some tags are fetched
 * could not be helped. Where the queue has an owner, all are refused.
 */
static int fetch_queue(struct io_uring *ring, const struct ublk_reclaim *reclaim, unsigned index)
{
	struct io_uring_sqe *sqe;
	int r;

	for (unsigned tag = 0; tag < reclaim->depth; tag++) {
		sqe = io_uring_get_sqe(ring);
		if (!sqe)
			return -ENOBUFS;
		prepare_fetch(sqe, reclaim, index, tag);
	}
	r = io_uring_submit(ring);
	io_uring_cq_advance(ring, io_uring_cq_ready(ring));
	return r < 0 ? r : io_uring_sq_ready(ring) > 0 ? -EAGAIN : 0;
}

static int fetch_all(const struct ublk_reclaim *reclaim)
{
	struct io_uring ring;
	int r = io_uring_queue_init(reclaim->depth, &ring, 0);

	if (r < 0)
		return r;
	ring_begins();
	for (unsigned i = 0; i < reclaim->nr_queues && r == 0; i++)
		r = fetch_queue(&ring, reclaim, i);
	ring_ends();
	io_uring_queue_exit(&ring);
	return r;
}

static void *owner_main(void *data)
{
	return (void *)(intptr_t)fetch_all(data);
}

/* The owner is a task, not a process: a thread that ends is as dead as the driver wants it. */
int ublk_reclaim(const struct ublk_reclaim *reclaim)
{
	pthread_t owner;
	void *result;
	int r = -pthread_create(&owner, NULL, owner_main, (void *)reclaim);

	if (r < 0)
		return r;
	pthread_join(owner, &result);
	return (int)(intptr_t)result;
}
