#include "core/image/orient.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, TYPE_LONG = 4, ENTRY = 12 };

static unsigned get16(const uint8_t *p, bool little)
{
    return little ? p[0] | (unsigned)p[1] << 8 : p[1] | (unsigned)p[0] << 8;
}

static size_t get32(const uint8_t *p, bool little)
{
    size_t first = get16(p, little), second = get16(p + 2, little);
    return little ? first | second << 16 : first << 16 | second;
}

int dscm_exif_orientation(const uint8_t *p, size_t size)
{
    if (size >= 6 && memcmp(p, "Exif\0\0", 6) == 0) {
        p += 6;
        size -= 6;
    }
    if (size < 8 || (memcmp(p, "II*\0", 4) != 0 && memcmp(p, "MM\0*", 4) != 0)) return 0;
    bool little = p[0] == 'I';
    size_t at = get32(p + 4, little);
    if (at > size - 2) return 1;
    size_t entries = get16(p + at, little);
    for (size_t i = 0; i < entries && at + 2 + ENTRY * (i + 1) <= size; i++) {
        const uint8_t *entry = p + at + 2 + ENTRY * i;
        if (get16(entry, little) != TAG_ORIENTATION) continue;
        unsigned type = get16(entry + 2, little);
        size_t value = type == TYPE_SHORT  ? get16(entry + 8, little)
                       : type == TYPE_LONG ? get32(entry + 8, little)
                                           : 0;
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

/* Bit patterns say which axes run backwards. */
dscm_code dscm_picture_turn(dscm_picture *picture, int orientation, dscm_error *err)
{
    if (orientation < 2 || orientation > 8) return DSCM_OK;
    bool swap = orientation >= 5;
    bool flip_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    bool flip_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    size_t w = picture->w, c = picture->c;
    dscm_picture out = {.h = swap ? w : picture->h, .w = swap ? picture->h : w, .c = c};
    out.pixels = malloc(out.h * out.w * c);
    if (!out.pixels) return dscm_fail(err, DSCM_E_MEMORY, "no memory for an image");
    for (size_t y = 0; y < out.h; y++)
        for (size_t x = 0; x < out.w; x++) {
            size_t tx = flip_x ? out.w - 1 - x : x, ty = flip_y ? out.h - 1 - y : y;
            size_t from = swap ? tx * w + ty : ty * w + tx;
            memcpy(out.pixels + (y * out.w + x) * c, picture->pixels + from * c, c);
        }
    free(picture->pixels);
    *picture = out;
    return DSCM_OK;
}
