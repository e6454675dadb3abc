/* The worker pool: worker threads that take jobs from the queue and run them, alone or in batches.
 *
 * What running means is the runner's affair: the worker pool decides who runs what and when. A worker
 * never waits for companions of a job; it takes those that already wait, and only as many as leave
 * work for idle workers.
 *
 * Threads: nothing is shared between workers but the queue and atomic counters; each worker's state
 * belongs to its thread. Ownership: a job taken from the queue is the worker's until the runner has
 * ended it.
 */
#ifndef DSCM_SERVER_WORKER_POOL_H
#define DSCM_SERVER_WORKER_POOL_H

#include "server/metrics.h"
#include "server/queue.h"

#define DSCM_BATCH_MAX 256

/* How jobs are run. All functions may be called by several workers at once. */
typedef struct dscm_job_runner {
    void *arg;
    /* State of one worker (a session). */
    dscm_code (*open)(void *arg, void **state, dscm_error *err);
    void (*close)(void *state);
    /* `other` may run in one batch with `first`. */
    bool (*fits)(void *arg, const dscm_job *first, const dscm_job *other);
    /* Images that the job adds to a batch, at least 1. */
    size_t (*weight)(void *arg, const dscm_job *job);
    /* The jobs are about to be started; NULL: nobody asks. May block. */
    void (*starting)(void *arg, dscm_job *const *jobs, size_t count);
    /* Runs started jobs and ends every one of them, unless it was released. */
    void (*run)(void *state, dscm_job **jobs, size_t count);
    /* Lets go of what only running needed. Asked by whoever took the job from the queue, run or not,
     * before it gives up its reference. */
    void (*drop)(dscm_job *job);
} dscm_job_runner;

typedef struct dscm_worker_pool dscm_worker_pool;

/* Opens every worker's state before it returns, so that a machine too small is found at start.
 * batch: images per batch at most. Borrows queue and metrics. */
dscm_code dscm_worker_pool_open(dscm_worker_pool **out, dscm_queue *queue,
                                const dscm_job_runner *runner, size_t workers, size_t batch,
                                dscm_metrics *metrics, dscm_error *err) DSCM_MUST_CHECK;
/* Waits for the workers to end: close the queue first, and cancel what is not to be finished. May
 * be asked for its figures until it is freed. */
void dscm_worker_pool_join(dscm_worker_pool *pool); /* takes NULL */
void dscm_worker_pool_free(dscm_worker_pool *pool); /* takes NULL; joins first */
/* Mean time of a job in ms as of late, 0 before the first. */
double dscm_worker_pool_job_ms(dscm_worker_pool *pool);

#endif
