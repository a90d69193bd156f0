#include "daemon/options.h"

#include <getopt.h>
#include <stdio.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>

#include "common/parse.h"
#include "control/client.h"
#include "daemon/version.h"
#include "nbd/budget.h"
#include "nbd/server.h"

#define QUEUES_MAX	   64
#define QUEUES_DEFAULT_MAX 4

#define BUSY_POLL_DEFAULT 50
#define BUSY_POLL_MAX	  10000

#define TRIM_DEFAULT 15
#define TRIM_MAX     86400

/* Below the 30 s after which container runtimes kill. */
#define DRAIN_TIMEOUT_DEFAULT 25
#define DRAIN_TIMEOUT_MAX     3600

#define EXPORT_CONNECTIONS_MAX 65536
#define EXPORT_HANDSHAKE_MAX   3600
#define EXPORT_REQUEST_MIN     NBD_BUDGET_SURE
#define EXPORT_REQUEST_MAX                                                    \
	(32u << 20) /* as much as clients send to a server that tells nothing \
		     */
#define EXPORT_MEMORY_DEFAULT (512ull << 20)

static const char help[] =
	"Usage: urbdd [OPTION]...\n"
	"\n"
	"Serves Ceph RBD images as block devices of this node. Runs in the foreground, logs to\n"
	"stderr (to the journal under systemd), and stops at SIGTERM or SIGINT. Devices are "
	"mapped\n"
	"with urbd(8). Those that are mapped when it stops, or dies, wait in the kernel with\n"
	"their I/O until it is started again; `urbd unmap --all` takes them away.\n"
	"\n"
	"  --socket PATH     the control socket (default " CONTROL_SOCKET_DEFAULT ")\n"
	"  --group NAME      let members of this group use the socket, too (default: root alone)\n"
	"  --state-dir DIR   where the records of mapped devices are kept\n"
	"                    (default " DAEMON_STATE_DIR_DEFAULT ")\n"
	"  --queues N        threads that serve devices, 1 to 64 (default: one a CPU, at most 4)\n"
	"  --queue-cpus LIST CPUs that they run on, each on one of them: 0-3,8 (default: all, as\n"
	"                    the kernel sees fit); without --queues, one thread a CPU of the list\n"
	"  --busy-poll MICROSECONDS\n"
	"                    how long they look for more work before they sleep, where requests\n"
	"                    come soon and one at a time: up to 10000 (default 50); 0: never\n"
	"  --trim SECONDS    what was idle for that long gives its memory back to the kernel, up\n"
	"                    to 86400 (default 15); 0: it keeps it\n"
	"  --drain-timeout SECONDS\n"
	"                    how long a stop waits for requests in flight, 1 to 3600 (default 25)\n"
	"  --listen ADDRESS  serve exports to NBD clients at unix:PATH, HOST:PORT or\n"
	"                    [ADDRESS]:PORT; what is exported, urbd export says\n"
	"  --tls-certificates DIR, --tls-keys FILE\n"
	"                    ask TLS of them: with certificates (ca-cert.pem, server-cert.pem,\n"
	"                    server-key.pem in DIR), or pre-shared keys (as psktool writes them)\n"
	"  --export-connections N\n"
	"                    clients at once at an address where urbd export says nothing else,\n"
	"                    1 to 65536 (default 128)\n"
	"  --export-handshake SECONDS\n"
	"                    in which a client must have chosen an export, 1 to 3600 (default 10)\n"
	"  --export-request SIZE\n"
	"                    the largest read or write of a client, 1M to 32M (default 32M)\n"
	"  --export-memory SIZE\n"
	"                    what all clients together may make urbdd hold in buffers, beside 1M\n"
	"                    for each (default 512M); a client waits while others hold it all\n"
	"  --metrics ADDRESS serve figures to Prometheus (GET /metrics) at unix:PATH, HOST:PORT\n"
	"                    or [ADDRESS]:PORT\n"
	"  --debug           log calls and connections to clusters, too\n"
	"  -h, --help        show this text and exit\n"
	"  -V, --version     show the version and exit\n"
	"\n"
	"Exit status: 0 after a clean stop, 1 after a failure, 2 for wrong usage.\n";

enum {
	OPT_SOCKET = 256,
	OPT_GROUP,
	OPT_STATE_DIR,
	OPT_QUEUES,
	OPT_QUEUE_CPUS,
	OPT_BUSY_POLL,
	OPT_TRIM,
	OPT_DRAIN_TIMEOUT,
	OPT_LISTEN,
	OPT_TLS_CERTIFICATES,
	OPT_TLS_KEYS,
	OPT_EXPORT_CONNECTIONS,
	OPT_EXPORT_HANDSHAKE,
	OPT_EXPORT_REQUEST,
	OPT_EXPORT_MEMORY,
	OPT_METRICS,
	OPT_DEBUG,
	OPT_NO_FENCE
};

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "group", required_argument, NULL, OPT_GROUP },
	{ "state-dir", required_argument, NULL, OPT_STATE_DIR },
	{ "queues", required_argument, NULL, OPT_QUEUES },
	{ "queue-cpus", required_argument, NULL, OPT_QUEUE_CPUS },
	{ "busy-poll", required_argument, NULL, OPT_BUSY_POLL },
	{ "trim", required_argument, NULL, OPT_TRIM },
	{ "drain-timeout", required_argument, NULL, OPT_DRAIN_TIMEOUT },
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "tls-certificates", required_argument, NULL, OPT_TLS_CERTIFICATES },
	{ "tls-keys", required_argument, NULL, OPT_TLS_KEYS },
	{ "export-connections", required_argument, NULL, OPT_EXPORT_CONNECTIONS },
	{ "export-handshake", required_argument, NULL, OPT_EXPORT_HANDSHAKE },
	{ "export-request", required_argument, NULL, OPT_EXPORT_REQUEST },
	{ "export-memory", required_argument, NULL, OPT_EXPORT_MEMORY },
	{ "metrics", required_argument, NULL, OPT_METRICS },
	{ "debug", no_argument, NULL, OPT_DEBUG },
	{ "debug-no-fence", no_argument, NULL, OPT_NO_FENCE },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 },
};

static unsigned default_queues(const struct daemon_options *options)
{
	unsigned count = (unsigned)CPU_COUNT(&options->queue_cpus);
	cpu_set_t cpus;

	if (count > 0)
		return MIN(count, QUEUES_MAX);
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		count = (unsigned)CPU_COUNT(&cpus);
	return MIN(MAX(count, 1u), QUEUES_DEFAULT_MAX);
}

static const char *environment(const char *name, const char *fallback)
{
	const char *value = getenv(name);

	return value && *value ? value : fallback;
}

static enum options_result usage(const char *complaint)
{
	fprintf(stderr, "urbdd: %s\nTry 'urbdd --help'.\n", complaint);
	return OPTIONS_USAGE;
}

/* Options that are taken as they are. */
static const struct text_option {
	int option;
	size_t member; /* its place in struct daemon_options: a const char * */
} text_options[] = {
	{ OPT_GROUP, offsetof(struct daemon_options, group) },
	{ OPT_STATE_DIR, offsetof(struct daemon_options, state_dir) },
	{ OPT_LISTEN, offsetof(struct daemon_options, listen) },
	{ OPT_TLS_CERTIFICATES, offsetof(struct daemon_options, tls_certificates) },
	{ OPT_TLS_KEYS, offsetof(struct daemon_options, tls_keys) },
	{ OPT_METRICS, offsetof(struct daemon_options, metrics) },
};

/* Options that are numbers within bounds. */
static const struct number_option {
	int option;
	unsigned min, max;
	size_t member; /* its place in struct daemon_options: an unsigned */
	const char *usage;
} number_options[] = {
	{ OPT_QUEUES, 1, QUEUES_MAX, offsetof(struct daemon_options, queues),
	  "--queues takes a number from 1 to 64." },
	{ OPT_BUSY_POLL, 0, BUSY_POLL_MAX, offsetof(struct daemon_options, busy_poll),
	  "--busy-poll takes a number of microseconds from 0 to 10000." },
	{ OPT_TRIM, 0, TRIM_MAX, offsetof(struct daemon_options, trim),
	  "--trim takes a number of seconds from 0 to 86400." },
	{ OPT_DRAIN_TIMEOUT, 1, DRAIN_TIMEOUT_MAX, offsetof(struct daemon_options, drain_timeout),
	  "--drain-timeout takes a number of seconds from 1 to 3600." },
	{ OPT_EXPORT_CONNECTIONS, 1, EXPORT_CONNECTIONS_MAX,
	  offsetof(struct daemon_options, limits.max_connections),
	  "--export-connections takes a number from 1 to 65536." },
	{ OPT_EXPORT_HANDSHAKE, 1, EXPORT_HANDSHAKE_MAX,
	  offsetof(struct daemon_options, limits.handshake_seconds),
	  "--export-handshake takes a number of seconds from 1 to 3600." },
};

static bool take_text(int option, struct daemon_options *options)
{
	for (size_t i = 0; i < ARRAY_SIZE(text_options); i++)
		if (text_options[i].option == option) {
			*(const char **)((char *)options + text_options[i].member) = optarg;
			return true;
		}
	return false;
}

static const struct number_option *find_number(int option)
{
	for (size_t i = 0; i < ARRAY_SIZE(number_options); i++)
		if (number_options[i].option == option)
			return &number_options[i];
	return NULL;
}

static enum options_result take_number(const struct number_option *number,
				       struct daemon_options *options)
{
	unsigned *member = (unsigned *)((char *)options + number->member);

	if (parse_unsigned(optarg, number->min, number->max, member) < 0)
		return usage(number->usage);
	return OPTIONS_RUN;
}

static enum options_result take_request_size(struct export_limits *limits)
{
	uint64_t size = 0;

	if (parse_size(optarg, &size) < 0 || size < EXPORT_REQUEST_MIN || size > EXPORT_REQUEST_MAX)
		return usage("--export-request takes a size from 1M to 32M.");
	limits->max_request = (unsigned)size;
	return OPTIONS_RUN;
}

/* What is too little is seen when the number of queues is known. */
static enum options_result take_memory(struct export_limits *limits)
{
	if (parse_size(optarg, &limits->memory) < 0 || limits->memory == 0)
		return usage("--export-memory takes a size, as in 512M.");
	return OPTIONS_RUN;
}

/* Each queue has its share, and must have room for a request. */
static enum options_result complete_limits(struct daemon_options *options)
{
	struct export_limits *limits = &options->limits;
	uint64_t least = (uint64_t)options->queues * limits->max_request;

	if (limits->memory == 0)
		limits->memory = MAX(EXPORT_MEMORY_DEFAULT, least);
	if (limits->memory < least)
		return usage("--export-memory is too little: it takes --export-request (32M by "
			     "default) times the number of queues at least.");
	return OPTIONS_RUN;
}

/* Those that are neither text nor a number. */
static enum options_result take_other(int option, struct daemon_options *options)
{
	switch (option) {
	case OPT_SOCKET:
		if (!*optarg)
			return usage("--socket takes a path.");
		options->socket_path = optarg;
		return OPTIONS_RUN;
	case OPT_QUEUE_CPUS:
		if (parse_cpus(optarg, &options->queue_cpus) < 0)
			return usage("--queue-cpus takes numbers of CPUs, as in 0-3,8.");
		return OPTIONS_RUN;
	case OPT_EXPORT_REQUEST:
		return take_request_size(&options->limits);
	case OPT_EXPORT_MEMORY:
		return take_memory(&options->limits);
	case OPT_DEBUG:
		options->debug = true;
		return OPTIONS_RUN;
	case OPT_NO_FENCE:
		options->no_fence = true;
		return OPTIONS_RUN;
	case 'h':
		fputs(help, stdout);
		return OPTIONS_DONE;
	case 'V':
		puts("urbdd " URBD_VERSION);
		return OPTIONS_DONE;
	default:
		fputs("Try 'urbdd --help'.\n", stderr);
		return OPTIONS_USAGE;
	}
}

static enum options_result take_option(int option, struct daemon_options *options)
{
	const struct number_option *number = find_number(option);

	if (number)
		return take_number(number, options);
	return take_text(option, options) ? OPTIONS_RUN : take_other(option, options);
}

enum options_result daemon_options_parse(int argc, char **argv, struct daemon_options *ret)
{
	struct daemon_options options = {
		.socket_path = environment("URBD_SOCKET", CONTROL_SOCKET_DEFAULT),
		.state_dir = DAEMON_STATE_DIR_DEFAULT,
		.busy_poll = BUSY_POLL_DEFAULT,
		.trim = TRIM_DEFAULT,
		.drain_timeout = DRAIN_TIMEOUT_DEFAULT,
		.limits = { .max_connections = NBD_SERVER_CONNECTIONS_DEFAULT,
			    .handshake_seconds = NBD_SERVER_HANDSHAKE_SECONDS,
			    .max_request = EXPORT_REQUEST_MAX },
	};
	int option;

	while ((option = getopt_long(argc, argv, "hV", long_options, NULL)) != -1) {
		enum options_result result = take_option(option, &options);

		if (result != OPTIONS_RUN)
			return result;
	}
	if (optind < argc)
		return usage("It takes options alone, no other words.");
	if (options.tls_certificates && options.tls_keys)
		return usage("--tls-certificates and --tls-keys exclude each other.");
	if ((options.tls_certificates || options.tls_keys) && !options.listen)
		return usage("--tls-certificates and --tls-keys go with --listen.");
	if (options.queues == 0)
		options.queues = default_queues(&options);
	if (complete_limits(&options) != OPTIONS_RUN)
		return OPTIONS_USAGE;
	*ret = options;
	return OPTIONS_RUN;
}
