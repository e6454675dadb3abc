/* The runner: a parsed request becomes a result, by one session. Server workers and the command
 * line call the same function.
 *
 * Steps: abduct (or take a kept abduction), predict the fan in one batch, score, render PNGs. It
 * knows no queue, no socket, no id. Threads: a session belongs to one thread at a time; abductions
 * and results are immutable once returned and may be read by several.
 */
#ifndef DSCM_API_RUN_H
#define DSCM_API_RUN_H

#include "api/request.h"

/* ---- what is kept of an abduction ---- */

typedef enum dscm_verdict {
    DSCM_VERDICT_GOOD,       /* reconstructed faithfully and familiar to the model */
    DSCM_VERDICT_UNFAMILIAR, /* reconstructed, but unlike the training data */
    DSCM_VERDICT_INACCURATE  /* the sampler does not give the image back */
} dscm_verdict;
const char *dscm_verdict_name(dscm_verdict verdict);  /* "good", "unfamiliar", "inaccurate" */
const char *dscm_verdict_words(dscm_verdict verdict); /* one sentence: how it was judged */

typedef struct dscm_abduction {
    dscm_latent *latent;          /* one item; owned */
    const dscm_bundle_info *info; /* borrowed from the bundle */
    dscm_options options;         /* resolved; what dscm_predict must be given again */
    uint8_t *pixels;              /* factual (H,W,C); owned */
    float *image;                 /* the same in [-1,1]; owned */
    float *reconstruction;        /* null counterfactual (H,W,C); owned */
    float **observed;             /* per variable: probabilities, or mean and variance; owned */
    double *factual;              /* per variable: observed value (argmax, mean), NaN for images */
    double error_l1;              /* mean |reconstruction - image| on 0..255 */
    double error_max;             /* largest one */
    double confidence;            /* largest probability of the least certain categorical parent */
    dscm_verdict verdict;
    double abduct_ms;
} dscm_abduction;

void dscm_abduction_free(dscm_abduction *abduction); /* takes NULL */
size_t dscm_abduction_bytes(const dscm_abduction *abduction);

/* ---- progress ---- */

typedef struct dscm_run_event {
    const char *phase;  /* "abduct", "reconstruct", "predict", "score" */
    size_t step, steps; /* network steps done and expected in the whole run */
    double fraction;    /* 0..1 of the estimated cost */
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
    float *image;          /* (H,W,C) in [-1,1]; owned */
    bool found;            /* the predictor calls it the target */
    double scale;          /* guidance used */
    size_t predictions;    /* reverse processes it cost (1 without auto) */
    dscm_scores scores;    /* of the first categorical intervention; NaN without one */
    const char *oracle;    /* label that the bundle's oracle reads, or NULL; borrowed from info */
    double observed_value; /* of that variable in the image */
    double *propagated;   /* (variables): values under the intervention, NaN where unknown; owned */
    double composition;   /* L1 of the reconstruction, 0..255 */
    double reversibility; /* L1 of do(factual) after do(target), 0..255; NaN unless wanted */
} dscm_counterfactual;

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
    dscm_image_file *files; /* owned */
    size_t files_count;
    dscm_run_times times; /* the server fills `queue` */
    size_t batch;         /* images that ran together */
    const char *verdict;  /* of the abduction, a static name; NULL for samples */
} dscm_result;

void dscm_result_free(dscm_result *result); /* takes NULL */
/* The file of a name, or NULL. */
const dscm_image_file *dscm_result_file(const dscm_result *result, const char *name);
size_t dscm_result_bytes(const dscm_result *result);
/* Lets go of the images as floats once the files are all that is wanted. */
void dscm_result_shrink(dscm_result *result);

/* ---- running ---- */

typedef struct dscm_run_item {
    const dscm_request *request;
    const dscm_abduction *cached; /* abduction to use, or NULL; borrowed */
    dscm_abduction *abduction;    /* out: a new abduction (owned by the caller), NULL when kept was
                                   given or for samples */
    dscm_result *result;          /* out: owned by the caller; NULL for DSCM_WORK_ABDUCTION */
} dscm_run_item;

/* Runs `count` compatible requests (dscm_request_compatible) as one batch; items with a kept
 * abduction run only alone (count 1). All succeed or all fail. progress may be NULL. */
dscm_code dscm_run(dscm_session *session, const dscm_bundle *bundle, dscm_run_item *items,
                   size_t count, const dscm_run_progress *progress,
                   dscm_error *err) DSCM_MUST_CHECK;

#endif
