/* The runner on the shipped bundle: what replies say of reconstruction holds when it is tried, and
 * a request gives the same pictures whatever runs beside it. */
#include <jansson.h>

#include "api/image.h"
#include "api/reply.h"
#include "core/base/rng.h"
#include "tests/api/run.h"

#define COUNT 5

static dscm_bundle *bundle;
static dscm_session *session;
static dscm_model_entry entry;
static dscm_catalogue catalogue = {.models = &entry, .count = 1};

/* A request for this work about examples/mnist/DIGIT.png. */
static dscm_request *ask_work(dscm_work work, int digit, const char *query)
{
    static uint8_t png[1 << 16];
    char path[64];
    snprintf(path, sizeof path, "examples/mnist/%d.png", digit);
    FILE *in = fopen(path, "rb");
    if (!in) return NULL;
    size_t size = fread(png, 1, sizeof png, in);
    fclose(in);
    dscm_problem problem = {0};
    dscm_request *request = NULL;
    if (work == DSCM_WORK_SAMPLE) size = 0;
    if (!dscm_request_parse_image(&request, work, png, size, query, &catalogue, &problem))
        TEST_FAIL_("%s: %s", query, problem.detail);
    return request;
}

static dscm_request *ask(int digit, const char *query)
{
    return ask_work(DSCM_WORK_COUNTERFACTUAL, digit, query);
}

static bool run(run_item *items, size_t count)
{
    return run_on(session, bundle, items, count);
}

/* The default sampler's reconstruction is given without a walk; walking gives the same pixels. */
static void reconstruction_holds(void)
{
    run_item items[COUNT] = {{0}};
    char query[64];
    for (int i = 0; i < COUNT; i++) {
        snprintf(query, sizeof query, "do.digit=%d&sampler=residual&steps=8", (i + 3) % 10);
        items[i].request = ask(i, query);
        REQUIRE(items[i].request != NULL);
    }
    REQUIRE(run(items, COUNT));
    for (int i = 0; i < COUNT; i++) {
        const dscm_abduction *a = items[i].abduction;
        float walked[28 * 28];
        dscm_query nothing = {.count = 0};
        dscm_error err = {0};
        REQUIRE(dscm_predict(session, walked, a->latent, &nothing, &a->options, NULL, &err) ==
                DSCM_OK);
        for (size_t p = 0; p < 28 * 28; p++)
            CHECK_INT(lrintf((walked[p] + 1) * 127.5f), a->pixels[p]);
        CHECK_NEAR(a->error_l1, 0, 0);
        CHECK_INT(a->verdict, DSCM_VERDICT_GOOD);
        CHECK(items[i].result->counterfactuals[0].composition == 0);
        CHECK(memcmp(a->reconstruction, a->image, sizeof walked) == 0);
    }
    release(items, COUNT);
}

/* A sampler that does not check its way back has it walked, and the error is reported. */
static void reconstruction_is_measured(void)
{
    run_item item = {.request = ask(5, "do.digit=6&sampler=ddim&steps=10")};
    REQUIRE(item.request != NULL && run(&item, 1));
    CHECK(item.abduction->error_l1 > 0.01);
    CHECK(memcmp(item.abduction->reconstruction, item.abduction->image, 28 * 28 * 4) != 0);
    release(&item, 1);
}

static void company_changes_nothing(void)
{
    run_item together[COUNT] = {{0}};
    char query[64];
    for (int i = 0; i < COUNT; i++) {
        snprintf(query, sizeof query, "do.digit=%d&steps=6", (i + 5) % 10);
        together[i].request = ask(i, query);
        REQUIRE(together[i].request != NULL);
    }
    REQUIRE(run(together, COUNT));
    for (int i = 0; i < COUNT; i++) {
        snprintf(query, sizeof query, "do.digit=%d&steps=6", (i + 5) % 10);
        run_item alone = {.request = ask(i, query)};
        REQUIRE(alone.request != NULL && run(&alone, 1));
        const dscm_image_file *a = dscm_result_file(alone.result, "counterfactual-0");
        const dscm_image_file *b = dscm_result_file(together[i].result, "counterfactual-0");
        REQUIRE(a != NULL && b != NULL);
        CHECK(a->size == b->size && memcmp(a->png, b->png, a->size) == 0);
        CHECK(memcmp(&alone.result->counterfactuals[0].scores.cld,
                     &together[i].result->counterfactuals[0].scores.cld, sizeof(double)) == 0);
        release(&alone, 1);
    }
    release(together, COUNT);
}

/* The way back is gone for a whole batch or for nobody: a request that did not ask for it must not
 * get its figure, nor one that did go without. */
static void company_goes_the_same_way(void)
{
    static const struct {
        const char *one, *other;
        bool together;
    } pairs[] = {
        {"do.digit=1&return=reversibility", "do.digit=2&return=reversibility,factual", true},
        {"do.digit=1&return=difference", "do.digit=2&return=factual&scale=auto", true},
        {"do.digit=1", "do.digit=2&return=reversibility", false},
        {"do.digit=1&return=uncertainty", "do.digit=2", false},
        {"do.digit=1&return=uncertainty", "do.digit=2&return=uncertainty,factual", true},
        {"do.digit=1&return=reversibility", "do.digit=2", false}};
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        dscm_request *one = ask(3, pairs[i].one), *other = ask(4, pairs[i].other);
        REQUIRE(one && other);
        CHECK_INT(dscm_request_compatible(one, other), pairs[i].together);
        dscm_request_free(one);
        dscm_request_free(other);
    }
}

/* A fan is the single answers side by side. */
static void fan_equals_singles(void)
{
    run_item fan = {.request = ask(4, "do.digit=*&steps=5")};
    REQUIRE(fan.request != NULL && run(&fan, 1));
    CHECK_INT(fan.result->count, 10);
    for (int i = 0; i < 10; i += 3) {
        char query[64], name[40];
        snprintf(query, sizeof query, "do.digit=%d&steps=5", i);
        snprintf(name, sizeof name, "counterfactual-%d", i);
        run_item one = {.request = ask(4, query)};
        REQUIRE(one.request != NULL && run(&one, 1));
        const dscm_image_file *a = dscm_result_file(one.result, "counterfactual-0");
        const dscm_image_file *b = dscm_result_file(fan.result, name);
        REQUIRE(a != NULL && b != NULL);
        CHECK(a->size == b->size && memcmp(a->png, b->png, a->size) == 0);
        release(&one, 1);
    }
    release(&fan, 1);
}

/* What a client has been told, and when it leaves. */
typedef struct told {
    dscm_run_event last;
    size_t events, stop_at;
    bool back; /* something was taken back */
} told;

static bool listen_to(void *arg, const dscm_run_event *event)
{
    told *t = arg;
    bool first = t->events++ == 0;
    t->back |= event->step > event->steps || !(event->fraction <= 1);
    t->back |= !first && (event->fraction < t->last.fraction || event->step < t->last.step ||
                          event->steps != t->last.steps);
    t->last = *event;
    return t->events != t->stop_at;
}

static bool count_previews(void *arg, const dscm_run_event *event)
{
    if (strcmp(event->phase, "predict") == 0) ((size_t *)arg)[event->preview != NULL]++;
    return true;
}

/* Offsets reach over all pictures of a fan: where a session takes them in parts, none is shown. */
static void a_preview_is_of_all_or_of_none(void)
{
    for (size_t batch = 4; batch <= 16; batch *= 4) {
        dscm_session *s = NULL;
        run_item item = {.request = ask(3, "do.digit=*&sampler=ddim&steps=4&scale=2")};
        size_t counts[2] = {0, 0};
        dscm_run_progress progress = {.on_step = count_previews, .arg = counts};
        REQUIRE(item.request && dscm_session_open(&s, bundle, batch, 1, NULL) == DSCM_OK);
        CHECK_INT(run_batch(s, bundle, &item, 1, &progress, NULL), DSCM_OK);
        CHECK(counts[batch > 10] >= 4);
        CHECK_INT(counts[batch < 10], 0);
        release(&item, 1);
        dscm_session_free(s);
    }
}

/* Walks follow each other, and a search makes as many as its most difficult image wants: no step
 * and no fraction is taken back, and the work may be stopped in any of them. */
static void progress_never_goes_back(void)
{
    static const struct {
        dscm_work work;
        const char *query;
        size_t jobs, least; /* least: events that several walks must make */
    } tries[] = {
        {DSCM_WORK_COUNTERFACTUAL, "do.digit=*&scale=auto&steps=4&ratio=0.4", 1, 8},
        {DSCM_WORK_COUNTERFACTUAL, "do.digit=1&scale=auto&steps=5&ratio=0.5", 3, 5},
        {DSCM_WORK_COUNTERFACTUAL, "do.digit=1&scale=6&steps=4&return=reversibility", 2, 12},
        {DSCM_WORK_COUNTERFACTUAL, "do.digit=2&scale=auto&steps=4&return=trajectory", 1, 8},
        {DSCM_WORK_COUNTERFACTUAL, "do.digit=1&scale=6&steps=4&return=uncertainty", 2, 20},
        {DSCM_WORK_COUNTERFACTUAL, "do.digit=2&sampler=ddim&steps=4", 2, 12},
        {DSCM_WORK_SAMPLE, "steps=6&count=3", 4, 24}};
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        told t = {.stop_at = 0};
        for (int round = 0; round < 2; round++) {
            run_item items[4] = {{0}};
            dscm_run_progress progress = {.on_step = listen_to, .arg = &t};
            dscm_error err = {0};
            for (size_t k = 0; k < tries[i].jobs; k++) {
                items[k].request = ask_work(tries[i].work, (int)k + 3, tries[i].query);
                REQUIRE(items[k].request != NULL);
            }
            dscm_code code = run_batch(session, bundle, items, tries[i].jobs, &progress, &err);
            CHECK_INT(code, round ? DSCM_E_CANCELED : DSCM_OK);
            if (t.back || t.events < (round ? 1 : tries[i].least))
                TEST_FAIL_("%s: %zu events, the last %zu/%zu %g", tries[i].query, t.events,
                           t.last.step, t.last.steps, t.last.fraction);
            for (size_t k = 0; k < tries[i].jobs; k++)
                CHECK((items[k].result == NULL) == (round == 1));
            release(items, tries[i].jobs);
            t = (told){.stop_at = t.events * 3 / 4}; /* then stopped in a late walk */
        }
    }
}

/* What only the engine can judge is refused under the name of the option that is at fault. */
static void impossible_walks_are_named(void)
{
    static const struct {
        const char *query, *pointer, *detail;
    } tries[] = {
        {"do.digit=8&ratio=1e-9", "?ratio", "too few for 5 steps; allowed is 0.0046..1"},
        {"do.digit=8&ratio=0.5&steps=600", "?ratio", "ratio: 0.5 keeps 500 of 999 noise levels"},
        {"do.digit=8&sampler=published&ratio=0.001", "?ratio", "allowed is 0.0100..1"},
        {"do.digit=8&sampler=published&steps=300", "?steps", "steps: 300: no integer stride"},
        {"do.digit=8&steps=1000", "?steps", "steps: 1000 is not in 2..999"},
    };
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        dscm_problem problem = {0};
        dscm_request *request = NULL;
        CHECK(!dscm_request_parse_image(&request, DSCM_WORK_COUNTERFACTUAL, NULL, 0, tries[i].query,
                                        &catalogue, &problem));
        REQUIRE(problem.errors_count >= 1);
        CHECK_STR(problem.errors[0].pointer, tries[i].pointer);
        if (!strstr(problem.errors[0].detail, tries[i].detail))
            TEST_FAIL_("%s: %s", tries[i].query, problem.errors[0].detail);
    }
}

/* Scores of a fan are those of the engine for each picture. */
static void scores_are_the_engines(void)
{
    run_item fan = {.request = ask(6, "do.digit=*&steps=5")};
    REQUIRE(fan.request != NULL && run(&fan, 1));
    for (int k = 0; k < 10; k++) {
        const dscm_counterfactual *c = &fan.result->counterfactuals[k];
        int factual = (int)fan.abduction->factual[0];
        dscm_scores want;
        dscm_error err = {0};
        REQUIRE(dscm_score(session, &want, fan.abduction->image, c->image, 0, &k, &factual, 1,
                           &err) == DSCM_OK);
        CHECK_NEAR(c->scores.cld, want.cld, 1e-6);
        CHECK_NEAR(c->scores.im1, want.im1, 1e-4 * want.im1);
        CHECK_NEAR(c->scores.l1, want.l1, 1e-6);
        CHECK_INT(c->scores.valid, want.valid);
        CHECK_INT(c->scores.oracle_label, want.oracle_label);
    }
    release(&fan, 1);
}

/* The abduction of a picture that is no digit: noise. */
static dscm_request *ask_noise(uint64_t stream)
{
    dscm_rng rng = dscm_rng_make(8, stream);
    dscm_request *a = ask_work(DSCM_WORK_ABDUCTION, 0, "steps=4");
    for (int p = 0; a && p < 28 * 28; p++) a->pixels[p] = (uint8_t)dscm_rng_below(&rng, 256);
    return a;
}

/* Noise is given back and is unfamiliar; three plain steps do not give a digit back; a real
 * digit is good. */
static void verdicts_follow_the_figures(void)
{
    for (uint64_t i = 0; i < 4; i++) {
        run_item item = {
            .request = i < 2    ? ask_noise(i)
                       : i == 2 ? ask_work(DSCM_WORK_ABDUCTION, (int)i, "sampler=ddim&steps=3")
                                : ask_work(DSCM_WORK_ABDUCTION, (int)i, "")};
        REQUIRE(item.request != NULL && run(&item, 1));
        const dscm_abduction *a = item.abduction;
        CHECK_INT(a->verdict, i < 2    ? DSCM_VERDICT_UNFAMILIAR
                              : i == 2 ? DSCM_VERDICT_INACCURATE
                                       : DSCM_VERDICT_GOOD);
        CHECK_INT(a->verdict, dscm_verdict_of(&a->evidence));
        CHECK(!isnan(a->evidence.denoising.value) && !isnan(a->evidence.contrast.value));
        release(&item, 1);
    }
}

/* The page asks for what the model says a request gets that names nothing. */
static void a_model_tells_its_defaults(void)
{
    const dscm_model_limits limits = {.body_bytes = 1, .deadline_max_ms = 2};
    dscm_request *plain = ask(3, "do.digit=1");
    size_t size = 0;
    char *text = dscm_reply_model(&entry, &limits, &size);
    json_t *reply = text ? json_loads(text, 0, NULL) : NULL;
    const json_t *said = json_object_get(reply, "defaults");
    REQUIRE(plain && said);
    CHECK(plain->auto_scale);
    CHECK_STR(json_string_value(json_object_get(said, "scale")), "auto");
    CHECK_STR(json_string_value(json_object_get(said, "sampler")), plain->options.sampler);
    CHECK_INT(json_integer_value(json_object_get(said, "steps")), plain->options.steps);
    CHECK_NEAR(json_number_value(json_object_get(said, "ratio")), plain->options.ratio, 1e-8);
    dscm_request_free(plain);
    json_decref(reply);
    free(text);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"impossible_walks_are_named", impossible_walks_are_named},
        {"reconstruction_holds", reconstruction_holds},
        {"reconstruction_is_measured", reconstruction_is_measured},
        {"company_changes_nothing", company_changes_nothing},
        {"company_goes_the_same_way", company_goes_the_same_way},
        {"fan_equals_singles", fan_equals_singles},
        {"a_model_tells_its_defaults", a_model_tells_its_defaults},
        {"a_preview_is_of_all_or_of_none", a_preview_is_of_all_or_of_none},
        {"progress_never_goes_back", progress_never_goes_back},
        {"scores_are_the_engines", scores_are_the_engines},
        {"verdicts_follow_the_figures", verdicts_follow_the_figures}};
    dscm_error err = {0};
    if (dscm_bundle_open(&bundle, "models/mnist", &err) != DSCM_OK ||
        dscm_session_open(&session, bundle, 16, 1, &err) != DSCM_OK) {
        fprintf(stderr, "%s\n", err.message);
        dscm_bundle_free(bundle);
        return 1;
    }
    entry = (dscm_model_entry){dscm_bundle_describe(bundle), bundle};
    int failed = test_main(argc, argv, cases, TEST_COUNT(cases));
    dscm_session_free(session);
    dscm_bundle_free(bundle);
    return failed;
}
