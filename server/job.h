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
#include "server/blob.h"
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
    bool end_only;                       /* job lock: not woken by events on the way */
    /* Called once, without locks, by the thread that changed the job; the waiter is unlinked by
     * then and may hang itself on again. */
    void (*wake)(struct dscm_waiter *waiter);
} dscm_waiter;

typedef struct dscm_event {
    uint64_t id; /* 1, 2, … within the job; gaps where events were dropped */
    dscm_event_kind kind;
    char *data; /* JSON text, owned by the job */
} dscm_event;

/* Whether the journal has the job. */
typedef enum dscm_record {
    DSCM_RECORD_NONE,    /* there is no journal */
    DSCM_RECORD_PENDING, /* wait with DSCM_AFTER_RECORD; it may end in failure of the job */
    DSCM_RECORD_DURABLE, /* on disk: it may be promised */
    DSCM_RECORD_FAILED   /* the disk refused it: it runs, but may not be promised */
} dscm_record;

/* How a job ends. */
typedef struct dscm_job_end {
    dscm_job_state state; /* terminal */
    dscm_job_reason reason;
    dscm_problem *problem; /* owned; NULL but for failed ones, and there for want of memory */
    dscm_payload result;   /* of succeeded ones; with a journal its data is a dscm_blob */
    char *data;            /* of the terminal event; owned, may be NULL */
    bool unsaid;           /* there was no memory for the data: the event is left out */
} dscm_job_end;

struct dscm_job;

/* Who is told of a job's end before anybody else learns of it. No function may block. */
typedef struct dscm_job_sink {
    /* Takes over `end` and calls dscm_job_publish when it is recorded. */
    void (*end)(void *arg, struct dscm_job *job, const dscm_job_end *end);
    /* A released job stopped before it ended: it is to run again after the next start. */
    void (*release)(void *arg, struct dscm_job *job);
    /* An event that is not the last, in the order of events; NULL: nobody asks. */
    void (*event)(void *arg, struct dscm_job *job, uint64_t id, dscm_event_kind kind,
                  const char *data);
    void *arg;
} dscm_job_sink;

typedef struct dscm_job {
    char id[DSCM_ID_SIZE];
    char owner[DSCM_OWNER_SIZE];     /* who may see it: the key's name, "" for anonymous */
    char client[DSCM_OWNER_SIZE];    /* whose share of the queue it takes */
    dscm_payload task;               /* its `bytes`: lock */
    int64_t created_us, deadline_ms; /* monotonic; DSCM_NEVER for none */
    double created_wall;             /* Unix time */
    const dscm_job_sink *sink;       /* NULL: its changes are recorded nowhere */
    size_t cost;                     /* network passes that it is thought to take; 0 counts as 1 */
    unsigned deaths;                 /* earlier runs during which the process died */
    unsigned run;                    /* of a shared store: which claim this is, from 1 */
    bool mirror;          /* a copy of a job in a shared store, where its changes come from */
    atomic_bool stale;    /* a mirror that is about to be read again */
    atomic_bool detached; /* survives the request that made it (respond-async, idempotent) */
    atomic_size_t references;
    atomic_int readers; /* streams that show its events: previews are made for them only */
    atomic_bool stop;   /* the worker is to end at the next step */

    pthread_mutex_t lock;
    dscm_record record;
    bool refused;           /* it was not accepted: `problem` tells why */
    struct dscm_job *other; /* of a mirror: the earlier job of its idempotency key; reference */
    size_t position;        /* of a waiting mirror: jobs before it, when it was read last */
    bool released; /* waiting is over though the job has not ended: it runs after the next start */
    bool ending;   /* its end is decided and being recorded as end_state, end_reason */
    dscm_job_state end_state;
    dscm_job_reason end_reason;
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

/* A job during which the process died before may be what kills it. After DSCM_DEATHS_ALONE deaths it
 * runs while no other does, so that it takes none along; after DSCM_DEATHS_MAX it fails. */
#define DSCM_DEATHS_ALONE 2
#define DSCM_DEATHS_MAX   5
static inline bool dscm_job_suspect(const dscm_job *job)
{
    return job->deaths >= DSCM_DEATHS_ALONE;
}

/* Ids of events by run: those of a later run are larger than any of an earlier one, some of which
 * may have been sent but not recorded. */
#define DSCM_EVENTS_PER_RUN 1000000

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

/* With a sink, ends as above reach it first. It calls this once the end is recorded; takes what the
 * end owns. False: the job had ended, and what the end owned is released. */
bool dscm_job_publish(dscm_job *job, const dscm_job_end *end);
/* The state as decided: a job whose end is being recorded has it already. */
dscm_job_state dscm_job_decided(dscm_job *job, dscm_job_reason *reason);
void dscm_job_end_free(const dscm_job_end *end); /* of an end that nobody took */

/* What a shared store tells of a mirror. */
typedef struct dscm_job_news {
    dscm_job_state state; /* a terminal one comes with `end` */
    size_t step, steps, position;
    const dscm_event *events; /* in order; those known already are left out. Data is copied. */
    size_t count;
    const dscm_job_end *end; /* NULL, or what the mirror takes over; its data is not used */
} dscm_job_news;
/* Brings a mirror up to date and wakes who waits. */
void dscm_job_update(dscm_job *job, const dscm_job_news *news);
/* The job is another process's from now on: it stops here and its end is told to nobody. */
void dscm_job_abandon(dscm_job *job);
const char *dscm_event_name(dscm_event_kind kind);
bool dscm_event_find(const char *name, dscm_event_kind *out); /* by its name */

/* Fails a job that was not accepted: past the sink. */
void dscm_job_refuse(dscm_job *job, const dscm_problem *problem);
dscm_record dscm_job_recorded(dscm_job *job);
void dscm_job_record(dscm_job *job, dscm_record record); /* wakes those who wait for it */
/* Wakes everybody who waits, though the job goes on after the next start of the service, and lets a
 * worker that runs it stop. Only for jobs with a sink. */
void dscm_job_release(dscm_job *job);
/* The job is over for this process: it has ended or was released. */
bool dscm_job_over(dscm_job *job);

#define DSCM_AFTER_END    UINT64_MAX
#define DSCM_AFTER_RECORD (UINT64_MAX - 1)

/* Hangs the waiter on a job that has not ended and, for readers of events, has none newer than
 * `after` (DSCM_AFTER_END: wait for the end only; DSCM_AFTER_RECORD: until the record is made).
 * False: no need to wait. */
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
