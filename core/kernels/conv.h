/* 2-D convolution on channels-last images: forward, input gradient, weight gradient.
 *
 * An image tensor is (B,H,W,C) with a pixel stride `ld` >= C (floats from one pixel to the next),
 * so that a tensor may be a range of channels inside a wider buffer: skip concatenation needs no
 * copy. Rows and images follow each other without gaps: image b starts at data + b*H*W*ld.
 *
 * A plan fixes shape, instruction set and algorithm per pass; it is an immutable value and may be
 * shared between threads. Weights are packed once into the form their pass wants. Nothing here
 * allocates: the caller brings packed weights and scratch. All pointers are 64-byte aligned where
 * this program allocated them, but kernels must accept any float alignment. A NULL team runs in the
 * caller's thread. Results do not depend on the number of threads.
 */
#ifndef DSCM_CORE_KERNELS_CONV_H
#define DSCM_CORE_KERNELS_CONV_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/cpu.h"
#include "core/base/half.h"
#include "core/base/team.h"

typedef struct dscm_conv_shape {
    size_t h, w;   /* input height and width; the output has (h-1)/stride+1 rows */
    size_t ci, co; /* channels in, out */
    int kernel;    /* 1 or 3; zero padding kernel/2 on every side */
    int stride;    /* 1 or 2 */
    /* The input is an image of half the size whose pixels are repeated two by two times. Its
     * gradient is then right only when such four pixels are summed. Even sizes, stride 1. */
    bool doubled;
} dscm_conv_shape;

typedef enum dscm_conv_pass {
    DSCM_CONV_FORWARD,
    DSCM_CONV_INPUT_GRAD,
    DSCM_CONV_WEIGHT_GRAD,
    DSCM_CONV_PASSES
} dscm_conv_pass;

typedef enum dscm_conv_algo {
    DSCM_CONV_AUTO,      /* the planner's measured choice for the shape */
    DSCM_CONV_PLAIN,     /* plain loops: the reference that stays in the tree */
    DSCM_CONV_DIRECT,    /* register-blocked direct convolution */
    DSCM_CONV_WINOGRAD,  /* F(4x4,3x3), stride 1 only */
    DSCM_CONV_POINTWISE, /* matrix products: 1x1 and whatever else they serve best */
    DSCM_CONV_ALGOS
} dscm_conv_algo;

typedef struct dscm_conv {
    dscm_conv_shape shape;
    dscm_isa isa;
    dscm_conv_algo algo[DSCM_CONV_PASSES]; /* never AUTO in a plan */
} dscm_conv;

/* Plans a convolution. `isa` must be one this processor runs. With `algo` other than AUTO every
 * pass that supports it on this shape uses it and the others fall back to the planner's choice. */
dscm_conv dscm_conv_plan(dscm_conv_shape shape, dscm_isa isa, dscm_conv_algo algo);

size_t dscm_conv_out_h(const dscm_conv_shape *shape);
size_t dscm_conv_out_w(const dscm_conv_shape *shape);
/* Multiplications and additions of the direct form of one pass on one image. */
double dscm_conv_flops(const dscm_conv_shape *shape);

/* Floats of packed weights for FORWARD or INPUT_GRAD (0 for WEIGHT_GRAD). */
size_t dscm_conv_packed_floats(const dscm_conv *plan, dscm_conv_pass pass);
/* w: (Co,Ci,K,K), PyTorch's order. */
void dscm_conv_pack(const dscm_conv *plan, dscm_conv_pass pass, float *packed, const float *w);
/* The same of weights stored as `type`, at any alignment, by a team (or NULL). */
void dscm_conv_pack_from(const dscm_conv *plan, dscm_conv_pass pass, float *packed, const void *w,
                         dscm_store type, dscm_team *team);
/* Bytes of scratch that a pass needs for `batch` images on a team of `threads`. */
size_t dscm_conv_scratch_bytes(const dscm_conv *plan, dscm_conv_pass pass, size_t batch,
                               int threads);

/* The same for weights that are packed on the way. */
size_t dscm_conv_stored_bytes(const dscm_conv *plan, dscm_conv_pass pass, size_t batch,
                              int threads);

/* What a forward pass or an input gradient reads and writes. Fields that are left out are zero:
 * nothing is added. */
typedef struct dscm_conv_args {
    float *out;      /* FORWARD: (B,Ho,Wo,Co); INPUT_GRAD: the gradient of the input, (B,H,W,Ci) */
    const float *in; /* FORWARD: (B,H,W,Ci); INPUT_GRAD: that of the output, (B,Ho,Wo,Co) */
    size_t ldo, ldi; /* pixel strides of out, in */
    const float *packed; /* weights packed for the pass, or NULL: */
    const void *stored;  /* (Co,Ci,K,K) of `type`, packed on the way: dscm_conv_stored_bytes */
    dscm_store type;
    const float *bias;     /* (channels of out) or NULL */
    const float *residual; /* as out, pixel stride ldr, or NULL; may be `out` itself */
    size_t ldr;
    bool add; /* out += … */
    size_t batch;
    void *scratch;
    dscm_team *team;
} dscm_conv_args;

/* FORWARD: out = conv(in) + bias + residual. INPUT_GRAD: out = convᵀ(in). `+=` with `add`. */
void dscm_conv_run(const dscm_conv *plan, dscm_conv_pass pass, const dscm_conv_args *args);

/* The weight gradient in two steps: every pass adds to sums in the form its algorithm adds in (with
 * Winograd 36 numbers for every pair of channels), and one call turns the sums of many passes into
 * a gradient. Sums start as zeros. */
size_t dscm_conv_sums_floats(const dscm_conv *plan);
/* sums += …, db += Σ dout.   sums (dscm_conv_sums_floats); db (Co) or NULL. */
void dscm_conv_weight_grad(const dscm_conv *plan, float *sums, float *db, const float *dout,
                           size_t ldo, const float *in, size_t ldi, size_t batch, void *scratch,
                           dscm_team *team);
/* dw += what the sums stand for, sums = 0.   dw (Co,Ci,K,K), PyTorch's order. */
void dscm_conv_weight_grad_finish(const dscm_conv *plan, float *dw, float *sums);

#endif
