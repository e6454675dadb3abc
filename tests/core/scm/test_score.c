/* Scores of the shipped mnist bundle against the same figures put together here, an image at a time,
 * from the bundle's networks: mixed labels, more images than go into a pass. */
#include "core/eval/baselines.h"
#include "core/scm/score.h"
#include "core/scm/session.h"
#include "tests/harness.h"

enum { COUNT = 5, PASS = 2, SIDE = 28, PIXELS = SIDE * SIDE, LABELS = 10 };

static dscm_bundle *bundle;
static dscm_session *session;
static float factual[COUNT * PIXELS], changed[COUNT * PIXELS];
static const int factuals[COUNT] = {3, 0, 7, 3, 1}, targets[COUNT] = {8, 6, 3, 8, 7};
static float before[COUNT * LABELS], after[COUNT * LABELS];
static dscm_scores scores[COUNT];

/* Digits drawn by the model, then turned into others; some of them reach the target. */
static dscm_code draw_images(dscm_error *err)
{
    dscm_latent *latent = NULL;
    dscm_options o = dscm_options_defaults();
    dscm_intervention acts[COUNT];
    dscm_query queries[COUNT];
    dscm_code code = DSCM_OK;
    o.steps = 10;
    o.scale = 3;
    code = dscm_options_resolve(bundle, &o, err);
    for (int turn = 0; code == DSCM_OK && turn < 2; turn++) {
        for (size_t i = 0; i < COUNT; i++) {
            int label = turn ? targets[i] : factuals[i];
            double scale = turn && i % 2 ? 0.2 : (double)NAN;
            acts[i] = (dscm_intervention){.value = label, .scale = scale};
            queries[i] = (dscm_query){.items = &acts[i], .count = 1};
        }
        code = turn ? dscm_abduct(session, &latent, factual, COUNT, &o, NULL, err)
                    : dscm_latent_draw(session, &latent, COUNT, 5, 0, &o, err);
        float *out = turn ? changed : factual;
        if (code == DSCM_OK) code = dscm_predict(session, out, latent, queries, &o, NULL, err);
        if (!turn) dscm_images_round(out, COUNT * PIXELS);
        dscm_latent_free(latent);
        latent = NULL;
    }
    return code;
}

static size_t likeliest(const float *p)
{
    size_t best = 0;
    for (size_t k = 1; k < LABELS; k++)
        if (p[k] > p[best]) best = k;
    return best;
}

static void the_predictor_and_the_oracle_judge(void)
{
    float oracle[COUNT * LABELS];
    size_t valid = 0;
    REQUIRE(dscm_observe_oracle(session, 0, oracle, changed, COUNT, NULL) == DSCM_OK);
    for (size_t i = 0; i < COUNT; i++) {
        const dscm_scores *s = &scores[i];
        size_t t = (size_t)targets[i], at = i * LABELS;
        CHECK_INT(s->valid, likeliest(after + at) == t);
        CHECK_NEAR(s->probability_before, before[at + t], 1e-6);
        CHECK_NEAR(s->probability_after, after[at + t], 1e-6);
        CHECK_INT(s->oracle_label, likeliest(oracle + at));
        valid += s->valid;
    }
    CHECK(valid > 0 && valid < COUNT);
}

/* What a caller has seen is believed, and what is seen is handed out. */
static void nobody_looks_twice(void)
{
    static float claimed[COUNT * LABELS], given[COUNT * LABELS];
    dscm_scores s[COUNT];
    for (size_t i = 0; i < COUNT * LABELS; i++) claimed[i] = (float)i / 100;
    const dscm_seen seen = {.before = claimed, .after = given};
    REQUIRE(dscm_score_seen(session, s, factual, changed, 0, targets, factuals, COUNT, &seen,
                            NULL) == DSCM_OK);
    for (size_t i = 0; i < COUNT; i++) {
        size_t at = i * LABELS;
        CHECK_NEAR(s[i].probability_before, claimed[at + (size_t)targets[i]], 0);
        CHECK_NEAR(s[i].cld, scores[i].cld, 1e-9);
        for (size_t k = 0; k < LABELS; k++) CHECK_NEAR(given[at + k], after[at + k], 1e-6);
    }
}

static void open_probe(dscm_probe *p, const bundle_net *n, const char *output)
{
    dscm_error err = {0};
    if (dscm_probe_open(p, n->net, n->weights, output, 1, &err) != DSCM_OK) {
        printf("%s\n", err.message);
        exit(1);
    }
}

/* code of one image: mu, then log variance */
static void encode(const bundle_vae *vae, float *out, const float *image)
{
    const char *const outputs[] = {"mu", "logvar"};
    for (int k = 0; k < 2; k++) {
        dscm_probe p;
        open_probe(&p, &vae->net, outputs[k]);
        memcpy(out + (size_t)k * p.width, dscm_probe_forward(&p, image, 1), p.width * sizeof *out);
        dscm_probe_close(&p);
    }
}

/* Minimality: share of the target's pool that is no farther from the factual than the
 * counterfactual is. Departure: share of the factual's own class that is at least as far. */
static void cld_from_the_pool(void)
{
    size_t vaes = bundle->panel.vaes_count;
    REQUIRE(vaes > 0);
    for (size_t i = 0; i < COUNT; i++) {
        double minimality = 0, departure = 0, cld = 0, image = 1e9;
        for (size_t v = 0; v < vaes; v++) {
            const bundle_vae *vae = &bundle->panel.vaes[v];
            size_t n = vae->net.net->config.latent;
            float *x = malloc(4 * n * sizeof *x), *cf = x + 2 * n;
            double nearer = 0, farther = 0, of_target = 0, of_factual = 0;
            encode(vae, x, factual + i * PIXELS);
            encode(vae, cf, changed + i * PIXELS);
            double moved = dscm_gaussian_kl(cf, cf + n, x, x + n, n);
            CHECK(vae->count > 100);
            for (size_t p = 0; p < vae->count; p++) {
                double d = dscm_gaussian_kl(vae->mu + p * n, vae->logvar + p * n, x, x + n, n);
                if (vae->labels[p] == targets[i]) of_target++, nearer += d <= moved;
                if (vae->labels[p] == factuals[i]) of_factual++, farther += d >= moved;
            }
            minimality += nearer / of_target / (double)vaes;
            departure += farther / of_factual / (double)vaes;
            cld += dscm_cld(nearer / of_target, farther / of_factual) / (double)vaes;
            image = fmin(image, fmin(of_target, of_factual));
            free(x);
        }
        /* rounding of a code may put one image of the pool on the other side */
        CHECK_NEAR(scores[i].cld_minimality, minimality, 1.1 / image);
        CHECK_NEAR(scores[i].cld_departure, departure, 1.1 / image);
        CHECK_NEAR(scores[i].cld, cld, 1.1 / image); /* no steeper than either share */
    }
}

static void reconstruct(float *out, const bundle_net *n, const float *unit)
{
    dscm_probe p;
    open_probe(&p, n, "out");
    memcpy(out, dscm_probe_forward(&p, unit, 1), PIXELS * sizeof *out);
    dscm_probe_close(&p);
}

static void im1_and_im2_from_the_autoencoders(void)
{
    static float unit[PIXELS], to[PIXELS], from[PIXELS], all[PIXELS];
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < PIXELS; k++) {
            float v = (changed[i * PIXELS + k] + 1) / 2;
            unit[k] = v < 0 ? 0 : v > 1 ? 1 : v;
        }
        reconstruct(to, &bundle->panel.class_autoencoders[targets[i]], unit);
        reconstruct(from, &bundle->panel.class_autoencoders[factuals[i]], unit);
        reconstruct(all, &bundle->panel.autoencoder, unit);
        double im1 = dscm_im1(unit, to, from, PIXELS), im2 = dscm_im2(unit, to, all, PIXELS);
        CHECK_NEAR(scores[i].im1, im1, 1e-4 * im1);
        CHECK_NEAR(scores[i].im2, im2, 1e-4 * im2);
    }
}

static double share_at_least(const bundle_scale *scale, double value)
{
    double count = 0;
    for (size_t i = 0; i < scale->count; i++) count += scale->values[i] >= value;
    return count / (double)scale->count;
}

/* Values as a report would have put them into the bundle; it frees them. */
static dscm_code set_accepted(bundle_scale *scale, dscm_error *err)
{
    static const double values[] = {0.05, 0.3, 0.7, 0.9, 1.0, 1.1, 1.3};
    dscm_free(scale->values);
    scale->count = TEST_COUNT(values);
    scale->values = dscm_alloc(scale->count, sizeof *scale->values, "test", err);
    if (scale->values) memcpy(scale->values, values, sizeof values);
    return scale->values ? DSCM_OK : DSCM_E_MEMORY;
}

static void percentiles_among_the_accepted(void)
{
    REQUIRE(bundle->accepted_cld.count && bundle->accepted_im1.count && bundle->accepted_im2.count);
    for (size_t i = 0; i < COUNT; i++) {
        const dscm_scores *s = &scores[i];
        CHECK_NEAR(s->cld_percentile, share_at_least(&bundle->accepted_cld, s->cld), 1e-12);
        CHECK_NEAR(s->im1_percentile, share_at_least(&bundle->accepted_im1, s->im1), 1e-12);
        CHECK_NEAR(s->im2_percentile, share_at_least(&bundle->accepted_im2, s->im2), 1e-12);
    }
}

static void labels_out_of_range_are_refused(void)
{
    static const int wrong[][2] = {{10, 0}, {-1, 0}, {0, 10}, {0, -1}}; /* target, factual */
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        int to[2] = {1, wrong[i][0]}, from[2] = {2, wrong[i][1]};
        dscm_scores s[2];
        dscm_error err = {0};
        CHECK_INT(dscm_score(session, s, factual, changed, 0, to, from, 2, &err), DSCM_E_INVALID);
        CHECK_HAS(err.message, "digit");
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"the_predictor_and_the_oracle_judge", the_predictor_and_the_oracle_judge},
        {"nobody_looks_twice", nobody_looks_twice},
        {"cld_from_the_pool", cld_from_the_pool},
        {"im1_and_im2_from_the_autoencoders", im1_and_im2_from_the_autoencoders},
        {"percentiles_among_the_accepted", percentiles_among_the_accepted},
        {"labels_out_of_range_are_refused", labels_out_of_range_are_refused},
    };
    dscm_error err = {0};
    dscm_code code = dscm_bundle_open(&bundle, "models/mnist", &err);
    if (code == DSCM_OK) code = set_accepted(&bundle->accepted_cld, &err);
    if (code == DSCM_OK) code = set_accepted(&bundle->accepted_im1, &err);
    if (code == DSCM_OK) code = set_accepted(&bundle->accepted_im2, &err);
    if (code == DSCM_OK) code = dscm_session_open(&session, bundle, PASS, 1, &err);
    if (code == DSCM_OK) code = draw_images(&err);
    if (code == DSCM_OK) code = dscm_observe(session, 0, before, factual, COUNT, &err);
    if (code == DSCM_OK) code = dscm_observe(session, 0, after, changed, COUNT, &err);
    if (code == DSCM_OK)
        code = dscm_score(session, scores, factual, changed, 0, targets, factuals, COUNT, &err);
    if (code != DSCM_OK) {
        printf("set-up: %s\ntest_score 0 passed, 1 failed, 0 skipped\n", err.message);
        return 1;
    }
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    dscm_session_free(session);
    dscm_bundle_free(bundle);
    return status;
}
