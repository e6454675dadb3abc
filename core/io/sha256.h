/* SHA-256 by libcrypto. */
#ifndef DSCM_CORE_IO_SHA256_H
#define DSCM_CORE_IO_SHA256_H

#include <stddef.h>

#include "core/base/error.h"

/* out: 64 hex digits and a terminating zero. */
void dscm_sha256_hex(char out[65], const void *bytes, size_t size);
/* The same of a whole regular file, read in pieces: large weights need no memory. */
dscm_code dscm_sha256_file(char out[65], const char *path, dscm_error *err) DSCM_MUST_CHECK;

/* Of bytes that come in pieces. */
typedef struct dscm_sha256 dscm_sha256;
dscm_code dscm_sha256_open(dscm_sha256 **out, dscm_error *err) DSCM_MUST_CHECK;
void dscm_sha256_add(dscm_sha256 *digest, const void *bytes, size_t size);
/* The digest of all pieces; nothing may be added afterwards. */
dscm_code dscm_sha256_close(dscm_sha256 *digest, char out[65], dscm_error *err) DSCM_MUST_CHECK;
void dscm_sha256_free(dscm_sha256 *digest); /* takes NULL */

#endif
