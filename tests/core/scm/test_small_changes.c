/* Faint differences and faint spots of a counterfactual, on pictures written out. */
#include "core/scm/walks.h"
#include "tests/harness.h"

enum { SIDE = 8, LEVELS = 16 };

static const dscm_variable dark = {
    .kind = DSCM_IMAGE, .h = SIDE, .w = SIDE, .c = 1, .dark_ground = true};

/* A picture of letters: '.' black, '-' 10, 'o' 100, '#' 255 grey levels. */
static void draw(float *out, const char *text)
{
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        float level = text[i] == '#' ? 255 : text[i] == 'o' ? 100 : text[i] == '-' ? 10 : 0;
        out[i] = level / 127.5f - 1;
    }
}

static void becomes(const char *image, const char *factual, const char *expected)
{
    float x[SIDE * SIDE], f[SIDE * SIDE], e[SIDE * SIDE];
    draw(x, image);
    draw(f, factual);
    draw(e, expected);
    scm_undo_small_changes(&dark, x, f, LEVELS, 0);
    for (size_t i = 0; i < SIDE * SIDE; i++) CHECK_NEAR(x[i], e[i], 0);
}

#define BLACK "........................................................................"

static void spots_become_ground(void)
{
    becomes("o......."
            ".......o" /* one that wraps round is none */
            "..##...."
            "..##...."
            "..##...."
            "......oo"
            "......oo"
            "........",
            BLACK,
            "........"
            "........"
            "..##...."
            "..##...."
            "..##...."
            "........"
            "........"
            "........");
}

/* A bundle's own number of pixels counts for spots of any brightness. */
static void a_bundle_names_larger_spots(void)
{
    static const char image[] = "##......"
                                "##......"
                                "........"
                                "...####."
                                "...####."
                                "........"
                                "###....o"
                                "##.....#";
    float x[SIDE * SIDE], f[SIDE * SIDE], before[SIDE * SIDE];
    draw(f, BLACK);
    draw(before, image);
    for (size_t most = 3; most <= 5; most++) {
        draw(x, image);
        scm_undo_small_changes(&dark, x, f, LEVELS, most);
        for (size_t i = 0; i < SIDE * SIDE; i++) {
            size_t row = i / SIDE, column = i % SIDE;
            size_t part = row < 2 ? 4 : row < 5 ? 8 : column < 3 ? 5 : 2; /* pixels */
            CHECK_NEAR(x[i], part <= most ? -1 : before[i], 0);
        }
    }
}

static void what_is_no_spot_stays(void)
{
    const char *image = "ooooo..." /* five pixels */
                        "........"
                        "..##...."
                        "..##o..." /* touches a stroke */
                        ".....o.." /* at a corner */
                        "........"
                        "#......."
                        ".......o";
    const char *factual = "........"
                          "........"
                          "........"
                          "........"
                          "........"
                          "........"
                          "........"
                          ".......o"; /* it has that one too */
    becomes(image, factual, image);
}

static void faint_changes_are_undone(void)
{
    becomes("-......."
            "..##...."
            "........"
            "...-...."
            "........"
            "........"
            "........"
            "........",
            "........"
            "..##...."
            "........"
            "...o...."
            "........"
            "........"
            "........"
            ".......-",
            "........"
            "..##...."
            "........"
            "........" /* changed, and no lighter than ground */
            "........"
            "........"
            "........"
            ".......-");
}

static void the_edges_of_a_stroke_go_with_it(void)
{
    becomes("........"
            "........"
            "..##...."
            "..##...."
            "........"
            "........"
            "........"
            "........",
            "-##-...."
            "-##-...."
            "........"
            "..##-..." /* an edge of what stays */
            "........"
            "........"
            "-......." /* touched no stroke */
            "........",
            "........"
            "...-...."
            "..##...."
            "..##-..."
            "........"
            "........"
            "-......."
            "........");
}

static void a_light_ground_keeps_its_spots(void)
{
    dscm_variable light = dark;
    float x[SIDE * SIDE], f[SIDE * SIDE];
    draw(f, BLACK);
    draw(x, BLACK);
    x[9] = 0;
    light.dark_ground = false;
    scm_undo_small_changes(&light, x, f, LEVELS, 0);
    CHECK_NEAR(x[9], 0, 0);
}

static void a_coloured_pixel_is_as_bright_as_its_brightest_channel(void)
{
    dscm_variable colour = {.kind = DSCM_IMAGE, .h = 1, .w = 4, .c = 3, .dark_ground = true};
    float f[12], x[12];
    for (size_t i = 0; i < 12; i++) f[i] = x[i] = -1;
    x[1] = -0.5f;  /* a faint spot */
    x[11] = 0.75f; /* bright in one channel */
    scm_undo_small_changes(&colour, x, f, LEVELS, 0);
    CHECK_NEAR(x[1], -1, 0);
    CHECK_NEAR(x[11], 0.75, 0);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"spots_become_ground", spots_become_ground},
        {"a_bundle_names_larger_spots", a_bundle_names_larger_spots},
        {"what_is_no_spot_stays", what_is_no_spot_stays},
        {"faint_changes_are_undone", faint_changes_are_undone},
        {"the_edges_of_a_stroke_go_with_it", the_edges_of_a_stroke_go_with_it},
        {"a_light_ground_keeps_its_spots", a_light_ground_keeps_its_spots},
        {"a_coloured_pixel_is_as_bright_as_its_brightest_channel",
         a_coloured_pixel_is_as_bright_as_its_brightest_channel}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
