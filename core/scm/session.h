/* A session and a latent from the inside. Internal to core/scm and core/eval. */
#ifndef DSCM_CORE_SCM_SESSION_H
#define DSCM_CORE_SCM_SESSION_H

#include "core/base/memory.h"
#include "core/bundle/bundle.h"
#include "core/scm/guidance.h"

/* A row of the score network's batch: an item of the walk and which of its conditions are at their
 * targets, see core/scm/estimates.c. */
typedef struct score_row {
    size_t item;
    int change;
} score_row;

struct dscm_session {
    const dscm_bundle *bundle;
    const bundle_variable *image; /* the image variable */
    dscm_team *team;
    size_t batch_max, size; /* images per pass; floats of an image */
    size_t rows_max;        /* of one pass of the score network, at least as many */
    dscm_exec *score;
    dscm_exec **predictors; /* (edges) NULL where the child is another image */
    /* NULL where the bundle has none: the panel's, the acceptance nets, the VAE of searches */
    dscm_exec *classifiers[BUNDLE_JUDGES_MAX], *vaes[BUNDLE_JUDGES_MAX],
        *acceptance[BUNDLE_JUDGES_MAX], *autoencoder, *class_autoencoder, *search_vae;
    bool apart;       /* score network and predictors may run side by side */
    dscm_arena arena; /* the walk's buffers, and one block for all executors, which do not run at
                         the same time; with `apart` one of their own for the predictors */
    dscm_walk walk;
    double *told;    /* (batch_max, conditions) of a prediction */
    score_row *rows; /* (rows_max) of one pass */
};

/* Bytes of a session of `batch` images per pass; the bundle's weights may be planned only. */
dscm_code dscm_session_measure(const dscm_bundle *bundle, size_t batch, int threads, size_t *bytes,
                               dscm_error *err) DSCM_MUST_CHECK;

struct dscm_latent {
    dscm_options options; /* resolved; sampler names are static */
    size_t count, size, channels;
    char model[65];    /* bundle's sha256 */
    size_t extras;     /* images per item beside x: see dscm_path_extras; one is a pair, more are
                       residuals */
    float *x;          /* (count, size), and behind it in the same block: */
    float *extra;      /* (count, extras, size) */
    size_t conditions; /* of the score network, see dscm_bundle_conditions */
    double *factuals;  /* (count, conditions) what it was told on the way up, NaN: the null block;
                          NULL without conditions */
};

/* Walks `count` <= batch_max images that are in session->walk.x (and pair) up or down. guided:
 * (count, edges) or NULL; told: (count, conditions) what the score network is told, or NULL;
 * conditional: guided by what changes with the conditions, else by the predictors. */
typedef struct walk_call {
    const dscm_path *path;
    bool up;
    const guidance *guided;
    const double *told;
    bool conditional;
    const dscm_progress *progress;
    dscm_phase phase;
    size_t first, done,
        total;   /* first item of the chunk; steps of earlier ones, of the whole call */
    bool hidden; /* its images are none that the caller asked for: events show no preview */
    /* (count, size) each or NULL: the state at the first late level of a walk down is kept there, or with
     * `resumes` taken from there */
    float *midway[2];
    bool resumes;
} walk_call;
/* The first of the late levels of a walk down: those in the lower half of the schedule, or the last one where none
 * is. There numbers are corrected, see dscm_predict_search, and no step asks how far guidance has led. */
size_t scm_late_level(const dscm_session *s, const dscm_path *path);
dscm_code dscm_session_walk(dscm_session *s, size_t count, const walk_call *call,
                            dscm_error *err) DSCM_MUST_CHECK;
/* Mean absolute difference of two images (count floats of [-1,1]), on the 0..255 scale. */
double dscm_images_l1(const float *a, const float *b, size_t count);
/* dscm_walk_forget for the images in session->walk. */
dscm_code dscm_session_forget(dscm_session *s, size_t count, const walk_call *call,
                              dscm_error *err) DSCM_MUST_CHECK;
/* eps_theta of `count` <= batch_max images x (count, size) at time t, without guidance; the score
 * network is told no parent. */
dscm_code dscm_session_eps(dscm_session *s, float *eps, const float *x, double t, size_t count,
                           dscm_error *err) DSCM_MUST_CHECK;
/* Images that a session has taken through networks since it was opened. */
typedef struct dscm_session_work {
    size_t passes;       /* score network */
    size_t gradients;    /* predictors, backward */
    size_t observations; /* predictors, acceptance nets and the VAE of searches, forward */
} dscm_session_work;
dscm_session_work dscm_session_done(const dscm_session *s);
/* Direct multiplications and additions of that work; a pass backward counts like one forward. */
double dscm_session_flops(const dscm_session *s);
dscm_code dscm_latent_open(dscm_latent **out, size_t count, size_t size, size_t channels,
                           size_t extras, size_t conditions, dscm_error *err) DSCM_MUST_CHECK;
/* Copies items first .. first+n-1 of a latent into the session's walk, or (store) back from it. */
void dscm_session_load(dscm_session *s, const dscm_latent *latent, size_t first, size_t n);
void dscm_session_store(const dscm_session *s, dscm_latent *latent, size_t first, size_t n);
dscm_code dscm_session_path(const dscm_session *s, const dscm_options *options, dscm_path *out,
                            dscm_error *err) DSCM_MUST_CHECK;

#endif
