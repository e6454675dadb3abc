/* From the journal back into the service: finished jobs are served again, unfinished ones run. */
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "server/clock.h"
#include "server/service.h"
#include "server/stored_request.h"

/* ---- opening ---- */

/* The journal could not write an accepted job: nobody was told that it is accepted. */
static void refused(void *arg, dscm_job *job, const char *why)
{
    dscm_service *service = arg;
    dscm_problem problem = {0};
    (void)why; /* logged as trouble; clients need not know about the disk */
    dscm_problem_set(&problem, DSCM_PROBLEM_STORE_UNAVAILABLE,
                     "the job could not be written to the store; try again in a moment");
    atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_STORE], 1);
    service->jobs->forget(service->jobs, job);
    bool queued = dscm_queue_remove(service->queue, job);
    dscm_job_refuse(job, &problem);
    if (!queued) return;
    dscm_task_drop(job);
    dscm_job_unref(job);
}

static void trouble(void *arg, const char *why)
{
    const dscm_service *service = arg;
    dscm_log_message(&service->log, why ? DSCM_LOG_ERROR : DSCM_LOG_INFO, "store", "%s%s",
                     why ? "cannot write to the store: " : "the store can be written again",
                     why ? why : "");
}

dscm_code dscm_service_journal_open(dscm_service *service, dscm_error *err)
{
    const dscm_settings *o = &service->settings;
    if (strncmp(o->store, "sqlite:", 7) != 0) return DSCM_OK;
    dscm_journal_options options = {.path = o->store + 7,
                                    .abduction_age_s = (double)o->abductions_age_s,
                                    .abductions = (size_t)o->abductions_mb << 10,
                                    .tombs = DSCM_JOBS_EXPIRED_MAX,
                                    .refused = refused,
                                    .trouble = trouble,
                                    .arg = service};
    return dscm_journal_open(&service->journal, &options, err);
}

/* ---- reading ---- */

typedef struct recovery {
    dscm_service *service;
    size_t finished, queued, room; /* room: of the backlog */
    double now;                    /* Unix time */
} recovery;

/* The request to run, or false with the reason why it cannot be run any more. */
static bool parse(const recovery *r, const dscm_journal_entry *e, dscm_request **out,
                  char inferred[DSCM_ID_SIZE], dscm_problem *problem)
{
    dscm_service *service = r->service;
    if (e->deaths) atomic_fetch_add(&service->metrics.interrupted, 1);
    if (e->deaths >= DSCM_DEATHS_MAX) {
        atomic_fetch_add(&service->metrics.crashed, 1);
        dscm_problem_set(problem, DSCM_PROBLEM_JOB_CRASHED,
                         "the service ended %u times while it ran this job: it is not tried again",
                         e->deaths);
        return false;
    }
    if (!dscm_stored_request_parse(out, e->request.data, e->request.size, &service->catalogue,
                                   problem))
        return false;
    if (!*(*out)->abduction) return true;
    snprintf(inferred, DSCM_ID_SIZE, "%s", (*out)->abduction);
    dscm_blob *key = dscm_journal_find_abduction(service->journal, inferred, e->owner);
    bool found = key && dscm_stored_abduction_apply(*out, key->bytes, key->size, NULL);
    dscm_blob_unref(key);
    if (found) return true;
    dscm_problem_add(problem, DSCM_PROBLEM_UNKNOWN_ABDUCTION, "/abduction",
                     "the abduction \"%s\" expired before the job ran: send the image", inferred);
    dscm_request_free(*out);
    *out = NULL;
    return false;
}

static int64_t deadline_of(const recovery *r, const dscm_journal_entry *e)
{
    if (!e->deadline_ms) return DSCM_NEVER;
    /* The wall clock may have been set back meanwhile: never more than what was granted. */
    double left = (e->created - r->now) * 1e3 + (double)e->deadline_ms;
    if (left > (double)e->deadline_ms) left = (double)e->deadline_ms;
    return dscm_clock_ms() + (left > 0 ? (int64_t)left : 0);
}

/* What the entry tells of the job itself. */
static void set_identity(dscm_job *job, const dscm_journal_entry *e, const recovery *r)
{
    snprintf(job->id, sizeof job->id, "%s", e->id);
    double age = r->now > e->created ? r->now - e->created : 0;
    job->created_us -= (int64_t)(age * 1e6);
    job->created_wall = e->created;
    job->deaths = e->deaths;
    if (e->deaths) job->last_event = (uint64_t)e->deaths * DSCM_EVENTS_PER_RUN;
    job->sink = dscm_journal_sink(r->service->journal);
    job->record = DSCM_RECORD_DURABLE;
}

/* The terminal event is made from what the job ended with. */
static dscm_code end_of(dscm_job_end *end, const dscm_journal_entry *e, dscm_error *err)
{
    char reason[64];
    size_t size;
    *end = (dscm_job_end){.state = e->state, .reason = e->reason};
    if (e->state == DSCM_JOB_SUCCEEDED) {
        if (!dscm_outcome_valid(e->result.data, e->result.size))
            return dscm_fail(err, DSCM_E_FORMAT, "store: the result of job %s cannot be read",
                             e->id);
        dscm_blob *outcome = dscm_blob_copy(e->result.data, e->result.size);
        if (!outcome) return dscm_fail(err, DSCM_E_MEMORY, "no memory for stored results");
        end->result = dscm_outcome_payload(outcome);
        end->data = dscm_strdup(dscm_outcome_json(outcome).data, NULL);
    } else if (e->state == DSCM_JOB_FAILED) {
        end->problem = dscm_alloc(1, sizeof *end->problem, "a problem", NULL);
        if (end->problem) *end->problem = e->problem;
        char *text = dscm_problem_json(&e->problem, NULL, NULL, &size);
        end->data = text ? dscm_strdup(text, NULL) : NULL;
        free(text);
    } else {
        snprintf(reason, sizeof reason, "{\"reason\":\"%s\"}", dscm_job_reason_name(e->reason));
        end->data = dscm_strdup(reason, NULL);
    }
    if (end->data) end->data[strcspn(end->data, "\n")] = 0; /* data of an event is one line */
    return DSCM_OK;
}

static dscm_code restore_end(dscm_job *job, const dscm_journal_entry *e, const recovery *r,
                             dscm_error *err)
{
    dscm_job_end end;
    dscm_code code = end_of(&end, e, err);
    if (code != DSCM_OK) return code;
    if (e->last_event) job->last_event = e->last_event - 1;
    dscm_job_publish(job, &end);
    double age = r->now > e->finished ? r->now - e->finished : 0;
    pthread_mutex_lock(&job->lock);
    job->finished_us -= (int64_t)(age * 1e6);
    pthread_mutex_unlock(&job->lock);
    return DSCM_OK;
}

static dscm_code add_to_backlog(recovery *r, dscm_job *job, dscm_error *err)
{
    dscm_service *s = r->service;
    if (s->backlog_count == r->room) {
        size_t room = r->room ? 2 * r->room : 64;
        dscm_job **grown = realloc(s->backlog, room * sizeof *grown);
        if (!grown) return dscm_fail(err, DSCM_E_MEMORY, "no memory for stored jobs");
        s->backlog = grown;
        r->room = room;
    }
    s->backlog[s->backlog_count++] = dscm_job_ref(job);
    atomic_fetch_add(&s->backlog_waiting, 1);
    r->queued++;
    return DSCM_OK;
}

/* What becomes of a job that had not ended. */
static dscm_code resume(recovery *r, dscm_job *job, const dscm_journal_entry *e,
                        const dscm_problem *problem, dscm_error *err)
{
    if (problem->code != DSCM_PROBLEM_NONE) {
        size_t size;
        char *data = dscm_problem_json(problem, NULL, NULL, &size);
        if (data) data[strcspn(data, "\n")] = 0;
        dscm_job_fail(job, problem, data);
        free(data);
        return DSCM_OK;
    }
    if (!e->promised) { /* its client's connection ended with the process */
        dscm_job_cancel(job, DSCM_REASON_DISCONNECT);
        return DSCM_OK;
    }
    return add_to_backlog(r, job, err);
}

static dscm_code make_job(recovery *r, const dscm_journal_entry *e, dscm_job **out,
                          dscm_problem *problem, dscm_error *err)
{
    dscm_service *service = r->service;
    dscm_request *request = NULL;
    char inferred[DSCM_ID_SIZE] = "";
    dscm_payload task;
    bool open = e->state == DSCM_JOB_QUEUED;
    size_t cost = 0;
    dscm_code code = DSCM_OK;
    if (open && e->promised && parse(r, e, &request, inferred, problem)) {
        cost = dscm_request_cost(request);
        code = dscm_task_make(&task, request, NULL, service->abductions, err);
        if (code == DSCM_OK)
            memcpy(((dscm_task *)task.data)->abduction, inferred, sizeof inferred);
        else
            dscm_request_free(request);
    } else {
        code = dscm_task_make_bare(&task, (dscm_work)e->kind, err);
    }
    if (code != DSCM_OK) return code;
    code = dscm_job_create(out, e->owner, e->client, task, deadline_of(r, e), true, err);
    if (code == DSCM_OK)
        (*out)->cost = cost;
    else
        task.release(task.data);
    return code;
}

static dscm_code restore(void *arg, const dscm_journal_entry *e, dscm_error *err)
{
    recovery *r = arg;
    dscm_jobs *jobs = r->service->jobs;
    dscm_problem problem = {0};
    dscm_job *job = NULL, *existing = NULL;
    bool same;
    if (e->state == DSCM_JOB_EXPIRED) {
        jobs->put_expired(jobs, e->id, e->owner);
        return DSCM_OK;
    }
    dscm_code code = make_job(r, e, &job, &problem, err);
    if (code != DSCM_OK) return code;
    set_identity(job, e, r);
    if (e->state != DSCM_JOB_QUEUED) {
        code = restore_end(job, e, r, err);
        r->finished++;
    }
    if (code == DSCM_OK) code = jobs->put(jobs, job, e->key, e->digest, &existing, &same, err);
    if (code == DSCM_OK && e->state == DSCM_JOB_QUEUED) code = resume(r, job, e, &problem, err);
    dscm_job_unref(existing);
    dscm_job_unref(job);
    return code;
}

dscm_code dscm_service_recover(dscm_service *service, dscm_error *err)
{
    if (!service->journal) return DSCM_OK;
    recovery r = {.service = service, .now = dscm_clock_wall()};
    dscm_code code = dscm_journal_read(service->journal, restore, &r, err);
    if (code == DSCM_OK)
        dscm_log_message(&service->log, DSCM_LOG_INFO, "store", "%s: %zu finished jobs, %zu to run",
                         service->settings.store, r.finished, r.queued);
    return code;
}

void dscm_service_queue_backlog(dscm_service *service)
{
    size_t left = 0;
    for (size_t i = 0; i < service->backlog_count; i++) {
        dscm_job *job = service->backlog[i];
        if (job->deadline_ms <= dscm_clock_ms() && dscm_job_cancel(job, DSCM_REASON_DEADLINE))
            atomic_fetch_add(&service->metrics.jobs[DSCM_JOB_CANCELED][DSCM_REASON_DEADLINE], 1);
        if (dscm_job_over(job) || atomic_load(&job->stop)) {
            dscm_task_drop(job);
            dscm_job_unref(job);
        } else if (dscm_queue_push(service->queue, job, NULL, NULL) != DSCM_PUSHED) {
            service->backlog[left++] = job;
        }
    }
    service->backlog_count = left;
    atomic_store(&service->backlog_waiting, left);
}
