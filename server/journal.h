/* The journal: jobs on disk, in one SQLite file, so that a 202 is a promise. After a crash or a stop
 * the service reads it and runs what has not ended.
 *
 * Jobs in memory (jobs.h, queue.h) stay the place where everything is looked for; the journal holds
 * a copy of each: its request until it has ended, its result afterwards, and the keys of kept
 * abductions, from which those can be inferred again. Progress is not recorded. One process per
 * file. The only part of the program that knows SQLite.
 *
 * Durability. A promise (an accepted asynchronous job, or one whose request got 202 after a wait) is
 * synced to the disk before it is told. Everything else (starts, ends, abductions) survives the end
 * of the process at once, and that of the machine with the next promise or checkpoint; an end that
 * was lost so is reached again by running the job again.
 *
 * Threads. One thread of its own writes; what arrives while it writes goes to disk together in one
 * transaction. Every function may be called from any thread. Operations on a job are written in
 * the order of the calls.
 */
#ifndef DSCM_SERVER_JOURNAL_H
#define DSCM_SERVER_JOURNAL_H

#include "server/job.h"

typedef struct dscm_journal dscm_journal;
typedef struct dscm_journal_op dscm_journal_op;

typedef struct dscm_journal_options {
    const char *path;
    double abduction_age_s;   /* since an abduction was last used */
    size_t abductions, tombs; /* kept abductions, and ids of expired jobs, at most */
    /* The job could not be written and is not accepted; called by the writer's thread. */
    void (*refused)(void *arg, dscm_job *job, const char *why);
    /* Writing fails (why), or works again (NULL); called by the writer's thread. */
    void (*trouble)(void *arg, const char *why);
    void *arg;
} dscm_journal_options;

/* Opens or makes the file (readable by its owner only) and starts the writer. An error also when
 * another process has it open or it is no such file. */
dscm_code dscm_journal_open(dscm_journal **out, const dscm_journal_options *options,
                            dscm_error *err) DSCM_MUST_CHECK;
/* Writes what is pending and closes. Takes NULL. */
void dscm_journal_free(dscm_journal *journal);
/* For the `sink` of jobs in the journal. */
const dscm_job_sink *dscm_journal_sink(const dscm_journal *journal);

/* ---- jobs ---- */

/* Makes ready to write a job with all memory that takes, so that accepting it cannot fail halfway.
 * kind: of work, for the reader. key and digest: of its idempotency key, or NULL. Holds references
 * to the job and the request. */
dscm_code dscm_journal_prepare(dscm_journal_op **out, dscm_job *job, int kind, dscm_blob *request,
                               const char *key, const uint8_t digest[DSCM_DIGEST_SIZE],
                               dscm_error *err) DSCM_MUST_CHECK;
void dscm_journal_op_free(dscm_journal_op *op); /* of an op that was not accepted; takes NULL */
/* Writes the job, which takes over `op`; to be called before a worker can see the job. With
 * `promise` it is synced. The job's record turns durable, or `refused` is called. */
void dscm_journal_accept(dscm_journal *journal, dscm_journal_op *op, bool promise);
/* A job accepted without promise got 202: syncs it; its record is pending until then. */
void dscm_journal_promise(dscm_journal *journal, dscm_job *job);
/* The jobs are about to run: returns when that is written. */
void dscm_journal_start(dscm_journal *journal, dscm_job *const *jobs, size_t count);
/* The result of an ended job is no longer kept; its id still answers "expired". */
void dscm_journal_expire(dscm_journal *journal, const char *id);

/* ---- abductions ---- */
void dscm_journal_keep_abduction(dscm_journal *journal, const char *id, const char *owner,
                                 const void *key, size_t size);
void dscm_journal_touch_abduction(dscm_journal *journal, const char *id);
void dscm_journal_drop_abduction(dscm_journal *journal, const char *id);
/* The key of the owner's abduction, or NULL. One reference for the caller. Reads the file. */
dscm_blob *dscm_journal_find_abduction(dscm_journal *journal, const char *id, const char *owner);

/* ---- reading at the start ---- */

/* A job as the file has it; pointers are valid in the call. */
typedef struct dscm_journal_entry {
    const char *id, *owner, *client;
    int kind;        /* as given to dscm_journal_prepare */
    const char *key; /* or NULL, then the digest means nothing */
    uint8_t digest[DSCM_DIGEST_SIZE];
    double created, finished; /* Unix time */
    long deadline_ms;         /* after `created`; 0: none */
    bool promised;
    dscm_job_state state; /* not running: what was running is queued again, with a death more */
    dscm_job_reason reason;
    dscm_problem problem; /* of failed ones */
    unsigned deaths;
    uint64_t last_event;
    dscm_span request, result; /* size 0: none */
} dscm_journal_entry;

/* Calls fn for every job in the order of arrival. Once, before any other call. */
dscm_code dscm_journal_read(dscm_journal *journal,
                            dscm_code (*fn)(void *arg, const dscm_journal_entry *entry,
                                            dscm_error *err),
                            void *arg, dscm_error *err) DSCM_MUST_CHECK;

/* ---- figures ---- */
typedef struct dscm_journal_figures {
    size_t pending;                                /* operations not written yet */
    unsigned long long written, commits, failures; /* operations, transactions, failed ones */
    double sync_us;                                /* moving average of a synced commit */
} dscm_journal_figures;
void dscm_journal_count(dscm_journal *journal, dscm_journal_figures *out);

#endif
