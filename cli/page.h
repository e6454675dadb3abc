/* A page written once as Markdown and once as HTML: headings, paragraphs, tables, pictures.
 *
 * Text is plain; HTML's special characters are escaped here. Pictures are linked in Markdown and
 * put into the HTML file, which then needs nothing beside it.
 */
#ifndef DSCM_CLI_PAGE_H
#define DSCM_CLI_PAGE_H

#include <stdbool.h>
#include <stdio.h>

#include "core/io/text_stream.h"

typedef struct page {
    dscm_text_stream text; /* a page that is not whole replaces none */
    FILE *file;            /* of that text */
    bool html;
    const char *dir; /* folder of the pictures */
    char path[4096];
    size_t column; /* of the table's present row */
    bool header;   /* the present row is the header */
} page;

/* Begins DIR/<stem>.md or DIR/<stem>.html, which closing writes; where `so_far` is an error nothing is
 * written and it is returned. `dir` stays the caller's. */
dscm_code page_open(page *p, const char *dir, const char *stem, const char *title, bool html,
                    dscm_error *err) DSCM_MUST_CHECK;
dscm_code page_close(page *p, dscm_code so_far, dscm_error *err) DSCM_MUST_CHECK;

void page_heading(page *p, int level, const char *text);
void page_text(page *p, const char *format, ...) DSCM_PRINTF(2, 3); /* a paragraph */
void page_code(page *p, const char *text);                          /* a line of code */

/* A table: begin, the header's cells, page_row, cells, page_row, cells …, end. */
void page_table(page *p);
void page_cell(page *p, const char *format, ...) DSCM_PRINTF(2, 3);
/* A cell whose ground shows `share` in 0..1 (HTML only). */
void page_shaded_cell(page *p, double share, const char *format, ...) DSCM_PRINTF(3, 4);
void page_row(page *p);
void page_table_end(page *p);

/* A PNG or SVG file of the folder, by its name; `alt` says what it shows. Missing files leave
 * nothing. */
void page_picture(page *p, const char *name, const char *alt);

#endif
