#include "plugin/format.h"

#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "plugin/run.h"
#include "plugin/spec.h"

#define PROBED_BYTES (1024 * 1024)

/* fsck(8) */
#define FSCK_CORRECTED	 1
#define FSCK_UNCORRECTED 4

/* --- Looking ------------------------------------------------------------------------------------
 */

static void cleanup_probe_fn(blkid_probe *probe)
{
	blkid_free_probe(*probe);
}

#define cleanup_probe cleanup(cleanup_probe_fn)

/*
 * libblkid may take a part that cannot be read for one without a signature. So what looks blank is
 * read once more, by ourselves: the ends, where signatures live.
 */
static int read_ends(int fd, off_t size)
{
	cleanup_free char *buffer = malloc(PROBED_BYTES);
	size_t length = (size_t)MIN(size, PROBED_BYTES);

	if (!buffer)
		return -ENOMEM;
	if (pread(fd, buffer, length, 0) != (ssize_t)length ||
	    pread(fd, buffer, length, size - (off_t)length) != (ssize_t)length)
		return errno ? -errno : -EIO;
	return 0;
}

static void copy_value(blkid_probe probe, const char *name, char ret[32])
{
	const char *value;

	if (blkid_probe_lookup_value(probe, name, &value, NULL) == 0)
		snprintf(ret, 32, "%s", value);
}

static int open_probe(const char *device, blkid_probe *ret)
{
	blkid_probe probe;

	errno = 0;
	probe = blkid_new_probe_from_filename(device);
	if (!probe)
		return errno ? -errno : -EIO;
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE |
							 BLKID_SUBLKS_BADCSUM);
	blkid_probe_enable_partitions(probe, 1);
	*ret = probe;
	return 0;
}

int format_probe(const char *device, struct format_content *ret, struct error *err)
{
	struct format_content content = { 0 };
	cleanup_probe blkid_probe probe = NULL;
	char usage[32] = "";
	int r;

	r = open_probe(device, &probe);
	if (r < 0)
		return error_set(err, r, "cannot look at %s: %s", device, errno_text(r));
	errno = 0;
	r = blkid_do_safeprobe(probe);
	if (r == -2)
		return error_set(
			err, -EINVAL,
			"%s holds the signatures of several formats; nothing was done to it. "
			"If its data is of no use, clear it with wipefs",
			device);
	if (r < 0)
		return error_set(err, errno ? -errno : -EIO, "cannot read %s: %s", device,
				 errno_text(errno ? errno : EIO));
	copy_value(probe, "TYPE", content.type);
	copy_value(probe, "PTTYPE", content.table);
	copy_value(probe, "USAGE", usage);
	content.filesystem = strcmp(usage, "filesystem") == 0;
	content.blank = r == 1 && !content.type[0] && !content.table[0];
	if (content.blank) {
		r = read_ends(blkid_probe_get_fd(probe), blkid_probe_get_size(probe));
		if (r < 0)
			return error_set(err, r, "cannot read %s: %s", device, errno_text(r));
	}
	*ret = content;
	return 0;
}

/* --- Making -------------------------------------------------------------------------------------
 */

static bool is_ext(const char *type)
{
	return strcmp(type, "ext2") == 0 || strcmp(type, "ext3") == 0 || strcmp(type, "ext4") == 0;
}

/*
 * No blocks kept for root, as kubelet does it. And no discard of the whole device first, as kubelet
 * does: on a blank image there is nothing to discard, and on a large one it takes longer than any
 * deadline, with one delete for each object that is not there.
 */
static void mkfs_arguments(const char *type, const char *program, const char *device,
			   const char *argv[8])
{
	size_t n = 0;

	argv[n++] = program;
	if (is_ext(type)) {
		argv[n++] = "-F";
		argv[n++] = "-m0";
		argv[n++] = "-Enodiscard";
	} else if (strcmp(type, "xfs") == 0) {
		argv[n++] = "-f";
		argv[n++] = "-K";
	}
	argv[n++] = device;
	argv[n] = NULL;
}

static int make_filesystem(const struct format_request *request, const char *type,
			   struct error *err)
{
	const char *argv[8];
	char program[32];
	struct run run;
	int r;

	snprintf(program, sizeof(program), "mkfs.%s", type);
	mkfs_arguments(type, program, request->device, argv);
	r = run_program(argv, request->deadline, request->lock_fd, &run, err);
	if (r == -ENOENT)
		return error_set(err, r, "there is no %s here to make fsType %s; install it",
				 program, type);
	if (r < 0)
		return r;
	if (run.status != 0)
		return error_set(err, -EIO, "%s failed on %s (exit %d): %s", program,
				 request->device, run.status, run.output);
	return 0;
}

static int format_blank(const struct format_request *request, char ret_type[32], struct error *err)
{
	const char *type = request->fs_type ? request->fs_type : VOLUME_FS_DEFAULT;

	if (request->read_only)
		return error_set(
			err, -EROFS,
			"cannot mount the unformatted disk read-only: the image holds no file "
			"system. Mount it once with readOnly: false, or fill it first");
	snprintf(ret_type, 32, "%s", type);
	return make_filesystem(request, type, err);
}

/* --- Checking -----------------------------------------------------------------------------------
 */

/* ext4 mounts its elders. */
static bool type_serves(const char *found, const char *requested)
{
	if (!requested || strcmp(found, requested) == 0)
		return true;
	return strcmp(requested, "ext4") == 0 && is_ext(found);
}

static int check_content(const struct format_request *request, const struct format_content *content,
			 struct error *err)
{
	if (content->table[0])
		return error_set(
			err, -EINVAL,
			"%s holds a partition table (%s), so it was not formatted and cannot "
			"be mounted; use an image without one",
			request->device, content->table);
	if (!content->type[0])
		return error_set(err, -EINVAL, "%s holds something unknown; it was not formatted",
				 request->device);
	if (!content->filesystem)
		return error_set(err, -EINVAL,
				 "%s holds %s, which is no file system; it was not formatted. Use "
				 "another image",
				 request->device, content->type);
	if (!type_serves(content->type, request->fs_type))
		return error_set(
			err, -EINVAL,
			"%s holds %s, where fsType %s was asked for; it was not formatted. "
			"Say fsType: %s, or use another image",
			request->device, content->type, request->fs_type, content->type);
	return 0;
}

static int check_filesystem(const struct format_request *request, struct error *note,
			    struct error *err)
{
	const char *const argv[] = { "fsck", "-T", "-a", request->device, NULL };
	struct run run;
	int r;

	r = run_program(argv, request->deadline, request->lock_fd, &run, err);
	if (r == -ENOENT) {
		error_set(note, 0, "fsck is not installed, so the file system was not checked");
		return 0;
	}
	if (r < 0)
		return r;
	if (run.status == FSCK_UNCORRECTED)
		return error_set(
			err, -EIO,
			"'fsck' found errors on %s that it may not mend by itself; map the "
			"image elsewhere and run fsck by hand. It said: %s",
			request->device, run.output);
	if (run.status == FSCK_CORRECTED)
		error_set(note, 0, "fsck corrected errors on %s: %s", request->device, run.output);
	else if (run.status != 0)
		error_set(note, 0, "fsck on %s ended with %d: %s", request->device, run.status,
			  run.output);
	return 0;
}

int format_prepare(const struct format_request *request, char ret_type[32], struct error *note,
		   struct error *err)
{
	struct format_content content;
	int r;

	r = format_probe(request->device, &content, err);
	if (r < 0)
		return r;
	if (content.blank)
		return format_blank(request, ret_type, err);
	r = check_content(request, &content, err);
	if (r < 0)
		return r;
	snprintf(ret_type, 32, "%s", request->fs_type ? request->fs_type : content.type);
	return request->read_only || request->mounted ? 0 : check_filesystem(request, note, err);
}
