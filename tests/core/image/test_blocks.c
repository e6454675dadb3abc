/* Statistics of 7x7 blocks, computed by hand. */
#include <string.h>

#include "core/image/blocks.h"
#include "tests/harness.h"

enum { BLOCKS = DSCM_BLOCKS_SIDE * DSCM_BLOCKS_SIDE };

static float out[DSCM_BLOCKS_FEATURES];

/* 14x21 pixels in blocks of 2x3: one block has values, the others are flat. */
static void means_and_deviations_of_blocks(void)
{
    uint8_t pixels[14 * 21];
    memset(pixels, 10, sizeof pixels);
    const uint8_t block[2][3] = {{0, 30, 60}, {90, 120, 150}}; /* mean 75, variance 2625 */
    for (size_t y = 0; y < 2; y++) memcpy(pixels + (2 + y) * 21 + 6, block[y], 3);
    dscm_block_statistics(out, pixels, 14, 21, 1);
    for (size_t b = 0; b < BLOCKS; b++) {
        CHECK_NEAR(out[b], b == 7 + 2 ? 75 : 10, 1e-4);
        CHECK_NEAR(out[BLOCKS + b], b == 7 + 2 ? 51.2347538 : 0, 1e-4);
    }
}

/* 9 pixels make blocks of 1 and 2; of channels the mean counts; a picture of 3 leaves blocks empty. */
static void sizes_that_do_not_divide(void)
{
    uint8_t pixels[9 * 9 * 3];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i / 27 * 10 + i % 3 * 30);
    dscm_block_statistics(out, pixels, 9, 9, 3);
    CHECK_NEAR(out[0], 30, 1e-4);          /* row 0 */
    CHECK_NEAR(out[3 * 7], 30 + 35, 1e-4); /* rows 3 and 4 */
    CHECK_NEAR(out[BLOCKS + 3 * 7], 5, 1e-4);
    CHECK_NEAR(out[6 * 7 + 6], 30 + 75, 1e-4); /* rows 7 and 8 */
    dscm_block_statistics(out, pixels, 3, 3, 1);
    CHECK_NEAR(out[0], 0, 0);
    CHECK_NEAR(out[2 * 7 + 2], pixels[0], 0);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"means_and_deviations_of_blocks", means_and_deviations_of_blocks},
        {"sizes_that_do_not_divide", sizes_that_do_not_divide}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
