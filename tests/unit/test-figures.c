/* Histograms hold what was put in, also under a reader; an image's figures split a request's time.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/figures.h"
#include "core/image.h"
#include "tests/unit/cmocka-all.h"

#define MS	1000000ull
#define ENTRIES 2000000u

static struct histogram_sum read_one(const struct histogram *histogram)
{
	struct histogram_sum sum = { 0 };

	histogram_read(histogram, &sum);
	return sum;
}

/* --- Histograms ------------------------------------------------------------------------------- */

static void buckets_follow_each_other(void **state)
{
	assert_int_equal(histogram_index(0), 0);
	assert_int_equal(histogram_index(63), 0);
	for (unsigned i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
		uint64_t bound = histogram_bound(i);

		assert_int_equal(histogram_index(bound - 1), i);
		assert_int_equal(histogram_index(bound), i + 1);
	}
	assert_int_equal(histogram_index(histogram_bound(HISTOGRAM_BUCKETS - 1) - 1),
			 HISTOGRAM_BUCKETS - 1);
	assert_int_equal(histogram_index(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void buckets_are_narrow(void **state)
{
	for (unsigned i = 1 << HISTOGRAM_SUB_BITS; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t begin = histogram_bound(i - 1), width = histogram_bound(i) - begin;

		assert_true(width * 8 <= begin);
	}
	assert_true(histogram_bound(HISTOGRAM_BUCKETS - 1) > 274000 * MS);
}

static void assert_near(uint64_t value, uint64_t wanted)
{
	assert_in_range(value, wanted, wanted + wanted / 8 + 64);
}

static void quantiles_are_right(void **state)
{
	static struct histogram histogram;
	struct histogram_sum sum = read_one(&histogram);

	assert_int_equal(histogram_quantile(&sum, 990), 0);
	for (unsigned i = 1; i <= 1000; i++)
		histogram_add(&histogram, i * 1000);
	sum = read_one(&histogram);
	assert_int_equal(sum.count, 1000);
	assert_int_equal(sum.sum, 500500000);
	assert_near(histogram_quantile(&sum, 500), 500000);
	assert_near(histogram_quantile(&sum, 990), 990000);
	assert_near(histogram_quantile(&sum, 999), 999000);
	assert_near(histogram_quantile(&sum, 1000), 1000000);
}

static void a_rare_one_shows_where_it_should(void **state)
{
	static struct histogram histogram;
	struct histogram_sum sum;

	for (unsigned i = 0; i < 99; i++)
		histogram_add(&histogram, 1000);
	histogram_add(&histogram, 50 * MS);
	sum = read_one(&histogram);
	assert_near(histogram_quantile(&sum, 990), 1000);
	assert_near(histogram_quantile(&sum, 991), 50 * MS);
}

static void counts_below_powers_of_two_are_exact(void **state)
{
	static struct histogram histogram;
	struct histogram_sum sum;

	for (unsigned bit = 6; bit < 38; bit++) {
		histogram_add(&histogram, (1ull << bit) - 1);
		histogram_add(&histogram, 1ull << bit);
	}
	sum = read_one(&histogram);
	for (unsigned bit = 6; bit < 38; bit++)
		assert_int_equal(histogram_below(&sum, 1ull << bit), 2 * (bit - 6) + 1);
}

static void *write_entries(void *data)
{
	for (unsigned i = 0; i < ENTRIES; i++)
		histogram_add(data, i % 100000);
	return NULL;
}

/* Nothing goes back while it is written, and nothing is lost. */
static void a_reader_disturbs_nothing(void **state)
{
	static struct histogram histogram;
	struct histogram_sum before = { 0 }, sum;
	pthread_t writer;

	assert_int_equal(pthread_create(&writer, NULL, write_entries, &histogram), 0);
	do {
		sum = read_one(&histogram);
		assert_true(sum.count >= before.count && sum.sum >= before.sum);
		for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
			assert_true(sum.buckets[i] >= before.buckets[i]);
		before = sum;
	} while (sum.count < ENTRIES);
	pthread_join(writer, NULL);
	sum = read_one(&histogram);
	assert_int_equal(sum.count, ENTRIES);
	assert_int_equal(sum.sum, ENTRIES / 100000 * (99999ull * 100000 / 2));
}

/* --- The clock ---------------------------------------------------------------------------------
 */

/* Whatever it counts: its nanoseconds are those of the kernel, to a thousandth. */
static void the_clock_counts_nanoseconds(void **state)
{
	uint64_t before, begin, end, ns;

	clock_start();
	before = clock_monotonic_ns();
	begin = clock_now();
	usleep(50 * 1000);
	end = clock_now();
	ns = clock_ns(clock_since(begin, end));
	assert_in_range(ns, 50 * MS / 1000 * 999, (clock_monotonic_ns() - before) / 1000 * 1001);
	assert_int_equal(clock_since(end, begin), 0);
}

static void a_second_start_changes_nothing(void **state)
{
	uint64_t multiplier = clock_scale.multiplier;

	clock_start();
	assert_int_equal(clock_scale.multiplier, multiplier);
}

/* --- The figures of an image ------------------------------------------------------------------ */

#define FRONTEND_MS 10
#define STORAGE_MS  20
#define WAIT_MS	    50

static sem_t answered;

/* Completes on a thread of its own after STORAGE_MS, as librbd would; with EIO at offset 4096. */
static void *complete_later(void *data)
{
	struct request *request = data;

	usleep(STORAGE_MS * 1000);
	request_complete(request, request->offset ? -EIO : 0);
	sem_post(&answered);
	return NULL;
}

static void slow_submit(struct image *image, struct request *request)
{
	pthread_t thread;

	pthread_create(&thread, NULL, complete_later, request);
	pthread_detach(thread);
}

static int nothing_to_close(struct image *image)
{
	return 0;
}

static const struct image_ops slow_ops = { .submit = slow_submit, .close = nothing_to_close };

struct one {
	struct image image;
	struct request request;
	bool busy; /* the home thread works before it submits, and when the answer is there */
};

static int submit_one(void *data)
{
	struct one *one = data;

	if (one->busy)
		usleep(FRONTEND_MS * 1000);
	image_submit(&one->image, &one->request);
	if (!one->busy)
		return 0;
	sem_wait(&answered);
	usleep(WAIT_MS * 1000);
	return 0;
}

static void nothing(struct request *request)
{
}

/* The nanoseconds that it took. */
static uint64_t serve_one(struct queue *queue, struct one *one)
{
	uint64_t began = clock_monotonic_ns();

	one->request.home = queue;
	one->request.done = nothing;
	one->request.length = 4096;
	queue_call(queue, submit_one, one);
	while (atomic_load(&one->image.in_flight) > 0)
		usleep(1000);
	return clock_monotonic_ns() - began;
}

/* Each part has what it must have, and nothing of the others. */
static void assert_parts(const struct op_figures *figures, uint64_t all)
{
	static const uint64_t least[] = { FRONTEND_MS * MS, WAIT_MS * MS, STORAGE_MS * MS };
	uint64_t together = (FRONTEND_MS + WAIT_MS + STORAGE_MS) * MS, sum = 0;

	for (unsigned part = 0; part < FIGURES_LATENCY; part++) {
		uint64_t ns = figures->parts[part].sum;

		assert_in_range(ns, least[part] / 1000 * 999, all - together + least[part]);
		sum += ns;
	}
	assert_int_equal(figures->parts[FIGURES_LATENCY].sum, sum);
}

static void the_parts_of_a_request_are_told_apart(void **state)
{
	struct one one = { .image = { .ops = &slow_ops, .info = { .size = MS, .block_size = 512 } },
			   .busy = true };
	struct op_figures figures;
	struct queue *queue;
	uint64_t all;

	assert_int_equal(queue_create("figures", 2, &queue), 0);
	assert_int_equal(queue_index_limit(), 3);
	one.image.figures = figures_create();
	all = serve_one(queue, &one);
	figures_read(one.image.figures, REQUEST_READ, &figures);
	assert_int_equal(figures.parts[FIGURES_LATENCY].count, 1);
	assert_int_equal(figures.bytes, 4096);
	assert_int_equal(figures.errors, 0);
	assert_parts(&figures, all);
	image_close(&one.image);
	queue_destroy(queue);
}

static void errors_are_counted_and_their_bytes_are_not(void **state)
{
	struct one one = { .image = { .ops = &slow_ops,
				      .info = { .size = MS / 512 * 512, .block_size = 512 } },
			   .request = { .op = REQUEST_WRITE, .offset = 4096 } };
	struct op_figures figures;
	struct queue *queue;

	assert_int_equal(queue_create("figures", 0, &queue), 0);
	one.image.figures = figures_create();
	serve_one(queue, &one);
	one.request.offset = 1; /* refused before the storage sees it */
	serve_one(queue, &one);
	figures_read(one.image.figures, REQUEST_WRITE, &figures);
	assert_int_equal(figures.parts[FIGURES_LATENCY].count, 2);
	assert_int_equal(figures.errors, 2);
	assert_int_equal(figures.bytes, 0);
	figures_read(one.image.figures, REQUEST_READ, &figures);
	assert_int_equal(figures.parts[FIGURES_LATENCY].count, 0);
	image_close(&one.image);
	queue_destroy(queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_follow_each_other),
		cmocka_unit_test(buckets_are_narrow),
		cmocka_unit_test(quantiles_are_right),
		cmocka_unit_test(a_rare_one_shows_where_it_should),
		cmocka_unit_test(counts_below_powers_of_two_are_exact),
		cmocka_unit_test(a_reader_disturbs_nothing),
		cmocka_unit_test(the_clock_counts_nanoseconds),
		cmocka_unit_test(a_second_start_changes_nothing),
		cmocka_unit_test(the_parts_of_a_request_are_told_apart),
		cmocka_unit_test(errors_are_counted_and_their_bytes_are_not),
	};

	sem_init(&answered, 0, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
