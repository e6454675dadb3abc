/* A coarse look at a picture: statistics of 7x7 blocks. Pure functions. */
#ifndef DSCM_CORE_IMAGE_BLOCKS_H
#define DSCM_CORE_IMAGE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#define DSCM_BLOCKS_SIDE     7
#define DSCM_BLOCKS_FEATURES (2 * DSCM_BLOCKS_SIDE * DSCM_BLOCKS_SIDE)

/* Means of the blocks, row by row, then their standard deviations, in 0..255, of the pixels (h,w,c); of
 * several channels the mean counts. Block k of a side covers k*h/7 .. (k+1)*h/7 - 1; one that is empty,
 * in a picture of less than 7 pixels, is 0. out (DSCM_BLOCKS_FEATURES). */
void dscm_block_statistics(float *out, const uint8_t *pixels, size_t h, size_t w, size_t c);

#endif
