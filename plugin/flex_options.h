/*
 * The JSON that kubelet hands to a FlexVolume driver: one flat object of strings, the user's
 * options and kubelet's own under "kubernetes.io/" (pkg/volume/flexvolume/driver-call.go).
 */
#pragma once

#include "common/error.h"
#include "plugin/spec.h"

#define FLEX_OPTIONS_MAX (128 * 1024) /* bytes; Linux passes no longer argument */

/* Fills an empty @spec; finished, with the key where there was a Secret. -EINVAL: wrong options. */
int flex_options_parse(const char *text, struct volume_spec *spec, struct error *err) warn_unused;
