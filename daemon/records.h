/*
 * The record of a device: what a later daemon must know to take it back, or to tell what it was.
 *
 * One JSON file a device in the state directory (mode 0700, files 0600: a record may hold a key).
 * Written before the frontend starts, through a temporary file, fsync and rename; removed when the
 * device is gone. The kernel gives numbers out again, so a record also says whose it is: `run`, a
 * number drawn by each daemon, and `serial`, which no two records of a daemon share. `version` is
 * RECORD_VERSION, and `boot` the kernel's boot id: the devices of another boot are gone.
 *
 * Any thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define RECORD_VERSION 2

struct records;

/* Makes the directory, or takes one that is this user's alone, and locks it against another daemon.
 * The lock lives as long as @ret.
 */
int records_open(const char *directory, struct records **ret, struct error *err) warn_unused;

/* NULL is allowed. */
void records_close(struct records *records);

/* Marks the devices of the directory's daemons: what no other directory of this boot has. */
uint64_t records_owner(const struct records *records);

/*
 * @device is the device's path: "/dev/ublkb0" becomes ublkb0.json. Adds `version`, `boot`, `run`
 * and `serial` to @record; *ret_serial is what record_remove() wants, and never 0.
 */
int record_write(struct records *records, const char *device, json_t *record,
		 unsigned long long *ret_serial, struct error *err) warn_unused;

/* Does nothing where the device has another record by now, or none. */
void record_remove(struct records *records, const char *device, unsigned long long serial);

/* A new reference to the record of a device that an earlier daemon wrote, or NULL. */
json_t *record_of_earlier(struct records *records, const char *device) warn_unused;

/* Removes what record_of_earlier() would return. */
void record_forget(struct records *records, const char *device);

/* Whether this daemon can read @record, and it is of this boot; else *ret_why says what it is. */
bool record_is_usable(const struct records *records, const json_t *record,
		      const char **ret_why) warn_unused;

/* Renames it, so that it is looked at by nobody but people: *.json becomes *.json.aside. */
void record_set_aside(struct records *records, const char *device);

/* At start, before any is written. Calls visit(name, record, data) for each record that lies in the
 * directory; NULL where a file is no JSON. */
int records_visit(struct records *records,
		  void (*visit)(const char *device, json_t *record, void *data), void *data);
