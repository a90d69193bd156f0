/*
 * Whether a thread that has run out of work looks for more before it sleeps.
 *
 * To be woken costs microseconds, of the thread and of whoever wakes it; to look costs the CPU for
 * as long as it takes. So looking pays where work comes soon, and piece by piece, each when the
 * last is done. It does not where a sleep gathers several pieces, which are cheaper done together.
 * What the last waits were like decides: a thread looks after some sleeps that were short and
 * brought one piece each, sleeps now and then to see whether that is still so, and rests from
 * looking the longer the more often it has not paid.
 *
 * One thread; times are in ticks of core/clock.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* All zero to begin with. */
struct busy_poll {
	uint64_t slept;	  /* the last wait was a sleep of so many ticks; 0: it was none */
	unsigned singles; /* sleeps in a row that were short and brought one piece of work */
	unsigned looks;	  /* since the last sleep */
	bool looking;	  /* it has looked since the singles were enough */
	unsigned found;	  /* pieces of work that these looks have found */
	unsigned rest;	  /* so many sleeps without a look follow a series that has not paid */
	unsigned resting; /* of these, what is left */
};

/* Before each wait, when the @pieces of work are done that the last one brought. @limit is how long
 * a look may take; with 0 it never pays. */
bool busy_poll_pays(struct busy_poll *poll, unsigned pieces, uint64_t limit);

/* After a look. One that has found nothing is followed by a sleep. */
void busy_poll_looked(struct busy_poll *poll, bool found);

/* After a sleep of so many ticks. */
void busy_poll_slept(struct busy_poll *poll, uint64_t ticks);
