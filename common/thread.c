#include "common/thread.h"

#include <pthread.h>
#include <stdlib.h>

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

void threads_for_each(void *(*main)(void *item), void *items, size_t size, unsigned count)
{
	pthread_t *threads = calloc(count, sizeof(*threads));

	for (unsigned i = 0; i < count; i++) {
		void *item = (char *)items + i * size;

		if (!threads || pthread_create(&threads[i], NULL, main, item) != 0) {
			main(item);
			if (threads)
				threads[i] = 0;
		}
	}
	for (unsigned i = 0; threads && i < count; i++)
		if (threads[i])
			pthread_join(threads[i], NULL);
	free(threads);
}
