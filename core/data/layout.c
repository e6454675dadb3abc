#include "core/data/layout.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/memory.h"

#define SPLITS_MAX 16

/* Folder names that mean a split, those of one meaning in one row. */
static const char *const meanings[][5] = {{"train", "training", NULL},
                                          {"dev", "val", "valid", "validation", NULL},
                                          {"test", "testing", "t10k", NULL}};
#define MEANINGS (sizeof meanings / sizeof meanings[0])

static int meaning_of(const char *name, size_t length)
{
    for (size_t m = 0; m < MEANINGS; m++)
        for (size_t i = 0; i < 5 && meanings[m][i]; i++)
            if (strlen(meanings[m][i]) == length && strncasecmp(meanings[m][i], name, length) == 0)
                return (int)m;
    return -1;
}

void dscm_layout_close(dscm_layout *l)
{
    for (size_t i = 0; l->names && i < l->class_count; i++) dscm_free(l->names[i]);
    dscm_free(l->names);
    dscm_free(l->wanted);
    dscm_free(l->classes);
    dscm_free(l->inner);
    *l = (dscm_layout){0};
}

/* ---- IDX ---- */
static const char *base_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

/* SPLIT-images-idx3-ubyte, SPLIT-images.idx3-ubyte, -idx4-, without -ubyte, each also with .gz. */
static bool is_idx(const char *name, const char *split, const char *what)
{
    const char *p = base_name(name);
    size_t n = strlen(split), m = strlen(what);
    if (strncmp(p, split, n) != 0 || (p[n] != '-' && p[n] != '_')) return false;
    p += n + 1;
    if (strncmp(p, what, m) != 0 || (p[m] != '-' && p[m] != '.' && p[m] != '_')) return false;
    p += m + 1;
    if (strncmp(p, "idx", 3) != 0 || !isdigit((unsigned char)p[3])) return false;
    p += 4;
    if ((*p == '-' || *p == '.' || *p == '_') && strncmp(p + 1, "ubyte", 5) == 0) p += 6;
    return *p == '\0' || strcmp(p, ".gz") == 0;
}

/* The file of the shortest name: at the top before in a folder, plain before gzipped. */
static size_t find_idx(const dscm_source *s, const char *split, const char *what)
{
    size_t found = SIZE_MAX;
    for (size_t i = 0; i < s->count; i++)
        if (is_idx(s->files[i].name, split, what) &&
            (found == SIZE_MAX || strlen(s->files[i].name) < strlen(s->files[found].name)))
            found = i;
    return found;
}

/* ---- folders ---- */
static bool is_picture(const char *name)
{
    const char *dot = strrchr(base_name(name), '.');
    return dot && (strcasecmp(dot, ".png") == 0 || strcasecmp(dot, ".jpg") == 0 ||
                   strcasecmp(dot, ".jpeg") == 0);
}

/* Bytes of the folders that surround every picture and are no split, "data/" say. */
static size_t wrapper_length(const dscm_source *s)
{
    size_t length = 0;
    for (;;) {
        const char *first = NULL;
        size_t n = 0;
        bool deeper = false, same = true;
        for (size_t i = 0; same && i < s->count; i++) {
            if (!is_picture(s->files[i].name)) continue;
            const char *rest = s->files[i].name + length, *slash = strchr(rest, '/');
            if (!slash) return length;
            if (!first) {
                first = rest;
                n = (size_t)(slash - rest);
            }
            same = strncmp(first, rest, n + 1) == 0;
            deeper |= strchr(slash + 1, '/') != NULL;
        }
        /* One folder of pictures is a class: only what has folders of its own can be around them. */
        if (!first || !same || !deeper || meaning_of(first, n) >= 0) return length;
        length += n + 1;
    }
}

/* There are folders per split when every picture lies in a folder named like one. */
static bool has_splits(const dscm_source *s, size_t wrapper)
{
    bool any = false;
    for (size_t i = 0; i < s->count; i++) {
        if (!is_picture(s->files[i].name)) continue;
        const char *rest = s->files[i].name + wrapper;
        if (!strchr(rest, '/') || meaning_of(rest, strcspn(rest, "/")) < 0) return false;
        any = true;
    }
    return any;
}

typedef struct split_count {
    const char *name; /* borrowed, up to a slash */
    size_t length, pictures;
} split_count;

static dscm_code count_splits(dscm_layout *l, const dscm_source *s, size_t wrapper,
                              split_count *splits, size_t *count, dscm_error *err)
{
    *count = 0;
    for (size_t i = 0; i < s->count; i++) {
        const char *rest = s->files[i].name + wrapper;
        size_t n = strcspn(rest, "/"), k = 0;
        if (!is_picture(s->files[i].name)) continue;
        while (k < *count && (splits[k].length != n || memcmp(splits[k].name, rest, n) != 0)) k++;
        if (k == SPLITS_MAX)
            return dscm_fail(err, DSCM_E_LIMIT, "%s: more than %d splits", s->path, SPLITS_MAX);
        if (k == *count) splits[(*count)++] = (split_count){.name = rest, .length = n};
        splits[k].pictures++;
    }
    for (size_t k = 0, at = 0; k < *count; k++)
        at += (size_t)snprintf(l->splits + at, sizeof l->splits - at, "%s%.*s (%zu)", k ? ", " : "",
                               (int)(splits[k].length < 16 ? splits[k].length : 16), splits[k].name,
                               splits[k].pictures);
    return DSCM_OK;
}

/* The split of that name, or the only one of that meaning; *count: none. */
static size_t choose_split(const split_count *splits, size_t count, const char *name)
{
    size_t length = strlen(name), found = count, hits = 0;
    for (size_t k = 0; k < count; k++)
        if (splits[k].length == length && memcmp(splits[k].name, name, length) == 0) return k;
    int meaning = meaning_of(name, length);
    for (size_t k = 0; k < count; k++)
        if (meaning >= 0 && meaning_of(splits[k].name, splits[k].length) == meaning) {
            found = k;
            hits++;
        }
    return hits == 1 ? found : count;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The class of a picture: the first folder of `inner`; "" for one that lies in none. */
static size_t class_length(const char *inner)
{
    return strchr(inner, '/') ? strcspn(inner, "/") : 0;
}

/* Adds a class name unless it is the last one found: pictures of a class lie together mostly. */
static dscm_code add_class(dscm_layout *l, const char *inner, size_t n, const char *path,
                           dscm_error *err)
{
    for (size_t k = l->class_count; k-- > 0;)
        if (strlen(l->names[k]) == n && memcmp(l->names[k], inner, n) == 0) return DSCM_OK;
    if (l->class_count == DSCM_CLASSES_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: more than %d folders of pictures (classes)", path,
                         DSCM_CLASSES_MAX);
    char *copy = dscm_alloc(n + 1, 1, "class name", err);
    if (!copy) return DSCM_E_MEMORY;
    memcpy(copy, inner, n);
    l->names[l->class_count++] = copy;
    return DSCM_OK;
}

static uint8_t class_of(const dscm_layout *l, const char *inner)
{
    size_t n = class_length(inner);
    for (size_t k = 0; k < l->class_count; k++)
        if (strlen(l->names[k]) == n && memcmp(l->names[k], inner, n) == 0) return (uint8_t)k;
    return 0;
}

/* Fills inner and names over all pictures, wanted and classes of those of `split` (NULL: all). */
static dscm_code take_pictures(dscm_layout *l, const dscm_source *s, size_t wrapper,
                               const split_count *split, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < s->count; i++) {
        const char *rest = s->files[i].name + wrapper;
        if (!is_picture(s->files[i].name)) continue;
        l->inner[i] = l->nested ? rest + strcspn(rest, "/") + 1 : rest;
        l->wanted[i] = !split || (strncmp(rest, split->name, split->length) == 0 &&
                                  rest[split->length] == '/');
        l->count += l->wanted[i];
        code = add_class(l, l->inner[i], class_length(l->inner[i]), s->path, err);
    }
    if (code != DSCM_OK) return code;
    qsort(l->names, l->class_count, sizeof *l->names, by_text);
    for (size_t i = 0; l->class_count > 1 && i < s->count; i++)
        if (l->inner[i] && !class_length(l->inner[i]))
            return dscm_fail(err, DSCM_E_INVALID,
                             "%s: %s lies in no folder of a class, other pictures do", s->path,
                             s->files[i].name);
    for (size_t i = 0; i < s->count; i++)
        if (l->inner[i]) l->classes[i] = class_of(l, l->inner[i]);
    return DSCM_OK;
}

static dscm_code find_folders(dscm_layout *l, const dscm_source *s, const char *split,
                              dscm_error *err)
{
    split_count splits[SPLITS_MAX];
    size_t wrapper = wrapper_length(s), count = 0, k = 0;
    bool all = strcmp(split, "all") == 0;
    l->nested = has_splits(s, wrapper);
    l->wanted = dscm_alloc(s->count, sizeof *l->wanted, s->path, err);
    l->classes = dscm_alloc(s->count, sizeof *l->classes, s->path, err);
    l->inner = dscm_alloc(s->count, sizeof *l->inner, s->path, err);
    l->names = dscm_alloc(DSCM_CLASSES_MAX, sizeof *l->names, s->path, err);
    if (!l->wanted || !l->classes || !l->inner || !l->names) return DSCM_E_MEMORY;
    if (l->nested) {
        dscm_code code = count_splits(l, s, wrapper, splits, &count, err);
        if (code != DSCM_OK) return code;
        k = choose_split(splits, count, split);
        if (!all && k == count)
            return dscm_fail(err, DSCM_E_NOT_FOUND,
                             "%s: no split \"%s\"; there are %s, and \"all\" is every picture",
                             s->path, split, l->splits);
    }
    return take_pictures(l, s, wrapper, l->nested && !all ? &splits[k] : NULL, err);
}

/* ---- the choice ---- */
static dscm_code nothing(const dscm_source *s, const char *split, size_t labels, dscm_error *err)
{
    char found[160] = "";
    size_t at = 0;
    for (size_t i = 0; i < s->count && i < 3; i++)
        at += (size_t)snprintf(found + at, sizeof found - at, "%s%.40s", i ? ", " : "",
                               s->files[i].name);
    if (labels != SIZE_MAX)
        return dscm_fail(err, DSCM_E_NOT_FOUND, "%s: %s is there, %s-images-idx3-ubyte[.gz] is not",
                         s->path, s->files[labels].name, split);
    return dscm_fail(err, DSCM_E_NOT_FOUND,
                     "%s: neither %s-images-idx3-ubyte[.gz] (IDX files) nor a folder of PNG or "
                     "JPEG files per class; %s%s%s",
                     s->path, split, s->count ? "there are " : "it is empty", found,
                     s->count > 3 ? ", …" : "");
}

dscm_code dscm_layout_find(dscm_layout *out, const dscm_source *s, const char *split,
                           dscm_error *err)
{
    *out = (dscm_layout){.images = find_idx(s, split, "images"),
                         .labels = find_idx(s, split, "labels")};
    out->idx = out->images != SIZE_MAX;
    if (out->idx) return DSCM_OK;
    bool pictures = false;
    for (size_t i = 0; !pictures && i < s->count; i++) pictures = is_picture(s->files[i].name);
    dscm_code code =
        pictures ? find_folders(out, s, split, err) : nothing(s, split, out->labels, err);
    if (code != DSCM_OK) dscm_layout_close(out);
    return code;
}
