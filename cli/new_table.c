/* The variables of `diffscm new`: a table beside the pictures, and the graph that they stand in.
 *
 * The table is brought into the order of the images, and written beside each of their splits; training
 * and fitting read it there. What could go wrong in hours of work is refused here: names, graph, cells,
 * labels that are too rare.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/new.h"
#include "core/base/memory.h"
#include "core/causal/model.h"
#include "core/data/split.h"
#include "core/data/variables.h"
#include "core/io/file.h"
#include "core/io/text_stream.h"

#define LABEL_LEAST 10 /* rows of each label of a categorical variable */
#define ROWS_LEAST  40 /* of a table of numbers alone */

typedef struct taking {
    new_plan *plan;
    dscm_dataset *set;
    const new_reading *reading;
    dscm_table given;  /* as the file has it */
    uint32_t *row_of;  /* (set->count) row of each image in it */
    dscm_causal model; /* the graph, described by the table */
} taking;

/* ---- which row belongs to which image ---- */
typedef struct named_picture {
    const char *name; /* borrowed */
    size_t image;
} named_picture;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const named_picture *)a)->name, ((const named_picture *)b)->name);
}

static const named_picture *find_name(const named_picture *list, size_t count, const char *folder,
                                      int folder_length, const char *name)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%.*s%s", folder_length, folder, name);
    const named_picture key = {.name = path};
    if (n < 0 || n >= (int)sizeof path) return NULL;
    return bsearch(&key, list, count, sizeof *list, by_name);
}

/* A row may name a picture that is not in the set: of another split, or an unreadable one. */
static dscm_code find_row(taking *t, const named_picture *list, size_t row, size_t column,
                          dscm_error *err)
{
    const dscm_table *g = &t->given;
    const char *name = g->cells[row * g->columns + column], *first = t->set->files[0];
    const char *slash = strrchr(first, '/');
    char path[NEW_PATH + 4096];
    if (strncmp(name, "./", 2) == 0) name += 2;
    const named_picture *found = find_name(list, t->set->count, "", 0, name);
    if (!found && slash)
        found = find_name(list, t->set->count, first, (int)(slash - first) + 1, name);
    snprintf(path, sizeof path, "%s/%s", t->plan->data, name);
    if (!found && (!*name || access(path, F_OK) != 0))
        return dscm_fail(err, DSCM_E_NOT_FOUND, "%s: line %zu: no picture \"%s\"", g->name,
                         g->lines[row], name);
    if (found && t->row_of[found->image] != UINT32_MAX)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: line %zu: a second line for \"%s\"", g->name,
                         g->lines[row], name);
    if (found) t->row_of[found->image] = (uint32_t)row;
    return DSCM_OK;
}

/* Leaves out the images without a row. */
static void drop_images(taking *t)
{
    dscm_dataset *s = t->set;
    size_t pixels = s->h * s->w * s->c, kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (t->row_of[i] == UINT32_MAX) continue;
        memmove(s->pixels + kept * pixels, s->pixels + i * pixels, pixels);
        s->labels[kept] = s->labels[i];
        s->rows[kept] = s->rows[i];
        t->row_of[kept++] = t->row_of[i];
    }
    s->facts.unlisted += s->count - kept;
    s->count = kept;
}

/* By the column `file`, else row k is image k of the whole split. */
static dscm_code match_rows(taking *t, dscm_error *err)
{
    dscm_dataset *s = t->set;
    int column = dscm_table_find(&t->given, "file");
    t->row_of = dscm_alloc(s->count, sizeof *t->row_of, "table", err);
    if (!t->row_of) return DSCM_E_MEMORY;
    if (!s->files) {
        memcpy(t->row_of, s->rows, s->count * sizeof *t->row_of);
        return dscm_table_check_rows(&t->given, s->whole, "images", err);
    }
    if (column < 0)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: no column \"file\" with the pictures' names, such as %s",
                         t->given.name, s->files[0]);
    named_picture *list = dscm_alloc(s->count, sizeof *list, "table", err);
    if (!list) return DSCM_E_MEMORY;
    for (size_t i = 0; i < s->count; i++) {
        list[i] = (named_picture){s->files[s->rows[i]], i};
        t->row_of[i] = UINT32_MAX;
    }
    qsort(list, s->count, sizeof *list, by_name);
    dscm_code code = DSCM_OK;
    for (size_t r = 0; code == DSCM_OK && r < t->given.rows; r++)
        code = find_row(t, list, r, (size_t)column, err);
    dscm_free(list);
    if (code == DSCM_OK) drop_images(t);
    return code == DSCM_OK && !s->count
               ? dscm_fail(err, DSCM_E_INVALID, "%s: names no picture of the set", t->given.name)
               : code;
}

/* ---- a table in the order of the images ---- */
static void put_cell(FILE *out, const char *text)
{
    bool quoted = strpbrk(text, ",\"\r\n") != NULL;
    if (quoted) putc('"', out);
    for (; *text; text++) {
        if (*text == '"') putc('"', out);
        putc(*text, out);
    }
    if (quoted) putc('"', out);
}

static void put_row(FILE *out, char *const *cells, size_t columns, const char *more)
{
    for (size_t c = 0; c < columns; c++) {
        if (c) putc(',', out);
        put_cell(out, cells[c]);
    }
    if (more) putc(',', out);
    if (more) put_cell(out, more);
    putc('\n', out);
}

/* Classes of folders are a column too where the table has none of that name. */
static dscm_code order_rows(taking *t, dscm_table *table, dscm_error *err)
{
    const dscm_table *g = &t->given;
    const dscm_dataset *s = t->set;
    const char *variable = t->reading->variable ? t->reading->variable : "class";
    char **classes = s->classes > 1 && dscm_table_find(g, variable) < 0 ? s->names : NULL;
    dscm_text_stream text;
    dscm_code code = dscm_text_stream_open(&text, g->name, err);
    if (code != DSCM_OK) return code;
    put_row(text.file, g->header, g->columns, classes ? variable : NULL);
    for (size_t i = 0; i < s->count; i++)
        put_row(text.file, g->cells + t->row_of[i] * g->columns, g->columns,
                classes ? classes[s->labels[i]] : NULL);
    code = dscm_text_stream_close(&text, g->name, err);
    if (code == DSCM_OK) code = dscm_table_parse(table, text.data, text.size, g->name, err);
    free(text.data);
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < s->count; i++) table->lines[i] = g->lines[t->row_of[i]];
    return DSCM_OK;
}

dscm_code new_table_write(const dscm_table *table, const uint32_t *rows, size_t count,
                          const char *folder, const char *split, dscm_error *err)
{
    char path[NEW_PATH];
    dscm_text_stream text;
    dscm_code code = dscm_text_stream_open(&text, table->name, err);
    if (code != DSCM_OK) return code;
    put_row(text.file, table->header, table->columns, NULL);
    for (size_t i = 0; i < count; i++)
        put_row(text.file, table->cells + rows[i] * table->columns, table->columns, NULL);
    code = dscm_text_stream_close(&text, table->name, err);
    int n = snprintf(path, sizeof path, "%s/%s-variables.csv", folder, split);
    if (code == DSCM_OK && (n < 0 || n >= (int)sizeof path))
        code = dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", folder);
    const dscm_piece piece = {text.data, text.size};
    if (code == DSCM_OK) code = dscm_file_replace(path, &piece, 1, err);
    free(text.data);
    return code;
}

/* ---- the graph ---- */
/* Every column but "file" is a parent of the image. */
static dscm_code default_graph(new_plan *plan, const dscm_table *table, dscm_error *err)
{
    size_t at = 0, count = 0;
    for (size_t c = 0; c < table->columns; c++) {
        if (strcmp(table->header[c], "file") == 0) continue;
        if (++count > DSCM_PARENTS_MAX)
            return dscm_fail(err, DSCM_E_LIMIT,
                             "%s: more than %d columns; --graph \"a -> b; a, b -> image\" names "
                             "those that are variables",
                             table->name, DSCM_PARENTS_MAX);
        at += (size_t)snprintf(plan->graph + at, at < NEW_GRAPH ? NEW_GRAPH - at : 0, "%s%s",
                               count > 1 ? ", " : "", table->header[c]);
        if (at >= NEW_GRAPH) break;
    }
    if (!count) return dscm_fail(err, DSCM_E_INVALID, "%s: no column is a variable", table->name);
    if (at + sizeof " -> image" > NEW_GRAPH)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: the names of its columns are too long",
                         table->name);
    snprintf(plan->graph + at, NEW_GRAPH - at, " -> image");
    return DSCM_OK;
}

/* Names become words of commands and parts of files' names. */
static dscm_code check_names(const taking *t, dscm_error *err)
{
    const dscm_causal *m = &t->model;
    for (size_t i = 0; i < m->count; i++)
        if (!cli_is_word(m->nodes[i].name) || strlen(m->nodes[i].name) >= DSCM_PARENT_NAME)
            return dscm_fail(err, DSCM_E_INVALID,
                             "%s: column \"%.64s\": the name of a variable must be at most %d "
                             "letters, digits, \".\", \"-\" and \"_\"",
                             t->given.name, m->nodes[i].name, DSCM_PARENT_NAME - 1);
    if (m->image < 0)
        return dscm_fail(err, DSCM_E_INVALID,
                         "--graph %s: the image is not in it; \"a, b -> image\" says which "
                         "variables it shows",
                         t->plan->graph);
    size_t parents = m->nodes[m->image].parents_count;
    if (!parents || parents > DSCM_PARENTS_MAX)
        return dscm_fail(err, DSCM_E_INVALID,
                         "--graph %s: the image has %zu parents; must be 1 to %d", t->plan->graph,
                         parents, DSCM_PARENTS_MAX);
    return DSCM_OK;
}

static dscm_code describe(taking *t, const dscm_table *table, dscm_error *err)
{
    double *values = NULL;
    if (t->reading->graph) {
        if (strlen(t->reading->graph) >= NEW_GRAPH)
            return dscm_fail(err, DSCM_E_LIMIT, "--graph %.64s…: longer than %d bytes",
                             t->reading->graph, NEW_GRAPH - 1);
        snprintf(t->plan->graph, NEW_GRAPH, "%s", t->reading->graph);
    }
    dscm_code code = t->reading->graph ? DSCM_OK : default_graph(t->plan, table, err);
    if (code == DSCM_OK) code = dscm_causal_graph(&t->model, t->plan->graph, err);
    if (code == DSCM_OK) code = check_names(t, err);
    if (code == DSCM_OK) code = dscm_causal_describe(&t->model, table, err);
    if (code == DSCM_OK) code = dscm_causal_values(&t->model, table, false, &values, err);
    for (size_t n = 0; code == DSCM_OK && n < t->model.count; n++) {
        size_t counts[DSCM_CAUSAL_LABELS_MAX] = {0};
        const dscm_causal_node *node = &t->model.nodes[n];
        for (size_t r = 0; node->labels_count && r < table->rows; r++)
            counts[(size_t)values[r * t->model.count + n]]++;
        for (size_t k = 0; code == DSCM_OK && k < node->labels_count; k++)
            if (counts[k] < LABEL_LEAST)
                code = dscm_fail(err, DSCM_E_INVALID,
                                 "%s: column %s: %zu pictures have \"%.64s\"; at least %d of each "
                                 "label are needed (hundreds make a useful model)",
                                 table->name, node->name, counts[k], node->labels[k], LABEL_LEAST);
    }
    if (code == DSCM_OK && table->rows < ROWS_LEAST)
        code = dscm_fail(err, DSCM_E_INVALID, "%s: %zu pictures; at least %d are needed",
                         table->name, table->rows, ROWS_LEAST);
    dscm_free(values);
    return code;
}

/* ---- the plan's fields ---- */
/* What the judges learn: --variable, "class", or the first parent of the image that has labels. */
static dscm_code choose_judged(taking *t, int *judged, dscm_error *err)
{
    const dscm_causal_node *image = &t->model.nodes[t->model.image];
    const char *asked = t->reading->variable;
    *judged = -1;
    for (size_t p = 0; p < image->parents_count; p++) {
        const dscm_causal_node *n = &t->model.nodes[image->parents[p]];
        bool named = strcmp(n->name, asked ? asked : "class") == 0;
        if (named && n->labels_count) {
            *judged = image->parents[p];
            return DSCM_OK;
        }
        if (*judged < 0 && n->labels_count) *judged = image->parents[p];
    }
    return !asked ? DSCM_OK
                  : dscm_fail(err, DSCM_E_INVALID,
                              "--variable %s: no parent of the image with labels has that name",
                              asked);
}

static dscm_code label_images(taking *t, const dscm_table *table, int judged, dscm_error *err)
{
    const dscm_causal_node *n = &t->model.nodes[judged];
    dscm_dataset *s = t->set;
    const dscm_column column = {.name = n->name,
                                .kind = DSCM_CATEGORICAL,
                                .labels = (const char *const *)n->labels,
                                .labels_count = n->labels_count};
    double *values = dscm_alloc(s->count, sizeof *values, "labels", err);
    if (!values) return DSCM_E_MEMORY;
    dscm_code code = dscm_table_column(table, &column, values, err);
    for (size_t i = 0; code == DSCM_OK && i < s->count; i++) s->labels[i] = (uint8_t)values[i];
    dscm_free(values);
    for (size_t k = 0; code == DSCM_OK && k < n->labels_count; k++)
        if (json_array_append_new(t->plan->labels, json_string(n->labels[k])) != 0)
            code = dscm_fail(err, DSCM_E_INVALID, "%s: column %s: label %zu is not UTF-8",
                             table->name, n->name, k);
    return code;
}

static void say_variables(const taking *t)
{
    for (size_t i = 0; i < t->model.count; i++) {
        const dscm_causal_node *n = &t->model.nodes[i];
        if ((int)i == t->model.image) continue;
        if (n->labels_count)
            fprintf(stderr, "%s: %s: %zu labels, %s … %s\n", t->given.name, n->name,
                    n->labels_count, n->labels[0], n->labels[n->labels_count - 1]);
        else
            fprintf(stderr, "%s: %s: numbers, in %g..%g with 5 %% on either side\n", t->given.name,
                    n->name, n->min, n->max);
    }
    fprintf(stderr, "%s: graph: %s\n", t->given.name, t->plan->graph);
}

static dscm_code fill_plan(taking *t, const dscm_table *table, dscm_error *err)
{
    new_plan *p = t->plan;
    const dscm_causal_node *image = &t->model.nodes[t->model.image];
    char word[NEW_GRAPH + 16];
    int judged;
    dscm_code code = choose_judged(t, &judged, err);
    if (code != DSCM_OK) return code;
    p->labels = json_array();
    p->fit = json_array();
    memset(t->set->labels, 0, t->set->count);
    if (judged >= 0) code = label_images(t, table, judged, err);
    snprintf(p->variable, sizeof p->variable, "%s", judged < 0 ? "" : t->model.nodes[judged].name);
    p->classes = json_array_size(p->labels);
    for (size_t i = 0; i < image->parents_count; i++) {
        const dscm_causal_node *n = &t->model.nodes[image->parents[i]];
        new_parent *out = &p->parents[p->parents_count++];
        snprintf(out->name, sizeof out->name, "%.*s", DSCM_PARENT_NAME - 1, n->name);
        out->classes = n->labels_count;
    }
    snprintf(word, sizeof word, "--graph=%s", p->graph);
    json_array_append_new(p->fit, json_string(word));
    for (size_t i = 0; i < t->model.count; i++) { /* M alone may reach less far */
        const dscm_causal_node *n = &t->model.nodes[i];
        if ((int)i == t->model.image || n->labels_count) continue;
        snprintf(word, sizeof word, "--range=%s=%.17g..%.17g", n->name, n->min, n->max);
        json_array_append_new(p->fit, json_string(word));
    }
    if (code == DSCM_OK) say_variables(t);
    return code;
}

/* ---- the whole ---- */
/* Where the table is; "" where there is none. */
static dscm_code find_table(new_plan *plan, const char *split, const new_reading *reading,
                            dscm_error *err)
{
    dscm_split parsed;
    size_t length = reading->table ? strlen(reading->table) : 0;
    plan->table[0] = '\0';
    if (length >= sizeof plan->table)
        return dscm_fail(err, DSCM_E_LIMIT, "--table %.64s…: path too long", reading->table);
    if (reading->table) {
        snprintf(plan->table, sizeof plan->table, "%s", reading->table);
        return DSCM_OK;
    }
    dscm_code code = dscm_split_parse(&parsed, split, err);
    if (code == DSCM_OK)
        code = dscm_variables_path(plan->table, sizeof plan->table, plan->data, parsed.name, err);
    if (code == DSCM_OK && access(plan->table, F_OK) != 0) plan->table[0] = '\0';
    return code;
}

dscm_code new_table_take(dscm_table *table, new_plan *plan, dscm_dataset *set, const char *split,
                         const new_reading *reading, dscm_error *err)
{
    taking *t = dscm_alloc(1, sizeof *t, "table", err);
    *table = (dscm_table){0};
    if (!t) return DSCM_E_MEMORY;
    *t = (taking){.plan = plan, .set = set, .reading = reading, .model = {.image = -1}};
    dscm_code code = find_table(plan, split, reading, err);
    if (code == DSCM_OK && !plan->table[0]) {
        if (reading->graph)
            code = dscm_fail(err, DSCM_E_INVALID,
                             "--graph: %s has no variables.csv (nor is --table given)", plan->data);
        dscm_free(t);
        return code;
    }
    if (code == DSCM_OK) code = dscm_table_read(&t->given, plan->table, err);
    if (code == DSCM_OK) code = match_rows(t, err);
    if (code == DSCM_OK) code = order_rows(t, table, err);
    if (code == DSCM_OK) code = describe(t, table, err);
    if (code == DSCM_OK) code = fill_plan(t, table, err);
    if (code != DSCM_OK) dscm_table_free(table);
    dscm_causal_free(&t->model);
    dscm_table_free(&t->given);
    dscm_free(t->row_of);
    dscm_free(t);
    return code;
}

dscm_code new_table_check(const new_plan *plan, const char *folder, dscm_error *err)
{
    char path[NEW_PATH];
    dscm_table table = {0};
    dscm_causal *m = dscm_alloc(1, sizeof *m, "table", err);
    if (!m) return DSCM_E_MEMORY;
    m->image = -1;
    snprintf(path, sizeof path, "%s/M-variables.csv", folder);
    dscm_code code = dscm_table_read(&table, path, err);
    if (code == DSCM_OK) code = dscm_causal_graph(m, plan->graph, err);
    if (code == DSCM_OK) code = dscm_causal_describe(m, &table, err);
    for (size_t p = 0; code == DSCM_OK && p < plan->parents_count; p++) {
        int node = -1;
        code = dscm_causal_find(m, plan->parents[p].name, &node, err);
        if (code == DSCM_OK && m->nodes[node].labels_count != plan->parents[p].classes)
            code = dscm_fail(err, DSCM_E_INVALID,
                             "%s: column %s: of its %zu labels (0: numbers) %zu are among the "
                             "pictures that train; more pictures of the rare ones are needed",
                             plan->table, plan->parents[p].name, plan->parents[p].classes,
                             m->nodes[node].labels_count);
    }
    dscm_causal_free(m);
    dscm_free(m);
    dscm_table_free(&table);
    return code;
}
