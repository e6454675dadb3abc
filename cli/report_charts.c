/* Charts of the report, drawn by gnuplot. */
#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/report.h"

extern char **environ;

/* CLD over the guidance scale on MNIST in Sanchez & Tsaftaris 2022, read off its figure, ±.002. */
static const char paper_curve[] =
    "0 1.313\n.2 1.257\n.3 1.200\n.4 1.146\n.5 1.107\n.6 1.073\n.7 1.062\n.8 1.061\n.9 1.063\n"
    "1.0 1.066\n1.5 1.093\n2 1.113\n3 1.118\n";

static FILE *open_in(const evaluation *e, const char *name, dscm_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", e->report_dir, name);
    FILE *f = fopen(path, "w");
    if (!f && dscm_fail(err, DSCM_E_IO, "%s: cannot write: %s", path, strerror(errno))) return NULL;
    return f;
}

static dscm_code close_in(const evaluation *e, FILE *f, const char *name, dscm_code code,
                          dscm_error *err)
{
    bool bad = f && ferror(f);
    if (f && fclose(f) != 0) bad = true;
    if (!bad || code != DSCM_OK) return code;
    return dscm_fail(err, DSCM_E_IO, "%s/%s: writing failed: %s", e->report_dir, name,
                     strerror(errno));
}

/* Whether method i is the first point of its curve. */
static bool starts_series(const evaluation *e, size_t i)
{
    if (!e->list[i].curve) return false;
    for (size_t k = 0; k < i; k++)
        if (e->list[k].curve && strcmp(e->list[k].series, e->list[i].series) == 0) return false;
    return true;
}

/* A block per curve: scale (a mean where it is searched per image), CLD with interval, oracle
 * validity, L1; blocks are named by their series. */
static dscm_code write_curves(const evaluation *e, size_t *count, dscm_error *err)
{
    FILE *f = open_in(e, "curves.dat", err);
    dscm_code code = f ? DSCM_OK : DSCM_E_IO;
    *count = 0;
    for (size_t i = 0; code == DSCM_OK && i < e->count; i++) {
        if (!starts_series(e, i)) continue;
        fprintf(f, "%s\"%s\"\n", *count ? "\n\n" : "", e->list[i].series);
        *count += 1;
        for (size_t k = i; code == DSCM_OK && k < e->count; k++) {
            const eval_method *r = &e->list[k];
            dscm_interval scale = {0}, cld = {0}, oracle = {0}, l1 = {0};
            if (!r->curve || strcmp(r->series, e->list[i].series) != 0) continue;
            code = report_interval(r, DSCM_COL_SCALE, &scale, err);
            if (code == DSCM_OK) code = report_interval(r, DSCM_COL_CLD, &cld, err);
            if (code == DSCM_OK) code = report_interval(r, DSCM_COL_ORACLE, &oracle, err);
            if (code == DSCM_OK) code = report_interval(r, DSCM_COL_L1, &l1, err);
            fprintf(f, "%g %g %g %g %g %g\n", scale.mean, cld.mean, cld.low, cld.high, oracle.mean,
                    l1.mean);
        }
    }
    return close_in(e, f, "curves.dat", code, err);
}

/* " 16", " auto", or nothing for a method without a scale: tells rows of one name apart. */
static const char *scale_label(const eval_method *r, char *out, size_t size)
{
    if (!eval_is_diffusion(r)) return "";
    if (r->setting.search) return " auto";
    snprintf(out, size, " %g", r->setting.options.scale);
    return out;
}

/* The tables' methods as single points: CLD, L1, oracle validity, short name. */
static dscm_code write_points(const evaluation *e, dscm_error *err)
{
    FILE *f = open_in(e, "points.dat", err);
    dscm_code code = f ? DSCM_OK : DSCM_E_IO;
    for (size_t i = 0; code == DSCM_OK && i < e->count; i++) {
        dscm_interval cld = {0}, oracle = {0}, l1 = {0};
        char scale[32];
        if (e->list[i].curve) continue;
        code = report_interval(&e->list[i], DSCM_COL_CLD, &cld, err);
        if (code == DSCM_OK) code = report_interval(&e->list[i], DSCM_COL_ORACLE, &oracle, err);
        if (code == DSCM_OK) code = report_interval(&e->list[i], DSCM_COL_L1, &l1, err);
        fprintf(f, "%g %g %g \"%s%s\"\n", cld.mean, l1.mean, oracle.mean, e->list[i].name,
                scale_label(&e->list[i], scale, sizeof scale));
    }
    return close_in(e, f, "points.dat", code, err);
}

/* A block per studied method and guidance: cycle, L1 with interval. */
static dscm_code write_composition(const evaluation *e, size_t *count, dscm_error *err)
{
    FILE *f = open_in(e, "composition.dat", err);
    dscm_code code = f ? DSCM_OK : DSCM_E_IO;
    *count = 0;
    for (size_t i = 0; code == DSCM_OK && i < e->count; i++) {
        const eval_method *r = &e->list[i];
        for (size_t guided = 0; r->study_count && guided < 2; guided++) {
            fprintf(f, "%s\"%s, guidance %s\"\n", *count ? "\n\n" : "", r->title,
                    guided ? "on" : "off");
            *count += 1;
            for (size_t c = 0; code == DSCM_OK && c < EVAL_CYCLES; c++) {
                dscm_interval v;
                code = report_study_interval(r, guided * EVAL_CYCLES + c, &v, err);
                fprintf(f, "%zu %g %g %g\n", c + 1, v.mean, v.low, v.high);
            }
        }
    }
    return close_in(e, f, "composition.dat", code, err);
}

/* The colours come again after eight curves, then with broken lines and hollow points. */
static const char colours[] =
    "colour(k) = word('#9400d3 #009e73 #56b4e9 #e69f00 #f0e442 #0072b2 #e51e10 #000000', k)\n"
    "do for [k=1:8] { set linetype k lc rgb colour(k) pt 7 ps .5 }\n"
    "do for [k=1:8] { set linetype k+8 lc rgb colour(k) pt 6 ps .5 dt 2 }\n";

/* The names of curves stand under the picture, in columns of `rows`. */
static void head(FILE *f, const char *svg, int width, int rows)
{
    fprintf(f,
            "set terminal svg size %d,680 font 'sans-serif,13' background 'white'\n"
            "set output '%s'\nset grid lc rgb '#dddddd'\nset border lc rgb '#666666'\n"
            "set key noautotitle at screen .5,.28 center top vertical maxrows %d font ',11'\n"
            "set bmargin at screen .37\n",
            width, svg, rows);
}

static dscm_code write_script(const evaluation *e, size_t curves, size_t studies, dscm_error *err)
{
    FILE *f = open_in(e, "charts.gp", err);
    if (!f) return DSCM_E_IO;
    fputs(colours, f);
    if (curves) {
        head(f, "curve.svg", 900, 8);
        fprintf(f,
                "set title 'CLD over the guidance scale'\nset xlabel 'guidance scale s'\n"
                "set nonlinear x via asinh(4*x) inverse sinh(x)/4\n"
                "set xtics (0,.2,.5,1,2,5,10,20,50,100,200,500)\n"
                "set ylabel 'CLD (lower is better)'\n"
                "$paper << E\n%sE\nplot for [i=0:%zu] 'curves.dat' index i using 1:2:3:4 with "
                "yerrorlines title columnheader(1), $paper with linespoints lc rgb "
                "'black' dt 2 pt 6 ps .6 title \"Sanchez and Tsaftaris 2022, as printed\"\n",
                paper_curve, curves - 1);
        head(f, "frontier.svg", 1000, 8);
        fprintf(f,
                "unset nonlinear x\nset xtics autofreq\n"
                "set multiplot layout 1,2\nset ylabel 'oracle validity'\nset yrange [-.02:1.08]\n"
                "unset title\n"
                "set xlabel 'CLD'\nplot for [i=0:%zu] 'curves.dat' index i using 2:5 with "
                "linespoints title columnheader(1), 'points.dat' using 1:3 with points "
                "pt 2 lc rgb 'black', '' using 1:3:4 with labels font ',10' offset 0,.7\n"
                "unset key\nset xlabel 'L1 (0-255)'\nplot for [i=0:%zu] 'curves.dat' index i using "
                "6:5 with "
                "linespoints, 'points.dat' using 2:3 with points "
                "pt 2 lc rgb 'black', '' using 2:3:4 with labels font ',10' offset 0,.7\n"
                "unset multiplot\nreset\n",
                curves - 1, curves - 1);
    }
    if (studies) {
        head(f, "composition.svg", 900, 12);
        fprintf(f,
                "set title 'Null counterfactuals, one after another'\nset xlabel 'cycles'\n"
                "set ylabel 'L1 to the factual (0-255)'\n"
                "set yrange [0:*]\nplot for [i=0:%zu] 'composition.dat' index i using 1:2:3:4 with "
                "yerrorlines title columnheader(1)\n",
                studies - 1);
    }
    return close_in(e, f, "charts.gp", DSCM_OK, err);
}

/* gnuplot runs in the folder, so that the script holds no path and can be run again by hand. */
static bool run_gnuplot(const evaluation *e)
{
    posix_spawn_file_actions_t actions;
    char *argv[] = {"gnuplot", "charts.gp", NULL};
    pid_t pid;
    int status = 1;
    if (posix_spawn_file_actions_init(&actions) != 0) return false;
    bool ran = posix_spawn_file_actions_addchdir_np(&actions, e->report_dir) == 0 &&
               posix_spawnp(&pid, "gnuplot", &actions, NULL, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    if (!ran) return false;
    waitpid(pid, &status, 0);
    return status == 0;
}

dscm_code report_charts(const evaluation *e, bool *drawn, dscm_error *err)
{
    size_t curves = 0, studies = 0;
    *drawn = false;
    dscm_code code = write_curves(e, &curves, err);
    if (code == DSCM_OK) code = write_points(e, err);
    if (code == DSCM_OK) code = write_composition(e, &studies, err);
    if (code == DSCM_OK) code = write_script(e, curves, studies, err);
    if (code == DSCM_OK) *drawn = run_gnuplot(e);
    return code;
}
