/* diffscm evaluate --sources: counterfactuals of MorphoMNIST against the drawn truth. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/evaluate.h"
#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/data/variables.h"
#include "core/eval/truth.h"
#include "core/scm/table_query.h"

enum { ROWS_MAX = 16, DIGIT = 0, THICKNESS, INTENSITY, PARENTS };

/* A line of the table: means over its images, NaN where nothing is measured. */
typedef struct truth_line {
    const char *method, *act;
    dscm_truth_row mean;
    double digit, propagated, ms; /* accuracy; |intensity - true one|; per image */
} truth_line;

typedef struct truth_run {
    evaluation *e;
    dscm_dataset sources;
    size_t count, size;
    int variables[PARENTS];
    double *factuals; /* (count, variables) */
    dscm_morpho_parents *people, *set;
    dscm_target *targets; /* (count) */
    uint8_t *out;         /* (count, size) results */
    double *propagated;   /* (count) intensity */
    const uint8_t *in;    /* (count, size) factual images */
    bool noise_only;
    dscm_session *sessions[EVAL_WORKERS_MAX];
    dscm_morpho *morpho;
    truth_line lines[ROWS_MAX];
    size_t lines_count;
    double composition[3]; /* L1 after 1 and 10 null cycles, and from the noise alone */
} truth_run;

/* ---- data ---- */
static dscm_code read_people(truth_run *t, dscm_error *err)
{
    static const char *const names[] = {"digit", "thickness", "intensity"};
    const evaluation *e = t->e;
    size_t variables = e->m.info->variables_count;
    dscm_table table = {0};
    dscm_table_query query = {0};
    dscm_code code = DSCM_OK;
    for (int p = 0; code == DSCM_OK && p < PARENTS; p++)
        code = dscm_variable_find(e->m.bundle, names[p], &t->variables[p], err);
    if (code == DSCM_OK)
        code = dscm_variables_read(&table, &e->items, e->data_dir, e->split, NULL, err);
    if (code == DSCM_OK)
        code = dscm_table_query_open(&query, e->m.bundle, t->count, &table, NULL,
                                     t->count < e->items.count, err);
    for (size_t i = 0; code == DSCM_OK && i < t->count; i++) {
        const double *row = query.factuals + i * variables;
        t->people[i] = (dscm_morpho_parents){row[t->variables[DIGIT]], row[t->variables[THICKNESS]],
                                             row[t->variables[INTENSITY]]};
        if (isnan(t->people[i].digit + t->people[i].thickness + t->people[i].intensity))
            code = dscm_fail(err, DSCM_E_INVALID, "%s: line %zu: a value is missing", table.name,
                             table.lines[i]);
    }
    if (code == DSCM_OK) {
        t->factuals = query.factuals;
        query.factuals = NULL;
    }
    dscm_table_query_free(&query);
    dscm_table_free(&table);
    return code;
}

static dscm_code read_all(truth_run *t, dscm_error *err)
{
    evaluation *e = t->e;
    const dscm_dataset_options o = {.without_labels = true};
    dscm_code code = dscm_dataset_read(&e->items, e->data_dir, e->split, &o, err);
    if (code == DSCM_OK) code = dscm_dataset_read(&t->sources, e->sources_dir, e->split, &o, err);
    if (code != DSCM_OK) return code;
    t->size = cli_image_size(&e->m);
    t->count = e->limit < e->items.count ? e->limit : e->items.count;
    if (t->sources.count != e->items.count || t->sources.h != e->items.h ||
        t->sources.w != e->items.w || t->sources.c != 1 || e->items.c != 1 ||
        t->size != e->items.h * e->items.w)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "--sources %s: %zu images of %zux%zu; the model and the %zu images of %s "
                         "need as many of %zux%zu, grey",
                         e->sources_dir, t->sources.count, t->sources.w, t->sources.h,
                         e->items.count, e->data_dir, e->items.w, e->items.h);
    t->people = dscm_alloc(t->count, sizeof *t->people, "evaluation", err);
    t->set = dscm_alloc(t->count, sizeof *t->set, "evaluation", err);
    t->targets = dscm_alloc(t->count, sizeof *t->targets, "evaluation", err);
    t->out = dscm_alloc(t->count, t->size, "evaluation", err);
    t->propagated = dscm_alloc(t->count, sizeof *t->propagated, "evaluation", err);
    if (!t->people || !t->set || !t->targets || !t->out || !t->propagated) return DSCM_E_MEMORY;
    code = read_people(t, err);
    return code == DSCM_OK ? dscm_morpho_open(&t->morpho, e->items.h, e->items.w, err) : code;
}

/* ---- running ---- */
static void run_part(void *arg, size_t index, int worker)
{
    truth_run *t = arg;
    evaluation *e = t->e;
    const cli_model *m = &e->m;
    size_t first, count = eval_part(e, index, &first);
    dscm_error *err = &e->errors[worker];
    if (err->code != DSCM_OK) return;
    dscm_run_item *items = dscm_alloc(count, sizeof *items, "batch", err);
    if (!items) return;
    for (size_t i = 0; i < count; i++)
        items[i].ask = (dscm_case){.pixels = t->in + (first + i) * t->size,
                                   .targets = t->targets + first + i,
                                   .targets_count = 1,
                                   .factuals = t->factuals + (first + i) * m->info->variables_count,
                                   .options = m->options,
                                   .auto_scale = m->auto_scale && t->targets[first + i].count,
                                   .noise_only = t->noise_only,
                                   .wanted = DSCM_WANT_COUNTERFACTUAL};
    dscm_code code = dscm_run(t->sessions[worker], m->bundle, items, count, NULL, err);
    for (size_t i = 0; i < count; i++) {
        if (code == DSCM_OK) {
            const dscm_counterfactual *c = &items[i].result->counterfactuals[0];
            dscm_pixels_from_float(t->out + (first + i) * t->size, c->image, t->size);
            t->propagated[first + i] = c->propagated[t->variables[INTENSITY]];
        }
        dscm_result_free(items[i].result);
        dscm_abduction_free(items[i].abduction);
    }
    dscm_free(items);
    e->finished += count;
    if (worker == 0) cli_progress_show(&e->progress, (double)e->finished, NULL);
}

/* Answers targets of the first `count` images; *ms: processor time per image. */
static dscm_code run_all(truth_run *t, const char *label, size_t count, double *ms, dscm_error *err)
{
    evaluation *e = t->e;
    clock_t started = clock();
    e->first = e->finished = 0;
    e->end = count;
    cli_progress_start(&e->progress, label, "images", (double)count);
    dscm_team_run(e->team, (count + e->m.batch - 1) / e->m.batch, run_part, t);
    cli_progress_end(&e->progress);
    *ms = 1e3 * (double)(clock() - started) / CLOCKS_PER_SEC / (double)count;
    return eval_first_error(e, err);
}

static void add_act(dscm_target *target, int variable, double value)
{
    if (isnan(value)) return;
    target->items[target->count++] = (dscm_intervention){
        .variable = variable, .action = DSCM_DO, .value = value, .scale = (double)NAN};
}

/* ---- measuring ---- */
/* Share of images whose digit is read as asked, by the panel's first classifier or the predictor. */
static dscm_code read_digits(truth_run *t, const uint8_t *pixels, const dscm_morpho_parents *asked,
                             double *accuracy, dscm_error *err)
{
    const dscm_variable *v = &t->e->m.info->variables[t->variables[DIGIT]];
    float *image = dscm_alloc(t->size + v->labels_count, sizeof *image, "observation", err);
    dscm_code code = image ? DSCM_OK : DSCM_E_MEMORY;
    size_t right = 0;
    for (size_t i = 0; code == DSCM_OK && i < t->count; i++) {
        float *seen = image + t->size;
        dscm_pixels_to_float(image, pixels + i * t->size, t->size);
        code = t->e->m.info->has_oracle
                   ? dscm_observe_oracle(t->sessions[0], t->variables[DIGIT], seen, image, 1, err)
                   : dscm_observe(t->sessions[0], t->variables[DIGIT], seen, image, 1, err);
        right += dscm_observed_value(v, seen) == asked[i].digit;
    }
    *accuracy = (double)right / (double)t->count;
    dscm_free(image);
    return code;
}

static void add_row(dscm_truth_row *sum, const dscm_truth_row *row)
{
    sum->l1 += row->l1;
    sum->thickness_truth += row->thickness_truth;
    sum->intensity_truth += row->intensity_truth;
    sum->thickness += row->thickness;
    sum->intensity += row->intensity;
}

static void divide_row(dscm_truth_row *sum, double n)
{
    sum->l1 /= n;
    sum->thickness_truth /= n;
    sum->intensity_truth /= n;
    sum->thickness /= n;
    sum->intensity /= n;
}

/* Adds the line of a method's results for the interventions at hand. NULL results: the nearest real
 * image of each. */
static dscm_code add_line(truth_run *t, const char *method, dscm_truth_kind kind,
                          const uint8_t *results, double ms, dscm_error *err)
{
    truth_line *line = &t->lines[t->lines_count++];
    dscm_morpho_parents *asked = dscm_alloc(t->count, sizeof *asked, "truth", err);
    uint8_t *near = dscm_alloc(t->count, t->size, "truth", err);
    uint8_t *truth = dscm_alloc(t->size, 1, "truth", err);
    dscm_code code = asked && near && truth ? DSCM_OK : DSCM_E_MEMORY;
    *line = (truth_line){
        .method = method, .act = dscm_truth_name(kind), .propagated = (double)NAN, .ms = ms};
    bool drawn = kind == DSCM_TRUTH_THICKNESS || kind == DSCM_TRUTH_INTENSITY;
    double moved = 0;
    for (size_t i = 0; code == DSCM_OK && i < t->count; i++) {
        dscm_truth_row row;
        asked[i] = dscm_truth_parents(&t->people[i], &t->set[i]);
        const uint8_t *result = results ? results + i * t->size : near + i * t->size;
        if (!results) {
            size_t k = dscm_truth_nearest(t->people, t->count, i, &asked[i]);
            memcpy(near + i * t->size, t->e->items.pixels + k * t->size, t->size);
        }
        if (drawn)
            dscm_morpho_render(t->morpho, truth, t->sources.pixels + i * t->size,
                               asked[i].thickness, asked[i].intensity);
        dscm_truth_measure(&row, t->morpho, result, drawn ? truth : NULL, t->size, &asked[i]);
        add_row(&line->mean, &row);
        moved += fabs(t->propagated[i] - asked[i].intensity);
    }
    divide_row(&line->mean, (double)t->count);
    if (results == t->out && kind == DSCM_TRUTH_THICKNESS)
        line->propagated = moved / (double)t->count;
    if (code == DSCM_OK) code = read_digits(t, results ? results : near, asked, &line->digit, err);
    dscm_free(asked);
    dscm_free(near);
    dscm_free(truth);
    return code;
}

static dscm_code measure_kind(truth_run *t, dscm_truth_kind kind, dscm_error *err)
{
    double ms = 0;
    dscm_code code = dscm_truth_draw(t->set, kind, t->people, t->count, t->e->m.seed, err);
    for (size_t i = 0; code == DSCM_OK && i < t->count; i++) {
        t->targets[i].count = 0;
        add_act(&t->targets[i], t->variables[DIGIT], t->set[i].digit);
        add_act(&t->targets[i], t->variables[THICKNESS], t->set[i].thickness);
        add_act(&t->targets[i], t->variables[INTENSITY], t->set[i].intensity);
    }
    t->in = t->e->items.pixels;
    t->noise_only = false;
    if (code == DSCM_OK) code = run_all(t, dscm_truth_name(kind), t->count, &ms, err);
    if (code == DSCM_OK) code = add_line(t, "model", kind, t->out, ms, err);
    if (code == DSCM_OK)
        code = add_line(t, "do nothing", kind, t->e->items.pixels, (double)NAN, err);
    if (code == DSCM_OK) code = add_line(t, "nearest real image", kind, NULL, (double)NAN, err);
    return code;
}

/* L1 to the factual images after so many null cycles. */
static dscm_code measure_null(truth_run *t, size_t cycles, bool noise_only, double *l1,
                              dscm_error *err)
{
    size_t count = t->count < t->e->study_limit ? t->count : t->e->study_limit, sum = 0;
    *l1 = (double)NAN;
    if (!count) return DSCM_OK;
    uint8_t *image = dscm_alloc(count, t->size, "null counterfactuals", err);
    dscm_code code = image ? DSCM_OK : DSCM_E_MEMORY;
    double ms;
    if (code == DSCM_OK) memcpy(image, t->e->items.pixels, count * t->size);
    for (size_t i = 0; i < count; i++) t->targets[i].count = 0;
    t->in = image;
    t->noise_only = noise_only;
    for (size_t c = 0; code == DSCM_OK && c < cycles; c++) {
        code = run_all(t, noise_only ? "noise only" : "null", count, &ms, err);
        if (code == DSCM_OK) memcpy(image, t->out, count * t->size);
    }
    for (size_t p = 0; code == DSCM_OK && p < count * t->size; p++)
        sum += (size_t)abs((int)image[p] - (int)t->e->items.pixels[p]);
    *l1 = (double)sum / (double)(count * t->size);
    dscm_free(image);
    return code;
}

/* ---- the report ---- */
static json_t *line_json(const truth_line *l)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "method", l->method,
                     "intervention", l->act, "l1_to_truth", eval_number(l->mean.l1),
                     "thickness_to_truth", eval_number(l->mean.thickness_truth),
                     "intensity_to_truth", eval_number(l->mean.intensity_truth), "thickness_error",
                     eval_number(l->mean.thickness), "intensity_error",
                     eval_number(l->mean.intensity), "digit_accuracy", eval_number(l->digit),
                     "propagated_intensity_error", eval_number(l->propagated), "ms_per_image",
                     eval_number(l->ms));
}

static void print_table(FILE *f, const truth_run *t)
{
    fprintf(f, "%s, %zu images of %s, seed %llu, %s, %zu steps\n\n", t->e->m.info->name, t->count,
            t->e->split, (unsigned long long)t->e->m.seed, t->e->m.options.sampler,
            t->e->m.options.steps);
    fputs("| intervention | method | L1 to truth | thickness to truth | intensity to truth | "
          "thickness error | intensity error | digit | propagated intensity | ms (processor) |\n"
          "|---|---|---|---|---|---|---|---|---|---|\n",
          f);
    for (size_t i = 0; i < t->lines_count; i++) {
        const truth_line *l = &t->lines[i];
        fprintf(f, "| %s | %s |", l->act, l->method);
        eval_cell(f, l->mean.l1, 2);
        eval_cell(f, l->mean.thickness_truth, 3);
        eval_cell(f, l->mean.intensity_truth, 2);
        eval_cell(f, l->mean.thickness, 3);
        eval_cell(f, l->mean.intensity, 2);
        eval_cell(f, l->digit, 4);
        eval_cell(f, l->propagated, 3);
        eval_cell(f, l->ms, 0);
        fputc('\n', f);
    }
    fprintf(f,
            "\nNull counterfactuals, L1: %.3f after one cycle, %.3f after ten, %.3f from the noise "
            "alone.\n",
            t->composition[0], t->composition[1], t->composition[2]);
}

static dscm_code write_report(const truth_run *t, dscm_error *err)
{
    json_t *list = json_array(), *all;
    for (size_t i = 0; i < t->lines_count; i++)
        json_array_append_new(list, line_json(&t->lines[i]));
    all =
        json_pack("{s:s, s:s, s:I, s:I, s:s, s:o, s:{s:o, s:o, s:o}}", "model", t->e->m.info->name,
                  "model_sha256", t->e->m.info->sha256, "images", (json_int_t)t->count, "seed",
                  (json_int_t)t->e->m.seed, "command", t->e->command, "results", list,
                  "composition", "1", eval_number(t->composition[0]), "10",
                  eval_number(t->composition[1]), "noise_only", eval_number(t->composition[2]));
    char *json = all ? json_dumps(all, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(all);
    char *text = NULL;
    size_t length = 0;
    FILE *f = json ? open_memstream(&text, &length) : NULL;
    if (f) print_table(f, t);
    bool good = f && fclose(f) == 0;
    dscm_code code = good ? eval_write(t->e, "truth.json", json, strlen(json), err)
                          : dscm_fail(err, DSCM_E_MEMORY, "no memory for the report");
    if (code == DSCM_OK) code = eval_write(t->e, "truth.md", text, length, err);
    if (code == DSCM_OK) fputs(text, stdout);
    free(json);
    free(text);
    return code;
}

static dscm_code measure_all(truth_run *t, dscm_error *err)
{
    evaluation *e = t->e;
    dscm_code code = dscm_team_open(&e->team, (int)e->m.threads, err);
    for (size_t i = 0; code == DSCM_OK && i < e->m.threads; i++)
        code = dscm_session_open(&t->sessions[i], e->m.bundle, e->m.batch, 1, err);
    for (int k = 0; code == DSCM_OK && k < DSCM_TRUTH_KINDS; k++)
        code = measure_kind(t, (dscm_truth_kind)k, err);
    if (code == DSCM_OK) code = measure_null(t, 1, false, &t->composition[0], err);
    if (code == DSCM_OK) code = measure_null(t, 10, false, &t->composition[1], err);
    if (code == DSCM_OK) code = measure_null(t, 1, true, &t->composition[2], err);
    return code == DSCM_OK ? write_report(t, err) : code;
}

dscm_code eval_truth(evaluation *e, dscm_error *err)
{
    truth_run *t = dscm_alloc(1, sizeof *t, "evaluation", err);
    if (!t) return DSCM_E_MEMORY;
    t->e = e;
    dscm_code code = cli_model_open(&e->m, err);
    if (code == DSCM_OK) code = eval_make_folder(e, err);
    if (code == DSCM_OK) code = read_all(t, err);
    if (code == DSCM_OK) code = measure_all(t, err);
    for (size_t i = 0; i < EVAL_WORKERS_MAX; i++) dscm_session_free(t->sessions[i]);
    dscm_morpho_free(t->morpho);
    dscm_dataset_free(&t->sources);
    dscm_free(t->factuals);
    dscm_free(t->people);
    dscm_free(t->set);
    dscm_free(t->targets);
    dscm_free(t->out);
    dscm_free(t->propagated);
    dscm_free(t);
    return code;
}
