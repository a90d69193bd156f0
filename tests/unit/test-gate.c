/*
 * The gate: requests wait while it is held, go on to another image in their order, come back when
 * the client is cut off, and fail when it fails.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>

#include "common/deadline.h"
#include "core/gate.h"
#include "tests/unit/cmocka-all.h"

#define REQUESTS 8

/* Answers at once, with @answer, and notes the order. */
struct sink {
	struct image image;
	int answer;
	unsigned count;
	uint64_t offsets[2 * REQUESTS];
};

static void sink_submit(struct image *image, struct request *request)
{
	struct sink *sink = container_of(image, struct sink, image);

	sink->offsets[sink->count++] = request->offset;
	request_complete(request, sink->answer);
}

static int sink_close(struct image *image)
{
	return 0;
}

static const struct image_ops sink_ops = { .name = "sink",
					   .submit = sink_submit,
					   .close = sink_close };

static void sink_init(struct sink *sink, int answer)
{
	*sink = (struct sink){ .image.ops = &sink_ops, .answer = answer };
	sink->image.info.size = 1 << 20;
	sink->image.info.block_size = 512;
}

struct fixture {
	struct queue *queue;
	struct sink one, other;
	struct gate *gate;
	struct request requests[REQUESTS];
	sem_t done;
	atomic_uint cut_off;
};

static struct fixture *current_fixture;

static void done(struct request *request)
{
	sem_post(&current_fixture->done);
}

static void cut_off(void *data)
{
	atomic_fetch_add(&((struct fixture *)data)->cut_off, 1);
}

static int make_with(void **state, unsigned io_timeout)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct gate_config config = {
		.nr_queues = 1, .io_timeout = io_timeout, .cut_off = cut_off, .data = fixture
	};

	if (queue_create("test", 5, &fixture->queue) < 0)
		return -1;
	sem_init(&fixture->done, 0, 0);
	sink_init(&fixture->one, 0);
	sink_init(&fixture->other, 0);
	config.queues = &fixture->queue;
	if (gate_create(&config, &fixture->one.image, &fixture->gate) < 0)
		return -1;
	current_fixture = fixture;
	*state = fixture;
	return 0;
}

static int make(void **state)
{
	return make_with(state, 0);
}

static int make_impatient(void **state)
{
	return make_with(state, 1);
}

static int drop(void **state)
{
	struct fixture *fixture = *state;

	image_close(gate_image(fixture->gate));
	queue_destroy(fixture->queue);
	free(fixture);
	return 0;
}

static int submit_all(void *data)
{
	struct fixture *fixture = data;

	for (unsigned i = 0; i < REQUESTS; i++) {
		fixture->requests[i] = (struct request){ .op = REQUEST_WRITE,
							 .offset = i * 512,
							 .length = 512,
							 .home = fixture->queue,
							 .done = done };
		image_submit(gate_image(fixture->gate), &fixture->requests[i]);
	}
	return 0;
}

static void submit(struct fixture *fixture)
{
	queue_call(fixture->queue, submit_all, fixture);
}

static void expect_done(struct fixture *fixture, int result)
{
	for (unsigned i = 0; i < REQUESTS; i++)
		sem_wait(&fixture->done);
	assert_int_equal(sem_trywait(&fixture->done), -1);
	for (unsigned i = 0; i < REQUESTS; i++)
		assert_int_equal(fixture->requests[i].result, result);
}

static void expect_order(const struct sink *sink, unsigned count)
{
	assert_int_equal(sink->count, count);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(sink->offsets[i], i * 512);
}

static void an_open_gate_passes(void **state)
{
	struct fixture *fixture = *state;

	submit(fixture);
	expect_done(fixture, 0);
	expect_order(&fixture->one, REQUESTS);
}

static void a_held_gate_changes_the_image(void **state)
{
	struct fixture *fixture = *state;
	struct timespec deadline = deadline_in(10);

	gate_hold(fixture->gate);
	submit(fixture);
	assert_int_equal(gate_waiting(fixture->gate), REQUESTS);
	assert_true(gate_wait_idle(fixture->gate, &deadline, NULL));
	assert_ptr_equal(gate_take_inner(fixture->gate), &fixture->one.image);
	assert_int_equal(fixture->one.count, 0);
	gate_resume(fixture->gate, &fixture->other.image);
	expect_done(fixture, 0);
	expect_order(&fixture->other, REQUESTS);
	assert_int_equal(gate_waiting(fixture->gate), 0);
}

static void who_is_cut_off_waits(void **state)
{
	struct fixture *fixture = *state;
	struct timespec deadline = deadline_in(10);

	fixture->one.answer = -ESHUTDOWN;
	submit(fixture);
	assert_int_equal(gate_waiting(fixture->gate), REQUESTS);
	assert_true(atomic_load(&fixture->cut_off) > 0);
	gate_hold(fixture->gate);
	assert_true(gate_wait_idle(fixture->gate, &deadline, NULL));
	gate_take_inner(fixture->gate);
	gate_resume(fixture->gate, &fixture->other.image);
	expect_done(fixture, 0);
	expect_order(&fixture->other, REQUESTS);
}

static void other_failures_are_final(void **state)
{
	struct fixture *fixture = *state;

	fixture->one.answer = -ENOSPC;
	submit(fixture);
	expect_done(fixture, -ENOSPC);
}

static void a_failing_gate_answers_all(void **state)
{
	struct fixture *fixture = *state;

	gate_hold(fixture->gate);
	submit(fixture);
	gate_fail(fixture->gate);
	expect_done(fixture, -EIO);
	submit(fixture);
	expect_done(fixture, -EIO);
	assert_int_equal(fixture->one.count, 0);
}

static void what_waits_too_long_fails(void **state)
{
	struct fixture *fixture = *state;
	struct timespec deadline = deadline_in(10);

	gate_hold(fixture->gate);
	submit(fixture);
	expect_done(fixture, -EIO);
	submit(fixture);
	expect_done(fixture, -EIO);
	assert_int_equal(gate_waiting(fixture->gate), 0);
	assert_true(gate_wait_idle(fixture->gate, &deadline, NULL));
	gate_resume(fixture->gate, gate_take_inner(fixture->gate));
	submit(fixture);
	expect_done(fixture, 0);
	expect_order(&fixture->one, REQUESTS);
}

/* What it holds back is answered; its timer still runs. */
static void an_impatient_gate_closes(void **state)
{
	struct fixture *fixture = *state;

	gate_hold(fixture->gate);
	submit(fixture);
	gate_fail(fixture->gate);
	expect_done(fixture, -EIO);
}

static void what_is_taken_out_tells_no_size(void **state)
{
	struct fixture *fixture = *state;
	struct image *gate = gate_image(fixture->gate);

	image_set_size(&fixture->one.image, 2 << 20);
	assert_int_equal(gate->info.size, 2 << 20);
	gate_hold(fixture->gate);
	gate_take_inner(fixture->gate);
	image_set_size(&fixture->one.image, 3 << 20);
	assert_int_equal(gate->info.size, 2 << 20);
	gate_resume(fixture->gate, &fixture->other.image);
}

static void note_change(struct image *image, void *data)
{
	(*(unsigned *)data)++;
}

static void a_gate_is_what_becomes_of_its_image(void **state)
{
	struct fixture *fixture = *state;
	struct image *image = gate_image(fixture->gate);
	unsigned changes = 0;

	image_listen(image, note_change, &changes);
	image_set_size(&fixture->one.image, 2 << 20);
	image_set_size(&fixture->one.image, 2 << 20);
	assert_int_equal(changes, 1);
	assert_int_equal(atomic_load(&image->info.size), 2 << 20);
	image_set_gone(&fixture->one.image);
	image_set_gone(&fixture->one.image);
	assert_int_equal(changes, 2);
	submit(fixture);
	expect_done(fixture, -EIO);
	assert_int_equal(fixture->one.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_open_gate_passes, make, drop),
		cmocka_unit_test_setup_teardown(a_held_gate_changes_the_image, make, drop),
		cmocka_unit_test_setup_teardown(who_is_cut_off_waits, make, drop),
		cmocka_unit_test_setup_teardown(other_failures_are_final, make, drop),
		cmocka_unit_test_setup_teardown(a_failing_gate_answers_all, make, drop),
		cmocka_unit_test_setup_teardown(what_is_taken_out_tells_no_size, make, drop),
		cmocka_unit_test_setup_teardown(what_waits_too_long_fails, make_impatient, drop),
		cmocka_unit_test_setup_teardown(an_impatient_gate_closes, make_impatient, drop),
		cmocka_unit_test_setup_teardown(a_gate_is_what_becomes_of_its_image, make, drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
