/* PNG files from and to memory. The only user of libpng.
 *
 * Rules of decoding: palette and low depths are expanded; 16 bits are scaled to 8; alpha is laid
 * over the grey level `background`; for one channel, grey = .2126 R + .7152 G + .0722 B (Rec. 709);
 * for three, grey is repeated; the orientation of an eXIf chunk is applied. Colour profiles, gamma, text and private chunks are skipped unread:
 * what they unfold to costs nothing and cannot spoil a picture; only their frame (length, checksum,
 * a name that allows skipping) must be right. Header and limits are checked before libpng sees the
 * file, and every warning is an error, so that of what is accepted all picture data was read. The
 * caller bounds the size of the file. Pure functions.
 */
#ifndef DSCM_CORE_IMAGE_PNG_H
#define DSCM_CORE_IMAGE_PNG_H

#include <stdbool.h>

#include "core/base/error.h"
#include "core/image/picture.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The first eight bytes are those of a PNG file. */
bool dscm_png_is(const void *bytes, size_t size);
/* Height and width by the header of what dscm_png_is; DSCM_E_FORMAT where it is not complete. */
dscm_code dscm_png_header(const uint8_t *bytes, size_t size, size_t *h, size_t *w,
                          dscm_error *err) DSCM_MUST_CHECK;
/* Decodes to `channels` (1 or 3). DSCM_E_FORMAT: not a sound PNG file; DSCM_E_LIMIT: larger than
 * limits. */
dscm_code dscm_png_decode(dscm_picture *out, const void *bytes, size_t size, size_t channels,
                          uint8_t background, const dscm_picture_limits *limits,
                          dscm_error *err) DSCM_MUST_CHECK;
/* The same pixels give the same bytes. Caller releases *png with free. */
dscm_code dscm_png_encode(uint8_t **png, size_t *size, const dscm_picture *picture,
                          dscm_error *err) DSCM_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
