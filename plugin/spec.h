/*
 * What a volume is: the fields of the `rbd` volume that Kubernetes had in its tree, with their
 * names and defaults (its API's RBDVolumeSource), and three more: namespace, mapOptions,
 * mountOptions.
 *
 * A spec is filled field by field, from whatever brought it, through volume_spec_set(), and is good
 * only after volume_spec_finish(). One thread at a time.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/cleanup.h"
#include "common/error.h"

#define VOLUME_POOL_DEFAULT    "rbd"
#define VOLUME_USER_DEFAULT    "admin"
#define VOLUME_KEYRING_DEFAULT "/etc/ceph/keyring"
#define VOLUME_FS_DEFAULT      "ext4"

struct volume_spec {
	char *monitors; /* each once, sorted, joined by commas: one cluster, one text */
	char *pool;
	char *namespace; /* NULL: the pool's default namespace */
	char *image;
	char *user;	     /* without "client." */
	char *keyring;	     /* a path; used only without a key */
	char *key;	     /* secret; NULL without one. Enters no record, log, error or argv */
	char *fs_type;	     /* NULL: whatever is found, VOLUME_FS_DEFAULT on a blank image */
	char *mount_options; /* comma-separated, for the global mount; NULL: none */
	json_t *map_options; /* an object of strings for urbdd; NULL: none */
	bool read_only;
};

#define VOLUME_SPEC_NONE ((struct volume_spec){ 0 })

void volume_spec_deinit(struct volume_spec *spec);

static inline void cleanup_volume_spec_fn(struct volume_spec *spec)
{
	volume_spec_deinit(spec);
}

#define cleanup_volume_spec cleanup(cleanup_volume_spec_fn)

/*
 * Sets the field called @name from @value; an empty value stands for a field that was not given.
 * -ENOENT: there is no such field, and the sentence says which there are. -EINVAL: a value that
 * cannot be. The key is no field: see volume_spec_set_key().
 */
int volume_spec_set(struct volume_spec *spec, const char *name, const char *value,
		    struct error *err) warn_unused;

/* @text: a key as a Secret holds it, decoded; white space around it is dropped. */
int volume_spec_set_key(struct volume_spec *spec, const char *text, size_t length,
			struct error *err) warn_unused;

/* @base64: a value of a Secret's data. @name: its key there, for the sentence. */
int volume_spec_set_secret(struct volume_spec *spec, const char *name, const char *base64,
			   struct error *err) warn_unused;

/* Puts in the defaults, and misses fields by name. */
int volume_spec_finish(struct volume_spec *spec, struct error *err) warn_unused;

/* "POOL/IMAGE" or "POOL/NAMESPACE/IMAGE", for people. NULL: no memory. */
char *volume_spec_name(const struct volume_spec *spec) warn_unused;

/* What makes two specs one volume on a node: monitors, pool, namespace, image. NULL: no memory. */
char *volume_spec_identity(const struct volume_spec *spec) warn_unused;
