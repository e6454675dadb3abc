/* The limits of the machine that kernels are judged by: multiply-adds that never leave the
 * registers, and streams that never meet a cache. One table per instruction set.
 *
 * Not used by any network; `diffscm bench` measures with it. The loops are pure functions.
 */
#ifndef DSCM_CORE_KERNELS_SIMD_PEAK_SIMD_H
#define DSCM_CORE_KERNELS_SIMD_PEAK_SIMD_H

#include <stddef.h>

#include "core/base/cpu.h"

typedef struct dscm_peak_kernels {
    double flops_per_round; /* multiplications and additions of one round of `multiply_add` */
    /* Enough independent chains to fill every multiply-add unit; the result keeps the compiler
     * honest and is finite. Instruction sets without a fused instruction multiply, then add. */
    float (*multiply_add)(size_t rounds);
    /* Reads `count` floats, a multiple of 64, once, in order. */
    float (*read)(const float *x, size_t count);
} dscm_peak_kernels;

extern const dscm_peak_kernels dscm_peak_kernels_base;
#if defined(__x86_64__)
extern const dscm_peak_kernels dscm_peak_kernels_avx2, dscm_peak_kernels_avx512;
#endif

/* The table of an instruction set that this processor runs. */
static inline const dscm_peak_kernels *dscm_peak_kernels_of(dscm_isa isa)
{
#if defined(__x86_64__)
    if (isa == DSCM_ISA_AVX512) return &dscm_peak_kernels_avx512;
    if (isa == DSCM_ISA_AVX2) return &dscm_peak_kernels_avx2;
#endif
    (void)isa;
    return &dscm_peak_kernels_base;
}

#endif
