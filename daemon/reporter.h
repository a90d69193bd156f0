/* How a call that takes long tells its caller how far it has come. */
#pragma once

struct reporter {
	/* @text is a few words for people. On the thread of the call; never blocks. */
	void (*report)(void *data, const char *text);
	void *data;
};

/* NULL: nobody wants to know. */
static inline void report(const struct reporter *reporter, const char *text)
{
	if (reporter)
		reporter->report(reporter->data, text);
}
