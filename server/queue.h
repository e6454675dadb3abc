/* A bounded queue of jobs that serves clients in turn.
 *
 * Each client key has its own line; workers take from the line that was served least, by the cost of its
 * jobs (dscm_job.cost, network passes), so one client with a hundred jobs delays another's single job
 * by at most one job per worker, and ten short jobs of one client weigh as much as one of another that
 * takes ten times as long. Who was away has saved nothing. Does not run, cancel or time anything.
 *
 * Threads: `lock` guards everything inside; functions take it themselves. Under it only `ready` of
 * a push and `fits` are called, which may take the locks of the job and the watchdog. Ownership: the
 * queue holds a reference to each job from a successful push until the job is taken or removed;
 * then the reference is the caller's.
 */
#ifndef DSCM_SERVER_QUEUE_H
#define DSCM_SERVER_QUEUE_H

#include "server/job.h"

typedef struct dscm_queue dscm_queue;

typedef enum dscm_push_result {
    DSCM_PUSHED,
    DSCM_QUEUE_FULL,
    DSCM_SHARE_FULL,
    DSCM_QUEUE_CLOSED
} dscm_push_result;

/* The last places of a queue are for clients with few jobs inside; none in a small queue, or where one
 * client may fill all of it. */
static inline size_t dscm_queue_reserve(size_t capacity)
{
    return capacity < 16 ? 0 : capacity / 4;
}
static inline size_t dscm_queue_few(size_t capacity)
{
    return capacity / 16;
}

/* capacity: waiting jobs in all; share: of one client, at least 1. */
dscm_code dscm_queue_open(dscm_queue **out, size_t capacity, size_t share,
                          dscm_error *err) DSCM_MUST_CHECK;
void dscm_queue_free(dscm_queue *queue); /* takes NULL; drops jobs still inside */

/* Long jobs, as `is_long` says of a waiting one, of one client are held by at most `most` (1 or more)
 * takers at a time, so that others find a free one; takers pass over more of them, also for later jobs
 * of the same client. Once the queue is closed, all are taken. `takers` is how many threads call dscm_queue_take. Before the first push. */
dscm_code dscm_queue_limit_long(dscm_queue *queue, bool (*is_long)(void *arg, const dscm_job *job),
                                void *arg, size_t most, size_t takers,
                                dscm_error *err) DSCM_MUST_CHECK;

/* Takes over the caller's reference when it returns DSCM_PUSHED, and only then. `ready` (or NULL)
 * is called under the queue's lock once the job is sure to be accepted and before a worker can see
 * it: there the request that waits for the job is parked. */
dscm_push_result dscm_queue_push(dscm_queue *queue, dscm_job *job, void (*ready)(void *arg),
                                 void *arg) DSCM_MUST_CHECK;
/* Pushes the jobs at once, so that one taker sees all. Returns how many the queue took; the others are
 * still the caller's. */
size_t dscm_queue_push_all(dscm_queue *queue, dscm_job *const *jobs, size_t count) DSCM_MUST_CHECK;
/* What a push by this client would return now: to refuse before a request is even parsed. */
dscm_push_result dscm_queue_room(dscm_queue *queue, const char *client);
/* Calls `idle` under the queue's lock whenever a taker begins to wait. Before the first taker. */
void dscm_queue_watch(dscm_queue *queue, void (*idle)(void *arg), void *arg);
/* Waits for a job that may run; NULL once the queue is closed and empty. */
dscm_job *dscm_queue_take(dscm_queue *queue);
/* The taker of this job is free again. Compares the pointer only: the job may be gone. */
void dscm_queue_done(dscm_queue *queue, const dscm_job *job);
/* Fills jobs[] with up to `max` waiting jobs that `fits`, without waiting and skipping none of a
 * client's own earlier jobs that fit. Leaves at least `leave` jobs in the queue that idle takers
 * may take. */
size_t dscm_queue_take_more(dscm_queue *queue, dscm_job **jobs, size_t max, size_t leave,
                            bool (*fits)(void *arg, const dscm_job *job), void *arg);
/* Takes the job out; false when it is not inside (a worker has it). */
bool dscm_queue_remove(dscm_queue *queue, dscm_job *job);
/* Takes out one job whose deadline is at or before `now_ms`, NULL when there is none. */
dscm_job *dscm_queue_take_late(dscm_queue *queue, int64_t now_ms);
/* Takes out any job without waiting; NULL when empty. */
dscm_job *dscm_queue_take_any(dscm_queue *queue);
/* No more pushes; takers get what is left, then NULL. */
void dscm_queue_close(dscm_queue *queue);

size_t dscm_queue_depth(dscm_queue *queue);
size_t dscm_queue_idle(dscm_queue *queue); /* workers waiting in dscm_queue_take */
/* Jobs that will be taken before this one, 0 when it is next or not inside. */
size_t dscm_queue_position(dscm_queue *queue, const dscm_job *job);

#endif
