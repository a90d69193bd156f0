/* One control connection: reads calls, has them carried out, answers. */
#pragma once

#include <jansson.h>

#include "common/error.h"

struct reporter;

/*
 * Serves @fd (blocking; the caller closes it) on the calling thread until the peer closes, breaks
 * the framing, stays idle too long or does not take its answers.
 */
void connection_serve(int fd,
		      int (*call)(void *data, const struct reporter *reporter, const char *method,
				  json_t *params, json_t **ret_result, struct error *err),
		      void *data);
