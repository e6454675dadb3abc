/* Transforms of Winograd convolution (Lavin & Gray 2016), one table of them per instruction set.
 *
 * A tile makes R outputs per axis, R = 4 or, where the image ends, 3, 2 or 1. It multiplies at R +
 * 2 points, in the order 0, 1, infinity, -1, 2, -2, so that a smaller tile uses the first of the
 * same points: transformed weights serve tiles of every size (the factors by which they differ are
 * in the input transform). Point (i,j) of a tile is number 6 i + j. Internal to core/kernels.
 */
#ifndef DSCM_CORE_KERNELS_SIMD_WINOGRAD_SIMD_H
#define DSCM_CORE_KERNELS_SIMD_WINOGRAD_SIMD_H

#include <stdbool.h>
#include <stddef.h>

#define DSCM_WINOGRAD_TILE   4 /* outputs of a full tile along an axis */
#define DSCM_WINOGRAD_LINE   6 /* its points */
#define DSCM_WINOGRAD_POINTS 36

/* Two lines of points have sums in common and are made together: line i, 0 or 1, of a pair. */
#define DSCM_WINOGRAD_PAIRS              3
#define DSCM_WINOGRAD_PAIR_LINE(pair, i) ((pair) == 2 ? 4 + (i) : (pair) + 2 * (i))

/* A tile of an image with channels last. */
typedef struct dscm_tile {
    size_t h, w, ld;   /* image */
    size_t y, x;       /* first output */
    int rows, columns; /* outputs, 1..4; those of input and output lie inside the image */
    size_t channels;   /* multiple of the vector */
} dscm_tile;

typedef struct dscm_winograd_kernels {
    /* u[i * step + c], i < 36, c < block: G g Gᵀ of the 3x3 kernels g = taps (9, block). */
    void (*weights)(float *u, size_t step, const float *taps);
    /* taps (9, vector) = Gᵀ m G of m[i * step + c], i < 36, c < vector: the gradient of the above.
     */
    void (*weight_grad)(float *taps, const float *m, size_t step);
    /* v[i * step + c] = Bᵀ d B at the tile's points, of the inputs d from (y-1,x-1) on; zero
     * outside the image. */
    void (*input)(float *v, size_t step, const float *image, const dscm_tile *tile);
    /* The same for the two lines of a pair only, which come after each other: i < 12. */
    void (*input_pair)(float *v, size_t step, const float *image, const dscm_tile *tile, int pair);
    /* A y Aᵀ of the tile of an output gradient, for the two lines of a pair. */
    void (*output_grad_pair)(float *v, size_t step, const float *image, const dscm_tile *tile,
                             int pair);
    /* outputs = Aᵀ m A + bias + residual (+ old value); bias, residual (same geometry, ldr) may be
     * NULL. */
    void (*output)(float *image, const float *m, size_t step, const dscm_tile *tile,
                   const float *bias, const float *residual, size_t ldr, bool add);
} dscm_winograd_kernels;

extern const dscm_winograd_kernels dscm_winograd_kernels_base;
#if defined(__x86_64__)
extern const dscm_winograd_kernels dscm_winograd_kernels_avx2, dscm_winograd_kernels_avx512;
#endif

#endif
