/* Parsers of the small values that command lines and JSON bring. Nothing is written on failure. */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/macros.h"

/* A whole decimal number between @min and @max. 0, or -EINVAL (no number), -ERANGE. */
int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret) warn_unused;

/* As parse_u64, for an unsigned. */
int parse_unsigned(const char *text, unsigned min, unsigned max, unsigned *ret) warn_unused;

/* Bytes: a number with an optional suffix K, M, G, T (powers of 1024; "KiB", "MB" … mean the same).
 */
int parse_size(const char *text, uint64_t *ret) warn_unused;

/* CPUs by number: "0", "0-3,8". -EINVAL, or -ERANGE beyond CPU_SETSIZE. */
int parse_cpus(const char *text, cpu_set_t *ret) warn_unused;
