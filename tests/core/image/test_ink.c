/* Ink on paper: what is taken for paper, and what becomes of the ink. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/image/ink.h"
#include "tests/harness.h"

enum { H = 120, W = 160, SIDE = 28 };

static uint8_t page[H * W], out[SIDE * SIDE];
static const dscm_picture picture = {.h = H, .w = W, .c = 1, .pixels = page};

/* A shaded page with a dark bar of `width` by `height` pixels at (left, top). */
static void draw(size_t left, size_t top, size_t width, size_t height)
{
    for (size_t y = 0; y < H; y++)
        for (size_t x = 0; x < W; x++) {
            bool ink = x >= left && x < left + width && y >= top && y < top + height;
            page[y * W + x] = ink ? 30 : (uint8_t)(230 - x / 4);
        }
}

static void borders_are_means_of_the_outermost_pixels(void)
{
    uint8_t small[9] = {8, 16, 8, 16, 255, 16, 8, 16, 8};
    CHECK_NEAR(dscm_border_level(small, 3, 3), 12, 1e-12);
    CHECK_NEAR(dscm_border_level(small, 1, 1), 8, 1e-12);
    CHECK_NEAR(dscm_border_level(small, 0, 0), 0, 0);
}

static void a_picture_of_the_model_is_inverted_exactly(void)
{
    dscm_error err = {0};
    uint8_t own[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) own[i] = (uint8_t)(i * 7);
    const dscm_picture same = {.h = SIDE, .w = SIDE, .c = 1, .pixels = own};
    REQUIRE(dscm_ink_fit(out, SIDE, SIDE, &same, 200, &err) == DSCM_OK);
    for (int i = 0; i < SIDE * SIDE; i++) CHECK_INT(out[i], 255 - own[i]);
}

/* Wherever on the page: 20 of 28 pixels long, centred, white, and no shadow of the paper. */
static void ink_is_cut_out_and_centred(void)
{
    dscm_error err = {0};
    const size_t places[][2] = {{20, 10}, {100, 50}, {140, 60}};
    for (size_t k = 0; k < 3; k++) {
        draw(places[k][0], places[k][1], 12, 40);
        double paper = dscm_border_level(page, H, W);
        CHECK(paper > DSCM_PAPER_MIN);
        REQUIRE(dscm_ink_fit(out, SIDE, SIDE, &picture, paper, &err) == DSCM_OK);
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++) {
                if (y >= 4 && y < 24 && x >= 11 && x < 17) CHECK_INT(out[y * SIDE + x], 255);
                if (y < 3 || y > 24 || x < 10 || x > 17) CHECK_INT(out[y * SIDE + x], 0);
            }
    }
}

static void thin_lines_are_broadened_and_empty_paper_is_black(void)
{
    dscm_error err = {0};
    draw(40, 10, 1, 100);
    REQUIRE(dscm_ink_fit(out, SIDE, SIDE, &picture, 200, &err) == DSCM_OK);
    int lit = 0;
    for (int x = 0; x < SIDE; x++) lit += out[14 * SIDE + x] > 120;
    CHECK(lit >= 2);
    draw(0, 0, 0, 0);
    REQUIRE(dscm_ink_fit(out, SIDE, SIDE, &picture, 255, &err) == DSCM_OK);
    const dscm_picture colour = {.h = 2, .w = 2, .c = 3, .pixels = page};
    CHECK_INT(dscm_ink_fit(out, SIDE, SIDE, &colour, 255, &err), DSCM_E_INVALID);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"borders_are_means_of_the_outermost_pixels", borders_are_means_of_the_outermost_pixels},
        {"a_picture_of_the_model_is_inverted_exactly", a_picture_of_the_model_is_inverted_exactly},
        {"ink_is_cut_out_and_centred", ink_is_cut_out_and_centred},
        {"thin_lines_are_broadened_and_empty_paper_is_black",
         thin_lines_are_broadened_and_empty_paper_is_black}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
