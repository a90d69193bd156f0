/*
 * librbd-loop: what librbd itself costs, for comparison with what serves images through it.
 *
 *   librbd-loop --image POOL/NAME [option...]
 *     --conf FILE, --id USER       the cluster ("": none), the Ceph user (admin)
 *     --option KEY=VALUE           of librados or librbd, as 'urbd map -o' takes it; up to 8 times
 *     --rw PATTERN                 read, write, randread, randwrite, randrw (70 % reads)
 *     --block BYTES, --depth N     of each request, requests in flight (4096, 1)
 *     --seconds N, --requests N    when it ends (4 seconds, no number)
 *     --fsync                      a flush after each write
 *     --socket                     each request is asked for by a client, and answered to it
 *
 * A bare loop of callbacks: librbd's completion of a request starts the next one, on librbd's own
 * thread. The client is made as urbdd makes it, so the settings of librados and librbd are the
 * same. With --socket it is the least that a server can be: one thread receives requests of a
 * client (feeder.h), and librbd's own sends the replies. Prints one JSON object: requests, seconds,
 * CPU seconds of the process meanwhile, and latencies in ns (at most an eighth too high); with
 * --fsync those of the flushes apart from those of the writes. Exit: 0, or 1 after any failure.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <rbd/librbd.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/parse.h"
#include "core/clock.h"
#include "core/histogram.h"
#include "image/client-rados.h"
#include "image/client.h"
#include "tests/bench/feeder.h"

#define DEPTH_MAX     1024
#define OPTIONS_MAX   8
#define BLOCK_MAX     (16u << 20)
#define READ_PERCENT  70
#define NS_PER_SECOND 1000000000.0

/* One request after the other; it belongs to the thread that starts the next, or to librbd. */
struct slot {
	uint8_t *buffer;
	uint64_t random, began;
	uint64_t requests;
	struct histogram latency, flush_latency;
	bool writing, flushing;
};

static struct {
	const char *conf, *user;
	char *pool, *image;
	unsigned block, depth, seconds, requests;
	unsigned read_percent;
	bool random, flush, socket;
} settings = { .user = "admin", .block = 4096, .depth = 1, .seconds = 4, .read_percent = 100 };

static struct rbd_client_option options[OPTIONS_MAX];
static unsigned nr_options;

static rbd_image_t image;
static uint64_t blocks; /* of the image */
static struct slot *slots;
static atomic_uint_fast64_t next_block; /* where it goes in sequence */
static struct feeder feeder;
static atomic_bool stopping;
static atomic_uint ended_requests;
static atomic_int failure; /* the first negative errno */
static sem_t ended;	   /* counts slots */

static void die(const char *what, int r)
{
	fprintf(stderr, "librbd-loop: %s: %s\n", what, strerror(-r));
	exit(1);
}

/* ---- the loop */

static uint64_t random_number(struct slot *slot)
{
	slot->random ^= slot->random << 13;
	slot->random ^= slot->random >> 7;
	slot->random ^= slot->random << 17;
	return slot->random;
}

static uint64_t choose_offset(struct slot *slot)
{
	uint64_t block =
		settings.random ? random_number(slot) >> 8 : atomic_fetch_add(&next_block, 1);

	return block % blocks * settings.block;
}

static bool choose_writing(struct slot *slot)
{
	if (settings.read_percent == 0 || settings.read_percent == 100)
		return settings.read_percent == 0;
	return random_number(slot) % 100 >= settings.read_percent;
}

static int ask_librbd(struct slot *slot, rbd_completion_t completion)
{
	char *buffer = (char *)slot->buffer;

	if (slot->flushing)
		return rbd_aio_flush(image, completion);
	slot->writing = choose_writing(slot);
	if (slot->writing)
		return rbd_aio_write(image, choose_offset(slot), settings.block, buffer,
				     completion);
	return rbd_aio_read(image, choose_offset(slot), settings.block, buffer, completion);
}

static void end_slot(int r)
{
	int none = 0;

	if (r < 0)
		atomic_compare_exchange_strong(&failure, &none, r);
	sem_post(&ended);
}

static bool is_enough(void)
{
	if (settings.requests)
		return atomic_fetch_add(&ended_requests, 1) + settings.depth >= settings.requests;
	return atomic_load(&stopping);
}

static void start_request(struct slot *slot);

/* The client asks for the next one when it has the answer. */
static void answer(struct slot *slot)
{
	int r = feeder_reply(&feeder, (unsigned)(slot - slots), slot->buffer);

	if (r < 0)
		end_slot(r);
}

static void asked(unsigned tag, const uint8_t *payload)
{
	struct slot *slot = &slots[tag];

	if (feeder.writes)
		memcpy(slot->buffer, payload, settings.block);
	start_request(slot);
}

static void add_latency(struct slot *slot)
{
	struct histogram *latency = slot->flushing ? &slot->flush_latency : &slot->latency;

	histogram_add(latency, clock_ns(clock_since(slot->began, clock_now())));
}

/* A write that is to be flushed counts when the flush is done. */
static void completed(rbd_completion_t completion, void *data)
{
	struct slot *slot = data;
	ssize_t r = rbd_aio_get_return_value(completion);

	rbd_aio_release(completion);
	if (r < 0) {
		end_slot((int)r);
		return;
	}
	add_latency(slot);
	slot->flushing = settings.flush && slot->writing && !slot->flushing;
	if (!slot->flushing) {
		slot->requests++;
		if (is_enough()) {
			end_slot(0);
			return;
		}
	}
	if (settings.socket && !slot->flushing)
		answer(slot);
	else
		start_request(slot);
}

static void start_request(struct slot *slot)
{
	rbd_completion_t completion;
	int r = rbd_aio_create_completion(slot, completed, &completion);

	if (r < 0) {
		end_slot(r);
		return;
	}
	slot->began = clock_now();
	r = ask_librbd(slot, completion);
	if (r < 0) {
		rbd_aio_release(completion);
		end_slot(r);
	}
}

/* As it is to be at the end. Before that nothing would come any more, for ever. */
static void client_ended(int r)
{
	if (!atomic_load(&stopping))
		die("the client", r);
}

static void make_feeder(void)
{
	int r;

	feeder = (struct feeder){ .depth = settings.depth,
				  .block = settings.block,
				  .writes = settings.read_percent == 0,
				  .request = asked,
				  .ended = client_ended };
	r = feeder_fork(&feeder);
	if (r < 0)
		die("the client", r);
}

static void make_slots(void)
{
	slots = calloc(settings.depth, sizeof(*slots));
	if (!slots)
		die("slots", -ENOMEM);
	for (unsigned i = 0; i < settings.depth; i++) {
		slots[i].random = 0x9e3779b97f4a7c15u * (i + 1);
		slots[i].buffer = aligned_alloc(4096, (settings.block + 4095u) / 4096 * 4096);
		if (!slots[i].buffer)
			die("buffers", -ENOMEM);
		memset(slots[i].buffer, (int)i + 1, settings.block);
	}
}

static void begin_all(void)
{
	int r;

	if (settings.socket) {
		r = feeder_begin(&feeder);
		if (r < 0)
			die("the client", r);
		return;
	}
	for (unsigned i = 0; i < settings.depth; i++)
		start_request(&slots[i]);
}

static void run_loop(void)
{
	sem_init(&ended, 0, 0);
	begin_all();
	if (!settings.requests)
		sleep(settings.seconds);
	atomic_store(&stopping, true);
	for (unsigned i = 0; i < settings.depth; i++)
		while (sem_wait(&ended) < 0)
			;
	if (failure < 0)
		die("I/O", failure);
}

/* ---- around it */

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void print_latency(const struct histogram_sum *sum)
{
	printf("\"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64 ", \"p999_ns\": %" PRIu64,
	       histogram_quantile(sum, 500), histogram_quantile(sum, 990),
	       histogram_quantile(sum, 999));
}

static void report(double seconds, double cpu)
{
	struct histogram_sum sum = { 0 }, flushes = { 0 };
	uint64_t requests = 0;

	for (unsigned i = 0; i < settings.depth; i++) {
		histogram_read(&slots[i].latency, &sum);
		histogram_read(&slots[i].flush_latency, &flushes);
		requests += slots[i].requests;
	}
	printf("{\"requests\": %" PRIu64 ", \"seconds\": %.6f, \"cpu_seconds\": %.6f, ", requests,
	       seconds, cpu);
	print_latency(&sum);
	if (settings.flush) {
		printf(", \"flush\": {\"requests\": %" PRIu64 ", ", flushes.count);
		print_latency(&flushes);
		printf("}");
	}
	printf("}\n");
}

static void measure(void)
{
	uint64_t began = clock_monotonic_ns();
	double cpu = cpu_seconds();

	run_loop();
	report((double)(clock_monotonic_ns() - began) / NS_PER_SECOND, cpu_seconds() - cpu);
}

static rados_ioctx_t open_image(struct rbd_client *client)
{
	rados_ioctx_t ioctx;
	uint64_t size;
	int r = rados_ioctx_create(rbd_client_cluster(client), settings.pool, &ioctx);

	if (r < 0)
		die(settings.pool, r);
	r = rbd_open(ioctx, settings.image, &image, NULL);
	if (r < 0)
		die(settings.image, r);
	r = rbd_get_size(image, &size);
	if (r < 0)
		die(settings.image, r);
	blocks = size / settings.block;
	if (blocks == 0)
		die("the image is smaller than a block", -EINVAL);
	return ioctx;
}

static struct rbd_client *connect_client(void)
{
	struct rbd_client_config config = {
		.conf = settings.conf,
		.user = settings.user,
		.options = options,
		.nr_options = nr_options,
	};
	struct error err = ERROR_NONE;
	struct rbd_client *client;

	if (rbd_client_connect(&config, &client, &err) < 0) {
		fprintf(stderr, "librbd-loop: %s\n", err.text);
		exit(1);
	}
	return client;
}

/* ---- options */

static void usage(const char *what)
{
	fprintf(stderr, "librbd-loop: wrong %s; see the top of librbd-loop.c\n", what);
	exit(2);
}

static unsigned number(const char *name, const char *text, unsigned max)
{
	unsigned value;

	if (parse_unsigned(text, 1, max, &value) < 0)
		usage(name);
	return value;
}

static void set_image(char *text)
{
	char *slash = strchr(text, '/');

	if (!slash)
		usage("--image");
	*slash = '\0';
	settings.pool = text;
	settings.image = slash + 1;
}

static void add_option(char *text)
{
	char *equals = strchr(text, '=');

	if (!equals || nr_options == OPTIONS_MAX)
		usage("--option");
	*equals = '\0';
	options[nr_options++] = (struct rbd_client_option){ text, equals + 1 };
}

static void set_pattern(const char *text)
{
	settings.random = strncmp(text, "rand", 4) == 0;
	text += settings.random ? 4 : 0;
	if (strcmp(text, "write") == 0)
		settings.read_percent = 0;
	else if (strcmp(text, "rw") == 0)
		settings.read_percent = READ_PERCENT;
	else if (strcmp(text, "read") != 0)
		usage("--rw");
}

static void read_options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "option", 1, NULL, 'o' }, { "image", 1, NULL, 'i' },
		{ "conf", 1, NULL, 'c' },   { "id", 1, NULL, 'u' },
		{ "rw", 1, NULL, 'r' },	    { "block", 1, NULL, 'b' },
		{ "depth", 1, NULL, 'd' },  { "seconds", 1, NULL, 's' },
		{ "fsync", 0, NULL, 'f' },  { "requests", 1, NULL, 'n' },
		{ "socket", 0, NULL, 'S' }, { 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 'i')
			set_image(optarg);
		else if (option == 'o')
			add_option(optarg);
		else if (option == 'c')
			settings.conf = optarg;
		else if (option == 'u')
			settings.user = optarg;
		else if (option == 'r')
			set_pattern(optarg);
		else if (option == 'b')
			settings.block = number("--block", optarg, BLOCK_MAX);
		else if (option == 'd')
			settings.depth = number("--depth", optarg, DEPTH_MAX);
		else if (option == 's')
			settings.seconds = number("--seconds", optarg, 3600);
		else if (option == 'n')
			settings.requests = number("--requests", optarg, UINT_MAX);
		else if (option == 'f')
			settings.flush = true;
		else if (option == 'S')
			settings.socket = true;
		else
			usage("option");
	}
	if (!settings.image || optind < argc)
		usage("arguments");
	if (settings.socket && settings.read_percent % 100 != 0)
		usage("--rw: with --socket it is all reads or all writes");
}

int main(int argc, char **argv)
{
	struct rbd_client *client;
	rados_ioctx_t ioctx;

	read_options(argc, argv);
	if (settings.socket)
		make_feeder();
	clock_start();
	client = connect_client();
	ioctx = open_image(client);
	make_slots();
	measure();
	if (settings.socket)
		feeder_end(&feeder);
	rbd_close(image);
	rados_ioctx_destroy(ioctx);
	rbd_client_unref(client);
	return 0;
}
