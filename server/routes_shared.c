/* Handlers with a shared store: what is not known in this process is asked for first, and the
 * handler called again with the answer; jobs are accepted by the store, which answers later. */
#include <string.h>

#include "server/clock.h"
#include "server/routes.h"

#define ANSWER_TIMES 4 /* times store-ms: the store gives answers up long before */

/* ---- asking ---- */

static void call_again(dscm_exchange *exchange)
{
    exchange->flags[DSCM_FLAG_ASKED] = true;
    exchange->keep_body = false;
    dscm_routes_handle(exchange->service, exchange);
}

void dscm_ask_store(dscm_exchange *exchange, dscm_job *ticket)
{
    if (!ticket) {
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_INTERNAL, "out of memory");
        return;
    }
    exchange->job = ticket;
    exchange->resume = call_again;
    exchange->keep_body = true;
    const dscm_service *service = exchange->service;
    dscm_exchange_park(exchange, ticket, DSCM_AFTER_END,
                       dscm_clock_ms() + ANSWER_TIMES * service->settings.store_ms);
}

dscm_problem_code dscm_store_answer(dscm_exchange *exchange, dscm_blob **value)
{
    dscm_job *ticket = exchange->job;
    dscm_problem_code code = DSCM_PROBLEM_STORE_UNAVAILABLE;
    exchange->job = NULL;
    exchange->flags[DSCM_FLAG_ASKED] = false;
    switch (dscm_job_peek(ticket, NULL, NULL, NULL)) {
    case DSCM_JOB_SUCCEEDED:
        code = DSCM_PROBLEM_NONE;
        if (value) *value = dscm_blob_ref(ticket->result.data);
        break;
    case DSCM_JOB_FAILED:
        if (ticket->problem) code = ticket->problem->code;
        break;
    default: /* no answer in time */
        break;
    }
    dscm_job_unref(ticket);
    return code;
}

void dscm_refuse_store(dscm_exchange *exchange)
{
    dscm_service *service = exchange->service;
    atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_STORE], 1);
    dscm_exchange_refuse(exchange, DSCM_PROBLEM_STORE_UNAVAILABLE,
                         "the store does not answer; try again in a moment");
}

bool dscm_job_at_hand(dscm_service *service, dscm_exchange *exchange, const char *id)
{
    if (exchange->flags[DSCM_FLAG_ASKED]) {
        dscm_problem_code code = dscm_store_answer(exchange, NULL);
        if (code == DSCM_PROBLEM_EXPIRED)
            dscm_exchange_refuse(exchange, code,
                                 "the job's result was kept for a while and is gone");
        else if (code == DSCM_PROBLEM_NOT_FOUND)
            dscm_exchange_refuse(exchange, code, "there is no job \"%s\"", id);
        else if (code != DSCM_PROBLEM_NONE)
            dscm_refuse_store(exchange);
        return code == DSCM_PROBLEM_NONE;
    }
    if (strlen(id) >= DSCM_ID_SIZE) return true; /* unknown here as everywhere */
    dscm_job *known = service->jobs->get(service->jobs, id);
    bool ended = known && dscm_job_ended(known);
    dscm_job_unref(known);
    if (ended) return true;
    dscm_ask_store(exchange, dscm_shared_load(service->shared, id, exchange->owner));
    return false;
}

void dscm_drop_shared_abduction(dscm_service *service, dscm_exchange *exchange, const char *id)
{
    dscm_problem_code code = DSCM_PROBLEM_NOT_FOUND;
    if (!exchange->flags[DSCM_FLAG_ASKED] && strlen(id) < DSCM_ID_SIZE) {
        dscm_ask_store(exchange, dscm_shared_drop_abduction(service->shared, id, exchange->owner));
        return;
    }
    if (exchange->flags[DSCM_FLAG_ASKED]) code = dscm_store_answer(exchange, NULL);
    if (code == DSCM_PROBLEM_NONE)
        dscm_exchange_reply(exchange, 204, NULL, NULL, 0, DSCM_BODY_STATIC);
    else if (code == DSCM_PROBLEM_NOT_FOUND)
        dscm_exchange_refuse(exchange, code, "there is no abduction \"%s\"", id);
    else
        dscm_refuse_store(exchange);
}

/* ---- accepting ---- */

/* The earlier job of the same idempotency key takes the place of the one that was made. */
static bool follow_other(dscm_exchange *exchange)
{
    dscm_job *job = exchange->job;
    pthread_mutex_lock(&job->lock);
    dscm_job *other = job->other ? dscm_job_ref(job->other) : NULL;
    bool refused = job->refused;
    pthread_mutex_unlock(&job->lock);
    if (refused || other) exchange->flags[DSCM_FLAG_SUBMITTER] = false;
    if (!other) return !refused;
    exchange->job = other;
    dscm_job_unref(job);
    return true;
}

/* Asked again after every change of the job until the store has answered. */
static void answered(dscm_exchange *exchange)
{
    dscm_service *service = exchange->service;
    dscm_job *job = exchange->job;
    if (dscm_job_recorded(job) == DSCM_RECORD_PENDING && !dscm_job_over(job)) {
        exchange->resume = answered;
        dscm_exchange_park(exchange, job, DSCM_AFTER_RECORD, DSCM_NEVER);
        return;
    }
    if (!follow_other(exchange)) {
        dscm_answer_job(service, exchange, exchange->job);
    } else if (exchange->flags[DSCM_FLAG_STREAM]) {
        dscm_answer_events(service, exchange, exchange->job);
    } else if (exchange->flags[DSCM_FLAG_ASYNC]) {
        dscm_answer_status(service, exchange, exchange->job, 202);
        dscm_exchange_header_set(exchange, "Preference-Applied", "respond-async");
    } else {
        dscm_wait_for_job(exchange);
    }
}

void dscm_accept_shared(dscm_service *service, dscm_exchange *exchange, dscm_shared_op *op)
{
    dscm_task_hand_away(exchange->job);
    exchange->resume = answered;
    dscm_shared_accept(service->shared, op);
    dscm_exchange_park(exchange, exchange->job, DSCM_AFTER_RECORD, DSCM_NEVER);
}
