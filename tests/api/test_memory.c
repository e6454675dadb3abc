/* Replies and requests while an allocation of the JSON library fails: the whole text, or none. */
#include "api/case_text.h"
#include "api/json.h"
#include "api/reply.h"
#include "tests/api/catalogue.h"
#include "tests/failing_json.h"
#include "tests/harness.h"

static char *models(void)
{
    const dscm_model_limits limits = {.body_bytes = 1000, .deadline_max_ms = 2000};
    size_t size;
    return dscm_reply_models(test_catalogue(), &limits, &size);
}

static char *model(void)
{
    const dscm_model_limits limits = {.body_bytes = 1000, .deadline_max_ms = 2000};
    static dscm_bundle_info info;
    size_t size;
    info = *test_catalogue()->models->info;
    info.manifest = "{\"warning\": \"not \\\"tested\\\" by anyone\", \"quality\": {\"cld\": 1.5}}";
    const dscm_model_entry entry = {.info = &info};
    return dscm_reply_model(&entry, &limits, &size);
}

static char *problem(void)
{
    static dscm_problem p;
    p = (dscm_problem){.code = DSCM_PROBLEM_NONE};
    dscm_problem_add(&p, DSCM_PROBLEM_UNKNOWN_FIELD, "/a/b", "there is no %s", "field \xff");
    dscm_problem_add(&p, DSCM_PROBLEM_OUT_OF_RANGE, "/c", "must be in 1..%d", 20);
    p.errors_more = 3;
    return dscm_problem_json(&p, "/counterfactual", "request-1", NULL);
}

static char *job(void)
{
    static const dscm_problem p = {.code = DSCM_PROBLEM_CANCELED, .detail = "the job \"x\" ended"};
    const dscm_job_status status = {.id = "0123456789abcdef",
                                    .state = DSCM_JOB_CANCELED,
                                    .reason = "client",
                                    .queue_position = 4,
                                    .estimate_ms = 1500.25,
                                    .result =
                                        "{\"a long key\": [1, 2.5, \"a \\\"text\\\" of it\"]}",
                                    .problem = &p};
    size_t size;
    return dscm_reply_job(&status, &size);
}

static char *progress(void)
{
    const dscm_run_event event = {
        .phase = "predict", .step = 3, .steps = 20, .fraction = 0.5, .eta_ms = 12.5};
    return dscm_event_progress(&event);
}

static char *stored_case(void)
{
    static const double factuals[3] = {1, (double)NAN, (double)NAN};
    static const dscm_target target = {
        .items = {{.variable = 1, .action = DSCM_SHIFT, .value = 0.25}}, .count = 1};
    const dscm_case ask = {.options = {.sampler = "obelm",
                                       .guidance = DSCM_GUIDANCE_CONDITIONAL,
                                       .steps = 7,
                                       .ratio = 1,
                                       .scale = NAN},
                           .targets = &target,
                           .factuals = factuals};
    size_t size;
    return dscm_case_text(&ask, test_catalogue()->models->info, &size);
}

static char *parsed(void)
{
    static const char text[] =
        "{\"image\": \"aGVsbG8gd29ybGQgYWdhaW4=\", \"intervention\": "
        "{\"digit\": \"\\u0037 \\\"or\\\" 8\"}, \"steps\": 120, \"x\": -1e3}";
    dscm_problem p = {0};
    json_t *value = dscm_json_parse(text, strlen(text), &p);
    if (!value) {
        CHECK_INT(p.code, DSCM_PROBLEM_INTERNAL);
        CHECK_HAS(p.detail, "memory");
        return NULL;
    }
    char *out = json_dumps(value, JSON_COMPACT);
    json_decref(value);
    return out;
}

static void texts_are_whole_or_none(void)
{
    static const struct {
        const char *name;
        char *(*make)(void);
    } all[] = {{"models", models},     {"model", model},      {"problem", problem}, {"job", job},
               {"progress", progress}, {"case", stored_case}, {"parsed", parsed}};
    for (size_t i = 0; i < TEST_COUNT(all); i++) {
        fail_nth(0);
        char *whole = all[i].make();
        long calls = failing_calls, refused = 0;
        if (!whole) TEST_FAIL_("%s: nothing is made", all[i].name);
        REQUIRE(whole != NULL);
        CHECK(calls > 5);
        for (long n = 1; n <= calls; n++) {
            fail_nth(n);
            char *text = all[i].make();
            fail_nth(0);
            refused += !text;
            if (text && strcmp(text, whole) != 0)
                TEST_FAIL_("%s: allocation %ld of %ld: %s", all[i].name, n, calls, text);
            free(text);
        }
        CHECK(refused > calls / 2);
        free(whole);
    }
}

/* A query is asked as it stands or refused for want of memory: no option, intervention or value is lost. */
static void queries_are_whole_or_refused(void)
{
    static const char query[] =
        "do.digit=7&shift.thickness=0.5&factual.thickness=2&steps=40&scale=3"
        "&return=counterfactual,difference&model=toy&deadline_ms=900";
    const uint8_t pixels[] = "no picture: it is looked at last";
    dscm_catalogue catalogue = *test_catalogue();
    long refused = 0, all = 0;
    for (long n = 0; n <= all; n++) {
        dscm_request *request = NULL;
        dscm_problem p = {0};
        fail_nth(n);
        CHECK(!dscm_request_parse_image(&request, DSCM_WORK_COUNTERFACTUAL, pixels, sizeof pixels,
                                        query, &catalogue, &p));
        if (!n) all = failing_calls;
        fail_nth(0);
        CHECK(request == NULL);
        refused += p.code == DSCM_PROBLEM_INTERNAL;
        if (p.code != DSCM_PROBLEM_INTERNAL && p.code != DSCM_PROBLEM_NOT_AN_IMAGE)
            TEST_FAIL_("allocation %ld of %ld: %s", n, all, p.detail);
    }
    CHECK(all > 20);
    CHECK_INT(refused, all);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"texts_are_whole_or_none", texts_are_whole_or_none},
        {"queries_are_whole_or_refused", queries_are_whole_or_refused},
    };
    failing_install();
    dscm_json_init();
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
