/* map and unmap. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "control/schema.h"
#include "control/secrets.h"
#include "control/spec.h"

#define TIMEOUT_DEFAULT 30 /* seconds, as the schema says */
#define TIMEOUT_MARGIN	15 /* seconds that urbdd gets to report its own timeout */

/* --- Options ---------------------------------------------------------------------------------- */

static int take_id(struct cli *cli, const char *value)
{
	if (strncmp(value, "client.", 7) == 0)
		return usage_error(cli, "--id takes the name alone: --id %s, or --name %s.",
				   value + 7, value);
	if (!*value)
		return usage_error(cli, "--id wants a name.");
	json_object_set_new(cli->params, "user", json_string(value));
	return CLI_CONTINUE;
}

static int take_name(struct cli *cli, const char *value)
{
	if (strncmp(value, "client.", 7) != 0 || !value[7])
		return usage_error(cli, "--name takes client.NAME, not '%s'; or use --id NAME.",
				   value);
	json_object_set_new(cli->params, "user", json_string(value + 7));
	return CLI_CONTINUE;
}

static int take_keyfile(struct cli *cli, const char *value)
{
	cleanup_secret char *key = NULL;
	struct error err = ERROR_NONE;

	if (secret_read_file(strcmp(value, "-") == 0 ? "/dev/stdin" : value, &key, &err) < 0)
		return failure(&err);
	json_object_set_new(cli->params, "key", json_string(key));
	return CLI_CONTINUE;
}

static int refuse_key(struct cli *cli, const char *value)
{
	return usage_error(cli, "A key on the command line can be seen by every user of this "
				"machine: write it to a file and use --keyfile, or use --keyring.");
}

static int take_lock(struct cli *cli, const char *value)
{
	const char *other = json_string_value(json_object_get(cli->params, "lock"));

	if (other && strcmp(other, value) != 0)
		return usage_error(cli,
				   "--lock is given twice: %s and %s (--exclusive is --lock "
				   "exclusive).",
				   other, value);
	json_object_set_new(cli->params, "lock", json_string(value));
	return CLI_CONTINUE;
}

static int take_exclusive(struct cli *cli, const char *value)
{
	return take_lock(cli, "exclusive");
}

static int take_image(struct cli *cli, const char *value)
{
	cli->image = value;
	return CLI_CONTINUE;
}

/* Ceph spells an option's name with '_', '-' or ' '. */
static void normalise(char *name)
{
	for (; *name; name++)
		if (*name == '-' || *name == ' ')
			*name = '_';
}

static json_t *options_of(struct cli *cli)
{
	json_t *options = json_object_get(cli->params, "options");

	if (options)
		return options;
	options = json_object();
	json_object_set_new(cli->params, "options", options);
	return options;
}

static int add_option(struct cli *cli, char *pair)
{
	char *value = strchr(pair, '=');

	if (!value || value == pair)
		return usage_error(cli, "-o takes NAME=VALUE[,NAME=VALUE...], where a comma within "
					"a value is written '\\,'.");
	*value++ = '\0';
	normalise(pair);
	if (strcmp(pair, "key") == 0)
		return refuse_key(cli, NULL);
	if (json_object_set_new(options_of(cli), pair, json_string(value)) < 0)
		return usage_error(cli, "-o %s has a value that is not valid UTF-8.", pair);
	return CLI_CONTINUE;
}

/* Ends the pair that begins at @text, taking the backslash from each "\,". The next one, or NULL.
 */
static char *cut_pair(char *text)
{
	char *to = text;

	for (; *text && *text != ','; text++) {
		if (text[0] == '\\' && text[1] == ',')
			text++;
		*to++ = *text;
	}
	text = *text ? text + 1 : NULL;
	*to = '\0';
	return text;
}

static int take_options(struct cli *cli, const char *value)
{
	cleanup_free char *copy = strdup(value);
	int code = CLI_CONTINUE;

	for (char *pair = copy, *next; pair && code == CLI_CONTINUE; pair = next) {
		next = cut_pair(pair);
		code = add_option(cli, pair);
	}
	return code;
}

const struct cli_option image_options[] = {
	{ .name = "pool",
	  .letter = 'p',
	  .argument = "POOL",
	  .help = "the image's pool (default: rbd)",
	  .param = "pool" },
	{ .name = "namespace",
	  .argument = "NAMESPACE",
	  .help = "the image's namespace",
	  .param = "namespace" },
	{ .name = "image",
	  .argument = "IMAGE",
	  .help = "the image, in place of the argument",
	  .take = take_image },
	{ .name = "snap",
	  .argument = "SNAP",
	  .help = "a snapshot of the image",
	  .param = "snapshot" },
	{ 0 },
};

const struct cli_option open_options[] = {
	{ .name = "id",
	  .argument = "NAME",
	  .help = "the Ceph user, without the \"client.\" (default: admin)",
	  .take = take_id },
	{ .name = "user", .argument = "NAME", .take = take_id },
	{ .name = "name",
	  .letter = 'n',
	  .argument = "client.NAME",
	  .help = "the same, with the \"client.\"",
	  .take = take_name },
	{ .name = "monitors",
	  .letter = 'm',
	  .argument = "ADDR[,ADDR...]",
	  .help = "the cluster's monitors (default: those of ceph.conf)",
	  .param = "monitors" },
	{ .name = "mon-host", .argument = "LIST", .param = "monitors" },
	{ .name = "mon_host", .argument = "LIST", .param = "monitors" },
	{ .name = "keyring",
	  .letter = 'k',
	  .argument = "FILE",
	  .help = "a keyring with the user's key",
	  .param = "keyring" },
	{ .name = "keyfile",
	  .letter = 'K',
	  .argument = "FILE",
	  .help = "a file with the user's key and nothing else; - is stdin",
	  .take = take_keyfile },
	{ .name = "key", .argument = "KEY", .take = refuse_key },
	{ .name = "conf",
	  .letter = 'c',
	  .argument = "FILE",
	  .help = "the cluster's ceph.conf",
	  .param = "conf" },
	{ .name = "read-only", .help = "refuse writes", .param = "read_only" },
	{ .name = "io-timeout",
	  .argument = "SECONDS",
	  .help = "fail requests that the cluster does not answer in time, with EIO (default: they "
		  "wait for ever)",
	  .param = "io_timeout" },
	{ .name = "quiesce",
	  .help = "freeze what is mounted of it while a snapshot of the image is taken",
	  .param = "quiesce" },
	{ .name = "quiesce-hook",
	  .argument = "PATH",
	  .help = "what to run in place of that: PATH DEVICE quiesce, then PATH DEVICE unquiesce",
	  .param = "quiesce_hook" },
	{ .name = "lock",
	  .argument = "auto|exclusive|none",
	  .help = "what keeps other writers away: librbd's lock, or where there is none a look "
		  "for them; the lock kept for good; nothing but librbd's lock (default: auto)",
	  .take = take_lock },
	{ .name = "exclusive", .help = "the same as --lock exclusive", .take = take_exclusive },
	{ .name = "options",
	  .letter = 'o',
	  .argument = "NAME=VALUE[,...]",
	  .help = "options of librbd and librados for this image; may be given again",
	  .take = take_options },
	{ .name = "client",
	  .argument = "shared|pool:N|isolated",
	  .help = "which connection to the cluster serves the image: one for all images, one of "
		  "up to N (1 to 64), or its own (default: pool:4)",
	  .param = "client" },
	{ .name = "timeout",
	  .argument = "SECONDS",
	  .help = "how long to try (default: 30)",
	  .param = "timeout" },
	{ .name = "fault",
	  .argument = "RULES",
	  .help = "for tests: let the image fail or delay requests by these rules",
	  .param = "fault" },
	{ 0 },
};

static const struct cli_option map_options[] = {
	{ .name = "frontend",
	  .argument = "ublk|nbd|auto",
	  .help = "what makes the image a device (default: auto, which is ublk where the kernel "
		  "has it, else nbd)",
	  .param = "frontend" },
	{ .name = "queues",
	  .argument = "N",
	  .help = "hardware queues of the device, 1 to 32 (default: one a queue thread of urbdd, "
		  "at most 4; with nbd 1)",
	  .param = "queues" },
	{ .name = "queue-depth",
	  .argument = "N",
	  .help = "requests that a hardware queue holds, 1 to 1024 (default: 128)",
	  .param = "queue_depth" },
	{ 0 },
};

static const struct cli_option unmap_options[] = {
	{ .name = "all", .help = "every device of the daemon", .param = "all" },
	{ .name = "force",
	  .help = "unmap although the device is in use; its requests end with an I/O error",
	  .param = "force" },
	{ .name = "timeout",
	  .argument = "SECONDS",
	  .help = "how long to try (default: 30)",
	  .param = "timeout" },
	{ 0 },
};

/* --- The image -------------------------------------------------------------------------------- */

/* Adds what the spec says to what the options said; they may not contradict each other. */
static int merge_spec(struct cli *cli, json_t *spec)
{
	const char *name;
	json_t *value;

	json_object_foreach(spec, name, value) {
		json_t *given = json_object_get(cli->params, name);

		if (given && !json_equal(given, value))
			return usage_error(cli, "The %s is given twice: '%s' and '%s'.", name,
					   json_string_value(given), json_string_value(value));
		json_object_set(cli->params, name, value);
	}
	return CLI_CONTINUE;
}

int image_take_spec(struct cli *cli, const char *text)
{
	cleanup_json json_t *spec = NULL;
	struct error err = ERROR_NONE;

	if (spec_parse(text, &spec, &err) < 0)
		return usage_error(cli, "%s", err.text);
	return merge_spec(cli, spec);
}

/* The image or device that the command is about; NULL where it was told. */
const char *image_operand(struct cli *cli)
{
	if (cli->image && cli->nr_operands > 0)
		usage_error(cli, "Name the image once: by --image or as argument.");
	else if (!cli->image && cli->nr_operands == 0)
		usage_error(cli, "%s needs %s.", cli->command->name, cli->command->arguments);
	else
		return cli->image ? cli->image : cli->operands[0];
	return NULL;
}

static unsigned deadline(const struct cli *cli)
{
	json_t *timeout = json_object_get(cli->params, "timeout");

	return TIMEOUT_MARGIN + (timeout ? (unsigned)json_integer_value(timeout) : TIMEOUT_DEFAULT);
}

int image_call(struct cli *cli, json_t **ret, struct error *err)
{
	return cli_call(cli, cli->command->method, json_incref(cli->params), deadline(cli), ret,
			err);
}

/* What options cannot know each for itself: the schema's view of all of them. */
int image_check(struct cli *cli)
{
	struct error err = ERROR_NONE;

	if (control_check_params(cli->command->method, cli->params, &err) < 0)
		return usage_error(cli, "%s", err.text);
	return CLI_CONTINUE;
}

/* --- Commands --------------------------------------------------------------------------------- */

/* The image was mapped before, otherwise than this command says; @unmet are names of params. */
static void note_unmet(const char *device, json_t *unmet)
{
	char options[200] = "";
	json_t *name;
	size_t i;

	if (json_array_size(unmet) == 0)
		return;
	json_array_foreach(unmet, i, name) {
		size_t at = strlen(options);

		snprintf(options + at, sizeof(options) - at, "%s--%s", i ? ", " : "",
			 json_is_string(name) ? json_string_value(name) : "");
	}
	for (char *at = options; *at; at++)
		if (*at == '_')
			*at = '-';
	note("It is mapped already, as %s, and stays as it is, without what was asked for by %s.",
	     device, options);
}

static int run_map(struct cli *cli)
{
	cleanup_json json_t *result = NULL;
	struct error err = ERROR_NONE;
	const char *text = image_operand(cli);
	int code;

	code = text ? image_take_spec(cli, text) : EXIT_USAGE;
	if (code == CLI_CONTINUE)
		code = image_check(cli);
	if (code != CLI_CONTINUE)
		return code;
	if (image_call(cli, &result, &err) < 0)
		return failure(&err);
	note_unmet(json_text(result, "device"), json_object_get(result, "unmet"));
	puts(json_text(result, "device"));
	return EXIT_OK;
}

static int take_target(struct cli *cli, const char *text)
{
	if (strncmp(text, "null:", 5) == 0)
		return usage_error(cli,
				   "A null image has no name: give its device, which urbd list "
				   "shows.");
	if (text[0] != '/')
		return image_take_spec(cli, text);
	device_take_path(cli, text);
	return CLI_CONTINUE;
}

/* They are not this daemon's for certain, so whoever wants them gone has to name them. */
static void note_orphans(json_t *orphans)
{
	json_t *path;
	size_t i;

	json_array_foreach(orphans, i, path)
		note("%s stays: it waits in the kernel for a server that died, and there is no "
		     "record of it. 'urbd unmap --force %s' removes it.",
		     json_string_value(path), json_string_value(path));
}

static int run_unmap_all(struct cli *cli)
{
	cleanup_json json_t *result = NULL;
	struct error err = ERROR_NONE;

	if (cli->nr_operands > 0 || cli->image)
		return usage_error(cli, "Name a device or give --all, not both.");
	if (image_call(cli, &result, &err) < 0)
		return failure(&err);
	note_orphans(json_object_get(result, "orphans"));
	return EXIT_OK;
}

/* What was taken for an image is what a block device of this node is called. */
static bool is_device_name(const char *text)
{
	char path[64];
	struct stat st;

	return !strchr(text, '/') &&
	       snprintf(path, sizeof(path), "/dev/%s", text) < (int)sizeof(path) &&
	       stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

static int run_unmap(struct cli *cli)
{
	cleanup_json json_t *result = NULL;
	struct error err = ERROR_NONE;
	const char *text;
	int code, r;

	if (json_object_get(cli->params, "all"))
		return run_unmap_all(cli);
	text = image_operand(cli);
	code = text ? take_target(cli, text) : EXIT_USAGE;
	if (code == CLI_CONTINUE)
		code = image_check(cli);
	if (code != CLI_CONTINUE)
		return code;
	r = image_call(cli, &result, &err);
	if (r == -ENXIO && is_device_name(text)) {
		note("%s Did you mean /dev/%s?", err.text, text);
		return EXIT_FAILED;
	}
	if (r == -ENXIO) {
		note("%s", err.text);
		return EXIT_OK;
	}
	return r < 0 ? failure(&err) : EXIT_OK;
}

const struct command map_command = {
	.name = "map",
	.arguments = "IMAGE",
	.summary = "Make an image a block device, and print the device's path.",
	.details =
		"IMAGE is [POOL/[NAMESPACE/]]NAME[@SNAPSHOT], file:PATH (a file or block\n"
		"device) or null:SIZE (reads as zeroes, forgets what is written). An image that\n"
		"is mapped already keeps its device, whose path is printed.\n"
		"\n"
		"Examples:\n"
		"  urbd map rbd/foo --id kube --keyring /etc/ceph/ceph.client.kube.keyring\n"
		"  urbd map -m 10.0.0.1,10.0.0.2 --id kube --keyfile /root/key rbd/foo\n"
		"  urbd map foo@yesterday\n"
		"  urbd map file:/srv/disk.img --read-only\n",
	.max_operands = 1,
	.method = "map",
	.options = { map_options, open_options, image_options },
	.run = run_map,
};

const struct command unmap_command = {
	.name = "unmap",
	.arguments = "DEVICE|IMAGE|--all",
	.summary = "Take a device away.",
	.details =
		"Name the device by its path, or by the image as it was mapped. It is no failure\n"
		"when it is not mapped. A device that is mounted or open is refused: unmount it\n"
		"first.\n"
		"\n"
		"Examples:\n"
		"  urbd unmap /dev/ublkb0\n"
		"  urbd unmap rbd/foo\n"
		"  urbd unmap --all\n",
	.max_operands = 1,
	.method = "unmap",
	.options = { unmap_options, image_options },
	.run = run_unmap,
};
