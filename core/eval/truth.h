/* Counterfactuals of MorphoMNIST against the truth, which there can be drawn: its causal model and its
 * renderer are known (core/data/morpho.h), and so are the digits that its images were rendered from.
 *
 * Interventions are drawn as the field's benchmark does (Melistas et al. 2024). Pure functions but for
 * the scratch of a dscm_morpho, which belongs to one thread at a time.
 */
#ifndef DSCM_CORE_EVAL_TRUTH_H
#define DSCM_CORE_EVAL_TRUTH_H

#include "core/data/morpho.h"

typedef enum dscm_truth_kind {
    DSCM_TRUTH_THICKNESS,
    DSCM_TRUTH_INTENSITY,
    DSCM_TRUTH_DIGIT,
    DSCM_TRUTH_JOINT, /* all three at once */
    DSCM_TRUTH_KINDS
} dscm_truth_kind;
const char *dscm_truth_name(dscm_truth_kind kind); /* "do(thickness)" … */

/* Of an image: digit 0..9, pixels, grey levels. NaN: not set, of interventions. */
typedef struct dscm_morpho_parents {
    double digit, thickness, intensity;
} dscm_morpho_parents;

/* An intervention per image, out (count): a value drawn uniformly from the distinct values of all images
 * outside the image's own bin, of 9 equal ones between the smallest and the largest; another digit.
 * Image i draws from a stream of the seed that is its and the kind's alone. DSCM_E_INVALID where all
 * images share one bin. */
dscm_code dscm_truth_draw(dscm_morpho_parents *out, dscm_truth_kind kind,
                          const dscm_morpho_parents *factuals, size_t count, uint64_t seed,
                          dscm_error *err) DSCM_MUST_CHECK;
/* The parents under an intervention: what is set, intensity after thickness with the individual's noise,
 * the others as they are. */
dscm_morpho_parents dscm_truth_parents(const dscm_morpho_parents *factual,
                                       const dscm_morpho_parents *set);

/* Errors of one result, absolute; NaN where there is no truth. */
typedef struct dscm_truth_row {
    double l1;                               /* mean |difference| to the truth, 0..255 */
    double thickness_truth, intensity_truth; /* measured on both, so that 0 can be reached */
    double thickness, intensity;             /* measured, against what was asked for */
    /* minimality: an answer changes what the intervention calls for, and no more */
    double change; /* mean |result - factual|, 0..255 */
    double due;    /* mean |truth - factual|: the change that is called for */
    double excess; /* mean over pixels of max(0, |result - factual| - |truth - factual|); 0 of the
                      truth, and of an image in which nothing was done */
} dscm_truth_row;
/* factual, result, truth: (h,w) of the morpho; truth NULL: another digit was asked for, whose
 * handwriting nobody knows. */
void dscm_truth_measure(dscm_truth_row *out, dscm_morpho *morpho, const uint8_t *factual,
                        const uint8_t *result, const uint8_t *truth, size_t pixels,
                        const dscm_morpho_parents *asked);
/* Mean |difference| of two images, 0..255. */
double dscm_truth_l1(const uint8_t *a, const uint8_t *b, size_t pixels);
/* Index of the image, other than `self`, of the asked digit whose thickness and intensity, each in its
 * standard deviations, are nearest; `self` where there is none. */
size_t dscm_truth_nearest(const dscm_morpho_parents *all, size_t count, size_t self,
                          const dscm_morpho_parents *asked);

#endif
