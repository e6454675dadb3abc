#include "core/eval/evaluate.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/eval/baselines.h"
#include "core/eval/judges.h"
#include "core/scm/score.h"
#include "core/scm/session.h"

#define PROTOTYPE_POOL 4000 /* real images that prototypes are taken from */

struct dscm_eval_worker {
    const dscm_eval_data *data;
    dscm_session *session;
    dscm_probe predictor, encoder, autoencoder, features; /* closed where the bundle lacks it */
    dscm_probe *ensemble;
    dscm_probe **members;
    size_t ensemble_count, batch, size, labels;
    float *codes;       /* (codes_count, encoder.width) of the pool's first images, for prototypes;
                           NULL until they are asked for */
    size_t codes_count; /* at most PROTOTYPE_POOL */
    float *images, *results, *blurred, *observed; /* (batch, size) … (batch, labels) */
    dscm_scores *scores;
    int *targets, *factuals;
    dscm_intervention *acts;
    dscm_query *queries;
    dscm_scale_result *searched;
    double *given; /* (batch, variables) the factual parents that the abduction is told */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- methods ---- */
typedef dscm_code method_fn(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first,
                            size_t count, dscm_record *rows, dscm_error *err);

static void set_queries(dscm_eval_worker *w, const float *from, const int *labels, size_t count,
                        double min_change, bool guided)
{
    size_t size = w->size;
    for (size_t i = 0; i < count; i++) {
        w->acts[i] = (dscm_intervention){
            .variable = w->data->variable, .value = labels[i], .scale = (double)NAN};
        w->queries[i] = (dscm_query){.items = &w->acts[i],
                                     .count = guided,
                                     .image = from + i * size,
                                     .min_change = min_change};
    }
}

/* shown: labels that the images in `from` have, which the abduction is told. With a search,
 * w->searched tells what it found and cost. */
static dscm_code set_targets(dscm_eval_worker *w, const int *shown, const int *labels, size_t count,
                             const dscm_eval_setting *s, const float *from, float *to, bool guided,
                             dscm_error *err)
{
    dscm_latent *latent = NULL;
    size_t variables = dscm_bundle_describe(w->data->bundle)->variables_count;
    set_queries(w, from, labels, count, s->options.min_change, guided);
    for (size_t i = 0; i < count * variables; i++)
        w->given[i] =
            i % variables == (size_t)w->data->variable ? shown[i / variables] : (double)NAN;
    dscm_code code =
        dscm_abduct_given(w->session, &latent, from, w->given, count, &s->options, NULL, err);
    if (code == DSCM_OK && guided && s->search)
        code = dscm_predict_search(w->session, to, w->searched, latent, w->queries, &s->options,
                                   NULL, NULL, err);
    else if (code == DSCM_OK)
        code = dscm_predict(w->session, to, latent, w->queries, &s->options, NULL, err);
    dscm_latent_free(latent);
    return code;
}

static dscm_code run_diffusion(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first,
                               size_t count, dscm_record *rows, dscm_error *err)
{
    (void)first;
    dscm_session_work before = dscm_session_done(w->session);
    dscm_code code =
        set_targets(w, w->factuals, w->targets, count, s, w->images, w->results, true, err);
    dscm_session_work after = dscm_session_done(w->session);
    for (size_t i = 0; code == DSCM_OK && i < count; i++) { /* the mean of the images of a batch */
        rows[i].values[DSCM_COL_PASSES] = (double)(after.passes - before.passes) / (double)count;
        rows[i].values[DSCM_COL_GRADIENTS] =
            (double)(after.gradients - before.gradients) / (double)count;
        rows[i].values[DSCM_COL_SCALE] = s->search ? w->searched[i].scale : s->options.scale;
    }
    return code;
}

static dscm_code run_pgd(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first,
                         size_t count, dscm_record *rows, dscm_error *err)
{
    dscm_pgd_options options = dscm_pgd_defaults();
    (void)s, (void)first, (void)rows;
    return dscm_baseline_pgd(w->results, w->images, w->targets, count, &w->predictor, &options,
                             err);
}

static dscm_code run_greedy(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first,
                            size_t count, dscm_record *rows, dscm_error *err)
{
    dscm_greedy_options options = dscm_greedy_defaults();
    (void)s, (void)first, (void)rows;
    return dscm_baseline_greedy(w->results, w->images, w->targets, count, w->members,
                                w->ensemble_count, &options, err);
}

/* Codes of the pool's first images by the search's own autoencoder, once per worker. */
static dscm_code encode_pool(dscm_eval_worker *w, dscm_error *err)
{
    const dscm_dataset *pool = w->data->pool;
    size_t n = pool->count < PROTOTYPE_POOL ? pool->count : PROTOTYPE_POOL;
    if (w->codes) return DSCM_OK;
    w->codes = dscm_alloc(n * w->encoder.width, sizeof(float), "prototypes", err);
    if (!w->codes) return DSCM_E_MEMORY;
    w->codes_count = n;
    for (size_t b = 0; b < n; b += w->batch) {
        size_t count = n - b < w->batch ? n - b : w->batch;
        for (size_t i = 0; i < count * w->size; i++)
            w->blurred[i] = (float)pool->pixels[b * w->size + i] / 255;
        memcpy(w->codes + b * w->encoder.width, dscm_probe_forward(&w->encoder, w->blurred, count),
               count * w->encoder.width * sizeof(float));
    }
    return DSCM_OK;
}

static dscm_code run_prototype(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first,
                               size_t count, dscm_record *rows, dscm_error *err)
{
    dscm_prototype_options options = dscm_prototype_defaults();
    (void)s, (void)first, (void)rows;
    dscm_code code = encode_pool(w, err);
    if (code != DSCM_OK) return code;
    dscm_prototype_nets nets = {.classifier = w->members[0],
                                .autoencoder = &w->autoencoder,
                                .encoder = &w->encoder,
                                .codes = w->codes,
                                .labels = w->data->pool->labels,
                                .codes_count = w->codes_count};
    return dscm_baseline_prototype(w->results, w->images, w->targets, count, &nets, &options, err);
}

static dscm_code run_identity(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first,
                              size_t count, dscm_record *rows, dscm_error *err)
{
    (void)s, (void)first, (void)rows, (void)err;
    memcpy(w->results, w->images, count * w->size * sizeof(float));
    return DSCM_OK;
}

static dscm_pool_view pool_of(const dscm_eval_worker *w)
{
    const dscm_dataset *p = w->data->pool;
    return (dscm_pool_view){
        .pixels = p->pixels, .labels = p->labels, .n = p->count, .width = w->size};
}

static dscm_code run_nearest(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first,
                             size_t count, dscm_record *rows, dscm_error *err)
{
    dscm_pool_view pool = pool_of(w);
    (void)s, (void)rows;
    return dscm_baseline_real(w->results, w->images, w->targets, count, &pool, true, w->data->seed,
                              first, err);
}

static dscm_code run_random(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first,
                            size_t count, dscm_record *rows, dscm_error *err)
{
    dscm_pool_view pool = pool_of(w);
    (void)s, (void)rows;
    return dscm_baseline_real(w->results, w->images, w->targets, count, &pool, false, w->data->seed,
                              first, err);
}

/* Another item of the target class: what the data itself looks like to the metric nets. */
static dscm_code run_real(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first,
                          size_t count, dscm_record *rows, dscm_error *err)
{
    const dscm_dataset *d = w->data->items;
    dscm_pool_view items = {
        .pixels = d->pixels, .labels = d->labels, .n = d->count, .width = w->size};
    (void)s, (void)rows;
    return dscm_baseline_real(w->results, w->images, w->targets, count, &items, false,
                              w->data->seed, first, err);
}

static const struct {
    const char *name;
    method_fn *run;
    bool ensemble, autoencoder; /* what it needs */
} methods[] = {{"ours", run_diffusion, false, false},    {"published", run_diffusion, false, false},
               {"pgd", run_pgd, false, false},           {"greedy", run_greedy, true, false},
               {"prototype", run_prototype, true, true}, {"identity", run_identity, false, false},
               {"nearest", run_nearest, false, false},   {"random", run_random, false, false},
               {"real", run_real, false, false}};
#define METHODS (sizeof methods / sizeof methods[0])

static size_t find_method(const char *name)
{
    size_t i = 0;
    while (i < METHODS && strcmp(methods[i].name, name) != 0) i++;
    return i;
}

dscm_code dscm_eval_check(const dscm_bundle *b, const char *method, dscm_error *err)
{
    size_t i = find_method(method);
    if (i == METHODS)
        return dscm_fail(err, DSCM_E_UNKNOWN,
                         "method \"%s\" is not one of ours, published, pgd, greedy, "
                         "prototype, identity, nearest, random, real",
                         method);
    if (methods[i].ensemble && !b->ensemble_count)
        return dscm_fail(err, DSCM_E_UNKNOWN,
                         "method \"%s\" needs an ensemble, which the bundle lacks", method);
    if (methods[i].autoencoder && !b->baseline_autoencoder.net)
        return dscm_fail(err, DSCM_E_UNKNOWN,
                         "method \"%s\" needs a baseline_autoencoder, which the bundle "
                         "lacks",
                         method);
    return DSCM_OK;
}

/* ---- workers ---- */
static dscm_code open_probe(dscm_probe *out, const bundle_net *n, const char *output, size_t batch,
                            dscm_error *err)
{
    return n->net ? dscm_probe_open(out, n->net, n->weights, output, batch, err) : DSCM_OK;
}

static dscm_code open_probes(dscm_eval_worker *w, dscm_error *err)
{
    const dscm_bundle *b = w->data->bundle;
    int edge = dscm_bundle_edge(b, w->data->variable, b->info.image);
    if (edge < 0)
        return dscm_fail(err, DSCM_E_INVALID, "evaluation: the variable has no predictor");
    dscm_code code = open_probe(&w->predictor, &b->edges[edge].predictor, "out", w->batch, err);
    if (code == DSCM_OK)
        code = open_probe(&w->encoder, &b->baseline_autoencoder, "code", w->batch, err);
    if (code == DSCM_OK)
        code = open_probe(&w->autoencoder, &b->baseline_autoencoder, "out", w->batch, err);
    if (code == DSCM_OK && b->panel.classifiers_count)
        code = open_probe(&w->features, &b->panel.classifiers[0], "features", w->batch, err);
    w->ensemble = dscm_alloc(b->ensemble_count + 1, sizeof *w->ensemble, "ensemble", err);
    w->members = dscm_alloc(b->ensemble_count + 1, sizeof *w->members, "ensemble", err);
    if (!w->ensemble || !w->members) return DSCM_E_MEMORY;
    for (size_t i = 0; code == DSCM_OK && i < b->ensemble_count; i++) {
        code = open_probe(&w->ensemble[i], &b->ensemble[i], "out", w->batch, err);
        w->members[i] = &w->ensemble[i];
        w->ensemble_count = i + 1;
    }
    return code;
}

static dscm_code open_buffers(dscm_eval_worker *w, dscm_error *err)
{
    size_t image = w->batch * w->size;
    w->images = dscm_alloc(3 * image + w->batch * w->labels, sizeof(float), "evaluation", err);
    w->scores = dscm_alloc(w->batch, sizeof *w->scores, "evaluation", err);
    w->targets = dscm_alloc(2 * w->batch, sizeof *w->targets, "evaluation", err);
    w->acts = dscm_alloc(w->batch, sizeof *w->acts, "evaluation", err);
    w->queries = dscm_alloc(w->batch, sizeof *w->queries, "evaluation", err);
    w->searched = dscm_alloc(w->batch, sizeof *w->searched, "evaluation", err);
    w->given = dscm_alloc(w->batch * dscm_bundle_describe(w->data->bundle)->variables_count,
                          sizeof *w->given, "evaluation", err);
    if (!w->given || !w->images || !w->scores || !w->targets || !w->acts || !w->queries ||
        !w->searched)
        return DSCM_E_MEMORY;
    w->results = w->images + image;
    w->blurred = w->results + image;
    w->observed = w->blurred + image;
    w->factuals = w->targets + w->batch;
    return DSCM_OK;
}

dscm_code dscm_eval_worker_open(dscm_eval_worker **out, const dscm_eval_data *data, size_t batch,
                                dscm_error *err)
{
    *out = NULL;
    dscm_eval_worker *w = dscm_alloc(1, sizeof *w, "evaluation", err);
    if (!w) return DSCM_E_MEMORY;
    w->data = data;
    w->batch = batch;
    w->size = data->items->h * data->items->w * data->items->c;
    w->labels = data->bundle->infos[data->variable].labels_count;
    dscm_code code = dscm_session_open(&w->session, data->bundle, batch, 1, err);
    if (code == DSCM_OK && w->size != w->session->size)
        code = dscm_fail(err, DSCM_E_MISMATCH, "data: images are not those of the model");
    if (code == DSCM_OK) code = open_buffers(w, err);
    if (code == DSCM_OK) code = open_probes(w, err);
    if (code != DSCM_OK) {
        dscm_eval_worker_free(w);
        return code;
    }
    *out = w;
    return DSCM_OK;
}

void dscm_eval_worker_free(dscm_eval_worker *w)
{
    if (!w) return;
    for (size_t i = 0; i < w->ensemble_count; i++) dscm_probe_close(&w->ensemble[i]);
    dscm_probe_close(&w->predictor);
    dscm_probe_close(&w->encoder);
    dscm_probe_close(&w->autoencoder);
    dscm_probe_close(&w->features);
    dscm_session_free(w->session);
    dscm_free(w->ensemble);
    dscm_free(w->members);
    dscm_free(w->images);
    dscm_free(w->scores);
    dscm_free(w->targets);
    dscm_free(w->acts);
    dscm_free(w->queries);
    dscm_free(w->codes);
    dscm_free(w->searched);
    dscm_free(w->given);
    dscm_free(w);
}

/* ---- records ---- */
static bool calls_target(const dscm_eval_worker *w, size_t i)
{
    const float *p = w->observed + i * w->labels;
    for (size_t k = 0; k < w->labels; k++)
        if (p[k] > p[w->targets[i]]) return false;
    return true;
}

static dscm_code record_validity(dscm_eval_worker *w, const float *images, size_t count,
                                 dscm_record *rows, dscm_record_column guide,
                                 dscm_record_column oracle, dscm_error *err)
{
    int variable = w->data->variable;
    dscm_code code = dscm_observe(w->session, variable, w->observed, images, count, err);
    for (size_t i = 0; code == DSCM_OK && i < count; i++) {
        rows[i].values[guide] = calls_target(w, i);
        if (guide == DSCM_COL_GUIDE)
            rows[i].values[DSCM_COL_PROBABILITY] =
                (double)w->observed[i * w->labels + (size_t)w->targets[i]];
    }
    if (code != DSCM_OK || !w->data->bundle->info.has_oracle) return code;
    code = dscm_observe_oracle(w->session, variable, w->observed, images, count, err);
    for (size_t i = 0; code == DSCM_OK && i < count; i++)
        rows[i].values[oracle] = calls_target(w, i);
    return code;
}

static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

static double share_changed(const dscm_eval_worker *w, size_t item, double limit)
{
    size_t changed = 0;
    for (size_t i = item * w->size; i < (item + 1) * w->size; i++)
        changed += fabs((double)w->images[i] - (double)w->results[i]) / 2 > limit;
    return (double)changed / (double)w->size;
}

static dscm_code record_scores(dscm_eval_worker *w, size_t count, dscm_record *rows,
                               dscm_error *err)
{
    dscm_pool_view pool = pool_of(w);
    dscm_code code = dscm_score(w->session, w->scores, w->images, w->results, w->data->variable,
                                w->targets, w->factuals, count, err);
    if (code == DSCM_OK)
        code = dscm_baseline_real(w->blurred, w->images, w->targets, count, &pool, true, 0, 0, err);
    for (size_t i = 0; code == DSCM_OK && i < count; i++) {
        const dscm_scores *s = &w->scores[i];
        double *v = rows[i].values;
        size_t at = i * w->size;
        v[DSCM_COL_L1] = s->l1;
        v[DSCM_COL_L2] = s->l2;
        v[DSCM_COL_CLD] = s->cld;
        v[DSCM_COL_MINIMALITY] = s->cld_minimality;
        v[DSCM_COL_DEPARTURE] = s->cld_departure;
        v[DSCM_COL_IM1] = s->im1;
        v[DSCM_COL_IM2] = s->im2;
        v[DSCM_COL_CHANGED_05] = share_changed(w, i, 0.05);
        v[DSCM_COL_CHANGED_10] = share_changed(w, i, 0.10);
        v[DSCM_COL_NEARER] = distance(w->results + at, w->images + at, w->size) <
                             distance(w->blurred + at, w->images + at, w->size);
    }
    return code;
}

static void load_items(dscm_eval_worker *w, size_t first, size_t count)
{
    const dscm_dataset *d = w->data->items;
    dscm_pixels_to_float(w->images, d->pixels + first * w->size, count * w->size);
    for (size_t i = 0; i < count; i++) {
        w->targets[i] = w->data->targets[first + i];
        w->factuals[i] = d->labels[first + i];
    }
}

dscm_code dscm_eval_run(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first, size_t count,
                        dscm_record *rows, uint8_t *pixels, dscm_error *err)
{
    const dscm_dataset *d = w->data->items;
    dscm_code code = dscm_eval_check(w->data->bundle, s->method, err);
    if (code != DSCM_OK) return code;
    load_items(w, first, count);
    for (size_t i = 0; i < count; i++) {
        for (int c = 0; c < DSCM_COLUMNS; c++) rows[i].values[c] = (double)NAN;
        rows[i].values[DSCM_COL_INDEX] = (double)(first + i);
        rows[i].values[DSCM_COL_LABEL] = w->factuals[i];
        rows[i].values[DSCM_COL_TARGET] = w->targets[i];
    }
    double started = now();
    code = methods[find_method(s->method)].run(w, s, first, count, rows, err);
    double seconds = (now() - started) / (double)count;
    if (code != DSCM_OK) return code;
    dscm_pixels_from_float(pixels, w->results, count * w->size);
    dscm_pixels_to_float(w->results, pixels, count * w->size);
    for (size_t i = 0; i < count; i++) {
        rows[i].values[DSCM_COL_SECONDS] = seconds;
        dscm_light_blur(w->blurred + i * w->size, w->results + i * w->size, d->h, d->w, d->c);
    }
    code = record_validity(w, w->results, count, rows, DSCM_COL_GUIDE, DSCM_COL_ORACLE, err);
    if (code == DSCM_OK)
        code = record_validity(w, w->blurred, count, rows, DSCM_COL_GUIDE_DENOISED,
                               DSCM_COL_ORACLE_DENOISED, err);
    return code == DSCM_OK ? record_scores(w, count, rows, err) : code;
}

/* ---- composition and reversibility ---- */
/* As delivered: through 8 bits and back. */
static void deliver(float *images, size_t floats)
{
    for (size_t i = 0; i < floats; i++) {
        uint8_t level;
        dscm_pixels_from_float(&level, images + i, 1);
        dscm_pixels_to_float(images + i, &level, 1);
    }
}

static double mean_gap(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += fabs((double)a[i] - (double)b[i]);
    return 127.5 * sum / (double)n;
}

dscm_code dscm_eval_composition(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first,
                                size_t count, size_t cycles, bool guided, double *out,
                                dscm_error *err)
{
    load_items(w, first, count);
    memcpy(w->results, w->images, count * w->size * sizeof(float));
    for (size_t c = 0; c < cycles; c++) {
        memcpy(w->blurred, w->results, count * w->size * sizeof(float));
        dscm_code code =
            set_targets(w, w->factuals, w->factuals, count, s, w->blurred, w->results, guided, err);
        if (code != DSCM_OK) return code;
        deliver(w->results, count * w->size);
        for (size_t i = 0; i < count; i++)
            out[i * cycles + c] =
                mean_gap(w->results + i * w->size, w->images + i * w->size, w->size);
    }
    return DSCM_OK;
}

dscm_code dscm_eval_reversibility(dscm_eval_worker *w, const dscm_eval_setting *s, size_t first,
                                  size_t count, double *out, dscm_error *err)
{
    load_items(w, first, count);
    dscm_code code =
        set_targets(w, w->factuals, w->targets, count, s, w->images, w->blurred, true, err);
    if (code == DSCM_OK) deliver(w->blurred, count * w->size);
    if (code == DSCM_OK)
        code = set_targets(w, w->targets, w->factuals, count, s, w->blurred, w->results, true, err);
    if (code == DSCM_OK) deliver(w->results, count * w->size);
    for (size_t i = 0; code == DSCM_OK && i < count; i++)
        out[i] = mean_gap(w->results + i * w->size, w->images + i * w->size, w->size);
    return code;
}

/* ---- features ---- */
size_t dscm_eval_features_width(const dscm_eval_worker *w)
{
    return w->features.width;
}

void dscm_eval_features(dscm_eval_worker *w, const uint8_t *pixels, size_t count, float *out)
{
    if (!w->features.width) return;
    dscm_pixels_to_float(w->images, pixels, count * w->size);
    const float *rows = dscm_probe_forward(&w->features, w->images, count);
    memcpy(out, rows, count * w->features.width * sizeof *out);
}

size_t dscm_eval_worker_bytes(const dscm_eval_worker *w)
{
    return dscm_session_bytes(w->session);
}
