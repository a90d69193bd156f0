#include "daemon/export_request.h"

static const char *text(json_t *params, const char *member)
{
	return json_string_value(json_object_get(params, member));
}

int export_request_parse(json_t *params, struct export_request *ret, struct error *err)
{
	struct export_request request = {
		.address = {
			.listen = text(params, "listen"),
			.tls_certificates = text(params, "tls_certificates"),
			.tls_keys = text(params, "tls_keys"),
			.max_connections = (unsigned)json_integer_value(
				json_object_get(params, "max_connections")),
		},
	};
	int r = map_request_parse(params, &request.image, err);

	if (r < 0)
		return r;
	request.name = text(params, "name");
	*ret = request;
	return 0;
}

int unexport_request_parse(json_t *params, struct unexport_request *ret, struct error *err)
{
	json_t *timeout = json_object_get(params, "timeout");
	struct unexport_request request = {
		.name = text(params, "name"),
		.force = json_is_true(json_object_get(params, "force")),
		.timeout = timeout ? (unsigned)json_integer_value(timeout) : MAP_TIMEOUT_DEFAULT,
	};
	bool of_image = !request.name || image_names_given(params);
	int r = of_image ? image_names_parse(params, &request.names, err) : 0;

	if (r == 0)
		*ret = request;
	return r;
}
