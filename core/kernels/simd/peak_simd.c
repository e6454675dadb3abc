#include "core/kernels/simd/peak_simd.h"

#include "core/kernels/simd/vec.h"

/* Latency (4 cycles, 8 for separate multiply and add) times two units, with some to spare, and
 * still within the registers: 32 of them for AVX-512 and arm64, 16 otherwise. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define CHAINS 20
#else
#define CHAINS 12
#endif
#define STREAMS 4

static float multiply_add(size_t rounds)
{
    vf acc[CHAINS], factor = splat(0.5f), term = splat(0.5f); /* tends to 1 */
    __asm__ volatile("" : "+m"(factor), "+m"(term)); /* unknown to the compiler from here on */
    vf f = factor, t = term;
    for (int i = 0; i < CHAINS; i++) acc[i] = splat((float)i);
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 20
        for (int i = 0; i < CHAINS; i++) acc[i] = acc[i] * f + t;
    }
    vf sum = acc[0];
    for (int i = 1; i < CHAINS; i++) sum += acc[i];
    return vsum(sum);
}

static float read_stream(const float *x, size_t count)
{
    vf sum[STREAMS] = {0};
    for (size_t i = 0; i < count; i += STREAMS * VW)
        for (int s = 0; s < STREAMS; s++) sum[s] += load(x + i + (size_t)(s * VW));
    return vsum(sum[0] + sum[1] + sum[2] + sum[3]);
}

const dscm_peak_kernels ISA(dscm_peak_kernels) = {
    .flops_per_round = 2.0 * CHAINS * VW, .multiply_add = multiply_add, .read = read_stream};
