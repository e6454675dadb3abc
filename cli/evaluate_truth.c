/* diffscm evaluate --sources: counterfactuals of MorphoMNIST against the drawn truth. */
#include "cli/evaluate_truth.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/data/variables.h"
#include "core/scm/session.h"
#include "core/scm/table_query.h"

bool truth_is_drawn(dscm_truth_kind kind)
{
    return kind == DSCM_TRUTH_THICKNESS || kind == DSCM_TRUTH_INTENSITY;
}

const char *truth_slug(dscm_truth_kind kind)
{
    static const char *const names[] = {"thickness", "intensity", "digit", "joint"};
    return names[kind];
}

/* ---- data ---- */
static dscm_code read_people(truth_run *t, dscm_error *err)
{
    static const char *const names[] = {"digit", "thickness", "intensity"};
    const evaluation *e = t->e;
    size_t variables = e->m.info->variables_count;
    dscm_table table = {0};
    dscm_table_query query = {0};
    dscm_code code = DSCM_OK;
    for (int p = 0; code == DSCM_OK && p < TRUTH_PARENTS; p++)
        code = dscm_variable_find(e->m.bundle, names[p], &t->variables[p], err);
    if (code == DSCM_OK)
        code = dscm_variables_read(&table, &e->items, e->data_dir, e->split, NULL, err);
    if (code == DSCM_OK)
        code = dscm_table_query_open(&query, e->m.bundle, t->count, &table, NULL,
                                     t->count < e->items.count, err);
    for (size_t i = 0; code == DSCM_OK && i < t->count; i++) {
        const double *row = query.factuals + i * variables;
        t->people[i] = (dscm_morpho_parents){row[t->variables[TRUTH_DIGIT]],
                                             row[t->variables[TRUTH_THICKNESS]],
                                             row[t->variables[TRUTH_INTENSITY]]};
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
    t->people = dscm_alloc(3 * t->count, sizeof *t->people, "evaluation", err);
    t->targets = dscm_alloc(t->count, sizeof *t->targets, "evaluation", err);
    t->out = dscm_alloc(3 * t->count, t->size, "evaluation", err);
    t->propagated = dscm_alloc(t->count, sizeof *t->propagated, "evaluation", err);
    t->measured = dscm_alloc(2 * DSCM_TRUTH_KINDS * t->count, sizeof *t->measured, "report", err);
    if (!t->people || !t->targets || !t->out || !t->propagated || !t->measured)
        return DSCM_E_MEMORY;
    t->set = t->people + t->count;
    t->asked = t->set + t->count;
    t->truth = t->out + t->count * t->size;
    t->other = t->truth + t->count * t->size;
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
                                   .factuals = t->known + (first + i) * m->info->variables_count,
                                   .options = m->options,
                                   .auto_scale = m->auto_scale && t->targets[first + i].count,
                                   .noise_only = t->noise_only,
                                   .wanted = DSCM_WANT_COUNTERFACTUAL};
    dscm_code code = dscm_run(t->sessions[worker], m->bundle, items, count, NULL, err);
    for (size_t i = 0; i < count; i++) {
        if (code == DSCM_OK) {
            const dscm_counterfactual *c = &items[i].result->counterfactuals[0];
            dscm_pixels_from_float(t->out + (first + i) * t->size, c->image, t->size);
            t->propagated[first + i] = c->propagated[t->variables[TRUTH_INTENSITY]];
        }
        dscm_result_free(items[i].result);
        dscm_abduction_free(items[i].abduction);
    }
    dscm_free(items);
    e->finished += count;
    if (worker == 0) cli_progress_show(&e->progress, (double)e->finished, NULL);
}

static dscm_session_work work_done(const truth_run *t)
{
    dscm_session_work all = {0};
    for (size_t i = 0; i < t->e->m.threads; i++) {
        dscm_session_work one = dscm_session_done(t->sessions[i]);
        all.passes += one.passes;
        all.gradients += one.gradients;
        all.observations += one.observations;
    }
    return all;
}

/* Answers targets of the first `count` images. */
static dscm_code run_all(truth_run *t, const char *label, size_t count, truth_cost *cost,
                         dscm_error *err)
{
    evaluation *e = t->e;
    dscm_session_work before = work_done(t);
    clock_t started = clock();
    e->first = e->finished = 0;
    e->end = count;
    cli_progress_start(&e->progress, label, "images", (double)count);
    dscm_team_run(e->team, (count + e->m.batch - 1) / e->m.batch, run_part, t);
    cli_progress_end(&e->progress);
    double n = (double)count;
    dscm_session_work after = work_done(t);
    *cost = (truth_cost){.passes = (double)(after.passes - before.passes) / n,
                         .gradients = (double)(after.gradients - before.gradients) / n,
                         .observations = (double)(after.observations - before.observations) / n,
                         .ms = 1e3 * (double)(clock() - started) / CLOCKS_PER_SEC / n};
    return eval_first_error(e, err);
}

static void add_act(dscm_target *target, int variable, double value)
{
    if (isnan(value)) return;
    target->items[target->count++] = (dscm_intervention){
        .variable = variable, .action = DSCM_DO, .value = value, .scale = (double)NAN};
}

/* Sets every image's target to what the interventions at hand say; back: to its factual values of the same
 * variables. */
static void set_targets(truth_run *t, bool back)
{
    for (size_t i = 0; i < t->count; i++) {
        const dscm_morpho_parents *set = &t->set[i], *to = back ? &t->people[i] : set;
        t->targets[i].count = 0;
        if (!isnan(set->digit)) add_act(&t->targets[i], t->variables[TRUTH_DIGIT], to->digit);
        if (!isnan(set->thickness))
            add_act(&t->targets[i], t->variables[TRUTH_THICKNESS], to->thickness);
        if (!isnan(set->intensity))
            add_act(&t->targets[i], t->variables[TRUTH_INTENSITY], to->intensity);
    }
}

/* ---- measuring ---- */
/* Share of images whose digit is read as asked: by the panel, whose figures the line gets, or else by
 * the oracle or the predictor, which took part in making the model. */
static dscm_code read_digits(truth_run *t, const uint8_t *pixels, const dscm_morpho_parents *asked,
                             double *accuracy, dscm_error *err)
{
    const dscm_variable *v = &t->e->m.info->variables[t->variables[TRUTH_DIGIT]];
    float *image = dscm_alloc(t->size + v->labels_count, sizeof *image, "observation", err);
    dscm_code code = image ? DSCM_OK : DSCM_E_MEMORY;
    size_t right = 0;
    for (size_t i = 0; code == DSCM_OK && i < t->count; i++) {
        float *seen = image + t->size;
        dscm_pixels_to_float(image, pixels + i * t->size, t->size);
        code = t->e->m.info->has_oracle
                   ? dscm_observe_oracle(t->sessions[0], t->variables[TRUTH_DIGIT], seen, image, 1,
                                         err)
                   : dscm_observe(t->sessions[0], t->variables[TRUTH_DIGIT], seen, image, 1, err);
        right += dscm_observed_value(v, seen) == asked[i].digit;
    }
    *accuracy = (double)right / (double)t->count;
    dscm_free(image);
    return code;
}

static double mean_call(const dscm_calls *calls)
{
    double sum = 0;
    for (size_t c = 0; c < calls->classifiers; c++) sum += calls->sharp[c];
    return sum / (double)calls->classifiers;
}

static dscm_code judge_line(truth_run *t, truth_line *line, const uint8_t *results, dscm_error *err)
{
    dscm_judged judged;
    line->precision = line->cld = (double)NAN;
    if (!t->judges) return read_digits(t, results, t->asked, &line->digit, err);
    int *targets = dscm_alloc(t->count, sizeof *targets, "targets", err);
    if (!targets) return DSCM_E_MEMORY;
    for (size_t i = 0; i < t->count; i++) targets[i] = (int)t->asked[i].digit;
    dscm_code code =
        dscm_judges_run(t->judges, &judged, results, targets, t->count, 1, t->e->m.seed, err);
    dscm_free(targets);
    if (code != DSCM_OK) return code;
    line->calls = judged.calls;
    line->digit = mean_call(&judged.calls);
    line->precision = judged.precision;
    if (!isnan(t->set[0].digit)) line->cld = judged.cld.mean; /* of another class */
    return DSCM_OK;
}

static void add_row(dscm_truth_row *sum, const dscm_truth_row *row)
{
    sum->l1 += row->l1;
    sum->thickness_truth += row->thickness_truth;
    sum->intensity_truth += row->intensity_truth;
    sum->thickness += row->thickness;
    sum->intensity += row->intensity;
    sum->change += row->change;
    sum->due += row->due;
    sum->excess += row->excess;
}

static void divide_row(dscm_truth_row *sum, double n)
{
    sum->l1 /= n;
    sum->thickness_truth /= n;
    sum->intensity_truth /= n;
    sum->thickness /= n;
    sum->intensity /= n;
    sum->change /= n;
    sum->due /= n;
    sum->excess /= n;
}

/* Adds the line of a method's results for the interventions at hand. */
static dscm_code add_line(truth_run *t, const char *method, dscm_truth_kind kind,
                          const uint8_t *results, const truth_cost *cost, dscm_error *err)
{
    const truth_cost none = {(double)NAN, (double)NAN, (double)NAN, (double)NAN};
    truth_line *line = &t->lines[t->lines_count++];
    *line = (truth_line){.method = method,
                         .act = dscm_truth_name(kind),
                         .propagated = (double)NAN,
                         .reversibility = (double)NAN,
                         .cost = cost ? *cost : none};
    for (size_t i = 0; i < t->count; i++) {
        dscm_truth_row row;
        const uint8_t *truth = truth_is_drawn(kind) ? t->truth + i * t->size : NULL;
        dscm_truth_measure(&row, t->morpho, t->e->items.pixels + i * t->size, results + i * t->size,
                           truth, t->size, &t->asked[i]);
        add_row(&line->mean, &row);
    }
    divide_row(&line->mean, (double)t->count);
    return judge_line(t, line, results, err);
}

/* The model's own: how far propagation is off, and what is measured in each image. */
static void add_own(truth_run *t, truth_line *line, dscm_truth_kind kind)
{
    double *asked = t->measured + 2 * (size_t)kind * t->count, *seen = asked + t->count, moved = 0;
    for (size_t i = 0; i < t->count; i++) {
        dscm_morphometry m;
        dscm_morpho_measure(t->morpho, t->out + i * t->size, &m);
        bool thick = !isnan(t->set[i].thickness);
        asked[i] = thick ? t->asked[i].thickness : t->asked[i].intensity;
        seen[i] = thick ? m.thickness : m.intensity;
        moved += fabs(t->propagated[i] - t->asked[i].intensity);
    }
    if (kind == DSCM_TRUTH_THICKNESS) line->propagated = moved / (double)t->count;
}

static size_t study_count(const truth_run *t)
{
    return t->count < t->e->study_limit ? t->count : t->e->study_limit;
}

/* Mean L1 of the results of all to the factual images. */
static double distance_to_factual(const truth_run *t, size_t count)
{
    return dscm_truth_l1(t->out, t->e->items.pixels, count * t->size);
}

/* Reversibility (Monteiro et al. 2023): the counterfactual is abducted under the values that it has, what
 * was set is set back, and the result should be the factual image. Uses up the results at hand. */
static dscm_code measure_way_back(truth_run *t, truth_line *line, dscm_error *err)
{
    size_t count = study_count(t), variables = t->e->m.info->variables_count;
    truth_cost cost;
    if (!count) return DSCM_OK;
    double *known = dscm_alloc(count * variables, sizeof *known, "reversibility", err);
    uint8_t *images = dscm_alloc(count, t->size, "reversibility", err);
    dscm_code code = known && images ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) {
        memcpy(images, t->out, count * t->size);
        memcpy(known, t->factuals, count * variables * sizeof *known);
        for (size_t i = 0; i < count; i++) {
            double *row = known + i * variables;
            row[t->variables[TRUTH_DIGIT]] = t->asked[i].digit;
            row[t->variables[TRUTH_THICKNESS]] = t->asked[i].thickness;
            row[t->variables[TRUTH_INTENSITY]] = t->propagated[i];
        }
        set_targets(t, true);
        t->in = images;
        t->known = known;
        code = run_all(t, "way back", count, &cost, err);
        if (code == DSCM_OK) line->reversibility = distance_to_factual(t, count);
    }
    t->in = t->e->items.pixels;
    t->known = t->factuals;
    dscm_free(known);
    dscm_free(images);
    return code;
}

/* What the renderer makes of `from` (count, size) under the parents asked for. */
static void render_all(truth_run *t, uint8_t *out, const uint8_t *from)
{
    for (size_t i = 0; i < t->count; i++)
        dscm_morpho_render(t->morpho, out + i * t->size, from + i * t->size, t->asked[i].thickness,
                           t->asked[i].intensity);
}

static void find_nearest(truth_run *t)
{
    for (size_t i = 0; i < t->count; i++) {
        size_t k = dscm_truth_nearest(t->people, t->count, i, &t->asked[i]);
        memcpy(t->other + i * t->size, t->e->items.pixels + k * t->size, t->size);
    }
}

/* Answers without a model beside which the model's are read. */
static dscm_code add_others(truth_run *t, dscm_truth_kind kind, dscm_error *err)
{
    dscm_code code = add_line(t, "do nothing", kind, t->e->items.pixels, NULL, err);
    find_nearest(t);
    if (code == DSCM_OK) code = add_line(t, "nearest real image", kind, t->other, NULL, err);
    if (!truth_is_drawn(kind) || code != DSCM_OK) return code;
    render_all(t, t->other, t->e->items.pixels);
    code = add_line(t, "factual image rendered again", kind, t->other, NULL, err);
    return code == DSCM_OK ? add_line(t, "truth", kind, t->truth, NULL, err) : code;
}

static dscm_code measure_kind(truth_run *t, dscm_truth_kind kind, dscm_error *err)
{
    truth_cost cost;
    dscm_code code = dscm_truth_draw(t->set, kind, t->people, t->count, t->e->m.seed, err);
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < t->count; i++)
        t->asked[i] = dscm_truth_parents(&t->people[i], &t->set[i]);
    for (size_t c = 0; c < t->strip_count; c++) t->strip_asked[kind][c] = t->asked[t->strip[c]];
    if (truth_is_drawn(kind)) render_all(t, t->truth, t->sources.pixels);
    set_targets(t, false);
    t->in = t->e->items.pixels;
    t->known = t->factuals;
    t->noise_only = false;
    size_t own = t->lines_count;
    code = run_all(t, dscm_truth_name(kind), t->count, &cost, err);
    if (code == DSCM_OK) code = add_line(t, "model", kind, t->out, &cost, err);
    if (code == DSCM_OK) add_own(t, &t->lines[own], kind);
    if (code == DSCM_OK && !t->e->no_sheets) code = truth_strip(t, kind, err);
    if (code == DSCM_OK) code = add_others(t, kind, err);
    return code == DSCM_OK ? measure_way_back(t, &t->lines[own], err) : code;
}

/* L1 to the factual images after so many null cycles. */
static dscm_code measure_null(truth_run *t, size_t cycles, bool noise_only, double *l1,
                              dscm_error *err)
{
    size_t count = study_count(t);
    truth_cost cost;
    *l1 = (double)NAN;
    if (!count) return DSCM_OK;
    uint8_t *image = dscm_alloc(count, t->size, "null counterfactuals", err);
    dscm_code code = image ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) memcpy(image, t->e->items.pixels, count * t->size);
    for (size_t i = 0; i < count; i++) t->targets[i].count = 0;
    t->in = image;
    t->noise_only = noise_only;
    for (size_t c = 0; code == DSCM_OK && c < cycles; c++) {
        code = run_all(t, noise_only ? "noise only" : "null", count, &cost, err);
        if (code == DSCM_OK) memcpy(image, t->out, count * t->size);
    }
    if (code == DSCM_OK) *l1 = distance_to_factual(t, count);
    t->in = t->e->items.pixels;
    dscm_free(image);
    return code;
}

/* ---- everything ---- */
/* The panel, and what it and morphometry say of the real images as they are. */
static dscm_code measure_real(truth_run *t, dscm_error *err)
{
    const dscm_bundle_info *info = t->e->m.info;
    dscm_real_figures real;
    dscm_code code = DSCM_OK;
    if (info->has_panel && info->scored == t->variables[TRUTH_DIGIT]) {
        t->labels = dscm_alloc(t->count, 1, "labels", err);
        code = t->labels ? dscm_judges_open(&t->judges, t->e->m.bundle, false, t->e->m.batch, err)
                         : DSCM_E_MEMORY;
        for (size_t i = 0; code == DSCM_OK && i < t->count; i++)
            t->labels[i] = (uint8_t)t->people[i].digit;
        if (code == DSCM_OK)
            code = dscm_judges_set_real(t->judges, t->e->items.pixels, t->labels, t->count, &real,
                                        err);
        if (code == DSCM_OK) {
            t->real.calls = real.calls;
            t->real.digit = mean_call(&real.calls);
        }
    } else {
        code = read_digits(t, t->e->items.pixels, t->people, &t->real.digit, err);
    }
    for (size_t i = 0; i < t->count; i++) {
        dscm_morphometry m;
        dscm_morpho_measure(t->morpho, t->e->items.pixels + i * t->size, &m);
        t->real.thickness += fabs(m.thickness - t->people[i].thickness) / (double)t->count;
        t->real.intensity += fabs(m.intensity - t->people[i].intensity) / (double)t->count;
    }
    return code;
}

/* Which images the strips show. */
static dscm_code draw_strip(truth_run *t, dscm_error *err)
{
    uint32_t *order = dscm_alloc(t->count, sizeof *order, "strip", err);
    if (!order) return DSCM_E_MEMORY;
    dscm_rng rng = dscm_rng_make(t->e->m.seed, UINT64_MAX);
    dscm_rng_permute(&rng, order, (uint32_t)t->count);
    t->strip_count = t->count < TRUTH_STRIP ? t->count : TRUTH_STRIP;
    memcpy(t->strip, order, t->strip_count * sizeof *order);
    dscm_free(order);
    return DSCM_OK;
}

static dscm_code measure_all(truth_run *t, dscm_error *err)
{
    evaluation *e = t->e;
    dscm_code code = dscm_team_open(&e->team, (int)e->m.threads, err);
    for (size_t i = 0; code == DSCM_OK && i < e->m.threads; i++)
        code = dscm_session_open(&t->sessions[i], e->m.bundle, e->m.batch, 1, err);
    if (code == DSCM_OK) code = draw_strip(t, err);
    if (code == DSCM_OK) code = measure_real(t, err);
    for (int k = 0; code == DSCM_OK && k < DSCM_TRUTH_KINDS; k++)
        code = measure_kind(t, (dscm_truth_kind)k, err);
    if (code == DSCM_OK) code = measure_null(t, 1, false, &t->composition[0], err);
    if (code == DSCM_OK) code = measure_null(t, 10, false, &t->composition[1], err);
    if (code == DSCM_OK) code = measure_null(t, 1, true, &t->composition[2], err);
    return code == DSCM_OK ? truth_report(t, err) : code;
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
    dscm_judges_free(t->judges);
    dscm_free(t->labels);
    dscm_morpho_free(t->morpho);
    dscm_dataset_free(&t->sources);
    dscm_free(t->factuals);
    dscm_free(t->people);
    dscm_free(t->targets);
    dscm_free(t->out);
    dscm_free(t->propagated);
    dscm_free(t->measured);
    dscm_free(t);
    return code;
}
