/* What `diffscm new` tells of a finished model: measured.json for its manifest, card.md beside it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/json_file.h"
#include "cli/new.h"
#include "core/io/file.h"

static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static dscm_code write_text(const char *path, const char *text, dscm_error *err)
{
    const dscm_piece piece = {text, strlen(text)};
    return dscm_file_replace(path, &piece, 1, err);
}

/* {"thickness": {"mean_error": .2, "within_tolerance": .9}}: of numbers that were asked for. */
static json_t *numbers_of(const new_figures *f)
{
    json_t *o = json_object();
    for (size_t i = 0; i < f->numbers_count; i++)
        json_object_set_new(o, f->numbers[i].name,
                            json_pack("{s:f, s:f}", "mean_error", f->numbers[i].error,
                                      "within_tolerance", f->numbers[i].met));
    return o;
}

dscm_code new_write_measured(const new_plan *p, const new_figures *f, const char *path,
                             dscm_error *err)
{
    const new_stage *score = &p->stages[p->stages_count - 1];
    char data[160];
    if (f->count)
        snprintf(data, sizeof data,
                 "%zu images that trained no network and chose nothing, one other value each",
                 f->count);
    else
        snprintf(data, sizeof data, "none: it was not measured");
    json_t *quality =
        json_pack("{s:s, s:s, s:I, s:f, s:I}", "data", data, "sampler", f->sampler, "steps",
                  (json_int_t)f->steps, "scale", f->scale, "samples", (json_int_t)score->samples);
    const struct {
        const char *key;
        double value;
    } figures[] = {{"panel_accuracy", f->accuracy},
                   {"panel_validity", f->valid},
                   {"precision", f->precision},
                   {"precision_of_real_images", f->real_precision},
                   {"cld", f->cld},
                   {"im1", f->im1},
                   {"l1_255", f->l1},
                   {"null_l1_255", f->null_l1}};
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++)
        json_object_set_new(quality, figures[i].key, number(figures[i].value));
    if (f->numbers_count) json_object_set_new(quality, "numbers", numbers_of(f));
    if (p->skip) json_object_set_new(quality, "left_out", json_string(new_skip_text(p->skip)));
    if (f->count) json_object_set_new(quality, "poor", json_boolean(f->poor[0]));
    if (f->poor[0]) {
        json_object_set_new(quality, "poor_because", json_string(f->poor));
        json_object_set_new(quality, "would_help", json_string(f->help));
    }
    json_t *root =
        json_pack("{s:[{s:s, s:I, s:f}], s:s, s:o}", "calibration", "sampler", f->sampler, "steps",
                  (json_int_t)f->steps, "scale", f->scale, "scale", "auto", "quality", quality);
    char *text = NULL;
    dscm_code code = cli_json_text(&text, root, JSON_INDENT(1) | JSON_REAL_PRECISION(6), path, err);
    if (code == DSCM_OK) code = write_text(path, text, err);
    free(text);
    return code;
}

/* ---- the card ---- */
typedef struct card {
    char text[16384];
    size_t at;
} card;

static void put(card *c, const char *format, ...) DSCM_PRINTF(2, 3);
static void put(card *c, const char *format, ...)
{
    va_list args;
    size_t left = sizeof c->text - c->at;
    va_start(args, format);
    int n = vsnprintf(c->text + c->at, left, format, args);
    va_end(args);
    c->at += n < 0 || (size_t)n >= left ? left - 1 : (size_t)n;
}

static void put_figure(card *c, int digits, double v)
{
    if (isfinite(v))
        put(c, "%.*f", digits, v);
    else
        put(c, "–");
}

static void put_training(card *c, const new_plan *p, const new_figures *f)
{
    put(c, "# %s\n\nCounterfactual images of %zux%zu, %s, ", p->name, p->size, p->size,
        p->channels == 1 ? "grey" : "colour");
    if (p->fit)
        put(c, "with the graph `%s`", p->graph);
    else
        put(c, "with the variable `%s` (%zu classes)", p->variable, p->classes);
    put(c,
        ", made by `diffscm new`.\n\n"
        "- **Data**: %zu images, SHA-256 of their pixels %s. M, %zu images, trained the model%s",
        p->count, p->data_sha256, p->parts[0], p->classes ? " and its acceptance nets" : "");
    if (p->classes && !(p->skip & NEW_SKIP_JUDGES))
        put(c, "; P, %zu, the panel that judges it", p->parts[2]);
    put(c,
        "; S, %zu, trained nothing.\n- **Training**: effort %s; %zu images for the score "
        "network.\n",
        p->parts[1], p->effort, p->stages[p->stages_count - 1].samples);
    put(c, "- **Default**: sampler %s, %zu steps, a scale per image around %g", f->sampler,
        f->steps, f->scale);
    if (f->count && p->classes)
        put(c, " (chosen by %zu images of S and the acceptance nets)", f->chosen_by);
    put(c, ".\n");
    if (p->skip) put(c, "- **Left out**: %s.\n", new_skip_text(p->skip));
    put(c, "\n");
}

static void put_row(card *c, const char *name, int digits, double result, double real)
{
    put(c, "| %s | ", name);
    put_figure(c, digits, result);
    put(c, " | ");
    if (isfinite(real)) put_figure(c, digits, real);
    put(c, " |\n");
}

static void put_measured(card *c, const new_plan *p, const new_figures *f)
{
    const double none = (double)NAN;
    if (!f->count) {
        put(c, "Not measured: nobody knows how good its results are.\n\n");
        return;
    }
    put(c, "Measured on %zu other images of S, one other value each%s:\n\n", f->count,
        isfinite(f->accuracy) ? ", by the panel" : "");
    put(c, "| | counterfactuals | real images |\n|---|--:|--:|\n");
    if (isfinite(f->accuracy)) {
        put_row(c, "called their class", 3, f->valid, f->accuracy);
        put_row(c, "precision (look like real images of their class)", 2, f->precision,
                f->real_precision);
        put_row(c, "CLD", 3, f->cld, none);
        put_row(c, "IM1", 3, f->im1, none);
    }
    if (isfinite(f->l1)) put_row(c, "mean change, of 255", 1, f->l1, none);
    put_row(c, "mean change by do(own value), of 255", 2, f->null_l1, none);
    put(c, "\n");
    if (f->numbers_count)
        put(c, "Numbers, each set to that of another image, read in the results by the model's own "
               "predictor:\n\n| | mean error | of its range | within tolerance |\n"
               "|---|--:|--:|--:|\n");
    for (size_t i = 0; i < f->numbers_count; i++)
        put(c, "| %s | %.3g | %.3f | %.2f |\n", f->numbers[i].name, f->numbers[i].error,
            f->numbers[i].error / f->numbers[i].range, f->numbers[i].met);
    if (f->numbers_count) put(c, "\n");
    if (p->classes && !isfinite(f->accuracy))
        put(c, "No panel was trained: nobody who took no part in making the model judged it.\n\n");
    if (f->poor[0]) put(c, "**Poor**: %s. What would help: %s.\n\n", f->poor, f->help);
}

dscm_code new_write_card(const new_plan *p, const new_figures *f, const char *path, dscm_error *err)
{
    card c = {.at = 0};
    put_training(&c, p, f);
    put_measured(&c, p, f);
    put(&c, "Licence: not stated. Who makes a model public should state one that the pictures "
            "allow.\n");
    if (c.at >= sizeof c.text - 1)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: the names are too long for a card", path);
    return write_text(path, c.text, err);
}
