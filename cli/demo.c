/* diffscm demo: a sheet of examples under every intervention.
 *
 * One row per label: the example, then what it would have looked like under do(label) for each
 * label in turn. One abduction of all examples serves every column. A model without examples draws
 * them itself. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/watch.h"
#include "core/base/memory.h"
#include "core/data/idx.h"

#define LABELS_MAX ((size_t)32) /* rows and columns of a sheet that still shows something */

typedef struct demo {
    cli_model m;
    const char *out;
    const dscm_variable *cause; /* the categorical parent of the image */
    int variable;
    size_t labels, size; /* size: floats of an image */
    float *factual;      /* (labels, size) */
    uint8_t *pixels;     /* the same in 8 bits */
    bool drawn;          /* the examples, by the model */
    dscm_target targets[LABELS_MAX];
    dscm_run_item rows[LABELS_MAX];
    cli_watch watch;
} demo;

/* The examples are folder/<label>.png. */
static dscm_code read_examples(demo *d, const char *folder, dscm_error *err)
{
    char path[4400];
    dscm_code code = DSCM_OK;
    for (size_t k = 0; code == DSCM_OK && k < d->labels; k++) {
        float *image = NULL;
        snprintf(path, sizeof path, "%s/%s.png", folder, d->cause->labels[k]);
        code = cli_read_image(&d->m, path, false, &image, NULL, err);
        for (size_t i = 0; code == DSCM_OK && i < d->size; i++)
            d->factual[k * d->size + i] = image[i];
        dscm_free(image);
    }
    return code;
}

/* One sample of each label, each of a random stream of its own. */
static dscm_code draw_examples(demo *d, dscm_session *session, dscm_error *err)
{
    dscm_options options = dscm_options_defaults();
    dscm_options_draw(d->m.bundle, &options);
    d->drawn = true;
    dscm_code code = dscm_options_resolve(d->m.bundle, &options, err);
    if (code != DSCM_OK) return code;
    dscm_run_item item = {.ask = {.work = DSCM_WORK_SAMPLE,
                                  .targets = d->targets,
                                  .targets_count = d->labels,
                                  .options = options,
                                  .seed = d->m.seed,
                                  .count = d->labels}};
    code = dscm_run(session, d->m.bundle, &item, 1, &d->watch.progress, err);
    for (size_t k = 0; code == DSCM_OK && k < d->labels; k++)
        memcpy(d->factual + k * d->size, item.result->counterfactuals[k].image,
               d->size * sizeof *d->factual);
    dscm_result_free(item.result);
    return code;
}

static dscm_code find_examples(demo *d, dscm_session *session, dscm_error *err)
{
    char folder[4096];
    if (cli_find(folder, sizeof folder, "examples", d->m.info->name, d->m.data_dir, NULL) ==
        DSCM_OK)
        return read_examples(d, folder, err);
    d->watch.count = d->labels;
    d->watch.total = 2 * d->labels; /* the other half is the sheet */
    return draw_examples(d, session, err);
}

/* All rows as one batch: an abduction of all examples, every column of each. */
static dscm_code predict_all(demo *d, dscm_session *session, dscm_error *err)
{
    for (size_t k = 0; k < d->labels; k++)
        d->rows[k].ask = (dscm_case){.pixels = d->pixels + k * d->size,
                                     .targets = d->targets,
                                     .targets_count = d->labels,
                                     .options = d->m.options,
                                     .auto_scale = d->m.auto_scale,
                                     .wanted = DSCM_WANT_COUNTERFACTUAL};
    d->watch.first = d->drawn ? d->labels : 0;
    d->watch.count = d->labels;
    return dscm_run(session, d->m.bundle, d->rows, d->labels, &d->watch.progress, err);
}

static dscm_code write_sheet(const demo *d, dscm_error *err)
{
    size_t columns = d->labels + 1;
    const float **cells = dscm_alloc(d->labels * columns, sizeof *cells, "sheet", err);
    if (!cells) return DSCM_E_MEMORY;
    for (size_t row = 0; row < d->labels; row++) {
        cells[row * columns] = d->factual + row * d->size;
        for (size_t k = 0; k < d->labels; k++)
            cells[row * columns + 1 + k] = d->rows[row].result->counterfactuals[k].image;
    }
    dscm_code code = cli_write_sheet(&d->m, d->out, cells, d->labels, columns, err);
    dscm_free(cells);
    return code;
}

static dscm_code run(demo *d, dscm_error *err)
{
    dscm_session *session = NULL;
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
    d->pixels = dscm_alloc(d->labels * d->size, 1, "examples", err);
    for (size_t k = 0; k < d->labels; k++)
        d->targets[k] = (dscm_target){
            .items = {{.variable = d->variable, .value = (double)k, .scale = (double)NAN}},
            .count = 1};
    dscm_code code = d->factual && d->pixels ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK)
        code = dscm_session_open(&session, d->m.bundle, d->m.batch, (int)d->m.threads, err);
    cli_watch_start(&d->watch, &d->m, "demo", NULL);
    if (code == DSCM_OK) code = find_examples(d, session, err);
    if (code == DSCM_OK) {
        dscm_pixels_from_float(d->pixels, d->factual, d->labels * d->size);
        code = predict_all(d, session, err);
    }
    cli_watch_end(&d->watch);
    if (code == DSCM_OK) code = write_sheet(d, err);
    if (code == DSCM_OK)
        printf("%s: %zu examples%s (first column), each under do(%s = %s … %s)\n", d->out,
               d->labels, d->drawn ? ", drawn by the model" : "", d->cause->name,
               d->cause->labels[0], d->cause->labels[d->labels - 1]);
    for (size_t k = 0; k < d->labels; k++) {
        dscm_result_free(d->rows[k].result);
        dscm_abduction_free(d->rows[k].abduction);
    }
    dscm_session_free(session);
    dscm_free(d->factual);
    dscm_free(d->pixels);
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
