/* diffscm demo: a sheet of examples under every intervention.
 *
 * One row per label: the example, then what it would have looked like under do(label) for each
 * label in turn. One abduction of all examples serves every column. A model without examples draws
 * them itself. */
#include <math.h>
#include <stdio.h>

#include "cli/model.h"
#include "core/base/memory.h"

typedef struct demo {
    cli_model m;
    const char *out;
    const dscm_variable *cause; /* the categorical parent of the image */
    int variable;
    size_t labels, size; /* size: floats of an image */
    float *factual;      /* (labels, size) */
    float *result;       /* (labels * labels, size), row by row */
    bool drawn;          /* the examples, by the model */
    cli_progress progress;
} demo;

#define LABELS_MAX ((size_t)32) /* rows and columns of a sheet that still shows something */

/* The examples are folder/<label>.png. */
static dscm_code read_examples(demo *d, const char *folder, dscm_error *err)
{
    char path[4400];
    dscm_code code = DSCM_OK;
    for (size_t k = 0; code == DSCM_OK && k < d->labels; k++) {
        float *image = NULL;
        snprintf(path, sizeof path, "%s/%s.png", folder, d->cause->labels[k]);
        code = cli_read_image(&d->m, path, false, &image, err);
        for (size_t i = 0; code == DSCM_OK && i < d->size; i++)
            d->factual[k * d->size + i] = image[i];
        dscm_free(image);
    }
    return code;
}

static bool show_step(void *arg, const dscm_progress_event *event)
{
    demo *d = arg;
    cli_progress_show(&d->progress, (double)event->step / (double)event->steps * 100,
                      event->phase == DSCM_PHASE_ABDUCT ? "abduction" : "prediction");
    return true;
}

static dscm_intervention do_label(const demo *d, size_t label)
{
    return (dscm_intervention){
        .variable = d->variable, .value = (double)label, .scale = (double)NAN};
}

/* One sample of each label. */
static dscm_code draw_examples(demo *d, dscm_session *session, const dscm_progress *progress,
                               dscm_error *err)
{
    dscm_intervention acts[LABELS_MAX];
    dscm_query queries[LABELS_MAX];
    dscm_latent *latent = NULL;
    dscm_options options = dscm_options_defaults();
    for (size_t k = 0; k < d->labels; k++) {
        acts[k] = do_label(d, k);
        queries[k] = (dscm_query){.items = &acts[k], .count = 1};
    }
    d->drawn = true;
    dscm_options_draw(d->m.bundle, &options);
    dscm_code code = dscm_options_resolve(d->m.bundle, &options, err);
    if (code == DSCM_OK)
        code = dscm_latent_draw(session, &latent, d->labels, d->m.seed, 0, &options, err);
    if (code == DSCM_OK)
        code = dscm_predict(session, d->factual, latent, queries, &options, progress, err);
    dscm_latent_free(latent);
    return code;
}

static dscm_code find_examples(demo *d, dscm_session *session, const dscm_progress *progress,
                               dscm_error *err)
{
    char folder[4096];
    if (cli_find(folder, sizeof folder, "examples", d->m.info->name, d->m.data_dir, NULL) ==
        DSCM_OK)
        return read_examples(d, folder, err);
    return draw_examples(d, session, progress, err);
}

static dscm_code predict_all(demo *d, dscm_session *session, const dscm_latent *factual,
                             const dscm_progress *progress, dscm_error *err)
{
    size_t cells = d->labels * d->labels;
    dscm_latent *latent = NULL;
    size_t *rows = dscm_alloc(cells, sizeof *rows, "sheet", err);
    dscm_intervention *acts = dscm_alloc(cells, sizeof *acts, "sheet", err);
    dscm_query *queries = dscm_alloc(cells, sizeof *queries, "sheet", err);
    dscm_scale_result *found = dscm_alloc(cells, sizeof *found, "sheet", err);
    dscm_code code = rows && acts && queries && found ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t i = 0; code == DSCM_OK && i < cells; i++) {
        rows[i] = i / d->labels;
        acts[i] = do_label(d, i % d->labels);
        queries[i] = (dscm_query){.items = &acts[i], .count = 1};
    }
    if (code == DSCM_OK) code = dscm_latent_select(&latent, factual, rows, cells, err);
    if (code == DSCM_OK && d->m.auto_scale)
        code = dscm_predict_search(session, d->result, found, latent, queries, &d->m.options, NULL,
                                   progress, err);
    else if (code == DSCM_OK)
        code = dscm_predict(session, d->result, latent, queries, &d->m.options, progress, err);
    dscm_latent_free(latent);
    dscm_free(rows);
    dscm_free(acts);
    dscm_free(queries);
    dscm_free(found);
    return code;
}

static dscm_code write_sheet(const demo *d, dscm_error *err)
{
    size_t columns = d->labels + 1;
    const float **cells = dscm_alloc(d->labels * columns, sizeof *cells, "sheet", err);
    if (!cells) return DSCM_E_MEMORY;
    for (size_t row = 0; row < d->labels; row++) {
        cells[row * columns] = d->factual + row * d->size;
        for (size_t k = 0; k < d->labels; k++)
            cells[row * columns + 1 + k] = d->result + (row * d->labels + k) * d->size;
    }
    dscm_code code = cli_write_sheet(&d->m, d->out, cells, d->labels, columns, err);
    dscm_free(cells);
    return code;
}

static dscm_code run(demo *d, dscm_error *err)
{
    dscm_session *session = NULL;
    dscm_latent *latent = NULL;
    dscm_progress progress = {.on_step = show_step, .arg = d};
    d->variable = cli_scored_variable(&d->m);
    if (d->variable < 0)
        return dscm_fail(err, DSCM_E_INVALID,
                         "--model %s: the sheet needs an image with one categorical cause",
                         d->m.name);
    d->cause = &d->m.info->variables[d->variable];
    d->labels = d->cause->labels_count;
    if (d->labels > LABELS_MAX)
        return dscm_fail(err, DSCM_E_INVALID,
                         "--model %s: %s has %zu labels; a sheet shows at most %zu", d->m.name,
                         d->cause->name, d->labels, LABELS_MAX);
    d->size = cli_image_size(&d->m);
    d->factual = dscm_alloc(d->labels * d->size, sizeof *d->factual, "examples", err);
    d->result = dscm_alloc(d->labels * d->labels * d->size, sizeof *d->result, "sheet", err);
    dscm_code code = d->factual && d->result ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK)
        code = dscm_session_open(&session, d->m.bundle, d->m.batch, (int)d->m.threads, err);
    if (code == DSCM_OK) {
        cli_progress_start(&d->progress, "sheet", "%", 0);
        code = find_examples(d, session, &progress, err);
    }
    if (code == DSCM_OK)
        code = dscm_abduct(session, &latent, d->factual, d->labels, &d->m.options, &progress, err);
    if (code == DSCM_OK) code = predict_all(d, session, latent, &progress, err);
    if (code == DSCM_OK) cli_progress_end(&d->progress);
    if (code == DSCM_OK) code = write_sheet(d, err);
    if (code == DSCM_OK)
        printf("%s: %zu examples%s (first column), each under do(%s = %s … %s)\n", d->out,
               d->labels, d->drawn ? ", drawn by the model" : "", d->cause->name,
               d->cause->labels[0], d->cause->labels[d->labels - 1]);
    dscm_latent_free(latent);
    dscm_session_free(session);
    dscm_free(d->factual);
    dscm_free(d->result);
    return code;
}

int cmd_demo(int argc, char **argv)
{
    demo d = {.m = CLI_MODEL_DEFAULTS, .out = "demo.png"};
    option_list rest = {.count = 0};
    const cli_option options[] = {
        {"out", OPT_TEXT, &d.out, 0, 0, "FILE.png", "the sheet (demo.png; also -o)"},
        CLI_MODEL_OPTIONS(d.m),
        {.name = NULL}};
    int exit_code = cli_parse(argc, argv, "demo [--out SHEET.png]", options, &rest);
    if (exit_code >= 0) return exit_code;
    if (rest.count) return cli_usage(argv[0], "\"%s\": takes options only", rest.items[0]);
    dscm_error err = {0};
    dscm_code code = cli_check_output("out", d.out, true, &err);
    if (code == DSCM_OK) code = cli_check_picture("out", d.out, &err);
    if (code == DSCM_OK) code = cli_model_open(&d.m, &err);
    if (code == DSCM_OK) code = run(&d, &err);
    cli_model_close(&d.m);
    return code == DSCM_OK ? EXIT_DONE : cli_fail(argv[0], &err);
}
