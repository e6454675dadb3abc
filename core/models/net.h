/* Networks by configuration: one struct of keys, one builder per architecture, one built object.
 *
 * Keys and parameter names are those of published guided-diffusion checkpoints. Adding an
 * architecture: a file core/models/<name>.c with a builder, and a line in the table of net.c.
 */
#ifndef DSCM_CORE_MODELS_NET_H
#define DSCM_CORE_MODELS_NET_H

#include <stdbool.h>

#include "core/nn/graph.h"

#define DSCM_LEVELS_MAX  8
#define DSCM_PARENTS_MAX 8
#define DSCM_PARENT_NAME 40 /* with the terminating zero */

typedef enum dscm_arch {
    DSCM_ARCH_UNET,        /* score network: inputs x, t [, label or parents]; output "out" */
    DSCM_ARCH_ENCODER,     /* anti-causal predictor on noised images: x, t; output "out" = logits */
    DSCM_ARCH_CNN,         /* clean classifier (oracle): x; outputs "out" = logits, "features" */
    DSCM_ARCH_VAE,         /* x, noise; outputs "mu", "logvar", "out" = reconstruction */
    DSCM_ARCH_AUTOENCODER, /* x; output "out" = reconstruction */
    DSCM_ARCH_PLAIN_CNN, /* clean classifiers and VAE of other architectures; inputs and outputs */
    DSCM_ARCH_RESNET,    /* are those of DSCM_ARCH_CNN … */
    DSCM_ARCH_MLP_VAE,   /* … and of DSCM_ARCH_VAE */
    DSCM_ARCH_COUNT
} dscm_arch;

typedef enum dscm_pool { DSCM_POOL_ATTENTION, DSCM_POOL_ADAPTIVE, DSCM_POOL_SPATIAL } dscm_pool;

/* What a score network's output estimates. With v (Salimans & Ho 2022): v = √ᾱ ε − √(1−ᾱ) x_0, hence
 * ε = √ᾱ v + √(1−ᾱ) x_t. */
typedef enum dscm_prediction { DSCM_PREDICT_EPS, DSCM_PREDICT_V } dscm_prediction;

/* A parent of the image that a conditional score network is given, as an embedding block of its own
 * that is added to the embedding of time. A missing value (NaN) is the null block. */
typedef struct dscm_parent {
    char name[DSCM_PARENT_NAME];
    size_t classes;   /* categorical: number of labels; 0: continuous */
    double mean, std; /* continuous: the network is given (value − mean) / std */
} dscm_parent;

typedef struct dscm_net_config {
    dscm_arch arch;
    size_t image_size, in_channels, out_channels; /* out_channels: classes for an encoder or a CNN,
                                                     2 x in_channels with learn_sigma */
    size_t model_channels, num_res_blocks;
    double channel_mult[DSCM_LEVELS_MAX];
    size_t levels;
    size_t
        attention_resolutions[DSCM_LEVELS_MAX]; /* in pixels, as published configurations say it */
    size_t attention_count;
    size_t num_heads; /* used when num_head_channels is 0 */
    size_t num_head_channels;
    size_t num_classes; /* of a published class-conditional score network; 0: none */
    dscm_parent parents[DSCM_PARENTS_MAX]; /* of a conditional score network */
    size_t parents_count;
    dscm_prediction prediction;
    dscm_parent
        target;    /* encoder: the continuous variable that it predicts, see gaussian.h; no name:
                           classes */
    size_t latent; /* dimensions of a VAE's code */
    bool deep;     /* autoencoder: the two-pool class autoencoder instead of the all-class one */
    bool learn_sigma, conv_resample, use_scale_shift_norm, resblock_updown;
    bool new_attention_order, pool_new_attention_order;
    dscm_pool pool;
    double dropout;
} dscm_net_config;

dscm_net_config dscm_net_config_defaults(dscm_arch arch);
/* Checks every key; the message names the key, its value and what is allowed. */
dscm_code dscm_net_config_check(const dscm_net_config *config, dscm_error *err) DSCM_MUST_CHECK;
const char *dscm_arch_name(dscm_arch arch); /* "unet", "encoder", "cnn", "vae", "autoencoder", … */
/* The architecture of a name; DSCM_E_UNKNOWN with the names that exist. */
dscm_code dscm_arch_parse(dscm_arch *out, const char *name, dscm_error *err) DSCM_MUST_CHECK;
bool dscm_arch_judges(dscm_arch arch);  /* a classifier of clean images, with "features" */
bool dscm_arch_encodes(dscm_arch arch); /* a VAE */

typedef struct dscm_net {
    dscm_net_config config;
    dscm_params params;
    dscm_graph *graph;
    dscm_tensor x, t, label, out;          /* -1 where the architecture has none */
    dscm_tensor parents[DSCM_PARENTS_MAX]; /* inputs of the conditions; see dscm_net_set_parent */
} dscm_net;

/* Builds table and graph; caller owns. Fails on an inconsistent configuration or out of memory. */
dscm_code dscm_net_open(dscm_net **out, const dscm_net_config *config,
                        dscm_error *err) DSCM_MUST_CHECK;
void dscm_net_free(dscm_net *net); /* takes NULL */
/* Writes condition `row` of parent `parent` (< config.parents_count) for the next forward pass: a
 * label's index or a number; NaN is the null block. */
void dscm_net_set_parent(const dscm_net *net, dscm_exec *exec, size_t parent, size_t row,
                         double value);
/* Direct multiply-add FLOPs of one forward pass on one image (convolutions, linear, attention). */
double dscm_net_flops(const dscm_net *net);

/* Builders behind the table; each adds to net->graph and sets the handles. */
void dscm_unet_build(dscm_net *net);
void dscm_encoder_build(dscm_net *net);
void dscm_cnn_build(dscm_net *net);
void dscm_vae_build(dscm_net *net);
void dscm_autoencoder_build(dscm_net *net);
void dscm_plain_cnn_build(dscm_net *net);
void dscm_resnet_build(dscm_net *net);
void dscm_mlp_vae_build(dscm_net *net);

#endif
