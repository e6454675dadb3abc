/* Gaussian data N(0, S2) per pixel, of which the noise estimate is known: x_t has variance
 * v = a S2 + 1 - a, so eps(x, t) = sqrt(1-a) x / v. */
#ifndef DSCM_TESTS_CORE_DIFFUSION_GAUSSIAN_H
#define DSCM_TESTS_CORE_DIFFUSION_GAUSSIAN_H

#include <math.h>

#include "core/diffusion/schedule.h"

#define S2 0.3

static inline double variance(double a)
{
    return a * S2 + 1 - a;
}

static inline void gaussian_eps(const dscm_schedule *schedule, float *eps, const float *x, double t,
                                size_t floats)
{
    double a = schedule->alphas_cumprod[(size_t)t], c = sqrt(1 - a) / variance(a);
    for (size_t i = 0; i < floats; i++) eps[i] = (float)(c * (double)x[i]);
}

#endif
