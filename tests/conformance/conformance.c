/*
 * conformance: the contract of core/image.h, held against each kind of image.
 *
 *	conformance null
 *	conformance file [PATH]			what PATH holds is lost; without it a new file
 *	conformance fault [PATH]		the same, wrapped in image/fault
 *	conformance rbd SPEC [OPTION...]	what the image holds is lost
 *	conformance rbd-fault SPEC [OPTION...]
 *	conformance open SPEC [OPTION...]	opens it and prints what it is
 *	conformance late SPEC [OPTION...]	opens in vain, then lives on until its input ends
 *	conformance watch SPEC [OPTION...]	prints its size when that changes
 *	conformance ask SPEC [OPTION...]	for each line of its input: reads, writes, prints
 *how it went
 *
 * SPEC is POOL/[NAMESPACE/]IMAGE[@SNAPSHOT]. Options: --conf FILE, --id USER, --keyring FILE,
 * --key-env VARIABLE, --monitors LIST, --timeout SECONDS, --read-only, -o KEY=VALUE.
 * Prints a line for each check. Exit code 0, 1 where one failed, 2 where it could not begin.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/macros.h"
#include "image/file.h"
#include "image/null.h"
#include "image/rbd.h"
#include "tests/conformance/checks.h"

#define NULL_SIZE   (1ull << 30)
#define FILE_SIZE   (96 << 20)
#define OPTIONS_MAX 16
#define WATCH_TIME  15 /* seconds */

static const char *target;    /* path or spec */
static const char *made_file; /* to be removed */
static struct rbd_client *client;
static struct rbd_client_option options[OPTIONS_MAX];
static struct rbd_client_config config = { .options = options, .timeout = 10 };
static bool want_read_only;

static void give_up(const struct error *err)
{
	printf("error %s: %s\n", errno_name(err->code), err->text);
	exit(2);
}

static struct image *open_null(struct test *test, bool read_only)
{
	struct error err = ERROR_NONE;
	struct image *image;

	if (null_image_open(NULL_SIZE, read_only, &image, &err) < 0)
		give_up(&err);
	return image;
}

static struct image *open_file(struct test *test, bool read_only)
{
	struct error err = ERROR_NONE;
	struct image *image;

	if (file_image_open(target, read_only, &image, &err) < 0)
		give_up(&err);
	return image;
}

/* Cuts a copy of the target to pieces, which stay until the next call. */
static void parse_spec(struct rbd_image_spec *spec)
{
	static char copy[512];
	char *text = copy, *part;

	snprintf(copy, sizeof(copy), "%s", target);
	part = strsep(&text, "/");
	if (!text) {
		fprintf(stderr, "conformance: write POOL/IMAGE\n");
		exit(2);
	}
	spec->pool = part;
	part = strsep(&text, "/");
	if (text) {
		spec->namespace = part;
		part = text;
	}
	spec->image = strsep(&part, "@");
	spec->snapshot = part;
}

static struct image *open_rbd(struct test *test, bool read_only)
{
	struct rbd_image_spec spec = { .read_only = read_only };
	struct error err = ERROR_NONE;
	struct image *image;

	parse_spec(&spec);
	if (!client && rbd_client_connect(&config, &client, &err) < 0)
		give_up(&err);
	if (rbd_image_open(client, &spec, config.timeout, &image, &err) < 0)
		give_up(&err);
	return image;
}

static void run_checks(struct test *test, const struct check *checks)
{
	for (; checks->name; checks++)
		run_check(test, checks);
}

static void run_image(struct test *test)
{
	test->image = test->open(test, false);
	run_checks(test, image_checks);
	run_checks(test, mix_checks);
}

static void run_faults(struct test *test)
{
	test->image = test->open(test, false);
	run_checks(test, fault_checks);
}

static void run_open(struct test *test)
{
	const struct image_info *info;

	test->image = test->open(test, want_read_only);
	info = &test->image->info;
	printf("identity %s\nsize %" PRIu64 "\nblock %u\nphysical %u\nminimum_io %u\n"
	       "optimal_io %u\ndiscard_granularity %u\nread_only %d\nvolatile_cache %d\nmay_hang "
	       "%d\n"
	       "extents %d\n",
	       test->image->identity, atomic_load(&info->size), info->block_size,
	       info->physical_block_size, info->minimum_io, info->optimal_io,
	       info->discard_granularity, info->read_only, info->volatile_cache, info->may_hang,
	       info->extents);
	if (client)
		printf("address %s\n", rbd_client_address(client));
}

/* What the open that was given up comes to, the suite sees from outside. */
static void run_late(struct test *test)
{
	struct rbd_image_spec spec = { 0 };
	struct error err = ERROR_NONE;

	parse_spec(&spec);
	if (rbd_client_connect(&config, &client, &err) < 0)
		give_up(&err);
	if (rbd_image_open(client, &spec, config.timeout, &test->image, &err) == 0)
		printf("opened\n");
	else
		printf("error %s: %s\n", errno_name(err.code), err.text);
	fflush(stdout);
	while (getchar() != EOF)
		;
}

static sem_t changed;

static void note_change(struct image *image, void *data)
{
	sem_post(&changed);
}

static void run_watch(struct test *test)
{
	struct timespec deadline;

	sem_init(&changed, 0, 0);
	test->image = test->open(test, false);
	image_listen(test->image, note_change, NULL);
	printf("watching\n");
	fflush(stdout);
	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += WATCH_TIME;
	if (sem_timedwait(&changed, &deadline) < 0) {
		printf("no change\n");
		exit(1);
	}
	printf("size %" PRIu64 "\n", atomic_load(&test->image->info.size));
}

/* What happens to the cluster between the lines is the suite's affair. */
static void run_ask(struct test *test)
{
	char line[16];

	test->image = test->open(test, want_read_only);
	printf("open\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		int read = do_io(test, REQUEST_READ, 0, 0, 4096, test->buffer);
		int write = do_io(test, REQUEST_WRITE, 0, 0, 4096, test->buffer);

		printf("read %s write %s\n", read ? errno_name(read) : "OK",
		       write ? errno_name(write) : "OK");
		fflush(stdout);
	}
}

static const struct mode {
	const char *name;
	struct image *(*open)(struct test *test, bool read_only);
	void (*run)(struct test *test);
} modes[] = {
	{ "null", open_null, run_image },      { "file", open_file, run_image },
	{ "fault", open_file, run_faults },    { "rbd", open_rbd, run_image },
	{ "rbd-fault", open_rbd, run_faults }, { "open", open_rbd, run_open },
	{ "late", open_rbd, run_late },	       { "watch", open_rbd, run_watch },
	{ "ask", open_rbd, run_ask },
};

static const struct mode *find_mode(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++)
		if (name && strcmp(modes[i].name, name) == 0)
			return &modes[i];
	fprintf(stderr, "usage: conformance null|file|fault|rbd|rbd-fault|open|late|watch|ask "
			"[TARGET] [OPTION...]\n");
	exit(2);
}

static void add_option(char *text)
{
	char *key = strsep(&text, "=");

	if (!text || config.nr_options == OPTIONS_MAX)
		find_mode(NULL);
	options[config.nr_options++] = (struct rbd_client_option){ key, text };
}

static void parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "conf", required_argument, NULL, 'c' },
		{ "id", required_argument, NULL, 'i' },
		{ "keyring", required_argument, NULL, 'k' },
		{ "key-env", required_argument, NULL, 'K' },
		{ "monitors", required_argument, NULL, 'm' },
		{ "timeout", required_argument, NULL, 't' },
		{ "read-only", no_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "o:", names, NULL)) >= 0) {
		switch (c) {
		case 'c':
			config.conf = optarg;
			break;
		case 'i':
			config.user = optarg;
			break;
		case 'k':
			config.keyring = optarg;
			break;
		case 'K':
			config.key = getenv(optarg);
			break;
		case 'm':
			config.monitors = optarg;
			break;
		case 't':
			config.timeout = (unsigned)atoi(optarg);
			break;
		case 'r':
			want_read_only = true;
			break;
		case 'o':
			add_option(optarg);
			break;
		default:
			find_mode(NULL);
		}
	}
}

/* A sparse file that goes with the program. */
static void make_file(void)
{
	static char path[256];
	const char *directory = getenv("TMPDIR");
	int fd;

	snprintf(path, sizeof(path), "%s/urbd-conformance.XXXXXX", directory ? directory : "/tmp");
	fd = mkstemp(path);
	if (fd < 0 || ftruncate(fd, FILE_SIZE) < 0) {
		perror(path);
		exit(2);
	}
	close(fd);
	target = made_file = path;
}

static void remove_file(void)
{
	if (made_file)
		unlink(made_file);
}

static void test_init(struct test *test)
{
	for (unsigned i = 0; i < TEST_QUEUES; i++)
		if (queue_create("test", i, &test->queues[i]) < 0) {
			fprintf(stderr, "conformance: no queue (io_uring)\n");
			exit(2);
		}
	test->buffer = aligned_alloc(4096, BUFFER_MAX);
	test->other = aligned_alloc(4096, BUFFER_MAX);
}

static void test_deinit(struct test *test)
{
	int r = image_close(test->image);

	if (r < 0)
		printf("not ok closing: %s\n", errno_name(r));
	rbd_client_unref(client);
	for (unsigned i = 0; i < TEST_QUEUES; i++)
		queue_destroy(test->queues[i]);
	free(test->buffer);
	free(test->other);
}

int main(int argc, char **argv)
{
	struct test test = { 0 };
	const struct mode *mode;

	parse_options(argc, argv);
	mode = find_mode(argv[optind]);
	target = argv[optind + 1];
	atexit(remove_file);
	if (mode->open == open_file && !target)
		make_file();
	if (mode->open == open_rbd && !target)
		find_mode(NULL);
	pick_seed();
	test_init(&test);
	test.open = mode->open;
	test.forgets = mode->open == open_null;
	mode->run(&test);
	test_deinit(&test);
	if (failed_checks())
		printf("%u checks failed\n", failed_checks());
	return failed_checks() ? 1 : 0;
}
