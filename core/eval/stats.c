#include "core/eval/stats.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/kernels/linalg.h"

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y)) return isnan(x) - isnan(y);
    return (x > y) - (x < y);
}

size_t dscm_sort_values(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
    while (count && isnan(values[count - 1])) count--;
    return count;
}

double dscm_quantile_sorted(const double *sorted, size_t count, double q)
{
    if (count == 0) return NAN;
    double place = q * (double)(count - 1);
    size_t low = (size_t)floor(place);
    if (low + 1 >= count) return sorted[count - 1];
    return sorted[low] + (place - (double)low) * (sorted[low + 1] - sorted[low]);
}

dscm_code dscm_bootstrap_mean(dscm_interval *out, const double *values, size_t count,
                              size_t resamples, uint64_t seed, dscm_error *err)
{
    *out = (dscm_interval){NAN, NAN, NAN, 0};
    if (resamples < 10 || resamples > 1000000)
        return dscm_fail(err, DSCM_E_INVALID, "bootstrap: %zu resamples is not in 10..1000000",
                         resamples);
    double *kept = dscm_alloc(count + resamples, sizeof *kept, "bootstrap", err);
    if (!kept) return DSCM_E_MEMORY;
    double *means = kept + count, sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i])) sum += kept[n++] = values[i];
    out->count = n;
    if (n) {
        dscm_rng rng = dscm_rng_make(seed, 0);
        for (size_t r = 0; r < resamples; r++) {
            double total = 0;
            for (size_t i = 0; i < n; i++) total += kept[dscm_rng_below(&rng, (uint32_t)n)];
            means[r] = total / (double)n;
        }
        dscm_sort_values(means, resamples);
        *out = (dscm_interval){sum / (double)n, dscm_quantile_sorted(means, resamples, 0.025),
                               dscm_quantile_sorted(means, resamples, 0.975), n};
    }
    dscm_free(kept);
    return DSCM_OK;
}

/* mean (d) and covariance (d,d), divisor n - 1. */
static void moments(double *mean, double *cov, const float *x, size_t n, size_t d)
{
    memset(mean, 0, d * sizeof *mean);
    memset(cov, 0, d * d * sizeof *cov);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d; j++) mean[j] += (double)x[i * d + j] / (double)n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d; j++) {
            double c = ((double)x[i * d + j] - mean[j]) / (double)(n - 1);
            for (size_t k = 0; k < d; k++) cov[j * d + k] += c * ((double)x[i * d + k] - mean[k]);
        }
}

/* c = a b, all (d,d). */
static void product(double *c, const double *a, const double *b, size_t d)
{
    memset(c, 0, d * d * sizeof *c);
    for (size_t i = 0; i < d; i++)
        for (size_t k = 0; k < d; k++)
            for (size_t j = 0; j < d; j++) c[i * d + j] += a[i * d + k] * b[k * d + j];
}

/* root = v^T diag(sqrt(max(w, 0))) v for eigenvector rows v. */
static void root_from_eigen(double *root, const double *v, const double *w, size_t d)
{
    memset(root, 0, d * d * sizeof *root);
    for (size_t e = 0; e < d; e++) {
        double s =
            w[e] > 0 ? sqrt(w[e]) : 0; /* rounding makes tiny negatives of a semidefinite matrix */
        for (size_t i = 0; i < d; i++)
            for (size_t j = 0; j < d; j++) root[i * d + j] += s * v[e * d + i] * v[e * d + j];
    }
}

dscm_code dscm_frechet_distance(double *out, const float *a, size_t na, const float *b, size_t nb,
                                size_t d, dscm_error *err)
{
    assert(na >= 2 && nb >= 2 && d >= 1);
    size_t square = d * d;
    double *memory = dscm_alloc(5 * square + 3 * d, sizeof *memory, "Fréchet distance", err);
    if (!memory) return DSCM_E_MEMORY;
    double *cov_a = memory, *cov_b = cov_a + square, *root = cov_b + square, *half = root + square,
           *inner = half + square, *mean_a = inner + square, *mean_b = mean_a + d, *w = mean_b + d;
    moments(mean_a, cov_a, a, na, d);
    moments(mean_b, cov_b, b, nb, d);
    double distance = 0;
    for (size_t i = 0; i < d; i++) {
        double gap = mean_a[i] - mean_b[i];
        distance += gap * gap + cov_a[i * d + i] + cov_b[i * d + i];
    }
    dscm_code code = dscm_eigen_symmetric(cov_a, w, d, err);
    if (code == DSCM_OK) {
        root_from_eigen(root, cov_a, w, d);
        product(half, root, cov_b, d);
        product(inner, half, root, d);
        code = dscm_eigen_symmetric(inner, w, d, err);
    }
    if (code == DSCM_OK) {
        /* tr of a root is the sum of the roots of its eigenvalues */
        for (size_t i = 0; i < d; i++) distance -= 2 * (w[i] > 0 ? sqrt(w[i]) : 0);
        *out = distance > 0 ? distance : 0;
    }
    dscm_free(memory);
    return code;
}
