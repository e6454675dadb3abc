#include "core/data/dataset.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/memory.h"
#include "core/data/dataset_internal.h"
#include "core/data/idx.h"
#include "core/io/sha256.h"

#define IDX_LIMIT ((size_t)2 << 30)

void dscm_dataset_free(dscm_dataset *set)
{
    for (size_t k = 0; set->names && k < set->classes; k++) dscm_free(set->names[k]);
    dscm_free(set->names);
    for (size_t i = 0; i < set->files_count; i++) dscm_free(set->files[i]);
    dscm_free(set->files);
    dscm_free(set->pixels);
    dscm_free(set->labels);
    dscm_free(set->rows);
    *set = (dscm_dataset){0};
}

/* ---- IDX ---- */
typedef struct idx_pair {
    const dscm_source *source;
    size_t images, labels; /* files */
    dscm_idx image_data, label_data;
    char image_name[4400], label_name[4400];
} idx_pair;

static dscm_code take_idx(void *arg, const dscm_source_piece *pieces, size_t count, dscm_error *err)
{
    idx_pair *p = arg;
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < count; i++) {
        bool images = pieces[i].file == p->images;
        if (!pieces[i].bytes)
            return dscm_fail(err, pieces[i].error.code, "%s", pieces[i].error.message);
        code = dscm_idx_read_memory(images ? &p->image_data : &p->label_data, pieces[i].bytes,
                                    pieces[i].size, images ? p->image_name : p->label_name, err);
    }
    return code;
}

static dscm_code check_images(const dscm_idx *i, const char *name, dscm_error *err)
{
    if (i->ndim < 3)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: %d dimensions; images have 3 (number, height, width) or 4 (channels)",
                         name, i->ndim);
    if (!i->count)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: holds no images (%zu of %zux%zu); at least 1 of 1x1 is needed", name,
                         i->dims[0], i->dims[1], i->dims[2]);
    if (i->ndim == 4 && i->dims[3] != 1 && i->dims[3] != 3) {
        bool first = i->dims[1] == 1 || i->dims[1] == 3;
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: %zu images of %zux%zux%zu%s; channels are last, 1 or 3 of them", name,
                         i->dims[0], i->dims[1], i->dims[2], i->dims[3],
                         first ? ", which look as if channels were first" : "");
    }
    return DSCM_OK;
}

/* Moves images and labels into the set. labels may be empty (no file). */
static dscm_code from_idx(dscm_dataset *out, idx_pair *p, dscm_error *err)
{
    dscm_idx *i = &p->image_data, *l = &p->label_data;
    dscm_code code = check_images(i, p->image_name, err);
    if (code != DSCM_OK) return code;
    if (l->data && l->ndim != 1)
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: %d dimensions; labels have 1", p->label_name,
                         l->ndim);
    if (l->data && i->dims[0] != l->dims[0])
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: %zu labels for the %zu images of %s",
                         p->label_name, l->dims[0], i->dims[0], p->image_name);
    bool labelled = l->data != NULL;
    if (!labelled) l->data = dscm_alloc(i->dims[0], 1, "labels", err);
    if (!l->data) return DSCM_E_MEMORY;
    *out = (dscm_dataset){.count = i->dims[0],
                          .h = i->dims[1],
                          .w = i->dims[2],
                          .c = i->ndim == 4 ? i->dims[3] : 1,
                          .pixels = i->data,
                          .labels = l->data};
    i->data = l->data = NULL;
    for (size_t k = 0; labelled && k < out->count; k++)
        if (out->labels[k] >= out->classes) out->classes = out->labels[k] + (size_t)1;
    snprintf(out->facts.kind, sizeof out->facts.kind, "IDX files");
    return DSCM_OK;
}

static dscm_code read_idx_files(dscm_dataset *out, const dscm_source *s, const dscm_layout *l,
                                const dscm_dataset_options *o, const char *split, dscm_error *err)
{
    idx_pair pair = {.source = s, .images = l->images, .labels = l->labels};
    bool *wanted = dscm_alloc(s->count, sizeof *wanted, s->path, err);
    if (!wanted) return DSCM_E_MEMORY;
    dscm_code code = DSCM_OK;
    wanted[l->images] = true;
    snprintf(pair.image_name, sizeof pair.image_name, "%s/%s", s->path, s->files[l->images].name);
    if (l->labels != SIZE_MAX) {
        wanted[l->labels] = true;
        snprintf(pair.label_name, sizeof pair.label_name, "%s/%s", s->path,
                 s->files[l->labels].name);
    } else if (!o->without_labels) {
        code = dscm_fail(err, DSCM_E_NOT_FOUND,
                         "%s: %s is there, its labels %s-labels-idx1-ubyte[.gz] are not", s->path,
                         s->files[l->images].name, split);
    }
    if (code == DSCM_OK) code = dscm_source_read(s, wanted, IDX_LIMIT, take_idx, &pair, err);
    if (code == DSCM_OK) code = from_idx(out, &pair, err);
    dscm_idx_free(&pair.image_data);
    dscm_idx_free(&pair.label_data);
    dscm_free(wanted);
    return code;
}

/* One IDX file of images, as the path itself. */
static bool is_idx_path(const char *path)
{
    struct stat st;
    unsigned char head[4] = {0};
    const char *end = strrchr(path, '/');
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return false;
    if (strstr(end ? end : path, "idx")) return true;
    FILE *f = fopen(path, "rb");
    bool idx = f && fread(head, 1, 4, f) == 4 && !head[0] && !head[1] && head[2] == 8 &&
               head[3] >= 1 && head[3] <= DSCM_IDX_DIMS_MAX;
    if (f) fclose(f);
    return idx;
}

/* Before any image is left out. */
static dscm_code number_images(dscm_dataset *set, dscm_error *err)
{
    set->rows = dscm_alloc(set->count, sizeof *set->rows, "data", err);
    if (!set->rows) return DSCM_E_MEMORY;
    set->whole = set->count;
    for (size_t i = 0; i < set->count; i++) set->rows[i] = (uint32_t)i;
    return DSCM_OK;
}

static dscm_code read_idx_path(dscm_dataset *out, const char *path, const dscm_dataset_options *o,
                               dscm_error *err)
{
    idx_pair pair = {.images = 0};
    if (!o->without_labels)
        return dscm_fail(err, DSCM_E_INVALID,
                         "%s: one IDX file; the folder that holds it and its labels is needed",
                         path);
    snprintf(pair.image_name, sizeof pair.image_name, "%s", path);
    dscm_code code = dscm_idx_read(&pair.image_data, path, err);
    if (code == DSCM_OK) code = from_idx(out, &pair, err);
    if (code == DSCM_OK) code = number_images(out, err);
    dscm_idx_free(&pair.image_data);
    dscm_idx_free(&pair.label_data);
    return code;
}

/* ---- splits ---- */
dscm_code dscm_dataset_keep(dscm_dataset *set, const dscm_split *split, dscm_error *err)
{
    size_t pixels = set->h * set->w * set->c;
    uint32_t *keep = dscm_alloc(set->count, sizeof *keep, "split", err);
    if (!keep) return DSCM_E_MEMORY;
    size_t count = dscm_split_select(split, set->labels, set->count, keep);
    for (size_t i = 0; i < count; i++) { /* ascending: nothing is overwritten before it moved */
        memmove(set->pixels + i * pixels, set->pixels + keep[i] * pixels, pixels);
        set->labels[i] = set->labels[keep[i]];
        set->rows[i] = set->rows[keep[i]];
    }
    dscm_free(keep);
    if (!count)
        return dscm_fail(err, DSCM_E_INVALID, "split: the slice of %s leaves none of %zu images",
                         split->name, set->count);
    set->count = count;
    return DSCM_OK;
}

/* train, dev, test of a set without folders for them. */
static dscm_code divide(dscm_dataset *set, const char *path, const char *name, dscm_error *err)
{
    static const struct {
        const char *name;
        double from, to;
    } parts[] = {{"all", 0, 100}, {"train", 0, 80}, {"dev", 80, 90}, {"test", 90, 100}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        dscm_split part = {.per_class = true, .has_from = true, .has_to = true};
        if (strcmp(name, parts[i].name) != 0) continue;
        part.from = parts[i].from;
        part.to = parts[i].to;
        snprintf(part.name, sizeof part.name, "%s", name);
        return dscm_dataset_keep(set, &part, err);
    }
    return dscm_fail(err, DSCM_E_NOT_FOUND,
                     "%s: no split \"%s\": there are no folders per split, so train, dev and test "
                     "(80, 10 and 10 per cent of each class) and all can be asked for",
                     path, name);
}

static dscm_code read_source(dscm_dataset *out, const char *path, const dscm_split *split,
                             const dscm_dataset_options *o, dscm_error *err)
{
    dscm_source source = {0};
    dscm_layout layout = {0};
    dscm_code code = dscm_source_open(&source, path, err);
    if (code == DSCM_OK) code = dscm_layout_find(&layout, &source, split->name, err);
    if (code == DSCM_OK && layout.idx)
        code = read_idx_files(out, &source, &layout, o, split->name, err);
    bool together = code == DSCM_OK && layout.class_count == 1;
    if (together && !layout.idx && !o->without_labels)
        code = dscm_layout_label(&layout, &source, err);
    if (code == DSCM_OK && !layout.idx)
        code = dscm_dataset_from_folders(out, &source, &layout, o, err);
    if (code == DSCM_OK) code = number_images(out, err);
    if (code == DSCM_OK && !layout.idx && !layout.nested)
        code = divide(out, path, split->name, err);
    if (code == DSCM_OK && source.archive) {
        size_t n = strlen(out->facts.kind);
        snprintf(out->facts.kind + n, sizeof out->facts.kind - n, " in a tar archive");
    }
    dscm_layout_close(&layout);
    dscm_source_close(&source);
    return code;
}

/* ---- the whole ---- */
static void relabel(dscm_dataset *set)
{
    size_t counts[256] = {0}, classes = 0;
    uint8_t to[256] = {0};
    for (size_t i = 0; i < set->count; i++) counts[set->labels[i]]++;
    for (size_t k = 0; k < set->classes; k++) {
        if (!counts[k]) {
            if (set->names) dscm_free(set->names[k]);
            continue;
        }
        if (set->names) set->names[classes] = set->names[k];
        to[k] = (uint8_t)classes++;
    }
    for (size_t i = 0; i < set->count; i++) set->labels[i] = to[set->labels[i]];
    set->classes = classes;
}

static dscm_code check_size(const dscm_dataset *set, const dscm_dataset_options *o,
                            const char *path, dscm_error *err)
{
    if (o->h && (set->h != o->h || set->w != o->w))
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: images of %zux%zu pixels, --size asks for %zux%zu; IDX files are "
                         "taken as they are",
                         path, set->w, set->h, o->w, o->h);
    if (o->channels && set->c != o->channels)
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: images of %zu channels, %zu are asked for",
                         path, set->c, o->channels);
    return DSCM_OK;
}

dscm_code dscm_dataset_read(dscm_dataset *out, const char *path, const char *split_text,
                            const dscm_dataset_options *options, dscm_error *err)
{
    static const dscm_dataset_options none = {0};
    const dscm_dataset_options *o = options ? options : &none;
    dscm_split split;
    *out = (dscm_dataset){0};
    dscm_code code = dscm_split_parse(&split, split_text, err);
    if (code == DSCM_OK)
        code = is_idx_path(path) ? read_idx_path(out, path, o, err)
                                 : read_source(out, path, &split, o, err);
    if (code == DSCM_OK) code = check_size(out, o, path, err);
    if (code == DSCM_OK) code = dscm_split_check(&split, split_text, out->count, err);
    if (code == DSCM_OK && split.sliced) code = dscm_dataset_keep(out, &split, err);
    if (code != DSCM_OK) {
        dscm_dataset_free(out);
        return code;
    }
    if (o->relabel) relabel(out);
    size_t bytes = out->count * out->h * out->w * out->c;
    dscm_sha256_hex(out->sha256, out->pixels, bytes);
    out->facts.low = 255;
    for (size_t i = 0; i < bytes; i++) {
        if (out->pixels[i] < out->facts.low) out->facts.low = out->pixels[i];
        if (out->pixels[i] > out->facts.high) out->facts.high = out->pixels[i];
    }
    size_t shared = dscm_dataset_shared(out, out);
    out->facts.repeated = shared == SIZE_MAX ? 0 : shared;
    return DSCM_OK;
}

dscm_code dscm_dataset_open(dscm_dataset *out, const char *path, const char *split, dscm_error *err)
{
    return dscm_dataset_read(out, path, split, NULL, err);
}
