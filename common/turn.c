#include "common/turn.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "common/list.h"

#define TURN_SECONDS 300

struct turn {
	struct list entry;	/* of turns */
	struct timespec expiry; /* from then on it keeps nobody away */
	char name[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the list */
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static struct list turns = { &turns, &turns };

static struct turn *make_turn(const char *name)
{
	size_t size = strlen(name) + 1;
	struct turn *turn = malloc(sizeof(*turn) + size);

	if (turn)
		memcpy(turn->name, name, size);
	return turn;
}

/* With the lock. */
static bool is_taken(const char *name)
{
	list_for_each(entry, &turns) {
		const struct turn *turn = list_entry(entry, struct turn, entry);

		if (strcmp(turn->name, name) == 0 && !deadline_passed(&turn->expiry))
			return true;
	}
	return false;
}

/* With the lock. */
static bool wait_free(const char *name, const struct timespec *deadline)
{
	while (is_taken(name))
		if (pthread_cond_clockwait(&ended, &lock, CLOCK_MONOTONIC, deadline) == ETIMEDOUT)
			return !is_taken(name);
	return true;
}

int turn_take(const char *name, const struct timespec *deadline, struct turn **ret)
{
	struct turn *turn = make_turn(name);
	bool taken;

	if (!turn)
		return -ENOMEM;
	pthread_mutex_lock(&lock);
	taken = wait_free(name, deadline);
	if (taken) {
		turn->expiry = deadline_in(TURN_SECONDS);
		list_append(&turns, &turn->entry);
	}
	pthread_mutex_unlock(&lock);
	if (!taken) {
		free(turn);
		return -ETIMEDOUT;
	}
	*ret = turn;
	return 0;
}

void turn_end(struct turn *turn)
{
	if (!turn)
		return;
	pthread_mutex_lock(&lock);
	list_remove(&turn->entry);
	pthread_cond_broadcast(&ended);
	pthread_mutex_unlock(&lock);
	free(turn);
}
