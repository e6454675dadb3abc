/* A request as bytes that outlive the process: what a journal keeps of a job that has not ended.
 *
 * It is the request as the client sent it (body and query), not what it was parsed to: parsing it
 * again checks it against the models that are served then. Pure functions.
 */
#ifndef DSCM_SERVER_STORED_REQUEST_H
#define DSCM_SERVER_STORED_REQUEST_H

#include "api/request.h"
#include "server/blob.h"

/* query: what follows '?', or NULL; json: the body is JSON, else a picture; model: the SHA-256 of
 * the bundle that it was parsed for. NULL when there is no memory. */
dscm_blob *dscm_stored_request_pack(dscm_work work, bool json, const char *query, const char *model,
                                    const void *body, size_t size);
/* A counterfactual that is not a client's request: the text of a case (api/case_text.h) and its pixels.
 * The same case gives the same bytes. */
dscm_blob *dscm_stored_case_pack(const char *text, size_t text_size, const char *model,
                                 const void *pixels, size_t size);
/* Parses what was packed; the caller owns *out. False: `problem` tells why it cannot run, such as a
 * model that is not served any more. */
bool dscm_stored_request_parse(dscm_request **out, const void *bytes, size_t size,
                               const dscm_catalogue *catalogue,
                               dscm_problem *problem) DSCM_MUST_CHECK;
/* The kind of work of packed bytes; DSCM_WORK_COUNTERFACTUAL when they are none. */
dscm_work dscm_stored_request_work(const void *bytes, size_t size);

/* A kept abduction is stored as its key (dscm_request_abduction_key). This makes the request, which
 * names an abduction, infer it again from that key: it gets the image and the factual values. False: it
 * was made with another model, other options or other factual values; it gets no image then. */
bool dscm_stored_abduction_apply(dscm_request *request, const void *key, size_t size,
                                 dscm_error *err) DSCM_MUST_CHECK;

#endif
