/* A queue runs what is posted, calls and ring operations on its own thread, and ends its turns with
 * hooks. */
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "core/queue.h"
#include "tests/unit/cmocka-all.h"

#define POSTS 20000

static int make(void **state)
{
	return queue_create("test", 3, (struct queue **)state);
}

static int make_polling(void **state)
{
	int r = make(state);

	queue_set_busy_poll(*state, 10000);
	return r;
}

static int drop(void **state)
{
	queue_destroy(*state);
	return 0;
}

static int on_queue(void *data)
{
	assert_true(queue_is_current(data));
	assert_int_equal(queue_tid(data), gettid());
	return -EXDEV;
}

static void calls_run_on_the_thread(void **state)
{
	assert_int_equal(queue_index(*state), 3);
	assert_false(queue_is_current(*state));
	assert_int_equal(queue_call(*state, on_queue, *state), -EXDEV);
}

struct counter {
	struct work work;
	atomic_uint *count;
};

static void count_up(struct work *work)
{
	atomic_fetch_add(container_of(work, struct counter, work)->count, 1);
}

static int nothing(void *data)
{
	return 0;
}

static void posts_all_run(void **state)
{
	static struct counter counters[POSTS];
	atomic_uint count = 0;

	for (unsigned i = 0; i < POSTS; i++) {
		counters[i] = (struct counter){ .work.run = count_up, .count = &count };
		queue_post(*state, &counters[i].work);
	}
	assert_int_equal(queue_call(*state, nothing, NULL), 0);
	assert_int_equal(count, POSTS);
}

/* Work that comes when the time of polling is over. */
static void a_sleep_ends_all_the_same(void **state)
{
	for (int i = 0; i < 3; i++) {
		usleep(30000);
		assert_int_equal(queue_call(*state, on_queue, *state), -EXDEV);
	}
}

/* A read from a pipe through the ring, whose completion asks for a hook, which reports. */
struct transfer {
	struct ring_op op;
	struct turn_hook hook;
	struct queue *queue;
	int fd, result, report;
	char byte;
};

static void report(struct turn_hook *hook)
{
	struct transfer *t = container_of(hook, struct transfer, hook);

	assert_int_equal(write(t->report, "!", 1), 1);
}

static void received(struct ring_op *op, int result, uint32_t flags)
{
	struct transfer *t = container_of(op, struct transfer, op);

	t->result = result;
	queue_at_turn_end(t->queue, &t->hook);
	queue_at_turn_end(t->queue, &t->hook);
}

static int start_read(void *data)
{
	struct transfer *t = data;
	struct io_uring_sqe *sqe = queue_get_sqe(t->queue);

	io_uring_prep_read(sqe, t->fd, &t->byte, 1, 0);
	queue_sqe_bind(sqe, &t->op);
	return 0;
}

static void ring_operations_complete_and_hooks_run_once(void **state)
{
	struct transfer t = { .op.complete = received, .hook.run = report, .queue = *state };
	int in[2], out[2];
	char seen[2];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	t.fd = in[0];
	t.report = out[1];
	list_init(&t.hook.entry);
	assert_int_equal(queue_call(*state, start_read, &t), 0);
	assert_int_equal(write(in[1], "x", 1), 1);
	assert_int_equal(read(out[0], seen, sizeof(seen)), 1);
	assert_int_equal(t.result, 1);
	assert_int_equal(t.byte, 'x');
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
}

/* A hook that asks for itself until it is told that it was enough. */
struct eager {
	struct turn_hook hook;
	struct queue *queue;
	uint64_t turn; /* its last one */
	atomic_uint runs;
	atomic_bool enough, twice;
};

static void ask_again(struct turn_hook *hook)
{
	struct eager *eager = container_of(hook, struct eager, hook);

	if (eager->turn == queue_turn(eager->queue))
		eager->twice = true;
	eager->turn = queue_turn(eager->queue);
	eager->runs++;
	if (!eager->enough)
		queue_at_turn_end(eager->queue, hook);
}

static int ask_first(void *data)
{
	struct eager *eager = data;

	queue_at_turn_end(eager->queue, &eager->hook);
	return 0;
}

static void a_hook_that_asks_again_has_the_next_turn(void **state)
{
	struct eager eager = { .hook.run = ask_again, .queue = *state };

	list_init(&eager.hook.entry);
	assert_int_equal(queue_call(*state, ask_first, &eager), 0);
	while (eager.runs < 100)
		usleep(1000);
	assert_int_equal(queue_call(*state, on_queue, *state), -EXDEV);
	eager.enough = true;
	assert_int_equal(queue_call(*state, nothing, NULL), 0);
	assert_int_equal(queue_call(*state, nothing, NULL), 0);
	assert_false(eager.twice);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(calls_run_on_the_thread, make, drop),
		cmocka_unit_test_setup_teardown(posts_all_run, make, drop),
		cmocka_unit_test_setup_teardown(ring_operations_complete_and_hooks_run_once, make,
						drop),
		cmocka_unit_test_setup_teardown(a_hook_that_asks_again_has_the_next_turn, make,
						drop),
		cmocka_unit_test_setup_teardown(posts_all_run, make_polling, drop),
		cmocka_unit_test_setup_teardown(ring_operations_complete_and_hooks_run_once,
						make_polling, drop),
		cmocka_unit_test_setup_teardown(a_hook_that_asks_again_has_the_next_turn,
						make_polling, drop),
		cmocka_unit_test_setup_teardown(a_sleep_ends_all_the_same, make_polling, drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
