/* The journal on a real file: what is written is read again, also after a death of the process; a file that
 * cannot be written; a full disk is played by a file-size limit. */
#include "server/journal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/clock.h"
#include "tests/harness.h"

static char folder[] = "/tmp/diffscm-journal-XXXXXX", path[64];
static atomic_int refusals, troubles;

static void count_refusal(void *arg, dscm_job *job, const char *why)
{
    (void)arg, (void)job;
    CHECK(why && *why);
    atomic_fetch_add(&refusals, 1);
}

static void count_trouble(void *arg, const char *why)
{
    (void)arg;
    if (why) atomic_fetch_add(&troubles, 1);
}

static dscm_code open_at(dscm_journal **out, const char *file, dscm_error *err)
{
    const dscm_journal_options options = {.path = file,
                                          .abduction_age_s = 1000,
                                          .abductions = 4,
                                          .tombs = 100,
                                          .refused = count_refusal,
                                          .trouble = count_trouble};
    return dscm_journal_open(out, &options, err);
}

static dscm_journal *open_new(void)
{
    dscm_journal *journal = NULL;
    dscm_error err = {0};
    char log[80];
    unlink(path);
    snprintf(log, sizeof log, "%s-wal", path);
    unlink(log);
    if (open_at(&journal, path, &err) != DSCM_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return journal;
}

static dscm_job *make(dscm_journal *journal, const char *owner)
{
    dscm_job *job = NULL;
    if (dscm_job_create(&job, owner, owner, (dscm_payload){0}, DSCM_NEVER, true, NULL)) abort();
    job->sink = dscm_journal_sink(journal);
    return job;
}

static void accept(dscm_journal *journal, dscm_job *job, const char *request, const char *key)
{
    static const uint8_t digest[DSCM_DIGEST_SIZE] = {7, 8};
    dscm_journal_op *op = NULL;
    dscm_blob *blob = dscm_blob_copy(request, strlen(request));
    if (!blob || dscm_journal_prepare(&op, job, 2, blob, key, digest, NULL) != DSCM_OK) abort();
    dscm_blob_unref(blob);
    dscm_job_record(job, DSCM_RECORD_PENDING);
    dscm_journal_accept(journal, op, true);
}

static void await_record(dscm_job *job, dscm_record want)
{
    int64_t until = dscm_clock_ms() + 60000;
    while (dscm_job_recorded(job) == DSCM_RECORD_PENDING && dscm_clock_ms() < until) usleep(1000);
    CHECK_INT(dscm_job_recorded(job), want);
}

static void await_end(dscm_job *job)
{
    int64_t until = dscm_clock_ms() + 60000;
    while (!dscm_job_ended(job) && dscm_clock_ms() < until) usleep(1000);
    CHECK(dscm_job_ended(job));
}

/* ---- what a reading found ---- */

typedef struct found {
    char id[DSCM_ID_SIZE], owner[DSCM_OWNER_SIZE], key[64], request[64], result[64];
    dscm_job_state state;
    dscm_job_reason reason;
    dscm_problem problem;
    unsigned deaths;
    int kind;
    uint8_t digest;
    bool promised;
} found;

static found list[8];
static size_t listed;

static void copy(char *out, size_t size, dscm_span span)
{
    snprintf(out, size, "%.*s", (int)span.size, span.size ? (const char *)span.data : "");
}

static dscm_code note(void *arg, const dscm_journal_entry *e, dscm_error *err)
{
    (void)arg, (void)err;
    if (listed == TEST_COUNT(list)) return DSCM_E_LIMIT;
    found *f = &list[listed++];
    *f = (found){.state = e->state,
                 .reason = e->reason,
                 .problem = e->problem,
                 .deaths = e->deaths,
                 .kind = e->kind,
                 .digest = e->key ? e->digest[1] : 0,
                 .promised = e->promised};
    snprintf(f->id, sizeof f->id, "%s", e->id);
    snprintf(f->owner, sizeof f->owner, "%s", e->owner);
    snprintf(f->key, sizeof f->key, "%s", e->key ? e->key : "");
    copy(f->request, sizeof f->request, e->request);
    copy(f->result, sizeof f->result, e->result);
    CHECK(e->created > 0 && e->created <= dscm_clock_wall());
    return DSCM_OK;
}

static dscm_journal *reopen(dscm_journal *journal)
{
    dscm_error err = {0};
    dscm_journal_free(journal);
    if (open_at(&journal, path, &err) != DSCM_OK) abort();
    listed = 0;
    CHECK_INT(dscm_journal_read(journal, note, NULL, &err), DSCM_OK);
    return journal;
}

static void release_blob(void *blob)
{
    dscm_blob_unref(blob);
}

static void jobs_are_read_again_as_they_were(void)
{
    dscm_journal *journal = open_new();
    CHECK_INT(dscm_journal_read(journal, note, NULL, NULL), DSCM_OK);
    CHECK_INT(listed, 0);
    dscm_job *waiting = make(journal, "anna"), *done = make(journal, "bert"),
             *failed = make(journal, "bert"), *canceled = make(journal, ""),
             *running = make(journal, "anna");
    accept(journal, waiting, "request one", "key-1");
    accept(journal, done, "request two", NULL);
    accept(journal, failed, "request three", NULL);
    accept(journal, canceled, "request four", NULL);
    accept(journal, running, "request five", NULL);
    await_record(waiting, DSCM_RECORD_DURABLE);
    await_record(running, DSCM_RECORD_DURABLE);
    CHECK(dscm_job_start(done) && dscm_job_start(failed) && dscm_job_start(running));
    dscm_job *const starts[] = {done, failed, running};
    dscm_journal_start(journal, starts, 3);
    dscm_blob *reply = dscm_blob_copy("the reply", 9);
    REQUIRE(reply != NULL);
    dscm_problem problem = {0};
    dscm_problem_set(&problem, DSCM_PROBLEM_INTERNAL, "it broke");
    dscm_job_succeed(done, (dscm_payload){reply, release_blob, reply->size}, NULL);
    dscm_job_fail(failed, &problem, NULL);
    dscm_job_cancel(canceled, DSCM_REASON_CLIENT);
    await_end(done);
    await_end(failed);
    await_end(canceled);
    journal = reopen(journal);
    REQUIRE(listed == 5);
    CHECK_STR(list[0].id, waiting->id); /* in the order of arrival */
    CHECK_STR(list[0].owner, "anna");
    CHECK_STR(list[0].key, "key-1");
    CHECK_INT(list[0].digest, 8);
    CHECK_STR(list[0].request, "request one");
    CHECK_INT(list[0].state, DSCM_JOB_QUEUED);
    CHECK_INT(list[0].kind, 2);
    CHECK_INT(list[0].deaths, 0);
    CHECK(list[0].promised);
    CHECK_INT(list[1].state, DSCM_JOB_SUCCEEDED);
    CHECK_STR(list[1].result, "the reply");
    CHECK_STR(list[1].request, ""); /* not needed any more */
    CHECK_STR(list[1].key, "");
    CHECK_INT(list[2].state, DSCM_JOB_FAILED);
    CHECK_INT(list[2].problem.code, DSCM_PROBLEM_INTERNAL);
    CHECK_STR(list[2].problem.detail, "it broke");
    CHECK_INT(list[3].state, DSCM_JOB_CANCELED);
    CHECK_INT(list[3].reason, DSCM_REASON_CLIENT);
    CHECK_INT(list[4].state, DSCM_JOB_QUEUED); /* it ran when the process ended */
    CHECK_INT(list[4].deaths, 1);
    CHECK_STR(list[4].request, "request five");
    dscm_journal_free(journal);
    dscm_job *const all[] = {waiting, done, failed, canceled, running};
    for (size_t i = 0; i < TEST_COUNT(all); i++) dscm_job_unref(all[i]);
}

/* A stop is no death: a released job counts none. */
static void a_released_job_counts_no_death(void)
{
    dscm_journal *journal = open_new();
    dscm_job *job = make(journal, "a");
    accept(journal, job, "request", NULL);
    await_record(job, DSCM_RECORD_DURABLE);
    CHECK(dscm_job_start(job));
    dscm_journal_start(journal, &job, 1);
    dscm_job_release(job);
    dscm_job_stopped(job);
    journal = reopen(journal);
    REQUIRE(listed == 1);
    CHECK_INT(list[0].state, DSCM_JOB_QUEUED);
    CHECK_INT(list[0].deaths, 0);
    dscm_journal_free(journal);
    dscm_job_unref(job);
}

static void an_expired_job_keeps_its_id_only(void)
{
    dscm_journal *journal = open_new();
    dscm_job *job = make(journal, "a");
    accept(journal, job, "request", NULL);
    dscm_blob *reply = dscm_blob_copy("the reply", 9);
    REQUIRE(reply != NULL && dscm_job_start(job));
    dscm_job_succeed(job, (dscm_payload){reply, release_blob, reply->size}, NULL);
    await_end(job);
    dscm_journal_expire(journal, job->id);
    journal = reopen(journal);
    REQUIRE(listed == 1);
    CHECK_INT(list[0].state, DSCM_JOB_EXPIRED);
    CHECK_STR(list[0].result, "");
    dscm_journal_free(journal);
    dscm_job_unref(job);
}

static void abductions_are_their_owners(void)
{
    dscm_journal *journal = open_new();
    char id[DSCM_ID_SIZE], ids[6][DSCM_ID_SIZE];
    dscm_blob *key;
    REQUIRE(dscm_crypto_id(id, NULL) == DSCM_OK);
    dscm_journal_keep_abduction(journal, id, "anna", "pixels", 6);
    journal = reopen(journal);
    key = dscm_journal_find_abduction(journal, id, "anna");
    REQUIRE(key != NULL);
    CHECK_INT(key->size, 6);
    CHECK(memcmp(key->bytes, "pixels", 6) == 0);
    dscm_blob_unref(key);
    CHECK(dscm_journal_find_abduction(journal, id, "bert") == NULL);
    dscm_journal_drop_abduction(journal, id);
    CHECK(dscm_journal_find_abduction(journal, id, "anna") == NULL); /* before it is written, too */
    for (int i = 0; i < 6; i++) {
        REQUIRE(dscm_crypto_id(ids[i], NULL) == DSCM_OK);
        dscm_journal_keep_abduction(journal, ids[i], "anna", "pixels", 6);
    }
    journal = reopen(journal);
    CHECK(dscm_journal_find_abduction(journal, id, "anna") == NULL);
    key = dscm_journal_find_abduction(journal, ids[5], "anna");
    CHECK(key != NULL);
    dscm_blob_unref(key);
    dscm_journal_free(journal);
}

/* No file may grow any more while `full`. */
static void disk(bool full)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = full ? 1 : limit.rlim_max;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

/* What cannot be written is refused before it is promised; an end is told all the same, and written once
 * the disk takes it. */
static void a_full_disk_refuses_jobs_and_tells_ends(void)
{
    dscm_journal *journal = open_new();
    dscm_job *running = make(journal, "a"), *late = make(journal, "a");
    accept(journal, running, "request", NULL);
    await_record(running, DSCM_RECORD_DURABLE);
    CHECK(dscm_job_start(running));
    dscm_blob *reply = dscm_blob_copy("the reply", 9);
    REQUIRE(reply != NULL);
    atomic_store(&refusals, 0);
    atomic_store(&troubles, 0);
    disk(true);
    accept(journal, late, "request", NULL);
    int64_t until = dscm_clock_ms() + 60000;
    while (!atomic_load(&refusals) && dscm_clock_ms() < until) usleep(1000);
    dscm_job_succeed(running, (dscm_payload){reply, release_blob, reply->size}, NULL);
    await_end(running);
    dscm_journal_figures figures;
    dscm_journal_count(journal, &figures);
    disk(false);
    CHECK_INT(atomic_load(&refusals), 1);
    CHECK_INT(atomic_load(&troubles), 1); /* told once */
    CHECK(figures.failures >= 2);
    const unsigned long long before = figures.written;
    while (figures.written == before && dscm_clock_ms() < until) {
        usleep(1000);
        dscm_journal_count(journal, &figures);
    }
    journal = reopen(journal);
    CHECK_INT(listed, 1);
    CHECK_INT(list[0].state, DSCM_JOB_SUCCEEDED);
    CHECK_STR(list[0].result, "the reply");
    dscm_journal_free(journal);
    dscm_job_unref(running);
    dscm_job_unref(late);
}

static void a_file_has_one_process_and_one_reader(void)
{
    dscm_journal *journal = open_new(), *second = NULL;
    struct stat about;
    dscm_error err = {0};
    CHECK_INT(stat(path, &about), 0);
    CHECK_INT(about.st_mode & 0777, 0600);
    CHECK(open_at(&second, path, &err) != DSCM_OK);
    CHECK_HAS(err.message, path);
    dscm_journal_free(journal);
    err = (dscm_error){0};
    CHECK(open_at(&second, "/tmp/diffscm-no-such-folder/jobs.db", &err) != DSCM_OK);
    CHECK_HAS(err.message, "/tmp/diffscm-no-such-folder/jobs.db");
    FILE *other = fopen(path, "w");
    REQUIRE(other != NULL);
    for (int i = 0; i < 2000; i++) fputs("this is no database\n", other);
    fclose(other);
    err = (dscm_error){0};
    CHECK(open_at(&second, path, &err) != DSCM_OK);
    CHECK_HAS(err.message, path);
    CHECK(second == NULL);
    dscm_journal_free(NULL);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"jobs_are_read_again_as_they_were", jobs_are_read_again_as_they_were},
        {"a_released_job_counts_no_death", a_released_job_counts_no_death},
        {"an_expired_job_keeps_its_id_only", an_expired_job_keeps_its_id_only},
        {"abductions_are_their_owners", abductions_are_their_owners},
        {"a_full_disk_refuses_jobs_and_tells_ends", a_full_disk_refuses_jobs_and_tells_ends},
        {"a_file_has_one_process_and_one_reader", a_file_has_one_process_and_one_reader},
    };
    signal(SIGXFSZ, SIG_IGN);
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/jobs.db", folder);
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    char command[100];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command) == 0 ? status : 1;
}
