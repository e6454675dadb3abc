/* Whether weights are numbers: a network with one NaN answers everything with NaN, and nothing later
 * tells where it came from. Read-only; no shared state. */
#ifndef DSCM_CORE_IO_FINITE_H
#define DSCM_CORE_IO_FINITE_H

#include "core/io/tensors.h"

/* Refuses values of a parameter that are NaN or infinite (DSCM_E_FORMAT), or that `dtype` cannot hold
 * (DSCM_E_LIMIT). path and name are for the message. */
dscm_code dscm_values_check(const float *values, size_t count, dscm_dtype dtype, const char *path,
                            const char *name, dscm_error *err) DSCM_MUST_CHECK;
/* Refuses views (table->count), as stored, that hold NaN or infinity: DSCM_E_FORMAT with the set's path
 * and the parameter. */
dscm_code dscm_views_check(const dscm_params *table, const dscm_param_view *views,
                           const dscm_tensors *set, dscm_error *err) DSCM_MUST_CHECK;

#endif
