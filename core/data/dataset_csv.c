/* Classes of pictures that lie together, by a CSV file beside them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/memory.h"
#include "core/data/dataset_internal.h"
#include "core/data/table.h"

#define CSV_LIMIT ((size_t)64 << 20)

typedef struct named {
    const char *name; /* of a file of the source, borrowed */
    size_t file;
} named;

typedef struct csv_job {
    const dscm_source *source;
    dscm_layout *layout;
    dscm_table table;
    size_t csv;      /* file of the source */
    named *pictures; /* (pictures_count) by name */
    size_t pictures_count;
    bool *listed; /* (files) */
} csv_job;

static bool is_csv(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && strcasecmp(name + n - 4, ".csv") == 0;
}

/* labels.csv in any folder, else the only CSV file; SIZE_MAX: none, or several of which none is it. */
static size_t find_csv(const dscm_source *s)
{
    size_t found = SIZE_MAX, count = 0;
    for (size_t i = 0; i < s->count; i++) {
        const char *base = strrchr(s->files[i].name, '/');
        if (!is_csv(s->files[i].name)) continue;
        if (strcmp(base ? base + 1 : s->files[i].name, "labels.csv") == 0) return i;
        found = i;
        count++;
    }
    return count == 1 ? found : SIZE_MAX;
}

static dscm_code take_table(void *arg, const dscm_source_piece *pieces, size_t count,
                            dscm_error *err)
{
    csv_job *j = arg;
    char name[512];
    for (size_t i = 0; i < count; i++) {
        if (!pieces[i].bytes)
            return dscm_fail(err, pieces[i].error.code, "%s", pieces[i].error.message);
        snprintf(name, sizeof name, "%s/%s", j->source->path,
                 j->source->files[pieces[i].file].name);
        return dscm_table_parse(&j->table, pieces[i].bytes, pieces[i].size, name, err);
    }
    return DSCM_OK;
}

static dscm_code read_table(csv_job *j, dscm_error *err)
{
    bool *wanted = dscm_alloc(j->source->count, sizeof *wanted, j->source->path, err);
    if (!wanted) return DSCM_E_MEMORY;
    wanted[j->csv] = true;
    dscm_code code = dscm_source_read(j->source, wanted, CSV_LIMIT, take_table, j, err);
    dscm_free(wanted);
    return code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

static dscm_code list_pictures(csv_job *j, dscm_error *err)
{
    const dscm_source *s = j->source;
    j->pictures = dscm_alloc(s->count, sizeof *j->pictures, s->path, err);
    j->listed = dscm_alloc(s->count, sizeof *j->listed, s->path, err);
    if (!j->pictures || !j->listed) return DSCM_E_MEMORY;
    for (size_t i = 0; i < s->count; i++)
        if (j->layout->inner[i]) j->pictures[j->pictures_count++] = (named){s->files[i].name, i};
    qsort(j->pictures, j->pictures_count, sizeof *j->pictures, by_name);
    return DSCM_OK;
}

/* The picture of folder + name; SIZE_MAX: none. folder: the first n bytes of a name. */
static size_t find_in(const csv_job *j, const char *folder, size_t n, const char *name)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%.*s%s", (int)n, folder, name) >= sizeof path)
        return SIZE_MAX;
    named key = {.name = path};
    const named *found =
        bsearch(&key, j->pictures, j->pictures_count, sizeof *j->pictures, by_name);
    return found ? found->file : SIZE_MAX;
}

static size_t folder_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? (size_t)(slash - name) + 1 : 0;
}

/* By the name as it is written, relative to the CSV file, or in the folder of the first picture. */
static size_t find_picture(const csv_job *j, const char *name)
{
    const char *csv = j->source->files[j->csv].name, *first = j->pictures[0].name;
    if (strncmp(name, "./", 2) == 0) name += 2;
    size_t file = find_in(j, "", 0, name);
    if (file == SIZE_MAX) file = find_in(j, csv, folder_of(csv), name);
    return file == SIZE_MAX ? find_in(j, first, folder_of(first), name) : file;
}

/* "class" or "label", else the only column beside "file"; -1 with a message. */
static int class_column(const csv_job *j, int file, dscm_error *err)
{
    const dscm_table *t = &j->table;
    int column = dscm_table_find(t, "class");
    if (column < 0) column = dscm_table_find(t, "label");
    if (column < 0 && t->columns == 2) column = 1 - file;
    if (column < 0)
        (void)dscm_fail(err, DSCM_E_FORMAT,
                        "%s: which of its %zu columns is the class? name it \"class\" or \"label\"",
                        t->name, t->columns);
    return column;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The classes that occur, in byte order. */
static dscm_code name_classes(csv_job *j, int column, dscm_error *err)
{
    dscm_layout *l = j->layout;
    const dscm_table *t = &j->table;
    for (; l->class_count; l->class_count--) dscm_free(l->names[l->class_count - 1]);
    for (size_t r = 0; r < t->rows; r++) {
        const char *cell = t->cells[r * t->columns + (size_t)column];
        size_t k = 0;
        while (k < l->class_count && strcmp(l->names[k], cell) != 0) k++;
        if (k < l->class_count) continue;
        if (!*cell)
            return dscm_fail(err, DSCM_E_FORMAT, "%s: line %zu: the column %s is empty", t->name,
                             t->lines[r], t->header[column]);
        if (l->class_count == DSCM_CLASSES_MAX)
            return dscm_fail(err, DSCM_E_LIMIT, "%s: column %s has more than %d classes", t->name,
                             t->header[column], DSCM_CLASSES_MAX);
        l->names[l->class_count] = dscm_strdup(cell, err);
        if (!l->names[l->class_count]) return DSCM_E_MEMORY;
        l->class_count++;
    }
    qsort(l->names, l->class_count, sizeof *l->names, by_text);
    return DSCM_OK;
}

static dscm_code label_pictures(csv_job *j, int file_column, int column, dscm_error *err)
{
    dscm_layout *l = j->layout;
    const dscm_table *t = &j->table;
    for (size_t r = 0; r < t->rows; r++) {
        const char *name = t->cells[r * t->columns + (size_t)file_column];
        char *cell = t->cells[r * t->columns + (size_t)column];
        size_t file = find_picture(j, name);
        if (file == SIZE_MAX)
            return dscm_fail(err, DSCM_E_NOT_FOUND, "%s: line %zu: no picture \"%s\"", t->name,
                             t->lines[r], name);
        if (j->listed[file])
            return dscm_fail(err, DSCM_E_FORMAT, "%s: line %zu: a second line for \"%s\"", t->name,
                             t->lines[r], name);
        char **found = bsearch(&cell, l->names, l->class_count, sizeof *l->names, by_text);
        l->classes[file] = (uint8_t)(found - l->names);
        j->listed[file] = true;
    }
    for (size_t i = 0; i < j->source->count; i++)
        if (l->wanted[i] && !j->listed[i]) {
            l->wanted[i] = false;
            l->count--;
            l->unlisted++;
        }
    return DSCM_OK;
}

dscm_code dscm_layout_label(dscm_layout *layout, const dscm_source *source, dscm_error *err)
{
    csv_job j = {.source = source, .layout = layout, .csv = find_csv(source)};
    if (j.csv == SIZE_MAX && layout->names[0][0]) return DSCM_OK; /* a folder per class, of one */
    if (j.csv == SIZE_MAX)
        return dscm_fail(err, DSCM_E_INVALID,
                         "%s: the pictures lie in one folder; a folder per class is needed, or "
                         "labels.csv with the columns file and class",
                         source->path);
    dscm_code code = read_table(&j, err);
    int file = code == DSCM_OK ? dscm_table_find(&j.table, "file") : -1;
    if (code == DSCM_OK && file < 0)
        code = dscm_fail(err, DSCM_E_FORMAT, "%s: no column \"file\" with the pictures' names",
                         j.table.name);
    int column = code == DSCM_OK ? class_column(&j, file, err) : -1;
    if (code == DSCM_OK && column < 0) code = DSCM_E_FORMAT;
    if (code == DSCM_OK) code = list_pictures(&j, err);
    if (code == DSCM_OK) code = name_classes(&j, column, err);
    if (code == DSCM_OK) code = label_pictures(&j, file, column, err);
    layout->tabled = true;
    if (code == DSCM_OK && !layout->count)
        code =
            dscm_fail(err, DSCM_E_INVALID, "%s: no picture of this split is listed", j.table.name);
    dscm_table_free(&j.table);
    dscm_free(j.pictures);
    dscm_free(j.listed);
    return code;
}
