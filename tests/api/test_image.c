/* A picture becomes a model's image by the rule of its kind, and what is shown of a change. */
#include <zlib.h>

#include "api/image.h"
#include "core/image/png.h"
#include "tests/core/image/png_file.h"
#include "tests/harness.h"

enum { SIDE = 4 };

static const dscm_variable grey = {
    .name = "grey", .kind = DSCM_IMAGE, .h = SIDE, .w = SIDE, .c = 1};
static const dscm_variable colour = {
    .name = "colour", .kind = DSCM_IMAGE, .h = SIDE, .w = SIDE, .c = 3};

/* w pixels of grey value and alpha, each h times. */
static buffer grey_alpha(const uint8_t (*row)[2], uint32_t w, uint32_t h)
{
    buffer b = {0}, head = {0}, raw = {0};
    unsigned char packed[512];
    uLongf size = sizeof packed;
    put(&b, "\x89PNG\r\n\x1a\n", 8);
    put_big(&head, w);
    put_big(&head, h);
    put(&head, "\x08\x04\0\0", 5);
    put_chunk(&b, "IHDR", head.bytes, head.size);
    for (uint32_t y = 0; y < h; y++) {
        put_number(&raw, 0, 1);
        put(&raw, row, 2 * w);
    }
    if (compress2(packed, &size, raw.bytes, raw.size, 9) != Z_OK) abort();
    put_chunk(&b, "IDAT", packed, size);
    put_chunk(&b, "IEND", "", 0);
    buffer_free(&head);
    buffer_free(&raw);
    return b;
}

static uint8_t *decode(const dscm_variable *image, const buffer *b, bool resize,
                       dscm_problem *problem)
{
    *problem = (dscm_problem){0};
    bool inverted;
    return dscm_image_decode(image, b->bytes, b->size, 64, resize, "/image", &inverted, problem);
}

/* Behind what is transparent: black for greyscale models, white for colour. */
static void transparent_parts_show_the_background(void)
{
    static const uint8_t row[SIDE][2] = {{90, 255}, {90, 0}, {0, 0}, {255, 0}};
    buffer b = grey_alpha(row, SIDE, SIDE);
    dscm_problem problem;
    uint8_t *dark = decode(&grey, &b, false, &problem);
    uint8_t *light = decode(&colour, &b, false, &problem);
    REQUIRE(dark && light);
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        CHECK_INT(dark[i], i % SIDE ? 0 : 90);
        for (size_t k = 0; k < 3; k++) CHECK_INT(light[3 * i + k], i % SIDE ? 255 : 90);
    }
    free(dark);
    free(light);
    buffer_free(&b);
}

/* A picture twice as wide: greyscale models see all of it, colour ones its middle. */
static void each_kind_of_model_has_its_fit(void)
{
    static const uint8_t row[2 * SIDE][2] = {{10, 255}, {10, 255}, {20, 255}, {20, 255},
                                             {30, 255}, {30, 255}, {40, 255}, {40, 255}};
    static const uint8_t fitted[SIDE] = {10, 20, 30, 40}, cropped[SIDE] = {20, 20, 30, 30};
    buffer b = grey_alpha(row, 2 * SIDE, SIDE);
    dscm_problem problem;
    uint8_t *whole = decode(&grey, &b, true, &problem);
    uint8_t *middle = decode(&colour, &b, true, &problem);
    REQUIRE(whole && middle);
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        bool edge = i / SIDE == 0 || i / SIDE == SIDE - 1;
        CHECK_INT(whole[i], edge ? 0 : fitted[i % SIDE]);
        CHECK_INT(middle[3 * i], cropped[i % SIDE]);
    }
    free(whole);
    free(middle);
    CHECK(decode(&grey, &b, false, &problem) == NULL);
    CHECK_INT(problem.code, DSCM_PROBLEM_IMAGE_SIZE);
    CHECK_HAS(problem.detail, "8x4");
    CHECK_STR(problem.errors[0].pointer, "/image");
    buffer_free(&b);
}

/* As large as may be, by its sides and by its area. */
static void limits_are_exact(void)
{
    static const uint8_t row[8][2] = {{0, 255}};
    static const struct {
        dscm_picture_limits limits;
        dscm_code code;
    } cases[] = {{{8, 32}, DSCM_OK}, {{7, 32}, DSCM_E_LIMIT}, {{8, 31}, DSCM_E_LIMIT}};
    for (int turned = 0; turned < 2; turned++) {
        buffer b = turned ? grey_alpha(row, 4, 8) : grey_alpha(row, 8, 4);
        for (size_t i = 0; i < TEST_COUNT(cases); i++) {
            dscm_picture out = {0};
            dscm_error err = {0};
            CHECK_INT(dscm_png_decode(&out, b.bytes, b.size, 1, 0, &cases[i].limits, &err),
                      cases[i].code);
            dscm_picture_free(&out);
        }
        buffer_free(&b);
    }
}

/* Red was added, blue taken away, white stayed; half the range is full colour. */
static void differences_have_their_colours(void)
{
    static const float before[6] = {0, 0, 0, 0, -1, 1}, after[6] = {0, 1, -1, 0.5f, 1, -1};
    static const uint8_t want[6][3] = {{255, 255, 255}, {255, 0, 0}, {0, 0, 255},
                                       {255, 128, 128}, {255, 0, 0}, {0, 0, 255}};
    const dscm_picture_limits limits = {64, 64 * 64};
    uint8_t *png = NULL;
    size_t size = 0;
    dscm_picture out = {0};
    REQUIRE(dscm_image_encode_difference(&png, &size, before, after, 1, 6, 1, NULL) == DSCM_OK);
    REQUIRE(dscm_png_decode(&out, png, size, 3, 0, &limits, NULL) == DSCM_OK);
    for (size_t i = 0; i < 6; i++)
        for (size_t k = 0; k < 3; k++) CHECK_INT(out.pixels[3 * i + k], want[i][k]);
    dscm_picture_free(&out);
    free(png);
}

/* A telephone's picture of a drawing is accepted, a scan of four times that is not. */
static void limits_allow_telephone_pictures(void)
{
    const dscm_variable large = {.kind = DSCM_IMAGE, .h = 512, .w = 512, .c = 3};
    dscm_picture_limits least = dscm_image_limits(NULL, 0);
    CHECK(least.side >= 4624 && least.pixels >= 4624u * 3468u);
    CHECK(least.pixels < 8160u * 6144u);
    CHECK(dscm_image_limits(&grey, 0).pixels == least.pixels);
    CHECK(dscm_image_limits(&large, 64).pixels == (size_t)256 * 512 * 512);
    CHECK_INT(dscm_image_limits(&large, 64).side, 64);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"limits_allow_telephone_pictures", limits_allow_telephone_pictures},

        {"transparent_parts_show_the_background", transparent_parts_show_the_background},
        {"each_kind_of_model_has_its_fit", each_kind_of_model_has_its_fit},
        {"limits_are_exact", limits_are_exact},
        {"differences_have_their_colours", differences_have_their_colours},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
