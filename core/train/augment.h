/* Pictures moved at random, for training. Internal to core/train. */
#ifndef DSCM_CORE_TRAIN_AUGMENT_H
#define DSCM_CORE_TRAIN_AUGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/rng.h"

/* Largest random changes: turn (radians), scale (relative), shift (pixels), shear and stretch across
 * (relative); uniform up to these. A shear or stretch of 0 is not drawn. */
typedef struct dscm_augmentation {
    float angle, scale, shift, shear, stretch;
} dscm_augmentation;

/* pixels: (h,w,c) bytes. */
typedef struct dscm_picture {
    const uint8_t *pixels;
    size_t h, w, c;
} dscm_picture;

/* x: (h,w,c) on [-1,1], sampled bilinearly; outside is background (-1). */
void dscm_augment_picture(float *x, const dscm_picture *p, const dscm_augmentation *m,
                          dscm_rng *rng);

/* out (h,w,c) bytes: mirrored left to right or not, then moved by dy, dx whole pixels (positive: down,
 * to the right); the edge's pixels are repeated where nothing comes in. */
void dscm_move_picture(uint8_t *out, const dscm_picture *p, bool mirrored, ptrdiff_t dy,
                       ptrdiff_t dx);

#endif
