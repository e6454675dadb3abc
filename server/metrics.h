/* What the service counts, in the text form of Prometheus.
 *
 * Every label has a fixed set of values, so no client can make the output grow. Gauges that others
 * own (queue depth, kept jobs) are given at rendering. Does not keep history. Threads: counters are
 * atomic; every function may be called from any thread.
 */
#ifndef DSCM_SERVER_METRICS_H
#define DSCM_SERVER_METRICS_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include "server/job.h"
#include "server/shared.h"

#define DSCM_METRICS_ROUTES   32
#define DSCM_METRICS_STATUSES 26
#define DSCM_METRICS_BUCKETS  14

typedef enum dscm_reject {
    DSCM_REJECT_QUEUE_FULL,
    DSCM_REJECT_SHARE_FULL,
    DSCM_REJECT_DRAINING,
    DSCM_REJECT_STREAMS,
    DSCM_REJECT_UNAUTHORIZED,
    DSCM_REJECT_STRICT,
    DSCM_REJECT_SLOW,
    DSCM_REJECT_TOO_LARGE,
    DSCM_REJECT_STORE,
    DSCM_REJECT_UPLOADS,
    DSCM_REJECTS
} dscm_reject;

typedef struct dscm_histogram {
    atomic_ullong buckets[DSCM_METRICS_BUCKETS + 1]; /* not cumulative; last: above all bounds */
    atomic_ullong sum_us;
} dscm_histogram;

typedef enum dscm_gone_phase {
    DSCM_GONE_REQUEST, /* before there was a job to wait for */
    DSCM_GONE_QUEUED,
    DSCM_GONE_RUNNING,
    DSCM_GONE_STREAM,
    DSCM_GONE_PHASES
} dscm_gone_phase;

typedef struct dscm_metrics {
    atomic_ullong requests[DSCM_METRICS_ROUTES][DSCM_METRICS_STATUSES];
    dscm_histogram durations[DSCM_METRICS_ROUTES];
    atomic_ullong jobs[DSCM_JOB_STATE_COUNT][DSCM_REASONS]; /* ended ones */
    atomic_ullong jobs_started, jobs_accepted;
    dscm_histogram queue_wait, inference;
    atomic_ullong rejects[DSCM_REJECTS], disconnects[DSCM_GONE_PHASES];
    atomic_ullong cache_hits, cache_misses, batches, batched_jobs, idempotent_hits;
    atomic_llong streams, workers_busy;
    atomic_ullong interrupted, crashed; /* jobs read from the journal */
} dscm_metrics;

/* What is read when the text is made. */
typedef struct dscm_metrics_gauges {
    const char *const *routes; /* label values by route index, NULL after the last */
    const char *const
        *models; /* "name\0version\0sha256" triples: 3 entries each, NULL at the end */
    size_t queue_depth, queue_capacity, jobs_kept, jobs_bytes, abductions, abduction_bytes, workers;
    size_t connections, bodies_bytes;
    unsigned long long log_dropped;
    double start_wall; /* Unix time of the start */
    /* of the journal; not rendered without one */
    bool journal;
    size_t store_pending, store_backlog;
    unsigned long long store_written, store_commits, store_failures;
    double store_sync_s;
    const dscm_shared_figures *shared; /* of the shared store; NULL: there is none */
    const char *version;
} dscm_metrics_gauges;

void dscm_metrics_request(dscm_metrics *metrics, size_t route, int status, int64_t took_us);
void dscm_histogram_add(dscm_histogram *histogram, int64_t took_us);
void dscm_metrics_render(dscm_metrics *metrics, const dscm_metrics_gauges *gauges, FILE *out);

#endif
