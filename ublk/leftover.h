/* Devices in the kernel whose server has died. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

/* The frontend's ops of these names; ublk has no name to tell by. */
bool ublk_orphan(int number);
bool ublk_present(int number, const char *name);
int ublk_discard(int number, const char *name, struct error *err);
void ublk_discard_unstarted(uint64_t owner);
