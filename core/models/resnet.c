/* A clean classifier of residual blocks (He et al. 2016, pre-activation form, group normalisation):
 * three levels of one block each, halved by strided convolutions, then the mean over the pixels.
 * "features" is the penultimate layer. */
#include <stdio.h>

#include "core/models/net.h"

#define RESNET_GROUPS   8
#define RESNET_LEVELS   3
#define RESNET_FEATURES 128

/* x + conv(relu(norm(conv(relu(norm(x)))))) */
static dscm_tensor block(dscm_graph *g, dscm_tensor x, size_t level, size_t channels)
{
    dscm_tensor h = x;
    for (size_t i = 0; i < 2; i++) {
        char name[32];
        snprintf(name, sizeof name, "blocks.%zu.norm%zu", level, i);
        h = dscm_op_groupnorm(g, h, name, RESNET_GROUPS, -1, DSCM_ACT_RELU);
        snprintf(name, sizeof name, "blocks.%zu.conv%zu", level, i);
        h = dscm_op_conv(g, h, name, channels, 3, 1, false, false);
    }
    return dscm_op_add(g, x, h);
}

void dscm_resnet_build(dscm_net *net)
{
    const dscm_net_config *c = &net->config;
    dscm_graph *g = net->graph;
    net->x = dscm_graph_image(g, "x", c->image_size, c->image_size, c->in_channels);
    dscm_tensor h = net->x;
    for (size_t level = 0; level < RESNET_LEVELS; level++) {
        char name[32];
        size_t channels = c->model_channels << level;
        snprintf(name, sizeof name, "blocks.%zu.down", level);
        h = dscm_op_conv(g, h, name, channels, 3, level ? 2 : 1, false, false);
        h = block(g, h, level, channels);
    }
    h = dscm_op_groupnorm(g, h, "norm", RESNET_GROUPS, -1, DSCM_ACT_RELU);
    h = dscm_op_mean(g, h);
    h = dscm_op_linear(g, h, "features", RESNET_FEATURES, false);
    h = dscm_op_act(g, h, DSCM_ACT_RELU);
    dscm_graph_output(g, "features", h);
    h = dscm_op_dropout(g, h, (float)c->dropout);
    net->out = dscm_op_linear(g, h, "classes", c->out_channels, false);
    dscm_graph_output(g, "out", net->out);
}
