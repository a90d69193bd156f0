#include "core/busy-poll.h"

#include <limits.h>

#include "common/macros.h"

#define SINGLES_MIN 16
#define LOOKS_MAX   128 /* between two sleeps */
#define REST_MIN    16
#define REST_MAX    2048

/* A look in vain costs more than one that finds something spares; and no number of these outweighs
 * that pieces which would have come together were done one by one. */
#define MISS_COST    4
#define SEVERAL_COST INT_MAX

void busy_poll_init(struct busy_poll *poll)
{
	*poll = (struct busy_poll){ 0 };
}

static void rest(struct busy_poll *poll, int cost)
{
	if (poll->balance > cost)
		poll->rest /= 2;
	else
		poll->rest = MAX(MIN(poll->rest * 2, REST_MAX), REST_MIN);
	poll->resting = poll->rest;
	poll->looking = false;
	poll->balance = 0;
}

static void stop_looking(struct busy_poll *poll, int cost)
{
	if (poll->looking)
		rest(poll, cost);
	poll->singles = 0;
}

/* What the last wait was like. Half of a short sleep may be the wake itself, which a look spares.
 */
static void judge(struct busy_poll *poll, unsigned pieces, uint64_t limit)
{
	if (poll->slept > 0 && poll->resting > 0)
		poll->resting--;
	if (pieces > 1)
		stop_looking(poll, SEVERAL_COST);
	else if (poll->slept > 2 * limit)
		stop_looking(poll, 0);
	else if (pieces == 1 && poll->slept > 0)
		poll->singles++;
	else if (pieces == 1 && poll->looking)
		poll->balance++;
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
		stop_looking(poll, MISS_COST);
}

void busy_poll_slept(struct busy_poll *poll, uint64_t ticks)
{
	poll->slept = MAX(ticks, 1);
	poll->looks = 0;
}
