/* Variables of a bundle's manifest out of a causal model that `diffscm fit` wrote. */
#ifndef DSCM_CLI_BUNDLE_CAUSAL_H
#define DSCM_CLI_BUNDLE_CAUSAL_H

#include <jansson.h>

#include "cli/cli.h"
#include "core/base/error.h"

/* Sets "variables" and "causal" of the manifest and the image's "parents". image: its entry without
 * them; its name becomes the model's. tolerances, result_biases: NAME=NUMBER of continuous variables. */
dscm_code cli_bundle_variables(json_t *manifest, const char *model_file, json_t *image,
                               const option_list *tolerances, const option_list *result_biases,
                               dscm_error *err) DSCM_MUST_CHECK;

#endif
