#include "core/diffusion/sampler.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/diffscm.h"

#define BDIA_GAMMA  1.0
#define QUANTILE    0.99
#define AHEAD       0.7  /* share of the noise estimate's slope that starts a step up */
#define SHED        0.03 /* guidance so far at which half of the abducted path is left */
#define SHED_PIXEL  0.1f /* guidance so far of a pixel at which half of its residual is added */
#define NOISE_GRID  256.0f
#define FRESH_NOISE 0x66726573u /* names the streams of fresh noise */

/* One evaluation has happened at level k: w->eps holds the (guided) noise estimate of w->x. */
typedef void step_fn(const dscm_path *p, dscm_walk *w, size_t k, bool up);

static step_fn step_ddim, step_published, step_obelm, step_bdia;

static const struct {
    const char *name;
    bool exact, pair;
    size_t rounds; /* most evaluations per step up of samplers that store corrections, else 0 */
    step_fn *step;
} samplers[] = {
    [DSCM_SAMPLER_IMPLICIT] = {"implicit", true, false, 3, step_ddim},
    [DSCM_SAMPLER_RESIDUAL] = {"residual", true, false, 1, step_ddim},
    [DSCM_SAMPLER_OBELM] = {"obelm", true, true, 0, step_obelm},
    [DSCM_SAMPLER_BDIA] = {"bdia", true, true, 0, step_bdia},
    [DSCM_SAMPLER_DDIM] = {"ddim", false, false, 0, step_ddim},
    [DSCM_SAMPLER_PUBLISHED] = {"published", false, false, 0, step_published},
};
static_assert(sizeof samplers / sizeof samplers[0] == DSCM_SAMPLERS, "a line for every sampler");

const char *dscm_sampler_name(size_t index)
{
    return index < DSCM_SAMPLERS ? samplers[index].name : NULL;
}

dscm_code dscm_sampler_parse(dscm_sampler *out, const char *name, dscm_error *err)
{
    for (int i = 0; i < DSCM_SAMPLERS; i++)
        if (strcmp(name, samplers[i].name) == 0) {
            *out = (dscm_sampler)i;
            return DSCM_OK;
        }
    return dscm_fail(
        err, DSCM_E_UNKNOWN,
        "sampler \"%s\" is not one of implicit, residual, obelm, bdia, ddim, published", name);
}

bool dscm_sampler_exact(const char *name)
{
    dscm_sampler s = DSCM_SAMPLERS;
    return dscm_sampler_parse(&s, name, NULL) == DSCM_OK && s < DSCM_SAMPLERS && samplers[s].exact;
}

/* ---- evaluations ---- */
/* Levels that are evaluated on the way down, from *high to *low. */
static void down_range(const dscm_path *p, size_t *high, size_t *low)
{
    bool published = p->sampler == DSCM_SAMPLER_PUBLISHED;
    *high = published || samplers[p->sampler].pair ? p->steps - 1 : p->steps;
    *low = published ? 0 : 1;
}

size_t dscm_path_extras(const dscm_path *path)
{
    if (samplers[path->sampler].rounds) return path->steps;
    return samplers[path->sampler].pair ? 1 : 0;
}

/* Of the step up from level k, where the sampler stores corrections. The first step that starts from a
 * slope begins so near that it needs one less than the others: see look_ahead. */
#define FIRST_AHEAD ((size_t)2)

static size_t rounds_at(const dscm_path *p, size_t k)
{
    size_t rounds = samplers[p->sampler].rounds;
    if (rounds > 1 && p->rounds) return p->rounds[k];
    return rounds > 1 && k == FIRST_AHEAD ? rounds - 1 : rounds;
}

size_t dscm_path_evaluations(const dscm_path *path, bool up)
{
    size_t high, low;
    if (up && samplers[path->sampler].rounds) {
        size_t all = 1;
        for (size_t k = 0; k < path->steps; k++) all += rounds_at(path, k);
        return all;
    }
    if (up) return path->steps;
    down_range(path, &high, &low);
    return high - low + 1;
}

/* ---- steps ---- */
static size_t total(const dscm_walk *w)
{
    return w->batch * w->size;
}

/* alpha_bar of a level; for `published` what lies beyond the kept levels is pure noise, and what
 * lies before them the clean image. */
static double bar_at(const dscm_path *p, ptrdiff_t k)
{
    if (k < 0) return 1;
    return (size_t)k < p->levels ? p->alpha_bar[k] : 0;
}

/* x0 = (x - sqrt(1-a) eps) / sqrt(a) */
static void guess_clean(dscm_walk *w, double a)
{
    float noise = (float)sqrt(1 - a), inverse = (float)(1 / sqrt(a));
    for (size_t i = 0; i < total(w); i++) w->x0[i] = (w->x[i] - noise * w->eps[i]) * inverse;
}

/* x = sqrt(b) x0 + sqrt(1-b) eps */
static void recompose(dscm_walk *w, double b)
{
    float signal = (float)sqrt(b), noise = (float)sqrt(1 - b);
    for (size_t i = 0; i < total(w); i++) w->x[i] = signal * w->x0[i] + noise * w->eps[i];
}

static void step_ddim(const dscm_path *p, dscm_walk *w, size_t k, bool up)
{
    guess_clean(w, p->alpha_bar[k]);
    recompose(w, p->alpha_bar[up ? k + 1 : k - 1]);
}

/* Moves the k-th smallest of n values to its place, smaller ones before and larger ones behind it
 * (Hoare's selection): a full sort would cost as much as a tenth of a network pass. */
static float select_value(float *values, size_t n, size_t k)
{
    size_t low = 0, high = n - 1;
    while (low < high) {
        float pivot = values[low + (high - low) / 2];
        size_t i = low, j = high;
        for (;;) {
            while (values[i] < pivot) i++;
            while (values[j] > pivot) j--;
            if (i >= j) break;
            float held = values[i];
            values[i++] = values[j];
            values[j--] = held;
        }
        if (k <= j) /* all up to j are at most the pivot, all behind it at least */
            high = j;
        else
            low = j + 1;
    }
    return values[k];
}

/* Divides one channel of one image by its 0.99 quantile of |x0| (linear interpolation, at least 1)
 * after limiting it to that. `sizes` holds one channel. */
static void normalise_channel(float *x0, size_t step, size_t pixels, float *sizes)
{
    for (size_t i = 0; i < pixels; i++) sizes[i] = fabsf(x0[i * step]);
    double place = QUANTILE * (double)(pixels - 1);
    size_t low = (size_t)place;
    float below = select_value(sizes, pixels, low), above = below;
    for (size_t i = low + 1; i < pixels; i++) /* the next larger one: the least of those behind */
        if (i == low + 1 || sizes[i] < above) above = sizes[i];
    float q = below + (float)(place - (double)low) * (above - below);
    if (q < 1) q = 1;
    for (size_t i = 0; i < pixels; i++) {
        float v = x0[i * step];
        x0[i * step] = (v > q ? q : v < -q ? -q : v) / q;
    }
}

/* The published treatment: x0 limited, eps derived from it again. */
static void limit_clean(const dscm_path *p, dscm_walk *w, double a)
{
    guess_clean(w, a);
    size_t pixels = w->size / w->channels;
    for (size_t i = 0; p->dynamic && i < w->batch * w->channels; i++)
        normalise_channel(w->x0 + i / w->channels * w->size + i % w->channels, w->channels, pixels,
                          w->spare);
    float signal = (float)sqrt(a), inverse = (float)(1 / sqrt(1 - a));
    for (size_t i = 0; i < total(w); i++) {
        float v = w->x0[i];
        w->x0[i] = v > 1 ? 1 : v < -1 ? -1 : v;
        w->eps[i] = (w->x[i] - signal * w->x0[i]) * inverse;
    }
}

/* eps -= sqrt(1-a) * grad: guidance of Dhariwal & Nichol 2021 for deterministic sampling */
static void add_guidance(dscm_walk *w, double a)
{
    float noise = (float)sqrt(1 - a);
    for (size_t i = 0; i < total(w); i++) w->eps[i] -= noise * w->grad[i];
}

static void step_published(const dscm_path *p, dscm_walk *w, size_t k, bool up)
{
    (void)up;
    recompose(w, bar_at(p, up ? (ptrdiff_t)k + 1 : (ptrdiff_t)k - 1));
}

static double scaled_noise(double a)
{
    return sqrt(1 - a) / sqrt(a);
}

/* With y = x / sqrt(a) and s = sqrt(1-a)/sqrt(a), h_i = s_i - s_{i-1}:
 * y_{i-1} = r y_{i+1} + (1 - r) y_i - h_i (h_i + h_{i+1}) / h_{i+1} eps_i,  r = h_i^2 / h_{i+1}^2.
 * Guidance moves both levels of the pair by h_i sqrt(1-a_i) grad, in y. Inside eps it would part
 * them, and the difference of a leapfrog's levels hardly dies out: images came out noisy, and the
 * guide liked them where an oracle did not. */
static void step_obelm(const dscm_path *p, dscm_walk *w, size_t k, bool up)
{
    guess_clean(w, p->alpha_bar[k]);
    double here = sqrt(p->alpha_bar[k]), above = sqrt(p->alpha_bar[k + 1]);
    double below = sqrt(p->alpha_bar[k - 1]);
    double h = scaled_noise(p->alpha_bar[k]) - scaled_noise(p->alpha_bar[k - 1]);
    double h_up = scaled_noise(p->alpha_bar[k + 1]) - scaled_noise(p->alpha_bar[k]);
    double r = h * h / (h_up * h_up), c = h * (h + h_up) / h_up;
    /* new = far * pair + near * x + noise * eps, the same line solved for either end */
    double far = up ? above / (r * below) : below * r / above;
    double near = up ? -above * (1 - r) / (r * here) : below * (1 - r) / here;
    double noise = up ? above * c / r : -below * c;
    double push = h * sqrt(1 - p->alpha_bar[k]);
    for (size_t i = 0; i < total(w); i++) {
        double next = far * (double)w->pair[i] + near * (double)w->x[i] + noise * (double)w->eps[i];
        double shift = w->guided ? push * (double)w->grad[i] : 0;
        w->pair[i] = (float)((double)w->x[i] + here * shift);
        w->x[i] = (float)(next + below * shift);
    }
}

/* x_{i-1} = gamma (x_{i+1} - up(x_i)) + down(x_i), both steps with one shared eps(x_i). */
static void step_bdia(const dscm_path *p, dscm_walk *w, size_t k, bool up)
{
    guess_clean(w, p->alpha_bar[k]);
    double above = p->alpha_bar[k + 1], below = p->alpha_bar[k - 1];
    for (size_t i = 0; i < total(w); i++) {
        double clean = (double)w->x0[i], eps = (double)w->eps[i];
        double to_above = sqrt(above) * clean + sqrt(1 - above) * eps;
        double to_below = sqrt(below) * clean + sqrt(1 - below) * eps;
        double next = up ? to_above + ((double)w->pair[i] - to_below) / BDIA_GAMMA
                         : BDIA_GAMMA * ((double)w->pair[i] - to_above) + to_below;
        w->pair[i] = w->x[i];
        w->x[i] = (float)next;
    }
}

/* ---- the loop ---- */
/* Noise estimate of the present state at level k, guided on the way down, limited where the sampler
 * says so. */
static dscm_code evaluate(const dscm_path *p, dscm_walk *w, const dscm_denoiser *d, size_t k,
                          bool up, dscm_error *err)
{
    double a = p->alpha_bar[k];
    w->guided = !up && d->guide;
    dscm_code code = d->eps(d->ctx, w->eps, w->x, p->t[k], w->batch, err);
    if (code != DSCM_OK) return code;
    if (p->sampler == DSCM_SAMPLER_PUBLISHED) limit_clean(p, w, a);
    if (!w->guided) return DSCM_OK;
    code = d->guide(d->ctx, w->grad, w->x, p->t[k], w->batch, err);
    if (code != DSCM_OK) return code;
    if (p->sampler == DSCM_SAMPLER_OBELM) return DSCM_OK; /* steps by it, see there */
    add_guidance(w, a);
    if (p->sampler == DSCM_SAMPLER_PUBLISHED) guess_clean(w, a); /* not limited again */
    return DSCM_OK;
}

static dscm_code observe(const dscm_walk_observer *o, const dscm_walk *w, size_t done, size_t all,
                         dscm_error *err)
{
    if (!o || o->on_step(o->ctx, w, done, all)) return DSCM_OK;
    return dscm_fail(err, DSCM_E_CANCELED, "canceled after %zu of %zu steps", done, all);
}

/* One step up by the sampler's own rule from an evaluated level k. */
static void step_up(const dscm_path *p, dscm_walk *w, size_t k)
{
    if (k == 0 && samplers[p->sampler].pair) { /* a pair starts with one plain step */
        memcpy(w->pair, w->x, total(w) * sizeof(float));
        step_ddim(p, w, 0, true);
    } else {
        samplers[p->sampler].step(p, w, k, true);
    }
}

/* States of samplers that store corrections are multiples of 2^-20: sums and differences of such numbers below
 * 16 are exact in float, so x - down + down is x to the last bit, and a walk down meets the very
 * numbers that the networks were given on the way up. The rounding is 1/8000 of an 8-bit level. */
static float on_grid(float v)
{
    return (v + 12) - 12; /* floats in [8, 16) are 2^-20 apart */
}

static void put_on_grid(dscm_walk *w)
{
    for (size_t i = 0; i < total(w); i++) w->x[i] = on_grid(w->x[i]);
}

/* residual[k-1] = x_{k-1} - down(x_k); w->spare holds x_{k-1} and w->eps the estimate of x_k, which
 * stays. */
static void keep_residual(const dscm_path *p, dscm_walk *w, size_t k)
{
    double below = p->alpha_bar[k - 1];
    float signal = (float)sqrt(below), noise = (float)sqrt(1 - below);
    guess_clean(w, p->alpha_bar[k]);
    for (size_t b = 0; b < w->batch; b++) {
        float *residual = w->residual + (b * p->steps + k - 1) * w->size;
        const float *x0 = w->x0 + b * w->size, *eps = w->eps + b * w->size;
        const float *x = w->spare + b * w->size;
        for (size_t i = 0; i < w->size; i++)
            residual[i] = x[i] - on_grid(signal * x0[i] + noise * eps[i]);
    }
}

/* How far guidance has moved the noise estimate at the levels so far, in standard deviations of the
 * noise: w->spare holds the sum of its magnitudes per pixel. */
static void follow_guidance(const dscm_path *p, dscm_walk *w, size_t k)
{
    float share = (float)sqrt(1 - p->alpha_bar[k]);
    for (size_t i = 0; i < total(w); i++) {
        if (k == p->steps) w->spare[i] = 0;
        if (w->guided) w->spare[i] += share * fabsf(w->grad[i]);
    }
}

/* How much of an item's walk down is still its abducted path, from 1 without guidance to 0: by the root
 * mean square over its pixels. */
static float abducted_share(const dscm_walk *w, size_t item)
{
    const float *moved = w->spare + item * w->size;
    double sum = 0;
    for (size_t i = 0; i < w->size; i++) sum += (double)moved[i] * (double)moved[i];
    double ratio = sqrt(sum / (double)w->size) / SHED;
    return (float)(1 / (1 + ratio * ratio));
}

/* Guided estimates of the clean image are limited to its range and the noise estimate follows, as
 * eps = (x - sqrt(a) x0) / sqrt(1-a). What guidance asks for beyond black and white cannot show in
 * the image, but would be carried down the walk and come out as texture. The abducted path is left
 * alone: it returns to the image as it is. */
static void limit_guided(dscm_walk *w, double a)
{
    float ratio = (float)(sqrt(a) / sqrt(1 - a));
    guess_clean(w, a);
    for (size_t b = 0; b < w->batch; b++) {
        float left = 1 - abducted_share(w, b);
        const float *x0 = w->x0 + b * w->size;
        float *eps = w->eps + b * w->size;
        for (size_t i = 0; left > 0 && i < w->size; i++) {
            float beyond = x0[i] > 1 ? x0[i] - 1 : x0[i] < -1 ? x0[i] + 1 : 0;
            eps[i] += left * ratio * beyond;
        }
    }
}

/* Abducted noise has heavier tails than the normal noise that the network was trained on: flat black
 * and white regions and edges put them there. The walk back needs them, a guided one turns them into
 * specks wherever it makes something else of the place. */
static void limit_noise(const dscm_path *p, dscm_walk *w)
{
    float most = (float)p->noise_limit;
    for (size_t b = 0; b < w->batch; b++) {
        float left = 1 - abducted_share(w, b);
        float *x = w->x + b * w->size;
        for (size_t i = 0; left > 0 && i < w->size; i++) {
            float beyond = x[i] > most ? x[i] - most : x[i] < -most ? x[i] + most : 0;
            x[i] -= left * beyond;
        }
    }
}

/* From where the plain step has led: fresh noise replaces a part of the noise estimate, as in
 * Song et al. 2021, eq. 12 and 16, but only so far as an item has left its abducted path. Noise of
 * a level is the same for every image, target and batch, so that a result depends on nothing else;
 * w->grad has done its work and holds it. */
static void freshen(const dscm_path *p, dscm_walk *w, size_t k)
{
    double a = p->alpha_bar[k], b = p->alpha_bar[k - 1];
    double sigma = p->eta * sqrt((1 - b) / (1 - a)) * sqrt(1 - a / b);
    float *fresh = w->grad;
    dscm_rng rng = dscm_rng_make(FRESH_NOISE, (uint64_t)p->t[k]);
    dscm_rng_normal(&rng, fresh, w->size);
    for (size_t item = 0; item < w->batch; item++) {
        double left = 1 - abducted_share(w, item), s = sigma * left;
        float less = (float)(sqrt(1 - b) - sqrt(1 - b - s * s)), more = (float)s;
        const float *eps = w->eps + item * w->size;
        float *x = w->x + item * w->size;
        for (size_t i = 0; left > 0 && i < w->size; i++) x[i] += more * fresh[i] - less * eps[i];
    }
}

/* A residual corrects the step of the abducted path; where guidance has left that path it corrects
 * nothing and draws traces of the factual into the result, so only a share is added, pixel by pixel. */
static void add_residual(const dscm_path *p, dscm_walk *w, size_t k)
{
    put_on_grid(w);
    for (size_t b = 0; b < w->batch; b++) {
        const float *residual = w->residual + (b * p->steps + k - 1) * w->size;
        const float *moved = w->spare + b * w->size;
        float *x = w->x + b * w->size;
        for (size_t i = 0; i < w->size; i++) {
            float ratio = moved[i] / SHED_PIXEL;
            x[i] += residual[i] / (1 + ratio * ratio);
        }
    }
}

/* From x to the next iterate of x = g(x), whose g(x) is in w->x0: plainly g(x), or with `memory` by
 * Anderson acceleration of depth one (Walker & Ni 2011) per item: g - theta (g - g_before), theta =
 * <r, r - r_before> / |r - r_before|^2, r = g - x. It needs that the iterate before was plain: then
 * g_before is x itself. w->grad keeps r. */
static void accelerate(dscm_walk *w, bool memory)
{
    for (size_t b = 0; b < w->batch; b++) {
        float *x = w->x + b * w->size, *before = w->grad + b * w->size;
        const float *g = w->x0 + b * w->size;
        double along = 0, square = 0;
        for (size_t i = 0; memory && i < w->size; i++) {
            double r = (double)g[i] - (double)x[i], d = r - (double)before[i];
            along += r * d;
            square += d * d;
        }
        float theta = square > 0 ? (float)(along / square) : 0;
        for (size_t i = 0; i < w->size; i++) {
            float was = x[i];
            x[i] = on_grid(g[i] - theta * (g[i] - was));
            before[i] = g[i] - was;
        }
    }
}

/* Moves the noise estimate of level k, with which the iteration to level k + 1 begins, along its change
 * since level k - 1, over the original steps. Not before the third step: the clean image's own estimate
 * tells nothing of the next one's. w->pair keeps the estimate. */
static void look_ahead(const dscm_path *p, dscm_walk *w, size_t k)
{
    if (samplers[p->sampler].rounds == 1) return;
    double ahead = k < FIRST_AHEAD ? 0 : AHEAD * (p->t[k + 1] - p->t[k]) / (p->t[k] - p->t[k - 1]);
    for (size_t i = 0; i < total(w); i++) {
        float eps = w->eps[i];
        if (k >= FIRST_AHEAD) w->eps[i] += (float)ahead * (eps - w->pair[i]);
        w->pair[i] = eps;
    }
}

/* One step up of a sampler that stores corrections, from the evaluated level k to the evaluated level
 * k + 1: x' = up(x; eps(x')) by iteration, begun with what eps(x) leads to; w->spare keeps x. After the last
 * evaluation x' stays and the correction takes what is left. */
static dscm_code solve_up(const dscm_path *p, dscm_walk *w, const dscm_denoiser *d, size_t k,
                          dscm_error *err)
{
    double a = p->alpha_bar[k], b = p->alpha_bar[k + 1];
    float signal = (float)(sqrt(b) / sqrt(a));
    float noise = (float)(sqrt(1 - b) - sqrt(b) / sqrt(a) * sqrt(1 - a));
    memcpy(w->spare, w->x, total(w) * sizeof(float));
    look_ahead(p, w, k);
    step_ddim(p, w, k, true);
    put_on_grid(w);
    for (size_t round = 1;; round++) {
        dscm_code code = evaluate(p, w, d, k + 1, true, err);
        if (code != DSCM_OK) return code;
        if (round == rounds_at(p, k)) break;
        for (size_t i = 0; i < total(w); i++) w->x0[i] = signal * w->spare[i] + noise * w->eps[i];
        accelerate(w, round == 2);
    }
    keep_residual(p, w, k + 1);
    return DSCM_OK;
}

dscm_code dscm_walk_up(const dscm_path *p, dscm_walk *w, const dscm_denoiser *d,
                       const dscm_walk_observer *observer, dscm_error *err)
{
    bool stores = samplers[p->sampler].rounds > 0;
    dscm_code code = DSCM_OK;
    if (stores) {
        put_on_grid(w);
        code = evaluate(p, w, d, 0, true, err);
    }
    for (size_t k = 0; code == DSCM_OK && k < p->steps; k++) {
        code = stores ? solve_up(p, w, d, k, err) : evaluate(p, w, d, k, true, err);
        if (code == DSCM_OK && !stores) step_up(p, w, k);
        if (code == DSCM_OK) code = observe(observer, w, k + 1, p->steps, err);
    }
    return code;
}

dscm_code dscm_walk_forget(const dscm_path *p, dscm_walk *w, const dscm_denoiser *d,
                           dscm_error *err)
{
    for (size_t i = 0; i < total(w); i++) w->x[i] = rintf(w->x[i] * NOISE_GRID) / NOISE_GRID;
    if (samplers[p->sampler].rounds) memset(w->residual, 0, p->steps * total(w) * sizeof(float));
    if (!samplers[p->sampler].pair) return DSCM_OK;
    dscm_code code = evaluate(p, w, d, p->steps, true, err);
    if (code != DSCM_OK) return code;
    memcpy(w->spare, w->x, total(w) * sizeof(float));
    step_ddim(p, w, p->steps, false);
    memcpy(w->pair, w->x, total(w) * sizeof(float));
    memcpy(w->x, w->spare, total(w) * sizeof(float));
    return DSCM_OK;
}

static void swap_pair(dscm_walk *w)
{
    float *held = w->x;
    w->x = w->pair;
    w->pair = held;
}

/* Keeps the state of the level at hand, or takes the one that was kept there. */
static void pass_midway(dscm_walk *w)
{
    size_t bytes = total(w) * sizeof(float);
    float *const state[2] = {w->x, w->spare};
    for (int i = 0; i < 2; i++)
        memcpy(w->resumes ? state[i] : w->midway[i], w->resumes ? w->midway[i] : state[i], bytes);
}

dscm_code dscm_walk_down(const dscm_path *p, dscm_walk *w, const dscm_denoiser *d,
                         const dscm_walk_observer *observer, dscm_error *err)
{
    size_t high, low;
    down_range(p, &high, &low);
    const size_t top = high;
    /* Upwards a pair ends as (x = top, pair = below); downwards the lower level is the present one.
     */
    if (samplers[p->sampler].pair) swap_pair(w);
    if (w->midway[0] && w->resumes) high = w->midway_level;
    for (size_t k = high + 1; k-- > low;) {
        if (w->midway[0] && k == w->midway_level) pass_midway(w);
        dscm_code code = evaluate(p, w, d, k, false, err);
        if (code != DSCM_OK) return code;
        if (samplers[p->sampler].step == step_ddim) {
            follow_guidance(p, w, k);
            if (w->guided && p->noise_limit > 0 && k == high) limit_noise(p, w);
            if (w->guided && p->limit) limit_guided(w, p->alpha_bar[k]);
        }
        samplers[p->sampler].step(p, w, k, false);
        if (w->guided && p->eta > 0 && samplers[p->sampler].step == step_ddim) freshen(p, w, k);
        if (samplers[p->sampler].rounds) add_residual(p, w, k);
        code = observe(observer, w, top - k + 1, top - low + 1, err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

void dscm_walk_from_noise(const dscm_path *p, dscm_walk *w)
{
    /* Without a network the level below the top is its best guess: the same noise at that level's
     * strength. */
    if (samplers[p->sampler].rounds) memset(w->residual, 0, p->steps * total(w) * sizeof(float));
    if (!samplers[p->sampler].pair) return;
    double top = p->alpha_bar[p->steps], below = p->alpha_bar[p->steps - 1];
    float ratio = (float)(sqrt(1 - below) / sqrt(1 - top));
    for (size_t i = 0; i < total(w); i++) w->pair[i] = ratio * w->x[i];
}
