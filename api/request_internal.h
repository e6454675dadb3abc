/* Inside the request parser: its context and the parts in different files. */
#ifndef DSCM_API_REQUEST_INTERNAL_H
#define DSCM_API_REQUEST_INTERNAL_H

#include <jansson.h>

#include "api/request.h"

typedef struct request_parser {
    dscm_request *request;
    const dscm_catalogue *catalogue;
    dscm_problem *problem;
    bool from_query;   /* numbers may be text; places are named "?name" */
    bool resize;       /* options.resize */
    const void *image; /* raw image file, or NULL */
    size_t image_size;
} request_parser;

#define POINTER_MAX DSCM_PROBLEM_POINTER_MAX

/* Adds an error at `pointer` (a JSON pointer, rewritten for queries). */
void request_error(request_parser *p, dscm_problem_code code, const char *pointer,
                   const char *format, ...) DSCM_PRINTF(4, 5);
/* pointer + "/" + name, escaped by RFC 6901, cut to POINTER_MAX. */
void request_pointer(char out[POINTER_MAX], const char *pointer, const char *name);
/* "intervention" (one object) and "interventions" (a list) into request->targets. */
void request_parse_interventions(request_parser *p, const json_t *one, const json_t *list);
/* "factuals", an object of known values, or NULL. */
void request_parse_factuals(request_parser *p, const json_t *factuals);
/* The object "options". */
void request_parse_options(request_parser *p, const json_t *options);

#endif
