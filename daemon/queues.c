#include "daemon/queues.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* The @index-th CPU of the set, which begins anew at its end. */
static int nth_cpu(const cpu_set_t *cpus, unsigned index)
{
	int cpu = -1;

	for (int left = (int)(index % (unsigned)CPU_COUNT(cpus)); left >= 0; left--)
		do
			cpu++;
		while (!CPU_ISSET(cpu, cpus));
	return cpu;
}

/* On the queue's thread. */
static int pin_self(void *data)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(*(int *)data, &one);
	return sched_setaffinity(0, sizeof(one), &one) < 0 ? -errno : 0;
}

static int pin(const struct queues *queues, const cpu_set_t *cpus, struct error *err)
{
	for (unsigned i = 0; CPU_COUNT(cpus) > 0 && i < queues->count; i++) {
		int cpu = nth_cpu(cpus, i), r = queue_call(queues->list[i], pin_self, &cpu);

		if (r < 0)
			return error_set(err, r,
					 "Cannot run a queue on CPU %d: %s. Give --queue-cpus that "
					 "are online, and allowed for urbdd (taskset -p shows "
					 "them).",
					 cpu, errno_text(r));
	}
	return 0;
}

int queues_start(struct queues *queues, unsigned count, const cpu_set_t *cpus, struct error *err)
{
	queues->list = calloc(count, sizeof(*queues->list));
	if (!queues->list)
		return error_set(err, -ENOMEM, "Out of memory.");
	for (unsigned i = 0; i < count; i++) {
		char name[24];
		int r;

		snprintf(name, sizeof(name), "urbd-queue%u", i);
		r = queue_create(name, i, &queues->list[i]);
		if (r < 0) {
			queues_stop(queues);
			return error_set(
				err, r,
				"Cannot start queue %u: %s. urbdd needs io_uring (Linux 5.13 or "
				"newer, kernel.io_uring_disabled=0, and room in RLIMIT_MEMLOCK).",
				i, errno_text(r));
		}
		queues->count++;
	}
	return pin(queues, cpus, err);
}

void queues_busy_poll(struct queues *queues, unsigned microseconds)
{
	for (unsigned i = 0; i < queues->count; i++)
		queue_set_busy_poll(queues->list[i], microseconds);
}

void queues_stop(struct queues *queues)
{
	for (unsigned i = 0; i < queues->count; i++)
		queue_destroy(queues->list[i]);
	free(queues->list);
	*queues = (struct queues){ 0 };
}

void queues_pick(struct queues *queues, struct queue **ret, unsigned wanted)
{
	for (unsigned i = 0; i < wanted; i++)
		ret[i] = queues->list[queues->next++ % queues->count];
}
