/*
 * nbd-serve: serves images through the NBD server, without the daemon, for tests and benchmarks.
 *
 *   nbd-serve ADDRESS [option...] NAME=null:SIZE|file:PATH...
 *     --queues N   queue threads (1)        --read-only    all exports
 *     --depth N    requests a connection    --connections N
 *     --x509 DIR, --psk FILE                TLS is required
 *     --fault RULES  wraps every image (see image/fault.h)
 *     --handshake N  seconds
 *     --memory SIZE  of buffers for all clients of a queue
 *
 * Prints "ready URI" for the first export, then serves until SIGTERM or SIGINT.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/parse.h"
#include "core/figures.h"
#include "image/fault.h"
#include "image/file.h"
#include "image/null.h"
#include "nbd/budget.h"
#include "nbd/server.h"
#include "nbd/tls.h"

#define IMAGES_MAX 64
#define QUEUES_MAX 16

static struct nbd_server_config config = { .nr_queues = 1 };
static struct queue *queues[QUEUES_MAX];
static struct image *images[IMAGES_MAX];
static const char *fault;
static bool read_only;

static void die(const struct error *err)
{
	fprintf(stderr, "nbd-serve: %s\n", err->text);
	exit(1);
}

static struct image *open_image(const char *spec)
{
	struct error err = ERROR_NONE;
	struct image *image = NULL, *wrapped;
	uint64_t size;
	int r = -1;

	if (strncmp(spec, "null:", 5) == 0 && parse_size(spec + 5, &size) == 0)
		r = null_image_open(size, false, &image, &err);
	else if (strncmp(spec, "file:", 5) == 0)
		r = file_image_open(spec + 5, read_only, &image, &err);
	else
		error_set(&err, -1, "'%s' is neither null:SIZE nor file:PATH", spec);
	if (r == 0 && fault) {
		r = fault_image_wrap(image, fault, &wrapped, &err);
		image = wrapped;
	}
	if (r < 0)
		die(&err);
	image->figures = figures_create(); /* as urbdd's images have */
	return image;
}

static void add(struct nbd_server *server, unsigned index, char *argument)
{
	struct error err = ERROR_NONE;
	char *equals = strchr(argument, '=');

	if (!equals || index >= IMAGES_MAX) {
		error_set(&err, -1, "'%s' is no NAME=IMAGE", argument);
		die(&err);
	}
	*equals = 0;
	images[index] = open_image(equals + 1);
	if (nbd_server_add(server, argument, equals + 1, images[index], read_only, &err) < 0)
		die(&err);
}

static unsigned number(const char *text)
{
	unsigned value = 0;

	if (parse_unsigned(text, 1, 100000, &value) < 0) {
		fprintf(stderr, "nbd-serve: '%s' is no number\n", text);
		exit(2);
	}
	return value;
}

static void limit_memory(const char *text)
{
	static struct nbd_budget budgets[QUEUES_MAX];
	uint64_t size;

	if (parse_size(text, &size) < 0) {
		fprintf(stderr, "nbd-serve: '%s' is no size\n", text);
		exit(2);
	}
	for (unsigned i = 0; i < QUEUES_MAX; i++)
		nbd_budget_init(&budgets[i], size);
	config.budgets = budgets;
}

static void options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "queues", 1, NULL, 'q' },	 { "depth", 1, NULL, 'd' },
		{ "connections", 1, NULL, 'c' }, { "read-only", 0, NULL, 'r' },
		{ "x509", 1, NULL, 'x' },	 { "psk", 1, NULL, 'p' },
		{ "fault", 1, NULL, 'f' },	 { "handshake", 1, NULL, 'h' },
		{ "memory", 1, NULL, 'm' },	 { 0 },
	};
	struct error err = ERROR_NONE;
	int option, r = 0;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 'q')
			config.nr_queues = MIN(number(optarg), QUEUES_MAX);
		else if (option == 'd')
			config.depth = number(optarg);
		else if (option == 'c')
			config.max_connections = number(optarg);
		else if (option == 'h')
			config.handshake_seconds = number(optarg);
		else if (option == 'm')
			limit_memory(optarg);
		else if (option == 'r')
			read_only = true;
		else if (option == 'f')
			fault = optarg;
		else if (option == 'x')
			r = nbd_tls_credentials_x509(optarg, &config.credentials, &err);
		else if (option == 'p')
			r = nbd_tls_credentials_psk(optarg, &config.credentials, &err);
		else
			exit(2);
		if (r < 0)
			die(&err);
	}
}

int main(int argc, char **argv)
{
	struct error err = ERROR_NONE;
	struct nbd_server *server;
	char uri[1024] = "";
	sigset_t signals;
	int signal;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	options(argc, argv);
	for (unsigned i = 0; i < config.nr_queues; i++)
		if (queue_create("nbd-serve", i, &queues[i]) < 0)
			return 1;
	config.queues = queues;
	if (nbd_server_create(&config, &server, &err) < 0)
		die(&err);
	for (int i = optind + 1; i < argc; i++)
		add(server, i - optind - 1, argv[i]);
	if (optind >= argc || nbd_server_listen(server, argv[optind], 0, &err) < 0)
		die(&err);
	if (optind + 1 < argc)
		nbd_server_uri(server, 0, argv[optind + 1], uri, sizeof(uri));
	printf("ready %s\n", uri);
	fflush(stdout);
	sigwait(&signals, &signal);
	nbd_server_destroy(server);
	for (unsigned i = 0; i < IMAGES_MAX; i++)
		image_close(images[i]);
	for (unsigned i = 0; i < config.nr_queues; i++)
		queue_destroy(queues[i]);
	return 0;
}
