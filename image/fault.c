#include "image/fault.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/parse.h"

#define ANY_OP	     REQUEST_OPS
#define CLOSE_OP     (REQUEST_OPS + 1)
#define DELAY_MAX_MS 3600000
#define TORN_BLOCK   512

enum action { ACTION_FAIL, ACTION_DELAY, ACTION_TORN };

struct rule {
	unsigned op;		 /* enum request_op, ANY_OP or CLOSE_OP */
	uint64_t offset, length; /* bytes; length 0: everywhere */
	enum action action;
	uint64_t amount; /* delay: milliseconds; torn: bytes */
	int result;	 /* negative errno, or 0: pass it on after the delay */
	bool counted;
	_Atomic int64_t left; /* of a counted rule */
};

struct fault_image {
	struct image image;
	struct image *inner;
	unsigned nr_rules;
	struct rule rules[FAULT_RULES_MAX];
};

/* Use of request.scratch while a delay runs; the wrapped image may use it afterwards. */
enum scratch { SCRATCH_FAULT, SCRATCH_RULE, SCRATCH_TIME /* struct __kernel_timespec */ };

static struct fault_image *fault_of(struct image *image)
{
	return container_of(image, struct fault_image, image);
}

/* Choosing a rule. */

static bool rule_covers(const struct rule *rule, const struct request *request)
{
	if (rule->op != ANY_OP && rule->op != request->op)
		return false;
	if (rule->length == 0)
		return true;
	return request->offset < rule->offset + rule->length &&
	       rule->offset < request->offset + request->length;
}

/* Takes one of a counted rule's turns; several queues may ask at once. */
static bool rule_has_turn(struct rule *rule)
{
	int64_t left = atomic_load(&rule->left);

	if (!rule->counted)
		return true;
	while (left > 0)
		if (atomic_compare_exchange_weak(&rule->left, &left, left - 1))
			return true;
	return false;
}

static struct rule *find_rule(struct fault_image *fault, const struct request *request)
{
	for (unsigned i = 0; i < fault->nr_rules; i++)
		if (rule_covers(&fault->rules[i], request) && rule_has_turn(&fault->rules[i]))
			return &fault->rules[i];
	return NULL;
}

/* Delay. */

static void delay_over(struct ring_op *op, int result, uint32_t flags)
{
	struct request *request = container_of(op, struct request, ring_op);
	struct fault_image *fault = (struct fault_image *)request->scratch[SCRATCH_FAULT];
	struct rule *rule = (struct rule *)request->scratch[SCRATCH_RULE];

	if (rule->result < 0)
		request_complete(request, rule->result);
	else
		fault->inner->ops->submit(fault->inner, request);
}

static void delay(struct fault_image *fault, struct rule *rule, struct request *request)
{
	struct __kernel_timespec time = {
		.tv_sec = (long long)(rule->amount / 1000),
		.tv_nsec = (long long)(rule->amount % 1000) * 1000000,
	};
	struct io_uring_sqe *sqe = queue_get_sqe(request->home);

	_Static_assert(SCRATCH_TIME + sizeof(time) / sizeof(uintptr_t) <= REQUEST_SCRATCH, "");
	request->scratch[SCRATCH_FAULT] = (uintptr_t)fault;
	request->scratch[SCRATCH_RULE] = (uintptr_t)rule;
	memcpy(&request->scratch[SCRATCH_TIME], &time, sizeof(time));
	request->ring_op.complete = delay_over;
	io_uring_prep_timeout(sqe, (void *)&request->scratch[SCRATCH_TIME], 0, 0);
	queue_sqe_bind(sqe, &request->ring_op);
}

/* Torn requests: their first part goes on as a request of its own. */

struct torn {
	struct request part;
	struct request *whole;
	int result;
};

static void part_done(struct request *part)
{
	struct torn *torn = container_of(part, struct torn, part);
	struct request *whole = torn->whole;
	int result = part->result < 0 ? part->result : torn->result;

	free(torn);
	request_complete(whole, result);
}

static void tear(struct fault_image *fault, const struct rule *rule, struct request *request)
{
	struct torn *torn;

	if (rule->amount == 0 || request->length == 0) {
		request_complete(request, rule->result);
		return;
	}
	torn = calloc(1, sizeof(*torn));
	if (!torn) {
		request_complete(request, -ENOMEM);
		return;
	}
	torn->whole = request;
	torn->result = rule->result;
	torn->part.op = request->op;
	torn->part.flags = request->flags;
	torn->part.offset = request->offset;
	torn->part.length = MIN(request->length, rule->amount);
	torn->part.buffer = request->buffer;
	torn->part.extents = request->extents;
	torn->part.home = request->home;
	torn->part.done = part_done;
	image_submit(fault->inner, &torn->part);
}

static void fault_submit(struct image *image, struct request *request)
{
	struct fault_image *fault = fault_of(image);
	struct rule *rule = find_rule(fault, request);

	if (!rule)
		fault->inner->ops->submit(fault->inner, request);
	else if (rule->action == ACTION_FAIL)
		request_complete(request, rule->result);
	else if (rule->action == ACTION_DELAY)
		delay(fault, rule, request);
	else
		tear(fault, rule, request);
}

static void delay_close(const struct fault_image *fault)
{
	for (unsigned i = 0; i < fault->nr_rules; i++)
		if (fault->rules[i].op == CLOSE_OP)
			usleep((useconds_t)fault->rules[i].amount * 1000);
}

static int fault_watch_snapshots(struct image *image, const struct image_quiesce *quiesce)
{
	return image_watch_snapshots(fault_of(image)->inner, quiesce);
}

static bool fault_set_snapshots(struct image *image, enum image_snapshots to)
{
	return image_set_snapshots(fault_of(image)->inner, to);
}

static int fault_close(struct image *image)
{
	struct fault_image *fault = fault_of(image);
	int r;

	delay_close(fault);
	r = image_close(fault->inner);
	free(fault);
	return r;
}

static const struct image_ops fault_ops = {
	.name = "fault",
	.submit = fault_submit,
	.watch_snapshots = fault_watch_snapshots,
	.set_snapshots = fault_set_snapshots,
	.close = fault_close,
};

/* Parsing. Each parser cuts its part of a copy of the rule to pieces. */

static int parse_op(const char *text, unsigned *ret)
{
	if (strcmp(text, "any") == 0 || strcmp(text, "close") == 0) {
		*ret = text[0] == 'a' ? ANY_OP : CLOSE_OP;
		return 0;
	}
	for (unsigned op = 0; op < REQUEST_OPS; op++)
		if (strcmp(text, request_op_name(op)) == 0) {
			*ret = op;
			return 0;
		}
	return -EINVAL;
}

/* OFFSET+LENGTH */
static int parse_range(char *text, struct rule *rule)
{
	char *offset = strsep(&text, "+");

	if (!text || parse_size(offset, &rule->offset) < 0 || parse_size(text, &rule->length) < 0)
		return -EINVAL;
	if (rule->length == 0 || rule->offset > UINT64_MAX - rule->length)
		return -EINVAL;
	return 0;
}

static int parse_errno(const char *text, int *ret)
{
	int code = errno_from_name(text);

	if (code == 0)
		return -EINVAL;
	*ret = -code;
	return 0;
}

/* MS[:ERRNO] */
static int parse_delay(char *text, struct rule *rule)
{
	char *ms = strsep(&text, ":");

	rule->action = ACTION_DELAY;
	if (parse_u64(ms, 0, DELAY_MAX_MS, &rule->amount) < 0)
		return -EINVAL;
	return text ? parse_errno(text, &rule->result) : 0;
}

/* BYTES:ERRNO */
static int parse_torn(char *text, struct rule *rule)
{
	char *bytes = strsep(&text, ":");

	rule->action = ACTION_TORN;
	if (!text || parse_size(bytes, &rule->amount) < 0 || rule->amount % TORN_BLOCK)
		return -EINVAL;
	return parse_errno(text, &rule->result);
}

static int parse_action(char *text, struct rule *rule)
{
	if (strncmp(text, "delay:", 6) == 0)
		return parse_delay(text + 6, rule);
	if (strncmp(text, "torn:", 5) == 0)
		return parse_torn(text + 5, rule);
	rule->action = ACTION_FAIL;
	return parse_errno(text, &rule->result);
}

static int parse_count(const char *text, struct rule *rule)
{
	uint64_t count;

	if (parse_u64(text, 1, INT64_MAX, &count) < 0)
		return -EINVAL;
	rule->counted = true;
	atomic_store(&rule->left, (int64_t)count);
	return 0;
}

/* op[@range]=action[*count] */
static int parse_rule(char *text, struct rule *rule)
{
	char *range = strsep(&text, "="), *op = strsep(&range, "@");
	char *action = text ? strsep(&text, "*") : NULL;

	if (!action || parse_op(op, &rule->op) < 0 || parse_action(action, rule) < 0)
		return -EINVAL;
	if (range && parse_range(range, rule) < 0)
		return -EINVAL;
	if (rule->op == CLOSE_OP && (rule->action != ACTION_DELAY || range))
		return -EINVAL;
	return text ? parse_count(text, rule) : 0;
}

static int parse_rules(const char *rules, struct fault_image *fault, struct error *err)
{
	cleanup_free char *copy = strdup(rules);
	char *rest = copy, *text;

	if (!copy)
		return error_set(err, -ENOMEM, "Out of memory.");
	while ((text = strsep(&rest, ";"))) {
		cleanup_free char *whole = strdup(text);

		if (fault->nr_rules == FAULT_RULES_MAX)
			return error_set(err, -EINVAL, "More than %d fault rules.",
					 FAULT_RULES_MAX);
		if (parse_rule(text, &fault->rules[fault->nr_rules]) < 0)
			return error_set(err, -EINVAL,
					 "'%s' is no fault rule: write OP[@OFFSET+LENGTH]=ERRNO, "
					 "delay:MS[:ERRNO] or torn:BYTES:ERRNO, then [*COUNT].",
					 whole ? whole : "");
		fault->nr_rules++;
	}
	return 0;
}

int fault_image_wrap(struct image *inner, const char *rules, struct image **ret, struct error *err)
{
	cleanup_free struct fault_image *fault = calloc(1, sizeof(*fault));
	int r;

	if (!fault)
		return error_set(err, -ENOMEM, "Out of memory.");
	r = parse_rules(rules, fault, err);
	if (r < 0)
		return r;
	fault->image.ops = &fault_ops;
	fault->image.info = inner->info;
	memcpy(fault->image.identity, inner->identity, sizeof(inner->identity));
	fault->inner = inner;
	image_follow(&fault->image, inner);
	*ret = &take_ptr(fault)->image;
	return 0;
}
