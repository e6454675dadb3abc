/* What the service tells waiting clients: estimates and Retry-After. The whole service: tests/http. */
#include "server/service.h"

#include <math.h>

#include "tests/server/fake_runner.h"

static dscm_service service;

/* Runs one job of at least `ms`. */
static void run_one(dscm_queue *queue, long ms)
{
    push(queue, 1, 0);
    await_batch();
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
    sem_post(&state.go);
    while (!atomic_load(&service.metrics.inference.sum_us)) sched_yield();
}

static void estimates_count_the_job_itself(void)
{
    service = (dscm_service){.workers = 2};
    service.pool = open_pool(&service.queue, 2, 1, &service.metrics);
    CHECK(isnan(dscm_service_estimate_ms(&service, 0))); /* nothing was run yet */
    CHECK_INT(dscm_service_retry_after(&service), 1);
    run_one(service.queue, 20);
    double each = dscm_worker_pool_job_ms(service.pool);
    CHECK(each >= 20);
    CHECK_NEAR(dscm_service_estimate_ms(&service, 0), each, 1e-9);
    CHECK_NEAR(dscm_service_estimate_ms(&service, 1), each, 1e-9); /* beside it */
    CHECK_NEAR(dscm_service_estimate_ms(&service, 2), 2 * each, 1e-9);
    CHECK_NEAR(dscm_service_estimate_ms(&service, 9), 5 * each, 1e-9);
    close_pool(service.queue, service.pool);
    service.pool = NULL; /* a process that only accepts */
    CHECK(isnan(dscm_service_estimate_ms(&service, 0)));
}

/* Whole seconds, at least one and at most a minute. */
static void retry_after_lies_between_a_second_and_a_minute(void)
{
    service = (dscm_service){.workers = 1};
    service.pool = open_pool(&service.queue, 1, 1, &service.metrics);
    run_one(service.queue, 1100);
    double each = dscm_worker_pool_job_ms(service.pool);
    CHECK_INT(dscm_service_retry_after(&service), (long)ceil(each * 1e-3));
    CHECK(dscm_service_retry_after(&service) >= 2);
    push(service.queue, 1, 0);
    await_batch(); /* from here on all wait */
    for (int i = 0; i < 60; i++) push(service.queue, 1, 0);
    CHECK_INT(dscm_service_depth(&service), 60);
    CHECK_INT(dscm_service_retry_after(&service), 60);
    while (dscm_queue_depth(service.queue)) {
        dscm_job *job = dscm_queue_take_any(service.queue);
        if (job) dscm_job_unref(job);
    }
    close_pool(service.queue, service.pool);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"estimates_count_the_job_itself", estimates_count_the_job_itself},
        {"retry_after_lies_between_a_second_and_a_minute",
         retry_after_lies_between_a_second_and_a_minute},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
