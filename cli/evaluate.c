/* diffscm evaluate: methods side by side on one data set, with a report. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/report.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/base/team.h"
#include "core/eval/evaluate.h"

#define METHODS_MAX 64

typedef struct method_run {
    char text[96], title[160], slug[96];
    dscm_eval_setting setting;
    size_t limit;
    dscm_record *rows;
    size_t count;
    uint8_t *pixels; /* (limit, size) results, in the order of items */
} method_run;

typedef struct evaluation {
    cli_model m;
    const char *data_dir, *split, *pool_split, *methods, *scales, *report_dir;
    size_t limit, slow_limit, study_limit;
    bool quick;
    dscm_dataset items, pool;
    int *targets;
    dscm_eval_data data;
    dscm_eval_worker *workers[256];
    dscm_error errors[256];
    dscm_team *team;
    method_run runs[METHODS_MAX];
    size_t runs_count, sheets;
    /* of the run at hand */
    method_run *run;
    size_t first, finished[256];
    cli_progress progress;
    double *distances; /* composition */
    bool guided;
} evaluation;

enum { CYCLES = 10 };

/* ---- which methods
 * ------------------------------------------------------------------------------- */
static dscm_code add_run(evaluation *e, const char *method, double scale, size_t limit,
                         dscm_error *err)
{
    if (e->runs_count == METHODS_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "more than %d methods", METHODS_MAX);
    method_run *r = &e->runs[e->runs_count++];
    snprintf(r->text, sizeof r->text, "%s", method);
    r->setting.method = r->text;
    dscm_code code = dscm_eval_check(e->m.bundle, method, err);
    if (code != DSCM_OK) return code;
    bool published = strcmp(method, "published") == 0, ours = strcmp(method, "ours") == 0;
    r->setting.options = ours ? e->m.options : dscm_options_defaults();
    if (!ours) r->setting.options.sampler = "published";
    if (published && isnan(scale)) scale = 1;
    if (!isnan(scale)) r->setting.options.scale = scale;
    code = dscm_options_resolve(e->m.bundle, &r->setting.options, err);
    r->limit = limit < e->items.count ? limit : e->items.count;
    if (ours || published)
        snprintf(r->title, sizeof r->title, "%s: %s, %zu steps, scale %g", method,
                 r->setting.options.sampler, r->setting.options.steps, r->setting.options.scale);
    else
        snprintf(r->title, sizeof r->title, "%s", method);
    snprintf(r->slug, sizeof r->slug, ours || published ? "%s-%zu-%g" : "%s", method,
             r->setting.options.steps, r->setting.options.scale);
    return code;
}

static dscm_code add_scales(evaluation *e, const char *method, dscm_error *err)
{
    for (const char *p = e->scales; *p;) {
        char *end;
        double scale = strtod(p, &end);
        if (end == p || (*end && *end != ','))
            return dscm_fail(err, DSCM_E_INVALID, "--scales %s: must be numbers such as 0.5,1,2",
                             e->scales);
        dscm_code code = add_run(e, method, scale, e->slow_limit, err);
        if (code != DSCM_OK) return code;
        p = *end ? end + 1 : end;
    }
    return DSCM_OK;
}

static dscm_code add_methods(evaluation *e, dscm_error *err)
{
    char list[256], *rest = list;
    snprintf(list, sizeof list, "%s", e->methods);
    for (char *name; (name = strsep(&rest, ",")) != NULL;) {
        bool slow = strcmp(name, "published") == 0 || strcmp(name, "greedy") == 0 ||
                    strcmp(name, "prototype") == 0;
        dscm_code code = add_run(e, name, (double)NAN, slow ? e->slow_limit : e->limit, err);
        if (code == DSCM_OK && e->scales && strcmp(name, "ours") == 0)
            code = add_scales(e, name, err);
        if (code == DSCM_OK && e->scales && strcmp(name, "published") == 0)
            code = add_scales(e, name, err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

/* ---- running ------------------------------------------------------------------------------------
 */
static size_t part_of(const evaluation *e, size_t index, size_t limit, size_t *first)
{
    *first = e->first + index * e->m.batch;
    return limit - *first < e->m.batch ? limit - *first : e->m.batch;
}

static void run_part(void *arg, size_t index, int worker)
{
    evaluation *e = arg;
    method_run *r = e->run;
    size_t first, count = part_of(e, index, r->limit, &first);
    if (e->errors[worker].code != DSCM_OK) return;
    dscm_code code = dscm_eval_run(e->workers[worker], &r->setting, first, count, r->rows + first,
                                   r->pixels + first * cli_image_size(&e->m), &e->errors[worker]);
    if (code != DSCM_OK) return;
    e->finished[worker] += count;
    if (worker == 0)
        cli_progress_show(&e->progress, (double)(e->first + e->finished[0] * e->m.threads), NULL);
}

static dscm_code first_error(evaluation *e, dscm_error *err)
{
    for (size_t t = 0; t < e->m.threads; t++)
        if (e->errors[t].code != DSCM_OK)
            return dscm_fail(err, e->errors[t].code, "%s", e->errors[t].message);
    return DSCM_OK;
}

static void path_of(const evaluation *e, const method_run *r, const char *what, char *out,
                    size_t size)
{
    snprintf(out, size, "%s/%s-%s", e->report_dir, what, r->slug);
}

/* Results of earlier runs with the same folder are kept: records and pictures of whole rounds. */
static dscm_code load_earlier(evaluation *e, method_run *r, dscm_error *err)
{
    char path[4096];
    dscm_idx idx;
    dscm_record *rows = NULL;
    size_t size = cli_image_size(&e->m);
    path_of(e, r, "records", path, sizeof path);
    strncat(path, ".csv", sizeof path - strlen(path) - 1);
    dscm_code code = dscm_records_read(path, &rows, &r->count, r->limit, err);
    if (code != DSCM_OK || !r->count) return code;
    path_of(e, r, "images", path, sizeof path);
    if (dscm_idx_read(&idx, path, NULL) == DSCM_OK && idx.count >= r->count * size) {
        memcpy(r->rows, rows, r->count * sizeof *rows);
        memcpy(r->pixels, idx.data, r->count * size);
    } else {
        r->count = 0;
    }
    dscm_idx_free(&idx);
    dscm_free(rows);
    return DSCM_OK;
}

static dscm_code keep_round(evaluation *e, method_run *r, size_t from, dscm_error *err)
{
    char path[4096];
    const dscm_dataset *d = &e->items;
    dscm_idx idx = {.dims = {r->count, d->h, d->w, d->c},
                    .ndim = d->c == 1 ? 3 : 4,
                    .count = r->count * cli_image_size(&e->m),
                    .data = r->pixels};
    path_of(e, r, "images", path, sizeof path);
    dscm_code code = dscm_idx_write(&idx, path, err);
    path_of(e, r, "records", path, sizeof path);
    strncat(path, ".csv", sizeof path - strlen(path) - 1);
    if (code == DSCM_OK && from == 0) remove(path);
    return code == DSCM_OK ? dscm_records_append(path, r->rows + from, r->count - from, err) : code;
}

static dscm_code run_method(evaluation *e, method_run *r, dscm_error *err)
{
    size_t size = cli_image_size(&e->m), round = 16 * e->m.batch * e->m.threads;
    r->rows = dscm_alloc(r->limit, sizeof *r->rows, "records", err);
    r->pixels = dscm_alloc(r->limit * size, 1, "results", err);
    dscm_code code = r->rows && r->pixels ? load_earlier(e, r, err) : DSCM_E_MEMORY;
    if (code != DSCM_OK) return code;
    e->run = r;
    memset(e->finished, 0, sizeof e->finished);
    cli_progress_start(&e->progress, r->title, "images", (double)r->limit);
    while (r->count < r->limit) {
        size_t limit = r->limit, from = r->count;
        if (limit - from > round) r->limit = from + round;
        e->first = from;
        memset(e->finished, 0, sizeof e->finished);
        dscm_team_run(e->team, (r->limit - from + e->m.batch - 1) / e->m.batch, run_part, e);
        code = first_error(e, err);
        r->count = r->limit;
        r->limit = limit;
        if (code == DSCM_OK) code = keep_round(e, r, from, err);
        if (code != DSCM_OK) return code;
    }
    cli_progress_show(&e->progress, (double)r->limit, NULL);
    cli_progress_end(&e->progress);
    return DSCM_OK;
}

/* ---- composition and reversibility
 * --------------------------------------------------------------- */
static void composition_part(void *arg, size_t index, int worker)
{
    evaluation *e = arg;
    size_t first, count = part_of(e, index, e->study_limit, &first);
    if (e->errors[worker].code != DSCM_OK) return;
    dscm_code code =
        dscm_eval_composition(e->workers[worker], &e->m.options, first, count, CYCLES, e->guided,
                              e->distances + first * CYCLES, &e->errors[worker]);
    (void)code; /* kept in errors[worker] */
}

static void reversibility_part(void *arg, size_t index, int worker)
{
    evaluation *e = arg;
    size_t first, count = part_of(e, index, e->study_limit, &first);
    if (e->errors[worker].code != DSCM_OK) return;
    dscm_code code = dscm_eval_reversibility(e->workers[worker], &e->m.options, first, count,
                                             e->distances + first, &e->errors[worker]);
    (void)code; /* kept in errors[worker] */
}

static dscm_code run_studies(evaluation *e, double *composition, double *reversibility,
                             dscm_error *err)
{
    size_t parts = (e->study_limit + e->m.batch - 1) / e->m.batch;
    e->distances = dscm_alloc(e->study_limit * CYCLES, sizeof *e->distances, "composition", err);
    if (!e->distances) return DSCM_E_MEMORY;
    e->first = 0;
    memset(composition, 0, 2 * CYCLES * sizeof *composition);
    for (int guided = 0; guided < 2; guided++) {
        e->guided = guided;
        dscm_team_run(e->team, parts, composition_part, e);
        for (size_t i = 0; i < e->study_limit * CYCLES; i++)
            composition[guided * CYCLES + (int)(i % CYCLES)] +=
                e->distances[i] / (double)e->study_limit;
    }
    dscm_team_run(e->team, parts, reversibility_part, e);
    *reversibility = 0;
    for (size_t i = 0; i < e->study_limit; i++)
        *reversibility += e->distances[i] / (double)e->study_limit;
    dscm_free(e->distances);
    return first_error(e, err);
}

/* ---- sheets -------------------------------------------------------------------------------------
 */
static int by_l1(const void *a, const void *b, void *run)
{
    const method_run *sorting = run;
    double x = sorting->rows[*(const size_t *)a].values[DSCM_COL_L1];
    double y = sorting->rows[*(const size_t *)b].values[DSCM_COL_L1];
    return (x > y) - (x < y);
}

/* Factual over counterfactual: six best, six median, six worst by L1. */
static dscm_code write_sheet(evaluation *e, const method_run *r, dscm_error *err)
{
    enum { COLUMNS = 18 };
    char path[4096];
    size_t size = cli_image_size(&e->m), *order = dscm_alloc(r->count, sizeof *order, "sheet", err);
    float *images = dscm_alloc(2 * COLUMNS * size, sizeof *images, "sheet", err);
    const float *cells[2 * COLUMNS] = {NULL};
    dscm_code code = order && images ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK && r->count >= COLUMNS) {
        for (size_t i = 0; i < r->count; i++) order[i] = i;
        qsort_r(order, r->count, sizeof *order, by_l1, (void *)r);
        for (size_t c = 0; c < COLUMNS; c++) {
            size_t rank = c < 6 ? c : c < 12 ? r->count / 2 + c - 9 : r->count - COLUMNS + c;
            dscm_pixels_to_float(images + c * size, e->items.pixels + order[rank] * size, size);
            dscm_pixels_to_float(images + (COLUMNS + c) * size, r->pixels + order[rank] * size,
                                 size);
            cells[c] = images + c * size;
            cells[COLUMNS + c] = images + (COLUMNS + c) * size;
        }
        path_of(e, r, "sheet", path, sizeof path);
        strncat(path, ".png", sizeof path - strlen(path) - 1);
        code = cli_write_sheet(&e->m, path, cells, 2, COLUMNS, err);
    }
    dscm_free(order);
    dscm_free(images);
    return code;
}

/* ---- the whole ----------------------------------------------------------------------------------
 */
static dscm_code open_all(evaluation *e, dscm_error *err)
{
    dscm_code code = cli_model_open(&e->m, err);
    if (code == DSCM_OK) code = dscm_dataset_open(&e->items, e->data_dir, e->split, err);
    if (code == DSCM_OK) code = dscm_dataset_open(&e->pool, e->data_dir, e->pool_split, err);
    if (code != DSCM_OK) return code;
    if (mkdir(e->report_dir, 0777) != 0 && errno != EEXIST)
        return dscm_fail(err, DSCM_E_IO, "%s: cannot create", e->report_dir);
    int variable = cli_scored_variable(&e->m);
    if (variable < 0)
        return dscm_fail(err, DSCM_E_INVALID, "the model has no categorical variable");
    size_t labels = e->m.info->variables[variable].labels_count;
    e->targets = dscm_alloc(e->items.count, sizeof *e->targets, "targets", err);
    if (!e->targets) return DSCM_E_MEMORY;
    for (size_t i = 0; i < e->items.count; i++) { /* any other class, from the item's own stream */
        dscm_rng rng = dscm_rng_make(e->m.seed, i);
        e->targets[i] = (int)dscm_rng_below(&rng, (uint32_t)labels - 1);
        e->targets[i] += e->targets[i] >= e->items.labels[i];
    }
    e->data = (dscm_eval_data){.bundle = e->m.bundle,
                               .items = &e->items,
                               .pool = &e->pool,
                               .targets = e->targets,
                               .variable = variable,
                               .seed = e->m.seed};
    if (e->study_limit > e->items.count) e->study_limit = e->items.count;
    code = add_methods(e, err);
    if (code == DSCM_OK) code = dscm_team_open(&e->team, (int)e->m.threads, err);
    for (size_t t = 0; code == DSCM_OK && t < e->m.threads; t++)
        code = dscm_eval_worker_open(&e->workers[t], &e->data, e->m.batch, err);
    return code;
}

static dscm_code run_evaluation(evaluation *e, const char *command, dscm_error *err)
{
    report_method listed[METHODS_MAX];
    double composition[2 * CYCLES], reversibility = 0;
    dscm_code code = open_all(e, err);
    for (size_t i = 0; code == DSCM_OK && i < e->runs_count; i++) {
        method_run *r = &e->runs[i];
        code = run_method(e, r, err);
        if (code == DSCM_OK) code = write_sheet(e, r, err);
        listed[i] = (report_method){.title = r->title,
                                    .slug = r->slug,
                                    .rows = r->rows,
                                    .count = r->count,
                                    .curve = strcmp(r->text, "ours") == 0};
    }
    if (code == DSCM_OK && e->study_limit) code = run_studies(e, composition, &reversibility, err);
    report out = {.model = &e->m,
                  .dir = e->report_dir,
                  .command = command,
                  .data_sha256 = e->items.sha256,
                  .methods = listed,
                  .methods_count = e->runs_count,
                  .composition = composition,
                  .cycles = e->study_limit ? CYCLES : 0,
                  .reversibility = reversibility};
    if (code == DSCM_OK) code = cli_report_write(&out, err);
    if (code == DSCM_OK) printf("%s/report.html\n", e->report_dir);
    for (size_t i = 0; i < e->runs_count; i++) {
        dscm_free(e->runs[i].rows);
        dscm_free(e->runs[i].pixels);
    }
    for (size_t t = 0; t < 256; t++) dscm_eval_worker_free(e->workers[t]);
    dscm_team_free(e->team);
    dscm_dataset_free(&e->items);
    dscm_dataset_free(&e->pool);
    dscm_free(e->targets);
    cli_model_close(&e->m);
    return code;
}

int cmd_evaluate(int argc, char **argv)
{
    dscm_error err = {0};
    evaluation *e = dscm_alloc(1, sizeof *e, "evaluation", &err);
    if (!e) return cli_fail(argv[0], &err);
    *e = (evaluation){.m = CLI_MODEL_DEFAULTS,
                      .split = "dev",
                      .pool_split = "train",
                      .methods = "ours,published,pgd,greedy,prototype,identity,nearest,random",
                      .limit = SIZE_MAX,
                      .slow_limit = 1000,
                      .study_limit = 200};
    const cli_option options[] = {
        {"data", OPT_TEXT, &e->data_dir, 0, 0, "DIR",
         "IDX files <split>-images-idx3-ubyte[.gz] and labels"},
        {"split", OPT_TEXT, &e->split, 0, 0, "NAME", "items to explain (dev)"},
        {"pool-split", OPT_TEXT, &e->pool_split, 0, 0, "NAME",
         "real images to compare with (train)"},
        {"methods", OPT_TEXT, &e->methods, 0, 0, "LIST", "which methods (all)"},
        {"scales", OPT_TEXT, &e->scales, 0, 0, "LIST", "also ours and published over these scales"},
        {"limit", OPT_SIZE, &e->limit, 20, 1e9, "N", "items per method (all)"},
        {"slow-limit", OPT_SIZE, &e->slow_limit, 20, 1e9, "N",
         "items of slow methods and curves (1000)"},
        {"study-limit", OPT_SIZE, &e->study_limit, 0, 1e9, "N",
         "items of composition and reversibility (200)"},
        {"quick", OPT_FLAG, &e->quick, 0, 0, NULL, "100 items, 20 of slow methods: a few minutes"},
        {"report", OPT_TEXT, &e->report_dir, 0, 0, "DIR",
         "where the report goes; a second run goes on there"},
        CLI_MODEL_OPTIONS(e->m),
        {.name = NULL}};
    option_list rest = {.count = 0};
    int exit_code =
        cli_parse(argc, argv, "evaluate --data DIR --report DIR [options]", options, &rest);
    char command[1024] = "diffscm";
    for (int i = 0; i < argc; i++) {
        size_t used = strlen(command);
        snprintf(command + used, sizeof command - used, " %s", argv[i]);
    }
    if (e->quick) {
        e->limit = 100;
        e->slow_limit = 20;
        e->study_limit = 20;
    }
    if (exit_code < 0 && (!e->data_dir || !e->report_dir || rest.count))
        exit_code = cli_usage(argv[0], "--data and --report are needed, and nothing but options");
    if (exit_code < 0)
        exit_code =
            run_evaluation(e, command, &err) == DSCM_OK ? EXIT_DONE : cli_fail(argv[0], &err);
    dscm_free(e);
    return exit_code;
}
