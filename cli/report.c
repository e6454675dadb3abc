#include "cli/report.h"

#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "core/eval/stats.h"

#define RESAMPLES 1000

/* The columns of the main table, in reading order. */
static const struct {
    dscm_column column;
    const char *title;
    int digits;
} shown[] = {{DSCM_COL_ORACLE, "oracle validity", 4},
             {DSCM_COL_GUIDE, "guide validity", 4},
             {DSCM_COL_ORACLE_DENOISED, "denoised validity", 4},
             {DSCM_COL_CLD, "CLD", 4},
             {DSCM_COL_MINIMALITY, "P(S_CF ≤ div)", 3},
             {DSCM_COL_DEPARTURE, "P(S_F ≥ div)", 3},
             {DSCM_COL_IM1, "IM1", 3},
             {DSCM_COL_IM2, "IM2", 4},
             {DSCM_COL_L1, "L1 (0–255)", 2},
             {DSCM_COL_CHANGED_10, "changed > .1", 3},
             {DSCM_COL_NEARER, "nearer than real", 3},
             {DSCM_COL_PASSES, "passes", 0},
             {DSCM_COL_SECONDS, "s/image", 4}};
#define SHOWN (sizeof shown / sizeof shown[0])

static dscm_code column_interval(const report_method *m, dscm_column column, dscm_interval *out,
                                 dscm_error *err)
{
    double *values = dscm_alloc(m->count, sizeof *values, "report", err);
    if (!values) return DSCM_E_MEMORY;
    for (size_t i = 0; i < m->count; i++) values[i] = m->rows[i].values[column];
    dscm_code code = dscm_bootstrap_mean(out, values, m->count, RESAMPLES, 1, err);
    dscm_free(values);
    return code;
}

static void format_interval(char *out, size_t size, const dscm_interval *v, int digits)
{
    if (isnan(v->mean))
        snprintf(out, size, "–");
    else if (v->high - v->low < 1e-12)
        snprintf(out, size, "%.*f", digits, v->mean);
    else
        snprintf(out, size, "%.*f (%.*f–%.*f)", digits, v->mean, digits, v->low, digits, v->high);
}

/* One table, written through a row's opening, separator and closing text: Markdown and HTML differ
 * only there. */
static dscm_code write_table(FILE *f, const report *r, bool html, dscm_error *err)
{
    const char *open = html ? "<tr><td>" : "| ", *next = html ? "</td><td>" : " | ";
    const char *close = html ? "</td></tr>\n" : " |\n";
    char cell[96];
    fprintf(f, "%s%s%sitems", html ? "<table>\n" : "", open, "method");
    fprintf(f, "%s", "");
    for (size_t c = 0; c < SHOWN; c++) fprintf(f, "%s%s", next, shown[c].title);
    fputs(close, f);
    if (!html) {
        fputs("|---", f);
        for (size_t c = 0; c < SHOWN; c++) fputs("|---", f);
        fputs("|\n", f);
    }
    for (size_t m = 0; m < r->methods_count; m++) {
        fprintf(f, "%s%s (%zu)", open, r->methods[m].title, r->methods[m].count);
        for (size_t c = 0; c < SHOWN; c++) {
            dscm_interval v;
            dscm_code code = column_interval(&r->methods[m], shown[c].column, &v, err);
            if (code != DSCM_OK) return code;
            format_interval(cell, sizeof cell, &v, shown[c].digits);
            fprintf(f, "%s%s", next, cell);
        }
        fputs(close, f);
    }
    if (html) fputs("</table>\n", f);
    return DSCM_OK;
}

static void write_composition(FILE *f, const report *r, bool html)
{
    const char *para = html ? "<p>" : "", *end = html ? "</p>\n" : "\n\n";
    if (!r->cycles) return;
    fprintf(f,
            "%sComposition, mean L1 on 0–255 after 1 and %zu null counterfactuals: guidance off "
            "%.3f and %.3f, on "
            "(towards the image's own class) %.3f and %.3f. Reversibility, after do(target) and "
            "do(own class): "
            "%.3f.%s",
            para, r->cycles, r->composition[0], r->composition[r->cycles - 1],
            r->composition[r->cycles], r->composition[2 * r->cycles - 1], r->reversibility, end);
}

static void write_settings(FILE *f, const report *r, bool html)
{
    const char *para = html ? "<p>" : "", *end = html ? "</p>\n" : "\n\n";
    const dscm_bundle_info *info = r->model->info;
    fprintf(f,
            "%sModel %s %s, manifest SHA-256 %.16s…; data SHA-256 %.16s…; seed %llu. Reproduce: "
            "%s%s%s%s",
            para, info->name, info->version, info->sha256, r->data_sha256,
            (unsigned long long)r->model->seed, html ? "<code>" : "`", r->command,
            html ? "</code>" : "`", end);
    fprintf(f,
            "%sMeans with 95 %% bootstrap intervals (%d resamples). Results are scored as "
            "delivered, rounded to 8 "
            "bits. CLD is log(exp P(S_CF ≤ div) + exp P(S_F ≥ div)); 1.313 for an unchanged image; "
            "read it with "
            "its two terms and validity, since a random real image of the target class scores "
            "about .98.%s",
            para, RESAMPLES, end);
}

/* gnuplot draws validity and CLD over L1 of the frontier's points. Without gnuplot the report has
 * no chart. */
static bool draw_frontier(const report *r)
{
    char data[4096], script[4096], svg[4096];
    snprintf(data, sizeof data, "%s/frontier.dat", r->dir);
    snprintf(script, sizeof script, "%s/frontier.gp", r->dir);
    snprintf(svg, sizeof svg, "%s/frontier.svg", r->dir);
    FILE *f = fopen(data, "w");
    if (!f) return false;
    for (size_t m = 0; m < r->methods_count; m++) {
        dscm_interval scale, cld, oracle, l1;
        bool good = r->methods[m].curve &&
                    column_interval(&r->methods[m], DSCM_COL_SCALE, &scale, NULL) == DSCM_OK &&
                    column_interval(&r->methods[m], DSCM_COL_CLD, &cld, NULL) == DSCM_OK &&
                    column_interval(&r->methods[m], DSCM_COL_ORACLE, &oracle, NULL) == DSCM_OK &&
                    column_interval(&r->methods[m], DSCM_COL_L1, &l1, NULL) == DSCM_OK;
        if (good) fprintf(f, "%g %g %g %g\n", scale.mean, cld.mean, oracle.mean, l1.mean);
    }
    fclose(f);
    f = fopen(script, "w");
    if (!f) return false;
    /* The paper's curve as read off its figure, +-.002. */
    fprintf(f,
            "set terminal svg size 900,360 font 'sans-serif,12'\nset output '%s'\nset multiplot "
            "layout 1,2\n"
            "$paper << E\n0 1.313\n.2 1.257\n.3 1.200\n.4 1.146\n.5 1.107\n.6 1.073\n.7 1.062\n.8 "
            "1.061\n.9 1.063\n"
            "1.0 1.066\n1.5 1.093\n2 1.113\n3 1.118\nE\nset grid\nset xlabel 'guidance scale'\nset "
            "ylabel 'CLD'\n"
            "plot '%s' using 1:2 with linespoints title 'this run', $paper with linespoints title "
            "'paper'\n"
            "set ylabel 'oracle validity'\nset yrange [0:1]\n"
            "plot '%s' using 1:3 with linespoints title 'this run'\nunset multiplot\n",
            svg, data, data);
    fclose(f);
    char *argv[] = {"gnuplot", script, NULL};
    extern char **environ;
    pid_t pid;
    int status = 1;
    if (posix_spawnp(&pid, "gnuplot", NULL, NULL, argv, environ) != 0) return false;
    waitpid(pid, &status, 0);
    return status == 0 && access(svg, R_OK) == 0;
}

/* Copies a text file into the page. */
static void inline_file(FILE *out, const char *path)
{
    char buffer[4096];
    size_t n;
    FILE *f = fopen(path, "r");
    if (!f) return;
    while ((n = fread(buffer, 1, sizeof buffer, f)) > 0) fwrite(buffer, 1, n, out);
    fclose(f);
}

static dscm_code write_page(const report *r, bool html, bool chart, dscm_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/report.%s", r->dir, html ? "html" : "md");
    FILE *f = fopen(path, "w");
    if (!f) return dscm_fail(err, DSCM_E_IO, "%s: cannot write", path);
    fputs(html ? "<!doctype html><meta charset=\"utf-8\"><title>diffscm "
                 "evaluation</title><style>body{font-family:"
                 "sans-serif;margin:2em}td{border:1px solid #ccc;padding:.3em "
                 ".6em}table{border-collapse:collapse;"
                 "font-size:.85em}img{max-width:100%;image-rendering:pixelated}</"
                 "style><h1>Evaluation</h1>\n"
               : "# Evaluation\n\n",
          f);
    write_settings(f, r, html);
    dscm_code code = write_table(f, r, html, err);
    if (!html) fputc('\n', f);
    write_composition(f, r, html);
    if (chart && html) {
        snprintf(path, sizeof path, "%s/frontier.svg", r->dir);
        inline_file(f, path);
    } else if (chart) {
        fputs("![CLD and validity over the guidance scale](frontier.svg)\n\n", f);
    }
    for (size_t m = 0; m < r->methods_count; m++) {
        if (r->methods[m].curve && m) continue; /* one sheet for the default of a curve */
        fprintf(f,
                html ? "<h2>%s</h2><p>Rows: factual, counterfactual; best, median and worst by "
                       "L1.</p><img alt=\"sheet\" "
                       "src=\"sheet-%s.png\">\n"
                     : "## %s\n\nRows: factual, counterfactual; best, median and worst by L1.\n\n"
                       "![sheet](sheet-%s.png)\n\n",
                r->methods[m].title, r->methods[m].slug);
    }
    if (fclose(f) != 0 && code == DSCM_OK)
        code = dscm_fail(err, DSCM_E_IO, "%s: writing failed", path);
    return code;
}

dscm_code cli_report_write(const report *r, dscm_error *err)
{
    bool chart = draw_frontier(r);
    dscm_code code = write_page(r, false, chart, err);
    return code == DSCM_OK ? write_page(r, true, chart, err) : code;
}
