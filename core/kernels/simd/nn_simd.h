/* Normalisation, activation and softmax kernels, one table per instruction set.
 *
 * Lines of pixels with channels last; `ld` is the pixel stride. Internal to core/kernels and
 * core/nn.
 */
#ifndef DSCM_CORE_KERNELS_SIMD_NN_SIMD_H
#define DSCM_CORE_KERNELS_SIMD_NN_SIMD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/cpu.h"

/* One step of AdamW for a run of parameters: g = scale * grad, m and v its moving mean and square,
 * w = decay * w - rate * (bias1 * m) / (sqrt(bias2 * v) + eps), ema += follow * (w - ema). */
typedef struct dscm_adamw_run {
    float *w, *ema, *m, *v; /* (count) */
    const float *grad;      /* (count) */
    size_t count;
    float scale, beta1, beta2, bias1, bias2, rate, eps, decay, follow;
} dscm_adamw_run;

/* Activation codes, as in core/nn/graph.h: 0 none, 1 SiLU, 2 ReLU. */
typedef struct dscm_nn_kernels {
    /* sum[c] += x - pivot[c], squares[c] += (x - pivot[c])^2 over the pixels of a line. */
    void (*moments)(float *sum, float *squares, const float *x, size_t ld, const float *pivot,
                    size_t pixels, size_t channels);
    /* out = act(x * gain[c] + shift[c]) */
    void (*affine)(float *out, size_t ldo, const float *x, size_t ld, const float *gain,
                   const float *shift, int act, size_t pixels, size_t channels);
    /* dy (dense) = dout * act'(x * gain + shift); sum[c] += dy, cross[c] += dy * (x - mean[c]) */
    void (*affine_backward)(float *dy, float *sum, float *cross, const float *dout, size_t ldo,
                            const float *x, size_t ld, const float *gain, const float *shift,
                            const float *mean, int act, size_t pixels, size_t channels);
    /* dx = p[c] * dy + q[c] * x + r[c], or dx += with `add`; dy is dense */
    void (*combine)(float *dx, size_t ldd, const float *dy, const float *x, size_t ld,
                    const float *p, const float *q, const float *r, bool add, size_t pixels,
                    size_t channels);
    void (*act)(float *out, const float *x, int act, size_t count);
    /* dx = dout * act'(x), or += */
    void (*act_backward)(float *dx, const float *dout, const float *x, int act, bool add,
                         size_t count);
    /* Row-wise softmax of scale * s, in place: (rows, n), row stride ld. */
    void (*softmax)(float *s, size_t ld, float scale, size_t rows, size_t n);
    /* ds = scale * p * (ds - sum(ds * p)), row-wise, in place. */
    void (*softmax_backward)(float *ds, const float *p, float scale, size_t rows, size_t n);
    /* Between a line of `pixels` and the two lines of twice as many above and below each other:
     * spread: all four places = weight * from, or +=; gather: to = weight * their sum, or +=. */
    void (*spread)(float *above, float *below, size_t ld, const float *from, size_t ld_from,
                   float weight, bool add, size_t pixels, size_t channels);
    void (*gather)(float *to, size_t ld_to, const float *above, const float *below, size_t ld,
                   float weight, bool add, size_t pixels, size_t channels);
    /* Sum of squares, in float over short runs and in double over those. */
    double (*squares)(const float *x, size_t count);
    void (*adamw)(const dscm_adamw_run *run);
    /* out = a + b; either may be `out`. */
    void (*add)(float *out, const float *a, const float *b, size_t count);
} dscm_nn_kernels;

extern const dscm_nn_kernels dscm_nn_kernels_base;
#if defined(__x86_64__)
extern const dscm_nn_kernels dscm_nn_kernels_avx2, dscm_nn_kernels_avx512;
#endif

/* The table of an instruction set that this processor runs. */
static inline const dscm_nn_kernels *dscm_nn_kernels_of(dscm_isa isa)
{
#if defined(__x86_64__)
    if (isa == DSCM_ISA_AVX512) return &dscm_nn_kernels_avx512;
    if (isa == DSCM_ISA_AVX2) return &dscm_nn_kernels_avx2;
#endif
    (void)isa;
    return &dscm_nn_kernels_base;
}

#endif
