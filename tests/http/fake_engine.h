/* A stand-in for the engine: same calls, no networks. A step sleeps; an image is the one sent, shifted by
 * what the seed and the number of the target say, so that no two jobs have the same result. It lets the
 * tests of the service choose how long jobs take and needs no model.
 *
 * While the file that the environment's FAKE_GATE names exists, a job gets no further than its
 * first step: what a test does meanwhile meets a running job however slow or fast the machine is.
 *
 * The one test program that needs it includes it: every test is one file.
 *
 * A step takes the environment's FAKE_STEP_MS (default 5). Steps: options.steps (default 10). A
 * request with seed 666 fails with an internal error; one with seed 667 kills the process.
 */
#ifndef DSCM_TESTS_FAKE_ENGINE_H
#define DSCM_TESTS_FAKE_ENGINE_H

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/engine.h"

#define SIDE 28

static const char *const labels[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
static const int digit_parent[] = {0};
static const dscm_variable variables[] = {
    {.name = "digit", .kind = DSCM_CATEGORICAL, .labels_count = 10, .labels = labels},
    {.name = "image",
     .kind = DSCM_IMAGE,
     .h = SIDE,
     .w = SIDE,
     .c = 1,
     .parents = digit_parent,
     .parents_count = 1}};
static const dscm_bundle_info fake_info = {
    .name = "fake",
    .version = "1",
    .licence = "none",
    .provenance = "made up",
    .dir = "",
    .sha256 = "0000000000000000000000000000000000000000000000000000000000000000",
    .manifest = "{}",
    .variables = variables,
    .variables_count = 2,
    .image = 1};
static const dscm_model_entry fake_models[] = {{&fake_info, NULL}};
static const dscm_catalogue fake_catalogue = {
    .models = fake_models, .count = 1, .image_side_max = 1024};

static dscm_code fake_open(dscm_session **out, const dscm_bundle *bundle, size_t batch, int threads,
                           dscm_error *err)
{
    (void)bundle, (void)batch, (void)threads;
    *out = calloc(1, 1);
    return *out ? DSCM_OK : dscm_fail(err, DSCM_E_MEMORY, "no memory");
}

static void fake_free(dscm_session *session)
{
    free(session);
}

/* A nap of one step; in the first one, naps until the gate is open. */
static bool fake_step(const dscm_run_progress *progress, const dscm_run_event *event)
{
    const char *given = getenv("FAKE_STEP_MS"), *gate = getenv("FAKE_GATE");
    long ms = given ? atol(given) : 5;
    bool shut;
    do {
        struct timespec nap = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&nap, NULL);
        shut = event->step == 1 && gate && access(gate, F_OK) == 0;
        if (progress && !progress->on_step(progress->arg, event)) return false;
    } while (shut);
    return true;
}

static dscm_code fake_steps(const char *phase, size_t first, size_t steps, size_t count,
                            const dscm_run_progress *progress, dscm_error *err)
{
    static const float grey[SIDE * SIDE * 32];
    size_t offsets[257];
    for (size_t i = 0; i <= count && i < 257; i++) offsets[i] = i < 31 ? i : 31;
    for (size_t i = 1; i <= steps; i++) {
        double fraction = (double)(first + i) / (double)(2 * steps);
        dscm_run_event event = {phase, first + i, 2 * steps, fraction, 1, 1, grey, offsets};
        if (!fake_step(progress, &event)) return dscm_fail(err, DSCM_E_CANCELED, "stopped");
    }
    return DSCM_OK;
}

/* Tries until there is memory: what a test makes fail is the service, not this. */
static void *fake_alloc(size_t count, size_t size)
{
    void *block;
    while (!(block = calloc(count, size))) continue;
    return block;
}

static dscm_abduction *fake_abduction(const dscm_case *ask)
{
    dscm_abduction *a = fake_alloc(1, sizeof *a);
    if (!a) return NULL;
    a->info = &fake_info;
    a->options = ask->options;
    a->pixels = fake_alloc(SIDE * SIDE, 1);
    a->image = fake_alloc(SIDE * SIDE, sizeof(float));
    a->reconstruction = fake_alloc(SIDE * SIDE, sizeof(float));
    a->observed = fake_alloc(2, sizeof(float *));
    a->factual = fake_alloc(2, sizeof(double));
    a->given = fake_alloc(2, sizeof(bool));
    a->observed[0] = fake_alloc(10, sizeof(float));
    a->observed[0][3] = 1;
    a->given[0] = ask->factuals != NULL;
    a->factual[0] = ask->factuals ? ask->factuals[0] : 3;
    a->factual[1] = NAN;
    a->evidence = dscm_abduction_evidence_none();
    return a;
}

/* Pixels of the image sent (or black), each moved on by an amount of its own for every seed and target. */
static void fake_pixels(float *out, const dscm_case *ask, size_t target)
{
    uint32_t x = (uint32_t)ask->seed * 2654435761u + (uint32_t)target * 40503u;
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        x = x * 1664525u + 1013904223u;
        uint8_t value = (uint8_t)((ask->pixels ? ask->pixels[i] : 0) + (x >> 24) % 16);
        out[i] = (float)value / 127.5f - 1;
    }
}

static dscm_result *fake_result(const dscm_case *ask)
{
    dscm_result *r = fake_alloc(1, sizeof *r);
    if (!r) return NULL;
    r->work = ask->work;
    r->info = &fake_info;
    r->options = ask->options;
    r->options.sampler = "obelm";
    r->options.scale = 1;
    r->seed = ask->seed;
    r->wanted = ask->wanted;
    r->count = ask->work == DSCM_WORK_SAMPLE ? ask->count : ask->targets_count;
    r->counterfactuals = fake_alloc(r->count, sizeof *r->counterfactuals);
    r->batch = r->count;
    for (size_t i = 0; i < r->count; i++) {
        dscm_counterfactual *c = &r->counterfactuals[i];
        if (i < ask->targets_count) c->target = ask->targets[i];
        c->image = fake_alloc(SIDE * SIDE, sizeof(float));
        fake_pixels(c->image, ask, i);
        c->propagated = fake_alloc(2, sizeof(double));
        c->scores.valid = c->evidence.valid = true;
        c->outcome = DSCM_OUTCOME_FOUND;
        c->scale = 1;
        c->predictions = 1;
        c->reversibility = NAN;
    }
    return r;
}

static dscm_code fake_run(dscm_session *session, const dscm_bundle *bundle, dscm_run_item *items,
                          size_t count, const dscm_run_progress *progress, dscm_error *err)
{
    (void)session, (void)bundle;
    const dscm_case *ask = &items[0].ask;
    size_t steps = ask->options.steps ? ask->options.steps : 10;
    for (size_t i = 0; i < count; i++)
        if (items[i].ask.seed == 667) raise(SIGKILL);
    if (ask->seed == 666) return dscm_fail(err, DSCM_E_SYSTEM, "the fake engine broke");
    dscm_code code = DSCM_OK;
    if (!items[0].cached && ask->work != DSCM_WORK_SAMPLE)
        code = fake_steps("abduct", 0, steps, count, progress, err);
    if (code == DSCM_OK && ask->work != DSCM_WORK_ABDUCTION)
        code = fake_steps("predict", steps, steps, count, progress, err);
    for (size_t i = 0; i < count && code == DSCM_OK; i++) {
        dscm_run_item *item = &items[i];
        if (!item->cached && item->ask.work != DSCM_WORK_SAMPLE)
            item->abduction = fake_abduction(&item->ask);
        if (item->ask.work != DSCM_WORK_ABDUCTION) item->result = fake_result(&item->ask);
    }
    return code;
}

static const dscm_engine_calls fake_engine_calls = {fake_open, fake_free, fake_run};

#endif
