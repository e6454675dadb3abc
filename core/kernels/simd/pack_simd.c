#include "core/kernels/simd/pack_simd.h"

#include <stdbool.h>

#include "core/kernels/simd/vec.h"

typedef uint16_t vh __attribute__((vector_size(2 * VW)));
typedef uint16_t vhu __attribute__((vector_size(2 * VW), aligned(1), may_alias));
typedef uint32_t vu __attribute__((vector_size(4 * VW)));

/* ---- float16 and bfloat16 ---- */
/* Exponent and mantissa move into place and 2^112 corrects the bias, for subnormals too; infinity
 * and NaN get the largest exponent. */
INLINE vf widen_f16(vu h)
{
    vu magnitude = h & 0x7fff;
    vf scaled = (vf)(magnitude << 13) * 0x1p112f;
    vu special = (vu)(magnitude > 0x7bff) & 0x7f800000;
    return (vf)((vu)scaled | special | (h & 0x8000) << 16);
}

/* The vector at any address. */
INLINE vf load_as(const unsigned char *from, const dscm_store type)
{
    if (type == DSCM_STORE_F32) return load((const float *)(const void *)from);
#if defined(__AVX512F__)
    if (type == DSCM_STORE_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
#elif defined(__F16C__)
    if (type == DSCM_STORE_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
#endif
    vu h = __builtin_convertvector(*(const vhu *)from, vu);
    return type == DSCM_STORE_F16 ? widen_f16(h) : (vf)(h << 16);
}

static void widen(float *out, const void *in, size_t count, dscm_store type)
{
    size_t i = 0;
    if (type == DSCM_STORE_F32) {
        memcpy(out, in, count * sizeof *out);
        return;
    }
    const unsigned char *from = in;
    for (; i + VW <= count; i += VW)
        store(out + i, type == DSCM_STORE_F16 ? load_as(from + 2 * i, DSCM_STORE_F16)
                                              : load_as(from + 2 * i, DSCM_STORE_BF16));
    for (; i < count; i++) {
        uint16_t h;
        memcpy(&h, from + 2 * i, 2);
        out[i] = type == DSCM_STORE_F16 ? dscm_half_to_float(h) : dscm_bf16_to_float(h);
    }
}

/* See dscm_float_to_half: the three ranges are computed side by side and chosen by masks. */
INLINE vu narrow_f16(vu bits)
{
    vu sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    vu normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13;
    vu small = (vu)((vf)magnitude + 0.5f) - 0x3f000000;
    vu is_small = (vu)(magnitude < 0x38800000), is_large = (vu)(magnitude >= 0x477ff000);
    vu is_nan = (vu)(magnitude > 0x7f800000);
    vu value = (small & is_small) | (normal & ~is_small);
    value = (0x7c00 & is_large) | (value & ~is_large);
    return sign | value | (0x200 & is_nan);
}

INLINE vu narrow_bf16(vu bits)
{
    vu is_nan = (vu)((bits & 0x7fffffff) > 0x7f800000);
    vu rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return ((bits >> 16 | 0x40) & is_nan) | (rounded & ~is_nan);
}

static void narrow(void *out, const float *in, size_t count, dscm_store type)
{
    size_t i = 0;
    if (type == DSCM_STORE_F32) {
        memcpy(out, in, count * sizeof *in);
        return;
    }
    unsigned char *to = out;
    for (; i + VW <= count; i += VW) {
        vu bits = (vu)load(in + i);
        vu h = type == DSCM_STORE_F16 ? narrow_f16(bits) : narrow_bf16(bits);
        *(vhu *)(to + 2 * i) = __builtin_convertvector(h, vh);
    }
    for (; i < count; i++) {
        uint16_t h = type == DSCM_STORE_F16 ? dscm_float_to_half(in[i]) : dscm_float_to_bf16(in[i]);
        memcpy(to + 2 * i, &h, 2);
    }
}

/* ---- transposition ---- */
/* Lanes of the pair (a, b), 0..VW-1 of them a's, as `lanes` says. */
INLINE vf pick(vf a, vf b, vi lanes)
{
#ifdef __clang__ /* which has this builtin for constant lanes only */
    vf out = a;
    for (int l = 0; l < VW; l++) out[l] = lanes[l] < VW ? a[lanes[l]] : b[lanes[l] - VW];
    return out;
#else
    return __builtin_shuffle(a, b, lanes);
#endif
}

/* Exchanges the off-diagonal quarters of ever smaller squares. */
INLINE void transpose_square(vf *v)
{
#pragma GCC unroll 4
    for (int s = VW / 2; s >= 1; s /= 2) {
        vi low = {0}, high = {0};
#pragma GCC unroll 16
        for (int l = 0; l < VW; l++) {
            low[l] = l & s ? VW + l - s : l;
            high[l] = l & s ? VW + l : l + s;
        }
#pragma GCC unroll 16
        for (int i = 0; i < VW; i++) {
            if (i & s) continue;
            vf a = v[i], b = v[i | s];
            v[i] = pick(a, b, low);
            v[i | s] = pick(a, b, high);
        }
    }
}

static void transpose(float *out, size_t out_step, const float *in, size_t in_step, size_t rows,
                      size_t columns)
{
    size_t r = 0;
    for (; r + VW <= rows; r += VW) {
        size_t j = 0;
        for (; j + VW <= columns; j += VW) {
            vf v[VW];
#pragma GCC unroll 16
            for (size_t i = 0; i < VW; i++) v[i] = load(in + (r + i) * in_step + j);
            transpose_square(v);
#pragma GCC unroll 16
            for (size_t i = 0; i < VW; i++) store(out + (j + i) * out_step + r, v[i]);
        }
        for (; j < columns; j++)
            for (size_t i = 0; i < VW; i++) out[j * out_step + r + i] = in[(r + i) * in_step + j];
    }
    for (; r < rows; r++)
        for (size_t j = 0; j < columns; j++) out[j * out_step + r] = in[r * in_step + j];
}

/* A square of `rows` x `columns` <= VW x VW of the scatter. */
INLINE void scatter_square(float *out, const size_t *at, const unsigned char *in, size_t row_bytes,
                           size_t rows, size_t columns, const dscm_store type)
{
    const size_t width = type == DSCM_STORE_F32 ? 4 : 2;
    vf v[VW];
    if (columns == VW && rows == VW) {
#pragma GCC unroll 16
        for (size_t i = 0; i < VW; i++) v[i] = load_as(in + i * row_bytes, type);
    } else { /* what a row lacks is read from those behind it while there are any */
        const size_t end = (rows - 1) * row_bytes + columns * width;
#pragma GCC unroll 16
        for (size_t i = 0; i < VW; i++) {
            unsigned char part[4 * VW] = {0};
            const unsigned char *from = in + i * row_bytes;
            bool whole = i * row_bytes + VW * width <= end;
            if (!whole && i < rows) memcpy(part, from, columns * width);
            v[i] = load_as(whole ? from : part, type);
        }
    }
    transpose_square(v);
    if (columns == VW && rows == VW) {
#pragma GCC unroll 16
        for (size_t i = 0; i < VW; i++) store(out + at[i], v[i]);
    } else if (rows == VW) {
#pragma GCC unroll 16
        for (size_t i = 0; i < VW; i++)
            if (i < columns) store(out + at[i], v[i]);
    } else {
        for (size_t i = 0; i < columns; i++) memcpy(out + at[i], &v[i], rows * sizeof *out);
    }
}

INLINE void scatter_as(float *out, const size_t *at, const unsigned char *in, size_t row_bytes,
                       size_t rows, size_t columns, const dscm_store type)
{
    const size_t width = type == DSCM_STORE_F32 ? 4 : 2;
    for (size_t r = 0; r < rows; r += VW)
        for (size_t j = 0; j < columns; j += VW)
            scatter_square(out + r, at + j, in + r * row_bytes + j * width, row_bytes,
                           rows - r < VW ? rows - r : VW, columns - j < VW ? columns - j : VW,
                           type);
}

static void scatter(float *out, const size_t *at, const void *in, size_t in_step, size_t rows,
                    size_t columns, dscm_store type)
{
    if (type == DSCM_STORE_F32)
        scatter_as(out, at, in, in_step * 4, rows, columns, DSCM_STORE_F32);
    else if (type == DSCM_STORE_F16)
        scatter_as(out, at, in, in_step * 2, rows, columns, DSCM_STORE_F16);
    else
        scatter_as(out, at, in, in_step * 2, rows, columns, DSCM_STORE_BF16);
}

const dscm_pack_kernels ISA(dscm_pack_kernels) = {
    .widen = widen, .narrow = narrow, .transpose = transpose, .scatter = scatter};
