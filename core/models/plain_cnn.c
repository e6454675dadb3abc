/* A clean classifier without normalisation: two convolutions with max pooling and two linear layers
 * over the flattened image (LeCun et al. 1998). It sees where strokes lie, which the mean pools of the
 * other classifiers do not. "features" is the penultimate layer. */
#include <stdio.h>

#include "core/models/net.h"

#define PLAIN_FEATURES 128

void dscm_plain_cnn_build(dscm_net *net)
{
    const dscm_net_config *c = &net->config;
    dscm_graph *g = net->graph;
    size_t height, width, channels;
    net->x = dscm_graph_image(g, "x", c->image_size, c->image_size, c->in_channels);
    dscm_tensor h = net->x;
    for (size_t level = 0; level < 2; level++) {
        char name[16];
        snprintf(name, sizeof name, "conv%zu", level);
        h = dscm_op_conv(g, h, name, c->model_channels << level, 3, 1, false, false);
        h = dscm_op_act(g, h, DSCM_ACT_RELU);
        h = dscm_op_maxpool(g, h);
    }
    dscm_graph_dims(g, h, &height, &width, &channels);
    h = dscm_op_reshape(g, h, 1, 1, height * width * channels);
    h = dscm_op_linear(g, h, "features", PLAIN_FEATURES, false);
    h = dscm_op_act(g, h, DSCM_ACT_RELU);
    dscm_graph_output(g, "features", h);
    h = dscm_op_dropout(g, h, (float)c->dropout);
    net->out = dscm_op_linear(g, h, "classes", c->out_channels, false);
    dscm_graph_output(g, "out", net->out);
}
