#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "server/clock.h"
#include "server/journal_internal.h"

#define APPLICATION 0x64736a31 /* "dsj1" */
#define BUSY_MS     5000

/* Text states, so that the file can be read by people and does not depend on the order of an enum. */
static const char schema[] =
    "CREATE TABLE jobs(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " owner TEXT NOT NULL, client TEXT NOT NULL, created REAL NOT NULL,"
    " deadline_ms INTEGER NOT NULL, key TEXT, digest BLOB, promised INTEGER NOT NULL,"
    " kind INTEGER NOT NULL, request BLOB, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',"
    " starts INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0,"
    " last_event INTEGER NOT NULL DEFAULT 1, finished REAL NOT NULL DEFAULT 0,"
    " result BLOB, problem TEXT, detail TEXT);"
    "CREATE TABLE abductions(id TEXT PRIMARY KEY, owner TEXT NOT NULL, key BLOB NOT NULL,"
    " used REAL NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX abductions_used ON abductions(used);"
    "PRAGMA application_id=1685285425; PRAGMA user_version=1;";

static const char *const sql[OP_KINDS] = {
    [OP_ACCEPT] =
        "INSERT INTO jobs(id,owner,client,created,deadline_ms,key,digest,promised,request,"
        "kind,state) VALUES(?,?,?,?,?,?,?,?,?,?,'queued')",
    [OP_PROMISE] = "UPDATE jobs SET promised=1 WHERE id=?",
    [OP_START] = "UPDATE jobs SET state='running',starts=starts+1 WHERE id=? AND state='queued'",
    [OP_END] = "UPDATE jobs SET state=?2,reason=?3,result=?4,problem=?5,detail=?6,last_event=?7,"
               "finished=?8,request=NULL WHERE id=?1",
    [OP_RELEASE] = "UPDATE jobs SET state='queued' WHERE id=? AND state='running'",
    [OP_EXPIRE] = "UPDATE jobs SET state='expired',request=NULL,result=NULL,key=NULL WHERE id=?",
    [OP_KEEP] = "INSERT OR REPLACE INTO abductions(id,owner,key,used) VALUES(?,?,?,?)",
    [OP_TOUCH] = "UPDATE abductions SET used=?2 WHERE id=?1",
    [OP_DROP] = "DELETE FROM abductions WHERE id=?"};

bool dscm_journal_sql_(dscm_journal *journal, const char *text)
{
    return sqlite3_exec(journal->db, text, NULL, NULL, NULL) == SQLITE_OK;
}

/* ---- writing ---- */

static void bind_text(sqlite3_stmt *s, int index, const char *text)
{
    if (text)
        sqlite3_bind_text(s, index, text, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(s, index);
}

static void bind_blob(sqlite3_stmt *s, int index, const dscm_blob *blob)
{
    if (blob)
        sqlite3_bind_blob64(s, index, blob->bytes, blob->size, SQLITE_STATIC);
    else
        sqlite3_bind_null(s, index);
}

static void bind_accept(sqlite3_stmt *s, const dscm_journal_op *op)
{
    const dscm_job *job = op->job;
    int64_t length = job->deadline_ms == DSCM_NEVER ? 0 : job->deadline_ms - job->created_us / 1000;
    bind_text(s, 2, job->owner);
    bind_text(s, 3, job->client);
    sqlite3_bind_double(s, 4, job->created_wall);
    sqlite3_bind_int64(s, 5, length);
    bind_text(s, 6, op->key);
    sqlite3_bind_blob(s, 7, op->digest, sizeof op->digest, SQLITE_STATIC);
    sqlite3_bind_int(s, 8, op->promise);
    bind_blob(s, 9, op->blob);
    sqlite3_bind_int(s, 10, op->work);
}

static void bind_end(sqlite3_stmt *s, const dscm_journal_op *op)
{
    const dscm_job_end *end = &op->end;
    bind_text(s, 2, dscm_job_state_name(end->state));
    bind_text(s, 3, dscm_job_reason_name(end->reason));
    bind_blob(s, 4, end->result.data);
    bind_text(s, 5, end->problem ? dscm_problem_kind_of(end->problem->code)->code : NULL);
    bind_text(s, 6, end->problem ? end->problem->detail : NULL);
    sqlite3_bind_int64(s, 7, (sqlite3_int64)op->last_event);
    sqlite3_bind_double(s, 8, op->finished);
}

bool dscm_journal_step_(dscm_journal *journal, const dscm_journal_op *op)
{
    sqlite3_stmt *s = journal->statements[op->kind];
    bind_text(s, 1, op->id);
    if (op->kind == OP_ACCEPT) bind_accept(s, op);
    if (op->kind == OP_END) bind_end(s, op);
    if (op->kind == OP_KEEP) {
        bind_text(s, 2, op->owner);
        bind_blob(s, 3, op->blob);
        sqlite3_bind_double(s, 4, dscm_clock_wall());
    }
    if (op->kind == OP_TOUCH) sqlite3_bind_double(s, 2, dscm_clock_wall());
    int result = sqlite3_step(s);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return result == SQLITE_DONE;
}

void dscm_journal_sweep_(dscm_journal *journal)
{
    char text[512];
    const dscm_journal_options *o = &journal->options;
    snprintf(text, sizeof text,
             "DELETE FROM abductions WHERE used < %.3f;"
             "DELETE FROM abductions WHERE used < (SELECT used FROM abductions ORDER BY used DESC"
             " LIMIT 1 OFFSET %zu);"
             "DELETE FROM jobs WHERE state='expired' AND seq <= (SELECT seq FROM jobs WHERE"
             " state='expired' ORDER BY seq DESC LIMIT 1 OFFSET %zu);",
             dscm_clock_wall() - o->abduction_age_s, o->abductions, o->tombs);
    (void)dscm_journal_sql_(journal, text); /* tried again at the next sweep */
}

/* ---- opening ---- */

static dscm_code failed(dscm_journal *j, const char *what, dscm_error *err)
{
    return dscm_fail(err, DSCM_E_IO, "store sqlite:%s: cannot %s: %s", j->path, what,
                     sqlite3_errmsg(j->db));
}

/* An advisory lock of its own file: closing a second descriptor of the database would drop SQLite's
 * locks. */
static dscm_code lock_path(dscm_journal *j, dscm_error *err)
{
    char path[4200];
    snprintf(path, sizeof path, "%s.lock", j->path);
    j->lock_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (j->lock_file < 0)
        return dscm_fail(err, DSCM_E_IO, "store: cannot open %s: %s", path, strerror(errno));
    if (flock(j->lock_file, LOCK_EX | LOCK_NB) == 0) return DSCM_OK;
    return dscm_fail(err, DSCM_E_SYSTEM,
                     errno == EWOULDBLOCK ? "store: another process has sqlite:%s open"
                                          : "store: cannot lock sqlite:%s",
                     j->path);
}

static int64_t pragma(dscm_journal *j, const char *text)
{
    sqlite3_stmt *s;
    int64_t value = -1;
    if (sqlite3_prepare_v2(j->db, text, -1, &s, NULL) != SQLITE_OK) return -1;
    if (sqlite3_step(s) == SQLITE_ROW) value = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return value;
}

/* A new file gets its tables; one that is ours is taken up; any other is refused, not overwritten. */
static dscm_code prepare_tables(dscm_journal *j, dscm_error *err)
{
    int64_t tables = pragma(j, "SELECT count(*) FROM sqlite_master");
    if (tables < 0) return failed(j, "read it", err);
    int64_t application = pragma(j, "PRAGMA application_id");
    int64_t version = pragma(j, "PRAGMA user_version");
    if (tables && application != APPLICATION)
        return dscm_fail(
            err, DSCM_E_FORMAT,
            "store sqlite:%s: this database was not made by diffscm; name another file", j->path);
    if (tables && version != 1)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "store sqlite:%s has format %lld, this program reads 1", j->path,
                         (long long)version);
    if (!dscm_journal_sql_(j, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                              "PRAGMA secure_delete=ON; PRAGMA journal_size_limit=67108864"))
        return failed(j, "set it up", err);
    if (tables) return DSCM_OK;
    bool ok = dscm_journal_sql_(j, "BEGIN") && dscm_journal_sql_(j, schema) &&
              dscm_journal_sql_(j, "COMMIT");
    return ok ? DSCM_OK : failed(j, "make its tables", err);
}

dscm_code dscm_journal_file_open_(dscm_journal *j, dscm_error *err)
{
    dscm_code code = lock_path(j, err);
    if (code != DSCM_OK) return code;
    /* Made here so that nobody else can read it; SQLite gives its other files the same mode. */
    int fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return dscm_fail(err, DSCM_E_IO, "store: cannot open %s: %s", j->path, strerror(errno));
    close(fd);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(j->path, &j->db, flags, NULL) != SQLITE_OK)
        return failed(j, "open it", err);
    sqlite3_busy_timeout(j->db, BUSY_MS);
    code = prepare_tables(j, err);
    if (code != DSCM_OK) return code;
    j->full = true;
    for (int k = 0; k < OP_KINDS; k++)
        if (sqlite3_prepare_v2(j->db, sql[k], -1, &j->statements[k], NULL) != SQLITE_OK)
            return failed(j, "use its tables", err);
    if (sqlite3_open_v2(j->path, &j->reader, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK ||
        sqlite3_prepare_v2(j->reader, "SELECT key FROM abductions WHERE id=? AND owner=?", -1,
                           &j->find, NULL) != SQLITE_OK)
        return failed(j, "read it", err);
    sqlite3_busy_timeout(j->reader, BUSY_MS);
    return DSCM_OK;
}

void dscm_journal_file_close_(dscm_journal *j)
{
    sqlite3_finalize(j->find);
    sqlite3_close(j->reader);
    for (int k = 0; k < OP_KINDS; k++) sqlite3_finalize(j->statements[k]);
    sqlite3_close(j->db); /* the last connection: it writes the log back and removes it */
    if (j->lock_file >= 0) close(j->lock_file);
}

/* ---- reading ---- */

static bool was_dropped(dscm_journal *j, const char *id)
{
    bool dropped = false;
    pthread_mutex_lock(&j->lock);
    for (size_t i = 0; i < DROPPED_MAX && !dropped; i++) dropped = strcmp(j->dropped[i], id) == 0;
    pthread_mutex_unlock(&j->lock);
    return dropped;
}

dscm_blob *dscm_journal_find_abduction(dscm_journal *j, const char *id, const char *owner)
{
    dscm_blob *key = NULL;
    if (!*id || was_dropped(j, id)) return NULL;
    pthread_mutex_lock(&j->read_lock);
    bind_text(j->find, 1, id);
    bind_text(j->find, 2, owner);
    if (sqlite3_step(j->find) == SQLITE_ROW)
        key = dscm_blob_copy(sqlite3_column_blob(j->find, 0),
                             (size_t)sqlite3_column_bytes(j->find, 0));
    sqlite3_reset(j->find);
    sqlite3_clear_bindings(j->find);
    pthread_mutex_unlock(&j->read_lock);
    return key;
}

static const char *text_at(sqlite3_stmt *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s, column);
    return text ? text : "";
}

static dscm_span span_at(sqlite3_stmt *s, int column)
{
    const void *data = sqlite3_column_blob(s, column);
    return (dscm_span){data, data ? (size_t)sqlite3_column_bytes(s, column) : 0};
}

static void read_problem(dscm_problem *out, const char *code, const char *detail)
{
    int found = DSCM_PROBLEM_INTERNAL;
    for (int c = DSCM_PROBLEM_NONE + 1; c < DSCM_PROBLEM_COUNT; c++)
        if (strcmp(dscm_problem_kind_of((dscm_problem_code)c)->code, code) == 0) found = c;
    dscm_problem_set(out, (dscm_problem_code)found, "%s", detail);
}

static void read_entry(dscm_journal_entry *e, sqlite3_stmt *s)
{
    *e = (dscm_journal_entry){.id = text_at(s, 0), .owner = text_at(s, 1), .client = text_at(s, 2)};
    e->created = sqlite3_column_double(s, 3);
    e->deadline_ms = (long)sqlite3_column_int64(s, 4);
    if (sqlite3_column_type(s, 5) != SQLITE_NULL) e->key = text_at(s, 5);
    dscm_span digest = span_at(s, 6);
    if (digest.size == sizeof e->digest) memcpy(e->digest, digest.data, digest.size);
    e->promised = sqlite3_column_int(s, 7);
    e->request = span_at(s, 8);
    const char *state = text_at(s, 9), *reason = text_at(s, 10);
    for (int i = 0; i < DSCM_JOB_STATE_COUNT; i++)
        if (strcmp(dscm_job_state_name((dscm_job_state)i), state) == 0) e->state = i;
    for (int i = 0; i < DSCM_REASONS; i++)
        if (strcmp(dscm_job_reason_name((dscm_job_reason)i), reason) == 0) e->reason = i;
    e->deaths = (unsigned)sqlite3_column_int(s, 11);
    e->last_event = (uint64_t)sqlite3_column_int64(s, 12);
    e->finished = sqlite3_column_double(s, 13);
    e->result = span_at(s, 14);
    e->kind = sqlite3_column_int(s, 17);
    if (sqlite3_column_type(s, 15) != SQLITE_NULL)
        read_problem(&e->problem, text_at(s, 15), text_at(s, 16));
}

dscm_code dscm_journal_read(dscm_journal *j,
                            dscm_code (*fn)(void *arg, const dscm_journal_entry *entry,
                                            dscm_error *err),
                            void *arg, dscm_error *err)
{
    static const char query[] =
        "SELECT "
        "id,owner,client,created,deadline_ms,key,digest,promised,request,state,reason,deaths,"
        "last_event,finished,result,problem,detail,kind FROM jobs ORDER BY seq";
    sqlite3_stmt *s = NULL;
    dscm_code code = DSCM_OK;
    int result = SQLITE_ERROR;
    pthread_mutex_lock(&j->read_lock);
    if (sqlite3_prepare_v2(j->reader, query, -1, &s, NULL) == SQLITE_OK)
        while (code == DSCM_OK && (result = sqlite3_step(s)) == SQLITE_ROW) {
            dscm_journal_entry entry;
            read_entry(&entry, s);
            code = fn(arg, &entry, err);
        }
    if (code == DSCM_OK && result != SQLITE_DONE)
        code = dscm_fail(err, DSCM_E_IO, "store sqlite:%s: cannot read its jobs: %s", j->path,
                         sqlite3_errmsg(j->reader));
    sqlite3_finalize(s);
    pthread_mutex_unlock(&j->read_lock);
    return code;
}
