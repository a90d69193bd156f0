/*
 * urbd-pod: the rbd volume of a pod's file, mounted and unmounted as kubelet would, without a
 * kubelet. For people and scripts: text on stdout and stderr, exit status 0, 1 (failed), 2 (usage).
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "control/client.h"
#include "control/secrets.h"
#include "plugin/document.h"
#include "plugin/naming.h"
#include "plugin/paths.h"
#include "plugin/pod.h"
#include "plugin/supervise.h"

#define EXIT_USAGE 2

static const char usage[] =
	"usage: urbd-pod mount --pod FILE [--secret FILE] [--kubelet-root DIR] [--volume NAME]\n"
	"                      [--socket PATH]\n"
	"       urbd-pod unmount --pod FILE [--kubelet-root DIR] [--volume NAME] [--socket PATH]\n";

static const char help[] =
	"\n"
	"Mounts the rbd volume of a pod where kubelet would mount it, and prints that directory:\n"
	"DIR/pods/UID/volumes/kubernetes.io~rbd/NAME. The image is mapped through urbdd; a blank "
	"one\n"
	"gets a file system first.\n"
	"\n"
	"  --pod FILE          the pod, in JSON or YAML\n"
	"  --secret FILE       the Secret that the volume's secretRef names, in JSON or YAML\n"
	"  --kubelet-root DIR  (default /var/lib/kubelet)\n"
	"  --volume NAME       which volume, where the pod has several of type rbd\n"
	"  --socket PATH       urbdd's socket (default $URBD_SOCKET, else /run/urbd/urbd.sock)\n"
	"  --help, --version\n"
	"\n"
	"Environment: URBD_SOCKET, URBD_PLUGIN_DIR (records, " VOLUME_DIRECTORY_DEFAULT "),\n"
	"URBD_PLUGIN_TIMEOUT (seconds for a call, 90).\n";

struct options {
	const char *verb;
	const char *pod, *secret, *root, *volume, *socket;
};

struct work {
	struct pod_volume volume;
	char *global, *target;
	const char *socket;
};

/* --- The command line ---------------------------------------------------------------------------
 */

static int usage_error(const char *fmt, ...) printf_like(1, 2);
static int usage_error(const char *fmt, ...)
{
	va_list args;

	fputs("urbd-pod: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n%s", usage);
	return -EINVAL;
}

static const char **option_slot(struct options *options, int letter)
{
	switch (letter) {
	case 'p':
		return &options->pod;
	case 's':
		return &options->secret;
	case 'k':
		return &options->root;
	case 'v':
		return &options->volume;
	default:
		return &options->socket;
	}
}

static int check_options(const struct options *options)
{
	bool mount = options->verb && strcmp(options->verb, "mount") == 0;

	if (!options->verb)
		return usage_error("say mount or unmount");
	if (!mount && strcmp(options->verb, "unmount") != 0)
		return usage_error("unknown verb \"%s\"; say mount or unmount", options->verb);
	if (!options->pod)
		return usage_error("--pod is missing");
	if (!mount && options->secret)
		return usage_error("unmount takes no --secret");
	return 0;
}

/* 1: said what was asked for, and done. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option known[] = { { "pod", required_argument, NULL, 'p' },
					       { "secret", required_argument, NULL, 's' },
					       { "kubelet-root", required_argument, NULL, 'k' },
					       { "volume", required_argument, NULL, 'v' },
					       { "socket", required_argument, NULL, 'S' },
					       { "help", no_argument, NULL, 'h' },
					       { "version", no_argument, NULL, 'V' },
					       { 0 } };
	int letter;

	*options = (struct options){ .root = "/var/lib/kubelet" };
	while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (letter == '?')
			return fputs(usage, stderr), -EINVAL;
		if (letter == 'h')
			return printf("%s%s", usage, help), 1;
		if (letter == 'V')
			return puts("urbd-pod " URBD_VERSION), 1;
		*option_slot(options, letter) = optarg;
	}
	if (argc - optind > 1)
		return usage_error("unexpected argument \"%s\"", argv[optind + 1]);
	options->verb = argv[optind];
	return check_options(options);
}

/* --- The files ----------------------------------------------------------------------------------
 */

static int read_secret(const struct options *options, struct work *work, struct error *err)
{
	cleanup_json json_t *secret = NULL;
	const char *name = work->volume.secret;
	int r;

	if (!name)
		return options->secret
			       ? error_set(err, -EINVAL,
					   "the volume has no secretRef, so %s is not wanted",
					   options->secret)
			       : 0;
	if (!options->secret)
		return error_set(err, -EINVAL,
				 "the volume wants the Secret \"%s\"; give --secret FILE", name);
	r = document_read(options->secret, &secret, err);
	return r < 0 ? r : pod_secret_apply(options->secret, secret, name, &work->volume.spec, err);
}

static int read_pod(const struct options *options, struct work *work, struct error *err)
{
	cleanup_json json_t *pod = NULL;
	int r;

	r = document_read(options->pod, &pod, err);
	return r < 0 ? r : pod_volume_parse(options->pod, pod, options->volume, &work->volume, err);
}

static int find_paths(const struct options *options, struct work *work, struct error *err)
{
	cleanup_free char *root = naming_canonical(options->root);
	int r;

	if (!root)
		return error_set(err, -ENOMEM, "out of memory");
	r = path_rbd_global(root, &work->volume.spec, &work->global, err);
	if (r == 0)
		r = path_rbd_target(root, work->volume.uid, work->volume.name, &work->target, err);
	return r;
}

/* --- The work -----------------------------------------------------------------------------------
 */

static int mount_in_child(struct volume_call *call, void *data, struct error *err)
{
	struct work *work = data;

	call->socket = work->socket;
	return volume_mount(call, &work->volume.spec, work->global, work->target, err);
}

static int unmount_in_child(struct volume_call *call, void *data, struct error *err)
{
	struct work *work = data;

	call->socket = work->socket;
	return volume_unmount(call, work->target, err);
}

static int run(const struct options *options, struct work *work, struct error *note,
	       struct error *err)
{
	bool mount = strcmp(options->verb, "mount") == 0;
	struct supervise_settings settings = { 0 };
	int r;

	work->socket = options->socket;
	r = read_pod(options, work, err);
	if (r == 0 && mount)
		r = read_secret(options, work, err);
	if (r == 0)
		r = volume_spec_finish(&work->volume.spec, err);
	if (r == 0)
		r = find_paths(options, work, err);
	if (r == 0)
		r = supervise_settings_read(&settings, err);
	if (r == 0)
		r = supervise(&settings, mount ? mount_in_child : unmount_in_child, work, note,
			      err);
	free(settings.directory);
	if (r == 0 && mount)
		puts(work->target);
	return r;
}

int main(int argc, char **argv)
{
	struct error err = ERROR_NONE, note = ERROR_NONE;
	struct options options;
	struct work work = { 0 };
	int r;

	secrets_guard_json();
	r = parse_options(argc, argv, &options);
	if (r != 0)
		return r < 0 ? EXIT_USAGE : EXIT_SUCCESS;
	r = run(&options, &work, &note, &err);
	if (note.text[0])
		fprintf(stderr, "urbd-pod: %s\n", note.text);
	if (r < 0)
		fprintf(stderr, "urbd-pod: %s\n", err.text);
	free(work.global);
	free(work.target);
	pod_volume_deinit(&work.volume);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
