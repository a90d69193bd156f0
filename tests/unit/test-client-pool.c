/*
 * The client pool shares connections by policy, no more than that, and lets failures
 * reach everybody who waited. Connections are played: this file stands in for image/client.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/macros.h"
#include "daemon/client_pool.h"
#include "tests/unit/cmocka-all.h"

#define KEY	"secret"
#define CALLERS 8

struct rbd_client {
	int number;
};

static atomic_int connects, disconnects;
static _Atomic useconds_t connect_time;
static atomic_int connect_result;

int rbd_client_connect(const struct rbd_client_config *config, struct rbd_client **ret,
		       struct error *err)
{
	int number = atomic_fetch_add(&connects, 1);

	assert_string_equal(config->key, KEY);
	usleep(connect_time);
	if (connect_result < 0)
		return error_set(err, connect_result, "played failure");
	*ret = malloc(sizeof(**ret));
	(*ret)->number = number;
	return 0;
}

struct rbd_client *rbd_client_unref(struct rbd_client *client)
{
	free(client);
	atomic_fetch_add(&disconnects, 1);
	return NULL;
}

static int make(void **state)
{
	connects = disconnects = connect_result = 0;
	connect_time = 0;
	return client_pool_create((struct client_pool **)state, &(struct error){ 0 });
}

static const struct rbd_client_option cache_first[] = { { "rbd_cache", "true" }, { "rbd_x", "1" } };
static const struct rbd_client_option cache_last[] = { { "rbd_x", "1" }, { "rbd_cache", "true" } };
static const struct rbd_client_config plain = { .monitors = "a", .user = "u", .key = KEY };
static const char shared[] = "shared", four[] = "pool:4", isolated[] = "isolated";

static struct pooled_client *get(struct client_pool *pool, const struct rbd_client_config *config,
				 const char *policy)
{
	struct pooled_client *client = NULL;
	struct error err = ERROR_NONE;

	assert_int_equal(client_pool_get(pool, policy, config, &client, &err), 0);
	assert_non_null(client);
	return client;
}

static void finish(void **state)
{
	client_pool_destroy(*state);
	assert_int_equal(connects, disconnects);
}

static void one_configuration_shares_a_client(void **state)
{
	struct rbd_client_config one = plain, two = plain;
	struct pooled_client *a, *b;

	one.options = cache_first;
	two.options = cache_last;
	one.nr_options = two.nr_options = ARRAY_SIZE(cache_first);
	two.timeout = 7;
	a = get(*state, &one, shared);
	b = get(*state, &two, shared);
	assert_ptr_equal(a, b);
	client_pool_put(*state, a);
	client_pool_put(*state, b);
	client_pool_put(*state, NULL);
	finish(state);
}

static void other_configurations_do_not(void **state)
{
	struct rbd_client_config others[] = { plain, plain, plain, plain, plain };
	struct pooled_client *clients[ARRAY_SIZE(others)];

	others[0].monitors = "b";
	others[1].user = NULL;
	others[2].keyring = "k";
	others[3].options = cache_first;
	others[3].nr_options = 1;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		clients[i] = get(*state, &others[i], shared);
	assert_int_equal(connects, ARRAY_SIZE(others));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		client_pool_put(*state, clients[i]);
	finish(state);
}

static void a_pool_is_filled_first_and_then_shared_evenly(void **state)
{
	struct pooled_client *clients[48];
	unsigned loads[4] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
		clients[i] = get(*state, &plain, four);
		assert_int_equal(connects, MIN(4, i + 1));
		loads[pooled_client_rbd(clients[i])->number]++;
	}
	for (size_t i = 0; i < ARRAY_SIZE(loads); i++)
		assert_int_equal(loads[i], ARRAY_SIZE(clients) / 4);
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		client_pool_put(*state, clients[i]);
	finish(state);
}

static void shared_does_not_grow_and_isolated_is_alone(void **state)
{
	struct pooled_client *clients[16], *alone;

	alone = get(*state, &plain, isolated);
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
		clients[i] = get(*state, &plain, shared);
		assert_ptr_not_equal(clients[i], alone);
		assert_ptr_equal(clients[i], clients[0]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		client_pool_put(*state, clients[i]);
	client_pool_put(*state, alone);
	finish(state);
}

static void a_retired_client_is_replaced(void **state)
{
	struct pooled_client *old = get(*state, &plain, shared), *new;

	client_pool_retire(*state, old);
	new = get(*state, &plain, shared);
	assert_ptr_not_equal(old, new);
	client_pool_put(*state, old);
	client_pool_put(*state, new);
	finish(state);
}

struct caller {
	pthread_t thread;
	struct client_pool *pool;
	const char *policy;
	struct pooled_client *client;
	struct error err;
	int result;
};

static void *call(void *data)
{
	struct caller *caller = data;

	caller->result = client_pool_get(caller->pool, caller->policy, &plain, &caller->client,
					 &caller->err);
	return NULL;
}

static void call_at_once(struct client_pool *pool, const char *policy,
			 struct caller callers[CALLERS])
{
	connect_time = 200000;
	for (size_t i = 0; i < CALLERS; i++) {
		callers[i] = (struct caller){ .pool = pool, .policy = policy };
		pthread_create(&callers[i].thread, NULL, call, &callers[i]);
	}
	for (size_t i = 0; i < CALLERS; i++)
		pthread_join(callers[i].thread, NULL);
}

static void callers_at_once_make_one_connection(void **state)
{
	struct caller callers[CALLERS];

	call_at_once(*state, shared, callers);
	assert_int_equal(connects, 1);
	for (size_t i = 0; i < CALLERS; i++) {
		assert_int_equal(callers[i].result, 0);
		assert_ptr_equal(callers[i].client, callers[0].client);
		client_pool_put(*state, callers[i].client);
	}
	finish(state);
}

static void callers_at_once_fill_the_pool_and_no_more(void **state)
{
	struct caller callers[CALLERS];

	call_at_once(*state, four, callers);
	assert_int_equal(connects, 4);
	for (size_t i = 0; i < CALLERS; i++) {
		assert_int_equal(callers[i].result, 0);
		client_pool_put(*state, callers[i].client);
	}
	finish(state);
}

static void a_failure_reaches_all_who_waited_and_no_more(void **state)
{
	struct caller callers[CALLERS];

	connect_result = -EACCES;
	call_at_once(*state, shared, callers);
	assert_int_equal(connects, 1);
	for (size_t i = 0; i < CALLERS; i++) {
		assert_int_equal(callers[i].result, -EACCES);
		assert_string_equal(callers[i].err.text, "played failure");
	}
	connect_result = 0;
	connects = 0;
	client_pool_put(*state, get(*state, &plain, four));
	finish(state);
}

static void a_wait_for_another_callers_connection_ends_in_time(void **state)
{
	struct caller maker = { .pool = *state, .policy = shared };
	struct rbd_client_config hurried = plain;
	struct pooled_client *client = NULL;
	struct error err = ERROR_NONE;

	hurried.timeout = 1;
	connect_time = 4000000;
	pthread_create(&maker.thread, NULL, call, &maker);
	while (connects == 0)
		usleep(1000);
	assert_int_equal(client_pool_get(*state, shared, &hurried, &client, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "more than 1 seconds"));
	assert_null(client);
	pthread_join(maker.thread, NULL);
	assert_int_equal(maker.result, 0);
	client_pool_put(*state, maker.client);
	finish(state);
}

static void policies_are_read(void **state)
{
	static const char *const wrong[] = { "pool",	"pool:",   "pool:0",
					     "pool:65", "pool:4x", "Shared" };
	struct client_policy policy;
	struct error err = ERROR_NONE;

	assert_int_equal(client_policy_parse(NULL, &policy, &err), 0);
	assert_int_equal(policy.max, CLIENT_POLICY_DEFAULT.max);
	assert_int_equal(client_policy_parse("pool:7", &policy, &err), 0);
	assert_int_equal(policy.max, 7);
	assert_int_equal(client_policy_parse("shared", &policy, &err), 0);
	assert_int_equal(policy.max, 1);
	assert_false(policy.isolated);
	assert_int_equal(client_policy_parse("isolated", &policy, &err), 0);
	assert_true(policy.isolated);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(client_policy_parse(wrong[i], &policy, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policies_are_read),
		cmocka_unit_test_setup(one_configuration_shares_a_client, make),
		cmocka_unit_test_setup(other_configurations_do_not, make),
		cmocka_unit_test_setup(a_pool_is_filled_first_and_then_shared_evenly, make),
		cmocka_unit_test_setup(shared_does_not_grow_and_isolated_is_alone, make),
		cmocka_unit_test_setup(a_retired_client_is_replaced, make),
		cmocka_unit_test_setup(callers_at_once_make_one_connection, make),
		cmocka_unit_test_setup(callers_at_once_fill_the_pool_and_no_more, make),
		cmocka_unit_test_setup(a_failure_reaches_all_who_waited_and_no_more, make),
		cmocka_unit_test_setup(a_wait_for_another_callers_connection_ends_in_time, make),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
