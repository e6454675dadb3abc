/* The head of an anti-causal predictor of a continuous variable: from the network's two outputs to
 * mean and variance of a normal distribution over the variable, in its own unit.
 *
 *     mean         = m + s * out[0]
 *     log variance = 2 log s + L + (H - L) sigmoid(out[1]),  L = -8, H = 2
 *
 * m, s: mean and standard deviation of the variable in the training data (config.target). The limits
 * keep 1 / variance, which multiplies the gradient that guides a walk, below e^8 / s^2. A network
 * without a target (config.target.name empty) gives mean and log variance themselves. Pure functions.
 */
#ifndef DSCM_CORE_MODELS_GAUSSIAN_H
#define DSCM_CORE_MODELS_GAUSSIAN_H

#include "core/models/net.h"

#define DSCM_LOG_VARIANCE_MIN (-8.0) /* of the standardised variable */
#define DSCM_LOG_VARIANCE_MAX 2.0

typedef struct dscm_gaussian {
    double mean, log_variance;             /* in the variable's unit */
    double mean_slope, log_variance_slope; /* d mean / d out[0], d log_variance / d out[1] */
} dscm_gaussian;

/* out: (2) outputs of the network for one image. */
dscm_gaussian dscm_gaussian_head(const dscm_net_config *config, const float *out);
/* -log density at value; dout (2), or NULL: its gradient in the outputs, times weight, is stored. */
double dscm_gaussian_nll(const dscm_gaussian *g, double value, double weight, float *dout);

#endif
