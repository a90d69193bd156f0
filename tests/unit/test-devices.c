/*
 * The device table with a frontend that needs no kernel, on images that do not answer: unmap by
 * force, drain, stop. What depends on the kernel's part is in suites/guest.
 */
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/deadline.h"
#include "common/log.h"
#include "daemon/client_pool.h"
#include "daemon/device.h"
#include "daemon/queues.h"
#include "daemon/records.h"
#include "daemon/recovery.h"
#include "tests/unit/cmocka-all.h"
#include "ublk/ublk.h"

/* ---- the frontend, in the place of the real one: a tag for a read, and one for a write */

struct tag {
	struct fake *fake;
	struct request request;
	char *buffer;
	sem_t answered;
};

struct fake {
	struct frontend base;
	struct queue *queue;
	struct tag read, write;
	atomic_uint at_image;
};

static struct fake *fake;   /* the last one that was made */
static bool strands;	    /* what starts is stranded */
static bool keeps;	    /* the kernel does not let go of what is taken away */
static unsigned io_timeout; /* of what is mapped */
static int next_number;	    /* of the device that is mapped next */

static struct fake *fake_of(struct frontend *frontend)
{
	return container_of(frontend, struct fake, base);
}

static int fake_probe(struct error *err)
{
	return 0;
}

static void answered(struct request *request)
{
	struct tag *tag = container_of(request, struct tag, request);

	sem_post(&tag->answered);
	atomic_fetch_sub(&tag->fake->at_image, 1);
}

static void make_tag(struct tag *tag, enum request_op op)
{
	tag->fake = fake;
	tag->buffer = aligned_alloc(4096, 4096);
	tag->request = (struct request){
		.op = op,
		.length = 4096,
		.buffer = tag->buffer,
		.home = fake->queue,
		.done = answered,
	};
	sem_init(&tag->answered, 0, 0);
}

static void drop_tag(struct tag *tag)
{
	sem_destroy(&tag->answered);
	free(tag->buffer);
}

static int fake_create(const struct frontend_config *config, struct frontend **ret,
		       struct error *err)
{
	fake = calloc(1, sizeof(*fake));
	fake->base.ops = &ublk_frontend;
	fake->base.config = *config;
	fake->base.number = next_number;
	snprintf(fake->base.device, sizeof(fake->base.device), "/dev/ublkb%d", next_number);
	fake->queue = config->queues[0];
	make_tag(&fake->read, REQUEST_READ);
	make_tag(&fake->write, REQUEST_WRITE);
	*ret = &fake->base;
	return 0;
}

static int fake_start(struct frontend *frontend, struct error *err)
{
	frontend->stranded = strands;
	return strands ? error_set(err, -ETIMEDOUT, "the kernel hangs") : 0;
}

static int fake_stop(struct frontend *frontend, bool force, unsigned deadline, struct error *err)
{
	frontend->ending = true;
	return 0;
}

static bool fake_detach(struct frontend *frontend)
{
	frontend->detached = true;
	return !keeps;
}

static void fake_destroy(struct frontend *frontend)
{
	struct fake *own = fake_of(frontend);

	while (atomic_load(&own->at_image) > 0)
		usleep(1000);
	drop_tag(&own->read);
	drop_tag(&own->write);
	free(own);
}

static int fake_resize(struct frontend *frontend, uint64_t size, struct error *err)
{
	return 0;
}

static bool fake_no(int number)
{
	return false;
}

static int fake_look(int number, const struct frontend_mark *mark, struct error *err)
{
	return LEFTOVER_WAITS;
}

static int fake_discard(int number, const struct frontend_mark *mark, struct error *err)
{
	return 0;
}

const struct frontend_ops ublk_frontend = {
	.name = "ublk",
	.path_prefix = "/dev/ublkb",
	.hw_queues_default = 1,
	.probe = fake_probe,
	.create = fake_create,
	.start = fake_start,
	.stop = fake_stop,
	.detach = fake_detach,
	.destroy = fake_destroy,
	.resize = fake_resize,
	.orphan = fake_no,
	.look = fake_look,
	.discard = fake_discard,
};

static int submit(void *data)
{
	struct tag *tag = data;

	atomic_fetch_add(&tag->fake->at_image, 1);
	image_submit(tag->fake->base.config.image, &tag->request);
	return 0;
}

static void begin_read(void)
{
	queue_call(fake->queue, submit, &fake->read);
}

static void begin_write(void)
{
	queue_call(fake->queue, submit, &fake->write);
}

/* ---- threads, of which there may be none for a while */

static atomic_uint threads_missing; /* so many that are asked for */

int __real_thread_detached(void *(*main)(void *data), void *data);
int __wrap_thread_detached(void *(*main)(void *data), void *data);

int __wrap_thread_detached(void *(*main)(void *data), void *data)
{
	unsigned missing = atomic_load(&threads_missing);

	if (missing == 0)
		return __real_thread_detached(main, data);
	atomic_store(&threads_missing, missing - 1);
	return -EAGAIN;
}

/* ---- clients whose monitors do not answer; the seconds of a question pass at once, no others do
 */

static atomic_int seconds_passed;
static atomic_uint questions;

struct timespec __wrap_monotonic_now(void);
void __wrap_cluster_health(struct rbd_client *client, unsigned timeout, char *text, size_t size);
struct rbd_client *__wrap_pooled_client_rbd(struct pooled_client *client);
struct rbd_client *__wrap_rbd_client_ref(struct rbd_client *client);
struct rbd_client *__wrap_rbd_client_unref(struct rbd_client *client);

struct timespec __wrap_monotonic_now(void)
{
	return (struct timespec){ .tv_sec = 1000 + atomic_load(&seconds_passed) };
}

void __wrap_cluster_health(struct rbd_client *client, unsigned timeout, char *text, size_t size)
{
	snprintf(text, size, "silence");
	atomic_fetch_add(&seconds_passed, (int)timeout);
	atomic_fetch_add(&questions, 1);
}

struct rbd_client *__wrap_pooled_client_rbd(struct pooled_client *client)
{
	return (struct rbd_client *)client;
}

struct rbd_client *__wrap_rbd_client_ref(struct rbd_client *client)
{
	return client;
}

struct rbd_client *__wrap_rbd_client_unref(struct rbd_client *client)
{
	return NULL;
}

/* ---- the table */

struct fixture {
	char directory[32];
	struct queues queues;
	struct records *records;
	struct client_pool *clients;
	struct devices *devices;
};

static int start(struct fixture *fixture)
{
	struct devices_config config = { .queues = &fixture->queues };
	struct error err = ERROR_NONE;
	cpu_set_t any;

	next_number = 77;
	fixture->queues = (struct queues){ 0 };
	CPU_ZERO(&any);
	if (records_open(fixture->directory, &fixture->records, &err) < 0 ||
	    queues_start(&fixture->queues, 1, &any, &err) < 0 ||
	    client_pool_create(&fixture->clients, &err) < 0)
		return -1;
	config.records = fixture->records;
	config.clients = fixture->clients;
	return devices_create(&config, &fixture->devices, &err);
}

static void end(struct fixture *fixture)
{
	devices_destroy(fixture->devices);
	client_pool_destroy(fixture->clients);
	queues_stop(&fixture->queues);
	records_close(fixture->records);
}

static int make(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	strcpy(fixture->directory, "/tmp/urbd-test.XXXXXX");
	*state = fixture;
	return mkdtemp(fixture->directory) ? start(fixture) : -1;
}

static void remove_file(const struct fixture *fixture, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", fixture->directory, name);
	unlink(path);
}

/* What an image still holds stays with it. */
static int drop(void **state)
{
	struct fixture *fixture = *state;
	struct timespec now = deadline_in(0);
	unsigned left = devices_leave(fixture->devices, &now);

	remove_file(fixture, "lock");
	remove_file(fixture, "ublkb77.json");
	rmdir(fixture->directory);
	if (left > 0)
		return 0;
	end(fixture);
	free(fixture);
	return 0;
}

static int map(struct fixture *fixture, const char *fault, struct error *err)
{
	json_t *params =
		json_pack("{s:s, s:I, s:s, s:i}", "type", "null", "size", (json_int_t)1 << 20,
			  "fault", fault, "io_timeout", (int)io_timeout);
	struct map_request request;
	json_t *answer;
	int r = map_request_parse(params, &request, err);

	request.frontend = "ublk";
	if (r == 0)
		r = devices_map(fixture->devices, &request, &answer, err);
	if (r == 0)
		json_decref(answer);
	json_decref(params);
	return r;
}

static void expect_mapped(struct fixture *fixture, const char *fault)
{
	struct error err = ERROR_NONE;

	if (map(fixture, fault, &err) < 0)
		fail_msg("map: %s", err.text);
}

static int unmap_by_force(struct fixture *fixture, const char *path, struct error *err)
{
	struct unmap_request request = { .device = path, .force = true, .timeout = 30 };
	json_t *answer;
	int r = devices_unmap(fixture->devices, &request, &answer, err);

	if (r == 0)
		json_decref(answer);
	return r;
}

static void expect_unmapped(struct fixture *fixture)
{
	struct error err = ERROR_NONE;

	if (unmap_by_force(fixture, "/dev/ublkb77", &err) < 0)
		fail_msg("unmap: %s", err.text);
}

static bool has_record(const struct fixture *fixture)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/ublkb77.json", fixture->directory);
	return access(path, F_OK) == 0;
}

/* The only device, as if it had taken the lock of an image; its record says so. */
static void pretend_lock(struct fixture *fixture)
{
	struct device *device = find_path(fixture->devices, "/dev/ublkb77");
	struct error err = ERROR_NONE;

	device->opened.locked = true;
	assert_int_equal(device_write_record(device, &err), 0);
}

static bool record_claims_lock(const struct fixture *fixture)
{
	char path[64];
	json_t *record;
	bool claims;

	snprintf(path, sizeof(path), "%s/ublkb77.json", fixture->directory);
	record = json_load_file(path, 0, NULL);
	claims = json_is_true(json_object_get(record, "lock_held"));
	json_decref(record);
	return claims;
}

/* For longer than anything here may take. */
#define SILENT(op) op "=delay:12000"

/* ---- the tests */

static void a_forced_unmap_leaves_no_record(void **state)
{
	struct fixture *fixture = *state;
	struct timespec late = deadline_in(60);

	expect_mapped(fixture, SILENT("write"));
	assert_true(has_record(fixture));
	begin_write();
	expect_unmapped(fixture);
	assert_int_equal(sem_trywait(&fake->write.answered), -1);
	assert_false(has_record(fixture));
	/* The late completion does no harm. */
	assert_int_equal(devices_leave(fixture->devices, &late), 0);
}

/* Its image is closed, and the lock gone with it. */
static void a_record_that_is_kept_claims_no_lock(void **state)
{
	struct fixture *fixture = *state;

	expect_mapped(fixture, "read=EIO");
	pretend_lock(fixture);
	assert_true(record_claims_lock(fixture));
	keeps = true;
	expect_unmapped(fixture);
	keeps = false;
	assert_true(has_record(fixture));
	assert_false(record_claims_lock(fixture));
}

static int drain(struct fixture *fixture, unsigned timeout, struct error *err)
{
	json_t *answer;
	int r = devices_drain(fixture->devices, "/dev/ublkb77", timeout, &answer, err);

	if (r == 0)
		json_decref(answer);
	return r;
}

static int resume(struct fixture *fixture, unsigned timeout, struct error *err)
{
	json_t *answer;
	int r = devices_resume(fixture->devices, "/dev/ublkb77", timeout, &answer, err);

	if (r == 0)
		json_decref(answer);
	return r;
}

static void expect_state(struct fixture *fixture, const char *state)
{
	struct error err = ERROR_NONE;
	json_t *rows = devices_status(fixture->devices, NULL, &err);

	assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "state")),
			    state);
	json_decref(rows);
}

/* A state lasts as long as what was begun in it. */
static void await_state(struct fixture *fixture, const char *wanted)
{
	struct error err = ERROR_NONE;
	bool is = false;

	while (!is) {
		json_t *rows = devices_status(fixture->devices, NULL, &err);
		json_t *row = json_array_get(rows, 0);

		is = strcmp(json_string_value(json_object_get(row, "state")), wanted) == 0;
		json_decref(rows);
		usleep(1000);
	}
}

static void a_drain_does_not_wait_for_ever(void **state)
{
	struct fixture *fixture = *state;
	struct error err = ERROR_NONE;

	expect_mapped(fixture, SILENT("close"));
	assert_int_equal(drain(fixture, 1, &err), -ETIMEDOUT);
	expect_state(fixture, "quiesced");
	assert_int_equal(resume(fixture, 1, &err), -ETIMEDOUT);
	expect_state(fixture, "quiesced");
	expect_unmapped(fixture);
	assert_false(has_record(fixture));
}

static void what_is_drained_late_goes_on(void **state)
{
	struct fixture *fixture = *state;
	struct error err = ERROR_NONE;

	expect_mapped(fixture, "close=delay:2000");
	assert_int_equal(drain(fixture, 1, &err), -ETIMEDOUT);
	assert_int_equal(resume(fixture, 30, &err), 0);
	await_state(fixture, "live");
	expect_unmapped(fixture);
}

struct drainer {
	struct fixture *fixture;
	int result;
};

static void *drainer_main(void *data)
{
	struct drainer *drainer = data;
	struct error err = ERROR_NONE;

	drainer->result = drain(drainer->fixture, 30, &err);
	return NULL;
}

static void force_breaks_into_a_drain(struct fixture *fixture)
{
	struct drainer drainer = { .fixture = fixture };
	pthread_t thread;

	pthread_create(&thread, NULL, drainer_main, &drainer);
	await_state(fixture, "mapping");
	expect_unmapped(fixture);
	pthread_join(thread, NULL);
	assert_int_equal(drainer.result, -ECANCELED);
	assert_false(has_record(fixture));
}

static void force_breaks_into_a_drain_that_waits_for_requests(void **state)
{
	expect_mapped(*state, SILENT("write"));
	begin_write();
	force_breaks_into_a_drain(*state);
}

static void force_breaks_into_a_drain_that_closes(void **state)
{
	expect_mapped(*state, SILENT("close"));
	force_breaks_into_a_drain(*state);
}

static void a_stop_does_not_wait_for_ever(void **state)
{
	struct fixture *fixture = *state;
	struct timespec deadline = deadline_in(1), begin = deadline_in(0), end;

	expect_mapped(fixture, SILENT("close"));
	assert_int_equal(devices_leave(fixture->devices, &deadline), 1);
	end = deadline_in(0);
	assert_true(end.tv_sec - begin.tv_sec < 10);
	assert_true(has_record(fixture));
}

/* The thread that looks for another client is at any point of its work by then. */
static void force_takes_what_is_being_replaced(void **state)
{
	for (int i = 0; i < 300; i++) {
		expect_mapped(*state, "write=ESHUTDOWN");
		begin_write();
		usleep((useconds_t)(rand() % 300));
		expect_unmapped(*state);
	}
}

static void force_takes_what_is_cut_off_and_silent(void **state)
{
	expect_mapped(*state, "read=ESHUTDOWN;" SILENT("write"));
	begin_write();
	begin_read();
	await_state(*state, "blocked");
	expect_unmapped(*state);
}

/* What daemons had that are gone; kept in sight of who looks for leaks. */
static struct fixture gone[4];
static unsigned nr_gone;

/* A daemon leaves a device, and the next one finds it. */
static void start_anew(struct fixture *fixture)
{
	struct timespec deadline = deadline_in(30);

	assert_int_equal(devices_leave(fixture->devices, &deadline), 1);
	records_close(fixture->records); /* lets go of the directory; the rest is lost to us */
	gone[nr_gone++] = *fixture;
	assert_int_equal(start(fixture), 0);
	devices_recover(fixture->devices);
}

static void what_is_left_is_taken_back(void **state)
{
	expect_mapped(*state, "read=EIO");
	start_anew(*state);
	await_state(*state, "live");
	expect_unmapped(*state);
}

static void what_is_stranded_stays_whole(void **state)
{
	struct fixture *fixture = *state;
	struct unmap_request request = { .device = "/dev/ublkb77", .timeout = 30 };
	struct error err = ERROR_NONE;
	json_t *answer;

	expect_mapped(fixture, "read=EIO");
	strands = true;
	start_anew(fixture);
	await_state(fixture, "failed");
	strands = false;
	begin_write(); /* the kernel lets it go on after all */
	sem_wait(&fake->write.answered);
	assert_int_equal(fake->write.request.result, 0);
	assert_int_equal(devices_unmap(fixture->devices, &request, &answer, &err), -EBUSY);
	expect_unmapped(fixture);
	assert_false(has_record(fixture));
}

static void held_requests_have_their_timeout(void **state)
{
	struct error err = ERROR_NONE;

	io_timeout = 1;
	expect_mapped(*state, "read=EIO");
	io_timeout = 0;
	assert_int_equal(drain(*state, 30, &err), 0);
	begin_write();
	sem_wait(&fake->write.answered);
	assert_int_equal(fake->write.request.result, -EIO);
	assert_int_equal(resume(*state, 30, &err), 0);
	begin_write();
	sem_wait(&fake->write.answered);
	assert_int_equal(fake->write.request.result, 0);
	expect_unmapped(*state);
}

static void an_image_is_awaited_when_there_are_threads(void **state)
{
	struct fixture *fixture = *state;
	struct timespec deadline = deadline_in(30);
	struct error err = ERROR_NONE;
	struct device *device;

	expect_mapped(fixture, "read=EIO");
	device = find_path(fixture->devices, "/dev/ublkb77");
	set_state(device, DEVICE_MAPPING);
	assert_int_equal(device_close_image(device, &deadline, &err), IMAGE_CLOSED);
	set_state(device, DEVICE_BLOCKED);
	threads_missing = 2;
	device_await_image(device);
	await_state(fixture, "live");
	assert_int_equal(threads_missing, 0);
	expect_unmapped(fixture);
}

/* ---- I/O that waits */

#define STALLED 4

static struct device *nth(struct fixture *fixture, unsigned i)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/ublkb%u", i);
	return find_path(fixture->devices, path);
}

/* Each with a request that waits, and with a client of @clients, of which only addresses count. */
static void map_stalled(struct fixture *fixture, char *const clients[STALLED])
{
	for (unsigned i = 0; i < STALLED; i++) {
		next_number = (int)i;
		expect_mapped(fixture, "write=delay:60000");
		pthread_mutex_lock(&fixture->devices->lock);
		nth(fixture, i)->opened.client = (struct pooled_client *)clients[i];
		pthread_mutex_unlock(&fixture->devices->lock);
		begin_write();
	}
}

static void unmap_stalled(struct fixture *fixture)
{
	char path[32];
	struct error err = ERROR_NONE;

	for (unsigned i = 0; i < STALLED; i++) {
		pthread_mutex_lock(&fixture->devices->lock);
		nth(fixture, i)->opened.client = NULL;
		pthread_mutex_unlock(&fixture->devices->lock);
		snprintf(path, sizeof(path), "/dev/ublkb%u", i);
		assert_int_equal(unmap_by_force(fixture, path, &err), 0);
	}
}

static bool is_seen(const struct device *device)
{
	return device->stall.since != 0;
}

static bool is_told(const struct device *device)
{
	return strstr(device->reason, "silence");
}

static unsigned count(struct fixture *fixture, bool (*is)(const struct device *))
{
	unsigned n = 0;

	pthread_mutex_lock(&fixture->devices->lock);
	for (unsigned i = 0; i < STALLED; i++)
		n += is(nth(fixture, i));
	pthread_mutex_unlock(&fixture->devices->lock);
	return n;
}

/* Until all are told, or @most questions were asked. */
static void let_stall(struct fixture *fixture, unsigned most)
{
	while (count(fixture, is_seen) < STALLED)
		usleep(1000);
	atomic_store(&questions, 0);
	atomic_fetch_add(&seconds_passed, 10);
	while (count(fixture, is_told) < STALLED && atomic_load(&questions) < most)
		usleep(1000);
}

static void nobody_waits_untold(void **state)
{
	char clients[STALLED];

	map_stalled(*state, (char *[]){ &clients[0], &clients[1], &clients[2], &clients[3] });
	let_stall(*state, 100);
	assert_int_equal(count(*state, is_told), STALLED);
	unmap_stalled(*state);
}

static void one_question_is_for_all_devices_of_a_client(void **state)
{
	char client;

	map_stalled(*state, (char *[]){ &client, &client, &client, &client });
	let_stall(*state, 100);
	assert_int_equal(count(*state, is_told), STALLED);
	assert_int_equal(questions, 1);
	unmap_stalled(*state);
}

#define devices_test(name) cmocka_unit_test_setup_teardown(name, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		devices_test(a_forced_unmap_leaves_no_record),
		devices_test(a_record_that_is_kept_claims_no_lock),
		devices_test(a_drain_does_not_wait_for_ever),
		devices_test(what_is_drained_late_goes_on),
		devices_test(force_breaks_into_a_drain_that_waits_for_requests),
		devices_test(force_breaks_into_a_drain_that_closes),
		devices_test(a_stop_does_not_wait_for_ever),
		devices_test(force_takes_what_is_being_replaced),
		devices_test(force_takes_what_is_cut_off_and_silent),
		devices_test(an_image_is_awaited_when_there_are_threads),
		devices_test(held_requests_have_their_timeout),
		devices_test(what_is_left_is_taken_back),
		devices_test(what_is_stranded_stays_whole),
		devices_test(nobody_waits_untold),
		devices_test(one_question_is_for_all_devices_of_a_client),
	};

	log_open("test-devices", LOG_LEVEL_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
