#include "core/data/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/io/file.h"

#define FILE_LIMIT ((size_t)1 << 30)

/* Cells are cut out of the text in place: a quoted one gets shorter, never longer. */
typedef struct scanner {
    dscm_table *table;
    char *at, *end;
    size_t line, capacity; /* rows there is memory for */
    dscm_error *err;
} scanner;

void dscm_table_free(dscm_table *t)
{
    dscm_free(t->name);
    dscm_free(t->header);
    dscm_free(t->cells);
    dscm_free(t->lines);
    dscm_free(t->text);
    *t = (dscm_table){0};
}

/* The text between quotes; *out ends with a zero byte. Stops behind the closing quote. */
static dscm_code scan_quoted(scanner *s, char **out, size_t column)
{
    size_t began = s->line;
    char *to = ++s->at;
    *out = to;
    for (; s->at < s->end; s->at++) {
        if (*s->at == '"') {
            if (s->at + 1 >= s->end || s->at[1] != '"') {
                s->at++;
                if (s->at < s->end && *s->at != ',' && *s->at != '\n' && *s->at != '\r')
                    return dscm_fail(s->err, DSCM_E_FORMAT,
                                     "%s: line %zu, column %zu: text behind a closing quote",
                                     s->table->name, s->line, column + 1);
                *to = '\0'; /* at the closing quote or before it */
                return DSCM_OK;
            }
            s->at++;
        }
        if (*s->at == '\n') s->line++;
        *to++ = *s->at;
    }
    return dscm_fail(s->err, DSCM_E_FORMAT, "%s: line %zu, column %zu: a quote is never closed",
                     s->table->name, began, column + 1);
}

/* One cell; *more: a comma follows. The separator is consumed. */
static dscm_code scan_cell(scanner *s, char **out, size_t column, bool *more)
{
    dscm_code code = DSCM_OK;
    if (s->at < s->end && *s->at == '"') {
        code = scan_quoted(s, out, column);
    } else {
        *out = s->at;
        while (s->at < s->end && *s->at != ',' && *s->at != '\n' && *s->at != '\r') s->at++;
    }
    if (code != DSCM_OK) return code;
    char *stop = s->at;
    *more = s->at < s->end && *s->at == ',';
    if (!*more && s->at < s->end) {
        s->line++;
        if (*s->at == '\r' && s->at + 1 < s->end && s->at[1] == '\n') s->at++;
    }
    if (s->at < s->end) s->at++;
    *stop = '\0'; /* there is room: the file's text ends with a zero byte */
    return DSCM_OK;
}

/* One line into cells (limit); *count of them. */
static dscm_code scan_line(scanner *s, char **cells, size_t limit, size_t *count)
{
    size_t line = s->line;
    bool more = true;
    for (*count = 0; more; ++*count) {
        char *cell = NULL;
        dscm_code code = scan_cell(s, &cell, *count, &more);
        if (code != DSCM_OK) return code;
        if (*count < limit) cells[*count] = cell;
        if (*count == DSCM_TABLE_COLUMNS_MAX)
            return dscm_fail(s->err, DSCM_E_LIMIT, "%s: line %zu: more than %d columns",
                             s->table->name, line, DSCM_TABLE_COLUMNS_MAX);
    }
    return DSCM_OK;
}

static dscm_code scan_header(scanner *s)
{
    dscm_table *t = s->table;
    t->header = dscm_alloc(DSCM_TABLE_COLUMNS_MAX, sizeof *t->header, t->name, s->err);
    if (!t->header) return DSCM_E_MEMORY;
    if (s->at == s->end)
        return dscm_fail(s->err, DSCM_E_FORMAT, "%s: empty; a header line is needed", t->name);
    dscm_code code = scan_line(s, t->header, DSCM_TABLE_COLUMNS_MAX, &t->columns);
    for (size_t c = 0; code == DSCM_OK && c < t->columns; c++) {
        if (!*t->header[c])
            return dscm_fail(s->err, DSCM_E_FORMAT, "%s: line 1, column %zu: the name is empty",
                             t->name, c + 1);
        for (size_t d = 0; d < c; d++)
            if (strcmp(t->header[c], t->header[d]) == 0)
                return dscm_fail(s->err, DSCM_E_FORMAT,
                                 "%s: line 1, column %zu: \"%.64s\" is the name of column %zu too",
                                 t->name, c + 1, t->header[c], d + 1);
    }
    return code;
}

/* Only line ends are left. */
static bool only_blank(const scanner *s)
{
    for (const char *c = s->at; c < s->end; c++)
        if (*c != '\n' && *c != '\r') return false;
    return true;
}

static dscm_code scan_rows(scanner *s)
{
    dscm_table *t = s->table;
    while (s->at < s->end && !(t->columns > 1 && only_blank(s))) {
        size_t count = 0, line = s->line;
        if (t->rows == s->capacity)
            return dscm_fail(s->err, DSCM_E_FORMAT, "%s: line %zu: line ends are mixed", t->name,
                             line);
        dscm_code code = scan_line(s, t->cells + t->rows * t->columns, t->columns, &count);
        if (code != DSCM_OK) return code;
        if (count != t->columns)
            return dscm_fail(s->err, DSCM_E_FORMAT,
                             "%s: line %zu: %zu cells; the header has %zu columns", t->name, line,
                             count, t->columns);
        t->lines[t->rows++] = line;
    }
    return DSCM_OK;
}

static dscm_code scan(dscm_table *t, size_t size, dscm_error *err)
{
    scanner s = {.table = t, .at = t->text, .end = t->text + size, .line = 1, .err = err};
    if (memchr(t->text, 0, size))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: holds a zero byte; not text", t->name);
    if (size >= 3 && memcmp(t->text, "\xEF\xBB\xBF", 3) == 0) s.at += 3;
    for (const char *c = s.at; c < s.end; c++)
        s.capacity += *c == '\n' || (*c == '\r' && c + 1 < s.end && c[1] != '\n');
    s.capacity++;
    dscm_code code = scan_header(&s);
    if (code != DSCM_OK) return code;
    size_t cells;
    if (!dscm_size_mul(s.capacity, t->columns, &cells))
        return dscm_fail(err, DSCM_E_LIMIT, "%s: too many cells", t->name);
    t->cells = dscm_alloc(cells, sizeof *t->cells, t->name, err);
    t->lines = dscm_alloc(s.capacity, sizeof *t->lines, t->name, err);
    return t->cells && t->lines ? scan_rows(&s) : DSCM_E_MEMORY;
}

dscm_code dscm_table_parse(dscm_table *out, const void *bytes, size_t size, const char *name,
                           dscm_error *err)
{
    *out = (dscm_table){0};
    if (size > FILE_LIMIT) return dscm_fail(err, DSCM_E_LIMIT, "%s: larger than 1 GiB", name);
    out->name = dscm_strdup(name, err);
    out->text = dscm_alloc(size + 1, 1, name, err);
    dscm_code code = out->name && out->text ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK && size) memcpy(out->text, bytes, size);
    if (code == DSCM_OK) code = scan(out, size, err);
    if (code != DSCM_OK) dscm_table_free(out);
    return code;
}

dscm_code dscm_table_read(dscm_table *out, const char *path, dscm_error *err)
{
    unsigned char *bytes = NULL;
    size_t size = 0;
    *out = (dscm_table){0};
    dscm_code code = dscm_file_read(path, FILE_LIMIT, &bytes, &size, err);
    if (code == DSCM_OK) code = dscm_table_parse(out, bytes, size, path, err);
    dscm_free(bytes);
    return code;
}

int dscm_table_find(const dscm_table *t, const char *name)
{
    for (size_t c = 0; c < t->columns; c++)
        if (strcmp(t->header[c], name) == 0) return (int)c;
    return -1;
}

dscm_code dscm_table_check_rows(const dscm_table *t, size_t count, const char *things,
                                dscm_error *err)
{
    if (t->rows == count) return DSCM_OK;
    return dscm_fail(err, DSCM_E_MISMATCH, "%s: %zu rows for %zu %s; the last row is in line %zu",
                     t->name, t->rows, count, things, t->rows ? t->lines[t->rows - 1] : 1);
}

void dscm_table_keep(dscm_table *t, const uint32_t *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        memmove(t->cells + i * t->columns, t->cells + rows[i] * t->columns,
                t->columns * sizeof *t->cells);
        t->lines[i] = t->lines[rows[i]];
    }
    t->rows = count;
}

/* ---- values ---- */

static bool parse_label(const dscm_column *c, const char *text, double *out)
{
    char *end;
    for (size_t i = 0; c->labels && i < c->labels_count; i++)
        if (strcmp(c->labels[i], text) == 0) {
            *out = (double)i;
            return true;
        }
    unsigned long index = strtoul(text, &end, 10);
    *out = (double)index;
    return *text >= '0' && *text <= '9' && !*end && index < c->labels_count;
}

static dscm_code parse_cell(const dscm_table *t, size_t row, size_t at, const dscm_column *c,
                            double *out, dscm_error *err)
{
    const char *text = t->cells[row * t->columns + at];
    char where[200], *end;
    *out = (double)NAN;
    snprintf(where, sizeof where, "%.100s: line %zu, column %zu (%.40s)", t->name, t->lines[row],
             at + 1, c->name);
    if (!*text && c->missing) return DSCM_OK;
    if (!*text) return dscm_fail(err, DSCM_E_INVALID, "%s: the cell is empty", where);
    if (c->kind == DSCM_CATEGORICAL) {
        if (parse_label(c, text, out)) return DSCM_OK;
        if (c->labels)
            return dscm_fail(err, DSCM_E_INVALID,
                             "%s: \"%.64s\" is not a label; allowed are %s … %s", where, text,
                             c->labels[0], c->labels[c->labels_count - 1]);
        return dscm_fail(err, DSCM_E_INVALID, "%s: \"%.64s\" is not an integer in 0..%zu", where,
                         text, c->labels_count - 1);
    }
    *out = strtod(text, &end);
    if (end != text && !*end && *out >= c->min && *out <= c->max) return DSCM_OK;
    return dscm_fail(err, DSCM_E_INVALID, "%s: \"%.64s\" is not a number in %g..%g", where, text,
                     c->min, c->max);
}

dscm_code dscm_table_column(const dscm_table *t, const dscm_column *c, double *out, dscm_error *err)
{
    int at = dscm_table_find(t, c->name);
    if (at < 0) {
        char known[256] = "";
        for (size_t i = 0; i < t->columns && strlen(known) < 200; i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%.40s", i ? ", " : "",
                     t->header[i]);
        return dscm_fail(err, DSCM_E_UNKNOWN,
                         "%s: line 1: there is no column \"%.64s\"; there are: %s", t->name,
                         c->name, known);
    }
    for (size_t r = 0; r < t->rows; r++) {
        dscm_code code = parse_cell(t, r, (size_t)at, c, &out[r], err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}
