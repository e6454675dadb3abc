/* The report of diffscm evaluate --sources: tables, charts, strips; Markdown, HTML and JSON. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/chart.h"
#include "cli/evaluate_truth.h"
#include "cli/json_file.h"
#include "cli/page.h"
#include "core/base/memory.h"
#include "core/base/version.h"
#include "core/data/idx.h"
#include "core/io/text_stream.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Figures that a paper has printed: Melistas et al. 2024, MorphoMNIST. NaN: ours are filled in. */
typedef struct published {
    const char *name;
    double thickness[3], intensity[3], digit[3]; /* under do(thickness), do(intensity), do(digit) */
    double composition[2];                       /* after 1 and 10 cycles */
} published;

static const published printed[] = {
    {"VAE", {.109, .333, .139}, {3.15, 5.33, 4.64}, {.989, .988, .775}, {2.600, 7.698}},
    {"HVAE", {.086, .224, .117}, {1.99, 3.52, 2.10}, {.985, .935, .972}, {.438, 1.550}},
    {"GAN", {.228, .680, .393}, {9.43, 15.1, 12.4}, {.961, .966, .451}, {3.807, 11.70}}};
/* What the paper's judges say of real images. */
static const published their_real = {"their judges on real images",
                                     {.122, .122, .122},
                                     {1.54, 1.54, 1.54},
                                     {.9905, .9905, .9905},
                                     {(double)NAN, (double)NAN}};

/* Their images are padded to 32x32: what is never changed counts in their means. */
#define PADDED (784.0 / 1024.0)

static const truth_line *find_line(const truth_run *t, const char *method, dscm_truth_kind kind)
{
    for (size_t i = 0; i < t->lines_count; i++)
        if (strcmp(t->lines[i].method, method) == 0 &&
            strcmp(t->lines[i].act, dscm_truth_name(kind)) == 0)
            return &t->lines[i];
    return NULL;
}

static published own_figures(const truth_run *t)
{
    published own = {.name = t->e->m.info->name};
    for (int k = 0; k < 3; k++) { /* the kinds stand in the paper's order */
        const truth_line *l = find_line(t, "model", (dscm_truth_kind)k);
        own.thickness[k] = l ? l->mean.thickness : (double)NAN;
        own.intensity[k] = l ? l->mean.intensity : (double)NAN;
        own.digit[k] = l ? l->digit : (double)NAN;
    }
    own.composition[0] = t->composition[0] * PADDED;
    own.composition[1] = t->composition[1] * PADDED;
    return own;
}

/* ---- JSON ---- */
static json_t *calls_json(const dscm_calls *calls)
{
    json_t *list = json_array();
    for (size_t c = 0; c < calls->classifiers; c++)
        json_array_append_new(list, eval_number(calls->sharp[c]));
    return list;
}

static json_t *line_json(const truth_line *l)
{
    const struct {
        const char *key;
        double value;
    } figures[] = {{"l1_to_truth", l->mean.l1},
                   {"thickness_to_truth", l->mean.thickness_truth},
                   {"intensity_to_truth", l->mean.intensity_truth},
                   {"thickness_error", l->mean.thickness},
                   {"intensity_error", l->mean.intensity},
                   {"digit_accuracy", l->digit},
                   {"propagated_intensity_error", l->propagated},
                   {"change", l->mean.change},
                   {"change_due", l->mean.due},
                   {"excess_change", l->mean.excess},
                   {"cld", l->cld},
                   {"precision", l->precision},
                   {"reversibility", l->reversibility},
                   {"passes", l->cost.passes},
                   {"gradients", l->cost.gradients},
                   {"observations", l->cost.observations},
                   {"ms_per_image", l->cost.ms}};
    json_t *out = json_pack("{s:s, s:s}", "method", l->method, "intervention", l->act);
    for (size_t i = 0; i < COUNT(figures); i++)
        json_object_set_new(out, figures[i].key, eval_number(figures[i].value));
    json_object_set_new(out, "digit_accuracy_of_each", calls_json(&l->calls));
    return out;
}

static dscm_code write_json(const truth_run *t, dscm_error *err)
{
    json_t *list = json_array(), *all;
    for (size_t i = 0; i < t->lines_count; i++)
        json_array_append_new(list, line_json(&t->lines[i]));
    all =
        json_pack("{s:s, s:s, s:I, s:I, s:s, s:s, s:{s:o, s:o, s:o, s:o}, s:o, s:{s:o, s:o, s:o}}",
                  "model", t->e->m.info->name, "model_sha256", t->e->m.info->sha256, "images",
                  (json_int_t)t->count, "seed", (json_int_t)t->e->m.seed, "command", t->e->command,
                  "digit_judge", t->judges ? "panel" : "predictor", "real_images",
                  "thickness_error", eval_number(t->real.thickness), "intensity_error",
                  eval_number(t->real.intensity), "digit_accuracy", eval_number(t->real.digit),
                  "digit_accuracy_of_each", calls_json(&t->real.calls), "results", list,
                  "composition", "1", eval_number(t->composition[0]), "10",
                  eval_number(t->composition[1]), "noise_only", eval_number(t->composition[2]));
    char *json = NULL;
    dscm_code code =
        cli_json_text(&json, all, JSON_INDENT(1) | JSON_REAL_PRECISION(6), "truth.json", err);
    if (code == DSCM_OK) code = eval_write(t->e, "truth.json", json, strlen(json), err);
    free(json);
    return code;
}

/* ---- tables ---- */
static void number(page *p, double v, int digits)
{
    if (isnan(v))
        page_cell(p, "–");
    else
        page_cell(p, "%.*f", digits, v);
}

static void header(page *p, const char *const *names, size_t count)
{
    page_table(p);
    for (size_t i = 0; i < count; i++) page_cell(p, "%s", names[i]);
}

/* A row that begins with what a line is about. */
static void begin_line(page *p, const truth_line *l)
{
    page_row(p);
    page_cell(p, "%s", l->act);
    page_cell(p, "%s", l->method);
}

static void write_errors(page *p, const truth_run *t)
{
    static const char *const names[] = {
        "intervention",        "method",          "L1 to truth",     "thickness to truth",
        "intensity to truth",  "thickness error", "intensity error", "digit",
        "propagated intensity"};
    header(p, names, COUNT(names));
    page_row(p);
    page_cell(p, "none");
    page_cell(p, "real images, as they are");
    for (int i = 0; i < 3; i++) page_cell(p, "–");
    number(p, t->real.thickness, 3);
    number(p, t->real.intensity, 2);
    number(p, t->real.digit, 4);
    page_cell(p, "–");
    for (size_t i = 0; i < t->lines_count; i++) {
        const truth_line *l = &t->lines[i];
        begin_line(p, l);
        number(p, l->mean.l1, 2);
        number(p, l->mean.thickness_truth, 3);
        number(p, l->mean.intensity_truth, 2);
        number(p, l->mean.thickness, 3);
        number(p, l->mean.intensity, 2);
        number(p, l->digit, 4);
        number(p, l->propagated, 3);
    }
    page_table_end(p);
}

static void write_axioms(page *p, const truth_run *t)
{
    static const char *const names[] = {"intervention",  "method", "change",    "change due",
                                        "excess change", "CLD",    "precision", "way back"};
    header(p, names, COUNT(names));
    for (size_t i = 0; i < t->lines_count; i++) {
        const truth_line *l = &t->lines[i];
        begin_line(p, l);
        number(p, l->mean.change, 2);
        number(p, l->mean.due, 2);
        number(p, l->mean.excess, 2);
        number(p, l->cld, 3);
        number(p, l->precision, 3);
        number(p, l->reversibility, 2);
    }
    page_table_end(p);
}

static void write_cost(page *p, const truth_run *t)
{
    static const char *const names[] = {"intervention", "passes",       "gradients",
                                        "sum",          "observations", "ms (processor)"};
    header(p, names, COUNT(names));
    for (int k = 0; k < DSCM_TRUTH_KINDS; k++) {
        const truth_line *l = find_line(t, "model", (dscm_truth_kind)k);
        if (!l) continue;
        page_row(p);
        page_cell(p, "%s", l->act);
        number(p, l->cost.passes, 1);
        number(p, l->cost.gradients, 1);
        number(p, l->cost.passes + l->cost.gradients, 1);
        number(p, l->cost.observations, 1);
        number(p, l->cost.ms, 1);
    }
    page_table_end(p);
}

static void published_row(page *p, const published *r)
{
    page_row(p);
    page_cell(p, "%s", r->name);
    for (int k = 0; k < 3; k++) number(p, r->thickness[k], 3);
    for (int k = 0; k < 3; k++) number(p, r->intensity[k], 2);
    for (int k = 0; k < 3; k++) number(p, r->digit[k], 3);
    for (int k = 0; k < 2; k++) number(p, r->composition[k], 3);
}

static void write_published(page *p, const truth_run *t)
{
    static const char *const names[] = {
        "",         "t, do(t)",     "t, do(i)",     "t, do(digit)", "i, do(t)",
        "i, do(i)", "i, do(digit)", "digit, do(t)", "digit, do(i)", "digit, do(digit)",
        "1 cycle",  "10 cycles"};
    published own = own_figures(t);
    header(p, names, COUNT(names));
    for (size_t i = 0; i < COUNT(printed); i++) published_row(p, &printed[i]);
    published_row(p, &their_real);
    published_row(p, &own);
    page_table_end(p);
    page_text(
        p, "Mean absolute errors of thickness t (pixels) and intensity i (grey levels) to what was "
           "asked for, share of digits read as asked, L1 after null cycles. VAE, HVAE (fine-tuned "
           "on its own judges) and GAN: as printed by Melistas et al. 2024.");
    page_text(
        p,
        "What differs: theirs are all test images, padded to 32×32, so their L1 is a mean over "
        "pixels of which 240 of 1024 are always empty; the cycles of the last line are "
        "multiplied by 784/1024. Their errors are read by networks trained on the same data, "
        "which err by .122, 1.54 and .0095 on real images; the last line's by morphometry, "
        "which reads what its renderer draws about .09 too thick, and by %s. %zu images here.",
        t->judges ? "the panel" : "the model's own predictor, which took part in making it",
        t->count);
}

/* Everything that is a number. */
static void write_tables(page *p, const truth_run *t)
{
    page_text(p, "%s %s, %zu images of %s, seed %llu, %s, %zu steps. Digits are read by %s.",
              t->e->m.info->name, t->e->m.info->version, t->count, t->e->split,
              (unsigned long long)t->e->m.seed, t->e->m.options.sampler, t->e->m.options.steps,
              t->judges ? "the panel, which took no part in making the model (mean of its "
                          "classifiers)"
                        : "the model's own predictor: it has no panel");
    write_errors(p, t);
    page_text(
        p, "To truth: measured in the image and in the re-rendered truth; error: measured in the "
           "image, against what was asked for. Propagated: intensity after do(thickness) against "
           "the true mechanism with the individual's noise.");
    page_heading(p, 2, "Minimality, reversibility, composition");
    write_axioms(p, t);
    page_text(
        p, "Change: L1 to the factual image; due: that of the truth; excess: what a pixel changes "
           "beyond the truth's change of it, 0 of the truth and of doing nothing. CLD and "
           "precision by the panel. Way back: L1 to the factual image after the counterfactual "
           "was abducted and what was set is set back.");
    if (!isnan(t->composition[0]))
        page_text(p,
                  "Null counterfactuals, L1: %.3f after one cycle, %.3f after ten, %.3f from the "
                  "noise alone.",
                  t->composition[0], t->composition[1], t->composition[2]);
    page_heading(p, 2, "Cost per image");
    write_cost(p, t);
    page_text(
        p,
        "Passes of the score network, gradients of predictors (their sum is the cost that "
        "samplers are compared by), observations by predictors and acceptance nets; processor "
        "time in batches of %zu, abduction included.",
        t->e->m.batch);
    page_heading(p, 2, "Beside published figures");
    write_published(p, t);
}

/* ---- charts ---- */
typedef double line_value(const truth_line *l);

static double l1_of(const truth_line *l)
{
    return l->mean.l1;
}

static double excess_of(const truth_line *l)
{
    return l->mean.excess;
}

static dscm_code write_chart(const truth_run *t, const char *name, const chart_bars *bars,
                             const chart_points *points, dscm_error *err)
{
    dscm_text_stream text;
    dscm_code code = dscm_text_stream_open(&text, name, err);
    if (code != DSCM_OK) return code;
    if (bars) chart_write_bars(text.file, bars);
    if (points) chart_write_points(text.file, points);
    code = dscm_text_stream_close(&text, name, err);
    if (code == DSCM_OK) code = eval_write(t->e, name, text.data, text.size, err);
    free(text.data);
    return code;
}

/* A figure of every method under the interventions whose truth is drawn. */
static dscm_code chart_methods(const truth_run *t, const char *name, const char *title,
                               line_value *value, dscm_error *err)
{
    static const char *const methods[] = {"model", "do nothing", "nearest real image",
                                          "factual image rendered again"};
    const char *groups[DSCM_TRUTH_KINDS];
    double values[DSCM_TRUTH_KINDS * COUNT(methods)];
    size_t count = 0;
    for (int k = 0; k < DSCM_TRUTH_KINDS; k++) {
        if (!truth_is_drawn((dscm_truth_kind)k)) continue;
        groups[count] = dscm_truth_name((dscm_truth_kind)k);
        for (size_t m = 0; m < COUNT(methods); m++) {
            const truth_line *l = find_line(t, methods[m], (dscm_truth_kind)k);
            values[count * COUNT(methods) + m] = l ? value(l) : (double)NAN;
        }
        count++;
    }
    const chart_bars bars = {.title = title,
                             .groups = groups,
                             .groups_count = count,
                             .series = methods,
                             .series_count = COUNT(methods),
                             .values = values,
                             .digits = 2};
    return write_chart(t, name, &bars, NULL, err);
}

/* Series `s` of the comparison: ours, then the printed ones. */
static const published *series_of(const published *own, size_t s)
{
    return s ? &printed[s - 1] : own;
}

/* Ours beside the published ones. */
static dscm_code chart_published(const truth_run *t, dscm_error *err)
{
    static const char *const files[] = {"truth-thickness.svg", "truth-intensity.svg",
                                        "truth-digit.svg"};
    static const char *const titles[] = {"Mean absolute error of thickness (pixels)",
                                         "Mean absolute error of intensity (grey levels)",
                                         "Share of images whose digit is not read as asked"};
    const published own = own_figures(t);
    enum { SERIES = COUNT(printed) + 1 };
    const char *series[SERIES], *groups[3];
    double values[3 * SERIES];
    dscm_code code = DSCM_OK;
    for (size_t s = 0; s < SERIES; s++) series[s] = series_of(&own, s)->name;
    for (int k = 0; k < 3; k++) groups[k] = dscm_truth_name((dscm_truth_kind)k);
    for (size_t c = 0; code == DSCM_OK && c < COUNT(files); c++) {
        for (size_t i = 0; i < COUNT(values); i++) {
            const published *r = series_of(&own, i % SERIES);
            size_t k = i / SERIES;
            values[i] = c == 0 ? r->thickness[k] : c == 1 ? r->intensity[k] : 1 - r->digit[k];
        }
        const chart_bars bars = {.title = titles[c],
                                 .groups = groups,
                                 .groups_count = 3,
                                 .series = series,
                                 .series_count = COUNT(series),
                                 .values = values,
                                 .digits = c == 1 ? 1 : 3};
        code = write_chart(t, files[c], &bars, NULL, err);
    }
    return code;
}

static dscm_code chart_measured(const truth_run *t, const char *name, const char *what,
                                dscm_truth_kind kind, dscm_error *err)
{
    char title[64], across[64], up[64];
    const double *asked = t->measured + 2 * (size_t)kind * t->count;
    snprintf(title, sizeof title, "%s under %s", what, dscm_truth_name(kind));
    snprintf(across, sizeof across, "%s asked for", what);
    snprintf(up, sizeof up, "%s measured", what);
    const chart_points points = {.title = title,
                                 .across = across,
                                 .up = up,
                                 .x = asked,
                                 .y = asked + t->count,
                                 .count = t->count};
    return write_chart(t, name, NULL, &points, err);
}

static dscm_code write_charts(const truth_run *t, dscm_error *err)
{
    dscm_code code =
        chart_methods(t, "truth-l1.svg", "L1 to the re-rendered truth (0..255)", l1_of, err);
    if (code == DSCM_OK)
        code = chart_methods(t, "truth-excess.svg", "Excess change: L1 beyond what is called for",
                             excess_of, err);
    if (code == DSCM_OK) code = chart_published(t, err);
    if (code == DSCM_OK)
        code =
            chart_measured(t, "truth-asked-thickness.svg", "thickness", DSCM_TRUTH_THICKNESS, err);
    if (code == DSCM_OK)
        code =
            chart_measured(t, "truth-asked-intensity.svg", "intensity", DSCM_TRUTH_INTENSITY, err);
    return code;
}

/* ---- strips ---- */
dscm_code truth_strip(const truth_run *t, dscm_truth_kind kind, dscm_error *err)
{
    enum { ROWS_MAX = 5 };
    char path[4096];
    bool drawn = truth_is_drawn(kind);
    size_t rows = drawn ? 5 : 3, columns = t->strip_count, cell = 0;
    const float *cells[ROWS_MAX * TRUTH_STRIP];
    float *images = dscm_alloc(rows * columns * t->size, sizeof *images, "strip", err);
    if (!images) return DSCM_E_MEMORY;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++, cell++) {
            size_t at = t->strip[c] * t->size;
            float *out = images + cell * t->size;
            const uint8_t *factual = t->e->items.pixels + at, *result = t->out + at;
            const uint8_t *row[] = {factual, result, t->truth + at},
                          *less[] = {factual, t->truth + at};
            size_t pictures = drawn ? 3 : 2;
            cells[cell] = out;
            if (r < pictures) dscm_pixels_to_float(out, row[r], t->size);
            for (size_t p = 0; r >= pictures && p < t->size; p++)
                out[p] = (float)((int)result[p] - (int)less[r - pictures][p]) / 255;
        }
    snprintf(path, sizeof path, "%s/truth-%s.png", t->e->report_dir, truth_slug(kind));
    dscm_code code = cli_write_sheet(&t->e->m, path, cells, rows, columns, err);
    dscm_free(images);
    return code;
}

static void moved(page *p, double from, double to, int digits)
{
    if (from == to)
        page_cell(p, "%.*f", digits, from);
    else
        page_cell(p, "%.*f → %.*f", digits, from, digits, to);
}

static void write_caption(page *p, const truth_run *t, dscm_truth_kind kind)
{
    static const char *const names[] = {"column", "image", "digit", "thickness", "intensity"};
    header(p, names, COUNT(names));
    for (size_t c = 0; c < t->strip_count; c++) {
        size_t i = t->strip[c];
        dscm_morpho_parents to = t->strip_asked[kind][c];
        const dscm_morpho_parents *from = &t->people[i];
        page_row(p);
        page_cell(p, "%zu", c + 1);
        page_cell(p, "%zu", i);
        moved(p, from->digit, to.digit, 0);
        moved(p, from->thickness, to.thickness, 2);
        moved(p, from->intensity, to.intensity, 0);
    }
    page_table_end(p);
}

static void write_strips(page *p, const truth_run *t)
{
    if (t->e->no_sheets) return;
    page_heading(p, 2, "Strips");
    page_text(p,
              "%zu images drawn by the seed, a column each. Rows: factual, counterfactual, the "
              "re-rendered truth where it can be drawn; the counterfactual less the factual and "
              "less the truth, where middle grey is no difference.",
              t->strip_count);
    for (int k = 0; k < DSCM_TRUTH_KINDS; k++) {
        char name[64];
        page_heading(p, 3, dscm_truth_name((dscm_truth_kind)k));
        snprintf(name, sizeof name, "truth-%s.png", truth_slug((dscm_truth_kind)k));
        page_picture(p, name, dscm_truth_name((dscm_truth_kind)k));
        write_caption(p, t, (dscm_truth_kind)k);
    }
}

/* ---- the pages ---- */
static dscm_code write_page(const truth_run *t, bool html, dscm_error *err)
{
    static const char *const charts[][2] = {
        {"truth-l1.svg", "L1 to the truth of every method"},
        {"truth-excess.svg", "Excess change of every method"},
        {"truth-thickness.svg", "Thickness error beside published models"},
        {"truth-intensity.svg", "Intensity error beside published models"},
        {"truth-digit.svg", "Digits misread beside published models"},
        {"truth-asked-thickness.svg", "Measured over asked thickness"},
        {"truth-asked-intensity.svg", "Measured over asked intensity"}};
    page p;
    char title[160];
    snprintf(title, sizeof title, "%s against the truth", t->e->m.info->name);
    dscm_code code = page_open(&p, t->e->report_dir, "truth", title, html, err);
    if (code != DSCM_OK) return code;
    page_code(&p, t->e->command);
    write_tables(&p, t);
    page_heading(&p, 2, "Charts");
    for (size_t i = 0; i < COUNT(charts); i++) page_picture(&p, charts[i][0], charts[i][1]);
    write_strips(&p, t);
    page_text(&p, "diffscm %s, manifest %.16s….", DSCM_VERSION, t->e->m.info->sha256);
    return page_close(&p, DSCM_OK, err);
}

dscm_code truth_report(const truth_run *t, dscm_error *err)
{
    page out = {.file = stdout};
    dscm_code code = write_json(t, err);
    if (code == DSCM_OK) code = write_charts(t, err);
    if (code == DSCM_OK) code = write_page(t, false, err);
    if (code == DSCM_OK) code = write_page(t, true, err);
    if (code != DSCM_OK) return code;
    write_tables(&out, t);
    printf("%s/truth.html\n", t->e->report_dir);
    return DSCM_OK;
}
