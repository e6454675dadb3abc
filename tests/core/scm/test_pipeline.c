/* The pipeline on cases, without a service around it: how sure an abduction is, and the way back. */
#include "core/scm/pipeline.h"
#include "tests/core/scm/two_parents.h"

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;

static void pixels_of(uint8_t *pixels, uint64_t stream)
{
    dscm_rng rng = dscm_rng_make(31, stream);
    for (int i = 0; i < PIXELS; i++) pixels[i] = (uint8_t)dscm_rng_below(&rng, 256);
}

static dscm_options options_of(const dscm_bundle *b, double scale)
{
    dscm_options o = dscm_options_defaults();
    dscm_error err = {0};
    o.steps = 4;
    o.scale = scale;
    if (dscm_options_resolve(b, &o, &err) != DSCM_OK) abort();
    return o;
}

/* Where no acceptance net judges, an abduction is as sure as the least sure predictor of a label, in
 * whichever order the variables come. */
static void an_abduction_is_as_sure_as_its_least_sure_label(void)
{
    static const float biases[2][3] = {{0, 0, 0},
                                       {0, 8, 0}}; /* the second makes thickness unsure */
    int least[IMAGE] = {0};
    for (int turn = 0; turn < 2; turn++) {
        char own[64];
        dscm_bundle *labelled = NULL;
        dscm_session *worker = NULL;
        dscm_error err = {0};
        two_parents_labelled = true;
        two_parents_bias = biases[turn];
        if (!two_parents_open(own, &labelled, &worker, 1, &err)) TEST_FAIL_("%s", err.message);
        for (uint64_t k = 0; !err.code && k < 8; k++) {
            uint8_t pixels[PIXELS];
            pixels_of(pixels, k);
            dscm_run_item item = {.ask = {.work = DSCM_WORK_ABDUCTION,
                                          .pixels = pixels,
                                          .options = options_of(labelled, 1),
                                          .wanted = DSCM_WANT_SCORES}};
            if (dscm_run(worker, labelled, &item, 1, NULL, &err) != DSCM_OK) break;
            double sure[IMAGE] = {0};
            for (int v = 0; v < IMAGE; v++)
                for (int label = 0; label < (v == SHAPE ? 3 : 2); label++)
                    sure[v] = fmax(sure[v], (double)item.abduction->observed[v][label]);
            least[sure[SHAPE] < sure[THICKNESS] ? SHAPE : THICKNESS]++;
            CHECK_NEAR(item.abduction->evidence.confidence, fmin(sure[SHAPE], sure[THICKNESS]), 0);
            dscm_abduction_free(item.abduction);
        }
        CHECK_STR(err.message, "");
        dscm_session_free(worker);
        dscm_bundle_free(labelled);
        two_parents_remove(own);
    }
    two_parents_labelled = false;
    two_parents_bias = NULL;
    CHECK(least[SHAPE] > 0 && least[THICKNESS] > 0); /* else one of them never counted */
}

/* Mean absolute difference, on 0..255, from the factual after do(shape := its factual label) in the
 * counterfactual, whose own values are `factual` or, NULL, what the predictors see in it. */
static double way_back(const dscm_counterfactual *c, const dscm_abduction *from,
                       const double *factual, const dscm_options *o)
{
    float back[PIXELS];
    double sum = 0;
    dscm_latent *latent = NULL;
    dscm_error err = {0};
    const dscm_intervention act = {SHAPE, DSCM_DO, from->factual[SHAPE], (double)NAN};
    const dscm_query query = {.items = &act, .count = 1, .factual = factual};
    if (dscm_abduct(session, &latent, c->image, 1, o, NULL, &err) != DSCM_OK ||
        dscm_predict(session, back, latent, &query, o, NULL, &err) != DSCM_OK)
        return (double)NAN;
    dscm_images_round(back, PIXELS);
    for (int i = 0; i < PIXELS; i++) sum += fabs((double)back[i] - (double)from->image[i]);
    dscm_latent_free(latent);
    return 127.5 * sum / PIXELS;
}

/* The counterfactual has values of its own: thickness has to move back with shape from what is seen in it,
 * not from what it was in the factual. Here the given shape is another one than the predictor sees. */
static void the_way_back_begins_with_what_is_seen(void)
{
    static const double given[VARIABLES] = {2, 3, (double)NAN};
    static const dscm_target target = {{{SHAPE, DSCM_DO, 1, (double)NAN}}, 1};
    int moved = 0;
    for (uint64_t k = 0; k < 3; k++) {
        uint8_t pixels[PIXELS];
        dscm_error err = {0};
        pixels_of(pixels, k);
        const dscm_options o = options_of(bundle, 20);
        dscm_run_item item = {.ask = {.work = DSCM_WORK_COUNTERFACTUAL,
                                      .pixels = pixels,
                                      .targets = &target,
                                      .targets_count = 1,
                                      .factuals = given,
                                      .options = o,
                                      .wanted = DSCM_WANT_SCORES | DSCM_WANT_REVERSIBILITY}};
        REQUIRE(dscm_run(session, bundle, &item, 1, NULL, &err) == DSCM_OK);
        const dscm_counterfactual *c = &item.result->counterfactuals[0];
        CHECK_NEAR(item.abduction->factual[SHAPE], 2, 0);
        double seen = way_back(c, item.abduction, NULL, &o);
        CHECK_NEAR(c->reversibility, seen, 1e-9);
        moved += fabs(way_back(c, item.abduction, given, &o) - seen) > 0.01;
        dscm_result_free(item.result);
        dscm_abduction_free(item.abduction);
    }
    CHECK(moved > 0); /* else the two ways could not be told apart */
}

/* What the predictor reads too much in results is subtracted from the value that a counterfactual is
 * observed with, and before it is judged whether the number was met: a bias of all that the first run
 * missed makes the same picture one that meets it. */
static void results_are_read_without_their_bias(void)
{
    static const dscm_target target = {{{THICKNESS, DSCM_DO, 5, (double)NAN}}, 1};
    uint8_t pixels[PIXELS];
    double missed = 0;
    pixels_of(pixels, 1);
    two_parents_tolerance = 0.001;
    for (int turn = 0; turn < 2; turn++) {
        char own[64];
        float seen[2];
        dscm_bundle *biased = NULL;
        dscm_session *worker = NULL;
        dscm_error err = {0};
        two_parents_result_bias = missed;
        REQUIRE(two_parents_open(own, &biased, &worker, 1, &err));
        dscm_run_item item = {.ask = {.work = DSCM_WORK_COUNTERFACTUAL,
                                      .pixels = pixels,
                                      .targets = &target,
                                      .targets_count = 1,
                                      .options = options_of(biased, 1),
                                      .wanted = DSCM_WANT_SCORES}};
        REQUIRE(dscm_run(worker, biased, &item, 1, NULL, &err) == DSCM_OK);
        const dscm_counterfactual *c = &item.result->counterfactuals[0];
        REQUIRE(dscm_observe(worker, THICKNESS, seen, c->image, 1, &err) == DSCM_OK);
        CHECK_NEAR(c->observed_value, (double)seen[0] - missed, 1e-5);
        CHECK(c->scores.valid == (turn == 1));
        missed = (double)seen[0] - 5;
        CHECK(fabs(missed) > 0.01);
        dscm_result_free(item.result);
        dscm_abduction_free(item.abduction);
        dscm_session_free(worker);
        dscm_bundle_free(biased);
        two_parents_remove(own);
    }
    two_parents_tolerance = 2;
    two_parents_result_bias = 0;
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"an_abduction_is_as_sure_as_its_least_sure_label",
         an_abduction_is_as_sure_as_its_least_sure_label},
        {"the_way_back_begins_with_what_is_seen", the_way_back_begins_with_what_is_seen},
        {"results_are_read_without_their_bias", results_are_read_without_their_bias},
    };
    two_parents_sharpness = 40;
    return two_parents_main("test_pipeline", dir, &bundle, &session, 2, argc, argv, cases,
                            TEST_COUNT(cases));
}
