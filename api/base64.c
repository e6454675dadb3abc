#include "api/base64.h"

#include <string.h>
#include <strings.h>

#define HEAD_MAX 512 /* of a data URL: media type and parameters */

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
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The character at *at, percent escapes undone; moves *at behind it. */
static char next_character(const char *text, size_t size, size_t *at)
{
    char c = text[(*at)++];
    if (c != '%' || size - *at < 2) return c;
    int high = hex_digit(text[*at]), low = hex_digit(text[*at + 1]);
    if (high < 0 || low < 0) return c;
    *at += 2;
    return (char)(high << 4 | low);
}

dscm_code dscm_base64_decode(uint8_t *out, size_t *out_size, const char *text, size_t size,
                             dscm_error *err)
{
    uint32_t bits = 0;
    size_t n = 0, digits = 0, padding = 0;
    *out_size = 0;
    for (size_t at = 0; at < size;) {
        size_t place = at;
        char c = next_character(text, size, &at);
        if (c == ' ' || c == '\n' || c == '\r' || c == '\t') continue;
        if (c == '=') {
            padding++;
            continue;
        }
        int value = sextet(c);
        if (value < 0)
            return dscm_fail(err, DSCM_E_FORMAT,
                             "base64 text has a wrong character at position %zu", place);
        if (padding)
            return dscm_fail(err, DSCM_E_FORMAT,
                             "base64 text goes on behind its padding at position %zu", place);
        bits = bits << 6 | (uint32_t)value;
        if (digits++ % 4) out[n++] = (uint8_t)(bits >> (6 - (digits - 1) % 4 * 2));
    }
    size_t rest = digits % 4; /* 0, 2 or 3 */
    if (rest == 1 || (padding && padding != (rest ? 4 - rest : 0)))
        return dscm_fail(err, DSCM_E_FORMAT,
                         "base64 text has %zu digits and %zu signs of padding, which no bytes give",
                         digits, padding);
    /* Unused bits that are set tell of a text that was cut off. */
    if (rest && (bits & (rest == 3 ? 3u : 15u)))
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
    static const char marker[] = ";base64";
    const char *url = *text;
    size_t blank = 0;
    while (blank < *size && (url[blank] == ' ' || url[blank] == '\n')) blank++;
    if (*size - blank < 5 || strncasecmp(url + blank, "data:", 5) != 0) return DSCM_OK;
    size_t start = blank + 5, limit = *size < HEAD_MAX ? *size : HEAD_MAX;
    const char *comma = memchr(url + start, ',', limit - start);
    if (!comma)
        return dscm_fail(err, DSCM_E_FORMAT, "the data URL has no comma in its first %d characters",
                         HEAD_MAX);
    size_t head = (size_t)(comma - url) - start, mark = sizeof marker - 1;
    if (head < mark || strncasecmp(comma - mark, marker, mark) != 0)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "the data URL is not base64 encoded: data:image/png;base64,…");
    size_t type = strcspn(url + start, ";,");
    if (type && strncasecmp(url + start, "image/", 6) != 0 &&
        (type != 24 || strncasecmp(url + start, "application/octet-stream", 24) != 0))
        return dscm_fail(err, DSCM_E_FORMAT, "the data URL is of \"%.*s\", not of an image",
                         type < 80 ? (int)type : 80, url + start);
    *text = comma + 1;
    *size -= (size_t)(comma + 1 - url);
    return DSCM_OK;
}
