/* The runner on a bundle of two parents: every edge is guided as strongly as its request says, there
 * and back, and outcomes are what the predictors see of everything that was set. */
#include "api/base64.h"
#include "api/image.h"
#include "core/image/png.h"
#include "tests/api/run.h"
#include "tests/core/scm/two_parents.h"

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;

static const dscm_catalogue *catalogue(void)
{
    static dscm_model_entry entry;
    static dscm_catalogue all = {.models = &entry, .count = 1};
    entry = (dscm_model_entry){dscm_bundle_describe(bundle), bundle};
    return &all;
}

static bool run(run_item *items, size_t count)
{
    return run_on(session, bundle, items, count);
}

/* {"image": a random one, "interventions": LIST, "options": {"steps": 4, OPTIONS}} */
static dscm_request *ask(const char *list, const char *options)
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
    if (!dscm_request_parse_json(&request, DSCM_WORK_COUNTERFACTUAL, body, (size_t)n, catalogue(),
                                 &problem))
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
    if (dscm_predict(session, want, latent, query, &o, NULL, &err) != DSCM_OK) return INFINITY;
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
    if (dscm_abduct(session, &latent, c->image, 1, options, NULL, &err) != DSCM_OK) return NAN;
    double l1 = distance(from->image, latent, &query, options, scale);
    dscm_latent_free(latent);
    return l1;
}

/* Largest difference between a pixel's uncertainty and the standard deviation of what the engine gives
 * at five strengths, asked directly; acts: as strong as the counterfactual's. */
static double unlike(const dscm_counterfactual *c, const dscm_abduction *from,
                     const dscm_intervention *acts, double scale)
{
    static const double factors[] = {1, .5, .75, 1.5, 2};
    double sums[PIXELS] = {0}, squares[PIXELS] = {0}, most = 0;
    for (size_t f = 0; f < TEST_COUNT(factors); f++) {
        float image[PIXELS];
        dscm_intervention own[2];
        dscm_options o = from->options;
        dscm_error err = {0};
        for (size_t j = 0; j < c->target.count; j++) {
            own[j] = acts[j];
            own[j].scale *= factors[f];
        }
        dscm_query query = {.items = own, .count = c->target.count, .factual = from->factual};
        o.scale = scale * factors[f];
        if (dscm_predict(session, image, from->latent, &query, &o, NULL, &err) != DSCM_OK)
            return INFINITY;
        dscm_images_round(image, PIXELS);
        for (int p = 0; p < PIXELS; p++) {
            sums[p] += 127.5 * (double)image[p];
            squares[p] += pow(127.5 * (double)image[p], 2);
        }
    }
    for (int p = 0; p < PIXELS; p++) {
        double deviation = sqrt(fmax(squares[p] / 5 - pow(sums[p] / 5, 2), 0));
        most = fmax(most, fabs(deviation - (double)c->uncertainty[p]));
    }
    return most;
}

#define STRENGTHS                                                                                  \
    "[{\"shape\":{\"do\":1,\"scale\":2}},{\"shape\":2},{\"thickness\":{\"shift\":-2}},"            \
    "{\"shape\":{\"do\":0,\"scale\":3},\"thickness\":{\"do\":8,\"scale\":0.5}}]"

/* The strength is the one that the engine finds, at what that cost. */
static void check_search(const dscm_counterfactual *c, const dscm_abduction *from)
{
    float image[PIXELS];
    dscm_query query = {
        .items = c->target.items, .count = c->target.count, .factual = from->factual};
    dscm_scale_result want;
    dscm_error err = {0};
    REQUIRE(dscm_predict_search(session, image, &want, from->latent, &query, &from->options, NULL,
                                NULL, &err) == DSCM_OK);
    CHECK_NEAR(c->scale, want.scale, 0);
    CHECK_INT(c->predictions, want.predictions);
}

/* A number is the strength of edges that name none; a searched one multiplies what they name. */
static void every_edge_has_its_strength(void)
{
#define BOTH "\"return\":[\"reversibility\",\"uncertainty\"]"
    static const double own[4] = {2, NAN, NAN, 3};
    for (int search = 0; search < 2; search++) {
        run_item item = {
            .request = ask(STRENGTHS, search ? "\"scale\":\"auto\"," BOTH : "\"scale\":7," BOTH)};
        REQUIRE(item.request != NULL && run(&item, 1));
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
            dscm_query query = {.items = acts, .count = target->count, .factual = from->factual};
            if (search)
                check_search(c, from);
            else
                CHECK_NEAR(c->scale, isnan(own[k]) ? 7 : own[k], 0);
            CHECK_NEAR(distance(c->image, from->latent, &query, &from->options, scale), 0, 0.05);
            REQUIRE(c->uncertainty != NULL);
            CHECK_NEAR(unlike(c, from, acts, scale), 0, 0.5); /* a level of one of five, rounded */
            CHECK(c->uncertainty_mean > 0);
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
    run_item plain = {.request = ask(STRENGTHS, "\"scale\":\"auto\"")};
    run_item frames = {.request = ask(STRENGTHS, "\"scale\":\"auto\",\"return\":[\"trajectory\"]")};
    REQUIRE(plain.request && frames.request);
    REQUIRE(run(&plain, 1) && run(&frames, 1));
    check_same_images(plain.result, frames.result);
    CHECK(dscm_result_file(frames.result, "trajectory-3") != NULL);
    release(&plain, 1);
    release(&frames, 1);
}

/* Nor does a request beside it that is guided by another strength. */
static void company_of_other_strength_changes_nothing(void)
{
    static const char *const options[] = {"\"scale\":2", "\"scale\":9"};
    run_item together[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        together[i].request = ask(STRENGTHS, options[i]);
        REQUIRE(together[i].request != NULL);
    }
    CHECK(dscm_request_compatible(together[0].request, together[1].request));
    REQUIRE(run(together, 2));
    for (int i = 0; i < 2; i++) {
        run_item alone = {.request = ask(STRENGTHS, options[i])};
        REQUIRE(alone.request != NULL && run(&alone, 1));
        check_same_images(alone.result, together[i].result);
        release(&alone, 1);
    }
    release(together, 2);
}

/* The first categorical do(), which scores are about, else the first. */
static size_t scored(const dscm_target *target)
{
    for (size_t j = 0; j < target->count; j++)
        if (target->items[j].action == DSCM_DO && target->items[j].variable == SHAPE) return j;
    return 0;
}

/* Whether the predictor sees the intervention in the image, and what it sees. */
static bool met(const dscm_intervention *act, const dscm_abduction *from, const float *image,
                double *seen)
{
    float row[3];
    dscm_error err = {0};
    *seen = NAN;
    if (act->action == DSCM_HOLD) return true;
    CHECK_INT(dscm_observe(session, act->variable, row, image, 1, &err), DSCM_OK);
    *seen = act->variable == SHAPE ? (row[1] > row[0]   ? row[1] >= row[2] ? 1 : 2
                                      : row[2] > row[0] ? 2
                                                        : 0)
                                   : (double)row[0];
    if (act->variable == SHAPE) return *seen == act->value;
    double shifted = act->action == DSCM_SHIFT ? from->factual[THICKNESS] : 0;
    return fabs(*seen - act->value - shifted) <= 1; /* a tenth of its range */
}

/* Found is what the predictors see of all that was set. */
static void outcomes_are_what_predictors_see(void)
{
    static const char list[] =
        "[{\"shape\":0},{\"shape\":1},{\"shape\":2},{\"thickness\":{\"shift\":0}},"
        "{\"thickness\":{\"shift\":3}},{\"thickness\":{\"hold\":true}},{\"thickness\":9},"
        "{\"thickness\":{\"shift\":3},\"shape\":1},{\"shape\":0,\"thickness\":{\"shift\":3}}]";
    run_item item = {.request = ask(list, "\"scale\":2")};
    int outcomes[2] = {0};
    REQUIRE(item.request != NULL && run(&item, 1));
    for (size_t k = 0; k < item.result->count; k++) {
        const dscm_counterfactual *c = &item.result->counterfactuals[k];
        bool all = true;
        for (size_t j = 0; j < c->target.count; j++) {
            double seen;
            all &= met(&c->target.items[j], item.abduction, c->image, &seen);
            if (j != scored(&c->target)) continue;
            CHECK(isnan(seen) ? isnan(c->observed_value) : c->observed_value == seen);
        }
        CHECK_INT(c->scores.valid, all);
        outcomes[c->scores.valid]++;
    }
    CHECK(outcomes[0] >= 2 && outcomes[1] >= 2);
    release(&item, 1);
}

/* Samples are the engine's for this seed; a larger count begins with the same pictures. */
static void samples_are_the_seeds(void)
{
    static const char body[] =
        "{\"intervention\":{\"shape\":{\"do\":1,\"scale\":2},\"thickness\":8},"
        "\"count\":%d,\"options\":{\"steps\":4,\"scale\":5,\"seed\":%d}}";
    for (int count = 1; count <= 3; count += 2) {
        char text[256];
        dscm_problem problem = {0};
        dscm_request *request = NULL;
        dscm_latent *latent = NULL;
        dscm_error err = {0};
        int n = snprintf(text, sizeof text, body, count, 40);
        REQUIRE(dscm_request_parse_json(&request, DSCM_WORK_SAMPLE, text, (size_t)n, catalogue(),
                                        &problem));
        run_item item = {.request = request};
        REQUIRE(run(&item, 1));
        CHECK_INT(item.result->count, count);
        const dscm_intervention acts[2] = {{SHAPE, DSCM_DO, 1, 2}, {THICKNESS, DSCM_DO, 8, 5}};
        const dscm_query query = {.items = acts, .count = 2};
        for (size_t k = 0; k < item.result->count; k++) {
            REQUIRE(dscm_latent_draw(session, &latent, 1, 40, k, &request->options, &err) ==
                    DSCM_OK);
            CHECK_NEAR(distance(item.result->counterfactuals[k].image, latent, &query,
                                &request->options, 5),
                       0, 0.05);
            dscm_latent_free(latent);
        }
        release(&item, 1);
    }
}

/* Nothing holds a draw to an image, so it walks finer than a counterfactual unless told otherwise. */
static void a_draw_walks_finer(void)
{
    static const struct {
        dscm_work work;
        const char *body;
        size_t steps;
    } tries[] = {
        {DSCM_WORK_SAMPLE, "{\"intervention\":{\"shape\":1}}", 20},
        {DSCM_WORK_SAMPLE, "{\"options\":{\"steps\":3}}", 3},
        {DSCM_WORK_COUNTERFACTUAL, "{\"abduction\":\"a\",\"intervention\":{\"shape\":1}}", 4}};
    for (size_t i = 0; i < TEST_COUNT(tries); i++) {
        dscm_problem problem = {0};
        dscm_request *request = NULL;
        REQUIRE(dscm_request_parse_json(&request, tries[i].work, tries[i].body,
                                        strlen(tries[i].body), catalogue(), &problem));
        CHECK_INT(request->options.steps, tries[i].steps);
        dscm_request_free(request);
    }
}

/* The picture of a file, tiles of PIXELS beside each other; the caller frees it. */
static uint8_t *read_file(const dscm_result *result, const char *name, size_t channels,
                          size_t *tiles)
{
    const dscm_image_file *file = dscm_result_file(result, name);
    const dscm_picture_limits limits = {1024, 1 << 20};
    dscm_picture picture = {0};
    dscm_error err = {0};
    if (!file || dscm_png_decode(&picture, file->png, file->size, channels, 0, &limits, &err)) {
        TEST_FAIL_("%s: %s", name, err.message);
        return NULL;
    }
    CHECK_INT(picture.h, SIDE);
    *tiles = picture.w / SIDE;
    return picture.pixels;
}

/* Mean difference of tile f of a strip to an image, on 0..255. */
static double tile_distance(const uint8_t *strip, size_t tiles, size_t f, const float *image)
{
    double sum = 0;
    for (size_t p = 0; p < PIXELS; p++)
        sum +=
            fabs(strip[(p / SIDE * tiles + f) * SIDE + p % SIDE] - 127.5 * ((double)image[p] + 1));
    return sum / PIXELS;
}

/* Each file shows what its name says. */
static void files_show_what_they_are_called(void)
{
    run_item item = {
        .request =
            ask(STRENGTHS,
                "\"scale\":4,\"sampler\":\"ddim\",\"return\":[\"counterfactual\",\"factual\","
                "\"reconstruction\",\"difference\",\"trajectory\"]")};
    REQUIRE(item.request != NULL && run(&item, 1));
    const dscm_abduction *from = item.abduction;
    size_t tiles, size;
    CHECK(from->error_l1 > 1); /* so that the two differ */
    uint8_t *factual = read_file(item.result, "factual", 1, &tiles);
    uint8_t *reconstruction = read_file(item.result, "reconstruction", 1, &tiles);
    REQUIRE(factual && reconstruction);
    CHECK_NEAR(tile_distance(factual, 1, 0, from->image), 0, 1e-3);
    CHECK_NEAR(tile_distance(reconstruction, 1, 0, from->reconstruction), 0, 1e-3);
    for (size_t k = 0; k < item.result->count; k++) {
        const float *image = item.result->counterfactuals[k].image;
        char name[40];
        uint8_t *png;
        snprintf(name, sizeof name, "counterfactual-%zu", k);
        uint8_t *pixels = read_file(item.result, name, 1, &tiles);
        snprintf(name, sizeof name, "trajectory-%zu", k);
        uint8_t *strip = read_file(item.result, name, 1, &tiles);
        REQUIRE(pixels && strip);
        CHECK_NEAR(tile_distance(pixels, 1, 0, image), 0, 1e-3);
        CHECK_INT(tiles, 4);
        CHECK_NEAR(tile_distance(strip, 4, 3, image), 0, 0.1); /* ends where the walk does */
        if (k == 0) CHECK(tile_distance(strip, 4, 0, image) > 1);
        if (k != 0) CHECK(tile_distance(strip, 4, 3, item.result->counterfactuals[0].image) > 1);
        snprintf(name, sizeof name, "difference-%zu", k);
        const dscm_image_file *difference = dscm_result_file(item.result, name);
        REQUIRE(difference && dscm_image_encode_difference(&png, &size, from->image, image, SIDE,
                                                           SIDE, 1, NULL) == DSCM_OK);
        CHECK(size == difference->size && memcmp(png, difference->png, size) == 0);
        free(png);
        free(pixels);
        free(strip);
    }
    free(factual);
    free(reconstruction);
    release(&item, 1);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"every_edge_has_its_strength", every_edge_has_its_strength},
        {"a_trajectory_is_of_the_same_picture", a_trajectory_is_of_the_same_picture},
        {"files_show_what_they_are_called", files_show_what_they_are_called},
        {"outcomes_are_what_predictors_see", outcomes_are_what_predictors_see},
        {"samples_are_the_seeds", samples_are_the_seeds},
        {"a_draw_walks_finer", a_draw_walks_finer},
        {"company_of_other_strength_changes_nothing", company_of_other_strength_changes_nothing}};
    two_parents_sharpness = 30;
    return two_parents_main("test_run_targets", dir, &bundle, &session, 16, argc, argv, cases,
                            TEST_COUNT(cases));
}
