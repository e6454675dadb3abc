/* The head of a picture file: what it is and how large, read by hand before any decoder sees it. Costs
 * nothing beside decoding, so it may be asked where decoding may not happen. Pure functions. */
#ifndef DSCM_CORE_IMAGE_CHECK_H
#define DSCM_CORE_IMAGE_CHECK_H

#include "core/base/error.h"
#include "core/image/picture.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Height and width as the file has them, an orientation not applied. DSCM_E_FORMAT: neither a PNG nor a
 * JPEG file, an incomplete head, or a kind of JPEG that is not read (lossless, hierarchical,
 * arithmetic-coded, which costs many times as much as Huffman-coded); other formats are named.
 * DSCM_E_LIMIT: larger than limits. */
dscm_code dscm_picture_check(const void *bytes, size_t size, const dscm_picture_limits *limits,
                             size_t *h, size_t *w, dscm_error *err) DSCM_MUST_CHECK;

/* DSCM_E_LIMIT with what is allowed where a picture of this size is larger than limits. */
dscm_code dscm_picture_fits(size_t h, size_t w, const dscm_picture_limits *limits,
                            dscm_error *err) DSCM_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
