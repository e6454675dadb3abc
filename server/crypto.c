#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Init and its kin */
#include "server/crypto.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>
#include <sys/random.h>

void dscm_crypto_digest(const void *data, size_t size, uint8_t out[DSCM_DIGEST_SIZE])
{
    /* The calls of EVP allocate and may fail; these work on the stack, and OpenSSL keeps them. */
    SHA256_CTX context;
    SHA256_Init(&context);
    SHA256_Update(&context, data, size);
    SHA256_Final(out, &context);
}

dscm_code dscm_crypto_id(char out[DSCM_ID_SIZE], dscm_error *err)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[(DSCM_ID_SIZE - 1) / 2];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return dscm_fail(err, DSCM_E_SYSTEM, "no random numbers from the system: %s",
                         strerror(errno));
    for (size_t i = 0; i < sizeof bytes; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[DSCM_ID_SIZE - 1] = 0;
    return DSCM_OK;
}

bool dscm_crypto_equal(const void *a, const void *b, size_t size)
{
    return CRYPTO_memcmp(a, b, size) == 0;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool dscm_crypto_unhex(const char *text, uint8_t *out, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        int high = digit_value(text[2 * i]);
        int low = high < 0 ? -1 : digit_value(text[2 * i + 1]);
        if (low < 0) return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * size] == 0;
}
