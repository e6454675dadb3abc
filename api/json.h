/* JSON from strangers: checked before it is parsed.
 *
 * jansson turns 8 MiB of "[{},{},…]" into 629 MiB, so size, structural tokens and depth are bounded
 * by one pass over the text first. Duplicate keys, NaN, Infinity and reals that overflow are
 * errors. Call dscm_json_init once before threads start. Threads: pure
 * functions.
 */
#ifndef DSCM_API_JSON_H
#define DSCM_API_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "api/problem.h"
#include "core/io/json.h"

#define DSCM_JSON_SIZE_MAX   ((size_t)1 << 20)
#define DSCM_JSON_TOKENS_MAX 4096 /* of { } [ ] : , */
#define DSCM_JSON_DEPTH_MAX  16

/* Seeds jansson's hash tables and counts its failed allocations from here on; once, before the first thread. */
void dscm_json_init(void);
/* The value (caller owns a reference), or NULL with `problem` set: malformed-json (with line and
 * column) or too-large. */
json_t *dscm_json_parse(const char *text, size_t size, dscm_problem *problem);
/* Compact text with 9 significant digits and keys in insertion order, newline at the end; NULL when there
 * is no value, or when memory ran out since the mark: dscm_json_failures() before the value was begun.
 * Release with free. */
char *dscm_json_text(const json_t *value, unsigned long since, size_t *size);
/* Sets key to a real, or to null when it is NaN or infinite. 0 or -1 as jansson does. */
int dscm_json_set_real(json_t *object, const char *key, double value);
/* Text that may hold a stranger's bytes as a JSON string: in text that is no UTF-8 all bytes beyond
 * ASCII appear as %XX, and what goes beyond 1,000 bytes is left out. NULL without memory. */
json_t *dscm_json_string(const char *text);

#endif
