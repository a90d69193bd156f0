#include "core/busy-poll.h"

#include "common/macros.h"

#define SINGLES_MIN 16
#define LOOKS_MAX   128 /* between two sleeps */
#define REST_MIN    16
#define REST_MAX    2048

#define MISS_COST 4 /* a look in vain costs what so many spare that find something */

static void rest(struct busy_poll *poll, bool paid)
{
	if (paid)
		poll->rest /= 2;
	else
		poll->rest = MAX(MIN(poll->rest * 2, REST_MAX), REST_MIN);
	poll->resting = poll->rest;
	poll->looking = false;
	poll->found = 0;
}

static void stop_looking(struct busy_poll *poll, bool paid)
{
	if (poll->looking)
		rest(poll, paid);
	poll->singles = 0;
}

/*
 * What the last wait was like. Half of a short sleep may be the wake itself, which a look spares.
 * Nothing that looks have found outweighs pieces done one by one that would have come together.
 */
static void judge(struct busy_poll *poll, unsigned pieces, uint64_t limit)
{
	if (poll->slept > 0 && poll->resting > 0)
		poll->resting--;
	if (pieces > 1)
		stop_looking(poll, false);
	else if (poll->slept > 2 * limit)
		stop_looking(poll, poll->found > 0);
	else if (pieces == 1 && poll->slept > 0)
		poll->singles++;
	else if (pieces == 1 && poll->looking)
		poll->found++;
	poll->slept = 0;
}

bool busy_poll_pays(struct busy_poll *poll, unsigned pieces, uint64_t limit)
{
	judge(poll, pieces, limit);
	return limit > 0 && poll->resting == 0 && poll->singles >= SINGLES_MIN &&
	       poll->looks < LOOKS_MAX;
}

void busy_poll_looked(struct busy_poll *poll, bool found)
{
	poll->looking = true;
	poll->looks++;
	if (!found)
		stop_looking(poll, poll->found > MISS_COST);
}

void busy_poll_slept(struct busy_poll *poll, uint64_t ticks)
{
	poll->slept = MAX(ticks, 1);
	poll->looks = 0;
}
