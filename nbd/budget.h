/*
 * How much memory the clients of one queue may make the daemon hold in their requests' buffers.
 *
 * A session takes bytes when it is going to fill a buffer further than before, and keeps them, as
 * the kernel keeps the pages, until somebody needs them. When they do not suffice, all sessions
 * give back what their idle buffers hold, at once and from then on, and those that want more wait
 * in line: first come, first served. A session that waits takes in nothing more.
 *
 * NBD_BUDGET_SURE bytes are every member's own, beside the limit. So clients that hold all there
 * is, and read no reply, slow the others down, and cannot stop them.
 *
 * All calls on the queue's thread, which is why nothing is locked.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/list.h"

/* The largest request that clients are told to send. */
#define NBD_BUDGET_SURE (1024u * 1024)

struct nbd_budget {
	size_t limit; /* bytes; at least the largest request, or that would wait for ever */
	size_t used;
	struct list members, line;
};

struct nbd_budget_member {
	struct nbd_budget *budget; /* NULL: not a member, and nothing is limited */
	struct list entry, waiting;
	size_t held;

	/* Bytes are short: nbd_budget_give() what idle buffers hold. */
	void (*give_back)(struct nbd_budget_member *member);

	/* Its turn may have come: nbd_budget_take() once more, but not from here. */
	void (*come)(struct nbd_budget_member *member);
};

void nbd_budget_init(struct nbd_budget *budget, size_t limit);

/* The member's callbacks are set. @budget may be NULL. */
void nbd_budget_join(struct nbd_budget *budget, struct nbd_budget_member *member);

/* Gives back all that it holds. A member or not. */
void nbd_budget_leave(struct nbd_budget_member *member);

/* False: it stands in line, until it takes, or leaves the line. */
bool nbd_budget_take(struct nbd_budget_member *member, size_t bytes);

void nbd_budget_give(struct nbd_budget_member *member, size_t bytes);

void nbd_budget_leave_line(struct nbd_budget_member *member);

/* True while somebody stands in line: keep nothing that is idle. */
static inline bool nbd_budget_is_short(const struct nbd_budget_member *member)
{
	return member->budget && !list_empty(&member->budget->line);
}
