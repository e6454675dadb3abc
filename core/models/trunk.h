/* The residual trunk that UNet and encoder share: embedding, input blocks, middle block.
 *
 * Names and layout are those of published guided-diffusion checkpoints (Dhariwal & Nichol 2021).
 * Internal to core/models.
 */
#ifndef DSCM_CORE_MODELS_TRUNK_H
#define DSCM_CORE_MODELS_TRUNK_H

#include "core/models/net.h"

#define TRUNK_BLOCKS_MAX 160
#define TRUNK_GROUPS     32

typedef enum trunk_resample { KEEP_SIZE, HALVE, DOUBLE } trunk_resample;

typedef struct trunk {
    dscm_net *net;
    dscm_tensor emb; /* SiLU of the embedding, ready for every block's projection */
    dscm_tensor skips[TRUNK_BLOCKS_MAX]; /* output of every input block */
    size_t channels[TRUNK_BLOCKS_MAX];   /* their channels */
    size_t count;
    size_t ch;        /* channels at present */
    size_t downscale; /* image_size / present size, in powers of two */
} trunk;

size_t dscm_trunk_width(const dscm_net_config *c, size_t level);
bool dscm_trunk_has_attention(const dscm_net_config *c, size_t downscale);
size_t dscm_trunk_heads(const dscm_net_config *c, size_t channels);
dscm_tensor dscm_trunk_res(const trunk *t, dscm_tensor x, const char *prefix, size_t ci, size_t co,
                           trunk_resample resample);
dscm_tensor dscm_trunk_attention(const trunk *t, dscm_tensor x, const char *prefix,
                                 size_t channels);
/* Inputs, embedding and input blocks; returns the last output. */
dscm_tensor dscm_trunk_down(trunk *t, dscm_net *net);
dscm_tensor dscm_trunk_middle(const trunk *t, dscm_tensor x);

#endif
