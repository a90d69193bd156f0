/*
 * What is on a device, and a file system on it where there is nothing. The rules are kubelet's
 * (mount-utils, SafeFormatAndMount), made stricter: all doubt means "not blank".
 */
#pragma once

#include <stdbool.h>

#include "common/deadline.h"
#include "common/error.h"

struct format_content {
	bool blank;	 /* no signature, no partition table, and it could all be read */
	bool filesystem; /* the signature is one's; not swap's, LUKS's, LVM's ... */
	char type[32];	 /* the file system's or another signature's, "" without one */
	char table[32];	 /* the partition table's, "" without one */
};

struct format_request {
	const char *device;
	const char *fs_type; /* NULL: what is found, VOLUME_FS_DEFAULT if nothing is */
	bool read_only;
	bool mounted; /* somewhere already, so it is not checked again */
	struct timespec deadline;
	int lock_fd; /* stays held as long as mkfs or fsck runs, whatever becomes of the caller */
};

/* Looks at superblocks and partition tables through libblkid. */
int format_probe(const char *device, struct format_content *ret, struct error *err) warn_unused;

/*
 * Leaves a checked file system of the requested type on the device. Writes nothing to a device that
 * is to be read only, or that holds anything but that file system.
 * *ret_type: its type, 32 bytes. @note: something worth telling although all is well, or "".
 */
int format_prepare(const struct format_request *request, char ret_type[32], struct error *note,
		   struct error *err) warn_unused;
