/* Walks tests/api/cases/: a folder holds request.json or query.txt, and expect.json.
 *
 * expect.json names the kind of work, and either "errors": [[pointer, code], …] in order, or what
 * was understood: targets [[variable, value], …] of the first target, count, steps, scale, seed. A
 * new case is a folder, not code. Images in the text "@PNG" are replaced by a real 4x4 picture. */
#include <dirent.h>
#include <jansson.h>

#include "api/base64.h"
#include "api/image.h"
#include "tests/api/catalogue.h"
#include "tests/harness.h"

#define FOLDER "tests/api/cases"

static char *read_text(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), FOLDER "/%s/%s", folder, name);
    FILE *in = fopen(path, "rb");
    if (!in) return NULL;
    char *text = calloc(1, 1 << 16);
    if (text) text[fread(text, 1, (1 << 16) - 1, in)] = '\0';
    fclose(in);
    if (text && *text && text[strlen(text) - 1] == '\n') text[strlen(text) - 1] = '\0';
    return text;
}

static uint8_t *make_png(size_t *size)
{
    uint8_t pixels[16], *png = NULL;
    for (int i = 0; i < 16; i++) pixels[i] = (uint8_t)(i * 17);
    if (dscm_image_encode(&png, size, pixels, 4, 4, 1, NULL) != DSCM_OK) return NULL;
    return png;
}

/* The text with its first "@PNG" replaced. */
static char *with_picture(const char *text)
{
    size_t size = 0;
    uint8_t *png = make_png(&size);
    const char *at = strstr(text, "@PNG");
    size_t encoded = dscm_base64_encoded_size(size);
    char *out = calloc(1, strlen(text) + encoded + 1);
    if (png && out) {
        size_t before = at ? (size_t)(at - text) : strlen(text);
        memcpy(out, text, before);
        if (at) {
            dscm_base64_encode(out + before, png, size);
            strcpy(out + before + encoded, at + 4);
        }
    }
    free(png);
    return out;
}

static void compare_errors(const char *name, const json_t *want, const dscm_problem *problem)
{
    size_t count = json_array_size(want);
    if (count != problem->errors_count)
        TEST_FAIL_("%s: %zu errors, expected %zu (%s)", name, problem->errors_count, count,
                   problem->detail);
    for (size_t i = 0; i < count && i < problem->errors_count; i++) {
        const json_t *pair = json_array_get(want, i);
        CHECK_STR(problem->errors[i].pointer, json_string_value(json_array_get(pair, 0)));
        CHECK_STR(dscm_problem_kind_of(problem->errors[i].code)->code,
                  json_string_value(json_array_get(pair, 1)));
        CHECK(strlen(problem->errors[i].detail) > 10);
    }
}

static void compare_request(const json_t *want, const dscm_request *r)
{
    const json_t *targets = json_object_get(want, "targets"), *value;
    for (size_t i = 0; i < json_array_size(targets); i++) {
        const json_t *pair = json_array_get(targets, i);
        CHECK_INT(r->targets[0].items[i].variable, json_integer_value(json_array_get(pair, 0)));
        CHECK_NEAR(r->targets[0].items[i].value, json_number_value(json_array_get(pair, 1)), 1e-9);
    }
    CHECK_INT(r->targets_count, json_integer_value(json_object_get(want, "count")));
    if ((value = json_object_get(want, "steps")))
        CHECK_INT(r->options.steps, json_integer_value(value));
    if ((value = json_object_get(want, "scale")))
        CHECK_NEAR(r->options.scale, json_number_value(value), 1e-9);
    if ((value = json_object_get(want, "auto"))) CHECK_INT(r->auto_scale, json_is_true(value));
    if ((value = json_object_get(want, "seed"))) CHECK_INT(r->seed, json_integer_value(value));
    if ((value = json_object_get(want, "wanted"))) CHECK_INT(r->wanted, json_integer_value(value));
    for (int i = 0; r->pixels && i < 16; i++) CHECK_INT(r->pixels[i], i * 17);
}

static dscm_work work_of(const json_t *expect)
{
    const char *name = json_string_value(json_object_get(expect, "work"));
    return !name || strcmp(name, "counterfactual") == 0 ? DSCM_WORK_COUNTERFACTUAL
           : strcmp(name, "sample") == 0                ? DSCM_WORK_SAMPLE
                                                        : DSCM_WORK_ABDUCTION;
}

static void run_case(const char *name)
{
    char *body = read_text(name, "request.json"), *query = read_text(name, "query.txt");
    char *wanted = read_text(name, "expect.json");
    json_t *expect = wanted ? json_loads(wanted, 0, NULL) : NULL;
    dscm_problem problem = {0};
    dscm_request *request = NULL;
    if (!expect || (!body && !query)) {
        TEST_FAIL_("%s: needs expect.json and request.json or query.txt", name);
    } else if (body) {
        char *text = with_picture(body);
        bool good = dscm_request_parse_json(&request, work_of(expect), text, strlen(text),
                                            test_catalogue(), &problem);
        CHECK(good == (request != NULL));
        free(text);
    } else {
        size_t size = 0;
        uint8_t *png = make_png(&size);
        bool good = dscm_request_parse_image(&request, work_of(expect), png, size, query,
                                             test_catalogue(), &problem);
        CHECK(good == (request != NULL));
        free(png);
    }
    int before = test_failures;
    const json_t *errors = json_object_get(expect, "errors");
    const char *code = json_string_value(json_object_get(expect, "code"));
    if (code) CHECK_STR(dscm_problem_kind_of(problem.code)->code, code);
    if (errors) compare_errors(name, errors, &problem);
    if (!code && !errors && !request) TEST_FAIL_("%s: refused: %s", name, problem.detail);
    if (!code && !errors && request) compare_request(expect, request);
    if (test_failures != before) printf("    in case %s\n", name);
    dscm_request_free(request);
    json_decref(expect);
    free(body);
    free(query);
    free(wanted);
}

static void cases_of_the_folder(void)
{
    DIR *folder = opendir(FOLDER);
    if (!folder) TEST_SKIP("run from the root of the repository: " FOLDER " is not here");
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        run_case(entry->d_name);
        count++;
    }
    closedir(folder);
    CHECK(count >= 15);
}

/* Every truncation of a good body is refused, and nothing leaks (run under ASan). */
static void truncations(void)
{
    char *text = with_picture("{\"image\":\"@PNG\",\"intervention\":{\"digit\":8}}");
    REQUIRE(text);
    for (size_t size = 0; size < strlen(text); size++) {
        dscm_request *request;
        dscm_problem problem = {0};
        CHECK(!dscm_request_parse_json(&request, DSCM_WORK_COUNTERFACTUAL, text, size,
                                       test_catalogue(), &problem));
        CHECK_INT(problem.code, DSCM_PROBLEM_MALFORMED_JSON);
    }
    free(text);
}

static void abduction_keys(void)
{
    static const char *const queries[] = {"do.digit=1&steps=20", "do.digit=2&steps=20&scale=3",
                                          "do.digit=1&steps=21"};
    uint8_t keys[3][512];
    size_t sizes[3], size = 0;
    uint8_t *png = make_png(&size);
    for (int i = 0; i < 3; i++) {
        dscm_request *request;
        dscm_problem problem = {0};
        CHECK(dscm_request_parse_image(&request, DSCM_WORK_COUNTERFACTUAL, png, size, queries[i],
                                       test_catalogue(), &problem));
        REQUIRE(request);
        sizes[i] = dscm_request_abduction_key(request, keys[i], sizeof(keys[i]));
        CHECK_INT(dscm_request_abduction_key(request, NULL, 0), sizes[i]);
        dscm_request_free(request);
    }
    free(png);
    CHECK(sizes[0] == sizes[1] && memcmp(keys[0], keys[1], sizes[0]) == 0);
    CHECK(sizes[0] != sizes[2] || memcmp(keys[0], keys[2], sizes[0]) != 0);
}

/* A parameter that cannot be understood must not be passed over. */
static void queries_are_utf8(void)
{
    static const char *const queries[] = {
        "do.digit=1&model=%FF",          "do.digit=1&sampler=%C3",         "do.digit=1&%E9=1",
        "do.digit=1&return=factual,%FF", "do.digit=1&shift.thickness=%80", "do.digit=%FF"};
    size_t size = 0;
    uint8_t *png = make_png(&size);
    for (size_t i = 0; i < TEST_COUNT(queries); i++) {
        dscm_request *request = NULL;
        dscm_problem problem = {0};
        CHECK(!dscm_request_parse_image(&request, DSCM_WORK_COUNTERFACTUAL, png, size, queries[i],
                                        test_catalogue(), &problem));
        CHECK_INT(problem.code, DSCM_PROBLEM_MALFORMED_QUERY);
        dscm_request_free(request);
    }
    free(png);
}

/* A value that is told again, cut in the middle of a letter, does not cost the words about it. */
static void values_told_again_may_be_cut(void)
{
    static const char body[] = "{\"image\":\"\",\"intervention\":{\"digit\":\"x"
                               "ééééééééééééééééééééééééééééééééééééééééé\"}}";
    dscm_request *request = NULL;
    dscm_problem problem = {0};
    size_t size = 0;
    CHECK(!dscm_request_parse_json(&request, DSCM_WORK_COUNTERFACTUAL, body, sizeof body - 1,
                                   test_catalogue(), &problem));
    char *text = dscm_problem_json(&problem, "/x", "id", &size);
    REQUIRE(text);
    CHECK_HAS(text, "\"detail\":\"'x%C3%A9");
    CHECK_HAS(text, "is no value of 'digit'");
    CHECK_HAS(text, "\"errors\":[{\"pointer\":\"/intervention/digit\"");
    free(text);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"cases_of_the_folder", cases_of_the_folder},
        {"truncations", truncations},
        {"queries_are_utf8", queries_are_utf8},
        {"values_told_again_may_be_cut", values_told_again_may_be_cut},
        {"abduction_keys", abduction_keys}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
