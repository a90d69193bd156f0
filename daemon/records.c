#include "daemon/records.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/path.h"

#define SUFFIX	  ".json"
#define TEMPORARY ".tmp"

struct records {
	int dir_fd;
	int lock_fd;
	json_int_t run;
	char boot[64];
	uint64_t owner;
	pthread_mutex_t lock; /* over looking at a record and removing it; and: */
	unsigned long long serial;
};

/* By the lock file, which outlives the daemons. */
static uint64_t mark_of(int lock_fd)
{
	struct stat st = { 0 };

	(void)!fstat(lock_fd, &st);
	return (st.st_ino ^ (uint64_t)st.st_dev << 32) * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

static int lock_directory(struct records *records, const char *directory, struct error *err)
{
	records->lock_fd = openat(records->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (records->lock_fd < 0)
		return error_set(err, -errno, "Cannot make the lock file in %s: %s.", directory,
				 errno_text(errno));
	if (flock(records->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return error_set(
			err, -EBUSY,
			"Another urbdd uses the state directory %s. Stop it, or name another "
			"directory with --state-dir.",
			directory);
	records->owner = mark_of(records->lock_fd);
	return 0;
}

static json_int_t draw_run(void)
{
	json_int_t run = 0;

	if (getrandom(&run, sizeof(run), 0) != sizeof(run))
		run = (json_int_t)time(NULL);
	return run & INT64_MAX;
}

/* "" where the kernel does not say: then all records are of this boot. */
static void read_boot(char *boot, size_t size)
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	boot[0] = '\0';
	if (!file)
		return;
	if (fgets(boot, (int)size, file))
		boot[strcspn(boot, "\n")] = '\0';
	fclose(file);
}

/* Records hold keys. What is there already may have other uses, and its mode is not ours to change.
 */
static int check_private(int dir_fd, const char *directory, struct error *err)
{
	struct stat st;

	if (fstat(dir_fd, &st) < 0)
		return error_set(err, -errno, "Cannot look at the state directory %s: %s.",
				 directory, errno_text(errno));
	if (st.st_uid != geteuid())
		return error_set(err, -EPERM,
				 "The state directory %s belongs to another user (%u). Name one of "
				 "its own with --state-dir.",
				 directory, (unsigned)st.st_uid);
	if (st.st_mode & 077)
		return error_set(
			err, -EPERM,
			"The state directory %s is open to other users (mode %03o), and "
			"would hold keys. Name one of its own with --state-dir, or give it "
			"mode 700.",
			directory, (unsigned)st.st_mode & 07777);
	return 0;
}

int records_open(const char *directory, struct records **ret, struct error *err)
{
	struct records *records;
	int r;

	r = path_make_directories(directory, 0700);
	if (r < 0)
		return error_set(err, r, "Cannot make the state directory %s: %s.", directory,
				 errno_text(r));
	records = malloc(sizeof(*records));
	if (!records)
		return error_set(err, -ENOMEM, "Out of memory.");
	records->lock_fd = -1;
	records->serial = 0;
	records->run = draw_run();
	read_boot(records->boot, sizeof(records->boot));
	pthread_mutex_init(&records->lock, NULL);
	records->dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (records->dir_fd < 0)
		r = error_set(err, -errno, "Cannot open the state directory %s: %s.", directory,
			      errno_text(errno));
	else
		r = check_private(records->dir_fd, directory, err);
	if (r == 0)
		r = lock_directory(records, directory, err);
	if (r < 0) {
		records_close(records);
		return r;
	}
	*ret = records;
	return 0;
}

void records_close(struct records *records)
{
	if (!records)
		return;
	cleanup_close_fn(&records->lock_fd);
	cleanup_close_fn(&records->dir_fd);
	pthread_mutex_destroy(&records->lock);
	free(records);
}

uint64_t records_owner(const struct records *records)
{
	return records->owner;
}

static void file_name(const char *device, const char *suffix, char *name, size_t size)
{
	const char *base = strrchr(device, '/');

	snprintf(name, size, "%s%s", base ? base + 1 : device, suffix);
}

static int write_file(struct records *records, const char *name, json_t *record)
{
	cleanup_close int fd =
		openat(records->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (json_dumpfd(record, fd, JSON_INDENT(1)) < 0)
		return errno ? -errno : -EIO;
	return fsync(fd) < 0 ? -errno : 0;
}

static int replace_file(struct records *records, const char *name, const char *temporary,
			json_t *record)
{
	int r = write_file(records, temporary, record);

	pthread_mutex_lock(&records->lock);
	if (r == 0 && renameat(records->dir_fd, temporary, records->dir_fd, name) < 0)
		r = -errno;
	pthread_mutex_unlock(&records->lock);
	if (r == 0 && fsync(records->dir_fd) < 0)
		r = -errno;
	return r;
}

int record_write(struct records *records, const char *device, json_t *record,
		 unsigned long long *ret_serial, struct error *err)
{
	unsigned long long serial;
	char name[64], temporary[64];
	int r;

	pthread_mutex_lock(&records->lock);
	serial = ++records->serial;
	pthread_mutex_unlock(&records->lock);
	json_object_set_new(record, "version", json_integer(RECORD_VERSION));
	json_object_set_new(record, "boot", json_string(records->boot));
	json_object_set_new(record, "run", json_integer(records->run));
	json_object_set_new(record, "serial", json_integer((json_int_t)serial));
	file_name(device, SUFFIX, name, sizeof(name));
	file_name(device, TEMPORARY, temporary, sizeof(temporary));
	r = replace_file(records, name, temporary, record);
	if (r < 0) {
		unlinkat(records->dir_fd, temporary, 0);
		return error_set(err, r, "Cannot write the record of %s: %s.", device,
				 errno_text(r));
	}
	*ret_serial = serial;
	return 0;
}

static bool ends_in(const char *name, const char *suffix)
{
	size_t length = strlen(name), end = strlen(suffix);

	return length > end && strcmp(name + length - end, suffix) == 0;
}

static bool is_record(const char *name, char *device, size_t size)
{
	size_t length = strlen(name), suffix = strlen(SUFFIX);

	if (!ends_in(name, SUFFIX))
		return false;
	snprintf(device, size, "/dev/%.*s", (int)(length - suffix), name);
	return true;
}

static json_t *read_record(struct records *records, const char *name)
{
	cleanup_close int fd = openat(records->dir_fd, name, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? NULL : json_loadfd(fd, JSON_REJECT_DUPLICATES, NULL);
}

static json_int_t member(const json_t *record, const char *name)
{
	return json_integer_value(json_object_get(record, name));
}

void record_remove(struct records *records, const char *device, unsigned long long serial)
{
	char name[64];
	json_t *record;

	file_name(device, SUFFIX, name, sizeof(name));
	pthread_mutex_lock(&records->lock);
	record = read_record(records, name);
	if (member(record, "run") == records->run && member(record, "serial") == (json_int_t)serial)
		unlinkat(records->dir_fd, name, 0);
	pthread_mutex_unlock(&records->lock);
	json_decref(record);
}

/* With the lock. */
static json_t *read_earlier(struct records *records, const char *name)
{
	json_t *record = read_record(records, name);

	if (record && member(record, "run") == records->run) {
		json_decref(record);
		return NULL;
	}
	return record;
}

json_t *record_of_earlier(struct records *records, const char *device)
{
	char name[64];
	json_t *record;

	file_name(device, SUFFIX, name, sizeof(name));
	pthread_mutex_lock(&records->lock);
	record = read_earlier(records, name);
	pthread_mutex_unlock(&records->lock);
	return record;
}

bool record_is_usable(const struct records *records, const json_t *record, const char **ret_why)
{
	const char *boot = json_string_value(json_object_get(record, "boot"));

	if (!json_is_object(record))
		*ret_why = "is damaged";
	else if (member(record, "version") != RECORD_VERSION)
		*ret_why = "is of another version of urbdd, or of another program";
	else if (!boot || strcmp(boot, records->boot) != 0)
		*ret_why = "is of another boot";
	else
		return true;
	return false;
}

void record_set_aside(struct records *records, const char *device)
{
	char name[64], aside[80];

	file_name(device, SUFFIX, name, sizeof(name));
	snprintf(aside, sizeof(aside), "%s.aside", name);
	renameat(records->dir_fd, name, records->dir_fd, aside);
}

void record_forget(struct records *records, const char *device)
{
	char name[64];
	json_t *record;

	file_name(device, SUFFIX, name, sizeof(name));
	pthread_mutex_lock(&records->lock);
	record = read_earlier(records, name);
	if (record)
		unlinkat(records->dir_fd, name, 0);
	pthread_mutex_unlock(&records->lock);
	json_decref(record);
}

int records_visit(struct records *records,
		  void (*visit)(const char *device, json_t *record, void *data), void *data)
{
	int fd = openat(records->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	char device[64];
	DIR *dir;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((entry = readdir(dir)) != NULL) {
		json_t *record;

		/* A write that was cut off by death; it may hold a key. */
		if (ends_in(entry->d_name, TEMPORARY))
			unlinkat(records->dir_fd, entry->d_name, 0);
		if (!is_record(entry->d_name, device, sizeof(device)))
			continue;
		record = read_record(records, entry->d_name);
		visit(device, record, data);
		json_decref(record);
	}
	closedir(dir);
	return 0;
}
