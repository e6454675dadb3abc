#include "core/models/trunk.h"

#include <stdio.h>

#define NAME 96

size_t dscm_trunk_width(const dscm_net_config *c, size_t level)
{
    return (size_t)(c->channel_mult[level] * (double)c->model_channels);
}

bool dscm_trunk_has_attention(const dscm_net_config *c, size_t downscale)
{
    for (size_t i = 0; i < c->attention_count; i++)
        if (c->image_size / c->attention_resolutions[i] == downscale) return true;
    return false;
}

size_t dscm_trunk_heads(const dscm_net_config *c, size_t channels)
{
    return c->num_head_channels ? channels / c->num_head_channels : c->num_heads;
}

static dscm_tensor resized(dscm_graph *g, dscm_tensor x, trunk_resample resample)
{
    if (resample == HALVE) return dscm_op_avgpool(g, x);
    if (resample == DOUBLE) return dscm_op_upsample(g, x);
    return x;
}

dscm_tensor dscm_trunk_res(const trunk *t, dscm_tensor x, const char *prefix, size_t ci, size_t co,
                           trunk_resample resample)
{
    dscm_graph *g = t->net->graph;
    bool scale_shift = t->net->config.use_scale_shift_norm;
    char name[NAME];
    snprintf(name, sizeof name, "%s.emb_layers.1", prefix);
    dscm_tensor emb = dscm_op_linear(g, t->emb, name, scale_shift ? 2 * co : co, false);
    snprintf(name, sizeof name, "%s.in_layers.0", prefix);
    dscm_tensor h = dscm_op_groupnorm(g, x, name, TRUNK_GROUPS, -1, DSCM_ACT_SILU);
    h = resized(g, h, resample);
    snprintf(name, sizeof name, "%s.in_layers.2", prefix);
    h = dscm_op_conv(g, h, name, co, 3, 1, false, false);
    dscm_tensor skip = resized(g, x, resample);
    if (ci != co) {
        snprintf(name, sizeof name, "%s.skip_connection", prefix);
        skip = dscm_op_conv(g, skip, name, co, 1, 1, false, false);
    }
    if (!scale_shift) h = dscm_op_add(g, h, emb);
    snprintf(name, sizeof name, "%s.out_layers.0", prefix);
    h = dscm_op_groupnorm(g, h, name, TRUNK_GROUPS, scale_shift ? emb : -1, DSCM_ACT_SILU);
    h = dscm_op_dropout(g, h, (float)t->net->config.dropout);
    snprintf(name, sizeof name, "%s.out_layers.3", prefix);
    h = dscm_op_conv(g, h, name, co, 3, 1, true, false);
    return dscm_op_add(g, h, skip);
}

dscm_tensor dscm_trunk_attention(const trunk *t, dscm_tensor x, const char *prefix, size_t channels)
{
    dscm_graph *g = t->net->graph;
    const dscm_net_config *c = &t->net->config;
    char name[NAME];
    snprintf(name, sizeof name, "%s.norm", prefix);
    dscm_tensor h = dscm_op_groupnorm(g, x, name, TRUNK_GROUPS, -1, DSCM_ACT_NONE);
    snprintf(name, sizeof name, "%s.qkv", prefix);
    h = dscm_op_conv(g, h, name, 3 * channels, 1, 1, false, true);
    h = dscm_op_attention(g, h, dscm_trunk_heads(c, channels), c->new_attention_order);
    snprintf(name, sizeof name, "%s.proj_out", prefix);
    h = dscm_op_conv(g, h, name, channels, 1, 1, true, true);
    return dscm_op_add(g, h, x);
}

/* The block of one parent: a table of labels; or of (standardised value, 1 where there is one) a
 * network with one hidden layer. */
static dscm_tensor parent_block(trunk *t, size_t index)
{
    dscm_net *net = t->net;
    dscm_graph *g = net->graph;
    const dscm_parent *p = &net->config.parents[index];
    size_t c = 4 * net->config.model_channels;
    char name[NAME];
    snprintf(name, sizeof name, "parent.%s", p->name);
    net->parents[index] = dscm_graph_condition(g, name, p->classes ? 1 : 2);
    snprintf(name, sizeof name, "parent_emb.%s%s", p->name, p->classes ? "" : ".0");
    if (p->classes) return dscm_op_label_embedding(g, net->parents[index], name, p->classes, c);
    dscm_tensor e = dscm_op_linear(g, net->parents[index], name, c, false);
    e = dscm_op_act(g, e, DSCM_ACT_SILU);
    snprintf(name, sizeof name, "parent_emb.%s.2", p->name);
    return dscm_op_linear(g, e, name, c, false);
}

static dscm_tensor embedding(trunk *t)
{
    dscm_net *net = t->net;
    dscm_graph *g = net->graph;
    size_t c = net->config.model_channels;
    net->t = dscm_graph_condition(g, "t", 1);
    dscm_tensor e = dscm_op_time_embedding(g, net->t, c);
    e = dscm_op_linear(g, e, "time_embed.0", 4 * c, false);
    e = dscm_op_act(g, e, DSCM_ACT_SILU);
    e = dscm_op_linear(g, e, "time_embed.2", 4 * c, false);
    if (net->config.num_classes && net->config.arch == DSCM_ARCH_UNET) {
        net->label = dscm_graph_condition(g, "label", 1);
        dscm_tensor l =
            dscm_op_label_embedding(g, net->label, "label_emb", net->config.num_classes, 4 * c);
        e = dscm_op_add(g, e, l);
    }
    for (size_t i = 0; i < net->config.parents_count && net->config.arch == DSCM_ARCH_UNET; i++)
        e = dscm_op_add(g, e, parent_block(t, i));
    return dscm_op_act(g, e, DSCM_ACT_SILU);
}

static void push_skip(trunk *t, dscm_tensor h)
{
    if (t->count == TRUNK_BLOCKS_MAX) return; /* config ranges keep the count below */
    t->skips[t->count] = h;
    t->channels[t->count++] = t->ch;
}

static dscm_tensor downsample(const trunk *t, dscm_tensor h)
{
    const dscm_net_config *c = &t->net->config;
    char name[NAME];
    if (c->resblock_updown) {
        snprintf(name, sizeof name, "input_blocks.%zu.0", t->count);
        return dscm_trunk_res(t, h, name, t->ch, t->ch, HALVE);
    }
    if (!c->conv_resample) return dscm_op_avgpool(t->net->graph, h);
    snprintf(name, sizeof name, "input_blocks.%zu.0.op", t->count);
    return dscm_op_conv(t->net->graph, h, name, t->ch, 3, 2, false, false);
}

dscm_tensor dscm_trunk_down(trunk *t, dscm_net *net)
{
    const dscm_net_config *c = &net->config;
    char name[NAME];
    *t = (trunk){.net = net, .downscale = 1};
    net->x = dscm_graph_image(net->graph, "x", c->image_size, c->image_size, c->in_channels);
    t->emb = embedding(t);
    t->ch = dscm_trunk_width(c, 0);
    dscm_tensor h = dscm_op_conv(net->graph, net->x, "input_blocks.0.0", t->ch, 3, 1, false, false);
    push_skip(t, h);
    for (size_t level = 0; level < c->levels; level++) {
        for (size_t i = 0; i < c->num_res_blocks; i++) {
            size_t co = dscm_trunk_width(c, level);
            snprintf(name, sizeof name, "input_blocks.%zu.0", t->count);
            h = dscm_trunk_res(t, h, name, t->ch, co, KEEP_SIZE);
            t->ch = co;
            if (dscm_trunk_has_attention(c, t->downscale)) {
                snprintf(name, sizeof name, "input_blocks.%zu.1", t->count);
                h = dscm_trunk_attention(t, h, name, co);
            }
            push_skip(t, h);
        }
        if (level + 1 == c->levels) break;
        h = downsample(t, h);
        t->downscale *= 2;
        push_skip(t, h);
    }
    return h;
}

dscm_tensor dscm_trunk_middle(const trunk *t, dscm_tensor x)
{
    dscm_tensor h = dscm_trunk_res(t, x, "middle_block.0", t->ch, t->ch, KEEP_SIZE);
    h = dscm_trunk_attention(t, h, "middle_block.1", t->ch);
    return dscm_trunk_res(t, h, "middle_block.2", t->ch, t->ch, KEEP_SIZE);
}
