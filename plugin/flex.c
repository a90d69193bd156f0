/*
 * urbd-flex: the FlexVolume driver. kubelet calls it with a verb, reads stdout and stderr together,
 * and wants one JSON object there and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control/client.h"
#include "control/secrets.h"
#include "plugin/flex_options.h"
#include "plugin/paths.h"
#include "plugin/supervise.h"

#define ARGUMENTS_MAX 8

/* --- Answers ------------------------------------------------------------------------------------
 */

/* Takes @extra (members beside status and message; may be NULL). Returns the exit status. */
static int answer(const char *status, const char *message, json_t *extra)
{
	json_t *object = extra ? extra : json_object();
	bool success = strcmp(status, "Success") == 0;

	json_object_set_new(object, "status", json_string(status));
	if (message && *message)
		json_object_set_new(object, "message", json_string(message));
	json_dumpf(object, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(object);
	return fflush(stdout) == 0 && success ? 0 : 1;
}

static int answer_result(int r, const struct error *note, const struct error *err)
{
	return r == 0 ? answer("Success", note->text, NULL) : answer("Failure", err->text, NULL);
}

/* --- Verbs --------------------------------------------------------------------------------------
 */

/*
 * Mapping, mounting and counting are all done in mount and unmount, so there is nothing to attach.
 * fsGroup: kubelet itself gives the files to the group, after mount. requiresFSResize is false
 * because expandfs is not there.
 */
static int do_init(char **arguments)
{
	return answer("Success", NULL,
		      json_pack("{s:{s:b, s:b, s:b, s:b, s:b}}", "capabilities", "attach", 0,
				"fsGroup", 1, "selinuxRelabel", 1, "supportsMetrics", 1,
				"requiresFSResize", 0));
}

static int do_getvolumename(char **arguments)
{
	cleanup_volume_spec struct volume_spec spec = VOLUME_SPEC_NONE;
	cleanup_free char *name = NULL;
	struct error err = ERROR_NONE;

	if (flex_options_parse(arguments[0], &spec, &err) < 0)
		return answer("Failure", err.text, NULL);
	name = volume_spec_name(&spec);
	return answer("Success", NULL, json_pack("{s:s}", "volumeName", name ? name : ""));
}

struct mount_arguments {
	const char *target;
	char *global;
	struct volume_spec spec;
};

static int mount_in_child(struct volume_call *call, void *data, struct error *err)
{
	struct mount_arguments *arguments = data;

	return volume_mount(call, &arguments->spec, arguments->global, arguments->target, err);
}

static int unmount_in_child(struct volume_call *call, void *data, struct error *err)
{
	return volume_unmount(call, data, err);
}

static int check_target(const char *target, struct error *err)
{
	return target[0] == '/' ? 0 : error_set(err, -EINVAL, "\"%s\" is no absolute path", target);
}

static int do_mount(char **arguments)
{
	struct mount_arguments mount = { .target = arguments[0] };
	struct error err = ERROR_NONE, note = ERROR_NONE;
	struct supervise_settings settings = { 0 };
	int r;

	r = check_target(mount.target, &err);
	if (r == 0)
		r = flex_options_parse(arguments[1], &mount.spec, &err);
	if (r == 0)
		r = path_flex_global(mount.target, &mount.spec, &mount.global, &err);
	if (r == 0)
		r = supervise_settings_read(&settings, &err);
	if (r == 0)
		r = supervise(&settings, mount_in_child, &mount, &note, &err);
	free(settings.directory);
	free(mount.global);
	volume_spec_deinit(&mount.spec);
	return answer_result(r, &note, &err);
}

static int do_unmount(char **arguments)
{
	struct error err = ERROR_NONE, note = ERROR_NONE;
	struct supervise_settings settings = { 0 };
	int r;

	r = check_target(arguments[0], &err);
	if (r == 0)
		r = supervise_settings_read(&settings, &err);
	if (r == 0)
		r = supervise(&settings, unmount_in_child, arguments[0], &note, &err);
	free(settings.directory);
	return answer_result(r, &note, &err);
}

static int do_attach(char **arguments)
{
	return answer("Not supported", "urbd-flex maps images in mount; init says attach: false",
		      NULL);
}

static int do_expand(char **arguments)
{
	return answer(
		"Not supported",
		"urbd-flex does not resize; use rbd resize, then resize2fs on the mounted device",
		NULL);
}

static const struct verb {
	const char *name;
	int count; /* arguments that it needs; kubelet of other versions may give more */
	const char *usage;
	int (*run)(char **arguments);
} verbs[] = {
	{ "init", 0, "", do_init },
	{ "getvolumename", 1, " JSON", do_getvolumename },
	{ "attach", 0, " JSON NODE", do_attach },
	{ "detach", 0, " NAME NODE", do_attach },
	{ "isattached", 0, " JSON NODE", do_attach },
	{ "waitforattach", 0, " DEVICE JSON", do_attach },
	{ "mountdevice", 0, " DIR DEVICE JSON", do_attach },
	{ "unmountdevice", 0, " DIR", do_attach },
	{ "mount", 2, " DIR JSON", do_mount },
	{ "unmount", 1, " DIR", do_unmount },
	{ "expandvolume", 0, " JSON DEVICE NEW OLD", do_expand },
	{ "expandfs", 0, " JSON DEVICE DIR NEW OLD", do_expand },
};

static int run_verb(const char *name, char **arguments, int count)
{
	char message[160];

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verbs[i].name, name) != 0)
			continue;
		if (count >= verbs[i].count)
			return verbs[i].run(arguments);
		snprintf(message, sizeof(message), "usage: urbd-flex %s%s", name, verbs[i].usage);
		return answer("Failure", message, NULL);
	}
	snprintf(message, sizeof(message), "urbd-flex has no verb \"%.64s\"", name);
	return answer("Not supported", message, NULL);
}

/* --- main ---------------------------------------------------------------------------------------
 */

static bool is_supported(const struct verb *verb)
{
	return verb->run != do_attach && verb->run != do_expand;
}

static void print_verbs(bool supported)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (is_supported(&verbs[i]) == supported)
			printf("  urbd-flex %s%s\n", verbs[i].name, verbs[i].usage);
}

static int print_help(void)
{
	puts("urbd-flex: a FlexVolume driver for Ceph RBD images through urbdd, without rbd.ko.\n"
	     "kubelet calls it; it answers with one JSON object.\n");
	print_verbs(true);
	puts("\nAnswered with \"Not supported\", as kubelet expects it of what mount does:\n");
	print_verbs(false);
	puts("\nEnvironment: URBD_SOCKET (urbdd's socket, /run/urbd/urbd.sock), URBD_PLUGIN_DIR\n"
	     "(records, " VOLUME_DIRECTORY_DEFAULT
	     "), URBD_PLUGIN_TIMEOUT (seconds for a call, 90).\n"
	     "For pods without Kubernetes see urbd-pod(8).");
	return 0;
}

/* Nobody may write beside the JSON object: not libraries, and not children. */
static void silence_stderr(void)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null >= 0)
		dup2(null, STDERR_FILENO);
}

/*
 * kubelet passes the Secret in argv, where all users of the node see it (ps). It cannot be kept
 * from being there for an instant, but from staying there as long as the call lasts.
 */
static int take_arguments(int argc, char **argv, char **arguments)
{
	int count = MIN(argc - 1, ARGUMENTS_MAX);

	for (int i = 0; i < count; i++) {
		arguments[i] = strdup(argv[i + 1]);
		if (!arguments[i])
			return -ENOMEM;
	}
	for (int i = 2; i < argc; i++)
		explicit_bzero(argv[i], strlen(argv[i]));
	return count;
}

static void wipe_arguments(char **arguments, int count)
{
	for (int i = 0; i < count; i++)
		secret_free(arguments[i]);
}

int main(int argc, char **argv)
{
	char *arguments[ARGUMENTS_MAX];
	int count = take_arguments(argc, argv, arguments), status;

	secrets_guard_json();
	if (count == 1 && strcmp(arguments[0], "--help") == 0)
		return print_help();
	if (count == 1 && strcmp(arguments[0], "--version") == 0)
		return puts("urbd-flex " URBD_VERSION) < 0;
	silence_stderr();
	if (count < 1)
		return answer("Failure", count < 0 ? "out of memory" : "usage: urbd-flex VERB ...",
			      NULL);
	status = run_verb(arguments[0], arguments + 1, count - 1);
	wipe_arguments(arguments, count);
	return status;
}
