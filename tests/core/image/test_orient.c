/* The orientation in EXIF blocks as programs write them, and where it stands in JPEG and PNG files. */
#include <stdlib.h>
#include <zlib.h>

#include "core/image/jpeg.h"
#include "core/image/orient.h"
#include "core/image/png.h"
#include "tests/core/image/jpeg_file.h"
#include "tests/core/image/png_file.h"
#include "tests/harness.h"

static const dscm_picture_limits limits = {.side = 512, .pixels = 512 * 512};

/* A block with one entry behind another one; 4 bytes of value at the entry's end. */
static size_t block(unsigned char out[64], bool prefix, bool little, unsigned type,
                    const unsigned char value[4])
{
    unsigned char *p = out;
    if (prefix) {
        memcpy(p, "Exif\0\0", 6);
        p += 6;
    }
    memcpy(p, little ? "II*\0\x08\0\0\0\x02\0" : "MM\0*\0\0\0\x08\0\x02", 10);
    p += 10;
    memcpy(p,
           little ? "\x0f\x01\x02\0\x02\0\0\0A\0\0\0"
                  : "\x01\x0f\0\x02\0\0\0\x02"
                    "A\0\0\0",
           12);
    p += 12;
    memcpy(p, little ? "\x12\x01" : "\x01\x12", 2);
    p[2] = little ? (unsigned char)type : 0;
    p[3] = little ? 0 : (unsigned char)type;
    memcpy(p + 4, little ? "\x01\0\0\0" : "\0\0\0\x01", 4);
    memcpy(p + 8, value, 4);
    memset(p + 12, 0, 4);
    return (size_t)(p + 16 - out);
}

static void every_form_is_read(void)
{
    unsigned char b[64];
    for (int prefix = 0; prefix < 2; prefix++)
        for (int little = 0; little < 2; little++) {
            size_t n = block(b, prefix, little, 3,
                             (const unsigned char *)(little ? "\x06\0\0\0" : "\0\x06\0\0"));
            CHECK_INT(dscm_exif_orientation(b, n), 6);
            n = block(b, prefix, little, 4,
                      (const unsigned char *)(little ? "\x08\0\0\0" : "\0\0\0\x08"));
            CHECK_INT(dscm_exif_orientation(b, n), 8);
            n = block(b, prefix, little, 4,
                      (const unsigned char *)(little ? "\x06\0\x01\0" : "\0\x01\0\x06"));
            CHECK_INT(dscm_exif_orientation(b, n), 1); /* 65542 is none */
            n = block(b, prefix, little, 2,
                      (const unsigned char *)(little ? "\x06\0\0\0" : "\0\x06\0\0"));
            CHECK_INT(dscm_exif_orientation(b, n), 1); /* text is no number */
        }
}

/* Cut anywhere, in memory of just that size: nothing behind the end is read (under ASan). */
static void cut_blocks_say_nothing(void)
{
    unsigned char b[64];
    size_t n = block(b, true, false, 3, (const unsigned char *)"\0\x06\0\0");
    for (size_t cut = 0; cut < n - 4; cut++) {
        unsigned char *copy = malloc(cut + 1);
        REQUIRE(copy != NULL);
        memcpy(copy + 1, b, cut);
        CHECK(dscm_exif_orientation(copy + 1, cut) <= 1);
        free(copy);
    }
    memset(b + 10, 0xff, 4); /* the directory lies beyond any file */
    CHECK_INT(dscm_exif_orientation(b, n), 1);
    CHECK_INT(dscm_exif_orientation((const uint8_t *)"http://ns.adobe.com/xap/1.0/", 29), 0);
}

static void half_dark(const jpeg_plan *plan, unsigned y, unsigned char *out)
{
    (void)y;
    for (unsigned x = 0; x < plan->w; x++) out[x] = x < plan->w / 2 ? 40 : 200;
}

/* 32 x 16, left half dark, with APP1 segments in their order. */
static buffer jpeg_with(const unsigned char *const *segments, const size_t *sizes, int count)
{
    return jpeg_file(&(jpeg_plan){.w = 32,
                                  .h = 16,
                                  .channels = 1,
                                  .row = half_dark,
                                  .segments = segments,
                                  .sizes = sizes,
                                  .segments_count = count});
}

/* Orientation 6: the stored left side is seen above. */
static void check_turned(const dscm_picture *p)
{
    CHECK_INT(p->w, 16);
    CHECK_INT(p->h, 32);
    REQUIRE(p->pixels != NULL);
    CHECK_NEAR(p->pixels[8], 40, 8);
    CHECK_NEAR(p->pixels[31 * 16 + 8], 200, 8);
}

static void jpeg_exif_behind_xmp(void)
{
    static const unsigned char xmp[] = "http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>";
    unsigned char exif[64];
    size_t n = block(exif, true, false, 4, (const unsigned char *)"\0\0\0\x06");
    const unsigned char *segments[] = {xmp, exif};
    const size_t sizes[] = {sizeof xmp, n};
    buffer b = jpeg_with(segments, sizes, 2);
    dscm_picture out;
    dscm_error err = {0};
    CHECK_INT(dscm_jpeg_decode(&out, b.bytes, b.size, 1, 0, &limits, &err), DSCM_OK);
    check_turned(&out);
    dscm_picture_free(&out);
    buffer_free(&b);
}

/* 32 x 16 grey, left half dark, with an eXIf chunk in front of or behind the pixels. */
static buffer png_with(const unsigned char *exif, size_t exif_size, bool behind)
{
    buffer b = {0}, head = {0}, raw = {0};
    unsigned char packed[1024], row[32];
    uLongf size = sizeof packed;
    put(&b, "\x89PNG\r\n\x1a\n", 8);
    put_big(&head, 32);
    put_big(&head, 16);
    put(&head, "\x08\0\0\0\0", 5);
    put_chunk(&b, "IHDR", head.bytes, head.size);
    memset(row, 40, 16);
    memset(row + 16, 200, 16);
    for (int y = 0; y < 16; y++) {
        put_number(&raw, 0, 1);
        put(&raw, row, sizeof row);
    }
    if (compress2(packed, &size, raw.bytes, raw.size, 9) != Z_OK) abort();
    if (!behind) put_chunk(&b, "eXIf", exif, exif_size);
    put_chunk(&b, "IDAT", packed, size);
    if (behind) put_chunk(&b, "eXIf", exif, exif_size);
    put_chunk(&b, "IEND", "", 0);
    buffer_free(&head);
    buffer_free(&raw);
    return b;
}

static void png_exif_chunk(void)
{
    unsigned char exif[64];
    for (int form = 0; form < 4; form++) { /* prefix or not, in front or behind */
        size_t n = block(exif, form & 1, true, 3, (const unsigned char *)"\x06\0\0\0");
        buffer b = png_with(exif, n, form & 2);
        dscm_picture out;
        dscm_error err = {0};
        CHECK_INT(dscm_png_decode(&out, b.bytes, b.size, 1, 0, &limits, &err), DSCM_OK);
        CHECK_STR(err.message, "");
        check_turned(&out);
        dscm_picture_free(&out);
        buffer_free(&b);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"every_form_is_read", every_form_is_read},
                                      {"cut_blocks_say_nothing", cut_blocks_say_nothing},
                                      {"jpeg_exif_behind_xmp", jpeg_exif_behind_xmp},
                                      {"png_exif_chunk", png_exif_chunk}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
