/* Scores of a batch of counterfactuals. They describe the delivered 8-bit pictures. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/scm/pipeline_internal.h"

static bool is_parent(const run *r, int variable)
{
    for (size_t i = 0; i < r->image->parents_count; i++)
        if (r->image->parents[i] == variable) return true;
    return false;
}

/* What label scores speak about: the first categorical do(), or, where nothing is done, the first
 * categorical parent and the label that is seen. item: its intervention, -1 without one. */
typedef struct subject {
    int variable, label; /* variable: -1 when there is no such thing */
    int item;
} subject;

static subject subject_of(const run *r, const dscm_target *target, const dscm_abduction *from)
{
    for (size_t j = 0; j < target->count; j++) {
        const dscm_intervention *act = &target->items[j];
        if (act->action == DSCM_DO && r->info->variables[act->variable].kind == DSCM_CATEGORICAL)
            return (subject){act->variable, (int)act->value, (int)j};
    }
    for (size_t i = 0; !target->count && i < r->image->parents_count; i++) {
        int v = r->image->parents[i];
        if (r->info->variables[v].kind == DSCM_CATEGORICAL)
            return (subject){v, (int)from->factual[v], -1};
    }
    return (subject){-1, -1, -1};
}

/* met: the predictors see everything that was set. */
static void judge(const run *r, dscm_counterfactual *c, const dscm_abduction *from, bool met)
{
    c->scores.valid = met;
    c->evidence.valid = met;
    c->evidence.searched = r->auto_scale;
    c->evidence.verdict = from->verdict;
    c->outcome = dscm_outcome_of(&c->evidence);
}

/* The value of an intervention is seen in the image by its predictor. */
static dscm_code is_met(run *r, const dscm_intervention *item, const dscm_abduction *from,
                        const float *image, bool *met, double *seen)
{
    const dscm_variable *v = &r->info->variables[item->variable];
    *met = true;
    if (!is_parent(r, item->variable) || item->action == DSCM_HOLD) return DSCM_OK;
    size_t size = v->kind == DSCM_CATEGORICAL ? v->labels_count : 2;
    float *row = run_alloc(r, size, sizeof(*row));
    if (!row) return DSCM_E_MEMORY;
    dscm_code code = dscm_observe(r->session, item->variable, row, image, 1, r->err);
    double want = item->value;
    if (item->action == DSCM_SHIFT) want += from->factual[item->variable];
    if (!code && v->kind == DSCM_CONTINUOUS) row[0] -= (float)v->result_bias;
    if (!code) *seen = dscm_observed_value(v, row);
    if (!code && v->kind == DSCM_CATEGORICAL) *met = *seen == want;
    if (!code && v->kind == DSCM_CONTINUOUS) *met = fabs((double)row[0] - want) <= v->tolerance;
    free(row);
    return code;
}

static void name_oracle(const run *r, dscm_counterfactual *c, int variable)
{
    if (c->scores.oracle_label >= 0)
        c->oracle = r->info->variables[variable].labels[c->scores.oracle_label];
}

static dscm_code score_one(run *r, dscm_counterfactual *c, const dscm_abduction *from)
{
    const subject scored = subject_of(r, &c->target, from);
    c->scores =
        dscm_scores_of_pixels(from->image, c->image, r->image->h * r->image->w, r->image->c);
    if (scored.variable >= 0 && is_parent(r, scored.variable)) {
        int factual = (int)from->factual[scored.variable];
        dscm_code code = dscm_score(r->session, &c->scores, from->image, c->image, scored.variable,
                                    &scored.label, &factual, 1, r->err);
        if (code) return code;
    }
    bool all = true;
    for (size_t j = 0; j < c->target.count; j++) {
        bool met = true;
        double seen = NAN;
        dscm_code code = is_met(r, &c->target.items[j], from, c->image, &met, &seen);
        if (code) return code;
        all &= met;
        bool number = r->info->variables[c->target.items[j].variable].kind == DSCM_CONTINUOUS;
        c->evidence.missed |= number && !met;
        if (j == (scored.item >= 0 ? (size_t)scored.item : 0)) c->observed_value = seen;
    }
    judge(r, c, from, all);
    if (scored.variable >= 0) name_oracle(r, c, scored.variable);
    return DSCM_OK;
}

/* All targets set the same categorical variable: then one call scores the batch. */
static int common_variable(const run *r)
{
    int variable = -1;
    for (size_t i = 0; i < r->count; i++)
        for (size_t k = 0; k < r->items[i].result->count; k++) {
            const dscm_target *target = &r->items[i].result->counterfactuals[k].target;
            const subject scored = subject_of(r, target, r->from[i]);
            if (scored.variable < 0 || target->count > 1) return -1;
            if (variable >= 0 && scored.variable != variable) return -1;
            variable = scored.variable;
        }
    return variable >= 0 && is_parent(r, variable) ? variable : -1;
}

static dscm_code score_batch(run *r, const float *images, int variable)
{
    size_t labels = r->info->variables[variable].labels_count;
    float *factual = run_alloc(r, r->total * r->pixels, sizeof(*factual));
    float *rows = run_alloc(r, 2 * r->total * labels, sizeof(*rows));
    int *targets = run_alloc(r, 2 * r->total, sizeof(*targets)), *factuals = NULL;
    dscm_scores *scores = run_alloc(r, r->total, sizeof(*scores));
    dscm_code code = factual && rows && targets && scores ? DSCM_OK : DSCM_E_MEMORY;
    if (!code) {
        factuals = targets + r->total;
        for (size_t i = 0; i < r->count; i++)
            for (size_t k = r->offsets[i]; k < r->offsets[i + 1]; k++) {
                const dscm_target *target = &r->items[i].ask.targets[k - r->offsets[i]];
                targets[k] = subject_of(r, target, r->from[i]).label;
                factuals[k] = (int)r->from[i]->factual[variable];
                memcpy(factual + k * r->pixels, r->from[i]->image, r->pixels * sizeof(float));
                memcpy(rows + (r->total + k) * labels, r->from[i]->observed[variable],
                       labels * sizeof(float));
            }
        dscm_seen seen = {.before = rows + r->total * labels, .after = rows};
        code = dscm_score_seen(r->session, scores, factual, images, variable, targets, factuals,
                               r->total, &seen, r->err);
    }
    for (size_t i = 0; !code && i < r->count; i++)
        for (size_t k = r->offsets[i]; k < r->offsets[i + 1]; k++) {
            dscm_counterfactual *c = &r->items[i].result->counterfactuals[k - r->offsets[i]];
            c->scores = scores[k];
            judge(r, c, r->from[i], scores[k].valid);
            c->observed_value =
                dscm_observed_value(&r->info->variables[variable], rows + k * labels);
            name_oracle(r, c, variable);
        }
    free(factual);
    free(rows);
    free(targets);
    free(scores);
    return code;
}

dscm_code run_score(run *r, float *images)
{
    dscm_progress progress;
    run_begin(r, PHASE_SCORE, 1, &progress);
    int variable = common_variable(r);
    dscm_code code = run_accept(r, images);
    if (!code && variable >= 0) code = score_batch(r, images, variable);
    for (size_t i = 0; variable < 0 && !code && i < r->count; i++)
        for (size_t k = 0; !code && k < r->items[i].result->count; k++)
            code = score_one(r, &r->items[i].result->counterfactuals[k], r->from[i]);
    run_end(r, &r->times.score);
    return code;
}
