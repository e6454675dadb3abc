/* MorphoMNIST with thickness and intensity (Castro et al. 2019; Pawlowski, Castro & Glocker 2020):
 * measuring images of strokes, rendering them with other values, and the data set's causal model
 *
 *     thickness t = .5 + Gamma(shape 10, rate 5)            pixels
 *     intensity i = 64 + 191 sigmoid(2 t - 5 + .5 eps)      grey levels, eps ~ N(0, 1)
 *     image <- digit, t, i and the handwriting
 *
 * Images are 8-bit, bright on dark, one channel, sides 1..64. Results agree bit for bit with the
 * published images. A scratch belongs to one thread at a time.
 */
#ifndef DSCM_CORE_DATA_MORPHO_H
#define DSCM_CORE_DATA_MORPHO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/base/rng.h"

#define DSCM_MORPHO_INTENSITY_MIN 64.0
#define DSCM_MORPHO_INTENSITY_MAX 255.0

typedef struct dscm_morpho dscm_morpho;

/* All memory for images of h x w. Caller owns *out. */
dscm_code dscm_morpho_open(dscm_morpho **out, size_t h, size_t w, dscm_error *err) DSCM_MUST_CHECK;
void dscm_morpho_free(dscm_morpho *morpho); /* takes NULL */

typedef struct dscm_morphometry {
    double thickness; /* pixels: twice the mean distance to the background on the medial axis of the
                         image enlarged 4-fold and cut at the middle of its range; 0 where all
                         pixels are equal */
    double intensity; /* 0..255: median of the pixels at or above the middle of the range */
    double slant;     /* radians: arctan(-u11/u02) of the enlarged image; 0 without a stroke */
} dscm_morphometry;

/* pixels (h,w). */
void dscm_morpho_measure(dscm_morpho *morpho, const uint8_t *pixels, dscm_morphometry *out);

/* Draws `source` (h,w) with another thickness (pixels, > 0) and intensity (0..255) into out (h,w).
 * A source whose pixels are all equal has no stroke and gives a blank image, as does erosion that
 * leaves nothing. */
void dscm_morpho_render(dscm_morpho *morpho, uint8_t *out, const uint8_t *source, double thickness,
                        double intensity);

/* The intensity mechanism, and its noise given both values (intensity strictly in 64..255). */
double dscm_morpho_intensity(double thickness, double noise);
double dscm_morpho_noise(double thickness, double intensity);

/* Draws both variables of an individual. confounded: thickness follows the digit instead,
 * t = 1 + .3 digit + .3 eps limited to .9..5.5. Values are rounded to float, so that nine digits
 * name them exactly. */
void dscm_morpho_draw(dscm_rng *rng, int digit, bool confounded, double *thickness,
                      double *intensity);

#endif
