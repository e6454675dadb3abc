/* The runner on the shipped bundle: what replies say of reconstruction holds when it is tried, and
 * a request gives the same pictures whatever runs beside it. And on one of two parents: every edge
 * is guided as strongly as its request says, there and back. */
#include "api/base64.h"
#include "api/image.h"
#include "api/run.h"
#include "tests/core/scm/two_parents.h"

#define COUNT 5

static dscm_bundle *bundle;
static dscm_session *session;
static dscm_model_entry entry;
static dscm_catalogue catalogue = {.models = &entry, .count = 1};

static char two_dir[64];
static dscm_bundle *two;
static dscm_session *two_session;
static dscm_model_entry two_entry;
static dscm_catalogue two_catalogue = {.models = &two_entry, .count = 1};

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

static bool run_on(dscm_session *s, const dscm_bundle *b, dscm_run_item *items, size_t count)
{
    dscm_error err = {0};
    if (dscm_run(s, b, items, count, NULL, &err) == DSCM_OK) return true;
    TEST_FAIL_("%s", err.message);
    return false;
}

static bool run(dscm_run_item *items, size_t count)
{
    return run_on(session, bundle, items, count);
}

static void release(dscm_run_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        dscm_result_free(items[i].result);
        dscm_abduction_free(items[i].abduction);
        dscm_request_free((dscm_request *)items[i].request);
    }
}

/* The default sampler's reconstruction is given without a walk; walking gives the same pixels. */
static void reconstruction_holds(void)
{
    dscm_run_item items[COUNT] = {{0}};
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
    dscm_run_item item = {.request = ask(5, "do.digit=6&sampler=ddim&steps=10")};
    REQUIRE(item.request != NULL && run(&item, 1));
    CHECK(item.abduction->error_l1 > 0.01);
    CHECK(memcmp(item.abduction->reconstruction, item.abduction->image, 28 * 28 * 4) != 0);
    release(&item, 1);
}

static void company_changes_nothing(void)
{
    dscm_run_item together[COUNT] = {{0}};
    char query[64];
    for (int i = 0; i < COUNT; i++) {
        snprintf(query, sizeof query, "do.digit=%d&steps=6", (i + 5) % 10);
        together[i].request = ask(i, query);
        REQUIRE(together[i].request != NULL);
    }
    REQUIRE(run(together, COUNT));
    for (int i = 0; i < COUNT; i++) {
        snprintf(query, sizeof query, "do.digit=%d&steps=6", (i + 5) % 10);
        dscm_run_item alone = {.request = ask(i, query)};
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
    dscm_run_item fan = {.request = ask(4, "do.digit=*&steps=5")};
    REQUIRE(fan.request != NULL && run(&fan, 1));
    CHECK_INT(fan.result->count, 10);
    for (int i = 0; i < 10; i += 3) {
        char query[64], name[40];
        snprintf(query, sizeof query, "do.digit=%d&steps=5", i);
        snprintf(name, sizeof name, "counterfactual-%d", i);
        dscm_run_item one = {.request = ask(4, query)};
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
        {DSCM_WORK_COUNTERFACTUAL, "do.digit=2&sampler=ddim&steps=4", 2, 12},
        {DSCM_WORK_SAMPLE, "steps=6&count=3", 4, 24}};
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        told t = {.stop_at = 0};
        for (int round = 0; round < 2; round++) {
            dscm_run_item items[4] = {{0}};
            dscm_run_progress progress = {.on_step = listen_to, .arg = &t};
            dscm_error err = {0};
            for (size_t k = 0; k < tries[i].jobs; k++) {
                items[k].request = ask_work(tries[i].work, (int)k + 3, tries[i].query);
                REQUIRE(items[k].request != NULL);
            }
            dscm_code code = dscm_run(session, bundle, items, tries[i].jobs, &progress, &err);
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
        {"do.digit=8&ratio=1e-9", "?ratio", "too few for 10 steps; allowed is 0.0096..1"},
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

/* ---- two parents ---- */
/* {"image": a random one, "interventions": LIST, "options": {"steps": 4, OPTIONS}} */
static dscm_request *ask_two(const char *list, const char *options)
{
    static char body[4096], text[2048];
    uint8_t pixels[PIXELS], *png = NULL;
    size_t size = 0;
    dscm_rng rng = dscm_rng_make(31, 0);
    dscm_problem problem = {0};
    dscm_request *request = NULL;
    for (int i = 0; i < PIXELS; i++) pixels[i] = (uint8_t)dscm_rng_below(&rng, 256);
    if (dscm_image_encode(&png, &size, pixels, SIDE, SIDE, 1, NULL) != DSCM_OK) return NULL;
    text[dscm_base64_encoded_size(size)] = '\0';
    dscm_base64_encode(text, png, size);
    free(png);
    int n = snprintf(body, sizeof body,
                     "{\"image\":\"%s\",\"interventions\":%s,\"options\":{\"steps\":4,%s}}", text,
                     list, options);
    if (!dscm_request_parse_json(&request, DSCM_WORK_COUNTERFACTUAL, body, (size_t)n,
                                 &two_catalogue, &problem))
        TEST_FAIL_("%s: %s", list, problem.detail);
    return request;
}

/* How far `image` is from what the engine says, asked directly, on 0..255. */
static double distance(const float *image, const dscm_latent *latent, const dscm_query *query,
                       const dscm_options *options, double scale)
{
    float want[PIXELS];
    double sum = 0;
    dscm_options o = *options;
    dscm_error err = {0};
    o.scale = scale;
    if (dscm_predict(two_session, want, latent, query, &o, NULL, &err) != DSCM_OK) return INFINITY;
    dscm_images_round(want, PIXELS);
    for (int p = 0; p < PIXELS; p++) sum += 127.5 * fabs((double)want[p] - (double)image[p]);
    return sum / PIXELS;
}

/* do(all that was set := what was observed), from the counterfactual. */
static double way_back(const dscm_counterfactual *c, const dscm_abduction *from,
                       const dscm_intervention *acts, const dscm_options *options, double scale)
{
    dscm_intervention back[2];
    dscm_query query = {.items = back, .count = c->target.count};
    dscm_latent *latent = NULL;
    dscm_error err = {0};
    for (size_t j = 0; j < query.count; j++)
        back[j] = (dscm_intervention){acts[j].variable, DSCM_DO, from->factual[acts[j].variable],
                                      acts[j].scale};
    if (dscm_abduct(two_session, &latent, c->image, 1, options, NULL, &err) != DSCM_OK) return NAN;
    double l1 = distance(from->image, latent, &query, options, scale);
    dscm_latent_free(latent);
    return l1;
}

#define STRENGTHS                                                                                  \
    "[{\"shape\":{\"do\":1,\"scale\":2}},{\"shape\":2},{\"thickness\":{\"shift\":-2}},"            \
    "{\"shape\":{\"do\":0,\"scale\":3},\"thickness\":{\"do\":8,\"scale\":0.5}}]"

/* A number is the strength of edges that name none; a searched one multiplies what they name. */
static void every_edge_has_its_strength(void)
{
    static const double own[4] = {2, NAN, NAN, 3};
    for (int search = 0; search < 2; search++) {
        dscm_run_item item = {
            .request =
                ask_two(STRENGTHS, search ? "\"scale\":\"auto\",\"return\":[\"reversibility\"]"
                                          : "\"scale\":7,\"return\":[\"reversibility\"]")};
        REQUIRE(item.request != NULL && run_on(two_session, two, &item, 1));
        for (int k = 0; k < 4; k++) {
            const dscm_counterfactual *c = &item.result->counterfactuals[k];
            const dscm_abduction *from = item.abduction;
            const dscm_target *target = &item.request->targets[k];
            double factor = search ? c->scale : 1, scale = search ? c->scale : 7;
            dscm_intervention acts[2];
            for (size_t j = 0; j < target->count; j++) {
                acts[j] = target->items[j];
                acts[j].scale *= factor;
            }
            dscm_query query = {acts, target->count, from->factual, NULL};
            if (!search) CHECK_NEAR(c->scale, isnan(own[k]) ? 7 : own[k], 0);
            CHECK_NEAR(distance(c->image, from->latent, &query, &from->options, scale), 0, 0.05);
            CHECK_NEAR(c->reversibility, way_back(c, from, acts, &from->options, scale), 0.05);
        }
        release(&item, 1);
    }
}

static void check_same_images(const dscm_result *a, const dscm_result *b)
{
    REQUIRE(a->count == b->count);
    for (size_t k = 0; k < a->count; k++) {
        const dscm_counterfactual *c = &a->counterfactuals[k], *d = &b->counterfactuals[k];
        double sum = 0;
        for (int p = 0; p < PIXELS; p++)
            sum += 127.5 * fabs((double)c->image[p] - (double)d->image[p]);
        CHECK_NEAR(sum / PIXELS, 0, 0.05);
        CHECK_NEAR(c->scale, d->scale, 0);
    }
}

/* Asking for the frames of a searched walk as well does not give another picture. */
static void a_trajectory_is_of_the_same_picture(void)
{
    dscm_run_item plain = {.request = ask_two(STRENGTHS, "\"scale\":\"auto\"")};
    dscm_run_item frames = {
        .request = ask_two(STRENGTHS, "\"scale\":\"auto\",\"return\":[\"trajectory\"]")};
    REQUIRE(plain.request && frames.request);
    REQUIRE(run_on(two_session, two, &plain, 1) && run_on(two_session, two, &frames, 1));
    check_same_images(plain.result, frames.result);
    CHECK(dscm_result_file(frames.result, "trajectory-3") != NULL);
    release(&plain, 1);
    release(&frames, 1);
}

/* Nor does a request beside it that is guided by another strength. */
static void company_of_other_strength_changes_nothing(void)
{
    static const char *const options[] = {"\"scale\":2", "\"scale\":9"};
    dscm_run_item together[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        together[i].request = ask_two(STRENGTHS, options[i]);
        REQUIRE(together[i].request != NULL);
    }
    CHECK(dscm_request_compatible(together[0].request, together[1].request));
    REQUIRE(run_on(two_session, two, together, 2));
    for (int i = 0; i < 2; i++) {
        dscm_run_item alone = {.request = ask_two(STRENGTHS, options[i])};
        REQUIRE(alone.request != NULL && run_on(two_session, two, &alone, 1));
        check_same_images(alone.result, together[i].result);
        release(&alone, 1);
    }
    release(together, 2);
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
        {"progress_never_goes_back", progress_never_goes_back},
        {"every_edge_has_its_strength", every_edge_has_its_strength},
        {"a_trajectory_is_of_the_same_picture", a_trajectory_is_of_the_same_picture},
        {"company_of_other_strength_changes_nothing", company_of_other_strength_changes_nothing}};
    dscm_error err = {0};
    two_parents_sharpness = 30;
    if (dscm_bundle_open(&bundle, "models/mnist", &err) != DSCM_OK ||
        dscm_session_open(&session, bundle, 16, 1, &err) != DSCM_OK ||
        !two_parents_open(two_dir, &two, &two_session, 8, &err)) {
        fprintf(stderr, "%s\n", err.message);
        dscm_bundle_free(bundle);
        return 1;
    }
    two_entry = (dscm_model_entry){dscm_bundle_describe(two), two};
    entry = (dscm_model_entry){dscm_bundle_describe(bundle), bundle};
    int failed = test_main(argc, argv, cases, TEST_COUNT(cases));
    dscm_session_free(session);
    dscm_bundle_free(bundle);
    dscm_session_free(two_session);
    dscm_bundle_free(two);
    two_parents_remove(two_dir);
    return failed;
}
