/* What passes between ublk's words and ours: parameters, requests, results. */
#include <errno.h>

#include "tests/unit/cmocka-all.h"
#include "ublk/params.h"
#include "ublk/translate.h"

#define KIB 1024u
#define MIB (1024u * KIB)

static struct image_info rbd_like(void)
{
	return (struct image_info){
		.size = 1ull << 30,
		.block_size = 512,
		.physical_block_size = 4096,
		.minimum_io = 64 * KIB,
		.optimal_io = 4 * MIB,
		.discard_granularity = 64 * KIB,
		.max_discard = 1ull << 31,
		.max_write_zeroes = 1ull << 31,
	};
}

static void params_tell_the_geometry(void **state)
{
	struct image_info info = rbd_like();
	struct ublk_params params;

	ublk_params_fill(&info, MIB, &params);
	assert_int_equal(params.len, sizeof(params));
	assert_int_equal(params.types, UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD);
	assert_int_equal(params.basic.attrs, 0);
	assert_int_equal(params.basic.logical_bs_shift, 9);
	assert_int_equal(params.basic.physical_bs_shift, 12);
	assert_int_equal(params.basic.io_min_shift, 16);
	assert_int_equal(params.basic.io_opt_shift, 22);
	assert_int_equal(params.basic.max_sectors, 2048);
	assert_int_equal(params.basic.dev_sectors, 2 * MIB);
	assert_int_equal(params.discard.discard_granularity, 64 * KIB);
	assert_int_equal(params.discard.max_discard_sectors, 4 * MIB);
	assert_int_equal(params.discard.max_write_zeroes_sectors, 4 * MIB);
	assert_int_equal(params.discard.max_discard_segments, 1);
}

static void params_tell_of_a_cache_and_of_read_only(void **state)
{
	struct image_info info = rbd_like();
	struct ublk_params params;

	info.volatile_cache = true;
	ublk_params_fill(&info, MIB, &params);
	assert_int_equal(params.basic.attrs, UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA);
	info.read_only = true;
	info.volatile_cache = false;
	ublk_params_fill(&info, MIB, &params);
	assert_int_equal(params.basic.attrs, UBLK_ATTR_READ_ONLY);
	assert_int_equal(params.types, UBLK_PARAM_TYPE_BASIC);
}

static void params_stay_within_the_kernels_rules(void **state)
{
	struct image_info info = rbd_like();
	struct ublk_params params;

	info.optimal_io = 0;
	info.minimum_io = 0;
	info.physical_block_size = 0;
	info.discard_granularity = 0;
	info.max_write_zeroes = UINT64_MAX;
	ublk_params_fill(&info, MIB, &params);
	assert_int_equal(params.basic.io_opt_shift, 0);
	assert_int_equal(params.basic.physical_bs_shift, 9);
	assert_int_equal(params.basic.io_min_shift, 9);
	assert_int_equal(params.types, UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD);
	assert_int_equal(params.discard.discard_granularity, 512);
	assert_int_equal(params.discard.max_discard_sectors, 0);
	assert_int_equal(params.discard.max_write_zeroes_sectors, UINT32_MAX);
	info.optimal_io = 12 * MIB; /* no power of two: the largest one that divides it */
	ublk_params_fill(&info, MIB, &params);
	assert_int_equal(params.basic.io_opt_shift, 22);
}

static void requests_bear_sectors_as_bytes(void **state)
{
	const struct ublksrv_io_desc desc = {
		.op_flags = UBLK_IO_OP_WRITE | UBLK_IO_F_FUA | UBLK_IO_F_META,
		.start_sector = 1ull << 40,
		.nr_sectors = 8,
	};
	struct request request = { .length = 1 };

	assert_int_equal(ublk_request_from(&desc, MIB, &request), 0);
	assert_int_equal(request.op, REQUEST_WRITE);
	assert_int_equal(request.flags, REQUEST_FUA);
	assert_int_equal(request.offset, 1ull << 49);
	assert_int_equal(request.length, 4096);
}

static void requests_of_every_op(void **state)
{
	static const struct {
		unsigned op;
		enum request_op expected;
	} known[] = {
		{ UBLK_IO_OP_READ, REQUEST_READ },
		{ UBLK_IO_OP_WRITE, REQUEST_WRITE },
		{ UBLK_IO_OP_DISCARD, REQUEST_DISCARD },
		{ UBLK_IO_OP_WRITE_ZEROES | UBLK_IO_F_NOUNMAP, REQUEST_WRITE_ZEROES },
		{ UBLK_IO_OP_FLUSH, REQUEST_FLUSH },
	};
	struct request request;

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		struct ublksrv_io_desc desc = { .op_flags = known[i].op, .nr_sectors = 1 };

		assert_int_equal(ublk_request_from(&desc, MIB, &request), 0);
		assert_int_equal(request.op, known[i].expected);
		assert_int_equal(request.flags == REQUEST_NOUNMAP,
				 known[i].expected == REQUEST_WRITE_ZEROES);
		assert_int_equal(request.length, known[i].expected == REQUEST_FLUSH ? 0 : 512);
	}
	for (unsigned op = 0; op < 256; op++) {
		struct ublksrv_io_desc desc = { .op_flags = op, .nr_sectors = 1 };
		bool zone_or_unknown = op == UBLK_IO_OP_WRITE_SAME || op > UBLK_IO_OP_WRITE_ZEROES;

		assert_int_equal(ublk_request_from(&desc, MIB, &request),
				 zone_or_unknown ? -EOPNOTSUPP : 0);
	}
}

static void requests_larger_than_their_buffer_are_refused(void **state)
{
	struct ublksrv_io_desc desc = { .op_flags = UBLK_IO_OP_READ, .nr_sectors = 2049 };
	struct request request;

	assert_int_equal(ublk_request_from(&desc, MIB, &request), -EINVAL);
	desc.op_flags = UBLK_IO_OP_DISCARD;
	assert_int_equal(ublk_request_from(&desc, MIB, &request), 0);
}

static void results_are_bytes_or_negative_errnos(void **state)
{
	struct request request = { .op = REQUEST_READ, .length = 65536 };

	assert_int_equal(ublk_result_of(&request), 65536);
	request.op = REQUEST_WRITE;
	assert_int_equal(ublk_result_of(&request), 65536);
	request.op = REQUEST_DISCARD;
	assert_int_equal(ublk_result_of(&request), 0);
	for (enum request_op op = REQUEST_READ; op < REQUEST_OPS; op++) {
		request.op = op;
		for (request.result = -1; request.result >= -133; request.result--)
			assert_int_equal(ublk_result_of(&request), request.result);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(params_tell_the_geometry),
		cmocka_unit_test(params_tell_of_a_cache_and_of_read_only),
		cmocka_unit_test(params_stay_within_the_kernels_rules),
		cmocka_unit_test(requests_bear_sectors_as_bytes),
		cmocka_unit_test(requests_of_every_op),
		cmocka_unit_test(requests_larger_than_their_buffer_are_refused),
		cmocka_unit_test(results_are_bytes_or_negative_errnos),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
