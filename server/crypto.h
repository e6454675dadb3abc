/* Identifiers nobody can guess, digests, and comparison that takes the same time for every answer.
 *
 * Not a general cryptography layer: what the service needs and no more. Threads: every function may
 * be called from any thread.
 */
#ifndef DSCM_SERVER_CRYPTO_H
#define DSCM_SERVER_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

#define DSCM_DIGEST_SIZE 32
#define DSCM_ID_SIZE     33 /* 128 random bits as hexadecimal digits, and the terminating zero */

void dscm_crypto_digest(const void *data, size_t size, uint8_t out[DSCM_DIGEST_SIZE]); /* SHA-256 */
/* 128 bits from the operating system in hexadecimal. */
dscm_code dscm_crypto_id(char out[DSCM_ID_SIZE], dscm_error *err) DSCM_MUST_CHECK;
/* Equal contents; the time does not depend on where they differ. */
bool dscm_crypto_equal(const void *a, const void *b, size_t size);
/* Reads 2 * size hexadecimal digits; false when `text` is anything else. */
bool dscm_crypto_unhex(const char *text, uint8_t *out, size_t size);

#endif
