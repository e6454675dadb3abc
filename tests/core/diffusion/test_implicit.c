/* The iteration of `implicit` on Gaussian data, where it is linear. */
#include <math.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/diffscm.h"
#include "core/diffusion/sampler.h"
#include "tests/core/diffusion/gaussian.h"
#include "tests/core/diffusion/walk_memory.h"
#include "tests/harness.h"

enum { BATCH = 3, SIZE = 16, FLOATS = BATCH * SIZE, STEPS = 6 };

static dscm_schedule schedule;
static float memory[6][FLOATS], residual[FLOATS * STEPS];

static dscm_code count_eps(void *ctx, float *eps, const float *x, double t, size_t batch,
                           dscm_error *err)
{
    (void)err;
    gaussian_eps(&schedule, eps, x, t, batch * SIZE);
    ++*(size_t *)ctx;
    return DSCM_OK;
}

/* Every step up of `implicit` is solved: on Gaussian data three evaluations do it, as the iteration is
 * linear. The third step has two, so it ends where its start leads: .7 of the way along the last change of
 * the noise estimate. */
static void the_third_step_starts_ahead(void)
{
    float image[FLOATS];
    dscm_path path;
    dscm_error err = {0};
    size_t evaluations = 0;
    dscm_denoiser d = {.ctx = &evaluations, .eps = count_eps};
    REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_IMPLICIT, STEPS, 0.9, false, &err) ==
            DSCM_OK);
    dscm_rng rng = dscm_rng_make(test_seed, 0);
    dscm_rng_normal(&rng, image, FLOATS);
    dscm_walk w = walk_on(memory[0], residual, BATCH, SIZE, 1);
    for (size_t i = 0; i < FLOATS; i++) w.pair[i] = (float)NAN; /* not read before it is written */
    memcpy(w.x, image, sizeof image);
    CHECK(dscm_walk_up(&path, &w, &d, NULL, &err) == DSCM_OK);
    CHECK_INT(evaluations, 1 + 3 * STEPS - 1);
    CHECK_INT(dscm_path_evaluations(&path, true), evaluations);
    double x = 1, eps[STEPS + 1], plain = 0;
    for (int k = 0; k < STEPS; k++) {
        double a = path.alpha_bar[k], b = path.alpha_bar[k + 1], signal = sqrt(b / a);
        double noise = sqrt(1 - b) - signal * sqrt(1 - a), c = sqrt(1 - b) / variance(b);
        eps[k] = sqrt(1 - a) / variance(a) * x;
        double solved = signal * x / (1 - noise * c), next = solved;
        if (k == 2) {
            double slope = (eps[2] - eps[1]) / (path.t[2] - path.t[1]);
            double start = eps[2] + 0.7 * slope * (path.t[3] - path.t[2]);
            next = signal * x + noise * c * (signal * x + noise * start);
            plain = signal * x + noise * c * (signal * x + noise * eps[2]);
            CHECK(fabs(next - solved) < 0.5 * fabs(plain - solved));
        }
        x = next;
    }
    for (size_t i = 0; i < FLOATS; i++) CHECK_NEAR(w.x[i], x * (double)image[i], 1e-4);
    dscm_path_close(&path);
    REQUIRE(dscm_path_open(&path, &schedule, DSCM_SAMPLER_RESIDUAL, STEPS, 1, false, &err) ==
            DSCM_OK);
    CHECK_INT(dscm_path_evaluations(&path, true), 1 + STEPS);
    dscm_path_close(&path);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"the_third_step_starts_ahead", the_third_step_starts_ahead}};
    dscm_error err = {0};
    if (dscm_schedule_open(&schedule, DSCM_SCHEDULE_COSINE, 1000, &err) != DSCM_OK) return 1;
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    dscm_schedule_close(&schedule);
    return status;
}
