#include "core/eval/judges.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/bundle/bundle.h"
#include "core/data/idx.h"
#include "core/eval/baselines.h"
#include "core/scm/score.h"

#define RESAMPLES 2000

_Static_assert((int)DSCM_JUDGES_MAX == BUNDLE_JUDGES_MAX, "as many as a bundle may have");

/* What the networks say of a set of images. */
typedef struct opinions {
    float *features; /* (count, width) of the first classifier */
    int *sharp;      /* (classifiers, count) what each calls them */
    int *blurred;
    double *traits; /* (count, DSCM_TRAITS); NaN for images of more than one channel */
    size_t count;
} opinions;

struct dscm_judges {
    const dscm_bundle *bundle;
    const bundle_judges *nets;
    const char *name;
    dscm_probe classifiers[DSCM_JUDGES_MAX], features;
    dscm_probe mu[DSCM_JUDGES_MAX], logvar[DSCM_JUDGES_MAX]; /* of the VAEs */
    dscm_probe *autoencoders;                                /* (labels), or NULL */
    size_t batch, size, labels;
    float *images, *spare; /* (batch, size) */
    /* real images */
    const uint8_t *pixels;
    int *own; /* (real.count) their classes */
    opinions real;
    double *means; /* (labels, DSCM_TRAITS) */
};

/* ---- opening ---- */
static dscm_code open_nets(dscm_judges *j, dscm_error *err)
{
    const bundle_judges *n = j->nets;
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < n->classifiers_count; i++)
        code = dscm_probe_open(&j->classifiers[i], n->classifiers[i].net, n->classifiers[i].weights,
                               "out", j->batch, err);
    if (code == DSCM_OK)
        code = dscm_probe_open(&j->features, n->classifiers[0].net, n->classifiers[0].weights,
                               "features", j->batch, err);
    for (size_t i = 0; code == DSCM_OK && i < n->vaes_count; i++) {
        const bundle_net *vae = &n->vaes[i].net;
        code = dscm_probe_open(&j->mu[i], vae->net, vae->weights, "mu", j->batch, err);
        if (code == DSCM_OK)
            code = dscm_probe_open(&j->logvar[i], vae->net, vae->weights, "logvar", j->batch, err);
    }
    if (code != DSCM_OK || !n->class_autoencoders) return code;
    j->autoencoders = dscm_alloc(j->labels, sizeof *j->autoencoders, "judges", err);
    if (!j->autoencoders) return DSCM_E_MEMORY;
    for (size_t k = 0; code == DSCM_OK && k < j->labels; k++)
        code = dscm_probe_open(&j->autoencoders[k], n->class_autoencoders[k].net,
                               n->class_autoencoders[k].weights, "out", j->batch, err);
    return code;
}

dscm_code dscm_judges_open(dscm_judges **out, const dscm_bundle *bundle, bool selection,
                           size_t batch, dscm_error *err)
{
    const bundle_judges *nets = selection ? &bundle->selection : &bundle->panel;
    const char *name = selection ? "selection judges" : "panel";
    const dscm_variable *image = &bundle->infos[bundle->info.image];
    *out = NULL;
    if (!nets->classifiers_count || (!selection && !bundle->info.has_panel))
        return dscm_fail(err, DSCM_E_UNKNOWN, "%s: the bundle has no %s", bundle->info.name, name);
    dscm_judges *j = dscm_alloc(1, sizeof *j, name, err);
    if (!j) return DSCM_E_MEMORY;
    j->bundle = bundle;
    j->nets = nets;
    j->name = name;
    j->batch = batch;
    j->size = image->h * image->w * image->c;
    j->labels = bundle->infos[bundle->info.scored].labels_count;
    j->images = dscm_alloc(2 * batch * j->size, sizeof *j->images, name, err);
    j->means = dscm_alloc(j->labels * DSCM_TRAITS, sizeof *j->means, name, err);
    dscm_code code = j->images && j->means ? open_nets(j, err) : DSCM_E_MEMORY;
    if (code != DSCM_OK) {
        dscm_judges_free(j);
        return code;
    }
    j->spare = j->images + batch * j->size;
    *out = j;
    return DSCM_OK;
}

static void close_opinions(opinions *o)
{
    dscm_free(o->features);
    dscm_free(o->sharp);
    dscm_free(o->traits);
    *o = (opinions){.count = 0};
}

void dscm_judges_free(dscm_judges *j)
{
    if (!j) return;
    for (size_t i = 0; i < DSCM_JUDGES_MAX; i++) {
        dscm_probe_close(&j->classifiers[i]);
        dscm_probe_close(&j->mu[i]);
        dscm_probe_close(&j->logvar[i]);
    }
    dscm_probe_close(&j->features);
    for (size_t k = 0; j->autoencoders && k < j->labels; k++) dscm_probe_close(&j->autoencoders[k]);
    dscm_free(j->autoencoders);
    close_opinions(&j->real);
    dscm_free(j->images);
    dscm_free(j->means);
    dscm_free(j->own);
    dscm_free(j);
}

/* ---- opinions ---- */
static void call(dscm_judges *j, const float *images, size_t count, int *calls, size_t stride)
{
    for (size_t c = 0; c < j->nets->classifiers_count; c++) {
        const float *logits = dscm_probe_forward(&j->classifiers[c], images, count);
        for (size_t i = 0; i < count; i++) {
            const float *row = logits + i * j->labels;
            size_t best = 0;
            for (size_t k = 1; k < j->labels; k++)
                if (row[k] > row[best]) best = k;
            calls[c * stride + i] = (int)best;
        }
    }
}

static dscm_code form_opinions(dscm_judges *j, opinions *o, const uint8_t *pixels, size_t count,
                               dscm_error *err)
{
    const dscm_variable *image = &j->bundle->infos[j->bundle->info.image];
    size_t width = j->features.width, calls = j->nets->classifiers_count * count;
    o->count = count;
    o->features = dscm_alloc(count * width, sizeof *o->features, j->name, err);
    o->sharp = dscm_alloc(2 * calls, sizeof *o->sharp, j->name, err);
    o->traits = dscm_alloc(count * DSCM_TRAITS, sizeof *o->traits, j->name, err);
    if (!o->features || !o->sharp || !o->traits) return DSCM_E_MEMORY;
    o->blurred = o->sharp + calls;
    for (size_t b = 0; b < count; b += j->batch) {
        size_t n = count - b < j->batch ? count - b : j->batch;
        dscm_pixels_to_float(j->images, pixels + b * j->size, n * j->size);
        call(j, j->images, n, o->sharp + b, count);
        memcpy(o->features + b * width, dscm_probe_forward(&j->features, j->images, n),
               n * width * sizeof *o->features);
        for (size_t i = 0; i < n; i++)
            dscm_light_blur(j->spare + i * j->size, j->images + i * j->size, image->h, image->w,
                            image->c);
        call(j, j->spare, n, o->blurred + b, count);
    }
    if (image->c == 1 && image->h <= 64 && image->w <= 64)
        return dscm_traits_measure(o->traits, pixels, count, image->h, image->w, err);
    for (size_t i = 0; i < count * DSCM_TRAITS; i++) o->traits[i] = (double)NAN;
    return DSCM_OK;
}

static dscm_calls count_calls(const dscm_judges *j, const opinions *o, const int *wanted)
{
    dscm_calls out = {.classifiers = j->nets->classifiers_count};
    for (size_t c = 0; c < out.classifiers; c++)
        for (size_t i = 0; i < o->count; i++) {
            out.sharp[c] += (o->sharp[c * o->count + i] == wanted[i]) / (double)o->count;
            out.blurred[c] += (o->blurred[c * o->count + i] == wanted[i]) / (double)o->count;
        }
    return out;
}

dscm_code dscm_judges_set_real(dscm_judges *j, const uint8_t *pixels, const uint8_t *labels,
                               size_t count, dscm_real_figures *out, dscm_error *err)
{
    close_opinions(&j->real);
    dscm_free(j->own);
    j->pixels = pixels;
    j->own = dscm_alloc(count, sizeof *j->own, j->name, err);
    dscm_code code = j->own ? form_opinions(j, &j->real, pixels, count, err) : DSCM_E_MEMORY;
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < count; i++) j->own[i] = labels[i];
    dscm_traits_class_means(j->means, j->real.traits, j->own, count, j->labels);
    *out = (dscm_real_figures){.calls = count_calls(j, &j->real, j->own),
                               .faint = dscm_faint_share(pixels, count * j->size),
                               .count = count};
    return DSCM_OK;
}

/* ---- CLD and IM1 ---- */
/* Codes (n, 2, latent) of images in j->images: mu, then log variance. */
static void encode(dscm_judges *j, size_t vae, size_t n, float *codes)
{
    size_t latent = j->mu[vae].width;
    dscm_probe *const parts[2] = {&j->mu[vae], &j->logvar[vae]};
    for (size_t p = 0; p < 2; p++) {
        const float *rows = dscm_probe_forward(parts[p], j->images, n);
        for (size_t i = 0; i < n; i++)
            memcpy(codes + (2 * i + p) * latent, rows + i * latent, latent * sizeof *rows);
    }
}

/* CLD of every item by one VAE; codes: (2, batch, 2, latent). */
static void cld_by(dscm_judges *j, size_t vae, double *out, const uint8_t *results,
                   const int *targets, size_t count, float *codes)
{
    const bundle_vae *v = &j->nets->vaes[vae];
    size_t latent = v->net.net->config.latent;
    const dscm_cld_pool pool = {v->mu, v->logvar, v->labels, v->count, latent};
    float *theirs = codes + 2 * j->batch * latent;
    for (size_t b = 0; b < count; b += j->batch) {
        size_t n = count - b < j->batch ? count - b : j->batch;
        dscm_pixels_to_float(j->images, j->pixels + b * j->size, n * j->size);
        encode(j, vae, n, codes);
        dscm_pixels_to_float(j->images, results + b * j->size, n * j->size);
        encode(j, vae, n, theirs);
        for (size_t i = 0; i < n; i++) {
            double minimality, departure;
            out[b + i] = dscm_cld_of_codes(&pool, codes + 2 * i * latent, theirs + 2 * i * latent,
                                           j->own[b + i], targets[b + i], &minimality, &departure);
        }
    }
}

static dscm_code judge_cld(dscm_judges *j, dscm_judged *out, const uint8_t *results,
                           const int *targets, size_t count, dscm_error *err)
{
    size_t latent = 0;
    double low = INFINITY, high = -INFINITY;
    for (size_t v = 0; v < j->nets->vaes_count; v++)
        if (j->mu[v].width > latent) latent = j->mu[v].width;
    double *values = dscm_alloc(2 * count, sizeof *values, "CLD", err), *mean = values + count;
    float *codes = dscm_alloc(4 * j->batch * latent + 1, sizeof *codes, "CLD", err);
    dscm_code code = values && codes ? DSCM_OK : DSCM_E_MEMORY;
    out->vaes = j->nets->vaes_count;
    for (size_t v = 0; code == DSCM_OK && v < out->vaes; v++) {
        out->cld_of[v] = 0;
        cld_by(j, v, values, results, targets, count, codes);
        for (size_t i = 0; i < count; i++) {
            mean[i] = (v ? mean[i] : 0) + values[i] / (double)out->vaes;
            out->cld_of[v] += values[i] / (double)count;
        }
        low = fmin(low, out->cld_of[v]);
        high = fmax(high, out->cld_of[v]);
    }
    if (code == DSCM_OK && out->vaes) {
        out->cld_spread = high - low;
        code = dscm_bootstrap_mean(&out->cld, mean, count, RESAMPLES, 1, err);
    }
    dscm_free(values);
    dscm_free(codes);
    return code;
}

static dscm_code judge_im1(dscm_judges *j, dscm_judged *out, const uint8_t *results,
                           const int *targets, size_t count, dscm_error *err)
{
    double *values = dscm_alloc(count, sizeof *values, "IM1", err);
    if (!values) return DSCM_E_MEMORY;
    for (size_t i = 0; i < count; i++) {
        for (size_t p = 0; p < j->size; p++) j->images[p] = (float)results[i * j->size + p] / 255;
        memcpy(j->spare, dscm_probe_forward(&j->autoencoders[targets[i]], j->images, 1),
               j->size * sizeof *j->spare);
        const float *own = dscm_probe_forward(&j->autoencoders[j->own[i]], j->images, 1);
        values[i] = dscm_im1(j->images, j->spare, own, j->size);
    }
    dscm_code code = dscm_bootstrap_mean(&out->im1, values, count, RESAMPLES, 2, err);
    dscm_free(values);
    return code;
}

/* ---- the whole row ---- */
static dscm_code judge_distribution(const dscm_judges *j, dscm_judged *out, const opinions *o,
                                    const int *targets, size_t halvings, uint64_t seed,
                                    dscm_error *err)
{
    size_t width = j->features.width;
    const dscm_feature_set mine = {o->features, targets, o->count, width},
                           real = {j->real.features, j->own, j->real.count, width};
    dscm_code code = dscm_precision_recall(&out->precision, &out->recall, &mine, &real,
                                           DSCM_PRECISION_NEIGHBOURS, err);
    if (code == DSCM_OK)
        code = dscm_frechet_halved(&out->frechet, o->features, j->real.features, o->count, width,
                                   DSCM_FRECHET_HALF, halvings, seed, err);
    return code;
}

dscm_code dscm_judges_run(dscm_judges *j, dscm_judged *out, const uint8_t *results,
                          const int *targets, size_t count, size_t halvings, uint64_t seed,
                          dscm_error *err)
{
    const dscm_interval none = {(double)NAN, (double)NAN, (double)NAN, 0};
    opinions o = {.count = 0};
    assert(count <= j->real.count);
    *out = (dscm_judged){.count = count, .cld = none, .im1 = none, .cld_spread = (double)NAN};
    dscm_code code = form_opinions(j, &o, results, count, err);
    if (code == DSCM_OK) {
        out->calls = count_calls(j, &o, targets);
        out->faint = dscm_faint_share(results, count * j->size);
        dscm_traits_correlation(out->traits, j->real.traits, o.traits, j->own, targets, count,
                                j->means);
        code = judge_distribution(j, out, &o, targets, halvings, seed, err);
    }
    if (code == DSCM_OK) code = judge_cld(j, out, results, targets, count, err);
    if (code == DSCM_OK && j->autoencoders) code = judge_im1(j, out, results, targets, count, err);
    close_opinions(&o);
    return code;
}
