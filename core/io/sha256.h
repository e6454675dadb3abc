/* SHA-256 by libcrypto. */
#ifndef DSCM_CORE_IO_SHA256_H
#define DSCM_CORE_IO_SHA256_H

#include <stddef.h>

/* out: 64 hex digits and a terminating zero. */
void dscm_sha256_hex(char out[65], const void *bytes, size_t size);

#endif
