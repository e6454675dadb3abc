#include "core/io/json.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)64 << 20)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static json_malloc_t former_malloc;
static json_free_t former_free;
static _Thread_local unsigned long failures;

/* ---- leaving the parser ---- */
/* jansson's parser cannot go on without memory: it loses a letter of what it reads and then trusts what
 * is left, up to a failed assertion or beyond the end of a block. So the first failed allocation of a
 * parse leaves it, and what it has allocated is released. */
typedef struct event {
    uintptr_t block; /* its lowest bit: released, not allocated */
    size_t order;
} event;

static _Thread_local struct parse {
    jmp_buf out;
    event *events;
    size_t count, room, allocated;
} parse;
static _Thread_local bool parsing;

/* There is always room for the release of what was allocated. False: no memory for that. */
static bool note_allocated(void *block)
{
    if (2 * (parse.allocated + 1) > parse.room) {
        size_t room = parse.room ? 2 * parse.room : 64;
        event *more = realloc(parse.events, room * sizeof *more);
        if (!more) return false;
        parse.events = more;
        parse.room = room;
    }
    parse.events[parse.count] = (event){(uintptr_t)block, parse.count};
    parse.allocated++;
    parse.count++;
    return true;
}

static void note_released(void *block)
{
    if (!block || parse.count == parse.room) return;
    parse.events[parse.count] = (event){(uintptr_t)block | 1, parse.count};
    parse.count++;
}

/* By block, then by time. */
static int by_block(const void *left, const void *right)
{
    const event *a = left, *b = right;
    uintptr_t x = a->block & ~(uintptr_t)1, y = b->block & ~(uintptr_t)1;
    return x != y ? (x > y) - (x < y) : (a->order > b->order) - (a->order < b->order);
}

/* Releases the blocks of which allocation is the last that happened. */
static void release_all(void)
{
    if (parse.count) qsort(parse.events, parse.count, sizeof *parse.events, by_block);
    for (size_t i = 0; i < parse.count; i++) {
        uintptr_t block = parse.events[i].block;
        bool last = i + 1 == parse.count || (parse.events[i + 1].block | 1) != (block | 1);
        if (last && !(block & 1)) former_free((void *)block);
    }
}

/* ---- jansson's allocator ---- */
static void *counting_malloc(size_t size)
{
    void *block = former_malloc(size);
    if (block && parsing && !note_allocated(block)) {
        former_free(block);
        block = NULL;
    }
    failures += !block;
    if (!block && parsing) longjmp(parse.out, 1);
    return block;
}

static void counting_free(void *block)
{
    if (parsing) note_released(block);
    former_free(block);
}

static void install(void)
{
    json_get_alloc_funcs(&former_malloc, &former_free);
    json_set_alloc_funcs(counting_malloc, counting_free);
}

/* A host may unload the library and go on with jansson. */
__attribute__((destructor)) static void uninstall(void)
{
    json_malloc_t malloc_now;
    json_free_t free_now;
    json_get_alloc_funcs(&malloc_now, &free_now);
    if (malloc_now == counting_malloc) json_set_alloc_funcs(former_malloc, former_free);
}

unsigned long dscm_json_failures(void)
{
    pthread_once(&once, install);
    return failures;
}

/* ---- building and writing ---- */
json_t *dscm_json_whole(json_t *value, unsigned long since)
{
    if (dscm_json_failures() == since) return value;
    json_decref(value);
    return NULL;
}

void dscm_json_lack(void)
{
    failures++;
}

char *dscm_json_write(const json_t *value, size_t flags, unsigned long since)
{
    char *text = value && dscm_json_failures() == since ? json_dumps(value, flags) : NULL;
    if (text && dscm_json_failures() == since) return text;
    if (text) former_free(text);
    return NULL;
}

/* ---- reading ---- */
static void no_memory(json_error_t *why)
{
    memset(why, 0, sizeof *why);
    snprintf(why->text, sizeof why->text, "out of memory");
    why->text[sizeof why->text - 1] = (char)json_error_out_of_memory; /* where its code is kept */
}

/* Nothing of this frame is used after the parser was left. */
static json_t *parse_or_leave(const char *text, size_t size, size_t flags, json_error_t *why)
{
    parse.events = NULL;
    parse.count = parse.room = parse.allocated = 0;
    if (setjmp(parse.out) != 0) {
        parsing = false;
        release_all();
        free(parse.events);
        return NULL;
    }
    parsing = true;
    json_t *value = json_loadb(text, size, flags, why);
    parsing = false;
    free(parse.events);
    return value;
}

json_t *dscm_json_read(const char *text, size_t size, size_t flags, json_error_t *why)
{
    json_error_t unseen;
    unsigned long since = dscm_json_failures();
    if (!why) why = &unseen;
    json_t *value = parse_or_leave(text, size, flags, why);
    if (!value && dscm_json_failures() != since) no_memory(why);
    return value;
}

/* All that the file holds, by doubling: a pipe does not tell its length. NULL with errno. */
static char *file_text(FILE *file, size_t *size)
{
    size_t room = 4096, got = 0;
    char *text = NULL;
    for (*size = 0;; *size += got) {
        char *more = !text || *size == room ? realloc(text, room *= text ? 2 : 1) : text;
        if (!more || room > FILE_MAX) {
            if (more) errno = EFBIG;
            free(more ? more : text);
            return NULL;
        }
        text = more;
        got = fread(text + *size, 1, room - *size, file);
        if (!got) break;
    }
    if (!ferror(file)) return text;
    free(text);
    return NULL;
}

json_t *dscm_json_read_file(const char *path, size_t flags, json_error_t *why)
{
    json_error_t unseen;
    size_t size = 0;
    if (!why) why = &unseen;
    memset(why, 0, sizeof *why);
    FILE *file = fopen(path, "rb");
    char *text = file ? file_text(file, &size) : NULL;
    if (!text) {
        snprintf(why->text, sizeof why->text, "%.80s: %s", path, strerror(errno));
        why->line = -1;
        if (errno == ENOMEM) {
            dscm_json_lack();
            no_memory(why);
        }
    }
    if (file) fclose(file);
    json_t *value = text ? dscm_json_read(text, size, flags, why) : NULL;
    free(text);
    return value;
}

dscm_code dscm_json_code(const json_error_t *why)
{
    return json_error_code(why) == json_error_out_of_memory ? DSCM_E_MEMORY : DSCM_E_FORMAT;
}
