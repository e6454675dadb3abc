/* PNG and JPEG files, told apart by content, decoded to grey and to colour: as they are, and PNG
 * files once more with checksums made right, which would stop nearly every mutation at the door. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/image/jpeg.h"
#include "core/image/png.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same pixels must come out of a file made of them. */
static void encode_again(const dscm_picture *picture, const dscm_picture_limits *limits)
{
    dscm_picture again = {.pixels = NULL};
    uint8_t *png = NULL;
    size_t size = 0;
    if (dscm_png_encode(&png, &size, picture, NULL) == DSCM_OK &&
        dscm_png_decode(&again, png, size, picture->c, 0, limits, NULL) == DSCM_OK &&
        (again.h != picture->h || again.w != picture->w ||
         memcmp(again.pixels, picture->pixels, again.h * again.w * again.c) != 0))
        __builtin_trap();
    dscm_picture_free(&again);
    free(png);
}

static void decode(const uint8_t *data, size_t size)
{
    static const dscm_picture_limits limits = {.side = 512, .pixels = 512 * 512};
    for (size_t channels = 1; channels <= 3; channels += 2) {
        dscm_picture picture = {.pixels = NULL};
        dscm_error err = {0};
        dscm_code code = dscm_jpeg_is(data, size)
                             ? dscm_jpeg_decode(&picture, data, size, channels, 0, &limits, &err)
                             : dscm_png_decode(&picture, data, size, channels, 0, &limits, &err);
        if (code == DSCM_OK && (picture.c != channels || picture.h > 512 || picture.w > 512))
            __builtin_trap();
        if (code != DSCM_OK && !err.message[0]) __builtin_trap();
        if (code == DSCM_OK) encode_again(&picture, &limits);
        dscm_picture_free(&picture);
    }
}

/* Walks the chunks as their lengths tell, as far as they stay inside. */
static void repair(uint8_t *p, size_t size)
{
    for (size_t at = 8; at <= size && size - at >= 12;) {
        size_t length = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 |
                        (size_t)p[at + 3];
        if (length > size - at - 12) return;
        uLong crc = crc32(0, p + at + 4, (uInt)length + 4);
        for (int i = 0; i < 4; i++) p[at + 8 + length + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += length + 12;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode(data, size);
    if (!dscm_png_is(data, size)) return 0;
    uint8_t *copy = malloc(size);
    if (!copy) return 0;
    memcpy(copy, data, size);
    repair(copy, size);
    if (memcmp(copy, data, size) != 0) decode(copy, size);
    free(copy);
    return 0;
}
