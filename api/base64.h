/* Base64 (RFC 4648) in the spellings that programs write: standard or URL-safe alphabet, with or without
 * padding, broken into lines, percent-encoded. Wrong characters, wrong padding and unused bits that are
 * set are errors. Encodes in the standard form. Pure functions. */
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
/* The base64 part of a string that may be a data URL ("data:image/png;base64,…", in any case, with
 * parameters, with no type or application/octet-stream): moves *text and *size past the prefix.
 * DSCM_E_FORMAT for a data URL that is not base64 or of another type. */
dscm_code dscm_data_url_strip(const char **text, size_t *size, dscm_error *err) DSCM_MUST_CHECK;

#endif
