/* What a session has computed. */
#include "core/scm/session.h"

dscm_session_work dscm_session_done(const dscm_session *s)
{
    dscm_session_work out = {.passes = s->score ? dscm_exec_done(s->score).forward : 0};
    for (size_t e = 0; e < s->bundle->edges_count; e++) {
        if (!s->predictors[e]) continue;
        dscm_exec_work one = dscm_exec_done(s->predictors[e]);
        out.gradients += one.backward;
        out.observations += one.forward;
    }
    for (size_t i = 0; i < s->bundle->info.acceptance_count; i++)
        if (s->acceptance[i]) out.observations += dscm_exec_done(s->acceptance[i]).forward;
    if (s->search_vae) out.observations += dscm_exec_done(s->search_vae).forward;
    return out;
}

static double flops_of(const dscm_net *net, dscm_exec_work done)
{
    return dscm_net_flops(net) * (double)(done.forward + done.backward);
}

double dscm_session_flops(const dscm_session *s)
{
    const dscm_bundle *b = s->bundle;
    double sum = s->score ? flops_of(s->image->score.net, dscm_exec_done(s->score)) : 0;
    for (size_t e = 0; e < b->edges_count; e++)
        if (s->predictors[e])
            sum += flops_of(b->edges[e].predictor.net, dscm_exec_done(s->predictors[e]));
    for (size_t i = 0; i < b->info.acceptance_count; i++)
        if (s->acceptance[i])
            sum += flops_of(b->acceptance[i].net.net, dscm_exec_done(s->acceptance[i]));
    if (s->search_vae) sum += flops_of(b->search.vaes->net.net, dscm_exec_done(s->search_vae));
    return sum;
}
