/* The unconditional VAE behind CLD: two strided convolutions to a Gaussian code, and back. */
#include "core/models/net.h"

void dscm_vae_build(dscm_net *net)
{
    const dscm_net_config *c = &net->config;
    dscm_graph *g = net->graph;
    size_t side = c->image_size, width = c->model_channels, half = (side + 1) / 2,
           low = (half + 1) / 2;
    net->x = dscm_graph_image(g, "x", side, side, c->in_channels);
    dscm_tensor noise = dscm_graph_image(g, "noise", 1, 1, c->latent);
    dscm_tensor h = dscm_op_conv(g, net->x, "encoder.0", width, 3, 2, false, false);
    h = dscm_op_act(g, h, DSCM_ACT_SILU);
    h = dscm_op_conv(g, h, "encoder.1", 2 * width, 3, 2, false, false);
    h = dscm_op_act(g, h, DSCM_ACT_SILU);
    h = dscm_op_reshape(g, h, 1, 1, low * low * 2 * width);
    h = dscm_op_linear(g, h, "encoder.2", 256, false);
    h = dscm_op_act(g, h, DSCM_ACT_SILU);
    dscm_tensor mu = dscm_op_linear(g, h, "mu", c->latent, false);
    dscm_tensor logvar = dscm_op_linear(g, h, "logvar", c->latent, false);
    dscm_graph_output(g, "mu", mu);
    dscm_graph_output(g, "logvar", logvar);
    dscm_tensor z = dscm_op_reparam(g, mu, logvar, noise);
    z = dscm_op_linear(g, z, "decoder.0", 256, false);
    z = dscm_op_act(g, z, DSCM_ACT_SILU);
    z = dscm_op_linear(g, z, "decoder.1", low * low * 2 * width, false);
    z = dscm_op_act(g, z, DSCM_ACT_SILU);
    z = dscm_op_reshape(g, z, low, low, 2 * width);
    z = dscm_op_upsample(g, z);
    z = dscm_op_conv(g, z, "decoder.2", width, 3, 1, false, false);
    z = dscm_op_act(g, z, DSCM_ACT_SILU);
    z = dscm_op_upsample(g, z);
    net->out = dscm_op_conv(g, z, "decoder.3", c->in_channels, 3, 1, false, false);
    dscm_graph_output(g, "out", net->out);
}
