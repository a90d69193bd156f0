/*
 * Files with Kubernetes objects, in JSON or YAML. YAML is read by libyaml and becomes the JSON that
 * it stands for, as far as Kubernetes objects need it: one document, mappings with text keys; a
 * plain scalar true, false or null is that, every other one is a string. Aliases are refused.
 */
#pragma once

#include <jansson.h>

#include "common/error.h"

#define DOCUMENT_MAX	   (1024 * 1024) /* bytes */
#define DOCUMENT_DEPTH_MAX 32

/* *ret: an object, a new reference. The sentence names @path, and quotes nothing out of the file.
 */
int document_read(const char *path, json_t **ret, struct error *err) warn_unused;

/* The same from memory; @name stands for the path in sentences. */
int document_parse(const char *name, const char *text, size_t length, json_t **ret,
		   struct error *err) warn_unused;
