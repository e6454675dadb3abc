/* From interventions to guidance: values of all variables under the query. */
#include "core/scm/propagate.h"

#include <math.h>

#include "core/causal/model.h"

static const dscm_intervention *intervention_on(const dscm_query *q, int variable)
{
    for (size_t i = 0; i < q->count; i++)
        if (q->items[i].variable == variable) return &q->items[i];
    return NULL;
}

/* What a parent of this value adds to an additive node. */
static double part_of(const bundle_variable *v, size_t parent, double value)
{
    return v->levels[parent] ? v->levels[parent][(size_t)value] : v->slopes[parent] * value;
}

/* An additive node keeps its noise, so it moves as its parents' parts do, and not at all where these
 * stay. NaN: a parent was set of which nobody knows what it was. */
static double additive_move(const bundle_variable *v, const double *value, const double *factual)
{
    double sum = 0;
    for (size_t i = 0; i < v->info.parents_count; i++) {
        double now = value[v->parents[i]], before = factual[v->parents[i]];
        if (now == before || (isnan(now) && isnan(before))) continue;
        if (isnan(now) || isnan(before)) return (double)NAN;
        sum += part_of(v, i, now) - part_of(v, i, before);
    }
    return sum;
}

/* The same by the bundle's causal model. What was not known stands in by any value of its range: a
 * node is unknown (NaN) when its own value before is, or that of a parent that moved. */
static dscm_code propagate_fitted(const dscm_bundle *b, const dscm_query *q, const double *factual,
                                  double *value, dscm_error *err)
{
    double before[BUNDLE_VARIABLES_MAX];
    bool unknown[BUNDLE_VARIABLES_MAX];
    for (size_t i = 0; i < b->variables_count; i++) {
        const dscm_variable *v = &b->infos[i];
        before[i] = !isnan(factual[i])            ? factual[i]
                    : v->kind == DSCM_CATEGORICAL ? 0
                                                  : (v->min + v->max) / 2;
        const dscm_intervention *act = intervention_on(q, (int)i);
        if (act && act->action != DSCM_DO && isnan(factual[i]))
            return dscm_fail(err, DSCM_E_INVALID, "%s: its value before is not known: give it",
                             v->name);
    }
    dscm_code code =
        dscm_causal_predict(b->causal, before, q->items, q->count, 1, value, NULL, err);
    for (size_t i = 0; code == DSCM_OK && i < b->variables_count; i++) {
        bool acted = intervention_on(q, (int)i) != NULL;
        unknown[i] = !acted && isnan(factual[i]);
        for (size_t p = 0; !acted && p < b->variables[i].info.parents_count; p++) {
            int parent = b->variables[i].parents[p];
            bool moved = intervention_on(q, parent) || value[parent] != before[parent];
            unknown[i] |=
                (isnan(factual[parent]) && moved) || (unknown[parent] && !isnan(factual[parent]));
        }
        if (unknown[i] || (int)i == b->info.image) value[i] = (double)NAN;
    }
    return code;
}

/* Abduct every tabular node's noise, replace mechanisms of intervened ones, propagate in
 * topological order (Pearl 2009, ch. 7). */
static void propagate(const dscm_bundle *b, const dscm_query *q, const double *factual,
                      double *value)
{
    for (size_t i = 0; i < b->variables_count; i++) {
        const bundle_variable *v = &b->variables[i];
        const dscm_intervention *act = intervention_on(q, (int)i);
        value[i] = factual[i];
        if (v->mechanism == MECHANISM_ADDITIVE) value[i] += additive_move(v, value, factual);
        if (act && act->action == DSCM_DO) value[i] = act->value;
        if (act && act->action == DSCM_SHIFT) value[i] = value[i] + act->value;
        if (act && act->action == DSCM_HOLD) value[i] = factual[i];
    }
}

/* Refuses a query that sets what cannot be set, or sets a variable twice. */
static dscm_code check_query(const dscm_bundle *b, const dscm_query *q, dscm_error *err)
{
    for (size_t i = 0; i < q->count; i++) {
        const dscm_intervention *act = &q->items[i];
        const dscm_variable *v = act->variable >= 0 && (size_t)act->variable < b->variables_count
                                     ? &b->infos[act->variable]
                                     : NULL;
        if (!v || v->kind == DSCM_IMAGE)
            return dscm_fail(err, DSCM_E_INVALID, "intervention %zu: no variable that can be set",
                             i);
        bool label = v->kind == DSCM_CATEGORICAL;
        if (label && act->action == DSCM_DO &&
            !(act->value >= 0 && act->value < (double)v->labels_count &&
              act->value == floor(act->value)))
            return dscm_fail(err, DSCM_E_INVALID, "%s: %g is not a label index of 0..%zu", v->name,
                             act->value, v->labels_count - 1);
        if (label && act->action == DSCM_SHIFT)
            return dscm_fail(err, DSCM_E_INVALID, "%s: only continuous variables can be shifted",
                             v->name);
        if (intervention_on(q, act->variable) != act)
            return dscm_fail(err, DSCM_E_INVALID, "%s: set twice", v->name);
    }
    return DSCM_OK;
}

/* Values before (factual) and under the query (value), each (variables). */
static dscm_code query_values(const dscm_bundle *b, const dscm_query *q, const double *observed,
                              double *factual, double *value, dscm_error *err)
{
    dscm_code code = check_query(b, q, err);
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < b->variables_count; i++)
        factual[i] = q->factual && !isnan(q->factual[i]) ? q->factual[i]
                     : observed                          ? observed[i]
                                                         : (double)NAN;
    if (b->causal)
        code = propagate_fitted(b, q, factual, value, err);
    else
        propagate(b, q, factual, value);
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < b->variables_count; i++)
        if (isnan(value[i]) && !isnan(factual[i]))
            return dscm_fail(err, DSCM_E_INVALID,
                             "%s: depends on what is set, whose value before cannot be seen in the "
                             "image: set or hold %s too",
                             b->infos[i].name, b->infos[i].name);
    return DSCM_OK;
}

dscm_code dscm_query_values(const dscm_bundle *b, const dscm_query *q, double *out, dscm_error *err)
{
    double factual[BUNDLE_VARIABLES_MAX];
    return query_values(b, q, NULL, factual, out, err);
}

dscm_code dscm_query_guidance(const dscm_bundle *b, const dscm_query *q, const double *observed,
                              double default_scale, guidance *out, dscm_error *err)
{
    double factual[BUNDLE_VARIABLES_MAX], value[BUNDLE_VARIABLES_MAX];
    double of_query = q->scale ? *q->scale : default_scale;
    dscm_code code = query_values(b, q, observed, factual, value, err);
    if (code != DSCM_OK) return code;
    for (size_t e = 0; e < b->edges_count; e++) {
        int parent = b->edges[e].parent;
        const dscm_intervention *act = intervention_on(q, parent);
        bool changed = act || (value[parent] != factual[parent] && !isnan(value[parent]));
        double scale = act && !isnan(act->scale) ? act->scale : of_query;
        bool used = changed && b->edges[e].child == b->info.image && !isnan(value[parent]);
        out[e] =
            (guidance){.target = used ? value[parent] : 0, .scale = used ? scale : 0, .set = used};
    }
    return DSCM_OK;
}
