/* Samplers on Gaussian data, where the noise estimate and the flow are known in closed form.
 *
 * Data as in gaussian.h, a class N(M, S2): grad log p(class | x, t) = sqrt(a) M / v. The flow between levels
 * b and a is x_a = sqrt(v_a / v_b) x_b, and that of the class the same about sqrt(a) M. */
#include <string.h>

#include "core/base/rng.h"
#include "core/diffscm.h"
#include "core/diffusion/sampler.h"
#include "tests/core/diffusion/gaussian.h"
#include "tests/core/diffusion/walk_memory.h"
#include "tests/harness.h"

enum { BATCH = 3, SIZE = 16, FLOATS = BATCH * SIZE, STEPS_MAX = 400 };

#define M 0.8

static dscm_schedule schedule;
static float memory[6][FLOATS], residual[FLOATS * (STEPS_MAX + 1)];

static dscm_code eps_of(void *ctx, float *eps, const float *x, double t, size_t batch,
                        dscm_error *err)
{
    (void)ctx;
    (void)err;
    gaussian_eps(&schedule, eps, x, t, batch * SIZE);
    return DSCM_OK;
}

static dscm_code guide_to_class(void *ctx, float *grad, const float *x, double t, size_t batch,
                                dscm_error *err)
{
    double a = schedule.alphas_cumprod[(size_t)t];
    (void)ctx;
    (void)x;
    (void)err;
    for (size_t i = 0; i < batch * SIZE; i++) grad[i] = (float)(sqrt(a) * M / variance(a));
    return DSCM_OK;
}

static dscm_walk walk_of(const float *image)
{
    dscm_walk w = walk_on(memory[0], residual, BATCH, SIZE, 1);
    for (size_t i = 0; i < 6; i++)
        for (size_t k = 0; k < FLOATS; k++) memory[i][k] = (float)NAN;
    memcpy(w.x, image, sizeof memory[0]);
    return w;
}

static void draw(float *image)
{
    dscm_rng rng = dscm_rng_make(test_seed, 0);
    dscm_rng_normal(&rng, image, FLOATS);
    for (int i = 0; i < FLOATS; i++) image[i] *= (float)sqrt(S2);
    image[1] = 1.5f; /* beyond the range of an image's values, in which nothing here may count */
}

/* The larger of two errors; a NaN stays. */
static double larger(double a, double b)
{
    return b <= a ? a : b;
}

/* Up, and down again guided or not: the largest error against what the flow says; *top: of the
 * noise at the highest level. */
static double error_of(const char *name, size_t steps, bool guided, double *top)
{
    float image[FLOATS];
    dscm_sampler sampler = DSCM_SAMPLER_DDIM;
    dscm_path path;
    dscm_error err = {0};
    draw(image);
    if (dscm_sampler_parse(&sampler, name, &err) != DSCM_OK ||
        dscm_path_open(&path, &schedule, sampler, steps, 0.98, false, &err) != DSCM_OK) {
        TEST_FAIL_("%s", err.message);
        return INFINITY;
    }
    dscm_walk w = walk_of(image);
    dscm_denoiser d = {.eps = eps_of};
    double worst = 0, first = path.alpha_bar[0], last = path.alpha_bar[path.steps];
    double wide = sqrt(variance(last) / variance(first));
    CHECK(dscm_walk_up(&path, &w, &d, NULL, &err) == DSCM_OK);
    *top = 0;
    for (int i = 0; i < FLOATS; i++)
        *top = larger(*top, fabs((double)w.x[i] - wide * (double)image[i]));
    if (guided) d.guide = guide_to_class;
    CHECK(dscm_walk_down(&path, &w, &d, NULL, &err) == DSCM_OK);
    for (int i = 0; i < FLOATS; i++) {
        double want = (double)image[i];
        if (guided) want += sqrt(first) * M - sqrt(last) * M / wide;
        worst = larger(worst, fabs((double)w.x[i] - want));
    }
    dscm_path_close(&path);
    return worst;
}

static void exact_samplers_return(void)
{
    static const size_t counts[] = {2, 5, 10, 20, 33, 100};
    double top;
    for (size_t s = 0; dscm_sampler_name(s); s++)
        for (size_t i = 0; dscm_sampler_exact(dscm_sampler_name(s)) && i < TEST_COUNT(counts); i++)
            CHECK_NEAR(error_of(dscm_sampler_name(s), counts[i], false, &top), 0, 2e-4);
    CHECK(error_of("ddim", 10, false, &top) > 1e-2); /* or the check above would show nothing */
}

/* Finer steps come nearer to the true flow: first order halves the error, second quarters it. */
static void upward_errors_shrink(void)
{
    double coarse, fine;
    error_of("ddim", 50, false, &coarse);
    error_of("ddim", 100, false, &fine);
    CHECK(fine < 0.65 * coarse && fine > 0.35 * coarse);
    error_of("obelm", 50, false, &coarse);
    error_of("obelm", 100, false, &fine);
    CHECK(fine < 0.4 * coarse);
}

/* Guidance of strength 1 by the true gradient leads to the class's own flow. */
static void guidance_reaches_the_class(void)
{
    static const char *const names[] = {"ddim", "residual", "obelm"};
    double top;
    for (size_t i = 0; i < TEST_COUNT(names); i++) {
        double coarse = error_of(names[i], 50, true, &top);
        double fine = error_of(names[i], 200, true, &top);
        CHECK_NEAR(fine, 0, 0.06);
        CHECK(fine < 0.5 * coarse);
    }
}

static bool stop_at_three(void *ctx, const dscm_walk *w, size_t done, size_t total)
{
    (void)w;
    (void)total;
    *(size_t *)ctx = done;
    return done < 3;
}

static void observers_cancel(void)
{
    float image[FLOATS];
    size_t done = 0;
    dscm_path path;
    dscm_error err = {0};
    draw(image);
    REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_OBELM, 10, 1, false, &err) == DSCM_OK);
    dscm_walk w = walk_of(image);
    dscm_denoiser d = {.eps = eps_of};
    dscm_walk_observer observer = {&done, stop_at_three};
    CHECK_INT(dscm_walk_up(&path, &w, &d, &observer, &err), DSCM_E_CANCELED);
    CHECK_INT(done, 3);
    CHECK_HAS(err.message, "3 of 10");
    dscm_path_close(&path);
}

/* The residual sampler meets on the way down the very numbers of the way up; a value that no float
 * holds spoils its own image only. */
static void residual_closes_to_the_bit(void)
{
    float image[FLOATS];
    dscm_path path;
    dscm_error err = {0};
    dscm_denoiser d = {.eps = eps_of};
    REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_RESIDUAL, 10, 1, false, &err) == DSCM_OK);
    for (int huge = 0; huge < 2; huge++) {
        draw(image);
        if (huge) image[0] = (float)INFINITY; /* in the first of the two images */
        dscm_walk w = walk_of(image);
        CHECK(dscm_walk_up(&path, &w, &d, NULL, &err) == DSCM_OK);
        CHECK(dscm_walk_down(&path, &w, &d, NULL, &err) == DSCM_OK);
        for (int i = huge ? SIZE : 0; i < FLOATS; i++)
            CHECK_NEAR(w.x[i], image[i], 1.0 / (1 << 21)); /* half the grid, once */
    }
    dscm_path_close(&path);
}

/* Every number that the network is given on the way up, in order. */
typedef struct tape {
    float inputs[STEPS_MAX][FLOATS];
    size_t count;
    bool back; /* compare instead, from the last on */
    size_t differ;
} tape;

static dscm_code eps_on_tape(void *ctx, float *eps, const float *x, double t, size_t batch,
                             dscm_error *err)
{
    tape *m = ctx;
    if (!m->back)
        memcpy(m->inputs[m->count++], x, sizeof m->inputs[0]);
    else
        m->differ += memcmp(m->inputs[--m->count], x, sizeof m->inputs[0]) != 0;
    return eps_of(NULL, eps, x, t, batch, err);
}

static bool on_the_grid(void *ctx, const dscm_walk *w, size_t done, size_t total)
{
    size_t *next = ctx;
    CHECK_INT(done, ++*next);
    CHECK(done <= total);
    for (size_t i = 0; i < FLOATS; i++) {
        double steps = (double)w->x[i] * (1 << 21); /* of 2^-20, below -4 of half that */
        CHECK(steps == rint(steps));
    }
    return true;
}

static void the_way_back_meets_the_same_numbers(void)
{
    static tape m;
    float image[FLOATS];
    dscm_path path;
    dscm_error err = {0};
    size_t next = 0;
    dscm_denoiser d = {.ctx = &m, .eps = eps_on_tape};
    dscm_walk_observer observer = {&next, on_the_grid};
    REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_RESIDUAL, 33, 1, false, &err) == DSCM_OK);
    draw(image);
    dscm_walk w = walk_of(image);
    m.count = 0;
    CHECK(dscm_walk_up(&path, &w, &d, &observer, &err) == DSCM_OK);
    CHECK_INT(next, 33);
    CHECK_INT(m.count, dscm_path_evaluations(&path, true));
    m.back = true;
    next = 0;
    CHECK(dscm_walk_down(&path, &w, &d, &observer, &err) == DSCM_OK);
    CHECK_INT(next, 33);
    CHECK_INT(m.differ, 0);
    CHECK_INT(m.count, 1); /* the image itself is not evaluated again */
    dscm_path_close(&path);
}

static dscm_code eps_of_nothing(void *ctx, float *eps, const float *x, double t, size_t batch,
                                dscm_error *err)
{
    (void)ctx;
    (void)x;
    (void)t;
    (void)err;
    memset(eps, 0, batch * SIZE * sizeof *eps);
    return DSCM_OK;
}

/* Mean distance from the image, in levels of 255, of a round trip; noise_only: of the top level
 * alone. */
static double round_trip(dscm_sampler sampler, const dscm_denoiser *d, bool noise_only)
{
    float image[FLOATS];
    dscm_path path;
    dscm_error err = {0};
    double sum = 0;
    draw(image);
    if (dscm_path_open(&path, &schedule, sampler, 20, 0.98, false, &err) != DSCM_OK)
        return INFINITY;
    dscm_walk w = walk_of(image);
    CHECK(dscm_walk_up(&path, &w, d, NULL, &err) == DSCM_OK);
    if (noise_only) CHECK(dscm_walk_forget(&path, &w, d, &err) == DSCM_OK);
    CHECK(dscm_walk_down(&path, &w, d, NULL, &err) == DSCM_OK);
    for (int i = 0; i < FLOATS; i++) sum += 127.5 * fabs((double)w.x[i] - (double)image[i]);
    dscm_path_close(&path);
    return sum / FLOATS;
}

/* Exactness of a walk that stores something says nothing of the network: one that answers zero
 * passes the full round trip. From the noise alone only a true one comes back, and of the samplers
 * only those whose noise carries the image. */
static void a_zero_network_fails_noise_only(void)
{
    const dscm_denoiser zero = {.eps = eps_of_nothing}, exact = {.eps = eps_of};
    for (int s = 0; s < DSCM_SAMPLERS; s++) {
        if (!dscm_sampler_exact(dscm_sampler_name((size_t)s))) continue;
        CHECK(round_trip((dscm_sampler)s, &zero, false) < 0.05);
        CHECK(round_trip((dscm_sampler)s, &zero, true) > 2);
    }
    CHECK(round_trip(DSCM_SAMPLER_IMPLICIT, &exact, true) < 0.5);
    CHECK(round_trip(DSCM_SAMPLER_RESIDUAL, &exact, true) > 1);
}

/* Each level above the one before, from the image to the share of the steps that the ratio says,
 * also where there are hardly more steps than levels. */
static void levels_climb(void)
{
    static const struct {
        size_t steps;
        double ratio;
        double top;
    } cases[] = {{2, 1, 999}, {20, 0.95, 949}, {400, 0.5, 500}, {990, 1, 999}, {99, 0.1, 100}};
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        dscm_path path;
        dscm_error err = {0};
        REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_DDIM, cases[i].steps, cases[i].ratio,
                               false, &err) == DSCM_OK);
        CHECK_INT(path.steps, cases[i].steps);
        CHECK_INT(path.t[0], 0);
        CHECK_INT(path.t[path.steps], cases[i].top);
        for (size_t k = 0; k < path.steps; k++) CHECK(path.t[k] < path.t[k + 1]);
        for (size_t k = 0; k <= path.steps; k++)
            CHECK_NEAR(path.alpha_bar[k], schedule.alphas_cumprod[(size_t)path.t[k]], 0);
        dscm_path_close(&path);
    }
}

static double angle(double alpha_bar)
{
    return acos(sqrt(alpha_bar));
}

/* Half way between even in the angle and even in the logarithm of its tangent, each at the first step
 * that reaches it. */
static void levels_are_placed_as_said(void)
{
    enum { STEPS = 20 };
    dscm_path path;
    dscm_error err = {0};
    const double *bars = schedule.alphas_cumprod;
    REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_RESIDUAL, STEPS, 0.95, false, &err) ==
            DSCM_OK);
    double low = angle(bars[0]), high = angle(bars[949]);
    for (int k = 1; k < STEPS; k++) {
        double u = (double)k / STEPS, even = low + (high - low) * u;
        double logarithmic = atan(exp(log(tan(low)) * (1 - u) + log(tan(high)) * u));
        double want = (even + logarithmic) / 2;
        size_t t = (size_t)path.t[k];
        if (t == (size_t)path.t[k - 1] + 1) continue; /* crowded: the next free one */
        CHECK(angle(bars[t]) > want - 1e-9 && angle(bars[t - 1]) < want + 1e-9);
    }
    dscm_path_close(&path);
}

/* Pure noise becomes a state: the pair's lower level is the same noise at its own strength, and
 * there are no residuals. */
static void noise_becomes_a_state(void)
{
    float noise[FLOATS];
    dscm_path path;
    dscm_error err = {0};
    draw(noise);
    REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_OBELM, 10, 0.9, false, &err) == DSCM_OK);
    dscm_walk w = walk_of(noise);
    dscm_walk_from_noise(&path, &w);
    double share = sqrt((1 - path.alpha_bar[9]) / (1 - path.alpha_bar[10]));
    for (int i = 0; i < FLOATS; i++) CHECK_NEAR(w.pair[i], share * (double)noise[i], 1e-6);
    dscm_path_close(&path);
    REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_RESIDUAL, 10, 0.9, false, &err) ==
            DSCM_OK);
    for (size_t i = 0; i < 10 * FLOATS; i++) residual[i] = 7;
    dscm_walk_from_noise(&path, &w);
    for (size_t i = 0; i < 10 * FLOATS; i++) CHECK_NEAR(residual[i], 0, 0);
    dscm_path_close(&path);
}

/* Gradients of ctx[item] per pixel. */
static dscm_code guide_by_item(void *ctx, float *grad, const float *x, double t, size_t batch,
                               dscm_error *err)
{
    const float *strength = ctx;
    (void)x, (void)t, (void)err;
    for (size_t i = 0; i < batch * SIZE; i++) grad[i] = strength[i / SIZE];
    return DSCM_OK;
}

static bool end_after_a_move(void *ctx, const dscm_walk *w, size_t done, size_t all)
{
    (void)ctx, (void)w, (void)done, (void)all;
    return false;
}

/* Down from the noise of an image with the given guidance per item; the noise comes from the
 * residual sampler each time. like: sampler and what its guided walks do besides. top: the noise,
 * or NULL. first: only the first move. */
static void walk_down_like(float *out, dscm_path like, float *strength, float *top, bool first)
{
    float image[FLOATS];
    dscm_path up, down;
    dscm_error err = {0};
    dscm_denoiser d = {.eps = eps_of};
    draw(image);
    REQUIRE(dscm_path_open(&up, &schedule, DSCM_SAMPLER_RESIDUAL, 10, 0.98, false, &err) ==
            DSCM_OK);
    REQUIRE(dscm_path_open(&down, &schedule, like.sampler, 10, 0.98, false, &err) == DSCM_OK);
    down.limit = like.limit;
    down.noise_limit = like.noise_limit;
    down.eta = like.eta;
    dscm_walk w = walk_of(image);
    CHECK(dscm_walk_up(&up, &w, &d, NULL, &err) == DSCM_OK);
    if (top) memcpy(top, w.x, FLOATS * sizeof *top);
    d.guide = guide_by_item;
    d.ctx = strength;
    dscm_walk_observer ends = {.on_step = end_after_a_move};
    CHECK(dscm_walk_down(&down, &w, &d, first ? &ends : NULL, &err) ==
          (first ? DSCM_E_CANCELED : DSCM_OK));
    memcpy(out, w.x, FLOATS * sizeof *out);
    dscm_path_close(&up);
    dscm_path_close(&down);
}

static void walk_down_guided(float *out, dscm_sampler sampler, bool limit, float *strength)
{
    walk_down_like(out, (dscm_path){.sampler = sampler, .limit = limit}, strength, NULL, false);
}

/* An item without a gradient returns to the bit whatever its neighbours do; a strongly guided one
 * sheds its residuals and walks as ddim does; between them the share falls from level to level. */
static void guidance_sheds_residuals(void)
{
    float image[FLOATS], got[FLOATS], plain[FLOATS], strength[BATCH] = {0, 2, 1e-3f};
    draw(image);
    walk_down_guided(got, DSCM_SAMPLER_RESIDUAL, false, strength);
    walk_down_guided(plain, DSCM_SAMPLER_DDIM, false, strength);
    double kept = 0, shed = 0, between = 0;
    for (int i = 0; i < SIZE; i++) {
        CHECK_NEAR(got[i], image[i], 1.0 / (1 << 21));
        kept = larger(kept, fabs((double)plain[i] - (double)image[i]));
        shed = larger(shed, fabs((double)plain[SIZE + i] - (double)got[SIZE + i]));
        between = larger(between, fabs((double)plain[2 * SIZE + i] - (double)got[2 * SIZE + i]));
    }
    CHECK(kept > 1e-2); /* without residuals the first item would not have returned */
    CHECK(shed < 1e-3);
    CHECK(between > 1e-2);
}

/* A limited path keeps a strongly guided item in the image's range, which it leaves otherwise, and
 * leaves an item without a gradient alone, out of range as its pixels are. */
static void limited_guidance_stays_in_range(void)
{
    static const dscm_sampler moving[] = {DSCM_SAMPLER_RESIDUAL, DSCM_SAMPLER_DDIM};
    float image[FLOATS], got[FLOATS], strength[BATCH] = {0, 20, -20};
    draw(image);
    for (size_t k = 0; k < TEST_COUNT(moving); k++) {
        walk_down_guided(got, moving[k], false, strength);
        for (int i = SIZE; i < FLOATS; i++) CHECK(fabs((double)got[i]) > 2);
        walk_down_guided(got, moving[k], true, strength);
        for (int i = SIZE; i < FLOATS; i++) CHECK_NEAR(got[i], i < 2 * SIZE ? 1 : -1, 0.05);
        for (int i = 0; k == 0 && i < SIZE; i++) CHECK_NEAR(got[i], image[i], 1.0 / (1 << 21));
    }
}

/* Levels of the walks above: alpha_bar of the top and of the one below. */
static void top_levels(double *top, double *below)
{
    dscm_path p;
    dscm_error err = {0};
    REQUIRE(dscm_path_open(&p, &schedule, DSCM_SAMPLER_DDIM, 10, 0.98, false, &err) == DSCM_OK);
    *top = p.alpha_bar[p.steps];
    *below = p.alpha_bar[p.steps - 1];
    dscm_path_close(&p);
}

/* The first move of a strongly guided item starts from its noise limited to so many standard
 * deviations, with the estimate of the noise as it was; an item without a gradient returns. */
static void strong_guidance_starts_from_limited_noise(void)
{
    const float most = 0.9f;
    float image[FLOATS], got[FLOATS], plain[FLOATS], top[FLOATS], strength[BATCH] = {0, 9, -9};
    dscm_path like = {.sampler = DSCM_SAMPLER_DDIM, .noise_limit = (double)most};
    double a, b;
    int beyond = 0;
    draw(image);
    top_levels(&a, &b);
    walk_down_like(plain, (dscm_path){.sampler = DSCM_SAMPLER_DDIM}, strength, top, true);
    walk_down_like(got, like, strength, NULL, true);
    for (int i = 0; i < SIZE; i++) CHECK(got[i] == plain[i]);
    for (int i = SIZE; i < FLOATS; i++) {
        double held = fmin(fmax((double)top[i], -(double)most), (double)most);
        beyond += held != (double)top[i];
        CHECK_NEAR((double)got[i] - (double)plain[i], sqrt(b / a) * (held - (double)top[i]), 1e-3);
    }
    CHECK(beyond > 3 && beyond < 2 * SIZE - 3);
    like.sampler = DSCM_SAMPLER_RESIDUAL;
    walk_down_like(got, like, strength, NULL, false);
    for (int i = 0; i < SIZE; i++) CHECK_NEAR(got[i], image[i], 1.0 / (1 << 21));
}

/* With eta a move replaces a part of the noise estimate by fresh noise, sqrt(1-b-s^2) eps + s z
 * instead of sqrt(1-b) eps: the same z for every item and in every walk. Items without a gradient
 * get none. */
static void strong_guidance_takes_fresh_noise(void)
{
    float image[FLOATS], got[FLOATS], again[FLOATS], plain[FLOATS], top[FLOATS];
    float strength[BATCH] = {0, 9, -9};
    dscm_path like = {.sampler = DSCM_SAMPLER_DDIM, .eta = 0.6};
    double a, b, mean = 0, square = 0, z[2][SIZE];
    draw(image);
    top_levels(&a, &b);
    double s = like.eta * sqrt((1 - b) / (1 - a)) * sqrt(1 - a / b);
    walk_down_like(plain, (dscm_path){.sampler = DSCM_SAMPLER_DDIM}, strength, top, true);
    walk_down_like(got, like, strength, NULL, true);
    walk_down_like(again, like, strength, NULL, true);
    CHECK(memcmp(got, again, sizeof got) == 0);
    for (int i = 0; i < SIZE; i++) CHECK(got[i] == plain[i]);
    for (int i = SIZE; i < FLOATS; i++) {
        double eps =
            sqrt(1 - a) / variance(a) * (double)top[i] - sqrt(1 - a) * (double)strength[i / SIZE];
        double less = sqrt(1 - b) - sqrt(1 - b - s * s);
        z[i / SIZE - 1][i % SIZE] = ((double)got[i] - (double)plain[i] + less * eps) / s;
    }
    for (int i = 0; i < SIZE; i++) {
        CHECK_NEAR(z[0][i], z[1][i], 1e-2);
        mean += z[0][i] / SIZE;
        square += z[0][i] * z[0][i] / SIZE;
    }
    CHECK(fabs(mean) < 1 && square > 0.3 && square < 2.5);
    like.sampler = DSCM_SAMPLER_RESIDUAL;
    walk_down_like(got, like, strength, NULL, false);
    for (int i = 0; i < SIZE; i++) CHECK_NEAR(got[i], image[i], 1.0 / (1 << 21));
}

static void paths_refuse_nonsense(void)
{
    static const struct {
        dscm_sampler sampler;
        size_t steps;
        double ratio;
        const char *part;
    } cases[] = {{DSCM_SAMPLER_OBELM, 1, 1, "steps: 1"},
                 {DSCM_SAMPLER_OBELM, 2000, 1, "steps: 2000"},
                 {DSCM_SAMPLER_OBELM, 100, 0.05, "ratio: 0.05 keeps 50 of 999 noise levels"},
                 {DSCM_SAMPLER_DDIM, 10, 0, "ratio: 0"},
                 {DSCM_SAMPLER_DDIM, 10, (double)NAN, "ratio:"},
                 {DSCM_SAMPLER_DDIM, 10, 1.001, "ratio: 1.001"},
                 {DSCM_SAMPLER_PUBLISHED, 10, 0.01, "ratio: 0.01"},
                 {DSCM_SAMPLER_PUBLISHED, 75, 1, "stride"}};
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        dscm_path path;
        dscm_error err = {0};
        CHECK(dscm_path_open(&path, &schedule, cases[i].sampler, cases[i].steps, cases[i].ratio,
                             false, &err) != DSCM_OK);
        CHECK_HAS(err.message, cases[i].part);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"exact_samplers_return", exact_samplers_return},
        {"upward_errors_shrink", upward_errors_shrink},
        {"guidance_reaches_the_class", guidance_reaches_the_class},
        {"observers_cancel", observers_cancel},
        {"residual_closes_to_the_bit", residual_closes_to_the_bit},
        {"the_way_back_meets_the_same_numbers", the_way_back_meets_the_same_numbers},
        {"a_zero_network_fails_noise_only", a_zero_network_fails_noise_only},
        {"levels_climb", levels_climb},
        {"levels_are_placed_as_said", levels_are_placed_as_said},
        {"noise_becomes_a_state", noise_becomes_a_state},
        {"guidance_sheds_residuals", guidance_sheds_residuals},
        {"limited_guidance_stays_in_range", limited_guidance_stays_in_range},
        {"strong_guidance_starts_from_limited_noise", strong_guidance_starts_from_limited_noise},
        {"strong_guidance_takes_fresh_noise", strong_guidance_takes_fresh_noise},
        {"paths_refuse_nonsense", paths_refuse_nonsense}};
    dscm_error err = {0};
    if (dscm_schedule_open(&schedule, DSCM_SCHEDULE_COSINE, 1000, &err) != DSCM_OK) return 1;
    int failed = test_main(argc, argv, cases, TEST_COUNT(cases));
    dscm_schedule_close(&schedule);
    return failed;
}
