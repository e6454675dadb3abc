#include "server/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "server/clock.h"
#include "server/journal_internal.h"

#define RETRY_MS  500  /* after a failed write of an end */
#define RETRY_MAX 1024 /* ends that wait for the disk; beyond it the job runs again after a crash */
#define SWEEP_MS  10000

/* ---- operations ---- */

void dscm_journal_op_free(dscm_journal_op *op)
{
    if (!op) return;
    dscm_job_unref(op->job);
    dscm_blob_unref(op->blob);
    dscm_free(op->key);
    dscm_free(op);
}

static dscm_journal_op *make(journal_kind kind, dscm_job *job, const char *id, dscm_error *err)
{
    dscm_journal_op *op = dscm_alloc(1, sizeof *op, "a record of a job", err);
    if (!op) return NULL;
    op->kind = kind;
    op->job = job ? dscm_job_ref(job) : NULL;
    snprintf(op->id, sizeof op->id, "%s", job ? job->id : id);
    return op;
}

static void enqueue(dscm_journal *j, dscm_journal_op *op)
{
    pthread_mutex_lock(&j->lock);
    if (j->last)
        j->last->next = op;
    else
        j->first = op;
    j->last = op;
    j->figures.pending++;
    pthread_cond_signal(&j->arrived);
    pthread_mutex_unlock(&j->lock);
}

dscm_code dscm_journal_prepare(dscm_journal_op **out, dscm_job *job, int kind, dscm_blob *request,
                               const char *key, const uint8_t digest[DSCM_DIGEST_SIZE],
                               dscm_error *err)
{
    dscm_journal_op *op = make(OP_ACCEPT, job, NULL, err);
    if (op && key && !(op->key = dscm_strdup(key, err))) {
        dscm_journal_op_free(op);
        op = NULL;
    }
    if (!op) return DSCM_E_MEMORY;
    op->work = kind;
    op->blob = dscm_blob_ref(request);
    if (key) memcpy(op->digest, digest, sizeof op->digest);
    *out = op;
    return DSCM_OK;
}

void dscm_journal_accept(dscm_journal *journal, dscm_journal_op *op, bool promise)
{
    op->promise = promise;
    enqueue(journal, op);
}

void dscm_journal_promise(dscm_journal *journal, dscm_job *job)
{
    dscm_journal_op *op = make(OP_PROMISE, job, NULL, NULL);
    dscm_job_record(job, op ? DSCM_RECORD_PENDING : DSCM_RECORD_FAILED);
    if (!op) return;
    op->promise = true;
    enqueue(journal, op);
}

void dscm_journal_start(dscm_journal *journal, dscm_job *const *jobs, size_t count)
{
    bool done = false, waits = false;
    for (size_t i = 0; i < count; i++) {
        dscm_journal_op *op = make(OP_START, jobs[i], NULL, NULL);
        if (!op) continue; /* it runs; only a crash in it would not be counted */
        waits = waits || i + 1 == count;
        if (i + 1 == count) op->done = &done; /* written after all before it */
        enqueue(journal, op);
    }
    pthread_mutex_lock(&journal->lock);
    while (waits && !done) pthread_cond_wait(&journal->written, &journal->lock);
    pthread_mutex_unlock(&journal->lock);
}

static void record_end(void *arg, dscm_job *job, const dscm_job_end *end)
{
    dscm_journal_op *op = make(OP_END, job, NULL, NULL);
    if (!op) {
        dscm_job_publish(job, end);
        return;
    }
    op->end = *end;
    op->finished = dscm_clock_wall();
    pthread_mutex_lock(&job->lock);
    op->last_event = job->last_event + 1; /* what the terminal event will have */
    pthread_mutex_unlock(&job->lock);
    enqueue(arg, op);
}

static void record_release(void *arg, dscm_job *job)
{
    dscm_journal_op *op = make(OP_RELEASE, job, NULL, NULL);
    if (op) enqueue(arg, op); /* else it counts as a death, and runs again all the same */
}

void dscm_journal_expire(dscm_journal *journal, const char *id)
{
    dscm_journal_op *op = make(OP_EXPIRE, NULL, id, NULL);
    if (op) enqueue(journal, op); /* else it expires after the next start */
}

void dscm_journal_keep_abduction(dscm_journal *journal, const char *id, const char *owner,
                                 const void *key, size_t size)
{
    dscm_journal_op *op = make(OP_KEEP, NULL, id, NULL);
    if (!op) return; /* kept in memory only */
    snprintf(op->owner, sizeof op->owner, "%s", owner);
    op->blob = dscm_blob_copy(key, size);
    if (op->blob)
        enqueue(journal, op);
    else
        dscm_journal_op_free(op);
}

void dscm_journal_touch_abduction(dscm_journal *journal, const char *id)
{
    dscm_journal_op *op = make(OP_TOUCH, NULL, id, NULL);
    if (op) enqueue(journal, op);
}

void dscm_journal_drop_abduction(dscm_journal *journal, const char *id)
{
    pthread_mutex_lock(&journal->lock);
    size_t slot = journal->dropped_count++ % DROPPED_MAX;
    snprintf(journal->dropped[slot], DSCM_ID_SIZE, "%s", id);
    pthread_mutex_unlock(&journal->lock);
    dscm_journal_op *op = make(OP_DROP, NULL, id, NULL);
    if (op) enqueue(journal, op);
}

/* ---- the writer ---- */

/* Remembers why and tells it once. */
static void note_failure(dscm_journal *j)
{
    snprintf(j->why, sizeof j->why, "%s", sqlite3_errmsg(j->db));
    if (!sqlite3_get_autocommit(j->db)) (void)dscm_journal_sql_(j, "ROLLBACK");
    if (!j->troubled && j->options.trouble) j->options.trouble(j->options.arg, j->why);
    j->troubled = true;
    pthread_mutex_lock(&j->lock);
    j->figures.failures++;
    pthread_mutex_unlock(&j->lock);
}

static void note_success(dscm_journal *j, bool full, int64_t took_us)
{
    if (j->troubled && j->options.trouble) j->options.trouble(j->options.arg, NULL);
    j->troubled = false;
    pthread_mutex_lock(&j->lock);
    double before = j->figures.sync_us, took = (double)took_us;
    if (full) j->figures.sync_us = before > 0 ? before + (took - before) / 8 : took;
    j->figures.commits++;
    pthread_mutex_unlock(&j->lock);
}

/* All or none of the list (one: of its first), with one sync when any of it is a promise. */
static bool write_list(dscm_journal *j, const dscm_journal_op *list, bool one)
{
    bool full = false;
    int64_t start = dscm_clock_us();
    for (const dscm_journal_op *op = list; op; op = one ? NULL : op->next)
        full = full || op->promise;
    if (full != j->full &&
        dscm_journal_sql_(j, full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"))
        j->full = full;
    bool ok = (j->full || !full) && dscm_journal_sql_(j, "BEGIN IMMEDIATE");
    for (const dscm_journal_op *op = list; op && ok; op = one ? NULL : op->next)
        ok = dscm_journal_step_(j, op);
    ok = ok && dscm_journal_sql_(j, "COMMIT");
    if (ok)
        note_success(j, full, dscm_clock_us() - start);
    else
        note_failure(j);
    return ok;
}

static void retry_later(dscm_journal *j, dscm_journal_op *op)
{
    size_t count = 0;
    dscm_journal_op **link = &j->retry;
    for (; *link; link = &(*link)->next) count++;
    op->next = NULL;
    *link = op;
    if (count < RETRY_MAX) return;
    op = j->retry;
    j->retry = op->next;
    dscm_journal_op_free(op);
}

/* Tells what became of one operation and lets go of it. */
static void settle(dscm_journal *j, dscm_journal_op *op, bool ok)
{
    bool again = false;
    if (op->kind == OP_ACCEPT && ok) dscm_job_record(op->job, DSCM_RECORD_DURABLE);
    if (op->kind == OP_ACCEPT && !ok) j->options.refused(j->options.arg, op->job, j->why);
    if (op->kind == OP_PROMISE)
        dscm_job_record(op->job, ok ? DSCM_RECORD_DURABLE : DSCM_RECORD_FAILED);
    /* With a full disk the client gets its result all the same. What the end owned is the job's
     * then, which this operation holds. */
    if (op->kind == OP_END && !op->published)
        op->published = true, again = dscm_job_publish(op->job, &op->end) && !ok;
    else if (op->kind == OP_END)
        again = !ok;
    pthread_mutex_lock(&j->lock);
    if (op->done) {
        *op->done = true;
        pthread_cond_broadcast(&j->written);
    }
    j->figures.written += ok;
    pthread_mutex_unlock(&j->lock);
    op->end.data = NULL;
    if (again)
        retry_later(j, op);
    else
        dscm_journal_op_free(op);
}

static void write_batch(dscm_journal *j, dscm_journal_op *list)
{
    bool all = write_list(j, list, false);
    for (dscm_journal_op *op = list, *next; op; op = next) {
        next = op->next;
        /* What cannot be written fails alone. */
        settle(j, op, all || write_list(j, op, true));
    }
}

static void retry_ends(dscm_journal *j)
{
    dscm_journal_op *list = j->retry;
    j->retry = NULL;
    for (dscm_journal_op *op = list, *next; op; op = next) {
        next = op->next;
        settle(j, op, write_list(j, op, true));
    }
}

/* With the lock held: waits for work, for the time of the next sweep or retry, or for the stop. */
static void wait_for_work(dscm_journal *j)
{
    int64_t until = j->retry ? j->trouble_ms : j->sweep_ms;
    struct timespec time = {until / 1000, until % 1000 * 1000000};
    while (!j->first && !j->stop && dscm_clock_ms() < until)
        pthread_cond_timedwait(&j->arrived, &j->lock, &time);
}

static void *write_loop(void *arg)
{
    dscm_journal *j = arg;
    for (bool stop = false; !stop;) {
        pthread_mutex_lock(&j->lock);
        wait_for_work(j);
        dscm_journal_op *list = j->first;
        j->first = j->last = NULL;
        j->figures.pending = 0;
        stop = j->stop && !list;
        pthread_mutex_unlock(&j->lock);
        if (list) write_batch(j, list);
        int64_t now = dscm_clock_ms();
        if (j->retry && (stop || now >= j->trouble_ms)) {
            retry_ends(j);
            j->trouble_ms = now + RETRY_MS;
        }
        if (now >= j->sweep_ms) {
            dscm_journal_sweep_(j);
            j->sweep_ms = now + SWEEP_MS;
        }
    }
    return NULL;
}

/* ---- opening and closing ---- */

static dscm_code begin(dscm_journal *j, dscm_error *err)
{
    dscm_code code = dscm_journal_file_open_(j, err);
    if (code != DSCM_OK) return code;
    if (!dscm_journal_sql_(j, "UPDATE jobs SET state='queued', deaths=deaths+1 "
                              "WHERE state='running'"))
        return dscm_fail(err, DSCM_E_IO, "store sqlite:%s: cannot write it: %s", j->path,
                         sqlite3_errmsg(j->db));
    j->sweep_ms = dscm_clock_ms() + SWEEP_MS;
    int failure = pthread_create(&j->thread, NULL, write_loop, j);
    j->started = failure == 0;
    if (j->started) return DSCM_OK;
    return dscm_fail(err, DSCM_E_SYSTEM, "cannot start the thread of the store: %s",
                     strerror(failure));
}

dscm_code dscm_journal_open(dscm_journal **out, const dscm_journal_options *options,
                            dscm_error *err)
{
    dscm_journal *j = dscm_alloc(1, sizeof *j, "the store", err);
    if (!j) return DSCM_E_MEMORY;
    j->options = *options;
    j->lock_file = -1;
    j->sink = (dscm_job_sink){.end = record_end, .release = record_release, .arg = j};
    pthread_mutex_init(&j->lock, NULL);
    pthread_mutex_init(&j->read_lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&j->arrived, &attributes);
    pthread_cond_init(&j->written, &attributes);
    pthread_condattr_destroy(&attributes);
    j->path = dscm_strdup(options->path, err);
    dscm_code code = j->path ? begin(j, err) : DSCM_E_MEMORY;
    if (code != DSCM_OK) {
        dscm_journal_free(j);
        return code;
    }
    *out = j;
    return DSCM_OK;
}

void dscm_journal_free(dscm_journal *j)
{
    if (!j) return;
    if (j->started) {
        pthread_mutex_lock(&j->lock);
        j->stop = true;
        pthread_cond_signal(&j->arrived);
        pthread_mutex_unlock(&j->lock);
        pthread_join(j->thread, NULL);
    }
    while (j->retry) {
        dscm_journal_op *op = j->retry;
        j->retry = op->next;
        dscm_journal_op_free(op);
    }
    dscm_journal_file_close_(j);
    pthread_mutex_destroy(&j->lock);
    pthread_mutex_destroy(&j->read_lock);
    pthread_cond_destroy(&j->arrived);
    pthread_cond_destroy(&j->written);
    dscm_free(j->path);
    dscm_free(j);
}

const dscm_job_sink *dscm_journal_sink(const dscm_journal *journal)
{
    return &journal->sink;
}

void dscm_journal_count(dscm_journal *journal, dscm_journal_figures *out)
{
    pthread_mutex_lock(&journal->lock);
    *out = journal->figures;
    pthread_mutex_unlock(&journal->lock);
}
