/* The runner of the service: from parsed requests to results, by the engine (core/scm/pipeline.h), with kept
 * abductions. The only part of the server that calls the engine.
 *
 * Threads: each worker has its own sessions, one per bundle it has met; everything shared is either
 * immutable (bundles, requests, kept abductions) or has its own lock (jobs, the cache).
 */
#ifndef DSCM_SERVER_ENGINE_H
#define DSCM_SERVER_ENGINE_H

#include "api/request.h"
#include "server/abduction_cache.h"
#include "server/journal.h"
#include "server/outcome.h"
#include "server/quota.h"
#include "server/shared.h"
#include "server/worker_pool.h"

/* What a job's task payload holds. */
typedef struct dscm_task {
    dscm_work work;
    dscm_request *request;    /* owned; NULL once the job has ended: only a worker may look */
    dscm_cache_entry *cached; /* reference to the abduction the request names, or NULL */
    dscm_abduction_cache *cache;
    char abduction[DSCM_ID_SIZE]; /* id that an abduction inferred again gets; "": a new one */
    dscm_quota_share bytes;       /* of the budget of bodies, for the picture's file */
    dscm_quota_share cost;        /* of what the client's jobs may cost, until the job ends */
} dscm_task;
/* Takes the request and the reference on success. */
dscm_code dscm_task_make(dscm_payload *out, dscm_request *request, dscm_cache_entry *cached,
                         dscm_abduction_cache *cache, dscm_error *err) DSCM_MUST_CHECK;

/* A task with nothing left to run: of a job that had ended when it was read from the journal. */
dscm_code dscm_task_make_bare(dscm_payload *out, dscm_work work, dscm_error *err) DSCM_MUST_CHECK;

/* Lets go of the request of an ended job, which is most of what a kept job weighs. Only for the one
 * that took the job from the queue. */
void dscm_task_drop(dscm_job *job);
/* The same for a job that another process runs. */
void dscm_task_hand_away(dscm_job *job);

/* Its result payload is an outcome (outcome.h): the reply, not what it was made from. A finished job
 * does not keep an abduction alive, which the cache alone bounds. */
dscm_payload dscm_outcome_payload(dscm_blob *outcome); /* takes the reference */

/* The engine's calls, so that tests can serve without a model. */
typedef struct dscm_engine_calls {
    dscm_code (*session_open)(dscm_session **out, const dscm_bundle *bundle, size_t batch,
                              int threads, dscm_error *err);
    void (*session_free)(dscm_session *session);
    dscm_code (*run)(dscm_session *session, const dscm_bundle *bundle, dscm_run_item *items,
                     size_t count, const dscm_run_progress *progress, dscm_error *err);
} dscm_engine_calls;
extern const dscm_engine_calls dscm_engine_real;

typedef struct dscm_engine {
    dscm_engine_calls calls;
    const dscm_catalogue *catalogue;
    dscm_abduction_cache *cache;
    dscm_metrics *metrics;
    dscm_journal *journal; /* NULL, or where starts and abductions are recorded; at most one */
    dscm_shared *shared;
    size_t batch;
    int threads;
    long abduction_age_s; /* told in replies */
    size_t long_cost;     /* network passes beyond which a job is long; 0: none is */
} dscm_engine;

/* Whether a job that waits is long; arg: the engine. For dscm_queue_limit_long. */
bool dscm_engine_is_long(void *arg, const dscm_job *job);

/* Fills the table for dscm_worker_pool_open; engine must outlive the worker pool. */
dscm_job_runner dscm_engine_runner(dscm_engine *engine);

#endif
