/* A VAE of linear layers (Kingma & Welling 2014): it knows nothing of neighbourhoods, so that its
 * judgement differs from that of the convolutional one. Inputs and outputs as core/models/vae.c. */
#include "core/models/net.h"

#define MLP_WIDTH 8 /* hidden units per model channel */

void dscm_mlp_vae_build(dscm_net *net)
{
    const dscm_net_config *c = &net->config;
    dscm_graph *g = net->graph;
    size_t side = c->image_size, pixels = side * side * c->in_channels,
           hidden = MLP_WIDTH * c->model_channels;
    net->x = dscm_graph_image(g, "x", side, side, c->in_channels);
    dscm_tensor noise = dscm_graph_image(g, "noise", 1, 1, c->latent);
    dscm_tensor h = dscm_op_reshape(g, net->x, 1, 1, pixels);
    h = dscm_op_linear(g, h, "encoder.0", hidden, false);
    h = dscm_op_act(g, h, DSCM_ACT_SILU);
    h = dscm_op_linear(g, h, "encoder.1", hidden, false);
    h = dscm_op_act(g, h, DSCM_ACT_SILU);
    dscm_tensor mu = dscm_op_linear(g, h, "mu", c->latent, false);
    dscm_tensor logvar = dscm_op_linear(g, h, "logvar", c->latent, false);
    dscm_graph_output(g, "mu", mu);
    dscm_graph_output(g, "logvar", logvar);
    dscm_tensor z = dscm_op_reparam(g, mu, logvar, noise);
    z = dscm_op_linear(g, z, "decoder.0", hidden, false);
    z = dscm_op_act(g, z, DSCM_ACT_SILU);
    z = dscm_op_linear(g, z, "decoder.1", hidden, false);
    z = dscm_op_act(g, z, DSCM_ACT_SILU);
    z = dscm_op_linear(g, z, "decoder.2", pixels, false);
    net->out = dscm_op_reshape(g, z, side, side, c->in_channels);
    dscm_graph_output(g, "out", net->out);
}
