/* measured.json: what an evaluation says about the model at its settings, for its manifest. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/json_file.h"
#include "cli/report.h"
#include "core/base/memory.h"
#include "core/io/file.h"
#include "core/io/json.h"

enum { PERCENTILES = 101 };

static double mean_of(const eval_method *r, dscm_record_column column)
{
    double sum = 0;
    for (size_t i = 0; i < r->count; i++) sum += r->rows[i].values[column];
    return sum / (double)r->count;
}

/* What is measured over the results of one target, where any target has two. */
static dscm_code add_identity(json_t *quality, const eval_method *r, dscm_error *err)
{
    dscm_interval rank;
    dscm_code code = report_rank_interval(r, &rank, err);
    if (code != DSCM_OK || !rank.count) return code;
    json_object_set_new(quality, "diversity_255", json_real(r->diversity));
    json_object_set_new(quality, "identity_rank", json_real(rank.mean));
    return DSCM_OK;
}

static json_t *make_quality(const evaluation *e, const eval_method *r)
{
    static const struct {
        const char *name;
        dscm_record_column column;
    } figures[] = {{"valid", DSCM_COL_GUIDE},
                   {"oracle_valid", DSCM_COL_ORACLE},
                   {"oracle_valid_denoised", DSCM_COL_ORACLE_DENOISED},
                   {"l1_255", DSCM_COL_L1},
                   {"l2_255", DSCM_COL_L2},
                   {"changed_values_share", DSCM_COL_CHANGED_05},
                   {"cld", DSCM_COL_CLD},
                   {"cld_minimality", DSCM_COL_MINIMALITY},
                   {"cld_departure", DSCM_COL_DEPARTURE},
                   {"im1", DSCM_COL_IM1},
                   {"im2", DSCM_COL_IM2},
                   {"passes", DSCM_COL_PASSES},
                   {"gradients", DSCM_COL_GRADIENTS}};
    const dscm_options *o = &r->setting.options;
    char data[256];
    snprintf(data, sizeof data,
             "%s%zu images of split \"%s\", one random other class each (seed %llu)",
             r->count < e->items.count ? "the first " : "", r->count, e->split,
             (unsigned long long)e->m.seed);
    json_t *quality = json_pack("{s:s, s:s, s:I, s:f}", "data", data, "sampler", o->sampler,
                                "steps", (json_int_t)o->steps, "ratio", o->ratio);
    json_object_set_new(quality, "scale",
                        r->setting.search ? json_string("auto") : json_real(o->scale));
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        double mean = mean_of(r, figures[i].column);
        if (!isnan(mean)) json_object_set_new(quality, figures[i].name, json_real(mean));
    }
    return quality;
}

static json_t *make_percentiles(const eval_method *r, dscm_record_column column, double *values)
{
    size_t n = report_accepted(r, column, values);
    json_t *list = json_array();
    for (size_t i = 0; n && i < PERCENTILES; i++)
        json_array_append_new(
            list, json_real(dscm_quantile_sorted(values, n, (double)i / (PERCENTILES - 1))));
    return list;
}

dscm_code report_measured(const evaluation *e, dscm_error *err)
{
    static const struct {
        const char *name;
        dscm_record_column column;
    } scores[] = {{"cld", DSCM_COL_CLD}, {"im1", DSCM_COL_IM1}, {"im2", DSCM_COL_IM2}};
    const eval_method *r = report_ours(e);
    char path[4096];
    if (!r) return DSCM_OK;
    double *values = dscm_alloc(r->count, sizeof *values, "measured.json", err);
    if (!values) return DSCM_E_MEMORY;
    json_t *manifest = dscm_json_read(e->m.info->manifest, strlen(e->m.info->manifest), 0, NULL);
    json_t *measured = json_object(), *accepted = json_object();
    /* What was chosen before stays: the file says all that a bundle is told. */
    json_t *calibration = json_object_get(manifest, "calibration"),
           *scale = json_object_get(json_object_get(manifest, "defaults"), "scale");
    if (calibration) json_object_set(measured, "calibration", calibration);
    if (scale) json_object_set(measured, "scale", scale);
    json_decref(manifest);
    for (size_t i = 0; i < sizeof scores / sizeof scores[0]; i++) {
        json_t *list = make_percentiles(r, scores[i].column, values);
        if (json_array_size(list))
            json_object_set_new(accepted, scores[i].name, list);
        else
            json_decref(list);
    }
    json_t *quality = make_quality(e, r);
    dscm_code code = add_identity(quality, r, err);
    json_object_set_new(measured, "quality", quality);
    json_object_set_new(measured, "accepted", accepted);
    dscm_free(values);
    if (code != DSCM_OK) {
        json_decref(measured);
        return code;
    }
    snprintf(path, sizeof path, "%s/measured.json", e->report_dir);
    return cli_json_write(path, measured, JSON_INDENT(1) | JSON_REAL_PRECISION(6), err);
}
