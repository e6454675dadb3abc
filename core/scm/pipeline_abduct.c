/* Abduction of a batch, and what is kept of it: noise, reconstruction, observed values, verdict. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/scm/pipeline_internal.h"

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
            if (variable->kind == DSCM_CATEGORICAL)
                a->evidence.confidence =
                    fmin(a->evidence.confidence, (double)a->observed[v][(size_t)seen]);
        }
        free(rows);
        if (code) return code;
    }
    return DSCM_OK;
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
    a->error_l1 = run_l1(a->reconstruction, a->image, pixels);
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

/* The null counterfactuals. Where abduction has checked every step of the way back they are the
 * images themselves, and the walk, a third of all the work, is spared. */
static dscm_code reconstruct(run *r, const float *images, float *reconstructions)
{
    bool closed = true;
    for (size_t i = 0; i < r->count; i++) closed &= dscm_latent_roundtrip_verified(r->joint, i);
    if (closed) {
        memcpy(reconstructions, images, r->count * r->pixels * sizeof(float));
        return DSCM_OK;
    }
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
    if (!code && r->scored) code = reconstruct(r, images, reconstructions);
    if (!code && r->scored) code = observe(r, images);
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
