/* The data of `diffscm new`: read as people have it, written as IDX files of three splits. */
#include <string.h>

#include "cli/new.h"
#include "core/base/cpu.h"
#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/data/split.h"
#include "core/io/file.h"

#define SIZE_MOST   64 /* larger pictures are brought to SIZE_CHOSEN */
#define SIZE_CHOSEN 32

static dscm_code read_set(dscm_dataset *out, const char *path, size_t size, dscm_error *err)
{
    char cache[4096];
    dscm_dataset_options o = {.h = size,
                              .w = size,
                              .threads = dscm_cpu_count(),
                              .cache = cli_data_cache(cache, sizeof cache)};
    dscm_error first = {0};
    dscm_code code = dscm_dataset_read(out, path, "train", &o, &first);
    if (code == DSCM_E_NOT_FOUND) {
        dscm_error ignored = {0};
        if (dscm_dataset_read(out, path, "all", &o, &ignored) == DSCM_OK) return DSCM_OK;
    }
    return code == DSCM_OK ? code : dscm_fail(err, code, "%s", first.message);
}

/* Pictures of several sizes, not square or large are read again at a chosen size. */
static dscm_code read_sized(dscm_dataset *out, const char *path, size_t size, dscm_error *err)
{
    dscm_error first = {0};
    dscm_code code = read_set(out, path, size, size ? err : &first);
    if (size || (code != DSCM_OK && code != DSCM_E_MISMATCH))
        return code == DSCM_OK || size ? code : dscm_fail(err, code, "%s", first.message);
    if (code == DSCM_OK && out->h == out->w && out->h <= SIZE_MOST) return DSCM_OK;
    bool idx = code == DSCM_OK && strncmp(out->facts.kind, "IDX", 3) == 0;
    if (idx) {
        size_t w = out->w, h = out->h;
        dscm_dataset_free(out);
        return dscm_fail(err, DSCM_E_INVALID,
                         "%s: IDX images of %zux%zu; square ones of at most %d pixels are needed",
                         path, w, h, SIZE_MOST);
    }
    if (code == DSCM_OK) dscm_dataset_free(out);
    fprintf(stderr, "%s: pictures are not alike, not square or large: all become %dx%d (--size)\n",
            path, SIZE_CHOSEN, SIZE_CHOSEN);
    return read_set(out, path, SIZE_CHOSEN, err);
}

static dscm_code write_file(const char *folder, const char *split, const char *what,
                            const dscm_idx *idx, dscm_error *err)
{
    char path[4200];
    if (snprintf(path, sizeof path, "%s/%s-%s-idx%d-ubyte", folder, split, what, idx->ndim) >=
        (int)sizeof path)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", folder);
    return dscm_idx_write(idx, path, err);
}

static dscm_code write_split(const dscm_dataset *set, const char *folder, const char *name,
                             const char *slice, dscm_error *err)
{
    dscm_split split;
    size_t pixels = set->h * set->w * set->c, n = 0;
    uint32_t *keep = dscm_alloc(set->count, sizeof *keep, "split", err);
    uint8_t *images = dscm_alloc(set->count, pixels, "split", err);
    uint8_t *labels = dscm_alloc(set->count, 1, "split", err);
    dscm_code code = keep && images && labels ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = dscm_split_parse(&split, slice, err);
    if (code == DSCM_OK) n = dscm_split_select(&split, set->labels, set->count, keep);
    if (code == DSCM_OK && !n)
        code = dscm_fail(err, DSCM_E_INVALID, "%zu images are too few to divide into splits",
                         set->count);
    for (size_t i = 0; i < n; i++) {
        memcpy(images + i * pixels, set->pixels + keep[i] * pixels, pixels);
        labels[i] = set->labels[keep[i]];
    }
    const dscm_idx x = {.dims = {n, set->h, set->w, set->c},
                        .ndim = set->c == 1 ? 3 : 4,
                        .count = n * pixels,
                        .data = images};
    const dscm_idx y = {.dims = {n}, .ndim = 1, .count = n, .data = labels};
    if (code == DSCM_OK) code = write_file(folder, name, "images", &x, err);
    if (code == DSCM_OK) code = write_file(folder, name, "labels", &y, err);
    dscm_free(keep);
    dscm_free(images);
    dscm_free(labels);
    return code;
}

/* Names by the folders, a file, or the numbers. */
static dscm_code name_classes(new_plan *plan, const dscm_dataset *set, const char *file,
                              dscm_error *err)
{
    unsigned char *bytes = NULL;
    size_t size = 0;
    char number[24];
    plan->labels = json_array();
    dscm_code code = file ? dscm_file_read(file, (size_t)1 << 20, &bytes, &size, err) : DSCM_OK;
    char *line = (char *)bytes;
    for (size_t k = 0; code == DSCM_OK && k < set->classes; k++) {
        snprintf(number, sizeof number, "%zu", k);
        const char *name = set->names ? set->names[k] : number;
        size_t n = strlen(name);
        if (file) {
            name = line;
            n = strcspn(line, "\r\n");
            line += n;
            line += *line == '\r';
            line += *line == '\n';
        }
        if (!n || memchr(name, '\n', n) ||
            json_array_append_new(plan->labels, json_stringn(name, n)))
            code = dscm_fail(err, DSCM_E_INVALID, "%s: the name of class %zu is empty or not UTF-8",
                             file ? file : plan->data, k);
        for (size_t i = 0; code == DSCM_OK && i < k; i++)
            if (json_equal(json_array_get(plan->labels, i), json_array_get(plan->labels, k)))
                code = dscm_fail(err, DSCM_E_INVALID, "%s: classes %zu and %zu have one name", file,
                                 i, k);
    }
    if (code == DSCM_OK && file && *line)
        code = dscm_fail(err, DSCM_E_MISMATCH, "%s: more names than the %zu classes", file,
                         set->classes);
    dscm_free(bytes);
    return code;
}

dscm_code new_convert(new_plan *plan, const char *folder, size_t size, const char *labels_file,
                      bool anew, dscm_error *err)
{
    dscm_dataset set = {0};
    dscm_code code = read_sized(&set, plan->data, size, err);
    if (code == DSCM_OK) {
        cli_data_describe(&set, plan->data);
        code = dscm_dataset_check_classes(&set, 0, err);
    }
    if (code == DSCM_OK && !anew && strcmp(set.sha256, plan->data_sha256) != 0)
        code = dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: other pictures than the stored plan was made for", plan->data);
    if (code == DSCM_OK && anew) {
        plan->size = set.h;
        plan->channels = set.c;
        plan->classes = set.classes;
        plan->count = set.count;
        memcpy(plan->data_sha256, set.sha256, sizeof plan->data_sha256);
        code = name_classes(plan, &set, labels_file, err);
    }
    if (code == DSCM_OK) code = write_split(&set, folder, "M", "M[0%:60%]", err);
    if (code == DSCM_OK) code = write_split(&set, folder, "S", "S[60%:75%]", err);
    if (code == DSCM_OK) code = write_split(&set, folder, "P", "P[75%:100%]", err);
    dscm_dataset_free(&set);
    return code;
}
