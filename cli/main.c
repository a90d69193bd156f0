/* urbd: maps and unmaps images through urbdd, and shows what is mapped. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/secrets.h"

const struct command *const commands[] = {
	&map_command,	  &unmap_command,    &drain_command, &resume_command, &set_command,
	&export_command,  &unexport_command, &list_command,  &status_command, &stat_command,
	&version_command, &help_command,     NULL,
};

const struct command *command_find(const char *name)
{
	for (const struct command *const *at = commands; *at; at++)
		if (strcmp((*at)->name, name) == 0 ||
		    ((*at)->alias && strcmp((*at)->alias, name) == 0))
			return *at;
	return NULL;
}

/* Output that did not reach its reader is a failure, however well the call went. */
static int flush_output(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	note("Cannot write the output: %s.", errno_text(errno));
	return code == EXIT_OK ? EXIT_FAILED : code;
}

static int run_command(struct cli *cli, int argc, char **argv)
{
	int code;

	cli->command = command_find(argv[0]);
	if (!cli->command)
		return usage_error(cli, "There is no command '%s'.", argv[0]);
	code = options_parse(cli, argc, argv);
	if (code != CLI_CONTINUE)
		return code;
	if (cli->help) {
		help_print(cli->command);
		return EXIT_OK;
	}
	if (cli->pretty && !cli->json)
		return usage_error(cli, "--pretty-format goes with --format json.");
	return cli->command->run(cli);
}

static int run(struct cli *cli, int argc, char **argv)
{
	int code = options_parse(cli, argc, argv);

	if (code != CLI_CONTINUE)
		return code;
	if (cli->help) {
		help_print(NULL);
		return EXIT_OK;
	}
	if (cli->nr_operands == 0)
		return usage_error(cli, "No command was given.");
	return run_command(cli, (int)cli->nr_operands, (char **)cli->operands);
}

int main(int argc, char **argv)
{
	struct cli cli = { 0 };
	int code;

	secrets_guard_json();
	cli.params = json_object();
	code = run(&cli, argc, argv);
	json_decref(cli.params);
	return flush_output(code);
}
