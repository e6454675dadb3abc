/* Conversion and transposition of weights, one table per instruction set. Internal to core. */
#ifndef DSCM_CORE_KERNELS_SIMD_PACK_SIMD_H
#define DSCM_CORE_KERNELS_SIMD_PACK_SIMD_H

#include <stddef.h>

#include "core/base/cpu.h"
#include "core/base/half.h"

typedef struct dscm_pack_kernels {
    /* out[i] = in[i]; `in` holds values of `type` at any alignment. */
    void (*widen)(float *out, const void *in, size_t count, dscm_store type);
    /* The reverse, rounding to nearest even; `out` at any alignment. */
    void (*narrow)(void *out, const float *in, size_t count, dscm_store type);
    /* out[j * out_step + r] = in[r * in_step + j] for r < rows, j < columns. */
    void (*transpose)(float *out, size_t out_step, const float *in, size_t in_step, size_t rows,
                      size_t columns);
    /* out[at[j] + r] = in[r * in_step + j] for r < rows, j < columns; `in` holds values of `type`
     * at any alignment. */
    void (*scatter)(float *out, const size_t *at, const void *in, size_t in_step, size_t rows,
                    size_t columns, dscm_store type);
} dscm_pack_kernels;

extern const dscm_pack_kernels dscm_pack_kernels_base;
#if defined(__x86_64__)
extern const dscm_pack_kernels dscm_pack_kernels_avx2, dscm_pack_kernels_avx512;
#endif

/* The table of an instruction set that this processor runs. */
static inline const dscm_pack_kernels *dscm_pack_kernels_of(dscm_isa isa)
{
#if defined(__x86_64__)
    if (isa == DSCM_ISA_AVX512) return &dscm_pack_kernels_avx512;
    if (isa == DSCM_ISA_AVX2) return &dscm_pack_kernels_avx2;
#endif
    (void)isa;
    return &dscm_pack_kernels_base;
}

#endif
