/* What operations of the shared store send, and what their answers mean. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "server/clock.h"
#include "server/shared_internal.h"

/* ---- sending ---- */

/* A number as an argument; `slot` keeps its text. */
static dscm_span number(dscm_shared_op *op, size_t slot, unsigned long long value)
{
    snprintf(op->numbers[slot], sizeof op->numbers[slot], "%llu", value);
    return dscm_span_text(op->numbers[slot]);
}

static dscm_span blob_span(const dscm_blob *blob)
{
    return blob ? dscm_span_of(blob->bytes, blob->size) : dscm_span_text(NULL);
}

static size_t encode_accept(const dscm_shared *shared, dscm_shared_op *op, dscm_span *a)
{
    static const char *const works[] = {"0", "1", "2"};
    const dscm_settings *o = &shared->service->settings;
    const dscm_job *job = op->job;
    int64_t left = job->deadline_ms - dscm_clock_ms();
    bool never = job->deadline_ms == DSCM_NEVER;
    size_t n = 0;
    a[n++] = dscm_span_text(op->id);
    a[n++] = dscm_span_text(job->owner);
    a[n++] = dscm_span_text(job->client);
    a[n++] = dscm_span_text(op->sha256);
    a[n++] = dscm_span_text(works[op->work]);
    a[n++] = never ? dscm_span_text(NULL) : number(op, 0, left > 0 ? (unsigned long long)left : 0);
    a[n++] = dscm_span_text(op->promise ? "1" : "0");
    a[n++] = dscm_span_text(shared->worker);
    a[n++] = blob_span(op->blob);
    a[n++] = dscm_span_text(op->key);
    a[n++] = dscm_span_text(op->digest);
    a[n++] = number(op, 1, (unsigned long long)o->queue_capacity);
    a[n++] = number(op, 2, (unsigned long long)(o->queue_capacity * o->client_share / 100));
    a[n++] = number(op, 3, (unsigned long long)o->jobs_age_s);
    a[n++] =
        number(op, 4, o->client_share < 100 ? dscm_queue_reserve((size_t)o->queue_capacity) : 0);
    a[n++] = number(op, 5, dscm_queue_few((size_t)o->queue_capacity));
    a[n++] = number(op, 6, job->cost);
    a[n++] = number(op, 7, (unsigned long long)o->client_cost);
    return n;
}

static size_t encode_event(dscm_shared_op *op, dscm_span *a)
{
    a[3] = number(op, 1, op->number);
    a[4] = dscm_span_text(dscm_event_name(op->event));
    a[5] = dscm_span_text(op->data);
    a[6] = number(op, 2, op->step);
    a[7] = number(op, 3, op->steps);
    return 8;
}

static size_t encode_finish(dscm_shared_op *op, dscm_span *a, dscm_span age)
{
    a[3] = dscm_span_text(dscm_job_state_name(op->end.state));
    a[4] = dscm_span_text(dscm_job_reason_name(op->end.reason));
    a[5] = blob_span(op->problem);
    a[6] = blob_span(op->end.result.data);
    a[7] = number(op, 1, op->number);
    /* The reply is part of the result: its event is made from it again. */
    bool again = op->end.state == DSCM_JOB_SUCCEEDED;
    a[8] = dscm_span_text(again ? "" : op->end.data ? op->end.data : "{}");
    a[9] = age;
    return 10;
}

/* Those that name the claim of this process: id, worker, run. */
static const char *encode_own(dscm_shared *shared, dscm_shared_op *op, dscm_span *a, size_t *count,
                              dscm_span age)
{
    a[1] = dscm_span_text(shared->worker);
    a[2] = number(op, 0, op->job->run);
    a[3] = age; /* of a release */
    switch (op->kind) {
    case OP_EVENT:
        *count = encode_event(op, a);
        return "event";
    case OP_FINISH:
        *count = encode_finish(op, a, age);
        return "finish";
    case OP_RELEASE:
        *count = 4;
        return "release";
    default:
        *count = 3;
        return "start";
    }
}

/* The last event that the mirror has; changes from now on make it stale again. */
static uint64_t last_known(const dscm_shared_op *op)
{
    dscm_job *job = op->job;
    if (!job || strcmp(job->id, op->id) != 0) return 0;
    atomic_store(&job->stale, false);
    pthread_mutex_lock(&job->lock);
    uint64_t last = job->last_event;
    pthread_mutex_unlock(&job->lock);
    return last;
}

const char *dscm_shared_encode_(dscm_shared *shared, dscm_shared_op *op, dscm_span *a,
                                size_t *count)
{
    const dscm_settings *o = &shared->service->settings;
    dscm_span age = number(op, 5, (unsigned long long)o->jobs_age_s);
    dscm_span kept = number(op, 4, (unsigned long long)o->abductions_age_s);
    a[0] = dscm_span_text(op->id);
    switch (op->kind) {
    case OP_ACCEPT:
        return *count = encode_accept(shared, op, a), "accept";
    case OP_PROMISE:
        return *count = 1, "promise";
    case OP_VIEW:
        return *count = 1, "view";
    case OP_LOAD:
        a[1] = number(op, 0, last_known(op));
        return *count = 2, "load";
    case OP_CANCEL:
        a[1] = dscm_span_text(dscm_job_reason_name(op->reason));
        a[2] = age;
        return *count = 3, "cancel";
    case OP_KEEP:
        a[1] = dscm_span_text(op->owner);
        a[2] = blob_span(op->blob);
        a[3] = kept;
        return *count = 4, "keep";
    case OP_FIND:
        a[1] = dscm_span_text(op->owner);
        a[2] = kept;
        return *count = 3, "find";
    case OP_DROP:
        a[1] = dscm_span_text(op->owner);
        return *count = 2, "drop";
    default:
        return encode_own(shared, op, a, count, age);
    }
}

bool dscm_shared_again_(const dscm_shared_op *op, const char *failure)
{
    if (op->until_ms <= dscm_clock_ms()) return false;
    /* Just started, a replica that takes over, a script of another that runs long. */
    if (strncmp(failure, "LOADING", 7) == 0 || strncmp(failure, "BUSY", 4) == 0) return true;
    return op->kind == OP_START || op->kind == OP_FINISH || op->kind == OP_RELEASE ||
           op->kind == OP_CANCEL;
}

/* ---- answers ---- */

static void refuse(dscm_shared *shared, dscm_job *job, dscm_reject reason, dscm_problem_code code,
                   const char *detail)
{
    dscm_service *service = shared->service;
    dscm_problem problem = {0};
    dscm_problem_set(&problem, code, "%s", detail);
    if (reason < DSCM_REJECTS) atomic_fetch_add(&service->metrics.rejects[reason], 1);
    service->jobs->forget(service->jobs, job);
    dscm_task_drop(job);
    dscm_job_refuse(job, &problem);
}

static void refuse_away(dscm_shared *shared, dscm_job *job)
{
    refuse(shared, job, DSCM_REJECT_STORE, DSCM_PROBLEM_STORE_UNAVAILABLE,
           "the job could not be written to the store; try again in a moment");
}

/* Given up: whether Redis has the job is not known. With a key, asking again finds it; without, it
 * would run for nobody. */
static void accept_failed(dscm_shared *shared, dscm_shared_op *op)
{
    dscm_shared_op *cancel = NULL;
    if (op->sent && !op->key[0]) cancel = dscm_shared_op_make_(OP_CANCEL, NULL, op->id);
    if (cancel) cancel->reason = DSCM_REASON_CLIENT;
    if (cancel) dscm_shared_enqueue_(shared, cancel);
    refuse_away(shared, op->job);
}

/* Its idempotency key has a job already, whose mirror the new one is to lead to. */
static void follow(dscm_shared *shared, dscm_shared_op *op, const char *id)
{
    dscm_shared_op *load = dscm_shared_op_make_(OP_LOAD, op->job, id);
    if (!load) {
        refuse_away(shared, op->job);
        return;
    }
    snprintf(load->owner, sizeof load->owner, "%s", op->job->owner);
    dscm_shared_enqueue_(shared, load);
}

static void accepted(dscm_shared *shared, dscm_shared_op *op, const dscm_redis_reply *reply)
{
    const dscm_settings *o = &shared->service->settings;
    const char *word = dscm_redis_text(reply, 0);
    char detail[240];
    if (strcmp(word, "ok") == 0) {
        atomic_fetch_add(&shared->service->metrics.jobs_accepted, 1);
        dscm_job_record(op->job, DSCM_RECORD_DURABLE);
    } else if (strcmp(word, "same") == 0) {
        follow(shared, op, dscm_redis_text(reply, 1));
    } else if (strcmp(word, "other") == 0) {
        refuse(shared, op->job, DSCM_REJECTS, DSCM_PROBLEM_IDEMPOTENCY_MISMATCH,
               "this Idempotency-Key came with another request before");
    } else if (strcmp(word, "full") == 0) {
        snprintf(detail, sizeof detail, "the queue is full: %ld jobs wait; try again in a moment",
                 o->queue_capacity);
        refuse(shared, op->job, DSCM_REJECT_QUEUE_FULL, DSCM_PROBLEM_QUEUE_FULL, detail);
    } else if (strcmp(word, "share") == 0) {
        snprintf(detail, sizeof detail,
                 "your jobs fill the %ld %% of the queue that one client may", o->client_share);
        refuse(shared, op->job, DSCM_REJECT_SHARE_FULL, DSCM_PROBLEM_QUEUE_FULL, detail);
    } else if (strcmp(word, "cost") == 0) {
        size_t held = strtoul(dscm_redis_text(reply, 1), NULL, 10);
        dscm_cost_refusal(detail, sizeof detail, op->job->cost, held, (size_t)o->client_cost);
        refuse(shared, op->job, DSCM_REJECT_SHARE_FULL, DSCM_PROBLEM_QUEUE_FULL, detail);
    } else {
        snprintf(detail, sizeof detail,
                 "no worker has the bundle with SHA-256 %s at present; try again in a moment",
                 op->sha256);
        refuse(shared, op->job, DSCM_REJECT_STORE, DSCM_PROBLEM_NO_WORKER, detail);
    }
}

/* What Redis wants a worker to do with its job. */
void dscm_shared_orders_(dscm_shared *shared, dscm_job *job, const dscm_redis_reply *reply)
{
    const char *word = dscm_redis_text(reply, 0), *reason = dscm_redis_text(reply, 1);
    if (strcmp(word, "lost") == 0) {
        dscm_shared_lost_(shared, job);
        return;
    }
    atomic_store(&job->readers, atoi(dscm_redis_text(reply, 2)));
    if (strcmp(word, "cancel") != 0) return;
    dscm_job_reason found = DSCM_REASON_CLIENT;
    for (int r = 1; r < DSCM_REASONS; r++)
        if (strcmp(reason, dscm_job_reason_name((dscm_job_reason)r)) == 0)
            found = (dscm_job_reason)r;
    dscm_service_cancel(shared->service, job, found);
}

static void started(dscm_shared *shared, dscm_shared_op *op, const dscm_redis_reply *reply)
{
    if (reply)
        dscm_shared_orders_(shared, op->job, reply);
    else
        dscm_shared_lost_(shared, op->job);
    pthread_mutex_lock(&shared->claims_lock);
    --*op->starting;
    pthread_cond_broadcast(&shared->started);
    pthread_mutex_unlock(&shared->claims_lock);
}

static void finished(dscm_shared *shared, dscm_shared_op *op, const dscm_redis_reply *reply)
{
    if (reply && strcmp(dscm_redis_text(reply, 0), "ok") == 0) {
        dscm_job_publish(op->job, &op->end); /* what the end owned is the job's */
        dscm_shared_unclaim_(shared, op->job);
        return;
    }
    dscm_job_end_free(&op->end);
    dscm_shared_lost_(shared, op->job);
}

/* ---- tickets ---- */

static void answer_ticket(dscm_shared_op *op, const dscm_redis_reply *reply)
{
    dscm_problem problem = {0};
    bool ok = reply && strcmp(dscm_redis_text(reply, 0), "ok") == 0;
    dscm_span value = dscm_redis_bytes(dscm_redis_at(reply, 1));
    dscm_blob *blob = ok ? dscm_blob_copy(value.data, value.size) : NULL;
    if (blob) {
        dscm_job_end end = {.state = DSCM_JOB_SUCCEEDED, .result = dscm_outcome_payload(blob)};
        dscm_job_publish(op->ticket, &end);
        return;
    }
    if (reply && !ok) dscm_problem_set(&problem, DSCM_PROBLEM_NOT_FOUND, "there is no such thing");
    dscm_problem_set(&problem, DSCM_PROBLEM_STORE_UNAVAILABLE,
                     "the store does not answer; try again in a moment");
    dscm_job_refuse(op->ticket, &problem);
}

static void promised(dscm_shared_op *op, const dscm_redis_reply *reply)
{
    bool ok = reply && strcmp(dscm_redis_text(reply, 0), "ok") == 0;
    dscm_job_record(op->job, ok ? DSCM_RECORD_DURABLE : DSCM_RECORD_FAILED);
}

void dscm_shared_settle_(dscm_shared *shared, dscm_shared_op *op, const dscm_redis_reply *reply,
                         const char *why)
{
    (void)why; /* logged; clients need not know about the store */
    switch (op->kind) {
    case OP_ACCEPT:
        if (reply)
            accepted(shared, op, reply);
        else
            accept_failed(shared, op);
        break;
    case OP_PROMISE:
        promised(op, reply);
        break;
    case OP_LOAD:
        dscm_shared_loaded_(shared, op, reply);
        break;
    case OP_CANCEL:
        if (reply && strcmp(dscm_redis_text(reply, 0), "canceled") == 0)
            atomic_fetch_add(&shared->service->metrics.jobs[DSCM_JOB_CANCELED][op->reason], 1);
        if (op->job) dscm_shared_refresh_(shared, op->job);
        break;
    case OP_START:
        started(shared, op, reply);
        break;
    case OP_EVENT:
        if (reply) dscm_shared_orders_(shared, op->job, reply);
        break;
    case OP_FINISH:
        finished(shared, op, reply);
        break;
    case OP_RELEASE:
        dscm_shared_unclaim_(shared, op->job);
        break;
    case OP_FIND:
    case OP_DROP:
        answer_ticket(op, reply);
        break;
    default:
        break;
    }
    dscm_shared_op_free(op);
}
