/* The command line of urbdd. */
#pragma once

#include <sched.h>
#include <stdbool.h>

#include "daemon/addresses.h"

#define DAEMON_STATE_DIR_DEFAULT "/run/urbd/state"

struct daemon_options {
	const char *socket_path;
	const char *state_dir;
	const char *group; /* may use the socket too; NULL = root alone */
	unsigned queues;
	cpu_set_t queue_cpus;	/* each runs on one of them, in turn; empty: wherever the kernel
				   wants */
	unsigned busy_poll;	/* microseconds that they look for work before they sleep */
	unsigned trim;		/* seconds after which what is idle gives memory back; 0: never */
	unsigned drain_timeout; /* seconds that a stop waits for requests in flight */
	const char *listen;	/* where NBD clients are served from the start; NULL = nowhere */
	const char *tls_certificates, *tls_keys; /* at most one; for `listen` */
	struct export_limits limits;
	const char *metrics; /* where Prometheus may ask; NULL = nowhere */
	bool debug, no_fence;
};

enum options_result { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_USAGE };

/* OPTIONS_DONE after --help or --version, OPTIONS_USAGE after a complaint on stderr. */
enum options_result daemon_options_parse(int argc, char **argv, struct daemon_options *ret);
