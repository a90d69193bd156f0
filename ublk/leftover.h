/* Devices in the kernel whose server has died. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "core/frontend.h"

/* The frontend's ops of these names, see core/frontend.h. Of a mark, the driver keeps the owner. */
bool ublk_orphan(int number);
int ublk_look(int number, const struct frontend_mark *mark, struct error *err);
int ublk_discard(int number, const struct frontend_mark *mark, struct error *err);
void ublk_discard_unstarted(uint64_t owner);
