#include "server/crew.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "server/clock.h"

typedef struct worker {
    dscm_crew *crew;
    void *state;
    pthread_t thread;
    bool opened, started;
} worker;

struct dscm_crew {
    dscm_queue *queue;
    dscm_runner runner;
    dscm_meters *meters;
    size_t count, batch;
    atomic_llong job_us; /* moving average */
    worker workers[];
};

/* State for choosing companions of a job. */
typedef struct choice {
    const dscm_crew *crew;
    const dscm_job *first;
    size_t room; /* images that the batch still takes */
} choice;

static bool chosen(void *arg, const dscm_job *job)
{
    choice *c = arg;
    const dscm_runner *runner = &c->crew->runner;
    if (!runner->fits(runner->arg, c->first, job)) return false;
    size_t weight = runner->weight(runner->arg, job);
    if (weight > c->room) return false;
    c->room -= weight;
    return true;
}

static size_t take_batch(dscm_crew *crew, dscm_job **jobs)
{
    jobs[0] = dscm_queue_take(crew->queue);
    if (!jobs[0]) return 0;
    size_t weight = crew->runner.weight(crew->runner.arg, jobs[0]);
    choice c = {crew, jobs[0], weight < crew->batch ? crew->batch - weight : 0};
    size_t idle = dscm_queue_idle(crew->queue);
    return 1 + dscm_queue_take_more(crew->queue, jobs + 1, DSCM_BATCH_MAX - 1, idle, chosen, &c);
}

static void account(dscm_crew *crew, dscm_job *job)
{
    dscm_job_reason reason;
    dscm_job_state state = dscm_job_peek(job, NULL, NULL, &reason);
    if (state != DSCM_JOB_CANCELED) reason = DSCM_REASON_NONE;
    atomic_fetch_add(&crew->meters->jobs[state][reason], 1);
}

static void run_batch(worker *w, dscm_job **jobs, size_t taken)
{
    dscm_crew *crew = w->crew;
    size_t count = 0;
    for (size_t i = 0; i < taken; i++) {
        if (dscm_job_start(jobs[i])) {
            dscm_histogram_add(&crew->meters->queue_wait,
                               jobs[i]->started_us - jobs[i]->created_us);
            jobs[count++] = jobs[i];
        } else {
            crew->runner.drop(jobs[i]); /* canceled between the queue and here */
            dscm_job_unref(jobs[i]);
        }
    }
    if (!count) return;
    atomic_fetch_add(&crew->meters->jobs_started, count);
    atomic_fetch_add(&crew->meters->batches, 1);
    atomic_fetch_add(&crew->meters->batched_jobs, count);
    atomic_fetch_add(&crew->meters->workers_busy, 1);
    int64_t start = dscm_clock_us();
    crew->runner.run(w->state, jobs, count);
    int64_t took = dscm_clock_us() - start;
    atomic_fetch_sub(&crew->meters->workers_busy, 1);
    dscm_histogram_add(&crew->meters->inference, took);
    long long each = took / (long long)count, before = atomic_load(&crew->job_us);
    atomic_store(&crew->job_us, before ? before + (each - before) / 8 : each);
    for (size_t i = 0; i < count; i++) {
        account(crew, jobs[i]);
        crew->runner.drop(jobs[i]);
        dscm_job_unref(jobs[i]);
    }
}

/* A worker would use its time slice to the end while a request waits to be refused: it gives way
 * to the threads that talk. Where the system does not allow it, it works as before. */
#define WORKER_NICE 5

static void *work(void *arg)
{
    worker *w = arg;
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), WORKER_NICE);
    dscm_job *jobs[DSCM_BATCH_MAX];
    for (size_t count; (count = take_batch(w->crew, jobs));) run_batch(w, jobs, count);
    return NULL;
}

dscm_code dscm_crew_open(dscm_crew **out, dscm_queue *queue, const dscm_runner *runner,
                         size_t workers, size_t batch, dscm_meters *meters, dscm_error *err)
{
    dscm_crew *crew =
        dscm_alloc(1, sizeof *crew + workers * sizeof crew->workers[0], "the workers", err);
    if (!crew) return DSCM_E_MEMORY;
    crew->queue = queue;
    crew->runner = *runner;
    crew->meters = meters;
    crew->count = workers;
    crew->batch = batch < DSCM_BATCH_MAX ? batch : DSCM_BATCH_MAX;
    atomic_init(&crew->job_us, 0);
    dscm_code code = DSCM_OK;
    for (size_t i = 0; i < workers && code == DSCM_OK; i++) {
        worker *w = &crew->workers[i];
        w->crew = crew;
        code = runner->open(runner->arg, &w->state, err);
        w->opened = code == DSCM_OK;
    }
    for (size_t i = 0; i < workers && code == DSCM_OK; i++) {
        worker *w = &crew->workers[i];
        int failure = pthread_create(&w->thread, NULL, work, w);
        w->started = failure == 0;
        if (!w->started)
            code = dscm_fail(err, DSCM_E_SYSTEM, "cannot start the thread of worker %zu: %s", i + 1,
                             strerror(failure));
    }
    if (code != DSCM_OK) {
        dscm_queue_close(queue);
        dscm_crew_free(crew);
        return code;
    }
    *out = crew;
    return DSCM_OK;
}

void dscm_crew_join(dscm_crew *crew)
{
    for (size_t i = 0; crew && i < crew->count; i++) {
        if (crew->workers[i].started) pthread_join(crew->workers[i].thread, NULL);
        crew->workers[i].started = false;
    }
}

void dscm_crew_free(dscm_crew *crew)
{
    if (!crew) return;
    dscm_crew_join(crew);
    for (size_t i = 0; i < crew->count; i++)
        if (crew->workers[i].opened) crew->runner.close(crew->workers[i].state);
    dscm_free(crew);
}

double dscm_crew_job_ms(dscm_crew *crew)
{
    return (double)atomic_load(&crew->job_us) * 1e-3;
}
