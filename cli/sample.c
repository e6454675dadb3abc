/* diffscm sample: images drawn from a model, as one sheet or an IDX file. */
#include <math.h>
#include <string.h>

#include "cli/watch.h"
#include "core/base/memory.h"
#include "core/io/idx.h"

static dscm_code write_result(const cli_model *m, const char *path, const float *images,
                              size_t count, dscm_error *err)
{
    const dscm_variable *v = &m->info->variables[m->info->image];
    size_t size = cli_image_size(m), columns = (size_t)ceil(sqrt((double)count));
    size_t rows = (count + columns - 1) / columns, length = strlen(path);
    if (length > 4 && strcmp(path + length - 4, ".png") == 0) {
        const float **cells = dscm_alloc(rows * columns, sizeof *cells, "sheet", err);
        if (!cells) return DSCM_E_MEMORY;
        for (size_t i = 0; i < count; i++) cells[i] = images + i * size;
        dscm_code code = count == 1 ? cli_write_image(m, path, images, err)
                                    : cli_write_sheet(m, path, cells, rows, columns, err);
        dscm_free(cells);
        return code;
    }
    dscm_idx idx = {
        .dims = {count, v->h, v->w, v->c}, .ndim = v->c == 1 ? 3 : 4, .count = count * size};
    idx.data = dscm_alloc(idx.count, 1, "samples", err);
    if (!idx.data) return DSCM_E_MEMORY;
    dscm_pixels_from_float(idx.data, images, idx.count);
    dscm_code code = dscm_idx_write(&idx, path, err);
    dscm_free(idx.data);
    return code;
}

static dscm_code run(cli_model *m, const char *out, size_t count, const option_list *dos,
                     dscm_error *err)
{
    dscm_intervention acts[64];
    dscm_session *session = NULL;
    dscm_latent *latent = NULL;
    float *images = dscm_alloc(count * cli_image_size(m), sizeof *images, "samples", err);
    dscm_query *queries = dscm_alloc(count, sizeof *queries, "samples", err);
    dscm_code code = images && queries ? DSCM_OK : DSCM_E_MEMORY;
    for (size_t i = 0; code == DSCM_OK && i < dos->count; i++)
        code = cli_parse_do(m, dos->items[i], &acts[i], err);
    for (size_t i = 0; code == DSCM_OK && i < count; i++)
        queries[i] = (dscm_query){.items = acts, .count = dos->count};
    cli_watch watch;
    cli_watch_start(&watch, m, NULL);
    if (code == DSCM_OK)
        code = dscm_session_open(&session, m->bundle, m->batch, (int)m->threads, err);
    if (code == DSCM_OK)
        code = dscm_latent_draw(session, &latent, count, m->seed, 0, &m->options, err);
    if (code == DSCM_OK)
        code = dscm_predict(session, images, latent, queries, &m->options, &watch.progress, err);
    cli_watch_end(&watch);
    if (code == DSCM_OK) code = write_result(m, out, images, count, err);
    dscm_latent_free(latent);
    dscm_session_free(session);
    dscm_free(images);
    dscm_free(queries);
    return code;
}

int cmd_sample(int argc, char **argv)
{
    cli_model m = CLI_MODEL_DEFAULTS;
    option_list dos = {.count = 0}, rest = {.count = 0};
    const char *out = NULL;
    size_t count = 25;
    const cli_option options[] = {
        {"out", OPT_TEXT, &out, 0, 0, "FILE", "a PNG sheet, or an IDX file (also -o)"},
        {"count", OPT_SIZE, &count, 1, 100000, "N", "how many (25)"},
        {"do", OPT_LIST, &dos, 0, 0, "VAR=VALUE", "guide the samples"},
        CLI_MODEL_OPTIONS(m),
        {.name = NULL}};
    int exit_code = cli_parse(argc, argv, "sample --out SHEET.png [--do digit=3]", options, &rest);
    if (exit_code >= 0) return exit_code;
    if (!out || rest.count)
        return cli_usage(argv[0], "--out (-o) is needed, and nothing but options");
    dscm_error err = {0};
    dscm_code code = cli_check_output("out", out, &err);
    if (code == DSCM_OK) code = cli_model_open(&m, &err);
    if (code == DSCM_OK) code = run(&m, out, count, &dos, &err);
    cli_model_close(&m);
    return code == DSCM_OK ? EXIT_DONE : cli_fail(argv[0], &err);
}
