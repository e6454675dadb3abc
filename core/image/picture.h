/* A decoded image file: 8-bit pixels, greyscale or RGB, and what is accepted. Plain data. */
#ifndef DSCM_CORE_IMAGE_PICTURE_H
#define DSCM_CORE_IMAGE_PICTURE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dscm_picture {
    size_t h, w, c;  /* c = 1 or 3 */
    uint8_t *pixels; /* (H,W,C), from malloc; owned */
} dscm_picture;

typedef struct dscm_picture_limits {
    size_t side;   /* largest width or height */
    size_t pixels; /* largest width x height */
} dscm_picture_limits;

void dscm_picture_free(dscm_picture *picture); /* takes an empty one; leaves it empty */

#ifdef __cplusplus
}
#endif

#endif
