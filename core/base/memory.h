/* Memory: checked sizes, aligned blocks and arenas.
 *
 * Everything that a network step writes lives in an arena taken once; a step allocates nothing.
 * Blocks start on 64-byte boundaries so that vector loads never split a cache line. Threads: an
 * arena belongs to one thread while it hands out memory; the memory itself may be shared.
 */
#ifndef DSCM_CORE_BASE_MEMORY_H
#define DSCM_CORE_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"

#define DSCM_ALIGN ((size_t)64)

/* *out = a * b, or false when the product does not fit (then *out is untouched). */
bool dscm_size_mul(size_t a, size_t b, size_t *out) DSCM_MUST_CHECK;
bool dscm_size_add(size_t a, size_t b, size_t *out) DSCM_MUST_CHECK;

/* Zeroed, 64-byte aligned memory for count * size bytes (at least one), or NULL with `err` set when
 * it cannot be had. `what` names the thing in the message. Release with dscm_free (takes NULL). */
void *dscm_alloc(size_t count, size_t size, const char *what, dscm_error *err) DSCM_MUST_CHECK;
void dscm_free(void *block);

/* A copy of a string, or NULL with `err` set. Release with dscm_free. */
char *dscm_strdup(const char *text, dscm_error *err) DSCM_MUST_CHECK;

typedef struct dscm_arena {
    unsigned char *base;
    size_t size, used; /* bytes */
} dscm_arena;

/* One block of `size` bytes, touched once (huge pages where the kernel offers them), so that later
 * steps meet no page faults. The arena is empty after a failure. */
dscm_code dscm_arena_open(dscm_arena *arena, size_t size, dscm_error *err) DSCM_MUST_CHECK;
/* The next `bytes`, 64-byte aligned. Asking for more than is left breaks the contract (assert). */
void *dscm_arena_take(dscm_arena *arena, size_t bytes);
/* Bytes that dscm_arena_take uses for a request: rounded up to the alignment. */
size_t dscm_arena_round(size_t bytes);
void dscm_arena_close(dscm_arena *arena); /* takes an empty arena too */

#endif
