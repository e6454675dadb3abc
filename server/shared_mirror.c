/* Mirrors: jobs of the shared store as this process knows them, and how it learns of changes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "server/clock.h"
#include "server/shared_internal.h"

#define LISTEN_MS 200 /* between looks at whether to end */

/* ---- problems as bytes ---- */

/* Code, detail, then pointer, code and detail of each error. */
dscm_blob *dscm_shared_problem_pack_(const dscm_problem *problem)
{
    dscm_span fields[2 + 3 * DSCM_PROBLEM_ERRORS_MAX];
    size_t n = 0;
    fields[n++] = dscm_span_text(dscm_problem_kind_of(problem->code)->code);
    fields[n++] = dscm_span_text(problem->detail);
    for (size_t i = 0; i < problem->errors_count; i++) {
        fields[n++] = dscm_span_text(problem->errors[i].pointer);
        fields[n++] = dscm_span_text(dscm_problem_kind_of(problem->errors[i].code)->code);
        fields[n++] = dscm_span_text(problem->errors[i].detail);
    }
    return dscm_blob_pack(fields, n);
}

static dscm_problem_code code_of(const char *name)
{
    for (int c = 0; c < DSCM_PROBLEM_COUNT; c++)
        if (strcmp(dscm_problem_kind_of((dscm_problem_code)c)->code, name) == 0)
            return (dscm_problem_code)c;
    return DSCM_PROBLEM_INTERNAL;
}

static void unpack_problem(dscm_problem *out, dscm_span bytes)
{
    if (!dscm_blob_valid(bytes.data, bytes.size)) return;
    size_t count = dscm_blob_count_in(bytes.data);
    if (count < 2) return;
#define FIELD(i) ((const char *)dscm_blob_field_in(bytes.data, i).data)
    for (size_t i = 2; i + 2 < count; i += 3)
        dscm_problem_add(out, code_of(FIELD(i + 1)), FIELD(i), "%s", FIELD(i + 2));
    out->code = code_of(FIELD(0));
    snprintf(out->detail, sizeof out->detail, "%s", FIELD(1));
#undef FIELD
}

/* ---- replies of `load` ---- */

enum {
    LOAD_WORD,
    LOAD_STATE,
    LOAD_OWNER,
    LOAD_CLIENT,
    LOAD_WORK,
    LOAD_AGE,
    LOAD_LEFT,
    LOAD_ENDED,
    LOAD_REASON,
    LOAD_CODE,
    LOAD_DETAIL,
    LOAD_PROBLEM,
    LOAD_STEP,
    LOAD_STEPS,
    LOAD_POSITION,
    LOAD_RESULT,
    LOAD_PROMISED,
    LOAD_EVENTS
};

static dscm_job_state state_of(const char *name)
{
    for (int s = 0; s < DSCM_JOB_STATE_COUNT; s++)
        if (strcmp(dscm_job_state_name((dscm_job_state)s), name) == 0) return (dscm_job_state)s;
    return DSCM_JOB_FAILED;
}

static dscm_job_reason reason_of(const char *name)
{
    dscm_job_reason found = DSCM_REASON_NONE;
    for (int r = 0; r < DSCM_REASONS; r++)
        if (strcmp(dscm_job_reason_name((dscm_job_reason)r), name) == 0) found = (dscm_job_reason)r;
    return found;
}

static void fail_end(dscm_job_end *end, dscm_problem_code code, const char *detail)
{
    end->state = DSCM_JOB_FAILED;
    end->problem = dscm_alloc(1, sizeof *end->problem, "a problem", NULL);
    if (end->problem) dscm_problem_set(end->problem, code, "%s", detail);
}

static void end_of(dscm_job_end *end, dscm_job_state state, const dscm_redis_reply *reply)
{
    dscm_span result = dscm_redis_bytes(dscm_redis_at(reply, LOAD_RESULT));
    *end = (dscm_job_end){.state = state, .reason = reason_of(dscm_redis_text(reply, LOAD_REASON))};
    if (state == DSCM_JOB_SUCCEEDED) {
        bool valid = dscm_outcome_valid(result.data, result.size);
        dscm_blob *outcome = valid ? dscm_blob_copy(result.data, result.size) : NULL;
        if (outcome)
            end->result = dscm_outcome_payload(outcome);
        else
            fail_end(end, DSCM_PROBLEM_INTERNAL,
                     valid ? "there is no memory for the stored result"
                           : "the stored result cannot be read");
    } else if (state == DSCM_JOB_FAILED) {
        fail_end(end, code_of(dscm_redis_text(reply, LOAD_CODE)),
                 dscm_redis_text(reply, LOAD_DETAIL));
        if (end->problem && !*dscm_redis_text(reply, LOAD_CODE)) {
            *end->problem = (dscm_problem){0};
            unpack_problem(end->problem, dscm_redis_bytes(dscm_redis_at(reply, LOAD_PROBLEM)));
        }
    }
}

/* Text of the last event, where Redis leaves it to be made from how the job ended; to be freed. */
static char *end_text(const dscm_job_end *end)
{
    size_t size;
    char *text = NULL;
    if (end->problem) text = dscm_problem_json(end->problem, NULL, NULL, &size);
    if (end->state == DSCM_JOB_SUCCEEDED) text = strdup(dscm_outcome_json(end->result.data).data);
    if (text) text[strcspn(text, "\n")] = 0; /* data of an event is one line */
    return text;
}

/* Events of the reply; returns how many. The text belongs to the reply, but for *made, which the
 * caller frees. */
static size_t events_of(const dscm_redis_reply *list, dscm_event *out, const dscm_job_end *end,
                        char **made)
{
    size_t count = 0;
    for (size_t i = 0; i + 2 < dscm_redis_count(list) && count < DSCM_EVENTS_MAX; i += 3) {
        dscm_event *event = &out[count];
        event->id = strtoull(dscm_redis_text(list, i), NULL, 10);
        event->data = (char *)(uintptr_t)dscm_redis_text(list, i + 2);
        if (!dscm_event_find(dscm_redis_text(list, i + 1), &event->kind)) continue;
        count++;
        if (*event->data || !end) continue;
        if (!*made) *made = end_text(end);
        event->data = *made ? *made : (char *)(uintptr_t) "{}";
    }
    return count;
}

static void update(dscm_job *job, const dscm_redis_reply *reply)
{
    dscm_event events[DSCM_EVENTS_MAX];
    dscm_job_end end;
    char *made = NULL;
    dscm_job_state state = state_of(dscm_redis_text(reply, LOAD_STATE));
    bool over = state >= DSCM_JOB_SUCCEEDED, ended = dscm_job_ended(job);
    if (ended) return;
    if (over) end_of(&end, state, reply);
    dscm_job_news news = {
        .state = state,
        .step = strtoul(dscm_redis_text(reply, LOAD_STEP), NULL, 10),
        .steps = strtoul(dscm_redis_text(reply, LOAD_STEPS), NULL, 10),
        .position = strtoul(dscm_redis_text(reply, LOAD_POSITION), NULL, 10),
        .events = events,
        .count = events_of(dscm_redis_at(reply, LOAD_EVENTS), events, over ? &end : NULL, &made),
        .end = over ? &end : NULL};
    if (over) dscm_task_drop(job); /* before others can learn that it is over */
    dscm_job_update(job, &news);
    if (over) {
        int64_t age = atoll(dscm_redis_text(reply, LOAD_ENDED));
        pthread_mutex_lock(&job->lock);
        job->finished_us -= age * 1000;
        pthread_mutex_unlock(&job->lock);
    }
    free(made);
}

/* ---- mirrors ---- */

static dscm_job *make_mirror(dscm_shared *shared, const char *id, const dscm_redis_reply *reply)
{
    dscm_jobs *jobs = shared->service->jobs;
    dscm_payload task;
    dscm_job *job = NULL, *existing = NULL;
    bool same;
    int work = atoi(dscm_redis_text(reply, LOAD_WORK));
    if (dscm_task_make_bare(&task, (dscm_work)(work >= 0 && work <= DSCM_WORK_SAMPLE ? work : 0),
                            NULL) != DSCM_OK)
        return NULL;
    if (dscm_job_create(
            &job, dscm_redis_text(reply, LOAD_OWNER), dscm_redis_text(reply, LOAD_CLIENT), task,
            dscm_clock_ms() + atoll(dscm_redis_text(reply, LOAD_LEFT)), true, NULL) != DSCM_OK) {
        task.release(task.data);
        return NULL;
    }
    int64_t age_ms = atoll(dscm_redis_text(reply, LOAD_AGE));
    snprintf(job->id, sizeof job->id, "%s", id);
    job->mirror = true;
    job->record = DSCM_RECORD_DURABLE;
    job->created_us -= age_ms * 1000;
    job->created_wall -= (double)age_ms * 1e-3;
    atomic_store(&job->detached, strcmp(dscm_redis_text(reply, LOAD_PROMISED), "1") == 0);
    if (jobs->put(jobs, job, NULL, NULL, &existing, &same, NULL) != DSCM_OK) {
        dscm_job_unref(job);
        return NULL;
    }
    return job;
}

static void fail_ticket(dscm_job *ticket, dscm_problem_code code, const char *detail)
{
    dscm_problem problem = {0};
    dscm_problem_set(&problem, code, "%s", detail);
    dscm_job_refuse(ticket, &problem);
}

/* The store has no such job, or not for this owner. */
static void not_loaded(dscm_shared *shared, dscm_shared_op *op, const dscm_redis_reply *reply)
{
    bool own = strcmp(dscm_redis_text(reply, 1), op->owner) == 0;
    bool expired = reply && strcmp(dscm_redis_text(reply, 0), "expired") == 0 && own;
    if (op->ticket && !reply)
        fail_ticket(op->ticket, DSCM_PROBLEM_STORE_UNAVAILABLE,
                    "the store does not answer; try again in a moment");
    else if (op->ticket)
        fail_ticket(op->ticket, expired ? DSCM_PROBLEM_EXPIRED : DSCM_PROBLEM_NOT_FOUND,
                    expired ? "the job's result was kept for a while and is gone"
                            : "there is no such job");
    if (!op->job || (!reply && strcmp(op->job->id, op->id) == 0)) return;
    /* Accepted once and gone: Redis lost its memory. */
    dscm_problem problem = {0};
    dscm_problem_set(&problem, DSCM_PROBLEM_STORE_UNAVAILABLE,
                     reply ? "the store has lost this job: send the request again"
                           : "the store does not answer; try again in a moment");
    atomic_fetch_add(&shared->service->metrics.rejects[DSCM_REJECT_STORE], 1);
    dscm_task_drop(op->job);
    dscm_job_refuse(op->job, &problem);
}

/* The job that asked leads to the earlier job of its key. */
static void lead(dscm_shared *shared, dscm_job *asker, dscm_job *mirror)
{
    dscm_jobs *jobs = shared->service->jobs;
    atomic_fetch_add(&shared->service->metrics.idempotent_hits, 1);
    jobs->forget(jobs, asker);
    dscm_task_drop(asker);
    pthread_mutex_lock(&asker->lock);
    asker->other = dscm_job_ref(mirror);
    pthread_mutex_unlock(&asker->lock);
    dscm_job_record(asker, DSCM_RECORD_DURABLE);
}

void dscm_shared_loaded_(dscm_shared *shared, dscm_shared_op *op, const dscm_redis_reply *reply)
{
    dscm_jobs *jobs = shared->service->jobs;
    bool asked = op->ticket || (op->job && strcmp(op->job->id, op->id) != 0);
    bool found = reply && strcmp(dscm_redis_text(reply, 0), "job") == 0 &&
                 (!asked || strcmp(dscm_redis_text(reply, LOAD_OWNER), op->owner) == 0);
    if (!found) {
        not_loaded(shared, op, reply);
        return;
    }
    dscm_job *mirror = jobs->get(jobs, op->id);
    if (!mirror) mirror = make_mirror(shared, op->id, reply);
    if (!mirror) {
        not_loaded(shared, op, NULL);
        return;
    }
    update(mirror, reply);
    if (op->ticket) {
        dscm_job_end end = {.state = DSCM_JOB_SUCCEEDED};
        dscm_job_publish(op->ticket, &end);
    }
    if (op->job && op->job != mirror && asked) lead(shared, op->job, mirror);
    dscm_job_unref(mirror);
}

void dscm_shared_refresh_(dscm_shared *shared, dscm_job *mirror)
{
    if (!mirror->mirror || dscm_job_ended(mirror) || atomic_exchange(&mirror->stale, true)) return;
    dscm_shared_op *op = dscm_shared_op_make_(OP_LOAD, mirror, NULL);
    if (op)
        dscm_shared_enqueue_(shared, op);
    else
        atomic_store(&mirror->stale, false);
}

static void refresh_one(void *arg, dscm_job *job)
{
    if (dscm_job_recorded(job) == DSCM_RECORD_DURABLE) dscm_shared_refresh_(arg, job);
}

void dscm_shared_refresh_all_(dscm_shared *shared)
{
    dscm_jobs *jobs = shared->service->jobs;
    jobs->each_live(jobs, refresh_one, shared);
}

/* ---- the thread that listens ---- */

static void hear(dscm_shared *shared, const char *channel, const char *text)
{
    dscm_service *s = shared->service;
    if (strcmp(channel, "diffscm:bell") == 0) {
        dscm_job *mirror = s->jobs->get(s->jobs, text);
        if (mirror) refresh_one(shared, mirror);
        dscm_job_unref(mirror);
    } else if (strcmp(channel, "diffscm:work") == 0) {
        dscm_shared_wake_(shared, false);
    } else if (strcmp(channel, "diffscm:cancel") == 0) {
        dscm_shared_wake_(shared, true);
    } else if (strcmp(channel, "diffscm:drop") == 0) {
        dscm_abduction_cache_forget(s->abductions, text);
    }
}

/* What was said while nobody listened is read again. */
static dscm_redis *subscribe(dscm_shared *shared)
{
    dscm_redis *redis;
    dscm_span args[] = {dscm_span_text("SUBSCRIBE"), dscm_span_text("diffscm:bell"),
                        dscm_span_text("diffscm:work"), dscm_span_text("diffscm:cancel"),
                        dscm_span_text("diffscm:drop")};
    if (dscm_redis_open(&redis, &shared->address, dscm_shared_io_ms_(shared), NULL) != DSCM_OK)
        return NULL;
    bool ok = dscm_redis_send(redis, args, 5);
    for (size_t i = 0; ok && i < 4; i++) {
        dscm_redis_reply *reply = dscm_redis_receive(redis);
        ok = reply && !dscm_redis_failure(reply);
        dscm_redis_reply_free(reply);
    }
    if (!ok) {
        dscm_redis_close(redis);
        return NULL;
    }
    dscm_shared_refresh_all_(shared);
    dscm_shared_wake_(shared, true);
    return redis;
}

void *dscm_shared_listen_(void *arg)
{
    dscm_shared *shared = arg;
    dscm_redis *redis = NULL;
    while (!atomic_load(&shared->ending)) {
        dscm_redis_reply *reply = NULL;
        if (!redis && !(redis = subscribe(shared))) {
            struct timespec nap = {0, LISTEN_MS * 1000000L};
            nanosleep(&nap, NULL);
            continue;
        }
        if (!dscm_redis_listen(redis, shared->ending_fd, LISTEN_MS, &reply)) {
            dscm_redis_close(redis);
            redis = NULL;
            continue;
        }
        if (reply && strcmp(dscm_redis_text(reply, 0), "message") == 0)
            hear(shared, dscm_redis_text(reply, 1), dscm_redis_text(reply, 2));
        dscm_redis_reply_free(reply);
    }
    dscm_redis_close(redis);
    return NULL;
}
