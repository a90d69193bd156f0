#include "common/thread.h"

#include <pthread.h>

int thread_detached(void *(*main)(void *data), void *data)
{
	pthread_attr_t detached;
	pthread_t thread;
	int r;

	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &detached, main, data);
	pthread_attr_destroy(&detached);
	return -r;
}
