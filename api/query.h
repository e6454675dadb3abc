/* Query strings: "do.digit=8&steps=20", percent-decoded strictly.
 *
 * Rejects bad escapes, control characters, NUL, empty names, duplicates and more pairs or bytes
 * than the limits. Threads: plain data.
 */
#ifndef DSCM_API_QUERY_H
#define DSCM_API_QUERY_H

#include <stdbool.h>
#include <stddef.h>

#include "api/problem.h"

#define DSCM_QUERY_PAIRS_MAX 64
#define DSCM_QUERY_SIZE_MAX  4096

typedef struct dscm_query_string {
    const char *names[DSCM_QUERY_PAIRS_MAX]; /* point into text */
    const char *values[DSCM_QUERY_PAIRS_MAX];
    size_t count;
    char text[DSCM_QUERY_SIZE_MAX + 1];
} dscm_query_string;

/* text: what follows the '?' (NULL or "" gives no pairs). False with `problem` set
 * (malformed-query). */
bool dscm_query_parse(dscm_query_string *out, const char *text,
                      dscm_problem *problem) DSCM_MUST_CHECK;
/* Value of a name, or NULL. */
const char *dscm_query_get(const dscm_query_string *query, const char *name);

#endif
