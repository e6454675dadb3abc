/* Replies: from results to JSON, headers and event streams. Pure functions; the same result gives
 * the same bytes. Threads: none of their own. Strings returned are released with free; NULL means
 * out of memory. */
#ifndef DSCM_API_REPLY_H
#define DSCM_API_REPLY_H

#include <stddef.h>
#include <stdint.h>

#include "api/problem.h"
#include "api/request.h"

/* ---- results ---- */

typedef struct dscm_reply_ids {
    const char *job;       /* id of the job, or NULL */
    const char *abduction; /* id under which the abduction is kept, or NULL */
} dscm_reply_ids;

/* 200 of POST /counterfactual. `abduction` is the one the result was made from. */
char *dscm_reply_counterfactual(const dscm_result *result, const dscm_abduction *abduction,
                                const dscm_reply_ids *ids, size_t *size);
/* 201 of POST /abductions. expires_s: seconds it is kept. */
char *dscm_reply_abduction(const dscm_abduction *abduction, const dscm_reply_ids *ids,
                           long expires_s, size_t *size);
/* 200 of POST /samples. */
char *dscm_reply_samples(const dscm_result *result, const dscm_reply_ids *ids, size_t *size);

/* ---- Accept: image/png ---- */

typedef struct dscm_reply_header {
    char name[48], value[128];
} dscm_reply_header;
#define DSCM_REPLY_HEADERS_MAX 24
/* Scores of counterfactual `index` as X-Counterfactual-… headers; returns how many. The picture is
 * dscm_result_file(result, "counterfactual-<index>"). */
size_t dscm_reply_headers(dscm_reply_header out[DSCM_REPLY_HEADERS_MAX], const dscm_result *result,
                          size_t index);

/* ---- jobs and events ---- */

typedef enum dscm_job_state {
    DSCM_JOB_QUEUED,
    DSCM_JOB_RUNNING,
    DSCM_JOB_SUCCEEDED,
    DSCM_JOB_FAILED,
    DSCM_JOB_CANCELED,
    DSCM_JOB_EXPIRED,
    DSCM_JOB_STATE_COUNT
} dscm_job_state;
const char *dscm_job_state_name(dscm_job_state state);

typedef struct dscm_job_status {
    const char *id;
    dscm_work work;
    dscm_job_state state;
    const char *reason;  /* of canceled: "client", "disconnect", "deadline", "shutdown"; or NULL */
    long queue_position; /* 0 = next; < 0: not queued */
    double estimate_ms;  /* until the result; NaN: unknown */
    double fraction;     /* of a running job */
    size_t step, steps;
    const char *result;          /* reply JSON of a succeeded job (embedded as "result"), or NULL */
    const dscm_problem *problem; /* of a failed or canceled job, or NULL */
} dscm_job_status;
/* Body of 202 and of GET /jobs/{id}. */
char *dscm_reply_job(const dscm_job_status *status, size_t *size);

/* One server-sent event, "id: N\nevent: NAME\ndata: …\n\n". `data` is one line or several; NULL
 * gives an empty object. */
char *dscm_event_text(uint64_t id, const char *name, const char *data, size_t *size);
/* Data of a progress event: {phase, step, steps, fraction, eta_ms}. */
char *dscm_event_progress(const dscm_run_event *event);
/* Data of a preview event: {step, steps, images: [base64 PNG, …]} with the images of one item of
 * the run, for a model image of info. NULL also when the event carries no preview. */
char *dscm_event_preview(const dscm_run_event *event, const dscm_bundle_info *info, size_t item);

/* ---- models and description ---- */

typedef struct dscm_model_limits {
    size_t body_bytes; /* largest request body */
    long deadline_max_ms;
    size_t image_side; /* largest width or height of a picture; 0: the default */
} dscm_model_limits;
/* {"models":[…]} of GET /models. */
char *dscm_reply_models(const dscm_catalogue *catalogue, const dscm_model_limits *limits,
                        size_t *size);
/* GET /models/{name}: the entry's whole description. */
char *dscm_reply_model(const dscm_model_entry *entry, const dscm_model_limits *limits,
                       size_t *size);
/* The OpenAPI 3.1 document; static storage. */
const char *dscm_openapi_text(size_t *size);

#endif
