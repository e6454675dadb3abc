/* JSON without gaps: text and values that are whole, or an error when memory runs out.
 *
 * jansson does not look at all of its own failures: json_dumps leaves a key out, its parser loses letters and
 * may end the process. And a value that is built by many calls lacks what failed where a result was not
 * looked at. So the failed allocations of jansson are counted, and a value that was built or read while one
 * failed is not used. The first call of any function here puts the counting around jansson's allocator as it
 * is then (json_set_alloc_funcs); whoever sets another one later turns it off. What JSON means is left to
 * its readers. Threads: the count is each thread's own, so build a value and write it in one thread.
 */
#ifndef DSCM_CORE_IO_JSON_H
#define DSCM_CORE_IO_JSON_H

#include <jansson.h>

#include "core/base/error.h"

/* Failed allocations of jansson in this thread so far: a mark to be taken before a value is built. */
unsigned long dscm_json_failures(void);

/* The value, or NULL and the value given up when an allocation failed since the mark. */
json_t *dscm_json_whole(json_t *value, unsigned long since) DSCM_MUST_CHECK;

/* Counts a failure of the caller's own: what it was to put into a value is lacking. */
void dscm_json_lack(void);

/* The value's text with jansson's flags; NULL when there is no value, or when an allocation failed since the
 * mark: of building it or of writing it. Release with free. */
char *dscm_json_write(const json_t *value, size_t flags, unsigned long since) DSCM_MUST_CHECK;

/* The value that `size` bytes of text hold, with jansson's flags (caller owns a reference); or NULL with *why
 * (may be NULL) told: its code is json_error_out_of_memory when an allocation failed. */
json_t *dscm_json_read(const char *text, size_t size, size_t flags,
                       json_error_t *why) DSCM_MUST_CHECK;

/* The same of a file of at most 64 MiB, or a pipe; where it cannot be read, why->line is -1. */
json_t *dscm_json_read_file(const char *path, size_t flags, json_error_t *why) DSCM_MUST_CHECK;

/* DSCM_E_MEMORY when that was why dscm_json_read failed, else DSCM_E_FORMAT. */
dscm_code dscm_json_code(const json_error_t *why);

#endif
