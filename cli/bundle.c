/* diffscm bundle: assembles a model directory of one label and one image from trained networks, or
 * puts what was measured on it into one that exists. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bundle.h"
#include "cli/bundle_causal.h"
#include "cli/json_file.h"
#include "cli/labels.h"
#include "core/base/memory.h"
#include "core/bundle/assemble.h"
#include "core/diffscm.h"
#include "core/io/file.h"
#include "core/io/json.h"

static dscm_code path_in(const bundle_job *j, const char *name, char *path, size_t size,
                         dscm_error *err)
{
    int length = snprintf(path, size, "%s/%s", j->out, name);
    return length < 0 || (size_t)length >= size
               ? dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", j->out)
               : DSCM_OK;
}

/* A name that is there already is not added again: its file is replaced. */
static const char *add_name(bundle_job *j, const char *name)
{
    for (size_t i = 0; i < j->count; i++)
        if (strcmp(j->names[i], name) == 0) return j->names[i];
    snprintf(j->names[j->count], sizeof j->names[j->count], "%s", name);
    j->files[j->count] = j->names[j->count];
    return j->names[j->count++];
}

dscm_code bundle_take_net(bundle_job *j, const char *from, const char *name, json_t **entry,
                          json_t **settings, dscm_error *err)
{
    char path[4096];
    json_t *mine = NULL;
    if (j->count == BUNDLE_FILES_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "more than %d files", BUNDLE_FILES_MAX);
    dscm_code code = dscm_network_settings(&mine, from, err);
    if (code == DSCM_OK) code = path_in(j, name, path, sizeof path, err);
    if (code == DSCM_OK) code = dscm_file_copy(from, path, err);
    if (code == DSCM_OK)
        *entry = json_pack("{s:O, s:s}", "config", json_object_get(mine, "config"), "weights",
                           add_name(j, name));
    if (code == DSCM_OK && settings)
        *settings = mine;
    else
        json_decref(mine);
    return code;
}

/* Labels between commas; one in quotes may hold commas, and quotes written twice (as in CSV). */
static dscm_code split_labels(json_t *list, const char *text, dscm_error *err)
{
    char label[512];
    for (const char *p = text; *p; p += *p == ',') {
        size_t n = 0;
        bool quoted = *p == '"';
        for (p += quoted; *p && (quoted || *p != ','); p++) {
            if (quoted && *p == '"' && *++p != '"') break;
            if (n == sizeof label - 1)
                return dscm_fail(err, DSCM_E_INVALID, "--labels: a label is longer than %zu bytes",
                                 sizeof label - 1);
            label[n++] = *p;
        }
        label[n] = '\0';
        if (!n || (*p && *p != ',') || json_array_append_new(list, json_string(label)) != 0)
            return dscm_fail(
                err, DSCM_E_INVALID,
                "--labels: label %zu is empty, not UTF-8 or followed by something else "
                "than a comma",
                json_array_size(list) + 1);
    }
    return DSCM_OK;
}

static dscm_code label_list(const bundle_job *j, json_t *list, dscm_error *err)
{
    dscm_code code = j->labels_file ? cli_labels_read(list, j->labels_file, err)
                                    : split_labels(list, j->labels, err);
    return code == DSCM_OK ? cli_labels_differ(list, err) : code;
}

/* The image's entry but for its parents. */
static dscm_code make_image(bundle_job *j, json_t **image, dscm_error *err)
{
    json_t *score = NULL, *settings = NULL;
    dscm_code code = bundle_take_net(j, j->score, "score.safetensors", &score, &settings, err);
    if (code != DSCM_OK) return code;
    const json_t *config = json_object_get(settings, "config");
    json_t *size = json_object_get(config, "image_size");
    *image = json_pack("{s:s, s:s, s:O, s:O, s:O, s:{s:s, s:O, s:i, s:b, s:o}}", "name", "image",
                       "kind", "image", "height", size, "width", size, "channels",
                       json_object_get(config, "in_channels"), "mechanism", "kind", "diffusion",
                       "schedule", json_object_get(settings, "schedule"), "steps", 1000, "limit",
                       j->limit, "network", score);
    json_t *mechanism = json_object_get(*image, "mechanism");
    if (j->noise_limit > 0)
        json_object_set_new(mechanism, "noise_limit", json_real(j->noise_limit));
    if (j->eta > 0) json_object_set_new(mechanism, "eta", json_real(j->eta));
    json_decref(settings);
    return DSCM_OK;
}

/* --predictor FILE of an only parent, or NAME=FILE; NULL: none was given. */
static const char *predictor_of(const bundle_job *j, const char *parent)
{
    size_t n = strlen(parent);
    if (!j->causal) return j->predictors.items[0];
    for (size_t i = 0; i < j->predictors.count; i++) {
        const char *text = j->predictors.items[i];
        if (strncmp(text, parent, n) == 0 && text[n] == '=') return text + n + 1;
    }
    return NULL;
}

static dscm_code make_edges(bundle_job *j, json_t *manifest, const json_t *parents, dscm_error *err)
{
    json_t *edges = json_array(), *parent;
    size_t i;
    dscm_code code = DSCM_OK;
    json_array_foreach((json_t *)parents, i, parent)
    {
        char name[64 + 32];
        json_t *entry = NULL;
        const char *of = json_string_value(parent), *from = predictor_of(j, of);
        if (code == DSCM_OK && !from)
            code = dscm_fail(err, DSCM_E_INVALID, "--predictor %s=FILE is missing", of);
        if (j->causal)
            snprintf(name, sizeof name, "predictor-%.40s.safetensors", of);
        else
            snprintf(name, sizeof name, "predictor.safetensors");
        if (code == DSCM_OK) code = bundle_take_net(j, from, name, &entry, NULL, err);
        if (code == DSCM_OK)
            json_array_append_new(edges, json_pack("{s:s, s:s, s:o}", "parent", of, "child",
                                                   "image", "predictor", entry));
    }
    json_object_set_new(manifest, "edges", edges);
    if (code == DSCM_OK && j->predictors.count != json_array_size(parents))
        code =
            dscm_fail(err, DSCM_E_INVALID, "--predictor: %zu are given, the image has %zu parents",
                      j->predictors.count, json_array_size(parents));
    return code;
}

static dscm_code make_graph(bundle_job *j, json_t *manifest, dscm_error *err)
{
    json_t *image = NULL, *labels = json_array();
    dscm_code code = j->causal ? DSCM_OK : label_list(j, labels, err);
    if (code == DSCM_OK) code = make_image(j, &image, err);
    if (code == DSCM_OK && j->causal) {
        code = cli_bundle_variables(manifest, j->causal, image, &j->tolerances, &j->result_biases,
                                    err);
    } else if (code == DSCM_OK) {
        json_object_set_new(image, "parents", json_pack("[s]", j->variable));
        json_object_set_new(manifest, "variables",
                            json_pack("[{s:s, s:s, s:O, s:[], s:{s:s}}, O]", "name", j->variable,
                                      "kind", "categorical", "labels", labels, "parents",
                                      "mechanism", "kind", "root", image));
    }
    if (code == DSCM_OK) code = make_edges(j, manifest, json_object_get(image, "parents"), err);
    json_decref(labels);
    json_decref(image);
    return code;
}

static dscm_code make_list(bundle_job *j, json_t *evaluation, const char *key, const char *stem,
                           const option_list *from, dscm_error *err)
{
    char name[64];
    dscm_code code = DSCM_OK;
    if (!from->count) return DSCM_OK;
    json_t *list = json_array();
    for (size_t i = 0; code == DSCM_OK && i < from->count; i++) {
        json_t *entry = NULL;
        snprintf(name, sizeof name, "%s-%zu.safetensors", stem, i);
        code = bundle_take_net(j, from->items[i], name, &entry, NULL, err);
        json_array_append_new(list, entry);
    }
    json_object_set_new(evaluation, key, list);
    return code;
}

dscm_code bundle_take_pool(bundle_job *j, const char *vae, const char *name, const char *split,
                           dscm_error *err)
{
    char path[4096];
    dscm_dataset data;
    if (j->count == BUNDLE_FILES_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "more than %d files", BUNDLE_FILES_MAX);
    dscm_code code = path_in(j, name, path, sizeof path, err);
    if (code == DSCM_OK) code = dscm_dataset_open(&data, j->pool_data, split, err);
    if (code != DSCM_OK) return code;
    code = dscm_pool_write(path, vae, &data, j->pool_count, err);
    dscm_dataset_free(&data);
    add_name(j, name);
    return code;
}

/* --variable, or the first categorical one of a causal model that has none of that name; or NULL. */
static const char *scored_variable(const bundle_job *j, const json_t *manifest)
{
    const char *first = NULL;
    const json_t *variables = json_object_get(manifest, "variables");
    for (size_t i = 0; i < json_array_size(variables); i++) {
        const json_t *v = json_array_get(variables, i);
        const char *name = json_string_value(json_object_get(v, "name"));
        if (!json_object_get(v, "labels")) continue;
        if (strcmp(name, j->variable) == 0) return name;
        if (!first) first = name;
    }
    return first;
}

static dscm_code make_pool(bundle_job *j, json_t *evaluation, dscm_error *err)
{
    if (!j->vae || !j->pool_data) return DSCM_OK;
    json_object_set_new(evaluation, "pool", json_string("pool.safetensors"));
    return bundle_take_pool(j, j->vae, "pool.safetensors", j->pool_split, err);
}

static dscm_code make_evaluation(bundle_job *j, json_t *manifest, dscm_error *err)
{
    const struct {
        const char *key, *from;
    } nets[] = {{"oracle", j->oracle},
                {"vae", j->vae},
                {"autoencoder", j->autoencoder},
                {"baseline_autoencoder", j->baseline_autoencoder}};
    const char *variable = scored_variable(j, manifest);
    dscm_code code = DSCM_OK;
    if (!variable) return DSCM_OK; /* scores are about labels */
    json_t *evaluation = json_pack("{s:s}", "variable", variable);
    json_object_set(manifest, "evaluation", evaluation);
    for (size_t i = 0; code == DSCM_OK && i < sizeof nets / sizeof nets[0]; i++) {
        char name[64];
        json_t *entry = NULL;
        if (!nets[i].from) continue;
        snprintf(name, sizeof name, "%s.safetensors", nets[i].key);
        code = bundle_take_net(j, nets[i].from, name, &entry, NULL, err);
        json_object_set_new(evaluation, nets[i].key, entry);
    }
    if (code == DSCM_OK)
        code = make_list(j, evaluation, "class_autoencoders", "autoencoder", &j->class_autoencoders,
                         err);
    if (code == DSCM_OK) code = make_list(j, evaluation, "ensemble", "ensemble", &j->ensemble, err);
    if (code == DSCM_OK) code = make_pool(j, evaluation, err);
    json_decref(evaluation);
    return code;
}

/* Temperatures of the acceptance nets, in their order. */
static dscm_code add_temperatures(const bundle_job *j, json_t *manifest, const json_t *list,
                                  dscm_error *err)
{
    json_t *entry, *nets = json_object_get(manifest, "acceptance");
    size_t i;
    if (!list) return DSCM_OK;
    if (json_array_size(list) != json_array_size(nets))
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "%s: %zu temperatures for the bundle's %zu acceptance nets", j->measured,
                         json_array_size(list), json_array_size(nets));
    for (i = 0; (entry = json_array_get(nets, i)); i++)
        json_object_set(entry, "temperature", json_array_get(list, i));
    return DSCM_OK;
}

/* Takes the file of reference images, which is named relative to the findings'. */
static dscm_code take_references(bundle_job *j, json_t *quantiles, dscm_error *err)
{
    static const char own[] = "references.safetensors";
    char from[4096], to[4096];
    const char *name = json_string_value(json_object_get(quantiles, "references")),
               *slash = strrchr(j->measured, '/');
    if (!name) return DSCM_OK;
    if (strchr(name, '/'))
        return dscm_fail(err, DSCM_E_FORMAT, "%s: references: \"%s\" must be a file beside it",
                         j->measured, name);
    int length = snprintf(from, sizeof from, "%.*s%s", slash ? (int)(slash + 1 - j->measured) : 0,
                          j->measured, name);
    if (length < 0 || (size_t)length >= sizeof from)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", j->measured);
    dscm_code code = path_in(j, own, to, sizeof to, err);
    if (code == DSCM_OK) code = dscm_file_copy(from, to, err);
    bool there = false;
    for (size_t i = 0; i < j->count; i++) there |= strcmp(j->names[i], own) == 0;
    if (code == DSCM_OK && !there && j->count == BUNDLE_FILES_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "more than %d files", BUNDLE_FILES_MAX);
    if (code == DSCM_OK && !there) add_name(j, own);
    if (code == DSCM_OK) json_object_set_new(quantiles, "references", json_string(own));
    return code;
}

/* What was measured on this model: {"calibration": [...], "scale": "auto", "quality": {...}, "accepted": {...}} of a
 * report, {"temperatures": [...], "quantiles": {...}} of diffscm calibrate, and what was chosen:
 * {"confidence": P, "min_change": LEVELS, "change_cost": CLD, "max_spot": PIXELS, "rounds": [N, ...]}. All are optional. */
static dscm_code add_measured(bundle_job *j, json_t *manifest, dscm_error *err)
{
    json_error_t parse;
    if (!j->measured) return DSCM_OK;
    json_t *measured = dscm_json_read_file(j->measured, JSON_REJECT_DUPLICATES, &parse);
    if (!json_is_object(measured)) {
        json_decref(measured);
        if (parse.line < 1)
            return dscm_fail(err, dscm_json_code(&parse), "--measured: %s", parse.text);
        return dscm_fail(err, dscm_json_code(&parse), "%s: line %d: %s", j->measured, parse.line,
                         parse.text);
    }
    json_t *calibration = json_object_get(measured, "calibration");
    json_t *quality = json_object_get(measured, "quality");
    json_t *accepted = json_object_get(measured, "accepted");
    json_t *scale = json_object_get(measured, "scale");
    json_t *quantiles = json_object_get(measured, "quantiles");
    if (calibration) json_object_set(manifest, "calibration", calibration);
    if (quality) json_object_set(manifest, "quality", quality);
    if (scale) json_object_set(json_object_get(manifest, "defaults"), "scale", scale);
    static const char *const chosen[] = {"confidence", "min_change", "change_cost", "max_spot",
                                         "rounds"};
    for (size_t i = 0; i < sizeof chosen / sizeof chosen[0]; i++) {
        json_t *value = json_object_get(measured, chosen[i]);
        if (value) json_object_set(json_object_get(manifest, "defaults"), chosen[i], value);
    }
    if (accepted) json_object_set(json_object_get(manifest, "evaluation"), "accepted", accepted);
    dscm_code code = add_temperatures(j, manifest, json_object_get(measured, "temperatures"), err);
    if (code == DSCM_OK && quantiles) code = take_references(j, quantiles, err);
    if (code == DSCM_OK && quantiles) {
        json_t *known = json_object_get(manifest, "quantiles");
        if (known)
            json_object_update(known, quantiles);
        else
            json_object_set(manifest, "quantiles", quantiles);
    }
    json_decref(measured);
    return code;
}

/* Opens the result as any user would. */
static dscm_code show_bundle(const bundle_job *j, dscm_error *err)
{
    dscm_bundle *bundle = NULL;
    dscm_code code = dscm_bundle_open(&bundle, j->out, err);
    if (code == DSCM_OK) {
        const dscm_bundle_info *info = dscm_bundle_describe(bundle);
        printf("%s: %s %s, manifest %s\n", j->folder, info->name, info->version, info->sha256);
    }
    dscm_bundle_free(bundle);
    return code;
}

/* Leaves those names in the list of files that the manifest uses: judges may have been replaced. */
static void drop_unused_files(bundle_job *j, json_t *manifest)
{
    size_t kept = 0;
    json_object_del(manifest, "files");
    char *text = dscm_json_write(manifest, JSON_COMPACT, 0);
    for (size_t i = 0; text && i < j->count; i++) {
        char quoted[80];
        snprintf(quoted, sizeof quoted, "\"%s\"", j->names[i]);
        if (!strstr(text, quoted)) continue;
        memmove(j->names[kept], j->names[i], sizeof j->names[i]);
        j->files[kept] = j->names[kept];
        kept++;
    }
    if (text) j->count = kept;
    j->files[j->count] = NULL;
    free(text);
}

static dscm_code write_again(bundle_job *j, json_t *manifest, dscm_error *err)
{
    const char *name;
    json_t *hash;
    json_object_foreach(json_object_get(manifest, "files"), name, hash)
    {
        if (j->count < BUNDLE_FILES_MAX) add_name(j, name);
    }
    dscm_code code = j->judges ? bundle_take_judges(j, manifest, err) : DSCM_OK;
    if (code == DSCM_OK) code = add_measured(j, manifest, err);
    if (code == DSCM_OK) drop_unused_files(j, manifest);
    return code == DSCM_OK ? dscm_manifest_write(manifest, j->out, j->files, 0, err) : code;
}

/* ---- the folder ---- */
static dscm_code publish(const bundle_job *j, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < j->count; i++)
        code = cli_stage_move(&j->stage, j->names[i], err);
    return code == DSCM_OK ? cli_stage_move(&j->stage, "manifest.json", err) : code;
}

static dscm_code make(bundle_job *j, dscm_error *err)
{
    json_t *manifest =
        json_pack("{s:s, s:s, s:s, s:s, s:{s:s, s:I, s:f}}", "name", j->name, "version", j->version,
                  "licence", j->licence, "provenance", j->provenance, "defaults", "sampler",
                  j->sampler, "steps", (json_int_t)j->steps, "ratio", j->ratio);
    if (j->warning) json_object_set_new(manifest, "warning", json_string(j->warning));
    json_object_set_new(manifest, "calibration", json_array());
    dscm_code code = make_graph(j, manifest, err);
    if (code == DSCM_OK) code = make_evaluation(j, manifest, err);
    if (code == DSCM_OK && j->judges) code = bundle_take_judges(j, manifest, err);
    if (code == DSCM_OK) code = add_measured(j, manifest, err);
    if (code == DSCM_OK) code = dscm_manifest_write(manifest, j->out, j->files, 0, err);
    json_decref(manifest);
    return code == DSCM_OK ? show_bundle(j, err) : code;
}

static dscm_code run(bundle_job *j, dscm_error *err)
{
    dscm_code code = cli_stage_open(&j->stage, j->folder, err);
    j->out = j->stage.path;
    if (code == DSCM_OK) code = make(j, err);
    if (code == DSCM_OK) code = publish(j, err);
    cli_stage_close(&j->stage, err);
    return code;
}

static dscm_code change(bundle_job *j, json_t *manifest, dscm_error *err)
{
    const char *name;
    json_t *hash;
    dscm_code code = DSCM_OK;
    json_object_foreach(json_object_get(manifest, "files"), name, hash)
    {
        if (code == DSCM_OK) code = cli_stage_take(&j->stage, name, err);
    }
    if (code == DSCM_OK) code = write_again(j, manifest, err);
    if (code == DSCM_OK) code = show_bundle(j, err);
    return code == DSCM_OK ? publish(j, err) : code;
}

/* Puts judges and what was measured into a bundle that is whole; it stays as it was when that fails. */
static dscm_code update(bundle_job *j, dscm_error *err)
{
    char path[4096];
    dscm_bundle *bundle = NULL;
    dscm_code code = path_in(j, "manifest.json", path, sizeof path, err);
    if (code == DSCM_OK) code = dscm_bundle_open(&bundle, j->out, err);
    if (code != DSCM_OK) return code;
    const char *before = dscm_bundle_describe(bundle)->manifest;
    json_t *manifest = dscm_json_read(before, strlen(before), 0, NULL);
    code = cli_json_whole(path, err);
    if (code == DSCM_OK) {
        code = cli_stage_open(&j->stage, j->folder, err);
        j->out = j->stage.path;
        if (code == DSCM_OK) code = change(j, manifest, err);
        cli_stage_close(&j->stage, err);
    }
    json_decref(manifest);
    dscm_bundle_free(bundle);
    return code;
}

int cmd_bundle(int argc, char **argv)
{
    bundle_job j = {.version = "1",
                    .provenance = "trained with diffscm train",
                    .variable = "digit",
                    .labels = "0,1,2,3,4,5,6,7,8,9",
                    .sampler = "obelm",
                    .pool_split = "train",
                    .steps = 20,
                    .pool_count = 2000,
                    .ratio = 1};
    const cli_option options[] = {
        {"out", OPT_TEXT, &j.folder, 0, 0, "DIR", "the bundle"},
        {"name", OPT_TEXT, &j.name, 0, 0, "NAME", "of the model"},
        {"version", OPT_TEXT, &j.version, 0, 0, "TEXT", "of the model (1)"},
        {"licence", OPT_TEXT, &j.licence, 0, 0, "TEXT",
         "of the weights: \"CC BY 4.0\", \"MIT\", or \"not stated\" (also --license)"},
        {"provenance", OPT_TEXT, &j.provenance, 0, 0, "TEXT", "which data they come from"},
        {"warning", OPT_TEXT, &j.warning, 0, 0, "TEXT",
         "what who uses the model must know, shown on its page"},
        {"variable", OPT_TEXT, &j.variable, 0, 0, "NAME", "the image's parent (digit)"},
        {"labels", OPT_TEXT, &j.labels, 0, 0, "LIST",
         "its labels (0,1,2,3,4,5,6,7,8,9); \"quoted\" where one holds a comma"},
        {"labels-file", OPT_TEXT, &j.labels_file, 0, 0, "FILE", "its labels, one a line"},
        {"score", OPT_TEXT, &j.score, 0, 0, "FILE", "score network"},
        {"causal", OPT_TEXT, &j.causal, 0, 0, "FILE",
         "mechanisms of several variables, of diffscm fit; instead of --variable and --labels"},
        {"tolerance", OPT_LIST, &j.tolerances, 0, 0, "NAME=NUMBER",
         "how near to what is asked for a continuous variable counts as met (a twentieth of its "
         "range)"},
        {"result-bias", OPT_LIST, &j.result_biases, 0, 0, "NAME=NUMBER",
         "what the predictor of a continuous variable reads too much in results; searches and "
         "verdicts subtract it (0)"},
        {"predictor", OPT_LIST, &j.predictors, 0, 0, "FILE",
         "anti-causal predictor; with --causal NAME=FILE for each parent of the image"},
        {"oracle", OPT_TEXT, &j.oracle, 0, 0, "FILE", "clean classifier that judges"},
        {"vae", OPT_TEXT, &j.vae, 0, 0, "FILE", "VAE of the CLD"},
        {"autoencoder", OPT_TEXT, &j.autoencoder, 0, 0, "FILE", "all-class autoencoder (IM2)"},
        {"class-autoencoder", OPT_LIST, &j.class_autoencoders, 0, 0, "FILE",
         "of one class, once per label in order (IM1, IM2)"},
        {"baseline-autoencoder", OPT_TEXT, &j.baseline_autoencoder, 0, 0, "FILE",
         "all-class autoencoder of the prototype baseline, none of IM2's"},
        {"ensemble", OPT_LIST, &j.ensemble, 0, 0, "FILE", "small classifier of the baselines"},
        {"pool-data", OPT_TEXT, &j.pool_data, 0, 0, "DIR", "data set of the CLD's pool"},
        {"pool-split", OPT_TEXT, &j.pool_split, 0, 0, "NAME", "its split (train)"},
        {"search-split", OPT_TEXT, &j.search_split, 0, 0, "NAME",
         "the same of search-vae.st: images that the panel was not trained on"},
        {"pool-count", OPT_SIZE, &j.pool_count, 1, 1e6, "N", "images of the pool (2000)"},
        {"judges", OPT_TEXT, &j.judges, 0, 0, "DIR",
         "of tools/train_judges.sh: panel, acceptance nets, selection judges, search-vae; their "
         "pool is of "
         "--pool-data; with --out alone, into the bundle there"},
        {"sampler", OPT_TEXT, &j.sampler, 0, 0, "NAME", "default sampler (obelm)"},
        {"steps", OPT_SIZE, &j.steps, 2, 1e5, "N", "default steps (20)"},
        {"ratio", OPT_REAL, &j.ratio, 0.001, 1, "L", "default ratio (1)"},
        {"limit", OPT_FLAG, &j.limit, 0, 0, NULL, "guided walks stay in the image's range"},
        {"noise-limit", OPT_REAL, &j.noise_limit, 1, 100, "U",
         "guided walks start from noise of at most so many standard deviations (any)"},
        {"eta", OPT_REAL, &j.eta, 0, 1, "E", "share of fresh noise in guided walks (0)"},
        {"measured", OPT_TEXT, &j.measured, 0, 0, "FILE",
         "of a report: measured.json; with --out alone, into the bundle there"},
        {.name = NULL}};
    option_list rest = {.count = 0};
    int exit_code = cli_parse(
        argc, argv,
        "bundle --out DIR --name NAME --licence TEXT --score FILE --predictor FILE [options]",
        options, &rest);
    if (exit_code >= 0) return exit_code;
    if (rest.count) return cli_usage("bundle", "unexpected argument %s", rest.items[0]);
    bool alone = !j.name && !j.score && !j.predictors.count;
    if (!j.folder ||
        (alone ? !j.measured && !j.judges : !j.name || !j.score || !j.predictors.count))
        return cli_usage("bundle",
                         "--out, --name, --score and --predictor are needed, or --out and "
                         "--measured or --judges alone");
    if (!alone && !cli_is_name(j.name))
        return cli_usage("bundle", "--name \"%s\": must not be empty nor hold '/'", j.name);
    if (!alone) cli_take_licence("bundle", &j.licence);
    dscm_error err = {0};
    j.out = j.folder;
    dscm_code code = alone ? update(&j, &err) : run(&j, &err);
    return code == DSCM_OK ? EXIT_DONE : cli_fail("bundle", &err);
}
