/* A case that a command line or a table asks about (dscm_case) as text, so that another process can run
 * it. Unlike the JSON of strangers it names everything that the engine takes: variables by index, null
 * counterfactuals, the kind of guidance. Pure functions.
 */
#ifndef DSCM_API_CASE_TEXT_H
#define DSCM_API_CASE_TEXT_H

#include "api/request.h"

/* A counterfactual of one target with resolved options, without its pixels. The same case gives the same
 * text. Release with free; NULL: no memory. */
char *dscm_case_text(const dscm_case *ask, const dscm_bundle_info *info, size_t *size);
/* The request of such a text and the pixels, (H,W,C) of the model, which are copied. Everything is
 * checked as in a request of a stranger. The caller owns *out. */
bool dscm_request_parse_case(dscm_request **out, const char *text, size_t size, const void *pixels,
                             size_t pixels_size, const dscm_catalogue *catalogue, size_t model,
                             dscm_problem *problem) DSCM_MUST_CHECK;

#endif
