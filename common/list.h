/* Intrusive doubly linked list. A list head that was initialised and an entry are the same
 * structure. */
#pragma once

#include <stdbool.h>

#include "common/macros.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
	head->next = head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_append(struct list *head, struct list *entry)
{
	entry->prev = head->prev;
	entry->next = head;
	head->prev->next = entry;
	head->prev = entry;
}

/* Leaves @entry an empty list of its own, so that removing twice does no harm. */
static inline void list_remove(struct list *entry)
{
	entry->prev->next = entry->next;
	entry->next->prev = entry->prev;
	list_init(entry);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)

/* Walks @head with @pos of type `struct list *`; @pos may not be removed meanwhile. */
#define list_for_each(pos, head) \
	for (struct list *pos = (head)->next; pos != (head); pos = pos->next)

/* The same where @pos may be removed. */
#define list_for_each_safe(pos, head)                                            \
	for (struct list *pos = (head)->next, *next_ = pos->next; pos != (head); \
	     pos = next_, next_ = pos->next)
