/* Samplers step by step against their formulas, written out plainly in double: the published one,
 * O-BELM, and the residual one under guidance. The noise estimate is an arbitrary smooth function. */
#include <string.h>

#include "core/base/rng.h"
#include "core/diffusion/sampler.h"
#include "tests/core/diffusion/walk_memory.h"
#include "tests/harness.h"

enum {
    BATCH = 2,
    CHANNELS = 2,
    POINTS = 50,
    SIZE = POINTS * CHANNELS,
    ALL = BATCH * SIZE,
    STEPS = 20
};

static dscm_schedule schedule;

static double eps_at(double x, double t)
{
    return 1.2 * sin(3 * x + t / 100) + 0.4 * x;
}

/* The items are guided at different strengths, the first not at all. */
static double grad_at(double x, double t, size_t index)
{
    return (double)(index / SIZE) * 0.05 * cos(2 * x + t / 300);
}

typedef struct counts {
    size_t eps, guides;
} counts;

static dscm_code eps_of(void *ctx, float *eps, const float *x, double t, size_t batch,
                        dscm_error *err)
{
    (void)err;
    ((counts *)ctx)->eps++;
    for (size_t i = 0; i < batch * SIZE; i++) eps[i] = (float)eps_at((double)x[i], t);
    return DSCM_OK;
}

static dscm_code guide_of(void *ctx, float *grad, const float *x, double t, size_t batch,
                          dscm_error *err)
{
    (void)err;
    ((counts *)ctx)->guides++;
    for (size_t i = 0; i < batch * SIZE; i++) grad[i] = (float)grad_at((double)x[i], t, i);
    return DSCM_OK;
}

static float memory[6][ALL], residual[ALL * STEPS];

static dscm_walk walk_of(const double *image)
{
    for (size_t i = 0; i < ALL; i++) memory[0][i] = (float)image[i];
    return walk_on(memory[0], residual, BATCH, SIZE, CHANNELS);
}

/* Wide enough for the published limits to bite. */
static void draw(double *image, double width)
{
    float values[ALL];
    dscm_rng rng = dscm_rng_make(test_seed, 3);
    dscm_rng_normal(&rng, values, ALL);
    for (size_t i = 0; i < ALL; i++) image[i] = width * (double)values[i];
}

static void check_near_all(const float *got, const double *want, double tolerance)
{
    for (size_t i = 0; i < ALL; i++) CHECK_NEAR(got[i], want[i], tolerance);
}

/* ---- published ---- */
static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Per image and channel: limited to the 0.99 quantile of |x0| (at least 1) and divided by it. */
static void normalise(double *x0)
{
    for (size_t c = 0; c < BATCH * CHANNELS; c++) {
        double sizes[POINTS], *first = x0 + c / CHANNELS * SIZE + c % CHANNELS;
        for (size_t p = 0; p < POINTS; p++) sizes[p] = fabs(first[p * CHANNELS]);
        qsort(sizes, POINTS, sizeof *sizes, by_size);
        /* .99 of 49 is 48.51 */
        double q = fmax(1, sizes[48] + 0.51 * (sizes[49] - sizes[48]));
        for (size_t p = 0; p < POINTS; p++)
            first[p * CHANNELS] = fmax(-q, fmin(q, first[p * CHANNELS])) / q;
    }
}

/* x at level a becomes x at level `to`. */
static void published_step(double *x, double t, double a, double to, bool dynamic, bool guided)
{
    double x0[ALL];
    for (size_t i = 0; i < ALL; i++) x0[i] = (x[i] - sqrt(1 - a) * eps_at(x[i], t)) / sqrt(a);
    if (dynamic) normalise(x0);
    for (size_t i = 0; i < ALL; i++) {
        double clean = fmax(-1, fmin(1, x0[i])), eps = (x[i] - sqrt(a) * clean) / sqrt(1 - a);
        if (guided) {
            eps -= sqrt(1 - a) * grad_at(x[i], t, i);
            clean = (x[i] - sqrt(1 - a) * eps) / sqrt(a);
        }
        x[i] = sqrt(to) * clean + sqrt(1 - to) * eps;
    }
}

/* 20 kept levels, three quarters of them walked: 15 steps up from index 0, and down from index 14,
 * one level below where the way up ended; beyond the image lies alpha_bar 1. */
static void published_as_published(void)
{
    for (int dynamic = 0; dynamic < 2; dynamic++)
        for (int full = 0; full < 2; full++) {
            double x[ALL];
            size_t moves = full ? 20 : 15;
            counts n = {0, 0};
            dscm_path path;
            dscm_error err = {0};
            dscm_denoiser d = {.ctx = &n, .eps = eps_of, .guide = guide_of};
            REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_PUBLISHED, 20, full ? 1 : 0.75,
                                   dynamic, &err) == DSCM_OK);
            draw(x, 0.8);
            dscm_walk w = walk_of(x);
            CHECK_INT(dscm_walk_up(&path, &w, &d, NULL, &err), DSCM_OK);
            for (size_t k = 0; k < moves; k++)
                published_step(x, 50.0 * (double)k, schedule.alphas_cumprod[50 * k],
                               k == 19 ? 0 : schedule.alphas_cumprod[50 * (k + 1)], dynamic, false);
            check_near_all(w.x, x, 2e-3);
            CHECK_INT(n.eps, moves);
            CHECK_INT(n.guides, 0); /* upwards nobody guides */
            for (size_t i = 0; i < ALL; i++) x[i] = (double)w.x[i];
            CHECK_INT(dscm_walk_down(&path, &w, &d, NULL, &err), DSCM_OK);
            for (size_t k = moves; k-- > 0;)
                published_step(x, 50.0 * (double)k, schedule.alphas_cumprod[50 * k],
                               k ? schedule.alphas_cumprod[50 * (k - 1)] : 1, dynamic, true);
            check_near_all(w.x, x, 2e-3);
            CHECK_INT(n.eps, 2 * moves);
            CHECK_INT(n.guides, moves);
            dscm_path_close(&path);
        }
}

/* ---- O-BELM ---- */
static double ratio_of(double a)
{
    return sqrt(1 - a) / sqrt(a);
}

/* In y = x / sqrt(a): y_{i-1} = r y_{i+1} + (1 - r) y_i - h (h + h') / h' eps; guidance adds
 * h sqrt(1-a) grad to both levels that stay. */
static void obelm_as_written(void)
{
    double image[ALL];
    counts n = {0, 0};
    dscm_path path;
    dscm_error err = {0};
    dscm_denoiser d = {.ctx = &n, .eps = eps_of};
    REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_OBELM, 8, 0.9, false, &err) == DSCM_OK);
    draw(image, 0.5);
    dscm_walk w = walk_of(image);
    CHECK_INT(dscm_walk_up(&path, &w, &d, NULL, &err), DSCM_OK);
    double above[ALL], here[ALL]; /* in y */
    const double *a = path.alpha_bar;
    for (size_t i = 0; i < ALL; i++) {
        above[i] = (double)w.x[i] / sqrt(a[8]);
        here[i] = (double)w.pair[i] / sqrt(a[7]);
    }
    d.guide = guide_of;
    CHECK_INT(dscm_walk_down(&path, &w, &d, NULL, &err), DSCM_OK);
    for (size_t k = 7; k > 0; k--) {
        double h = ratio_of(a[k]) - ratio_of(a[k - 1]), up = ratio_of(a[k + 1]) - ratio_of(a[k]);
        double r = h * h / (up * up);
        for (size_t i = 0; i < ALL; i++) {
            double x = sqrt(a[k]) * here[i];
            double push = h * sqrt(1 - a[k]) * grad_at(x, path.t[k], i);
            double below =
                r * above[i] + (1 - r) * here[i] - h * (h + up) / up * eps_at(x, path.t[k]) + push;
            above[i] = here[i] + push;
            here[i] = below;
        }
    }
    for (size_t i = 0; i < ALL; i++) CHECK_NEAR(w.x[i], sqrt(a[0]) * here[i], 2e-3);
    dscm_path_close(&path);
}

/* ---- residual ---- */
static double grid(double v)
{
    return rint(v * (1 << 20)) / (1 << 20);
}

/* A plain step down plus the share 1 / (1 + (moved / .1)^2) of the residual, pixel by pixel; moved: the
 * sum over levels of how far guidance has moved the pixel's noise estimate. */
static void residuals_are_shed_as_written(void)
{
    double x[ALL], moved[ALL] = {0};
    counts n = {0, 0};
    dscm_path path;
    dscm_error err = {0};
    dscm_denoiser d = {.ctx = &n, .eps = eps_of};
    REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_RESIDUAL, 6, 0.9, false, &err) ==
            DSCM_OK);
    draw(x, 0.5);
    dscm_walk w = walk_of(x);
    CHECK_INT(dscm_walk_up(&path, &w, &d, NULL, &err), DSCM_OK);
    for (size_t i = 0; i < ALL; i++) x[i] = (double)w.x[i];
    d.guide = guide_of;
    CHECK_INT(dscm_walk_down(&path, &w, &d, NULL, &err), DSCM_OK);
    for (size_t k = 6; k > 0; k--) {
        double a = path.alpha_bar[k], b = path.alpha_bar[k - 1];
        for (size_t item = 0; item < BATCH; item++) {
            double *own = x + item * SIZE;
            const float *left = residual + (item * 6 + k - 1) * SIZE;
            for (size_t i = 0; i < SIZE; i++) {
                double g = grad_at(own[i], path.t[k], item * SIZE + i);
                double eps = eps_at(own[i], path.t[k]) - sqrt(1 - a) * g;
                double *so_far = &moved[item * SIZE + i];
                *so_far += sqrt(1 - a) * fabs(g);
                double kept = 1 / (1 + *so_far / 0.1 * (*so_far / 0.1));
                double clean = (own[i] - sqrt(1 - a) * eps) / sqrt(a);
                own[i] = grid(sqrt(b) * clean + sqrt(1 - b) * eps) + kept * (double)left[i];
            }
        }
    }
    double shed = 0;
    for (size_t i = 0; i < ALL; i++) shed += moved[i] / ALL;
    CHECK(shed > 0.02 && shed < 0.5); /* neither all nor nothing is shed */
    check_near_all(w.x, x, 1e-3);
    dscm_path_close(&path);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"published_as_published", published_as_published},
        {"obelm_as_written", obelm_as_written},
        {"residuals_are_shed_as_written", residuals_are_shed_as_written},
    };
    if (dscm_schedule_open(&schedule, DSCM_SCHEDULE_LINEAR, 1000, NULL) != DSCM_OK) return 1;
    int failed = test_main(argc, argv, cases, TEST_COUNT(cases));
    dscm_schedule_close(&schedule);
    return failed;
}
