#include "server/worker_pool.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "server/clock.h"

typedef struct worker {
    dscm_worker_pool *pool;
    void *state;
    pthread_t thread;
    bool opened, started;
} worker;

struct dscm_worker_pool {
    dscm_queue *queue;
    dscm_job_runner runner;
    dscm_metrics *metrics;
    size_t count, batch;
    atomic_llong job_us;    /* moving average */
    pthread_rwlock_t alone; /* held for writing while a suspect job runs, by others for reading */
    worker workers[];
};

/* State for choosing companions of a job. */
typedef struct choice {
    const dscm_worker_pool *pool;
    const dscm_job *first;
    size_t room; /* images that the batch still takes */
} choice;

static bool chosen(void *arg, const dscm_job *job)
{
    choice *c = arg;
    const dscm_job_runner *runner = &c->pool->runner;
    if (!runner->fits(runner->arg, c->first, job)) return false;
    size_t weight = runner->weight(runner->arg, job);
    if (weight > c->room) return false;
    c->room -= weight;
    return true;
}

static size_t take_batch(dscm_worker_pool *pool, dscm_job **jobs)
{
    jobs[0] = dscm_queue_take(pool->queue);
    if (!jobs[0]) return 0;
    size_t weight = pool->runner.weight(pool->runner.arg, jobs[0]);
    choice c = {pool, jobs[0], weight < pool->batch ? pool->batch - weight : 0};
    size_t idle = dscm_queue_idle(pool->queue);
    return 1 + dscm_queue_take_more(pool->queue, jobs + 1, DSCM_BATCH_MAX - 1, idle, chosen, &c);
}

static void account(dscm_worker_pool *pool, dscm_job *job)
{
    dscm_job_reason reason;
    dscm_job_state state = dscm_job_decided(job, &reason);
    if (state < DSCM_JOB_SUCCEEDED) return; /* released */
    if (state != DSCM_JOB_CANCELED) reason = DSCM_REASON_NONE;
    atomic_fetch_add(&pool->metrics->jobs[state][reason], 1);
}

static void run_batch(worker *w, dscm_job **jobs, size_t taken)
{
    dscm_worker_pool *pool = w->pool;
    size_t count = 0;
    if (pool->runner.starting) pool->runner.starting(pool->runner.arg, jobs, taken);
    for (size_t i = 0; i < taken; i++) {
        if (dscm_job_start(jobs[i])) {
            dscm_histogram_add(&pool->metrics->queue_wait,
                               jobs[i]->started_us - jobs[i]->created_us);
            jobs[count++] = jobs[i];
        } else {
            dscm_job_stopped(jobs[i]); /* canceled, or released, between the queue and here */
            pool->runner.drop(jobs[i]);
            dscm_job_unref(jobs[i]);
        }
    }
    if (!count) return;
    atomic_fetch_add(&pool->metrics->jobs_started, count);
    atomic_fetch_add(&pool->metrics->batches, 1);
    atomic_fetch_add(&pool->metrics->batched_jobs, count);
    atomic_fetch_add(&pool->metrics->workers_busy, 1);
    int64_t start = dscm_clock_us();
    pool->runner.run(w->state, jobs, count);
    int64_t took = dscm_clock_us() - start;
    long long each = took / (long long)count, before = atomic_load(&pool->job_us);
    atomic_store(&pool->job_us, before ? before + (each - before) / 8 : each);
    /* Last of all: who sees a batch counted may rely on an estimate. */
    atomic_fetch_sub(&pool->metrics->workers_busy, 1);
    dscm_histogram_add(&pool->metrics->inference, took);
    for (size_t i = 0; i < count; i++) {
        account(pool, jobs[i]);
        pool->runner.drop(jobs[i]);
        dscm_job_unref(jobs[i]);
    }
}

/* Lower worker priority, so that HTTP threads stay responsive while workers use the processors. Where
 * the system does not allow it, workers keep their priority. */
#define WORKER_NICE 5

static void *work(void *arg)
{
    worker *w = arg;
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), WORKER_NICE);
    dscm_job *jobs[DSCM_BATCH_MAX];
    for (size_t count; (count = take_batch(w->pool, jobs));) {
        if (dscm_job_suspect(jobs[0]))
            pthread_rwlock_wrlock(&w->pool->alone);
        else
            pthread_rwlock_rdlock(&w->pool->alone);
        const dscm_job *first = jobs[0];
        run_batch(w, jobs, count);
        pthread_rwlock_unlock(&w->pool->alone);
        dscm_queue_done(w->pool->queue, first);
    }
    return NULL;
}

dscm_code dscm_worker_pool_open(dscm_worker_pool **out, dscm_queue *queue,
                                const dscm_job_runner *runner, size_t workers, size_t batch,
                                dscm_metrics *metrics, dscm_error *err)
{
    dscm_worker_pool *pool =
        dscm_alloc(1, sizeof *pool + workers * sizeof pool->workers[0], "the workers", err);
    if (!pool) return DSCM_E_MEMORY;
    pool->queue = queue;
    pool->runner = *runner;
    pool->metrics = metrics;
    pool->count = workers;
    pool->batch = batch < DSCM_BATCH_MAX ? batch : DSCM_BATCH_MAX;
    atomic_init(&pool->job_us, 0);
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&pool->alone, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    dscm_code code = DSCM_OK;
    for (size_t i = 0; i < workers && code == DSCM_OK; i++) {
        worker *w = &pool->workers[i];
        w->pool = pool;
        code = runner->open(runner->arg, &w->state, err);
        w->opened = code == DSCM_OK;
    }
    for (size_t i = 0; i < workers && code == DSCM_OK; i++) {
        worker *w = &pool->workers[i];
        int failure = pthread_create(&w->thread, NULL, work, w);
        w->started = failure == 0;
        if (!w->started)
            code = dscm_fail(err, DSCM_E_SYSTEM, "cannot start the thread of worker %zu: %s", i + 1,
                             strerror(failure));
    }
    if (code != DSCM_OK) {
        dscm_queue_close(queue);
        dscm_worker_pool_free(pool);
        return code;
    }
    *out = pool;
    return DSCM_OK;
}

void dscm_worker_pool_join(dscm_worker_pool *pool)
{
    for (size_t i = 0; pool && i < pool->count; i++) {
        if (pool->workers[i].started) pthread_join(pool->workers[i].thread, NULL);
        pool->workers[i].started = false;
    }
}

void dscm_worker_pool_free(dscm_worker_pool *pool)
{
    if (!pool) return;
    dscm_worker_pool_join(pool);
    for (size_t i = 0; i < pool->count; i++)
        if (pool->workers[i].opened) pool->runner.close(pool->workers[i].state);
    pthread_rwlock_destroy(&pool->alone);
    dscm_free(pool);
}

double dscm_worker_pool_job_ms(dscm_worker_pool *pool)
{
    return (double)atomic_load(&pool->job_us) * 1e-3;
}
