/* version: of this program and of the daemon that it talks to. */
#include "cli/cli.h"

#include <stdio.h>

static int run_version(struct cli *cli)
{
	cleanup_json json_t *result = NULL;
	struct error err = ERROR_NONE;

	printf("urbd %s\n", URBD_VERSION);
	fflush(stdout);
	if (cli_call(cli, "version", NULL, CALL_TIMEOUT, &result, &err) < 0)
		return failure(&err);
	printf("urbdd %s\n", json_text(result, "version"));
	return EXIT_OK;
}

const struct command version_command = {
	.name = "version",
	.arguments = "",
	.summary = "Show the versions of urbd and of the running urbdd.",
	.run = run_version,
};
