/* The memory of a session's requests: one mapping, which costs where it is touched. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/request-memory.h"
#include "nbd/session-internal.h"

_Static_assert(NBD_BUDGET_SURE >= NBD_PAYLOAD_MIN, "one ordinary request must always find room");

/* The kernel frees the pages; the next touch gets new ones. */
static void give_back(struct nbd_session *session, struct buffer *buffer)
{
	if (buffer->held == 0)
		return;
	madvise(buffer->at, buffer->held, MADV_DONTNEED);
	nbd_budget_give(&session->member, buffer->held);
	buffer->held = 0;
}

static bool hold(struct nbd_session *session, struct buffer *buffer, size_t length)
{
	size_t page, pages;

	if (length <= buffer->held)
		return true;
	page = getpagesize();
	pages = (length + page - 1) & ~(page - 1);
	if (!nbd_budget_take(&session->member, pages - buffer->held))
		return false;
	buffer->held = pages;
	return true;
}

static void give_back_idle(struct nbd_budget_member *member)
{
	struct nbd_session *session = container_of(member, struct nbd_session, member);

	for (struct slot *slot = session->free; slot; slot = slot->next)
		give_back(session, &slot->own);
	if (!session->large_in_use)
		give_back(session, &session->large);
	session->config.wake(session->config.data);
}

static void come(struct nbd_budget_member *member)
{
	struct nbd_session *session = container_of(member, struct nbd_session, member);

	session->config.wake(session->config.data);
}

int buffers_map(struct nbd_session *session)
{
	size_t size = (size_t)session->config.depth * NBD_PAYLOAD_MIN + NBD_PAYLOAD_DEFAULT;

	session->buffers = request_memory_map(size);
	if (!session->buffers)
		return -errno;
	session->buffers_size = size;
	session->large.at = session->buffers + size - NBD_PAYLOAD_DEFAULT;
	session->member.give_back = give_back_idle;
	session->member.come = come;
	nbd_budget_join(session->config.budget, &session->member);
	return 0;
}

void buffers_unmap(struct nbd_session *session)
{
	if (!session->buffers)
		return;
	munmap(session->buffers, session->buffers_size);
	nbd_budget_leave(&session->member);
}

static bool get_large(struct slot *slot, size_t length)
{
	struct nbd_session *session = slot->session;

	if (session->large_in_use)
		return false;
	session->large_in_use = true; /* or it would be given back to make room for itself */
	session->large_in_use = slot->large = hold(session, &session->large, length);
	if (!slot->large)
		return false;
	slot->request.buffer = session->large.at;
	return true;
}

bool buffers_get(struct slot *slot, size_t length)
{
	if (length > NBD_PAYLOAD_MIN)
		return get_large(slot, length);
	slot->request.buffer = slot->own.at;
	return hold(slot->session, &slot->own, length);
}

void buffers_put(struct slot *slot)
{
	struct nbd_session *session = slot->session;
	bool is_short = nbd_budget_is_short(&session->member);

	if (slot->large) {
		slot->large = session->large_in_use = false;
		if (is_short)
			give_back(session, &session->large);
	}
	if (is_short)
		give_back(session, &slot->own);
}

/* A request's buffer at a time, then the large one: each is given back within a moment. */
size_t buffers_trim(struct nbd_session *session, size_t position)
{
	bool large = position >= session->config.depth;

	give_back(session, large ? &session->large : &session->pool[position].own);
	return large ? 0 : position + 1;
}
