/* Conversions between float32 and the two 16-bit formats, rounding to nearest even. */
#ifndef DSCM_CORE_BASE_HALF_H
#define DSCM_CORE_BASE_HALF_H

#include <stdint.h>
#include <string.h>

/* How a row of weights is stored. */
typedef enum dscm_store { DSCM_STORE_F32, DSCM_STORE_F16, DSCM_STORE_BF16 } dscm_store;

static inline float dscm_bits_float(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static inline uint32_t dscm_float_bits(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static inline float dscm_half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 1023u;
    if (exponent == 31) return dscm_bits_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) { /* zero or subnormal: mantissa * 2^-24 */
        float v = (float)mantissa * 0x1p-24f;
        return sign ? -v : v;
    }
    return dscm_bits_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

static inline uint16_t dscm_float_to_half(float v)
{
    uint32_t bits = dscm_float_bits(v), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);  /* NaN */
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds beyond 65504 */
    if (magnitude < 0x38800000u) { /* below 2^-14: subnormal; the sum rounds at bit 0 */
        float shifted = dscm_bits_float(magnitude) + 0.5f;
        return (uint16_t)(sign | (dscm_float_bits(shifted) - 0x3f000000u));
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}

static inline float dscm_bf16_to_float(uint16_t h)
{
    return dscm_bits_float((uint32_t)h << 16);
}

static inline uint16_t dscm_float_to_bf16(float v)
{
    uint32_t bits = dscm_float_bits(v);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif
