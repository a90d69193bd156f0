/* The memory of NBD clients: who gets it, who waits, and who is called when it comes back. */
#include "nbd/budget.h"
#include "common/macros.h"
#include "tests/unit/cmocka-all.h"

#define M (1024u * 1024)

struct member {
	struct nbd_budget_member base;
	size_t idle; /* what it gives back when it is asked to */
	unsigned called;
};

static struct nbd_budget budget;
static struct member a, b, c;

static void give_back(struct nbd_budget_member *base)
{
	struct member *member = container_of(base, struct member, base);

	nbd_budget_give(base, member->idle);
	member->idle = 0;
}

static void come(struct nbd_budget_member *base)
{
	container_of(base, struct member, base)->called++;
}

static void join(struct member *member)
{
	*member = (struct member){ .base = { .give_back = give_back, .come = come } };
	nbd_budget_join(&budget, &member->base);
}

static int begin(void **state)
{
	nbd_budget_init(&budget, 4 * M);
	join(&a);
	join(&b);
	join(&c);
	return 0;
}

static int end(void **state)
{
	nbd_budget_leave(&a.base);
	nbd_budget_leave(&b.base);
	nbd_budget_leave(&c.base);
	assert_int_equal(budget.used, 0);
	assert_true(list_empty(&budget.members) && list_empty(&budget.line));
	return 0;
}

static bool take(struct member *member, size_t bytes)
{
	return nbd_budget_take(&member->base, bytes);
}

static void the_limit_holds(void **state)
{
	assert_true(take(&a, 5 * M)); /* 1 MiB is its own */
	assert_int_equal(budget.used, 4 * M);
	assert_false(take(&b, 2 * M));
	assert_int_equal(b.base.held, 0);
}

static void everybody_has_something_for_sure(void **state)
{
	assert_true(take(&a, 5 * M));
	assert_true(take(&b, M));
	assert_false(take(&b, 4096));
	assert_true(take(&c, M / 2));
	assert_true(take(&c, M / 2));
	nbd_budget_give(&c.base, M);
	assert_true(take(&c, M)); /* though b stands in line */
}

static void the_line_is_kept(void **state)
{
	assert_true(take(&a, 5 * M));
	assert_false(take(&b, 4 * M));
	assert_false(take(&c, 2 * M));
	nbd_budget_give(&a.base, 2 * M);
	assert_int_equal(b.called, 1);
	assert_int_equal(c.called, 0);
	assert_false(take(&c, 2 * M)); /* there is enough, but not for the first */
	assert_false(take(&b, 4 * M));
	nbd_budget_give(&a.base, 2 * M);
	assert_true(take(&b, 4 * M));
	assert_int_equal(c.called, 1);
	assert_true(take(&c, 2 * M));
}

static void who_leaves_the_line_lets_others_pass(void **state)
{
	assert_true(take(&a, 3 * M));
	assert_false(take(&b, 4 * M));
	assert_false(take(&c, 2 * M));
	nbd_budget_leave_line(&b.base);
	assert_int_equal(c.called, 1);
	assert_true(take(&c, 2 * M));
	assert_false(nbd_budget_is_short(&a.base));
}

static void who_leaves_gives_all_back(void **state)
{
	assert_true(take(&a, 5 * M));
	assert_false(take(&b, 5 * M));
	nbd_budget_leave(&a.base);
	assert_int_equal(b.called, 1);
	assert_true(take(&b, 5 * M));
}

static void what_is_idle_is_given_back(void **state)
{
	assert_true(take(&a, 4 * M));
	a.idle = 3 * M;
	assert_false(nbd_budget_is_short(&a.base));
	assert_true(take(&b, 4 * M));
	assert_int_equal(a.base.held, M);
	assert_false(take(&c, 4 * M));
	assert_true(nbd_budget_is_short(&a.base)); /* from now on it keeps nothing idle */
}

static void without_a_budget_nothing_is_limited(void **state)
{
	struct member free = { 0 };

	nbd_budget_join(NULL, &free.base);
	assert_true(take(&free, SIZE_MAX));
	assert_false(nbd_budget_is_short(&free.base));
	nbd_budget_give(&free.base, SIZE_MAX);
	nbd_budget_leave_line(&free.base);
	nbd_budget_leave(&free.base);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_limit_holds),
		TEST(everybody_has_something_for_sure),
		TEST(the_line_is_kept),
		TEST(who_leaves_the_line_lets_others_pass),
		TEST(who_leaves_gives_all_back),
		TEST(what_is_idle_is_given_back),
		TEST(without_a_budget_nothing_is_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
