/* Inside the pipeline: the state of one run and its parts in different files. */
#ifndef DSCM_CORE_SCM_PIPELINE_INTERNAL_H
#define DSCM_CORE_SCM_PIPELINE_INTERNAL_H

#include "core/scm/pipeline.h"

/* A run is a plan of phases; each has a weight in units of unguided network passes, from which
 * progress is estimated. */
typedef enum run_phase {
    PHASE_ABDUCT,
    PHASE_RECONSTRUCT,
    PHASE_PREDICT,
    PHASE_SCORE,
    PHASE_REVERSE,
    PHASE_VARY,
    PHASE_COUNT
} run_phase;

typedef struct run {
    dscm_session *session;
    const dscm_bundle *bundle;
    const dscm_bundle_info *info;
    const dscm_variable *image;
    dscm_run_item *items;
    size_t count;     /* items */
    size_t *offsets;  /* (count+1): targets of item i are offsets[i] … offsets[i+1]-1 */
    size_t *identity; /* (count+1): 0, 1, 2 …: the same for phases of one image per item */
    size_t total;     /* offsets[count] */
    size_t pixels;    /* H*W*C */
    const dscm_abduction **from; /* (count): what each item starts from */
    dscm_latent *joint;          /* latent of all items when there are several */
    dscm_options options;
    bool auto_scale;
    bool scored; /* verdict, outcome and scores are wanted */
    /* progress */
    const dscm_run_progress *progress;
    run_phase phase;
    double weights[PHASE_COUNT]; /* 0: the phase does not happen */
    size_t steps[PHASE_COUNT];   /* planned, so that none is ever taken back */
    size_t walks, walked; /* of this phase: how many there are (0: nobody knows), have ended */
    size_t last_step;     /* of the walk under way */
    double started_ms, phase_ms;
    dscm_run_times times;
    /* trajectory: frames (frames_count, total, H,W,C), NULL unless wanted */
    uint8_t *frames;
    size_t frames_count;
    dscm_error *err;
} run;

double run_now_ms(void);
/* Starts a phase of so many walks (0: a search, whose walks nobody can count beforehand), and returns
 * the engine's progress callback for it. */
void run_begin(run *r, run_phase phase, size_t walks, dscm_progress *progress);
/* Ends it and adds the time it took to *ms. */
void run_end(run *r, double *ms);
/* Memory, or NULL with r->err set; release with free. */
void *run_alloc(run *r, size_t count, size_t size);

dscm_code run_abduct(run *r) DSCM_MUST_CHECK;
/* The bundle knows what noise-only errors real images have under the options of this run. */
bool run_checks_noise(const run *r);
/* Predicted images (total,H,W,C), clamped and rounded to what a PNG can hold. */
dscm_code run_predict(run *r, float *out, dscm_scale_result *searches) DSCM_MUST_CHECK;
dscm_code run_score(run *r, float *images) DSCM_MUST_CHECK;
/* Fills in what the acceptance nets say of images (total,H,W,C); nothing where the bundle has none. */
dscm_code run_accept(run *r, const float *images) DSCM_MUST_CHECK;
dscm_code run_reverse(run *r, const float *images) DSCM_MUST_CHECK;
/* Fills in the uncertainty of every counterfactual, whose images (total,H,W,C) are one more draw; found:
 * (total) by the search. */
dscm_code run_vary(run *r, const float *images, const dscm_scale_result *found) DSCM_MUST_CHECK;
dscm_code run_samples(run *r) DSCM_MUST_CHECK;

#endif
