/*
 * A call with a bound that holds whatever it meets. The work is done in a child process. A system
 * call on a device whose cluster is gone can hang beyond any signal: then the caller gets its
 * answer in time nevertheless, and the child, which still holds the image's lock, goes on to take
 * back what it began as soon as it can.
 */
#pragma once

#include <signal.h>

#include "common/error.h"
#include "plugin/volume.h"

#define SUPERVISE_SECONDS_DEFAULT 90
#define SUPERVISE_SECONDS_MIN	  6
#define SUPERVISE_SECONDS_MAX	  3600

struct supervise_settings {
	char *directory;  /* URBD_PLUGIN_DIR, or VOLUME_DIRECTORY_DEFAULT */
	unsigned seconds; /* URBD_PLUGIN_TIMEOUT, or SUPERVISE_SECONDS_DEFAULT */
};

/* Reads the environment. */
int supervise_settings_read(struct supervise_settings *ret, struct error *err) warn_unused;

/* What is done in the child; it fills @err, and call->note. Its stdin, stdout and stderr are
 * /dev/null. */
typedef int (*supervise_work_fn)(struct volume_call *call, void *data, struct error *err);

/*
 * Does @work within settings->seconds: two thirds for getting on, most of the rest for undoing.
 * @note: see struct volume_call. -ETIMEDOUT where it is not done even then.
 */
int supervise(const struct supervise_settings *settings, supervise_work_fn work, void *data,
	      struct error *note, struct error *err) warn_unused;
