/* The buffers of a walk in tests. */
#ifndef DSCM_TESTS_CORE_DIFFUSION_WALK_MEMORY_H
#define DSCM_TESTS_CORE_DIFFUSION_WALK_MEMORY_H

#include "core/diffusion/sampler.h"

/* memory: six buffers of (batch, size) one after the other, the first for the images. */
static inline dscm_walk walk_on(float *memory, float *residual, size_t batch, size_t size,
                                size_t channels)
{
    const size_t floats = batch * size;
    return (dscm_walk){.batch = batch,
                       .size = size,
                       .channels = channels,
                       .x = memory,
                       .pair = memory + floats,
                       .residual = residual,
                       .eps = memory + 2 * floats,
                       .grad = memory + 3 * floats,
                       .x0 = memory + 4 * floats,
                       .spare = memory + 5 * floats};
}

#endif
