/* Random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011), a counter-based generator.
 *
 * A generator is a value named by (seed, stream): giving every image or training sample its own
 * stream makes results independent of batch size and thread count, and a position can be stored in
 * a checkpoint. Not for secrets: identifiers and keys come from the operating system.
 */
#ifndef DSCM_CORE_BASE_RNG_H
#define DSCM_CORE_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct dscm_rng {
    uint64_t seed, stream, counter;
    uint32_t block[4];
    int left; /* words of `block` not yet handed out */
} dscm_rng;

dscm_rng dscm_rng_make(uint64_t seed, uint64_t stream);
uint32_t dscm_rng_u32(dscm_rng *rng);
/* Uniform in 0..n-1, unbiased; n >= 1. */
uint32_t dscm_rng_below(dscm_rng *rng, uint32_t n);
/* Uniform in [0, 1), 24 bits. */
float dscm_rng_uniform(dscm_rng *rng);
/* Standard normal by the Box-Muller transform. */
void dscm_rng_normal(dscm_rng *rng, float *out, size_t count);
/* A random order of 0..count-1 in `order` (Fisher-Yates). */
void dscm_rng_permute(dscm_rng *rng, uint32_t *order, uint32_t count);

#endif
