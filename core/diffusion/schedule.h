/* Noise schedules and the spacing of kept levels, in float64. */
#ifndef DSCM_CORE_DIFFUSION_SCHEDULE_H
#define DSCM_CORE_DIFFUSION_SCHEDULE_H

#include <stddef.h>

#include "core/base/error.h"

typedef enum dscm_schedule_kind { DSCM_SCHEDULE_LINEAR, DSCM_SCHEDULE_COSINE } dscm_schedule_kind;

typedef struct dscm_schedule {
    dscm_schedule_kind kind;
    size_t steps;           /* T */
    double *betas;          /* (T) */
    double *alphas_cumprod; /* (T): cumulative product of 1 - beta */
} dscm_schedule;

/* linear: beta from 1e-4 to 0.02 over T, both times 1000/T (Ho et al. 2020); cosine: Nichol &
 * Dhariwal 2021, betas at most 0.999. steps: 1..100000. */
dscm_code dscm_schedule_open(dscm_schedule *out, dscm_schedule_kind kind, size_t steps,
                             dscm_error *err) DSCM_MUST_CHECK;
void dscm_schedule_close(dscm_schedule *s);
const char *dscm_schedule_name(dscm_schedule_kind kind);
dscm_code dscm_schedule_parse(dscm_schedule_kind *out, const char *name,
                              dscm_error *err) DSCM_MUST_CHECK;

/* Kept original steps, ascending, from a specification: "ddimN" (the smallest integer stride that
 * keeps N) or section counts such as "250" or "10,15,20". Caller releases *steps with dscm_free. */
dscm_code dscm_spacing(const char *spec, size_t total, size_t **steps, size_t *count,
                       dscm_error *err) DSCM_MUST_CHECK;

#endif
