/* What the files of the convolution share. Internal to core/kernels. */
#ifndef DSCM_CORE_KERNELS_CONV_INTERNAL_H
#define DSCM_CORE_KERNELS_CONV_INTERNAL_H

#include "core/kernels/conv.h"
#include "core/kernels/simd/conv_simd.h"
#include "core/kernels/simd/pack_simd.h"

/* Output pixels up to which a convolution gathers its inputs pixel by pixel: two register tiles. */
#define DSCM_CONV_FEW_PIXELS ((size_t)28)

/* One pass seen as a forward convolution: the input gradient swaps the channels, rotates the
 * weights and reads a dilated image where the forward pass strides (conv_strided.c). */
typedef struct conv_view {
    size_t in_h, in_w;   /* image that is read, before dilation */
    size_t out_h, out_w; /* image that is written */
    size_t in_c, out_c;
    size_t dilate, stride;
    int kernel;
    bool doubled; /* see dscm_conv_shape */
} conv_view;

const dscm_conv_kernels *dscm_conv_kernels_of(dscm_isa isa);
conv_view dscm_conv_view(const dscm_conv_shape *shape, dscm_conv_pass pass);
/* Where the weights of a view lie: tap t between out channel o and in channel i is
 * w[o * out_step + i * in_step + t], or with K*K-1-t when `reversed`. */
typedef struct conv_weights {
    const float *w;
    size_t out_step, in_step;
    bool reversed;
} conv_weights;

conv_weights dscm_conv_weights(const dscm_conv_shape *shape, dscm_conv_pass pass, const float *w);

/* Weights as they are stored, and what is needed to pack a part of them. */
typedef struct conv_packer {
    const dscm_conv_kernels *kernels;
    const dscm_pack_kernels *pack;
    conv_view view;
    size_t taps, out_step, in_step; /* of a weight: see conv_weights */
    bool reversed;
    const unsigned char *w;
    dscm_store type;
    size_t block; /* output channels of a packed block */
} conv_packer;

conv_packer dscm_conv_packer(const dscm_conv *plan, dscm_conv_pass pass, const void *w,
                             dscm_store type);
/* The weights between block `index` of the outputs and `ins` inputs, as to (taps, ins, block), which
 * the direct form reads, or (ins, taps, block), which Winograd transforms. */
void dscm_conv_pack_part(const conv_packer *from, float *to, size_t index, size_t first_in,
                         size_t ins);
void dscm_conv_pack_inputs(const conv_packer *from, float *to, size_t index, size_t first_in,
                           size_t ins);

/* An algorithm's arguments: `packer` where each worker packs the weights that it needs, else NULL and
 * args->packed holds them. */
void dscm_conv_plain_run(const dscm_conv_shape *shape, dscm_conv_pass pass,
                         const dscm_conv_args *a);
void dscm_conv_plain_weight_grad(const dscm_conv_shape *shape, float *dw, const float *dout,
                                 size_t ldo, const float *in, size_t ldi, size_t batch);

size_t dscm_conv_direct_floats(const dscm_conv_kernels *k, const conv_view *v);
/* Output channels of a packed block: 1 where dot products beat padded columns. */
size_t dscm_conv_direct_block(const dscm_conv_kernels *k, const conv_view *v);
/* Input channels of a chunk of the packed weights, which are (blocks, chunks, taps, in, block). */
size_t dscm_conv_direct_chunk(const conv_view *v);
/* Can it run with stored weights, each part packed by its user just before use? */
bool dscm_conv_direct_passes(const conv_view *v);
/* Floats of a worker to pack such parts. */
size_t dscm_conv_direct_part(const dscm_conv_kernels *k, const conv_view *v);
size_t dscm_conv_direct_scratch(const conv_view *v, int threads);
void dscm_conv_direct_run(const dscm_conv_kernels *k, const conv_view *v, const dscm_conv_args *a,
                          const conv_packer *packer);
/* A dilated view. Its packed weights are (blocks, taps, in, block), the taps by the parity of the
 * pixels that they reach: `place` is where tap ky * kernel + kx stands. */
size_t dscm_conv_strided_place(int kernel, size_t tap);
size_t dscm_conv_strided_scratch(const conv_view *v, int threads);
void dscm_conv_strided_run(const dscm_conv_kernels *k, const conv_view *v, const dscm_conv_args *a);
/* 1x1, stride 1: no padding, pixels in one line. */
void dscm_conv_pointwise_run(const dscm_conv_kernels *k, const conv_view *v,
                             const dscm_conv_args *a, const conv_packer *packer);
/* sums: (taps, Ci, Co), or (taps, Co, Ci) where Co is less. */
void dscm_conv_direct_weight_grad(const dscm_conv *plan, float *sums, const float *dout, size_t ldo,
                                  const float *in, size_t ldi, size_t batch, dscm_team *team);
void dscm_conv_direct_grad_finish(const dscm_conv_shape *shape, float *dw, const float *sums);

size_t dscm_conv_winograd_floats(const dscm_conv_kernels *k, const conv_view *v);
size_t dscm_conv_winograd_scratch(const dscm_conv_kernels *k, const conv_view *v, size_t batch,
                                  int threads);
void dscm_conv_winograd_run(const dscm_conv_kernels *k, const conv_view *v, const dscm_conv_args *a,
                            const conv_packer *packer);
size_t dscm_conv_winograd_grad_scratch(const dscm_conv_shape *shape);
/* sums: (36, Ci, Co); db (or NULL): as in dscm_conv_weight_grad. */
void dscm_conv_winograd_weight_grad(const dscm_conv *plan, float *sums, float *db,
                                    const float *dout, size_t ldo, const float *in, size_t ldi,
                                    size_t batch, void *scratch, dscm_team *team);
void dscm_conv_winograd_grad_finish(const dscm_conv *plan, float *dw, const float *sums);

#endif
