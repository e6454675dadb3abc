/* One network out of a checkpoint that holds several, or holds it below a wrapper's name. */
#ifndef DSCM_CORE_IO_CHOOSE_H
#define DSCM_CORE_IO_CHOOSE_H

#include "core/io/tensors.h"

/* Keeps the tensors of one network and takes what stands before their names away: wrappers such as
 * "module.", "_orig_mod." or "model.diffusion_model.", and the dictionary that holds them ("ema.").
 * They are found by the tensor `mark`, which every network of the kind has. key: NULL, or the name
 * before them ("ema"), needed when several are there: DSCM_E_INVALID lists them. Without any `mark`
 * nothing changes. Not thread-safe; before the set is shared. */
dscm_code dscm_tensors_choose(dscm_tensors *set, const char *mark, const char *key,
                              dscm_error *err) DSCM_MUST_CHECK;

#endif
