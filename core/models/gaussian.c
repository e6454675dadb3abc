#include "core/models/gaussian.h"

#include <math.h>

#define HALF_LOG_2PI 0.918938533204672742

dscm_gaussian dscm_gaussian_head(const dscm_net_config *c, const float *out)
{
    const dscm_parent *p = &c->target;
    if (!p->name[0])
        return (dscm_gaussian){.mean = (double)out[0],
                               .log_variance = (double)out[1],
                               .mean_slope = 1,
                               .log_variance_slope = 1};
    double share = 1 / (1 + exp(-(double)out[1])),
           range = DSCM_LOG_VARIANCE_MAX - DSCM_LOG_VARIANCE_MIN;
    return (dscm_gaussian){.mean = p->mean + p->std * (double)out[0],
                           .log_variance = 2 * log(p->std) + DSCM_LOG_VARIANCE_MIN + range * share,
                           .mean_slope = p->std,
                           .log_variance_slope = range * share * (1 - share)};
}

double dscm_gaussian_nll(const dscm_gaussian *g, double value, double weight, float *dout)
{
    double gap = value - g->mean, precision = exp(-g->log_variance);
    if (dout) {
        dout[0] = (float)(-weight * gap * precision * g->mean_slope);
        dout[1] = (float)(weight * 0.5 * (1 - gap * gap * precision) * g->log_variance_slope);
    }
    return 0.5 * (gap * gap * precision + g->log_variance) + HALF_LOG_2PI;
}
