/* Whether results look like real images of their class, as a set: precision and recall in a feature
 * space, and the Fréchet distance between disjoint halves.
 *
 * Features come from outside, e.g. from the last hidden layer of a classifier that took no part in
 * making the results. Pure functions on plain arrays; no threads.
 */
#ifndef DSCM_CORE_EVAL_DISTRIBUTION_H
#define DSCM_CORE_EVAL_DISTRIBUTION_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/eval/stats.h"

typedef struct dscm_feature_set {
    const float *rows; /* (count, width), borrowed, free of NaN */
    const int *labels; /* (count) class of each: the target of a result, the own one of an image */
    size_t count, width;
} dscm_feature_set;

/* k-nearest-neighbour precision and recall within the classes (Kynkäänniemi et al. 2019): the share of
 * results that lie in the ball around any real image of their class that reaches to its k-th nearest
 * other one, and the share of real images that lie so in the balls of results of their class. A
 * ball whose centre is the point itself (distance 0) does not count, so that real images may be
 * measured against a set that holds them. Both sets share `width`. NaN where no class has k + 1
 * images to make balls of. Recall rises with the number of results: compare equal numbers only.
 * k >= 1. */
dscm_code dscm_precision_recall(double *precision, double *recall, const dscm_feature_set *results,
                                const dscm_feature_set *real, size_t k,
                                dscm_error *err) DSCM_MUST_CHECK;

/* Fréchet distances over random halvings of `items` images: of the results of one half against the
 * real images of the other, and, at the same halvings, of real images of one half against those of
 * the other. A result so never meets its own factual. */
typedef struct dscm_frechet_halves {
    dscm_interval results, real; /* mean and 2.5 and 97.5 % quantiles over the halvings */
    size_t half;                 /* images on each side */
} dscm_frechet_halves;
/* results, real: (items, width), result i made from image i. half <= most; NaN where a half has fewer
 * than 2 x width images, of which covariances say nothing. halvings: 1..1000. */
dscm_code dscm_frechet_halved(dscm_frechet_halves *out, const float *results, const float *real,
                              size_t items, size_t width, size_t most, size_t halvings,
                              uint64_t seed, dscm_error *err) DSCM_MUST_CHECK;

/* Share of bytes at 3..40 of 255: neither background nor stroke. */
double dscm_faint_share(const uint8_t *pixels, size_t bytes);

#endif
