#include "image/client.h"

#include <ctype.h>
#include <errno.h>
#include <rados/librados.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bounded.h"
#include "common/cleanup.h"
#include "image/client-rados.h"
#include "image/monitors.h"

#define DEFAULT_CONF "/etc/ceph/ceph.conf"
#define DEFAULT_USER "admin"
#define KEY_MIN	     40 /* characters: a cephx key of 16 bytes and its header */

struct rbd_client {
	atomic_uint refs;
	rados_t cluster;
	bool configured_mon; /* a configuration file may name monitors */
	char fsid[40];
	char user[128];
	char address[256];
};

/* Set before the user's options, which may change them. */
static const struct rbd_client_option defaults[] = {
	/* The kernel above has a page cache, and a completed write is then a stored one. */
	{ "rbd_cache", "false" },
	/* Nor does a cache that somebody wants change that. */
	{ "rbd_cache_policy", "writethrough" },
	/*
	 * librbd never completes a write without a copy that it refuses before it sends anything:
	 * to one without the exclusive lock, to one that is blocklisted, for want of a header. (The
	 * completion waits for the buffer, and what holds the buffer for the completion.)
	 */
	{ "rbd_disable_zero_copy_writes", "true" },
	/* One thread completes for all images of the client: fewer switches for the same IOPS. */
	{ "librados_thread_count", "1" },
};

/* Set after them: a library within a daemon keeps no log, socket or file of its own. */
static const struct rbd_client_option fixed[] = {
	{ "log_file", "" },
	{ "log_to_stderr", "false" },
	{ "err_to_stderr", "false" },
	{ "log_to_syslog", "false" },
	{ "err_to_syslog", "false" },
	{ "log_to_graylog", "false" },
	{ "err_to_graylog", "false" },
	{ "clog_to_syslog", "false" },
	{ "admin_socket", "" },
};

/* What no option may touch: secrets, output, the process. A trailing "*" stands for any ending. */
static const char *const refused[] = {
	"key",	 "keyfile",  "keyring",	  "name",      "cluster",    "admin_socket*",
	"log_*", "err_to_*", "clog_to_*", "pid_file",  "run_dir",    "daemonize",
	"chdir", "setuser",  "setgroup",  "crash_dir", "plugin_dir", "fatal_signal_handlers",
};

rados_t rbd_client_cluster(const struct rbd_client *client)
{
	return client->cluster;
}

const char *rbd_client_fsid(const struct rbd_client *client)
{
	return client->fsid;
}

const char *rbd_client_user(const struct rbd_client *client)
{
	return client->user;
}

const char *rbd_client_address(const struct rbd_client *client)
{
	return client->address;
}

/* Options. */

/* librados takes "rbd cache", "rbd-cache" and "rbd_cache" alike. */
static bool same_option(const char *pattern, const char *option)
{
	for (; *pattern != '*'; pattern++, option++) {
		char c = *option == ' ' || *option == '-' ? '_' : (char)tolower(*option);

		if (*pattern != c)
			return false;
		if (!c)
			return true;
	}
	return true;
}

static bool is_refused(const char *option)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (same_option(refused[i], option))
			return true;
	return false;
}

static bool is_secret(const char *option)
{
	return same_option("key", option) || same_option("keyfile", option) ||
	       same_option("keyring", option);
}

static int refuse_option(const char *option, struct error *err)
{
	if (is_secret(option))
		return error_set(err, -EINVAL,
				 "The key cannot be given as option %s: use --keyfile or "
				 "--keyring.",
				 option);
	return error_set(err, -EINVAL, "Option %s is not for users to set: leave it out.", option);
}

/* No sentence repeats a value: a key may have got into a wrong option. */
static int set_option(rados_t cluster, const struct rbd_client_option *option, struct error *err)
{
	int r;

	if (is_refused(option->key))
		return refuse_option(option->key, err);
	r = rados_conf_set(cluster, option->key, option->value);
	if (r == -ENOENT)
		return error_set(err, -EINVAL,
				 "librbd knows no option '%s': check the name ('ceph config ls' "
				 "lists them).",
				 option->key);
	if (r < 0)
		return error_set(err, -EINVAL,
				 "Option %s does not take the value that was given: 'ceph config "
				 "help %s' says which ones it takes.",
				 option->key, option->key);
	return 0;
}

static int set_options(rados_t cluster, const struct rbd_client_option *options, size_t nr_options,
		       struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < nr_options && r == 0; i++)
		r = set_option(cluster, &options[i], err);
	return r;
}

/* Options that this or another version of librados lacks are not missed. */
static void set_known(rados_t cluster, const struct rbd_client_option *options, size_t nr_options)
{
	for (size_t i = 0; i < nr_options; i++)
		rados_conf_set(cluster, options[i].key, options[i].value);
}

int rbd_client_check_options(const struct rbd_client_option *options, size_t nr_options,
			     struct error *err)
{
	rados_t cluster;
	int r = rados_create2(&cluster, "ceph", "client.admin", 0);

	if (r < 0)
		return error_set(err, r, "librados: %s.", errno_text(r));
	r = set_options(cluster, options, nr_options, err);
	rados_shutdown(cluster);
	return r;
}

/* Configuration. */

static int read_conf(struct rbd_client *client, const char *path, struct error *err)
{
	bool chosen = path != NULL;
	int r;

	if (!path)
		path = DEFAULT_CONF;
	if (!*path || (!chosen && access(path, F_OK) < 0))
		return 0;
	if (access(path, R_OK) < 0)
		return error_set(err, -errno, "Cannot read the configuration file %s: %s.", path,
				 errno_text(errno));
	r = rados_conf_read_file(client->cluster, path);
	if (r < 0)
		return error_set(err, r, "The configuration file %s cannot be parsed: %s.", path,
				 errno_text(r));
	client->configured_mon = true;
	return 0;
}

static bool looks_like_key(const char *key)
{
	static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789+/";
	size_t length = strlen(key), letters = strspn(key, base64);

	return length >= KEY_MIN && length % 4 == 0 && length - letters <= 2 &&
	       strspn(key + letters, "=") == length - letters;
}

static int set_key(rados_t cluster, const char *key, struct error *err)
{
	int r;

	if (!looks_like_key(key))
		return error_set(err, -EINVAL,
				 "The key is malformed: give the base64 text that "
				 "'ceph auth get-key' prints.");
	r = rados_conf_set(cluster, "key", key);
	return r < 0 ? error_set(err, r, "librados refuses the key: %s.", errno_text(r)) : 0;
}

static int set_keyring(rados_t cluster, const char *path, struct error *err)
{
	int r;

	if (access(path, R_OK) < 0)
		return error_set(err, -errno, "Cannot read the keyring %s: %s.", path,
				 errno_text(errno));
	r = rados_conf_set(cluster, "keyring", path);
	return r < 0 ? error_set(err, r, "librados refuses the keyring: %s.", errno_text(r)) : 0;
}

static int set_monitors(rados_t cluster, const char *monitors, struct error *err)
{
	cleanup_free char *typed = monitors_with_protocol(monitors);
	int r = typed ? rados_conf_set(cluster, "mon_host", typed) : -ENOMEM;

	return r < 0 ? error_set(err, r, "'%s' is no list of monitors.", monitors) : 0;
}

static int set_secret(rados_t cluster, const struct rbd_client_config *config, struct error *err)
{
	if (config->key)
		return set_key(cluster, config->key, err);
	if (config->keyring)
		return set_keyring(cluster, config->keyring, err);
	return 0;
}

static int configure(struct rbd_client *client, const struct rbd_client_config *config,
		     unsigned timeout, struct error *err)
{
	char seconds[16];
	int r;

	r = read_conf(client, config->conf, err);
	if (r < 0)
		return r;
	set_known(client->cluster, defaults, ARRAY_SIZE(defaults));
	snprintf(seconds, sizeof(seconds), "%u", timeout);
	rados_conf_set(client->cluster, "client_mount_timeout", seconds);
	r = set_options(client->cluster, config->options, config->nr_options, err);
	if (r < 0)
		return r;
	set_known(client->cluster, fixed, ARRAY_SIZE(fixed));
	if (config->monitors)
		r = set_monitors(client->cluster, config->monitors, err);
	return r < 0 ? r : set_secret(client->cluster, config, err);
}

/* Connecting. */

struct connect_job {
	struct bounded bounded;
	struct rbd_client *client;
	int result;
};

static void client_free(struct rbd_client *client)
{
	rados_shutdown(client->cluster);
	free(client);
}

static void ask_address(struct rbd_client *client)
{
	char *address = NULL;

	if (rados_getaddrs(client->cluster, &address) < 0)
		return;
	snprintf(client->address, sizeof(client->address), "%s", address);
	rados_buffer_free(address);
}

static void run_connect(struct bounded *bounded)
{
	struct connect_job *job = container_of(bounded, struct connect_job, bounded);
	struct rbd_client *client = job->client;

	job->result = rados_connect(client->cluster);
	if (job->result < 0)
		return;
	job->result = rados_cluster_fsid(client->cluster, client->fsid, sizeof(client->fsid));
	ask_address(client);
}

static void abandon_connect(struct bounded *bounded)
{
	struct connect_job *job = container_of(bounded, struct connect_job, bounded);

	client_free(job->client);
	free(job);
}

/* Whether the file has the user's section: a keyring of somebody else is no key. */
static bool keyring_has(const char *path, const char *user)
{
	FILE *file = fopen(path, "re");
	size_t length = strlen(user);
	bool found = false;
	char line[512];

	while (file && !found && fgets(line, sizeof(line), file)) {
		const char *at = line + strspn(line, " \t");

		found = at[0] == '[' && strncmp(at + 1, user, length) == 0 && at[1 + length] == ']';
	}
	explicit_bzero(line, sizeof(line));
	if (file)
		fclose(file);
	return found;
}

static int explain_refusal(const struct rbd_client *client, const struct rbd_client_config *config,
			   int code, struct error *err)
{
	if (!config->key && config->keyring && !keyring_has(config->keyring, client->user))
		return error_set(err, code,
				 "The keyring %s has no key of %s: give the one that 'ceph auth "
				 "get %s' writes, or another user.",
				 config->keyring, client->user, client->user);
	if (config->key || config->keyring)
		return error_set(
			err, code,
			"The cluster refused %s: check that this user exists, and its key.",
			client->user);
	return error_set(err, code,
			 "The cluster refused %s: no key was given, and none was found where Ceph "
			 "looks for one. Give a key or a keyring.",
			 client->user);
}

static int explain_connect(const struct rbd_client *client, const struct rbd_client_config *config,
			   unsigned timeout, int code, struct error *err)
{
	const char *monitors = config->monitors ? config->monitors : "the configuration file";

	switch (code) {
	case -EACCES:
	case -EPERM:
	case -EOPNOTSUPP: /* no way of authentication in common: there is no key */
		return explain_refusal(client, config, code, err);
	case -ETIMEDOUT:
		return error_set(
			err, code,
			"No monitor of %s let %s in within %u seconds: check the addresses "
			"and the network, then the key.",
			monitors, client->user, timeout);
	case -ENOENT:
		if (config->monitors)
			return explain_refusal(client, config, code, err);
		return error_set(err, code,
				 "Found no monitors, or no key for %s: give monitors, and a key or "
				 "a keyring.",
				 client->user);
	case -EINVAL:
		return error_set(err, code,
				 "%s cannot be used as monitors: give addresses, or names that can "
				 "be resolved, joined by commas.",
				 monitors);
	default:
		return error_set(err, code, "Cannot connect to %s as %s: %s.", monitors,
				 client->user, errno_text(code));
	}
}

/* Takes @client over; gives it back through @ret when it is connected. */
static int connect_client(struct rbd_client *client, const struct rbd_client_config *config,
			  unsigned timeout, struct rbd_client **ret, struct error *err)
{
	struct connect_job *job = calloc(1, sizeof(*job));
	int r = -ENOMEM;

	if (job) {
		job->bounded.run = run_connect;
		job->bounded.abandoned = abandon_connect;
		job->client = client;
		/* librados keeps the time itself; but it may hang in looking up a name. */
		r = bounded_run(&job->bounded, timeout + 1);
	}
	if (r == -ETIMEDOUT)
		return error_set(err, r,
				 "Connecting to the cluster took more than %u seconds: check the "
				 "monitors' addresses and the network.",
				 timeout);
	if (r == 0)
		r = job->result;
	free(job);
	if (r < 0) {
		explain_connect(client, config, timeout, r, err);
		client_free(client);
		return r;
	}
	*ret = client;
	return 0;
}

static int check_monitors(const struct rbd_client *client, const struct rbd_client_config *config,
			  struct error *err)
{
	if (config->monitors || client->configured_mon)
		return 0;
	return error_set(err, -EINVAL,
			 "No monitors: give their addresses, or a configuration file that does.");
}

int rbd_client_connect(const struct rbd_client_config *config, struct rbd_client **ret,
		       struct error *err)
{
	unsigned timeout = config->timeout ? config->timeout : RBD_CLIENT_TIMEOUT_DEFAULT;
	struct rbd_client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return error_set(err, -ENOMEM, "Out of memory.");
	client->refs = 1;
	snprintf(client->user, sizeof(client->user), "client.%s",
		 config->user && *config->user ? config->user : DEFAULT_USER);
	r = rados_create2(&client->cluster, "ceph", client->user, 0);
	if (r < 0) {
		error_set(err, r, "librados refuses %s: %s.", client->user, errno_text(r));
		free(client);
		return r;
	}
	r = configure(client, config, timeout, err);
	if (r == 0)
		r = check_monitors(client, config, err);
	if (r < 0) {
		client_free(client);
		return r;
	}
	return connect_client(client, config, timeout, ret, err);
}

struct rbd_client *rbd_client_ref(struct rbd_client *client)
{
	atomic_fetch_add(&client->refs, 1);
	return client;
}

struct rbd_client *rbd_client_unref(struct rbd_client *client)
{
	if (client && atomic_fetch_sub(&client->refs, 1) == 1)
		client_free(client);
	return NULL;
}
