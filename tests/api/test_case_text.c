/* Cases as text: what is written is read back, and anything else is refused. */
#include "api/case_text.h"

#include <math.h>

#include "tests/api/catalogue.h"
#include "tests/harness.h"

static const uint8_t pixels[16] = {1, 2, 3, 250};

static dscm_case sample_case(dscm_target *target, double *factuals)
{
    *target = (dscm_target){.count = 2};
    target->items[0] = (dscm_intervention){.variable = 0, .value = 7, .scale = (double)NAN};
    target->items[1] =
        (dscm_intervention){.variable = 1, .action = DSCM_SHIFT, .value = -0.1 - 0.2, .scale = 2.5};
    factuals[0] = 3;
    factuals[1] = 4.0 / 3;
    factuals[2] = (double)NAN;
    dscm_options o = dscm_options_defaults();
    o.sampler = "residual";
    o.guidance = DSCM_GUIDANCE_CONDITIONAL;
    o.steps = 100000;
    o.ratio = 0.95;
    o.scale = 1000;
    return (dscm_case){.targets = target,
                       .targets_count = 1,
                       .factuals = factuals,
                       .options = o,
                       .auto_scale = true};
}

static dscm_request *read_back(const char *text, size_t size, dscm_problem *problem)
{
    dscm_request *out;
    *problem = (dscm_problem){0};
    bool good = dscm_request_parse_case(&out, text, size, pixels, sizeof pixels, test_catalogue(),
                                        0, problem);
    CHECK_INT(good, out != NULL);
    return out;
}

static void every_field_comes_back_as_it_was(void)
{
    dscm_target target;
    double factuals[3];
    dscm_problem problem;
    size_t size = 0, again = 0;
    const dscm_bundle_info *info = test_catalogue()->models[0].info;
    dscm_case ask = sample_case(&target, factuals);
    char *text = dscm_case_text(&ask, info, &size), *same = dscm_case_text(&ask, info, &again);
    REQUIRE(text && same);
    CHECK_STR(text, same);
    dscm_request *r = read_back(text, size, &problem);
    REQUIRE(r);
    CHECK_STR(r->options.sampler, "residual");
    CHECK_INT(r->options.guidance, DSCM_GUIDANCE_CONDITIONAL);
    CHECK_INT(r->options.steps, 100000);
    CHECK(r->options.ratio == 0.95 && r->options.scale == 1000 && r->auto_scale);
    CHECK_INT(r->targets_count, 1);
    CHECK_INT(r->targets[0].count, 2);
    CHECK(r->targets[0].items[0].value == 7 && isnan(r->targets[0].items[0].scale));
    CHECK_INT(r->targets[0].items[1].action, DSCM_SHIFT);
    CHECK(r->targets[0].items[1].value == -0.1 - 0.2); /* to the last bit */
    CHECK(r->factuals[0] == 3 && r->factuals[1] == 4.0 / 3 && isnan(r->factuals[2]));
    CHECK(memcmp(r->pixels, pixels, sizeof pixels) == 0 && !r->file);
    dscm_request_free(r);
    free(text);
    free(same);
}

static void a_case_that_changes_nothing(void)
{
    dscm_target target = {.count = 0};
    double factuals[3];
    dscm_problem problem;
    size_t size;
    dscm_case ask = sample_case(&target, factuals);
    target.count = 0;
    ask.factuals = NULL;
    char *text = dscm_case_text(&ask, test_catalogue()->models[0].info, &size);
    REQUIRE(text);
    dscm_request *r = read_back(text, size, &problem);
    REQUIRE(r);
    CHECK(r->targets_count == 1 && r->targets[0].count == 0 && !r->factuals);
    dscm_request_free(r);
    free(text);
}

/* Text with one part replaced is refused. */
static void check_refused(const char *part, const char *other)
{
    dscm_target target;
    double factuals[3];
    dscm_problem problem;
    size_t size;
    dscm_case ask = sample_case(&target, factuals);
    char *text = dscm_case_text(&ask, test_catalogue()->models[0].info, &size), changed[1024];
    REQUIRE(text);
    const char *at = strstr(text, part);
    REQUIRE(at);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, other, at + strlen(part));
    dscm_request *r = read_back(changed, strlen(changed), &problem);
    CHECK(!r && problem.code != DSCM_PROBLEM_NONE);
    dscm_request_free(r);
    free(text);
}

static void what_no_command_writes_is_refused(void)
{
    static const char *const changes[][2] = {{"\"residual\"", "\"none\""},
                                             {"100000", "-1"},
                                             {"\"conditional\"", "7"},
                                             {"[0,\"do\",7.0", "[3,\"do\",7.0"},
                                             {"[0,\"do\",7.0", "[-1,\"do\",7.0"},
                                             {"[0,\"do\",7.0", "[0,\"do\",10.0"},
                                             {"[0,\"do\",7.0", "[0,\"do\",1.5"},
                                             {"[0,\"do\",7.0", "[2,\"do\",0.0"},
                                             {"[0,\"do\",7.0", "[1,\"do\",1.0"},
                                             {"[0,\"do\",7.0", "[0,\"be\",7.0"},
                                             {"[0,\"do\",7.0", "[0,\"shift\",1.0"},
                                             {"2.5", "-1"},
                                             {"2.5", "\"x\""},
                                             {"[3.0,", "[30.0,"},
                                             {"[3.0,", "[3.0,1,"},
                                             {"{", "["},
                                             {"\"target\"", "\"other\""}};
    for (size_t i = 0; i < TEST_COUNT(changes); i++) check_refused(changes[i][0], changes[i][1]);
}

static void pixels_of_another_size_are_refused(void)
{
    dscm_target target;
    double factuals[3];
    dscm_problem problem = {0};
    dscm_request *r;
    size_t size;
    dscm_case ask = sample_case(&target, factuals);
    char *text = dscm_case_text(&ask, test_catalogue()->models[0].info, &size);
    REQUIRE(text);
    CHECK(!dscm_request_parse_case(&r, text, size, pixels, 15, test_catalogue(), 0, &problem));
    CHECK(!r && problem.code != DSCM_PROBLEM_NONE);
    free(text);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"every_field_comes_back_as_it_was", every_field_comes_back_as_it_was},
        {"a_case_that_changes_nothing", a_case_that_changes_nothing},
        {"what_no_command_writes_is_refused", what_no_command_writes_is_refused},
        {"pixels_of_another_size_are_refused", pixels_of_another_size_are_refused},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
