#include "core/kernels/attention.h"

#include <string.h>

#include "core/base/memory.h"
#include "core/kernels/conv_internal.h"
#include "core/kernels/simd/nn_simd.h"
#include "core/kernels/simd/pack_simd.h"

#define QUERIES ((size_t)56) /* of a group: whole register tiles, scores in second-level cache */

/* Rows of scores lie an odd number of cache lines apart: not in the same set of the cache. */
static size_t score_step(size_t n)
{
    size_t line = DSCM_ALIGN / sizeof(float);
    return ((n + line - 1) / line | 1) * line;
}

static size_t packed_floats(size_t rows, size_t columns, size_t block)
{
    return rows * ((columns + block - 1) / block * block);
}

size_t dscm_attention_scratch(dscm_isa isa, size_t n, size_t ch)
{
    size_t block = dscm_conv_kernels_of(isa)->block;
    return dscm_arena_round(
        (packed_floats(ch, n, block) + packed_floats(n, ch, block) + QUERIES * score_step(n)) *
        sizeof(float));
}

/* to (blocks, ch, block) = kᵀ, zeros beyond the last pixel. */
static void pack_keys(float *to, const dscm_pack_kernels *p, const float *k, size_t ld, size_t n,
                      size_t ch, size_t block)
{
    for (size_t first = 0; first < n; first += block, to += ch * block) {
        size_t rows = n - first < block ? n - first : block;
        if (rows < block) memset(to, 0, ch * block * sizeof *to);
        p->transpose(to, block, k + first * ld, ld, rows, ch);
    }
}

/* to (blocks, n, block) = v, zeros beyond the last channel. */
static void pack_values(float *to, const float *v, size_t ld, size_t n, size_t ch, size_t block)
{
    for (size_t first = 0; first < ch; first += block) {
        size_t columns = ch - first < block ? ch - first : block;
        for (size_t p = 0; p < n; p++, to += block) {
            memcpy(to, v + p * ld + first, columns * sizeof *to);
            if (columns < block) memset(to + columns, 0, (block - columns) * sizeof *to);
        }
    }
}

void dscm_attention_rows(dscm_isa isa, float *out, size_t ldo, const float *q, const float *k,
                         const float *v, size_t ldi, size_t n, size_t ch, float scale, size_t first,
                         size_t count, float *scratch)
{
    const dscm_conv_kernels *kernels = dscm_conv_kernels_of(isa);
    size_t block = kernels->block, step = score_step(n);
    float *keys = scratch, *values = keys + packed_floats(ch, n, block);
    float *scores = values + packed_floats(n, ch, block);
    pack_keys(keys, dscm_pack_kernels_of(isa), k, ldi, n, ch, block);
    pack_values(values, v, ldi, n, ch, block);
    for (size_t end = first + count; first < end; first += count) {
        count = end - first < QUERIES ? end - first : QUERIES;
        /* S (count,n) = q (count,ch) · kᵀ */
        kernels->multiply(&(dscm_multiply){.out = scores,
                                           .ldo = step,
                                           .in = q + first * ldi,
                                           .in_step = ldi,
                                           .segs = 1,
                                           .k = ch,
                                           .w = keys,
                                           .pixels = count,
                                           .cols = n});
        dscm_nn_kernels_of(isa)->softmax(scores, step, scale, count, n);
        /* out (count,ch) = S · v */
        kernels->multiply(&(dscm_multiply){.out = out + first * ldo,
                                           .ldo = ldo,
                                           .in = scores,
                                           .in_step = step,
                                           .segs = 1,
                                           .k = n,
                                           .w = values,
                                           .pixels = count,
                                           .cols = ch});
    }
}
