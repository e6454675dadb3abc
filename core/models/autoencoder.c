/* The autoencoders behind IM1 and IM2 (Van Looveren & Klaise 2021): the all-class net pools once,
 * the class net (`deep`) twice. Pixels on [0,1].
 * "code" is the bottleneck of the all-class net, in which prototypes are means. */
#include "core/models/net.h"

static dscm_tensor conv_relu(dscm_graph *g, dscm_tensor x, const char *name, size_t co)
{
    return dscm_op_act(g, dscm_op_conv(g, x, name, co, 3, 1, false, false), DSCM_ACT_RELU);
}

void dscm_autoencoder_build(dscm_net *net)
{
    const dscm_net_config *c = &net->config;
    dscm_graph *g = net->graph;
    net->x = dscm_graph_image(g, "x", c->image_size, c->image_size, c->in_channels);
    dscm_tensor h = conv_relu(g, net->x, "encoder.0", 16);
    if (c->deep) {
        h = dscm_op_maxpool(g, h);
        h = conv_relu(g, h, "encoder.1", 8);
        h = dscm_op_maxpool(g, h);
        h = conv_relu(g, h, "encoder.2", 8);
        h = conv_relu(g, h, "decoder.0", 8);
        h = dscm_op_upsample(g, h);
        h = conv_relu(g, h, "decoder.1", 16);
    } else {
        h = conv_relu(g, h, "encoder.1", 16);
        h = dscm_op_maxpool(g, h);
        h = dscm_op_conv(g, h, "encoder.2", 1, 3, 1, false, false);
        dscm_graph_output(g, "code", h);
        h = conv_relu(g, h, "decoder.0", 16);
    }
    h = dscm_op_upsample(g, h);
    if (!c->deep) h = conv_relu(g, h, "decoder.1", 16);
    net->out = dscm_op_conv(g, h, "decoder.2", c->in_channels, 3, 1, false, false);
    dscm_graph_output(g, "out", net->out);
}
