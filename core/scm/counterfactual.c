/* Abduction, action, prediction. */
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/scm/walks.h"

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

double dscm_observed_value(const dscm_variable *v, const float *seen)
{
    size_t best = 0;
    if (v->kind == DSCM_CONTINUOUS) return fmin(fmax((double)seen[0], v->min), v->max);
    for (size_t k = 1; k < v->labels_count; k++)
        if (seen[k] > seen[best]) best = k;
    return (double)best;
}

/* Largest number of values that a predictor gives. */
static size_t most_outputs(const dscm_bundle *b)
{
    size_t most = 2;
    for (size_t v = 0; v < b->variables_count; v++)
        if (b->infos[v].labels_count > most) most = b->infos[v].labels_count;
    return most;
}

/* dscm_observe_values without allocation. scratch: (count, most_outputs). */
static dscm_code see(dscm_session *s, int variable, double *out, float *scratch,
                     const float *images, size_t count, dscm_error *err)
{
    const dscm_variable *v = &s->bundle->infos[variable];
    size_t outputs = v->kind == DSCM_CATEGORICAL ? v->labels_count : 2;
    bool accepts = variable == s->bundle->info.scored && s->bundle->info.acceptance_count;
    dscm_code code = accepts ? dscm_observe_acceptance(s, variable, 0, scratch, images, count, err)
                             : dscm_observe(s, variable, scratch, images, count, err);
    for (size_t i = 0; code == DSCM_OK && i < count; i++)
        out[i] = dscm_observed_value(v, scratch + i * outputs);
    return code;
}

dscm_code dscm_observe_values(dscm_session *s, int variable, double *out, const float *images,
                              size_t count, dscm_error *err)
{
    float *scratch =
        dscm_alloc(count * most_outputs(s->bundle), sizeof *scratch, "observation", err);
    dscm_code code = scratch ? see(s, variable, out, scratch, images, count, err) : DSCM_E_MEMORY;
    dscm_free(scratch);
    return code;
}

/* What the score network is told of the images: what is given, else what the predictors see; nothing
 * where guidance is anti-causal and the network can be asked so. */
static dscm_code tell(dscm_session *s, dscm_latent *l, const float *images, const double *given,
                      const dscm_options *o, dscm_error *err)
{
    const dscm_bundle *b = s->bundle;
    size_t n = l->conditions;
    bool null = !is_conditional(o) && dscm_bundle_has_null(b);
    for (size_t i = 0; i < l->count * n; i++) l->factuals[i] = (double)NAN;
    if (null || !n) return DSCM_OK;
    double *seen = dscm_alloc(l->count, sizeof *seen, "observation", err);
    dscm_code code = seen ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t m = 0; code == DSCM_OK && m < n; m++) {
        int variable = b->edges[b->condition_edges[m]].parent;
        bool missing = false;
        for (size_t i = 0; i < l->count; i++) {
            if (given) l->factuals[i * n + m] = given[i * b->variables_count + (size_t)variable];
            missing |= isnan(l->factuals[i * n + m]);
        }
        if (missing) code = dscm_observe_values(s, variable, seen, images, l->count, err);
        for (size_t i = 0; code == DSCM_OK && i < l->count; i++)
            if (isnan(l->factuals[i * n + m])) l->factuals[i * n + m] = seen[i];
    }
    dscm_free(seen);
    return code;
}

double dscm_latent_factual(const dscm_session *s, const dscm_latent *l, size_t item, int variable)
{
    for (size_t m = 0; m < l->conditions; m++)
        if (s->bundle->edges[s->bundle->condition_edges[m]].parent == variable)
            return l->factuals[item * l->conditions + m];
    return (double)NAN;
}

dscm_code dscm_abduct(dscm_session *s, dscm_latent **out, const float *images, size_t count,
                      const dscm_options *options, const dscm_progress *progress, dscm_error *err)
{
    return dscm_abduct_given(s, out, images, NULL, count, options, progress, err);
}

dscm_code dscm_abduct_given(dscm_session *s, dscm_latent **out, const float *images,
                            const double *factuals, size_t count, const dscm_options *options,
                            const dscm_progress *progress, dscm_error *err)
{
    dscm_path path = {0};
    *out = NULL;
    dscm_code code = dscm_session_path(s, options, &path, err);
    if (code == DSCM_OK)
        code = dscm_latent_open(out, count, s->size, s->image->info.c, dscm_path_extras(&path),
                                dscm_bundle_conditions(s->bundle), err);
    if (code == DSCM_OK) code = tell(s, *out, images, factuals, options, err);
    size_t chunks = (count + s->batch_max - 1) / s->batch_max;
    for (size_t i = 0; code == DSCM_OK && i < chunks; i++) {
        size_t first = i * s->batch_max, n = smaller(s->batch_max, count - first),
               floats = n * s->size;
        walk_call call = {.path = &path,
                          .up = true,
                          .told = (*out)->factuals ? (*out)->factuals + first * (*out)->conditions
                                                   : NULL,
                          .progress = progress,
                          .phase = DSCM_PHASE_ABDUCT,
                          .first = first,
                          .done = i * path.steps,
                          .total = chunks * path.steps};
        memcpy((*out)->x + first * s->size, images + first * s->size, floats * sizeof(float));
        dscm_session_load(s, *out, first, n);
        code = dscm_session_walk(s, n, &call, err);
        if (code != DSCM_OK) break;
        dscm_session_store(s, *out, first, n);
    }
    if (code == DSCM_OK) {
        (*out)->options = *options;
        memcpy((*out)->model, s->bundle->sha256, sizeof(*out)->model);
    } else {
        dscm_latent_free(*out);
        *out = NULL;
    }
    dscm_path_close(&path);
    return code;
}

/* Limits the mean of every channel of a drawn noise to one standard deviation of such a mean. What is
 * left of an image at the top is mostly its brightness, which a network reads from that mean and
 * which 1/sqrt(alpha_bar) enlarges: of means farther out white or grey images are made. */
static void limit_means(float *x, size_t pixels, size_t channels)
{
    double most = 1 / sqrt((double)pixels);
    for (size_t c = 0; c < channels; c++) {
        double mean = 0;
        for (size_t p = 0; p < pixels; p++) mean += (double)x[p * channels + c];
        mean /= (double)pixels;
        if (fabs(mean) <= most) continue;
        float shift = (float)(copysign(most, mean) - mean);
        for (size_t p = 0; p < pixels; p++) x[p * channels + c] += shift;
    }
}

dscm_code dscm_latent_draw(dscm_session *s, dscm_latent **out, size_t count, uint64_t seed,
                           uint64_t first_stream, const dscm_options *options, dscm_error *err)
{
    dscm_path path = {0};
    *out = NULL;
    dscm_code code = dscm_session_path(s, options, &path, err);
    if (code == DSCM_OK)
        code = dscm_latent_open(out, count, s->size, s->image->info.c, dscm_path_extras(&path),
                                dscm_bundle_conditions(s->bundle), err);
    if (code == DSCM_OK) {
        size_t classes = s->image->score.net->config.num_classes;
        for (size_t i = 0; i < count; i++) {
            dscm_rng rng = dscm_rng_make(seed, first_stream + i);
            dscm_rng_normal(&rng, (*out)->x + i * s->size, s->size);
            limit_means((*out)->x + i * s->size, s->size / s->image->info.c, s->image->info.c);
            for (size_t m = 0; m < (*out)->conditions; m++)
                (*out)->factuals[i * (*out)->conditions + m] =
                    classes ? floor(dscm_rng_uniform(&rng) * (double)classes) : (double)NAN;
        }
        dscm_walk w = {.batch = count,
                       .size = s->size,
                       .x = (*out)->x,
                       .pair = (*out)->extra,
                       .residual = (*out)->extra};
        dscm_walk_from_noise(&path, &w);
        (*out)->options = *options;
        memcpy((*out)->model, s->bundle->sha256, sizeof(*out)->model);
    }
    dscm_path_close(&path);
    return code;
}

/* ---- prediction of several walks ---- */
size_t scm_walk_steps(const dscm_session *s, const dscm_path *path, size_t items)
{
    return (items + s->batch_max - 1) / s->batch_max * dscm_path_evaluations(path, false);
}

/* What the abduction was told of an item's variables (variables), NaN where nothing. */
static void told_values(const dscm_session *s, const dscm_latent *l, size_t item, double *out)
{
    for (size_t v = 0; v < s->bundle->variables_count; v++)
        out[v] = dscm_latent_factual(s, l, item, (int)v);
}

/* Which queries need observed values: those that shift, hold, or reach a node through another one,
 * unless the caller or the abduction knows all that can be seen. told: (variables). */
static bool needs_observation(const dscm_bundle *b, const dscm_query *q, const double *told)
{
    bool known = true;
    for (size_t e = 0; known && e < b->edges_count; e++) {
        int parent = b->edges[e].parent;
        known = b->edges[e].child != b->info.image || !isnan(told[parent]) ||
                (q->factual && !isnan(q->factual[parent]));
    }
    if (known) return false;
    for (size_t i = 0; i < q->count; i++)
        if (q->items[i].action != DSCM_DO) return true;
    return q->count && causal_moves(&b->system);
}

/* Values of an item's variables, where they are not told, as the predictors see them in its
 * reconstruction. scratch: (most_outputs). */
static dscm_code observe_item(dscm_session *s, const float *image, float *scratch, double *observed,
                              dscm_error *err)
{
    const dscm_bundle *b = s->bundle;
    for (size_t v = 0; v < b->variables_count; v++) {
        if (!isnan(observed[v]) || dscm_bundle_edge(b, (int)v, b->info.image) < 0) continue;
        dscm_code code = see(s, (int)v, &observed[v], scratch, image, 1, err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

/* Clean image of one latent item, by the unguided walk. */
static dscm_code reconstruct(dscm_session *s, const dscm_latent *latent, size_t item,
                             const dscm_path *path, tally *t, float *image, dscm_error *err)
{
    walk_call call = {.path = path,
                      .told =
                          latent->factuals ? latent->factuals + item * latent->conditions : NULL,
                      .progress = t->progress,
                      .phase = DSCM_PHASE_PREDICT,
                      .first = item,
                      .done = t->done,
                      .total = t->total,
                      .hidden = true};
    dscm_session_load(s, latent, item, 1);
    dscm_code code = dscm_session_walk(s, 1, &call, err);
    if (code == DSCM_OK) memcpy(image, s->walk.x, s->size * sizeof(float));
    t->done += scm_walk_steps(s, path, 1);
    return code;
}

/* A latent was inferred under the factual parents that it holds; a query may repeat them only. */
static dscm_code check_factuals(const dscm_session *s, const dscm_latent *l, size_t item,
                                const dscm_query *q, dscm_error *err)
{
    for (size_t m = 0; q->factual && m < l->conditions; m++) {
        int v = s->bundle->edges[s->bundle->condition_edges[m]].parent;
        double told = l->factuals[item * l->conditions + m];
        if (!isnan(told) && !isnan(q->factual[v]) && q->factual[v] != told)
            return dscm_fail(err, DSCM_E_MISMATCH,
                             "factuals: %s: %g, but the latent was inferred under %g",
                             s->bundle->infos[v].name, q->factual[v], told);
    }
    return DSCM_OK;
}

dscm_code scm_guidance_of_all(dscm_session *s, const dscm_latent *latent, const dscm_query *queries,
                              const dscm_options *options, const dscm_path *path, tally *t,
                              guidance *out, dscm_error *err)
{
    double observed[BUNDLE_VARIABLES_MAX];
    size_t edges = s->bundle->edges_count;
    float *image = dscm_alloc(s->size + most_outputs(s->bundle), sizeof *image, "observation", err);
    dscm_code code = image ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t i = 0; i < latent->count; i++) {
        told_values(s, latent, i, observed);
        if (needs_observation(s->bundle, &queries[i], observed))
            t->total += scm_walk_steps(s, path, 1);
    }
    for (size_t i = 0; code == DSCM_OK && i < latent->count; i++) {
        told_values(s, latent, i, observed);
        bool look = needs_observation(s->bundle, &queries[i], observed);
        if (is_conditional(options)) code = check_factuals(s, latent, i, &queries[i], err);
        if (code == DSCM_OK && look) code = reconstruct(s, latent, i, path, t, image, err);
        if (code == DSCM_OK && look) code = observe_item(s, image, image + s->size, observed, err);
        if (code == DSCM_OK)
            code = dscm_query_guidance(s->bundle, &queries[i], observed, options->scale,
                                       out + i * edges, err);
        for (size_t e = 0; code == DSCM_OK && is_conditional(options) && e < edges; e++)
            if (out[i * edges + e].follows && out[i * edges + e].scale != 0)
                out[i * edges + e].scale = 1;
    }
    dscm_free(image);
    return code;
}

dscm_code scm_check_latent(const dscm_session *s, const dscm_latent *latent, const dscm_options *o,
                           dscm_error *err)
{
    const dscm_options *l = &latent->options;
    if (strcmp(latent->model, s->bundle->sha256) != 0)
        return dscm_fail(err, DSCM_E_MISMATCH, "latent: inferred with another model (%.12s…)",
                         latent->model);
    if (strcmp(l->sampler, o->sampler) != 0 || l->steps != o->steps || l->ratio != o->ratio ||
        (l->dynamic != 0) != (o->dynamic != 0) || l->guidance != o->guidance)
        return dscm_fail(
            err, DSCM_E_MISMATCH,
            "latent: inferred by %s, %zu steps, ratio %g, for %s guidance; it cannot be predicted "
            "from by %s, %zu, %g, %s",
            l->sampler, l->steps, l->ratio, dscm_guidance_name(l->guidance), o->sampler, o->steps,
            o->ratio, dscm_guidance_name(o->guidance));
    return DSCM_OK;
}

/* ---- prediction ---- */
/* What the score network is told on the way down: the factual parents; without null blocks
 * anti-causal guidance tells it the target. told: (n, conditions). */
static void tell_down(const dscm_session *s, const dscm_latent *l, const guidance *guided,
                      size_t first, size_t n, double *told)
{
    size_t edges = s->bundle->edges_count;
    bool target = !is_conditional(&l->options) && !dscm_bundle_has_null(s->bundle);
    for (size_t i = 0; i < n * l->conditions; i++) {
        size_t edge = (size_t)s->bundle->condition_edges[i % l->conditions];
        const guidance *g = &guided[(first + i / l->conditions) * edges + edge];
        told[i] = target && g->set ? g->target : l->factuals[first * l->conditions + i];
    }
}

dscm_code scm_predict_guided(dscm_session *s, float *out, const dscm_latent *latent,
                             const guidance *guided, const dscm_path *path, const midway *m,
                             const tally *t, dscm_error *err)
{
    size_t chunks = (latent->count + s->batch_max - 1) / s->batch_max,
           edges = s->bundle->edges_count;
    size_t steps = dscm_path_evaluations(path, false);
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < chunks; i++) {
        size_t first = i * s->batch_max, n = smaller(s->batch_max, latent->count - first);
        tell_down(s, latent, guided, first, n, s->told);
        walk_call call = {.path = path,
                          .guided = edges ? guided + first * edges : NULL,
                          .told = latent->conditions ? s->told : NULL,
                          .conditional = is_conditional(&latent->options),
                          .progress = t->progress,
                          .phase = DSCM_PHASE_PREDICT,
                          .first = first,
                          .done = t->done + i * steps,
                          .total = t->total};
        for (size_t k = 0; m && k < 2; k++)
            call.midway[k] = m->states + (k * latent->count + first) * s->size;
        call.resumes = m && m->resumes;
        dscm_session_load(s, latent, first, n);
        code = dscm_session_walk(s, n, &call, err);
        if (code == DSCM_OK) memcpy(out + first * s->size, s->walk.x, n * s->size * sizeof(float));
    }
    return code;
}

dscm_code dscm_latent_forget(dscm_session *s, dscm_latent *latent, dscm_error *err)
{
    dscm_path path = {0};
    dscm_code code = dscm_session_path(s, &latent->options, &path, err);
    for (size_t i = 0; code == DSCM_OK && i < latent->count; i++) {
        walk_call call = {.path = &path,
                          .told =
                              latent->factuals ? latent->factuals + i * latent->conditions : NULL};
        dscm_session_load(s, latent, i, 1);
        code = dscm_session_forget(s, 1, &call, err);
        if (code == DSCM_OK) dscm_session_store(s, latent, i, 1);
    }
    dscm_path_close(&path);
    return code;
}

dscm_code dscm_predict(dscm_session *s, float *out, const dscm_latent *latent,
                       const dscm_query *queries, const dscm_options *options,
                       const dscm_progress *progress, dscm_error *err)
{
    dscm_path path = {0};
    size_t edges = s->bundle->edges_count;
    dscm_code code = scm_check_latent(s, latent, options, err);
    if (code != DSCM_OK) return code;
    guidance *guided = dscm_alloc(latent->count * edges + 1, sizeof *guided, "guidance", err);
    if (!guided) return DSCM_E_MEMORY;
    code = dscm_session_path(s, options, &path, err);
    tally t = {.progress = progress};
    if (code == DSCM_OK) {
        t.total = scm_walk_steps(s, &path, latent->count);
        code = scm_guidance_of_all(s, latent, queries, options, &path, &t, guided, err);
    }
    if (code == DSCM_OK) code = scm_predict_guided(s, out, latent, guided, &path, NULL, &t, err);
    for (size_t i = 0; code == DSCM_OK && i < latent->count; i++)
        scm_keep_small(s, out + i * s->size, &queries[i]);
    dscm_path_close(&path);
    dscm_free(guided);
    return code;
}

void dscm_images_round(float *images, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float level = roundf((images[i] + 1) * 127.5f);
        images[i] = fminf(fmaxf(level, 0), 255) / 127.5f - 1;
    }
}

double dscm_images_l1(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += fabs((double)a[i] - (double)b[i]);
    return count ? 127.5 * sum / (double)count : 0;
}
