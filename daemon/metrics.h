/*
 * The figures for Prometheus: GET /metrics over HTTP, at an address of its own.
 *
 * One thread serves all clients and nothing else waits for it. Requests, clients and their time are
 * bounded: a client that is slow loses its place to those that come later.
 */
#pragma once

#include "common/error.h"
#include "common/macros.h"

struct devices;
struct exports;
struct metrics;

/* Listens at "unix:PATH" (mode 0600), "HOST:PORT" or "[ADDRESS]:PORT", and starts the thread. */
int metrics_start(const char *address, struct devices *devices, struct exports *exports,
		  struct metrics **ret, struct error *err) warn_unused;

/* Ends the thread and cuts clients off; devices and exports are still there. NULL is allowed. */
void metrics_stop(struct metrics *metrics);
