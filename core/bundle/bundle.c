/* Loading bundles: see core/diffscm.h and bundle.h. */
#include "core/bundle/bundle.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/bundle/assemble.h"
#include "core/bundle/manifest.h"
#include "core/io/file.h"
#include "core/io/json.h"
#include "core/io/sha256.h"
#include "core/io/tensors.h"
#include "core/models/config.h"

#define MANIFEST_MAX ((size_t)4 << 20)

/* ---- variables ---- */
static dscm_code load_labels(bundle_variable *v, const manifest *m, const json_t *object,
                             const char *where, dscm_error *err)
{
    const json_t *labels = json_object_get(object, "labels");
    size_t count = json_array_size(labels);
    if (count < 2 || count > BUNDLE_LABELS_MAX)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: \"labels\" must be a list of 2..%d texts",
                         m->path, where, BUNDLE_LABELS_MAX);
    char **copies = dscm_alloc(count, sizeof *copies, "labels", err);
    if (!copies) return DSCM_E_MEMORY;
    v->info.labels = (const char *const *)copies;
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(labels, i));
        if (!text || !*text)
            return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: label %zu is no text", m->path, where, i);
        copies[i] = dscm_strdup(text, err);
        if (!copies[i]) return DSCM_E_MEMORY;
        v->info.labels_count = i + 1;
    }
    return DSCM_OK;
}

static dscm_code load_kind(bundle_variable *v, const manifest *m, const json_t *object,
                           const char *where, dscm_error *err)
{
    const char *kind;
    dscm_code code = manifest_text(m, object, where, "kind", 32, &kind, err);
    if (code != DSCM_OK) return code;
    if (strcmp(kind, "categorical") == 0) {
        v->info.kind = DSCM_CATEGORICAL;
        return load_labels(v, m, object, where, err);
    }
    if (strcmp(kind, "continuous") == 0) {
        v->info.kind = DSCM_CONTINUOUS;
        code = manifest_real(m, object, where, "min", -1e12, 1e12, &v->info.min, err);
        if (code == DSCM_OK)
            code = manifest_real(m, object, where, "max", v->info.min, 1e12, &v->info.max, err);
        double range = v->info.max - v->info.min;
        v->info.tolerance = range / 20;
        if (code == DSCM_OK && json_object_get(object, "tolerance"))
            code = manifest_real(m, object, where, "tolerance", range * 1e-6, range,
                                 &v->info.tolerance, err);
        if (code == DSCM_OK && json_object_get(object, "result_bias"))
            code = manifest_real(m, object, where, "result_bias", -range, range,
                                 &v->info.result_bias, err);
        return code;
    }
    if (strcmp(kind, "image") != 0)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: %s: kind \"%s\" is not categorical, continuous or image", m->path,
                         where, kind);
    v->info.kind = DSCM_IMAGE;
    code = manifest_size(m, object, where, "height", 1, 4096, &v->info.h, err);
    if (code == DSCM_OK) code = manifest_size(m, object, where, "width", 1, 4096, &v->info.w, err);
    if (code == DSCM_OK) code = manifest_size(m, object, where, "channels", 1, 4, &v->info.c, err);
    return code;
}

/* Parents must be listed before: so the list is in topological order and has no cycle. */
static dscm_code load_parents(const dscm_bundle *b, bundle_variable *v, const manifest *m,
                              const json_t *object, const char *where, dscm_error *err)
{
    const json_t *parents = json_object_get(object, "parents");
    bool is_parent[BUNDLE_VARIABLES_MAX] = {false};
    for (size_t i = 0; i < json_array_size(parents); i++) {
        const char *name = json_string_value(json_array_get(parents, i));
        size_t p = 0;
        while (p < b->variables_count && (!name || strcmp(b->variables[p].info.name, name) != 0))
            p++;
        if (p == b->variables_count || b->variables[p].info.kind == DSCM_IMAGE)
            return dscm_fail(err, DSCM_E_FORMAT,
                             "%s: %s: parent \"%s\" is not a variable listed before this one",
                             m->path, where, name ? name : "(no text)");
        is_parent[p] = true;
    }
    for (size_t p = 0; p < b->variables_count; p++)
        if (is_parent[p]) v->parents[v->info.parents_count++] = (int)p;
    return DSCM_OK;
}

static dscm_code load_additive(dscm_bundle *b, const bundle_variable *v, const manifest *m,
                               const json_t *object, const char *where, dscm_error *err)
{
    const json_t *weights = json_object_get(object, "weights");
    double bias;
    causal_additive *a = dscm_alloc(1, sizeof *a, "mechanism", err);
    if (!a) return DSCM_E_MEMORY;
    b->additive[v - b->variables] = a;
    dscm_code code = manifest_keys(m, object, where, "kind bias weights", err);
    if (code == DSCM_OK) code = manifest_real(m, object, where, "bias", -1e12, 1e12, &bias, err);
    for (size_t i = 0; code == DSCM_OK && i < v->info.parents_count; i++) {
        const dscm_variable *p = &b->variables[v->parents[i]].info;
        const json_t *w = json_object_get(weights, p->name);
        if (p->kind == DSCM_CONTINUOUS) {
            code = manifest_real(m, weights, where, p->name, -1e12, 1e12, &a->slopes[i], err);
            continue;
        }
        bool numbers = json_array_size(w) == p->labels_count;
        for (size_t k = 0; numbers && k < p->labels_count; k++)
            numbers = json_is_number(json_array_get(w, k));
        if (!numbers)
            return dscm_fail(err, DSCM_E_FORMAT, "%s: %s: weights of \"%s\" must list %zu numbers",
                             m->path, where, p->name, p->labels_count);
        a->levels[i] = dscm_alloc(p->labels_count, sizeof(double), "mechanism", err);
        if (!a->levels[i]) return DSCM_E_MEMORY;
        for (size_t k = 0; k < p->labels_count; k++)
            a->levels[i][k] = json_number_value(json_array_get(w, k));
    }
    return code;
}

static dscm_code load_diffusion(bundle_variable *v, const manifest *m, const json_t *object,
                                const char *where, dscm_error *err)
{
    const char *name;
    size_t steps;
    dscm_schedule_kind kind = DSCM_SCHEDULE_LINEAR;
    dscm_code code =
        manifest_keys(m, object, where, "kind schedule steps limit noise_limit eta network", err);
    const json_t *limit = json_object_get(object, "limit");
    if (code == DSCM_OK && limit && !json_is_boolean(limit))
        code = dscm_fail(err, DSCM_E_FORMAT, "%s: %s: \"limit\" must be true or false", m->path,
                         where);
    v->limit = json_is_true(limit);
    if (code == DSCM_OK && json_object_get(object, "noise_limit"))
        code = manifest_real(m, object, where, "noise_limit", 1, 100, &v->noise_limit, err);
    if (code == DSCM_OK && json_object_get(object, "eta"))
        code = manifest_real(m, object, where, "eta", 0, 1, &v->eta, err);
    if (code == DSCM_OK) code = manifest_text(m, object, where, "schedule", 32, &name, err);
    if (code == DSCM_OK) code = dscm_schedule_parse(&kind, name, err);
    if (code == DSCM_OK) code = manifest_size(m, object, where, "steps", 2, 100000, &steps, err);
    if (code == DSCM_OK) code = dscm_schedule_open(&v->schedule, kind, steps, err);
    if (code == DSCM_OK)
        code = bundle_net_open(&v->score, m, json_object_get(object, "network"), where,
                               DSCM_ARCH_UNET, DSCM_EXEC_INFER, err);
    if (code != DSCM_OK) return code;
    const dscm_net_config *c = &v->score.net->config;
    if (c->image_size != v->info.h || c->image_size != v->info.w || c->in_channels != v->info.c ||
        c->out_channels < c->in_channels)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: %s: the network takes %zux%zux%zu, the variable is %zux%zux%zu",
                         m->path, where, c->image_size, c->image_size, c->in_channels, v->info.h,
                         v->info.w, v->info.c);
    return DSCM_OK;
}

static dscm_code load_mechanism(dscm_bundle *b, bundle_variable *v, const manifest *m,
                                const json_t *object, const char *where, dscm_error *err)
{
    const char *kind;
    dscm_code code = manifest_text(m, object, where, "kind", 32, &kind, err);
    if (code != DSCM_OK) return code;
    bool image = v->info.kind == DSCM_IMAGE;
    if (!image && strcmp(kind, "root") == 0 && !v->info.parents_count) return DSCM_OK;
    if (v->info.kind == DSCM_CONTINUOUS && strcmp(kind, "additive") == 0)
        return load_additive(b, v, m, object, where, err);
    if (!image && strcmp(kind, "fitted") == 0) {
        v->fitted = true;
        return manifest_keys(m, object, where, "kind", err);
    }
    if (image && strcmp(kind, "diffusion") == 0) return load_diffusion(v, m, object, where, err);
    return dscm_fail(
        err, DSCM_E_FORMAT,
        "%s: %s: mechanism \"%s\" does not fit; root (no parents), additive (continuous), "
        "fitted (not an image), diffusion (image)",
        m->path, where, kind);
}

static dscm_code load_variable(dscm_bundle *b, const manifest *m, const json_t *object,
                               dscm_error *err)
{
    char where[96];
    const char *name;
    bundle_variable *v = &b->variables[b->variables_count];
    dscm_code code = manifest_keys(
        m, object, "variables",
        "name kind labels min max tolerance result_bias height width channels parents mechanism",
        err);
    if (code == DSCM_OK)
        code = manifest_text(m, object, "variables", "name", BUNDLE_NAME_MAX, &name, err);
    if (code != DSCM_OK) return code;
    snprintf(where, sizeof where, "variable \"%s\"", name);
    for (size_t i = 0; i < b->variables_count; i++)
        if (strcmp(b->variables[i].info.name, name) == 0)
            return dscm_fail(err, DSCM_E_FORMAT, "%s: %s is listed twice", m->path, where);
    v->info.name = dscm_strdup(name, err);
    if (!v->info.name) return DSCM_E_MEMORY;
    code = load_kind(v, m, object, where, err);
    if (code == DSCM_OK) code = load_parents(b, v, m, object, where, err);
    if (code == DSCM_OK) {
        code = load_mechanism(b, v, m, json_object_get(object, "mechanism"), where, err);
        v->info.parents = v->parents;
    }
    b->variables_count++; /* also after a failure: closing must see what was begun */
    return code;
}

static dscm_code load_edge(dscm_bundle *b, const manifest *m, const json_t *object, dscm_error *err)
{
    const char *parent, *child;
    bundle_edge *e = &b->edges[b->edges_count];
    dscm_code code = manifest_keys(m, object, "edges", "parent child predictor", err);
    if (code == DSCM_OK)
        code = manifest_text(m, object, "edges", "parent", BUNDLE_NAME_MAX, &parent, err);
    if (code == DSCM_OK)
        code = manifest_text(m, object, "edges", "child", BUNDLE_NAME_MAX, &child, err);
    if (code == DSCM_OK) code = dscm_variable_find(b, parent, &e->parent, err);
    if (code == DSCM_OK) code = dscm_variable_find(b, child, &e->child, err);
    if (code != DSCM_OK) return code;
    const bundle_variable *p = &b->variables[e->parent], *c = &b->variables[e->child];
    bool related = false;
    for (size_t i = 0; i < c->info.parents_count; i++) related |= c->parents[i] == e->parent;
    if (!related || c->info.kind != DSCM_IMAGE || dscm_bundle_edge(b, e->parent, e->child) >= 0)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: edge %s -> %s: must go from a parent to an image, once", m->path,
                         parent, child);
    b->edges_count++;
    code = bundle_net_open(&e->predictor, m, json_object_get(object, "predictor"), "edge predictor",
                           DSCM_ARCH_ENCODER, DSCM_EXEC_INPUT_GRAD, err);
    if (code != DSCM_OK) return code;
    size_t want = p->info.kind == DSCM_CATEGORICAL ? p->info.labels_count : 2;
    const dscm_net_config *n = &e->predictor.net->config;
    if (n->out_channels != want || n->image_size != c->info.h || n->in_channels != c->info.c)
        return dscm_fail(
            err, DSCM_E_MISMATCH,
            "%s: edge %s -> %s: the predictor has %zu outputs for %zux%zu images; %zu for %zux%zu "
            "are needed",
            m->path, parent, child, n->out_channels, n->image_size, n->image_size, want, c->info.h,
            c->info.w);
    return DSCM_OK;
}

/* A parent is found by its name; the class of a published network by its number of labels. */
static bool is_condition(const dscm_net_config *c, size_t condition, const dscm_variable *v)
{
    if (c->num_classes) return v->labels_count == c->num_classes;
    const dscm_parent *p = &c->parents[condition];
    return strcmp(p->name, v->name) == 0 && v->kind != DSCM_IMAGE && v->labels_count == p->classes;
}

/* The edge of each condition of the score network. */
static dscm_code find_conditions(dscm_bundle *b, const manifest *m, dscm_error *err)
{
    const dscm_net_config *c = &b->variables[b->info.image].score.net->config;
    for (size_t i = 0; i < dscm_bundle_conditions(b); i++) {
        b->condition_edges[i] = -1;
        for (size_t e = b->edges_count; e-- > 0;)
            if (b->edges[e].child == b->info.image &&
                is_condition(c, i, &b->variables[b->edges[e].parent].info))
                b->condition_edges[i] = (int)e;
        if (b->condition_edges[i] < 0 && c->num_classes)
            return dscm_fail(
                err, DSCM_E_MISMATCH,
                "%s: the score network is conditioned on %zu classes, but no edge into the "
                "image has a predictor of as many",
                m->path, c->num_classes);
        if (b->condition_edges[i] < 0)
            return dscm_fail(err, DSCM_E_MISMATCH,
                             "%s: the score network is conditioned on \"%s\" (%zu labels), which "
                             "is no such parent of the image",
                             m->path, c->parents[i].name, c->parents[i].classes);
    }
    return DSCM_OK;
}

static dscm_code load_graph(dscm_bundle *b, const manifest *m, const json_t *root, dscm_error *err)
{
    const json_t *variables = json_object_get(root, "variables"),
                 *edges = json_object_get(root, "edges");
    size_t count = json_array_size(variables), edge_count = json_array_size(edges);
    if (count < 1 || count > BUNDLE_VARIABLES_MAX || edge_count > BUNDLE_VARIABLES_MAX)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: \"variables\" must be a list of 1..%d, \"edges\" of at most that",
                         m->path, BUNDLE_VARIABLES_MAX);
    b->variables = dscm_alloc(count, sizeof *b->variables, "bundle", err);
    b->infos = dscm_alloc(count, sizeof *b->infos, "bundle", err);
    b->additive = dscm_alloc(count, sizeof *b->additive, "bundle", err);
    b->edges = dscm_alloc(edge_count + 1, sizeof *b->edges, "bundle", err);
    if (!b->variables || !b->infos || !b->additive || !b->edges) return DSCM_E_MEMORY;
    for (size_t i = 0; i < count; i++) {
        dscm_code code = load_variable(b, m, json_array_get(variables, i), err);
        if (code != DSCM_OK) return code;
    }
    b->info.image = -1;
    for (size_t i = 0; i < count; i++) {
        b->infos[i] = b->variables[i].info;
        if (b->infos[i].kind == DSCM_IMAGE && b->info.image < 0) b->info.image = (int)i;
    }
    b->info.variables = b->infos;
    b->info.variables_count = count;
    for (size_t i = 0; i < edge_count; i++) {
        dscm_code code = load_edge(b, m, json_array_get(edges, i), err);
        if (code != DSCM_OK) return code;
    }
    if (b->info.image < 0)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: no variable is an image", m->path);
    const bundle_variable *image = &b->variables[b->info.image];
    for (size_t i = 0; i < image->info.parents_count; i++)
        if (dscm_bundle_edge(b, image->parents[i], b->info.image) < 0)
            return dscm_fail(err, DSCM_E_FORMAT,
                             "%s: edge %s -> %s is missing: no predictor sees it", m->path,
                             b->infos[image->parents[i]].name, image->info.name);
    dscm_code code = find_conditions(b, m, err);
    if (code == DSCM_OK) code = bundle_causal_load(b, m, root, err);
    b->system = (causal_system){.variables = b->infos,
                                .additive = b->additive,
                                .fitted = b->causal,
                                .count = count,
                                .image = b->info.image};
    return code;
}

size_t dscm_bundle_conditions(const dscm_bundle *b)
{
    const dscm_net_config *c = &b->variables[b->info.image].score.net->config;
    return c->num_classes ? 1 : c->parents_count;
}

bool dscm_bundle_has_null(const dscm_bundle *b)
{
    return b->variables[b->info.image].score.net->config.parents_count > 0;
}

/* ---- defaults and calibration ---- */
static dscm_code load_rounds(dscm_bundle *b, const manifest *m, const json_t *list, dscm_error *err)
{
    bool right = json_array_size(list) == b->defaults.steps;
    for (size_t k = 0; right && k < b->defaults.steps; k++) {
        const json_t *value = json_array_get(list, k);
        right = json_is_integer(value) && json_integer_value(value) >= 1 &&
                json_integer_value(value) <= 3;
    }
    if (!right)
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s: defaults: \"rounds\" must be %zu integers in 1..3, one for each of "
                         "the steps",
                         m->path, b->defaults.steps);
    b->rounds = dscm_alloc(b->defaults.steps, sizeof *b->rounds, "rounds", err);
    if (!b->rounds) return DSCM_E_MEMORY;
    for (size_t k = 0; k < b->defaults.steps; k++)
        b->rounds[k] = (unsigned char)json_integer_value(json_array_get(list, k));
    return DSCM_OK;
}

static dscm_code load_defaults(dscm_bundle *b, const manifest *m, const json_t *root,
                               dscm_error *err)
{
    const json_t *d = json_object_get(root, "defaults"),
                 *list = json_object_get(root, "calibration");
    const char *name;
    dscm_sampler sampler = DSCM_SAMPLER_OBELM;
    dscm_code code = manifest_keys(
        m, d, "defaults",
        "sampler steps ratio scale confidence min_change change_cost max_spot rounds", err);
    if (code == DSCM_OK) code = manifest_text(m, d, "defaults", "sampler", 32, &name, err);
    if (code == DSCM_OK) code = dscm_sampler_parse(&sampler, name, err);
    if (code == DSCM_OK)
        code = manifest_size(m, d, "defaults", "steps", 2, 100000, &b->defaults.steps, err);
    if (code == DSCM_OK)
        code = manifest_real(m, d, "defaults", "ratio", 1e-3, 1, &b->defaults.ratio, err);
    b->defaults.min_change = 0;
    if (code == DSCM_OK && json_object_get(d, "min_change"))
        code = manifest_real(m, d, "defaults", "min_change", 0, 255, &b->defaults.min_change, err);
    if (code == DSCM_OK && json_object_get(d, "max_spot"))
        code = manifest_size(m, d, "defaults", "max_spot", 1, BUNDLE_SPOT_MAX, &b->max_spot, err);
    if (code == DSCM_OK && json_object_get(d, "rounds"))
        code = load_rounds(b, m, json_object_get(d, "rounds"), err);
    b->info.confidence = (double)NAN;
    if (code == DSCM_OK && json_object_get(d, "confidence"))
        code = manifest_real(m, d, "defaults", "confidence", 0, 1, &b->info.confidence, err);
    b->info.change_cost = 0;
    if (code == DSCM_OK && json_object_get(d, "change_cost"))
        code = manifest_real(m, d, "defaults", "change_cost", 0, 1, &b->info.change_cost, err);
    const json_t *scale = json_object_get(d, "scale");
    if (code == DSCM_OK && scale &&
        !(json_is_string(scale) && strcmp(json_string_value(scale), "auto") == 0))
        code = dscm_fail(err, DSCM_E_FORMAT,
                         "%s: defaults: \"scale\" must be \"auto\" (calibrated when left out)",
                         m->path);
    if (code != DSCM_OK) return code;
    b->info.auto_scale = scale != NULL;
    b->defaults.sampler = dscm_sampler_name(sampler);
    size_t count = json_array_size(list);
    b->calibrations = dscm_alloc(count + 1, sizeof *b->calibrations, "calibration", err);
    if (!b->calibrations) return DSCM_E_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const json_t *c = json_array_get(list, i);
        dscm_calibration *out = &b->calibrations[i];
        code = manifest_keys(m, c, "calibration", "sampler steps scale", err);
        if (code == DSCM_OK) code = manifest_text(m, c, "calibration", "sampler", 32, &name, err);
        if (code == DSCM_OK) code = dscm_sampler_parse(&sampler, name, err);
        if (code == DSCM_OK)
            code = manifest_size(m, c, "calibration", "steps", 2, 100000, &out->steps, err);
        if (code == DSCM_OK)
            code = manifest_real(m, c, "calibration", "scale", 0, 1000, &out->scale, err);
        if (code != DSCM_OK) return code;
        out->sampler = dscm_sampler_name(sampler);
    }
    b->info.calibrations = b->calibrations;
    b->info.calibrations_count = count;
    return DSCM_OK;
}

/* ---- the whole ---- */
static dscm_code copy_text(char **out, const char *text, dscm_error *err)
{
    *out = dscm_strdup(text, err);
    return *out ? DSCM_OK : DSCM_E_MEMORY;
}

/* Format 1 has no judges but those of "evaluation". */
static dscm_code load_format(dscm_bundle *b, const manifest *m, const json_t *root,
                             const char *text, dscm_error *err)
{
    static const char *const since_2[] = {"panel", "selection", "acceptance", "search",
                                          "quantiles"};
    for (b->info.format = 1; b->info.format <= BUNDLE_FORMAT; b->info.format++) {
        char known[32];
        snprintf(known, sizeof known, BUNDLE_FORMAT_STEM "%d", b->info.format);
        if (strcmp(text, known) == 0) break;
    }
    if (b->info.format > BUNDLE_FORMAT)
        return dscm_fail(err, DSCM_E_FORMAT, "%s: format \"%s\" is not one of %s1 to %d", m->path,
                         text, BUNDLE_FORMAT_STEM, BUNDLE_FORMAT);
    for (size_t i = 0; b->info.format < 2 && i < sizeof since_2 / sizeof since_2[0]; i++)
        if (json_object_get(root, since_2[i]))
            return dscm_fail(err, DSCM_E_FORMAT, "%s: \"%s\" needs format %s2", m->path, since_2[i],
                             BUNDLE_FORMAT_STEM);
    return DSCM_OK;
}

static dscm_code load_head(dscm_bundle *b, const manifest *m, const json_t *root, dscm_error *err)
{
    const char *text;
    const struct {
        const char *key;
        char **to;
    } texts[] = {{"name", &b->name},
                 {"version", &b->version},
                 {"licence", &b->licence},
                 {"provenance", &b->provenance}};
    dscm_code code = manifest_keys(
        m, root, "manifest",
        "format name version licence provenance warning variables edges causal "
        "defaults calibration evaluation panel selection acceptance search quantiles quality "
        "files",
        err);
    if (code == DSCM_OK) code = manifest_text(m, root, "manifest", "format", 64, &text, err);
    if (code == DSCM_OK) code = load_format(b, m, root, text, err);
    for (size_t i = 0; code == DSCM_OK && i < 4; i++) {
        code = manifest_text(m, root, "manifest", texts[i].key, 1024, &text, err);
        if (code == DSCM_OK) code = copy_text(texts[i].to, text, err);
    }
    if (code == DSCM_OK && json_object_get(root, "warning")) /* read in the manifest's text */
        code = manifest_text(m, root, "manifest", "warning", 1024, &text, err);
    b->info.name = b->name;
    b->info.version = b->version;
    b->info.licence = b->licence;
    b->info.provenance = b->provenance;
    b->info.sha256 = b->sha256;
    b->info.manifest = b->manifest;
    b->info.dir = b->dir;
    return code;
}

static dscm_code load_all(dscm_bundle *b, const char *path, size_t size, dscm_error *err)
{
    json_error_t parse;
    json_t *root = dscm_json_read(b->manifest, size, JSON_REJECT_DUPLICATES, &parse);
    if (!root)
        return dscm_fail(err, dscm_json_code(&parse), "%s: line %d: %s", path, parse.line,
                         parse.text);
    manifest m = {.path = path,
                  .dir = b->dir,
                  .files = json_object_get(root, "files"),
                  .describe = b->options.describe,
                  .nets = &b->nets};
    dscm_code code = load_head(b, &m, root, err);
    if (code == DSCM_OK) code = load_graph(b, &m, root, err);
    if (code == DSCM_OK) code = load_defaults(b, &m, root, err);
    if (code == DSCM_OK) code = bundle_evaluation_load(b, &m, root, err);
    json_decref(root);
    for (const bundle_net *n = b->nets; n; n = n->next) b->info.parameters += n->net->params.floats;
    return code == DSCM_OK && !b->options.describe ? bundle_nets_fill(b, err) : code;
}

dscm_load_options dscm_load_defaults(void)
{
    return (dscm_load_options){
        .sessions = 1, .threads = dscm_cpu_count(), .isa = dscm_cpu_best_isa()};
}

dscm_code bundle_load(dscm_bundle **out, const char *dir, const dscm_load_options *options,
                      bundle_session_bytes *session_bytes, dscm_error *err)
{
    char path[4096];
    unsigned char *text = NULL;
    size_t size = 0;
    *out = NULL;
    int length = snprintf(path, sizeof path, "%s/manifest.json", dir);
    if (length < 0 || (size_t)length >= sizeof path)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", dir);
    dscm_code code = dscm_file_read(path, MANIFEST_MAX, &text, &size, err);
    if (code != DSCM_OK) return code;
    dscm_bundle *b = dscm_alloc(1, sizeof *b, "bundle", err);
    if (!b) {
        dscm_free(text);
        return DSCM_E_MEMORY;
    }
    b->options = *options;
    b->session_bytes = session_bytes;
    b->manifest = (char *)text;
    dscm_sha256_hex(b->sha256, text, size);
    code = copy_text(&b->dir, dir, err);
    if (code == DSCM_OK) code = load_all(b, path, size, err);
    if (code != DSCM_OK) {
        /* what parses a single value does not know where it stands */
        if (err && !strstr(err->message, dir)) dscm_error_prefix(err, "%s", path);
        dscm_bundle_free(b);
        return code;
    }
    *out = b;
    return DSCM_OK;
}

static void close_variable(bundle_variable *v)
{
    for (size_t i = 0; i < v->info.labels_count; i++) dscm_free((char *)v->info.labels[i]);
    dscm_free((void *)v->info.labels);
    dscm_free((char *)v->info.name);
    dscm_schedule_close(&v->schedule);
    bundle_net_close(&v->score);
}

void dscm_bundle_free(dscm_bundle *b)
{
    if (!b) return;
    bundle_evaluation_close(b);
    for (size_t i = 0; i < b->edges_count; i++) bundle_net_close(&b->edges[i].predictor);
    for (size_t i = 0; i < b->variables_count; i++) {
        close_variable(&b->variables[i]);
        causal_additive_free(b->additive[i]);
    }
    if (b->causal) dscm_causal_free(b->causal);
    dscm_free(b->causal);
    dscm_free(b->edges);
    dscm_free(b->references);
    dscm_free(b->variables);
    dscm_free(b->infos);
    dscm_free(b->additive);
    dscm_free(b->calibrations);
    dscm_free(b->rounds);
    dscm_free(b->name);
    dscm_free(b->version);
    dscm_free(b->licence);
    dscm_free(b->provenance);
    dscm_free(b->dir);
    dscm_free(b->manifest);
    dscm_free(b);
}
