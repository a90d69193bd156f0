#include "nbd/budget.h"

#include "common/macros.h"

void nbd_budget_init(struct nbd_budget *budget, size_t limit)
{
	*budget = (struct nbd_budget){ .limit = limit };
	list_init(&budget->members);
	list_init(&budget->line);
}

void nbd_budget_join(struct nbd_budget *budget, struct nbd_budget_member *member)
{
	member->budget = budget;
	member->held = 0;
	list_init(&member->entry);
	list_init(&member->waiting);
	if (budget)
		list_append(&budget->members, &member->entry);
}

static void call_first(struct nbd_budget *budget)
{
	struct nbd_budget_member *first;

	if (list_empty(&budget->line))
		return;
	first = list_entry(budget->line.next, struct nbd_budget_member, waiting);
	first->come(first);
}

void nbd_budget_leave_line(struct nbd_budget_member *member)
{
	if (!member->budget || list_empty(&member->waiting))
		return;
	list_remove(&member->waiting);
	call_first(member->budget);
}

/* What of @held counts against the limit. */
static size_t counted(size_t held)
{
	return held - MIN(held, NBD_BUDGET_SURE);
}

static void set_held(struct nbd_budget_member *member, size_t held)
{
	member->budget->used -= counted(member->held);
	member->budget->used += counted(held);
	member->held = held;
}

void nbd_budget_give(struct nbd_budget_member *member, size_t bytes)
{
	if (!member->budget)
		return;
	set_held(member, member->held - bytes);
	call_first(member->budget);
}

void nbd_budget_leave(struct nbd_budget_member *member)
{
	if (!member->budget)
		return;
	nbd_budget_leave_line(member);
	nbd_budget_give(member, member->held);
	list_remove(&member->entry);
	member->budget = NULL;
}

static bool is_next(const struct nbd_budget_member *member)
{
	const struct list *line = &member->budget->line;

	return list_empty(line) || line->next == &member->waiting;
}

static bool try_to_take(struct nbd_budget_member *member, size_t bytes)
{
	struct nbd_budget *budget = member->budget;
	size_t more = counted(member->held + bytes) - counted(member->held);

	if (more > 0 && (!is_next(member) || more > budget->limit - budget->used))
		return false;
	set_held(member, member->held + bytes);
	nbd_budget_leave_line(member);
	return true;
}

static void reclaim(struct nbd_budget *budget)
{
	list_for_each(entry, &budget->members) {
		struct nbd_budget_member *member =
			list_entry(entry, struct nbd_budget_member, entry);

		member->give_back(member);
	}
}

bool nbd_budget_take(struct nbd_budget_member *member, size_t bytes)
{
	if (!member->budget || try_to_take(member, bytes))
		return true;
	if (list_empty(&member->budget->line))
		reclaim(member->budget);
	if (try_to_take(member, bytes))
		return true;
	if (list_empty(&member->waiting))
		list_append(&member->budget->line, &member->waiting);
	return false;
}
