#include "api/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/json.h"

#define TYPE_PREFIX "https://diffscm.dev/problems/"

static const dscm_problem_kind KINDS[DSCM_PROBLEM_COUNT] = {
    [DSCM_PROBLEM_NONE] = {"none", 200, "OK"},
    [DSCM_PROBLEM_MALFORMED_JSON] = {"malformed-json", 400, "The body is not valid JSON"},
    [DSCM_PROBLEM_MALFORMED_QUERY] = {"malformed-query", 400, "The query string cannot be used"},
    [DSCM_PROBLEM_BAD_REQUEST] = {"bad-request", 400, "The HTTP message is malformed"},
    [DSCM_PROBLEM_BAD_HEADER] = {"bad-header", 400, "A header has a value that is not allowed"},
    [DSCM_PROBLEM_UNAUTHORIZED] = {"unauthorized", 401, "A valid key is required"},
    [DSCM_PROBLEM_FORBIDDEN] = {"forbidden", 403, "This is not allowed"},
    [DSCM_PROBLEM_NOT_FOUND] = {"not-found", 404, "There is nothing here"},
    [DSCM_PROBLEM_METHOD_NOT_ALLOWED] = {"method-not-allowed", 405,
                                         "The method is not allowed here"},
    [DSCM_PROBLEM_NOT_ACCEPTABLE] = {"not-acceptable", 406, "No form of the reply is acceptable"},
    [DSCM_PROBLEM_REQUEST_TIMEOUT] = {"request-timeout", 408, "The request arrived too slowly"},
    [DSCM_PROBLEM_CONFLICT] = {"conflict", 409, "The state of the resource does not allow this"},
    [DSCM_PROBLEM_EXPIRED] = {"expired", 410, "The resource is no longer kept"},
    [DSCM_PROBLEM_LENGTH_REQUIRED] = {"length-required", 411, "The body needs a length"},
    [DSCM_PROBLEM_TOO_LARGE] = {"too-large", 413, "The body is too large"},
    [DSCM_PROBLEM_UNSUPPORTED_MEDIA_TYPE] = {"unsupported-media-type", 415,
                                             "The media type of the body is not supported"},
    [DSCM_PROBLEM_INVALID_PARAMETER] = {"invalid-parameter", 422, "A parameter is not valid"},
    [DSCM_PROBLEM_UNKNOWN_FIELD] = {"unknown-field", 422, "A field does not exist"},
    [DSCM_PROBLEM_UNKNOWN_VARIABLE] = {"unknown-variable", 422,
                                       "A variable is not in the model's graph"},
    [DSCM_PROBLEM_UNKNOWN_MODEL] = {"unknown-model", 422, "The model does not exist"},
    [DSCM_PROBLEM_UNKNOWN_ABDUCTION] = {"unknown-abduction", 422, "The abduction is not kept"},
    [DSCM_PROBLEM_OUT_OF_RANGE] = {"out-of-range", 422, "A value is out of range"},
    [DSCM_PROBLEM_NOT_AN_IMAGE] = {"not-an-image", 422, "The image cannot be read"},
    [DSCM_PROBLEM_IMAGE_TOO_LARGE] = {"image-too-large", 422, "The image is too large"},
    [DSCM_PROBLEM_IMAGE_SIZE] = {"image-size", 422, "The image does not have the model's size"},
    [DSCM_PROBLEM_IDEMPOTENCY_MISMATCH] = {"idempotency-mismatch", 422,
                                           "The idempotency key was used with another request"},
    [DSCM_PROBLEM_QUEUE_FULL] = {"queue-full", 429, "Too many requests are waiting"},
    [DSCM_PROBLEM_CANCELED] = {"canceled", 499, "The job was canceled"},
    [DSCM_PROBLEM_INTERNAL] = {"internal", 500, "The service failed"},
    [DSCM_PROBLEM_JOB_CRASHED] = {"job-crashed", 500, "The job ended the process several times"},
    [DSCM_PROBLEM_LOADING] = {"loading", 503, "The service is starting"},
    [DSCM_PROBLEM_DRAINING] = {"draining", 503, "The service is stopping"},
    [DSCM_PROBLEM_STORE_UNAVAILABLE] = {"store-unavailable", 503, "The job could not be stored"},
    [DSCM_PROBLEM_NO_WORKER] = {"no-worker", 503, "No worker has the model"},
    [DSCM_PROBLEM_UPLOADS_FULL] = {"uploads-full", 503, "Too much is being uploaded"},
    [DSCM_PROBLEM_DEADLINE] = {"deadline", 504, "The deadline passed before the result was ready"},
};

const dscm_problem_kind *dscm_problem_kind_of(dscm_problem_code code)
{
    return &KINDS[code];
}

void dscm_problem_set(dscm_problem *problem, dscm_problem_code code, const char *format, ...)
{
    if (problem->code != DSCM_PROBLEM_NONE) return;
    problem->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(problem->detail, sizeof(problem->detail), format, args);
    va_end(args);
}

void dscm_problem_add(dscm_problem *problem, dscm_problem_code code, const char *pointer,
                      const char *format, ...)
{
    char detail[DSCM_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof(detail), format, args);
    va_end(args);
    dscm_problem_set(problem, code, "%s", detail);
    if (problem->errors_count == DSCM_PROBLEM_ERRORS_MAX) {
        problem->errors_more++;
        return;
    }
    dscm_problem_error *error = &problem->errors[problem->errors_count++];
    error->code = code;
    snprintf(error->pointer, sizeof(error->pointer), "%s", pointer);
    memcpy(error->detail, detail, sizeof(detail));
}

void dscm_problem_from_error(dscm_problem *problem, const dscm_error *err)
{
    switch (err->code) {
    case DSCM_E_INVALID:
    case DSCM_E_UNKNOWN:
    case DSCM_E_MISMATCH:
        dscm_problem_set(problem, DSCM_PROBLEM_INVALID_PARAMETER, "%s", err->message);
        return;
    case DSCM_E_FORMAT:
        dscm_problem_set(problem, DSCM_PROBLEM_NOT_AN_IMAGE, "%s", err->message);
        return;
    case DSCM_E_LIMIT:
        dscm_problem_set(problem, DSCM_PROBLEM_OUT_OF_RANGE, "%s", err->message);
        return;
    case DSCM_E_CANCELED:
        dscm_problem_set(problem, DSCM_PROBLEM_CANCELED, "The job was canceled.");
        return;
    case DSCM_E_MEMORY:
        dscm_problem_set(problem, DSCM_PROBLEM_INTERNAL, "There is not enough memory.");
        return;
    default:
        dscm_problem_set(problem, DSCM_PROBLEM_INTERNAL, "The service could not do its work.");
    }
}

static json_t *errors_json(const dscm_problem *problem)
{
    json_t *list = json_array();
    for (size_t i = 0; i < problem->errors_count; i++) {
        const dscm_problem_error *e = &problem->errors[i];
        json_array_append_new(
            list, json_pack("{s:o, s:s, s:o}", "pointer", dscm_json_string(e->pointer), "code",
                            KINDS[e->code].code, "detail", dscm_json_string(e->detail)));
    }
    return list;
}

char *dscm_problem_json(const dscm_problem *problem, const char *instance, const char *request_id,
                        size_t *size)
{
    const dscm_problem_kind *kind = &KINDS[problem->code];
    char type[sizeof(TYPE_PREFIX) + 40];
    snprintf(type, sizeof(type), TYPE_PREFIX "%s", kind->code);
    unsigned long mark = dscm_json_failures();
    json_t *body =
        json_pack("{s:s, s:s, s:i, s:s, s:o}", "type", type, "title", kind->title, "status",
                  kind->status, "code", kind->code, "detail", dscm_json_string(problem->detail));
    if (instance) json_object_set_new(body, "instance", dscm_json_string(instance));
    if (request_id) json_object_set_new(body, "request_id", dscm_json_string(request_id));
    if (problem->errors_count) json_object_set_new(body, "errors", errors_json(problem));
    if (problem->errors_more)
        json_object_set_new(body, "errors_more", json_integer((json_int_t)problem->errors_more));
    char *text = dscm_json_text(body, mark, size);
    json_decref(body);
    return text;
}
