/* Predictions of many items by the walks of a session: what one prediction and a search share. Internal to
 * core/scm. */
#ifndef DSCM_CORE_SCM_WALKS_H
#define DSCM_CORE_SCM_WALKS_H

#include "core/scm/session.h"

/* Network steps of a call that walks several times: those of the walks before, and of all. */
typedef struct tally {
    const dscm_progress *progress;
    size_t done, total;
} tally;

static inline bool is_conditional(const dscm_options *o)
{
    return o->guidance == DSCM_GUIDANCE_CONDITIONAL;
}

/* Evaluations of the score network, one after the other, that predicting so many items takes. */
size_t scm_walk_steps(const dscm_session *s, const dscm_path *path, size_t items);
/* DSCM_E_MISMATCH: the latent comes from another model or other options. */
dscm_code scm_check_latent(const dscm_session *s, const dscm_latent *latent, const dscm_options *o,
                           dscm_error *err) DSCM_MUST_CHECK;
/* Guidance of every item from its query: out (count, edges). Adds the steps of the walks that this takes
 * to the tally's total before it begins. */
dscm_code scm_guidance_of_all(dscm_session *s, const dscm_latent *latent, const dscm_query *queries,
                              const dscm_options *options, const dscm_path *path, tally *t,
                              guidance *out, dscm_error *err) DSCM_MUST_CHECK;
/* Takes back what a prediction changes without meaning, image and factual (H,W,C) of variable v: pixels whose
 * channels all differ by at most min_change (grey levels) become the factual's; on a dark ground those at most so
 * much above black become ground, and so do spots where the factual has none (at most max_spot pixels that touch each
 * other and nothing else; for 0 at most 4, none brighter than half the range) and pixels at most so much above black that touched a stroke
 * in the factual and touch none any more. */
void scm_undo_small_changes(const dscm_variable *v, float *image, const float *factual,
                            double min_change, size_t max_spot);
/* That, where the query has an image, interventions and min_change, see dscm_query. */
void scm_keep_small(const dscm_session *s, float *image, const dscm_query *query);
/* The states of several walks at their first late level. */
typedef struct midway {
    float *states; /* (2, count, size) */
    bool resumes;  /* the walks begin with them, else they are kept */
} midway;
/* How far a counterfactual is from its factual, by the VAE of searches, see dscm_cld_of_codes. */
typedef struct weighing {
    double cld, minimality, departure;
} weighing;
/* Of one pair (size) with the classes of both; the bundle has such a VAE. */
dscm_code scm_weigh(dscm_session *s, weighing *out, const float *factual,
                    const float *counterfactual, int label, int target,
                    dscm_error *err) DSCM_MUST_CHECK;
/* out (count,H,W,C), not clamped; guided (count, edges); m: or NULL. */
dscm_code scm_predict_guided(dscm_session *s, float *out, const dscm_latent *latent,
                             const guidance *guided, const dscm_path *path, const midway *m,
                             const tally *t, dscm_error *err) DSCM_MUST_CHECK;

#endif
