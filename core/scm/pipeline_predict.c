/* Prediction: the whole fan of all items in one batch, samples, and the way back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/scm/pipeline_internal.h"
#include "core/scm/session.h"

/* Queries of all targets; the caller frees *queries and *items. Each has the strength of its request,
 * because requests of one batch may differ in it. */
static dscm_code make_queries(run *r, dscm_query **queries, dscm_intervention **items)
{
    *queries = run_alloc(r, r->total, sizeof(**queries));
    *items = run_alloc(r, r->total * DSCM_TARGET_VARIABLES_MAX, sizeof(**items));
    if (!*queries || !*items) return DSCM_E_MEMORY;
    for (size_t i = 0; i < r->count; i++) {
        const dscm_case *ask = &r->items[i].ask;
        for (size_t k = r->offsets[i]; k < r->offsets[i + 1]; k++) {
            const dscm_target *target = &ask->targets[k - r->offsets[i]];
            dscm_intervention *own = *items + k * DSCM_TARGET_VARIABLES_MAX;
            memcpy(own, target->items, target->count * sizeof(*own));
            (*queries)[k] = (dscm_query){.items = own,
                                         .count = target->count,
                                         .factual = r->from[i]->factual,
                                         .image = r->from[i]->image,
                                         .min_change = ask->options.min_change,
                                         .scale = r->auto_scale ? NULL : &ask->options.scale};
        }
    }
    return DSCM_OK;
}

/* Gives query k the strength that its search found: what it names itself is a factor of that. Under
 * conditional guidance it is of labels. */
static void set_strength(const run *r, dscm_query *queries, dscm_intervention *items, size_t k,
                         const double *scale)
{
    bool conditional = r->options.guidance == DSCM_GUIDANCE_CONDITIONAL;
    queries[k].scale = scale;
    for (size_t j = 0; j < queries[k].count; j++) {
        dscm_intervention *own = &items[k * DSCM_TARGET_VARIABLES_MAX + j];
        if (!conditional || r->info->variables[own->variable].kind == DSCM_CATEGORICAL)
            own->scale *= *scale;
        else if (isnan(own->scale))
            own->scale = 1;
    }
}

/* The latent of every target: its item's noise, repeated. */
static dscm_code make_latent(run *r, dscm_latent **out)
{
    size_t *index = run_alloc(r, r->total, sizeof(*index));
    if (!index) return DSCM_E_MEMORY;
    for (size_t i = 0; i < r->count; i++)
        for (size_t k = r->offsets[i]; k < r->offsets[i + 1]; k++) index[k] = i;
    const dscm_latent *all = r->joint ? r->joint : r->from[0]->latent;
    dscm_code code = dscm_latent_select(out, all, index, r->total, r->err);
    free(index);
    return code;
}

static dscm_code predict(run *r, float *out, dscm_scale_result *searches, const dscm_latent *latent,
                         const dscm_query *queries)
{
    dscm_progress progress;
    dscm_code code;
    run_begin(r, PHASE_PREDICT, r->auto_scale ? 0 : 1, &progress);
    if (!r->auto_scale) {
        code = dscm_predict(r->session, out, latent, queries, &r->options, &progress, r->err);
        run_end(r, &r->times.predict);
        return code;
    }
    uint8_t *frames = r->frames; /* pictures of a search are no trajectory */
    r->frames = NULL;
    code = dscm_predict_search(r->session, out, searches, latent, queries, &r->options, NULL,
                               &progress, r->err);
    r->frames = frames;
    if (!code && frames)
        code = dscm_predict_found(r->session, out, latent, queries, &r->options, searches,
                                  &progress, r->err);
    run_end(r, &r->times.predict);
    return code;
}

/* Strength of the first intervention, which is the one that a fan varies. */
static double strength(const run *r, const dscm_case *ask, const dscm_target *target,
                       const dscm_scale_result *search)
{
    if (r->auto_scale) return search->scale;
    bool own = target->count && !isnan(target->items[0].scale);
    return own ? target->items[0].scale : ask->options.scale;
}

static dscm_code take_results(run *r, const float *images, const dscm_scale_result *searches,
                              const dscm_query *queries)
{
    dscm_code code = DSCM_OK;
    for (size_t i = 0; !code && i < r->count; i++)
        for (size_t k = r->offsets[i]; !code && k < r->offsets[i + 1]; k++) {
            dscm_counterfactual *c = &r->items[i].result->counterfactuals[k - r->offsets[i]];
            memcpy(c->image, images + k * r->pixels, r->pixels * sizeof(*images));
            c->scale = strength(r, &r->items[i].ask, &c->target, &searches[k]);
            c->predictions = r->auto_scale ? searches[k].predictions : 1;
            c->composition = r->from[i]->error_l1; /* NaN without scores */
            code = dscm_query_values(r->bundle, &queries[k], c->propagated, r->err);
        }
    return code;
}

dscm_code run_predict(run *r, float *out, dscm_scale_result *searches)
{
    dscm_query *queries = NULL;
    dscm_intervention *items = NULL;
    dscm_latent *latent = NULL;
    dscm_code code = make_queries(r, &queries, &items);
    if (!code) code = make_latent(r, &latent);
    if (!code) code = predict(r, out, searches, latent, queries);
    if (!code) {
        dscm_images_round(out, r->total * r->pixels);
        code = take_results(r, out, searches, queries);
    }
    dscm_latent_free(latent);
    free(queries);
    free(items);
    return code;
}

/* Sets the intervened variables back to what was observed: the queries of the way back from `images`
 * (total). */
static dscm_code make_return(run *r, const float *images, dscm_query **queries,
                             dscm_intervention **items)
{
    dscm_code code = make_queries(r, queries, items);
    for (size_t i = 0; !code && i < r->count; i++)
        for (size_t k = r->offsets[i]; k < r->offsets[i + 1]; k++) {
            const dscm_counterfactual *c = &r->items[i].result->counterfactuals[k - r->offsets[i]];
            dscm_intervention *own = *items + k * DSCM_TARGET_VARIABLES_MAX;
            for (size_t j = 0; j < c->target.count; j++) {
                if (own[j].action != DSCM_HOLD && !isnan(r->from[i]->factual[own[j].variable]))
                    own[j].value = r->from[i]->factual[own[j].variable];
                if (own[j].action == DSCM_SHIFT) own[j].action = DSCM_DO;
            }
            if (r->auto_scale) set_strength(r, *queries, *items, k, &c->scale);
            (*queries)[k].image = images + k * r->pixels;
            (*queries)[k].factual = NULL; /* of the counterfactual: the predictors say */
        }
    return code;
}

dscm_code run_reverse(run *r, const float *images)
{
    dscm_query *queries = NULL;
    dscm_intervention *items = NULL;
    dscm_latent *latent = NULL;
    dscm_progress progress;
    float *back = run_alloc(r, r->total * r->pixels, sizeof(*back));
    dscm_code code = back ? make_return(r, images, &queries, &items) : DSCM_E_MEMORY;
    run_begin(r, PHASE_REVERSE, 2, &progress);
    if (!code)
        code = dscm_abduct(r->session, &latent, images, r->total, &r->options, &progress, r->err);
    if (!code)
        code = dscm_predict(r->session, back, latent, queries, &r->options, &progress, r->err);
    if (!code) dscm_images_round(back, r->total * r->pixels);
    for (size_t i = 0; !code && i < r->count; i++)
        for (size_t k = r->offsets[i]; k < r->offsets[i + 1]; k++)
            r->items[i].result->counterfactuals[k - r->offsets[i]].reversibility =
                dscm_images_l1(back + k * r->pixels, r->from[i]->image, r->pixels);
    run_end(r, &r->times.score);
    dscm_latent_free(latent);
    free(queries);
    free(items);
    free(back);
    return code;
}

/* ---- uncertainty ---- */
static const double varied[DSCM_STRENGTHS_VARIED] = {.5, .75, 1.5, 2};

/* All counterfactuals once more, at `factor` times the strength of each. found: (total) what the search
 * says of them. */
static dscm_code predict_at(run *r, float *out, const dscm_latent *latent, double factor,
                            const dscm_scale_result *found, const dscm_progress *progress)
{
    dscm_query *queries = NULL;
    dscm_intervention *items = NULL;
    dscm_scale_result *searches = run_alloc(r, r->total, sizeof(*searches));
    dscm_code code = searches ? make_queries(r, &queries, &items) : DSCM_E_MEMORY;
    for (size_t k = 0; !code && k < r->total; k++) {
        searches[k] = found[k];
        searches[k].scale *= factor;
        if (r->auto_scale) continue;
        searches[k].scale = *queries[k].scale * factor;
        queries[k].scale = &searches[k].scale;
        for (size_t j = 0; j < queries[k].count; j++)
            items[k * DSCM_TARGET_VARIABLES_MAX + j].scale *= factor;
    }
    if (!code)
        code = r->auto_scale
                   ? dscm_predict_found(r->session, out, latent, queries, &r->options, searches,
                                        progress, r->err)
                   : dscm_predict(r->session, out, latent, queries, &r->options, progress, r->err);
    if (!code) dscm_images_round(out, r->total * r->pixels);
    free(searches);
    free(queries);
    free(items);
    return code;
}

/* sums, squares: (total, pixels) over all draws. */
static void take_uncertainty(run *r, const double *sums, const double *squares)
{
    size_t channels = r->image->c, area = r->pixels / channels;
    const double draws = DSCM_STRENGTHS_VARIED + 1;
    for (size_t i = 0; i < r->count; i++)
        for (size_t k = r->offsets[i]; k < r->offsets[i + 1]; k++) {
            dscm_counterfactual *c = &r->items[i].result->counterfactuals[k - r->offsets[i]];
            double all = 0;
            for (size_t p = 0; p < area; p++) {
                double variance = 0;
                for (size_t at = k * r->pixels + p * channels, j = 0; j < channels; j++, at++)
                    variance += fmax(squares[at] / draws - sums[at] * sums[at] / draws / draws, 0);
                double deviation = 127.5 * sqrt(variance / (double)channels);
                c->uncertainty[p] = (float)deviation;
                all += deviation;
            }
            c->uncertainty_mean = all / (double)area;
        }
}

dscm_code run_vary(run *r, const float *images, const dscm_scale_result *found)
{
    size_t n = r->total * r->pixels;
    dscm_latent *latent = NULL;
    dscm_progress progress;
    uint8_t *frames = r->frames; /* the trajectory is that of the counterfactual */
    float *out = run_alloc(r, n, sizeof(*out));
    double *sums = run_alloc(r, 2 * n, sizeof(*sums)), *squares = sums ? sums + n : NULL;
    dscm_code code = out && sums ? make_latent(r, &latent) : DSCM_E_MEMORY;
    r->frames = NULL;
    run_begin(r, PHASE_VARY, DSCM_STRENGTHS_VARIED, &progress);
    for (size_t d = 0; !code && d <= DSCM_STRENGTHS_VARIED; d++) {
        const float *draw = d ? out : images;
        if (d) code = predict_at(r, out, latent, varied[d - 1], found, &progress);
        for (size_t i = 0; !code && i < n; i++) {
            sums[i] += (double)draw[i];
            squares[i] += (double)draw[i] * (double)draw[i];
        }
    }
    if (!code) take_uncertainty(r, sums, squares);
    run_end(r, &r->times.score);
    r->frames = frames;
    dscm_latent_free(latent);
    free(out);
    free(sums);
    return code;
}

/* Samples of one item. Each has its own stream of the seed, so a larger count begins with the same
 * pictures. */
static dscm_code sample_item(run *r, const dscm_case *ask, dscm_result *result,
                             const dscm_progress *progress)
{
    dscm_latent *latent = NULL;
    float *images = run_alloc(r, ask->count * r->pixels, sizeof(*images));
    dscm_query *queries = run_alloc(r, ask->count, sizeof(*queries));
    dscm_target *targets = run_alloc(r, ask->count, sizeof(*targets));
    dscm_code code = images && queries && targets ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t k = 0; !code && k < ask->count; k++) {
        targets[k] = result->counterfactuals[k].target;
        for (size_t j = 0; j < targets[k].count; j++)
            if (isnan(targets[k].items[j].scale)) targets[k].items[j].scale = ask->options.scale;
        queries[k] = (dscm_query){.items = targets[k].items, .count = targets[k].count};
    }
    if (!code)
        code = dscm_latent_draw(r->session, &latent, ask->count, ask->seed, ask->first,
                                &ask->options, r->err);
    if (!code)
        code = dscm_predict(r->session, images, latent, queries, &ask->options, progress, r->err);
    for (size_t k = 0; !code && k < ask->count; k++) {
        dscm_images_round(images + k * r->pixels, r->pixels);
        memcpy(result->counterfactuals[k].image, images + k * r->pixels,
               r->pixels * sizeof(*images));
        result->counterfactuals[k].scale = ask->options.scale;
    }
    dscm_latent_free(latent);
    free(queries);
    free(targets);
    free(images);
    return code;
}

dscm_code run_samples(run *r)
{
    dscm_progress progress;
    dscm_code code = DSCM_OK;
    run_begin(r, PHASE_PREDICT, r->count, &progress);
    for (size_t i = 0; !code && i < r->count; i++)
        code = sample_item(r, &r->items[i].ask, r->items[i].result, &progress);
    run_end(r, &r->times.predict);
    return code;
}
