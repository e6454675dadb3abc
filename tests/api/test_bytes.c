/* Base64, guarded JSON, query strings and problem bodies. */
#include "api/base64.h"
#include "api/json.h"
#include "api/query.h"
#include "api/reply.h"
#include "tests/harness.h"

static void base64_round_trips(void)
{
    uint8_t data[67], back[128];
    char text[128];
    for (size_t size = 0; size < sizeof(data); size++) {
        for (size_t i = 0; i < size; i++) data[i] = (uint8_t)(i * 37 + size);
        dscm_base64_encode(text, data, size);
        CHECK_INT(strlen(text), dscm_base64_encoded_size(size));
        size_t count = 99;
        CHECK_INT(dscm_base64_decode(back, &count, text, strlen(text), NULL), DSCM_OK);
        CHECK_INT(count, size);
        CHECK(memcmp(back, data, size) == 0);
    }
    dscm_base64_encode(text, (const uint8_t *)"foob", 4); /* RFC 4648, section 10 */
    CHECK_STR(text, "Zm9vYg==");
}

static void base64_errors(void)
{
    static const char *const bad[] = {"Z",    "Zg=",  "Zh==",  "Zm9=",  "====", "Z===", "Zg=a",
                                      "Zm#v", "=Zg=", "Zm9v=", "Zm9vZ", "Zh",   "Zm%3", "Zm%zz"};
    for (size_t i = 0; i < TEST_COUNT(bad); i++) {
        uint8_t out[16];
        size_t count;
        dscm_error err = {0};
        CHECK_INT(dscm_base64_decode(out, &count, bad[i], strlen(bad[i]), &err), DSCM_E_FORMAT);
        CHECK_HAS(err.message, "base64");
    }
}

static void base64_spellings(void)
{
    static const struct {
        const char *text;
        size_t count;
        uint8_t bytes[4];
    } cases[] = {{"Zm9v", 3, "foo"},
                 {"Zm9v\r\n", 3, "foo"},
                 {"Zm\n9v", 3, "foo"},
                 {"Zg", 1, "f"},
                 {"Zg==", 1, "f"},
                 {"Zg%3D%3D", 1, "f"},
                 {"+/+/", 3, {251, 255, 191}},
                 {"-_-_", 3, {251, 255, 191}},
                 {"%2B%2f%2B/", 3, {251, 255, 191}},
                 {"", 0, {0}},
                 {" Zm8 = \t", 2, "fo"}};
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        uint8_t out[16];
        size_t count = 99, size = strlen(cases[i].text);
        CHECK(dscm_base64_decoded_max(size) <= sizeof out);
        CHECK_INT(dscm_base64_decode(out, &count, cases[i].text, size, NULL), DSCM_OK);
        CHECK_INT(count, cases[i].count);
        CHECK(memcmp(out, cases[i].bytes, cases[i].count) == 0);
    }
}

static void data_urls(void)
{
    const char *text = "data:image/png;base64,Zm9v";
    size_t size = strlen(text);
    CHECK_INT(dscm_data_url_strip(&text, &size, NULL), DSCM_OK);
    CHECK_STR(text, "Zm9v");
    CHECK_INT(size, 4);
    text = "data:image/png;name=seven.png;charset=utf-8;base64,Zm9v"; /* some programs add words */
    size = strlen(text);
    CHECK_INT(dscm_data_url_strip(&text, &size, NULL), DSCM_OK);
    CHECK_STR(text, "Zm9v");
    static const char *const good[] = {
        "DATA:IMAGE/PNG;BASE64,Zm9v", "data:;base64,Zm9v",
        "data:application/octet-stream;base64,Zm9v", "\n data:image/png;base64,Zm9v",
        "data:image/png;a=0123456789012345678901234567890123456789;base64,Zm9v"};
    for (size_t i = 0; i < TEST_COUNT(good); i++) {
        text = good[i];
        size = strlen(text);
        CHECK_INT(dscm_data_url_strip(&text, &size, NULL), DSCM_OK);
        CHECK_STR(text, "Zm9v");
    }
    static const char *const bad[] = {"data:", "data:text/plain;base64,Zm9v", "data:image/png,x",
                                      "data:image/png;base64;Zm9v", "data:base64,Zm9v"};
    for (size_t i = 0; i < TEST_COUNT(bad); i++) {
        text = bad[i];
        size = strlen(text);
        CHECK_INT(dscm_data_url_strip(&text, &size, NULL), DSCM_E_FORMAT);
    }
}

static dscm_problem_code json_code(const char *text, size_t size)
{
    dscm_problem problem = {0};
    json_t *value = dscm_json_parse(text, size, &problem);
    CHECK((value != NULL) == (problem.code == DSCM_PROBLEM_NONE));
    json_decref(value);
    return problem.code;
}

static void json_is_guarded(void)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "{\"a\":1,\"a\":2}",
                                      "[NaN]",
                                      "[1e999]",
                                      "[Infinity]",
                                      "[1] 2",
                                      "\"\\ud800\"",
                                      "[01]",
                                      "{a:1}",
                                      "[\"\\u0000\"]"};
    for (size_t i = 0; i < TEST_COUNT(bad); i++)
        CHECK_INT(json_code(bad[i], strlen(bad[i])), DSCM_PROBLEM_MALFORMED_JSON);
    const char *quoted = "{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[\\\"\"}"; /* depth inside a string */
    CHECK_INT(json_code(quoted, strlen(quoted)), DSCM_PROBLEM_NONE);
    quoted = "{\"a\":\"\\\"[[[[[[[[[[[[[[[[[[[[[[\"}"; /* and behind a quote in it */
    CHECK_INT(json_code(quoted, strlen(quoted)), DSCM_PROBLEM_NONE);
    char deep[64];
    memset(deep, '[', 16);
    memset(deep + 16, ']', 16);
    CHECK_INT(json_code(deep, 32), DSCM_PROBLEM_NONE);
    memset(deep, '[', 17);
    memset(deep + 17, ']', 17);
    CHECK_INT(json_code(deep, 34), DSCM_PROBLEM_MALFORMED_JSON);
    char many[2 * DSCM_JSON_TOKENS_MAX]; /* [1,1,…]: commas and two brackets */
    size_t ones = DSCM_JSON_TOKENS_MAX - 1;
    for (size_t i = 0; i < sizeof many; i++) many[i] = i == 0 ? '[' : i % 2 ? '1' : ',';
    many[2 * ones] = ']';
    CHECK_INT(json_code(many, 2 * ones + 1), DSCM_PROBLEM_NONE);
    many[2 * ones] = ',';
    many[2 * ones + 1] = ']';
    CHECK_INT(json_code(many, 2 * ones + 2), DSCM_PROBLEM_MALFORMED_JSON);
    size_t size = DSCM_JSON_SIZE_MAX + 1;
    char *large = malloc(size);
    REQUIRE(large);
    memset(large, ' ', size);
    memcpy(large, "[]", 2);
    CHECK_INT(json_code(large, size - 1), DSCM_PROBLEM_NONE);
    CHECK_INT(json_code(large, size), DSCM_PROBLEM_TOO_LARGE);
    for (size_t i = 0; i < size; i++) large[i] = "{},"[i % 3];
    large[0] = '[';
    CHECK_INT(json_code(large, size - 1), DSCM_PROBLEM_MALFORMED_JSON);
    free(large);
}

static void queries(void)
{
    dscm_query_string query;
    dscm_problem problem = {0};
    REQUIRE(dscm_query_parse(&query, "do.digit=8&&a+b=c%20%C3%A9&empty=&flag", &problem));
    CHECK_INT(query.count, 4);
    CHECK_STR(dscm_query_get(&query, "do.digit"), "8");
    CHECK_STR(dscm_query_get(&query, "a b"), "c \xc3\xa9");
    CHECK_STR(dscm_query_get(&query, "empty"), "");
    CHECK_STR(dscm_query_get(&query, "flag"), "");
    CHECK(dscm_query_get(&query, "digit") == NULL);
    static const char *const bad[] = {"a=%",   "a=%4",    "a=%zz", "=1",
                                      "a=%00", "a=1&a=2", "a=%0a", "a=%7f"};
    for (size_t i = 0; i < TEST_COUNT(bad); i++) {
        problem = (dscm_problem){0};
        CHECK(!dscm_query_parse(&query, bad[i], &problem));
        CHECK_INT(problem.code, DSCM_PROBLEM_MALFORMED_QUERY);
    }
    char large[DSCM_QUERY_SIZE_MAX + 2];
    memset(large, 'a', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    problem = (dscm_problem){0};
    CHECK(!dscm_query_parse(&query, large, &problem));
    large[sizeof(large) - 2] = '\0';
    problem = (dscm_problem){0};
    CHECK(dscm_query_parse(&query, large, &problem));
}

static void problems(void)
{
    dscm_problem problem = {0};
    for (int i = 0; i < DSCM_PROBLEM_ERRORS_MAX + 3; i++)
        dscm_problem_add(&problem, i ? DSCM_PROBLEM_UNKNOWN_FIELD : DSCM_PROBLEM_OUT_OF_RANGE,
                         "/a~1b", "number %d", i);
    CHECK_INT(problem.code, DSCM_PROBLEM_OUT_OF_RANGE);
    CHECK_STR(problem.detail, "number 0");
    CHECK_INT(problem.errors_more, 3);
    size_t size = 0;
    char *text = dscm_problem_json(&problem, "/counterfactual", "id-1", &size);
    REQUIRE(text);
    CHECK_INT(strlen(text), size);
    json_t *body = json_loads(text, 0, NULL);
    CHECK_INT(json_integer_value(json_object_get(body, "status")), 422);
    CHECK_STR(json_string_value(json_object_get(body, "code")), "out-of-range");
    CHECK_STR(json_string_value(json_object_get(body, "request_id")), "id-1");
    CHECK_INT(json_array_size(json_object_get(body, "errors")), DSCM_PROBLEM_ERRORS_MAX);
    json_decref(body);
    free(text);
    /* A detail that is not UTF-8 costs the detail, not the reply. */
    problem = (dscm_problem){0};
    dscm_problem_set(&problem, DSCM_PROBLEM_NOT_FOUND, "\xff");
    text = dscm_problem_json(&problem, NULL, NULL, NULL);
    REQUIRE(text);
    CHECK_HAS(text, "not-found");
    free(text);
    static const struct {
        dscm_code from;
        dscm_problem_code to;
        const char *words;
    } errors[] = {{DSCM_E_INVALID, DSCM_PROBLEM_INVALID_PARAMETER, "x: 3"},
                  {DSCM_E_LIMIT, DSCM_PROBLEM_OUT_OF_RANGE, "x: 3"},
                  {DSCM_E_FORMAT, DSCM_PROBLEM_NOT_AN_IMAGE, "x: 3"},
                  {DSCM_E_CANCELED, DSCM_PROBLEM_CANCELED, "canceled"},
                  {DSCM_E_MEMORY, DSCM_PROBLEM_INTERNAL, "memory"},
                  {DSCM_E_SYSTEM, DSCM_PROBLEM_INTERNAL, "could not do its work"}};
    for (size_t i = 0; i < TEST_COUNT(errors); i++) {
        const dscm_error err = {.code = errors[i].from, .message = "x: 3"};
        problem = (dscm_problem){0};
        dscm_problem_from_error(&problem, &err);
        CHECK_INT(problem.code, errors[i].to);
        CHECK_HAS(problem.detail, errors[i].words);
    }
}

/* Data of several lines is several lines of the event: a blank one would end it. */
static void events_keep_their_lines(void)
{
    static const struct {
        const char *data, *text;
    } cases[] = {{"{}", "id: 7\nevent: x\ndata: {}\n\n"},
                 {NULL, "id: 7\nevent: x\ndata: {}\n\n"},
                 {"a\nb\n", "id: 7\nevent: x\ndata: a\ndata: b\n\n"}};
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        size_t size = 0;
        char *text = dscm_event_text(7, "x", cases[i].data, &size);
        REQUIRE(text);
        CHECK_STR(text, cases[i].text);
        CHECK_INT(strlen(text), size);
        free(text);
    }
}

static void codes_are_unique(void)
{
    for (int a = 0; a < DSCM_PROBLEM_COUNT; a++) {
        const dscm_problem_kind *kind = dscm_problem_kind_of((dscm_problem_code)a);
        REQUIRE(kind->code && kind->title);
        CHECK(a == 0 || (kind->status >= 400 && kind->status < 600));
        for (int b = 0; b < a; b++)
            CHECK(strcmp(kind->code, dscm_problem_kind_of((dscm_problem_code)b)->code) != 0);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"base64_round_trips", base64_round_trips},
                                      {"base64_errors", base64_errors},
                                      {"base64_spellings", base64_spellings},
                                      {"data_urls", data_urls},
                                      {"json_is_guarded", json_is_guarded},
                                      {"queries", queries},
                                      {"problems", problems},
                                      {"events_keep_their_lines", events_keep_their_lines},
                                      {"codes_are_unique", codes_are_unique}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
