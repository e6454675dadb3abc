/* What the tensors of a checkpoint reveal about its network.
 *
 * Names and shapes of a published checkpoint tell the architecture, channels, levels, blocks,
 * attention places, classes, pool and kind of resampling. They do not tell the image size of a
 * score network, the number of heads, or the order of the attention projections: those must be
 * given. Reads only names and shapes. */
#ifndef DSCM_CORE_MODELS_INFER_H
#define DSCM_CORE_MODELS_INFER_H

#include <jansson.h>

#include "core/io/tensors.h"
#include "core/models/net.h"

/* The configuration of the network in `set`: what the tensors show, completed by `given` (keys of
 * config.h; NULL: none). A given key that contradicts the tensors is DSCM_E_MISMATCH naming both; a
 * needed key that is neither shown nor given is DSCM_E_INVALID naming it. `name` stands for the
 * file in messages. */
dscm_code dscm_net_config_infer(dscm_net_config *out, const dscm_tensors *set, const char *name,
                                const json_t *given, dscm_error *err) DSCM_MUST_CHECK;

#endif
