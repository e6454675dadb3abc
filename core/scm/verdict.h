/* Verdicts and outcomes: how far an abduction and a counterfactual may be believed.
 *
 * The one place where either is decided, for the service, the command line and the page alike. It
 * takes measured numbers and applies rules; it runs no network. NaN means that a number was not
 * measured, and a rule without its number does not apply. Threads: pure functions.
 */
#ifndef DSCM_CORE_SCM_VERDICT_H
#define DSCM_CORE_SCM_VERDICT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/diffscm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- of an abduction ---- */
typedef enum dscm_verdict {
    DSCM_VERDICT_GOOD,       /* reconstructed faithfully and familiar to the model */
    DSCM_VERDICT_UNFAMILIAR, /* reconstructed, but unlike the training data */
    DSCM_VERDICT_INACCURATE  /* the sampler does not give the image back */
} dscm_verdict;

/* A measured number and the range of it that images of the model's kind have. */
typedef struct dscm_quantile_check {
    double value;       /* NaN: not measured */
    dscm_bounds bounds; /* quantiles of held-out images */
} dscm_quantile_check;

typedef struct dscm_abduction_evidence {
    double error_l1;   /* mean |reconstruction - image| on 0..255; must be measured */
    double confidence; /* 0..1: largest probability of the least certain categorical parent, by the
                          acceptance nets, or by the predictors where there are none; 1 without a
                          categorical parent */
    dscm_quantile_check
        noise_only; /* mean |image rebuilt from the top state alone - image|, 0..255 */
    dscm_quantile_check denoising; /* denoising loss of the image */
    dscm_quantile_check contrast;  /* standard deviation of its values */
    dscm_quantile_check border;    /* mean level of its outermost pixels; grey images */
    dscm_quantile_check likeness, likeness_centred; /* to the nearest of real images, 0..1 */
} dscm_abduction_evidence;

/* Confidence 1, nothing else measured. */
dscm_abduction_evidence dscm_abduction_evidence_none(void);
dscm_verdict dscm_verdict_of(const dscm_abduction_evidence *evidence);
const char *dscm_verdict_name(dscm_verdict verdict); /* "good", "unfamiliar", "inaccurate" */
/* One or two sentences on how it was judged. Static storage. */
const char *dscm_verdict_words(dscm_verdict verdict);

/* ---- of a counterfactual ---- */
typedef enum dscm_outcome {
    DSCM_OUTCOME_FOUND,     /* what was set is seen in the image, and nothing contradicts it */
    DSCM_OUTCOME_CONTESTED, /* seen, but a second opinion, a light blur or the verdict speaks against */
    DSCM_OUTCOME_NOT_FOUND /* what was set is not seen in the image */
} dscm_outcome;

typedef struct dscm_outcome_evidence {
    bool valid;    /* the guiding predictors see every value that was set */
    bool searched; /* the guidance scale was searched up to its limit */
    double
        acceptance; /* 0..1: probability of the least sure target by the acceptance nets; decides in
                          place of `valid` where it was measured, about labels */
    bool missed;    /* a number that was set is seen farther away than its tolerance */
    double acceptance_min;   /* 0..1: accepted from here on */
    size_t opinions, agreed; /* second opinions asked; those that name the target */
    double blurred;          /* 0..1: probability of the target after a light blur */
    double blurred_min;      /* 0..1: contested below */
    dscm_verdict verdict;    /* of the abduction it was predicted from */
} dscm_outcome_evidence;

/* Invalid, nothing else measured, of a good abduction. */
dscm_outcome_evidence dscm_outcome_evidence_none(void);
dscm_outcome dscm_outcome_of(const dscm_outcome_evidence *evidence);
const char *dscm_outcome_name(dscm_outcome outcome); /* "found", "contested", "not-found" */
/* A sentence or two on why it was not simply found; NULL when it was. Static storage. */
const char *dscm_outcome_words(const dscm_outcome_evidence *evidence);

#ifdef __cplusplus
}
#endif

#endif
