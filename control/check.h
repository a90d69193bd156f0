/* Within control/: what the tables in schema.c and the checks in check.c share. */
#pragma once

#include "control/schema.h"

/* The member among @method's params, or NULL. */
const struct control_member *control_param_of(const struct control_method *method,
					      const char *name);

/* struct control_method.check of the methods of that name. */
int control_check_map(json_t *params, struct error *err);
int control_check_unmap(json_t *params, struct error *err);
int control_check_export(json_t *params, struct error *err);
int control_check_set(json_t *params, struct error *err);
int control_check_unexport(json_t *params, struct error *err);
int control_check_stat(json_t *params, struct error *err);
