/* The data of `diffscm new`: read as people have it, written as IDX files of three splits. */
#include <string.h>
#include <unistd.h>

#include "cli/labels.h"
#include "cli/new.h"
#include "core/base/cpu.h"
#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/data/split.h"
#include "core/data/variables.h"

#define SIZE_MOST   64 /* larger pictures are brought to SIZE_CHOSEN */
#define SIZE_CHOSEN 32
#define CLASS_LEAST 10  /* pictures of a class, so that each split has some */
#define UNEVEN      1.5 /* the largest class to the smallest, from which on draws are balanced */

/* Whether the networks take images of that size: they halve it two or three times. */
static bool size_fits(size_t size)
{
    return size >= 8 && size <= SIZE_MOST && size % (size > 32 ? 8 : 4) == 0;
}

/* A table of variables takes the place of labels. */
static bool has_table(const char *path, const new_reading *reading)
{
    char table[NEW_PATH];
    const char *split = reading->split && !strchr(reading->split, '[') ? reading->split : "train";
    return reading->table ||
           (dscm_variables_path(table, sizeof table, path, split, NULL) == DSCM_OK &&
            access(table, F_OK) == 0);
}

/* The split that was asked for; else "train" where the data has splits, and every picture otherwise:
 * *split becomes which. */
static dscm_code read_set(dscm_dataset *out, const char *path, size_t size,
                          const new_reading *reading, const char **split, dscm_error *err)
{
    char cache[4096];
    bool table = has_table(path, reading);
    dscm_dataset_options o = {.h = size,
                              .w = size,
                              .threads = dscm_cpu_count(),
                              .relabel = true,
                              .files = table,
                              .without_labels = table,
                              .cache = cli_data_cache(cache, sizeof cache)};
    *split = reading->split ? reading->split : "train";
    if (reading->split) return dscm_dataset_read(out, path, *split, &o, err);
    dscm_error first = {0}, second = {0};
    dscm_code code = dscm_dataset_read(out, path, *split, &o, &first);
    bool idx = code == DSCM_OK && strncmp(out->facts.kind, "IDX", 3) == 0;
    if (code == DSCM_OK && (idx || out->facts.splits[0])) return DSCM_OK;
    if (code != DSCM_OK && code != DSCM_E_NOT_FOUND)
        return dscm_fail(err, code, "%s", first.message);
    dscm_dataset_free(out);
    *split = "all";
    dscm_code all = dscm_dataset_read(out, path, *split, &o, &second);
    if (all == DSCM_OK) return DSCM_OK;
    return code == DSCM_OK ? dscm_fail(err, all, "%s", second.message)
                           : dscm_fail(err, code, "%s", first.message);
}

/* Pictures of several sizes, not square or large are read again at a chosen size. */
static dscm_code read_sized(dscm_dataset *out, const char *path, size_t size,
                            const new_reading *reading, const char **split, dscm_error *err)
{
    dscm_error first = {0};
    dscm_code code = read_set(out, path, size, reading, split, size ? err : &first);
    if (size) return code;
    if (code != DSCM_OK && code != DSCM_E_MISMATCH)
        return dscm_fail(err, code, "%s", first.message);
    if (code == DSCM_OK && out->h == out->w && size_fits(out->h)) return DSCM_OK;
    if (code == DSCM_OK && strncmp(out->facts.kind, "IDX", 3) == 0) {
        size_t w = out->w, h = out->h;
        dscm_dataset_free(out);
        return dscm_fail(err, DSCM_E_INVALID,
                         "%s: IDX images of %zux%zu, which are taken as they are; needed are "
                         "square ones of 8 to 64 pixels a side, a multiple of 4 (over 32: of 8)",
                         path, w, h);
    }
    if (code == DSCM_OK) dscm_dataset_free(out);
    fprintf(stderr,
            "%s: pictures differ in size, are not square or do not fit: all become %dx%d "
            "(--size)\n",
            path, SIZE_CHOSEN, SIZE_CHOSEN);
    return read_set(out, path, SIZE_CHOSEN, reading, split, err);
}

static dscm_code write_file(const char *folder, const char *split, const char *what,
                            const dscm_idx *idx, dscm_error *err)
{
    char path[NEW_PATH];
    if (snprintf(path, sizeof path, "%s/%s-%s-idx%d-ubyte", folder, split, what, idx->ndim) >=
        (int)sizeof path)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", folder);
    return dscm_idx_write(idx, path, err);
}

static dscm_code write_split(const dscm_dataset *set, const dscm_table *table, const char *folder,
                             const char *name, const char *slice, size_t *count, dscm_error *err)
{
    dscm_split split;
    size_t pixels = set->h * set->w * set->c, n = 0;
    uint32_t *keep = dscm_alloc(set->count, sizeof *keep, "split", err);
    uint8_t *images = dscm_alloc(set->count, pixels, "split", err);
    uint8_t *labels = dscm_alloc(set->count, 1, "split", err);
    dscm_code code = keep && images && labels ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = dscm_split_parse(&split, slice, err);
    if (code == DSCM_OK) n = dscm_split_select(&split, set->labels, set->count, keep);
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
    if (code == DSCM_OK && table->rows) code = new_table_write(table, keep, n, folder, name, err);
    *count = n;
    dscm_free(keep);
    dscm_free(images);
    dscm_free(labels);
    return code;
}

/* A class must have images in each of the three splits, and several where something is measured. Where
 * classes differ much in size, a rare one would hardly be learnt. */
static dscm_code check_counts(new_plan *plan, const dscm_dataset *set, dscm_error *err)
{
    size_t counts[256] = {0};
    for (size_t i = 0; i < set->count; i++) counts[set->labels[i]]++;
    for (size_t k = 0; k < set->classes; k++)
        if (counts[k] < CLASS_LEAST)
            return dscm_fail(err, DSCM_E_INVALID,
                             "%s: class %s has %zu pictures; at least %d of each are needed "
                             "(hundreds make a useful model)",
                             plan->data, json_string_value(json_array_get(plan->labels, k)),
                             counts[k], CLASS_LEAST);
    size_t least = counts[0], most = counts[0];
    for (size_t k = 1; k < set->classes; k++) {
        least = counts[k] < least ? counts[k] : least;
        most = counts[k] > most ? counts[k] : most;
    }
    plan->balance = (double)most > UNEVEN * (double)least;
    if (plan->balance)
        fprintf(stderr,
                "%s: classes have %zu to %zu pictures: each is drawn as often in training\n",
                plan->data, least, most);
    return DSCM_OK;
}

/* Names by a file, the folders, or the numbers. */
static dscm_code name_classes(new_plan *plan, const dscm_dataset *set, const char *file,
                              dscm_error *err)
{
    char number[24];
    plan->labels = json_array();
    dscm_code code = file ? cli_labels_read(plan->labels, file, err) : DSCM_OK;
    for (size_t k = 0; !file && k < set->classes; k++) {
        snprintf(number, sizeof number, "%zu", k);
        json_t *label = json_string(set->names ? set->names[k] : number);
        if (!label || strchr(json_string_value(label), '\n'))
            code = dscm_fail(err, DSCM_E_INVALID,
                             "%s: the name of class %zu is not UTF-8 or has a "
                             "line break",
                             plan->data, k);
        json_array_append_new(plan->labels, label ? label : json_string(number));
    }
    size_t count = json_array_size(plan->labels);
    if (code == DSCM_OK && count != set->classes)
        code = dscm_fail(err, DSCM_E_MISMATCH, "%s: %zu names, but there are %zu classes", file,
                         count, set->classes);
    return code == DSCM_OK ? cli_labels_differ(plan->labels, err) : code;
}

/* The classes are the only variable. */
static dscm_code take_classes(new_plan *plan, const dscm_dataset *set, const new_reading *reading,
                              dscm_error *err)
{
    snprintf(plan->variable, sizeof plan->variable, "%s",
             reading->variable ? reading->variable : "class");
    dscm_code code = dscm_dataset_check_classes(set, 0, err);
    if (code == DSCM_OK) code = name_classes(plan, set, reading->labels_file, err);
    return code == DSCM_OK ? check_counts(plan, set, err) : code;
}

/* One class says nothing where a table has the variables. */
static void describe(dscm_dataset *set, const char *path, bool table)
{
    size_t classes = set->classes;
    if (table && classes == 1) set->classes = 0;
    cli_data_describe(set, path);
    set->classes = classes;
}

static dscm_code parse_square(const char *text, size_t *size, dscm_error *err)
{
    size_t w = 0, h = 0;
    dscm_code code = text ? cli_parse_size(text, &w, &h, err) : DSCM_OK;
    if (code == DSCM_OK && text && (w != h || !size_fits(w)))
        code = dscm_fail(err, DSCM_E_INVALID,
                         "--size %s: must be one number of 8 to 64, a multiple of 4 (over 32: of "
                         "8)",
                         text);
    *size = w;
    return code;
}

dscm_code new_convert(new_plan *plan, const char *folder, const new_reading *reading,
                      dscm_error *err)
{
    static const struct {
        const char *name, *slice;
    } parts[] = {{"M", "M[0%:60%]"}, {"S", "S[60%:75%]"}, {"P", "P[75%:100%]"}};
    dscm_dataset set = {0};
    dscm_table table = {0};
    const char *split = NULL;
    size_t size = 0;
    dscm_code code = parse_square(reading->size, &size, err);
    if (code == DSCM_OK) code = read_sized(&set, plan->data, size, reading, &split, err);
    if (code == DSCM_OK) {
        describe(&set, plan->data, has_table(plan->data, reading));
        plan->size = set.h;
        plan->channels = set.c;
        plan->classes = set.classes;
        memcpy(plan->data_sha256, set.sha256, sizeof plan->data_sha256);
        code = new_table_take(&table, plan, &set, split, reading, err);
    }
    if (code == DSCM_OK && table.rows && reading->labels_file)
        code = dscm_fail(err, DSCM_E_INVALID, "--labels-file %s: %s names its labels",
                         reading->labels_file, plan->table);
    if (code == DSCM_OK && !table.rows) code = take_classes(plan, &set, reading, err);
    plan->count = set.count;
    for (int i = 0; code == DSCM_OK && i < 3; i++)
        code =
            write_split(&set, &table, folder, parts[i].name, parts[i].slice, &plan->parts[i], err);
    if (code == DSCM_OK && table.rows) code = new_table_check(plan, folder, err);
    dscm_table_free(&table);
    dscm_dataset_free(&set);
    return code;
}
