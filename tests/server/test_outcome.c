/* Results as one blob: reply, pictures, headers and times come back; damage is seen. */
#include "server/outcome.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/api/catalogue.h"
#include "tests/harness.h"

static uint8_t png[] = {0x89, 'P', 'N', 'G', 0, 1, 2};

static dscm_blob *pack(void)
{
    static dscm_image_file files[2];
    static dscm_counterfactual one;
    files[0] = (dscm_image_file){.name = "counterfactual-0", .png = png, .size = sizeof png};
    files[1] = (dscm_image_file){.name = "difference-0", .png = png, .size = 4};
    one = (dscm_counterfactual){.outcome = DSCM_OUTCOME_FOUND,
                                .scale = 2.5,
                                .scores = {.probability_before = 0.125, .cld = (double)NAN},
                                .composition = 3};
    const dscm_result result = {.info = test_catalogue()->models[0].info,
                                .counterfactuals = &one,
                                .count = 1,
                                .files = files,
                                .files_count = 2,
                                .times = {.queue = 1.5, .abduct = 20, .encode = 0.25},
                                .verdict = "good"};
    return dscm_outcome_pack("{\"x\":1}\n", 8, &result);
}

static const char *header_of(const dscm_blob *outcome, const char *name)
{
    static dscm_reply_header headers[DSCM_REPLY_HEADERS_MAX];
    size_t count = dscm_outcome_headers(outcome, headers);
    for (size_t i = 0; i < count; i++)
        if (strcmp(headers[i].name, name) == 0) return headers[i].value;
    return "(none)";
}

static void all_parts_come_back(void)
{
    dscm_blob *outcome = pack();
    REQUIRE(outcome != NULL);
    CHECK(dscm_outcome_valid(outcome->bytes, outcome->size));
    CHECK_INT(dscm_outcome_json(outcome).size, 8);
    CHECK_STR((const char *)dscm_outcome_json(outcome).data, "{\"x\":1}\n");
    CHECK_HAS(dscm_outcome_timing(outcome), "queue;dur=1.500, abduct;dur=20.000");
    CHECK_HAS(dscm_outcome_timing(outcome), "encode;dur=0.250");
    CHECK_STR(header_of(outcome, "X-Counterfactual-Model"), "toy");
    CHECK_STR(header_of(outcome, "X-Counterfactual-Outcome"), "found");
    CHECK_STR(header_of(outcome, "X-Counterfactual-Scale"), "2.5");
    CHECK_STR(header_of(outcome, "X-Counterfactual-Probability-Before"), "0.125");
    CHECK_STR(header_of(outcome, "X-Counterfactual-Verdict"), "good");
    dscm_span picture = dscm_outcome_picture(outcome, "counterfactual-0");
    CHECK_INT(picture.size, sizeof png);
    CHECK(memcmp(picture.data, png, sizeof png) == 0);
    CHECK_INT(dscm_outcome_picture(outcome, "difference-0").size, 4);
    CHECK_INT(dscm_outcome_picture(outcome, "counterfactual").size, 0);
    CHECK_INT(dscm_outcome_picture(outcome, "{\"x\":1}\n").size, 0); /* no picture's name */
    dscm_blob_unref(outcome);
}

static void an_abduction_has_a_reply_only(void)
{
    dscm_reply_header headers[DSCM_REPLY_HEADERS_MAX];
    dscm_blob *outcome = dscm_outcome_pack("{}\n", 3, NULL);
    REQUIRE(outcome != NULL);
    CHECK(dscm_outcome_valid(outcome->bytes, outcome->size));
    CHECK_STR((const char *)dscm_outcome_json(outcome).data, "{}\n");
    CHECK_STR(dscm_outcome_timing(outcome), "");
    CHECK_INT(dscm_outcome_headers(outcome, headers), 0);
    CHECK_INT(dscm_outcome_picture(outcome, "counterfactual-0").size, 0);
    dscm_blob_unref(outcome);
}

static void other_blobs_are_no_outcome(void)
{
    dscm_span fields[5];
    for (size_t i = 0; i < TEST_COUNT(fields); i++) fields[i] = dscm_span_text("x");
    for (size_t count = 0; count <= TEST_COUNT(fields); count++) {
        dscm_blob *blob = dscm_blob_pack(fields, count);
        REQUIRE(blob != NULL);
        /* three fields, and two for each picture */
        CHECK_INT(dscm_outcome_valid(blob->bytes, blob->size), count == 3 || count == 5);
        dscm_blob_unref(blob);
    }
    dscm_blob *outcome = pack();
    REQUIRE(outcome != NULL);
    CHECK(!dscm_outcome_valid(outcome->bytes, outcome->size - 1));
    dscm_blob_unref(outcome);
}

static void too_many_pictures_are_refused(void)
{
    enum { MOST = (DSCM_BLOB_FIELDS_MAX - 3) / 2 };
    static dscm_image_file files[MOST + 1];
    for (size_t i = 0; i < TEST_COUNT(files); i++)
        files[i] = (dscm_image_file){.name = "sample", .png = png, .size = 1};
    dscm_result result = {.work = DSCM_WORK_SAMPLE, .files = files, .files_count = MOST};
    dscm_blob *outcome = dscm_outcome_pack("{}\n", 3, &result);
    REQUIRE(outcome != NULL);
    CHECK(dscm_outcome_valid(outcome->bytes, outcome->size));
    dscm_blob_unref(outcome);
    result.files_count = MOST + 1;
    CHECK(dscm_outcome_pack("{}\n", 3, &result) == NULL);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"all_parts_come_back", all_parts_come_back},
        {"an_abduction_has_a_reply_only", an_abduction_has_a_reply_only},
        {"other_blobs_are_no_outcome", other_blobs_are_no_outcome},
        {"too_many_pictures_are_refused", too_many_pictures_are_refused},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
