/* Statistics of evaluation: means with bootstrap intervals, quantiles, Fréchet distance.
 *
 * Pure functions on plain arrays; NaN entries mean "not measured" and are left out of every figure.
 */
#ifndef DSCM_CORE_EVAL_STATS_H
#define DSCM_CORE_EVAL_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

typedef struct dscm_interval {
    double mean, low, high; /* NaN when nothing was measured */
    size_t count;           /* values that were measured */
} dscm_interval;

/* Mean of `values` with its 95 % percentile-bootstrap interval (Efron 1979): `resamples` means of
 * count draws with replacement, 2.5 % and 97.5 % quantiles. Deterministic for a seed. */
dscm_code dscm_bootstrap_mean(dscm_interval *out, const double *values, size_t count,
                              size_t resamples, uint64_t seed, dscm_error *err) DSCM_MUST_CHECK;

/* Quantile q in [0,1] of ascending values by linear interpolation; NaN for count 0. */
double dscm_quantile_sorted(const double *sorted, size_t count, double q);
/* Sorts ascending in place, NaN entries last; returns how many are not NaN. */
size_t dscm_sort_values(double *values, size_t count);

/* Fréchet distance of two Gaussians fitted to feature rows a (na,d) and b (nb,d):
 * |mu_a - mu_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), covariances with n - 1 (Heusel et al. 2017,
 * FID). Needs na, nb >= 2; features NaN-free. */
dscm_code dscm_frechet_distance(double *out, const float *a, size_t na, const float *b, size_t nb,
                                size_t d, dscm_error *err) DSCM_MUST_CHECK;

#endif
