/* Values and guidance of a query by the bundle's causal system. */
#include "core/scm/guidance.h"

#include <math.h>

dscm_code dscm_query_values(const dscm_bundle *b, const dscm_query *q, double *out, dscm_error *err)
{
    double factual[BUNDLE_VARIABLES_MAX];
    return causal_propagate(&b->system, q, NULL, factual, out, err);
}

dscm_code dscm_query_guidance(const dscm_bundle *b, const dscm_query *q, const double *observed,
                              double default_scale, guidance *out, dscm_error *err)
{
    double factual[BUNDLE_VARIABLES_MAX], value[BUNDLE_VARIABLES_MAX];
    double of_query = q->scale ? *q->scale : default_scale;
    dscm_code code = causal_propagate(&b->system, q, observed, factual, value, err);
    if (code != DSCM_OK) return code;
    for (size_t e = 0; e < b->edges_count; e++) {
        int parent = b->edges[e].parent;
        const dscm_intervention *act = causal_intervention(q, parent);
        bool changed = act || (value[parent] != factual[parent] && !isnan(value[parent]));
        double scale = act && !isnan(act->scale) ? act->scale : of_query;
        bool used = changed && b->edges[e].child == b->info.image && !isnan(value[parent]);
        out[e] = (guidance){.target = used ? value[parent] : 0,
                            .scale = used ? scale : 0,
                            .set = used,
                            .follows = used && !act};
    }
    return DSCM_OK;
}
