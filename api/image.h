/* Between image files and the pixels of a model: decode, fit, encode. Pure functions.
 *
 * The only users of core/image/check.h, core/image/png.h, core/image/jpeg.h, core/image/ink.h and
 * core/image/resize.h inside the API layer. */
#ifndef DSCM_API_IMAGE_H
#define DSCM_API_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/problem.h"
#include "core/diffscm.h"
#include "core/image/picture.h"

/* Pictures of at least so many pixels are accepted, for greyscale models too: what people photograph
 * with a telephone has 12 to 16 million. */
#define DSCM_IMAGE_PIXELS ((size_t)1 << 24)
/* Largest width or height where nothing else is said. */
#define DSCM_IMAGE_SIDE_MAX ((size_t)8192)

/* What a model accepts; it grows with the model's own image. side_max: as below, 0 for the default.
 * image NULL: what every model accepts. */
dscm_picture_limits dscm_image_limits(const dscm_variable *image, size_t side_max);

/* Pixels (H,W,C) of the image variable from a PNG or JPEG file. An image of another size is fitted
 * by the rule of its kind (greyscale models: area average, aspect kept, centred on the background;
 * colour: shorter side resized, centre cropped), or refused when `resize` is false. Dark ink on light
 * paper is made light ink (core/image/ink.h) for a model of light ink on a dark ground, and *inverted
 * says so. side_max: the largest width or height accepted. Caller frees; NULL with an error added to
 * `problem` at `pointer`. */
uint8_t *dscm_image_decode(const dscm_variable *image, const void *bytes, size_t size,
                           size_t side_max, bool resize, const char *pointer, bool *inverted,
                           dscm_problem *problem);
/* Looks at the head of the file alone: false, with an error added at `pointer`, for what decoding would
 * refuse for its format, kind or size. *pixels (NULL: not wanted): how many it has, 0 when refused. */
bool dscm_image_check(const dscm_variable *image, const void *bytes, size_t size, size_t side_max,
                      bool resize, const char *pointer, size_t *pixels, dscm_problem *problem);
/* The PNG file of (h,w,c) pixels, c = 1 or 3. Caller frees *png. */
dscm_code dscm_image_encode(uint8_t **png, size_t *size, const uint8_t *pixels, size_t h, size_t w,
                            size_t c, dscm_error *err) DSCM_MUST_CHECK;
/* The same of (h,w,c) floats in [-1,1]. */
dscm_code dscm_image_encode_float(uint8_t **png, size_t *size, const float *image, size_t h,
                                  size_t w, size_t c, dscm_error *err) DSCM_MUST_CHECK;
/* Standard deviations (h,w) on 0..255 as a grey PNG: black = certain, white = 64 or more. */
#define DSCM_UNCERTAINTY_GAIN 4
dscm_code dscm_image_encode_uncertainty(uint8_t **png, size_t *size, const float *deviation,
                                        size_t h, size_t w, dscm_error *err) DSCM_MUST_CHECK;
/* Signed difference of b - a as an RGB PNG: white = same, red = added, blue = removed (mean over
 * the channels, full colour at a change of half the range or more). */
dscm_code dscm_image_encode_difference(uint8_t **png, size_t *size, const float *a, const float *b,
                                       size_t h, size_t w, size_t c,
                                       dscm_error *err) DSCM_MUST_CHECK;

#endif
