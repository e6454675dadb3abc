/* The counterfactual pipeline: observe, abduct, predict or search a scale, judge, score.
 *
 * The one way from factual images to counterfactuals with verdicts and scores: jobs of the service,
 * `diffscm counterfactual` and `demo` all call dscm_run. Results are floats; files and JSON are made
 * from them in api/. It knows no queue, no socket, no file.
 *
 * Threads: a session belongs to one thread at a time; abductions and results are immutable once
 * returned and may be read by several.
 */
#ifndef DSCM_CORE_SCM_PIPELINE_H
#define DSCM_CORE_SCM_PIPELINE_H

#include "core/diffscm.h"
#include "core/scm/verdict.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DSCM_TARGET_VARIABLES_MAX 16 /* interventions of one counterfactual */
#define DSCM_FRAMES_MAX           12 /* images of a trajectory */

/* ---- what is asked ---- */

typedef enum dscm_work {
    DSCM_WORK_COUNTERFACTUAL,
    DSCM_WORK_ABDUCTION,
    DSCM_WORK_SAMPLE
} dscm_work;

/* Parts of a result; bits of `wanted`. The pipeline looks at those that cost it something: scores,
 * trajectory, reversibility and uncertainty. */
enum {
    DSCM_WANT_COUNTERFACTUAL = 1,
    DSCM_WANT_DIFFERENCE = 2,
    DSCM_WANT_RECONSTRUCTION = 4,
    DSCM_WANT_TRAJECTORY = 8,
    DSCM_WANT_REVERSIBILITY = 16, /* a second abduction and prediction: doubles the cost */
    DSCM_WANT_FACTUAL = 32,       /* the image as the model saw it */
    DSCM_WANT_SCORES = 64,        /* reconstruction, observation, verdict, outcome and scores */
    DSCM_WANT_UNCERTAINTY = 128   /* predictions at DSCM_STRENGTHS_VARIED more strengths */
};

/* Strengths, relative to the one of the counterfactual, that its uncertainty is taken over. */
#define DSCM_STRENGTHS_VARIED 4

/* What is done to which variables: one counterfactual of a fan. No intervention: the null
 * counterfactual. */
typedef struct dscm_target {
    dscm_intervention items[DSCM_TARGET_VARIABLES_MAX];
    size_t count;
} dscm_target;

/* One factual image and what is asked about it. Borrowed, and unchanged until the run ends. */
typedef struct dscm_case {
    dscm_work work;
    const uint8_t *pixels; /* (H,W,C) of the model; NULL for samples and with an abduction */
    bool inverted;         /* the pixels were made of dark ink on light paper: told in the reply */
    const dscm_target *targets; /* counterfactual: one or more; sample: none (unguided), one, or
                                   one for each */
    size_t targets_count;
    const double *factuals; /* (variables) known values of the image, NaN where not; or NULL */
    dscm_options options;   /* resolved */
    bool auto_scale;        /* search a scale per counterfactual, see dscm_scale_search */
    bool noise_only;        /* predict from the top level alone, see dscm_latent_forget */
    uint64_t seed;          /* of samples */
    size_t first, count;    /* samples to draw: random streams first .. first+count-1 of the seed */
    unsigned wanted;        /* DSCM_WANT_… */
} dscm_case;

/* ---- an abduction ---- */

typedef struct dscm_abduction {
    dscm_latent *latent;          /* one item; owned */
    const dscm_bundle_info *info; /* borrowed from the bundle */
    dscm_options options;         /* resolved; what dscm_predict must be given again */
    uint8_t *pixels;              /* factual (H,W,C); owned */
    float *image;                 /* the same in [-1,1]; owned */
    float *reconstruction;        /* null counterfactual (H,W,C), rounded to 8 bits; owned */
    float **observed;             /* per variable: probabilities, or mean and variance; owned */
    bool inverted;                /* the factual was made of dark ink on light paper */
    double *factual;              /* per variable: value given or else observed (most likely label,
                                     mean), NaN for images and where nothing was observed; owned */
    bool *given;                  /* per variable: it was given; owned */
    double error_l1;              /* mean |reconstruction - image| on 0..255 */
    double error_max;             /* largest one */
    dscm_abduction_evidence evidence;
    dscm_verdict verdict;
    double abduct_ms;
} dscm_abduction;

void dscm_abduction_free(dscm_abduction *abduction); /* takes NULL */
size_t dscm_abduction_bytes(const dscm_abduction *abduction);

/* ---- progress ---- */

typedef struct dscm_run_event {
    const char *phase; /* "abduct", "reconstruct", "predict", "score", "reverse", "vary" */
    size_t step,
        steps;       /* network steps done and expected in the whole run; never fewer than before */
    double fraction; /* 0..1 of the estimated cost */
    double elapsed_ms, eta_ms;
    const float
        *preview; /* (count,H,W,C) guesses of the clean images, or NULL; valid in the call */
    const size_t
        *offsets; /* images of item i of the run: offsets[i] .. offsets[i+1]-1 of preview */
} dscm_run_event;

typedef struct dscm_run_progress {
    /* Called between steps by the session's thread; false stops the run (DSCM_E_CANCELED). */
    bool (*on_step)(void *arg, const dscm_run_event *event);
    void *arg;
    /* Asked within a step, between the layers of a network; false stops as above. NULL: never. */
    bool (*keep_going)(void *arg);
} dscm_run_progress;

/* ---- results ---- */

typedef struct dscm_counterfactual {
    dscm_target target;
    float *image; /* (H,W,C) in [-1,1], rounded to 8 bits; owned */
    dscm_outcome outcome;
    dscm_outcome_evidence evidence;
    double scale;       /* guidance used */
    size_t predictions; /* reverse processes it cost (1 without auto) */
    dscm_scores scores; /* of the first categorical intervention (of the null counterfactual: of the
                              value seen); without one valid, l1, l2 and changed_share, the other
                              numbers NaN. This and the outcome: only where scores were wanted */
    const char *oracle; /* label that the bundle's oracle reads, or NULL; borrowed from info */
    double observed_value; /* of that variable in the image; without one, of the first intervened
                              on; NaN where nothing was observed */
    double *propagated;   /* (variables): values under the intervention, NaN where unknown; owned */
    double composition;   /* L1 of the reconstruction, 0..255 */
    double reversibility; /* L1 of do(factual) after do(target), 0..255; NaN unless wanted */
    float *uncertainty; /* (H,W) standard deviation of a pixel over half to twice the strength, root
                             mean square of its channels, 0..255; owned; NULL unless wanted */
    double uncertainty_mean; /* over the pixels; NaN unless wanted */
} dscm_counterfactual;

/* An encoded picture of a result; see dscm_result_render in api/pictures.h. */
typedef struct dscm_image_file {
    char name[40]; /* "counterfactual-0", "difference-0", "reconstruction", "factual", "sample-0" */
    uint8_t *png;  /* owned */
    size_t size;
} dscm_image_file;

typedef struct dscm_run_times {
    double queue, decode, abduct, predict, score, encode; /* ms */
} dscm_run_times;

typedef struct dscm_result {
    dscm_work work;
    const dscm_bundle_info *info;
    dscm_options options; /* as run */
    bool auto_scale;
    uint64_t seed;
    unsigned wanted;
    dscm_counterfactual *counterfactuals; /* owned; images of samples too */
    size_t count;
    uint8_t *frames;     /* trajectories (frames_count, count, H,W,C); owned; NULL unless wanted */
    size_t frames_count; /* at most DSCM_FRAMES_MAX, evenly spread over the prediction */
    dscm_image_file *files; /* owned; none until they are rendered */
    size_t files_count;
    dscm_run_times times; /* without queue, decode and encode, which others fill in */
    size_t batch;         /* images that ran together */
    const char *verdict;  /* of the abduction, a static name; NULL for samples and without scores */
} dscm_result;

void dscm_result_free(dscm_result *result); /* takes NULL */
/* The file of a name, or NULL. */
const dscm_image_file *dscm_result_file(const dscm_result *result, const char *name);
size_t dscm_result_bytes(const dscm_result *result);
/* Lets go of the images as floats and of the frames once the files are all that is wanted. */
void dscm_result_shrink(dscm_result *result);

/* ---- running ---- */

typedef struct dscm_run_item {
    dscm_case ask;
    const dscm_abduction *cached; /* abduction to use, or NULL; borrowed; made with scores wanted */
    dscm_abduction *abduction;    /* out: a new abduction (owned by the caller), NULL when `cached`
                                     was given or for samples */
    dscm_result *result;          /* out: owned by the caller; NULL for DSCM_WORK_ABDUCTION */
} dscm_run_item;

/* Runs `count` >= 1 cases as one batch. They agree in work, sampler, steps, ratio, dynamic, search and in
 * whether scores, reversibility and uncertainty are wanted; scales may differ. An item with a cached abduction runs
 * alone (count 1). All succeed or all fail: then every abduction and result is NULL. progress may be
 * NULL. */
dscm_code dscm_run(dscm_session *session, const dscm_bundle *bundle, dscm_run_item *items,
                   size_t count, const dscm_run_progress *progress,
                   dscm_error *err) DSCM_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
