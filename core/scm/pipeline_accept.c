/* What the acceptance nets say of a batch of counterfactuals: the evidence of their outcomes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/scm/pipeline_internal.h"
#include "core/scm/score.h"

/* Probability from which on the target counts as seen, as it is and after a light blur. */
#define ACCEPTANCE_MIN 0.5

/* The label that acceptance nets look for: the one set, or where nothing is set the factual one; -1
 * where another action leaves it open. */
static int label_of(const dscm_target *target, const dscm_abduction *from, int variable)
{
    for (size_t j = 0; j < target->count; j++)
        if (target->items[j].variable == variable && target->items[j].action == DSCM_DO)
            return (int)target->items[j].value;
    return target->count ? -1 : (int)from->factual[variable];
}

/* Adds to the evidence of each counterfactual what one net says: sharp and blurred, (total, labels). */
static void add_opinion(run *r, int variable, const float *sharp, const float *blurred)
{
    size_t labels = r->info->variables[variable].labels_count;
    double share = 1 / (double)r->info->acceptance_count;
    for (size_t i = 0; i < r->count; i++)
        for (size_t k = r->offsets[i]; k < r->offsets[i + 1]; k++) {
            dscm_counterfactual *c = &r->items[i].result->counterfactuals[k - r->offsets[i]];
            int label = label_of(&c->target, r->from[i], variable);
            if (label < 0) continue;
            const float *row = sharp + k * labels;
            size_t best = 0;
            for (size_t l = 1; l < labels; l++)
                if (row[l] > row[best]) best = l;
            if (!c->evidence.opinions) c->evidence.acceptance = c->evidence.blurred = 0;
            c->evidence.acceptance += share * (double)row[label];
            c->evidence.blurred += share * (double)blurred[k * labels + (size_t)label];
            c->evidence.acceptance_min = c->evidence.blurred_min = ACCEPTANCE_MIN;
            c->evidence.opinions++;
            c->evidence.agreed += best == (size_t)label;
        }
}

dscm_code run_accept(run *r, const float *images)
{
    int variable = r->info->scored;
    if (variable < 0 || !r->info->acceptance_count) return DSCM_OK;
    size_t labels = r->info->variables[variable].labels_count;
    float *soft = run_alloc(r, r->total * r->pixels, sizeof(*soft));
    float *rows = run_alloc(r, 2 * r->total * labels, sizeof(*rows));
    dscm_code code = soft && rows ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t i = 0; !code && i < r->total; i++)
        dscm_light_blur(soft + i * r->pixels, images + i * r->pixels, r->image->h, r->image->w,
                        r->image->c);
    for (size_t net = 0; !code && net < r->info->acceptance_count; net++) {
        float *blurred = rows + r->total * labels;
        code = dscm_observe_acceptance(r->session, variable, net, rows, images, r->total, r->err);
        if (!code)
            code =
                dscm_observe_acceptance(r->session, variable, net, blurred, soft, r->total, r->err);
        if (!code) add_opinion(r, variable, rows, blurred);
    }
    free(soft);
    free(rows);
    return code;
}
