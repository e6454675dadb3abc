/* Baseline searches on a small classifier with random weights: what each promises about its result.
 */
#include <math.h>

#include "core/base/cpu.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/data/idx.h"
#include "core/eval/baselines.h"
#include "tests/harness.h"

enum { SIDE = 8, PIXELS = SIDE * SIDE, CLASSES = 3, COUNT = 5, BATCH = 2 };

typedef struct model {
    dscm_net *net;
    dscm_weights *weights;
    dscm_probe probe;
} model;

static bool open_network(model *m, dscm_arch arch, const char *output, uint64_t seed)
{
    dscm_error err = {0};
    dscm_net_config c = dscm_net_config_defaults(arch);
    c.image_size = SIDE;
    c.in_channels = 1;
    if (arch == DSCM_ARCH_CNN) {
        c.out_channels = CLASSES;
        c.model_channels = 8;
    }
    *m = (model){.net = NULL};
    if (dscm_net_open(&m->net, &c, &err) != DSCM_OK) return false;
    float *values = dscm_alloc(m->net->params.floats, sizeof *values, "test", &err);
    if (!values) return false;
    dscm_params_init(&m->net->params, values, seed);
    dscm_code code = dscm_weights_open(&m->weights, m->net->graph, values, dscm_cpu_best_isa(),
                                       DSCM_EXEC_INPUT_GRAD, &err);
    dscm_free(values);
    return code == DSCM_OK &&
           dscm_probe_open(&m->probe, m->net, m->weights, output, BATCH, &err) == DSCM_OK;
}

static bool open_model(model *m, uint64_t seed)
{
    return open_network(m, DSCM_ARCH_CNN, "out", seed);
}

static void close_model(model *m)
{
    dscm_probe_close(&m->probe);
    dscm_weights_free(m->weights);
    dscm_net_free(m->net);
}

static void draw_images(float *images, int *targets, uint64_t stream)
{
    dscm_rng rng = dscm_rng_make(test_seed, stream);
    for (size_t i = 0; i < COUNT * PIXELS; i++) images[i] = 1.6f * dscm_rng_uniform(&rng) - 0.8f;
    for (size_t b = 0; b < COUNT; b++) targets[b] = (int)(b % CLASSES);
}

/* Probability of a class, one image at a time. */
static double probability(model *m, const float *image, int target)
{
    const float *l = dscm_probe_forward(&m->probe, image, 1);
    double sum = 0;
    for (int k = 0; k < CLASSES; k++) sum += exp((double)l[k] - (double)l[target]);
    return 1 / sum;
}

static void probe_gradient_is_the_derivative(void)
{
    model m;
    float images[COUNT * PIXELS], grad[PIXELS];
    const float dout[CLASSES] = {0, 1, 0};
    int targets[COUNT];
    REQUIRE(open_model(&m, 3));
    draw_images(images, targets, 1);
    dscm_probe_forward(&m.probe, images, 1);
    memcpy(grad, dscm_probe_backward(&m.probe, dout, 1), sizeof grad);
    for (size_t i = 0; i < PIXELS; i += 7) {
        const float h = 4e-3f, kept = images[i];
        images[i] = kept + h;
        double up = dscm_probe_forward(&m.probe, images, 1)[1];
        images[i] = kept - h;
        double down = dscm_probe_forward(&m.probe, images, 1)[1];
        images[i] = kept;
        CHECK_NEAR((up - down) / (2 * (double)h), grad[i], 2e-3 + 0.02 * fabs((double)grad[i]));
    }
    close_model(&m);
}

static void attack_stays_in_its_ball_and_raises_the_target(void)
{
    model m;
    float images[COUNT * PIXELS], out[COUNT * PIXELS];
    int targets[COUNT];
    dscm_error err = {0};
    const dscm_pgd_options options = {.radius = 0.3, .step = 0.05, .iterations = 20};
    REQUIRE(open_model(&m, 4));
    draw_images(images, targets, 2);
    REQUIRE(dscm_baseline_pgd(out, images, targets, COUNT, &m.probe, &options, &err) == DSCM_OK);
    for (size_t i = 0; i < COUNT * PIXELS; i++) {
        CHECK(fabsf(out[i] - images[i]) <= 0.3f + 1e-6f);
        CHECK(out[i] >= -1 && out[i] <= 1);
    }
    for (size_t b = 0; b < COUNT; b++) {
        double before = probability(&m, images + b * PIXELS, targets[b]);
        CHECK(probability(&m, out + b * PIXELS, targets[b]) > before);
    }
    close_model(&m);
}

static void greedy_moves_one_pixel_a_time_until_confident(void)
{
    model a, b;
    float images[COUNT * PIXELS], out[COUNT * PIXELS];
    int targets[COUNT];
    dscm_error err = {0};
    REQUIRE(open_model(&a, 5) && open_model(&b, 6));
    dscm_probe *const ensemble[] = {&a.probe, &b.probe};
    draw_images(images, targets, 3);
    dscm_greedy_options options = {.delta = 0.25, .visits = 2, .iterations = 3, .confidence = 1};
    REQUIRE(dscm_baseline_greedy(out, images, targets, COUNT, ensemble, 2, &options, &err) ==
            DSCM_OK);
    for (size_t k = 0; k < COUNT; k++) {
        double moved = 0;
        size_t changed = 0;
        for (size_t i = k * PIXELS; i < (k + 1) * PIXELS; i++) {
            moved += fabs((double)out[i] - (double)images[i]);
            changed += out[i] != images[i];
            CHECK(fabsf(out[i] - images[i]) <= 0.5f + 1e-6f); /* two visits of 0.25 */
        }
        CHECK(changed >= 1 && changed <= 3);
        CHECK(moved <= 0.75 + 1e-6);
        double before = probability(&a, images + k * PIXELS, targets[k]) +
                        probability(&b, images + k * PIXELS, targets[k]);
        CHECK(probability(&a, out + k * PIXELS, targets[k]) +
                  probability(&b, out + k * PIXELS, targets[k]) >
              before);
    }
    options.confidence = 0; /* reached before the first move */
    REQUIRE(dscm_baseline_greedy(out, images, targets, COUNT, ensemble, 2, &options, &err) ==
            DSCM_OK);
    CHECK(memcmp(out, images, sizeof out) == 0);
    close_model(&a);
    close_model(&b);
}

/* The search as described, one image alone: the number of moves it makes. */
static int greedy_reference(float *x, model *const models[2], int target,
                            const dscm_greedy_options *o)
{
    size_t visits[PIXELS] = {0};
    for (int moves = 0; moves < (int)o->iterations; moves++) {
        double grad[PIXELS] = {0}, mean = 0;
        for (int m = 0; m < 2; m++) {
            float dout[CLASSES];
            double p[CLASSES];
            for (int k = 0; k < CLASSES; k++) p[k] = probability(models[m], x, k);
            for (int k = 0; k < CLASSES; k++) dout[k] = (float)(p[k] - (k == target));
            mean += p[target] / 2;
            const float *g = dscm_probe_backward(&models[m]->probe, dout, 1);
            for (int i = 0; i < PIXELS; i++) grad[i] += (double)g[i];
        }
        int best = -1;
        for (int i = 0; i < PIXELS; i++) {
            bool may = visits[i] < o->visits && (grad[i] > 0 ? x[i] > -1 : x[i] < 1);
            if (may && (best < 0 || fabs(grad[i]) > fabs(grad[best]))) best = i;
        }
        if (mean >= o->confidence || best < 0) return moves;
        x[best] += (float)(grad[best] > 0 ? -o->delta : o->delta);
        x[best] = fmaxf(-1, fminf(1, x[best]));
        visits[best]++;
    }
    return (int)o->iterations;
}

/* Several images at once find what each finds alone: until the ensemble's mean is sure, or every
 * pixel was visited as often as allowed. */
static void greedy_is_the_reference(void)
{
    model a, b;
    model *const models[2] = {&a, &b};
    float images[COUNT * PIXELS], out[COUNT * PIXELS];
    int targets[COUNT], sure = 0, unsure = 0;
    dscm_error err = {0};
    REQUIRE(open_model(&a, 5) && open_model(&b, 6));
    dscm_probe *const ensemble[] = {&a.probe, &b.probe};
    draw_images(images, targets, 3);
    for (int k = 0; k < 2; k++) {
        const dscm_greedy_options o = {
            .delta = k ? 0.5 : 0.2, .visits = k ? 1 : 3, .iterations = 100, .confidence = 0.36};
        REQUIRE(dscm_baseline_greedy(out, images, targets, COUNT, ensemble, 2, &o, &err) ==
                DSCM_OK);
        for (size_t n = 0; n < COUNT; n++) {
            float *x = images + n * PIXELS, want[PIXELS];
            memcpy(want, x, sizeof want);
            int moves = greedy_reference(want, models, targets[n], &o);
            *(moves < (k ? PIXELS : 100) ? &sure : &unsure) += 1;
            for (int i = 0; i < PIXELS; i++) CHECK_NEAR(out[n * PIXELS + (size_t)i], want[i], 1e-6);
        }
    }
    CHECK(sure >= 2 && unsure >= 2);
    close_model(&a);
    close_model(&b);
}

/* Logit of the target less the largest other. */
static double margin(model *m, const float *image, int target)
{
    const float *l = dscm_probe_forward(&m->probe, image, 1);
    double rival = -INFINITY;
    for (int k = 0; k < CLASSES; k++)
        if (k != target) rival = fmax(rival, (double)l[k]);
    return (double)l[target] - rival;
}

static int runner_up(model *m, const float *image)
{
    int best = 0, second = -1;
    for (int k = 1; k < CLASSES; k++)
        if (margin(m, image, k) > 0) best = k;
    for (int k = 0; k < CLASSES; k++)
        if (k != best && (second < 0 || margin(m, image, k) > margin(m, image, second))) second = k;
    return second;
}

/* Reaches its target by the margin it is told, inside the pixel range; with the pull to the
 * prototype its code comes nearer to it than without. */
static void prototypes_reach_their_target(void)
{
    enum { CODE = SIDE * SIDE / 4 };
    model classifier, autoencoder, encoder;
    float images[COUNT * PIXELS], out[COUNT * PIXELS], unit[PIXELS];
    int targets[COUNT];
    const uint8_t labels[CLASSES] = {0, 1, 2};
    float codes[CLASSES * CODE];
    double gap[2] = {0, 0};
    dscm_error err = {0};
    REQUIRE(open_model(&classifier, 7));
    REQUIRE(open_network(&autoencoder, DSCM_ARCH_AUTOENCODER, "out", 8));
    REQUIRE(open_network(&encoder, DSCM_ARCH_AUTOENCODER, "code", 8));
    REQUIRE(encoder.probe.width == CODE);
    draw_images(images, targets, 5);
    for (size_t i = 0; i < CLASSES; i++) {
        for (size_t p = 0; p < PIXELS; p++) unit[p] = (images[i * PIXELS + p] + 1) / 2;
        memcpy(codes + i * CODE, dscm_probe_forward(&encoder.probe, unit, 1), CODE * sizeof *codes);
    }
    dscm_prototype_nets nets = {
        &classifier.probe, &autoencoder.probe, &encoder.probe, codes, labels, CLASSES};
    dscm_prototype_options options = dscm_prototype_defaults();
    options.kappa = 0.01;
    options.gamma = 0;
    options.searches = 6;
    for (int pull = 0; pull < 2; pull++) {
        options.theta = pull ? 10 : 0;
        for (size_t b = 0; b < COUNT; b++) targets[b] = runner_up(&classifier, images + b * PIXELS);
        REQUIRE(dscm_baseline_prototype(out, images, targets, COUNT, &nets, &options, &err) ==
                DSCM_OK);
        for (size_t b = 0; b < COUNT; b++) {
            for (size_t p = 0; p < PIXELS; p++) {
                CHECK(fabsf(out[b * PIXELS + p]) <= 1);
                unit[p] = (out[b * PIXELS + p] + 1) / 2;
            }
            CHECK(margin(&classifier, out + b * PIXELS, targets[b]) > options.kappa - 1e-4);
            const float *code = dscm_probe_forward(&encoder.probe, unit, 1);
            for (size_t k = 0; k < CODE; k++)
                gap[pull] += pow((double)code[k] - codes[targets[b] * CODE + (int)k], 2);
        }
    }
    CHECK(gap[1] < gap[0]);
    close_model(&classifier);
    close_model(&autoencoder);
    close_model(&encoder);
}

static void real_images_of_the_class(void)
{
    enum { POOL = 6, WIDTH = 2 };
    const uint8_t pixels[POOL * WIDTH] = {0, 0, 255, 255, 100, 100, 10, 0, 200, 255, 90, 120};
    const uint8_t labels[POOL] = {0, 0, 1, 1, 1, 1};
    const dscm_pool_view pool = {.pixels = pixels, .labels = labels, .n = POOL, .width = WIDTH};
    const float images[2 * WIDTH] = {-1, -1, 0.8f, 1};
    const int one[2] = {1, 1}, both[2] = {0, 1}, missing[2] = {1, 2};
    float out[2 * WIDTH];
    uint8_t got[2 * WIDTH];
    dscm_error err = {0};
    REQUIRE(dscm_baseline_real(out, images, one, 2, &pool, true, 1, 0, &err) == DSCM_OK);
    dscm_pixels_from_float(got, out, 2 * WIDTH);
    CHECK_INT(got[0], 10);
    CHECK_INT(got[2], 200);
    size_t seen[POOL] = {0};
    for (uint64_t stream = 0; stream < 200; stream += 2) {
        REQUIRE(dscm_baseline_real(out, images, both, 2, &pool, false, 1, stream, &err) == DSCM_OK);
        dscm_pixels_from_float(got, out, 2 * WIDTH);
        for (size_t b = 0; b < 2; b++)
            for (size_t i = 0; i < POOL; i++)
                if (memcmp(got + b * WIDTH, pixels + i * WIDTH, WIDTH) == 0) {
                    CHECK_INT(labels[i], both[b]);
                    seen[i]++;
                }
    }
    for (size_t i = 0; i < POOL; i++) CHECK(seen[i] > 0); /* each of a class turns up */
    CHECK_INT(dscm_baseline_real(out, images, missing, 2, &pool, true, 1, 0, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "2");
}

/* Batches as large as an evaluation may ask for give what small ones give. */
static void prototypes_in_large_batches(void)
{
    enum { LARGE = 600, CODE = SIDE * SIDE / 4 };
    static float images[LARGE * PIXELS], out[LARGE * PIXELS], small[COUNT * PIXELS];
    static int targets[LARGE];
    static const float codes[CLASSES * CODE];
    const uint8_t labels[CLASSES] = {0, 1, 2};
    model m[3];
    const char *const outputs[] = {"out", "out", "code"};
    dscm_error err = {0};
    dscm_prototype_options options = dscm_prototype_defaults();
    options.iterations = options.searches = 2;
    for (int i = 0; i < 3; i++)
        REQUIRE(open_network(&m[i], i ? DSCM_ARCH_AUTOENCODER : DSCM_ARCH_CNN, outputs[i], 7));
    dscm_prototype_nets nets = {&m[0].probe, &m[1].probe, &m[2].probe, codes, labels, CLASSES};
    draw_images(images, targets, 5);
    REQUIRE(dscm_baseline_prototype(small, images, targets, COUNT, &nets, &options, &err) ==
            DSCM_OK);
    for (int i = 0; i < 3; i++) {
        dscm_probe_close(&m[i].probe);
        REQUIRE(dscm_probe_open(&m[i].probe, m[i].net, m[i].weights, outputs[i], LARGE, &err) ==
                DSCM_OK);
    }
    for (size_t b = COUNT; b < LARGE; b++) {
        memcpy(images + b * PIXELS, images + b % COUNT * PIXELS, PIXELS * sizeof *images);
        targets[b] = targets[b % COUNT];
    }
    REQUIRE(dscm_baseline_prototype(out, images, targets, LARGE, &nets, &options, &err) == DSCM_OK);
    for (size_t i = 0; i < LARGE * PIXELS; i++)
        CHECK_NEAR(out[i], small[i % (COUNT * PIXELS)], 1e-4);
    for (int i = 0; i < 3; i++) close_model(&m[i]);
}

/* Among many wide images, as a plain search over all of them finds it. */
static void the_nearest_is_the_nearest(void)
{
    enum { POOL = 60, WIDTH = 200, ASKED = 12 };
    static uint8_t pixels[POOL * WIDTH], labels[POOL];
    static float images[ASKED * WIDTH], out[ASKED * WIDTH];
    const dscm_pool_view pool = {.pixels = pixels, .labels = labels, .n = POOL, .width = WIDTH};
    int targets[ASKED];
    dscm_error err = {0};
    dscm_rng rng = dscm_rng_make(test_seed, 8);
    for (size_t i = 0; i < POOL * WIDTH; i++) pixels[i] = (uint8_t)dscm_rng_below(&rng, 256);
    for (size_t i = 0; i < POOL; i++) labels[i] = (uint8_t)(i % 2);
    for (size_t i = 0; i < ASKED * WIDTH; i++) images[i] = 2 * dscm_rng_uniform(&rng) - 1;
    for (int n = 0; n < ASKED; n++) targets[n] = n % 2;
    REQUIRE(dscm_baseline_real(out, images, targets, ASKED, &pool, true, 1, 0, &err) == DSCM_OK);
    for (size_t n = 0; n < ASKED; n++) {
        double least = INFINITY, got = 0;
        for (size_t i = 0; i < POOL; i++) {
            double d = 0;
            for (size_t p = 0; p < WIDTH; p++)
                d += pow((double)images[n * WIDTH + p] - (pixels[i * WIDTH + p] / 127.5 - 1), 2);
            if (labels[i] == targets[n]) least = fmin(least, d);
        }
        for (size_t p = n * WIDTH; p < (n + 1) * WIDTH; p++)
            got += pow((double)images[p] - (double)out[p], 2);
        CHECK_NEAR(got, least, 1e-3);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"probe_gradient_is_the_derivative", probe_gradient_is_the_derivative},
        {"attack_stays_in_its_ball_and_raises_the_target",
         attack_stays_in_its_ball_and_raises_the_target},
        {"greedy_moves_one_pixel_a_time_until_confident",
         greedy_moves_one_pixel_a_time_until_confident},
        {"greedy_is_the_reference", greedy_is_the_reference},
        {"the_nearest_is_the_nearest", the_nearest_is_the_nearest},
        {"prototypes_reach_their_target", prototypes_reach_their_target},
        {"prototypes_in_large_batches", prototypes_in_large_batches},
        {"real_images_of_the_class", real_images_of_the_class},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
