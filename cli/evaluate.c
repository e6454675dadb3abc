/* diffscm evaluate: methods side by side on one data set, with a report. */
#include "cli/evaluate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/report.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/base/team.h"
#include "core/io/file.h"

static const char methods_default[] =
    "ours,ours:scale=calibrated,published:ratio=0.75:dynamic=1:scale=1,"
    "published:ratio=0.95:dynamic=0:scale=8/16/64,pgd,greedy,prototype,identity,nearest,random,"
    "real";
static const char frontier_default[] =
    "ours:steps=5/10/20:scale=auto/0/2/4/6/10/14/20/32,ours:steps=3/4:scale=auto,"
    "ours:steps=50/100:scale=10/20,"
    "ours:sampler=obelm:steps=20:scale=auto/8/16/24,ours:sampler=bdia:steps=20:scale=8/16/24,"
    "published:ratio=0.95:dynamic=0:scale=0/1/2/4/8/16/32/64/128/256";
static const char frontier_quick[] = "ours:scale=auto/0/4/8/12/20";

static dscm_code open_data(evaluation *e, dscm_error *err)
{
    dscm_code code = dscm_dataset_open(&e->items, e->data_dir, e->split, err);
    if (code == DSCM_OK)
        code = dscm_dataset_open(&e->pool, e->pool_dir ? e->pool_dir : e->data_dir, e->pool_split,
                                 err);
    if (code != DSCM_OK) return code;
    if (e->items.h != e->pool.h || e->items.w != e->pool.w || e->items.c != e->pool.c)
        return dscm_fail(err, DSCM_E_MISMATCH, "%s and %s: images of different sizes", e->split,
                         e->pool_split);
    return DSCM_OK;
}

/* One other class per item, from the item's own stream of the seed. */
static dscm_code draw_targets(evaluation *e, dscm_error *err)
{
    int variable = cli_scored_variable(&e->m);
    if (variable < 0)
        return dscm_fail(err, DSCM_E_INVALID, "the model has no categorical variable");
    size_t labels = e->m.info->variables[variable].labels_count;
    e->targets = dscm_alloc(e->items.count, sizeof *e->targets, "targets", err);
    if (!e->targets) return DSCM_E_MEMORY;
    if (labels < 2) return dscm_fail(err, DSCM_E_INVALID, "the model knows one class only");
    for (size_t i = 0; i < e->items.count; i++) {
        if (e->items.labels[i] >= labels)
            return dscm_fail(err, DSCM_E_MISMATCH,
                             "%s: label %d of image %zu: the model has labels 0..%zu", e->split,
                             e->items.labels[i], i, labels - 1);
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
    return DSCM_OK;
}

dscm_code eval_make_folder(const evaluation *e, dscm_error *err)
{
    struct stat about;
    if (mkdir(e->report_dir, 0777) != 0 && errno != EEXIST)
        return dscm_fail(err, DSCM_E_IO, "--report %s: cannot make the folder: %s", e->report_dir,
                         strerror(errno));
    if (stat(e->report_dir, &about) == 0 && !S_ISDIR(about.st_mode))
        return dscm_fail(err, DSCM_E_INVALID, "--report %s: is a file, must be a folder",
                         e->report_dir);
    return DSCM_OK;
}

dscm_code eval_write(const evaluation *e, const char *name, const char *text, size_t length,
                     dscm_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", e->report_dir, name);
    return dscm_file_replace(path, &(dscm_piece){text, length}, 1, err);
}

json_t *eval_number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

void eval_cell(FILE *f, double v, int digits)
{
    if (isnan(v))
        fputs(" – |", f);
    else
        fprintf(f, " %.*f |", digits, v);
}

static dscm_code open_all(evaluation *e, dscm_error *err)
{
    dscm_code code = cli_model_open(&e->m, err);
    if (code == DSCM_OK) code = open_data(e, err);
    if (code == DSCM_OK) code = draw_targets(e, err);
    if (code == DSCM_OK) code = eval_judges_check(e, err);
    if (code == DSCM_OK) code = eval_plan(e, e->methods, false, err);
    if (code == DSCM_OK && *e->frontier) code = eval_plan(e, e->frontier, true, err);
    if (code != DSCM_OK) return code;
    code = eval_make_folder(e, err);
    if (code == DSCM_OK) code = eval_claim_folder(e, err);
    if (code == DSCM_OK) code = dscm_team_open(&e->team, (int)e->m.threads, err);
    for (size_t t = 0; code == DSCM_OK && t < e->m.threads; t++)
        code = dscm_eval_worker_open(&e->workers[t], &e->data, e->m.batch, err);
    return code;
}

static void close_all(evaluation *e)
{
    for (size_t i = 0; e->list && i < e->count; i++) {
        dscm_free(e->list[i].rows);
        dscm_free(e->list[i].pixels);
        dscm_free(e->list[i].study);
        dscm_free(e->list[i].ranks);
    }
    for (size_t t = 0; t < EVAL_WORKERS_MAX; t++) dscm_eval_worker_free(e->workers[t]);
    dscm_team_free(e->team);
    dscm_dataset_free(&e->items);
    dscm_dataset_free(&e->pool);
    dscm_free(e->targets);
    dscm_free(e->list);
    cli_model_close(&e->m);
}

static dscm_code measure(evaluation *e, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < e->count; i++)
        code = eval_run_method(e, &e->list[i], err);
    for (size_t i = 0; code == DSCM_OK && i < e->count; i++) {
        bool published = strcmp(e->list[i].name, "published") == 0;
        bool studied = published || strcmp(e->list[i].name, "ours") == 0;
        if (!e->list[i].curve && studied)
            code =
                eval_study(e, &e->list[i], published ? e->slow_study_limit : e->study_limit, err);
    }
    for (size_t i = 0; code == DSCM_OK && !e->no_cost && i < e->count; i++)
        if (!e->list[i].curve) code = eval_time(e, &e->list[i], err);
    if (code == DSCM_OK) code = eval_distances(e, err);
    if (code == DSCM_OK) code = eval_identity(e, err);
    return code == DSCM_OK ? eval_judge(e, err) : code;
}

static dscm_code run_evaluation(evaluation *e, dscm_error *err)
{
    if (e->sources_dir) {
        dscm_code truth = eval_truth(e, err);
        close_all(e);
        return truth;
    }
    if (e->noise) {
        dscm_code noise = cli_model_open(&e->m, err);
        if (noise == DSCM_OK) noise = dscm_dataset_open(&e->items, e->data_dir, e->split, err);
        if (noise == DSCM_OK) noise = draw_targets(e, err);
        if (noise == DSCM_OK) noise = eval_noise(e, err);
        close_all(e);
        return noise;
    }
    e->list = dscm_alloc(EVAL_METHODS_MAX, sizeof *e->list, "evaluation", err);
    dscm_code code = e->list ? open_all(e, err) : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = measure(e, err);
    if (code == DSCM_OK) code = cli_report_write(e, err);
    if (code == DSCM_OK) printf("%s/report.html\n", e->report_dir);
    close_all(e);
    return code;
}

/* The command as typed, for the report; arguments with spaces or signs of the shell in quotes. */
static void keep_command(evaluation *e, int argc, char **argv)
{
    size_t used = (size_t)snprintf(e->command, sizeof e->command, "diffscm");
    for (int i = 0; i < argc && used < sizeof e->command; i++) {
        bool plain = *argv[i] && !strpbrk(argv[i], " \t\"'\\$&;()<>|*?`");
        used += (size_t)snprintf(e->command + used, sizeof e->command - used,
                                 plain ? " %s" : " '%s'", argv[i]);
    }
}

/* What no option has set. */
static void set_defaults(evaluation *e)
{
    const struct {
        size_t *limit, usual, quick;
    } limits[] = {{&e->limit, 1000000000, 100},
                  {&e->slow_limit, 1000, 20},
                  {&e->curve_limit, 256, 20},
                  {&e->study_limit, 256, 16},
                  {&e->slow_study_limit, 32, 4}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (*limits[i].limit == SIZE_MAX)
            *limits[i].limit = e->quick ? limits[i].quick : limits[i].usual;
    if (!e->frontier) e->frontier = e->quick ? frontier_quick : frontier_default;
}

int cmd_evaluate(int argc, char **argv)
{
    dscm_error err = {0};
    evaluation *e = dscm_alloc(1, sizeof *e, "evaluation", &err);
    if (!e) return cli_fail(argv[0], &err);
    *e = (evaluation){.m = CLI_MODEL_DEFAULTS,
                      .split = "dev",
                      .pool_split = "train",
                      .methods = methods_default,
                      .limit = SIZE_MAX,
                      .slow_limit = SIZE_MAX,
                      .curve_limit = SIZE_MAX,
                      .study_limit = SIZE_MAX,
                      .slow_study_limit = SIZE_MAX};
    const cli_option options[] = {
        {"data", OPT_TEXT, &e->data_dir, 0, 0, "DIR",
         "IDX files <split>-images-idx3-ubyte[.gz] and labels"},
        {"split", OPT_TEXT, &e->split, 0, 0, "NAME", "items to explain (dev)"},
        {"pool-data", OPT_TEXT, &e->pool_dir, 0, 0, "DIR", "where the pool is (as --data)"},
        {"pool-split", OPT_TEXT, &e->pool_split, 0, 0, "NAME",
         "real images to compare with (train)"},
        {"methods", OPT_TEXT, &e->methods, 0, 0, "LIST",
         "of the tables; with settings: published:ratio=0.95:scale=8"},
        {"frontier", OPT_TEXT, &e->frontier, 0, 0, "LIST",
         "of the curves: ours:steps=5/10:scale=auto/0/5; empty: none"},
        {"limit", OPT_SIZE, &e->limit, 20, 1e9, "N", "items per method (all)"},
        {"slow-limit", OPT_SIZE, &e->slow_limit, 20, 1e9, "N",
         "of published, greedy, prototype (1000)"},
        {"curve-limit", OPT_SIZE, &e->curve_limit, 4, 1e9, "N", "items per point of a curve (256)"},
        {"study-limit", OPT_SIZE, &e->study_limit, 0, 1e9, "N",
         "items of composition and reversibility (256)"},
        {"slow-study-limit", OPT_SIZE, &e->slow_study_limit, 0, 1e9, "N",
         "the same for published (32)"},
        {"judges", OPT_TEXT, &e->judges, 0, 0, "WHO",
         "judges.json and judges.md by the bundle's panel or selection judges (panel)"},
        {"sources", OPT_TEXT, &e->sources_dir, 0, 0, "DIR",
         "MorphoMNIST: the digits that --data was rendered from; errors against the truth"},
        {"noise", OPT_FLAG, &e->noise, 0, 0, NULL,
         "what the abducted noise of every sampler holds, at 5 to 50 steps, instead"},
        {"quick", OPT_FLAG, &e->quick, 0, 0, NULL, "fewer items and points: a few minutes"},
        {"no-sheets", OPT_FLAG, &e->no_sheets, 0, 0, NULL, "no pictures of items in the report"},
        {"no-cost", OPT_FLAG, &e->no_cost, 0, 0, NULL, "no timing"},
        {"report", OPT_TEXT, &e->report_dir, 0, 0, "DIR",
         "where the report goes; a second run goes on there"},
        CLI_MODEL_OPTIONS(e->m),
        {.name = NULL}};
    option_list rest = {.count = 0};
    int exit_code =
        cli_parse(argc, argv, "evaluate --data DIR --report DIR [options]", options, &rest);
    if (exit_code < 0 && e->judges && strcmp(e->judges, "panel") != 0 &&
        strcmp(e->judges, "selection") != 0)
        exit_code = cli_usage(argv[0], "--judges %s: must be panel or selection", e->judges);
    keep_command(e, argc, argv);
    set_defaults(e);
    if (exit_code < 0 && (!e->data_dir || !e->report_dir || rest.count))
        exit_code = cli_usage(argv[0], "--data and --report are needed, and nothing but options");
    if (exit_code < 0)
        exit_code = run_evaluation(e, &err) == DSCM_OK ? EXIT_DONE : cli_fail(argv[0], &err);
    dscm_free(e);
    return exit_code;
}
