#include "core/io/sha256.h"

#include <openssl/sha.h>
#include <stdio.h>

void dscm_sha256_hex(char out[65], const void *bytes, size_t size)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256(bytes, size, digest);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}
