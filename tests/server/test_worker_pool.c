/* The worker pool on a runner that only counts: what runs with what, and what is counted of it. */
#include <semaphore.h>

#include "server/clock.h"
#include "server/worker_pool.h"
#include "tests/harness.h"

enum { BATCHES_MAX = 16 };

/* Jobs weigh what their task says. A batch waits in `run` until it is let go. */
typedef struct fake {
    sem_t begun, go;
    size_t batches, sizes[BATCHES_MAX]; /* written by one worker, read when it waits or has ended */
    bool cancel_late;                   /* each job is canceled when it is all but done */
} fake;

static fake state;

static dscm_code fake_open(void *arg, void **out, dscm_error *err)
{
    (void)err;
    *out = arg;
    return DSCM_OK;
}

static void fake_close(void *data)
{
    (void)data;
}

static bool fake_fits(void *arg, const dscm_job *first, const dscm_job *other)
{
    (void)arg, (void)first, (void)other;
    return true;
}

static size_t fake_weight(void *arg, const dscm_job *job)
{
    (void)arg;
    return job->task.bytes;
}

static void fake_run(void *data, dscm_job **jobs, size_t count)
{
    fake *f = data;
    if (f->batches < BATCHES_MAX) f->sizes[f->batches++] = count;
    sem_post(&f->begun);
    sem_wait(&f->go);
    for (size_t i = 0; i < count; i++) {
        if (f->cancel_late) dscm_job_cancel(jobs[i], DSCM_REASON_CLIENT);
        dscm_job_succeed(jobs[i], (dscm_payload){0}, NULL);
    }
}

static void fake_drop(dscm_job *job)
{
    (void)job;
}

static void push(dscm_queue *queue, size_t weight)
{
    dscm_job *job = NULL;
    const dscm_payload task = {.bytes = weight};
    REQUIRE(dscm_job_create(&job, "a", "a", task, DSCM_NEVER, false, NULL) == DSCM_OK);
    CHECK_INT(dscm_queue_push(queue, job, NULL, NULL), DSCM_PUSHED);
}

static dscm_worker_pool *open_crew(dscm_queue **queue, size_t workers, size_t batch,
                                   dscm_metrics *metrics)
{
    dscm_worker_pool *pool = NULL;
    const dscm_job_runner runner = {&state,      fake_open, fake_close, fake_fits,
                                    fake_weight, NULL,      fake_run,   fake_drop};
    state = (fake){.batches = 0};
    sem_init(&state.begun, 0, 0);
    sem_init(&state.go, 0, 0);
    *metrics = (dscm_metrics){.jobs_started = 0};
    if (dscm_queue_open(queue, 64, 64, NULL) != DSCM_OK ||
        dscm_worker_pool_open(&pool, *queue, &runner, workers, batch, metrics, NULL) != DSCM_OK)
        abort();
    return pool;
}

static void close_crew(dscm_queue *queue, dscm_worker_pool *pool)
{
    dscm_queue_close(queue);
    for (int i = 0; i < BATCHES_MAX; i++) sem_post(&state.go);
    dscm_worker_pool_free(pool);
    dscm_queue_free(queue);
}

/* Waits until a batch is being run. */
static void await_batch(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60; /* what never happens fails then */
    REQUIRE(sem_timedwait(&state.begun, &until) == 0);
}

/* A batch holds as many images as it may, in whole jobs; what is too heavy for what is left of one
 * lets lighter ones pass, and one that is heavier than a batch runs alone. */
static void batches_are_filled(void)
{
    static const size_t weights[] = {1, 3, 4, 2, 2, 9, 1, 1};
    static const size_t sizes[] = {1, 2, 1, 2, 1, 1}; /* 1 | 3+1 | 4 | 2+2 | 9 | 1 */
    static dscm_metrics metrics;
    dscm_queue *queue;
    dscm_worker_pool *pool = open_crew(&queue, 1, 4, &metrics);
    push(queue, weights[0]);
    await_batch(); /* the others come while this one runs */
    for (size_t i = 1; i < TEST_COUNT(weights); i++) push(queue, weights[i]);
    for (size_t i = 1; i < TEST_COUNT(sizes); i++) {
        sem_post(&state.go);
        await_batch();
    }
    close_crew(queue, pool);
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
    dscm_worker_pool *pool = open_crew(&queue, 1, 4, &metrics);
    state.cancel_late = true;
    push(queue, 1);
    await_batch();
    close_crew(queue, pool);
    CHECK_INT(atomic_load(&metrics.jobs[DSCM_JOB_SUCCEEDED][DSCM_REASON_NONE]), 1);
    CHECK_INT(atomic_load(&metrics.jobs[DSCM_JOB_SUCCEEDED][DSCM_REASON_CLIENT]), 0);
}

/* The service estimates waiting times with it from the moment a batch is counted. */
static void a_counted_batch_has_its_time(void)
{
    static dscm_metrics metrics;
    dscm_queue *queue;
    dscm_worker_pool *pool = open_crew(&queue, 1, 1, &metrics);
    CHECK(dscm_worker_pool_job_ms(pool) == 0);
    push(queue, 1);
    await_batch();
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    CHECK(dscm_worker_pool_job_ms(pool) == 0); /* not before its end */
    sem_post(&state.go);
    while (!atomic_load(&metrics.inference.sum_us)) sched_yield();
    CHECK(dscm_worker_pool_job_ms(pool) >= 2);
    close_crew(queue, pool);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"batches_are_filled", batches_are_filled},
        {"a_late_cancel_is_not_counted", a_late_cancel_is_not_counted},
        {"a_counted_batch_has_its_time", a_counted_batch_has_its_time},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
