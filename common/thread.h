/* Threads that nobody waits for. */
#pragma once

#include "common/macros.h"

/* Runs main(data) on a thread of its own. 0, or a negative errno: then nothing runs. */
int thread_detached(void *(*main)(void *data), void *data) warn_unused;
