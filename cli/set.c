/* set: settings of a device or an export, changed while it is in use. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

static const struct cli_option set_options[] = {
	{ .name = "export-name",
	  .argument = "NAME",
	  .help = "the export's name, in place of the first argument",
	  .param = "export" },
	{ .name = "timeout",
	  .argument = "SECONDS",
	  .help = "how long to try (default: 30)",
	  .param = "timeout" },
	{ 0 },
};

/* "rbd_qos_iops_limit=500" */
static int take_setting(struct cli *cli, json_t *settings, const char *text)
{
	const char *equals = strchr(text, '=');

	if (!equals || equals == text)
		return usage_error(cli, "'%s' is no setting: NAME=VALUE is.", text);
	if (json_object_getn(settings, text, (size_t)(equals - text)))
		return usage_error(cli, "%.*s is given twice.", (int)(equals - text), text);
	json_object_setn_new(settings, text, (size_t)(equals - text), json_string(equals + 1));
	return CLI_CONTINUE;
}

static int take_settings(struct cli *cli, unsigned first)
{
	json_t *settings = json_object();
	int code = CLI_CONTINUE;

	json_object_set_new(cli->params, "settings", settings);
	if (first >= cli->nr_operands)
		return usage_error(cli, "Say what to change: NAME=VALUE.");
	for (unsigned i = first; i < cli->nr_operands && code == CLI_CONTINUE; i++)
		code = take_setting(cli, settings, cli->operands[i]);
	return code;
}

static int take_target(struct cli *cli, const char *text)
{
	cleanup_free char *real = NULL;

	if (strstr(text, "://")) {
		json_object_set_new(cli->params, "export", json_string(text));
		return CLI_CONTINUE;
	}
	if (text[0] != '/')
		return image_take_spec(cli, text);
	real = realpath(text, NULL);
	json_object_set_new(cli->params, "device", json_string(real ? real : text));
	return CLI_CONTINUE;
}

static int run_set(struct cli *cli)
{
	cleanup_json json_t *result = NULL;
	struct error err = ERROR_NONE;
	bool named = json_object_get(cli->params, "export");
	int code = CLI_CONTINUE;

	if (!named && cli->nr_operands == 0)
		return usage_error(cli, "set needs %s.", cli->command->arguments);
	if (!named)
		code = take_target(cli, cli->operands[0]);
	if (code == CLI_CONTINUE)
		code = take_settings(cli, named ? 0 : 1);
	if (code == CLI_CONTINUE)
		code = image_check(cli);
	if (code != CLI_CONTINUE)
		return code;
	return image_call(cli, &result, &err) < 0 ? failure(&err) : EXIT_OK;
}

const struct command set_command = {
	.name = "set",
	.arguments = "DEVICE|IMAGE|URI NAME=VALUE...",
	.summary = "Limit the I/O of a device or an export that is in use.",
	.details =
		"NAME is one of librbd's rbd_qos_* options; an empty VALUE takes it away.\n"
		"Name the device by its path, the export by its NBD URI, or either by the image.\n"
		"The settings are this device's alone, and end with it. Its I/O pauses for some\n"
		"milliseconds. urbd status shows what is set.\n"
		"\n"
		"Examples:\n"
		"  urbd set /dev/ublkb0 rbd_qos_iops_limit=500 rbd_qos_iops_burst=2000\n"
		"  urbd set rbd/foo rbd_qos_write_bps_limit=20971520\n"
		"  urbd set rbd/foo rbd_qos_iops_limit=\n",
	.max_operands = 64,
	.method = "set",
	.options = { set_options },
	.run = run_set,
};
