#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/clock.h"
#include "server/routes.h"

#define CANCEL_MS 2000  /* that a DELETE waits for the end of the job to be recorded */
#define PING_MS   10000 /* comments that keep proxies from closing a silent stream */

static dscm_work work_of(const dscm_job *job)
{
    return ((const dscm_task *)job->task.data)->work;
}

/* The outcome of a succeeded job: immutable, and alive as long as the job. */
static const dscm_blob *outcome_of(const dscm_job *job)
{
    return job->result.data;
}

/* ---- answers ---- */

void dscm_answer_status(dscm_service *service, dscm_exchange *exchange, dscm_job *job, int code)
{
    dscm_job_status status = {.id = job->id, .work = work_of(job), .queue_position = -1};
    dscm_job_reason reason;
    status.estimate_ms = NAN;
    status.state = dscm_job_peek(job, &status.step, &status.steps, &reason);
    if (status.state == DSCM_JOB_QUEUED) {
        pthread_mutex_lock(&job->lock);
        size_t position = job->position; /* of a mirror */
        pthread_mutex_unlock(&job->lock);
        if (!job->mirror) position = dscm_queue_position(service->queue, job);
        status.queue_position = (long)position;
        status.estimate_ms = dscm_service_estimate_ms(service, position);
    }
    if (status.state == DSCM_JOB_RUNNING) {
        status.fraction = status.steps ? (double)status.step / (double)status.steps : 0;
        if (status.fraction > 0)
            status.estimate_ms =
                (double)(dscm_clock_us() - job->started_us) * 1e-3 * (1 / status.fraction - 1);
    }
    if (status.state == DSCM_JOB_SUCCEEDED) status.result = dscm_outcome_json(outcome_of(job)).data;
    if (status.state == DSCM_JOB_FAILED) status.problem = job->problem;
    if (status.state == DSCM_JOB_CANCELED) status.reason = dscm_job_reason_name(reason);
    size_t size = 0;
    char *body = dscm_reply_job(&status, &size), text[96];
    dscm_exchange_reply(exchange, code, "application/json", body, size, DSCM_BODY_FREE);
    dscm_exchange_header_set(exchange, "Cache-Control", "no-store");
    if (code != 202) return;
    /* Relative to the request, which names the folder that a proxy serves us under. */
    snprintf(text, sizeof text, "jobs/%s", job->id);
    dscm_exchange_header_set(exchange, "Location", text);
    double wait = isnan(status.estimate_ms) ? 1 : ceil(status.estimate_ms * 1e-3);
    snprintf(text, sizeof text, "%.0f", wait < 1 ? 1 : wait > 60 ? 60 : wait);
    dscm_exchange_header_set(exchange, "Retry-After", text);
}

static void release_job(void *job)
{
    dscm_job_unref(job);
}

static void answer_picture(dscm_exchange *exchange, dscm_job *job)
{
    const char *name = work_of(job) == DSCM_WORK_SAMPLE ? "sample-0" : "counterfactual-0";
    dscm_span picture = dscm_outcome_picture(outcome_of(job), name);
    if (!picture.size) {
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_NOT_ACCEPTABLE,
                             "this reply holds no picture \"%s\": ask for application/json", name);
        return;
    }
    dscm_reply_header headers[DSCM_REPLY_HEADERS_MAX];
    size_t count = dscm_outcome_headers(outcome_of(job), headers);
    dscm_exchange_reply_shared(exchange, 200, "image/png", picture.data, picture.size,
                               dscm_job_ref(job), release_job);
    for (size_t i = 0; i < count; i++)
        dscm_exchange_header_set(exchange, headers[i].name, headers[i].value);
}

static void answer_timing(dscm_exchange *exchange, const dscm_blob *outcome)
{
    const char *timing = dscm_outcome_timing(outcome);
    if (*timing) dscm_exchange_header_set(exchange, "Server-Timing", timing);
}

static void answer_canceled(dscm_exchange *exchange, dscm_job_reason reason)
{
    switch (reason) {
    case DSCM_REASON_DEADLINE:
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_DEADLINE,
                             "the deadline passed before the result was there");
        break;
    case DSCM_REASON_SHUTDOWN:
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_DRAINING,
                             "the service is being stopped and canceled the job");
        break;
    default:
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_CANCELED, "the job was canceled (%s)",
                             dscm_job_reason_name(reason));
    }
}

void dscm_answer_job(dscm_service *service, dscm_exchange *exchange, dscm_job *job)
{
    dscm_job_reason reason;
    dscm_problem unknown = {0};
    dscm_span json;
    switch (dscm_job_peek(job, NULL, NULL, &reason)) {
    case DSCM_JOB_SUCCEEDED:
        json = dscm_outcome_json(outcome_of(job));
        if (exchange->flags[DSCM_FLAG_PNG])
            answer_picture(exchange, job);
        else
            dscm_exchange_reply_shared(exchange, work_of(job) == DSCM_WORK_ABDUCTION ? 201 : 200,
                                       "application/json", json.data, json.size, dscm_job_ref(job),
                                       release_job);
        answer_timing(exchange, outcome_of(job));
        dscm_exchange_header_set(exchange, "Cache-Control", "no-store");
        break;
    case DSCM_JOB_FAILED:
        dscm_problem_set(&unknown, DSCM_PROBLEM_INTERNAL, "out of memory");
        dscm_exchange_problem(exchange, job->problem ? job->problem : &unknown);
        break;
    case DSCM_JOB_CANCELED:
        answer_canceled(exchange, reason);
        break;
    default:
        dscm_answer_status(service, exchange, job, 202);
    }
}

/* ---- finding ---- */

/* The exchange's job, or NULL after a refusal. The exchange holds the reference. */
static dscm_job *find_job(dscm_service *service, dscm_exchange *exchange, const char *id)
{
    if (service->shared && !dscm_job_at_hand(service, exchange, id)) return NULL;
    switch (service->jobs->find(service->jobs, id, exchange->owner, &exchange->job)) {
    case DSCM_FOUND:
        return exchange->job;
    case DSCM_FIND_EXPIRED:
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_EXPIRED,
                             "the job's result was kept for a while and is gone");
        return NULL;
    default:
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_NOT_FOUND, "there is no job \"%s\"", id);
        return NULL;
    }
}

void dscm_get_job(dscm_service *service, dscm_exchange *exchange, const dscm_captures *captures)
{
    dscm_job *job = find_job(service, exchange, captures->text[0]);
    if (job) dscm_answer_status(service, exchange, job, 200);
}

static void answer_canceled_job(dscm_exchange *exchange)
{
    dscm_answer_status(exchange->service, exchange, exchange->job, 200);
}

void dscm_delete_job(dscm_service *service, dscm_exchange *exchange, const dscm_captures *captures)
{
    dscm_job *job = find_job(service, exchange, captures->text[0]);
    if (!job) return;
    dscm_job_state state = dscm_job_peek(job, NULL, NULL, NULL);
    if (state == DSCM_JOB_SUCCEEDED || state == DSCM_JOB_FAILED) {
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_CONFLICT, "the job has %s already",
                             dscm_job_state_name(state));
        return;
    }
    dscm_service_cancel(service, job, DSCM_REASON_CLIENT);
    if ((!job->sink && !job->mirror) || dscm_job_ended(job)) {
        dscm_answer_status(service, exchange, job, 200);
        return;
    }
    /* Told when it is recorded: after a crash before that the job would run again. */
    exchange->resume = answer_canceled_job;
    dscm_exchange_park(exchange, job, DSCM_AFTER_END, dscm_clock_ms() + CANCEL_MS);
}

/* "counterfactual-0.png" without its suffix; false for other names. */
static bool image_name(char *name)
{
    size_t length = strlen(name);
    if (length < 5 || strcmp(name + length - 4, ".png") != 0) return false;
    name[length - 4] = 0;
    return true;
}

void dscm_get_job_image(dscm_service *service, dscm_exchange *exchange,
                        const dscm_captures *captures)
{
    char name[DSCM_CAPTURE_MAX], etag[36];
    memcpy(name, captures->text[1], sizeof name);
    dscm_job *job = find_job(service, exchange, captures->text[0]);
    if (!job) return;
    dscm_job_state state = dscm_job_peek(job, NULL, NULL, NULL);
    if (state != DSCM_JOB_SUCCEEDED) {
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_CONFLICT, "the job is %s: it has no images",
                             dscm_job_state_name(state));
        return;
    }
    dscm_span picture = {0};
    if (image_name(name)) picture = dscm_outcome_picture(outcome_of(job), name);
    if (!picture.size) {
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_NOT_FOUND, "the job has no image \"%s\"",
                             captures->text[1]);
        return;
    }
    dscm_etag_make(etag, picture.data, picture.size);
    if (dscm_etag_matches(dscm_exchange_header(exchange, "If-None-Match"), etag))
        dscm_exchange_reply(exchange, 304, NULL, NULL, 0, DSCM_BODY_STATIC);
    else
        dscm_exchange_reply_shared(exchange, 200, "image/png", picture.data, picture.size,
                                   dscm_job_ref(job), release_job);
    dscm_exchange_header_set(exchange, "ETag", etag);
    dscm_exchange_header_set(exchange, "Cache-Control", "private, max-age=3600");
}

void dscm_delete_abduction(dscm_service *service, dscm_exchange *exchange,
                           const dscm_captures *captures)
{
    const char *id = captures->text[0];
    if (service->shared) {
        dscm_drop_shared_abduction(service, exchange, id);
        return;
    }
    bool found = dscm_abduction_cache_delete(service->abductions, id, exchange->owner);
    dscm_blob *stored = service->journal && strlen(id) < DSCM_ID_SIZE
                            ? dscm_journal_find_abduction(service->journal, id, exchange->owner)
                            : NULL;
    if (stored) dscm_journal_drop_abduction(service->journal, id);
    dscm_blob_unref(stored);
    if (found || stored)
        dscm_exchange_reply(exchange, 204, NULL, NULL, 0, DSCM_BODY_STATIC);
    else
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_NOT_FOUND, "there is no abduction \"%s\"", id);
}

/* ---- events ---- */

static ssize_t read_events(dscm_exchange *exchange, char *out, size_t size)
{
    dscm_job *job = exchange->job;
    bool ended, ping = atomic_exchange(&exchange->timed_out, false);
    size_t count = dscm_job_events_read(job, &exchange->events, out, size, &ended);
    if (count) return (ssize_t)count;
    if (ended) return -1;
    static const char comment[] = ": ping\n\n";
    if (ping && size >= sizeof comment) {
        memcpy(out, comment, sizeof comment - 1);
        return sizeof comment - 1;
    }
    dscm_exchange_park(exchange, job, exchange->events.after, dscm_clock_ms() + PING_MS);
    return 0;
}

static void end_events(dscm_exchange *exchange)
{
    dscm_service *service = exchange->service;
    dscm_event_reader_close(&exchange->events);
    dscm_quota_return(&exchange->stream);
    atomic_fetch_sub(&exchange->job->readers, 1);
    atomic_fetch_sub(&service->metrics.streams, 1); /* who sees none knows that nobody reads */
}

void dscm_answer_events(dscm_service *service, dscm_exchange *exchange, dscm_job *job)
{
    if (!exchange->job) exchange->job = dscm_job_ref(job);
    exchange->read = read_events;
    exchange->finished = end_events;
    exchange->flags[DSCM_FLAG_READER] = true;
    atomic_fetch_add(&service->metrics.streams, 1);
    atomic_fetch_add(&job->readers, 1);
    if (job->mirror) dscm_shared_view(service->shared, job);
    dscm_exchange_stream(exchange, "text/event-stream");
}

bool dscm_stream_allowed(dscm_service *service, dscm_exchange *exchange)
{
    const char *client = *exchange->owner ? exchange->owner : exchange->address;
    if (dscm_quota_held(&exchange->stream)) return true; /* the handler is called again */
    dscm_quota_result result = dscm_quota_take(service->streams, client, &exchange->stream, 1);
    if (result == DSCM_QUOTA_TAKEN) return true;
    atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_STREAMS], 1);
    if (result == DSCM_QUOTA_CLIENT_FULL)
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_QUEUE_FULL,
                             "your event streams are the %ld %% of %ld that one client may have",
                             service->settings.client_share, service->settings.streams);
    else
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_QUEUE_FULL,
                             "%ld event streams are open, no more are allowed",
                             service->settings.streams);
    return false;
}

void dscm_get_job_events(dscm_service *service, dscm_exchange *exchange,
                         const dscm_captures *captures)
{
    const char *last = dscm_exchange_header(exchange, "Last-Event-ID");
    if (last && (!*last || strspn(last, "0123456789") != strlen(last) || strlen(last) > 18)) {
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_BAD_HEADER,
                             "Last-Event-ID is \"%.40s\", allowed is the id of an event", last);
        return;
    }
    dscm_job *job = find_job(service, exchange, captures->text[0]);
    if (!job || !dscm_stream_allowed(service, exchange)) return;
    exchange->events.after = last ? strtoull(last, NULL, 10) : 0;
    dscm_answer_events(service, exchange, job);
}
