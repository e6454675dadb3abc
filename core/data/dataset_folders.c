/* A data set from a folder per class: order, decoding, and the cache of what was decoded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/memory.h"
#include "core/data/dataset_internal.h"
#include "core/data/pictures.h"
#include "core/io/sha256.h"

typedef struct ordered {
    char hash[65];
    uint32_t file;
} ordered;

static int by_hash(const void *a, const void *b)
{
    return strcmp(((const ordered *)a)->hash, ((const ordered *)b)->hash);
}

/* places (files): the position of each wanted file; digest: of names, sizes and times. */
static dscm_code order_files(uint32_t *places, char key[65], const dscm_source *s,
                             const dscm_layout *l, const dscm_dataset_options *o, dscm_error *err)
{
    char line[256];
    dscm_sha256 *digest = NULL;
    ordered *files = dscm_alloc(l->count ? l->count : 1, sizeof *files, s->path, err);
    dscm_code code = files ? dscm_sha256_open(&digest, err) : DSCM_E_MEMORY;
    size_t n = 0;
    snprintf(line, sizeof line, "diffscm pictures 1 %zu %zu %zu\n", o->h, o->w, o->channels);
    if (code == DSCM_OK) dscm_sha256_add(digest, line, strlen(line));
    for (size_t i = 0; code == DSCM_OK && i < s->count; i++) {
        const dscm_source_file *f = &s->files[i];
        if (!l->wanted[i]) continue;
        dscm_sha256_hex(files[n].hash, l->inner[i], strlen(l->inner[i]));
        files[n++].file = (uint32_t)i;
        snprintf(line, sizeof line, "\n%llu %lld ", (unsigned long long)f->size,
                 (long long)f->changed);
        dscm_sha256_add(digest, line, strlen(line));
        dscm_sha256_add(digest, f->name, strlen(f->name));
    }
    if (code == DSCM_OK) code = dscm_sha256_close(digest, key, err);
    dscm_sha256_free(digest);
    if (code == DSCM_OK && n) qsort(files, n, sizeof *files, by_hash);
    for (size_t i = 0; code == DSCM_OK && i < n; i++) places[files[i].file] = (uint32_t)i;
    dscm_free(files);
    return code;
}

static dscm_code copy_names(dscm_dataset *out, const dscm_layout *l, dscm_error *err)
{
    out->names = dscm_alloc(l->class_count, sizeof *out->names, "class names", err);
    if (!out->names) return DSCM_E_MEMORY;
    for (out->classes = 0; out->classes < l->class_count; out->classes++) {
        out->names[out->classes] = dscm_strdup(l->names[out->classes], err);
        if (!out->names[out->classes]) return DSCM_E_MEMORY;
    }
    return DSCM_OK;
}

static dscm_code name_files(dscm_dataset *out, const dscm_source *s, const dscm_layout *l,
                            const uint32_t *places, dscm_error *err)
{
    out->files = dscm_alloc(l->count + 1, sizeof *out->files, "file names", err);
    if (!out->files) return DSCM_E_MEMORY;
    out->files_count = l->count;
    for (size_t i = 0; i < s->count; i++) {
        if (!l->wanted[i]) continue;
        out->files[places[i]] = dscm_strdup(s->files[i].name, err);
        if (!out->files[places[i]]) return DSCM_E_MEMORY;
    }
    return DSCM_OK;
}

/* Takes the pixels, without those that could not be read. */
static void take_pixels(dscm_dataset *out, dscm_pictures *p)
{
    size_t pixels = p->h * p->w * p->c, count = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (p->missing[i]) continue;
        if (out->files && count != i) { /* the name of a missing one goes to the end */
            char *missing = out->files[count];
            out->files[count] = out->files[i];
            out->files[i] = missing;
        }
        if (count != i) {
            memmove(p->pixels + count * pixels, p->pixels + i * pixels, pixels);
            out->labels[count] = out->labels[i];
        }
        count++;
    }
    out->count = count;
    out->h = p->h;
    out->w = p->w;
    out->c = p->c;
    out->pixels = p->pixels;
    p->pixels = NULL;
    out->facts.unreadable = p->unreadable;
    out->facts.resized = p->resized;
    out->facts.looked_at = p->looked_at;
    out->facts.coloured = p->coloured;
    memcpy(out->facts.first_unreadable, p->first_unreadable, sizeof out->facts.first_unreadable);
}

static dscm_code decode_all(dscm_dataset *out, const dscm_source *s, const dscm_layout *l,
                            const uint32_t *places, const dscm_dataset_options *o, dscm_error *err)
{
    dscm_pictures pictures = {.h = o->h, .w = o->w, .c = o->channels, .places = places};
    dscm_team *team = NULL;
    dscm_code code = dscm_team_open(&team, o->threads > 1 ? o->threads : 1, err);
    if (code == DSCM_OK) code = dscm_pictures_read(&pictures, s, l, team, err);
    dscm_team_free(team);
    if (code == DSCM_OK) take_pixels(out, &pictures);
    dscm_pictures_close(&pictures);
    return code;
}

dscm_code dscm_dataset_from_folders(dscm_dataset *out, const dscm_source *s, const dscm_layout *l,
                                    const dscm_dataset_options *o, dscm_error *err)
{
    char key[65];
    uint32_t *places = dscm_alloc(s->count, sizeof *places, s->path, err);
    out->labels = dscm_alloc(l->count, 1, "labels", err);
    dscm_code code = places && out->labels ? order_files(places, key, s, l, o, err) : DSCM_E_MEMORY;
    for (size_t i = 0; code == DSCM_OK && i < s->count; i++)
        if (l->wanted[i]) out->labels[places[i]] = l->classes[i];
    if (code == DSCM_OK && o->files) code = name_files(out, s, l, places, err);
    if (code == DSCM_OK && !(o->cache && dscm_dataset_cache_load(out, o->cache, key))) {
        code = decode_all(out, s, l, places, o, err);
        if (code == DSCM_OK && o->cache && !out->facts.unreadable)
            dscm_dataset_cache_save(out, o->cache, key);
    }
    dscm_free(places);
    if (code == DSCM_OK) code = copy_names(out, l, err);
    bool together = l->class_count == 1 && !l->names[0][0];
    snprintf(out->facts.kind, sizeof out->facts.kind, "%s",
             l->tabled  ? "pictures and a CSV file"
             : together ? "pictures in one folder"
                        : "a folder per class");
    out->facts.unlisted = l->unlisted;
    snprintf(out->facts.splits, sizeof out->facts.splits, "%s", l->splits);
    return code;
}
