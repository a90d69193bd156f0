#include "daemon/refusals.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/deadline.h"
#include "common/log.h"
#include "common/thread.h"

#define INTERVAL 10 /* seconds from one line to the next: who knocks may not fill the log */

static atomic_uint unlogged;
static _Atomic time_t logged_at; /* CLOCK_MONOTONIC; 0: never */

struct refusal {
	char text[700];
};

static void *log_main(void *data)
{
	struct refusal *refusal = data;

	log_warning("%s", refusal->text);
	free(refusal);
	return NULL;
}

/* True for one caller in each interval. */
static bool is_time(void)
{
	time_t last = atomic_load(&logged_at);
	time_t now = monotonic_now().tv_sec;

	return (last == 0 || now - last >= INTERVAL) &&
	       atomic_compare_exchange_strong(&logged_at, &last, now);
}

static void format(struct refusal *refusal, const char *address, const char *peer, const char *why)
{
	unsigned others = atomic_exchange(&unlogged, 0);
	int at = snprintf(refusal->text, sizeof(refusal->text),
			  "An NBD client%s%s was refused at %s: %s.", *peer ? " from " : "", peer,
			  address, why);

	if (others > 0 && at > 0 && (size_t)at < sizeof(refusal->text))
		snprintf(refusal->text + at, sizeof(refusal->text) - (size_t)at,
			 " So were %u others since the last one that is logged.", others);
}

void refusals_note(const char *address, const char *peer, const char *why)
{
	struct refusal *refusal = is_time() ? malloc(sizeof(*refusal)) : NULL;

	if (!refusal) {
		atomic_fetch_add(&unlogged, 1);
		return;
	}
	format(refusal, address, peer, why);
	if (thread_detached(log_main, refusal) < 0)
		free(refusal);
}
