/* Network configurations as JSON, with the keys of published configurations. */
#ifndef DSCM_CORE_MODELS_CONFIG_H
#define DSCM_CORE_MODELS_CONFIG_H

#include <jansson.h>

#include "core/models/net.h"

/* Reads an object over the defaults of its architecture ("arch", or "kind": unet | encoder) and
 * checks it. `where` stands before the key in messages ("config.json"). Unknown keys are errors;
 * of a unet or encoder those of the other are passed over when they switch nothing on.
 * num_head_channels -1 means: use num_heads. */
dscm_code dscm_net_config_parse(dscm_net_config *out, const json_t *object, const char *where,
                                dscm_error *err) DSCM_MUST_CHECK;
/* At most DSCM_LEVELS_MAX numbers from an array or from comma text ("1,2,2"); false otherwise. */
bool dscm_config_list(const json_t *value, double *out, size_t *count) DSCM_MUST_CHECK;
/* A new object, or NULL when memory is short. */
json_t *dscm_net_config_to_json(const dscm_net_config *config);

#endif
