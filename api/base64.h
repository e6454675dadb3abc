/* Base64 (RFC 4648), strict: standard alphabet, correct padding, zero unused bits, no whitespace.
 * Pure functions. */
#ifndef DSCM_API_BASE64_H
#define DSCM_API_BASE64_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

/* Bytes that decoding `size` characters gives at most. */
size_t dscm_base64_decoded_max(size_t size);
/* Decodes into out (dscm_base64_decoded_max(size) bytes). DSCM_E_FORMAT names the first bad
 * character's position. */
dscm_code dscm_base64_decode(uint8_t *out, size_t *out_size, const char *text, size_t size,
                             dscm_error *err) DSCM_MUST_CHECK;
/* Characters of the encoding, without a terminating zero. */
size_t dscm_base64_encoded_size(size_t size);
/* Writes dscm_base64_encoded_size(size) characters and a terminating zero. */
void dscm_base64_encode(char *out, const uint8_t *data, size_t size);
/* The base64 part of a string that may be a data URL ("data:image/png;base64,…"): moves *text and
 * *size past the prefix. DSCM_E_FORMAT for a data URL that is not base64 or not an image. */
dscm_code dscm_data_url_strip(const char **text, size_t *size, dscm_error *err) DSCM_MUST_CHECK;

#endif
