/* Binary images: exact distance transform, medial axis, and growing by a structuring element.
 *
 * What the morphometry of core/data/morpho.h is made of. Everything is written into scratch memory
 * that the caller opened for one size; a scratch belongs to one thread at a time.
 */
#ifndef DSCM_CORE_DATA_SKELETON_H
#define DSCM_CORE_DATA_SKELETON_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

/* A binary image of h x w pixels, 0 or 1, with a border of one pixel that stays 0: pixel (y, x) is
 * at pixels[(y + 1) * (w + 2) + x + 1]. */
typedef struct dscm_skeleton {
    size_t h, w;
    uint8_t *pixels;   /* (h + 2, w + 2), the caller writes it */
    uint8_t *axis;     /* (h + 2, w + 2), the medial axis after dscm_skeleton_thickness */
    uint32_t *squared; /* (h, w) squared distance of a foreground pixel to the background */
    uint32_t *column;  /* (h, w) distance to the background within the column */
    uint32_t *order;   /* (h * w) foreground pixels as they are visited */
    uint32_t *rank;    /* (h * w) */
    uint32_t *starts;  /* (buckets) of the counting sort */
    uint64_t *bits, *wide, *grown; /* (h, words) */
    size_t words;                  /* of 64 pixels, per row */
} dscm_skeleton;

/* Images of at most 1024 x 1024. The scratch is empty after a failure. */
dscm_code dscm_skeleton_open(dscm_skeleton *s, size_t h, size_t w, dscm_error *err) DSCM_MUST_CHECK;
void dscm_skeleton_close(dscm_skeleton *s); /* takes an empty one */

/* Twice the mean distance to the background on the medial axis, in pixels; 0 where there is no
 * foreground or no background. The order of ties is that of numpy's RandomState(0).permutation over
 * the foreground in row order, as in scikit-image before version 0.21. */
double dscm_skeleton_thickness(dscm_skeleton *s);

/* Grows the foreground (grow) or the background by the element of a radius; what is outside of the
 * image takes no part. The element is no disc: it is where a disc of radius 16 r, reduced 16-fold
 * with a Gaussian, is not 0. */
void dscm_skeleton_dilate(dscm_skeleton *s, size_t radius, int grow);

/* Half width of the element's rows: spans[i] columns left and right of the middle are in row i of
 * 0..2r, -1: none. Returns the number of cells. */
size_t dscm_skeleton_element(int *spans, size_t radius);

#endif
