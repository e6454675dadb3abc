#include "core/base/rng.h"

#include <math.h>

#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u
#define ROUNDS    10

static void philox(uint32_t out[4], const uint32_t counter[4], uint32_t k0, uint32_t k1)
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)PHILOX_M0 * c0, p1 = (uint64_t)PHILOX_M1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

dscm_rng dscm_rng_make(uint64_t seed, uint64_t stream)
{
    return (dscm_rng){.seed = seed, .stream = stream};
}

uint32_t dscm_rng_u32(dscm_rng *rng)
{
    if (rng->left == 0) {
        uint32_t counter[4] = {(uint32_t)rng->counter, (uint32_t)(rng->counter >> 32),
                               (uint32_t)rng->stream, (uint32_t)(rng->stream >> 32)};
        philox(rng->block, counter, (uint32_t)rng->seed, (uint32_t)(rng->seed >> 32));
        rng->counter++;
        rng->left = 4;
    }
    return rng->block[4 - rng->left--];
}

uint32_t dscm_rng_below(dscm_rng *rng, uint32_t n)
{
    uint32_t limit = UINT32_MAX - UINT32_MAX % n;
    uint32_t word;
    do word = dscm_rng_u32(rng);
    while (word >= limit);
    return word % n;
}

float dscm_rng_uniform(dscm_rng *rng)
{
    return (float)(dscm_rng_u32(rng) >> 8) * 0x1p-24f;
}

void dscm_rng_normal(dscm_rng *rng, float *out, size_t count)
{
    const float two_pi = 6.28318530717958648f;
    for (size_t i = 0; i < count; i += 2) {
        float u = 1.0f - dscm_rng_uniform(rng); /* (0, 1]: the logarithm stays finite */
        float angle = two_pi * dscm_rng_uniform(rng);
        float radius = sqrtf(-2.0f * logf(u));
        out[i] = radius * cosf(angle);
        if (i + 1 < count) out[i + 1] = radius * sinf(angle);
    }
}

void dscm_rng_permute(dscm_rng *rng, uint32_t *order, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) order[i] = i;
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = dscm_rng_below(rng, i);
        uint32_t held = order[i - 1];
        order[i - 1] = order[j];
        order[j] = held;
    }
}
