/* Problem details (RFC 9457): every error a client can see, from one table of stable codes.
 *
 * A dscm_problem is plain data that the parsers fill and the transport sends. It collects several
 * errors of one request, each with the place (JSON pointer, or "?name" for a query parameter), a
 * code and what is allowed. It does not log, and knows no HTTP library. Threads: plain data, one
 * owner at a time.
 */
#ifndef DSCM_API_PROBLEM_H
#define DSCM_API_PROBLEM_H

#include <stddef.h>

#include "core/base/error.h"

typedef enum dscm_problem_code {
    DSCM_PROBLEM_NONE,
    /* 400 */
    DSCM_PROBLEM_MALFORMED_JSON,
    DSCM_PROBLEM_MALFORMED_QUERY,
    DSCM_PROBLEM_BAD_REQUEST, /* the HTTP message itself: header, framing */
    DSCM_PROBLEM_BAD_HEADER,
    /* 401 … 415 */
    DSCM_PROBLEM_UNAUTHORIZED,
    DSCM_PROBLEM_FORBIDDEN,
    DSCM_PROBLEM_NOT_FOUND,
    DSCM_PROBLEM_METHOD_NOT_ALLOWED,
    DSCM_PROBLEM_NOT_ACCEPTABLE,
    DSCM_PROBLEM_REQUEST_TIMEOUT,
    DSCM_PROBLEM_CONFLICT, /* the job is not in a state that allows this */
    DSCM_PROBLEM_EXPIRED,
    DSCM_PROBLEM_LENGTH_REQUIRED,
    DSCM_PROBLEM_TOO_LARGE,
    DSCM_PROBLEM_UNSUPPORTED_MEDIA_TYPE,
    /* 422 */
    DSCM_PROBLEM_INVALID_PARAMETER,
    DSCM_PROBLEM_UNKNOWN_FIELD,
    DSCM_PROBLEM_UNKNOWN_VARIABLE,
    DSCM_PROBLEM_UNKNOWN_MODEL,
    DSCM_PROBLEM_UNKNOWN_ABDUCTION,
    DSCM_PROBLEM_OUT_OF_RANGE,
    DSCM_PROBLEM_NOT_AN_IMAGE,
    DSCM_PROBLEM_IMAGE_TOO_LARGE,
    DSCM_PROBLEM_IMAGE_SIZE, /* wrong size and options.resize is false */
    DSCM_PROBLEM_IDEMPOTENCY_MISMATCH,
    /* 429 … 504 */
    DSCM_PROBLEM_QUEUE_FULL,
    DSCM_PROBLEM_CANCELED, /* 499, for the log and for canceled jobs */
    DSCM_PROBLEM_INTERNAL,
    DSCM_PROBLEM_JOB_CRASHED, /* the process died several times while it ran the job */
    DSCM_PROBLEM_LOADING,
    DSCM_PROBLEM_DRAINING,
    DSCM_PROBLEM_STORE_UNAVAILABLE, /* the job could not be written to the store */
    DSCM_PROBLEM_NO_WORKER,         /* no process of a shared store runs the model */
    DSCM_PROBLEM_UPLOADS_FULL,
    DSCM_PROBLEM_DEADLINE,
    DSCM_PROBLEM_COUNT
} dscm_problem_code;

typedef struct dscm_problem_kind {
    const char *code; /* stable, such as "queue-full"; the last part of `type` */
    int status;       /* HTTP status */
    const char *title;
} dscm_problem_kind;

/* The line of the table; code must be in range (DSCM_PROBLEM_NONE has status 200). */
const dscm_problem_kind *dscm_problem_kind_of(dscm_problem_code code);

#define DSCM_PROBLEM_ERRORS_MAX  8
#define DSCM_PROBLEM_POINTER_MAX 160

typedef struct dscm_problem_error {
    char pointer[DSCM_PROBLEM_POINTER_MAX]; /* "/options/steps" or "?steps"; "" = the whole body */
    dscm_problem_code code;
    char detail[DSCM_MESSAGE_MAX];
} dscm_problem_error;

typedef struct dscm_problem {
    dscm_problem_code code; /* DSCM_PROBLEM_NONE: no problem */
    char detail[DSCM_MESSAGE_MAX];
    dscm_problem_error errors[DSCM_PROBLEM_ERRORS_MAX];
    size_t errors_count; /* kept; further ones are counted in errors_more */
    size_t errors_more;
} dscm_problem;

/* Sets code and detail; the first problem wins. */
void dscm_problem_set(dscm_problem *problem, dscm_problem_code code, const char *format, ...)
    DSCM_PRINTF(3, 4);
/* Adds one error at a place. The first one also decides the problem's code and detail. */
void dscm_problem_add(dscm_problem *problem, dscm_problem_code code, const char *pointer,
                      const char *format, ...) DSCM_PRINTF(4, 5);
/* The problem that an engine error means for the client. The words of errors that are the
 * environment's (files, memory, system) are not told: such problems are "internal". */
void dscm_problem_from_error(dscm_problem *problem, const dscm_error *err);

/* The body (application/problem+json, ends in a newline), or NULL when out of memory. instance (the
 * path of the request) and request_id may be NULL. Release with free. */
char *dscm_problem_json(const dscm_problem *problem, const char *instance, const char *request_id,
                        size_t *size);

#endif
