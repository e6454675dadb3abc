#include "cli/report.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/json_file.h"
#include "cli/page.h"
#include "core/base/memory.h"
#include "core/base/version.h"
#include "core/io/json.h"

#define RESAMPLES 1000

/* A table of the report: columns of the records, in reading order. */
typedef struct shown_column {
    dscm_record_column column;
    const char *title;
    int digits;
} shown_column;

static const shown_column validity[] = {{DSCM_COL_ORACLE, "oracle validity", 4},
                                        {DSCM_COL_ORACLE_DENOISED, "oracle, denoised", 4},
                                        {DSCM_COL_GUIDE, "guide validity", 4},
                                        {DSCM_COL_GUIDE_DENOISED, "guide, denoised", 4},
                                        {DSCM_COL_PROBABILITY, "guide's p(target)", 3}};
static const shown_column realism[] = {{DSCM_COL_CLD, "CLD", 4},
                                       {DSCM_COL_MINIMALITY, "P(S_CF ≤ div)", 3},
                                       {DSCM_COL_DEPARTURE, "P(S_F ≥ div)", 3},
                                       {DSCM_COL_IM1, "IM1", 3},
                                       {DSCM_COL_IM2, "IM2", 4}};
static const shown_column minimality[] = {{DSCM_COL_L1, "L1", 2},
                                          {DSCM_COL_L2, "L2", 2},
                                          {DSCM_COL_CHANGED_05, "changed > .05", 3},
                                          {DSCM_COL_CHANGED_10, "changed > .1", 3},
                                          {DSCM_COL_NEARER, "nearer than nearest real", 3}};
static const shown_column points[] = {{DSCM_COL_ORACLE, "oracle validity", 3},
                                      {DSCM_COL_ORACLE_DENOISED, "oracle, denoised", 3},
                                      {DSCM_COL_GUIDE, "guide validity", 3},
                                      {DSCM_COL_CLD, "CLD", 3},
                                      {DSCM_COL_MINIMALITY, "P(S_CF ≤ div)", 3},
                                      {DSCM_COL_DEPARTURE, "P(S_F ≥ div)", 3},
                                      {DSCM_COL_IM1, "IM1", 3},
                                      {DSCM_COL_IM2, "IM2", 4},
                                      {DSCM_COL_L1, "L1", 1}};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- figures ---- */
static dscm_code interval(const double *first, size_t stride, size_t count, dscm_interval *out,
                          dscm_error *err)
{
    double *values = dscm_alloc(count, sizeof *values, "report", err);
    if (!values) return DSCM_E_MEMORY;
    for (size_t i = 0; i < count; i++) values[i] = first[i * stride];
    dscm_code code = dscm_bootstrap_mean(out, values, count, RESAMPLES, 1, err);
    dscm_free(values);
    return code;
}

dscm_code report_interval(const eval_method *r, dscm_record_column column, dscm_interval *out,
                          dscm_error *err)
{
    return interval(&r->rows[0].values[column], DSCM_COLUMNS, r->count, out, err);
}

dscm_code report_study_interval(const eval_method *r, size_t c, dscm_interval *out, dscm_error *err)
{
    return interval(r->study + c, EVAL_STUDY_WIDTH, r->study_count, out, err);
}

dscm_code report_rank_interval(const eval_method *r, dscm_interval *out, dscm_error *err)
{
    return interval(r->ranks, 1, r->count, out, err);
}

static void interval_cell(page *p, const dscm_interval *v, int digits)
{
    if (isnan(v->mean))
        page_cell(p, "–");
    else if (v->high - v->low < 1e-12)
        page_cell(p, "%.*f", digits, v->mean);
    else
        page_cell(p, "%.*f (%.*f–%.*f)", digits, v->mean, digits, v->low, digits, v->high);
}

static void number_cell(page *p, double v, int digits)
{
    if (isnan(v))
        page_cell(p, "–");
    else
        page_cell(p, "%.*f", digits, v);
}

/* What a table shows beside columns of the records. */
typedef struct table_form {
    bool curve;     /* the frontier's points, else the methods */
    bool fid;       /* a last column */
    size_t at_most; /* the first items only; 0: all */
} table_form;

static dscm_code write_table(page *p, const evaluation *e, table_form form,
                             const shown_column *shown, size_t columns, dscm_error *err)
{
    page_table(p);
    page_cell(p, "method");
    page_cell(p, "items");
    for (size_t c = 0; c < columns; c++) page_cell(p, "%s", shown[c].title);
    if (form.fid) page_cell(p, "Fréchet distance");
    for (size_t m = 0; m < e->count; m++) {
        const eval_method *r = &e->list[m];
        size_t count = form.at_most && form.at_most < r->count ? form.at_most : r->count;
        if (r->curve != form.curve) continue;
        page_row(p);
        page_cell(p, "%s", r->title);
        page_cell(p, "%zu", count);
        for (size_t c = 0; c < columns; c++) {
            dscm_interval v;
            dscm_code code =
                interval(&r->rows[0].values[shown[c].column], DSCM_COLUMNS, count, &v, err);
            if (code != DSCM_OK) return code;
            interval_cell(p, &v, shown[c].digits);
        }
        if (form.fid) number_cell(p, r->fid, 2);
    }
    page_table_end(p);
    return DSCM_OK;
}

/* ---- sections ---- */
static void write_settings(page *p, const evaluation *e)
{
    const dscm_bundle_info *info = e->m.info;
    page_text(p,
              "Model %s %s. %zu images of split \"%s\", one seeded random other class each as "
              "target (seed %llu); pool of real images: %zu of split \"%s\". Every method sees the "
              "same images and targets, the first ones where it has fewer. Results are rounded to "
              "8 bits before anything judges them, as a user receives them. Scale auto: image by "
              "image, from a quarter of the calibrated scale upwards, the first that makes the "
              "guide sure. "
              "Figures are means with 95 %% bootstrap intervals (%d resamples).",
              info->name, info->version, e->items.count, e->split, (unsigned long long)e->m.seed,
              e->pool.count, e->pool_split, RESAMPLES);
    page_code(p, e->command);
}

static dscm_code write_quality(page *p, const evaluation *e, dscm_error *err)
{
    page_heading(p, 2, "Validity");
    page_text(p, "Share of all requests whose result is called the target: by the oracle, an "
                 "independent classifier of clean images; by the guide, the predictor that guides "
                 "(at t = 0); and by both after a light blur (3×3 binomial). A gap between guide "
                 "and oracle is adversarial.");
    dscm_code code =
        write_table(p, e, (table_form){.curve = false}, validity, COUNT(validity), err);
    if (code != DSCM_OK) return code;
    page_heading(p, 2, "Realism");
    page_text(p,
              "CLD = log(exp P(S_CF ≤ div) + exp P(S_F ≥ div)), range .693 to 1.693, lower is "
              "better; an unchanged image scores 1.313, and random real images of the target "
              "class score well too, so it is read with its two terms and with validity. IM1, IM2: "
              "pixels on [0,1], lower is better; \"random test image\" is their floor.");
    if (!isnan(e->fid_floor))
        page_text(p,
                  "Fréchet distance: in the oracle's last hidden layer (%zu features), %zu "
                  "counterfactuals of even-numbered images against the %zu real odd-numbered ones; "
                  "the real even-numbered ones are %.2f away (floor).",
                  dscm_eval_features_width(e->workers[0]), e->fid_count, e->fid_reals,
                  e->fid_floor);
    code = write_table(p, e, (table_form){.fid = true}, realism, COUNT(realism), err);
    if (code != DSCM_OK) return code;
    page_heading(p, 2, "Minimality");
    page_text(p, "Distance to the factual: mean absolute and root mean square difference on the "
                 "0–255 scale, share of pixels that moved by more than .05 and .1 of the range, "
                 "and share of results nearer to the factual (L2) than the nearest real image of "
                 "the target class.");
    return write_table(p, e, (table_form){.curve = false}, minimality, COUNT(minimality), err);
}

static dscm_code write_identity(page *p, const evaluation *e, dscm_error *err)
{
    page_heading(p, 2, "Does the result still know its factual?");
    page_text(p,
              "A method that forgets the factual and gives everybody one good image of the target "
              "class may look well in the tables above; here it has diversity 0 and rank .5. "
              "Diversity: mean L1 (0–255) "
              "between two results of one target, over all pairs; that of real images is what the "
              "classes have by themselves. Identity rank: share of the other factuals of the same "
              "target that correlate (Pearson) with the result more than its own factual does, "
              "ties half, after the target's mean has been taken from all, which says nothing of "
              "anybody; 0 when the own is always first, .5 is chance. Of each target the first "
              "%d items.",
              EVAL_GROUP);
    page_table(p);
    static const char *const titles[] = {"method", "items", "diversity", "identity rank"};
    for (size_t c = 0; c < COUNT(titles); c++) page_cell(p, "%s", titles[c]);
    for (size_t m = 0; m < e->count; m++) {
        const eval_method *r = &e->list[m];
        dscm_interval rank;
        if (r->curve) continue;
        dscm_code code = report_rank_interval(r, &rank, err);
        if (code != DSCM_OK) return code;
        page_row(p);
        page_cell(p, "%s", r->title);
        page_cell(p, "%zu", rank.count);
        number_cell(p, r->diversity, 2);
        interval_cell(p, &rank, 3);
    }
    page_table_end(p);
    return DSCM_OK;
}

/* Slow methods have fewer items than fast ones: all of them once more on what all have. */
static dscm_code write_same_images(page *p, const evaluation *e, dscm_error *err)
{
    size_t fewest = 0, most = 0;
    for (size_t i = 0; i < e->count; i++) {
        size_t count = e->list[i].count;
        if (e->list[i].curve) continue;
        if (!fewest || count < fewest) fewest = count;
        if (count > most) most = count;
    }
    if (fewest == most) return DSCM_OK;
    page_heading(p, 2, "All methods on the same images");
    page_text(p, "The first %zu images, which every method has.", fewest);
    return write_table(p, e, (table_form){.at_most = fewest}, points, COUNT(points), err);
}

static dscm_code write_cost(page *p, const evaluation *e, dscm_error *err)
{
    struct rusage usage;
    page_heading(p, 2, "Cost");
    page_text(p,
              "Score network passes and predictor gradients per counterfactual, means where each "
              "image has its own scale. Seconds per image on one thread, at batch 1 (mean, median, "
              "95th percentile) and at batch %zu.",
              e->m.batch);
    page_table(p);
    static const char *const titles[] = {"method", "passes", "gradients",    "s, batch 1",
                                         "p50",    "p95",    "s, full batch"};
    for (size_t c = 0; c < COUNT(titles); c++) page_cell(p, "%s", titles[c]);
    for (size_t m = 0; m < e->count; m++) {
        const eval_method *r = &e->list[m];
        dscm_interval passes, gradients;
        if (r->curve) continue;
        dscm_code code = report_interval(r, DSCM_COL_PASSES, &passes, err);
        if (code == DSCM_OK) code = report_interval(r, DSCM_COL_GRADIENTS, &gradients, err);
        if (code != DSCM_OK) return code;
        page_row(p);
        page_cell(p, "%s", r->title);
        number_cell(p, passes.mean, r->setting.search);
        number_cell(p, gradients.mean, r->setting.search);
        number_cell(p, r->cost.single, 4);
        number_cell(p, r->cost.p50, 4);
        number_cell(p, r->cost.p95, 4);
        number_cell(p, r->cost.full, 4);
    }
    page_table_end(p);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        page_text(p,
                  "Memory: %.1f MB for a session at batch %zu; %.0f MB at most for the whole "
                  "evaluation with %zu threads and both data sets.",
                  (double)dscm_eval_worker_bytes(e->workers[0]) / 1e6, e->m.batch,
                  (double)usage.ru_maxrss / 1e3, e->m.threads);
    return DSCM_OK;
}

static dscm_code write_frontier(page *p, const evaluation *e, dscm_error *err)
{
    bool any = false;
    for (size_t i = 0; i < e->count; i++) any |= e->list[i].curve;
    if (!any) return DSCM_OK;
    page_heading(p, 2, "Frontier");
    page_text(p, "The guidance scale trades change for validity. A scale means little by itself: "
                 "it multiplies the gradient of one particular predictor, so curves of different "
                 "networks are compared by their shape.");
    page_picture(p, "curve.svg", "CLD over the guidance scale, with the paper's curve");
    page_picture(p, "frontier.svg", "oracle validity against CLD and against L1");
    return write_table(p, e, (table_form){.curve = true}, points, COUNT(points), err);
}

static dscm_code write_composition(page *p, const evaluation *e, dscm_error *err)
{
    bool any = false;
    for (size_t i = 0; i < e->count; i++) any |= e->list[i].study_count > 0;
    if (!any) return DSCM_OK;
    static const struct {
        const char *title;
        size_t column;
    } shown[] = {{"off: 1 cycle", 0},
                 {"off: 10 cycles", EVAL_CYCLES - 1},
                 {"on: 1 cycle", EVAL_CYCLES},
                 {"on: 10 cycles", 2 * EVAL_CYCLES - 1},
                 {"reversibility", 2 * EVAL_CYCLES}};
    page_heading(p, 2, "Composition and reversibility");
    page_text(p, "L1 (0–255) of an image to its null counterfactual, guidance off, and to do(its "
                 "own class), guidance on, each repeated on its own result; reversibility: to "
                 "do(own class) after do(target). Rounded to 8 bits after each.");
    page_table(p);
    page_cell(p, "method");
    page_cell(p, "items");
    for (size_t c = 0; c < COUNT(shown); c++) page_cell(p, "%s", shown[c].title);
    for (size_t m = 0; m < e->count; m++) {
        if (!e->list[m].study_count) continue;
        page_row(p);
        page_cell(p, "%s", e->list[m].title);
        page_cell(p, "%zu", e->list[m].study_count);
        for (size_t c = 0; c < COUNT(shown); c++) {
            dscm_interval v;
            dscm_code code = report_study_interval(&e->list[m], shown[c].column, &v, err);
            if (code != DSCM_OK) return code;
            interval_cell(p, &v, 3);
        }
    }
    page_table_end(p);
    page_picture(p, "composition.svg", "L1 over cycles of null counterfactuals");
    return DSCM_OK;
}

/* Mean of a column per source and target class. */
static dscm_code write_matrix(page *p, const evaluation *e, const eval_method *r,
                              dscm_record_column column, int digits, dscm_error *err)
{
    const dscm_variable *v = &e->m.info->variables[e->data.variable];
    size_t n = v->labels_count;
    double *sums = dscm_alloc(2 * n * n, sizeof *sums, "matrix", err);
    double low = INFINITY, high = -INFINITY;
    if (!sums) return DSCM_E_MEMORY;
    double *counts = sums + n * n;
    for (size_t i = 0; i < r->count; i++) {
        const double *row = r->rows[i].values;
        size_t at = (size_t)row[DSCM_COL_LABEL] * n + (size_t)row[DSCM_COL_TARGET];
        if (isnan(row[column])) continue;
        sums[at] += row[column];
        counts[at]++;
    }
    for (size_t i = 0; i < n * n; i++) {
        if (!counts[i]) continue;
        sums[i] /= counts[i];
        low = fmin(low, sums[i]);
        high = fmax(high, sums[i]);
    }
    page_table(p);
    page_cell(p, "from \\ to");
    for (size_t k = 0; k < n; k++) page_cell(p, "%s", v->labels[k]);
    for (size_t i = 0; i < n * n; i++) {
        if (i % n == 0) {
            page_row(p);
            page_cell(p, "%s", v->labels[i / n]);
        }
        if (counts[i])
            page_shaded_cell(p, high > low ? (sums[i] - low) / (high - low) : 0, "%.*f", digits,
                             sums[i]);
        else
            page_cell(p, "–");
    }
    page_table_end(p);
    dscm_free(sums);
    return DSCM_OK;
}

const eval_method *report_ours(const evaluation *e)
{
    for (size_t i = 0; i < e->count; i++)
        if (!e->list[i].curve && strcmp(e->list[i].name, "ours") == 0) return &e->list[i];
    return NULL;
}

static dscm_code write_matrices(page *p, const evaluation *e, dscm_error *err)
{
    const eval_method *r = report_ours(e);
    char heading[192];
    if (!r) return DSCM_OK;
    snprintf(heading, sizeof heading, "By source and target: %s", r->title);
    page_heading(p, 2, heading);
    page_text(p, "Oracle validity:");
    dscm_code code = write_matrix(p, e, r, DSCM_COL_ORACLE, 3, err);
    page_text(p, "CLD:");
    if (code == DSCM_OK) code = write_matrix(p, e, r, DSCM_COL_CLD, 2, err);
    page_text(p, "L1 (0–255):");
    return code == DSCM_OK ? write_matrix(p, e, r, DSCM_COL_L1, 1, err) : code;
}

size_t report_accepted(const eval_method *r, dscm_record_column column, double *values)
{
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++)
        if (r->rows[i].values[DSCM_COL_GUIDE] > 0 && !(r->rows[i].values[DSCM_COL_ORACLE] <= 0))
            values[n++] = r->rows[i].values[column];
    return dscm_sort_values(values, n);
}

/* Quantiles of the scores of accepted counterfactuals: what the percentile in a reply refers to. */
static dscm_code write_percentiles(page *p, const evaluation *e, dscm_error *err)
{
    static const double at[] = {0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99};
    static const shown_column shown[] = {{DSCM_COL_CLD, "CLD", 3},
                                         {DSCM_COL_IM1, "IM1", 3},
                                         {DSCM_COL_IM2, "IM2", 4},
                                         {DSCM_COL_L1, "L1", 1}};
    const eval_method *r = report_ours(e);
    if (!r) return DSCM_OK;
    double *values = dscm_alloc(r->count, sizeof *values, "percentiles", err);
    if (!values) return DSCM_E_MEMORY;
    page_heading(p, 2, "Percentiles of accepted counterfactuals");
    page_text(p, "Of those that guide and oracle both call the target, %s:", r->title);
    page_table(p);
    page_cell(p, "score");
    for (size_t q = 0; q < COUNT(at); q++) page_cell(p, "%g %%", 100 * at[q]);
    for (size_t c = 0; c < COUNT(shown); c++) {
        size_t n = report_accepted(r, shown[c].column, values);
        page_row(p);
        page_cell(p, "%s", shown[c].title);
        for (size_t q = 0; q < COUNT(at); q++)
            number_cell(p, dscm_quantile_sorted(values, n, at[q]), shown[c].digits);
    }
    page_table_end(p);
    dscm_free(values);
    return DSCM_OK;
}

static dscm_code write_sheets(page *p, const evaluation *e, dscm_error *err)
{
    const dscm_variable *v = &e->m.info->variables[e->data.variable];
    if (e->no_sheets) return DSCM_OK;
    page_heading(p, 2, "Sheets");
    page_text(p,
              "Factuals above, counterfactuals below: the %d best, the %d around the median and "
              "the %d worst, by CLD, with those that miss the target behind all others.",
              REPORT_GROUP, REPORT_GROUP, REPORT_GROUP);
    for (size_t m = 0; m < e->count; m++) {
        const eval_method *r = &e->list[m];
        char name[160], caption[2048] = "";
        size_t picked[3 * REPORT_GROUP], used = 0;
        bool drawn = false;
        if (r->curve) continue;
        dscm_code code = report_sheet(e, r, picked, &drawn, err);
        if (code != DSCM_OK) return code;
        if (!drawn) continue;
        page_heading(p, 3, r->title);
        snprintf(name, sizeof name, "sheet-%s.png", r->slug);
        page_picture(p, name, r->title);
        for (size_t i = 0; i < 3 * REPORT_GROUP && used < sizeof caption; i++) {
            const double *row = r->rows[picked[i]].values;
            used += (size_t)snprintf(caption + used, sizeof caption - used, "%s%s→%s %.2f%s",
                                     i == 0                  ? ""
                                     : i % REPORT_GROUP == 0 ? " | "
                                                             : ", ",
                                     v->labels[(int)row[DSCM_COL_LABEL]],
                                     v->labels[(int)row[DSCM_COL_TARGET]], row[DSCM_COL_CLD],
                                     row[DSCM_COL_ORACLE] <= 0 ? "✗" : "");
        }
        page_text(p, "Class → target and CLD, ✗ where the oracle disagrees: %s", caption);
    }
    return DSCM_OK;
}

static dscm_code write_hashes(page *p, const evaluation *e, dscm_error *err)
{
    json_t *manifest = dscm_json_read(e->m.info->manifest, strlen(e->m.info->manifest), 0, NULL);
    const char *file;
    json_t *hash;
    page_heading(p, 2, "What was measured with what");
    page_text(p,
              "diffscm " DSCM_VERSION ", %zu threads, batch %zu. SHA-256 of the items %.16s…, of "
              "the pool %.16s…, of the list of network hashes %.16s…, of the manifest %.16s….",
              e->m.threads, e->m.batch, e->items.sha256, e->pool.sha256, e->nets_sha256,
              e->m.info->sha256);
    page_text(p, "Metric nets are frozen and apart from the guide: CLD by vae and pool, IM1 and "
                 "IM2 by the autoencoders, validity and features by oracle; greedy and prototype "
                 "search on the ensemble, prototype with an autoencoder of its own.");
    page_table(p);
    page_cell(p, "file");
    page_cell(p, "SHA-256");
    json_object_foreach(json_object_get(manifest, "files"), file, hash)
    {
        page_row(p);
        page_cell(p, "%s", file);
        page_cell(p, "%.16s…", json_string_value(hash));
    }
    page_table_end(p);
    json_decref(manifest);
    return cli_json_whole("report", err);
}

static dscm_code write_page(const evaluation *e, bool html, bool charts, dscm_error *err)
{
    page p;
    char title[160];
    snprintf(title, sizeof title, "Evaluation of %s", e->m.info->name);
    dscm_code code = page_open(&p, e->report_dir, "report", title, html, err);
    if (code != DSCM_OK) return code;
    write_settings(&p, e);
    if (!charts) page_text(&p, "No charts: gnuplot is not installed.");
    code = write_quality(&p, e, err);
    if (code == DSCM_OK) code = write_identity(&p, e, err);
    if (code == DSCM_OK) code = write_same_images(&p, e, err);
    if (code == DSCM_OK) code = write_cost(&p, e, err);
    if (code == DSCM_OK) code = write_frontier(&p, e, err);
    if (code == DSCM_OK) code = write_composition(&p, e, err);
    if (code == DSCM_OK) code = write_matrices(&p, e, err);
    if (code == DSCM_OK) code = write_percentiles(&p, e, err);
    if (code == DSCM_OK) code = write_sheets(&p, e, err);
    if (code == DSCM_OK) code = write_hashes(&p, e, err);
    return page_close(&p, code, err);
}

dscm_code cli_report_write(const evaluation *e, dscm_error *err)
{
    bool charts = false;
    dscm_code code = report_charts(e, &charts, err);
    if (code == DSCM_OK) code = report_measured(e, err);
    if (code == DSCM_OK) code = write_page(e, false, charts, err);
    return code == DSCM_OK ? write_page(e, true, charts, err) : code;
}
