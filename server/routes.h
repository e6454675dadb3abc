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
    DSCM_FLAG_ASYNC      /* 202 at once is wanted */
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
/* False, with a refusal, when no more event streams may be opened. */
bool dscm_stream_allowed(dscm_service *service, dscm_exchange *exchange);

#endif
