/* What image/fault adds to an image: every errno arrives as it is, delays delay, torn writes tear.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/fault.h"
#include "tests/conformance/checks.h"

#define LENGTH 16384

static const enum request_op all_ops[] = { REQUEST_READ,    REQUEST_WRITE,	  REQUEST_FLUSH,
					   REQUEST_DISCARD, REQUEST_WRITE_ZEROES, REQUEST_EXTENTS };

static void wrap(struct test *test, const char *rules)
{
	struct error err = ERROR_NONE;

	if (fault_image_wrap(test->image, rules, &test->image, &err) == 0)
		return;
	fprintf(stderr, "%s\n", err.text);
	exit(2);
}

static void reopen(struct test *test)
{
	expect(image_close(test->image) == 0, "closing failed");
	test->image = test->open(test, false);
}

static int do_op(struct test *test, enum request_op op, uint64_t offset)
{
	struct extent run;
	struct extents extents = { .max = 1, .list = &run };

	if (op == REQUEST_FLUSH)
		return do_io(test, op, 0, 0, 0, NULL);
	return do_io(test, op, 0, offset, LENGTH,
		     op == REQUEST_EXTENTS ? (void *)&extents : test->buffer);
}

static void expect_op(struct test *test, enum request_op op, uint64_t offset, int code)
{
	int r = do_op(test, op, offset);

	expect(r == code, "%s at %" PRIu64 " gave %s, not %s", request_op_name(op), offset,
	       errno_name(r), errno_name(code));
}

static void every_errno_arrives_unchanged(struct test *test)
{
	static const int codes[] = { EIO,	EPERM,	   ENOENT,     ENXIO,	  EAGAIN,
				     ENOMEM,	EACCES,	   EBUSY,      ENODEV,	  EINVAL,
				     EFBIG,	ENOSPC,	   EROFS,      EDQUOT,	  EOPNOTSUPP,
				     ETIMEDOUT, ESHUTDOWN, ECONNRESET, EREMOTEIO, EILSEQ,
				     EBADE,	ENOLINK,   ECANCELED,  ENODATA,	  EINTR };
	char rules[64];

	for (unsigned c = 0; c < ARRAY_SIZE(codes); c++)
		for (unsigned o = 0; o < ARRAY_SIZE(all_ops); o++) {
			snprintf(rules, sizeof(rules), "%s=%s", request_op_name(all_ops[o]),
				 errno_name(codes[c]));
			wrap(test, rules);
			expect_op(test, all_ops[o], 0, -codes[c]);
			reopen(test);
		}
}

static void other_operations_pass(struct test *test)
{
	char rules[64];

	for (unsigned bad = 0; bad < ARRAY_SIZE(all_ops); bad++) {
		snprintf(rules, sizeof(rules), "%s=EIO", request_op_name(all_ops[bad]));
		wrap(test, rules);
		for (unsigned o = 0; o < ARRAY_SIZE(all_ops); o++)
			expect_op(test, all_ops[o], 0, o == bad ? -EIO : 0);
		reopen(test);
	}
}

static void failed_writes_leave_no_trace(struct test *test)
{
	fill(test->buffer, LENGTH, 5);
	must_io(test, REQUEST_WRITE, 0, 0, LENGTH, test->buffer);
	wrap(test, "write=ENOSPC;write-zeroes=EIO;discard=EPERM");
	fill(test->other, LENGTH, 6);
	expect(do_io(test, REQUEST_WRITE, 0, 0, LENGTH, test->other) == -ENOSPC, "write");
	expect_op(test, REQUEST_WRITE_ZEROES, 0, -EIO);
	expect_op(test, REQUEST_DISCARD, 0, -EPERM);
	expect_data(test, 0, LENGTH, test->buffer, "as before");
	reopen(test);
}

static void ranges_and_counts_bound_a_rule(struct test *test)
{
	wrap(test, "read@64K+4K=EIO;write=ENOSPC*2;any@1M+512=EPERM");
	expect_op(test, REQUEST_READ, 0, 0);
	expect_op(test, REQUEST_READ, 65536 - LENGTH, 0);
	expect_op(test, REQUEST_READ, 65536 - LENGTH + 512, -EIO);
	expect_op(test, REQUEST_READ, 65536 + 4096 - 512, -EIO);
	expect_op(test, REQUEST_READ, 65536 + 4096, 0);
	expect_op(test, REQUEST_WRITE, 0, -ENOSPC);
	expect_op(test, REQUEST_WRITE, 0, -ENOSPC);
	expect_op(test, REQUEST_WRITE, 0, 0);
	expect_op(test, REQUEST_DISCARD, 1 << 20, -EPERM);
	expect_op(test, REQUEST_FLUSH, 0, 0);
	reopen(test);
}

static double timed_op(struct test *test, enum request_op op, int code)
{
	struct timespec start = monotonic_now();

	expect_op(test, op, 0, code);
	return seconds_since(&start);
}

static void delays_delay(struct test *test)
{
	fill(test->buffer, LENGTH, 8);
	wrap(test, "flush=delay:150*1;write=delay:100*1;read=delay:120:ETIMEDOUT*1");
	expect(timed_op(test, REQUEST_FLUSH, 0) >= 0.15, "the flush came early");
	expect(timed_op(test, REQUEST_WRITE, 0) >= 0.1, "the write came early");
	expect(timed_op(test, REQUEST_READ, -ETIMEDOUT) >= 0.12, "the read came early");
	expect_data(test, 0, LENGTH, test->buffer, "written late");
	reopen(test);
}

static void torn_writes_keep_their_first_part(struct test *test)
{
	fill(test->buffer, LENGTH, 10);
	must_io(test, REQUEST_WRITE, 0, 0, LENGTH, test->buffer);
	wrap(test, "write=torn:4096:EIO*1;write=torn:0:ENOSPC*1;write=torn:1M:EDQUOT*1");
	fill(test->other, LENGTH, 11);
	memcpy(test->buffer, test->other, 4096);
	expect(do_io(test, REQUEST_WRITE, 0, 0, LENGTH, test->other) == -EIO, "torn");
	expect_data(test, 0, LENGTH, test->buffer, "torn");
	fill(test->other, LENGTH, 12);
	expect(do_io(test, REQUEST_WRITE, 0, 0, LENGTH, test->other) == -ENOSPC, "torn at once");
	expect_data(test, 0, LENGTH, test->buffer, "torn at once");
	fill(test->buffer, LENGTH, 13);
	expect(do_io(test, REQUEST_WRITE, 0, 0, LENGTH, test->buffer) == -EDQUOT, "torn late");
	expect_data(test, 0, LENGTH, test->buffer, "torn late");
	reopen(test);
}

/* A wrapper without an effect leaves the contract as it is. */
static void a_quiet_wrapper_changes_nothing(struct test *test)
{
	wrap(test, "any=delay:1*50;read@0+512=delay:0");
	for (const struct check *check = mix_checks; check->name; check++)
		check->run(test);
	reopen(test);
}

const struct check fault_checks[] = {
	{ "every errno arrives unchanged", every_errno_arrives_unchanged },
	{ "other operations pass", other_operations_pass },
	{ "failed writes leave no trace", failed_writes_leave_no_trace },
	{ "ranges and counts bound a rule", ranges_and_counts_bound_a_rule },
	{ "delays delay", delays_delay },
	{ "torn writes keep their first part", torn_writes_keep_their_first_part },
	{ "a quiet wrapper changes nothing", a_quiet_wrapper_changes_nothing },
	{ NULL, NULL },
};
