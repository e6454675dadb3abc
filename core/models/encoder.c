/* The anti-causal predictor: the UNet's lower half and a pool over its features. */
#include "core/models/trunk.h"

#define SPATIAL_WIDTH 2048

static dscm_tensor attention_pool(const trunk *t, dscm_tensor h)
{
    const dscm_net_config *c = &t->net->config;
    dscm_graph *g = t->net->graph;
    h = dscm_op_groupnorm(g, h, "out.0", TRUNK_GROUPS, -1, DSCM_ACT_SILU);
    h = dscm_op_pool_tokens(g, h, "out.2");
    h = dscm_op_conv(g, h, "out.2.qkv_proj", 3 * t->ch, 1, 1, false, true);
    h = dscm_op_attention(g, h, dscm_trunk_heads(c, t->ch), c->pool_new_attention_order);
    /* Only the first token leaves the pool, so only it is projected. */
    h = dscm_op_first_token(g, h);
    return dscm_op_conv(g, h, "out.2.c_proj", c->out_channels, 1, 1, false, true);
}

static dscm_tensor adaptive_pool(const trunk *t, dscm_tensor h)
{
    dscm_graph *g = t->net->graph;
    h = dscm_op_groupnorm(g, h, "out.0", TRUNK_GROUPS, -1, DSCM_ACT_SILU);
    h = dscm_op_mean(g, h);
    return dscm_op_conv(g, h, "out.3", t->net->config.out_channels, 1, 1, true, false);
}

static dscm_tensor spatial_pool(const trunk *t, dscm_tensor h)
{
    dscm_graph *g = t->net->graph;
    dscm_tensor all = dscm_op_mean(g, t->skips[0]);
    for (size_t i = 1; i < t->count; i++)
        all = dscm_op_concat(g, all, dscm_op_mean(g, t->skips[i]));
    all = dscm_op_concat(g, all, dscm_op_mean(g, h));
    all = dscm_op_linear(g, all, "out.0", SPATIAL_WIDTH, false);
    all = dscm_op_act(g, all, DSCM_ACT_RELU);
    return dscm_op_linear(g, all, "out.2", t->net->config.out_channels, false);
}

void dscm_encoder_build(dscm_net *net)
{
    trunk t;
    dscm_tensor h = dscm_trunk_down(&t, net);
    h = dscm_trunk_middle(&t, h);
    switch (net->config.pool) {
    case DSCM_POOL_ATTENTION:
        net->out = attention_pool(&t, h);
        break;
    case DSCM_POOL_ADAPTIVE:
        net->out = adaptive_pool(&t, h);
        break;
    case DSCM_POOL_SPATIAL:
        net->out = spatial_pool(&t, h);
        break;
    }
    dscm_graph_output(net->graph, "out", net->out);
}
