/* The oracle: a plain convolutional classifier on clean images (conv-norm-ReLU pairs and max
 * pooling), kept unlike the anti-causal encoder on purpose. "features" is the penultimate layer. */
#include <stdio.h>

#include "core/models/net.h"

#define CNN_GROUPS   8
#define CNN_FEATURES 128

void dscm_cnn_build(dscm_net *net)
{
    const dscm_net_config *c = &net->config;
    dscm_graph *g = net->graph;
    net->x = dscm_graph_image(g, "x", c->image_size, c->image_size, c->in_channels);
    dscm_tensor h = net->x;
    char name[64];
    for (size_t level = 0; level < 3; level++)
        for (size_t i = 0; i < 2; i++) {
            snprintf(name, sizeof name, "blocks.%zu.conv%zu", level, i);
            h = dscm_op_conv(g, h, name, c->model_channels << level, 3, 1, false, false);
            snprintf(name, sizeof name, "blocks.%zu.norm%zu", level, i);
            h = dscm_op_groupnorm(g, h, name, CNN_GROUPS, -1, DSCM_ACT_RELU);
            if (i == 1) h = level < 2 ? dscm_op_maxpool(g, h) : dscm_op_mean(g, h);
        }
    h = dscm_op_linear(g, h, "features", CNN_FEATURES, false);
    h = dscm_op_act(g, h, DSCM_ACT_RELU);
    dscm_graph_output(g, "features", h);
    h = dscm_op_dropout(g, h, (float)c->dropout);
    net->out = dscm_op_linear(g, h, "classes", c->out_channels, false);
    dscm_graph_output(g, "out", net->out);
}
