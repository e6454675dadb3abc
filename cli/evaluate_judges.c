/* What the judges of the bundle say of each method of an evaluation's tables: judges.json and
 * judges.md. Computed anew each time from the results in the folder. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/json_file.h"
#include "cli/report.h"
#include "core/base/memory.h"
#include "core/eval/judges.h"
#include "core/io/file.h"
#include "core/io/text_stream.h"

enum { HALVINGS = 20, REALS_MAX = 5000 };

static json_t *list_of(const double *values, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(list, eval_number(values[i]));
    return list;
}

static json_t *interval_of(const dscm_interval *v)
{
    return json_pack("{s:o, s:o, s:o}", "mean", eval_number(v->mean), "low", eval_number(v->low),
                     "high", eval_number(v->high));
}

static json_t *calls_of(const dscm_calls *c, const char *sharp, const char *blurred)
{
    return json_pack("{s:o, s:o}", sharp, list_of(c->sharp, c->classifiers), blurred,
                     list_of(c->blurred, c->classifiers));
}

/* ---- cost and distance, which the records hold ---- */
typedef struct record_figures {
    double l1, passes, gradients, seconds; /* means */
} record_figures;

static double column_mean(const eval_method *r, dscm_record_column column)
{
    double sum = 0;
    for (size_t i = 0; i < r->count; i++) sum += r->rows[i].values[column];
    return sum / (double)r->count;
}

static record_figures figures_of(const eval_method *r)
{
    return (record_figures){.l1 = column_mean(r, DSCM_COL_L1),
                            .passes = column_mean(r, DSCM_COL_PASSES),
                            .gradients = column_mean(r, DSCM_COL_GRADIENTS),
                            .seconds = column_mean(r, DSCM_COL_SECONDS)};
}

/* ---- JSON ---- */
static json_t *method_json(const eval_method *r, const dscm_judged *d)
{
    record_figures f = figures_of(r);
    json_t *out = calls_of(&d->calls, "validity", "validity_blurred");
    json_t *traits = json_object();
    for (int t = 0; t < DSCM_TRAITS; t++)
        json_object_set_new(traits, dscm_trait_name((dscm_trait)t), eval_number(d->traits[t]));
    json_object_set_new(out, "method", json_string(r->title));
    json_object_set_new(out, "count", json_integer((json_int_t)d->count));
    json_object_set_new(out, "cld", interval_of(&d->cld));
    json_object_set_new(out, "cld_of_each", list_of(d->cld_of, d->vaes));
    json_object_set_new(out, "cld_spread", eval_number(d->cld_spread));
    json_object_set_new(out, "im1", interval_of(&d->im1));
    json_object_set_new(out, "precision", eval_number(d->precision));
    json_object_set_new(out, "recall", eval_number(d->recall));
    json_object_set_new(out, "frechet", interval_of(&d->frechet.results));
    json_object_set_new(out, "frechet_real", interval_of(&d->frechet.real));
    json_object_set_new(out, "frechet_half", json_integer((json_int_t)d->frechet.half));
    json_object_set_new(out, "faint", eval_number(d->faint));
    json_object_set_new(out, "correlation", traits);
    json_object_set_new(out, "l1_255", eval_number(f.l1));
    json_object_set_new(out, "passes", eval_number(f.passes));
    json_object_set_new(out, "gradients", eval_number(f.gradients));
    json_object_set_new(out, "passes_and_gradients", eval_number(f.passes + f.gradients));
    json_object_set_new(out, "seconds", eval_number(f.seconds));
    return out;
}

static dscm_code write_json(const evaluation *e, const dscm_real_figures *real, json_t *methods,
                            dscm_error *err)
{
    char path[4096];
    json_t *reals = calls_of(&real->calls, "accuracy", "accuracy_blurred");
    json_object_set_new(reals, "count", json_integer((json_int_t)real->count));
    json_object_set_new(reals, "faint", eval_number(real->faint));
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:s, s:o, s:O}", "command", e->command, "judges", e->judges,
                  "model", e->m.info->name, "split", e->split, "real", reals, "methods", methods);
    snprintf(path, sizeof path, "%s/judges.json", e->report_dir);
    return cli_json_write(path, root, JSON_INDENT(1) | JSON_REAL_PRECISION(6), err);
}

/* ---- Markdown ---- */
static void cell(FILE *f, double v, const char *format)
{
    fputs(" | ", f);
    if (isfinite(v))
        fprintf(f, format, v);
    else
        fputs("–", f);
}

static void cells(FILE *f, const double *values, size_t count)
{
    fputs(" | ", f);
    for (size_t i = 0; i < count; i++) fprintf(f, i ? " / %.3f" : "%.3f", values[i]);
}

static void write_head(FILE *f, const evaluation *e, const dscm_real_figures *real)
{
    bool panel = strcmp(e->judges, "panel") == 0;
    fprintf(f, "# %s: by the %s\n\n```sh\n%s\n```\n\n", e->m.info->name,
            panel ? "panel" : "selection judges", e->command);
    fprintf(
        f,
        "Split `%s`; validity is the share of all results that each classifier calls the target, "
        "real images' the share\nthat it names rightly. CLD: mean over the VAEs and the largest "
        "less the smallest of them. Precision and recall:\nk = 5 in the first classifier's "
        "features, within the target class. Fréchet: results of one half against real\nimages "
        "of the other, mean over %d random halvings, and its 2.5–97.5 %% range. Correlations: "
        "with the factual, class\nmeans taken off. Faint: pixels at 3..40 of 255. Cost: passes "
        "plus gradients.\n\n",
        e->split, HALVINGS);
    fputs("| method | items | validity | blurred | CLD | spread | IM1 | precision | recall | "
          "Fréchet | real against real | faint | L1 | slant | thickness | height | intensity | "
          "cost | seconds |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
          "---|---|\n",
          f);
    fprintf(f, "| real images of the split | %zu", real->count);
    cells(f, real->calls.sharp, real->calls.classifiers);
    cells(f, real->calls.blurred, real->calls.classifiers);
    fputs(" | | | | | | | ", f);
    cell(f, real->faint, "%.3f");
    fputs(" | | | | | | | |\n", f);
}

static void write_line(FILE *f, const eval_method *r, const dscm_judged *d)
{
    record_figures own = figures_of(r);
    const dscm_interval *frechet[2] = {&d->frechet.results, &d->frechet.real};
    fprintf(f, "| %s | %zu", r->title, d->count);
    cells(f, d->calls.sharp, d->calls.classifiers);
    cells(f, d->calls.blurred, d->calls.classifiers);
    cell(f, d->cld.mean, "%.3f");
    cell(f, d->cld_spread, "%.3f");
    cell(f, d->im1.mean, "%.3f");
    cell(f, d->precision, "%.3f");
    cell(f, d->recall, "%.3f");
    for (size_t k = 0; k < 2; k++) {
        cell(f, frechet[k]->mean, "%.1f");
        if (isfinite(frechet[k]->low))
            fprintf(f, " (%.1f–%.1f)", frechet[k]->low, frechet[k]->high);
    }
    cell(f, d->faint, "%.3f");
    cell(f, own.l1, "%.1f");
    for (int t = 0; t < DSCM_TRAITS; t++) cell(f, d->traits[t], "%.2f");
    cell(f, own.passes + own.gradients, "%.1f");
    cell(f, own.seconds, "%.3f");
    fputs(" |\n", f);
}

static dscm_code write_page(const evaluation *e, char *text, size_t size, dscm_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/judges.md", e->report_dir);
    const dscm_piece piece = {text, size};
    return text ? dscm_file_replace(path, &piece, 1, err)
                : dscm_fail(err, DSCM_E_MEMORY, "judges.md: out of memory");
}

/* ---- the whole ---- */
static dscm_code judge_methods(const evaluation *e, dscm_judges *judges, FILE *f, json_t *methods,
                               dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < e->count; i++) {
        const eval_method *r = &e->list[i];
        dscm_judged *d = dscm_alloc(1, sizeof *d, "judges", err);
        if (!d) return DSCM_E_MEMORY;
        if (!r->curve) {
            size_t count = r->count < REALS_MAX ? r->count : REALS_MAX;
            code =
                dscm_judges_run(judges, d, r->pixels, e->targets, count, HALVINGS, e->m.seed, err);
            if (code == DSCM_OK) {
                write_line(f, r, d);
                json_array_append_new(methods, method_json(r, d));
            }
        }
        dscm_free(d);
    }
    return code;
}

dscm_code eval_judges_check(evaluation *e, dscm_error *err)
{
    dscm_judges *judges = NULL;
    if (!e->judges && e->m.info->has_panel) e->judges = "panel";
    if (!e->judges) return DSCM_OK;
    dscm_code code = dscm_judges_open(&judges, e->m.bundle, strcmp(e->judges, "selection") == 0,
                                      e->m.batch, err);
    dscm_judges_free(judges);
    return code;
}

dscm_code eval_judge(evaluation *e, dscm_error *err)
{
    dscm_judges *judges = NULL;
    dscm_real_figures real;
    dscm_text_stream text = {0};
    size_t reals = e->items.count < REALS_MAX ? e->items.count : REALS_MAX;
    if (!e->judges) return DSCM_OK;
    dscm_code code = dscm_judges_open(&judges, e->m.bundle, strcmp(e->judges, "selection") == 0,
                                      e->m.batch, err);
    if (code == DSCM_OK)
        code = dscm_judges_set_real(judges, e->items.pixels, e->items.labels, reals, &real, err);
    json_t *methods = json_array();
    if (code == DSCM_OK) code = dscm_text_stream_open(&text, "judges", err);
    if (code == DSCM_OK) {
        write_head(text.file, e, &real);
        code = judge_methods(e, judges, text.file, methods, err);
        dscm_code closed = dscm_text_stream_close(&text, "judges", err);
        if (code == DSCM_OK) code = closed;
    }
    if (code == DSCM_OK) code = write_page(e, text.data, text.size, err);
    if (code == DSCM_OK) code = write_json(e, &real, methods, err);
    if (code == DSCM_OK) printf("%s/judges.json\n", e->report_dir);
    json_decref(methods);
    free(text.data);
    dscm_judges_free(judges);
    return code;
}
