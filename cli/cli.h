/*
 * The command line urbd: a table of commands, a file for each family. One thread.
 *
 * A command's options stand in tables from which they are parsed and its help is printed. An option
 * that names a param of the command's method is checked by the protocol's schema; every other one
 * has a function.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"
#include "control/client.h"

#define EXIT_OK	     0
#define EXIT_FAILED  1
#define EXIT_USAGE   2
#define CLI_CONTINUE (-1) /* of functions that otherwise return an exit code */

struct cli;

struct cli_option {
	const char *name;     /* without the "--" */
	char letter;	      /* '\0': there is none */
	const char *argument; /* how the help calls its value; NULL: it takes none */
	const char *help;     /* NULL: not shown */
	const char *param;    /* the param it sets, or */
	/* what it does: CLI_CONTINUE or an exit code. */
	int (*take)(struct cli *cli, const char *value);
};

#define OPTION_GROUPS_MAX 3

struct command {
	const char *name;
	const char *alias;     /* or NULL */
	const char *arguments; /* for the usage line */
	const char *summary;   /* for the list of commands */
	const char *details;   /* below the options in the help; or NULL */
	unsigned max_operands;
	const char *method; /* whose params the options set; NULL: none */
	/* Groups of options up to the first NULL, each ends with an option without a name. */
	const struct cli_option *options[OPTION_GROUPS_MAX + 1];
	/* Returns an exit code. Options and operands are in @cli. */
	int (*run)(struct cli *cli);
};

struct cli {
	const struct command *command;
	const char *socket; /* NULL: the environment's or the default one */
	json_t *params;	    /* of the command's method, as far as options set them */
	const char *image;  /* --image */
	bool json, pretty, more;
	unsigned interval; /* stat: seconds between two looks; 0: one look */
	bool help;
	char *const *operands;
	unsigned nr_operands;
};

/* Ends with one without a name. */
extern const struct command *const commands[];
extern const struct command map_command, unmap_command, drain_command, resume_command, set_command,
	export_command, unexport_command, list_command, status_command, stat_command,
	version_command, help_command;

/* The options that every command takes, and those of urbd itself. */
extern const struct cli_option common_options[], main_options[];

/* --format and --pretty-format. */
extern const struct cli_option format_options[];

/* map.c: what names an image, and how it is opened; for every command that opens one. */
extern const struct cli_option image_options[], open_options[];

/* device.c: sets the param "device" to what @path is or links to. */
void device_take_path(struct cli *cli, const char *path);

/* device.c: the same of a path, or of the image that is mapped, which urbdd is asked for.
 * CLI_CONTINUE or an exit code. */
int device_take(struct cli *cli, const char *text);

/* The image (or device) that the command is about; NULL where it was told that there is none. */
const char *image_operand(struct cli *cli);

/* Adds what a spec says to the params. CLI_CONTINUE or an exit code. */
int image_take_spec(struct cli *cli, const char *text);

/* export.c: sets @param to @text, an export's name or URI; and where that can be one, adds the
 * params of an image. CLI_CONTINUE or an exit code. */
int export_take_any_name(struct cli *cli, const char *param, const char *text);

/* What options cannot know each for itself: the schema's view of all params. */
int image_check(struct cli *cli);

/* Calls the command's method with the params, and with time for it. */
int image_call(struct cli *cli, json_t **ret, struct error *err) warn_unused;

/* NULL when there is none of that name or alias. */
const struct command *command_find(const char *name);

/* Parses the options of cli->command (NULL: those before a command, up to the first operand).
 * CLI_CONTINUE, or EXIT_USAGE or EXIT_FAILED when the reason was told. */
int options_parse(struct cli *cli, int argc, char **argv);

/* Prints the help of a command, or of urbd (NULL), on stdout. */
void help_print(const struct command *command);

/* "urbd: sentence" on stderr, with a hint at the help; returns EXIT_USAGE. */
int usage_error(const struct cli *cli, const char *fmt, ...) printf_like(2, 3);

/* "urbd: sentence" on stderr. */
void note(const char *fmt, ...) printf_like(1, 2);

/* Tells the error; returns EXIT_FAILED. */
int failure(const struct error *err);

/* Calls urbdd; @params is taken. Progress shows on a terminal. */
int cli_call(struct cli *cli, const char *method, json_t *params, unsigned timeout_s, json_t **ret,
	     struct error *err) warn_unused;

#define CALL_TIMEOUT 30 /* seconds, for calls that do no work */

/* The string member of @object; "" where there is none. */
const char *json_text(json_t *object, const char *name);

/* The integer member of @object, to reckon with; 0 where there is none. */
double json_number(json_t *object, const char *name);

/* Prints @json as --pretty-format asks. */
void print_json(const struct cli *cli, json_t *json);
