/* The shipped models on real example pictures and on pictures of no kind they know: axioms of
 * counterfactuals (Pearl 2009, ch. 7) and verdicts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/image/png.h"
#include "core/scm/pipeline.h"
#include "tests/harness.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, LABELS = 10, STRANGERS = 6 };
/* Sanitizers look at the same code with fewer pictures. */
enum { SOME = TEST_INSTRUMENTED ? 2 : LABELS, CYCLES = TEST_INSTRUMENTED ? 2 : 10 };

static const char *const models[] = {"mnist", "fashion"};

typedef struct shipped {
    dscm_bundle *bundle;
    dscm_session *session;
    const dscm_bundle_info *info;
    dscm_options options;
    uint8_t examples[LABELS][PIXELS];
} shipped;

static shipped rigs[2];

static bool read_example(uint8_t *out, const char *model, const char *label)
{
    char path[256];
    unsigned char bytes[8192];
    const dscm_picture_limits limits = {.side = SIDE, .pixels = PIXELS};
    dscm_picture picture = {0};
    dscm_error err = {0};
    snprintf(path, sizeof path, "examples/%s/%s.png", model, label);
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (file) fclose(file);
    if (dscm_png_decode(&picture, bytes, size, 1, 0, &limits, &err) != DSCM_OK ||
        picture.h != SIDE || picture.w != SIDE) {
        printf("%s: %s\n", path, err.message);
        dscm_picture_free(&picture);
        return false;
    }
    memcpy(out, picture.pixels, PIXELS);
    dscm_picture_free(&picture);
    return true;
}

static bool open_model(shipped *m, const char *name)
{
    char dir[64];
    dscm_error err = {0};
    snprintf(dir, sizeof dir, "models/%s", name);
    m->options = dscm_options_defaults();
    if (dscm_bundle_open(&m->bundle, dir, &err) != DSCM_OK ||
        dscm_session_open(&m->session, m->bundle, 10, 1, &err) != DSCM_OK ||
        dscm_options_resolve(m->bundle, &m->options, &err) != DSCM_OK) {
        printf("%s\n", err.message);
        return false;
    }
    m->info = dscm_bundle_describe(m->bundle);
    const dscm_variable *v = &m->info->variables[m->info->scored];
    for (size_t k = 0; k < LABELS; k++)
        if (!read_example(m->examples[k], name, v->labels[k])) return false;
    return true;
}

/* The default query about a picture: do(the scored variable := label). */
static bool ask(const shipped *m, const uint8_t *pixels, size_t label, dscm_run_item *item)
{
    const dscm_target target = {.items = {{.variable = m->info->scored,
                                           .action = DSCM_DO,
                                           .value = (double)label,
                                           .scale = (double)NAN}},
                                .count = 1};
    dscm_error err = {0};
    *item = (dscm_run_item){.ask = {.work = DSCM_WORK_COUNTERFACTUAL,
                                    .pixels = pixels,
                                    .targets = &target,
                                    .targets_count = 1,
                                    .options = m->options,
                                    .auto_scale = m->info->auto_scale,
                                    .wanted = DSCM_WANT_SCORES}};
    if (dscm_run(m->session, m->bundle, item, 1, NULL, &err) == DSCM_OK) return true;
    TEST_FAIL_("%s", err.message);
    return false;
}

static void release(dscm_run_item *item)
{
    dscm_result_free(item->result);
    dscm_abduction_free(item->abduction);
}

static double distance(const float *image, const uint8_t *pixels)
{
    double sum = 0;
    for (size_t i = 0; i < PIXELS; i++)
        sum += fabs(127.5 * ((double)image[i] + 1) - (double)pixels[i]);
    return sum / PIXELS;
}

/* do(v := its own value) returns the picture, guided as strongly as the search likes; the picture is
 * good by the verdict, and found to be what it is where the acceptance nets are sure of that. The noise
 * alone carries pictures to L1 2 on average. */
static void doing_what_is_changes_nothing(void)
{
    for (size_t i = 0; i < 2; i++) {
        double alone = 0;
        for (size_t label = 0; label < SOME; label++) {
            dscm_run_item item;
            REQUIRE(ask(&rigs[i], rigs[i].examples[label], label, &item));
            const dscm_counterfactual *c = &item.result->counterfactuals[0];
            if (item.abduction->factual[rigs[i].info->scored] == (double)label) {
                CHECK(distance(c->image, rigs[i].examples[label]) <= 0.5);
                if (item.abduction->evidence.confidence > 0.6)
                    CHECK_INT(c->outcome, DSCM_OUTCOME_FOUND);
            }
            CHECK_STR(dscm_verdict_name(item.abduction->verdict), "good");
            alone += item.abduction->evidence.noise_only.value / SOME;
            release(&item);
        }
        CHECK(alone <= (TEST_INSTRUMENTED ? 4 : 2));
    }
}

/* Ten null counterfactuals in a row, each rounded to 8 bits: the picture again. */
static void composition_is_the_identity(void)
{
    for (size_t i = 0; i < 2; i++) {
        shipped *m = &rigs[i];
        dscm_query nothing[SOME] = {{0}};
        static float images[SOME * PIXELS];
        dscm_error err = {0};
        for (size_t k = 0; k < SOME * PIXELS; k++)
            images[k] = (float)m->examples[k / PIXELS][k % PIXELS] / 127.5f - 1;
        for (int cycle = 0; cycle < CYCLES; cycle++) {
            dscm_latent *latent = NULL;
            REQUIRE(dscm_abduct(m->session, &latent, images, SOME, &m->options, NULL, &err) ==
                    DSCM_OK);
            REQUIRE(dscm_predict(m->session, images, latent, nothing, &m->options, NULL, &err) ==
                    DSCM_OK);
            dscm_images_round(images, SOME * PIXELS);
            dscm_latent_free(latent);
        }
        for (size_t k = 0; k < SOME; k++)
            CHECK_NEAR(distance(images + k * PIXELS, m->examples[k]), 0, 1e-4);
    }
}

/* Uniform noise, a checkerboard, empty pictures, a shaded scene, ink on paper. */
static void draw_stranger(uint8_t *out, int kind)
{
    dscm_rng rng = dscm_rng_make(test_seed, 77);
    for (int i = 0; i < PIXELS; i++) {
        int x = i % SIDE, y = i / SIDE;
        double scene = 128 + 50 * sin(0.3 * x + 0.2 * y) + 40 * cos(0.5 * y - 0.1 * x) +
                       30 * (double)dscm_rng_uniform(&rng);
        const int levels[STRANGERS] = {
            (int)dscm_rng_below(&rng, 256), (x / 4 + y / 4) % 2 ? 255 : 0, 0, 255, (int)scene,
            abs(x - y) < 2 ? 20 : 230};
        out[i] = (uint8_t)levels[kind];
    }
}

static void is_strange(const shipped *m, const uint8_t *pixels, size_t label)
{
    dscm_run_item item;
    REQUIRE(ask(m, pixels, label, &item));
    CHECK_STR(dscm_verdict_name(item.abduction->verdict), "unfamiliar");
    CHECK(item.result->counterfactuals[0].outcome != DSCM_OUTCOME_FOUND);
    release(&item);
}

static void strangers_are_unfamiliar_and_never_found(void)
{
    uint8_t pixels[PIXELS];
    for (size_t i = 0; i < 2; i++)
        for (int kind = 0; kind < STRANGERS; kind += TEST_INSTRUMENTED ? 3 : 1) {
            draw_stranger(pixels, kind);
            is_strange(&rigs[i], pixels, 3);
        }
}

static void garments_are_no_digits(void)
{
    for (size_t k = 0; k < SOME; k++) is_strange(&rigs[0], rigs[1].examples[k], k);
}

/* They are denoised as well as garments; what gives them away is that no garment looks like most of them. */
static void digits_are_no_garments(void)
{
    size_t unfamiliar = 0;
    for (size_t k = 0; k < SOME; k++) {
        dscm_run_item item;
        REQUIRE(ask(&rigs[1], rigs[0].examples[k], k, &item));
        unfamiliar += strcmp(dscm_verdict_name(item.abduction->verdict), "unfamiliar") == 0;
        release(&item);
    }
    CHECK(unfamiliar * 10 >= SOME * 7);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"doing_what_is_changes_nothing", doing_what_is_changes_nothing},
        {"composition_is_the_identity", composition_is_the_identity},
        {"strangers_are_unfamiliar_and_never_found", strangers_are_unfamiliar_and_never_found},
        {"garments_are_no_digits", garments_are_no_digits},
        {"digits_are_no_garments", digits_are_no_garments}};
    for (size_t i = 0; i < 2; i++)
        if (!open_model(&rigs[i], models[i])) return 1;
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    for (size_t i = 0; i < 2; i++) {
        dscm_session_free(rigs[i].session);
        dscm_bundle_free(rigs[i].bundle);
    }
    return status;
}
