/* Results as JSON and as headers. Keys are inserted in a fixed order and reals have nine digits, so
 * that the same result gives the same bytes. */
#include "api/reply.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/base64.h"
#include "api/json.h"
#include "api/reply_internal.h"
#include "core/base/version.h"

json_t *reply_image(const uint8_t *png, size_t size)
{
    char *text = malloc(dscm_base64_encoded_size(size) + 1);
    if (!text) {
        dscm_json_lack();
        return NULL;
    }
    dscm_base64_encode(text, png, size);
    json_t *value = json_string(text);
    free(text);
    return value;
}

json_t *reply_model_brief(const dscm_bundle_info *info)
{
    return json_pack("{s:s, s:s, s:s}", "name", info->name, "version", info->version, "sha256",
                     info->sha256);
}

/* Adds the picture `name` under `key`; nothing when the result does not hold it. */
static void set_file(json_t *object, const char *key, const dscm_result *result, const char *name)
{
    const dscm_image_file *file = dscm_result_file(result, name);
    if (file) json_object_set_new(object, key, reply_image(file->png, file->size));
}

static void set_numbered(json_t *object, const char *key, const dscm_result *result, size_t index)
{
    char name[48];
    snprintf(name, sizeof(name), "%s-%zu", key, index);
    set_file(object, strcmp(key, "counterfactual") ? key : "image", result, name);
}

/* A label where the variable has labels, else the number. */
static json_t *value_of(const dscm_variable *variable, double value)
{
    if (variable->kind == DSCM_CATEGORICAL && value >= 0 && value < (double)variable->labels_count)
        return json_string(variable->labels[(size_t)value]);
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *interventions(const dscm_bundle_info *info, const dscm_target *target)
{
    json_t *object = json_object();
    for (size_t i = 0; i < target->count; i++) {
        const dscm_intervention *item = &target->items[i];
        const dscm_variable *variable = &info->variables[item->variable];
        json_t *value = item->action == DSCM_DO      ? value_of(variable, item->value)
                        : item->action == DSCM_SHIFT ? json_pack("{s:f}", "shift", item->value)
                                                     : json_pack("{s:b}", "hold", 1);
        json_object_set_new(object, variable->name, value);
    }
    return object;
}

/* What the variables were under the intervention, descendants included. */
static json_t *propagated(const dscm_bundle_info *info, const dscm_counterfactual *c)
{
    json_t *out = json_object();
    for (size_t v = 0; v < info->variables_count; v++)
        if (info->variables[v].kind != DSCM_IMAGE)
            json_object_set_new(out, info->variables[v].name,
                                value_of(&info->variables[v], c->propagated[v]));
    return out;
}

static json_t *scores(const dscm_counterfactual *c)
{
    const dscm_scores *s = &c->scores;
    json_t *out = json_object(), *before_after = json_object();
    json_object_set_new(out, "valid", json_boolean(s->valid));
    dscm_json_set_real(before_after, "before", s->probability_before);
    dscm_json_set_real(before_after, "after", s->probability_after);
    json_object_set_new(out, "probability", before_after);
    json_object_set_new(out, "oracle_label", c->oracle ? json_string(c->oracle) : json_null());
    dscm_json_set_real(out, "cld", s->cld);
    dscm_json_set_real(out, "cld_minimality", s->cld_minimality);
    dscm_json_set_real(out, "cld_departure", s->cld_departure);
    dscm_json_set_real(out, "cld_percentile", s->cld_percentile);
    dscm_json_set_real(out, "im1", s->im1);
    dscm_json_set_real(out, "im1_percentile", s->im1_percentile);
    dscm_json_set_real(out, "im2", s->im2);
    dscm_json_set_real(out, "im2_percentile", s->im2_percentile);
    dscm_json_set_real(out, "l1", s->l1);
    dscm_json_set_real(out, "l2", s->l2);
    dscm_json_set_real(out, "changed_share", s->changed_share);
    dscm_json_set_real(out, "composition", c->composition);
    dscm_json_set_real(out, "reversibility", c->reversibility);
    dscm_json_set_real(out, "uncertainty", c->uncertainty_mean);
    return out;
}

/* What an outcome was decided by. */
static json_t *outcome_evidence(const dscm_outcome_evidence *e)
{
    json_t *out = json_object();
    json_object_set_new(out, "judged_by", json_string(e->opinions ? "acceptance" : "predictor"));
    dscm_json_set_real(out, "acceptance", e->acceptance);
    dscm_json_set_real(out, "blurred", e->blurred);
    json_object_set_new(out, "opinions", json_integer((json_int_t)e->opinions));
    json_object_set_new(out, "agreed", json_integer((json_int_t)e->agreed));
    return out;
}

static json_t *counterfactual(const dscm_result *result, size_t index)
{
    const dscm_counterfactual *c = &result->counterfactuals[index];
    json_t *out = json_object();
    json_object_set_new(out, "intervention", interventions(result->info, &c->target));
    json_object_set_new(out, "propagated", propagated(result->info, c));
    json_object_set_new(out, "outcome", json_string(dscm_outcome_name(c->outcome)));
    const char *detail = dscm_outcome_words(&c->evidence);
    if (detail) json_object_set_new(out, "detail", json_string(detail));
    json_object_set_new(out, "evidence", outcome_evidence(&c->evidence));
    set_numbered(out, "counterfactual", result, index);
    set_numbered(out, "difference", result, index);
    set_numbered(out, "uncertainty", result, index);
    set_numbered(out, "trajectory", result, index);
    dscm_json_set_real(out, "scale", c->scale);
    json_object_set_new(out, "steps", json_integer((json_int_t)result->options.steps));
    json_object_set_new(out, "predictions", json_integer((json_int_t)c->predictions));
    json_object_set_new(out, "scores", scores(c));
    return out;
}

static json_t *observed(const dscm_abduction *a)
{
    json_t *out = json_object();
    for (size_t v = 0; v < a->info->variables_count; v++) {
        const dscm_variable *variable = &a->info->variables[v];
        const float *row = a->observed[v];
        if (variable->kind == DSCM_IMAGE || !row) continue;
        json_t *entry = json_object();
        json_object_set_new(entry, "value", value_of(variable, dscm_observed_value(variable, row)));
        if (variable->kind == DSCM_CATEGORICAL) {
            json_t *all = json_object();
            for (size_t k = 0; k < variable->labels_count; k++)
                dscm_json_set_real(all, variable->labels[k], (double)row[k]);
            json_object_set_new(entry, "probabilities", all);
        } else {
            dscm_json_set_real(entry, "variance", (double)row[1]);
        }
        json_object_set_new(out, variable->name, entry);
    }
    return out;
}

/* Values that the abduction and all that follows took for the factual ones, and the names of those that
 * were read in the image because nobody gave them. */
static void set_factuals(json_t *out, const dscm_abduction *a)
{
    json_t *values = json_object(), *read = json_array();
    for (size_t v = 0; v < a->info->variables_count; v++) {
        const dscm_variable *variable = &a->info->variables[v];
        if (variable->kind == DSCM_IMAGE || isnan(a->factual[v])) continue;
        json_object_set_new(values, variable->name, value_of(variable, a->factual[v]));
        if (!a->given[v]) json_array_append_new(read, json_string(variable->name));
    }
    json_object_set_new(out, "factuals", values);
    json_object_set_new(out, "factuals_read", read);
}

static void set_check(json_t *out, const char *name, const dscm_quantile_check *check)
{
    json_t *entry = json_object();
    dscm_json_set_real(entry, "value", check->value);
    dscm_json_set_real(entry, "low", check->bounds.low);
    dscm_json_set_real(entry, "high", check->bounds.high);
    json_object_set_new(out, name, entry);
}

/* What a verdict was decided by: numbers of the image, and the bounds of real images. */
static json_t *familiarity(const dscm_abduction_evidence *e)
{
    json_t *out = json_object();
    dscm_json_set_real(out, "confidence", e->confidence);
    set_check(out, "noise_only", &e->noise_only);
    set_check(out, "denoising_loss", &e->denoising);
    set_check(out, "contrast", &e->contrast);
    set_check(out, "border", &e->border);
    set_check(out, "likeness", &e->likeness);
    set_check(out, "likeness_centred", &e->likeness_centred);
    return out;
}

static json_t *abduction_brief(const dscm_abduction *a, const dscm_reply_ids *ids)
{
    json_t *out = json_object();
    json_object_set_new(out, "id", ids->abduction ? json_string(ids->abduction) : json_null());
    dscm_json_set_real(out, "error_l1", a->error_l1);
    dscm_json_set_real(out, "error_max", a->error_max);
    json_object_set_new(out, "verdict", json_string(dscm_verdict_name(a->verdict)));
    json_object_set_new(out, "verdict_detail", json_string(dscm_verdict_words(a->verdict)));
    json_object_set_new(out, "familiarity", familiarity(&a->evidence));
    json_object_set_new(out, "inverted", json_boolean(a->inverted));
    return out;
}

static json_t *timing(const dscm_run_times *t)
{
    json_t *out = json_object();
    dscm_json_set_real(out, "queue", t->queue);
    dscm_json_set_real(out, "decode", t->decode);
    dscm_json_set_real(out, "abduct", t->abduct);
    dscm_json_set_real(out, "predict", t->predict);
    dscm_json_set_real(out, "score", t->score);
    dscm_json_set_real(out, "encode", t->encode);
    return out;
}

static json_t *replay(const dscm_bundle_info *info, const dscm_options *options, uint64_t seed,
                      bool auto_scale)
{
    json_t *out = json_object();
    json_object_set_new(out, "seed", json_integer((json_int_t)seed));
    json_object_set_new(out, "sampler",
                        options->sampler ? json_string(options->sampler) : json_null());
    json_object_set_new(out, "steps", json_integer((json_int_t)options->steps));
    dscm_json_set_real(out, "ratio", options->ratio);
    if (auto_scale)
        json_object_set_new(out, "scale", json_string("auto"));
    else
        dscm_json_set_real(out, "scale", options->scale);
    dscm_json_set_real(out, "min_change", options->min_change);
    json_object_set_new(out, "dynamic", json_boolean(options->dynamic > 0));
    json_object_set_new(out, "model_sha256", json_string(info->sha256));
    json_object_set_new(out, "build", json_string(DSCM_VERSION));
    return out;
}

char *reply_text(json_t *value, unsigned long since, size_t *size)
{
    char *text = dscm_json_text(value, since, size);
    json_decref(value);
    return text;
}

char *dscm_reply_counterfactual(const dscm_result *result, const dscm_abduction *abduction,
                                const dscm_reply_ids *ids, size_t *size)
{
    unsigned long mark = dscm_json_failures();
    json_t *out =
        json_pack("{s:s?, s:o}", "id", ids->job, "model", reply_model_brief(result->info));
    if (!out) return NULL;
    if (abduction) {
        set_factuals(out, abduction);
        json_object_set_new(out, "observed", observed(abduction));
        json_object_set_new(out, "abduction", abduction_brief(abduction, ids));
    }
    set_file(out, "factual", result, "factual");
    set_file(out, "reconstruction", result, "reconstruction");
    json_t *list = json_array();
    for (size_t i = 0; i < result->count; i++)
        json_array_append_new(list, counterfactual(result, i));
    json_object_set_new(out, "counterfactuals", list);
    json_object_set_new(out, "timing_ms", timing(&result->times));
    json_object_set_new(out, "replay",
                        replay(result->info, &result->options, result->seed, result->auto_scale));
    return reply_text(out, mark, size);
}

char *dscm_reply_abduction(const dscm_abduction *abduction, const dscm_reply_ids *ids,
                           long expires_s, size_t *size)
{
    unsigned long mark = dscm_json_failures();
    json_t *out =
        json_pack("{s:s?, s:o}", "id", ids->job, "model", reply_model_brief(abduction->info));
    if (!out) return NULL;
    set_factuals(out, abduction);
    json_object_set_new(out, "observed", observed(abduction));
    json_object_set_new(out, "abduction", abduction_brief(abduction, ids));
    json_object_set_new(out, "expires_s", json_integer(expires_s));
    json_t *times = json_object();
    dscm_json_set_real(times, "abduct", abduction->abduct_ms);
    json_object_set_new(out, "timing_ms", times);
    json_object_set_new(out, "replay", replay(abduction->info, &abduction->options, 0, false));
    return reply_text(out, mark, size);
}

char *dscm_reply_samples(const dscm_result *result, const dscm_reply_ids *ids, size_t *size)
{
    unsigned long mark = dscm_json_failures();
    json_t *out =
        json_pack("{s:s?, s:o}", "id", ids->job, "model", reply_model_brief(result->info));
    if (!out) return NULL;
    json_t *list = json_array();
    for (size_t i = 0; i < result->count; i++) {
        const dscm_counterfactual *c = &result->counterfactuals[i];
        json_t *sample = json_object();
        char name[48];
        snprintf(name, sizeof(name), "sample-%zu", i);
        json_object_set_new(sample, "intervention", interventions(result->info, &c->target));
        set_file(sample, "image", result, name);
        json_array_append_new(list, sample);
    }
    json_object_set_new(out, "samples", list);
    json_object_set_new(out, "timing_ms", timing(&result->times));
    json_object_set_new(out, "replay", replay(result->info, &result->options, result->seed, false));
    return reply_text(out, mark, size);
}

/* ---- headers ---- */

typedef struct header_list {
    dscm_reply_header *out;
    size_t count;
} header_list;

static void add_text(header_list *list, const char *name, const char *value)
{
    if (list->count == DSCM_REPLY_HEADERS_MAX) return;
    dscm_reply_header *header = &list->out[list->count++];
    snprintf(header->name, sizeof(header->name), "X-Counterfactual-%s", name);
    snprintf(header->value, sizeof(header->value), "%s", value);
}

static void add_real(header_list *list, const char *name, double value)
{
    char text[32];
    if (!isfinite(value)) return;
    snprintf(text, sizeof(text), "%.9g", value);
    add_text(list, name, text);
}

size_t dscm_reply_headers(dscm_reply_header out[DSCM_REPLY_HEADERS_MAX], const dscm_result *result,
                          size_t index)
{
    header_list list = {out, 0};
    const dscm_counterfactual *c = &result->counterfactuals[index];
    add_text(&list, "Model", result->info->name);
    if (result->work != DSCM_WORK_SAMPLE) add_text(&list, "Outcome", dscm_outcome_name(c->outcome));
    add_real(&list, "Scale", c->scale);
    if (result->work == DSCM_WORK_SAMPLE) return list.count; /* nothing to compare a sample with */
    add_real(&list, "Probability-Before", c->scores.probability_before);
    add_real(&list, "Probability-After", c->scores.probability_after);
    if (c->oracle) add_text(&list, "Oracle-Label", c->oracle);
    add_real(&list, "Cld", c->scores.cld);
    add_real(&list, "Im1", c->scores.im1);
    add_real(&list, "Im2", c->scores.im2);
    add_real(&list, "L1", c->scores.l1);
    add_real(&list, "L2", c->scores.l2);
    add_real(&list, "Changed-Share", c->scores.changed_share);
    add_real(&list, "Composition", c->composition);
    if (result->verdict) add_text(&list, "Verdict", result->verdict);
    return list.count;
}
