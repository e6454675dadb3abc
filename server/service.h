/* The service: everything put together, started and stopped.
 *
 * Owns the two listeners, the queue, the workers, the stores and the housekeeping thread. Handlers
 * (routes_*.c) see this struct; nobody else does.
 *
 * Threads. All fields are set before the listeners start, except `ready`, `draining` and what the
 * parts guard themselves. The housekeeping thread ends jobs whose deadline passes in the queue and
 * sweeps the stores.
 */
#ifndef DSCM_SERVER_SERVICE_H
#define DSCM_SERVER_SERVICE_H

#include "server/abduction_cache.h"
#include "server/assets.h"
#include "server/engine.h"
#include "server/http.h"
#include "server/jobs.h"
#include "server/journal.h"
#include "server/keys.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/queue.h"
#include "server/settings.h"
#include "server/shared.h"
#include "server/worker_pool.h"

#define DSCM_MODELS_MAX 64

typedef struct dscm_service {
    dscm_settings settings;
    dscm_log log;
    dscm_metrics metrics;
    dscm_keys *keys;
    dscm_assets *assets;
    dscm_jobs *jobs;
    dscm_queue *queue;
    dscm_journal *journal; /* jobs are also in a file; NULL: they are not */
    dscm_shared *shared;   /* jobs are in Redis; NULL: they are not */
    dscm_job **backlog;    /* read from the journal, references; the housekeeper queues them */
    size_t backlog_count;
    atomic_size_t backlog_waiting; /* the same, for the metrics */
    dscm_abduction_cache *abductions;
    dscm_quota *streams;     /* open event streams */
    dscm_quota *costs;       /* network passes of jobs that wait or run; NULL: no limit */
    dscm_quota *bodies;      /* bytes of request bodies that arrive or wait in the queue */
    dscm_http *http, *admin; /* http NULL: this process only works */
    dscm_worker_pool *pool;  /* NULL: this process only accepts */
    dscm_engine engine;
    dscm_bundle *bundles[DSCM_MODELS_MAX];
    dscm_model_entry models[DSCM_MODELS_MAX];
    dscm_catalogue catalogue;
    const char *model_labels[DSCM_MODELS_MAX * 3 + 1]; /* for the metrics */
    size_t workers;
    double start_wall;
    atomic_bool ready, draining;
    pthread_t housekeeper;
    bool housekeeping;
    atomic_bool housekeeping_stop;
} dscm_service;

/* Starts everything; returns when it is ready to serve. calls NULL: the engine's own.
 * `catalogue` not NULL is served instead of bundles from disk: tests do so, with calls of their
 * own.
 */
dscm_code dscm_service_open(dscm_service **out, const dscm_settings *settings,
                            const dscm_engine_calls *calls, const dscm_catalogue *catalogue,
                            dscm_error *err) DSCM_MUST_CHECK;
/* Stops in order: accepts nothing new, lets accepted jobs finish until the drain time is over,
 * cancels the rest, answers everybody, closes. Takes NULL. */
void dscm_service_stop(dscm_service *service);
/* Opens the journal that the settings name, if any. */
dscm_code dscm_service_journal_open(dscm_service *service, dscm_error *err) DSCM_MUST_CHECK;
/* Reads the journal: finished jobs are served again, others wait in the backlog. Needs the models. */
dscm_code dscm_service_recover(dscm_service *service, dscm_error *err) DSCM_MUST_CHECK;
/* Moves jobs from the backlog to the queue as there is room. One thread at a time. */
void dscm_service_queue_backlog(dscm_service *service);
/* Cancels for a reason and takes the job out of the queue when it is there. */
void dscm_service_cancel(dscm_service *service, dscm_job *job, dscm_job_reason reason);
/* Reads the keys file again and logs how that went. */
void dscm_service_reload(dscm_service *service);

int dscm_service_port(const dscm_service *service); /* of the public listener; 0: there is none */

/* ---- hooks of the listeners (routes.c, admin.c) ---- */
extern const char *const dscm_route_names[]; /* by route index, NULL after the last */
void dscm_routes_head(void *service, dscm_exchange *exchange);
void dscm_routes_handle(void *service, dscm_exchange *exchange);
void dscm_routes_decorate(void *service, dscm_exchange *exchange);
void dscm_routes_done(void *service, dscm_exchange *exchange, int64_t took_us);
void dscm_routes_slow(void *service, int status);
void dscm_admin_head(void *service, dscm_exchange *exchange);
void dscm_admin_handle(void *service, dscm_exchange *exchange);
void dscm_admin_done(void *service, dscm_exchange *exchange, int64_t took_us);

/* ---- for handlers ---- */
/* Seconds after which a refused client may try again. */
long dscm_service_retry_after(dscm_service *service);
size_t dscm_service_depth(dscm_service *service); /* jobs that wait, wherever they do */
/* Why a job is refused whose client's jobs would cost `held` network passes with it. */
void dscm_cost_refusal(char *out, size_t size, size_t cost, size_t held, size_t most);
/* Milliseconds until a job at that place of the queue is done, NaN before the first job. */
double dscm_service_estimate_ms(dscm_service *service, size_t position);

#endif
