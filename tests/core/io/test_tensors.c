/* safetensors, half precision, parameter tables and configurations. */
#include <jansson.h>
#include <unistd.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/io/file.h"
#include "core/io/finite.h"
#include "core/io/tensors.h"
#include "core/models/config.h"
#include "tests/core/io/archive.h"
#include "tests/harness.h"

static const char *scratch_path(void)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/dscm-tensors-%d.safetensors", (int)getpid());
    return path;
}

/* Header text and data bytes as a file. */
static buffer build_file(const char *header, size_t data)
{
    static const unsigned char zeros[256];
    buffer b = {0};
    put_number(&b, strlen(header), 8);
    put_text(&b, header);
    put(&b, zeros, data);
    return b;
}

static void check_refused(const void *bytes, size_t size, const char *part)
{
    dscm_tensors *set = NULL;
    dscm_error err = {0};
    unsigned char *copy = malloc(size ? size : 1); /* exact size: ASan guards its end */
    if (size) memcpy(copy, bytes, size);
    CHECK(dscm_tensors_open_memory(&set, copy, size, "w.safetensors", &err) != DSCM_OK);
    CHECK_HAS(err.message, "w.safetensors");
    CHECK_HAS(err.message, part);
    dscm_tensors_free(set);
    free(copy);
}

static void header_faults(void)
{
    static const struct {
        const char *header;
        size_t data;
        const char *part;
    } faults[] = {
        {"[]", 0, "not a JSON object"},
        {"{\"a\":", 0, "header"},
        {"{\"a\":1}", 0, "dtype (none)"},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "F31"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "impossible size"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4,
         "impossible size"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "do not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "do not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "do not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "do not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 8,
         "last 4 data bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
         "4 data bytes before"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
         12, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, "duplicate"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296,4294967296],"
         "\"data_offsets\":[0,0]}}",
         0, "impossible size"},
        {"{\"__metadata__\":{\"k\":1}}", 0, "not a string"},
        {"{\"__metadata__\":[]}", 0, "not an object"},
        {"{\"a\":{\"x\":[[1]]}}", 0, "nests deeper"},
    };
    for (size_t i = 0; i < TEST_COUNT(faults); i++) {
        buffer b = build_file(faults[i].header, faults[i].data);
        check_refused(b.bytes, b.size, faults[i].part);
        buffer_free(&b);
    }
    static const unsigned char huge[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    check_refused(huge, sizeof huge, "neither safetensors nor");
    /* 8 MiB of empty objects would become hundreds of megabytes */
    buffer b = {0};
    put_number(&b, 7 << 20, 8);
    put_text(&b, "{\"a\":[");
    while (b.size < ((size_t)7 << 20) + 8) put_text(&b, "{},");
    check_refused(b.bytes, b.size, "more than 65536");
    buffer_free(&b);
}

/* Values that every storage type holds exactly. */
static void round_trip(void)
{
    const size_t dims[2] = {3, 4}, none[1] = {0};
    float values[12], back[12];
    dscm_error err = {0};
    for (int i = 0; i < 12; i++) values[i] = (float)(i - 6) * 0.25f;
    const dscm_tensor_out tensors[] = {
        {"w \"1\"", dims, 2, values}, {"empty", none, 1, values}, {"scalar", none, 0, values + 1}};
    const char *const metadata[] = {"key", "välue", NULL};
    for (int dtype = DSCM_F16; dtype <= DSCM_F32; dtype++) {
        dscm_tensors *set = NULL;
        CHECK_INT(
            dscm_safetensors_write(scratch_path(), tensors, 3, (dscm_dtype)dtype, metadata, &err),
            DSCM_OK);
        CHECK_INT(dscm_tensors_open(&set, scratch_path(), &err), DSCM_OK);
        CHECK_STR(err.message, "");
        REQUIRE(set != NULL);
        const dscm_tensor_info *info = dscm_tensors_find(set, "w \"1\"");
        REQUIRE(info != NULL);
        CHECK_INT(info->dtype, dtype);
        CHECK_INT(dscm_tensors_read_f32(set, info, back, &err), DSCM_OK);
        CHECK(memcmp(back, values, sizeof values) == 0);
        CHECK_STR(dscm_tensors_metadata(set, "key"), "välue");
        CHECK(dscm_tensors_metadata(set, "other") == NULL);
        CHECK(dscm_tensors_find(set, "other") == NULL);
        CHECK_INT(dscm_tensors_find(set, "empty")->count, 0);
        CHECK_INT(dscm_tensors_find(set, "scalar")->count, 1);
        dscm_tensors_free(set);
    }
    unsigned char *bytes;
    size_t size;
    REQUIRE(dscm_file_read(scratch_path(), 1 << 20, &bytes, &size, &err) == DSCM_OK);
    for (size_t cut = 0; cut < size; cut++) check_refused(bytes, cut, "");
    dscm_free(bytes);
    unlink(scratch_path());
}

/* Every 16-bit pattern goes to float and back; floats between two neighbours round to even. */
static void half_precision(void)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float v = dscm_half_to_float((uint16_t)h), b = dscm_bf16_to_float((uint16_t)h);
        if (!isnan(v)) CHECK_INT(dscm_float_to_half(v), h);
        if (!isnan(b)) CHECK_INT(dscm_float_to_bf16(b), h);
        CHECK(!isnan(v) || isnan(dscm_half_to_float(dscm_float_to_half(v))));
        CHECK(!isnan(b) || isnan(dscm_bf16_to_float(dscm_float_to_bf16(b))));
        if ((h & 0x7fffu) >= 0x7bffu) continue;
        float next = dscm_half_to_float((uint16_t)(h + 1)), middle = (v + next) / 2;
        CHECK_INT(dscm_float_to_half(middle), h & 1 ? h + 1 : h);
    }
    CHECK_INT(dscm_float_to_half(65519.996f), 0x7bff);
    CHECK_INT(dscm_float_to_half(65520), 0x7c00);
    CHECK_INT(dscm_float_to_half(0x1p-25f), 0);
    CHECK_INT(dscm_float_to_half(0x1.002p-25f), 1);
    CHECK_NEAR(dscm_half_to_float(0x3555), 0.333251953125, 0);
    CHECK_NEAR(dscm_bf16_to_float(0x3fc0), 1.5, 0);
}

static void parameter_tables(void)
{
    dscm_params table = {0}, other = {0};
    dscm_error err = {0};
    const size_t matrix[2] = {2, 3}, turned[2] = {3, 2}, vector[1] = {2};
    CHECK(dscm_params_add(&table, "label_emb.weight", matrix, 2, DSCM_INIT_NORMAL, 0, &err) >= 0);
    CHECK(dscm_params_add(&table, "out.2.bias", vector, 1, DSCM_INIT_ZERO, 0, &err) >= 0);
    float values[8], back[8];
    size_t unused = 99;
    for (int i = 0; i < 8; i++) values[i] = (float)i;
    dscm_tensors *set = NULL;
    CHECK_INT(dscm_params_save(&table, values, scratch_path(), DSCM_F32, NULL, &err), DSCM_OK);
    CHECK_INT(dscm_tensors_open(&set, scratch_path(), &err), DSCM_OK);
    REQUIRE(set != NULL);
    CHECK_INT(dscm_params_load(&table, back, set, &unused, &err), DSCM_OK);
    CHECK_INT(unused, 0);
    CHECK(memcmp(back, values, sizeof values) == 0);

    CHECK(dscm_params_add(&other, "label_emb.weight", turned, 2, DSCM_INIT_ZERO, 0, &err) >= 0);
    CHECK_INT(dscm_params_load(&other, back, set, &unused, &err), DSCM_E_MISMATCH);
    CHECK_HAS(err.message, "label_emb.weight");
    CHECK_HAS(err.message, "(2,3)");
    CHECK_HAS(err.message, "(3,2)");
    CHECK_HAS(err.message, "num_classes");
    dscm_params_free(&other);
    err = (dscm_error){0};
    CHECK(dscm_params_add(&other, "out.2.bias", vector, 1, DSCM_INIT_ZERO, 0, &err) >= 0);
    CHECK_INT(dscm_params_load(&other, back, set, &unused, &err), DSCM_OK);
    CHECK_INT(unused, 1);
    CHECK_NEAR(back[1], 7, 0);
    CHECK(dscm_params_add(&other, "time_embed.0.bias", vector, 1, DSCM_INIT_ZERO, 0, &err) >= 0);
    CHECK_INT(dscm_params_load(&other, back, set, &unused, &err), DSCM_E_MISMATCH);
    CHECK_HAS(err.message, "time_embed.0.bias");
    CHECK_HAS(err.message, "missing");
    dscm_params_free(&other);
    dscm_params_free(&table);
    dscm_tensors_free(set);
    unlink(scratch_path());
}

/* NaN, infinity and what the type cannot hold are not written, and not taken from what others wrote. */
static void weights_are_numbers(void)
{
    static const struct {
        float bad;
        dscm_dtype dtype;
        dscm_code code;
    } cases[] = {{NAN, DSCM_F32, DSCM_E_FORMAT},
                 {NAN, DSCM_F16, DSCM_E_FORMAT},
                 {-INFINITY, DSCM_BF16, DSCM_E_FORMAT},
                 {70000, DSCM_F16, DSCM_E_LIMIT},
                 {70000, DSCM_F32, DSCM_OK},
                 {65504, DSCM_F16, DSCM_OK}};
    dscm_params table = {0};
    dscm_error err = {0};
    const size_t dims[1] = {5};
    CHECK(dscm_params_add(&table, "a.weight", dims, 1, DSCM_INIT_ZERO, 0, &err) >= 0);
    CHECK(dscm_params_add(&table, "b.weight", dims, 1, DSCM_INIT_ZERO, 0, &err) >= 0);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        float values[10] = {1, -2, 3, 4, 5, 6, 7, 8, 9, 10};
        values[7] = cases[i].bad;
        err = (dscm_error){0};
        CHECK_INT(dscm_params_save(&table, values, scratch_path(), cases[i].dtype, NULL, &err),
                  cases[i].code);
        if (cases[i].code != DSCM_OK) CHECK_HAS(err.message, "\"b.weight\" holds");
        if (cases[i].code != DSCM_OK) CHECK(access(scratch_path(), F_OK) != 0);
        unlink(scratch_path());
    }
    static const dscm_dtype types[] = {DSCM_F16, DSCM_BF16, DSCM_F32};
    for (size_t i = 0; i < 2 * TEST_COUNT(types); i++) {
        float values[5] = {1, -65504, 0, i % 2 ? INFINITY : 3, 5};
        const dscm_tensor_out out[] = {{"a.weight", dims, 1, values},
                                       {"b.weight", dims, 1, values}};
        dscm_tensors *set = NULL;
        dscm_param_view views[2];
        bool viewable = false;
        err = (dscm_error){0};
        CHECK_INT(dscm_safetensors_write(scratch_path(), out, 2, types[i / 2], NULL, &err),
                  DSCM_OK);
        CHECK_INT(dscm_tensors_open(&set, scratch_path(), &err), DSCM_OK);
        REQUIRE(set != NULL);
        CHECK_INT(dscm_params_view(&table, views, &viewable, set, &err), DSCM_OK);
        CHECK(viewable);
        CHECK_INT(dscm_views_check(&table, views, set, &err), i % 2 ? DSCM_E_FORMAT : DSCM_OK);
        if (i % 2) CHECK_HAS(err.message, "\"a.weight\" holds NaN or infinity");
        dscm_tensors_free(set);
        unlink(scratch_path());
    }
    dscm_params_free(&table);
}

static dscm_code parse(const char *text, dscm_net_config *config, dscm_error *err)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    *err = (dscm_error){0};
    dscm_code code = dscm_net_config_parse(config, json, "config.json", err);
    json_decref(json);
    return code;
}

static void configurations(void)
{
    dscm_net_config config;
    dscm_error err;
    CHECK_INT(parse("{\"kind\":\"unet\",\"image_size\":64,\"channel_mult\":\".5,1,2\","
                    "\"model_channels\":64,\"attention_resolutions\":[32,16],"
                    "\"num_head_channels\":-1,\"num_heads\":4,\"num_classes\":null,"
                    "\"attention_order\":\"new\"}",
                    &config, &err),
              DSCM_OK);
    CHECK_INT(config.levels, 3);
    CHECK_NEAR(config.channel_mult[0], .5, 0);
    CHECK_INT(config.attention_resolutions[1], 16);
    CHECK_INT(config.num_head_channels, 0);
    CHECK_INT(config.num_heads, 4);
    CHECK(config.new_attention_order);
    json_t *json = dscm_net_config_to_json(&config);
    char *text = json_dumps(json, 0);
    dscm_net_config again;
    CHECK_INT(parse(text, &again, &err), DSCM_OK);
    json_t *second = dscm_net_config_to_json(&again);
    CHECK(json_equal(json, second));
    free(text);
    json_decref(json);
    json_decref(second);

    static const char *const refused[][2] = {
        {"3", "object"},
        {"{}", "arch"},
        {"{\"arch\":\"gan\"}", "gan"},
        {"{\"arch\":\"unet\",\"colour\":1}", "colour"},
        {"{\"arch\":\"cnn\",\"pool\":\"spatial\"}", "pool"},
        {"{\"arch\":\"unet\",\"image_size\":\"28\"}", "image_size"},
        {"{\"arch\":\"unet\",\"image_size\":-3}", "image_size"},
        {"{\"arch\":\"unet\",\"image_size\":100000}", "image_size"},
        {"{\"arch\":\"unet\",\"channel_mult\":\"1,x\"}", "channel_mult"},
        {"{\"arch\":\"unet\",\"channel_mult\":[1,1,1,1,1,1,1,1,1]}", "channel_mult"},
        {"{\"arch\":\"unet\",\"channel_mult\":[0.3]}", "channel_mult"},
        {"{\"arch\":\"unet\",\"attention_resolutions\":[0]}", "attention_resolutions"},
        {"{\"arch\":\"unet\",\"attention_order\":\"old\"}", "attention_order"},
        {"{\"arch\":\"encoder\",\"pool\":\"max\"}", "pool"},
        {"{\"arch\":\"unet\",\"learn_sigma\":1}", "learn_sigma"},
        {"{\"arch\":\"unet\",\"dropout\":1}", "dropout"}};
    for (size_t i = 0; i < TEST_COUNT(refused); i++) {
        CHECK(parse(refused[i][0], &config, &err) != DSCM_OK);
        CHECK_HAS(err.message, refused[i][1]);
        CHECK_HAS(err.message, "config.json");
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"header_faults", header_faults},
                                      {"round_trip", round_trip},
                                      {"half_precision", half_precision},
                                      {"parameter_tables", parameter_tables},
                                      {"weights_are_numbers", weights_are_numbers},
                                      {"configurations", configurations}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
