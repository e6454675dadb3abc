/* The register-level pieces of convolution, one table of them per instruction set.
 *
 * core/kernels builds every fast convolution out of two matrix kernels and the transforms of
 * winograd_simd.h. Internal to core/kernels.
 */
#ifndef DSCM_CORE_KERNELS_SIMD_CONV_SIMD_H
#define DSCM_CORE_KERNELS_SIMD_CONV_SIMD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/kernels/simd/winograd_simd.h"

/* out[p][c] = sum over segments s and k of in[p * in_step + s * seg_step + k] * w[s][k][c], plus
 * bias, plus residual, plus the old value when `add`. w is packed in blocks of `block` columns:
 * (ceil(cols/block), segs, k, block), zero-filled. */
typedef struct dscm_multiply {
    float *out;
    size_t ldo;
    const float *in;
    size_t in_step, seg_step, segs, k;
    const float *w;
    size_t pixels, cols;
    const float *bias;     /* (cols) or NULL */
    const float *residual; /* or NULL */
    size_t ldr;
    bool add;
} dscm_multiply;

/* acc[r][c] += sum over lines l and p of a[l * a_line + p * a_step + r] * b[l * b_line + p * b_step
 * + c] for r < rows, c < cols: what a weight gradient sums over pixels. Vectors run along the
 * columns: the caller puts the larger side there (acc transposed, a and b exchanged). */
typedef struct dscm_outer {
    float *acc;
    size_t ldacc;
    const float *a, *b;
    size_t a_line, a_step, b_line, b_step, lines, pixels;
    size_t rows, cols;
} dscm_outer;

#define DSCM_CONV_BLOCK_MAX 32 /* columns of a block on the widest instruction set */

typedef struct dscm_conv_kernels {
    size_t vector, block;
    void (*multiply)(const dscm_multiply *m);
    void (*outer)(const dscm_outer *m);
    /* Dot products instead of columns, for cols <= 4: w is (cols, segs*k) without padding. */
    void (*multiply_narrow)(const dscm_multiply *m);
    /* A 3x3 convolution of one 3x3 image, without the products with its zero border: in, in_step
     * and out, ldo are its 9 pixels, w is packed as for `multiply` with 9 segments of k. */
    void (*image3)(const dscm_multiply *m);
    /* sum[c] += in[p * ld + c] over the pixels, in partial sums of limited length. */
    void (*column_sums)(float *sum, const float *in, size_t ld, size_t pixels, size_t channels);
    const dscm_winograd_kernels *winograd;
} dscm_conv_kernels;

extern const dscm_conv_kernels dscm_conv_kernels_base;
#if defined(__x86_64__)
extern const dscm_conv_kernels dscm_conv_kernels_avx2, dscm_conv_kernels_avx512;
#endif

#endif
