/* urbdd: start-up, the main loop, and the way down. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/log.h"
#include "control/secrets.h"
#include "daemon/client_pool.h"
#include "daemon/devices.h"
#include "daemon/exports.h"
#include "daemon/descriptors.h"
#include "daemon/methods.h"
#include "daemon/metrics.h"
#include "daemon/mounts.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "daemon/queues.h"
#include "daemon/records.h"
#include "daemon/recovery.h"
#include "daemon/server.h"
#include "daemon/trim.h"
#include "daemon/version.h"

/* Seconds after which a stop holds the I/O of devices, whatever calls and exports do. */
#define STOP_CALLS   5
#define STOP_EXPORTS 10

struct daemon {
	struct timespec started;
	struct queues queues;
	struct records *records;
	struct client_pool *clients;
	struct devices *devices;
	struct exports *exports;
	struct metrics *metrics;
	struct trimmer *trimmer;
	struct methods methods;
	struct server *server;
	int signal_fd;
};

/* Signals are read from a descriptor; every thread that starts later inherits the mask. */
static int block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void write_oom_score(const char *score)
{
	FILE *file = fopen("/proc/self/oom_score_adj", "we");

	if (!file)
		return;
	fputs(score, file);
	if (fclose(file) != 0)
		log_warning("Cannot protect this process from the OOM killer: %s.",
			    errno_text(errno));
}

/* The kernel may need this daemon to write pages out before it can free memory. */
static void serve_memory_reclaim(void)
{
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		log_warning(
			"Cannot become an I/O flusher: %s. A node that is short of memory could "
			"stall; run urbdd with CAP_SYS_RESOURCE.",
			errno_text(errno));
	write_oom_score("-999");
}

static int start_exports(struct daemon *daemon, const struct daemon_options *options,
			 struct error *err)
{
	struct export_address address = {
		.listen = options->listen,
		.tls_certificates = options->tls_certificates,
		.tls_keys = options->tls_keys,
	};
	int r = exports_create(&daemon->queues, daemon->clients, &options->limits, &daemon->exports,
			       err);

	return r < 0 || !options->listen ? r : exports_listen(daemon->exports, &address, err);
}

static int start_metrics(struct daemon *daemon, const struct daemon_options *options,
			 struct error *err)
{
	if (!options->metrics)
		return 0;
	return metrics_start(options->metrics, daemon->devices, daemon->exports, &daemon->metrics,
			     err);
}

static int start_trimmer(struct daemon *daemon, const struct daemon_options *options,
			 struct error *err)
{
	if (options->trim == 0)
		return 0;
	return trimmer_start(options->trim, daemon->devices, daemon->exports, &daemon->trimmer,
			     err);
}

static int start(struct daemon *daemon, const struct daemon_options *options, struct error *err)
{
	struct devices_config devices = { .queues = &daemon->queues,
					  .started = daemon->started,
					  .no_fence = options->no_fence };
	struct server_config server = {
		.socket_path = options->socket_path,
		.group = options->group,
		.call = methods_call,
		.data = &daemon->methods,
	};
	int r;

	r = records_open(options->state_dir, &daemon->records, err);
	if (r < 0)
		return r;
	r = queues_start(&daemon->queues, options->queues, &options->queue_cpus, err);
	if (r < 0)
		return r;
	queues_busy_poll(&daemon->queues, options->busy_poll);
	r = client_pool_create(&daemon->clients, err);
	if (r < 0)
		return r;
	devices.records = daemon->records;
	devices.clients = daemon->clients;
	r = devices_create(&devices, &daemon->devices, err);
	if (r < 0)
		return r;
	r = start_exports(daemon, options, err);
	if (r < 0)
		return r;
	r = start_metrics(daemon, options, err);
	if (r < 0)
		return r;
	r = start_trimmer(daemon, options, err);
	if (r < 0)
		return r;
	daemon->methods = (struct methods){ daemon->devices, daemon->exports, &daemon->queues };
	r = server_create(&server, &daemon->server, err);
	if (r < 0)
		return r;
	/* Last: from here on threads work on devices of the kernel, and there is no way back. */
	devices_recover(daemon->devices);
	return 0;
}

static void serve(struct daemon *daemon)
{
	struct pollfd fds[] = {
		{ .fd = daemon->signal_fd, .events = POLLIN },
		{ .fd = server_fd(daemon->server), .events = POLLIN },
	};

	for (;;) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[0].revents)
			return;
		if (fds[1].revents)
			server_accept(daemon->server);
	}
}

/* What a stop leaves behind. */
struct left {
	bool calls;		    /* run still */
	unsigned exports, given_up; /* see exports_stop() */
	unsigned devices;
};

/* Once more, it ends what was not in time, and what came of calls that were not. */
static struct left end_all(struct daemon *daemon, const struct timespec *calls_end,
			   const struct timespec *exports_end, const struct timespec *end)
{
	struct left left;

	left.calls = !server_await(daemon->server, calls_end);
	left.exports = exports_stop(daemon->exports, exports_end, &left.given_up);
	left.devices = devices_leave(daemon->devices, end);
	return left;
}

static void report_left(const struct left *left)
{
	if (left->devices > 0)
		log_info("%u device(s) wait in the kernel until urbdd is started again",
			 left->devices);
	if (left->given_up > 0)
		log_warning("%u export(s) that were given up before still have their images open.",
			    left->given_up);
	if (left->exports > 0)
		log_error("%u export(s) could not be ended cleanly: their storage does not answer.",
			  left->exports);
	if (left->calls)
		log_error("Calls were cut off: their storage does not answer.");
}

enum end { END_WHOLE, END_WAITS, END_TORN };

/*
 * END_WAITS: the kernel keeps devices, or images that were given up keep requests, in this
 * process's memory. END_TORN: calls or exports of a dead cluster hold on. Either way nothing may be
 * freed.
 */
static enum end take_down(struct daemon *daemon, unsigned drain_timeout)
{
	struct timespec calls_end = deadline_in(MIN(STOP_CALLS, drain_timeout)),
			exports_end = deadline_in(MIN(STOP_EXPORTS, drain_timeout)),
			end = deadline_in(drain_timeout);
	struct left left;

	server_stop(daemon->server);
	left = end_all(daemon, &calls_end, &exports_end, &end);
	if (left.devices > 0) /* their I/O is held until the next daemon: there is no more time */
		end = monotonic_now();
	left = end_all(daemon, &end, &end, &end);
	metrics_stop(daemon->metrics);
	daemon->metrics = NULL;
	report_left(&left);
	if (left.calls || left.exports > 0)
		return END_TORN;
	return left.devices > 0 || left.given_up > 0 ? END_WAITS : END_WHOLE;
}

static void release(struct daemon *daemon)
{
	server_destroy(daemon->server);
	trimmer_stop(daemon->trimmer);
	metrics_stop(daemon->metrics);
	exports_destroy(daemon->exports);
	devices_destroy(daemon->devices);
	client_pool_destroy(daemon->clients);
	queues_stop(&daemon->queues);
	records_close(daemon->records);
	cleanup_close_fn(&daemon->signal_fd);
}

int main(int argc, char **argv)
{
	struct daemon daemon = { .started = monotonic_now(), .signal_fd = -1 };
	struct error err = ERROR_NONE;
	struct daemon_options options;

	switch (daemon_options_parse(argc, argv, &options)) {
	case OPTIONS_DONE:
		return EXIT_SUCCESS;
	case OPTIONS_USAGE:
		return 2;
	case OPTIONS_RUN:
		break;
	}
	log_open("urbdd", options.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	secrets_guard_json();
	daemon.signal_fd = block_signals();
	if (geteuid() != 0)
		log_warning(
			"This is not root: exports can be served, but block devices take root.");
	mounts_leave();
	serve_memory_reclaim();
	descriptors_raise();
	if (start(&daemon, &options, &err) < 0) {
		log_error("%s", err.text);
		release(&daemon);
		return EXIT_FAILURE;
	}
	log_info("urbdd %s serves on %s with %u queues", URBD_VERSION, options.socket_path,
		 options.queues);
	notify_ready();
	serve(&daemon);
	notify_stopping();
	log_info("stopping");
	switch (take_down(&daemon, options.drain_timeout)) {
	case END_WHOLE:
		release(&daemon);
		break;
	case END_WAITS:
		server_destroy(daemon.server);
		log_info("stopped");
		_exit(EXIT_SUCCESS);
	case END_TORN:
		_exit(EXIT_FAILURE);
	}
	log_info("stopped");
	return EXIT_SUCCESS;
}
