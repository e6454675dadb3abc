#include "cli/page.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/base64.h"
#include "core/base/memory.h"
#include "core/io/file.h"

#define PICTURE_MAX ((size_t)16 << 20)

static const char style[] =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;"
    "color:#1c1c1c;background:#fff}"
    "h1,h2,h3{line-height:1.2;margin-top:2em}h1{margin-top:0}"
    "figure{margin:1em 0;overflow-x:auto}img{max-width:100%;height:auto}"
    "img{image-rendering:pixelated}"
    ".t{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;margin:1em 0}"
    "td,th{border:1px solid #ccc;padding:.25em .6em;text-align:right;white-space:nowrap}"
    "th{background:#f2f2f2}td:first-child,th:first-child{text-align:left}"
    "code{background:#f2f2f2;padding:.1em .3em;overflow-wrap:anywhere}"
    "pre{background:#f2f2f2;padding:.6em;overflow-x:auto}pre code{padding:0}";

static void escaped(page *p, const char *text)
{
    for (; *text; text++) {
        if (p->html && (*text == '<' || *text == '>' || *text == '&'))
            fputs(*text == '<' ? "&lt;" : *text == '>' ? "&gt;" : "&amp;", p->file);
        else if (!p->html && *text == '|')
            fputs("\\|", p->file);
        else
            fputc(*text, p->file);
    }
}

dscm_code page_open(page *p, const char *dir, const char *stem, const char *title, bool html,
                    dscm_error *err)
{
    *p = (page){.html = html, .dir = dir};
    snprintf(p->path, sizeof p->path, "%s/%s.%s", dir, stem, html ? "html" : "md");
    dscm_code code = dscm_text_stream_open(&p->text, p->path, err);
    if (code != DSCM_OK) return code;
    p->file = p->text.file;
    if (html) {
        fputs("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
              "content=\"width=device-width\"><title>",
              p->file);
        escaped(p, title);
        fprintf(p->file, "</title><style>%s</style>\n", style);
    }
    page_heading(p, 1, title);
    return DSCM_OK;
}

dscm_code page_close(page *p, dscm_code so_far, dscm_error *err)
{
    dscm_code code = dscm_text_stream_close(&p->text, p->path, so_far == DSCM_OK ? err : NULL);
    const dscm_piece piece = {p->text.data, p->text.size};
    p->file = NULL;
    if (so_far != DSCM_OK) code = so_far;
    if (code == DSCM_OK) code = dscm_file_replace(p->path, &piece, 1, err);
    free(p->text.data);
    p->text = (dscm_text_stream){0};
    return code;
}

void page_heading(page *p, int level, const char *text)
{
    if (p->html)
        fprintf(p->file, "<h%d>", level);
    else
        fprintf(p->file, "%.*s ", level, "######");
    escaped(p, text);
    if (p->html) fprintf(p->file, "</h%d>", level);
    fputs(p->html ? "\n" : "\n\n", p->file);
}

static void formatted(page *p, const char *format, va_list list)
{
    char text[4096];
    vsnprintf(text, sizeof text, format, list);
    escaped(p, text);
}

void page_text(page *p, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs(p->html ? "<p>" : "", p->file);
    formatted(p, format, list);
    fputs(p->html ? "</p>\n" : "\n\n", p->file);
    va_end(list);
}

void page_code(page *p, const char *text)
{
    fputs(p->html ? "<pre><code>" : "```sh\n", p->file);
    escaped(p, text);
    fputs(p->html ? "</code></pre>\n" : "\n```\n\n", p->file);
}

/* ---- tables ---- */
void page_table(page *p)
{
    fputs(p->html ? "<div class=\"t\"><table>\n<tr>" : "|", p->file);
    p->column = 0;
    p->header = true;
}

static void cell(page *p, const char *shade, const char *format, va_list list)
{
    if (p->html)
        fprintf(p->file, p->header ? "<th%s>" : "<td%s>", shade);
    else
        fputc(' ', p->file);
    formatted(p, format, list);
    fputs(!p->html ? " |" : p->header ? "</th>" : "</td>", p->file);
    p->column++;
}

void page_cell(page *p, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    cell(p, "", format, list);
    va_end(list);
}

void page_shaded_cell(page *p, double share, const char *format, ...)
{
    char shade[64];
    va_list list;
    va_start(list, format);
    double s = share >= 0 && share <= 1 ? share : 0;
    snprintf(shade, sizeof shade, " style=\"background:rgba(31,119,180,%.2f)\"", 0.7 * s);
    cell(p, shade, format, list);
    va_end(list);
}

static void end_row(page *p)
{
    fputs(p->html ? "</tr>\n" : "\n", p->file);
    if (!p->html && p->header) {
        for (size_t c = 0; c < p->column; c++) fputs(c ? "--:|" : "|---|", p->file);
        fputc('\n', p->file);
    }
    p->header = false;
    p->column = 0;
}

void page_row(page *p)
{
    end_row(p);
    fputs(p->html ? "<tr>" : "|", p->file);
}

void page_table_end(page *p)
{
    end_row(p);
    fputs(p->html ? "</table></div>\n" : "\n", p->file);
}

/* ---- pictures ---- */
static void embed(page *p, const char *path, const char *alt)
{
    unsigned char *bytes = NULL;
    size_t size = 0;
    if (dscm_file_read(path, PICTURE_MAX, &bytes, &size, NULL) != DSCM_OK) return;
    char *text = dscm_alloc(dscm_base64_encoded_size(size) + 1, 1, "picture", NULL);
    if (text) {
        dscm_base64_encode(text, bytes, size);
        fprintf(p->file, "<figure><img alt=\"%s\" src=\"data:image/%s;base64,%s\"></figure>\n", alt,
                strstr(path, ".svg") ? "svg+xml" : "png", text);
    }
    dscm_free(text);
    dscm_free(bytes);
}

void page_picture(page *p, const char *name, const char *alt)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", p->dir, name);
    if (access(path, R_OK) != 0) return;
    if (p->html)
        embed(p, path, alt);
    else
        fprintf(p->file, "![%s](%s)\n\n", alt, name);
}
