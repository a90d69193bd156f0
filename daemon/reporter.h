/* The caller of a call that takes long: is told how far it has come, and may go away meanwhile. */
#pragma once

#include <stdbool.h>

struct reporter {
	/* @text is a few words for people. On the thread of the call; never blocks. */
	void (*report)(void *data, const char *text);
	void *data;
	/* Whether nobody is there any more to take the answer. Any thread; never blocks. NULL: the
	 * caller stays. */
	bool (*gone)(void *data);
};

/* In both: NULL is a caller that wants to know nothing, and stays. */

static inline void report(const struct reporter *reporter, const char *text)
{
	if (reporter)
		reporter->report(reporter->data, text);
}

static inline bool caller_gone(const struct reporter *reporter)
{
	return reporter && reporter->gone && reporter->gone(reporter->data);
}
