/* Walks tests/api/cases/: a folder holds request.json or query.txt, and expect.json.
 *
 * expect.json names the kind of work, and either "errors": [[pointer, code], …] in order, or what
 * was understood: targets [[variable, value, action, scale], …] of the first target (the last two may
 * be left out), fan (its first values), count, steps, scale, seed and so on. A new case is a folder,
 * not code. Images in the text "@PNG" are replaced by a real 4x4 picture. */
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
        if ((value = json_array_get(pair, 2)))
            CHECK_INT(r->targets[0].items[i].action, json_integer_value(value));
        if ((value = json_array_get(pair, 3)))
            CHECK_NEAR(r->targets[0].items[i].scale, json_number_value(value), 1e-9);
    }
    const json_t *fan = json_object_get(want, "fan");
    for (size_t k = 0; k < json_array_size(fan); k++)
        CHECK_NEAR(r->targets[k].items[0].value, json_number_value(json_array_get(fan, k)), 0);
    CHECK_INT(r->targets_count, json_integer_value(json_object_get(want, "count")));
    if ((value = json_object_get(want, "steps")))
        CHECK_INT(r->options.steps, json_integer_value(value));
    if ((value = json_object_get(want, "scale")))
        CHECK_NEAR(r->options.scale, json_number_value(value), 1e-9);
    if ((value = json_object_get(want, "auto"))) CHECK_INT(r->auto_scale, json_is_true(value));
    if ((value = json_object_get(want, "seed"))) CHECK_INT(r->seed, json_integer_value(value));
    if ((value = json_object_get(want, "wanted"))) CHECK_INT(r->wanted, json_integer_value(value));
    if ((value = json_object_get(want, "ratio")))
        CHECK_NEAR(r->options.ratio, json_number_value(value), 0);
    if ((value = json_object_get(want, "min_change")))
        CHECK_NEAR(r->options.min_change, json_number_value(value), 0);
    if ((value = json_object_get(want, "dynamic")))
        CHECK_INT(r->options.dynamic, json_is_true(value));
    if ((value = json_object_get(want, "deadline")))
        CHECK_INT(r->deadline_ms, json_integer_value(value));
    if ((value = json_object_get(want, "samples"))) CHECK_INT(r->count, json_integer_value(value));
    value = json_object_get(want, "factuals");
    CHECK((r->factuals != NULL) == (value != NULL));
    for (size_t i = 0; r->factuals && i < json_array_size(value); i++) {
        const json_t *known = json_array_get(value, i);
        if (json_is_null(known)) CHECK(isnan(r->factuals[i]));
        if (!json_is_null(known)) CHECK_NEAR(r->factuals[i], json_number_value(known), 0);
    }
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

static dscm_request *ask(const char *query, const dscm_catalogue *catalogue)
{
    size_t size = 0;
    uint8_t *png = make_png(&size);
    dscm_request *request;
    dscm_problem problem = {0};
    if (!dscm_request_parse_image(&request, DSCM_WORK_COUNTERFACTUAL, png, size, query, catalogue,
                                  &problem))
        TEST_FAIL_("%s: %s", query, problem.detail);
    free(png);
    return request;
}

/* An abduction serves requests of its model, sampler, steps, ratio and treatment, whatever is asked
 * of it; requests run side by side when theirs are the same and both search, or neither does. */
static void what_abductions_serve(void)
{
    static const struct {
        const char *query;
        bool other_model, served, together;
    } cases[] = {{"do.digit=2&scale=3", false, true, true},
                 {"do.digit=1&scale=auto", false, true, false},
                 {"do.digit=1", true, false, false},
                 {"do.digit=1&steps=21", false, false, false},
                 {"do.digit=1&ratio=0.5", false, false, false},
                 {"do.digit=1&dynamic=false", false, false, false},
                 {"do.digit=1&sampler=ddim", false, false, false}};
    const char *base = "do.digit=1&sampler=published&steps=20&ratio=0.75&dynamic=true";
    dscm_bundle_info info = *test_catalogue()->models[0].info;
    info.sha256 = "1";
    const dscm_model_entry entry = {.info = &info};
    const dscm_catalogue other = {.models = &entry, .count = 1};
    dscm_request *first = ask(base, test_catalogue());
    REQUIRE(first);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        char query[256];
        uint8_t keys[2][512];
        size_t sizes[2];
        snprintf(query, sizeof query, "%s", cases[i].query);
        static const char *const rest[] = {"sampler=published", "steps=20", "ratio=0.75",
                                           "dynamic=true"};
        for (size_t k = 0; k < TEST_COUNT(rest); k++) {
            char name[16];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(rest[k], "=") + 1, rest[k]);
            if (!strstr(query, name))
                snprintf(query + strlen(query), sizeof query - strlen(query), "&%s", rest[k]);
        }
        dscm_request *r = ask(query, cases[i].other_model ? &other : test_catalogue());
        REQUIRE(r);
        sizes[0] = dscm_request_abduction_key(first, keys[0], sizeof keys[0]);
        sizes[1] = dscm_request_abduction_key(r, keys[1], sizeof keys[1]);
        CHECK_INT(dscm_request_abduction_key(r, NULL, 0), sizes[1]);
        bool same = sizes[0] == sizes[1] && memcmp(keys[0], keys[1], sizes[0]) == 0;
        if (same != cases[i].served || dscm_request_compatible(first, r) != cases[i].together)
            TEST_FAIL_("%s: served %d, together %d", query, same, !cases[i].together);
        if (!cases[i].other_model) /* the caller compares models */
            CHECK_INT(dscm_request_fits(r, &first->options), cases[i].served);
        dscm_request_free(r);
    }
    dscm_request_free(first);
}

/* An abduction under given factual values serves those only; a stored key brings them back. */
static void abductions_keep_their_factuals(void)
{
    static const char *const queries[] = {
        "do.digit=1", "do.digit=2&factual.thickness=2.4", "do.digit=3&factual.thickness=2.4",
        "do.digit=1&factual.thickness=2.5", "do.digit=1&factual.thickness=2.4&factual.digit=7"};
    uint8_t keys[5][512];
    size_t sizes[5];
    for (size_t i = 0; i < 5; i++) {
        dscm_request *r = ask(queries[i], test_catalogue());
        REQUIRE(r);
        sizes[i] = dscm_request_abduction_key(r, keys[i], sizeof keys[i]);
        CHECK_INT(dscm_request_abduction_key(r, NULL, 0), sizes[i]);
        dscm_request_free(r);
        for (size_t k = 0; k < i; k++)
            CHECK_INT(sizes[i] == sizes[k] && memcmp(keys[i], keys[k], sizes[i]) == 0,
                      k == 1 && i == 2);
    }
    dscm_request *plain = ask(queries[0], test_catalogue());
    dscm_request *other = ask(queries[3], test_catalogue());
    REQUIRE(plain && other);
    CHECK(!dscm_request_take_factuals(other, keys[4], sizes[4]));
    CHECK_NEAR(other->factuals[1], 2.5, 0);
    CHECK(!dscm_request_take_factuals(plain, (const uint8_t *)"0||1|1|0|1;xxxxxxxxxxxxxxxx", 27));
    CHECK(dscm_request_take_factuals(plain, keys[4], sizes[4]));
    CHECK(plain->factuals[0] == 7 && plain->factuals[1] == 2.4 && isnan(plain->factuals[2]));
    double told[] = {7, 2.4, NAN};
    const dscm_abduction kept = {.factual = told};
    CHECK_INT(dscm_request_factual_other(plain, &kept), -1);
    CHECK_INT(dscm_request_factual_other(other, &kept), 1);
    dscm_request_free(plain);
    dscm_request_free(other);
}

/* A named model is the one that is asked; the default is the first. */
static void the_named_model_is_asked(void)
{
    dscm_bundle_info info = *test_catalogue()->models[0].info;
    info.name = "second";
    const dscm_model_entry entries[] = {test_catalogue()->models[0], {.info = &info}};
    const dscm_catalogue both = {.models = entries, .count = 2};
    dscm_request *a = ask("do.digit=1", &both), *b = ask("do.digit=1&model=second", &both);
    REQUIRE(a && b);
    CHECK(a->model == 0 && a->info == entries[0].info);
    CHECK(b->model == 1 && b->info == &info);
    dscm_request_free(a);
    dscm_request_free(b);
}

/* Models may have more variables than one intervention. */
static void an_intervention_has_a_limit_of_variables(void)
{
    enum { VARIABLES = DSCM_REQUEST_VARS_MAX + 2 };
    static dscm_variable variables[VARIABLES];
    static char names[VARIABLES][8];
    for (size_t i = 0; i + 1 < VARIABLES; i++) {
        snprintf(names[i], sizeof names[i], "v%zu", i);
        variables[i] = (dscm_variable){.name = names[i], .kind = DSCM_CONTINUOUS, .max = 1};
    }
    variables[VARIABLES - 1] = test_catalogue()->models[0].info->variables[2];
    dscm_bundle_info info = *test_catalogue()->models[0].info;
    info.variables = variables;
    info.variables_count = VARIABLES;
    info.image = VARIABLES - 1;
    const dscm_model_entry entry = {.info = &info};
    const dscm_catalogue catalogue = {.models = &entry, .count = 1};
    for (size_t count = VARIABLES - 2; count < VARIABLES; count++) {
        char body[512] = "{\"intervention\":{";
        for (size_t i = 0; i < count; i++)
            snprintf(body + strlen(body), sizeof body - strlen(body), "%s\"v%zu\":1", i ? "," : "",
                     i);
        strcat(body, "}}");
        dscm_request *request;
        dscm_problem problem = {0};
        bool good = dscm_request_parse_json(&request, DSCM_WORK_SAMPLE, body, strlen(body),
                                            &catalogue, &problem);
        CHECK_INT(good, count <= DSCM_REQUEST_VARS_MAX);
        if (good) CHECK_INT(request->targets[0].count, count);
        if (!good) CHECK_STR(problem.errors[0].pointer, "/intervention");
        if (!good) CHECK_HAS(problem.detail, "17 variables; at most 16");
        dscm_request_free(request);
    }
}

/* One variable fans out, not two. */
static void one_star_is_enough(void)
{
    dscm_variable variables[3];
    memcpy(variables, test_catalogue()->models[0].info->variables, sizeof variables);
    variables[1] = variables[0];
    variables[1].name = "other";
    dscm_bundle_info info = *test_catalogue()->models[0].info;
    info.variables = variables;
    const dscm_model_entry entry = {.info = &info};
    const dscm_catalogue catalogue = {.models = &entry, .count = 1};
    static const char body[] =
        "{\"abduction\":\"a\",\"intervention\":{\"digit\":\"*\",\"other\":\"*\"}}";
    dscm_request *request;
    dscm_problem problem = {0};
    CHECK(!dscm_request_parse_json(&request, DSCM_WORK_COUNTERFACTUAL, body, sizeof body - 1,
                                   &catalogue, &problem));
    CHECK_INT(problem.code, DSCM_PROBLEM_OUT_OF_RANGE);
    CHECK_STR(problem.errors[0].pointer, "/intervention/other");
}

/* Labels that are words are named, in a query also by their index; resize=false takes an image of
 * the model's size only. */
static void words_and_sizes(void)
{
    static const char *const words[] = {"disc", "ring", "bar"};
    dscm_variable variables[3];
    dscm_bundle_info info = *test_catalogue()->models[0].info;
    memcpy(variables, info.variables, sizeof variables);
    variables[0].labels = words;
    variables[0].labels_count = 3;
    variables[2].h = 5;
    info.variables = variables;
    const dscm_model_entry entry = {.info = &info};
    const dscm_catalogue catalogue = {.models = &entry, .count = 1};
    static const struct {
        const char *query, *body; /* one of them */
        bool good;
    } cases[] = {{"do.digit=ring", NULL, true},
                 {"do.digit=1", NULL, true},
                 {"do.digit=3", NULL, false},
                 {"do.digit=1&resize=true", NULL, true},
                 {"do.digit=1&resize=false", NULL, false},
                 {NULL, "{\"image\":\"@PNG\",\"intervention\":{\"digit\":\"ring\"}}", true},
                 {NULL, "{\"image\":\"@PNG\",\"intervention\":{\"digit\":1}}", true},
                 {NULL, "{\"image\":\"@PNG\",\"intervention\":{\"digit\":\"1\"}}", false}};
    size_t size = 0;
    uint8_t *png = make_png(&size);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        dscm_request *r = NULL;
        dscm_problem problem = {0};
        char *text = cases[i].body ? with_picture(cases[i].body) : NULL;
        bool good = text ? dscm_request_parse_json(&r, DSCM_WORK_COUNTERFACTUAL, text, strlen(text),
                                                   &catalogue, &problem)
                         : dscm_request_parse_image(&r, DSCM_WORK_COUNTERFACTUAL, png, size,
                                                    cases[i].query, &catalogue, &problem);
        if (good != cases[i].good) TEST_FAIL_("case %zu: %d %s", i, good, problem.detail);
        if (r) CHECK_NEAR(r->targets[0].items[0].value, 1, 0);
        dscm_request_free(r);
        free(text);
    }
    free(png);
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
        {"what_abductions_serve", what_abductions_serve},
        {"abductions_keep_their_factuals", abductions_keep_their_factuals},
        {"an_intervention_has_a_limit_of_variables", an_intervention_has_a_limit_of_variables},
        {"one_star_is_enough", one_star_is_enough},
        {"the_named_model_is_asked", the_named_model_is_asked},
        {"words_and_sizes", words_and_sizes}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
