#include "core/scm/verdict.h"

#include <math.h>

/* Above this mean error (0..255) the sampler does not give the image back. */
#define ERROR_L1_MAX 4.0
/* Below this probability the predictors do not know what they see. Asked only where the denoising loss
 * was not measured: a garment may be hard to name and yet be like any other. */
#define CONFIDENCE_MIN 0.5

dscm_abduction_evidence dscm_abduction_evidence_none(void)
{
    const dscm_quantile_check none = {(double)NAN, {(double)NAN, (double)NAN}};
    return (dscm_abduction_evidence){.error_l1 = (double)NAN,
                                     .confidence = 1,
                                     .noise_only = none,
                                     .denoising = none,
                                     .contrast = none,
                                     .border = none,
                                     .likeness = none,
                                     .likeness_centred = none};
}

/* False for what was not measured: comparisons with NaN are. */
static bool is_outside(const dscm_quantile_check *check)
{
    return check->value < check->bounds.low || check->value > check->bounds.high;
}

dscm_verdict dscm_verdict_of(const dscm_abduction_evidence *e)
{
    /* A NaN error is no faithful reconstruction either. */
    if (!(e->error_l1 <= ERROR_L1_MAX)) return DSCM_VERDICT_INACCURATE;
    bool unsure = isnan(e->denoising.value) && e->confidence < CONFIDENCE_MIN;
    if (unsure || is_outside(&e->noise_only) || is_outside(&e->denoising) ||
        is_outside(&e->contrast) || is_outside(&e->border) || is_outside(&e->likeness) ||
        is_outside(&e->likeness_centred))
        return DSCM_VERDICT_UNFAMILIAR;
    return DSCM_VERDICT_GOOD;
}

const char *dscm_verdict_name(dscm_verdict verdict)
{
    static const char *const names[] = {"good", "unfamiliar", "inaccurate"};
    return names[verdict];
}

const char *dscm_verdict_words(dscm_verdict verdict)
{
    static const char *const words[] = {
        "The image is reconstructed faithfully and the model recognises it.",
        "The image is reconstructed, but it is unlike the training data: the model finds in "
        "it what images of its kind do not have, or (without bounds of such images) gives none of "
        "the labels a probability of one half. "
        "Counterfactuals may mean little.",
        "The reconstruction differs from the image by more than 4 of 255 on average: take more "
        "steps or an exact sampler.",
    };
    return words[verdict];
}

dscm_outcome_evidence dscm_outcome_evidence_none(void)
{
    return (dscm_outcome_evidence){.acceptance = (double)NAN,
                                   .acceptance_min = (double)NAN,
                                   .blurred = (double)NAN,
                                   .blurred_min = (double)NAN,
                                   .verdict = DSCM_VERDICT_GOOD};
}

static bool is_accepted(const dscm_outcome_evidence *e)
{
    return isnan(e->acceptance) ? e->valid : e->acceptance >= e->acceptance_min && !e->missed;
}

dscm_outcome dscm_outcome_of(const dscm_outcome_evidence *e)
{
    if (!is_accepted(e)) return DSCM_OUTCOME_NOT_FOUND;
    if (e->agreed < e->opinions || e->blurred < e->blurred_min || e->verdict != DSCM_VERDICT_GOOD)
        return DSCM_OUTCOME_CONTESTED;
    return DSCM_OUTCOME_FOUND;
}

const char *dscm_outcome_name(dscm_outcome outcome)
{
    static const char *const names[] = {"found", "contested", "not-found"};
    return names[outcome];
}

const char *dscm_outcome_words(const dscm_outcome_evidence *e)
{
    if (!is_accepted(e) && e->missed)
        return "No counterfactual found: the model sees a number that was set farther away than "
               "the "
               "variable's tolerance.";
    if (!is_accepted(e))
        return e->searched
                   ? "No counterfactual found: not even the strongest guidance makes the model "
                     "see the target."
                   : "No counterfactual found at this scale: the model does not see the target. "
                     "Try a larger scale or \"auto\".";
    if (e->agreed < e->opinions)
        return "The model sees the target, but a second opinion sees something else.";
    if (e->blurred < e->blurred_min)
        return "The model sees the target, but no longer after a light blur.";
    if (e->verdict == DSCM_VERDICT_INACCURATE)
        return "The model sees the target, but the image itself is not reconstructed accurately.";
    if (e->verdict == DSCM_VERDICT_UNFAMILIAR)
        return "The model sees the target, but the image is unlike its training data.";
    return NULL;
}
