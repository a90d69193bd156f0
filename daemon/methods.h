/* The methods of the control protocol, carried out on the device table. */
#pragma once

#include <jansson.h>

#include "common/error.h"

struct devices;
struct exports;
struct queues;
struct reporter;

struct methods {
	struct devices *devices;
	struct exports *exports;
	struct queues *queues;
};

/*
 * For server_config.call; @data is a struct methods. On the thread of the connection, which it may
 * block. *ret_result is the caller's. 0, or a negative errno with a sentence.
 */
int methods_call(void *data, const struct reporter *reporter, const char *method, json_t *params,
		 json_t **ret_result, struct error *err);
