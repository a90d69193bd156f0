/* The methods' tables, and that every member of them is held to what it says. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/schema.h"
#include "tests/unit/cmocka-all.h"

/* --- Helpers ---------------------------------------------------------------------------------- */

/* @json with apostrophes in place of quotation marks. */
static json_t *object(const char *json)
{
	char *text = strdup(json);
	json_t *parsed;

	for (char *at = text; (at = strchr(at, '\'')) != NULL;)
		*at = '"';
	parsed = json_loads(text, 0, NULL);
	assert_non_null(parsed);
	free(text);
	return parsed;
}

/* Takes @params. */
static int check(const char *method, json_t *params, struct error *err)
{
	int r;

	*err = ERROR_NONE;
	r = control_check_params(method, params, err);
	assert_int_equal(err->code, r);
	json_decref(params);
	return r;
}

static void accept(const char *method, const char *params)
{
	struct error err;

	if (check(method, object(params), &err) < 0)
		fail_msg("%s %s: %s", method, params, err.text);
}

/* Refused, with a sentence that holds @word. */
static void refuse(const char *method, const char *params, const char *word)
{
	struct error err;

	if (check(method, object(params), &err) != -EINVAL)
		fail_msg("%s %s was accepted", method, params);
	if (!strstr(err.text, word))
		fail_msg("%s %s: no '%s' in: %s", method, params, word, err.text);
}

/* --- What is right ---------------------------------------------------------------------------- */

static void right_params_are_accepted(void **state)
{
	accept("map", "{'image':'foo'}");
	accept("map",
	       "{'type':'rbd','pool':'p','namespace':'','image':'foo','snapshot':'',"
	       "'user':'kube','monitors':'10.0.0.1,10.0.0.2:6789','key':'AQ==','keyring':'/k',"
	       "'conf':'/c','options':{'rbd_cache':'false'},'client':'pool:4',"
	       "'read_only':true,'frontend':'nbd','queues':32,'queue_depth':1024,"
	       "'timeout':1,'fault':'read=EIO'}");
	accept("map", "{'type':'file','path':'/a/b','read_only':false}");
	accept("map", "{'type':'null','size':1152921504606846976,'frontend':'auto'}");
	accept("unmap", "{'device':'/dev/ublkb0','force':true,'timeout':86400}");
	accept("unmap", "{'pool':'p','namespace':'n','image':'foo','snapshot':'s'}");
	accept("unmap", "{'type':'file','path':'/a/b'}");
	accept("set", "{'device':'/dev/ublkb0','settings':{'rbd_qos_iops_limit':'5'}}");
	accept("set", "{'export':'rbd/foo','settings':{'rbd_qos_iops_limit':''},'timeout':5}");
	accept("set", "{'pool':'p','image':'foo','settings':{'rbd_qos_bps_limit':'1M'}}");
	accept("list", "{}");
	accept("status", "{}");
	accept("status", "{'device':'/dev/ublkb0'}");
	accept("stat", "{}");
	accept("stat", "{'device':'/dev/ublkb0'}");
	accept("stat", "{'export':'rbd/foo'}");
	accept("version", "{}");
	assert_int_equal(control_check_params("list", NULL, &(struct error){ 0 }), 0);
}

/* --- What is wrong ---------------------------------------------------------------------------- */

static bool takes_strings(const struct control_member *member)
{
	return member->kind == CONTROL_STRING || member->kind == CONTROL_NAME ||
	       member->kind == CONTROL_PATH || member->kind == CONTROL_CHOICE;
}

static bool type_fits(const struct control_member *member, const json_t *value)
{
	return (json_is_string(value) && takes_strings(member)) ||
	       (json_is_integer(value) && member->kind == CONTROL_INTEGER) ||
	       (json_is_boolean(value) && member->kind == CONTROL_BOOLEAN) ||
	       (json_is_object(value) && member->kind == CONTROL_OPTIONS);
}

static void refuse_value(const struct control_method *method, const struct control_member *member,
			 json_t *value)
{
	json_t *params = json_object();
	struct error err;
	char quoted[64];

	json_object_set(params, member->name, value);
	snprintf(quoted, sizeof(quoted), "\"%s\"", member->name);
	if (check(method->name, params, &err) != -EINVAL || !strstr(err.text, quoted))
		fail_msg("%s.%s: %s", method->name, member->name, err.text);
}

static void wrong_types_are_refused(const struct control_method *method,
				    const struct control_member *member)
{
	json_t *values = object("['text', 17, 1.5, true, null, {}, []]"), *value;
	size_t i;

	json_array_foreach(values, i, value)
		if (!type_fits(member, value))
			refuse_value(method, member, value);
	json_decref(values);
}

static void refuse_new(const struct control_method *method, const struct control_member *member,
		       json_t *value)
{
	refuse_value(method, member, value);
	json_decref(value);
}

static void wrong_strings_are_refused(const struct control_method *method,
				      const struct control_member *member)
{
	char *text = malloc((size_t)member->max + 3);

	refuse_new(method, member, json_string("/line\nbreak"));
	refuse_new(method, member, json_string("/bell\a"));
	if (member->min > 0)
		refuse_new(method, member, json_string(""));
	if (member->kind == CONTROL_NAME)
		refuse_new(method, member, json_string("a/b"));
	if (member->kind == CONTROL_NAME)
		refuse_new(method, member, json_string("a@b"));
	if (member->kind == CONTROL_PATH)
		refuse_new(method, member, json_string("relative/path"));
	memset(text, '/', (size_t)member->max + 2);
	text[member->max + 1] = '\0';
	refuse_new(method, member, json_string(text));
	free(text);
}

static void wrong_values_are_refused(const struct control_method *method,
				     const struct control_member *member)
{
	if (member->kind == CONTROL_INTEGER) {
		refuse_new(method, member, json_integer(member->min - 1));
		refuse_new(method, member, json_integer(member->max + 1));
		refuse_new(method, member, json_integer(INT64_MIN));
	} else if (takes_strings(member)) {
		wrong_strings_are_refused(method, member);
	}
}

static void every_member_is_checked(void **state)
{
	unsigned members = 0;

	for (const struct control_method *method = control_methods; method->name; method++)
		for (unsigned i = 0; i < CONTROL_GROUPS_MAX && method->params[i]; i++)
			for (const struct control_member *member = method->params[i]; member->name;
			     member++, members++) {
				wrong_types_are_refused(method, member);
				wrong_values_are_refused(method, member);
			}
	assert_true(members > 20);
}

static void unknown_members_are_refused_by_name(void **state)
{
	refuse("map", "{'image':'foo','iamge':'foo'}", "\"iamge\"");
	refuse("unmap", "{'device':'/dev/x','size':5}", "\"size\"");
	refuse("list", "{'all':true}", "\"all\"");
	refuse("status", "{'devices':[]}", "\"devices\"");
	refuse("stat", "{'reset':true}", "\"reset\"");
	refuse("version", "{'x':1}", "\"x\"");
}

static void missing_members_are_named(void **state)
{
	refuse("map", "{}", "\"image\"");
	refuse("map", "{'type':'rbd'}", "\"image\"");
	refuse("map", "{'type':'file'}", "\"path\"");
	refuse("map", "{'type':'null'}", "\"size\"");
	refuse("unmap", "{}", "\"image\"");
	refuse("unmap", "{'type':'file','force':true}", "\"path\"");
}

static void members_of_other_types_are_refused(void **state)
{
	refuse("map", "{'image':'foo','path':'/a'}", "\"path\"");
	refuse("map", "{'image':'foo','size':512}", "\"size\"");
	refuse("map", "{'type':'file','path':'/a','size':512}", "\"size\"");
	refuse("map", "{'type':'file','path':'/a','pool':'p'}", "\"pool\"");
	refuse("map", "{'type':'file','path':'/a','key':'AQ'}", "\"key\"");
	refuse("map", "{'type':'null','size':512,'path':'/a'}", "\"path\"");
	refuse("map", "{'type':'null','size':512,'client':'shared'}", "\"client\"");
	refuse("map", "{'type':'nul'}", "rbd, file or null");
	refuse("unmap", "{'type':'null'}", "rbd or file");
}

static void a_device_excludes_an_image(void **state)
{
	refuse("unmap", "{'device':'/dev/x','image':'foo'}", "\"image\"");
	refuse("unmap", "{'device':'/dev/x','type':'rbd'}", "\"type\"");
	refuse("unmap", "{'device':'/dev/x','path':'/a'}", "\"path\"");
}

static void an_export_goes_by_name_or_image_or_either(void **state)
{
	accept("unexport", "{'name':'x'}");
	accept("unexport", "{'image':'foo'}");
	accept("unexport", "{'name':'p/foo','pool':'p','image':'foo'}");
	accept("unexport", "{'type':'null','size':512}");
	refuse("unexport", "{}", "\"image\"");
	refuse("unexport", "{'name':'x','pool':'p'}", "\"image\"");
	refuse("unexport", "{'type':'null'}", "\"size\"");
}

static void figures_are_of_all_or_a_device_or_what_bears_a_name(void **state)
{
	accept("stat", "{'export':'p/foo','pool':'p','image':'foo'}");
	accept("stat", "{'image':'foo'}");
	accept("stat", "{'type':'null','size':512}");
	refuse("stat", "{'pool':'p'}", "\"image\"");
	refuse("stat", "{'device':'/dev/x','export':'e'}", "\"export\"");
	refuse("stat", "{'device':'/dev/x','image':'foo'}", "\"image\"");
}

static void settings_are_limits_of_one_thing(void **state)
{
	refuse("set", "{'device':'/dev/x'}", "\"settings\" is missing");
	refuse("set", "{'device':'/dev/x','settings':{}}", "say what to change");
	refuse("set", "{'device':'/dev/x','settings':{'rbd_cache':'true'}}", "rbd_cache cannot");
	refuse("set", "{'device':'/dev/x','settings':{'rbd_qos_iops_limit':5}}", "a string");
	refuse("set", "{'settings':{'rbd_qos_iops_limit':'5'}}", "Name one thing");
	refuse("set", "{'device':'/dev/x','export':'e','settings':{'rbd_qos_iops_limit':'5'}}",
	       "Name one thing");
	refuse("set", "{'export':'e','image':'foo','settings':{'rbd_qos_iops_limit':'5'}}",
	       "Name one thing");
	refuse("set", "{'pool':'p','settings':{'rbd_qos_iops_limit':'5'}}", "\"image\"");
}

static void clients_and_users_have_a_form(void **state)
{
	static const char *const wrong[] = {
		"pool",	   "pool:",	"pool:0", "pool:65",  "pool:x",
		"pool:1 ", "exclusive", "Shared", "shared,x", "pool:-1"
	};
	char params[80];

	accept("map", "{'image':'foo','client':'shared'}");
	accept("map", "{'image':'foo','client':'isolated'}");
	accept("map", "{'image':'foo','client':'pool:64'}");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		snprintf(params, sizeof(params), "{'image':'foo','client':'%s'}", wrong[i]);
		refuse("map", params, "\"client\"");
	}
	refuse("map", "{'image':'foo','user':'client.kube'}", "\"user\"");
}

static void locks_are_a_choice(void **state)
{
	accept("map", "{'image':'foo','lock':'exclusive'}");
	accept("export", "{'image':'foo','lock':'none'}");
	refuse("map", "{'image':'foo','lock':'shared'}", "auto, exclusive or none");
	refuse("map", "{'image':'foo','lock':true}", "\"lock\"");
	refuse("map", "{'type':'file','path':'/a','lock':'auto'}", "\"lock\"");
	refuse("unmap", "{'image':'foo','lock':'auto'}", "\"lock\"");
}

static void options_are_strings_by_name(void **state)
{
	refuse("map", "{'image':'foo','options':{'rbd_cache':false}}", "\"rbd_cache\"");
	refuse("map", "{'image':'foo','options':{'rbd cache':'false'}}", "\"options\"");
	refuse("map", "{'image':'foo','options':{'':'x'}}", "\"options\"");
	refuse("map", "{'image':'foo','options':{'a':'x\\ny'}}", "\"a\"");
	refuse("map", "{'image':'foo','options':{'key':'AQ'}}", "\"key\"");
}

static void secrets_are_not_repeated(void **state)
{
	struct error err;

	assert_int_equal(check("map", object("{'image':'f','key':'SECRET\\nSECRET'}"), &err),
			 -EINVAL);
	assert_null(strstr(err.text, "SECRET"));
	check("map", object("{'image':'f','options':{'key':'SECRET'}}"), &err);
	assert_null(strstr(err.text, "SECRET"));
	assert_true(control_param_find("map", "key")->secret);
}

static void unknown_methods_are_told(void **state)
{
	struct error err;

	assert_int_equal(check("mop", json_object(), &err), -ENOSYS);
	assert_non_null(strstr(err.text, "mop"));
	assert_int_equal(check("map", json_array(), &err), -EINVAL);
	assert_null(control_method_find(""));
	assert_null(control_param_find("map", "device"));
}

/* --- The document ----------------------------------------------------------------------------- */

static char *read_file(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, 1 << 17);

	assert_non_null(file);
	assert_true(fread(text, 1, (1 << 17) - 1, file) > 0);
	fclose(file);
	return text;
}

/* docs/control-protocol.md holds what print-schema prints; scripts/update-docs puts it there. */
static void the_document_is_up_to_date(void **state)
{
	char *document = read_file(CONTROL_PROTOCOL_MD), *printed = NULL;
	size_t length;
	FILE *out = open_memstream(&printed, &length);

	control_schema_print(out);
	fclose(out);
	if (!strstr(document, printed))
		fail_msg("docs/control-protocol.md differs from control/schema.c: run "
			 "scripts/update-docs");
	free(document);
	free(printed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_params_are_accepted),
		cmocka_unit_test(every_member_is_checked),
		cmocka_unit_test(unknown_members_are_refused_by_name),
		cmocka_unit_test(missing_members_are_named),
		cmocka_unit_test(members_of_other_types_are_refused),
		cmocka_unit_test(a_device_excludes_an_image),
		cmocka_unit_test(an_export_goes_by_name_or_image_or_either),
		cmocka_unit_test(figures_are_of_all_or_a_device_or_what_bears_a_name),
		cmocka_unit_test(settings_are_limits_of_one_thing),
		cmocka_unit_test(clients_and_users_have_a_form),
		cmocka_unit_test(locks_are_a_choice),
		cmocka_unit_test(options_are_strings_by_name),
		cmocka_unit_test(secrets_are_not_repeated),
		cmocka_unit_test(unknown_methods_are_told),
		cmocka_unit_test(the_document_is_up_to_date),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
