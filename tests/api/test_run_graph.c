/* The runner on a model of several causes, each with a strength of its own. */
#include "api/base64.h"
#include "api/image.h"
#include "api/reply.h"
#include "tests/api/run.h"
#include "tests/core/scm/two_parents.h"

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;

/* A request about one random picture, whose other fields are `fields`. */
static dscm_request *ask(const char *fields)
{
    dscm_model_entry entry = {dscm_bundle_describe(bundle), bundle};
    dscm_catalogue catalogue = {.models = &entry, .count = 1};
    dscm_problem problem = {0};
    dscm_error err = {0};
    dscm_request *request = NULL;
    float image[PIXELS];
    uint8_t *png = NULL;
    char text[2048], body[4096];
    size_t size = 0;
    two_parents_images(image, 1, 3);
    if (dscm_image_encode_float(&png, &size, image, SIDE, SIDE, 1, &err) != DSCM_OK) return NULL;
    if (size < 1024) dscm_base64_encode(text, png, size);
    free(png);
    int length = snprintf(body, sizeof body, "{\"image\":\"%s\",%s}", text, fields);
    if (!dscm_request_parse_json(&request, DSCM_WORK_COUNTERFACTUAL, body, (size_t)length,
                                 &catalogue, &problem))
        TEST_FAIL_("%s: %s", fields, problem.detail);
    return request;
}

static bool run(run_item *item)
{
    return item->request && run_on(session, bundle, item, 1);
}

/* A search takes the strengths that interventions name as relative ones. Asking for the pictures on
 * the way changes no result. */
static void trajectory_changes_nothing(void)
{
    static const char acts[] = "\"intervention\":{\"shape\":\"ring\","
                               "\"thickness\":{\"do\":9,\"scale\":0}},\"options\":{\"scale\":"
                               "\"auto\",\"return\":[\"counterfactual\"%s]}";
    char plain[256], drawn[256];
    snprintf(plain, sizeof plain, acts, "");
    snprintf(drawn, sizeof drawn, acts, ",\"trajectory\"");
    run_item one = {.request = ask(plain)}, other = {.request = ask(drawn)};
    REQUIRE(run(&one) && run(&other));
    const dscm_image_file *a = dscm_result_file(one.result, "counterfactual-0");
    const dscm_image_file *b = dscm_result_file(other.result, "counterfactual-0");
    REQUIRE(a && b && dscm_result_file(other.result, "trajectory-0"));
    CHECK(a->size == b->size && memcmp(a->png, b->png, a->size) == 0);
    release(&one, 1);
    release(&other, 1);
}

/* The way back sets each cause to what was seen, as strongly as it was changed. */
static void way_back_keeps_strengths(void)
{
    run_item item = {.request =
                         ask("\"intervention\":{\"shape\":{\"do\":\"ring\",\"scale\":20},"
                             "\"thickness\":{\"do\":9,\"scale\":0}},"
                             "\"options\":{\"return\":[\"counterfactual\",\"reversibility\"]}")};
    dscm_error err = {0};
    dscm_latent *latent = NULL;
    REQUIRE(run(&item));
    const dscm_counterfactual *c = &item.result->counterfactuals[0];
    float image[PIXELS], back[PIXELS];
    for (size_t i = 0; i < PIXELS; i++) image[i] = c->image[i];
    REQUIRE(dscm_abduct(session, &latent, image, 1, &item.request->options, NULL, &err) == DSCM_OK);
    const dscm_intervention acts[] = {
        {.variable = SHAPE, .value = item.abduction->factual[SHAPE], .scale = 20},
        {.variable = THICKNESS, .value = item.abduction->factual[THICKNESS], .scale = 0}};
    dscm_query query = {.items = acts, .count = 2};
    REQUIRE(dscm_predict(session, back, latent, &query, &item.request->options, NULL, &err) ==
            DSCM_OK);
    dscm_images_round(back, PIXELS);
    double sum = 0;
    for (size_t i = 0; i < PIXELS; i++)
        sum += fabs((double)back[i] - (double)item.abduction->image[i]);
    CHECK_NEAR(c->reversibility, 127.5 * sum / PIXELS, 1e-9);
    dscm_latent_free(latent);
    release(&item, 1);
}

/* A fan of more images than go into a pass: each has its pictures on the way, as if it were alone. */
static void trajectories_of_a_large_fan(void)
{
    static const char *const shapes[] = {"disc", "ring", "bar", "disc", "ring", "bar"};
    char fields[1024], name[40];
    size_t used = (size_t)snprintf(fields, sizeof fields, "\"interventions\":[");
    for (int i = 0; i < 6; i++)
        used +=
            (size_t)snprintf(fields + used, sizeof fields - used,
                             "%s{\"shape\":\"%s\",\"thickness\":%d}", i ? "," : "", shapes[i], i);
    snprintf(fields + used, sizeof fields - used,
             "],\"options\":{\"scale\":20,\"return\":[\"trajectory\"]}");
    run_item fan = {.request = ask(fields)};
    REQUIRE(run(&fan));
    for (int i = 0; i < 6; i++) {
        snprintf(fields, sizeof fields,
                 "\"intervention\":{\"shape\":\"%s\",\"thickness\":%d},"
                 "\"options\":{\"scale\":20,\"return\":[\"trajectory\"]}",
                 shapes[i], i);
        snprintf(name, sizeof name, "trajectory-%d", i);
        run_item one = {.request = ask(fields)};
        REQUIRE(run(&one));
        const dscm_image_file *a = dscm_result_file(one.result, "trajectory-0");
        const dscm_image_file *b = dscm_result_file(fan.result, name);
        REQUIRE(a && b);
        CHECK(a->size == b->size && memcmp(a->png, b->png, a->size) == 0);
        release(&one, 1);
    }
    release(&fan, 1);
}

/* A reply says what was done in the words that a request takes. */
static void replies_can_be_asked_again(void)
{
    static const char *const acts[] = {
        "\"intervention\":{\"shape\":\"ring\",\"thickness\":{\"hold\":true}}",
        "\"intervention\":{\"thickness\":{\"shift\":1.5}}"};
    for (size_t i = 0; i < TEST_COUNT(acts); i++) {
        run_item item = {.request = ask(acts[i])};
        REQUIRE(run(&item));
        size_t size = 0;
        char *text = dscm_reply_counterfactual(item.result, item.abduction,
                                               &(dscm_reply_ids){.job = "id"}, &size);
        REQUIRE(text);
        CHECK_HAS(text, acts[i]);
        const double *value = item.result->counterfactuals[0].propagated;
        double before = item.abduction->factual[THICKNESS];
        if (i == 0) CHECK(value[SHAPE] == 1 && value[THICKNESS] == before);
        if (i == 1) CHECK_NEAR(value[THICKNESS], before + 1.5, 1e-9);
        CHECK_HAS(text, "\"propagated\":{\"shape\":\"");
        free(text);
        release(&item, 1);
    }
}

/* Factual values that are given count as they are; what is missing is read in the image, and the reply
 * says so. thickness = 2 + {0, 1, 3}[shape] + u. */
static void given_factuals_are_taken(void)
{
    static const struct {
        const char *given, *told, *read;
    } cases[] = {{"{\"shape\":\"disc\",\"thickness\":2.5}",
                  "\"factuals\":{\"shape\":\"disc\",\"thickness\":2.5}", "\"factuals_read\":[],"},
                 {"{\"thickness\":2.5}", "\"thickness\":2.5}", "\"factuals_read\":[\"shape\"],"},
                 {"{}", "\"factuals\":{", "\"factuals_read\":[\"shape\",\"thickness\"],"}};
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        char fields[256];
        snprintf(fields, sizeof fields, "\"factuals\":%s,\"intervention\":{\"shape\":\"ring\"}",
                 cases[i].given);
        run_item item = {.request = ask(fields)};
        REQUIRE(run(&item));
        size_t size = 0;
        char *text = dscm_reply_counterfactual(item.result, item.abduction,
                                               &(dscm_reply_ids){.job = "id"}, &size);
        REQUIRE(text);
        CHECK_HAS(text, cases[i].told);
        CHECK_HAS(text, cases[i].read);
        const double *factual = item.abduction->factual;
        static const double parts[] = {0, 1, 3};
        if (i < 2) CHECK_NEAR(factual[THICKNESS], 2.5, 0);
        CHECK_NEAR(item.result->counterfactuals[0].propagated[THICKNESS],
                   factual[THICKNESS] + 1 - parts[(size_t)factual[SHAPE]], 1e-9);
        /* what the predictors see is told as before */
        double seen = (double)item.abduction->observed[THICKNESS][0];
        CHECK(i == 2 || fabs(seen - 2.5) > 1e-6);
        free(text);
        release(&item, 1);
    }
}

/* One request for a sweep answers what a request for each value answers. */
static void a_sweep_is_its_values(void)
{
    run_item all = {.request = ask("\"intervention\":{\"thickness\":{\"from\":1,\"to\":7,"
                                   "\"count\":3}},\"options\":{\"scale\":20}")};
    REQUIRE(run(&all));
    CHECK_INT(all.result->count, 3);
    for (int i = 0; i < 3; i++) {
        char fields[128], name[40];
        snprintf(fields, sizeof fields,
                 "\"intervention\":{\"thickness\":%d},\"options\":{\"scale\":20}", 1 + 3 * i);
        snprintf(name, sizeof name, "counterfactual-%d", i);
        run_item one = {.request = ask(fields)};
        REQUIRE(run(&one));
        const dscm_image_file *a = dscm_result_file(one.result, "counterfactual-0");
        const dscm_image_file *b = dscm_result_file(all.result, name);
        REQUIRE(a && b);
        CHECK(a->size == b->size && memcmp(a->png, b->png, a->size) == 0);
        CHECK_NEAR(all.result->counterfactuals[i].propagated[THICKNESS], 1 + 3 * i, 0);
        release(&one, 1);
    }
    release(&all, 1);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"trajectory_changes_nothing", trajectory_changes_nothing},
                                      {"given_factuals_are_taken", given_factuals_are_taken},
                                      {"a_sweep_is_its_values", a_sweep_is_its_values},
                                      {"trajectories_of_a_large_fan", trajectories_of_a_large_fan},
                                      {"replies_can_be_asked_again", replies_can_be_asked_again},
                                      {"way_back_keeps_strengths", way_back_keeps_strengths}};
    two_parents_sharpness = 40;
    return two_parents_main("test_run_graph", dir, &bundle, &session, 4, argc, argv, cases,
                            TEST_COUNT(cases));
}
