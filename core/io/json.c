#include "core/io/json.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static json_malloc_t former_malloc;
static json_free_t former_free;
static _Thread_local unsigned long failures;

static void *counting_malloc(size_t size)
{
    void *block = former_malloc(size);
    failures += !block;
    return block;
}

static void install(void)
{
    json_get_alloc_funcs(&former_malloc, &former_free);
    json_set_alloc_funcs(counting_malloc, former_free);
}

unsigned long dscm_json_failures(void)
{
    pthread_once(&once, install);
    return failures;
}

char *dscm_json_write(const json_t *value, size_t flags, unsigned long since)
{
    char *text = value && dscm_json_failures() == since ? json_dumps(value, flags) : NULL;
    if (text && dscm_json_failures() == since) return text;
    if (text) former_free(text);
    return NULL;
}

json_t *dscm_json_read(const char *text, size_t size, size_t flags, json_error_t *why)
{
    json_error_t unseen;
    unsigned long since = dscm_json_failures();
    if (!why) why = &unseen;
    json_t *value = json_loadb(text, size, flags, why);
    if (dscm_json_failures() == since) return value;
    json_decref(value);
    snprintf(why->text, sizeof why->text, "out of memory");
    why->text[sizeof why->text - 1] = (char)json_error_out_of_memory; /* where its code is kept */
    return NULL;
}

dscm_code dscm_json_code(const json_error_t *why)
{
    return json_error_code(why) == json_error_out_of_memory ? DSCM_E_MEMORY : DSCM_E_FORMAT;
}
