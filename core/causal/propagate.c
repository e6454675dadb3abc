/* From interventions to values of all variables. */
#include "core/causal/propagate.h"

#include <math.h>

#include "core/base/memory.h"

void causal_additive_free(causal_additive *mechanism)
{
    for (size_t i = 0; mechanism && i < DSCM_CAUSAL_NODES_MAX; i++) dscm_free(mechanism->levels[i]);
    dscm_free(mechanism);
}

bool causal_moves(const causal_system *s)
{
    bool moves = s->fitted != NULL;
    for (size_t i = 0; !moves && i < s->count; i++) moves = s->additive[i] != NULL;
    return moves;
}

const dscm_intervention *causal_intervention(const dscm_query *q, int variable)
{
    for (size_t i = 0; i < q->count; i++)
        if (q->items[i].variable == variable) return &q->items[i];
    return NULL;
}

/* What a parent of this value adds to an additive variable. */
static double part_of(const causal_additive *mechanism, size_t parent, double value)
{
    return mechanism->levels[parent] ? mechanism->levels[parent][(size_t)value]
                                     : mechanism->slopes[parent] * value;
}

/* An additive variable keeps its noise, so it moves as its parents' parts do, and not at all where these
 * stay. NaN: a parent was set of which nobody knows what it was. */
static double additive_move(const causal_additive *mechanism, const dscm_variable *v,
                            const double *value, const double *factual)
{
    double sum = 0;
    for (size_t i = 0; i < v->parents_count; i++) {
        double now = value[v->parents[i]], before = factual[v->parents[i]];
        if (now == before || (isnan(now) && isnan(before))) continue;
        if (isnan(now) || isnan(before)) return (double)NAN;
        sum += part_of(mechanism, i, now) - part_of(mechanism, i, before);
    }
    return sum;
}

static void propagate_additive(const causal_system *s, const dscm_query *q, const double *factual,
                               double *value)
{
    for (size_t i = 0; i < s->count; i++) {
        const dscm_intervention *act = causal_intervention(q, (int)i);
        value[i] = factual[i];
        if (s->additive[i])
            value[i] += additive_move(s->additive[i], &s->variables[i], value, factual);
        if (act && act->action == DSCM_DO) value[i] = act->value;
        if (act && act->action == DSCM_SHIFT) value[i] = value[i] + act->value;
        if (act && act->action == DSCM_HOLD) value[i] = factual[i];
    }
}

/* The same by the fitted model. What was not known stands in by any value of its range: a variable is
 * unknown (NaN) when its own value before is, or that of a parent that moved. */
static dscm_code propagate_fitted(const causal_system *s, const dscm_query *q,
                                  const double *factual, double *value, dscm_error *err)
{
    double before[DSCM_CAUSAL_NODES_MAX];
    bool unknown[DSCM_CAUSAL_NODES_MAX];
    for (size_t i = 0; i < s->count; i++) {
        const dscm_variable *v = &s->variables[i];
        before[i] = !isnan(factual[i])            ? factual[i]
                    : v->kind == DSCM_CATEGORICAL ? 0
                                                  : (v->min + v->max) / 2;
        const dscm_intervention *act = causal_intervention(q, (int)i);
        if (act && act->action != DSCM_DO && isnan(factual[i]))
            return dscm_fail(err, DSCM_E_INVALID, "%s: its value before is not known: give it",
                             v->name);
    }
    dscm_code code =
        dscm_causal_predict(s->fitted, before, q->items, q->count, 1, value, NULL, err);
    for (size_t i = 0; code == DSCM_OK && i < s->count; i++) {
        bool acted = causal_intervention(q, (int)i) != NULL;
        unknown[i] = !acted && isnan(factual[i]);
        for (size_t p = 0; !acted && p < s->variables[i].parents_count; p++) {
            int parent = s->variables[i].parents[p];
            bool moved = causal_intervention(q, parent) || value[parent] != before[parent];
            unknown[i] |=
                (isnan(factual[parent]) && moved) || (unknown[parent] && !isnan(factual[parent]));
        }
        if (unknown[i] || (int)i == s->image) value[i] = (double)NAN;
    }
    return code;
}

/* Refuses a query that sets what cannot be set, or sets a variable twice. */
static dscm_code check_query(const causal_system *s, const dscm_query *q, dscm_error *err)
{
    for (size_t i = 0; i < q->count; i++) {
        const dscm_intervention *act = &q->items[i];
        const dscm_variable *v = act->variable >= 0 && (size_t)act->variable < s->count
                                     ? &s->variables[act->variable]
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
        if (causal_intervention(q, act->variable) != act)
            return dscm_fail(err, DSCM_E_INVALID, "%s: set twice", v->name);
    }
    return DSCM_OK;
}

dscm_code causal_propagate(const causal_system *s, const dscm_query *q, const double *observed,
                           double *factual, double *value, dscm_error *err)
{
    dscm_code code = check_query(s, q, err);
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < s->count; i++)
        factual[i] = q->factual && !isnan(q->factual[i]) ? q->factual[i]
                     : observed                          ? observed[i]
                                                         : (double)NAN;
    if (s->fitted)
        code = propagate_fitted(s, q, factual, value, err);
    else
        propagate_additive(s, q, factual, value);
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < s->count; i++)
        if (isnan(value[i]) && !isnan(factual[i]))
            return dscm_fail(err, DSCM_E_INVALID,
                             "%s: depends on what is set, whose value before cannot be seen in the "
                             "image: set or hold %s too",
                             s->variables[i].name, s->variables[i].name);
    return DSCM_OK;
}
