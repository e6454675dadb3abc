#include "server/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "server/clock.h"

static const char *const reason_names[] = {"", "client", "disconnect", "deadline", "shutdown"};
static const char *const event_names[] = {"queued",    "started", "progress", "preview",
                                          "succeeded", "failed",  "canceled"};

const char *dscm_job_reason_name(dscm_job_reason reason)
{
    return reason_names[reason];
}

static void payload_release(dscm_payload *payload)
{
    if (payload->release && payload->data) payload->release(payload->data);
    payload->data = NULL;
}

static void drop_event(dscm_job *job, size_t index)
{
    dscm_free(job->events[index].data);
    job->events_count--;
    memmove(&job->events[index], &job->events[index + 1],
            (job->events_count - index) * sizeof job->events[0]);
}

/* Makes room for an event: the preview that a new one replaces, else the oldest progress. Terminal
 * and starting events are few and stay. */
static void make_room(dscm_job *job, dscm_event_kind kind)
{
    for (size_t i = 0; kind == DSCM_EVENT_PREVIEW && i < job->events_count; i++)
        if (job->events[i].kind == DSCM_EVENT_PREVIEW) {
            drop_event(job, i);
            break;
        }
    for (size_t i = 0; job->events_count == DSCM_EVENTS_MAX && i < job->events_count; i++)
        if (job->events[i].kind == DSCM_EVENT_PROGRESS) drop_event(job, i);
}

/* With the lock held. Without memory the event is left out: the state still tells the truth. */
static uint64_t add_event(dscm_job *job, dscm_event_kind kind, const char *data)
{
    make_room(job, kind);
    job->last_event++;
    char *copy = dscm_strdup(data ? data : "{}", NULL);
    if (!copy || job->events_count == DSCM_EVENTS_MAX) {
        dscm_free(copy);
        return job->last_event;
    }
    job->events[job->events_count++] = (dscm_event){job->last_event, kind, copy};
    return job->last_event;
}

dscm_code dscm_job_create(dscm_job **out, const char *owner, const char *client, dscm_payload task,
                          int64_t deadline_ms, bool detached, dscm_error *err)
{
    dscm_job *job = dscm_alloc(1, sizeof *job, "a job", err);
    if (!job) return DSCM_E_MEMORY;
    dscm_code code = dscm_crypto_id(job->id, err);
    if (code != DSCM_OK) {
        dscm_free(job);
        return code;
    }
    snprintf(job->owner, sizeof job->owner, "%s", owner);
    snprintf(job->client, sizeof job->client, "%s", client);
    job->task = task;
    job->created_us = dscm_clock_us();
    job->created_wall = dscm_clock_wall();
    job->deadline_ms = deadline_ms;
    atomic_init(&job->detached, detached);
    atomic_init(&job->readers, 0);
    atomic_init(&job->references, 1);
    atomic_init(&job->stop, false);
    atomic_init(&job->stale, false);
    pthread_mutex_init(&job->lock, NULL);
    job->state = DSCM_JOB_QUEUED;
    add_event(job, DSCM_EVENT_QUEUED, NULL);
    *out = job;
    return DSCM_OK;
}

dscm_job *dscm_job_ref(dscm_job *job)
{
    atomic_fetch_add(&job->references, 1);
    return job;
}

void dscm_job_unref(dscm_job *job)
{
    if (!job || atomic_fetch_sub(&job->references, 1) != 1) return;
    payload_release(&job->task);
    payload_release(&job->result);
    dscm_free(job->problem);
    dscm_job_unref(job->other);
    while (job->events_count) drop_event(job, job->events_count - 1);
    pthread_mutex_destroy(&job->lock);
    dscm_free(job);
}

static bool terminal(const dscm_job *job)
{
    return job->state >= DSCM_JOB_SUCCEEDED;
}

static void unlink_waiter(dscm_job *job, dscm_waiter *waiter)
{
    if (waiter->previous)
        waiter->previous->next = waiter->next;
    else
        job->waiters = waiter->next;
    if (waiter->next) waiter->next->previous = waiter->previous;
    waiter->linked = false;
    waiter->next = waiter->previous = NULL;
}

/* Releases the lock and wakes those whom the change concerns. They are unlinked in batches under
 * the lock and woken outside it, since a woken waiter may be gone, or hang on again, before the
 * next one is looked at; one that hangs on again has seen the change and is not found a second time
 * before the batch is through. */
static void unlock_and_wake(dscm_job *job)
{
    enum { BATCH = 32 };
    dscm_waiter *batch[BATCH];
    dscm_job_ref(job); /* the last waiter woken may drop the last reference */
    size_t count;
    do {
        dscm_waiter *waiter = job->waiters;
        for (count = 0; waiter && count < BATCH;) {
            dscm_waiter *next = waiter->next;
            if (terminal(job) || job->released || !waiter->end_only) {
                batch[count++] = waiter;
                unlink_waiter(job, waiter);
            }
            waiter = next;
        }
        pthread_mutex_unlock(&job->lock);
        for (size_t i = 0; i < count; i++) batch[i]->wake(batch[i]);
        if (count == BATCH) pthread_mutex_lock(&job->lock);
    } while (count == BATCH);
    dscm_job_unref(job);
}

/* Without the lock: only the worker that runs the job makes events, so they keep their order. */
static void tell_sink(dscm_job *job, uint64_t id, dscm_event_kind kind, const char *data)
{
    if (job->sink && job->sink->event) job->sink->event(job->sink->arg, job, id, kind, data);
}

bool dscm_job_start(dscm_job *job)
{
    pthread_mutex_lock(&job->lock);
    bool started = job->state == DSCM_JOB_QUEUED && !job->ending && !job->released;
    uint64_t id = 0;
    if (started) {
        job->state = DSCM_JOB_RUNNING;
        job->started_us = dscm_clock_us();
        id = add_event(job, DSCM_EVENT_STARTED, NULL);
    }
    unlock_and_wake(job);
    if (started) tell_sink(job, id, DSCM_EVENT_STARTED, "{}");
    return started;
}

bool dscm_job_progress(dscm_job *job, size_t step, size_t steps, dscm_event_kind kind,
                       const char *data)
{
    pthread_mutex_lock(&job->lock);
    job->step = step;
    job->steps = steps;
    if (data && !terminal(job) && !job->ending) {
        uint64_t id = add_event(job, kind, data);
        unlock_and_wake(job);
        tell_sink(job, id, kind, data);
    } else {
        pthread_mutex_unlock(&job->lock);
    }
    return !atomic_load(&job->stop);
}

void dscm_job_end_free(const dscm_job_end *end)
{
    dscm_payload result = end->result;
    payload_release(&result);
    dscm_free(end->problem);
    dscm_free(end->data);
}

/* With the lock held. */
static void end_now(dscm_job *job, const dscm_job_end *end)
{
    static const dscm_event_kind kinds[DSCM_JOB_STATE_COUNT] = {
        [DSCM_JOB_SUCCEEDED] = DSCM_EVENT_SUCCEEDED,
        [DSCM_JOB_FAILED] = DSCM_EVENT_FAILED,
        [DSCM_JOB_CANCELED] = DSCM_EVENT_CANCELED};
    dscm_free(job->problem);
    job->state = end->state;
    job->reason = end->reason;
    job->problem = end->problem;
    job->result = end->result;
    job->finished_us = dscm_clock_us();
    if (end->unsaid)
        job->last_event++;
    else
        add_event(job, kinds[end->state], end->data);
    dscm_free(end->data);
}

bool dscm_job_publish(dscm_job *job, const dscm_job_end *end)
{
    pthread_mutex_lock(&job->lock);
    bool first = !terminal(job);
    if (first) end_now(job, end);
    unlock_and_wake(job);
    if (!first) dscm_job_end_free(end);
    return first;
}

/* With the lock held, which it gives up. The first end wins: false when there was one before. */
static bool end_with(dscm_job *job, const dscm_job_end *end)
{
    bool first = !terminal(job) && !job->ending;
    if (first) {
        job->ending = true;
        job->end_state = end->state;
        job->end_reason = end->reason;
        if (!job->sink) end_now(job, end);
    }
    unlock_and_wake(job);
    if (!first)
        dscm_job_end_free(end);
    else if (job->sink)
        job->sink->end(job->sink->arg, job, end);
    return first;
}

bool dscm_job_succeed(dscm_job *job, dscm_payload result, const char *data)
{
    dscm_job_end end = {.state = DSCM_JOB_SUCCEEDED,
                        .result = result,
                        .data = data ? dscm_strdup(data, NULL) : NULL};
    end.unsaid = data && !end.data;
    pthread_mutex_lock(&job->lock);
    return end_with(job, &end);
}

bool dscm_job_fail(dscm_job *job, const dscm_problem *problem, const char *data)
{
    dscm_job_end end = {.state = DSCM_JOB_FAILED,
                        .problem = dscm_alloc(1, sizeof *problem, "a problem", NULL),
                        .data = data ? dscm_strdup(data, NULL) : NULL};
    if (end.problem) *end.problem = *problem;
    pthread_mutex_lock(&job->lock);
    return end_with(job, &end);
}

/* With the lock held, which it gives up. */
static bool end_canceled(dscm_job *job)
{
    char data[64];
    snprintf(data, sizeof data, "{\"reason\":\"%s\"}", dscm_job_reason_name(job->reason));
    dscm_job_end end = {
        .state = DSCM_JOB_CANCELED, .reason = job->reason, .data = dscm_strdup(data, NULL)};
    return end_with(job, &end);
}

bool dscm_job_cancel(dscm_job *job, dscm_job_reason reason)
{
    pthread_mutex_lock(&job->lock);
    bool open = !terminal(job) && !job->ending;
    bool queued = open && job->state == DSCM_JOB_QUEUED;
    if (open && job->reason == DSCM_REASON_NONE) job->reason = reason;
    atomic_store(&job->stop, true);
    if (queued) return end_canceled(job);
    unlock_and_wake(job);
    return false;
}

void dscm_job_stopped(dscm_job *job)
{
    pthread_mutex_lock(&job->lock);
    if (!job->released) {
        (void)end_canceled(job);
        return;
    }
    bool first = !terminal(job) && !job->ending;
    if (first) {
        job->ending = true; /* nothing in this process may end it any more */
        job->end_state = DSCM_JOB_QUEUED;
    }
    pthread_mutex_unlock(&job->lock);
    if (first) job->sink->release(job->sink->arg, job);
}

dscm_job_state dscm_job_decided(dscm_job *job, dscm_job_reason *reason)
{
    pthread_mutex_lock(&job->lock);
    dscm_job_state state = job->ending ? job->end_state : job->state;
    *reason = job->ending ? job->end_reason : job->reason;
    pthread_mutex_unlock(&job->lock);
    return state;
}

void dscm_job_refuse(dscm_job *job, const dscm_problem *problem)
{
    dscm_job_end end = {.state = DSCM_JOB_FAILED,
                        .problem = dscm_alloc(1, sizeof *problem, "a problem", NULL)};
    if (end.problem) *end.problem = *problem;
    atomic_store(&job->stop, true);
    pthread_mutex_lock(&job->lock);
    job->refused = true;
    pthread_mutex_unlock(&job->lock);
    dscm_job_publish(job, &end);
}

const char *dscm_event_name(dscm_event_kind kind)
{
    return event_names[kind];
}

bool dscm_event_find(const char *name, dscm_event_kind *out)
{
    for (size_t i = 0; i < sizeof event_names / sizeof event_names[0]; i++)
        if (strcmp(event_names[i], name) == 0) return *out = (dscm_event_kind)i, true;
    return false;
}

/* With the lock held: the events behind those that are known. Of the last one the end has the data. */
static void add_news(dscm_job *job, const dscm_job_news *news)
{
    for (size_t i = 0; i < news->count; i++) {
        const dscm_event *event = &news->events[i];
        if (event->id <= job->last_event) continue;
        job->last_event = event->id - 1;
        add_event(job, event->kind, event->data);
    }
}

void dscm_job_update(dscm_job *job, const dscm_job_news *news)
{
    pthread_mutex_lock(&job->lock);
    bool open = !terminal(job);
    if (open) {
        add_news(job, news);
        if (news->state == DSCM_JOB_RUNNING && job->state != DSCM_JOB_RUNNING)
            job->started_us = dscm_clock_us();
        job->step = news->step;
        job->steps = news->steps;
        job->position = news->position;
        if (!news->end) job->state = news->state;
    }
    if (open && news->end) {
        dscm_free(job->problem);
        job->state = news->end->state;
        job->reason = news->end->reason;
        job->problem = news->end->problem;
        job->result = news->end->result;
        job->finished_us = dscm_clock_us();
    }
    unlock_and_wake(job);
    if (!open && news->end) dscm_job_end_free(news->end);
}

void dscm_job_abandon(dscm_job *job)
{
    pthread_mutex_lock(&job->lock);
    job->released = true;
    if (!terminal(job) && !job->ending) {
        job->ending = true;
        job->end_state = DSCM_JOB_QUEUED;
    }
    atomic_store(&job->stop, true);
    unlock_and_wake(job);
}

dscm_record dscm_job_recorded(dscm_job *job)
{
    pthread_mutex_lock(&job->lock);
    dscm_record record = job->record;
    pthread_mutex_unlock(&job->lock);
    return record;
}

void dscm_job_record(dscm_job *job, dscm_record record)
{
    pthread_mutex_lock(&job->lock);
    job->record = record;
    unlock_and_wake(job);
}

void dscm_job_release(dscm_job *job)
{
    pthread_mutex_lock(&job->lock);
    if (!terminal(job) && !job->ending) {
        job->released = true;
        atomic_store(&job->stop, true);
    }
    unlock_and_wake(job);
}

bool dscm_job_over(dscm_job *job)
{
    pthread_mutex_lock(&job->lock);
    bool over = terminal(job) || job->released;
    pthread_mutex_unlock(&job->lock);
    return over;
}

void dscm_job_shrink(dscm_job *job, size_t bytes)
{
    pthread_mutex_lock(&job->lock);
    job->task.bytes = bytes;
    pthread_mutex_unlock(&job->lock);
}

bool dscm_job_ended(dscm_job *job)
{
    pthread_mutex_lock(&job->lock);
    bool ended = terminal(job);
    pthread_mutex_unlock(&job->lock);
    return ended;
}

dscm_job_state dscm_job_peek(dscm_job *job, size_t *step, size_t *steps, dscm_job_reason *reason)
{
    pthread_mutex_lock(&job->lock);
    dscm_job_state state = job->state;
    if (step) *step = job->step;
    if (steps) *steps = job->steps;
    if (reason) *reason = job->reason;
    pthread_mutex_unlock(&job->lock);
    return state;
}

bool dscm_job_wait(dscm_job *job, dscm_waiter *waiter, uint64_t after)
{
    pthread_mutex_lock(&job->lock);
    bool ends = after == DSCM_AFTER_END;
    bool wait = after == DSCM_AFTER_RECORD
                    ? job->record == DSCM_RECORD_PENDING && !terminal(job)
                    : !terminal(job) && !job->released && (ends || job->last_event <= after);
    if (wait) {
        waiter->previous = NULL;
        waiter->next = job->waiters;
        if (waiter->next) waiter->next->previous = waiter;
        waiter->linked = true;
        waiter->end_only = ends;
        job->waiters = waiter;
    }
    pthread_mutex_unlock(&job->lock);
    return wait;
}

bool dscm_job_unwait(dscm_job *job, dscm_waiter *waiter)
{
    pthread_mutex_lock(&job->lock);
    bool linked = waiter->linked;
    if (linked) unlink_waiter(job, waiter);
    pthread_mutex_unlock(&job->lock);
    return linked;
}

/* With the lock held: takes up the first event after the reader's last. One for which there is no
 * memory is left out. */
static bool begin_event(dscm_job *job, dscm_event_reader *reader)
{
    size_t i = 0;
    while (i < job->events_count && job->events[i].id <= reader->after) i++;
    if (i == job->events_count) return false;
    const dscm_event *event = &job->events[i];
    reader->after = event->id;
    reader->at = 0;
    reader->text = dscm_event_text(event->id, event_names[event->kind], event->data, &reader->size);
    return true;
}

size_t dscm_job_events_read(dscm_job *job, dscm_event_reader *reader, char *out, size_t size,
                            bool *ended)
{
    size_t written = 0;
    pthread_mutex_lock(&job->lock);
    while (written < size && (reader->text || begin_event(job, reader))) {
        if (!reader->text) continue;
        size_t left = reader->size - reader->at, room = size - written;
        size_t count = left < room ? left : room;
        memcpy(out + written, reader->text + reader->at, count);
        written += count;
        reader->at += count;
        if (reader->at == reader->size) dscm_event_reader_close(reader);
    }
    bool last = terminal(job) || job->released;
    *ended = last && !reader->text && reader->after >= job->last_event;
    /* The terminal event itself may have been left out for want of memory. */
    if (last && written == 0) *ended = true;
    pthread_mutex_unlock(&job->lock);
    return written;
}

void dscm_event_reader_close(dscm_event_reader *reader)
{
    free(reader->text);
    reader->text = NULL;
}
