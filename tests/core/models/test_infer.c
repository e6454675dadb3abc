/* Configurations told from tensors alone: every published preset at full size (names and shapes in
 * a sparse file), and small networks with every kind of resampling and pool. */
#include "core/base/memory.h"
#include "core/models/config.h"
#include "core/models/infer.h"
#include "core/models/presets.h"
#include "tests/harness.h"

#include <unistd.h>

/* A safetensors file of zeros with the parameters of a network: its data is a hole. */
static dscm_tensors *sparse_file(const dscm_net *net, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file) return NULL;
    fseek(file, 8, SEEK_SET);
    fprintf(file, "{");
    for (size_t i = 0; i < net->params.count; i++) {
        const dscm_param *p = &net->params.items[i];
        fprintf(file, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", i ? "," : "", p->name);
        for (int d = 0; d < p->ndim; d++) fprintf(file, d ? ",%zu" : "%zu", p->dims[d]);
        fprintf(file, "],\"data_offsets\":[%zu,%zu]}", 4 * p->offset, 4 * (p->offset + p->count));
    }
    fprintf(file, "}");
    uint64_t length = (uint64_t)ftell(file) - 8;
    fseek(file, 0, SEEK_SET);
    fwrite(&length, 8, 1, file);
    fclose(file);
    dscm_tensors *set = NULL;
    dscm_error err = {0};
    if (truncate(path, (off_t)(8 + length + 4 * net->params.floats)) != 0 ||
        dscm_tensors_open(&set, path, &err) != DSCM_OK)
        printf("    %s\n", err.message);
    unlink(path);
    return set;
}

static dscm_tensors *tensors_of(const json_t *json, dscm_net_config *config, size_t *floats)
{
    dscm_error err = {0};
    dscm_net *net = NULL;
    char path[64];
    snprintf(path, sizeof path, "/tmp/dscm-infer-%d.safetensors", (int)getpid());
    if (dscm_net_config_parse(config, json, "test", &err) != DSCM_OK ||
        dscm_net_open(&net, config, &err) != DSCM_OK) {
        printf("    %s\n", err.message);
        return NULL;
    }
    *floats = net->params.floats;
    dscm_tensors *set = sparse_file(net, path);
    dscm_net_free(net);
    return set;
}

/* Infers with only the keys that no tensor shows and compares with the whole configuration. */
static void check_round_trip(const char *text, size_t parameters)
{
    static const char *const hidden[] = {
        "image_size",        "attention_order",      "num_heads",
        "num_head_channels", "pool_attention_order", "num_res_blocks"};
    json_t *json = json_loads(text, 0, NULL), *given = json_object();
    dscm_net_config config, told;
    dscm_error err = {0};
    size_t floats = 0;
    dscm_tensors *set = json ? tensors_of(json, &config, &floats) : NULL;
    CHECK(set != NULL);
    if (set) {
        if (parameters) CHECK_INT(floats, parameters);
        for (size_t i = 0; i < TEST_COUNT(hidden); i++)
            if (json_object_get(json, hidden[i]))
                json_object_set(given, hidden[i], json_object_get(json, hidden[i]));
        CHECK_INT(dscm_net_config_infer(&told, set, "net.pt", given, &err), DSCM_OK);
        CHECK_STR(err.message, "");
        json_t *a = dscm_net_config_to_json(&config), *b = dscm_net_config_to_json(&told);
        /* places are told from the finest level down, as far as the levels reach */
        json_object_del(a, "attention_resolutions");
        json_object_del(b, "attention_resolutions");
        json_object_del(a, "conv_resample"); /* nothing to tell with residual resampling */
        json_object_del(b, "conv_resample");
        char *left = json_dumps(a, JSON_SORT_KEYS), *right = json_dumps(b, JSON_SORT_KEYS);
        CHECK_STR(right, left);
        free(left);
        free(right);
        json_decref(a);
        json_decref(b);
        CHECK_INT(dscm_net_config_infer(&told, set, "net.pt", json, &err), DSCM_OK);
        CHECK_STR(err.message, "");
    }
    dscm_tensors_free(set);
    json_decref(json);
    json_decref(given);
}

static void presets(void)
{
    for (size_t i = 0; i < DSCM_PRESETS; i++) {
        check_round_trip(dscm_presets[i].score, dscm_presets[i].score_parameters);
        check_round_trip(dscm_presets[i].predictor, dscm_presets[i].predictor_parameters);
    }
}

static void small_networks(void)
{
    check_round_trip(
        "{\"arch\":\"unet\",\"image_size\":28,\"attention_order\":\"new\",\"num_heads\":2,"
        "\"attention_resolutions\":\"14\"}",
        0);
    check_round_trip(
        "{\"arch\":\"unet\",\"image_size\":28,\"conv_resample\":false,\"num_res_blocks\":2,"
        "\"attention_order\":\"legacy\",\"num_heads\":1,\"num_classes\":10,"
        "\"use_scale_shift_norm\":false,\"attention_resolutions\":\"7,14\"}",
        0);
    check_round_trip("{\"arch\":\"encoder\",\"pool\":\"adaptive\",\"num_res_blocks\":3,"
                     "\"image_size\":32,\"attention_order\":\"legacy\",\"num_head_channels\":16}",
                     0);
    check_round_trip("{\"arch\":\"encoder\",\"pool\":\"spatial\",\"resblock_updown\":false,"
                     "\"image_size\":32,\"attention_order\":\"new\",\"num_heads\":1}",
                     0);
}

/* Infers with a JSON object of given keys; the message must hold every part. */
static void check_refused(const dscm_tensors *set, const char *given_text, const char *part_a,
                          const char *part_b)
{
    json_t *given = json_loads(given_text, 0, NULL);
    dscm_net_config told;
    dscm_error err = {0};
    CHECK(dscm_net_config_infer(&told, set, "net.pt", given, &err) != DSCM_OK);
    CHECK_HAS(err.message, part_a);
    CHECK_HAS(err.message, part_b);
    CHECK_HAS(err.message, "net.pt");
    json_decref(given);
}

static void contradictions(void)
{
    json_t *json = json_loads(dscm_presets[3].score, 0, NULL);
    dscm_net_config config;
    size_t floats = 0;
    dscm_tensors *set = tensors_of(json, &config, &floats);
    REQUIRE(set != NULL);
#define REST "\"image_size\":256,\"attention_order\":\"legacy\",\"num_head_channels\":64"
    check_refused(set, "{" REST ",\"model_channels\":192}", "model_channels is given as 192",
                  "256");
    check_refused(set, "{" REST ",\"num_classes\":1000}", "num_classes is given as 1000", "show 0");
    check_refused(set, "{" REST ",\"channel_mult\":\"1,2,3,4\"}", "\"1,2,3,4\"", "[1,1,2,2,4,4]");
    check_refused(set, "{" REST ",\"attention_resolutions\":[16]}", "[16]", "[32,16,8]");
    check_refused(set, "{" REST ",\"num_res_blocks\":3}", "given as 3", "show 2");
    check_refused(set, "{" REST ",\"arch\":\"encoder\"}", "\"encoder\"", "\"unet\"");
    check_refused(set, "{" REST ",\"resblock_updown\":false}", "false", "true");
    check_refused(set, "{" REST ",\"nonsense\":1}", "nonsense", "unknown key");
    check_refused(set, "{\"image_size\":256,\"num_heads\":4}", "attention_order", "legacy or new");
    check_refused(set, "{\"image_size\":256,\"attention_order\":\"new\"}", "heads", "give");
    check_refused(set, "{\"attention_order\":\"new\",\"num_heads\":1}", "image_size", "give");
    dscm_tensors_free(set);
    json_decref(json);
}

static void preset_names(void)
{
    static const char *const same[] = {"256-uncond", "imagenet-256-uncond",
                                       "256x256_diffusion_uncond", "imagenet256_uncond"};
    const dscm_preset *preset = NULL;
    dscm_error err = {0};
    for (size_t i = 0; i < TEST_COUNT(same); i++) {
        CHECK_INT(dscm_preset_find(&preset, same[i], &err), DSCM_OK);
        CHECK_STR(preset->name, "256-uncond");
    }
    CHECK_INT(dscm_preset_find(&preset, "64x64_diffusion", &err), DSCM_OK);
    CHECK_STR(preset->name, "64");
    CHECK_INT(dscm_preset_find(&preset, "96", &err), DSCM_E_UNKNOWN);
    CHECK_HAS(err.message, "\"96\" is not one of 64");
}

/* Keys of the other kind of network are passed over when they switch nothing on. */
static void keys_of_the_other_kind(void)
{
    static const struct {
        const char *text;
        bool accepted;
    } cases[] = {
        {"{\"arch\":\"encoder\",\"learn_sigma\":false,\"num_classes\":null}", true},
        {"{\"arch\":\"encoder\",\"learn_sigma\":true}", false},
        {"{\"arch\":\"encoder\",\"num_classes\":10}", false},
        {"{\"arch\":\"unet\",\"pool\":\"attention\",\"pool_attention_order\":\"new\"}", true},
        {"{\"arch\":\"cnn\",\"learn_sigma\":false}", false},
        {"{\"arch\":\"encoder\",\"nonsense\":false}", false},
    };
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        json_t *object = json_loads(cases[i].text, 0, NULL);
        dscm_net_config config;
        dscm_error err = {0};
        REQUIRE(object != NULL);
        dscm_code code = dscm_net_config_parse(&config, object, "test", &err);
        if ((code == DSCM_OK) != cases[i].accepted)
            TEST_FAIL_("%s: %s", cases[i].text, code == DSCM_OK ? "accepted" : err.message);
        if (code != DSCM_OK) CHECK_HAS(err.message, "unknown key");
        json_decref(object);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"keys_of_the_other_kind", keys_of_the_other_kind},
                                      {"presets", presets},
                                      {"small_networks", small_networks},
                                      {"contradictions", contradictions},
                                      {"preset_names", preset_names}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
