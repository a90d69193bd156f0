/*
 * An image that wraps another one and goes wrong by rule, for tests.
 *
 *	rules  = rule *( ";" rule )
 *	rule   = op [ "@" OFFSET "+" LENGTH ] "=" action [ "*" COUNT ]
 *	op     = "any" | "read" | "write" | "flush" | "discard" | "write-zeroes" | "extents"
 *	       | "close"                   of the image; takes a delay, nothing else
 *	action = ERRNO                     fails at once, the storage never sees the request
 *	       | "delay:" MS [ ":" ERRNO ] waits MS milliseconds, then passes it on, or fails
 *	       | "torn:" BYTES ":" ERRNO   passes the first BYTES (a multiple of 512) on, then fails
 *
 * ERRNO is a name such as ENOSPC. OFFSET, LENGTH and BYTES take the suffixes K, M, G. A rule with a
 * range applies to the requests that touch it; a rule with a COUNT applies COUNT times, then never
 * more. The first rule that applies decides. For example:
 *	write=ENOSPC;read@0+4K=EIO;flush=delay:200;any=torn:4096:EIO*3
 */
#pragma once

#include "core/image.h"

#define FAULT_RULES_MAX 16

/*
 * Takes @inner over on success only; closing the wrapper closes it. 0, or -EINVAL or -ENOMEM with a
 * sentence. Any thread.
 */
int fault_image_wrap(struct image *inner, const char *rules, struct image **ret, struct error *err);
