/* Requests kept as bytes: parsed again as they were, or refused where the model is another one. */
#include "server/stored_request.h"

#include <stdlib.h>
#include <string.h>

#include "core/image/png.h"
#include "tests/api/catalogue.h"
#include "tests/harness.h"

static uint8_t *png;
static size_t png_size;

static dscm_blob *pack_image(dscm_work work, const char *query, const char *model)
{
    dscm_blob *blob = dscm_stored_request_pack(work, false, query, model, png, png_size);
    if (!blob) abort();
    return blob;
}

static void a_picture_and_its_query_come_back(void)
{
    dscm_blob *blob = pack_image(DSCM_WORK_COUNTERFACTUAL, "do.digit=8&steps=7&seed=3", "0");
    dscm_request *request = NULL;
    dscm_problem problem = {0};
    CHECK_INT(dscm_stored_request_work(blob->bytes, blob->size), DSCM_WORK_COUNTERFACTUAL);
    REQUIRE(
        dscm_stored_request_parse(&request, blob->bytes, blob->size, test_catalogue(), &problem));
    CHECK_INT(request->options.steps, 7);
    CHECK_INT(request->seed, 3);
    CHECK_INT(request->targets_count, 1);
    REQUIRE(request->pixels != NULL);
    for (int i = 0; i < 16; i++) CHECK_INT(request->pixels[i], 10 * i);
    dscm_request_free(request);
    dscm_blob_unref(blob);
}

static void json_and_work_without_a_query_come_back(void)
{
    static const char body[] = "{\"count\": 3, \"options\": {\"seed\": 5}}";
    dscm_blob *blob =
        dscm_stored_request_pack(DSCM_WORK_SAMPLE, true, NULL, "0", body, strlen(body));
    dscm_request *request = NULL;
    dscm_problem problem = {0};
    REQUIRE(blob != NULL);
    CHECK_INT(dscm_stored_request_work(blob->bytes, blob->size), DSCM_WORK_SAMPLE);
    if (!dscm_stored_request_parse(&request, blob->bytes, blob->size, test_catalogue(), &problem))
        TEST_FAIL_("%s", problem.detail);
    else
        CHECK(request->count == 3 && request->seed == 5);
    dscm_request_free(request);
    dscm_blob_unref(blob);
    blob = pack_image(DSCM_WORK_ABDUCTION, NULL, "0");
    CHECK_INT(dscm_stored_request_work(blob->bytes, blob->size), DSCM_WORK_ABDUCTION);
    CHECK(dscm_stored_request_parse(&request, blob->bytes, blob->size, test_catalogue(), &problem));
    dscm_request_free(request);
    dscm_blob_unref(blob);
}

static void another_model_of_that_name_is_told(void)
{
    dscm_blob *blob = pack_image(DSCM_WORK_COUNTERFACTUAL, "do.digit=8", "1234");
    dscm_request *request = NULL;
    dscm_problem problem = {0};
    CHECK(
        !dscm_stored_request_parse(&request, blob->bytes, blob->size, test_catalogue(), &problem));
    CHECK(request == NULL);
    CHECK_INT(problem.code, DSCM_PROBLEM_UNKNOWN_MODEL);
    CHECK_HAS(problem.detail, "SHA-256 1234");
    dscm_blob_unref(blob);
    blob = dscm_stored_case_pack("{}", 2, "1234", "pixels", 6);
    REQUIRE(blob != NULL);
    problem = (dscm_problem){0};
    CHECK(
        !dscm_stored_request_parse(&request, blob->bytes, blob->size, test_catalogue(), &problem));
    CHECK_INT(problem.code, DSCM_PROBLEM_UNKNOWN_MODEL);
    dscm_blob_unref(blob);
}

static void other_bytes_are_refused(void)
{
    dscm_blob *blob = pack_image(DSCM_WORK_COUNTERFACTUAL, "do.digit=8", "0");
    dscm_request *request = NULL;
    for (size_t size = 0; size < blob->size; size += 5) {
        dscm_problem problem = {0};
        CHECK(!dscm_stored_request_parse(&request, blob->bytes, size, test_catalogue(), &problem));
        CHECK(request == NULL);
        CHECK_INT(problem.code, DSCM_PROBLEM_INTERNAL);
    }
    dscm_blob_unref(blob);
    const dscm_span fields[] = {dscm_span_text("sample"), dscm_span_text("json")};
    blob = dscm_blob_pack(fields, 2);
    REQUIRE(blob != NULL);
    CHECK_INT(dscm_stored_request_work(blob->bytes, blob->size), DSCM_WORK_COUNTERFACTUAL);
    dscm_blob_unref(blob);
}

/* A request that names an abduction gets its image from the key that was kept of it. */
static void an_abduction_is_applied_where_the_options_are_its_own(void)
{
    dscm_problem problem = {0};
    dscm_error err = {0};
    dscm_request *made = NULL, *asking = NULL;
    REQUIRE(dscm_request_parse_image(&made, DSCM_WORK_ABDUCTION, png, png_size, "steps=7",
                                     test_catalogue(), &problem));
    uint8_t key[4096];
    size_t size = dscm_request_abduction_key(made, key, sizeof key);
    REQUIRE(size <= sizeof key);
    REQUIRE(dscm_request_parse_image(&asking, DSCM_WORK_COUNTERFACTUAL, NULL, 0,
                                     "do.digit=8&steps=7&abduction=abc", test_catalogue(),
                                     &problem));
    CHECK(dscm_stored_abduction_apply(asking, key, size, &err));
    REQUIRE(asking->pixels != NULL);
    CHECK(memcmp(asking->pixels, made->pixels, 16) == 0);
    CHECK_STR(asking->abduction, ""); /* it is a request with a picture now */
    dscm_request_free(asking);
    REQUIRE(dscm_request_parse_image(&asking, DSCM_WORK_COUNTERFACTUAL, NULL, 0,
                                     "do.digit=8&steps=8&abduction=abc", test_catalogue(),
                                     &problem));
    CHECK(!dscm_stored_abduction_apply(asking, key, size, &err));
    CHECK_HAS(err.message, "other options");
    CHECK(asking->pixels == NULL);
    CHECK_STR(asking->abduction, "abc");
    err = (dscm_error){0};
    CHECK(!dscm_stored_abduction_apply(asking, key, 15, &err));
    CHECK_HAS(err.message, "another size");
    dscm_request_free(asking);
    dscm_request_free(made);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"a_picture_and_its_query_come_back", a_picture_and_its_query_come_back},
        {"json_and_work_without_a_query_come_back", json_and_work_without_a_query_come_back},
        {"another_model_of_that_name_is_told", another_model_of_that_name_is_told},
        {"other_bytes_are_refused", other_bytes_are_refused},
        {"an_abduction_is_applied_where_the_options_are_its_own",
         an_abduction_is_applied_where_the_options_are_its_own},
    };
    uint8_t pixels[16];
    for (int i = 0; i < 16; i++) pixels[i] = (uint8_t)(10 * i);
    const dscm_picture picture = {.pixels = pixels, .h = 4, .w = 4, .c = 1};
    if (dscm_png_encode(&png, &png_size, &picture, NULL) != DSCM_OK) return 1;
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    free(png);
    return status;
}
