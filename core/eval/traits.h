/* What of the factual a result keeps: slant, thickness, height and intensity of bright strokes on
 * dark ground, measured on pixels, and their correlation between the two.
 *
 * A class has a slant and a thickness of its own, so that two images of different classes may
 * correlate without sharing a writer, or not although they do: the mean of real images of its class
 * is taken from each value first. One channel, sides 1..64. No threads.
 */
#ifndef DSCM_CORE_EVAL_TRAITS_H
#define DSCM_CORE_EVAL_TRAITS_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

typedef enum dscm_trait {
    DSCM_TRAIT_SLANT,     /* radians, see dscm_morphometry */
    DSCM_TRAIT_THICKNESS, /* pixels, see dscm_morphometry */
    DSCM_TRAIT_HEIGHT,    /* rows from the first to the last that reaches the middle of the range */
    DSCM_TRAIT_INTENSITY, /* 0..255, see dscm_morphometry */
    DSCM_TRAITS
} dscm_trait;
const char *dscm_trait_name(dscm_trait trait); /* "slant", "thickness", "height", "intensity" */

/* out: (count, DSCM_TRAITS) of images (count, h, w). */
dscm_code dscm_traits_measure(double *out, const uint8_t *pixels, size_t count, size_t h, size_t w,
                              dscm_error *err) DSCM_MUST_CHECK;
/* out: (labels, DSCM_TRAITS) means over the images of each class; NaN for a class without. */
void dscm_traits_class_means(double *out, const double *traits, const int *classes, size_t count,
                             size_t labels);
/* Pearson's correlation over items of factual and result, each less the mean of its class, in
 * [-1, 1]; NaN where either does not vary. factual, result: (count, DSCM_TRAITS); own, target:
 * (count) classes; means: (labels, DSCM_TRAITS); out: (DSCM_TRAITS). */
void dscm_traits_correlation(double *out, const double *factual, const double *result,
                             const int *own, const int *target, size_t count, const double *means);

#endif
