/* Routes of the public listener: one table (routes.c), handlers by theme.
 *
 * A handler is called on the listener's thread with the whole request, and replies or parks. It
 * must not block. Captures are the parts of the path that stand for {} in the route's pattern. */
#ifndef DSCM_SERVER_ROUTES_H
#define DSCM_SERVER_ROUTES_H

#include "server/negotiate.h"
#include "server/service.h"

#define DSCM_CAPTURES    2
#define DSCM_CAPTURE_MAX 96

typedef struct dscm_captures {
    char text[DSCM_CAPTURES][DSCM_CAPTURE_MAX];
} dscm_captures;

typedef void dscm_handler(dscm_service *service, dscm_exchange *exchange,
                          const dscm_captures *captures);

/* Meanings of dscm_exchange.flags on this listener. */
enum {
    DSCM_FLAG_PNG,       /* the picture alone is wanted */
    DSCM_FLAG_SUBMITTER, /* made the job: when it leaves, the job is canceled */
    DSCM_FLAG_READER,    /* an open stream, counted in metrics and job */
    DSCM_FLAG_ASYNC,     /* 202 at once is wanted */
    DSCM_FLAG_STREAM,    /* events are wanted, once the job is accepted */
    DSCM_FLAG_ASKED      /* called again: the exchange's job is the ticket of a shared store */
};

/* routes_work.c: POST /counterfactual, /abductions, /samples */
dscm_handler dscm_post_counterfactual, dscm_post_abduction, dscm_post_sample;
/* routes_jobs.c */
dscm_handler dscm_get_job, dscm_get_job_events, dscm_delete_job, dscm_get_job_image,
    dscm_delete_abduction;
/* routes_info.c */
dscm_handler dscm_get_models, dscm_get_model, dscm_get_openapi, dscm_get_asset;

/* ---- replies that several handlers make (routes_jobs.c) ---- */
/* What there is to say about a job now: result, problem, or 202. */
void dscm_answer_job(dscm_service *service, dscm_exchange *exchange, dscm_job *job);
/* 202 (or `status`) with the job's state. */
void dscm_answer_status(dscm_service *service, dscm_exchange *exchange, dscm_job *job, int status);
/* The stream of the job's events from exchange->events on. */
void dscm_answer_events(dscm_service *service, dscm_exchange *exchange, dscm_job *job);
/* Waits exchange->wait_s for the end of its job, then answers (routes_work.c). */
void dscm_wait_for_job(dscm_exchange *exchange);

/* ---- with a shared store (routes_shared.c) ---- */
/* Parks until the ticket, of which it takes the reference, has ended; then calls the handler again
 * with DSCM_FLAG_ASKED. NULL: no memory, refused. */
void dscm_ask_store(dscm_exchange *exchange, dscm_job *ticket);
/* The answer of a handler's second call; DSCM_PROBLEM_NONE with its *value (a reference). */
dscm_problem_code dscm_store_answer(dscm_exchange *exchange, dscm_blob **value);
void dscm_refuse_store(dscm_exchange *exchange); /* the store does not answer */
/* The job's mirror, if there is such a job, is up to date; false after parking or a refusal. */
bool dscm_job_at_hand(dscm_service *service, dscm_exchange *exchange, const char *id);
void dscm_drop_shared_abduction(dscm_service *service, dscm_exchange *exchange, const char *id);
/* Hands the exchange's job to the store and parks until it has answered. Takes over the op. */
void dscm_accept_shared(dscm_service *service, dscm_exchange *exchange, dscm_shared_op *op);

/* False, with a refusal, when no more event streams may be opened. */
bool dscm_stream_allowed(dscm_service *service, dscm_exchange *exchange);

#endif
