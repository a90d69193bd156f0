/*
 * The lock on an image: one file a name, held with flock(2), so that it ends with the last process
 * that has it open - also when that is a mkfs whose caller was killed.
 */
#pragma once

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/error.h"

/*
 * Takes the lock on @name in @directory, which exists. *ret: a close-on-exec descriptor; closing it
 * lets go of the lock. -ETIMEDOUT: another call had it until the deadline.
 */
int lock_take(const char *directory, const char *name, struct timespec deadline, int *ret,
	      struct error *err) warn_unused;

/* Removes the file of a lock that is held. Who waits for it notices, and makes a new one. */
void lock_remove(const char *directory, const char *name);
