/* What the abducted noise holds: whether it carries the picture or what a sampler stores beside it does, how
 * near it is to the normal noise that the mechanism draws from, and whether the parent can be read in it.
 */
#ifndef DSCM_CORE_EVAL_NOISE_H
#define DSCM_CORE_EVAL_NOISE_H

#include "core/diffscm.h"

typedef struct dscm_noise_data {
    const float *images;   /* (count,H,W,C) */
    const double *factual; /* (count, variables) known values, NaN where the predictors are asked */
    const int *labels;     /* (count) of `variable`, of the images */
    const int *targets;    /* (count) … of their counterfactuals */
    size_t count;
    int variable; /* categorical, with labels below labels_count */
} dscm_noise_data;

typedef struct dscm_noise_row {
    double full;       /* L1 of the reconstruction from noise and stored terms, 0..255 */
    double noise_only; /* … from the noise alone, see dscm_noise_only_error */
    double mean, deviation,
        kurtosis; /* of all elements of the noise; kurtosis beyond the normal's */
    double
        probe; /* share of the odd images whose label a linear probe of their noise names that was
                      fitted to the even ones */
    double
        follows; /* share of counterfactuals that, made from another image's noise with the own stored
                       terms, are nearer to that image's counterfactual than to their own; NaN where no
                       two images have one label */
} dscm_noise_row;

/* options: resolved; counterfactuals have scale 1. At least 4 images. */
dscm_code dscm_noise_measure(dscm_noise_row *out, dscm_session *session, const dscm_bundle *bundle,
                             const dscm_noise_data *data, const dscm_options *options,
                             dscm_error *err) DSCM_MUST_CHECK;

/* Share of the odd rows of x (count, size) whose label a linear probe names: ridge regression of the
 * labels' indicators on the even rows, its penalty the mean squared length of a row. */
dscm_code dscm_noise_probe(double *out, const float *x, const int *labels, size_t count,
                           size_t size, size_t labels_count, dscm_error *err) DSCM_MUST_CHECK;

#endif
