/* Searches of a bundle with a VAE to weigh results by, against the documented rule: each walk is made and weighed
 * alone, by other calls. */
#include "core/eval/baselines.h"
#include "core/scm/score.h"
#include "core/scm/session.h"
#include "tests/core/scm/two_parents.h"

#define NONE ((double)NAN)

enum { ITEMS = 4 };

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;
static float images[ITEMS * PIXELS];

/* What a result weighs, found by other calls than a search's. */
typedef struct weight {
    double cost, excess;
} weight;

static weight weight_of(dscm_probe *mu, dscm_probe *logvar, const float *factual,
                        const float *result, int label, int target, double change_cost)
{
    const bundle_vae *v = bundle->search.vaes;
    const dscm_cld_pool pool = {v->mu, v->logvar, v->labels, v->count, CODE};
    float codes[2][2 * CODE];
    double minimality, departure;
    for (size_t k = 0; k < 2; k++) {
        const float *image = k ? result : factual;
        memcpy(codes[k], dscm_probe_forward(mu, image, 1), CODE * sizeof(float));
        memcpy(codes[k] + CODE, dscm_probe_forward(logvar, image, 1), CODE * sizeof(float));
    }
    double cld =
        dscm_cld_of_codes(&pool, codes[0], codes[1], label, target, &minimality, &departure);
    return (weight){cld + change_cost * dscm_images_l1(result, factual, PIXELS),
                    departure - minimality};
}

/* Puts the random codes of the pool around those of the first image. */
static void centre_pool(dscm_probe *mu, dscm_probe *logvar, float deviation)
{
    bundle_vae *v = bundle->search.vaes;
    const float *m = dscm_probe_forward(mu, images, 1), *l = dscm_probe_forward(logvar, images, 1);
    for (size_t i = 0; i < v->count * CODE; i++) {
        v->mu[i] = m[i % CODE] + deviation * v->mu[i];
        v->logvar[i] = l[i % CODE] + deviation * v->logvar[i];
    }
}

/* A bundle with a VAE for searches: an accepted result is weighed against a stronger or a weaker one. */
static void results_are_weighed(void)
{
    enum { LABELS = 3, CASES = ITEMS * LABELS };
    static const double costs[] = {0, 0.005, 0.3};
    static const float deviations[] = {
        0.006f, 0.008f, 0.01f, 0.012f,
        0.014f, 0.02f,  0.1f}; /* of the pool from a factual, times its results' */
    float copies[CASES * PIXELS], out[CASES * PIXELS], image[PIXELS], best[PIXELS], seen[LABELS];
    size_t stronger = 0, weaker = 0, alone = 0;
    dscm_error err = {0};
    two_parents_tolerance = 10;
    two_parents_conditional = true;
    two_parents_images(images, ITEMS, 12);
    two_parents_sharpness = 30;
    for (size_t d = 0; d < TEST_COUNT(deviations); d++) {
        dscm_intervention shapes[CASES];
        dscm_query queries[CASES];
        dscm_scale_result found[CASES];
        dscm_probe mu = {0}, logvar = {0};
        dscm_latent *all = NULL, *one = NULL;
        two_parents_weighed = 1;
        if (!two_parents_open(dir, &bundle, &session, 8, &err)) TEST_FAIL_("%s", err.message);
        const bundle_net *vae = &bundle->search.vaes->net;
        REQUIRE(dscm_probe_open(&mu, vae->net, vae->weights, "mu", 1, &err) == DSCM_OK);
        REQUIRE(dscm_probe_open(&logvar, vae->net, vae->weights, "logvar", 1, &err) == DSCM_OK);
        centre_pool(&mu, &logvar, deviations[d]);
        dscm_options o = dscm_options_defaults();
        REQUIRE(dscm_options_resolve(bundle, &o, &err) == DSCM_OK);
        double factuals[CASES * VARIABLES];
        for (size_t i = 0; i < CASES; i++) {
            const double own[VARIABLES] = {(double)((i + 1) % LABELS), 3, NONE};
            memcpy(factuals + i * VARIABLES, own, sizeof own);
            memcpy(copies + i * PIXELS, images + i / LABELS * PIXELS, PIXELS * sizeof *copies);
            shapes[i] = (dscm_intervention){SHAPE, DSCM_DO, (double)(i % LABELS), NONE};
            queries[i] = (dscm_query){
                .items = &shapes[i], .count = 1, .image = images + i / LABELS * PIXELS};
        }
        REQUIRE(dscm_abduct_given(session, &all, copies, factuals, CASES, &o, NULL, &err) ==
                DSCM_OK);
        for (size_t m = 0; m < 2 * TEST_COUNT(costs); m++) {
            dscm_scale_search search = dscm_scale_search_defaults(bundle, &o);
            CHECK_NEAR(search.change_cost, 0, 0);
            search.confidence = m % 2 ? 0.36 : 0.5;
            search.change_cost = costs[m / 2];
            REQUIRE(dscm_predict_search(session, out, found, all, queries, &o, &search, NULL,
                                        &err) == DSCM_OK);
            for (size_t i = 0; i < CASES; i++) {
                dscm_options at = o;
                int target = (int)(i % LABELS), steps = 0;
                size_t walks = 0;
                bool met = false, go_on = true;
                double best_scale = 0, best_p = -1, best_cost = 0;
                REQUIRE(dscm_latent_select(&one, all, &i, 1, &err) == DSCM_OK);
                for (at.scale = o.scale / 1.2; go_on; walks++) {
                    dscm_query query = queries[i];
                    query.scale = &at.scale;
                    REQUIRE(dscm_predict(session, image, one, &query, &at, NULL, &err) == DSCM_OK);
                    dscm_images_round(image, PIXELS);
                    REQUIRE(dscm_observe(session, SHAPE, seen, image, 1, &err) == DSCM_OK);
                    bool likeliest = true;
                    for (size_t k = 0; k < LABELS; k++) likeliest &= seen[k] <= seen[target];
                    bool sure = likeliest && (double)seen[target] >= search.confidence;
                    weight w = weight_of(&mu, &logvar, queries[i].image, image,
                                         (target + 1) % LABELS, target, search.change_cost);
                    double p = likeliest ? (double)seen[target] : (double)seen[target] - 1;
                    bool better = sure && met ? w.cost < best_cost : sure || (!met && p > best_p);
                    if (better) {
                        best_cost = w.cost, best_scale = at.scale, best_p = p;
                        memcpy(best, image, sizeof best);
                    }
                    int way = w.excess > DSCM_WEIGH_STRONGER ? 1
                              : w.excess < DSCM_WEIGH_WEAKER ? -1
                                                             : 0;
                    go_on = sure ? !met && (way > 0 || (way < 0 && walks == 0)) : !met;
                    if (sure && go_on) steps = way;
                    met |= sure;
                    double next = go_on && steps < 0 ? at.scale / 1.4 : at.scale * 1.4;
                    if (next >= search.max_scale * (1 - 1e-9)) next = search.max_scale;
                    go_on &= fabs(next - at.scale) > 1e-9;
                    at.scale = next;
                }
                CHECK_INT(found[i].predictions, walks);
                CHECK_NEAR(found[i].scale, best_scale, 1e-9);
                CHECK(dscm_images_l1(out + i * PIXELS, best, PIXELS) < 0.02);
                stronger += met && steps > 0;
                weaker += met && steps < 0;
                alone += met && steps == 0;
                dscm_latent_free(one);
            }
        }
        dscm_probe_close(&mu);
        dscm_probe_close(&logvar);
        dscm_latent_free(all);
        dscm_session_free(session);
        dscm_bundle_free(bundle);
        two_parents_remove(dir);
    }
    CHECK(stronger > 0 && weaker > 0 && alone > 0);
}

int main(int argc, char **argv)
{
    const test_case cases[] = {{"results_are_weighed", results_are_weighed}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
