/*
 * Where kubelet keeps volumes (pkg/volume/rbd, pkg/volume/flexvolume). K is its root directory,
 * /var/lib/kubelet by default.
 */
#pragma once

#include "common/error.h"
#include "plugin/spec.h"

/*
 * FlexVolume: from K/pods/UID/volumes/VENDOR~DRIVER/NAME to
 * K/plugins/kubernetes.io/flexvolume/VENDOR/DRIVER/mounts/POOL-image-IMAGE-DIGEST. The digest is
 * the identity's: names of volumes and even of images are not unique on a node.
 */
int path_flex_global(const char *target, const struct volume_spec *spec, char **ret,
		     struct error *err) warn_unused;

/*
 * The former in-tree plugin: K/plugins/kubernetes.io/rbd/mounts/POOL-image-IMAGE, or its elder
 * K/plugins/kubernetes.io/rbd/rbd/POOL-image-IMAGE where that exists.
 */
int path_rbd_global(const char *root, const struct volume_spec *spec, char **ret,
		    struct error *err) warn_unused;

/* K/pods/UID/volumes/kubernetes.io~rbd/NAME */
int path_rbd_target(const char *root, const char *uid, const char *name, char **ret,
		    struct error *err) warn_unused;
