#include "api/base64.h"

#include <string.h>

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t dscm_base64_decoded_max(size_t size)
{
    return size / 4 * 3 + 3;
}

/* 0..63, or -1 for a character outside the alphabet. */
static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

dscm_code dscm_base64_decode(uint8_t *out, size_t *out_size, const char *text, size_t size,
                             dscm_error *err)
{
    *out_size = 0;
    if (size % 4)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "base64 text has %zu characters, which is not a multiple of 4", size);
    size_t padding = size && text[size - 1] == '=' ? 1 + (text[size - 2] == '=') : 0;
    uint32_t bits = 0;
    size_t n = 0;
    for (size_t i = 0; i < size - padding; i++) {
        int value = sextet(text[i]);
        if (value < 0)
            return dscm_fail(err, DSCM_E_FORMAT,
                             "base64 text has a wrong character at position %zu", i);
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 == 0) continue;
        out[n++] = (uint8_t)(bits >> (6 - i % 4 * 2));
    }
    /* Unused bits must be zero, or one picture would have several spellings. */
    if (padding && (bits & (padding == 1 ? 3u : 15u)))
        return dscm_fail(err, DSCM_E_FORMAT, "base64 text ends in bits that belong to no byte");
    *out_size = n;
    return DSCM_OK;
}

size_t dscm_base64_encoded_size(size_t size)
{
    return (size + 2) / 3 * 4;
}

void dscm_base64_encode(char *out, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t bits = (uint32_t)data[i] << 16;
        if (left > 1) bits |= (uint32_t)data[i + 1] << 8;
        if (left > 2) bits |= data[i + 2];
        *out++ = ALPHABET[bits >> 18];
        *out++ = ALPHABET[bits >> 12 & 63];
        *out++ = left > 1 ? ALPHABET[bits >> 6 & 63] : '=';
        *out++ = left > 2 ? ALPHABET[bits & 63] : '=';
    }
    *out = '\0';
}

dscm_code dscm_data_url_strip(const char **text, size_t *size, dscm_error *err)
{
    static const char marker[] = ";base64,";
    if (*size < 5 || memcmp(*text, "data:", 5) != 0) return DSCM_OK;
    if (*size < 11 || memcmp(*text, "data:image/", 11) != 0)
        return dscm_fail(err, DSCM_E_FORMAT, "the data URL is not of an image");
    size_t limit = *size < 64 ? *size : 64; /* media types are short */
    for (size_t i = 11; i + sizeof(marker) - 1 <= limit; i++) {
        if (memcmp(*text + i, marker, sizeof(marker) - 1) != 0) continue;
        *text += i + sizeof(marker) - 1;
        *size -= i + sizeof(marker) - 1;
        return DSCM_OK;
    }
    return dscm_fail(err, DSCM_E_FORMAT, "the data URL is not base64 encoded");
}
