/* JPEG files from memory. The only user of libjpeg. Grey or RGB; the EXIF orientation is applied;
 * warnings (truncation, damage) are errors. Pure function. */
#ifndef DSCM_CORE_IMAGE_JPEG_H
#define DSCM_CORE_IMAGE_JPEG_H

#include <stdbool.h>

#include "core/base/error.h"
#include "core/image/picture.h"

#ifdef __cplusplus
extern "C" {
#endif

bool dscm_jpeg_is(const void *bytes, size_t size);
/* Decodes to `channels` (1 or 3), as dscm_png_decode does. side_wanted: the decoder may shrink by
 * 2, 4 or 8 as long as both sides stay at least twice this large (0: never). */
dscm_code dscm_jpeg_decode(dscm_picture *out, const void *bytes, size_t size, size_t channels,
                           size_t side_wanted, const dscm_picture_limits *limits,
                           dscm_error *err) DSCM_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
