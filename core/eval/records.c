#include "core/eval/records.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/memory.h"

#define LINE_MAX_BYTES 1024

static const char *const names[] = {
    [DSCM_COL_INDEX] = "index",
    [DSCM_COL_LABEL] = "label",
    [DSCM_COL_TARGET] = "target",
    [DSCM_COL_GUIDE] = "guide",
    [DSCM_COL_ORACLE] = "oracle",
    [DSCM_COL_GUIDE_DENOISED] = "guide_denoised",
    [DSCM_COL_ORACLE_DENOISED] = "oracle_denoised",
    [DSCM_COL_PROBABILITY] = "probability",
    [DSCM_COL_L1] = "l1",
    [DSCM_COL_L2] = "l2",
    [DSCM_COL_CHANGED_05] = "changed_05",
    [DSCM_COL_CHANGED_10] = "changed_10",
    [DSCM_COL_NEARER] = "nearer",
    [DSCM_COL_CLD] = "cld",
    [DSCM_COL_MINIMALITY] = "minimality",
    [DSCM_COL_DEPARTURE] = "departure",
    [DSCM_COL_IM1] = "im1",
    [DSCM_COL_IM2] = "im2",
    [DSCM_COL_SCALE] = "scale",
    [DSCM_COL_PASSES] = "passes",
    [DSCM_COL_GRADIENTS] = "gradients",
    [DSCM_COL_SECONDS] = "seconds",
};
static_assert(sizeof names / sizeof names[0] == DSCM_COLUMNS, "every column has a name");

static void write_header(FILE *f)
{
    for (int c = 0; c < DSCM_COLUMNS; c++) fprintf(f, c ? ",%s" : "%s", names[c]);
    fputc('\n', f);
}

static void write_row(FILE *f, const dscm_record *row)
{
    for (int c = 0; c < DSCM_COLUMNS; c++) {
        if (c) fputc(',', f);
        if (!isnan(row->values[c])) fprintf(f, "%.7g", row->values[c]);
    }
    fputc('\n', f);
}

/* A disk that was full or a run that was killed may have left half a line: what is appended to it
 * would be no row. Leaves the file at its end. */
static bool drop_cut_line(FILE *f)
{
    if (fseek(f, 0, SEEK_END) != 0) return false;
    long end = ftell(f), whole = end;
    for (; whole > 0; whole--)
        if (fseek(f, whole - 1, SEEK_SET) != 0 || fgetc(f) == '\n') break;
    if (whole < end && ftruncate(fileno(f), whole) != 0) return false;
    return fseek(f, 0, SEEK_END) == 0;
}

dscm_code dscm_records_append(const char *path, const dscm_record *rows, size_t count,
                              dscm_error *err)
{
    FILE *f = fopen(path, "a+");
    if (!f)
        return dscm_fail(err, DSCM_E_IO, "%s: cannot open for writing: %s", path, strerror(errno));
    bool bad = !drop_cut_line(f);
    if (!bad && ftell(f) == 0) write_header(f);
    for (size_t i = 0; i < count && !bad; i++) write_row(f, &rows[i]);
    bad |= fflush(f) != 0 || ferror(f);
    int why = errno;
    if (fclose(f) != 0 && !bad) bad = true, why = errno;
    if (bad) return dscm_fail(err, DSCM_E_IO, "%s: writing failed: %s", path, strerror(why));
    return DSCM_OK;
}

static bool parse_row(dscm_record *row, const char *line)
{
    for (int c = 0; c < DSCM_COLUMNS; c++) {
        char stop = c + 1 < DSCM_COLUMNS ? ',' : '\n';
        char *end = NULL;
        row->values[c] = NAN;
        if (*line == stop) {
            line++;
            continue;
        }
        row->values[c] = strtod(line, &end);
        if (end == line || *end != stop) return false;
        line = end + 1;
    }
    return *line == '\0';
}

static bool is_header(const char *line)
{
    for (int c = 0; c < DSCM_COLUMNS; c++) {
        size_t length = strlen(names[c]);
        char stop = c + 1 < DSCM_COLUMNS ? ',' : '\n';
        if (strncmp(line, names[c], length) != 0 || line[length] != stop) return false;
        line += length + 1;
    }
    return true;
}

static dscm_code read_lines(FILE *f, const char *path, dscm_record *rows, size_t *count,
                            size_t limit, dscm_error *err)
{
    char line[LINE_MAX_BYTES];
    for (size_t number = 1; *count < limit && fgets(line, sizeof line, f); number++) {
        if (!strchr(line, '\n') && feof(f)) break; /* cut off while it was written */
        bool good = number == 1 ? is_header(line) : parse_row(&rows[*count], line);
        if (!good)
            return dscm_fail(err, DSCM_E_FORMAT,
                             "%s: line %zu is not an evaluation record of this version", path,
                             number);
        *count += number > 1;
    }
    if (ferror(f)) return dscm_fail(err, DSCM_E_IO, "%s: reading failed", path);
    return DSCM_OK;
}

dscm_code dscm_records_read(const char *path, dscm_record **rows, size_t *count, size_t limit,
                            dscm_error *err)
{
    *rows = NULL;
    *count = 0;
    FILE *f = fopen(path, "r");
    if (!f && errno == ENOENT) return DSCM_OK;
    if (!f) return dscm_fail(err, DSCM_E_IO, "%s: cannot open: %s", path, strerror(errno));
    dscm_code code = DSCM_E_MEMORY;
    dscm_record *all = dscm_alloc(limit, sizeof *all, "evaluation records", err);
    if (all) code = read_lines(f, path, all, count, limit, err);
    fclose(f);
    if (code != DSCM_OK) {
        dscm_free(all);
        *count = 0;
        return code;
    }
    *rows = all;
    return DSCM_OK;
}
