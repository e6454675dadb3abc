/* Pictures moved at random, for training, and pictures set upright. Internal to core/train. */
#ifndef DSCM_CORE_TRAIN_AUGMENT_H
#define DSCM_CORE_TRAIN_AUGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/rng.h"

/* Largest random moves: turn (radians), scale (relative), shift (pixels), shear and stretch across
 * (relative); uniform up to these. bend: standard deviation (pixels) of the displacements at 5x5
 * knots over the picture, smooth between them. stroke: how far lines grow or thin, 1 is a pixel on
 * every side. A move of 0 is not drawn. */
typedef struct dscm_augmentation {
    float angle, scale, shift, shear, stretch, bend, stroke;
} dscm_augmentation;

/* pixels: (h,w,c) bytes. */
typedef struct dscm_picture {
    const uint8_t *pixels;
    size_t h, w, c;
} dscm_picture;

/* x: (h,w,c) on [-1,1], sampled bilinearly; outside is background (-1). scratch: as large as x,
 * used when m->stroke > 0. */
void dscm_augment_picture(float *x, const dscm_picture *p, const dscm_augmentation *m,
                          dscm_rng *rng, float *scratch);

/* x: (h,w,c) on [-1,1]: its centre of brightness in the middle, its main line from top to bottom
 * (sheared until brightness no longer leans), at one height and roughly one width. Learns nothing
 * from labels. */
void dscm_deskew_picture(float *x, const dscm_picture *p);

#endif
