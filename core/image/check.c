#include "core/image/check.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/image/jpeg.h"
#include "core/image/png.h"

dscm_code dscm_picture_fits(size_t h, size_t w, const dscm_picture_limits *limits, dscm_error *err)
{
    if (w > limits->side || h > limits->side || w * h > limits->pixels)
        return dscm_fail(err, DSCM_E_LIMIT,
                         "the image has %zux%zu pixels; at most %zu a side and %zu in all are "
                         "accepted",
                         w, h, limits->side, limits->pixels);
    return DSCM_OK;
}

static size_t be16(const uint8_t *p)
{
    return (size_t)p[0] << 8 | p[1];
}

/* By the number of the start-of-frame marker; NULL: baseline or progressive with Huffman codes. */
static const char *unread_kind(unsigned frame)
{
    switch (frame) {
    case 0xc0:
    case 0xc1:
    case 0xc2:
        return NULL;
    case 0xc3:
        return "lossless";
    case 0xc5:
    case 0xc6:
    case 0xc7:
        return "hierarchical";
    default:
        return "arithmetic-coded";
    }
}

/* Markers up to the start of the frame. */
static dscm_code check_jpeg(const uint8_t *p, size_t size, size_t *h, size_t *w, dscm_error *err)
{
    for (size_t at = 2; at + 4 <= size;) {
        if (p[at] != 0xff) break;
        unsigned marker = p[at + 1];
        if (marker == 0xff) { /* fill */
            at++;
            continue;
        }
        if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) { /* alone */
            at += 2;
            continue;
        }
        if (marker == 0xd9 || marker == 0xda) break;
        bool frame =
            marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
        size_t length = be16(p + at + 2);
        if (frame && unread_kind(marker))
            return dscm_fail(err, DSCM_E_FORMAT,
                             "the JPEG file is %s (SOF%u), which is not read: save it as baseline "
                             "or progressive JPEG, or as PNG",
                             unread_kind(marker), marker - 0xc0);
        if (frame && at + 9 <= size) {
            *h = be16(p + at + 5);
            *w = be16(p + at + 7);
            return DSCM_OK;
        }
        if (frame || length < 2) break;
        at += 2 + length;
    }
    return dscm_fail(err, DSCM_E_FORMAT, "the JPEG file has no complete header");
}

/* What people have beside PNG and JPEG; NULL: not known. */
static const char *other_format(const uint8_t *p, size_t size)
{
    static const struct {
        const char *magic, *name;
        size_t at, length;
    } formats[] = {{"WEBP", "a WebP", 8, 4},
                   {"heic", "a HEIC", 8, 4},
                   {"heix", "a HEIC", 8, 4},
                   {"hevc", "a HEIC", 8, 4},
                   {"mif1", "a HEIF", 8, 4},
                   {"msf1", "a HEIF", 8, 4},
                   {"avif", "an AVIF", 8, 4},
                   {"GIF8", "a GIF", 0, 4},
                   {"II*\0", "a TIFF", 0, 4},
                   {"MM\0*", "a TIFF", 0, 4},
                   {"BM", "a BMP", 0, 2},
                   {"%PDF", "a PDF", 0, 4},
                   {"\x1f\x8b", "a gzip", 0, 2},
                   {"<svg", "an SVG", 0, 4},
                   {"<?xml", "an SVG or XML", 0, 5},
                   {"<html", "an HTML", 0, 5},
                   {"<!DOCTYPE", "an HTML", 0, 9},
                   {"<!doctype", "an HTML", 0, 9},
                   {"iVBORw0KGgo", "a base64 text", 0, 11},
                   {"/9j/", "a base64 text", 0, 4},
                   {"data:image/", "a base64 text", 0, 11},
                   {"\0\0\0\x0cJXL ", "a JPEG XL", 0, 8},
                   {"\xff\x0a", "a JPEG XL", 0, 2}};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (size >= formats[i].at + formats[i].length &&
            memcmp(p + formats[i].at, formats[i].magic, formats[i].length) == 0)
            return formats[i].name;
    return NULL;
}

dscm_code dscm_picture_check(const void *bytes, size_t size, const dscm_picture_limits *limits,
                             size_t *h, size_t *w, dscm_error *err)
{
    dscm_code code;
    if (dscm_png_is(bytes, size)) {
        code = dscm_png_header(bytes, size, h, w, err);
    } else if (dscm_jpeg_is(bytes, size)) {
        code = check_jpeg(bytes, size, h, w, err);
    } else {
        const char *name = other_format(bytes, size);
        if (name)
            return dscm_fail(err, DSCM_E_FORMAT,
                             "the data is %s file, neither PNG nor JPEG: convert it", name);
        return dscm_fail(err, DSCM_E_FORMAT, "the data is neither a PNG nor a JPEG file");
    }
    if (code) return code;
    if (*w == 0 || *h == 0 || *w > 0x7fffffff || *h > 0x7fffffff)
        return dscm_fail(err, DSCM_E_FORMAT, "the image header gives the size %zux%zu", *w, *h);
    return dscm_picture_fits(*h, *w, limits, err);
}
