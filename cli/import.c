/* diffscm import: a bundle from a published score network and predictor. */
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "cli/imagenet_labels.h"
#include "cli/json_file.h"
#include "cli/labels.h"
#include "cli/stage.h"
#include "core/io/choose.h"
#include "core/io/convert.h"
#include "core/io/file.h"
#include "core/io/json.h"
#include "core/models/config.h"
#include "core/models/infer.h"
#include "core/models/presets.h"

typedef struct import_run {
    const char *preset_name, *score, *predictor, *out, *schedule_name, *dtype_name;
    const char *score_key, *predictor_key;
    const char *name, *variable, *labels, *licence, *provenance;
    option_list set;           /* "[score.|predictor.]KEY=VALUE" */
    double scale;              /* NaN: not given */
    const dscm_preset *preset; /* or NULL */
    dscm_schedule_kind schedule;
    dscm_dtype dtype;
    dscm_net_config score_config, predictor_config;
    cli_stage stage; /* in `out` */
    json_t *files;   /* name -> sha256 */
} import_run;

/* ---- what is given ---- */
/* Adds the --set lines meant for `net` ("score" or "predictor") to the given keys. */
static dscm_code add_settings(const import_run *r, const char *net, json_t *given, dscm_error *err)
{
    for (size_t i = 0; i < r->set.count; i++) {
        const char *text = r->set.items[i], *equal = strchr(text, '='), *dot = strchr(text, '.');
        char key[64];
        if (!equal || equal == text || (size_t)(equal - text) >= sizeof key)
            return dscm_fail(err, DSCM_E_INVALID, "--set %s: must be [score.|predictor.]KEY=VALUE",
                             text);
        bool limited = dot && dot < equal;
        if (limited && strncmp(text, "score.", 6) != 0 && strncmp(text, "predictor.", 10) != 0)
            return dscm_fail(err, DSCM_E_INVALID,
                             "--set %s: the network must be score or predictor", text);
        if (limited &&
            ((size_t)(dot - text) != strlen(net) || strncmp(text, net, strlen(net)) != 0))
            continue;
        const char *from = limited ? dot + 1 : text;
        snprintf(key, sizeof key, "%.*s", (int)(equal - from), from);
        json_t *value = dscm_json_read(equal + 1, strlen(equal + 1), JSON_DECODE_ANY, NULL);
        if (!value) value = json_string(equal + 1);
        if (!value || json_object_set_new(given, key, value) != 0)
            return dscm_fail(err, DSCM_E_INVALID, "--set %s: the value is not UTF-8 text", text);
    }
    return DSCM_OK;
}

/* A --set line must not contradict the preset: one of the two is a mistake. */
static dscm_code merge_preset(const import_run *r, const char *net, const char *preset_text,
                              json_t *given, dscm_error *err)
{
    if (!r->preset) return DSCM_OK;
    json_t *preset = dscm_json_read(preset_text, strlen(preset_text), 0, NULL);
    const char *key;
    json_t *value;
    dscm_code code = preset ? DSCM_OK : dscm_fail(err, DSCM_E_MEMORY, "out of memory");
    json_object_foreach(preset, key, value)
    {
        json_t *other = json_object_get(given, key);
        if (code == DSCM_OK && other && !json_equal(other, value)) {
            char left[128] = "", right[128] = "";
            json_dumpb(other, left, sizeof left - 1, JSON_ENCODE_ANY | JSON_COMPACT);
            json_dumpb(value, right, sizeof right - 1, JSON_ENCODE_ANY | JSON_COMPACT);
            code = dscm_fail(err, DSCM_E_MISMATCH,
                             "--set %s.%s=%s contradicts --preset %s, which says %s", net, key,
                             left, r->preset->name, right);
        }
    }
    if (code == DSCM_OK && json_object_update_missing(given, preset) != 0)
        code = dscm_fail(err, DSCM_E_MEMORY, "out of memory");
    json_decref(preset);
    return code;
}

static dscm_code settle(import_run *r, dscm_error *err)
{
    static const char *const dtypes[] = {"f16", "bf16", "f32"};
    static const char *const long_names[] = {"float16", "bfloat16", "float32"};
    dscm_code code = DSCM_OK;
    if (r->preset_name) code = dscm_preset_find(&r->preset, r->preset_name, err);
    if (code == DSCM_OK && r->schedule_name)
        code = dscm_schedule_parse(&r->schedule, r->schedule_name, err);
    if (code != DSCM_OK) return code;
    if (!r->preset && !r->schedule_name)
        return dscm_fail(err, DSCM_E_INVALID,
                         "--schedule linear or cosine is needed without --preset: no file tells "
                         "the noise schedule");
    if (r->preset && r->schedule_name && r->schedule != r->preset->schedule)
        return dscm_fail(err, DSCM_E_MISMATCH, "--schedule %s contradicts --preset %s, which is %s",
                         r->schedule_name, r->preset->name,
                         dscm_schedule_name(r->preset->schedule));
    if (r->preset) r->schedule = r->preset->schedule;
    if (isnan(r->scale)) r->scale = r->preset ? r->preset->scale : 1;
    for (int i = DSCM_F16; i <= DSCM_F32; i++)
        if (strcmp(r->dtype_name, dtypes[i]) == 0 || strcmp(r->dtype_name, long_names[i]) == 0) {
            r->dtype = (dscm_dtype)i;
            return DSCM_OK;
        }
    return dscm_fail(err, DSCM_E_INVALID, "--dtype %s: must be f32, f16 or bf16", r->dtype_name);
}

/* ---- weights ---- */
/* Checks and writes the weights of an opened network. */
static dscm_code convert(import_run *r, const dscm_net *net, const dscm_tensors *set,
                         const char *from, const char *file, dscm_error *err)
{
    char path[4096], sha256[65];
    size_t unused = 0;
    int length = snprintf(path, sizeof path, "%s/%s", r->stage.path, file);
    if (length < 0 || (size_t)length >= sizeof path)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", r->out);
    dscm_code code = dscm_params_convert(&net->params, set, path, r->dtype, &unused, sha256, err);
    if (code != DSCM_OK) return code;
    if (unused)
        fprintf(stderr, "note: %s: %zu tensors that no forward pass uses are skipped\n", from,
                unused);
    return json_object_set_new(r->files, file, json_string(sha256)) == 0
               ? DSCM_OK
               : dscm_fail(err, DSCM_E_MEMORY, "out of memory");
}

static dscm_code check_preset(const import_run *r, const dscm_net *net, size_t expected,
                              const char *from, dscm_error *err)
{
    if (!r->preset || net->params.floats == expected) return DSCM_OK;
    return dscm_fail(err, DSCM_E_MISMATCH,
                     "%s: the network has %zu parameters, --preset %s has %zu", from,
                     net->params.floats, r->preset->name, expected);
}

/* The configuration, then the network; its weights are written only when both networks fit. */
static dscm_code open_network(const import_run *r, const char *which, const char *from,
                              dscm_net_config *config, dscm_net **net, dscm_tensors **set,
                              dscm_error *err)
{
    bool score = strcmp(which, "score") == 0;
    json_t *given = json_object();
    dscm_code code = given ? DSCM_OK : dscm_fail(err, DSCM_E_MEMORY, "out of memory");
    if (code == DSCM_OK) code = add_settings(r, which, given, err);
    if (code == DSCM_OK && !json_object_get(given, "arch"))
        json_object_set_new(given, "arch", json_string(score ? "unet" : "encoder"));
    if (code == DSCM_OK)
        code = merge_preset(r, which,
                            !r->preset ? NULL
                            : score    ? r->preset->score
                                       : r->preset->predictor,
                            given, err);
    if (code == DSCM_OK && !score && !json_object_get(given, "image_size"))
        json_object_set_new(given, "image_size",
                            json_integer((json_int_t)r->score_config.image_size));
    if (code == DSCM_OK) code = cli_json_whole(from, err);
    if (code == DSCM_OK) code = dscm_tensors_open(set, from, err);
    if (code == DSCM_OK) {
        code = dscm_tensors_choose(*set, "time_embed.0.weight",
                                   score ? r->score_key : r->predictor_key, err);
        if (code == DSCM_E_INVALID) dscm_error_prefix(err, "--%s-key", which);
    }
    if (code == DSCM_OK) code = dscm_net_config_infer(config, *set, from, given, err);
    if (code == DSCM_OK) code = dscm_net_open(net, config, err);
    if (code == DSCM_OK && r->preset)
        code = check_preset(r, *net,
                            score ? r->preset->score_parameters : r->preset->predictor_parameters,
                            from, err);
    json_decref(given);
    return code;
}

static dscm_code check_pair(const import_run *r, dscm_error *err)
{
    const dscm_net_config *s = &r->score_config, *p = &r->predictor_config;
    if (s->image_size != p->image_size || s->in_channels != p->in_channels)
        return dscm_fail(err, DSCM_E_MISMATCH, "%s is for %zux%zux%zu images, %s for %zux%zux%zu",
                         r->score, s->image_size, s->image_size, s->in_channels, r->predictor,
                         p->image_size, p->image_size, p->in_channels);
    if (s->num_classes && s->num_classes != p->out_channels)
        return dscm_fail(err, DSCM_E_MISMATCH, "%s knows %zu classes, %s %zu", r->score,
                         s->num_classes, r->predictor, p->out_channels);
    return DSCM_OK;
}

/* ---- manifest ---- */
static dscm_code read_labels(const import_run *r, json_t *labels, dscm_error *err)
{
    size_t want = r->predictor_config.out_channels;
    dscm_code code = cli_labels_read(labels, r->labels, err);
    if (code == DSCM_OK && json_array_size(labels) != want)
        code = dscm_fail(err, DSCM_E_MISMATCH, "%s: %zu labels, but %s tells %zu classes apart",
                         r->labels, json_array_size(labels), r->predictor, want);
    return code;
}

/* A file of names, ImageNet's for a thousand classes, or numbers. */
static dscm_code label_list(const import_run *r, json_t *labels, dscm_error *err)
{
    size_t classes = r->predictor_config.out_channels;
    char number[24];
    if (r->labels) return read_labels(r, labels, err);
    for (size_t i = 0; i < classes; i++) {
        snprintf(number, sizeof number, "%zu", i);
        json_array_append_new(
            labels, json_string(classes == CLI_IMAGENET_LABELS ? cli_imagenet_label(i) : number));
    }
    return DSCM_OK;
}

/* Defaults for a network whose passes take seconds: few steps of an exact sampler. */
static json_t *build_manifest(const import_run *r, json_t *labels)
{
    const dscm_net_config *c = &r->score_config;
    json_t *variables = json_pack(
        "[{s:s, s:s, s:O, s:{s:s}}, {s:s, s:s, s:I, s:I, s:I, s:[s], s:{s:s, s:s, s:i, "
        "s:{s:o, s:s}}}]",
        "name", r->variable, "kind", "categorical", "labels", labels, "mechanism", "kind", "root",
        "name", "image", "kind", "image", "height", (json_int_t)c->image_size, "width",
        (json_int_t)c->image_size, "channels", (json_int_t)c->in_channels, "parents", r->variable,
        "mechanism", "kind", "diffusion", "schedule", dscm_schedule_name(r->schedule), "steps",
        1000, "network", "config", dscm_net_config_to_json(c), "weights", "score.safetensors");
    json_t *edges = json_pack("[{s:s, s:s, s:{s:o, s:s}}]", "parent", r->variable, "child", "image",
                              "predictor", "config", dscm_net_config_to_json(&r->predictor_config),
                              "weights", "predictor.safetensors");
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:{s:s, s:i, s:f}, s:[{s:s, s:i, s:f}], "
                     "s:O}",
                     "format", "diffscm-bundle-1", "name", r->name, "version", "1", "licence",
                     r->licence, "provenance", r->provenance, "variables", variables, "edges",
                     edges, "defaults", "sampler", "residual", "steps", 20, "ratio", 1.0,
                     "calibration", "sampler", "residual", "steps", 20, "scale", r->scale, "files",
                     r->files);
}

static dscm_code write_manifest(const import_run *r, dscm_error *err)
{
    char path[4096];
    json_t *labels = json_array();
    dscm_code code = label_list(r, labels, err);
    json_t *manifest = code == DSCM_OK ? build_manifest(r, labels) : NULL;
    if (code == DSCM_OK) code = cli_json_whole(r->out, err);
    if (code == DSCM_OK && !manifest)
        code = dscm_fail(err, DSCM_E_INVALID,
                         "--name, --variable, --licence or --provenance is "
                         "not UTF-8 text");
    int length = snprintf(path, sizeof path, "%s/manifest.json", r->stage.path);
    if (code == DSCM_OK && (length < 0 || (size_t)length >= sizeof path))
        code = dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", r->out);
    if (code == DSCM_OK)
        code = cli_json_write(path, json_incref(manifest), JSON_INDENT(1) | JSON_REAL_PRECISION(9),
                              err);
    json_decref(manifest);
    json_decref(labels);
    return code;
}

/* ---- the command ---- */
static dscm_code check_folder(const import_run *r, dscm_error *err)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/manifest.json", r->out);
    if (length > 0 && (size_t)length < sizeof path && access(path, F_OK) == 0)
        return dscm_fail(err, DSCM_E_INVALID, "%s holds a bundle already; choose another folder",
                         r->out);
    return DSCM_OK;
}

/* All files of the bundle, as a whole or not at all. */
static dscm_code write_bundle(import_run *r, const dscm_net *score, const dscm_tensors *score_set,
                              const dscm_net *predictor, const dscm_tensors *predictor_set,
                              dscm_error *err)
{
    static const char *const names[] = {"score.safetensors", "predictor.safetensors",
                                        "manifest.json"};
    dscm_code code = cli_stage_open(&r->stage, r->out, err);
    if (code == DSCM_OK) code = convert(r, score, score_set, r->score, names[0], err);
    if (code == DSCM_OK) code = convert(r, predictor, predictor_set, r->predictor, names[1], err);
    if (code == DSCM_OK) code = write_manifest(r, err);
    for (size_t i = 0; code == DSCM_OK && i < sizeof names / sizeof *names; i++)
        code = cli_stage_move(&r->stage, names[i], err);
    cli_stage_close(&r->stage, err);
    return code;
}

static dscm_code run(import_run *r, dscm_error *err)
{
    dscm_net *score = NULL, *predictor = NULL;
    dscm_tensors *score_set = NULL, *predictor_set = NULL;
    dscm_code code = settle(r, err);
    if (code == DSCM_OK)
        code = open_network(r, "score", r->score, &r->score_config, &score, &score_set, err);
    if (code == DSCM_OK)
        code = open_network(r, "predictor", r->predictor, &r->predictor_config, &predictor,
                            &predictor_set, err);
    if (code == DSCM_OK) code = check_pair(r, err);
    if (code == DSCM_OK) code = check_folder(r, err);
    if (code == DSCM_OK) code = write_bundle(r, score, score_set, predictor, predictor_set, err);
    if (code == DSCM_OK)
        printf("%s: score network %zu parameters, predictor %zu parameters, %zu classes, "
               "%zux%zu images\n",
               r->out, score->params.floats, predictor->params.floats,
               r->predictor_config.out_channels, r->score_config.image_size,
               r->score_config.image_size);
    dscm_net_free(score);
    dscm_net_free(predictor);
    dscm_tensors_free(score_set);
    dscm_tensors_free(predictor_set);
    return code;
}

int cmd_import(int argc, char **argv)
{
    import_run r = {.dtype_name = "f32",
                    .variable = "class",
                    .provenance = "imported from PyTorch checkpoints",
                    .scale = (double)NAN};
    option_list rest = {.count = 0};
    const cli_option options[] = {
        {"preset", OPT_TEXT, &r.preset_name, 0, 0, "NAME", "64, 128, 256, 256-uncond or 512"},
        {"score", OPT_TEXT, &r.score, 0, 0, "FILE", "diffusion network (.pt or .safetensors)"},
        {"predictor", OPT_TEXT, &r.predictor, 0, 0, "FILE", "classifier on noised images"},
        {"score-key", OPT_TEXT, &r.score_key, 0, 0, "KEY",
         "which of several networks in the file of --score: ema, model, …"},
        {"predictor-key", OPT_TEXT, &r.predictor_key, 0, 0, "KEY", "the same for --predictor"},
        {"out", OPT_TEXT, &r.out, 0, 0, "DIR", "the bundle's folder"},
        {"dtype", OPT_TEXT, &r.dtype_name, 0, 0, "TYPE", "storage: f32 (default), f16 or bf16"},
        {"set", OPT_LIST, &r.set, 0, 0, "KEY=VALUE",
         "a configuration key, for one network as score.KEY or predictor.KEY; repeatable"},
        {"schedule", OPT_TEXT, &r.schedule_name, 0, 0, "NAME", "linear or cosine"},
        {"scale", OPT_REAL, &r.scale, 0, 1000, "S", "guidance scale to start from"},
        {"labels", OPT_TEXT, &r.labels, 0, 0, "FILE", "class names, one a line (ImageNet's)"},
        {"name", OPT_TEXT, &r.name, 0, 0, "NAME", "of the bundle (the folder's name)"},
        {"variable", OPT_TEXT, &r.variable, 0, 0, "NAME", "of the predicted variable (class)"},
        {"licence", OPT_TEXT, &r.licence, 0, 0, "TEXT",
         "of the checkpoints: \"MIT\", \"CC BY 4.0\", or \"not stated\" (also --license)"},
        {"provenance", OPT_TEXT, &r.provenance, 0, 0, "TEXT", "where they come from"},
        {.name = NULL}};
    int exit_code = cli_parse(
        argc, argv, "import --preset NAME --licence TEXT --score FILE --predictor FILE --out DIR",
        options, &rest);
    if (exit_code >= 0) return exit_code;
    if (rest.count) return cli_usage(argv[0], "unexpected argument \"%s\"", rest.items[0]);
    if (!r.score || !r.predictor || !r.out)
        return cli_usage(argv[0], "--score, --predictor and --out are needed");
    char folder[4096];
    if (!r.name) { /* the last part of the path, with or without '/' at the end */
        snprintf(folder, sizeof folder, "%s", r.out);
        r.name = basename(folder);
    }
    if (!cli_is_name(r.name))
        return cli_usage(argv[0], "--name \"%s\": must not be empty nor hold '/'", r.name);
    cli_take_licence(argv[0], &r.licence);
    dscm_error err = {0};
    r.files = json_object();
    dscm_code code = run(&r, &err);
    json_decref(r.files);
    return code == DSCM_OK ? EXIT_DONE : cli_fail(argv[0], &err);
}
