/* Calibration of what verdicts and outcomes are decided by, on images that no network was trained
 * on: temperatures of the acceptance nets. Pure functions; no threads. */
#ifndef DSCM_CORE_EVAL_CALIBRATE_H
#define DSCM_CORE_EVAL_CALIBRATE_H

#include <stddef.h>

#include "core/base/error.h"

typedef struct dscm_temperature {
    double temperature; /* .05 .. 20 */
    double before;      /* mean negative log-likelihood at temperature 1 */
    double after;       /* at `temperature` */
} dscm_temperature;

/* Temperature scaling (Guo et al. 2017): the T that minimises the mean of -log softmax(z / T)[label]
 * over rows z of logits (count, classes). The loss is convex in 1 / T; the search is by golden
 * section. DSCM_E_INVALID without rows or for a label that is no class. */
dscm_code dscm_temperature_fit(dscm_temperature *out, const float *logits, const int *labels,
                               size_t count, size_t classes, dscm_error *err) DSCM_MUST_CHECK;

#endif
