/* The shared store: jobs in Redis, so that several processes are one service.
 *
 * Every change that processes must agree on is one call of a script inside Redis (shared.lua): to
 * accept within the bounds of the queue and of a client's share, to claim, to end, to cancel, to
 * take over what a dead process had. Here is what a process does around it:
 *
 * - A process that accepts holds mirrors (jobs.h) of the jobs its clients ask for. They are read
 *   again whenever Redis tells that a job changed, so that waiting, streams and replies work as
 *   with jobs in memory, whichever process runs the job.
 * - A process that works claims jobs while one of its workers is idle, tells that it is alive, and
 *   hands what its workers say to Redis. Those jobs are in the queue (queue.h) and in no index.
 *
 * Threads. One writes operations in the order of the calls, one listens for changes, one claims and
 * keeps house. No function here but dscm_shared_open, _start and _free waits for Redis.
 *
 * Durability is what Redis is configured for: nothing is lost with appendfsync always, up to a
 * second of acceptances with everysec. A job runs at least once and has one result: only the
 * process that holds the claim may end it.
 */
#ifndef DSCM_SERVER_SHARED_H
#define DSCM_SERVER_SHARED_H

#include "server/job.h"

struct dscm_service;
typedef struct dscm_shared dscm_shared;

/* Connects, or fails: whoever starts the process learns of a wrong address at once. Later the store
 * may come and go. Borrows the service. */
dscm_code dscm_shared_open(dscm_shared **out, struct dscm_service *service,
                           dscm_error *err) DSCM_MUST_CHECK;
/* Registers the models and begins to claim; to be called once the workers can run. */
dscm_code dscm_shared_begin(dscm_shared *shared, dscm_error *err) DSCM_MUST_CHECK;
/* Claims nothing more and gives back what no worker has begun. */
void dscm_shared_quiesce(dscm_shared *shared);
size_t dscm_shared_running(dscm_shared *shared); /* jobs that this process has claimed */
/* Stops what still runs; others run it again. */
void dscm_shared_release(dscm_shared *shared);
/* Writes what is pending, as far as that is possible in seconds, and closes. Takes NULL. */
void dscm_shared_free(dscm_shared *shared);

/* ---- accepting ---- */
/* What is to be told of a job that is accepted; NULL when there is no memory. The job becomes a
 * mirror, its record pending. key: idempotency key or NULL, with the digest of the request. */
typedef struct dscm_shared_op dscm_shared_op;
dscm_shared_op *dscm_shared_prepare(dscm_shared *shared, dscm_job *job, const char *sha256,
                                    dscm_work work, dscm_blob *request, const char *key,
                                    const uint8_t digest[DSCM_DIGEST_SIZE]);
void dscm_shared_op_free(dscm_shared_op *op); /* of an op that was not accepted; takes NULL */
/* Takes over the op. The job's record turns durable, or the job is refused; with an earlier job of
 * the same key, job->other is that one. */
void dscm_shared_accept(dscm_shared *shared, dscm_shared_op *op);
/* The request of a mirror got 202: its record is pending until that is written. */
void dscm_shared_promise(dscm_shared *shared, dscm_job *job);
void dscm_shared_cancel(dscm_shared *shared, dscm_job *job, dscm_job_reason reason);
void dscm_shared_view(dscm_shared *shared, const dscm_job *job); /* somebody watches its events */

/* ---- asking ---- */
/* Each gives a ticket: a job that ends when the answer is there, within seconds. One reference for
 * the caller; NULL: no memory. It fails with not-found, expired or store-unavailable. */
/* The job's mirror is up to date in the index. */
dscm_job *dscm_shared_load(dscm_shared *shared, const char *id, const char *owner);
/* Its result is a dscm_blob: the key of the owner's abduction. */
dscm_job *dscm_shared_find_abduction(dscm_shared *shared, const char *id, const char *owner);
dscm_job *dscm_shared_drop_abduction(dscm_shared *shared, const char *id, const char *owner);

/* ---- of workers ---- */
/* The jobs are about to run: returns when that is written, or when they are lost. */
void dscm_shared_start(dscm_shared *shared, dscm_job *const *jobs, size_t count);
void dscm_shared_keep_abduction(dscm_shared *shared, const char *id, const char *owner,
                                const void *key, size_t size);

void dscm_shared_wake(dscm_shared *shared); /* a worker is idle */

/* ---- figures ---- */
typedef struct dscm_shared_figures {
    size_t pending;                          /* operations not answered yet */
    unsigned long long operations, failures; /* answered ones, lost connections and refusals */
    unsigned long long claimed, taken_over, poisoned, lost;
    double answer_us; /* moving average of a round of operations */
    bool connected;
    /* of all processes, a second old at most while connected */
    size_t waiting, running, workers;
} dscm_shared_figures;
void dscm_shared_count(dscm_shared *shared, dscm_shared_figures *out);

#endif
