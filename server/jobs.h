/* Where jobs are looked for: an index in memory within limits of age, number and bytes. A journal
 * (journal.h) may hold copies of them on disk.
 *
 * Threads: every function of a store may be called from any thread. The memory store's lock guards
 * its index only; the lock of one job at a time may be taken under it, never the other way round.
 * Ownership: the store holds a reference per job; `find` and `find_key` return one to the caller.
 */
#ifndef DSCM_SERVER_JOBS_H
#define DSCM_SERVER_JOBS_H

#include "server/job.h"

#define DSCM_IDEMPOTENCY_KEY_MAX 255
#define DSCM_JOBS_EXPIRED_MAX    8192 /* ids of dropped jobs that still answer "expired" */

typedef enum dscm_find_result { DSCM_FOUND, DSCM_FIND_UNKNOWN, DSCM_FIND_EXPIRED } dscm_find_result;

typedef struct dscm_jobs dscm_jobs;
struct dscm_jobs {
    /* Keeps the job (adding a reference). With `key` (not NULL) it is also found by owner and key.
     * When that owner has used the key before, nothing is kept and *existing gets that job with a
     * reference; `body` (a digest of the request) tells whether it asked the same: *same. */
    dscm_code (*put)(dscm_jobs *jobs, dscm_job *job, const char *key, const uint8_t *body,
                     dscm_job **existing, bool *same, dscm_error *err);
    /* By id; `owner` must be the job's, or it is as unknown as any other. */
    dscm_find_result (*find)(dscm_jobs *jobs, const char *id, const char *owner, dscm_job **out);
    /* By id, whoever owns it; NULL: unknown. */
    dscm_job *(*get)(dscm_jobs *jobs, const char *id);
    /* An id that answers "expired" from now on. */
    void (*put_expired)(dscm_jobs *jobs, const char *id, const char *owner);
    /* Forgets a job that was never published (the queue was full). */
    void (*forget)(dscm_jobs *jobs, dscm_job *job);
    /* Drops what is over a limit; called now and then. */
    void (*sweep)(dscm_jobs *jobs, int64_t now_us);
    /* Calls fn for every job that is not over (dscm_job_over). */
    void (*each_live)(dscm_jobs *jobs, void (*fn)(void *arg, dscm_job *job), void *arg);
    void (*count)(dscm_jobs *jobs, size_t *kept, size_t *bytes);
    void (*free)(dscm_jobs *jobs);
};

typedef struct dscm_jobs_limits {
    size_t count, bytes; /* finished jobs and the bytes of their results */
    int64_t age_us;      /* since they finished */
    /* Called with the store's lock held for each finished job that is dropped; NULL: nobody. */
    void (*expired)(void *arg, const char *id);
    void *arg;
} dscm_jobs_limits;

dscm_code dscm_jobs_memory_open(dscm_jobs **out, const dscm_jobs_limits *limits,
                                dscm_error *err) DSCM_MUST_CHECK;

#endif
