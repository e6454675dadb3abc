#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/eval/stats.h"
#include "core/kernels/linalg.h"
#include "tests/harness.h"

static void eigen_of_a_known_matrix(void)
{
    double a[4] = {2, 1, 1, 2}, w[2];
    dscm_error err = {0};
    REQUIRE(dscm_eigen_symmetric(a, w, 2, &err) == DSCM_OK);
    CHECK_NEAR(w[0], 1, 1e-12);
    CHECK_NEAR(w[1], 3, 1e-12);
    CHECK_NEAR(fabs(a[2]), sqrt(0.5), 1e-12);
    CHECK_NEAR(a[2], a[3], 1e-12);
    CHECK_NEAR(a[0], -a[1], 1e-12);
    CHECK_INT(dscm_eigen_symmetric(a, w, 0, &err), DSCM_E_INVALID);
}

static void quantiles_interpolate(void)
{
    double v[5] = {3, NAN, 1, 2, 4};
    CHECK_INT(dscm_sort_values(v, 5), 4);
    CHECK_NEAR(dscm_quantile_sorted(v, 4, 0.5), 2.5, 0);
    CHECK_NEAR(dscm_quantile_sorted(v, 4, 0), 1, 0);
    CHECK_NEAR(dscm_quantile_sorted(v, 4, 1), 4, 0);
    CHECK(isnan(dscm_quantile_sorted(v, 0, 0.5)));
}

/* The standard error of a mean of n standard normals is 1/sqrt(n): the interval is ±1.96 of it. */
static void bootstrap_matches_the_normal_interval(void)
{
    enum { N = 2000 };
    static double x[N];
    static float z[N];
    dscm_rng rng = dscm_rng_make(test_seed, 1);
    dscm_rng_normal(&rng, z, N);
    for (int i = 0; i < N; i++) x[i] = z[i];
    x[7] = NAN;
    dscm_interval r;
    dscm_error err = {0};
    REQUIRE(dscm_bootstrap_mean(&r, x, N, 4000, 5, &err) == DSCM_OK);
    CHECK_INT(r.count, N - 1);
    CHECK_NEAR(r.high - r.mean, 1.96 / sqrt(N), 0.004);
    CHECK_NEAR(r.mean - r.low, 1.96 / sqrt(N), 0.004);
    double none[1] = {NAN};
    REQUIRE(dscm_bootstrap_mean(&r, none, 1, 10, 5, &err) == DSCM_OK);
    CHECK(isnan(r.mean) && r.count == 0);
    CHECK_INT(dscm_bootstrap_mean(&r, x, N, 1, 5, &err), DSCM_E_INVALID);
}

/* In one dimension the distance is (mu_a - mu_b)^2 + (s_a - s_b)^2. */
static void frechet_in_closed_form(void)
{
    const float a[4] = {0, 2, 4, 6}, b[4] = {1, 2, 3, 4};
    double got = 0, sa = sqrt(20.0 / 3), sb = sqrt(5.0 / 3);
    dscm_error err = {0};
    REQUIRE(dscm_frechet_distance(&got, a, 4, b, 4, 1, &err) == DSCM_OK);
    CHECK_NEAR(got, 0.25 + (sa - sb) * (sa - sb), 1e-9);
    enum { N = 40, D = 3 };
    float x[N * D], y[N * D];
    dscm_rng rng = dscm_rng_make(test_seed, 2);
    dscm_rng_normal(&rng, x, N * D);
    for (int i = 0; i < N * D; i++) y[i] = x[i] + 2;
    REQUIRE(dscm_frechet_distance(&got, x, N, x, N, D, &err) == DSCM_OK);
    CHECK_NEAR(got, 0, 1e-6);
    REQUIRE(dscm_frechet_distance(&got, x, N, y, N, D, &err) == DSCM_OK);
    CHECK_NEAR(got, 4 * D, 1e-4);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"eigen_of_a_known_matrix", eigen_of_a_known_matrix},
        {"quantiles_interpolate", quantiles_interpolate},
        {"bootstrap_matches_the_normal_interval", bootstrap_matches_the_normal_interval},
        {"frechet_in_closed_form", frechet_in_closed_form},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
