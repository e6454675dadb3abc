/* How far counterfactuals depart from the class of their factuals, by a VAE that searches may ask. */
#include <math.h>
#include <string.h>

#include "core/scm/score.h"
#include "core/scm/walks.h"

void scm_encode(dscm_exec *exec, const dscm_net *net, float *codes, const float *images,
                size_t count, size_t size)
{
    size_t latent = net->config.latent;
    memcpy(dscm_exec_data(exec, net->x), images, count * size * sizeof *images);
    dscm_exec_forward(exec, count, 1);
    const float *mu = dscm_exec_data(exec, dscm_graph_find(net->graph, "mu"));
    const float *logvar = dscm_exec_data(exec, dscm_graph_find(net->graph, "logvar"));
    for (size_t i = 0; i < count; i++) {
        memcpy(codes + 2 * i * latent, mu + i * latent, latent * sizeof *mu);
        memcpy(codes + (2 * i + 1) * latent, logvar + i * latent, latent * sizeof *mu);
    }
}

dscm_code scm_weigh(dscm_session *s, weighing *out, const float *factuals,
                    const float *counterfactuals, const int *labels, const int *targets,
                    size_t count, dscm_error *err)
{
    const bundle_vae *v = s->bundle->search.vaes;
    const dscm_net *net = v->net.net;
    size_t latent = net->config.latent, most = s->batch_max;
    const dscm_cld_pool pool = {v->mu, v->logvar, v->labels, v->count, latent};
    float *codes = dscm_alloc(4 * most * latent, sizeof *codes, "departure", err);
    if (!codes) return DSCM_E_MEMORY;
    float *theirs = codes + 2 * most * latent;
    for (size_t b = 0; b < count; b += most) {
        size_t n = count - b < most ? count - b : most;
        scm_encode(s->search_vae, net, codes, factuals + b * s->size, n, s->size);
        scm_encode(s->search_vae, net, theirs, counterfactuals + b * s->size, n, s->size);
        for (size_t i = 0; i < n; i++) {
            weighing *w = &out[b + i];
            w->cld =
                dscm_cld_of_codes(&pool, codes + 2 * i * latent, theirs + 2 * i * latent,
                                  labels[b + i], targets[b + i], &w->minimality, &w->departure);
        }
    }
    dscm_free(codes);
    return DSCM_OK;
}
