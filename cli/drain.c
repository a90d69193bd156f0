/* drain and resume: a device at rest, and on again. */
#include "cli/cli.h"

static const struct cli_option drain_options[] = {
	{ .name = "timeout",
	  .argument = "SECONDS",
	  .help = "how long to try (default: 30)",
	  .param = "timeout" },
	{ 0 },
};

static int run_drain(struct cli *cli)
{
	cleanup_json json_t *result = NULL;
	struct error err = ERROR_NONE;
	int code;

	if (cli->nr_operands == 0)
		return usage_error(cli, "%s needs %s.", cli->command->name,
				   cli->command->arguments);
	code = device_take(cli, cli->operands[0]);
	if (code != CLI_CONTINUE)
		return code;
	return image_call(cli, &result, &err) < 0 ? failure(&err) : EXIT_OK;
}

const struct command drain_command = {
	.name = "drain",
	.arguments = "DEVICE|IMAGE",
	.summary = "Finish a device's requests, close its image and hold its I/O.",
	.details = "The device stays, and who uses it waits. Its image is closed, and can be "
		   "worked on\n"
		   "elsewhere. urbd resume lets it go on, and so does a restart of urbdd.\n",
	.max_operands = 1,
	.method = "drain",
	.options = { drain_options },
	.run = run_drain,
};

const struct command resume_command = {
	.name = "resume",
	.arguments = "DEVICE|IMAGE",
	.summary = "Open the image of a drained device again, and let its I/O go on.",
	.max_operands = 1,
	.method = "resume",
	.options = { drain_options },
	.run = run_drain,
};
