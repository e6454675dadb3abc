/* Drawings on paper, for models of light ink on a dark ground. Pure functions; greyscale, 8 bits. */
#ifndef DSCM_CORE_IMAGE_INK_H
#define DSCM_CORE_IMAGE_INK_H

#include "core/base/error.h"
#include "core/image/picture.h"

/* Mean level, 0..255, of the outermost pixels (h,w). */
double dscm_border_level(const uint8_t *pixels, size_t h, size_t w);

/* A border lighter than this, 0..255, is paper: what is drawn on it is darker. */
#define DSCM_PAPER_MIN 160.0

/* Dark ink on paper of mean level `paper` as light ink on black, out (oh,ow). A picture of that very size
 * is inverted, 255 - v. From a larger one only what is clearly darker than paper is taken, so that
 * shadows do not count; its longer side fills 20/28 of the output's shorter one, its centre of mass
 * is in the middle, as MNIST's digits are, and lines thinner than a pixel are broadened. */
dscm_code dscm_ink_fit(uint8_t *out, size_t oh, size_t ow, const dscm_picture *in, double paper,
                       dscm_error *err) DSCM_MUST_CHECK;

#endif
