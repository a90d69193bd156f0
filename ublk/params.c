#include "ublk/params.h"

#include "common/macros.h"

#define SECTOR_SHIFT 9

/* The largest power of two that divides @bytes, as its exponent; at least @floor. */
static uint8_t shift_of(uint32_t bytes, uint8_t floor)
{
	uint8_t shift = bytes ? (uint8_t)__builtin_ctz(bytes) : 0;

	return MAX(shift, floor);
}

/* Sectors of the driver's 32-bit fields, whole multiples of @granularity bytes. */
static uint32_t sectors_of(uint64_t bytes, uint32_t granularity)
{
	uint64_t limit = (uint64_t)UINT32_MAX << SECTOR_SHIFT;

	bytes = MIN(bytes, limit);
	return (uint32_t)((bytes - bytes % granularity) >> SECTOR_SHIFT);
}

static uint32_t attrs_of(const struct image_info *info)
{
	uint32_t attrs = 0;

	if (info->read_only)
		attrs |= UBLK_ATTR_READ_ONLY;
	/* Without a volatile cache the kernel sends neither flushes nor FUA: there is no need. */
	if (info->volatile_cache)
		attrs |= UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA;
	return attrs;
}

static void fill_basic(const struct image_info *info, uint32_t max_io,
		       struct ublk_param_basic *basic)
{
	uint8_t logical = shift_of(info->block_size, SECTOR_SHIFT);
	uint8_t physical = shift_of(info->physical_block_size, logical);
	uint8_t minimum = shift_of(info->minimum_io, physical);

	*basic = (struct ublk_param_basic){
		.attrs = attrs_of(info),
		.logical_bs_shift = logical,
		.physical_bs_shift = physical,
		.io_min_shift = minimum,
		/* 0 says 1 byte, which the kernel rounds down to "none". */
		.io_opt_shift = info->optimal_io ? shift_of(info->optimal_io, minimum) : 0,
		.max_sectors = max_io >> SECTOR_SHIFT,
		.dev_sectors = info->size >> SECTOR_SHIFT,
	};
}

/*
 * The limit for write-zeroes lives in the discard structure, which the kernel takes only with a
 * granularity and (if it may discard) with one segment.
 */
static void fill_discard(const struct image_info *info, struct ublk_param_discard *discard)
{
	uint32_t granularity = MAX(info->discard_granularity, info->block_size);

	*discard = (struct ublk_param_discard){
		.discard_granularity = granularity,
		.max_write_zeroes_sectors = sectors_of(info->max_write_zeroes, info->block_size),
		.max_discard_segments = 1,
	};
	if (info->discard_granularity)
		discard->max_discard_sectors = sectors_of(info->max_discard, granularity);
}

void ublk_params_fill(const struct image_info *info, uint32_t max_io, struct ublk_params *ret)
{
	*ret = (struct ublk_params){ .len = sizeof(*ret), .types = UBLK_PARAM_TYPE_BASIC };
	fill_basic(info, max_io, &ret->basic);
	if (info->read_only || (!info->discard_granularity && !info->max_write_zeroes))
		return;
	ret->types |= UBLK_PARAM_TYPE_DISCARD;
	fill_discard(info, &ret->discard);
}
