/* The judges of a bundle over a set of results: every figure of a method's row in one call.
 *
 * Judges are the panel, which took no part in making the model or its choices, or the selection
 * judges, which choices are made by. Results are 8-bit images: what a user receives is what is
 * judged. An object and its networks belong to one thread.
 */
#ifndef DSCM_CORE_EVAL_JUDGES_H
#define DSCM_CORE_EVAL_JUDGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/diffscm.h"
#include "core/eval/distribution.h"
#include "core/eval/traits.h"

enum { DSCM_JUDGES_MAX = 8, DSCM_PRECISION_NEIGHBOURS = 5, DSCM_FRECHET_HALF = 2500 };

typedef struct dscm_judges dscm_judges;

/* batch: images per pass. DSCM_E_UNKNOWN where the bundle has no such judges. The bundle is borrowed. */
dscm_code dscm_judges_open(dscm_judges **out, const dscm_bundle *bundle, bool selection,
                           size_t batch, dscm_error *err) DSCM_MUST_CHECK;
void dscm_judges_free(dscm_judges *judges); /* takes NULL */

/* Share of a set's images that each classifier calls their class, as they are and after a light blur
 * (the 3x3 binomial kernel, edges repeated). */
typedef struct dscm_calls {
    double sharp[DSCM_JUDGES_MAX], blurred[DSCM_JUDGES_MAX]; /* (classifiers) */
    size_t classifiers;
} dscm_calls;

/* Real images, which results are compared with: kept by the judges as features, traits and counts. */
typedef struct dscm_real_figures {
    dscm_calls calls; /* of their own class */
    double faint;
    size_t count;
} dscm_real_figures;
/* pixels (count, size) and labels (count) are borrowed until the judges are freed. Again: replaces. */
dscm_code dscm_judges_set_real(dscm_judges *judges, const uint8_t *pixels, const uint8_t *labels,
                               size_t count, dscm_real_figures *out,
                               dscm_error *err) DSCM_MUST_CHECK;

typedef struct dscm_judged {
    size_t count;
    dscm_calls calls;                           /* of the target: validity */
    dscm_interval cld;                          /* of the items' means over the VAEs */
    double cld_of[DSCM_JUDGES_MAX], cld_spread; /* mean by each VAE; largest less smallest */
    size_t vaes;
    dscm_interval im1;
    double precision, recall; /* k = 5, first classifier's features, within the target class */
    dscm_frechet_halves frechet;
    double faint;
    double traits[DSCM_TRAITS]; /* correlation with the factual, class means taken off; NaN for
                                   images of more than one channel */
} dscm_judged;

/* Results (count, size) with targets (count), result i made from real image i: count is at most that
 * of dscm_judges_set_real. What a bundle's nets do not allow is NaN. halvings: of the Fréchet
 * distance. */
dscm_code dscm_judges_run(dscm_judges *judges, dscm_judged *out, const uint8_t *results,
                          const int *targets, size_t count, size_t halvings, uint64_t seed,
                          dscm_error *err) DSCM_MUST_CHECK;

#endif
