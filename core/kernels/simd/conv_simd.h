/* The register-level pieces of convolution, one table of them per instruction set.
 *
 * core/kernels/conv.c builds every fast convolution out of two matrix kernels and the transforms of
 * Winograd F(4x4,3x3) (Lavin & Gray 2016). Internal to core/kernels.
 */
#ifndef DSCM_CORE_KERNELS_SIMD_CONV_SIMD_H
#define DSCM_CORE_KERNELS_SIMD_CONV_SIMD_H

#include <stdbool.h>
#include <stddef.h>

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
 * + c] for r < rows, c < cols: what a weight gradient sums over pixels. */
typedef struct dscm_outer {
    float *acc;
    size_t ldacc;
    const float *a, *b;
    size_t a_line, a_step, b_line, b_step, lines, pixels;
    size_t rows, cols;
} dscm_outer;

/* One 6x6 or 4x4 tile of an image with channels last: rows and columns outside the image read as
 * zero and are not written. */
typedef struct dscm_tile {
    size_t h, w, ld; /* image */
    ptrdiff_t y, x;  /* top left of the tile, may be negative */
    size_t channels; /* multiple of `vector` */
} dscm_tile;

#define DSCM_CONV_BLOCK_MAX 32 /* columns of a block on the widest instruction set */

typedef struct dscm_conv_kernels {
    size_t vector, block;
    void (*multiply)(const dscm_multiply *m);
    void (*outer)(const dscm_outer *m);
    /* Dot products instead of columns, for cols <= 4: w is (cols, segs*k) without padding. */
    void (*multiply_narrow)(const dscm_multiply *m);
    /* sum[c] += in[p * ld + c] over the pixels, in partial sums of limited length. */
    void (*column_sums)(float *sum, const float *in, size_t ld, size_t pixels, size_t channels);
    /* u[i * step + c], i < 36, c < block: G g Gᵀ of the 3x3 kernels g = taps (9, block). */
    void (*winograd_weights)(float *u, size_t step, const float *taps);
    /* taps (9, vector) = Gᵀ m G of m[i * step + c], i < 36, c < vector: the gradient of the above.
     */
    void (*winograd_weight_grad)(float *taps, const float *m, size_t step);
    /* v[i * step + c], i < 36: Bᵀ d B of the 6x6 tile. */
    void (*winograd_input)(float *v, size_t step, const float *image, const dscm_tile *tile);
    /* A y Aᵀ of the 4x4 tile of an output gradient. */
    void (*winograd_output_grad)(float *v, size_t step, const float *image, const dscm_tile *tile);
    /* 4x4 tile = Aᵀ m A + bias + residual (+ old value); bias, residual (same geometry, ldr) may be
     * NULL. */
    void (*winograd_output)(float *image, const float *m, size_t step, const dscm_tile *tile,
                            const float *bias, const float *residual, size_t ldr, bool add);
} dscm_conv_kernels;

extern const dscm_conv_kernels dscm_conv_kernels_base;
#if defined(__x86_64__)
extern const dscm_conv_kernels dscm_conv_kernels_avx2, dscm_conv_kernels_avx512;
#endif

#endif
