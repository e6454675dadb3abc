/* The sampling loop: one walk over noise levels, up (abduction) or down (prediction), for every
 * sampler.
 *
 * A sampler is a line in a table: which levels it evaluates and how it steps. The networks are
 * behind two functions, so that tests can put closed forms in their place. Nothing here allocates
 * in a step.
 *
 *   implicit   ddim downwards; upwards each step is solved for by fixed-point iteration (Pan et al.
 *              2023) with Anderson acceleration, begun, from the third step on, where the noise
 *              estimate's last change leads, so that the top level alone carries the image. What the
 *              steps down would still miss, small after the iteration, is stored per level and added
 *              back: the round trip is exact. An item that guidance has moved by d so far (root mean
 *              square of the noise estimate's shift, summed over the levels) gets back only
 *              1/(1 + (d/.03)^2) of it, so a strongly guided walk is plain ddim
 *   residual   the same without the iteration: plain ddim up, and everything that its steps down
 *              would miss is stored. At few steps the stored terms carry the image, not the noise
 *   obelm      second-order, exactly invertible (Wang et al. 2024, O-BELM); the state is a pair of
 *              neighbouring levels
 *   bdia       exactly invertible (Zhang et al. 2023, BDIA), gamma = 1; a pair too
 *   ddim       the plain deterministic step with the right level on both sides (Song et al. 2021)
 *   published  the published Diff-SCM code quirk for quirk: x0 is normalised or clamped, eps
 *              re-derived from it in both directions, and abduction ends one level above the one
 *              where prediction starts
 */
#ifndef DSCM_CORE_DIFFUSION_SAMPLER_H
#define DSCM_CORE_DIFFUSION_SAMPLER_H

#include <stdbool.h>

#include "core/diffusion/schedule.h"

/* Append only, before DSCM_SAMPLERS: serialised latents hold the number (core/scm/latent.c). */
typedef enum dscm_sampler {
    DSCM_SAMPLER_IMPLICIT,
    DSCM_SAMPLER_RESIDUAL,
    DSCM_SAMPLER_OBELM,
    DSCM_SAMPLER_BDIA,
    DSCM_SAMPLER_DDIM,
    DSCM_SAMPLER_PUBLISHED,
    DSCM_SAMPLERS
} dscm_sampler;

dscm_code dscm_sampler_parse(dscm_sampler *out, const char *name, dscm_error *err) DSCM_MUST_CHECK;

/* The levels of a walk. Level k has the original step t[k] and alpha_bar[k]; level 0 is the clean
 * image (its t is 0) and level `steps` the noisiest. */
typedef struct dscm_path {
    dscm_sampler sampler;
    bool dynamic; /* published: normalise x0 by its 0.99 quantile before the clamp */
    /* What guided walks of residual, implicit and ddim do besides, so far as guidance has moved an
     * item; all off as opened. */
    bool limit;         /* estimates of the clean image stay in [-1,1] */
    double noise_limit; /* largest |u| from which a walk starts, in standard deviations; 0: any */
    double eta;         /* share of fresh noise, 0..1: DDIM's eta (Song et al. 2021) */
    size_t steps;       /* level changes in one direction */
    size_t levels;      /* length of t and alpha_bar */
    double *t, *alpha_bar;
    /* (steps) evaluations of each step of implicit's way up, 1..3, or NULL: what fits any network; borrowed */
    const unsigned char *rounds;
} dscm_path;

/* steps: steps per direction (2..T-1), or for `published` kept levels in all (a "ddimN" count that
 * divides as its spacing demands). ratio in (0, 1]: how far up the walk goes, as a share of T (of
 * the kept levels for `published`). Levels of the other samplers are the mean of even spacing in
 * the angle atan(sqrt(1-a)/sqrt(a)) and in the logarithm of its tangent. */
dscm_code dscm_path_open(dscm_path *out, const dscm_schedule *schedule, dscm_sampler sampler,
                         size_t steps, double ratio, bool dynamic, dscm_error *err) DSCM_MUST_CHECK;
void dscm_path_close(dscm_path *path);
/* Images per item that are stored beside the top level: 1 for pairs, a correction per step for
 * implicit and residual, else 0. */
size_t dscm_path_extras(const dscm_path *path);
/* Network evaluations of a walk in one direction. */
size_t dscm_path_evaluations(const dscm_path *path, bool up);

/* What the loop needs of a model. x, eps, grad: (batch, pixels, channels). */
typedef struct dscm_denoiser {
    void *ctx;
    dscm_code (*eps)(void *ctx, float *eps, const float *x, double t, size_t batch,
                     dscm_error *err);
    /* grad = sum over edges of scale * gradient of log p(target | x, t), or for conditional guidance
     * what takes its place, -1/sqrt(1-a) of the estimate's shift; NULL: no guidance. Called right
     * after eps, with the same x and t; dscm_walk.guided says before eps that it will be. */
    dscm_code (*guide)(void *ctx, float *grad, const float *x, double t, size_t batch,
                       dscm_error *err);
} dscm_denoiser;

/* State and scratch of a walk over at most `batch` images of `size` floats; all from the caller. */
typedef struct dscm_walk {
    size_t batch, size, channels;
    bool guided; /* the present evaluation has a guidance gradient */
    float *x;    /* (batch, size) present level */
    float *pair; /* (batch, size) the level passed last, for samplers whose state is a pair; scratch
                    of implicit on its way up; else unused */
    float *residual; /* (batch, steps, size) corrections of implicit and residual; else unused */
    float *eps, *grad, *x0,
        *spare; /* (batch, size) scratch; x0: guess of the clean image after each step; spare:
                   what guidance has done so far on a walk down in ddim's steps */
    /* NULL, or (batch, size) each: what x and spare were at level `midway_level` of a walk down, kept by one
     * walk and, with `resumes`, where another begins. Not for pairs. */
    float *midway[2];
    size_t midway_level; /* 1..steps */
    bool resumes;
} dscm_walk;

typedef struct dscm_walk_observer {
    void *ctx;
    /* After every step; returning false ends the walk with DSCM_E_CANCELED. */
    bool (*on_step)(void *ctx, const dscm_walk *w, size_t done, size_t total);
} dscm_walk_observer;

/* From the clean image in w->x to its exogenous noise in (w->x, w->pair). observer may be NULL. */
dscm_code dscm_walk_up(const dscm_path *path, dscm_walk *w, const dscm_denoiser *denoiser,
                       const dscm_walk_observer *observer, dscm_error *err) DSCM_MUST_CHECK;
/* And back, guided when the denoiser guides. */
dscm_code dscm_walk_down(const dscm_path *path, dscm_walk *w, const dscm_denoiser *denoiser,
                         const dscm_walk_observer *observer, dscm_error *err) DSCM_MUST_CHECK;
/* After a walk up: forgets all but the top level, so that the walk down shows what the noise alone
 * carries. Corrections become zero; a pair's other level is made by one plain step down. The top
 * level is rounded to multiples of 1/256: of noise with deviation 1 that loses next to nothing, but
 * an image that a useless network has only made fainter on its way up does not come back. */
dscm_code dscm_walk_forget(const dscm_path *path, dscm_walk *w, const dscm_denoiser *denoiser,
                           dscm_error *err) DSCM_MUST_CHECK;
/* Turns pure noise in w->x (standard normal) into a state from which dscm_walk_down can start. */
void dscm_walk_from_noise(const dscm_path *path, dscm_walk *w);

#endif
