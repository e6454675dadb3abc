/* Self-attention of one head without a matrix library: out = softmax(scale q kᵀ) v.
 *
 * Queries are worked through in groups, so that the n x n scores never exist as a whole. Row r of
 * the result depends on query r only: a team may share the queries of a head in any way and gets
 * the same bits. No state; any thread.
 */
#ifndef DSCM_CORE_KERNELS_ATTENTION_H
#define DSCM_CORE_KERNELS_ATTENTION_H

#include <stddef.h>

#include "core/base/cpu.h"

/* Bytes of scratch for a head of n pixels and ch channels. */
size_t dscm_attention_scratch(dscm_isa isa, size_t n, size_t ch);

/* out (n,ch) ldo: rows first..first+count-1 are written. q, k, v: (n,ch) each, row stride ldi. */
void dscm_attention_rows(dscm_isa isa, float *out, size_t ldo, const float *q, const float *k,
                         const float *v, size_t ldi, size_t n, size_t ch, float scale, size_t first,
                         size_t count, float *scratch);

#endif
