/* The score network: trunk, then output blocks that take the input blocks' outputs back in reverse.
 */
#include <stdio.h>

#include "core/models/trunk.h"

static dscm_tensor upsample(const trunk *t, dscm_tensor h, size_t block, int index)
{
    const dscm_net_config *c = &t->net->config;
    char name[96];
    if (c->resblock_updown) {
        snprintf(name, sizeof name, "output_blocks.%zu.%d", block, index);
        return dscm_trunk_res(t, h, name, t->ch, t->ch, DOUBLE);
    }
    h = dscm_op_upsample(t->net->graph, h);
    if (!c->conv_resample) return h;
    snprintf(name, sizeof name, "output_blocks.%zu.%d.conv", block, index);
    return dscm_op_conv(t->net->graph, h, name, t->ch, 3, 1, false, false);
}

void dscm_unet_build(dscm_net *net)
{
    const dscm_net_config *c = &net->config;
    dscm_graph *g = net->graph;
    trunk t;
    dscm_tensor h = dscm_trunk_down(&t, net);
    h = dscm_trunk_middle(&t, h);
    size_t block = 0;
    char name[96];
    for (size_t level = c->levels; level-- > 0;)
        for (size_t i = 0; i <= c->num_res_blocks; i++, block++) {
            size_t co = dscm_trunk_width(c, level);
            t.count--;
            h = dscm_op_concat(g, h, t.skips[t.count]);
            snprintf(name, sizeof name, "output_blocks.%zu.0", block);
            h = dscm_trunk_res(&t, h, name, t.ch + t.channels[t.count], co, KEEP_SIZE);
            t.ch = co;
            bool attention = dscm_trunk_has_attention(c, t.downscale);
            if (attention) {
                snprintf(name, sizeof name, "output_blocks.%zu.1", block);
                h = dscm_trunk_attention(&t, h, name, co);
            }
            if (level && i == c->num_res_blocks) {
                h = upsample(&t, h, block, attention ? 2 : 1);
                t.downscale /= 2;
            }
        }
    h = dscm_op_groupnorm(g, h, "out.0", TRUNK_GROUPS, -1, DSCM_ACT_SILU);
    net->out = dscm_op_conv(g, h, "out.2", c->out_channels, 3, 1, true, false);
    dscm_graph_output(g, "out", net->out);
}
