/* The shared store for those who use it: handlers, workers, and the thread that claims jobs, tells
 * that this process is alive, and keeps house. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "server/clock.h"
#include "server/shared_internal.h"
#include "server/stored_request.h"

#define SWEEP_MS   1000
#define REFRESH_MS 10000 /* mirrors are read again even if nobody told of a change */
#define VIEW_MS    3000  /* a watched job is told so */
#define BEAT_MAX   200   /* jobs per call */

/* ---- claims ---- */

void dscm_shared_wake_(dscm_shared *shared, bool beat)
{
    pthread_mutex_lock(&shared->keeper_lock);
    shared->wake = true;
    shared->beat_now = shared->beat_now || beat;
    pthread_cond_signal(&shared->keeper_wake);
    pthread_mutex_unlock(&shared->keeper_lock);
}

void dscm_shared_wake(dscm_shared *shared)
{
    dscm_shared_wake_(shared, false);
}

static bool add_claim(dscm_shared *shared, dscm_job *job)
{
    claim *c = dscm_alloc(1, sizeof *c, "a claim", NULL);
    if (!c) return false;
    c->job = dscm_job_ref(job);
    pthread_mutex_lock(&shared->claims_lock);
    c->next = shared->claims;
    shared->claims = c;
    shared->claims_count++;
    pthread_mutex_unlock(&shared->claims_lock);
    return true;
}

bool dscm_shared_unclaim_(dscm_shared *shared, dscm_job *job)
{
    claim *found = NULL;
    pthread_mutex_lock(&shared->claims_lock);
    for (claim **link = &shared->claims; *link && !found; link = &(*link)->next)
        if ((*link)->job == job) {
            found = *link;
            *link = found->next;
            shared->claims_count--;
            break;
        }
    pthread_mutex_unlock(&shared->claims_lock);
    if (!found) return false;
    dscm_job_unref(found->job);
    dscm_free(found);
    return true;
}

void dscm_shared_lost_(dscm_shared *shared, dscm_job *job)
{
    dscm_job_ref(job);
    dscm_job_abandon(job);
    if (dscm_queue_remove(shared->service->queue, job)) {
        dscm_task_drop(job);
        dscm_job_unref(job);
    }
    bool first = dscm_shared_unclaim_(shared, job);
    dscm_job_unref(job);
    pthread_mutex_lock(&shared->lock);
    shared->figures.lost += first; /* it may be told by several answers */
    pthread_mutex_unlock(&shared->lock);
}

/* References to all claimed jobs; to be freed. */
static dscm_job **list_claims(dscm_shared *shared, size_t *count)
{
    pthread_mutex_lock(&shared->claims_lock);
    dscm_job **list = malloc((shared->claims_count + 1) * sizeof *list);
    *count = 0;
    for (claim *c = shared->claims; list && c; c = c->next) list[(*count)++] = dscm_job_ref(c->job);
    pthread_mutex_unlock(&shared->claims_lock);
    return list;
}

/* ---- claiming ---- */

enum {
    CLAIM_ID,
    CLAIM_OWNER,
    CLAIM_CLIENT,
    CLAIM_WORK,
    CLAIM_REQUEST,
    CLAIM_LEFT,
    CLAIM_DEATHS,
    CLAIM_RUN,
    CLAIM_AGE
};

/* The abduction that a request names: kept here, or inferred again from what the store has. */
static bool find_abduction(dscm_shared *shared, dscm_redis *redis, const char *owner,
                           dscm_request *request, dscm_task *task, dscm_problem *problem)
{
    dscm_service *s = shared->service;
    char id[DSCM_ID_SIZE], age[24];
    snprintf(id, sizeof id, "%s", request->abduction);
    snprintf(age, sizeof age, "%ld", s->settings.abductions_age_s);
    dscm_span args[] = {dscm_span_text(id), dscm_span_text(owner), dscm_span_text(age)};
    dscm_redis_reply *reply =
        dscm_shared_send_(shared, redis, "find", args, 3) ? dscm_redis_receive(redis) : NULL;
    dscm_span key = dscm_redis_bytes(dscm_redis_at(reply, 1));
    bool found = reply && strcmp(dscm_redis_text(reply, 0), "ok") == 0;
    if (found) task->cached = dscm_abduction_cache_find(s->abductions, id, owner);
    if (found && !task->cached)
        found = dscm_stored_abduction_apply(request, key.data, key.size, NULL);
    dscm_redis_reply_free(reply);
    if (found && !task->cached) memcpy(task->abduction, id, sizeof id);
    if (!found)
        dscm_problem_add(problem, DSCM_PROBLEM_UNKNOWN_ABDUCTION, "/abduction",
                         "the abduction \"%s\" expired before the job ran: send the image", id);
    return found;
}

/* The job of one claim, in the claims; NULL: no memory, the claim runs out. */
static dscm_job *make_job(dscm_shared *shared, const dscm_redis_reply *c, dscm_request **request)
{
    dscm_service *s = shared->service;
    dscm_payload task;
    dscm_job *job = NULL;
    int work = atoi(dscm_redis_text(c, CLAIM_WORK));
    size_t cost = *request ? dscm_request_cost(*request) : 0;
    dscm_code code =
        *request ? dscm_task_make(&task, *request, NULL, s->abductions, NULL)
                 : dscm_task_make_bare(
                       &task, (dscm_work)(work >= 0 && work <= DSCM_WORK_SAMPLE ? work : 0), NULL);
    if (code != DSCM_OK) return NULL;
    *request = NULL; /* the task's now */
    code =
        dscm_job_create(&job, dscm_redis_text(c, CLAIM_OWNER), dscm_redis_text(c, CLAIM_CLIENT),
                        task, dscm_clock_ms() + atoll(dscm_redis_text(c, CLAIM_LEFT)), true, NULL);
    if (code != DSCM_OK) {
        task.release(task.data);
        return NULL;
    }
    snprintf(job->id, sizeof job->id, "%s", dscm_redis_text(c, CLAIM_ID));
    int64_t age_ms = atoll(dscm_redis_text(c, CLAIM_AGE));
    job->created_us -= age_ms * 1000;
    job->created_wall -= (double)age_ms * 1e-3;
    job->deaths = (unsigned)atoi(dscm_redis_text(c, CLAIM_DEATHS));
    job->run = (unsigned)atoi(dscm_redis_text(c, CLAIM_RUN));
    if (job->run > 1) job->last_event = (uint64_t)(job->run - 1) * DSCM_EVENTS_PER_RUN;
    job->cost = cost;
    job->sink = &shared->sink;
    job->record = DSCM_RECORD_DURABLE;
    if (add_claim(shared, job)) return job;
    dscm_job_unref(job);
    return NULL;
}

static void fail_job(dscm_job *job, const dscm_problem *problem)
{
    size_t size;
    char *data = dscm_problem_json(problem, NULL, NULL, &size);
    if (data) data[strcspn(data, "\n")] = 0;
    dscm_job_fail(job, problem, data);
    free(data);
}

/* A job that is not run here after all. */
static void give_back(dscm_job *job)
{
    dscm_job_release(job);
    dscm_job_stopped(job);
    dscm_task_drop(job);
    dscm_job_unref(job);
}

/* The job of a claim, ready to run; NULL: it has failed already, or there is no memory. */
static dscm_job *take_claim(dscm_shared *shared, dscm_redis *redis, const dscm_redis_reply *c)
{
    dscm_service *s = shared->service;
    dscm_request *request = NULL;
    dscm_problem problem = {0};
    dscm_span packed = dscm_redis_bytes(dscm_redis_at(c, CLAIM_REQUEST));
    if (!dscm_stored_request_parse(&request, packed.data, packed.size, &s->catalogue, &problem))
        request = NULL;
    dscm_request *parsed = request;
    dscm_job *job = make_job(shared, c, &request);
    dscm_request_free(request); /* what the job did not take */
    if (!job) return NULL;
    if (parsed && *parsed->abduction)
        (void)find_abduction(shared, redis, job->owner, parsed, job->task.data, &problem);
    if (problem.code == DSCM_PROBLEM_NONE) return job;
    fail_job(job, &problem);
    dscm_task_drop(job);
    dscm_job_unref(job);
    return NULL;
}

/* All of them are queued at once: a worker that took the first alone would break the batch. */
static void take_claims(dscm_shared *shared, dscm_redis *redis, const dscm_redis_reply *list)
{
    size_t count = 0, claimed = dscm_redis_count(list);
    dscm_job **jobs = malloc((claimed ? claimed : 1) * sizeof *jobs);
    if (!jobs) return; /* the claims run out */
    for (size_t i = 0; i < claimed; i++) {
        jobs[count] = take_claim(shared, redis, dscm_redis_at(list, i));
        if (jobs[count]) count++;
    }
    size_t pushed = dscm_queue_push_all(shared->service->queue, jobs, count);
    for (size_t i = pushed; i < count; i++) give_back(jobs[i]);
    free(jobs);
}

static size_t model_args(const dscm_shared *shared, dscm_span *args)
{
    const dscm_catalogue *catalogue = &shared->service->catalogue;
    for (size_t i = 0; i < catalogue->count; i++)
        args[i] = dscm_span_text(catalogue->models[i].info->sha256);
    return catalogue->count;
}

/* One call of the script. NULL: the connection failed or Redis refused, which is noted. */
static dscm_redis_reply *ask(dscm_shared *shared, dscm_redis *redis, const char *operation,
                             const dscm_span *args, size_t count, bool *broken)
{
    dscm_redis_reply *reply =
        dscm_shared_send_(shared, redis, operation, args, count) ? dscm_redis_receive(redis) : NULL;
    const char *failure = reply ? dscm_redis_failure(reply) : dscm_redis_error(redis);
    if (!failure) return reply;
    *broken = !reply || strncmp(failure, "NOSCRIPT", 8) == 0;
    dscm_shared_note_(shared, failure);
    dscm_redis_reply_free(reply);
    return NULL;
}

/* Jobs that the script canceled since their time was over or nobody waits for them. */
static void count_canceled(dscm_shared *shared, const dscm_redis_reply *reply)
{
    static const dscm_job_reason reasons[] = {DSCM_REASON_DEADLINE, DSCM_REASON_DISCONNECT,
                                              DSCM_REASON_CLIENT};
    dscm_metrics *metrics = &shared->service->metrics;
    for (size_t i = 0; i < 3; i++)
        atomic_fetch_add(&metrics->jobs[DSCM_JOB_CANCELED][reasons[i]],
                         strtoull(dscm_redis_text(reply, 3 + i), NULL, 10));
}

/* Jobs for the workers that are idle. Nothing is claimed ahead: another process could run it now. */
static bool claim_jobs(dscm_shared *shared, dscm_redis *redis)
{
    dscm_service *s = shared->service;
    size_t idle = dscm_queue_idle(s->queue), depth = dscm_queue_depth(s->queue);
    size_t most = idle * (size_t)s->settings.batch, n = 5;
    char lease[24], age[24], want[24], sent[24];
    dscm_span args[5 + DSCM_MODELS_MAX] = {dscm_span_text(shared->worker)};
    bool broken = false;
    snprintf(lease, sizeof lease, "%ld", s->settings.claim_ms);
    snprintf(age, sizeof age, "%ld", s->settings.jobs_age_s);
    snprintf(want, sizeof want, "%zu", most > depth ? most - depth : 0);
    args[1] = dscm_span_text(lease);
    args[2] = dscm_span_text(age);
    args[3] = dscm_span_text(want);
    snprintf(sent, sizeof sent, "%lld", (long long)(dscm_clock_ms() + shared->clock_ms));
    args[4] = dscm_span_text(sent);
    n += model_args(shared, args + n);
    dscm_redis_reply *reply = ask(shared, redis, "claim", args, n, &broken);
    const dscm_redis_reply *list = dscm_redis_at(reply, 2);
    size_t count = dscm_redis_count(list);
    take_claims(shared, redis, list);
    if (reply) {
        unsigned long long poisoned = strtoull(dscm_redis_text(reply, 1), NULL, 10);
        atomic_fetch_add(&s->metrics.crashed, poisoned);
        count_canceled(shared, reply);
        pthread_mutex_lock(&shared->lock);
        shared->figures.claimed += count;
        shared->figures.taken_over += strtoull(dscm_redis_text(reply, 0), NULL, 10);
        shared->figures.poisoned += poisoned;
        pthread_mutex_unlock(&shared->lock);
        /* More may wait for a worker that is still idle, when it was not given a fair part only. */
        if (count && dscm_queue_idle(s->queue)) dscm_shared_wake_(shared, false);
    }
    dscm_redis_reply_free(reply);
    return !broken;
}

/* ---- signs of life ---- */

static bool beat_some(dscm_shared *shared, dscm_redis *redis, dscm_job **jobs, size_t count)
{
    dscm_service *s = shared->service;
    char lease[24], models[24], runs[BEAT_MAX][12];
    dscm_span args[3 + DSCM_MODELS_MAX + 2 * BEAT_MAX] = {dscm_span_text(shared->worker)};
    bool broken = false;
    size_t n = 3, named = atomic_load(&shared->claiming) ? model_args(shared, args + n) : 0;
    n += named;
    snprintf(lease, sizeof lease, "%ld", s->settings.claim_ms);
    snprintf(models, sizeof models, "%zu", named);
    args[1] = dscm_span_text(lease);
    args[2] = dscm_span_text(models);
    for (size_t i = 0; i < count; i++) {
        snprintf(runs[i], sizeof runs[i], "%u", jobs[i]->run);
        args[n++] = dscm_span_text(jobs[i]->id);
        args[n++] = dscm_span_text(runs[i]);
    }
    dscm_redis_reply *reply = ask(shared, redis, "beat", args, n, &broken);
    if (reply) shared->clock_ms = atoll(dscm_redis_text(reply, 0)) - dscm_clock_ms();
    for (size_t i = 0; i < count && i + 1 < dscm_redis_count(reply); i++)
        if (!dscm_job_ended(jobs[i]))
            dscm_shared_orders_(shared, jobs[i], dscm_redis_at(reply, i + 1));
    dscm_redis_reply_free(reply);
    return !broken;
}

static bool beat(dscm_shared *shared, dscm_redis *redis)
{
    size_t count;
    dscm_job **jobs = list_claims(shared, &count);
    if (!jobs) return true; /* the next one comes soon */
    bool ok = true;
    size_t at = 0;
    do {
        size_t some = count - at < BEAT_MAX ? count - at : BEAT_MAX;
        ok = beat_some(shared, redis, jobs + at, some);
        at += some;
    } while (ok && at < count);
    for (size_t i = 0; i < count; i++) dscm_job_unref(jobs[i]);
    free(jobs);
    return ok;
}

/* ---- housekeeping ---- */

static bool sweep(dscm_shared *shared, dscm_redis *redis)
{
    const dscm_settings *o = &shared->service->settings;
    char numbers[5][24];
    long long values[5] = {o->claim_ms, o->jobs_age_s, o->jobs_max, (long long)o->jobs_mb << 20,
                           (long long)o->no_worker_s * 1000};
    dscm_span args[5];
    bool broken = false;
    for (size_t i = 0; i < 5; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%lld", values[i]);
        args[i] = dscm_span_text(numbers[i]);
    }
    dscm_redis_reply *reply = ask(shared, redis, "sweep", args, 5, &broken);
    if (reply) {
        count_canceled(shared, reply);
        pthread_mutex_lock(&shared->lock);
        shared->figures.waiting = strtoul(dscm_redis_text(reply, 0), NULL, 10);
        shared->figures.running = strtoul(dscm_redis_text(reply, 1), NULL, 10);
        shared->figures.workers = strtoul(dscm_redis_text(reply, 2), NULL, 10);
        pthread_mutex_unlock(&shared->lock);
    }
    dscm_redis_reply_free(reply);
    return !broken;
}

static void view_watched(void *arg, dscm_job *job)
{
    if (job->mirror && atomic_load(&job->readers) > 0) dscm_shared_view(arg, job);
}

static void leave(dscm_shared *shared, dscm_redis *redis)
{
    dscm_span args[1 + DSCM_MODELS_MAX] = {dscm_span_text(shared->worker)};
    bool broken = false;
    size_t n = 1 + model_args(shared, args + 1);
    dscm_redis_reply_free(ask(shared, redis, "leave", args, n, &broken));
}

/* Waits until `until_ms`, or a wake. Returns whether a sign of life is wanted at once. */
static bool wait_for_wake(dscm_shared *shared, int64_t until_ms)
{
    struct timespec time = {until_ms / 1000, until_ms % 1000 * 1000000};
    pthread_mutex_lock(&shared->keeper_lock);
    while (!shared->wake && !atomic_load(&shared->ending) && dscm_clock_ms() < until_ms)
        pthread_cond_timedwait(&shared->keeper_wake, &shared->keeper_lock, &time);
    bool wanted = shared->beat_now;
    shared->wake = shared->beat_now = false;
    pthread_mutex_unlock(&shared->keeper_lock);
    return wanted;
}

/* What is due in the life of the keeper. */
typedef struct due {
    int64_t beat, sweep, view, refresh;
} due;

static bool keep_once(dscm_shared *shared, dscm_redis *redis, due *d, bool wanted)
{
    dscm_jobs *jobs = shared->service->jobs;
    int64_t now = dscm_clock_ms(), pause = shared->service->settings.claim_ms / 4;
    bool ok = true;
    if (wanted || now >= d->beat) {
        ok = beat(shared, redis);
        d->beat = now + (pause > 1000 ? 1000 : pause);
    }
    pthread_mutex_lock(&shared->claiming_lock);
    if (ok && atomic_load(&shared->claiming)) ok = claim_jobs(shared, redis);
    pthread_mutex_unlock(&shared->claiming_lock);
    if (ok && now >= d->sweep) {
        ok = sweep(shared, redis);
        d->sweep = now + SWEEP_MS;
    }
    if (now >= d->view) {
        jobs->each_live(jobs, view_watched, shared);
        d->view = now + VIEW_MS;
    }
    if (now >= d->refresh) {
        dscm_shared_refresh_all_(shared);
        d->refresh = now + REFRESH_MS;
    }
    return ok;
}

bool dscm_shared_register_(dscm_shared *shared, dscm_redis *redis)
{
    return beat_some(shared, redis, NULL, 0) && sweep(shared, redis);
}

void *dscm_shared_keep_(void *arg)
{
    dscm_shared *shared = arg;
    dscm_redis *redis = NULL;
    due d = {0, 0, 0, dscm_clock_ms() + REFRESH_MS};
    bool wanted = true;
    while (!atomic_load(&shared->ending)) {
        dscm_error err = {0};
        if (!redis && dscm_shared_connect_(shared, &redis, &err) != DSCM_OK) {
            dscm_shared_note_(shared, err.message);
            wanted = wait_for_wake(shared, dscm_clock_ms() + 200) || wanted;
            continue;
        }
        if (!keep_once(shared, redis, &d, wanted)) {
            dscm_redis_close(redis);
            redis = NULL;
            d.beat = 0;
        }
        wanted = wait_for_wake(shared, d.beat < d.sweep ? d.beat : d.sweep);
    }
    if (redis) leave(shared, redis);
    dscm_redis_close(redis);
    return NULL;
}

/* ---- stopping ---- */

void dscm_shared_quiesce(dscm_shared *shared)
{
    atomic_store(&shared->claiming, false);
    pthread_mutex_lock(&shared->claiming_lock); /* a claim that is on its way arrives */
    pthread_mutex_unlock(&shared->claiming_lock);
    for (dscm_job *job; (job = dscm_queue_take_any(shared->service->queue));) give_back(job);
}

size_t dscm_shared_running(dscm_shared *shared)
{
    pthread_mutex_lock(&shared->claims_lock);
    size_t count = shared->claims_count;
    pthread_mutex_unlock(&shared->claims_lock);
    return count;
}

void dscm_shared_release(dscm_shared *shared)
{
    size_t count;
    dscm_job **jobs = list_claims(shared, &count);
    for (size_t i = 0; jobs && i < count; i++) {
        dscm_job_release(jobs[i]);
        dscm_job_unref(jobs[i]);
    }
    free(jobs);
}

/* ---- of workers ---- */

void dscm_shared_start(dscm_shared *shared, dscm_job *const *jobs, size_t count)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        dscm_shared_op *op = dscm_shared_op_make_(OP_START, jobs[i], NULL);
        if (!op) {
            dscm_shared_lost_(shared, jobs[i]);
            continue;
        }
        op->starting = &left;
        pthread_mutex_lock(&shared->claims_lock);
        left++;
        pthread_mutex_unlock(&shared->claims_lock);
        dscm_shared_enqueue_(shared, op);
    }
    pthread_mutex_lock(&shared->claims_lock);
    while (left) pthread_cond_wait(&shared->started, &shared->claims_lock);
    pthread_mutex_unlock(&shared->claims_lock);
}

void dscm_shared_keep_abduction(dscm_shared *shared, const char *id, const char *owner,
                                const void *key, size_t size)
{
    dscm_shared_op *op = dscm_shared_op_make_(OP_KEEP, NULL, id);
    if (!op) return; /* kept in this process only */
    snprintf(op->owner, sizeof op->owner, "%s", owner);
    op->blob = dscm_blob_copy(key, size);
    if (op->blob)
        dscm_shared_enqueue_(shared, op);
    else
        dscm_shared_op_free(op);
}
