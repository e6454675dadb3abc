/* The search for what a walk is told, item by item: the strength of labels, the aim of numbers. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/scm/walks.h"

static_assert(DSCM_CONDITIONS_MAX == DSCM_PARENTS_MAX, "a search tells every parent of a network");

/* How the predictors at t = 0 see the guided values of an image. */
typedef struct verdict {
    bool labels;        /* every label is the likeliest */
    bool valid;         /* and every number that moves is within its tolerance */
    double probability; /* of the least sure label */
    double gap;         /* farthest number that moves, in tolerances */
    double drift;       /* farthest number that is held, in tolerances; LABEL_LOST */
    double cost;        /* CLD and what the change costs; NaN where it is not weighed */
    double excess;      /* of departure over minimality, -1..1 */
    double missed[DSCM_CONDITIONS_MAX];  /* per condition that moves: number asked for - seen */
    double drifted[DSCM_CONDITIONS_MAX]; /* per condition that is held */
} verdict;

/* 0..1: how near a verdict is to what is asked for. */
static double sureness(const verdict *v)
{
    return fmin(v->probability, v->gap > 1 ? 1 / v->gap : 1);
}

/* What the next walk of an item is asked. */
typedef struct pursuit {
    double scale;                      /* of labels, of all under anti-causal guidance */
    double aimed[DSCM_CONDITIONS_MAX]; /* beyond the targets of numbers, at the late levels */
    double told[DSCM_CONDITIONS_MAX];  /* beyond them at all levels */
    size_t corrections;                /* of both */
    bool resumes;                      /* from the state midway: nothing above it has changed */
    double drift;                      /* of the walk that is kept */
    double cost;                       /* the same's */
    bool unsure;                       /* one had not the labels */
    bool met; /* one was all that is asked for: the last one weighs it against another */
} pursuit;

typedef struct search {
    dscm_session *s;
    const dscm_latent *latent;
    const dscm_path *path;
    const dscm_progress *progress;
    const dscm_query *queries;
    const guidance *unit; /* (count, edges) with relative scales */
    float *trial, *out;   /* (count, size) */
    float *midway;        /* (2, count, size) of the last whole walk of each item */
    float *part;          /* the same of a round's */
    size_t *active;       /* items of this round */
    pursuit *pursuits;    /* (count) */
    verdict *seen;        /* what the predictors say of the active ones */
    dscm_scale_result *results;
} search;

/* The condition of the score network that an edge is, or -1. */
static int condition_of(const dscm_bundle *b, size_t edge)
{
    for (size_t m = 0; m < dscm_bundle_conditions(b); m++)
        if (b->condition_edges[m] == (int)edge) return (int)m;
    return -1;
}

static bool is_label(const dscm_bundle *b, size_t edge)
{
    return b->infos[b->edges[edge].parent].kind == DSCM_CATEGORICAL;
}

/* In tolerances, of a held label that is not the likeliest any more; the less likely it is the more. */
#define LABEL_LOST 100

/* What no query moves keeps what the abduction was told of it: it is judged like a target. Labels only where
 * the network can be told none, which they are strengthened against. */
static void hold_others(const dscm_session *s, const dscm_latent *l, const dscm_query *queries,
                        guidance *unit)
{
    const dscm_bundle *b = s->bundle;
    for (size_t i = 0; is_conditional(&l->options) && i < l->count; i++)
        for (size_t m = 0; queries[i].count && m < l->conditions; m++) {
            size_t e = (size_t)b->condition_edges[m];
            double told = l->factuals[i * l->conditions + m];
            guidance *g = &unit[i * b->edges_count + e];
            if (g->set || isnan(told) || (is_label(b, e) && !dscm_bundle_has_null(b))) continue;
            *g = (guidance){.target = told, .scale = 1, .follows = true, .held = true};
        }
}

/* How far beyond a variable's range the network may be told, as a share of it, on either side. */
#define AIM_BEYOND 0.1

/* Whether the query itself moves a label. */
static bool moves_label(const dscm_bundle *b, const guidance *unit)
{
    bool moves = false;
    for (size_t e = 0; e < b->edges_count; e++)
        moves |= is_label(b, e) && unit[e].scale != 0 && !unit[e].follows;
    return moves;
}

/* Guidance of one walk of a search (edges), from that with relative scales. Where no label moves, scale is
 * that of the labels that are held. */
static void guide_trial(const dscm_bundle *b, bool conditional, const guidance *unit, double scale,
                        const double *told, const double *aimed, guidance *out)
{
    bool moves = moves_label(b, unit);
    for (size_t e = 0; e < b->edges_count; e++) {
        const dscm_variable *v = &b->infos[b->edges[e].parent];
        int m = condition_of(b, e);
        out[e] = unit[e];
        if (!conditional || (is_label(b, e) && (unit[e].held ? !moves : !unit[e].follows)))
            out[e].scale *= scale;
        double target = unit[e].target, beyond = AIM_BEYOND * (v->max - v->min);
        if (!conditional || v->kind != DSCM_CONTINUOUS || unit[e].scale == 0 || m < 0) continue;
        double low = v->min - beyond, high = v->max + beyond;
        out[e].target = fmin(fmax(target + told[m], low), high);
        out[e].aim = fmin(fmax(target + told[m] + aimed[m], low), high) - out[e].target;
    }
}

/* seen: outputs of dscm_observe of one image; condition: of the score network, or -1. */
static void judge_one(verdict *out, const dscm_variable *v, const float *seen,
                      const guidance *asked, int condition)
{
    size_t label = (size_t)asked->target;
    if (v->kind == DSCM_CONTINUOUS) {
        double missed = asked->target - ((double)seen[0] - v->result_bias);
        double *farthest = asked->held ? &out->drift : &out->gap;
        *farthest = fmax(*farthest, fabs(missed) / v->tolerance);
        out->valid &= out->gap <= 1;
        if (condition >= 0) (asked->held ? out->drifted : out->missed)[condition] = missed;
        return;
    }
    bool likeliest = true;
    for (size_t k = 0; k < v->labels_count; k++) likeliest &= seen[k] <= seen[label];
    if (asked->held) {
        if (!likeliest) out->drift = fmax(out->drift, LABEL_LOST + 1 - (double)seen[label]);
        return;
    }
    out->labels &= likeliest;
    out->valid &= out->labels;
    out->probability = fmin(out->probability, (double)seen[label]);
}

/* images: of the n active items. One pass for all of them by every acceptance net, which no walk is
 * guided by, or where the bundle has none by the predictor. */
static dscm_code judge(const search *q, const float *images, size_t n, dscm_error *err)
{
    dscm_session *s = q->s;
    size_t edges = s->bundle->edges_count;
    dscm_code code = DSCM_OK;
    for (size_t i = 0; i < n; i++)
        q->seen[i] = (verdict){.labels = true, .valid = true, .probability = 1};
    for (size_t e = 0; code == DSCM_OK && e < edges; e++) {
        int parent = s->bundle->edges[e].parent, condition = condition_of(s->bundle, e);
        const dscm_variable *v = &s->bundle->infos[parent];
        size_t outputs = v->kind == DSCM_CATEGORICAL ? v->labels_count : 2;
        bool used = false;
        for (size_t i = 0; i < n; i++) used |= q->unit[q->active[i] * edges + e].scale != 0;
        if (!used) continue;
        size_t nets = parent == s->bundle->info.scored ? s->bundle->info.acceptance_count : 0;
        float *seen = dscm_alloc(n * outputs, sizeof *seen, "observation", err);
        code = seen ? DSCM_OK : DSCM_E_MEMORY;
        for (size_t net = 0; code == DSCM_OK && net < (nets ? nets : 1); net++) {
            code = nets ? dscm_observe_acceptance(s, parent, net, seen, images, n, err)
                        : dscm_observe(s, parent, seen, images, n, err);
            for (size_t i = 0; code == DSCM_OK && i < n; i++) {
                const guidance *asked = &q->unit[q->active[i] * edges + e];
                if (asked->scale != 0)
                    judge_one(&q->seen[i], v, seen + i * outputs, asked, condition);
            }
        }
        dscm_free(seen);
    }
    return code;
}

/* Classes of an item that its results are weighed by; false where they are not. */
static bool weighed_classes(const search *q, size_t item, int *label, int *target)
{
    const dscm_bundle *b = q->s->bundle;
    if (!b->search.vaes_count || !is_conditional(&q->latent->options) || !q->queries[item].image)
        return false;
    size_t e = (size_t)dscm_bundle_edge(b, b->info.scored,
                                        b->info.image); /* a bundle with judges has it */
    int m = condition_of(b, e);
    const guidance *asked = &q->unit[item * b->edges_count + e];
    if (m < 0) return false;
    double factual = q->latent->factuals[item * q->latent->conditions + (size_t)m];
    if (asked->scale == 0 || asked->held || isnan(factual) || factual == asked->target)
        return false;
    *label = (int)factual;
    *target = (int)asked->target;
    return true;
}

/* Weighs the trials of the n active items. */
static dscm_code weigh(search *q, size_t n, const dscm_scale_search *a, dscm_error *err)
{
    size_t size = q->s->size;
    for (size_t i = 0; i < n; i++) {
        weighing w;
        int label, target;
        const float *image = q->queries[q->active[i]].image, *trial = q->trial + i * size;
        q->seen[i].cost = (double)NAN;
        if (!weighed_classes(q, q->active[i], &label, &target)) continue;
        dscm_code code = scm_weigh(q->s, &w, image, trial, label, target, err);
        if (code != DSCM_OK) return code;
        q->seen[i].cost = w.cld + a->change_cost * dscm_images_l1(trial, image, size);
        q->seen[i].excess = w.departure - w.minimality;
    }
    return DSCM_OK;
}

/* Under conditional guidance most items end at the first rung. */
#define CONDITIONAL_FIRST 1.2 /* times below the usual scale */
#define CONDITIONAL_RUNG  1.4
#define CORRECTIONS_MAX   2 /* of the numbers that the network is told */
/* What a number was missed by is aimed beyond it so many times: told at the late levels alone, the network
 * moves it by two thirds of that. */
#define CORRECTION_GAIN 1.5
/* A number that a first walk misses by more tolerances is corrected at all levels, by another whole walk: the late
 * ones alone do not take it so far. */
#define CORRECTION_FAR 4

/* The scale after one that was not enough. Fine rungs where most items end, from a quarter of `usual` to
 * it; a target that needs more is hard, and ten targets wait for the hardest: double then. */
static double next_scale(const search *q, double scale, double usual, double most)
{
    double rung = is_conditional(&q->latent->options) ? CONDITIONAL_RUNG
                  : scale < usual * (1 - 1e-9)        ? pow(2, 0.25)
                                                      : 2;
    scale *= rung;
    return scale >= most * (1 - 1e-9) ? most : scale;
}

static bool accepted(const dscm_scale_search *a, bool valid, double probability)
{
    return valid && probability >= a->confidence;
}

/* Keeps an image that is nearer to what is asked for than those before it; of two that are what is asked
 * for, the one that has moved less of what is held. */
static void take_trial(const search *q, size_t item, const float *image, const verdict *seen,
                       const dscm_scale_search *a)
{
    size_t size = q->s->size;
    dscm_scale_result *result = &q->results[item];
    pursuit *now = &q->pursuits[item];
    const verdict best = {.probability = result->probability, .gap = result->gap};
    bool met = accepted(a, seen->valid, seen->probability),
         met_before = accepted(a, result->valid, result->probability), better;
    if (met && met_before && !isnan(seen->cost))
        better = seen->cost < now->cost && seen->drift <= fmax(now->drift, 1);
    else if (met && met_before)
        better = seen->drift < now->drift;
    else
        better = seen->valid != result->valid ? seen->valid : sureness(seen) > sureness(&best);
    result->predictions++;
    if (result->predictions > 1 && !better) return;
    memcpy(q->out + item * size, image, size * sizeof(float));
    now->drift = seen->drift;
    now->cost = seen->cost;
    result->scale = now->scale;
    result->valid = seen->valid;
    result->probability = seen->probability;
    result->gap = seen->gap;
    memcpy(result->aimed, now->aimed, sizeof now->aimed);
    memcpy(result->told, now->told, sizeof now->told);
}

/* Aims of a correction, of the numbers that move before those that are held; true when it begins at the top. */
static bool correct(pursuit *next, const verdict *seen)
{
    bool moves = seen->gap > 1;
    const double *missed = moves ? seen->missed : seen->drifted;
    bool whole = next->corrections++ == 0 && (moves ? seen->gap : seen->drift) > CORRECTION_FAR;
    for (size_t m = 0; m < DSCM_CONDITIONS_MAX; m++) {
        if (whole)
            next->told[m] += missed[m];
        else
            next->aimed[m] += CORRECTION_GAIN * missed[m];
    }
    return whole;
}

/* What to multiply the scale of the first accepted walk by for another that may weigh less; 1: there is none. weaker:
 * none was unsure yet. */
static double weigh_on(const verdict *seen, bool weaker)
{
    if (isnan(seen->cost)) return 1;
    if (seen->excess > DSCM_WEIGH_STRONGER) return CONDITIONAL_RUNG;
    return weaker && seen->excess < DSCM_WEIGH_WEAKER ? 1 / CONDITIONAL_RUNG : 1;
}

/* What to ask of an item next, the numbers that move before those that are held; false when nothing is
 * left to try or to wish for. */
static bool pursue(const search *q, size_t item, const verdict *seen, const dscm_scale_search *a,
                   double usual)
{
    pursuit *next = &q->pursuits[item];
    bool conditional = is_conditional(&q->latent->options), more = false;
    bool whole = false;
    bool sure = seen->labels && seen->probability >= a->confidence;
    bool near = seen->gap <= 1 && seen->drift <= 1, met = sure && near;
    double rung = met ? weigh_on(seen, !next->unsure) : 1;
    if (next->met || (met && rung == 1)) return false;
    next->met = met;
    next->unsure |= !sure;
    if (!sure || met || !conditional || seen->drift >= LABEL_LOST) {
        whole = true;
        double scale = met ? fmin(next->scale * rung, a->max_scale)
                           : next_scale(q, next->scale, usual, a->max_scale);
        more = fabs(scale - next->scale) > 1e-9 * scale;
        next->scale = scale;
    }
    if (conditional && !near && next->corrections < CORRECTIONS_MAX) {
        whole |= correct(next, seen);
        more = true;
    }
    next->resumes = q->midway && !whole;
    return more;
}

/* The states midway of the n active items from `first` on, to or from those of all. */
static void copy_midway(const search *q, size_t first, size_t n, bool to_all)
{
    size_t size = q->s->size, count = q->latent->count;
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < n; i++) {
            float *all = q->midway + (k * count + q->active[first + i]) * size;
            float *part = q->part + (k * n + i) * size;
            memcpy(to_all ? all : part, to_all ? part : all, size * sizeof *all);
        }
}

/* Walks the n active items from `first` on, which all resume or all do not: their images go to q->trial. */
static dscm_code walk_active(search *q, size_t first, size_t n, bool resumes, dscm_error *err)
{
    size_t edges = q->s->bundle->edges_count;
    bool conditional = is_conditional(&q->latent->options);
    dscm_latent *part = NULL;
    if (n == 0) return DSCM_OK;
    guidance *guided = dscm_alloc(n * edges + 1, sizeof *guided, "guidance", err);
    dscm_code code =
        guided ? dscm_latent_select(&part, q->latent, q->active + first, n, err) : DSCM_E_MEMORY;
    for (size_t i = 0; code == DSCM_OK && i < n; i++) {
        const pursuit *now = &q->pursuits[q->active[first + i]];
        guide_trial(q->s->bundle, conditional, q->unit + q->active[first + i] * edges, now->scale,
                    now->told, now->aimed, guided + i * edges);
    }
    const tally t = {.progress = q->progress, .total = scm_walk_steps(q->s, q->path, n)};
    const midway m = {.states = q->part, .resumes = resumes};
    if (code == DSCM_OK && resumes) copy_midway(q, first, n, false);
    if (code == DSCM_OK)
        code = scm_predict_guided(q->s, q->trial + first * q->s->size, part, guided, q->path,
                                  q->midway ? &m : NULL, &t, err);
    if (code == DSCM_OK && q->midway && !resumes) copy_midway(q, first, n, true);
    dscm_latent_free(part);
    dscm_free(guided);
    return code;
}

/* Puts those that walk from the top before those that resume; how many they are. */
static size_t sort_active(search *q, size_t count)
{
    size_t whole = 0;
    for (size_t i = 0; i < count; i++) {
        size_t item = q->active[i];
        if (q->pursuits[item].resumes) continue;
        memmove(q->active + whole + 1, q->active + whole, (i - whole) * sizeof *q->active);
        q->active[whole++] = item;
    }
    return whole;
}

/* Predicts the active items, keeps what is better than before, and in `active` those that go on. */
static dscm_code search_round(search *q, size_t *count, const dscm_scale_search *a, double usual,
                              dscm_error *err)
{
    size_t size = q->s->size, n = *count, whole = sort_active(q, n);
    dscm_code code = walk_active(q, 0, whole, false, err);
    if (code == DSCM_OK) code = walk_active(q, whole, n - whole, true, err);
    if (code == DSCM_OK) {
        for (size_t i = 0; i < n; i++)
            scm_keep_small(q->s, q->trial + i * size, &q->queries[q->active[i]]);
        /* Validity on the edge of the decision is lost in rounding otherwise. */
        dscm_images_round(q->trial, n * size);
        code = judge(q, q->trial, n, err);
        if (code == DSCM_OK) code = weigh(q, n, a, err);
    }
    *count = 0;
    for (size_t i = 0; code == DSCM_OK && i < n; i++) {
        size_t item = q->active[i];
        take_trial(q, item, q->trial + i * size, &q->seen[i], a);
        if (pursue(q, item, &q->seen[i], a, usual)) q->active[(*count)++] = item;
    }
    return code;
}

static dscm_code run_search(search *q, const dscm_scale_search *a, double usual, dscm_error *err)
{
    size_t count = q->latent->count;
    double first = is_conditional(&q->latent->options) ? usual / CONDITIONAL_FIRST : usual / 4;
    dscm_code code = DSCM_OK;
    for (size_t i = 0; i < count; i++) {
        q->active[i] = i;
        const guidance *unit = q->unit + i * q->s->bundle->edges_count;
        bool stronger = !is_conditional(&q->latent->options) || moves_label(q->s->bundle, unit);
        q->pursuits[i] = (pursuit){.scale = stronger ? fmin(first, a->max_scale) : 1};
    }
    while (code == DSCM_OK && count) code = search_round(q, &count, a, usual, err);
    return code;
}

dscm_scale_search dscm_scale_search_defaults(const dscm_bundle *bundle, const dscm_options *options)
{
    bool conditional = options->guidance == DSCM_GUIDANCE_CONDITIONAL;
    double own = bundle->info.confidence;
    return (dscm_scale_search){.confidence = !isnan(own)   ? own
                                             : conditional ? 0.95
                                                           : 0.997,
                               .change_cost = bundle->info.change_cost,
                               .max_scale = (conditional ? 3 : 8) * options->scale};
}

dscm_code dscm_predict_search(dscm_session *s, float *out, dscm_scale_result *results,
                              const dscm_latent *latent, const dscm_query *queries,
                              const dscm_options *options, const dscm_scale_search *a,
                              const dscm_progress *progress, dscm_error *err)
{
    dscm_path path = {0};
    size_t count = latent->count, edges = s->bundle->edges_count;
    dscm_options unit_options = *options;
    dscm_scale_search defaults = dscm_scale_search_defaults(s->bundle, options);
    dscm_code code = scm_check_latent(s, latent, options, err);
    if (code != DSCM_OK) return code;
    unit_options.scale = 1;
    guidance *unit = dscm_alloc(count * edges + 1, sizeof *unit, "search", err);
    search q = {.s = s,
                .latent = latent,
                .path = &path,
                .progress = progress,
                .queries = queries,
                .unit = unit,
                .trial = dscm_alloc(count * s->size, sizeof(float), "search", err),
                .out = out,
                .active = dscm_alloc(count, sizeof(size_t), "search", err),
                .pursuits = dscm_alloc(count, sizeof(pursuit), "search", err),
                .seen = dscm_alloc(count, sizeof(verdict), "search", err),
                .results = results};
    code = unit && q.trial && q.active && q.pursuits && q.seen ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK && is_conditional(options) && latent->extras != 1) {
        q.midway = dscm_alloc(4 * count * s->size, sizeof *q.midway, "search", err);
        q.part = q.midway ? q.midway + 2 * count * s->size : NULL;
        if (!q.midway) code = DSCM_E_MEMORY;
    }
    if (code == DSCM_OK) {
        memset(results, 0, count * sizeof *results);
        code = dscm_session_path(s, options, &path, err);
    }
    tally t = {.progress = progress};
    if (code == DSCM_OK)
        code = scm_guidance_of_all(s, latent, queries, &unit_options, &path, &t, unit, err);
    if (code == DSCM_OK) hold_others(s, latent, queries, unit);
    if (code == DSCM_OK) code = run_search(&q, a ? a : &defaults, options->scale, err);
    dscm_path_close(&path);
    dscm_free(unit);
    dscm_free(q.trial);
    dscm_free(q.active);
    dscm_free(q.pursuits);
    dscm_free(q.seen);
    dscm_free(q.midway);
    return code;
}

dscm_code dscm_predict_found(dscm_session *s, float *out, const dscm_latent *latent,
                             const dscm_query *queries, const dscm_options *options,
                             const dscm_scale_result *found, const dscm_progress *progress,
                             dscm_error *err)
{
    dscm_path path = {0};
    size_t edges = s->bundle->edges_count;
    dscm_options unit = *options;
    dscm_code code = scm_check_latent(s, latent, options, err);
    if (code != DSCM_OK) return code;
    unit.scale = 1;
    guidance *guided = dscm_alloc(2 * (latent->count * edges + 1), sizeof *guided, "guidance", err);
    if (!guided) return DSCM_E_MEMORY;
    guidance *trial = guided + latent->count * edges + 1;
    code = dscm_session_path(s, options, &path, err);
    tally t = {.progress = progress};
    if (code == DSCM_OK) {
        t.total = scm_walk_steps(s, &path, latent->count);
        code = scm_guidance_of_all(s, latent, queries, &unit, &path, &t, guided, err);
    }
    if (code == DSCM_OK) hold_others(s, latent, queries, guided);
    for (size_t i = 0; code == DSCM_OK && i < latent->count; i++)
        guide_trial(s->bundle, is_conditional(options), guided + i * edges, found[i].scale,
                    found[i].told, found[i].aimed, trial + i * edges);
    if (code == DSCM_OK) code = scm_predict_guided(s, out, latent, trial, &path, NULL, &t, err);
    for (size_t i = 0; code == DSCM_OK && i < latent->count; i++)
        scm_keep_small(s, out + i * s->size, &queries[i]);
    dscm_path_close(&path);
    dscm_free(guided);
    return code;
}
