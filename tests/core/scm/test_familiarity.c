/* Denoising loss and noise-only error: found again step by step, and a storing sampler is caught. */
#include <math.h>
#include <string.h>

#include "core/diffusion/schedule.h"
#include "core/scm/session.h"
#include "tests/core/scm/two_parents.h"

enum { COUNT = 3 };

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;
static float images[COUNT * PIXELS];

/* The mean over four times of the squared gap between the noise put in and the noise estimated. */
static void loss_found_again(void)
{
    double loss[COUNT], want = 0;
    REQUIRE(dscm_denoising_loss(session, loss, images, COUNT, NULL) == DSCM_OK);
    const float *image = images + 2 * PIXELS;
    for (size_t k = 0; k < 4; k++) {
        size_t t = 250 * k + 125;
        double a = bundle->variables[IMAGE].schedule.alphas_cumprod[t];
        float noise[PIXELS], x[PIXELS], eps[PIXELS];
        dscm_rng rng = dscm_rng_make(16, k);
        dscm_rng_normal(&rng, noise, PIXELS);
        for (size_t p = 0; p < PIXELS; p++)
            x[p] = (float)(sqrt(a) * (double)image[p] + sqrt(1 - a) * (double)noise[p]);
        REQUIRE(dscm_session_eps(session, eps, x, (double)t, 1, NULL) == DSCM_OK);
        for (size_t p = 0; p < PIXELS; p++)
            want += pow((double)eps[p] - (double)noise[p], 2) / (4 * PIXELS);
    }
    CHECK_NEAR(loss[2], want, 1e-4 * want);
    CHECK(loss[0] > 0 && loss[0] != loss[1]);
}

/* A sampler that stores what its steps lose gives any image back; without the store a random network
 * does not. */
static void storage_is_not_reconstruction(void)
{
    static float back[COUNT * PIXELS];
    double alone[COUNT], full = 0;
    dscm_latent *latent = NULL;
    dscm_query nothing[COUNT] = {{.count = 0}};
    dscm_options o = dscm_options_defaults();
    o.sampler = "residual";
    o.steps = 10;
    o.scale = 0;
    REQUIRE(dscm_options_resolve(bundle, &o, NULL) == DSCM_OK);
    REQUIRE(dscm_abduct(session, &latent, images, COUNT, &o, NULL, NULL) == DSCM_OK);
    REQUIRE(dscm_predict(session, back, latent, nothing, &o, NULL, NULL) == DSCM_OK);
    for (size_t i = 0; i < COUNT * PIXELS; i++)
        full = fmax(full, fabs((double)back[i] - (double)images[i]));
    CHECK(full < 0.01);
    REQUIRE(dscm_noise_only_error(session, alone, latent, images, NULL, NULL) == DSCM_OK);
    dscm_latent_free(latent);
    for (size_t i = 0; i < COUNT; i++) CHECK(alone[i] > 2);
}

static void contrast_is_a_deviation(void)
{
    const float flat[4] = {0.5f, 0.5f, 0.5f, 0.5f}, halves[4] = {-1, 1, 1, -1};
    CHECK_NEAR(dscm_contrast(flat, 4), 0, 1e-6);
    CHECK_NEAR(dscm_contrast(halves, 4), 127.5, 1e-9);
    CHECK_NEAR(dscm_contrast(flat, 0), 0, 0);
}

/* The nearest reference counts, whatever its brightness; centred, a common level does not. */
static void likeness_is_a_cosine(void)
{
    enum { N = 98, MEANS = 49 };
    float a[N] = {0}, references[3 * N] = {0};
    for (size_t i = 0; i < N; i++) {
        a[i] = (float)(i % 5);
        references[2 * N + i] = 3 * a[i];
    }
    references[0] = 1;
    references[N + 1] = 1;
    CHECK_NEAR(dscm_likeness_of(a, references, 3).plain, 1, 1e-9);
    CHECK_NEAR(dscm_likeness_of(a, references, 3).centred, 1, 1e-9);
    double squares = 0;
    for (size_t i = 0; i < N; i++) squares += (double)a[i] * (double)a[i];
    CHECK_NEAR(dscm_likeness_of(a, references, 2).plain, 1 / sqrt(squares), 1e-6);
    /* Two flat pictures that differ in one block alike: plain 1 nearly, centred by the blocks alone. */
    float light[N] = {0}, other[N] = {0};
    for (size_t i = 0; i < MEANS; i++) light[i] = other[i] = 100;
    light[3] += 10;
    other[4] += 10;
    dscm_likeness like = dscm_likeness_of(light, other, 1);
    CHECK(like.plain > 0.999 && like.plain < 1);
    CHECK_NEAR(like.centred, 0, 0); /* -1/48, limited */
    const float nothing[N] = {0};
    CHECK_NEAR(dscm_likeness_of(nothing, references, 3).plain, 0, 0);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"loss_found_again", loss_found_again},
        {"contrast_is_a_deviation", contrast_is_a_deviation},
        {"likeness_is_a_cosine", likeness_is_a_cosine},
        {"storage_is_not_reconstruction", storage_is_not_reconstruction}};
    dscm_error err = {0};
    if (!two_parents_open(dir, &bundle, &session, 2, &err)) {
        printf("%s\n", err.message);
        return 1;
    }
    two_parents_images(images, COUNT, 1);
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    dscm_session_free(session);
    dscm_bundle_free(bundle);
    two_parents_remove(dir);
    return status;
}
