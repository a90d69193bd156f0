#include "daemon/in_use.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/command.h"
#include "common/macros.h"

/* Probes of udev and blkid hold a device for a moment after every change. */
#define TRIES	 5
#define PAUSE_US (100 * 1000)

static void cleanup_fclose_fn(FILE **file)
{
	if (*file)
		fclose(*file);
}

/*
 * Whether block device @other is @disk or one of its partitions, which in sysfs are folders within
 * the disk's. Partitions of ublk and nbd share the disk's major, and no other file need be read.
 */
static bool belongs_to(dev_t other, dev_t disk)
{
	cleanup(cleanup_fclose_fn) FILE *file = NULL;
	unsigned major_number, minor_number;
	char path[64];

	if (other == disk)
		return true;
	if (major(other) != major(disk))
		return false;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/../dev", major(other), minor(other));
	file = fopen(path, "re");
	return file && fscanf(file, "%u:%u", &major_number, &minor_number) == 2 &&
	       makedev(major_number, minor_number) == disk;
}

static bool is_octal(const char *digits)
{
	return strspn(digits, "01234567") >= 3;
}

/* proc_pid_mountinfo(5) writes space, tab, newline and backslash as \ooo. */
static void decode_octal(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (*text == '\\' && is_octal(text + 1)) {
			*to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + text[3] - '0');
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

/* proc_pid_mountinfo(5): field 3 is major:minor, field 5 the mount point. */
static bool find_mount_point(dev_t device, char *ret, size_t size)
{
	cleanup(cleanup_fclose_fn) FILE *file = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	size_t room = 0;

	while (file && getline(&line, &room, file) > 0) {
		unsigned major_number, minor_number;
		char mount_point[256];

		if (sscanf(line, "%*d %*d %u:%u %*s %255s", &major_number, &minor_number,
			   mount_point) == 3 &&
		    belongs_to(makedev(major_number, minor_number), device)) {
			decode_octal(mount_point);
			snprintf(ret, size, "%s", mount_point);
			return true;
		}
	}
	return false;
}

static void read_word(const char *path, char *ret, size_t size)
{
	cleanup(cleanup_fclose_fn) FILE *file = fopen(path, "re");

	if (file && fgets(ret, (int)size, file))
		ret[strcspn(ret, "\n")] = '\0';
}

/* Whether process @pid has @device or a partition of it open. Processes come and go: what cannot be
 * read has not. */
static bool process_holds(int proc_fd, const char *pid, dev_t device)
{
	char path[288];
	struct dirent *entry;
	bool holds = false;
	struct stat st;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "%s/fd", pid);
	fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		cleanup_close_fn(&fd);
		return false;
	}
	while (!holds && (entry = readdir(dir)) != NULL)
		holds = fstatat(fd, entry->d_name, &st, 0) == 0 && S_ISBLK(st.st_mode) &&
			belongs_to(st.st_rdev, device);
	closedir(dir);
	return holds;
}

/* "123 (dd)" of a process that has @device open; the kernel tells only whether it is mounted. */
static bool find_holder(dev_t device, char *ret, size_t size)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	bool found = false;

	if (!proc)
		return false;
	while (!found && (entry = readdir(proc)) != NULL) {
		char path[288], name[32] = "";

		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    !process_holds(dirfd(proc), entry->d_name, device))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		read_word(path, name, sizeof(name));
		snprintf(ret, size, "%.20s (%s)", entry->d_name, name);
		found = true;
	}
	closedir(proc);
	return found;
}

static int mounted(const char *device, dev_t number, struct error *err)
{
	char mount_point[256];

	if (find_mount_point(number, mount_point, sizeof(mount_point)))
		return error_set(
			err, -EBUSY,
			"%s is mounted on %s. Unmount it first (umount '%s'), or unmap it with "
			"--force, which fails all I/O.",
			device, mount_point, mount_point);
	return error_set(
		err, -EBUSY,
		"%s is in use: a mount, a device mapper or md device, or a program holds it. End "
		"that first, or unmap it with --force, which fails all I/O.",
		device);
}

/* The program lies beside this one where it was built, and in a directory of its own where it was
 * installed. */
static const char *claim_program(char *beside, size_t size)
{
	ssize_t length = readlink("/proc/self/exe", beside, size - 1);
	char *slash;

	beside[MAX(length, 0)] = '\0';
	slash = strrchr(beside, '/');
	if (slash)
		snprintf(slash + 1, size - (size_t)(slash + 1 - beside), "urbd-claim");
	return slash && access(beside, X_OK) == 0 ? beside : URBD_LIBEXECDIR "/urbd-claim";
}

/* A child opens it: somebody's I/O on the device may hold up whoever opens it. */
static int claim(const char *device, unsigned seconds, struct error *err)
{
	char beside[PATH_MAX];
	const char *const argv[] = { claim_program(beside, sizeof(beside)), device, NULL };
	int r = command_status(argv, seconds);

	if (r == -ETIMEDOUT)
		return error_set(err, r,
				 "%s does not answer, so whether it is in use cannot be seen. Wait "
				 "until its storage is back, or unmap it with --force.",
				 device);
	if (r < 0)
		return error_set(err, r, "Cannot run %s: %s.", argv[0], errno_text(r));
	if (r > 0 && r != EBUSY)
		return error_set(err, -r, "Cannot open %s: %s.", device, errno_text(r));
	return -r;
}

static int check_once(const char *device, dev_t number, unsigned seconds, struct error *err)
{
	char holder[64];
	int r = claim(device, seconds, err);

	if (r == -EBUSY)
		return mounted(device, number, err);
	if (r < 0)
		return r;
	if (find_holder(number, holder, sizeof(holder)))
		return error_set(
			err, -EBUSY,
			"%s is in use: process %s has it open. End that first, or unmap it with "
			"--force, which fails all I/O.",
			device, holder);
	return 0;
}

int device_check_unused(const char *device, unsigned seconds, struct error *err)
{
	struct stat st;
	int r = 0;

	if (stat(device, &st) < 0)
		return error_set(err, -errno, "Cannot look at %s: %s.", device, errno_text(errno));
	for (int i = 0; i < TRIES; i++) {
		r = check_once(device, st.st_rdev, seconds, err);
		if (r != -EBUSY)
			break;
		usleep(PAUSE_US);
	}
	return r;
}
