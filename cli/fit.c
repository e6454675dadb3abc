/* diffscm fit: the mechanisms of a causal graph from a table of variables. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/chart.h"
#include "cli/cli.h"
#include "cli/json_file.h"
#include "core/base/memory.h"
#include "core/causal/model.h"
#include "core/io/file.h"
#include "core/io/json.h"
#include "core/io/text_stream.h"

typedef struct fitting {
    const char *data_dir, *split, *table_file, *graph, *given_file, *out, *report_file, *charts_dir;
    option_list ranges;
    dscm_causal_options options;
    dscm_table table;
    dscm_causal model;
    double *values; /* (rows, nodes) */
    dscm_causal_report reports[DSCM_CAUSAL_NODES_MAX];
} fitting;

/* DIR/SPLIT-variables.csv, or DIR/variables.csv. */
static dscm_code open_table(fitting *f, dscm_error *err)
{
    char path[4096];
    struct stat about;
    if (f->table_file) return dscm_table_read(&f->table, f->table_file, err);
    if (strchr(f->split, '['))
        return dscm_fail(err, DSCM_E_INVALID,
                         "--split %s: a table is fitted whole; give the split's name alone",
                         f->split);
    int length = snprintf(path, sizeof path, "%s/%s-variables.csv", f->data_dir, f->split);
    if (length > 0 && length < (int)sizeof path && stat(path, &about) != 0)
        length = snprintf(path, sizeof path, "%s/variables.csv", f->data_dir);
    if (length < 0 || length >= (int)sizeof path)
        return dscm_fail(err, DSCM_E_LIMIT, "--data %.64s…: the path is too long", f->data_dir);
    return dscm_table_read(&f->table, path, err);
}

/* "thickness=.5..9" */
static dscm_code set_range(dscm_causal *m, const char *text, dscm_error *err)
{
    char name[64] = "", number[64] = "", *end = NULL, *low_end = NULL;
    const char *equal = strchr(text, '='), *dots = equal ? strstr(equal, "..") : NULL;
    int node = -1;
    double low = 0, high = 0;
    if (dots && equal - text < (long)sizeof name && dots - equal < (long)sizeof number) {
        memcpy(name, text, (size_t)(equal - text));
        memcpy(number, equal + 1, (size_t)(dots - equal - 1));
        low = strtod(number, &low_end);
        high = strtod(dots + 2, &end);
    }
    if (!end || *end || !*number || *low_end || !(low < high && low > -1e12 && high < 1e12))
        return dscm_fail(err, DSCM_E_INVALID,
                         "--range %.64s: must be NAME=LOW..HIGH, numbers of magnitudes below 1e12",
                         text);
    dscm_code code = dscm_causal_find(m, name, &node, err);
    if (code != DSCM_OK) return code;
    if (node == m->image)
        return dscm_fail(err, DSCM_E_INVALID, "--range %s: an image has no range", text);
    m->nodes[node].min = low;
    m->nodes[node].max = high;
    return DSCM_OK;
}

static dscm_code give(fitting *f, dscm_error *err)
{
    unsigned char *bytes = NULL;
    size_t size = 0;
    json_error_t why;
    if (!f->given_file) return DSCM_OK;
    dscm_code code = dscm_file_read(f->given_file, (size_t)1 << 24, &bytes, &size, err);
    json_t *json =
        code == DSCM_OK ? dscm_json_read((char *)bytes, size, JSON_REJECT_DUPLICATES, &why) : NULL;
    if (code == DSCM_OK && !json)
        code = dscm_fail(err, dscm_json_code(&why), "%s: line %d: %s", f->given_file, why.line,
                         why.text);
    if (code == DSCM_OK) code = dscm_causal_give(&f->model, json, f->given_file, err);
    json_decref(json);
    dscm_free(bytes);
    return code;
}

/* ---- report ---- */

static json_t *figure(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *report_json(const fitting *f, size_t i)
{
    const dscm_causal_report *r = &f->reports[i];
    json_t *o = json_object(), *bins = json_array();
    json_object_set_new(o, "given", json_boolean(!r->held_out_rows));
    if (!r->held_out_rows) {
        json_decref(bins);
        return o;
    }
    json_object_set_new(o, "log_likelihood_train", figure(r->train));
    json_object_set_new(o, "log_likelihood_held_out", figure(r->held_out));
    json_object_set_new(o, "log_likelihood_start", figure(r->start));
    json_object_set_new(o, "held_out_rows", json_integer((json_int_t)r->held_out_rows));
    json_object_set_new(o, "epochs", json_integer((json_int_t)r->epochs));
    json_object_set_new(o, "best_epoch", json_integer((json_int_t)r->best));
    json_object_set_new(o, "converged", json_boolean(r->converged));
    json_object_set_new(o, "calibration_error", figure(r->calibration));
    for (int b = 0; b < 10; b++) json_array_append_new(bins, figure(r->bins[b]));
    json_object_set_new(o, "calibration_bins", bins);
    return o;
}

static void print_report(const fitting *f)
{
    printf("%-16s %-12s %10s %10s %7s %6s %s\n", "variable", "kind", "held out", "train", "calib.",
           "epochs", "");
    for (size_t i = 0; i < f->model.count; i++) {
        const dscm_causal_node *n = &f->model.nodes[i];
        const dscm_causal_report *r = &f->reports[i];
        if ((int)i == f->model.image) continue;
        const char *kind = n->kind == DSCM_CATEGORICAL ? "categorical" : "continuous";
        if (!r->held_out_rows)
            printf("%-16s %-12s given\n", n->name, kind);
        else
            printf("%-16s %-12s %10.4f %10.4f %7.4f %3zu/%-3zu%s\n", n->name, kind, r->held_out,
                   r->train, r->calibration, r->best, r->epochs,
                   r->converged ? " converged" : " not converged: more --epochs");
    }
}

/* DIR/calibration-NAME.svg; a character of the name that is none of a file's becomes _. */
static dscm_code write_chart(const char *dir, const char *name, const chart_bars *chart,
                             dscm_error *err)
{
    char path[4096], file[128];
    snprintf(file, sizeof file, "calibration-%s.svg", name);
    for (char *c = file; *c; c++)
        if (*c == '/') *c = '_';
    int used = snprintf(path, sizeof path, "%s/%s", dir, file);
    if (used < 0 || used >= (int)sizeof path)
        return dscm_fail(err, DSCM_E_LIMIT, "--charts %.64s…: the path is too long", dir);
    dscm_text_stream text;
    dscm_code code = dscm_text_stream_open(&text, path, err);
    if (code != DSCM_OK) return code;
    chart_write_bars(text.file, chart);
    code = dscm_text_stream_close(&text, path, err);
    const dscm_piece piece = {text.data, text.size};
    if (code == DSCM_OK) code = dscm_file_replace(path, &piece, 1, err);
    free(text.data);
    return code;
}

/* The ten bins of every mechanism that was fitted, beside what they would be if it were right. */
static dscm_code write_charts(const fitting *f, dscm_error *err)
{
    static const char *const groups[] = {"0–.1",  ".1–.2", ".2–.3", ".3–.4", ".4–.5",
                                         ".5–.6", ".6–.7", ".7–.8", ".8–.9", ".9–1"};
    static const char *const noise[] = {"held-out noise", "N(0,1)"};
    static const char *const labels[] = {"held-out accuracy", "confidence"};
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < f->model.count; i++) {
        const dscm_causal_node *n = &f->model.nodes[i];
        bool label = n->kind == DSCM_CATEGORICAL;
        char title[160];
        double values[20];
        if ((int)i == f->model.image || !f->reports[i].held_out_rows) continue;
        snprintf(title, sizeof title, "%s: %s", n->name,
                 label ? "accuracy by tenth of confidence"
                       : "share of noise by tenth of its distribution");
        for (int b = 0; b < 10; b++) {
            values[2 * b] = f->reports[i].bins[b];
            values[2 * b + 1] = label ? (b + 0.5) / 10 : 0.1;
        }
        const chart_bars chart = {.title = title,
                                  .groups = groups,
                                  .groups_count = 10,
                                  .series = label ? labels : noise,
                                  .series_count = 2,
                                  .values = values,
                                  .digits = label ? 2 : 3};
        code = write_chart(f->charts_dir, n->name, &chart, err);
    }
    return code;
}

static dscm_code make_charts_folder(const fitting *f, dscm_error *err)
{
    struct stat about;
    if (!f->charts_dir || mkdir(f->charts_dir, 0777) == 0) return DSCM_OK;
    if (stat(f->charts_dir, &about) == 0 && S_ISDIR(about.st_mode)) return DSCM_OK;
    return dscm_fail(err, DSCM_E_IO, "--charts %s: cannot make the folder: %s", f->charts_dir,
                     strerror(errno));
}

static dscm_code write_results(const fitting *f, dscm_error *err)
{
    const size_t flags = JSON_INDENT(1) | JSON_REAL_PRECISION(12);
    dscm_code code = cli_json_write(f->out, dscm_causal_json(&f->model), flags, err);
    if (code == DSCM_OK && f->charts_dir) code = write_charts(f, err);
    if (code != DSCM_OK || !f->report_file) return code;
    json_t *report = json_object();
    for (size_t i = 0; i < f->model.count; i++)
        if ((int)i != f->model.image)
            json_object_set_new(report, f->model.nodes[i].name, report_json(f, i));
    return cli_json_write(f->report_file, report, flags, err);
}

static dscm_code run(fitting *f, dscm_error *err)
{
    dscm_code code = cli_check_output("out", f->out, false, err);
    if (code == DSCM_OK) code = cli_check_output("report", f->report_file, false, err);
    if (code == DSCM_OK) code = cli_check_apart("report", f->report_file, "out", f->out, err);
    if (code == DSCM_OK) code = make_charts_folder(f, err);
    if (code == DSCM_OK) code = dscm_causal_graph(&f->model, f->graph, err);
    for (size_t i = 0; code == DSCM_OK && i < f->ranges.count; i++)
        code = set_range(&f->model, f->ranges.items[i], err);
    if (code == DSCM_OK) code = open_table(f, err);
    if (code == DSCM_OK) code = dscm_causal_describe(&f->model, &f->table, err);
    if (code == DSCM_OK) code = dscm_causal_values(&f->model, &f->table, false, &f->values, err);
    if (code == DSCM_OK) code = give(f, err);
    if (code == DSCM_OK)
        code = dscm_causal_fit(&f->model, f->values, f->table.rows, &f->options, f->reports, err);
    if (code == DSCM_OK) code = write_results(f, err);
    if (code == DSCM_OK) print_report(f);
    return code;
}

int cmd_fit(int argc, char **argv)
{
    static fitting f; /* a list of options is too large for a small stack */
    f = (fitting){.split = "train", .options = dscm_causal_defaults(), .model = {.image = -1}};
    option_list rest = {.count = 0};
    const cli_option options[] = {
        {"data", OPT_TEXT, &f.data_dir, 0, 0, "DIR",
         "the data set: its SPLIT-variables.csv or variables.csv"},
        {"split", OPT_TEXT, &f.split, 0, 0, "NAME", "part of it (train)"},
        {"table", OPT_TEXT, &f.table_file, 0, 0, "FILE", "a CSV of the variables instead"},
        {"graph", OPT_TEXT, &f.graph, 0, 0, "TEXT",
         "'thickness -> intensity; digit, thickness, intensity -> image', or JSON: an object of "
         "parents by name"},
        {"out", OPT_TEXT, &f.out, 0, 0, "FILE", "the fitted model as JSON (also -o)"},
        {"report", OPT_TEXT, &f.report_file, 0, 0, "FILE",
         "likelihood, calibration and convergence as JSON"},
        {"charts", OPT_TEXT, &f.charts_dir, 0, 0, "DIR",
         "calibration of each mechanism as a chart, calibration-VARIABLE.svg"},
        {"range", OPT_LIST, &f.ranges, 0, 0, "NAME=LOW..HIGH",
         "range of a continuous variable (that of the table and 5 % on each side)"},
        {"given", OPT_TEXT, &f.given_file, 0, 0, "FILE",
         "mechanisms that are known, as JSON by name; they are not fitted"},
        {"epochs", OPT_SIZE, &f.options.epochs, 1, 100000, "N", "passes over the rows (40)"},
        {"batch", OPT_SIZE, &f.options.batch, 1, 65536, "N", "rows per step (256)"},
        {"lr", OPT_REAL, &f.options.rate, 1e-8, 1, "RATE", "learning rate (.003)"},
        {"hidden", OPT_SIZE, &f.options.hidden, 0, CAUSAL_HIDDEN_MAX, "N",
         "units of the network of the parents (16)"},
        {"bins", OPT_SIZE, &f.options.bins, 2, CAUSAL_BINS_MAX, "N", "bins of a spline (8)"},
        {"held-out", OPT_REAL, &f.options.held_out, 0.01, 0.5, "SHARE",
         "of the rows, for the likelihood that is told (.1)"},
        {"seed", OPT_SEED, &f.options.seed, 0, 0, "N", "seed (1)"},
        {.name = NULL}};
    int exit_code =
        cli_parse(argc, argv, "fit --data DIR --graph TEXT --out FILE [options]", options, &rest);
    if (exit_code >= 0) return exit_code;
    if (rest.count) return cli_usage("fit", "unexpected argument %s", rest.items[0]);
    if (!f.graph || !f.out) return cli_usage("fit", "--graph and --out are needed");
    if (!f.data_dir == !f.table_file) return cli_usage("fit", "either --data or --table is needed");
    dscm_error err = {0};
    dscm_code code = run(&f, &err);
    dscm_causal_free(&f.model);
    dscm_table_free(&f.table);
    dscm_free(f.values);
    return code == DSCM_OK ? EXIT_DONE : cli_fail("fit", &err);
}
