/* Workers on a runner that only counts: a batch waits in `run` until a test lets it go. */
#ifndef DSCM_TESTS_SERVER_FAKE_RUNNER_H
#define DSCM_TESTS_SERVER_FAKE_RUNNER_H

#include <semaphore.h>
#include <stdlib.h>

#include "server/clock.h"
#include "server/worker_pool.h"
#include "tests/harness.h"

enum { BATCHES_MAX = 16 };

/* Jobs weigh what their task says. A batch waits in `run` until it is let go. */
typedef struct fake {
    sem_t begun, go;
    size_t batches, sizes[BATCHES_MAX]; /* written by one worker, read when it waits or has ended */
    bool cancel_late;                   /* each job is canceled when it is all but done */
    size_t cancel_early;                /* so many of a batch are canceled before they start */
    bool release_early;                 /* all of a batch are released before they start */
    size_t opens_max;                   /* workers that can be opened */
    atomic_size_t opened, closed, dropped, given_back;
} fake;

static fake state;

static dscm_code fake_open(void *arg, void **out, dscm_error *err)
{
    *out = arg;
    if (atomic_fetch_add(&state.opened, 1) == state.opens_max)
        return dscm_fail(err, DSCM_E_MEMORY, "no worker");
    return DSCM_OK;
}

static void fake_close(void *data)
{
    (void)data;
    atomic_fetch_add(&state.closed, 1);
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

static void fake_starting(void *arg, dscm_job *const *jobs, size_t count)
{
    (void)arg;
    for (size_t i = 0; i < state.cancel_early && i < count; i++)
        CHECK(dscm_job_cancel(jobs[i], DSCM_REASON_CLIENT));
    for (size_t i = 0; state.release_early && i < count; i++) dscm_job_release(jobs[i]);
}

static void fake_release(void *arg, dscm_job *job)
{
    (void)arg, (void)job;
    atomic_fetch_add(&state.given_back, 1);
}

static const dscm_job_sink fake_sink = {.release = fake_release};

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
    atomic_fetch_add(&state.dropped, 1);
}

/* deaths: how often the process died while it ran. */
static void push(dscm_queue *queue, size_t weight, unsigned deaths)
{
    dscm_job *job = NULL;
    const dscm_payload task = {.bytes = weight};
    REQUIRE(dscm_job_create(&job, "a", "a", task, DSCM_NEVER, false, NULL) == DSCM_OK);
    job->deaths = deaths;
    if (state.release_early) job->sink = &fake_sink;
    CHECK_INT(dscm_queue_push(queue, job, NULL, NULL), DSCM_PUSHED);
}

static const dscm_job_runner fake_runner = {&state,      fake_open,     fake_close, fake_fits,
                                            fake_weight, fake_starting, fake_run,   fake_drop};

static dscm_worker_pool *open_pool(dscm_queue **queue, size_t workers, size_t batch,
                                   dscm_metrics *metrics)
{
    dscm_worker_pool *pool = NULL;
    state = (fake){.opens_max = 64};
    sem_init(&state.begun, 0, 0);
    sem_init(&state.go, 0, 0);
    *metrics = (dscm_metrics){.jobs_started = 0};
    if (dscm_queue_open(queue, 64, 64, NULL) != DSCM_OK ||
        dscm_worker_pool_open(&pool, *queue, &fake_runner, workers, batch, metrics, NULL) !=
            DSCM_OK)
        abort();
    return pool;
}

static void close_pool(dscm_queue *queue, dscm_worker_pool *pool)
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

#endif
