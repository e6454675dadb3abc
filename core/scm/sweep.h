/* A sweep: one continuous variable set to evenly spaced values, from one abduction. Pure functions. */
#ifndef DSCM_CORE_SCM_SWEEP_H
#define DSCM_CORE_SCM_SWEEP_H

#include "core/diffscm.h"

#define DSCM_SWEEP_MAX 32 /* values */

typedef struct dscm_sweep {
    double from, to; /* first and last value; either may be the larger one */
    size_t count;    /* 2..DSCM_SWEEP_MAX */
} dscm_sweep;

/* Whether a text has the form of a sweep: "…..…:…". */
bool dscm_sweep_is(const char *text);
/* Reads "FROM..TO:COUNT". The message does not repeat the text. */
dscm_code dscm_sweep_parse(dscm_sweep *out, const char *text, dscm_error *err) DSCM_MUST_CHECK;
/* Refuses a variable that is not continuous, values beyond its range, and other counts. */
dscm_code dscm_sweep_check(const dscm_sweep *sweep, const dscm_variable *variable,
                           dscm_error *err) DSCM_MUST_CHECK;
/* Value `index` of sweep->count; the last one is exactly sweep->to. */
double dscm_sweep_value(const dscm_sweep *sweep, size_t index);

#endif
