/* multipart/form-data (RFC 7578), as curl -F and HTML forms send it: split into parts, nothing copied.
 *
 * Strict about frames and small: no nesting, no transfer encodings, no continued header lines. Pure
 * functions; the parts point into the body.
 */
#ifndef DSCM_API_MULTIPART_H
#define DSCM_API_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "api/problem.h"
#include "api/query.h"

#define DSCM_MULTIPART_PARTS_MAX 64
#define DSCM_MULTIPART_HEAD_MAX  4096 /* bytes of one part's header lines */

typedef struct dscm_part {
    const char *name; /* not terminated */
    size_t name_size; /* >= 1 */
    const char *data;
    size_t size;
    bool file; /* has a file name */
} dscm_part;

typedef struct dscm_multipart {
    dscm_part parts[DSCM_MULTIPART_PARTS_MAX];
    size_t count;
} dscm_multipart;

/* type: the Content-Type with its boundary. False with `problem` set (bad-request), which names the part
 * by its number and what is wrong. */
bool dscm_multipart_parse(dscm_multipart *out, const char *type, const void *body, size_t size,
                          dscm_problem *problem) DSCM_MUST_CHECK;
/* The form of a request with a raw picture: *picture is the part that is a file or named "image" (NULL:
 * there is none), and the other parts are appended to `query` (NULL: none) as its parameters. Fields left
 * blank count as not given. False with `problem` set: more than one picture, too many fields. */
bool dscm_multipart_request(const dscm_multipart *form, const char *query,
                            char out[DSCM_QUERY_SIZE_MAX + 1], const dscm_part **picture,
                            dscm_problem *problem) DSCM_MUST_CHECK;

#endif
