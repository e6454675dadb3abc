/* Jobs on the engine's side: what may run together, who computes an abduction, and how jobs end. The calls
 * of the engine are the fake ones of tests/http. */
#include "server/engine.h"

#include "core/image/png.h"
#include "server/clock.h"
#include "server/outcome.h"
#include "tests/harness.h"
#include "tests/http/fake_engine.h"

static dscm_metrics metrics;
static dscm_engine engine;
static dscm_job_runner runner;
static void *worker;
static size_t runs, run_items[8]; /* calls of the engine, and the items of each */

static dscm_code counted_run(dscm_session *session, const dscm_bundle *bundle, dscm_run_item *items,
                             size_t count, const dscm_run_progress *progress, dscm_error *err)
{
    if (runs < TEST_COUNT(run_items)) run_items[runs++] = count;
    return fake_engine_calls.run(session, bundle, items, count, progress, err);
}

static void open_engine(void)
{
    metrics = (dscm_metrics){.batches = 0};
    engine = (dscm_engine){.calls = fake_engine_calls,
                           .catalogue = &fake_catalogue,
                           .metrics = &metrics,
                           .batch = 16,
                           .threads = 1,
                           .abduction_age_s = 60};
    engine.calls.run = counted_run;
    runs = 0;
    runner = dscm_engine_runner(&engine);
    if (dscm_abduction_cache_open(&engine.cache, 1 << 20, 60000, NULL) != DSCM_OK ||
        runner.open(&engine, &worker, NULL) != DSCM_OK)
        abort();
}

static void close_engine(void)
{
    runner.close(worker);
    dscm_abduction_cache_free(engine.cache);
}

/* A job of a picture of one grey. */
static dscm_job *make(dscm_work work, const char *query, uint8_t grey)
{
    uint8_t pixels[SIDE * SIDE], *png = NULL;
    size_t size = 0;
    dscm_request *request = NULL;
    dscm_problem problem = {0};
    dscm_payload task;
    dscm_job *job = NULL;
    memset(pixels, grey, sizeof pixels);
    const dscm_picture picture = {.pixels = pixels, .h = SIDE, .w = SIDE, .c = 1};
    bool sample = work == DSCM_WORK_SAMPLE;
    if (!sample && dscm_png_encode(&png, &size, &picture, NULL) != DSCM_OK) abort();
    if (!dscm_request_parse_image(&request, work, png, size, query, &fake_catalogue, &problem)) {
        fprintf(stderr, "%s: %s\n", query, problem.detail);
        abort();
    }
    free(png);
    if (dscm_task_make(&task, request, NULL, engine.cache, NULL) != DSCM_OK ||
        dscm_job_create(&job, "anna", "anna", task, DSCM_NEVER, false, NULL) != DSCM_OK)
        abort();
    return job;
}

/* Runs jobs as a worker does. */
static void run_jobs(dscm_job **jobs, size_t count)
{
    for (size_t i = 0; i < count; i++) CHECK(dscm_job_start(jobs[i]));
    runner.run(worker, jobs, count);
    for (size_t i = 0; i < count; i++) {
        CHECK(dscm_job_ended(jobs[i]));
        runner.drop(jobs[i]);
    }
}

static const char *reply_of(const dscm_job *job)
{
    return job->result.data ? dscm_outcome_json(job->result.data).data : "";
}

#define SAME "&sampler=obelm&steps=4&ratio=1&scale=2"

static void jobs_weigh_their_images(void)
{
    open_engine();
    dscm_job *one = make(DSCM_WORK_COUNTERFACTUAL, "do.digit=8", 1);
    dscm_job *fan = make(DSCM_WORK_COUNTERFACTUAL, "do.digit=*", 1);
    dscm_job *samples = make(DSCM_WORK_SAMPLE, "count=5", 0);
    dscm_job *abduction = make(DSCM_WORK_ABDUCTION, "steps=4", 1);
    CHECK_INT(runner.weight(&engine, one), 1);
    CHECK_INT(runner.weight(&engine, fan), 10);
    CHECK_INT(runner.weight(&engine, samples), 5);
    CHECK_INT(runner.weight(&engine, abduction), 1);
    dscm_job *const all[] = {one, fan, samples, abduction};
    for (size_t i = 0; i < TEST_COUNT(all); i++) dscm_job_unref(all[i]);
    close_engine();
}

static void alike_jobs_fit_together(void)
{
    open_engine();
    dscm_job *first = make(DSCM_WORK_COUNTERFACTUAL, "do.digit=8" SAME, 1);
    dscm_job *alike = make(DSCM_WORK_COUNTERFACTUAL, "do.digit=7&seed=3" SAME, 2);
    dscm_job *steps =
        make(DSCM_WORK_COUNTERFACTUAL, "do.digit=8&sampler=obelm&steps=5&ratio=1&scale=2", 1);
    dscm_job *work = make(DSCM_WORK_ABDUCTION, "sampler=obelm&steps=4&ratio=1", 1);
    dscm_job *fan = make(DSCM_WORK_COUNTERFACTUAL, "do.digit=*" SAME, 1);
    CHECK(runner.fits(&engine, first, alike));
    CHECK(!runner.fits(&engine, first, steps));
    CHECK(!runner.fits(&engine, first, work));
    CHECK(runner.fits(&engine, first, fan));
    engine.long_cost = dscm_request_cost(((dscm_task *)first->task.data)->request);
    CHECK(dscm_engine_is_long(&engine, fan) && !dscm_engine_is_long(&engine, first));
    CHECK(!runner.fits(&engine, first, fan)); /* a short one does not wait for a long one */
    CHECK(runner.fits(&engine, fan, first));
    alike->deaths = DSCM_DEATHS_ALONE;
    CHECK(!runner.fits(&engine, first, alike));
    CHECK(!runner.fits(&engine, alike, first));
    dscm_job *const all[] = {first, alike, steps, work, fan};
    for (size_t i = 0; i < TEST_COUNT(all); i++) dscm_job_unref(all[i]);
    close_engine();
}

/* Of one picture the abduction is computed once, also within a batch, and a later job finds it. */
static void an_abduction_is_computed_once(void)
{
    open_engine();
    dscm_job *jobs[4] = {make(DSCM_WORK_COUNTERFACTUAL, "do.digit=8" SAME, 1),
                         make(DSCM_WORK_COUNTERFACTUAL, "do.digit=7" SAME, 1),
                         make(DSCM_WORK_COUNTERFACTUAL, "do.digit=6" SAME, 2),
                         make(DSCM_WORK_COUNTERFACTUAL, "do.digit=5" SAME, 1)};
    run_jobs(jobs, 3);
    CHECK_INT(atomic_load(&metrics.cache_misses), 2);
    CHECK_INT(atomic_load(&metrics.cache_hits), 1);
    CHECK_INT(runs, 2);
    CHECK_INT(run_items[0], 2); /* the two pictures together, and the second of the first alone */
    CHECK_INT(run_items[1], 1);
    run_jobs(jobs + 3, 1);
    CHECK_INT(atomic_load(&metrics.cache_hits), 2);
    CHECK_HAS(reply_of(jobs[0]), "\"intervention\":{\"digit\":\"8\"}");
    CHECK_HAS(reply_of(jobs[1]), "\"intervention\":{\"digit\":\"7\"}");
    CHECK_HAS(reply_of(jobs[2]), "\"intervention\":{\"digit\":\"6\"}");
    for (int i = 0; i < 4; i++) {
        CHECK_INT(dscm_job_peek(jobs[i], NULL, NULL, NULL), DSCM_JOB_SUCCEEDED);
        CHECK(((dscm_task *)jobs[i]->task.data)->request == NULL); /* let go */
        dscm_job_unref(jobs[i]);
    }
    close_engine();
}

static void samples_and_abductions_succeed(void)
{
    open_engine();
    dscm_job *samples = make(DSCM_WORK_SAMPLE, "count=2&seed=4", 0);
    dscm_job *abduction = make(DSCM_WORK_ABDUCTION, "steps=4", 1);
    run_jobs(&samples, 1);
    run_jobs(&abduction, 1);
    CHECK_HAS(reply_of(samples), "\"samples\":[");
    CHECK_HAS(reply_of(abduction), "\"abduction\":{\"id\":\"");
    CHECK_INT(atomic_load(&metrics.cache_misses), 1); /* samples have no abduction */
    dscm_job_unref(samples);
    dscm_job_unref(abduction);
    close_engine();
}

/* Words of the system's errors are not for clients, and the next job computes the abduction. */
static void a_failure_is_told_without_the_systems_words(void)
{
    open_engine();
    dscm_job *broken = make(DSCM_WORK_COUNTERFACTUAL, "do.digit=8&seed=666" SAME, 1);
    dscm_job *next = make(DSCM_WORK_COUNTERFACTUAL, "do.digit=8" SAME, 1);
    run_jobs(&broken, 1);
    CHECK_INT(dscm_job_peek(broken, NULL, NULL, NULL), DSCM_JOB_FAILED);
    REQUIRE(broken->problem != NULL);
    CHECK_INT(broken->problem->code, DSCM_PROBLEM_INTERNAL);
    CHECK(!strstr(broken->problem->detail, "broke"));
    run_jobs(&next, 1);
    CHECK_INT(dscm_job_peek(next, NULL, NULL, NULL), DSCM_JOB_SUCCEEDED);
    CHECK_INT(atomic_load(&metrics.cache_misses), 2);
    dscm_job_unref(broken);
    dscm_job_unref(next);
    close_engine();
}

static dscm_job *victim;

static dscm_code cancelling_run(dscm_session *session, const dscm_bundle *bundle,
                                dscm_run_item *items, size_t count,
                                const dscm_run_progress *progress, dscm_error *err)
{
    CHECK(!dscm_job_cancel(victim, DSCM_REASON_DISCONNECT)); /* it runs: told to stop */
    return counted_run(session, bundle, items, count, progress, err);
}

/* Who leaves a batch ends at once, and the others go on; when all leave, the batch stops. */
static void a_batch_goes_on_while_anybody_wants_it(void)
{
    dscm_job_reason reason;
    open_engine();
    engine.calls.run = cancelling_run;
    dscm_job *jobs[2] = {make(DSCM_WORK_COUNTERFACTUAL, "do.digit=8" SAME, 1),
                         make(DSCM_WORK_COUNTERFACTUAL, "do.digit=7" SAME, 2)};
    victim = jobs[0];
    run_jobs(jobs, 2);
    CHECK_INT(dscm_job_peek(jobs[0], NULL, NULL, &reason), DSCM_JOB_CANCELED);
    CHECK_INT(reason, DSCM_REASON_DISCONNECT);
    CHECK_INT(dscm_job_peek(jobs[1], NULL, NULL, NULL), DSCM_JOB_SUCCEEDED);
    victim = make(DSCM_WORK_COUNTERFACTUAL, "do.digit=8" SAME, 3);
    dscm_job *alone = victim;
    run_jobs(&alone, 1);
    CHECK_INT(dscm_job_peek(alone, NULL, NULL, &reason), DSCM_JOB_CANCELED);
    CHECK_INT(reason, DSCM_REASON_DISCONNECT);
    dscm_job_unref(jobs[0]);
    dscm_job_unref(jobs[1]);
    dscm_job_unref(alone);
    close_engine();
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"jobs_weigh_their_images", jobs_weigh_their_images},
        {"alike_jobs_fit_together", alike_jobs_fit_together},
        {"an_abduction_is_computed_once", an_abduction_is_computed_once},
        {"samples_and_abductions_succeed", samples_and_abductions_succeed},
        {"a_failure_is_told_without_the_systems_words",
         a_failure_is_told_without_the_systems_words},
        {"a_batch_goes_on_while_anybody_wants_it", a_batch_goes_on_while_anybody_wants_it},
    };
    setenv("FAKE_STEP_MS", "0", 1);
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
