#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/multipart.h"
#include "api/query.h"
#include "server/clock.h"
#include "server/routes.h"
#include "server/stored_request.h"

/* One submission on its way from the request to the queue. */
typedef struct submission {
    dscm_service *service;
    dscm_exchange *exchange;
    dscm_work work;
    dscm_media accept;
    dscm_prefer prefer;
    const char *key; /* idempotency key or NULL */
    dscm_request *request;
    dscm_cache_entry *cached;
    char inferred[DSCM_ID_SIZE]; /* id of an abduction that is to be inferred again, or "" */
    dscm_job *job;
    dscm_journal_op *record; /* with a journal: the acceptance, not written yet */
    dscm_shared_op *offer;   /* with a shared store: the same */
} submission;

/* ---- reading ---- */

static bool read_headers(submission *s)
{
    dscm_exchange *exchange = s->exchange;
    s->accept = dscm_media_negotiate(dscm_exchange_header(exchange, "Accept"));
    s->prefer = dscm_prefer_parse(dscm_exchange_header(exchange, "Prefer"));
    s->key = dscm_exchange_header(exchange, "Idempotency-Key");
    if (s->accept == DSCM_MEDIA_NONE) {
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_NOT_ACCEPTABLE,
                             "offered are application/json, image/png and text/event-stream");
        return false;
    }
    if (s->key && (!*s->key || strlen(s->key) > DSCM_IDEMPOTENCY_KEY_MAX)) {
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_BAD_HEADER,
                             "Idempotency-Key has %zu characters, allowed are 1 to %d",
                             strlen(s->key), DSCM_IDEMPOTENCY_KEY_MAX);
        return false;
    }
    return true;
}

/* What a request states is used or refused: a query beside a JSON body would be neither. */
static bool refuse_query(submission *s)
{
    dscm_query_string pairs;
    dscm_problem problem = {0};
    if (dscm_query_parse(&pairs, s->exchange->query, &problem) && !pairs.count) return false;
    for (size_t i = 0; i < pairs.count; i++) {
        char place[DSCM_PROBLEM_POINTER_MAX];
        snprintf(place, sizeof place, "?%s", pairs.names[i]);
        dscm_problem_add(&problem, DSCM_PROBLEM_INVALID_PARAMETER, place,
                         "The query parameter '%.64s' stands beside a JSON body, which has a place "
                         "for it: put it there; queries go with pictures.",
                         pairs.names[i]);
    }
    dscm_exchange_problem(s->exchange, &problem);
    return true;
}

/* curl -F image=@seven.png -F do.digit=8, and forms of HTML. */
static bool parse_form(submission *s, const char *type, const dscm_catalogue *catalogue,
                       dscm_problem *problem)
{
    dscm_exchange *e = s->exchange;
    dscm_multipart form;
    char query[DSCM_QUERY_SIZE_MAX + 1];
    const dscm_part *picture;
    return dscm_multipart_parse(&form, type, e->body, e->body_size, problem) &&
           dscm_multipart_request(&form, e->query, query, &picture, problem) &&
           dscm_request_parse_image(&s->request, s->work, picture ? picture->data : NULL,
                                    picture ? picture->size : 0, query, catalogue, problem);
}

static bool read_request(submission *s)
{
    dscm_exchange *e = s->exchange;
    const char *type = dscm_exchange_header(e, "Content-Type");
    dscm_problem problem = {0};
    bool ok;
    bool json = dscm_media_is(type, "application/json") && e->body_size;
    bool cached = e->query && strstr(e->query, "abduction=");
    if (!e->body_size && s->work != DSCM_WORK_SAMPLE && !cached) {
        bool told = dscm_exchange_header(e, "Content-Length") ||
                    dscm_exchange_header(e, "Transfer-Encoding");
        dscm_exchange_refuse(e,
                             told ? DSCM_PROBLEM_INVALID_PARAMETER : DSCM_PROBLEM_LENGTH_REQUIRED,
                             "the request has no body: send JSON or a picture");
        return false;
    }
    dscm_catalogue catalogue = s->service->catalogue;
    catalogue.decode_later = true; /* by a worker */
    if (dscm_media_is(type, "multipart/form-data") && e->body_size) {
        ok = parse_form(s, type, &catalogue, &problem);
        if (!ok) dscm_exchange_problem(e, &problem);
        return ok;
    }
    if (json && refuse_query(s)) return false;
    if (json)
        ok = dscm_request_parse_json(&s->request, s->work, (const char *)e->body, e->body_size,
                                     &catalogue, &problem);
    else
        ok = dscm_request_parse_image(&s->request, s->work, e->body, e->body_size, e->query,
                                      &catalogue, &problem);
    if (!ok) dscm_exchange_problem(e, &problem);
    return ok;
}

/* A picture as the reply: asked before the work, which would be done for nothing. */
static bool has_picture(submission *s)
{
    bool none = s->work == DSCM_WORK_ABDUCTION;
    bool left_out =
        s->work == DSCM_WORK_COUNTERFACTUAL && !(s->request->wanted & DSCM_WANT_COUNTERFACTUAL);
    if (s->accept != DSCM_MEDIA_PNG || (!none && !left_out)) return true;
    dscm_exchange_refuse(s->exchange, DSCM_PROBLEM_NOT_ACCEPTABLE,
                         none ? "an abduction is no picture: offered are application/json and "
                                "text/event-stream"
                              : "options.return leaves the counterfactual out, which would be the "
                                "picture: ask for it, or for application/json");
    return false;
}

/* An abduction that the journal holds and the cache does not is inferred again. */
static bool find_stored(submission *s, const char *id)
{
    dscm_journal *journal = s->service->journal;
    dscm_blob *key = journal && strlen(id) < DSCM_ID_SIZE
                         ? dscm_journal_find_abduction(journal, id, s->exchange->owner)
                         : NULL;
    if (!key) return false;
    snprintf(s->inferred, sizeof s->inferred, "%s", id);
    bool fits = dscm_stored_abduction_apply(s->request, key->bytes, key->size, NULL);
    dscm_blob_unref(key);
    if (!fits) s->inferred[0] = 0;
    return fits;
}

/* Noise is inferred under factual values, so a kept one goes with these only. */
static bool same_factuals(submission *s, const dscm_abduction *abduction)
{
    int other = dscm_request_factual_other(s->request, abduction);
    if (other < 0) return true;
    char pointer[DSCM_PROBLEM_POINTER_MAX];
    dscm_problem problem = {0};
    const char *name = abduction->info->variables[other].name;
    snprintf(pointer, sizeof pointer, "/factuals/%s", name);
    dscm_problem_add(&problem, DSCM_PROBLEM_INVALID_PARAMETER, pointer,
                     "the abduction was made under another factual value of %s: leave it out, or "
                     "send the image",
                     name);
    dscm_exchange_problem(s->exchange, &problem);
    return false;
}

/* The store has the abduction, from which a worker infers it again. False after parking or a
 * refusal. */
static bool find_shared(submission *s, const char *id)
{
    dscm_exchange *e = s->exchange;
    dscm_blob *key = NULL;
    dscm_problem problem = {0};
    dscm_problem_code code = DSCM_PROBLEM_NOT_FOUND;
    if (!e->flags[DSCM_FLAG_ASKED] && strlen(id) < DSCM_ID_SIZE) {
        dscm_ask_store(e, dscm_shared_find_abduction(s->service->shared, id, e->owner));
        return false;
    }
    if (e->flags[DSCM_FLAG_ASKED]) code = dscm_store_answer(e, &key);
    if (code == DSCM_PROBLEM_NOT_FOUND) {
        dscm_problem_add(&problem, DSCM_PROBLEM_UNKNOWN_ABDUCTION, "/abduction",
                         "there is no abduction \"%s\" (it may have expired): send the image", id);
        dscm_exchange_problem(e, &problem);
    } else if (code != DSCM_PROBLEM_NONE) {
        dscm_refuse_store(e);
    } else if (!dscm_stored_abduction_apply(s->request, key->bytes, key->size, NULL)) {
        code = DSCM_PROBLEM_INVALID_PARAMETER;
        dscm_problem_add(&problem, code, "/abduction",
                         "the abduction was made with another model, sampler, number of steps, "
                         "ratio or factual values: ask for the same");
        dscm_exchange_problem(e, &problem);
    }
    dscm_blob_unref(key);
    return code == DSCM_PROBLEM_NONE;
}

/* Fetches the abduction that the request names and checks that it fits. */
static bool find_kept(submission *s)
{
    const char *id = s->request->abduction;
    if (!*id) return true;
    s->cached = dscm_abduction_cache_find(s->service->abductions, id, s->exchange->owner);
    dscm_problem problem = {0};
    if (!s->cached && s->service->shared) return find_shared(s, id);
    if (!s->cached && find_stored(s, id)) return true;
    if (!s->cached) {
        dscm_problem_add(&problem, DSCM_PROBLEM_UNKNOWN_ABDUCTION, "/abduction",
                         "there is no abduction \"%s\" (it may have expired): send the image", id);
        dscm_exchange_problem(s->exchange, &problem);
        return false;
    }
    if (s->service->journal) dscm_journal_touch_abduction(s->service->journal, id);
    const dscm_abduction *abduction = s->cached->value.data;
    if (abduction->info == s->request->info && dscm_request_fits(s->request, &abduction->options))
        return same_factuals(s, abduction);
    dscm_problem_add(&problem, DSCM_PROBLEM_INVALID_PARAMETER, "/abduction",
                     "the abduction was made with model %s, sampler %s, %zu steps, ratio %g: ask "
                     "for the same",
                     abduction->info->name, abduction->options.sampler, abduction->options.steps,
                     abduction->options.ratio);
    dscm_exchange_problem(s->exchange, &problem);
    return false;
}

/* Whose share of the queue counts. */
static const char *client_of(const submission *s)
{
    return *s->exchange->owner ? s->exchange->owner : s->exchange->address;
}

static int64_t deadline_of(const submission *s)
{
    const dscm_settings *o = &s->service->settings;
    long wanted = s->request->deadline_ms ? s->request->deadline_ms : o->deadline_ms;
    if (wanted > o->deadline_max_ms) wanted = o->deadline_max_ms;
    return dscm_clock_ms() + wanted;
}

static void digest_request(const submission *s, uint8_t out[DSCM_DIGEST_SIZE])
{
    uint8_t parts[2 * DSCM_DIGEST_SIZE];
    char line[DSCM_DIGEST_SIZE + 8192];
    const char *type = dscm_exchange_header(s->exchange, "Content-Type");
    int length = snprintf(line, sizeof line, "%d?%s\n%s", (int)s->work,
                          s->exchange->query ? s->exchange->query : "", type ? type : "");
    size_t used = length < (int)sizeof line ? (size_t)length : sizeof line - 1;
    dscm_crypto_digest(line, used, parts);
    dscm_crypto_digest(s->exchange->body, s->exchange->body_size, parts + DSCM_DIGEST_SIZE);
    dscm_crypto_digest(parts, sizeof parts, out);
}

/* All that recording the acceptance needs, before anybody can see the job. */
static dscm_code prepare_record(submission *s, const char *model, dscm_error *err)
{
    const dscm_exchange *e = s->exchange;
    bool json =
        dscm_media_is(dscm_exchange_header(s->exchange, "Content-Type"), "application/json") &&
        e->body_size;
    uint8_t digest[DSCM_DIGEST_SIZE] = {0};
    if (s->key) digest_request(s, digest);
    dscm_blob *request =
        dscm_stored_request_pack(s->work, json, e->query, model, e->body, e->body_size);
    if (!request) return dscm_fail(err, DSCM_E_MEMORY, "no memory to record the request");
    dscm_code code = DSCM_OK;
    if (s->service->shared) {
        s->offer = dscm_shared_prepare(s->service->shared, s->job, model, s->work, request, s->key,
                                       digest);
        if (!s->offer) code = dscm_fail(err, DSCM_E_MEMORY, "no memory to record the request");
    } else {
        s->job->sink = dscm_journal_sink(s->service->journal);
        s->job->record = DSCM_RECORD_PENDING;
        code = dscm_journal_prepare(&s->record, s->job, (int)s->work, request, s->key, digest, err);
    }
    dscm_blob_unref(request);
    return code;
}

static bool make_job(submission *s)
{
    dscm_error err = {0};
    dscm_payload task;
    int64_t deadline = deadline_of(s);
    const char *model = s->request->info->sha256;
    size_t cost = dscm_request_cost(s->request);
    dscm_code code = dscm_task_make(&task, s->request, s->cached, s->service->abductions, &err);
    if (code == DSCM_OK) {
        memcpy(((dscm_task *)task.data)->abduction, s->inferred, sizeof s->inferred);
        s->request = NULL; /* the task's now */
        s->cached = NULL;
        code = dscm_job_create(&s->job, s->exchange->owner, client_of(s), task, deadline,
                               s->prefer.async || s->key != NULL, &err);
        if (code == DSCM_OK)
            s->job->cost = cost;
        else
            task.release(task.data);
    }
    if (code == DSCM_OK && (s->service->journal || s->service->shared))
        code = prepare_record(s, model, &err);
    if (code == DSCM_OK) return true;
    dscm_problem problem = {0};
    dscm_problem_from_error(&problem, &err);
    dscm_exchange_problem(s->exchange, &problem);
    return false;
}

/* ---- storing: the same key asks for the same job ---- */

/* False after a refusal. *repeated: s->job is an earlier one. */
static bool store_job(submission *s, bool *repeated)
{
    uint8_t body[DSCM_DIGEST_SIZE];
    dscm_error err = {0};
    dscm_job *existing = NULL;
    bool same = true;
    if (s->key) digest_request(s, body);
    dscm_problem problem = {0};
    const char *key = s->service->shared ? NULL : s->key; /* the store knows the keys of all */
    if (s->service->jobs->put(s->service->jobs, s->job, key, body, &existing, &same, &err) !=
        DSCM_OK) {
        dscm_problem_from_error(&problem, &err);
        dscm_exchange_problem(s->exchange, &problem);
        return false;
    }
    *repeated = existing != NULL;
    if (!existing) return true;
    dscm_job_unref(s->job);
    s->job = existing;
    atomic_fetch_add(&s->service->metrics.idempotent_hits, 1);
    if (same) return true;
    dscm_exchange_refuse(s->exchange, DSCM_PROBLEM_IDEMPOTENCY_MISMATCH,
                         "this Idempotency-Key came with another request before");
    return false;
}

/* ---- handing over ---- */

/* Asked again after every change of the job until its record is made. */
static void recorded(dscm_exchange *exchange)
{
    dscm_job *job = exchange->job;
    switch (dscm_job_recorded(job)) {
    case DSCM_RECORD_PENDING:
        if (dscm_job_ended(job)) break;
        exchange->resume = recorded;
        dscm_exchange_park(exchange, job, DSCM_AFTER_RECORD, DSCM_NEVER);
        return;
    case DSCM_RECORD_FAILED:
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_STORE_UNAVAILABLE,
                             "the job could not be written to the store; try again in a moment");
        return;
    default:
        break;
    }
    bool failed = dscm_job_peek(job, NULL, NULL, NULL) == DSCM_JOB_FAILED;
    bool refused = failed && job->problem && job->problem->code == DSCM_PROBLEM_STORE_UNAVAILABLE;
    if (exchange->flags[DSCM_FLAG_ASYNC] && !refused) {
        dscm_answer_status(exchange->service, exchange, job, 202);
        dscm_exchange_header_set(exchange, "Preference-Applied", "respond-async");
    } else {
        dscm_answer_job(exchange->service, exchange, job);
    }
}

static void waited(dscm_exchange *exchange)
{
    const dscm_service *service = exchange->service;
    dscm_job *job = exchange->job;
    /* Waiting is over without a result: from here on the job lives without this request, and with a
     * journal that is a promise. */
    bool promise = !dscm_job_over(job) && !atomic_exchange(&job->detached, true);
    if (promise && service->journal) dscm_journal_promise(service->journal, job);
    if (promise && service->shared) dscm_shared_promise(service->shared, job);
    if (dscm_job_over(job))
        dscm_answer_job(exchange->service, exchange, job);
    else
        recorded(exchange);
}

void dscm_wait_for_job(dscm_exchange *exchange)
{
    exchange->resume = waited;
    dscm_exchange_park(exchange, exchange->job, DSCM_AFTER_END,
                       dscm_clock_ms() + exchange->wait_s * 1000);
}

/* Under the queue's lock, before any worker can see the job: hands it to the journal and parks the
 * request. */
static void accepted(void *arg)
{
    submission *s = arg;
    bool async = s->prefer.async, stream = s->accept == DSCM_MEDIA_EVENTS;
    if (s->record) dscm_journal_accept(s->service->journal, s->record, s->job->detached);
    if (!async && !stream) dscm_wait_for_job(s->exchange);
    if (async && !stream && s->record) {
        s->exchange->resume = recorded;
        dscm_exchange_park(s->exchange, s->job, DSCM_AFTER_RECORD, DSCM_NEVER);
    }
    s->record = NULL;
}

static void refuse_job(submission *s, const dscm_problem *problem)
{
    if (s->job) {
        s->service->jobs->forget(s->service->jobs, s->job);
        /* A repeated call in another thread may have found it meanwhile, and waits. It is in no
         * journal yet, so its end needs no record. */
        dscm_job_refuse(s->job, problem);
    }
    dscm_exchange_problem(s->exchange, problem);
}

static void refuse_push(submission *s, dscm_push_result result)
{
    dscm_service *service = s->service;
    dscm_problem problem = {0};
    switch (result) {
    case DSCM_QUEUE_FULL:
        atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_QUEUE_FULL], 1);
        dscm_problem_set(&problem, DSCM_PROBLEM_QUEUE_FULL,
                         "the queue is full: %ld jobs wait; try again in a moment",
                         service->settings.queue_capacity);
        break;
    case DSCM_SHARE_FULL:
        atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_SHARE_FULL], 1);
        dscm_problem_set(&problem, DSCM_PROBLEM_QUEUE_FULL,
                         "your jobs fill the %ld %% of the queue that one client may",
                         service->settings.client_share);
        break;
    default:
        atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_DRAINING], 1);
        dscm_problem_set(&problem, DSCM_PROBLEM_DRAINING, "the service is being stopped");
    }
    refuse_job(s, &problem);
}

void dscm_cost_refusal(char *out, size_t size, size_t cost, size_t held, size_t most)
{
    snprintf(out, size,
             "this job costs %zu network passes, with those of your jobs that wait or run %zu; "
             "allowed are %zu: wait for one, or ask for fewer images or steps",
             cost, held, most);
}

/* Counts what the job costs against what its client's jobs may cost together; a client without any may
 * have one that costs more. */
static bool charge(submission *s)
{
    dscm_task *task = s->job->task.data;
    size_t cost = s->job->cost;
    const size_t most = (size_t)s->service->settings.client_cost;
    if (!s->service->costs || s->offer) return true; /* a shared store counts for all replicas */
    dscm_quota_result result = dscm_quota_take(s->service->costs, client_of(s), &task->cost, cost);
    size_t held = dscm_quota_held(&task->cost);
    if (result == DSCM_QUOTA_TAKEN && (held <= most || held == cost)) return true;
    dscm_quota_return(&task->cost);
    dscm_problem problem = {0};
    char detail[240];
    atomic_fetch_add(&s->service->metrics.rejects[DSCM_REJECT_SHARE_FULL], 1);
    dscm_cost_refusal(detail, sizeof detail, cost, held, most);
    dscm_problem_set(&problem, DSCM_PROBLEM_QUEUE_FULL, "%s", detail);
    refuse_job(s, &problem);
    return false;
}

/* The picture's file goes with the job, and counts as a body until it is decoded. */
static void hand_picture_over(submission *s)
{
    dscm_task *task = s->job->task.data;
    dscm_request *request = task->request;
    if (!request->file) return;
    void *body = dscm_exchange_body_take(s->exchange, &task->bytes);
    if (request->file_memory)
        free(body);
    else
        request->file_memory = body;
}

/* What the reply needs to know of the request. */
static void note_wishes(submission *s, bool repeated)
{
    const dscm_settings *o = &s->service->settings;
    dscm_exchange *e = s->exchange;
    e->wait_s = s->prefer.wait_s < 0 ? o->wait_s : s->prefer.wait_s;
    if (e->wait_s > o->wait_max_s) e->wait_s = o->wait_max_s;
    e->flags[DSCM_FLAG_PNG] = s->accept == DSCM_MEDIA_PNG;
    e->flags[DSCM_FLAG_SUBMITTER] = !repeated;
    e->flags[DSCM_FLAG_ASYNC] = s->prefer.async;
    e->flags[DSCM_FLAG_STREAM] = s->accept == DSCM_MEDIA_EVENTS;
    e->job = dscm_job_ref(s->job);
}

static void hand_over(submission *s, bool repeated)
{
    dscm_service *service = s->service;
    if (!repeated && !charge(s)) return;
    if (!repeated && !s->offer) hand_picture_over(s);
    bool async = s->prefer.async, stream = s->accept == DSCM_MEDIA_EVENTS;
    note_wishes(s, repeated);
    if (s->offer) {
        dscm_shared_op *offer = s->offer;
        s->offer = NULL;
        dscm_accept_shared(service, s->exchange, offer);
        return;
    }
    bool parks = !repeated && !stream && (!async || s->record);
    if (!repeated) {
        dscm_push_result result =
            dscm_queue_push(service->queue, dscm_job_ref(s->job), accepted, s);
        if (result != DSCM_PUSHED) {
            dscm_job_unref(s->job); /* the reference that the queue did not take */
            refuse_push(s, result);
            return;
        }
        atomic_fetch_add(&service->metrics.jobs_accepted, 1);
    }
    if (parks) return; /* another thread may have answered by now */
    if (stream)
        dscm_answer_events(service, s->exchange, s->job);
    else if (async)
        recorded(s->exchange);
    else
        dscm_wait_for_job(s->exchange);
}

/* Asked before the job is made: it would run for nobody. */
static bool has_stream(submission *s)
{
    return s->accept != DSCM_MEDIA_EVENTS || dscm_stream_allowed(s->service, s->exchange);
}

/* Under overload nearly all requests are refused: that must not cost decoding a picture. A repeated
 * request with its key may still find its job. */
static bool has_room(submission *s)
{
    if (s->key || s->service->shared) return true;
    dscm_push_result result = dscm_queue_room(s->service->queue, client_of(s));
    if (result != DSCM_PUSHED) refuse_push(s, result);
    return result == DSCM_PUSHED;
}

static void submit(dscm_service *service, dscm_exchange *exchange, dscm_work work)
{
    submission s = {.service = service, .exchange = exchange, .work = work};
    bool repeated;
    if (read_headers(&s) && has_stream(&s) && has_room(&s) && read_request(&s) && has_picture(&s) &&
        find_kept(&s) && make_job(&s) && store_job(&s, &repeated))
        hand_over(&s, repeated);
    dscm_request_free(s.request);
    dscm_cache_entry_unref(service->abductions, s.cached);
    dscm_journal_op_free(s.record);
    dscm_shared_op_free(s.offer);
    dscm_job_unref(s.job);
}

void dscm_post_counterfactual(dscm_service *service, dscm_exchange *exchange,
                              const dscm_captures *captures)
{
    (void)captures;
    submit(service, exchange, DSCM_WORK_COUNTERFACTUAL);
}

void dscm_post_abduction(dscm_service *service, dscm_exchange *exchange,
                         const dscm_captures *captures)
{
    (void)captures;
    submit(service, exchange, DSCM_WORK_ABDUCTION);
}

void dscm_post_sample(dscm_service *service, dscm_exchange *exchange, const dscm_captures *captures)
{
    (void)captures;
    submit(service, exchange, DSCM_WORK_SAMPLE);
}
