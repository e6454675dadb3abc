/* What journal.c (operations, the writer) and journal_file.c (the file: schema, statements, reading)
 * share. Not for anyone else: it names SQLite's types. */
#ifndef DSCM_SERVER_JOURNAL_INTERNAL_H
#define DSCM_SERVER_JOURNAL_INTERNAL_H

#include <sqlite3.h>

#include "server/journal.h"

#define DROPPED_MAX 256

typedef enum journal_kind {
    OP_ACCEPT,
    OP_PROMISE,
    OP_START,
    OP_END,
    OP_RELEASE,
    OP_EXPIRE,
    OP_KEEP,
    OP_TOUCH,
    OP_DROP,
    OP_KINDS
} journal_kind;

struct dscm_journal_op {
    journal_kind kind;
    struct dscm_journal_op *next;
    dscm_job *job; /* reference; NULL where only the id is known */
    char id[DSCM_ID_SIZE], owner[DSCM_OWNER_SIZE];
    char *key; /* idempotency key or NULL */
    uint8_t digest[DSCM_DIGEST_SIZE];
    dscm_blob *blob;  /* the request, or the key of an abduction */
    int work;         /* of an acceptance: its kind */
    bool promise;     /* to be synced */
    dscm_job_end end; /* owned until it is published */
    uint64_t last_event;
    double finished;
    bool published; /* told although the disk refused it */
    bool *done;     /* journal lock: set when it is written; the caller waits for it */
};

struct dscm_journal {
    dscm_journal_options options;
    dscm_job_sink sink;
    char *path;
    int lock_file; /* held while the file is open, against a second process */
    sqlite3 *db;   /* the writer's thread, but for opening and closing */
    sqlite3_stmt *statements[OP_KINDS];
    bool full; /* the sync mode in force */
    pthread_mutex_t read_lock;
    sqlite3 *reader; /* read_lock */
    sqlite3_stmt *find;
    pthread_t thread;
    bool started;
    dscm_journal_op *retry; /* ends that could not be written, already told; the writer's */
    int64_t sweep_ms, trouble_ms;
    bool troubled;
    char why[256];        /* the last failure */
    pthread_mutex_t lock; /* everything below */
    pthread_cond_t arrived, written;
    dscm_journal_op *first, *last;
    dscm_journal_figures figures;
    bool stop;
    char dropped[DROPPED_MAX][DSCM_ID_SIZE]; /* abductions whose deletion may not be written yet */
    size_t dropped_count;                    /* ever; the ring holds the last ones */
};

dscm_code dscm_journal_file_open_(dscm_journal *journal, dscm_error *err);
void dscm_journal_file_close_(dscm_journal *journal);
/* Executes the operation's statement; false: sqlite3_errmsg(db) tells why. */
bool dscm_journal_step_(dscm_journal *journal, const dscm_journal_op *op);
bool dscm_journal_sql_(dscm_journal *journal, const char *text);
/* Deletes what is over its limit of age or number. */
void dscm_journal_sweep_(dscm_journal *journal);

#endif
