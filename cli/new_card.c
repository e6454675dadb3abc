/* What `diffscm new` tells of a finished model: measured.json for its manifest, card.md beside it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

dscm_code new_write_measured(const new_plan *p, const new_figures *f, const char *path,
                             dscm_error *err)
{
    const new_stage *score = &p->stages[p->stages_count - 1];
    char data[160];
    snprintf(data, sizeof data,
             "%zu images that trained no network and chose nothing, one other class each",
             f->count);
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
    json_object_set_new(quality, "poor", json_boolean(f->poor[0]));
    if (f->poor[0]) {
        json_object_set_new(quality, "poor_because", json_string(f->poor));
        json_object_set_new(quality, "would_help", json_string(f->help));
    }
    json_t *root =
        json_pack("{s:[{s:s, s:I, s:f}], s:s, s:o}", "calibration", "sampler", f->sampler, "steps",
                  (json_int_t)f->steps, "scale", f->scale, "scale", "auto", "quality", quality);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    dscm_code code =
        text ? write_text(path, text, err) : dscm_fail(err, DSCM_E_MEMORY, "out of memory");
    free(text);
    json_decref(root);
    return code;
}

static void figure(char *out, size_t size, double v, const char *format)
{
    if (isfinite(v))
        snprintf(out, size, format, v);
    else
        snprintf(out, size, "not measured");
}

dscm_code new_write_card(const new_plan *p, const new_figures *f, const char *path, dscm_error *err)
{
    char text[6000], precision[24], real[24], cld[24], im1[24];
    figure(precision, sizeof precision, f->precision, "%.2f");
    figure(real, sizeof real, f->real_precision, "%.2f");
    figure(cld, sizeof cld, f->cld, "%.3f");
    figure(im1, sizeof im1, f->im1, "%.3f");
    int length = snprintf(
        text, sizeof text,
        "# %s\n\nCounterfactual images of %zux%zu, %s, with the variable `%s` (%zu classes), made "
        "by `diffscm new`.\n\n"
        "- **Data**: %zu images, SHA-256 of their pixels %s. M, %zu images, trained the model and "
        "its acceptance nets; P, %zu, the panel that judges it; S, %zu, trained nothing.\n"
        "- **Training**: effort %s; %zu images for the score network.\n"
        "- **Default**: sampler %s, %zu steps, a scale per image around %g (chosen by %zu images "
        "of "
        "S and the acceptance nets).\n\n"
        "Measured on %zu other images of S, one other class each, by the panel:\n\n"
        "| | counterfactuals | real images |\n|---|--:|--:|\n"
        "| called their class | %.3f | %.3f |\n"
        "| precision (look like real images of their class) | %s | %s |\n"
        "| CLD | %s | |\n| IM1 | %s | |\n"
        "| mean change, of 255 | %.1f | |\n| mean change by do(own value), of 255 | %.2f | |\n\n"
        "%s%s%s%s%s"
        "Licence: not stated. Who makes a model public should state one that the pictures "
        "allow.\n",
        p->name, p->size, p->size, p->channels == 1 ? "grey" : "colour", p->variable, p->classes,
        p->count, p->data_sha256, p->parts[0], p->parts[2], p->parts[1], p->effort,
        p->stages[p->stages_count - 1].samples, f->sampler, f->steps, f->scale, f->chosen_by,
        f->count, f->valid, f->accuracy, precision, real, cld, im1, f->l1, f->null_l1,
        f->poor[0] ? "**Poor**: " : "", f->poor, f->poor[0] ? ". What would help: " : "", f->help,
        f->poor[0] ? ".\n\n" : "");
    if (length < 0 || (size_t)length >= sizeof text)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: the names are too long for a card", path);
    return write_text(path, text, err);
}
