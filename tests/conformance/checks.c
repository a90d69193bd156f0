/* The contract of core/image.h, request by request. */
#include "tests/conformance/checks.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define MIB 1048576ull

static uint64_t size_of(const struct test *test)
{
	return atomic_load(&test->image->info.size);
}

static void info_makes_sense(struct test *test)
{
	const struct image_info *info = &test->image->info;

	expect(info->block_size == 512 || info->block_size == 4096, "block size %u",
	       info->block_size);
	expect(size_of(test) > 0 && size_of(test) % info->block_size == 0, "size %" PRIu64,
	       size_of(test));
	expect(info->physical_block_size >= info->block_size, "physical block size %u",
	       info->physical_block_size);
	expect(!info->discard_granularity || info->max_discard >= info->discard_granularity,
	       "discards of at most %" PRIu64, info->max_discard);
	expect(!info->read_only, "read-only");
	expect(test->image->ops->name && *test->image->ops->name, "no name");
}

static void refused(struct test *test, enum request_op op, uint64_t offset, uint64_t length,
		    int code)
{
	struct extent run;
	struct extents extents = { .max = 1, .list = &run };
	int r = do_io(test, op, 0, offset, length,
		      op == REQUEST_EXTENTS ? (void *)&extents : test->buffer);

	expect(r == code, "%s of %" PRIu64 " at %" PRIu64 " gave %s, not %s", request_op_name(op),
	       length, offset, errno_name(r), errno_name(code));
}

static void wrong_requests_are_refused(struct test *test)
{
	uint64_t size = size_of(test), block = test->image->info.block_size;
	static const struct {
		enum request_op op;
		int beyond;
	} ops[] = {
		{ REQUEST_READ, -EINVAL },    { REQUEST_WRITE, -ENOSPC },
		{ REQUEST_DISCARD, -ENOSPC }, { REQUEST_WRITE_ZEROES, -ENOSPC },
		{ REQUEST_EXTENTS, -EINVAL },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		refused(test, ops[i].op, 0, 0, -EINVAL);
		refused(test, ops[i].op, 1, block, -EINVAL);
		refused(test, ops[i].op, 0, block - 1, -EINVAL);
		refused(test, ops[i].op, size, block, ops[i].beyond);
		refused(test, ops[i].op, size - block, 2 * block, ops[i].beyond);
		refused(test, ops[i].op, -block, block, ops[i].beyond);
		refused(test, ops[i].op, -2 * block, 4 * block, ops[i].beyond);
	}
}

static void the_ends_can_be_used(struct test *test)
{
	uint64_t size = size_of(test), block = test->image->info.block_size;

	fill(test->buffer, block, 1);
	must_io(test, REQUEST_WRITE, 0, 0, block, test->buffer);
	expect_data(test, 0, block, test->buffer, "first block");
	fill(test->buffer, block, 2);
	must_io(test, REQUEST_WRITE, 0, size - block, block, test->buffer);
	expect_data(test, size - block, block, test->buffer, "last block");
}

/* Around each size and position where something changes: blocks, pages, 64 KiB, objects. */
static void all_sizes_are_read_back(struct test *test)
{
	static const uint64_t sizes[] = { 512,	       4096 - 512, 4096,	 4096 + 512,
					  65536 - 512, 65536,	   65536 + 512,	 MIB - 512,
					  MIB,	       4 * MIB,	   5 * MIB + 512 };
	static const uint64_t offsets[] = { 0, 512, 4096, 65536 + 512, 4 * MIB - 512, 4 * MIB };

	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++)
		for (unsigned o = 0; o < ARRAY_SIZE(offsets); o++) {
			fill(test->buffer, sizes[s], s * 100 + o);
			must_io(test, REQUEST_WRITE, o % 2 ? REQUEST_FUA : 0, offsets[o], sizes[s],
				test->buffer);
			expect_data(test, offsets[o], sizes[s], test->buffer, "written");
		}
}

static void zero_and_look(struct test *test, uint64_t offset, uint64_t length, uint32_t flags)
{
	const uint64_t area = 6 * MIB;

	fill(test->buffer, area, offset + length + flags);
	must_io(test, REQUEST_WRITE, 0, 0, area, test->buffer);
	must_io(test, REQUEST_WRITE_ZEROES, flags, offset, length, NULL);
	memset(test->buffer + offset, 0, length);
	expect_data(test, 0, area, test->buffer, "around zeroes");
}

/* Also what is smaller than the unit in which the storage frees: zeroes are no advice. */
static void zeroes_are_exact(struct test *test)
{
	static const uint64_t lengths[] = { 512, 65536 - 512, 65536, 66560, 4 * MIB, 5 * MIB };
	static const uint64_t offsets[] = { 0, 512, 65536, 65536 - 512 };
	static const uint32_t flags[] = { 0, REQUEST_FUA, REQUEST_NOUNMAP,
					  REQUEST_NOUNMAP | REQUEST_FUA };

	for (unsigned l = 0; l < ARRAY_SIZE(lengths); l++)
		for (unsigned o = 0; o < ARRAY_SIZE(offsets); o++)
			zero_and_look(test, offsets[o], lengths[l], flags[(l + o) % 4]);
}

static void fast_zeroes_are_zeroes_or_refused(struct test *test)
{
	static const uint32_t flags[] = { 0, REQUEST_NOUNMAP, REQUEST_FUA };

	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
		int r;

		fill(test->buffer, MIB, i);
		must_io(test, REQUEST_WRITE, 0, 0, MIB, test->buffer);
		r = do_io(test, REQUEST_WRITE_ZEROES, flags[i] | REQUEST_FAST_ZERO, 0, MIB, NULL);
		expect(r == 0 || r == -EOPNOTSUPP, "fast zeroes gave %s", errno_name(r));
		if (r == 0)
			expect_zeroes(test, 0, MIB, "fast zeroes");
		else
			expect_data(test, 0, MIB, test->buffer, "refused fast zeroes");
	}
}

static void discard_and_look(struct test *test, uint64_t offset, uint64_t length)
{
	const uint64_t area = 6 * MIB;
	uint64_t i;

	fill(test->buffer, area, offset + length);
	must_io(test, REQUEST_WRITE, 0, 0, area, test->buffer);
	must_io(test, REQUEST_DISCARD, 0, offset, length, NULL);
	must_io(test, REQUEST_READ, 0, 0, area, test->other);
	for (i = 0; i < area && !test->forgets; i++) {
		bool inside = i >= offset && i < offset + length;

		if (test->other[i] != test->buffer[i] && !(inside && test->other[i] == 0))
			break;
	}
	expect(i == area || test->forgets,
	       "discard of %" PRIu64 " at %" PRIu64 " changed the byte at %" PRIu64, length, offset,
	       i);
}

static void discards_touch_nothing_else(struct test *test)
{
	static const uint64_t lengths[] = { 512, 65536 - 512, 65536, 3 * 65536 + 512, 4 * MIB };
	static const uint64_t offsets[] = { 0, 512, 65536, 65536 - 512 };

	for (unsigned l = 0; l < ARRAY_SIZE(lengths); l++)
		for (unsigned o = 0; o < ARRAY_SIZE(offsets); o++)
			discard_and_look(test, offsets[o], lengths[l]);
}

/* What the storage frees reads as zeroes, on everything that we know of. */
static void whole_discards_zero(struct test *test)
{
	uint64_t length = MAX(test->image->info.optimal_io, 4 * MIB);

	fill(test->buffer, MIN(length, BUFFER_MAX), 4);
	must_io(test, REQUEST_WRITE, 0, 0, MIN(length, BUFFER_MAX), test->buffer);
	must_io(test, REQUEST_DISCARD, 0, 0, length, NULL);
	expect_zeroes(test, 0, MIN(length, BUFFER_MAX), "discarded");
}

static void flushes_succeed(struct test *test)
{
	must_io(test, REQUEST_FLUSH, 0, 0, 0, NULL);
	fill(test->buffer, 4096, 3);
	must_io(test, REQUEST_WRITE, 0, 8192, 4096, test->buffer);
	must_io(test, REQUEST_FLUSH, 0, 0, 0, NULL);
	expect_data(test, 8192, 4096, test->buffer, "flushed");
}

/* An answer's shape; and what is called a hole must read as zeroes. Returns the bytes told of. */
static uint64_t check_runs(struct test *test, const struct extents *extents, uint64_t offset,
			   uint64_t length)
{
	uint64_t covered = 0;

	expect(extents->count >= 1 && extents->count <= extents->max, "%u runs", extents->count);
	for (unsigned i = 0; i < extents->count; i++) {
		const struct extent *run = &extents->list[i];

		expect(run->length > 0 && run->length % test->image->info.block_size == 0,
		       "a run of %" PRIu64, run->length);
		expect(i == 0 || run->data != extents->list[i - 1].data, "two runs of one kind");
		if (!run->data)
			expect_zeroes(test, offset + covered, MIN(run->length, BUFFER_MAX), "hole");
		covered += run->length;
	}
	expect(covered <= length, "runs of %" PRIu64 " bytes in %" PRIu64, covered, length);
	return covered;
}

/* What @extents, which begin at @start, say of the byte @at; data where they are silent. */
static bool is_data(const struct extents *extents, uint64_t start, uint64_t at)
{
	for (unsigned i = 0; i < extents->count; i++) {
		if (at - start < extents->list[i].length)
			return extents->list[i].data;
		start += extents->list[i].length;
	}
	return true;
}

static void extents_tell_the_truth(struct test *test)
{
	const uint64_t area = 32 * MIB;
	static const uint64_t written[] = { 0, 6 * MIB, 6 * MIB + 65536, 20 * MIB, 31 * MIB };
	static const uint64_t starts[] = { 0, 512, 4 * MIB, 6 * MIB + 65536, 15 * MIB + 512 };
	struct extent list[16];
	struct extents extents = { .max = ARRAY_SIZE(list), .list = list };

	must_io(test, REQUEST_WRITE_ZEROES, 0, 0, area, NULL);
	fill(test->buffer, 4096, 9);
	for (unsigned i = 0; i < ARRAY_SIZE(written); i++)
		must_io(test, REQUEST_WRITE, 0, written[i], 4096, test->buffer);
	for (unsigned s = 0; s < ARRAY_SIZE(starts); s++) {
		extents.max = s % 2 ? ARRAY_SIZE(list) : 1 + s;
		must_io(test, REQUEST_EXTENTS, 0, starts[s], area - starts[s], &extents);
		check_runs(test, &extents, starts[s], area - starts[s]);
		for (unsigned i = 0; i < ARRAY_SIZE(written) && !test->forgets; i++)
			expect(written[i] < starts[s] || is_data(&extents, starts[s], written[i]),
			       "data at %" PRIu64 " is called a hole", written[i]);
	}
	extents.max = ARRAY_SIZE(list);
	must_io(test, REQUEST_EXTENTS, 0, 0, area, &extents);
	expect(check_runs(test, &extents, 0, area) == area, "the answer ends early");
	expect(!test->image->info.extents || extents.count > 1 || test->forgets,
	       "extents tell nothing");
}

static void read_only_images_refuse_writes(struct test *test)
{
	static const enum request_op ops[] = { REQUEST_WRITE, REQUEST_DISCARD,
					       REQUEST_WRITE_ZEROES };

	fill(test->buffer, 4096, 77);
	must_io(test, REQUEST_WRITE, 0, 4096, 4096, test->buffer);
	expect(image_close(test->image) == 0, "closing failed");
	test->image = test->open(test, true);
	expect(test->image->info.read_only, "not read-only");
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
		refused(test, ops[i], 4096, 4096, -EROFS);
	must_io(test, REQUEST_FLUSH, 0, 0, 0, NULL);
	expect_data(test, 4096, 4096, test->buffer, "read-only");
	expect(image_close(test->image) == 0, "closing failed");
	test->image = test->open(test, false);
	expect_data(test, 4096, 4096, test->buffer, "after reopening");
}

const struct check image_checks[] = {
	{ "info makes sense", info_makes_sense },
	{ "wrong requests are refused", wrong_requests_are_refused },
	{ "the ends can be used", the_ends_can_be_used },
	{ "all sizes are read back", all_sizes_are_read_back },
	{ "zeroes are exact", zeroes_are_exact },
	{ "fast zeroes are zeroes, or refused", fast_zeroes_are_zeroes_or_refused },
	{ "discards touch nothing else", discards_touch_nothing_else },
	{ "whole discards zero", whole_discards_zero },
	{ "flushes succeed", flushes_succeed },
	{ "extents tell the truth", extents_tell_the_truth },
	{ "read-only images refuse writes", read_only_images_refuse_writes },
	{ NULL, NULL },
};
