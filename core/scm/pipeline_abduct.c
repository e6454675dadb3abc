/* Abduction of a batch, and what is kept of it: noise, reconstruction, observed values, verdict. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/image/blocks.h"
#include "core/image/ink.h"
#include "core/scm/pipeline_internal.h"
#include "core/scm/session.h"

void dscm_abduction_free(dscm_abduction *a)
{
    if (!a) return;
    for (size_t v = 0; a->observed && v < a->info->variables_count; v++) free(a->observed[v]);
    dscm_latent_free(a->latent);
    free(a->pixels);
    free(a->image);
    free(a->reconstruction);
    free(a->observed);
    free(a->factual);
    free(a->given);
    free(a);
}

size_t dscm_abduction_bytes(const dscm_abduction *a)
{
    const dscm_variable *image = &a->info->variables[a->info->image];
    size_t pixels = image->h * image->w * image->c;
    size_t bytes = sizeof(*a) + (a->latent ? dscm_latent_bytes(a->latent) : 0) +
                   pixels * (1 + 2 * sizeof(float));
    for (size_t v = 0; v < a->info->variables_count; v++)
        bytes +=
            2 * sizeof(double) + sizeof(bool) + a->info->variables[v].labels_count * sizeof(float);
    return bytes;
}

static size_t observed_size(const dscm_variable *v)
{
    return v->kind == DSCM_CATEGORICAL ? v->labels_count : v->kind == DSCM_CONTINUOUS ? 2 : 0;
}

/* Only parents of the image are seen in it. */
static bool is_seen(const run *r, int variable)
{
    for (size_t i = 0; i < r->image->parents_count; i++)
        if (r->image->parents[i] == variable) return true;
    return false;
}

static dscm_abduction *abduction_make(run *r, const dscm_case *ask)
{
    dscm_abduction *a = run_alloc(r, 1, sizeof(*a));
    if (!a) return NULL;
    a->info = r->info;
    a->options = ask->options;
    a->inverted = ask->inverted;
    a->error_l1 = a->error_max = NAN;
    a->evidence = dscm_abduction_evidence_none();
    a->verdict = DSCM_VERDICT_INACCURATE; /* until it is judged */
    a->pixels = run_alloc(r, r->pixels, 1);
    a->image = run_alloc(r, r->pixels, sizeof(float));
    a->reconstruction = run_alloc(r, r->pixels, sizeof(float));
    a->observed = run_alloc(r, r->info->variables_count, sizeof(*a->observed));
    a->factual = run_alloc(r, r->info->variables_count, sizeof(*a->factual));
    a->given = run_alloc(r, r->info->variables_count, sizeof(*a->given));
    bool good = a->pixels && a->image && a->reconstruction && a->observed && a->factual && a->given;
    for (size_t v = 0; good && v < r->info->variables_count; v++) {
        a->factual[v] = ask->factuals ? ask->factuals[v] : NAN;
        a->given[v] = !isnan(a->factual[v]);
        if (!is_seen(r, (int)v)) continue;
        a->observed[v] = run_alloc(r, observed_size(&r->info->variables[v]), sizeof(float));
        good = a->observed[v] != NULL;
    }
    if (!good) {
        dscm_abduction_free(a);
        return NULL;
    }
    memcpy(a->pixels, ask->pixels, r->pixels);
    for (size_t i = 0; i < r->pixels; i++) a->image[i] = (float)a->pixels[i] / 127.5f - 1;
    return a;
}

/* What the predictors see in the images: each abduction gets its row and the most likely value. */
static dscm_code observe(run *r, const float *images)
{
    for (size_t v = 0; v < r->info->variables_count; v++) {
        const dscm_variable *variable = &r->info->variables[v];
        size_t size = observed_size(variable);
        if (!is_seen(r, (int)v) || size == 0) continue;
        float *rows = run_alloc(r, r->count * size, sizeof(*rows));
        dscm_code code =
            rows ? dscm_observe(r->session, (int)v, rows, images, r->count, r->err) : DSCM_E_MEMORY;
        for (size_t i = 0; !code && i < r->count; i++) {
            dscm_abduction *a = r->items[i].abduction;
            memcpy(a->observed[v], rows + i * size, size * sizeof(*rows));
            double seen = dscm_observed_value(variable, a->observed[v]);
            if (!a->given[v]) a->factual[v] = seen;
            bool accepts = (int)v == r->info->scored && r->info->acceptance_count;
            if (variable->kind == DSCM_CATEGORICAL && !accepts)
                a->evidence.confidence =
                    fmin(a->evidence.confidence, (double)a->observed[v][(size_t)seen]);
        }
        free(rows);
        if (code) return code;
    }
    return DSCM_OK;
}

/* How sure the acceptance nets are of what they see in the images, on average over the nets. */
static dscm_code recognise(run *r, const float *images)
{
    size_t nets = r->info->acceptance_count;
    if (r->info->scored < 0 || !nets) return DSCM_OK;
    size_t labels = r->info->variables[r->info->scored].labels_count, values = r->count * labels;
    float *rows = run_alloc(r, 2 * values, sizeof(*rows));
    if (!rows) return DSCM_E_MEMORY;
    float *sum = rows + values;
    dscm_code code = DSCM_OK;
    for (size_t net = 0; !code && net < nets; net++) {
        code = dscm_observe_acceptance(r->session, r->info->scored, net, rows, images, r->count,
                                       r->err);
        for (size_t k = 0; !code && k < values; k++) sum[k] += rows[k] / (float)nets;
    }
    for (size_t i = 0; !code && i < r->count; i++) {
        float best = 0;
        for (size_t k = 0; k < labels; k++) best = fmaxf(best, sum[i * labels + k]);
        dscm_abduction_evidence *e = &r->items[i].abduction->evidence;
        e->confidence = fmin(e->confidence, (double)best);
    }
    free(rows);
    return code;
}

bool run_checks_noise(const run *r)
{
    const dscm_options *o = &r->options;
    dscm_options d = dscm_options_defaults();
    return r->info->quantiles.known && dscm_options_resolve(r->bundle, &d, NULL) == DSCM_OK &&
           o->steps == d.steps && o->ratio == d.ratio && o->guidance == d.guidance &&
           strcmp(o->sampler, d.sampler) == 0;
}

/* How familiar the images are to the score network, beside what real images have. */
static dscm_code measure_familiarity(run *r, const float *images)
{
    const dscm_quantiles *q = &r->info->quantiles;
    if (!q->known) return DSCM_OK;
    double *values = run_alloc(r, 2 * r->count, sizeof(*values));
    if (!values) return DSCM_E_MEMORY;
    double *alone = values + r->count;
    dscm_progress progress;
    run_begin(r, PHASE_RECONSTRUCT, 1, &progress);
    dscm_code code = dscm_denoising_loss(r->session, values, images, r->count, r->err);
    if (!code && run_checks_noise(r))
        code = dscm_noise_only_error(r->session, alone, r->joint, images, &progress, r->err);
    for (size_t i = 0; !code && i < r->count; i++) {
        dscm_abduction_evidence *e = &r->items[i].abduction->evidence;
        e->denoising = (dscm_quantile_check){values[i], q->loss};
        e->contrast =
            (dscm_quantile_check){dscm_contrast(images + i * r->pixels, r->pixels), q->contrast};
        if (r->image->c == 1)
            e->border = (dscm_quantile_check){
                dscm_border_level(r->items[i].abduction->pixels, r->image->h, r->image->w),
                q->border};
        if (q->references) {
            float blocks[DSCM_BLOCKS_FEATURES];
            dscm_block_statistics(blocks, r->items[i].abduction->pixels, r->image->h, r->image->w,
                                  r->image->c);
            dscm_likeness like = dscm_likeness_of(blocks, q->references, q->references_count);
            e->likeness = (dscm_quantile_check){like.plain, q->likeness};
            e->likeness_centred = (dscm_quantile_check){like.centred, q->likeness_centred};
        }
        if (run_checks_noise(r)) e->noise_only = (dscm_quantile_check){alone[i], q->noise_only};
    }
    run_end(r, &r->times.abduct);
    free(values);
    return code;
}

/* What the score network was told of an image is its factual value, whatever a predictor sees. */
static void take_told(run *r)
{
    for (size_t i = 0; i < r->count; i++)
        for (size_t v = 0; v < r->info->variables_count; v++) {
            dscm_abduction *a = r->items[i].abduction;
            double told = dscm_latent_factual(r->session, r->joint, i, (int)v);
            if (!isnan(told) && !a->given[v]) a->factual[v] = told;
        }
}

static void judge(dscm_abduction *a, size_t pixels)
{
    a->error_l1 = dscm_images_l1(a->reconstruction, a->image, pixels);
    a->error_max = 0;
    for (size_t i = 0; i < pixels; i++)
        a->error_max =
            fmax(a->error_max, 127.5 * fabs((double)a->reconstruction[i] - (double)a->image[i]));
    a->evidence.error_l1 = a->error_l1;
    a->verdict = dscm_verdict_of(&a->evidence);
}

/* Takes the joint latent apart, or hands it over when there is one item only. */
static dscm_code share_latent(run *r)
{
    if (r->count == 1) {
        r->items[0].abduction->latent = r->joint;
        r->joint = NULL;
        return DSCM_OK;
    }
    for (size_t i = 0; i < r->count; i++) {
        dscm_code code =
            dscm_latent_select(&r->items[i].abduction->latent, r->joint, &i, 1, r->err);
        if (code) return code;
    }
    return DSCM_OK;
}

/* The null counterfactuals. */
static dscm_code reconstruct(run *r, float *reconstructions)
{
    dscm_query *queries = run_alloc(r, r->count, sizeof(*queries)); /* nothing is done to them */
    if (!queries) return DSCM_E_MEMORY;
    dscm_progress progress;
    run_begin(r, PHASE_RECONSTRUCT, 1, &progress);
    dscm_code code = dscm_predict(r->session, reconstructions, r->joint, queries, &r->options,
                                  &progress, r->err);
    run_end(r, &r->times.abduct);
    free(queries);
    return code;
}

/* What is known of all items, (count, variables); to be freed. */
static double *given_factuals(run *r)
{
    size_t variables = r->info->variables_count;
    double *given = run_alloc(r, r->count * variables, sizeof(*given));
    for (size_t i = 0; given && i < r->count; i++)
        memcpy(given + i * variables, r->items[i].abduction->factual, variables * sizeof(*given));
    return given;
}

static dscm_code infer(run *r, const float *images, float *reconstructions)
{
    dscm_progress progress;
    double *given = given_factuals(r);
    if (!given) return DSCM_E_MEMORY;
    run_begin(r, PHASE_ABDUCT, 1, &progress);
    dscm_code code = dscm_abduct_given(r->session, &r->joint, images, given, r->count, &r->options,
                                       &progress, r->err);
    free(given);
    if (!code && r->items[0].ask.noise_only)
        code = dscm_latent_forget(r->session, r->joint, r->err);
    run_end(r, &r->times.abduct);
    if (!code && r->scored) code = reconstruct(r, reconstructions);
    if (!code && r->scored) code = observe(r, images);
    if (!code && r->scored) code = recognise(r, images);
    if (!code && r->scored) code = measure_familiarity(r, images);
    if (!code) take_told(r);
    return code;
}

dscm_code run_abduct(run *r)
{
    size_t values = r->count * r->pixels;
    float *images = run_alloc(r, values, sizeof(*images));
    float *reconstructions = run_alloc(r, values, sizeof(*reconstructions));
    dscm_code code = images && reconstructions ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t i = 0; !code && i < r->count; i++) {
        dscm_abduction *a = abduction_make(r, &r->items[i].ask);
        if (!a) {
            code = DSCM_E_MEMORY;
            break;
        }
        r->items[i].abduction = a;
        r->from[i] = a;
        memcpy(images + i * r->pixels, a->image, r->pixels * sizeof(float));
    }
    if (!code) code = infer(r, images, reconstructions);
    if (!code) code = share_latent(r);
    for (size_t i = 0; !code && i < r->count; i++) {
        dscm_abduction *a = r->items[i].abduction;
        a->abduct_ms = r->times.abduct;
        if (!r->scored) continue;
        memcpy(a->reconstruction, reconstructions + i * r->pixels, r->pixels * sizeof(float));
        dscm_images_round(a->reconstruction, r->pixels);
        judge(a, r->pixels);
    }
    free(images);
    free(reconstructions);
    return code;
}
