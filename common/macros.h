/* Small compile-time helpers that every folder may use. */
#pragma once

#include <stddef.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)     ((a) < (b) ? (a) : (b))
#define MAX(a, b)     ((a) > (b) ? (a) : (b))

/* The structure that holds @ptr as its member @member. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define warn_unused	       __attribute__((warn_unused_result))
#define unused		       __attribute__((unused))
