/* The worker pool: what runs with what, what runs alone, and what is counted of it. */
#include <unistd.h>

#include "tests/server/fake_runner.h"

/* A batch holds as many images as it may, in whole jobs; what is too heavy for what is left of one
 * lets lighter ones pass, and one that is heavier than a batch runs alone. */
static void batches_are_filled(void)
{
    static const size_t weights[] = {1, 3, 4, 2, 2, 9, 1, 1};
    static const size_t sizes[] = {1, 2, 1, 2, 1, 1}; /* 1 | 3+1 | 4 | 2+2 | 9 | 1 */
    static dscm_metrics metrics;
    dscm_queue *queue;
    dscm_worker_pool *pool = open_pool(&queue, 1, 4, &metrics);
    push(queue, weights[0], 0);
    await_batch(); /* the others come while this one runs */
    for (size_t i = 1; i < TEST_COUNT(weights); i++) push(queue, weights[i], 0);
    for (size_t i = 1; i < TEST_COUNT(sizes); i++) {
        sem_post(&state.go);
        await_batch();
    }
    close_pool(queue, pool);
    CHECK_INT(state.batches, TEST_COUNT(sizes));
    for (size_t i = 0; i < TEST_COUNT(sizes); i++) CHECK_INT(state.sizes[i], sizes[i]);
    CHECK_INT(atomic_load(&metrics.jobs_started), TEST_COUNT(weights));
    CHECK_INT(atomic_load(&metrics.batched_jobs), TEST_COUNT(weights));
    CHECK_INT(atomic_load(&metrics.batches), TEST_COUNT(sizes));
    CHECK_INT(atomic_load(&metrics.workers_busy), 0);
}

/* Canceled when it was done: a success, and counted as one. */
static void a_late_cancel_is_not_counted(void)
{
    static dscm_metrics metrics;
    dscm_queue *queue;
    dscm_worker_pool *pool = open_pool(&queue, 1, 4, &metrics);
    state.cancel_late = true;
    push(queue, 1, 0);
    await_batch();
    close_pool(queue, pool);
    CHECK_INT(atomic_load(&metrics.jobs[DSCM_JOB_SUCCEEDED][DSCM_REASON_NONE]), 1);
    CHECK_INT(atomic_load(&metrics.jobs[DSCM_JOB_SUCCEEDED][DSCM_REASON_CLIENT]), 0);
}

/* The service estimates waiting times with it from the moment a batch is counted. */
static void a_counted_batch_has_its_time(void)
{
    static dscm_metrics metrics;
    dscm_queue *queue;
    dscm_worker_pool *pool = open_pool(&queue, 1, 1, &metrics);
    CHECK(dscm_worker_pool_job_ms(pool) == 0);
    push(queue, 1, 0);
    await_batch();
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    CHECK(dscm_worker_pool_job_ms(pool) == 0); /* not before its end */
    sem_post(&state.go);
    while (!atomic_load(&metrics.inference.sum_us)) sched_yield();
    CHECK(dscm_worker_pool_job_ms(pool) >= 2);
    close_pool(queue, pool);
}

/* What may have killed the process before takes no other job along. */
static void a_suspect_runs_alone(void)
{
    static dscm_metrics metrics;
    dscm_queue *queue;
    dscm_worker_pool *pool = open_pool(&queue, 3, 1, &metrics);
    push(queue, 1, DSCM_DEATHS_ALONE - 1);
    await_batch();
    push(queue, 1, 0); /* beside it */
    await_batch();
    push(queue, 1, DSCM_DEATHS_ALONE);
    while (dscm_queue_depth(queue)) sched_yield(); /* the third worker has it, and waits */
    usleep(20000);
    CHECK_INT(atomic_load(&metrics.workers_busy), 2);
    sem_post(&state.go);
    sem_post(&state.go);
    await_batch();
    push(queue, 1, 0);
    while (dscm_queue_depth(queue)) sched_yield();
    usleep(20000);
    CHECK_INT(atomic_load(&metrics.workers_busy), 1);
    sem_post(&state.go);
    await_batch();
    close_pool(queue, pool);
    CHECK_INT(atomic_load(&metrics.jobs_started), 4);
}

/* Between the queue and its start a job may be canceled: it is dropped and does not run. */
static void a_job_canceled_in_time_does_not_run(void)
{
    static dscm_metrics metrics;
    dscm_queue *queue;
    dscm_worker_pool *pool = open_pool(&queue, 1, 4, &metrics);
    push(queue, 1, 0);
    await_batch();
    state.cancel_early = 2;
    for (int i = 0; i < 3; i++) push(queue, 1, 0);
    sem_post(&state.go);
    await_batch();
    sem_post(&state.go);
    for (int i = 0; i < 2; i++) push(queue, 1, 0); /* all of a batch */
    close_pool(queue, pool);
    CHECK_INT(state.batches, 2);
    CHECK_INT(state.sizes[1], 1);
    CHECK_INT(atomic_load(&metrics.jobs_started), 2);
    CHECK_INT(atomic_load(&metrics.jobs[DSCM_JOB_SUCCEEDED][DSCM_REASON_NONE]), 2);
    CHECK_INT(atomic_load(&state.dropped), 6); /* those that ran as well */
}

/* Or released, when the process stops: others are to run it, and are told. */
static void a_job_released_in_time_is_given_back(void)
{
    static dscm_metrics metrics;
    dscm_queue *queue;
    dscm_worker_pool *pool = open_pool(&queue, 1, 4, &metrics);
    push(queue, 1, 0);
    await_batch();
    state.release_early = true;
    for (int i = 0; i < 3; i++) push(queue, 1, 0);
    close_pool(queue, pool);
    CHECK_INT(state.batches, 1);
    CHECK_INT(atomic_load(&metrics.jobs_started), 1);
    CHECK_INT(atomic_load(&state.given_back), 3);
    CHECK_INT(atomic_load(&state.dropped), 4);
}

static void a_pool_without_all_its_workers_does_not_open(void)
{
    static dscm_metrics metrics;
    dscm_queue *queue;
    dscm_worker_pool *pool = open_pool(&queue, 2, 1, &metrics);
    close_pool(queue, pool);
    CHECK_INT(atomic_load(&state.closed), 2);
    dscm_error err = {0};
    REQUIRE(dscm_queue_open(&queue, 4, 4, NULL) == DSCM_OK);
    state = (fake){.opens_max = 2};
    pool = NULL;
    CHECK_INT(dscm_worker_pool_open(&pool, queue, &fake_runner, 3, 1, &metrics, &err),
              DSCM_E_MEMORY);
    CHECK_STR(err.message, "no worker");
    CHECK(pool == NULL);
    CHECK_INT(atomic_load(&state.closed), 2); /* not the one that did not open */
    CHECK(dscm_queue_take(queue) == NULL);    /* closed */
    dscm_queue_free(queue);
    dscm_worker_pool_free(NULL);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"batches_are_filled", batches_are_filled},
        {"a_late_cancel_is_not_counted", a_late_cancel_is_not_counted},
        {"a_counted_batch_has_its_time", a_counted_batch_has_its_time},
        {"a_suspect_runs_alone", a_suspect_runs_alone},
        {"a_job_canceled_in_time_does_not_run", a_job_canceled_in_time_does_not_run},
        {"a_job_released_in_time_is_given_back", a_job_released_in_time_is_given_back},
        {"a_pool_without_all_its_workers_does_not_open",
         a_pool_without_all_its_workers_does_not_open},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
