/* Whether results still know their factuals: figures over all results of one target.
 *
 * Scores of single items cannot tell: a method that forgets the factual and gives everybody the
 * same good image of the target class passes them all. Here items are compared within their group,
 * which is the items of the same target; of each target only the first `most` count, for the cost
 * grows with the square of that. Pixels are summed as whole numbers, so that figures are the same
 * on every machine. Pure functions on plain arrays; no threads.
 */
#ifndef DSCM_CORE_EVAL_IDENTITY_H
#define DSCM_CORE_EVAL_IDENTITY_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

/* All borrowed. */
typedef struct dscm_result_set {
    const uint8_t *factuals; /* (count, size) */
    const uint8_t *results;  /* (count, size), in the order of factuals */
    const int *targets;      /* (count), each in 0..labels-1 */
    size_t count, labels;
    size_t size; /* bytes of an image, 1..2^23 */
    size_t most; /* items per target, 1..4000 */
} dscm_result_set;

/* Diversity: mean L1 between two results r_i, r_j of one target,
 *   mean over pairs i < j, t_i = t_j, of  1/size Σ_p |r_ip − r_jp|,
 * range 0 (all the same image) .. 255. Every pair weighs the same. How much is right the data says:
 * that of real images of the classes. NaN without a pair. */
dscm_code dscm_diversity(double *out, const dscm_result_set *set, dscm_error *err) DSCM_MUST_CHECK;

/* Identity rank of each result r_i among the n factuals f_j of its group. What all results of a group
 * share says nothing of anybody, so the group's mean is taken from results and factuals first
 * (r' = r − mean r, f' = f − mean f); ρ is Pearson's over pixels:
 *   ranks[i] = (#{j ≠ i: ρ(r'_i,f'_j) > ρ(r'_i,f'_i)} + ½ #{j ≠ i: ρ equal}) / (n − 1),
 * range 0 (no other factual is more like the result than its own) .. 1; .5 is chance, and what each
 * of a group has whose results are all one image: what is constant correlates with nothing, ρ = 0.
 * NaN for items beyond the first `most` of their target and for the only one of a target. ranks:
 * (count). */
dscm_code dscm_identity_ranks(double *ranks, const dscm_result_set *set,
                              dscm_error *err) DSCM_MUST_CHECK;

#endif
