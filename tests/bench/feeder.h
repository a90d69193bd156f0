/*
 * A client process at the other end of a unix socket, which keeps `depth` requests in flight and
 * sends them one by one: what a server costs that does nothing but serve. Messages have the sizes
 * of NBD's, and say nothing but which request they belong to.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct feeder {
	unsigned depth, block; /* requests in flight; bytes of each */
	bool writes;	       /* else reads */
	/* A request came; @payload has `block` bytes of a write. On the thread that receives. */
	void (*request)(unsigned tag, const uint8_t *payload);
	/* The client is gone, or nothing can be received (a negative errno). On that thread, once.
	 */
	void (*ended)(int r);
	/* The feeder's own. */
	int fd;
	pid_t client;
};

/* Makes the client, before this process has any thread. A negative errno when it cannot. */
int feeder_fork(struct feeder *feeder);

/* Lets it begin; from here on a thread calls request(). */
int feeder_begin(struct feeder *feeder);

/* One caller at a time; blocks while the client does not read. */
int feeder_reply(struct feeder *feeder, unsigned tag, const uint8_t *payload);

/* The client ends, whatever it waits for. */
void feeder_end(struct feeder *feeder);
