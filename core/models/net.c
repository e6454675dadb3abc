#include "core/models/net.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/models/trunk.h"

static const struct {
    const char *name;
    void (*build)(dscm_net *net);
} archs[DSCM_ARCH_COUNT] = {
    [DSCM_ARCH_UNET] = {"unet", dscm_unet_build},
    [DSCM_ARCH_ENCODER] = {"encoder", dscm_encoder_build},
    [DSCM_ARCH_CNN] = {"cnn", dscm_cnn_build},
    [DSCM_ARCH_VAE] = {"vae", dscm_vae_build},
    [DSCM_ARCH_AUTOENCODER] = {"autoencoder", dscm_autoencoder_build},
    [DSCM_ARCH_PLAIN_CNN] = {"plain_cnn", dscm_plain_cnn_build},
    [DSCM_ARCH_RESNET] = {"resnet", dscm_resnet_build},
    [DSCM_ARCH_MLP_VAE] = {"mlp_vae", dscm_mlp_vae_build},
};

const char *dscm_arch_name(dscm_arch arch)
{
    return (int)arch >= 0 && arch < DSCM_ARCH_COUNT ? archs[arch].name : "unknown";
}

dscm_code dscm_arch_parse(dscm_arch *out, const char *name, dscm_error *err)
{
    char known[256] = "";
    for (int a = 0; a < DSCM_ARCH_COUNT; a++) {
        size_t used = strlen(known);
        *out = (dscm_arch)a;
        if (strcmp(name, archs[a].name) == 0) return DSCM_OK;
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", archs[a].name);
    }
    return dscm_fail(err, DSCM_E_UNKNOWN, "arch \"%s\" is not one of %s", name, known);
}

bool dscm_arch_judges(dscm_arch arch)
{
    return arch == DSCM_ARCH_CNN || arch == DSCM_ARCH_PLAIN_CNN || arch == DSCM_ARCH_RESNET;
}

bool dscm_arch_encodes(dscm_arch arch)
{
    return arch == DSCM_ARCH_VAE || arch == DSCM_ARCH_MLP_VAE;
}

dscm_net_config dscm_net_config_defaults(dscm_arch arch)
{
    return (dscm_net_config){.arch = arch,
                             .image_size = 28,
                             .in_channels = 1,
                             .out_channels =
                                 arch == DSCM_ARCH_ENCODER || dscm_arch_judges(arch) ? 10 : 1,
                             .model_channels = 32,
                             .num_res_blocks = 1,
                             .channel_mult = {1, 2, 2},
                             .levels = 3,
                             .num_heads = 1,
                             .latent = 16,
                             .conv_resample = true,
                             .use_scale_shift_norm = true,
                             .resblock_updown = arch == DSCM_ARCH_ENCODER,
                             .pool_new_attention_order = true,
                             .pool = DSCM_POOL_ATTENTION};
}

static dscm_code check_parent(const dscm_parent *p, const char *key, dscm_error *err)
{
    if (!p->name[0] || p->name[strspn(p->name, "abcdefghijklmnopqrstuvwxyz0123456789_")])
        return dscm_fail(err, DSCM_E_INVALID,
                         "%s: name \"%s\" must be lower-case letters, digits and _", key, p->name);
    if (p->classes == 1 || p->classes > 100000)
        return dscm_fail(err, DSCM_E_INVALID, "%s: %s: classes: %zu is not in 2..100000", key,
                         p->name, p->classes);
    if (!p->classes && !(isfinite(p->mean) && isfinite(p->std) && p->std > 0))
        return dscm_fail(err, DSCM_E_INVALID,
                         "%s: %s: mean %g and std %g must be finite, std above 0", key, p->name,
                         p->mean, p->std);
    return DSCM_OK;
}

static dscm_code check_parents(const dscm_net_config *c, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < c->parents_count; i++) {
        const dscm_parent *p = &c->parents[i];
        code = check_parent(p, "parents", err);
        for (size_t k = 0; code == DSCM_OK && k < i; k++)
            if (strcmp(c->parents[k].name, p->name) == 0)
                code = dscm_fail(err, DSCM_E_INVALID, "parents: \"%s\" is there twice", p->name);
    }
    if (code == DSCM_OK && c->parents_count && c->num_classes)
        code = dscm_fail(err, DSCM_E_INVALID, "parents: not together with num_classes");
    if (code == DSCM_OK && c->target.name[0]) code = check_parent(&c->target, "target", err);
    if (code == DSCM_OK && c->target.name[0] && c->out_channels != 2)
        code = dscm_fail(err, DSCM_E_INVALID, "target: %s: out_channels is %zu, must be 2",
                         c->target.name, c->out_channels);
    return code;
}

static dscm_code in_range(const char *key, size_t value, size_t low, size_t high, dscm_error *err)
{
    if (value >= low && value <= high) return DSCM_OK;
    return dscm_fail(err, DSCM_E_INVALID, "%s: %zu is not in %zu..%zu", key, value, low, high);
}

/* Heads must share the channels of every attention block: the levels listed and the middle. */
static dscm_code check_heads(const dscm_net_config *c, dscm_error *err)
{
    for (size_t i = 0; i < c->levels; i++) {
        size_t width = dscm_trunk_width(c, i);
        if (i + 1 < c->levels && !dscm_trunk_has_attention(c, (size_t)1 << i)) continue;
        if (c->num_head_channels && width % c->num_head_channels)
            return dscm_fail(err, DSCM_E_INVALID,
                             "num_head_channels: %zu does not divide the %zu channels of level %zu",
                             c->num_head_channels, width, i);
        if (!c->num_head_channels && width % c->num_heads)
            return dscm_fail(err, DSCM_E_INVALID,
                             "num_heads: %zu does not divide the %zu channels of level %zu",
                             c->num_heads, width, i);
    }
    return DSCM_OK;
}

static dscm_code check_levels(const dscm_net_config *c, dscm_error *err)
{
    for (size_t i = 0; i < c->levels; i++) {
        double width = c->channel_mult[i] * (double)c->model_channels;
        if (!(width >= 32 && width <= 8192) || fmod(floor(width), 32) != 0)
            return dscm_fail(
                err, DSCM_E_INVALID,
                "channel_mult: %g x %zu model_channels gives %g channels; a multiple of 32 "
                "(group norm) in 32..8192 is needed",
                c->channel_mult[i], c->model_channels, width);
    }
    for (size_t i = 0; i < c->attention_count; i++)
        if (c->attention_resolutions[i] < 1 || c->attention_resolutions[i] > c->image_size)
            return dscm_fail(err, DSCM_E_INVALID,
                             "attention_resolutions: %zu is not in 1..%zu (image_size)",
                             c->attention_resolutions[i], c->image_size);
    return check_heads(c, err);
}

/* These halve the image and double it again, which must give its size back. */
static dscm_code check_halves(const dscm_net_config *c, dscm_error *err)
{
    size_t step = c->arch == DSCM_ARCH_AUTOENCODER && !c->deep ? 2 : 4;
    if (c->image_size % step == 0) return DSCM_OK;
    return dscm_fail(err, DSCM_E_INVALID, "image_size: %zu is not a multiple of %zu, as %s needs",
                     c->image_size, step,
                     c->arch == DSCM_ARCH_VAE ? "a vae" : "such an autoencoder");
}

dscm_code dscm_net_config_check(const dscm_net_config *c, dscm_error *err)
{
    const struct {
        const char *key;
        size_t value, low, high;
    } ranges[] = {{"image_size", c->image_size, 4, 1024},
                  {"in_channels", c->in_channels, 1, 64},
                  {"out_channels", c->out_channels, 1, 100000},
                  {"model_channels", c->model_channels, 4, 2048},
                  {"num_res_blocks", c->num_res_blocks, 1, 16},
                  {"channel_mult length", c->levels, 1, DSCM_LEVELS_MAX},
                  {"attention_resolutions length", c->attention_count, 0, DSCM_LEVELS_MAX},
                  {"num_heads", c->num_heads, 1, 256},
                  {"num_head_channels", c->num_head_channels, 0, 8192},
                  {"num_classes", c->num_classes, 0, 100000},
                  {"latent", c->latent, 1, 4096}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        dscm_code code =
            in_range(ranges[i].key, ranges[i].value, ranges[i].low, ranges[i].high, err);
        if (code != DSCM_OK) return code;
    }
    if (!(c->dropout >= 0 && c->dropout < 1))
        return dscm_fail(err, DSCM_E_INVALID, "dropout: %g is not in 0..1 (exclusive)", c->dropout);
    dscm_code code = check_parents(c, err);
    if (code != DSCM_OK) return code;
    if (c->arch == DSCM_ARCH_UNET || c->arch == DSCM_ARCH_ENCODER) return check_levels(c, err);
    return dscm_arch_judges(c->arch) || c->arch == DSCM_ARCH_MLP_VAE ? DSCM_OK
                                                                     : check_halves(c, err);
}

dscm_code dscm_net_open(dscm_net **out, const dscm_net_config *config, dscm_error *err)
{
    *out = NULL;
    dscm_code code = dscm_net_config_check(config, err);
    if (code != DSCM_OK) return code;
    dscm_net *net = dscm_alloc(1, sizeof *net, "network", err);
    if (!net) return DSCM_E_MEMORY;
    net->config = *config;
    net->x = net->t = net->label = net->out = -1;
    for (size_t i = 0; i < DSCM_PARENTS_MAX; i++) net->parents[i] = -1;
    code = dscm_graph_open(&net->graph, &net->params, err);
    if (code == DSCM_OK) {
        archs[config->arch].build(net);
        code = dscm_graph_finish(net->graph, err);
    }
    if (code != DSCM_OK) {
        dscm_net_free(net);
        return code;
    }
    *out = net;
    return DSCM_OK;
}

void dscm_net_free(dscm_net *net)
{
    if (!net) return;
    dscm_graph_free(net->graph);
    dscm_params_free(&net->params);
    dscm_free(net);
}

void dscm_net_set_parent(const dscm_net *net, dscm_exec *exec, size_t parent, size_t row,
                         double value)
{
    const dscm_parent *p = &net->config.parents[parent];
    float *condition = dscm_exec_data(exec, net->parents[parent]);
    if (p->classes)
        condition[row] = isnan(value) ? -1 : (float)value;
    else {
        condition[2 * row] = isnan(value) ? 0 : (float)((value - p->mean) / p->std);
        condition[2 * row + 1] = isnan(value) ? 0 : 1;
    }
}

double dscm_net_flops(const dscm_net *net)
{
    return dscm_graph_flops(net->graph);
}
