/* Morphometry: elements and distances by hand, measures of shapes that are known, the causal model,
 * and (with MORPHO_DATA and MNIST_DATA) the published images bit for bit. */
#include "core/base/memory.h"
#include "core/data/dataset.h"
#include "core/data/idx.h"
#include "core/data/morpho.h"
#include "core/data/skeleton.h"
#include "core/data/table.h"
#include "tests/harness.h"

static void element_is_the_published_one(void)
{
    int spans[39];
    CHECK_INT(dscm_skeleton_element(spans, 1), 9);
    CHECK_INT(dscm_skeleton_element(spans, 12), 577);
    CHECK_INT(spans[12], 12);
    CHECK_INT(dscm_skeleton_element(spans, 19), 1345); /* dilation adds four, see there */
}

static void set_pixel(dscm_skeleton *s, size_t y, size_t x)
{
    s->pixels[(y + 1) * (s->w + 2) + x + 1] = 1;
}

static size_t foreground(const dscm_skeleton *s)
{
    size_t sum = 0;
    for (size_t i = 0; i < (s->h + 2) * (s->w + 2); i++) sum += s->pixels[i];
    return sum;
}

static void dilation_and_erosion_use_the_element(void)
{
    dscm_skeleton s;
    dscm_error err = {0};
    REQUIRE(dscm_skeleton_open(&s, 90, 130, &err) == DSCM_OK);
    set_pixel(&s, 45, 64); /* beside a word's end: 64 pixels are a word */
    dscm_skeleton_dilate(&s, 12, 1);
    CHECK_INT(foreground(&s), 577);
    dscm_skeleton_dilate(&s, 12, 0);
    CHECK_INT(foreground(&s), 1);
    dscm_skeleton_dilate(&s, 19, 1);
    CHECK_INT(foreground(&s), 1349);
    dscm_skeleton_dilate(&s, 40, 0);
    CHECK_INT(foreground(&s), 0);
    set_pixel(&s, 0, 0); /* at the corner a quarter of the element is in the image */
    dscm_skeleton_dilate(&s, 1, 1);
    CHECK_INT(foreground(&s), 4);
    dscm_skeleton_close(&s);
}

static void thickness_of_a_bar(void)
{
    dscm_skeleton s;
    dscm_error err = {0};
    REQUIRE(dscm_skeleton_open(&s, 21, 200, &err) == DSCM_OK);
    CHECK_NEAR(dscm_skeleton_thickness(&s), 0, 0); /* no foreground */
    for (size_t y = 6; y < 15; y++)
        for (size_t x = 0; x < 200; x++) set_pixel(&s, y, x);
    /* nine rows over the whole width: the axis is the middle row, five from the background */
    CHECK_NEAR(dscm_skeleton_thickness(&s), 10, 0.2);
    for (size_t y = 0; y < 21; y++)
        for (size_t x = 0; x < 200; x++) set_pixel(&s, y, x);
    CHECK_NEAR(dscm_skeleton_thickness(&s), 0, 0); /* no background */
    dscm_skeleton_close(&s);
}

/* A vertical stroke of `width` pixels. */
static void draw_bar(uint8_t pixels[784], int width, uint8_t level)
{
    memset(pixels, 0, 784);
    for (int y = 4; y < 24; y++)
        for (int x = 14 - width / 2; x < 14 - width / 2 + width; x++) pixels[28 * y + x] = level;
}

static void rendered_images_measure_what_was_asked(void)
{
    dscm_morpho *m = NULL;
    dscm_error err = {0};
    uint8_t source[784], out[784];
    dscm_morphometry got;
    REQUIRE(dscm_morpho_open(&m, 28, 28, &err) == DSCM_OK);
    draw_bar(source, 4, 200);
    dscm_morpho_measure(m, source, &got);
    CHECK_NEAR(got.intensity, 200, 0);
    CHECK_NEAR(got.slant, 0, 1e-6);
    CHECK_NEAR(got.thickness, 4, 0.5);
    for (int t = 2; t <= 6; t++) {
        dscm_morpho_render(m, out, source, t, 100 + 20 * t);
        dscm_morpho_measure(m, out, &got);
        CHECK_NEAR(got.thickness, t, 0.6); /* a bar of right angles measures too thick */
        CHECK_NEAR(got.intensity, 100 + 20 * t, 2);
    }
    for (int y = 0; y < 28; y++) /* leaning to the right at the top by 1 in 2 */
        for (int x = 0; x < 28; x++)
            source[28 * y + x] = abs(x - 14 - (14 - y) / 2) < 2 && y > 3 && y < 24 ? 255 : 0;
    dscm_morpho_measure(m, source, &got);
    CHECK_NEAR(got.slant, atan(0.5), 0.05);
    memset(source, 0, sizeof source);
    dscm_morpho_measure(m, source, &got);
    CHECK_NEAR(got.thickness, 0, 0);
    CHECK_NEAR(got.slant, 0, 0);
    dscm_morpho_render(m, out, source, 3, 200);
    CHECK(memcmp(out, source, sizeof out) == 0);
    dscm_morpho_free(m);
    CHECK(dscm_morpho_open(&m, 28, 65, &err) == DSCM_E_LIMIT);
    CHECK_HAS(err.message, "28x65");
}

static void draws_have_the_models_moments(void)
{
    double sum = 0, squares = 0, noise = 0, noise2 = 0, low = INFINITY, high = 0;
    enum { COUNT = 20000 };
    for (size_t i = 0; i < COUNT; i++) {
        double t, v;
        dscm_rng rng = dscm_rng_make(test_seed, i);
        dscm_morpho_draw(&rng, 3, false, &t, &v);
        double eps = dscm_morpho_noise(t, v);
        sum += t;
        squares += t * t;
        if (v < 250) noise += eps, noise2++; /* float values near 255 do not tell the noise */
        CHECK(v >= 64 && v <= 255);
        dscm_morpho_draw(&rng, 9, true, &t, &v);
        low = t < low ? t : low;
        high = t > high ? t : high;
    }
    CHECK_NEAR(sum / COUNT, 2.5, 0.02);
    CHECK_NEAR(squares / COUNT - 6.25, 0.4, 0.12);
    CHECK_NEAR(noise / noise2, 0, 0.25); /* the upper tail is cut off */
    CHECK(low > 2.2 && high < 5.2);
    CHECK_NEAR(dscm_morpho_noise(2.2, dscm_morpho_intensity(2.2, 0.7)), 0.7, 1e-9);
}

static void agrees_with_the_published_images(void)
{
    const char *published = getenv("MORPHO_DATA"), *mnist = getenv("MNIST_DATA");
    if (!published || !mnist)
        TEST_SKIP("MORPHO_DATA and MNIST_DATA name no folders of published and source images");
    enum { COUNT = 200 };
    char path[2][4096];
    const dscm_column columns[] = {
        {.name = "thickness", .kind = DSCM_CONTINUOUS, .min = 0, .max = 100},
        {.name = "intensity", .kind = DSCM_CONTINUOUS, .min = 0, .max = 255}};
    dscm_error err = {0};
    dscm_dataset source;
    dscm_idx images;
    dscm_table table;
    dscm_morpho *m = NULL;
    uint8_t out[784];
    size_t same = 0;
    snprintf(path[0], sizeof path[0], "%s/dev-images-idx3-ubyte.gz", published);
    snprintf(path[1], sizeof path[1], "%s/dev-variables.csv", published);
    REQUIRE(dscm_dataset_open(&source, mnist, "dev", &err) == DSCM_OK);
    REQUIRE(dscm_idx_read(&images, path[0], &err) == DSCM_OK);
    REQUIRE(dscm_table_read(&table, path[1], &err) == DSCM_OK);
    double *t = calloc(table.rows, sizeof *t), *v = calloc(table.rows, sizeof *v);
    REQUIRE(t && v && dscm_table_column(&table, &columns[0], t, &err) == DSCM_OK);
    REQUIRE(dscm_table_column(&table, &columns[1], v, &err) == DSCM_OK);
    REQUIRE(dscm_morpho_open(&m, 28, 28, &err) == DSCM_OK);
    for (size_t i = 0; i < COUNT; i++) {
        dscm_morpho_render(m, out, source.pixels + 784 * i, t[i], v[i]);
        same += memcmp(out, images.data + 784 * i, 784) == 0;
    }
    CHECK_INT(same, COUNT);
    free(t);
    free(v);
    dscm_morpho_free(m);
    dscm_table_free(&table);
    dscm_idx_free(&images);
    dscm_dataset_free(&source);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"element_is_the_published_one", element_is_the_published_one},
        {"dilation_and_erosion_use_the_element", dilation_and_erosion_use_the_element},
        {"thickness_of_a_bar", thickness_of_a_bar},
        {"rendered_images_measure_what_was_asked", rendered_images_measure_what_was_asked},
        {"draws_have_the_models_moments", draws_have_the_models_moments},
        {"agrees_with_the_published_images", agrees_with_the_published_images}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
