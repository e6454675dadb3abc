/* Heads of picture files: sizes, kinds that are refused by name, every truncation. */
#include "core/image/check.h"

#include <string.h>

#include "tests/harness.h"

static const dscm_picture_limits limits = {.side = 1000, .pixels = 500000};

static dscm_code check(const void *bytes, size_t size, size_t *h, size_t *w, dscm_error *err)
{
    *err = (dscm_error){0};
    *h = *w = 0;
    return dscm_picture_check(bytes, size, &limits, h, w, err);
}

/* A JPEG head: an application segment, fill bytes, a table, and a frame of h x w pixels. */
static size_t jpeg_head(uint8_t out[64], uint8_t frame, unsigned h, unsigned w)
{
    const uint8_t head[] = {0xff,
                            0xd8,
                            0xff,
                            0xe0,
                            0,
                            4,
                            1,
                            2,
                            0xff,
                            0xff,
                            0xff,
                            0xc4,
                            0,
                            3,
                            9,
                            0xff,
                            frame,
                            0,
                            11,
                            8,
                            (uint8_t)(h >> 8),
                            (uint8_t)h,
                            (uint8_t)(w >> 8),
                            (uint8_t)w,
                            1,
                            1,
                            0x11,
                            0};
    memcpy(out, head, sizeof head);
    return sizeof head;
}

static void jpeg_kinds(void)
{
    static const struct {
        uint8_t frame;
        const char *name;
    } cases[] = {{0xc0, NULL},
                 {0xc1, NULL},
                 {0xc2, NULL},
                 {0xc3, "lossless"},
                 {0xc5, "hierarchical"},
                 {0xc9, "arithmetic-coded (SOF9)"},
                 {0xca, "arithmetic-coded (SOF10)"},
                 {0xcf, "arithmetic-coded"}};
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        uint8_t bytes[64];
        size_t h, w, size = jpeg_head(bytes, cases[i].frame, 300, 400);
        dscm_error err;
        dscm_code code = check(bytes, size, &h, &w, &err);
        CHECK_INT(code, cases[i].name ? DSCM_E_FORMAT : DSCM_OK);
        if (cases[i].name) CHECK(strstr(err.message, cases[i].name) != NULL);
        if (cases[i].name) continue;
        CHECK_INT(h, 300);
        CHECK_INT(w, 400);
        for (size_t cut = 0; cut + 4 < size; cut++)
            CHECK_INT(check(bytes, cut, &h, &w, &err), DSCM_E_FORMAT);
    }
}

static void sizes_have_limits(void)
{
    static const struct {
        unsigned h, w;
        dscm_code code;
    } cases[] = {{500, 1000, DSCM_OK},
                 {501, 1000, DSCM_E_LIMIT},
                 {1, 1001, DSCM_E_LIMIT},
                 {0, 10, DSCM_E_FORMAT}};
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        uint8_t png[33] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n',
                           0,    0,   0,   13,  'I',  'H',  'D',  'R'};
        uint8_t jpeg[64];
        size_t h, w, size = jpeg_head(jpeg, 0xc2, cases[i].h, cases[i].w);
        dscm_error err;
        png[18] = (uint8_t)(cases[i].w >> 8), png[19] = (uint8_t)cases[i].w;
        png[22] = (uint8_t)(cases[i].h >> 8), png[23] = (uint8_t)cases[i].h;
        CHECK_INT(check(png, sizeof png, &h, &w, &err), cases[i].code);
        CHECK_INT(check(png, sizeof png - 1, &h, &w, &err), DSCM_E_FORMAT);
        CHECK_INT(check(jpeg, size, &h, &w, &err), cases[i].code);
    }
}

static void other_formats_are_named(void)
{
    static const struct {
        const char *bytes, *name;
        size_t size;
    } cases[] = {{"RIFF\1\2\3\4WEBPVP8 ", "WebP", 16},
                 {"\0\0\0\x18"
                  "ftypheic\0\0\0\0",
                  "HEIC", 16},
                 {"\0\0\0\x18"
                  "ftypavif",
                  "AVIF", 12},
                 {"GIF89a", "GIF", 6},
                 {"RIFF\1\2\3\4WEB", "neither a PNG nor a JPEG", 11},
                 {"", "neither a PNG nor a JPEG", 0}};
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        size_t h, w;
        dscm_error err;
        CHECK_INT(check(cases[i].bytes, cases[i].size, &h, &w, &err), DSCM_E_FORMAT);
        CHECK(strstr(err.message, cases[i].name) != NULL);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"jpeg_kinds", jpeg_kinds},
                                      {"sizes_have_limits", sizes_have_limits},
                                      {"other_formats_are_named", other_formats_are_named}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
