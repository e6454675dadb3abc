#include "core/base/memory.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

bool dscm_size_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool dscm_size_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

size_t dscm_arena_round(size_t bytes)
{
    return (bytes + DSCM_ALIGN - 1) / DSCM_ALIGN * DSCM_ALIGN;
}

void *dscm_alloc(size_t count, size_t size, const char *what, dscm_error *err)
{
    size_t bytes = 0;
    if (!dscm_size_mul(count, size, &bytes) || bytes > SIZE_MAX / 2) {
        dscm_fail(err, DSCM_E_MEMORY, "%s: %zu items of %zu bytes do not fit in memory", what,
                  count, size);
        return NULL;
    }
    bytes = dscm_arena_round(bytes ? bytes : 1);
    void *block = aligned_alloc(DSCM_ALIGN, bytes);
    if (!block) {
        dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory for %zu bytes", what, bytes);
        return NULL;
    }
    return memset(block, 0, bytes);
}

void dscm_free(void *block)
{
    free(block);
}

char *dscm_strdup(const char *text, dscm_error *err)
{
    size_t bytes = strlen(text) + 1;
    char *copy = dscm_alloc(bytes, 1, "string", err);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}

dscm_code dscm_arena_open(dscm_arena *arena, size_t size, dscm_error *err)
{
    const size_t huge = (size_t)2 << 20;
    *arena = (dscm_arena){0};
    if (size > SIZE_MAX - huge)
        return dscm_fail(err, DSCM_E_MEMORY, "arena: %zu bytes do not fit in memory", size);
    size_t align = size >= huge ? huge : DSCM_ALIGN;
    size_t bytes = (size + align - 1) / align * align;
    unsigned char *base = aligned_alloc(align, bytes ? bytes : align);
    if (!base) return dscm_fail(err, DSCM_E_MEMORY, "arena: out of memory for %zu bytes", bytes);
    if (align == huge) madvise(base, bytes, MADV_HUGEPAGE); /* only a hint: failure costs speed */
    memset(base, 0, bytes ? bytes : align);
    *arena = (dscm_arena){.base = base, .size = bytes};
    return DSCM_OK;
}

void *dscm_arena_take(dscm_arena *arena, size_t bytes)
{
    size_t rounded = dscm_arena_round(bytes);
    assert(rounded <= arena->size - arena->used);
    void *block = arena->base + arena->used;
    arena->used += rounded;
    return block;
}

void dscm_arena_close(dscm_arena *arena)
{
    free(arena->base);
    *arena = (dscm_arena){0};
}
