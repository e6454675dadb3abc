/* Fitting pictures to the size of a model. Pure functions; 8-bit channels-last pixels. */
#ifndef DSCM_CORE_IMAGE_RESIZE_H
#define DSCM_CORE_IMAGE_RESIZE_H

#include "core/base/error.h"
#include "core/image/picture.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Area average: every output pixel is the mean of the input area it covers. */
dscm_code dscm_resize_area(uint8_t *out, size_t oh, size_t ow, const dscm_picture *in,
                           dscm_error *err) DSCM_MUST_CHECK;
/* Digits: the whole picture, aspect kept, centred on `background`. out (oh,ow,in->c). */
dscm_code dscm_resize_fit(uint8_t *out, size_t oh, size_t ow, const dscm_picture *in,
                          uint8_t background, dscm_error *err) DSCM_MUST_CHECK;
/* Photographs, as ImageNet preprocessing does: the largest centred part of the output's aspect. */
dscm_code dscm_resize_crop(uint8_t *out, size_t oh, size_t ow, const dscm_picture *in,
                           dscm_error *err) DSCM_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
