/* Tables: comma-separated values with a header line (RFC 4180): quoted cells, doubled quotes, line
 * breaks within quotes, CRLF, UTF-8 with or without a byte-order mark.
 *
 * Every message names file, line and column. Values are text until a column is asked for. A table
 * is immutable after reading and may be shared by threads.
 */
#ifndef DSCM_CORE_DATA_TABLE_H
#define DSCM_CORE_DATA_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/diffscm.h"

#define DSCM_TABLE_COLUMNS_MAX 256

typedef struct dscm_table {
    char *name;           /* of the file, for messages */
    size_t rows, columns; /* without the header */
    char **header;        /* (columns) names, into `text` */
    char **cells;         /* (rows, columns) into `text`, "" where empty */
    size_t *lines;        /* (rows) line of the file where the row begins, from 1 */
    char *text;           /* owned */
} dscm_table;

/* Files of at most 1 GiB. The table is empty after a failure; close with dscm_table_free. */
dscm_code dscm_table_read(dscm_table *out, const char *path, dscm_error *err) DSCM_MUST_CHECK;
dscm_code dscm_table_parse(dscm_table *out, const void *bytes, size_t size, const char *name,
                           dscm_error *err) DSCM_MUST_CHECK;
void dscm_table_free(dscm_table *table);

/* Index of a column by name, or -1. */
int dscm_table_find(const dscm_table *table, const char *name);
/* Fails unless there is one row for each of `count` things ("images"). */
dscm_code dscm_table_check_rows(const dscm_table *table, size_t count, const char *things,
                                dscm_error *err) DSCM_MUST_CHECK;

/* Keeps rows[0..count-1], ascending, of those there are. */
void dscm_table_keep(dscm_table *table, const uint32_t *rows, size_t count);

/* What a column must hold. */
typedef struct dscm_column {
    const char *name;
    dscm_kind kind;            /* DSCM_CATEGORICAL or DSCM_CONTINUOUS */
    size_t labels_count;       /* categorical: a label, or its index */
    const char *const *labels; /* (labels_count); NULL: only indices */
    double min, max;           /* continuous: range, both ends allowed */
    bool missing;              /* an empty cell is allowed: NaN */
} dscm_column;

/* Reads the column into out (rows): label indices or numbers. */
dscm_code dscm_table_column(const dscm_table *table, const dscm_column *column, double *out,
                            dscm_error *err) DSCM_MUST_CHECK;

#endif
