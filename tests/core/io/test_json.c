/* JSON for which memory runs out while it is built, written or read: all of it or an error, never a part. */
#include <unistd.h>

#include "core/base/memory.h"
#include "core/bundle/assemble.h"
#include "core/causal/model.h"
#include "core/io/file.h"
#include "core/io/json.h"
#include "core/io/tensors.h"
#include "core/models/config.h"
#include "core/models/infer.h"
#include "tests/failing_json.h"
#include "tests/harness.h"

/* ---- files ---- */
static char folder[] = "/tmp/dscm-json-XXXXXX", manifest_path[64], weights_path[64];

static dscm_code write_weights(dscm_error *err)
{
    const size_t matrix[2] = {2, 3}, list[1] = {6}, image[4] = {1, 2, 1, 3};
    const float values[6] = {1, 2, 3, 4, 5, 6};
    const dscm_tensor_out tensors[] = {
        {"matrix", matrix, 2, values}, {"list", list, 1, values}, {"image", image, 4, values}};
    const char *const metadata[] = {"settings", "{\"config\":{\"arch\":\"cnn\"}}", "samples_done",
                                    "12", NULL};
    return dscm_safetensors_write(weights_path, tensors, 3, DSCM_F32, metadata, err);
}

static const char causal_text[] =
    "{\"variables\":[{\"name\":\"thickness\",\"kind\":\"continuous\",\"parents\":[],\"min\":0.5,"
    "\"max\":9,\"mechanism\":{\"bias\":[0.25,-1]}},"
    "{\"name\":\"digit\",\"kind\":\"categorical\",\"parents\":[\"thickness\"],"
    "\"labels\":[\"zero\",\"one\"],\"mechanism\":{\"bias\":[0,1],\"weights\":[[2],[-2.5]],"
    "\"mean\":[3],\"deviation\":[1.5]}},"
    "{\"name\":\"image\",\"kind\":\"image\",\"parents\":[\"digit\",\"thickness\"]}]}";

/* A causal model read from text, in memory. */
static dscm_code read_causal(dscm_causal *m, dscm_error *err)
{
    json_error_t why;
    *m = (dscm_causal){.image = -1};
    json_t *json = dscm_json_read(causal_text, strlen(causal_text), 0, &why);
    dscm_code code = json ? dscm_causal_from_json(m, json, "causal", err)
                          : dscm_fail(err, dscm_json_code(&why), "causal: %s", why.text);
    json_decref(json);
    return code;
}

static dscm_net_config network;

static dscm_code write_manifest(dscm_error *err)
{
    static const char *const files[] = {"weights.safetensors", NULL};
    static dscm_causal m;
    unsigned long mark = dscm_json_failures();
    dscm_code code = read_causal(&m, err);
    json_t *manifest = json_pack("{s:s}", "name", "model");
    json_object_set_new(manifest, "network", dscm_net_config_to_json(&network));
    if (code == DSCM_OK) json_object_set_new(manifest, "causal", dscm_causal_json(&m));
    if (code == DSCM_OK) code = dscm_manifest_write(manifest, folder, files, mark, err);
    json_decref(manifest);
    dscm_causal_free(&m);
    return code;
}

static const struct {
    const char *name, *path;
    dscm_code (*write)(dscm_error *err);
} writers[] = {{"safetensors", weights_path, write_weights},
               {"manifest", manifest_path, write_manifest}};

/* One call of the JSON library's allocator fails, each in turn: the file is the old one, or all of the new. */
static void files_are_whole_or_old(void)
{
    static const dscm_piece old = {"old", 3};
    for (size_t i = 0; i < TEST_COUNT(writers); i++) {
        const char *path = writers[i].path;
        unsigned char *whole = NULL, *got = NULL;
        size_t size = 0, got_size = 0;
        long refused = 0;
        dscm_error err = {0};
        fail_nth(0);
        CHECK_INT(writers[i].write(&err), DSCM_OK);
        CHECK_STR(err.message, "");
        long all = failing_calls;
        CHECK(all > 50);
        REQUIRE(dscm_file_read(path, 1 << 20, &whole, &size, &err) == DSCM_OK);
        for (long n = 1; n <= all; n++) {
            REQUIRE(dscm_file_replace(path, &old, 1, &err) == DSCM_OK);
            err = (dscm_error){0};
            fail_nth(n);
            dscm_code code = writers[i].write(&err);
            fail_nth(0);
            REQUIRE(dscm_file_read(path, 1 << 20, &got, &got_size, NULL) == DSCM_OK);
            if (code == DSCM_OK) {
                if (got_size != size || memcmp(got, whole, size) != 0)
                    TEST_FAIL_("%s: allocation %ld of %ld: another file", writers[i].name, n, all);
            } else {
                refused++;
                if (code != DSCM_E_MEMORY)
                    TEST_FAIL_("%s: allocation %ld of %ld: code %d", writers[i].name, n, all, code);
                CHECK_HAS(err.message, "out of memory");
                CHECK(got_size == 3 && memcmp(got, "old", 3) == 0);
            }
            dscm_free(got);
        }
        CHECK(refused > all / 2);
        REQUIRE(dscm_file_replace(path, &(dscm_piece){whole, size}, 1, &err) == DSCM_OK);
        dscm_free(whole);
    }
}

/* ---- reading ---- */
static dscm_code read_settings(json_t **out, dscm_error *err)
{
    return dscm_network_settings(out, weights_path, err);
}

static dscm_code read_text(json_t **out, dscm_error *err)
{
    static const char text[] = "{\"a long name of twenty\": [\"a text that grows\", 1.5, {}, -7]}";
    json_error_t why;
    *out = dscm_json_read(text, strlen(text), JSON_REJECT_DUPLICATES, &why);
    return *out ? DSCM_OK : dscm_fail(err, dscm_json_code(&why), "%s", why.text);
}

static dscm_code read_and_tell_causal(json_t **out, dscm_error *err)
{
    static dscm_causal m;
    dscm_code code = read_causal(&m, err);
    *out = code == DSCM_OK ? dscm_causal_json(&m) : NULL;
    dscm_causal_free(&m);
    if (code == DSCM_OK && !*out) code = dscm_fail(err, DSCM_E_MEMORY, "out of memory");
    return code;
}

static const struct {
    const char *name;
    dscm_code (*read)(json_t **out, dscm_error *err);
} readers[] = {
    {"settings", read_settings}, {"text", read_text}, {"causal model", read_and_tell_causal}};

static void values_are_whole_or_none(void)
{
    dscm_error err = {0};
    CHECK_INT(write_weights(&err), DSCM_OK);
    for (size_t i = 0; i < TEST_COUNT(readers); i++) {
        json_t *whole = NULL, *got = NULL;
        fail_nth(0);
        CHECK_INT(readers[i].read(&whole, &err), DSCM_OK);
        long all = failing_calls;
        for (long n = 1; n <= all; n++) {
            err = (dscm_error){0};
            fail_nth(n);
            dscm_code code = readers[i].read(&got, &err);
            fail_nth(0);
            if (code == DSCM_OK ? !json_equal(got, whole) : got || code != DSCM_E_MEMORY)
                TEST_FAIL_("%s: allocation %ld of %ld: code %d", readers[i].name, n, all, code);
            if (code != DSCM_OK) CHECK_HAS(err.message, "out of memory");
            json_decref(got);
            got = NULL;
        }
        json_decref(whole);
    }
}

/* What the tensors of a network show is all of it, or an error. */
static void inferred_networks_are_whole_or_none(void)
{
    dscm_error err = {0};
    dscm_net *net = NULL;
    dscm_tensors *set = NULL;
    REQUIRE(dscm_net_open(&net, &network, &err) == DSCM_OK);
    float *values = dscm_alloc(net->params.floats, sizeof *values, "values", &err);
    REQUIRE(values != NULL);
    REQUIRE(dscm_params_save(&net->params, values, weights_path, DSCM_F32, NULL, &err) == DSCM_OK);
    REQUIRE(dscm_tensors_open(&set, weights_path, &err) == DSCM_OK);
    json_t *given =
        json_pack("{s:s, s:i, s:i}", "attention_order", "legacy", "num_heads", 1, "image_size", 28);
    dscm_net_config whole, got;
    fail_nth(0);
    CHECK_INT(dscm_net_config_infer(&whole, set, "net", given, &err), DSCM_OK);
    CHECK_STR(err.message, "");
    CHECK_INT(whole.levels, 3);
    CHECK_NEAR(whole.channel_mult[1], 1.5, 0);
    long all = failing_calls;
    CHECK(all > 10);
    for (long n = 1; n <= all; n++) {
        err = (dscm_error){0};
        fail_nth(n);
        dscm_code code = dscm_net_config_infer(&got, set, "net", given, &err);
        fail_nth(0);
        if (code == DSCM_OK) {
            CHECK_INT(got.levels, whole.levels);
            CHECK(memcmp(got.channel_mult, whole.channel_mult, sizeof got.channel_mult) == 0);
            CHECK_INT(got.attention_count, whole.attention_count);
        } else {
            CHECK_INT(code, DSCM_E_MEMORY);
        }
    }
    json_decref(given);
    dscm_tensors_free(set);
    dscm_net_free(net);
    dscm_free(values);
}

/* ---- the marks ---- */
static void marks_tell_what_is_lacking(void)
{
    unsigned long before = dscm_json_failures();
    json_t *value = json_pack("{s:i}", "a", 1);
    char *text = dscm_json_write(value, JSON_COMPACT, before);
    REQUIRE(text != NULL);
    CHECK_STR(text, "{\"a\":1}");
    free(text);
    dscm_json_lack();
    CHECK_INT(dscm_json_failures(), before + 1);
    CHECK(dscm_json_write(value, JSON_COMPACT, before) == NULL);
    text = dscm_json_write(value, JSON_COMPACT, before + 1);
    CHECK(text != NULL);
    free(text);
    CHECK(dscm_json_whole(value, before + 1) == value);
    CHECK(dscm_json_whole(value, before) == NULL); /* given up */
    CHECK(dscm_json_write(NULL, 0, before + 1) == NULL);
    json_error_t why;
    CHECK(dscm_json_read("[1,", 3, 0, &why) == NULL);
    CHECK_INT(dscm_json_code(&why), DSCM_E_FORMAT);
    CHECK(dscm_json_read_file("/nonexistent/file", 0, &why) == NULL);
    CHECK_INT(dscm_json_code(&why), DSCM_E_FORMAT);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"files_are_whole_or_old", files_are_whole_or_old},
        {"values_are_whole_or_none", values_are_whole_or_none},
        {"inferred_networks_are_whole_or_none", inferred_networks_are_whole_or_none},
        {"marks_tell_what_is_lacking", marks_tell_what_is_lacking},
    };
    static const char text[] =
        "{\"arch\":\"unet\",\"image_size\":16,\"in_channels\":1,\"out_channels\":1,"
        "\"model_channels\":64,\"num_res_blocks\":1,\"channel_mult\":[1,1.5,1],"
        "\"attention_resolutions\":[4],\"num_heads\":1}";
    failing_install();
    json_t *config = dscm_json_read(text, strlen(text), 0, NULL);
    dscm_code known = dscm_net_config_parse(&network, config, "network", NULL);
    json_decref(config);
    if (known != DSCM_OK) return 1;
    if (!mkdtemp(folder)) return 1;
    snprintf(manifest_path, sizeof manifest_path, "%s/manifest.json", folder);
    snprintf(weights_path, sizeof weights_path, "%s/weights.safetensors", folder);
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    unlink(manifest_path);
    unlink(weights_path);
    rmdir(folder);
    return status;
}
