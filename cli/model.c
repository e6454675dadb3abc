#include "cli/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image.h"
#include "api/problem.h"
#include "core/base/cpu.h"
#include "core/base/memory.h"
#include "core/data/idx.h"
#include "core/io/file.h"

#define IMAGE_FILE_MAX ((size_t)64 << 20)
#define SIDE_MAX       8192

dscm_code cli_parse_scale(const char *text, double *scale, bool *search, dscm_error *err)
{
    char *end;
    *scale = (double)NAN;
    *search = strcmp(text, "auto") == 0;
    if (*search || strcmp(text, "calibrated") == 0) return DSCM_OK;
    *scale = strtod(text, &end);
    if (end == text || *end || !(*scale >= 0 && *scale <= 1000))
        return dscm_fail(err, DSCM_E_INVALID, "must be a number in 0..1000, auto or calibrated");
    return DSCM_OK;
}

static dscm_code parse_scale(cli_model *m, dscm_error *err)
{
    if (!m->scale_text) return DSCM_OK;
    dscm_code code = cli_parse_scale(m->scale_text, &m->options.scale, &m->auto_scale, err);
    if (code != DSCM_OK) dscm_error_prefix(err, "--scale %s", m->scale_text);
    return code;
}

/* "6G", "800M", "1.5G": bytes by powers of 1024. */
static dscm_code parse_memory(const cli_model *m, size_t *bytes, dscm_error *err)
{
    static const char units[] = "KMG";
    char *end;
    *bytes = 0;
    if (!m->memory_text) return DSCM_OK;
    double v = strtod(m->memory_text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (unit) v *= (double)((size_t)1024 << (10 * (unit - units)));
    if (end == m->memory_text || !unit || end[1] || !(v >= 1 << 20 && v <= 0x1p50))
        return dscm_fail(err, DSCM_E_INVALID,
                         "--memory %s: must be a number with the unit K, M or G, at least 1M",
                         m->memory_text);
    *bytes = (size_t)v;
    return DSCM_OK;
}

static void limit_threads(size_t *threads)
{
    size_t processors = (size_t)dscm_cpu_count();
    if (*threads > processors)
        fprintf(stderr, "note: --threads %zu: this process may use %zu processor%s; %zu thread%s\n",
                *threads, processors, processors > 1 ? "s" : "", processors,
                processors > 1 ? "s" : "");
    if (!*threads || *threads > processors) *threads = processors;
}

dscm_code cli_model_open(cli_model *m, dscm_error *err)
{
    char dir[4096];
    dscm_load_options load = dscm_load_defaults();
    m->options = dscm_options_defaults();
    m->options.sampler = m->sampler;
    m->options.steps = m->steps;
    m->options.ratio = m->ratio;
    if (m->min_change >= 0) m->options.min_change = m->min_change;
    if (m->dynamic && m->no_dynamic)
        return dscm_fail(err, DSCM_E_INVALID, "--dynamic and --no-dynamic exclude each other");
    if (m->dynamic || m->no_dynamic) m->options.dynamic = m->dynamic;
    dscm_code code =
        m->guidance ? dscm_guidance_parse(&m->options.guidance, m->guidance, err) : DSCM_OK;
    limit_threads(&m->threads);
    if (code == DSCM_OK) code = parse_scale(m, err);
    if (code == DSCM_OK) code = parse_memory(m, &load.memory, err);
    load.describe = m->describe;
    load.threads = (int)m->threads;
    if (code == DSCM_OK) code = cli_find(dir, sizeof dir, "models", m->name, m->data_dir, err);
    if (code == DSCM_OK) code = dscm_bundle_load(&m->bundle, dir, &load, err);
    if (code != DSCM_OK) return code;
    m->info = dscm_bundle_describe(m->bundle);
    if (!m->scale_text) m->auto_scale = dscm_options_search(m->bundle, &m->options);
    if (m->draws) dscm_options_draw(m->bundle, &m->options);
    return dscm_options_resolve(m->bundle, &m->options, err);
}

void cli_model_close(cli_model *m)
{
    dscm_bundle_free(m->bundle);
    m->bundle = NULL;
}

static dscm_code parse_do(const cli_model *m, const char *text, dscm_intervention *out,
                          dscm_error *err)
{
    char name[128];
    const char *equal = strchr(text, '=');
    if (!equal || equal == text || (size_t)(equal - text) >= sizeof name)
        return dscm_fail(err, DSCM_E_INVALID, "--do %s: must be VARIABLE=VALUE", text);
    memcpy(name, text, (size_t)(equal - text));
    name[equal - text] = '\0';
    *out = (dscm_intervention){.action = DSCM_DO, .scale = (double)NAN};
    dscm_code code = dscm_variable_find(m->bundle, name, &out->variable, err);
    if (code == DSCM_OK)
        code = dscm_value_parse(m->bundle, out->variable, equal + 1, &out->value, err);
    if (code != DSCM_OK) dscm_error_prefix(err, "--do %s", text);
    return code;
}

dscm_code cli_parse_dos(const cli_model *m, const option_list *dos, dscm_intervention *acts,
                        dscm_error *err)
{
    for (size_t i = 0; i < dos->count; i++) {
        if (i == CLI_DOS_MAX)
            return dscm_fail(err, DSCM_E_LIMIT, "--do: more than %d times", CLI_DOS_MAX);
        dscm_code code = parse_do(m, dos->items[i], &acts[i], err);
        if (code != DSCM_OK) return code;
        for (size_t k = 0; k < i; k++)
            if (acts[k].variable == acts[i].variable)
                return dscm_fail(err, DSCM_E_INVALID, "--do %s: %s is set twice", dos->items[i],
                                 m->info->variables[acts[i].variable].name);
    }
    return DSCM_OK;
}

size_t cli_image_size(const cli_model *m)
{
    const dscm_variable *v = &m->info->variables[m->info->image];
    return v->h * v->w * v->c;
}

int cli_scored_variable(const cli_model *m)
{
    for (size_t i = 0; i < m->info->variables_count; i++)
        if (m->info->variables[i].kind == DSCM_CATEGORICAL) return (int)i;
    return -1;
}

/* A picture from a pipe, to its end. */
static dscm_code read_stdin(unsigned char **bytes, size_t *size, dscm_error *err)
{
    *size = 0;
    *bytes = dscm_alloc(IMAGE_FILE_MAX + 1, 1, "standard input", err);
    if (!*bytes) return DSCM_E_MEMORY;
    *size = fread(*bytes, 1, IMAGE_FILE_MAX + 1, stdin);
    dscm_code code = DSCM_OK;
    if (ferror(stdin))
        code = dscm_fail(err, DSCM_E_IO, "standard input: reading failed");
    else if (*size > IMAGE_FILE_MAX)
        code = dscm_fail(err, DSCM_E_LIMIT, "standard input: more than the %zu bytes accepted",
                         (size_t)IMAGE_FILE_MAX);
    if (code == DSCM_OK) return DSCM_OK;
    dscm_free(*bytes);
    *bytes = NULL;
    return code;
}

dscm_code cli_read_image(const cli_model *m, const char *path, bool resize, float **out,
                         bool *inverted, dscm_error *err)
{
    bool paper = false;
    const dscm_variable *v = &m->info->variables[m->info->image];
    unsigned char *bytes = NULL;
    size_t size = 0;
    *out = NULL;
    dscm_code code = strcmp(path, "-") == 0
                         ? read_stdin(&bytes, &size, err)
                         : dscm_file_read(path, IMAGE_FILE_MAX, &bytes, &size, err);
    if (code != DSCM_OK) return code;
    dscm_problem problem = {.code = DSCM_PROBLEM_NONE};
    bool photo = v->c == 3; /* colour models take photographs of any size */
    uint8_t *pixels =
        dscm_image_decode(v, bytes, size, SIDE_MAX, resize || photo, "", &paper, &problem);
    dscm_free(bytes);
    if (!pixels) {
        const char *hint = "";
        if (problem.code == DSCM_PROBLEM_IMAGE_SIZE) { /* it speaks of a request's field */
            char *field = strstr(problem.detail, ", and resize");
            if (field) *field = 0;
            hint = "; --resize fits it to the model";
        }
        return dscm_fail(err, DSCM_E_FORMAT, "%s: %s%s", path, problem.detail, hint);
    }
    *out = dscm_alloc(cli_image_size(m), sizeof **out, path, err);
    if (*out) dscm_pixels_to_float(*out, pixels, cli_image_size(m));
    if (paper) fprintf(stderr, "%s: dark ink on light paper: inverted\n", path);
    if (inverted) *inverted = paper;
    free(pixels);
    return *out ? DSCM_OK : DSCM_E_MEMORY;
}

static dscm_code write_pixels(const char *path, const uint8_t *pixels, size_t h, size_t w, size_t c,
                              dscm_error *err)
{
    uint8_t *png = NULL;
    size_t size = 0;
    dscm_code code = dscm_image_encode(&png, &size, pixels, h, w, c, err);
    if (code != DSCM_OK) return code;
    const dscm_piece piece = {png, size};
    if (strcmp(path, "-") == 0)
        fwrite(png, 1, size, stdout); /* main() looks whether it arrived */
    else
        code = dscm_file_replace(path, &piece, 1, err);
    free(png);
    return code;
}

dscm_code cli_write_image(const cli_model *m, const char *path, const float *image, dscm_error *err)
{
    const float *const one[] = {image};
    const dscm_variable *v = &m->info->variables[m->info->image];
    uint8_t *pixels = dscm_alloc(cli_image_size(m), 1, path, err);
    if (!pixels) return DSCM_E_MEMORY;
    dscm_pixels_from_float(pixels, one[0], cli_image_size(m));
    dscm_code code = write_pixels(path, pixels, v->h, v->w, v->c, err);
    dscm_free(pixels);
    return code;
}

dscm_code cli_write_sheet(const cli_model *m, const char *path, const float *const *images,
                          size_t rows, size_t columns, dscm_error *err)
{
    enum { ZOOM = 2, GAP = 4 };
    const dscm_variable *v = &m->info->variables[m->info->image];
    size_t cell_h = v->h * ZOOM + GAP, cell_w = v->w * ZOOM + GAP;
    size_t h = rows * cell_h + GAP, w = columns * cell_w + GAP;
    uint8_t *sheet = dscm_alloc(h * w * v->c, 1, path, err),
            *one = dscm_alloc(cli_image_size(m), 1, path, err);
    dscm_code code = DSCM_E_MEMORY;
    if (sheet && one) {
        memset(sheet, 255, h * w * v->c);
        for (size_t i = 0; i < rows * columns; i++) {
            if (!images[i]) continue;
            size_t top = i / columns * cell_h + GAP, left = i % columns * cell_w + GAP;
            dscm_pixels_from_float(one, images[i], cli_image_size(m));
            for (size_t p = 0; p < v->h * ZOOM * v->w * ZOOM; p++) {
                size_t y = p / (v->w * ZOOM), x = p % (v->w * ZOOM);
                memcpy(sheet + ((top + y) * w + left + x) * v->c,
                       one + (y / ZOOM * v->w + x / ZOOM) * v->c, v->c);
            }
        }
        code = write_pixels(path, sheet, h, w, v->c, err);
    }
    dscm_free(sheet);
    dscm_free(one);
    return code;
}
