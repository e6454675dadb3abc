#include "core/base/rng.h"
#include "core/nn/optim.h"
#include "tests/harness.h"

enum { FLOATS = 40005, SHARDS = 3, STEPS = 12 }; /* more than one piece of the update */

typedef struct reference {
    double values[FLOATS], ema[FLOATS], m[FLOATS], v[FLOATS];
} reference;

/* AdamW as printed (Loshchilov & Hutter 2019, algorithm 2, learning rate inside the decay), in
 * double. */
static double reference_step(reference *r, const dscm_adamw *o, float grads[SHARDS][FLOATS], int n)
{
    double norm = 0, decay = fmin(o->ema_decay, (1.0 + n) / (10.0 + n));
    for (int i = 0; i < FLOATS; i++) {
        double g = 0;
        for (int k = 0; k < SHARDS; k++) g += (double)grads[k][i];
        norm += g * g;
    }
    norm = sqrt(norm);
    double scale = o->clip > 0 && norm > o->clip ? o->clip / norm : 1;
    for (int i = 0; i < FLOATS; i++) {
        double g = 0;
        for (int k = 0; k < SHARDS; k++) g += (double)grads[k][i];
        g *= scale;
        r->m[i] = o->beta1 * r->m[i] + (1 - o->beta1) * g;
        r->v[i] = o->beta2 * r->v[i] + (1 - o->beta2) * g * g;
        double mean = r->m[i] / (1 - pow(o->beta1, n)), square = r->v[i] / (1 - pow(o->beta2, n));
        r->values[i] -= o->rate * (o->weight_decay * r->values[i] + mean / (sqrt(square) + o->eps));
        r->ema[i] = decay * r->ema[i] + (1 - decay) * r->values[i];
    }
    return norm;
}

static float grads[SHARDS][FLOATS], values[4][FLOATS];
static reference wanted;

static void follows_the_reference(double clip, int threads, dscm_isa isa)
{
    const dscm_adamw o = {.rate = 0.01,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .weight_decay = 0.1,
                          .ema_decay = 0.5,
                          .clip = clip,
                          .isa = isa};
    dscm_adamw_state s = {values[0], values[1], values[2], values[3], FLOATS};
    float *shards[SHARDS] = {grads[0], grads[1], grads[2]};
    dscm_team *team = NULL;
    dscm_error err = {0};
    REQUIRE(dscm_team_open(&team, threads, &err) == DSCM_OK);
    dscm_rng rng = dscm_rng_make(test_seed, 0);
    memset(values, 0, sizeof values);
    memset(&wanted, 0, sizeof wanted);
    dscm_rng_normal(&rng, values[0], FLOATS);
    memcpy(values[1], values[0], sizeof values[0]);
    for (int i = 0; i < FLOATS; i++) wanted.values[i] = wanted.ema[i] = (double)values[0][i];
    for (int n = 1; n <= STEPS; n++) {
        for (int k = 0; k < SHARDS; k++) dscm_rng_normal(&rng, grads[k], FLOATS);
        double norm = reference_step(&wanted, &o, grads, n);
        CHECK_NEAR(dscm_adamw_step(&o, &s, shards, SHARDS, (size_t)n, team), norm, 1e-5 * norm);
    }
    dscm_team_free(team);
    double worst = 0, worst_ema = 0;
    for (int i = 0; i < FLOATS; i++) {
        worst = fmax(worst, fabs((double)values[0][i] - wanted.values[i]));
        worst_ema = fmax(worst_ema, fabs((double)values[1][i] - wanted.ema[i]));
    }
    CHECK_NEAR(worst, 0, 2e-5); /* of steps of 0.01 each; a single wrong one is far outside */
    CHECK_NEAR(worst_ema, 0, 2e-5);
}

static void unclipped(void)
{
    for (int isa = 0; isa <= (int)dscm_cpu_best_isa(); isa++)
        follows_the_reference(0, 1, (dscm_isa)isa);
}

static void clipped(void)
{
    for (int isa = 0; isa <= (int)dscm_cpu_best_isa(); isa++)
        follows_the_reference(5, 1, (dscm_isa)isa);
}

static void spread_over_a_team(void)
{
    static float alone[FLOATS];
    follows_the_reference(5, 1, dscm_cpu_best_isa());
    memcpy(alone, values[0], sizeof alone);
    follows_the_reference(5, 3, dscm_cpu_best_isa());
    CHECK(memcmp(alone, values[0], sizeof alone) == 0); /* to the bit: resuming relies on it */
}

/* Neither clipped (infinity times zero is no number) nor not: the state stays as it was. */
static void takes_no_step_without_a_gradient(void)
{
    static float before[4][FLOATS];
    const dscm_adamw o = {.rate = 0.01,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .clip = 1,
                          .isa = dscm_cpu_best_isa()};
    dscm_adamw_state s = {values[0], values[1], values[2], values[3], FLOATS};
    float *shards[SHARDS] = {grads[0], grads[1], grads[2]};
    dscm_team *team = NULL;
    dscm_error err = {0};
    REQUIRE(dscm_team_open(&team, 1, &err) == DSCM_OK);
    memset(values, 0, sizeof values);
    memset(grads, 0, sizeof grads);
    grads[1][FLOATS - 1] = INFINITY;
    memcpy(before, values, sizeof before);
    CHECK(!isfinite(dscm_adamw_step(&o, &s, shards, SHARDS, 1, team)));
    CHECK(memcmp(before, values, sizeof before) == 0);
    dscm_team_free(team);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"unclipped", unclipped},
        {"clipped", clipped},
        {"spread_over_a_team", spread_over_a_team},
        {"takes_no_step_without_a_gradient", takes_no_step_without_a_gradient}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
