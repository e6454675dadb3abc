/* What a person should know of a data set before hours of work start. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/data/dataset.h"

typedef struct writer {
    char *text;
    size_t size, at;
} writer;

static void put(writer *w, const char *format, ...) DSCM_PRINTF(2, 3);
static void put(writer *w, const char *format, ...)
{
    va_list args;
    if (w->at + 1 >= w->size) return;
    va_start(args, format);
    int length = vsnprintf(w->text + w->at, w->size - w->at, format, args);
    va_end(args);
    w->at = length < 0 || (size_t)length >= w->size - w->at ? w->size - 1 : w->at + (size_t)length;
}

static void count_classes(const dscm_dataset *set, size_t counts[256])
{
    memset(counts, 0, 256 * sizeof *counts);
    for (size_t i = 0; i < set->count; i++) counts[set->labels[i]]++;
}

static void put_classes(writer *w, const dscm_dataset *set)
{
    size_t counts[256], least = SIZE_MAX, most = 0;
    count_classes(set, counts);
    put(w, "classes: ");
    for (size_t k = 0; k < set->classes; k++) {
        if (set->names)
            put(w, "%s%s %zu", k ? ", " : "", set->names[k], counts[k]);
        else
            put(w, "%s%zu: %zu", k ? ", " : "", k, counts[k]);
        if (counts[k] < least) least = counts[k];
        if (counts[k] > most) most = counts[k];
    }
    put(w, "\n");
    for (size_t k = 0; k < set->classes; k++)
        if (!counts[k] && set->names)
            put(w, "note: class %s has no image in this split\n", set->names[k]);
        else if (!counts[k])
            put(w, "note: no image has label %zu\n", k);
    if (least && most >= 3 * least)
        put(w, "note: the largest class has %.1f times the images of the smallest\n",
            (double)most / (double)least);
}

void dscm_dataset_describe(const dscm_dataset *set, char *text, size_t size)
{
    const dscm_dataset_facts *f = &set->facts;
    writer w = {.text = text, .size = size};
    text[0] = '\0';
    put(&w, "%zu images of %zux%zu pixels, %s, values %d..%d (%s%s)\n", set->count, set->w, set->h,
        set->c == 1 ? "grey" : "colour", f->low, f->high, f->kind, f->cached ? ", cached" : "");
    if (f->splits[0]) put(&w, "splits: %s\n", f->splits);
    if (set->classes) put_classes(&w, set);
    if (f->looked_at)
        put(&w, "%s: %zu of the %zu pictures looked at show colour\n",
            set->c == 1 ? "grey" : "colour", f->coloured, f->looked_at);
    if (f->resized)
        put(&w, "%zu pictures had another size: %s\n", f->resized,
            set->c == 1 ? "fitted whole, centred on black" : "the largest centred part was taken");
    if (f->unlisted)
        put(&w, "note: %zu pictures have no line in the CSV file and are left out\n", f->unlisted);
    if (f->unreadable)
        put(&w, "note: %zu unreadable and left out, the first: %s\n", f->unreadable,
            f->first_unreadable);
    if (f->repeated) put(&w, "note: %zu images repeat another one of the split\n", f->repeated);
    if (f->low == f->high) put(&w, "note: all pixels are equal\n");
}

dscm_code dscm_dataset_check_classes(const dscm_dataset *set, size_t classes, dscm_error *err)
{
    size_t counts[256], occurring = 0, first = 0;
    count_classes(set, counts);
    for (size_t k = 256; k-- > 0;)
        if (counts[k]) {
            occurring++;
            first = k;
        }
    if (classes && set->classes > classes)
        return dscm_fail(err, DSCM_E_MISMATCH, "data: label %zu occurs, --classes is %zu",
                         set->classes - 1, classes);
    if (occurring < 2)
        return dscm_fail(err, DSCM_E_INVALID,
                         "data: all %zu images have one class (label %zu); at least two classes "
                         "are needed",
                         set->count, first);
    if (classes || occurring == set->classes) return DSCM_OK;
    size_t absent = 0;
    while (counts[absent]) absent++;
    return dscm_fail(err, DSCM_E_INVALID,
                     "data: no image has label %zu%s; --relabel numbers the %zu labels that occur "
                     "from 0, --classes N says that there are N all the same",
                     absent, first ? " (labels begin later)" : "", occurring);
}

/* ---- images in common ---- */
static uint64_t hash_of(const uint8_t *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a by words of eight bytes, mixed at the end */
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        h = (h ^ v) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    for (; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t *sorted_hashes(const dscm_dataset *set)
{
    size_t pixels = set->h * set->w * set->c;
    uint64_t *hashes = dscm_alloc(set->count ? set->count : 1, sizeof *hashes, "hashes", NULL);
    if (!hashes) return NULL;
    for (size_t i = 0; i < set->count; i++) hashes[i] = hash_of(set->pixels + i * pixels, pixels);
    qsort(hashes, set->count, sizeof *hashes, by_value);
    return hashes;
}

size_t dscm_dataset_shared(const dscm_dataset *a, const dscm_dataset *b)
{
    size_t shared = 0;
    if (a->h != b->h || a->w != b->w || a->c != b->c) return 0;
    uint64_t *x = sorted_hashes(a), *y = a == b ? NULL : sorted_hashes(b);
    if (!x || (a != b && !y))
        shared = SIZE_MAX;
    else if (a == b)
        for (size_t i = 1; i < a->count; i++) shared += x[i] == x[i - 1];
    else
        for (size_t i = 0; i < b->count; i++)
            shared += bsearch(&y[i], x, a->count, sizeof *x, by_value) != NULL;
    dscm_free(x);
    dscm_free(y);
    return shared;
}
