/*
 * What the plugin has to know later and cannot learn from the kernel: which image a target
 * directory belongs to, and which directories it made itself. One small JSON file a record,
 * readable by root alone, written whole (temporary file, fsync, rename). Keys are never in them. A
 * record says what was begun: it is written before the deed and removed after the deed is undone;
 * what of it is true is asked of mountinfo.
 *
 * Records lie in DIRECTORY/images and DIRECTORY/targets under the digest of their key. Callers hold
 * the image's lock while they write.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/cleanup.h"
#include "common/error.h"

/* An image on this node: mapped, and mounted at its global directory. Key: the identity. */
struct image_record {
	char *identity; /* volume_spec_identity() */
	char *name;	/* volume_spec_name() */
	char *pool, *namespace, *image;
	char *global; /* the global mount's directory */
	char *made;   /* the first directory on the way there that was made for it, or NULL */
	char *device; /* NULL until it is mapped */
	bool read_only;
	bool foreign; /* the device, or one of an image of that name, was there before: it stays */
};

/* A pod's directory. Key: its canonical path. */
struct target_record {
	char *target;
	char *identity, *name;
	char *made;
	bool read_only;
};

void image_record_deinit(struct image_record *record);
void target_record_deinit(struct target_record *record);

static inline void cleanup_image_record_fn(struct image_record *record)
{
	image_record_deinit(record);
}

static inline void cleanup_target_record_fn(struct target_record *record)
{
	target_record_deinit(record);
}

#define cleanup_image_record  cleanup(cleanup_image_record_fn)
#define cleanup_target_record cleanup(cleanup_target_record_fn)

/* Makes the directories, for root alone. */
int records_open(const char *directory, struct error *err) warn_unused;

/* Each load fills an empty record. -ENOENT: there is none (the sentence is of no use). */
int image_record_load(const char *directory, const char *identity, struct image_record *ret,
		      struct error *err) warn_unused;
int image_record_save(const char *directory, const struct image_record *record,
		      struct error *err) warn_unused;
int image_record_remove(const char *directory, const char *identity, struct error *err) warn_unused;

int target_record_load(const char *directory, const char *target, struct target_record *ret,
		       struct error *err) warn_unused;
int target_record_save(const char *directory, const struct target_record *record,
		       struct error *err) warn_unused;
int target_record_remove(const char *directory, const char *target, struct error *err) warn_unused;

/*
 * The first image record for which @match says true. -ENOENT: none. Records that cannot be read are
 * passed over.
 */
int image_record_find(const char *directory,
		      bool (*match)(const struct image_record *record, const void *data),
		      const void *data, struct image_record *ret, struct error *err) warn_unused;
