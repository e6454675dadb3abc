/* Vector types of the instruction set this file is compiled for, and the suffix of its symbols.
 *
 * Each source in this folder is compiled once per instruction set (see Makefile) with
 * DSCM_ISA_SUFFIX = base, avx2 or avx512. GCC's vector extensions carry the arithmetic, so the same
 * lines serve SSE2, AVX2, AVX-512 and NEON. Vectors are loaded and stored unaligned.
 */
#ifndef DSCM_CORE_KERNELS_SIMD_VEC_H
#define DSCM_CORE_KERNELS_SIMD_VEC_H

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VW 16 /* floats per vector */
#define MR 14 /* rows of a register tile: MR x 2 accumulators, 2 operands, 1 broadcast */
#elif defined(__AVX2__)
#define VW 8
#define MR 6
#else
#define VW 4
#define MR 6
#endif
#define CB (2 * VW) /* columns of a register tile */

typedef float vf __attribute__((vector_size(4 * VW)));
typedef int32_t vi __attribute__((vector_size(4 * VW)));
typedef float vfu __attribute__((vector_size(4 * VW), aligned(4), may_alias));

#define DSCM_JOIN2(a, b) a##_##b
#define DSCM_JOIN(a, b)  DSCM_JOIN2(a, b)
#define ISA(name)        DSCM_JOIN(name, DSCM_ISA_SUFFIX)
#define INLINE           static inline __attribute__((always_inline))

/* Makes a pointer's origin unknown to the compiler, which would otherwise keep an index register
 * for every row of a tile and spill sums to make room for them. */
#define OPAQUE(p) __asm__("" : "+r"(p))

INLINE vf load(const float *p)
{
    return *(const vfu *)p;
}

INLINE void store(float *p, vf v)
{
    *(vfu *)p = v;
}

INLINE vf splat(float x)
{
    return x - (vf){0};
}

/* a where the mask is all ones, b where it is zero. */
INLINE vf vselect(vi mask, vf a, vf b)
{
    return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}

/* Instructions that the compiler does not find behind vector expressions. */
#if defined(__AVX512F__)
INLINE vf vmax(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

INLINE vf vmin(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
#elif defined(__AVX2__)
INLINE vf vmax(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

INLINE vf vmin(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
#else
INLINE vf vmax(vf a, vf b)
{
    return vselect(a > b, a, b);
}

INLINE vf vmin(vf a, vf b)
{
    return vselect(a < b, a, b);
}
#endif

INLINE vf vsqrt(vf v)
{
#if defined(__AVX512F__)
    return _mm512_sqrt_ps(v);
#elif defined(__AVX2__)
    return _mm256_sqrt_ps(v);
#else
    for (int i = 0; i < VW; i++) v[i] = __builtin_sqrtf(v[i]);
    return v;
#endif
}

INLINE float vsum(vf v)
{
    float sum = 0;
    for (int i = 0; i < VW; i++) sum += v[i];
    return sum;
}

#endif
