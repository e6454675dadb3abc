/* An allocator for the JSON library of which one call fails, for tests of what becomes of it then. */
#ifndef DSCM_TESTS_FAILING_JSON_H
#define DSCM_TESTS_FAILING_JSON_H

#include <jansson.h>
#include <stdlib.h>

static long failing_calls, failing_at;

static void *failing_malloc(size_t size)
{
    return ++failing_calls == failing_at ? NULL : malloc(size);
}

/* Before anything else of the program uses JSON: dscm_json_failures counts what this allocator refuses. */
static void failing_install(void)
{
    json_set_alloc_funcs(failing_malloc, free);
}

/* Counts calls anew; the n-th fails, none for 0. */
static void fail_nth(long n)
{
    failing_calls = 0;
    failing_at = n;
}

#endif
