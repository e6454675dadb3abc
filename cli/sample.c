/* diffscm sample: images drawn from a model, as one sheet or an IDX file. */
#include <math.h>
#include <string.h>

#include "cli/watch.h"
#include "core/base/memory.h"
#include "core/data/idx.h"

typedef struct sampling {
    cli_model *m;
    dscm_session *session;
    dscm_target target; /* nothing for unguided samples */
    uint8_t *pixels;    /* (count, size) */
    size_t count;
} sampling;

/* Draws one batch at a time: a latent of the sampler `residual` is many times the image's size.
 * Every image has a random stream of its own, so the batches change nothing. */
static dscm_code draw_all(sampling *s, cli_watch *watch, dscm_error *err)
{
    const cli_model *m = s->m;
    size_t size = cli_image_size(m), n;
    for (size_t done = 0; done < s->count; done += n) {
        n = s->count - done < m->batch ? s->count - done : m->batch;
        dscm_run_item item = {.ask = {.work = DSCM_WORK_SAMPLE,
                                      .targets = &s->target,
                                      .targets_count = s->target.count > 0,
                                      .options = m->options,
                                      .seed = m->seed,
                                      .first = done,
                                      .count = n}};
        watch->first = done;
        watch->count = n;
        watch->total = s->count;
        dscm_code code = dscm_run(s->session, m->bundle, &item, 1, &watch->progress, err);
        for (size_t i = 0; code == DSCM_OK && i < n; i++)
            dscm_pixels_from_float(s->pixels + (done + i) * size,
                                   item.result->counterfactuals[i].image, size);
        dscm_result_free(item.result);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

static dscm_code write_sheet(const sampling *s, const char *path, dscm_error *err)
{
    size_t size = cli_image_size(s->m), columns = (size_t)ceil(sqrt((double)s->count));
    size_t rows = (s->count + columns - 1) / columns;
    const float **cells = dscm_alloc(rows * columns, sizeof *cells, "sheet", err);
    float *images = dscm_alloc(s->count * size, sizeof *images, "sheet", err);
    dscm_code code = cells && images ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) {
        dscm_pixels_to_float(images, s->pixels, s->count * size);
        for (size_t i = 0; i < s->count; i++) cells[i] = images + i * size;
        code = s->count == 1 ? cli_write_image(s->m, path, images, err)
                             : cli_write_sheet(s->m, path, cells, rows, columns, err);
    }
    dscm_free(cells);
    dscm_free(images);
    return code;
}

static dscm_code write_result(const sampling *s, const char *path, dscm_error *err)
{
    const dscm_variable *v = &s->m->info->variables[s->m->info->image];
    size_t length = strlen(path);
    if (strcmp(path, "-") == 0 || (length > 4 && strcmp(path + length - 4, ".png") == 0))
        return write_sheet(s, path, err);
    dscm_idx idx = {.dims = {s->count, v->h, v->w, v->c},
                    .ndim = v->c == 1 ? 3 : 4,
                    .count = s->count * cli_image_size(s->m),
                    .data = s->pixels};
    return dscm_idx_write(&idx, path, err);
}

static dscm_code run(cli_model *m, const char *out, size_t count, const option_list *dos,
                     dscm_error *err)
{
    if (m->batch > count) m->batch = count;
    sampling s = {.m = m, .count = count, .target = {.count = dos->count}};
    cli_watch watch;
    s.pixels = dscm_alloc(count * cli_image_size(m), 1, "samples", err);
    dscm_code code = s.pixels ? DSCM_OK : DSCM_E_MEMORY;
    if (code == DSCM_OK) code = cli_parse_dos(m, dos, s.target.items, err);
    cli_watch_start(&watch, m, "sample", NULL);
    if (code == DSCM_OK)
        code = dscm_session_open(&s.session, m->bundle, m->batch, (int)m->threads, err);
    if (code == DSCM_OK) code = draw_all(&s, &watch, err);
    cli_watch_end(&watch);
    if (code == DSCM_OK) code = write_result(&s, out, err);
    dscm_session_free(s.session);
    dscm_free(s.pixels);
    return code;
}

int cmd_sample(int argc, char **argv)
{
    cli_model m = CLI_MODEL_DEFAULTS;
    m.draws = true;
    option_list dos = {.count = 0}, rest = {.count = 0};
    const char *out = NULL;
    size_t count = 25;
    const cli_option options[] = {
        {"out", OPT_TEXT, &out, 0, 0, "FILE",
         "NAME.png or -: a PNG sheet; other names: an IDX file (also -o)"},
        {"count", OPT_SIZE, &count, 1, 100000, "N", "how many (25)"},
        {"do", OPT_LIST, &dos, 0, 0, "VAR=VALUE", "guide the samples"},
        CLI_MODEL_OPTIONS(m),
        {.name = NULL}};
    int exit_code = cli_parse(argc, argv, "sample --out SHEET.png [--do digit=3]", options, &rest);
    if (exit_code >= 0) return exit_code;
    if (!out || rest.count)
        return cli_usage(argv[0], "--out (-o) is needed, and nothing but options, as in: "
                                  "diffscm sample -o samples.png --do digit=3");
    if (m.scale_text && strcmp(m.scale_text, "auto") == 0)
        return cli_usage(argv[0], "--scale auto: must be a number in 0..1000 or calibrated; the "
                                  "search is for counterfactuals");
    dscm_error err = {0};
    dscm_code code = cli_check_output("out", out, true, &err);
    if (code == DSCM_OK) code = cli_check_picture("out", out, &err);
    if (code == DSCM_OK) code = cli_model_open(&m, &err);
    if (code == DSCM_OK) code = run(&m, out, count, &dos, &err);
    cli_model_close(&m);
    return code == DSCM_OK ? EXIT_DONE : cli_fail(argv[0], &err);
}
