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

#include "common/log.h"
#include "daemon/client_pool.h"
#include "daemon/deadline.h"
#include "daemon/devices.h"
#include "daemon/queues.h"
#include "daemon/records.h"
#include "tests/unit/cmocka-all.h"
#include "ublk/ublk.h"

/* ---- the frontend, in the place of the real one: a single tag */

struct fake {
	struct frontend base;
	struct queue *queue;
	struct request request;
	char *buffer;
	atomic_bool at_image;
	sem_t answered;
};

static struct fake *fake; /* the last one that was made */

static struct fake *fake_of(struct frontend *frontend)
{
	return container_of(frontend, struct fake, base);
}

static int fake_probe(struct error *err)
{
	return 0;
}

static int fake_create(const struct frontend_config *config, struct frontend **ret,
		       struct error *err)
{
	fake = calloc(1, sizeof(*fake));
	fake->base.ops = &ublk_frontend;
	fake->base.config = *config;
	fake->base.number = 77;
	snprintf(fake->base.device, sizeof(fake->base.device), "/dev/ublkb77");
	fake->queue = config->queues[0];
	fake->buffer = aligned_alloc(4096, 4096);
	sem_init(&fake->answered, 0, 0);
	*ret = &fake->base;
	return 0;
}

static int fake_start(struct frontend *frontend, struct error *err)
{
	return 0;
}

static int fake_stop(struct frontend *frontend, bool force, unsigned deadline, struct error *err)
{
	frontend->ending = true;
	return 0;
}

static bool fake_detach(struct frontend *frontend)
{
	frontend->detached = true;
	return true;
}

static void fake_destroy(struct frontend *frontend)
{
	struct fake *own = fake_of(frontend);

	while (atomic_load(&own->at_image))
		usleep(1000);
	sem_destroy(&own->answered);
	free(own->buffer);
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

static bool fake_absent(int number, const char *name)
{
	return false;
}

static int fake_discard(int number, const char *name, struct error *err)
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
	.present = fake_absent,
	.discard = fake_discard,
};

static void answered(struct request *request)
{
	struct fake *own = container_of(request, struct fake, request);

	sem_post(&own->answered);
	atomic_store(&own->at_image, false);
}

static int submit_write(void *data)
{
	struct fake *own = data;

	own->request = (struct request){
		.op = REQUEST_WRITE,
		.length = 4096,
		.buffer = own->buffer,
		.home = own->queue,
		.done = answered,
	};
	atomic_store(&own->at_image, true);
	image_submit(own->base.config.image, &own->request);
	return 0;
}

static void begin_write(void)
{
	queue_call(fake->queue, submit_write, fake);
}

/* ---- the table */

struct fixture {
	char directory[32];
	struct queues queues;
	struct records *records;
	struct client_pool *clients;
	struct devices *devices;
};

static int make(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct devices_config config = { .queues = &fixture->queues };
	struct error err = ERROR_NONE;
	cpu_set_t any;

	CPU_ZERO(&any);
	strcpy(fixture->directory, "/tmp/urbd-test.XXXXXX");
	if (!mkdtemp(fixture->directory) ||
	    records_open(fixture->directory, &fixture->records, &err) < 0 ||
	    queues_start(&fixture->queues, 1, &any, &err) < 0 ||
	    client_pool_create(&fixture->clients, &err) < 0)
		return -1;
	config.records = fixture->records;
	config.clients = fixture->clients;
	if (devices_create(&config, &fixture->devices, &err) < 0)
		return -1;
	*state = fixture;
	return 0;
}

/* Waits for what the images still hold. */
static int drop(void **state)
{
	struct fixture *fixture = *state;
	struct timespec deadline = deadline_in(60);
	char path[64];
	unsigned left = devices_leave(fixture->devices, &deadline);

	devices_destroy(fixture->devices);
	client_pool_destroy(fixture->clients);
	queues_stop(&fixture->queues);
	records_close(fixture->records);
	snprintf(path, sizeof(path), "%s/lock", fixture->directory);
	unlink(path);
	rmdir(fixture->directory);
	free(fixture);
	return left > 0 ? -1 : 0;
}

static int map(struct fixture *fixture, const char *fault, struct error *err)
{
	json_t *params = json_pack("{s:s, s:I, s:s}", "type", "null", "size", (json_int_t)1 << 20,
				   "fault", fault);
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

static int unmap_by_force(struct fixture *fixture, struct error *err)
{
	struct unmap_request request = { .device = "/dev/ublkb77", .force = true, .timeout = 30 };
	json_t *answer;
	int r = devices_unmap(fixture->devices, &request, &answer, err);

	if (r == 0)
		json_decref(answer);
	return r;
}

static void expect_unmapped(struct fixture *fixture)
{
	struct error err = ERROR_NONE;

	if (unmap_by_force(fixture, &err) < 0)
		fail_msg("unmap: %s", err.text);
}

static bool has_record(const struct fixture *fixture)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/ublkb77.json", fixture->directory);
	return access(path, F_OK) == 0;
}

/* For longer than anything here may take. */
#define SILENT(op) op "=delay:12000"

/* ---- the tests */

static void a_forced_unmap_leaves_no_record(void **state)
{
	struct fixture *fixture = *state;

	expect_mapped(fixture, SILENT("write"));
	assert_true(has_record(fixture));
	begin_write();
	expect_unmapped(fixture);
	assert_true(atomic_load(&fake->at_image));
	assert_false(has_record(fixture));
}

#define devices_test(name) cmocka_unit_test_setup_teardown(name, make, drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		devices_test(a_forced_unmap_leaves_no_record),
	};

	log_open("test-devices", LOG_LEVEL_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
