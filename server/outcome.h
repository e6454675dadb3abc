/* What is kept of a succeeded job: the reply and its pictures as one blob, in which form it is
 * shared, written to a store and read again.
 *
 * It holds no floats and nothing that points to a bundle. Threads: blobs are immutable.
 */
#ifndef DSCM_SERVER_OUTCOME_H
#define DSCM_SERVER_OUTCOME_H

#include "api/reply.h"
#include "server/blob.h"

/* json: the reply, ends in a newline. result: NULL for abductions. One reference for the caller;
 * NULL when there is no memory. */
dscm_blob *dscm_outcome_pack(const char *json, size_t json_size, const dscm_result *result);
/* The bytes have the form that dscm_outcome_pack gives them. */
bool dscm_outcome_valid(const void *bytes, size_t size);

/* ---- of valid outcomes; what is returned lives as long as the blob ---- */
dscm_span dscm_outcome_json(const dscm_blob *outcome);     /* followed by a zero byte */
const char *dscm_outcome_timing(const dscm_blob *outcome); /* Server-Timing, "" for none */
/* Scores as headers of an image/png reply, as dscm_reply_headers gives them for index 0. */
size_t dscm_outcome_headers(const dscm_blob *outcome,
                            dscm_reply_header headers[DSCM_REPLY_HEADERS_MAX]);
/* The PNG of that name ("counterfactual-0", …); size 0: there is none. */
dscm_span dscm_outcome_picture(const dscm_blob *outcome, const char *name);

#endif
