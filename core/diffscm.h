/* diffscm: the engine's face. All that the server and the command line use.
 *
 * From images to counterfactuals with verdicts and scores in one call: dscm_run of
 * core/scm/pipeline.h, which is what the service and the command line call. Here are its parts.
 *
 * A bundle is a loaded model directory: immutable, shared by every thread. A session is one
 * thread's scratch for one bundle; all memory for its batch size is taken when it opens. A
 * counterfactual is three calls (Pearl 2009, ch. 7; Sanchez & Tsaftaris 2022):
 *
 *     dscm_abduct(session, images) -> latent        infer the exogenous noise u, once
 *     interventions                                 do(variable := value), per item of the batch
 *     dscm_predict(session, latent, …) -> images    the reverse process from that u, guided
 *
 * A latent is a value: keep it, serialise it, intervene on it as often as you like. Images are
 * (B,H,W,C) float in [-1, 1] (v / 127.5 - 1 of 8-bit pixels). Nothing here prints, exits, or knows
 * HTTP, PNG or the command line. Randomness, progress callbacks and errors are arguments.
 */
#ifndef DSCM_CORE_DIFFSCM_H
#define DSCM_CORE_DIFFSCM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/cpu.h"
#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- variables and graph ---- */
typedef enum dscm_kind { DSCM_CATEGORICAL, DSCM_CONTINUOUS, DSCM_IMAGE } dscm_kind;

typedef struct dscm_variable {
    const char *name;
    dscm_kind kind;
    size_t labels_count;       /* categorical: number of labels */
    const char *const *labels; /* categorical: their names, by index */
    double min, max;           /* continuous: range of allowed values */
    double tolerance; /* continuous: a value is met when seen no farther from it than this */
    double
        result_bias; /* continuous: what its predictor reads too much in results, 0 where it is not known;
                           searches, verdicts and the observed value of a counterfactual subtract it */
    size_t h, w, c;     /* image */
    bool dark_ground;   /* image: nearly all real ones have a dark border (calibrated bundles) */
    const int *parents; /* indices of variables, in ascending order */
    size_t parents_count;
} dscm_variable;

/* ---- bundle ---- */
typedef struct dscm_bundle dscm_bundle;

/* Strength that validity needs at a number of steps, measured on development data. */
typedef struct dscm_calibration {
    const char *sampler;
    size_t steps;
    double scale;
} dscm_calibration;

typedef struct dscm_bounds {
    double low, high; /* NaN: no limit on this side */
} dscm_bounds;

/* Bounds between which nearly all real images lie, measured on images that trained no network. */
typedef struct dscm_quantiles {
    bool known;             /* false: the bundle has none, and the bounds are NaN */
    dscm_bounds noise_only; /* dscm_noise_only_error under the bundle's default options */
    dscm_bounds loss;       /* dscm_denoising_loss */
    dscm_bounds contrast;   /* dscm_contrast */
    dscm_bounds border;     /* mean level of the outermost pixels, 0..255; grey images */
    dscm_bounds likeness, likeness_centred; /* dscm_likeness; NaN without reference images */
    const float
        *references; /* (references_count, 98) 7x7 blocks of real images: means, deviations */
    size_t references_count;
} dscm_quantiles;

typedef struct dscm_bundle_info {
    int format; /* 1 or 2 of "diffscm-bundle-N" */
    const char *name, *version, *licence, *provenance, *dir;
    const char *sha256;   /* of manifest.json, which holds the hashes of all other files */
    const char *manifest; /* the manifest's text as read (JSON) */
    const dscm_variable *variables; /* in topological order: parents before children */
    size_t variables_count;
    int image; /* index of the image variable that queries are about */
    const dscm_calibration *calibrations;
    size_t calibrations_count;
    bool auto_scale;    /* default: a scale searched per item, see dscm_scale_search */
    double confidence;  /* of that search, 0..1; NaN: the default of the guidance */
    double change_cost; /* of that search, 0..1 per grey level */
    bool has_cld, has_im, has_oracle; /* evaluation nets on board */
    bool has_panel;          /* they took no part in making the model or its choices (format 2) */
    int scored;              /* index of the variable that all judging nets are about, or -1 */
    size_t acceptance_count; /* nets of dscm_observe_acceptance; 0: what the guide says counts */
    dscm_quantiles quantiles;
    size_t parameters;   /* of all networks */
    size_t bytes;        /* memory of the weights; 0 when only described */
    size_t mapped_bytes; /* weights that are used from their mapped files */
} dscm_bundle_info;

/* Loads and checks DIR/manifest.json and every file it names (hash, shape, graph). Caller owns. */
dscm_code dscm_bundle_open(dscm_bundle **out, const char *dir, dscm_error *err) DSCM_MUST_CHECK;

/* How a bundle is loaded. Weights are shared by all sessions. Either they are packed into memory as
 * float32 in the form their kernels want, or they stay in their mapped files, in 16 bits where they
 * were stored so, and each layer is packed when it runs: some 10 % slower, and the kernel may drop
 * their pages at any time. */
typedef struct dscm_load_options {
    bool describe; /* only the manifest: no file is read or checked, and no session can be opened */
    size_t memory; /* bytes for weights (mapped ones too) and sessions: packed weights where they
                      fit, else mapped ones; DSCM_E_LIMIT when these do not fit either, and sessions
                      take fewer images per pass. 0: networks of more than 256 MiB stay mapped, and
                      a session takes at most 1 GiB where it can */
    int sessions;  /* that will be open at the same time */
    int threads;   /* of each of them */
    dscm_isa isa;  /* instruction set; one that this processor runs */
} dscm_load_options;
dscm_load_options dscm_load_defaults(void); /* one session on all processors, the widest set */
dscm_code dscm_bundle_load(dscm_bundle **out, const char *dir, const dscm_load_options *options,
                           dscm_error *err) DSCM_MUST_CHECK;
void dscm_bundle_free(dscm_bundle *bundle); /* takes NULL; no session may be left */
const dscm_bundle_info *dscm_bundle_describe(const dscm_bundle *bundle);
/* Index of a variable by name, or DSCM_E_UNKNOWN with the names that exist. */
dscm_code dscm_variable_find(const dscm_bundle *bundle, const char *name, int *index,
                             dscm_error *err) DSCM_MUST_CHECK;
/* Value of a variable from text: a label (or its index), or a number in range. */
dscm_code dscm_value_parse(const dscm_bundle *bundle, int variable, const char *text, double *value,
                           dscm_error *err) DSCM_MUST_CHECK;

/* ---- options ---- */
/* How a prediction is drawn towards its targets. */
typedef enum dscm_guidance {
    DSCM_GUIDANCE_DEFAULT, /* conditional where the network has parents; `published`: anti-causal */
    DSCM_GUIDANCE_ANTI_CAUSAL, /* gradients of the predictors; a network with parents is asked
                                  without them (Sanchez & Tsaftaris 2022) */
    DSCM_GUIDANCE_CONDITIONAL  /* the network is told the factual parents on both walks; down,
                                  eps with all targets J - eps is added, and for each parent m
                                  (scale_m - 1) * (eps with J - eps with J but m as it was): at scale
                                  1 the mechanism of the new parents, and nothing where none changes.
                                  Parents that only follow count once */
} dscm_guidance;
/* "anti-causal", "conditional"; NULL otherwise. */
const char *dscm_guidance_name(dscm_guidance guidance);
dscm_code dscm_guidance_parse(dscm_guidance *out, const char *name,
                              dscm_error *err) DSCM_MUST_CHECK;

typedef struct dscm_options {
    const char *sampler; /* name out of dscm_sampler_name(); NULL: the bundle's default */
    size_t steps;        /* kept levels; 0: the bundle's default for the sampler */
    double scale;        /* guidance scale; NaN: calibrated for sampler and steps */
    double ratio; /* 0 < ratio <= 1: share of the kept levels walked up and down; 0: default */
    dscm_guidance guidance;
    int dynamic; /* dynamic normalisation of x0 (published only): 0, 1, -1 for the default */
    double
        min_change; /* 0..255, see dscm_query; NaN: the bundle's default under conditional guidance,
                          0 under anti-causal */
} dscm_options;

dscm_options dscm_options_defaults(void);
/* Fills defaults from the bundle and checks ranges; afterwards no field is unset. */
dscm_code dscm_options_resolve(const dscm_bundle *bundle, dscm_options *options,
                               dscm_error *err) DSCM_MUST_CHECK;
/* For options of dscm_latent_draw, before they are resolved: unnamed steps become the bundle's default,
 * at least 20. A counterfactual has an image to hold on to and fewer do; a draw has none. */
void dscm_options_draw(const dscm_bundle *bundle, dscm_options *options);
/* Whether counterfactuals under options that are not resolved yet search a scale per item
 * (dscm_scale_search): the bundle's default where neither a sampler nor a scale is named. */
bool dscm_options_search(const dscm_bundle *bundle, const dscm_options *options);
/* Names of the samplers by index, NULL after the last: implicit, residual, obelm, bdia, ddim, published
 * (core/diffusion/sampler.h). New ones are appended. */
const char *dscm_sampler_name(size_t index);
bool dscm_sampler_exact(const char *name); /* inverts to float rounding */

/* ---- progress ---- */
typedef enum dscm_phase { DSCM_PHASE_ABDUCT, DSCM_PHASE_PREDICT, DSCM_PHASE_SCORE } dscm_phase;

typedef struct dscm_progress_event {
    dscm_phase phase;
    size_t step, steps; /* network steps done and in all of this call */
    const float
        *preview; /* current guess of the clean images (B,H,W,C), or NULL; valid in the call */
    size_t first, batch; /* larger calls are split: these are items first .. first+batch-1 */
    size_t walk_step, walk_steps; /* of their part */
} dscm_progress_event;

typedef struct dscm_progress {
    /* Called between steps by the session's thread; return false to stop (DSCM_E_CANCELED). */
    bool (*on_step)(void *arg, const dscm_progress_event *event);
    void *arg;
    /* Asked between the layers of a network, where a step may take seconds; return false to stop
     * as above. NULL: only on_step is asked. Must be quick. */
    bool (*keep_going)(void *arg);
} dscm_progress;

/* ---- session ---- */
typedef struct dscm_session dscm_session;

/* batch_max: largest number of images per network pass, less where memory is short (see
 * dscm_load_options); larger calls are split. threads >= 1: size
 * of the session's own team. */
dscm_code dscm_session_open(dscm_session **out, const dscm_bundle *bundle, size_t batch_max,
                            int threads, dscm_error *err) DSCM_MUST_CHECK;
void dscm_session_free(dscm_session *session); /* takes NULL */
size_t dscm_session_bytes(const dscm_session *session);

/* ---- abduct, act, predict ---- */
typedef struct dscm_latent dscm_latent;

/* Infers the exogenous noise of `count` images under resolved options (sampler, steps, ratio and
 * dynamic must then stay the same in dscm_predict). progress may be NULL. Caller owns *out. */
dscm_code dscm_abduct(dscm_session *session, dscm_latent **out, const float *images, size_t count,
                      const dscm_options *options, const dscm_progress *progress,
                      dscm_error *err) DSCM_MUST_CHECK;
/* The same where values of the variables are known: factuals (count, variables), NaN where unknown.
 * Under conditional guidance the score network's parents are taken from it, else from the
 * predictors (most likely label, or mean), and kept in the latent. factuals may be NULL. */
dscm_code dscm_abduct_given(dscm_session *session, dscm_latent **out, const float *images,
                            const double *factuals, size_t count, const dscm_options *options,
                            const dscm_progress *progress, dscm_error *err) DSCM_MUST_CHECK;
/* What the score network was told of a variable of item `item` in the abduction, NaN where nothing. */
double dscm_latent_factual(const dscm_session *session, const dscm_latent *latent, size_t item,
                           int variable);
/* Forgets all but the latent's top level: what is stored beside it (see the samplers) is zeroed, and
 * the other level of a pair made anew by one plain step. Shows what the noise alone carries. */
dscm_code dscm_latent_forget(dscm_session *session, dscm_latent *latent,
                             dscm_error *err) DSCM_MUST_CHECK;
/* A latent drawn at random instead (unconditional or guided sampling): item i from stream
 * first_stream + i of the seed. Standard normal, but for the mean of a channel over the image, which
 * is limited to one standard deviation of such a mean: far ones give images without contents. */
dscm_code dscm_latent_draw(dscm_session *session, dscm_latent **out, size_t count, uint64_t seed,
                           uint64_t first_stream, const dscm_options *options,
                           dscm_error *err) DSCM_MUST_CHECK;
void dscm_latent_free(dscm_latent *latent); /* takes NULL */
size_t dscm_latent_count(const dscm_latent *latent);
size_t dscm_latent_bytes(const dscm_latent *latent);
/* A new latent of chosen items (an index may repeat: one abduction, many interventions). */
dscm_code dscm_latent_select(dscm_latent **out, const dscm_latent *latent, const size_t *items,
                             size_t count, dscm_error *err) DSCM_MUST_CHECK;
/* Serialised form: little endian, versioned, checked on reading. *bytes is released with dscm_free. */
dscm_code dscm_latent_write(const dscm_latent *latent, void **bytes, size_t *size,
                            dscm_error *err) DSCM_MUST_CHECK;
dscm_code dscm_latent_read(dscm_latent **out, const dscm_bundle *bundle, const void *bytes,
                           size_t size, dscm_error *err) DSCM_MUST_CHECK;

void dscm_free(void *block); /* takes NULL; as in core/base/memory.h, which is not public */

typedef enum dscm_action {
    DSCM_DO,    /* do(v := value) */
    DSCM_SHIFT, /* do(v := v + value), continuous variables */
    DSCM_HOLD   /* keep the factual value under guidance */
} dscm_action;

typedef struct dscm_intervention {
    int variable;
    dscm_action action;
    double value; /* label index or number */
    double scale; /* guidance scale of this edge; NaN: the query's */
} dscm_intervention;

/* The query of one item: what is done to which variables. count 0 = the null counterfactual. */
typedef struct dscm_query {
    const dscm_intervention *items;
    size_t count;
    const double *factual; /* (variables) observed values, NaN where unknown (then taken from the
                              predictors); or NULL */
    const double *scale;   /* of all edges whose parents change and are given none; NULL:
                              options->scale */
    const float *image; /* (H,W,C) in [-1,1] that the item was abducted from, or NULL: pixels of a
                              prediction whose channels all differ from it by at most `min_change` keep
                              its value; of the others, where the model's pictures have a dark ground,
                              those at most `min_change` above black are ground, 0, and so are new spots
                              of at most 4 pixels, none brighter than half the range, that touch nothing
                              else, and the faint edges of strokes that are gone. A query without interventions keeps none: its prediction shows what
                              the walk reconstructs. */
    double min_change;  /* grey levels, 0..255 */
} dscm_query;

/* Values that all variables take under a query: noise is abducted from query->factual (NaN where it
 * is not given), interventions act, descendants follow. out (variables): label index or number; NaN
 * for images and for what nobody knows. */
dscm_code dscm_query_values(const dscm_bundle *bundle, const dscm_query *query, double *out,
                            dscm_error *err) DSCM_MUST_CHECK;
/* Predicts one image per item of the latent: out (count,H,W,C), not clamped except by `published`.
 * queries (count). */
dscm_code dscm_predict(dscm_session *session, float *out, const dscm_latent *latent,
                       const dscm_query *queries, const dscm_options *options,
                       const dscm_progress *progress, dscm_error *err) DSCM_MUST_CHECK;

/* In place, to the nearest of 256 levels of [-1,1] (count floats): what a file of the images holds. */
void dscm_images_round(float *images, size_t count);

#define DSCM_WEIGH_STRONGER 0.7 /* see dscm_scale_search */
#define DSCM_WEIGH_WEAKER   0.1
#define DSCM_CONDITIONS_MAX 8 /* parents of a score network */
/* A guidance scale per item: from a quarter of options->scale in steps of a factor 2^(1/4) up to it
 * and of 2 beyond (conditional guidance: from 1/1.2 of it in steps of a factor 1.4), the first at
 * which the acceptance nets, or without them the predictors at t = 0, give every guided label of the
 * item at least `confidence` and see every guided number within its variable's tolerance; all from one
 * abduction. Under conditional guidance that scale is of labels; numbers have scale 1, those that no
 * query moves are to stay as the abduction was told them, and where one is seen beyond its tolerance the
 * network is told its target and 1.5 times what was missed in the lower half of the schedule, twice at most;
 * such a walk begins where that half does. Where the first walk misses by more than four tolerances, the
 * second is told its target and what was missed at all levels. A label that no query moves is to stay too:
 * where the nets do not read it any more, and no label moves, the scale is that of its difference from the
 * network that is told no label. Where the bundle has a VAE for searches, and a query has an image and moves
 * the label that the VAE is about, an accepted result is weighed: by the CLD that this VAE gives it and
 * `change_cost` for every grey level of its mean change. Where departure exceeds minimality by more than
 * DSCM_WEIGH_STRONGER, a result of 1.4 times the scale is tried too; where by less than DSCM_WEIGH_WEAKER, and
 * no weaker one was unsure, one of the scale over 1.4. Of the two the lighter stays that is accepted. Scales
 * that interventions name are factors of it, and queries name none. A weak scale changes less, a strong one
 * convinces more. Where none does: the
 * nearest to it, that is the surest with the smallest gap, of those that meet every target, or of all
 * where none does; a gap of g tolerances beyond 1 counts as a probability of 1/g. Images are clamped and
 * rounded to 256 levels: what is judged is what a file holds. */
typedef struct dscm_scale_search {
    double confidence;  /* 0..1; default .997, under conditional guidance .95 */
    double max_scale;   /* strongest guidance tried; default 8 x options->scale, conditional 3 x */
    double change_cost; /* CLD that a grey level of mean change is worth, 0..1; default 0 */
} dscm_scale_search;
/* options: resolved. A bundle may name a confidence and a change cost of its own. */
dscm_scale_search dscm_scale_search_defaults(const dscm_bundle *bundle,
                                             const dscm_options *options);
typedef struct dscm_scale_result {
    double scale;       /* strength used */
    bool valid;         /* false: no scale makes every guided label the likeliest and brings every
                           guided number within its tolerance */
    double probability; /* of the least sure guided label, 1 where none has labels */
    double
        gap; /* largest distance of a guided number from its target, as a multiple of its variable's
                   tolerance; 0 where none is guided */
    size_t predictions; /* reverse processes that the search cost */
    /* per parent of the score network: what it was told beyond the target, and in the lower half of the schedule
     * beyond that */
    double told[DSCM_CONDITIONS_MAX], aimed[DSCM_CONDITIONS_MAX];
} dscm_scale_result;
dscm_code dscm_predict_search(dscm_session *session, float *out, dscm_scale_result *results,
                              const dscm_latent *latent, const dscm_query *queries,
                              const dscm_options *options, const dscm_scale_search *search,
                              const dscm_progress *progress, dscm_error *err) DSCM_MUST_CHECK;

/* The walks that such a search chose, once more: with `progress` their pictures are seen. found (count). */
dscm_code dscm_predict_found(dscm_session *session, float *out, const dscm_latent *latent,
                             const dscm_query *queries, const dscm_options *options,
                             const dscm_scale_result *found, const dscm_progress *progress,
                             dscm_error *err) DSCM_MUST_CHECK;

/* ---- observing and scoring ---- */
/* Probabilities of a categorical parent by its anti-causal predictor at t = 0: out (count,labels);
 * of a continuous one: mean and variance (count,2). */
dscm_code dscm_observe(dscm_session *session, int variable, float *out, const float *images,
                       size_t count, dscm_error *err) DSCM_MUST_CHECK;
/* The value that such a row (labels, or 2) stands for: most likely label, or mean within the range. */
double dscm_observed_value(const dscm_variable *variable, const float *seen);
/* Such values of images where nobody gives them, out (count): by the first acceptance net where the
 * bundle has one for the variable, else by the predictor. */
dscm_code dscm_observe_values(dscm_session *session, int variable, double *out, const float *images,
                              size_t count, dscm_error *err) DSCM_MUST_CHECK;
/* The same by the bundle's oracle, the first classifier of its panel (DSCM_E_UNKNOWN when it carries
 * none). */
dscm_code dscm_observe_oracle(dscm_session *session, int variable, float *out, const float *images,
                              size_t count, dscm_error *err) DSCM_MUST_CHECK;
/* Probabilities by acceptance net `net` of info.acceptance_count, softmax(logits / temperature): small
 * clean classifiers that no walk was guided by. DSCM_E_UNKNOWN where there is none. */
dscm_code dscm_observe_acceptance(dscm_session *session, int variable, size_t net, float *out,
                                  const float *images, size_t count,
                                  dscm_error *err) DSCM_MUST_CHECK;

/* How familiar images are to the score network, against which info.quantiles hold what real images
 * have. Both: out (count). */
/* Denoising loss: the mean over pixels, and over four times in the middles of equal parts of the
 * schedule, of (eps - eps_theta(x_t, t))^2 with the same noise for every image. */
dscm_code dscm_denoising_loss(dscm_session *session, double *out, const float *images, size_t count,
                              dscm_error *err) DSCM_MUST_CHECK;
/* Mean |difference|, 0..255, of images to their null counterfactual from their latent's top level alone
 * (dscm_latent_forget of a copy), rounded to 256 levels. images: those of the abduction. */
dscm_code dscm_noise_only_error(dscm_session *session, double *out, const dscm_latent *latent,
                                const float *images, const dscm_progress *progress,
                                dscm_error *err) DSCM_MUST_CHECK;

/* Standard deviation of an image's `count` values in [-1,1], on the 0..255 scale: 0 for an empty one. */
double dscm_contrast(const float *image, size_t count);

/* Cosine similarity, 0..1, of an image's 7x7 blocks (98: means, then deviations) to those of the nearest
 * of `count` >= 1 real images (count, 98): as they are, and with the mean of the means taken away
 * (-1..1, limited to 0..1), so that a light picture is not like every other light one. */
typedef struct dscm_likeness {
    double plain, centred;
} dscm_likeness;
dscm_likeness dscm_likeness_of(const float *blocks, const float *references, size_t count);

/* Scores of one counterfactual x' of factual x under do(variable := target). L1 and L2 are means
 * over pixels on the 0..255 scale (L2: root of the mean square). Fields that the bundle's nets do
 * not allow are NaN. */
typedef struct dscm_scores {
    bool valid;                                   /* the predictor at t = 0 calls x' the target */
    double probability_before, probability_after; /* of the target, by the predictor at t = 0 */
    int oracle_label; /* class of x' by most of the panel's classifiers, or by the oracle of a bundle
                         without panel; -1 without either */
    double l1, l2;
    double changed_share;                      /* pixels that moved by more than .05 of the range */
    double cld, cld_minimality, cld_departure; /* log(exp P(S_CF<=div)+exp P(S_F>=div)); both P */
    double
        cld_spread; /* largest less smallest CLD of the panel's VAEs; the three above are means */
    double im1, im2;
    double cld_percentile, im1_percentile,
        im2_percentile; /* among accepted counterfactuals, 0..1 */
} dscm_scores;

/* What the pixels alone say of a pair of images (pixels,channels) in [-1,1]: l1, l2 and
 * changed_share. valid is false, oracle_label -1, all else NaN. */
dscm_scores dscm_scores_of_pixels(const float *factual, const float *counterfactual, size_t pixels,
                                  size_t channels);
/* Scores `count` pairs; `variable` is categorical with label indices `targets` and `factuals`. */
dscm_code dscm_score(dscm_session *session, dscm_scores *out, const float *factual,
                     const float *counterfactual, int variable, const int *targets,
                     const int *factuals, size_t count, dscm_error *err) DSCM_MUST_CHECK;
/* What the predictor sees in both images, so that nobody has to look twice. */
typedef struct dscm_seen {
    const float *before; /* (count,labels) its probabilities of the factual images when they are
                            known already, or NULL */
    float *after;        /* (count,labels) receives those of the counterfactuals, or NULL */
} dscm_seen;
/* dscm_score with what is seen taken and given. */
dscm_code dscm_score_seen(dscm_session *session, dscm_scores *out, const float *factual,
                          const float *counterfactual, int variable, const int *targets,
                          const int *factuals, size_t count, const dscm_seen *seen,
                          dscm_error *err) DSCM_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
