/*
 * Whether the members of a record are what record writers put there: what hands or disks have done
 * to the file shall not reach those who use it. Any thread.
 */
#pragma once

#include <jansson.h>

#include "common/error.h"

/* @device as the file's name has it. 0, or -EINVAL and words that go on after "The record". */
int record_check(const char *device, json_t *record, struct error *err) warn_unused;
