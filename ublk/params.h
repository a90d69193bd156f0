/* What an image announces of itself, in the words of ublk's SET_PARAMS. */
#pragma once

#include "core/image.h"
#include "ublk/abi.h"

/* @max_io: bytes that one read or write may carry. */
void ublk_params_fill(const struct image_info *info, uint32_t max_io, struct ublk_params *ret);
