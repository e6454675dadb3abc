/* diffscm evaluate --noise: what the abducted noise holds, by sampler and number of steps. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/evaluate.h"
#include "cli/json_file.h"
#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/eval/noise.h"
#include "core/io/text_stream.h"

static const size_t steps[] = {5, 10, 20, 50};
enum { STEPS = sizeof steps / sizeof *steps, SETTINGS_MAX = 16 * STEPS };

typedef struct noise_run {
    evaluation *e;
    dscm_noise_data data;
    dscm_session *sessions[EVAL_WORKERS_MAX];
    dscm_options options[SETTINGS_MAX];
    dscm_noise_row rows[SETTINGS_MAX];
    size_t settings;
} noise_run;

static dscm_code read_items(noise_run *r, dscm_error *err)
{
    evaluation *e = r->e;
    size_t size = cli_image_size(&e->m), variables = e->m.info->variables_count;
    size_t count = e->limit < e->items.count ? e->limit : e->items.count;
    float *images = dscm_alloc(count, size * sizeof *images, "images", err);
    double *factual = dscm_alloc(count * variables, sizeof *factual, "values", err);
    int *labels = dscm_alloc(count, sizeof *labels, "labels", err);
    r->data = (dscm_noise_data){.images = images,
                                .factual = factual,
                                .labels = labels,
                                .targets = e->targets,
                                .count = count,
                                .variable = e->data.variable};
    if (!images || !factual || !labels) return DSCM_E_MEMORY;
    if (e->items.h * e->items.w * e->items.c != size)
        return dscm_fail(err, DSCM_E_MISMATCH, "%s: images of %zux%zux%zu are not the model's",
                         e->split, e->items.w, e->items.h, e->items.c);
    dscm_pixels_to_float(images, e->items.pixels, count * size);
    for (size_t i = 0; i < count; i++) {
        labels[i] = e->items.labels[i];
        for (size_t v = 0; v < variables; v++) factual[i * variables + v] = (double)NAN;
        factual[i * variables + (size_t)e->data.variable] = labels[i];
    }
    return DSCM_OK;
}

static void run_setting(void *arg, size_t index, int worker)
{
    noise_run *r = arg;
    evaluation *e = r->e;
    if (e->errors[worker].code != DSCM_OK) return;
    dscm_code code = dscm_noise_measure(&r->rows[index], r->sessions[worker], e->m.bundle, &r->data,
                                        &r->options[index], &e->errors[worker]);
    (void)code; /* kept in the worker's error */
    e->finished++;
    if (worker == 0) cli_progress_show(&e->progress, (double)e->finished, NULL);
}

static void print_rows(FILE *f, const noise_run *r)
{
    const evaluation *e = r->e;
    fprintf(f, "%s %s, %zu images of %s, guidance scale 1\n\n", e->m.info->name, e->m.info->version,
            r->data.count, e->split);
    fputs("| sampler | steps | full L1 | noise-only L1 | mean | deviation | excess kurtosis | "
          "probe | follows the noise |\n|---|---|---|---|---|---|---|---|---|\n",
          f);
    for (size_t i = 0; i < r->settings; i++) {
        const dscm_noise_row *row = &r->rows[i];
        fprintf(f, "| %s | %zu |", r->options[i].sampler, r->options[i].steps);
        eval_cell(f, row->full, 2);
        eval_cell(f, row->noise_only, 2);
        eval_cell(f, row->mean, 3);
        eval_cell(f, row->deviation, 3);
        eval_cell(f, row->kurtosis, 2);
        eval_cell(f, row->probe, 3);
        eval_cell(f, row->follows, 3);
        fputc('\n', f);
    }
    fprintf(f, "\n`%s`\n", e->command);
}

static json_t *rows_json(const noise_run *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->settings; i++) {
        const dscm_noise_row *row = &r->rows[i];
        json_array_append_new(
            list,
            json_pack("{s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "sampler",
                      r->options[i].sampler, "steps", (json_int_t)r->options[i].steps, "full",
                      eval_number(row->full), "noise_only", eval_number(row->noise_only), "mean",
                      eval_number(row->mean), "deviation", eval_number(row->deviation), "kurtosis",
                      eval_number(row->kurtosis), "probe", eval_number(row->probe), "follows",
                      eval_number(row->follows)));
    }
    return json_pack("{s:s, s:s, s:I, s:s, s:o}", "model", r->e->m.info->name, "model_sha256",
                     r->e->m.info->sha256, "images", (json_int_t)r->data.count, "command",
                     r->e->command, "rows", list);
}

static dscm_code write_report(const noise_run *r, dscm_error *err)
{
    char *json = NULL;
    dscm_text_stream text = {0};
    dscm_code code = cli_json_text(&json, rows_json(r), JSON_INDENT(1) | JSON_REAL_PRECISION(6),
                                   "noise.json", err);
    if (code == DSCM_OK) code = dscm_text_stream_open(&text, "noise.md", err);
    if (code == DSCM_OK) {
        print_rows(text.file, r);
        code = dscm_text_stream_close(&text, "noise.md", err);
    }
    if (code == DSCM_OK) code = eval_write(r->e, "noise.json", json, strlen(json), err);
    if (code == DSCM_OK) code = eval_write(r->e, "noise.md", text.data, text.size, err);
    if (code == DSCM_OK) fputs(text.data, stdout);
    free(json);
    free(text.data);
    return code;
}

/* Its settings, one per number of steps. */
static dscm_code add_sampler(noise_run *r, const char *name, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < STEPS && r->settings < SETTINGS_MAX; i++) {
        dscm_options *o = &r->options[r->settings++];
        *o = r->e->m.options;
        o->sampler = name;
        o->steps = steps[i];
        o->scale = 1;
        code = dscm_options_resolve(r->e->m.bundle, o, err);
    }
    return code;
}

static dscm_code run_all(noise_run *r, dscm_error *err)
{
    evaluation *e = r->e;
    dscm_code code = dscm_team_open(&e->team, (int)e->m.threads, err);
    for (size_t i = 0; code == DSCM_OK && i < e->m.threads; i++)
        code = dscm_session_open(&r->sessions[i], e->m.bundle, e->m.batch, 1, err);
    for (size_t k = 0; code == DSCM_OK && dscm_sampler_name(k); k++)
        if (strcmp(dscm_sampler_name(k), "published") != 0) /* asks the network without parents */
            code = add_sampler(r, dscm_sampler_name(k), err);
    if (code != DSCM_OK) return code;
    e->finished = 0;
    cli_progress_start(&e->progress, "noise", "settings", (double)r->settings);
    dscm_team_run(e->team, r->settings, run_setting, r);
    cli_progress_end(&e->progress);
    return eval_first_error(e, err);
}

dscm_code eval_noise(evaluation *e, dscm_error *err)
{
    noise_run *r = dscm_alloc(1, sizeof *r, "evaluation", err);
    if (!r) return DSCM_E_MEMORY;
    r->e = e;
    dscm_code code = read_items(r, err);
    if (code == DSCM_OK) code = eval_make_folder(e, err);
    if (code == DSCM_OK) code = run_all(r, err);
    if (code == DSCM_OK) code = write_report(r, err);
    for (size_t i = 0; i < EVAL_WORKERS_MAX; i++) dscm_session_free(r->sessions[i]);
    dscm_free((void *)r->data.images);
    dscm_free((void *)r->data.factual);
    dscm_free((void *)r->data.labels);
    dscm_free(r);
    return code;
}
