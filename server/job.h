/* A job: one piece of accepted work, from its arrival to the day it is forgotten.
 *
 * A job does not know what it computes: task and result are opaque payloads that free themselves.
 * It does not know HTTP either: who waits for it hangs a dscm_waiter on it and is woken.
 *
 * States: queued -> running -> succeeded | failed | canceled; queued -> canceled | failed. The last
 * three are terminal: afterwards nothing but the reference count changes.
 *
 * Threads. Fields above `lock` are set before the job is shared and never change. `lock` guards all
 * fields below it; functions take it themselves. No other lock is taken while it is held, and
 * waiters are woken after it is released.
 *
 * Ownership. Reference counted: the store, the queue, a worker and every request that shows the job
 * hold a reference each; the last dscm_job_unref frees it.
 */
#ifndef DSCM_SERVER_JOB_H
#define DSCM_SERVER_JOB_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/reply.h" /* states and problems */
#include "core/base/error.h"
#include "server/crypto.h"

#define DSCM_OWNER_SIZE 64
#define DSCM_EVENTS_MAX 128 /* older progress events are dropped first */

/* Why a job was canceled. */
typedef enum dscm_job_reason {
    DSCM_REASON_NONE,
    DSCM_REASON_CLIENT,
    DSCM_REASON_DISCONNECT,
    DSCM_REASON_DEADLINE,
    DSCM_REASON_SHUTDOWN,
    DSCM_REASONS
} dscm_job_reason;

const char *dscm_job_reason_name(dscm_job_reason reason); /* "client", …; "" for none */

/* Something a job carries without knowing it. */
typedef struct dscm_payload {
    void *data;
    void (*release)(void *data); /* NULL: nothing to release */
    size_t bytes;                /* memory it stands for, for the limits of the store */
} dscm_payload;

typedef enum dscm_event_kind {
    DSCM_EVENT_QUEUED,
    DSCM_EVENT_STARTED,
    DSCM_EVENT_PROGRESS,
    DSCM_EVENT_PREVIEW,
    DSCM_EVENT_SUCCEEDED,
    DSCM_EVENT_FAILED,
    DSCM_EVENT_CANCELED
} dscm_event_kind;

/* Hung on a job by whoever waits. Memory belongs to the waiter and must stay until it was woken or
 * dscm_job_unwait returned true. */
typedef struct dscm_waiter {
    struct dscm_waiter *next, *previous; /* job lock */
    bool linked;                         /* job lock */
    bool end_only;                       /* job lock: not woken before the job has ended */
    /* Called once, without locks, by the thread that changed the job; the waiter is unlinked by
     * then and may hang itself on again. */
    void (*wake)(struct dscm_waiter *waiter);
} dscm_waiter;

typedef struct dscm_event {
    uint64_t id; /* 1, 2, … within the job; gaps where events were dropped */
    dscm_event_kind kind;
    char *data; /* JSON text, owned by the job */
} dscm_event;

typedef struct dscm_job {
    char id[DSCM_ID_SIZE];
    char owner[DSCM_OWNER_SIZE];     /* who may see it: the key's name, "" for anonymous */
    char client[DSCM_OWNER_SIZE];    /* whose share of the queue it takes */
    dscm_payload task;               /* its `bytes`: lock */
    int64_t created_us, deadline_ms; /* monotonic; DSCM_NEVER for none */
    double created_wall;             /* Unix time */
    atomic_bool detached; /* survives the request that made it (respond-async, idempotent) */
    atomic_size_t references;
    atomic_int readers; /* streams that show its events: previews are made for them only */
    atomic_bool stop;   /* the worker is to end at the next step */

    pthread_mutex_t lock;
    dscm_job_state state;
    dscm_job_reason reason;
    dscm_problem *problem; /* failed: why; NULL when there was no memory for it; owned */
    dscm_payload result;   /* succeeded */
    int64_t started_us, finished_us;
    size_t step, steps;
    dscm_event events[DSCM_EVENTS_MAX];
    size_t events_count;
    uint64_t last_event;
    dscm_waiter *waiters;
} dscm_job;

/* A queued job with one reference. Takes `task` on success only. */
dscm_code dscm_job_create(dscm_job **out, const char *owner, const char *client, dscm_payload task,
                          int64_t deadline_ms, bool detached, dscm_error *err) DSCM_MUST_CHECK;
dscm_job *dscm_job_ref(dscm_job *job);
void dscm_job_unref(dscm_job *job); /* takes NULL */

/* queued -> running; false when it was canceled meanwhile. */
bool dscm_job_start(dscm_job *job) DSCM_MUST_CHECK;
/* Records the place in the work and, when `data` is not NULL, an event (copied). Returns false when
 * the job is to stop. A preview replaces the preview before it. */
bool dscm_job_progress(dscm_job *job, size_t step, size_t steps, dscm_event_kind kind,
                       const char *data) DSCM_MUST_CHECK;
/* Ends. The first end wins: false when the job had ended before (then `result` is released).
 * data: JSON text of the terminal event, copied. */
bool dscm_job_succeed(dscm_job *job, dscm_payload result, const char *data);
bool dscm_job_fail(dscm_job *job, const dscm_problem *problem, const char *data);
/* A queued job is canceled at once (true; the caller takes it out of the queue). A running one is
 * told to stop and keeps its reason; the worker then calls dscm_job_stopped. */
bool dscm_job_cancel(dscm_job *job, dscm_job_reason reason);
void dscm_job_stopped(dscm_job *job);

/* The task weighs only this much from now on. */
void dscm_job_shrink(dscm_job *job, size_t bytes);

bool dscm_job_ended(dscm_job *job);
dscm_job_state dscm_job_peek(dscm_job *job, size_t *step, size_t *steps, dscm_job_reason *reason);

/* Hangs the waiter on a job that has not ended and, for readers of events, has none newer than
 * `after` (UINT64_MAX: wait for the end only). False: no need to wait. */
bool dscm_job_wait(dscm_job *job, dscm_waiter *waiter, uint64_t after) DSCM_MUST_CHECK;
/* Takes the waiter off; false when it is being woken or was never on. */
bool dscm_job_unwait(dscm_job *job, dscm_waiter *waiter);

/* A place in the events of a job. The event at hand is the reader's own: the job may drop it before
 * the last piece is sent. */
typedef struct dscm_event_reader {
    uint64_t after;  /* id of the last event that was begun */
    char *text;      /* what is left of it begins at `at`; NULL: nothing */
    size_t size, at; /* of text */
} dscm_event_reader;
/* Writes the events behind the reader's place in the form of text/event-stream to `out`, as many
 * bytes as fit, and moves it on. Returns the bytes written. *ended: none will follow. */
size_t dscm_job_events_read(dscm_job *job, dscm_event_reader *reader, char *out, size_t size,
                            bool *ended);
void dscm_event_reader_close(dscm_event_reader *reader); /* a reader that stops in the middle */

#endif
