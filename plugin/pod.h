/*
 * Pods and Secrets as files, for the life without Kubernetes: `volumes[].rbd` of a pod (API v1, and
 * v1beta3 of 2015, which agree in all that matters here), and the Secret that it refers to.
 */
#pragma once

#include <jansson.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "plugin/spec.h"

struct pod_volume {
	char *uid;    /* of the pod: metadata.uid, or one derived from its namespace and name */
	char *name;   /* of the volume in the pod */
	char *secret; /* the name in secretRef; NULL: none */
	struct volume_spec spec;
};

void pod_volume_deinit(struct pod_volume *volume);

/*
 * Takes the rbd volume called @name out of a pod; NULL takes the only one there is. *ret is
 * initialised whatever comes; its spec lacks the key and is not finished. @file: for sentences.
 */
int pod_volume_parse(const char *file, const json_t *pod, const char *name, struct pod_volume *ret,
		     struct error *err) warn_unused;

/* Takes the key out of a Secret: data.key, or the only entry of data. Its name must be @name. */
int pod_secret_apply(const char *file, const json_t *secret, const char *name,
		     struct volume_spec *spec, struct error *err) warn_unused;
