/* Conditional guidance: a score network that is told its parents, with random weights. */
#include "core/scm/estimates.h"
#include "tests/core/scm/two_parents.h"

#define NONE ((double)NAN)

enum { ITEMS = 3 };

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;
static float images[ITEMS * PIXELS];
static const double given[ITEMS * VARIABLES] = {0, 2.5, NONE, 1, 4, NONE, 2, 5.5, NONE};

static dscm_options resolved(const char *sampler, double scale, dscm_guidance kind)
{
    dscm_options o = dscm_options_defaults();
    dscm_error err = {0};
    o.sampler = sampler;
    o.steps = 4;
    o.scale = scale;
    o.guidance = kind;
    CHECK_INT(dscm_options_resolve(bundle, &o, &err), DSCM_OK);
    return o;
}

static dscm_latent *abduct(const dscm_options *o, const double *factuals)
{
    dscm_latent *l = NULL;
    dscm_error err = {0};
    if (dscm_abduct_given(session, &l, images, factuals, ITEMS, o, NULL, &err) != DSCM_OK)
        TEST_FAIL_("%s", err.message);
    return l;
}

static void predict(float *out, const dscm_latent *l, const dscm_query *q, const dscm_options *o)
{
    dscm_error err = {0};
    if (dscm_predict(session, out, l, q, o, NULL, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
}

static double distance(const float *a, const float *b, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++) most = fmax(most, fabs((double)a[i] - (double)b[i]));
    return most;
}

/* Sets shape and thickness of every item; values: (ITEMS, 2). */
static void set_both(dscm_intervention *acts, dscm_query *queries, const double *values)
{
    for (size_t i = 0; i < ITEMS; i++) {
        acts[2 * i] = (dscm_intervention){SHAPE, DSCM_DO, values[2 * i], NONE};
        acts[2 * i + 1] = (dscm_intervention){THICKNESS, DSCM_DO, values[2 * i + 1], NONE};
        queries[i] = (dscm_query){.items = acts + 2 * i, .count = 2};
    }
}

/* ---- axioms ---- */
static void own_values_return_the_image_at_any_scale(void)
{
    static const double own[] = {0, 2.5, 1, 4, 2, 5.5}, other[] = {1, 2.5, 2, 4, 0, 5.5};
    static const char *const exact[] = {"implicit", "residual"};
    dscm_intervention acts[2 * ITEMS];
    dscm_query queries[ITEMS];
    float out[ITEMS * PIXELS];
    for (size_t s = 0; s < TEST_COUNT(exact); s++) {
        dscm_options o = resolved(exact[s], 7, DSCM_GUIDANCE_DEFAULT);
        CHECK_INT(o.guidance, DSCM_GUIDANCE_CONDITIONAL);
        dscm_latent *l = abduct(&o, given);
        set_both(acts, queries, own);
        predict(out, l, queries, &o);
        CHECK_NEAR(distance(out, images, ITEMS * PIXELS), 0, 1e-5);
        set_both(acts, queries, other);
        predict(out, l, queries, &o);
        CHECK(distance(out, images, ITEMS * PIXELS) > 0.1);
        dscm_latent_free(l);
    }
}

/* The factuals that nobody gives are what the predictors see; they are kept and told. */
static void factuals_are_kept(void)
{
    dscm_options o = resolved("implicit", 1, DSCM_GUIDANCE_CONDITIONAL);
    double values[ITEMS * VARIABLES];
    float seen[ITEMS * 3];
    dscm_error err = {0};
    memcpy(values, given, sizeof values);
    values[SHAPE] = values[VARIABLES + THICKNESS] = NONE;
    REQUIRE(dscm_observe(session, SHAPE, seen, images, 1, NULL) == DSCM_OK);
    dscm_latent *l = abduct(&o, values);
    REQUIRE(l != NULL);
    int best = 0;
    for (int k = 1; k < 3; k++)
        if (seen[k] > seen[best]) best = k;
    CHECK_NEAR(dscm_latent_factual(session, l, 0, SHAPE), best, 0);
    CHECK_NEAR(dscm_latent_factual(session, l, 0, THICKNESS), 2.5, 0);
    CHECK_NEAR(dscm_latent_factual(session, l, 2, SHAPE), 2, 0);
    REQUIRE(dscm_observe(session, THICKNESS, seen, images + PIXELS, 1, NULL) == DSCM_OK);
    CHECK_NEAR(dscm_latent_factual(session, l, 1, THICKNESS), (double)seen[0], 1e-6);
    CHECK(isnan(dscm_latent_factual(session, l, 1, IMAGE)));
    /* others later are refused */
    dscm_query queries[ITEMS] = {{0}};
    queries[2].factual = given + (size_t)2 * VARIABLES;
    float out[ITEMS * PIXELS];
    CHECK_INT(dscm_predict(session, out, l, queries, &o, NULL, &err), DSCM_OK);
    queries[2].factual = given; /* shape 0 instead of 2 */
    CHECK_INT(dscm_predict(session, out, l, queries, &o, NULL, &err), DSCM_E_MISMATCH);
    CHECK_HAS(err.message, "factuals: shape: 0, but the latent was inferred under 2");
    /* serialised, with the null block too */
    void *bytes;
    size_t size;
    dscm_latent *again = NULL;
    l->factuals[1] = NONE;
    REQUIRE(dscm_latent_write(l, &bytes, &size, &err) == DSCM_OK);
    REQUIRE(dscm_latent_read(&again, bundle, bytes, size, &err) == DSCM_OK);
    for (size_t i = 0; i < (size_t)2 * ITEMS; i++)
        CHECK(again->factuals[i] == l->factuals[i] || (i == 1 && isnan(again->factuals[i])));
    CHECK_INT(again->options.guidance, DSCM_GUIDANCE_CONDITIONAL);
    dscm_free(bytes);
    dscm_latent_free(again);
    dscm_latent_free(l);
}

/* ---- the formula ---- */
/* eps of one image under told parents, from the network itself. */
static void network_eps(float *eps, const float *x, double t, double shape, double thickness)
{
    const dscm_net *net = session->image->score.net;
    double a = session->image->schedule.alphas_cumprod[(size_t)t];
    memcpy(dscm_exec_data(session->score, net->x), x, PIXELS * sizeof *x);
    dscm_net_set_parent(net, session->score, 0, 0, shape);
    dscm_net_set_parent(net, session->score, 1, 0, thickness);
    *dscm_exec_data(session->score, net->t) = (float)t;
    CHECK(dscm_exec_forward(session->score, 1, 1));
    const float *v = dscm_exec_data(session->score, net->out);
    for (size_t i = 0; i < PIXELS; i++)
        eps[i] = (float)(sqrt(a) * (double)v[i] + sqrt(1 - a) * (double)x[i]);
}

static bool keep_first(void *arg, const dscm_progress_event *event)
{
    if (event->walk_step == 1 && event->preview)
        memcpy(arg, event->preview, PIXELS * sizeof(float));
    return true;
}

/* What guidance makes of the first image, read off the guess of the clean image after the first step down:
 * e is what eps should be, x the noise that it starts from. */
static void check_guess(const dscm_path *path, const float *x, const float *guess, const double *e)
{
    double a = path->alpha_bar[path->steps];
    for (size_t i = 0; i < PIXELS; i++) {
        double want = ((double)x[i] - sqrt(1 - a) * e[i]) / sqrt(a);
        CHECK_NEAR(guess[i], want, 1e-3 * (1 + fabs(want)));
    }
}

/* J + sum of (w_m - 1) (J - J with block m as it was), J = eps with both at their targets; at scale 1 J
 * alone, where one changes eps + w (J - eps). One pass for all or several must give the same. */
static void changes_add_up(void)
{
    static const double scales[][2] = {{1.5, 0.5}, {1, 1}, {2.5, 1}, {1.5, 0}};
    dscm_options o = resolved("ddim", 0, DSCM_GUIDANCE_CONDITIONAL);
    float base[PIXELS], shape[PIXELS], thick[PIXELS], both[PIXELS], guess[PIXELS], alone[PIXELS];
    float out[ITEMS * PIXELS];
    double e[PIXELS];
    dscm_path path;
    dscm_error err = {0};
    dscm_progress progress = {.on_step = keep_first, .arg = guess};
    dscm_latent *l = abduct(&o, given), *first = NULL;
    REQUIRE(l && dscm_session_path(session, &o, &path, &err) == DSCM_OK);
    const float *x = l->x;
    double t = path.t[path.steps];
    network_eps(base, x, t, 0, 2.5);
    network_eps(shape, x, t, 2, 2.5);
    network_eps(thick, x, t, 0, 6);
    network_eps(both, x, t, 2, 6);
    REQUIRE(dscm_latent_select(&first, l, (const size_t[]){0}, 1, &err) == DSCM_OK);
    for (size_t s = 0; s < TEST_COUNT(scales); s++) {
        double ws = scales[s][0], wt = scales[s][1];
        const dscm_intervention acts[] = {{SHAPE, DSCM_DO, 2, ws}, {THICKNESS, DSCM_DO, 6, wt}};
        const dscm_query query = {.items = acts, .count = 2};
        REQUIRE(dscm_predict(session, out, first, &query, &o, &progress, &err) == DSCM_OK);
        for (size_t i = 0; i < PIXELS; i++) {
            double j = (double)both[i], f = (double)base[i];
            e[i] = wt == 0
                       ? f + ws * ((double)shape[i] - f)
                       : j + (ws - 1) * (j - (double)thick[i]) + (wt - 1) * (j - (double)shape[i]);
        }
        check_guess(&path, x, guess, e);
    }
    const dscm_intervention acts[] = {{SHAPE, DSCM_DO, 2, 1.5}, {THICKNESS, DSCM_DO, 6, 0.5}};
    const dscm_query query = {.items = acts, .count = 2};
    REQUIRE(dscm_predict(session, out, first, &query, &o, NULL, &err) == DSCM_OK);
    dscm_session *narrow = NULL;
    REQUIRE(dscm_session_open(&narrow, bundle, 1, 1, &err) == DSCM_OK);
    REQUIRE(dscm_predict(narrow, alone, first, &query, &o, NULL, &err) == DSCM_OK);
    CHECK_NEAR(distance(alone, out, PIXELS), 0, 1e-3);
    dscm_session_free(narrow);
    dscm_latent_free(first);
    dscm_latent_free(l);
    dscm_path_close(&path);
}

/* The anti-causal way asks the same network without parents, up and down. */
static void anti_causal_guidance_tells_nothing(void)
{
    dscm_options o = resolved("implicit", 1, DSCM_GUIDANCE_ANTI_CAUSAL), other = o;
    dscm_latent *l = abduct(&o, given);
    float out[ITEMS * PIXELS];
    dscm_query none[ITEMS] = {{0}};
    dscm_error err = {0};
    REQUIRE(l != NULL);
    CHECK(isnan(dscm_latent_factual(session, l, 0, SHAPE)));
    predict(out, l, none, &o);
    CHECK_NEAR(distance(out, images, ITEMS * PIXELS), 0, 1e-4);
    other.guidance = DSCM_GUIDANCE_CONDITIONAL;
    CHECK_INT(dscm_predict(session, out, l, none, &other, NULL, &err), DSCM_E_MISMATCH);
    CHECK_HAS(err.message, "anti-causal guidance");
    err = (dscm_error){0};
    CHECK_INT(dscm_guidance_parse(&o.guidance, "both", &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "not one of anti-causal, conditional");
    dscm_latent_free(l);
}

/* With random weights nothing carries the image; what is stored beside the noise does. */
static void forgetting_takes_the_stored_terms(void)
{
    dscm_options o = resolved("implicit", 1, DSCM_GUIDANCE_CONDITIONAL);
    dscm_query none[ITEMS] = {{0}};
    float out[ITEMS * PIXELS];
    dscm_error err = {0};
    dscm_latent *l = abduct(&o, given);
    REQUIRE(l && dscm_latent_forget(session, l, &err) == DSCM_OK);
    for (size_t i = 0; i < l->extras * ITEMS * PIXELS; i++) CHECK_NEAR(l->extra[i], 0, 0);
    predict(out, l, none, &o);
    CHECK(distance(out, images, ITEMS * PIXELS) > 1e-3);
    dscm_latent_free(l);
    o = resolved("obelm", 1, DSCM_GUIDANCE_CONDITIONAL);
    l = abduct(&o, given);
    REQUIRE(l != NULL);
    float pair[PIXELS];
    memcpy(pair, l->extra, sizeof pair);
    REQUIRE(dscm_latent_forget(session, l, &err) == DSCM_OK);
    CHECK(distance(pair, l->extra, PIXELS) > 1e-4);
    dscm_latent_free(l);
}

static dscm_session_work since(dscm_session_work *before)
{
    dscm_session_work now = dscm_session_done(session), out = now;
    out.passes -= before->passes;
    out.gradients -= before->gradients;
    out.observations -= before->observations;
    *before = now;
    return out;
}

/* Images through networks: three rounds per step up but two in the third, and one more evaluation, one per
 * step down, and under the anti-causal guidance a gradient of both predictors beside it. */
static void work_is_counted(void)
{
    const double to[2 * ITEMS] = {1, 4, 2, 2.5, 0, 3};
    dscm_options o = resolved("implicit", 1, DSCM_GUIDANCE_CONDITIONAL);
    dscm_query none[ITEMS] = {{0}}, queries[ITEMS];
    dscm_intervention acts[2 * ITEMS];
    float out[ITEMS * PIXELS];
    dscm_session_work at = dscm_session_done(session);
    dscm_latent *l = abduct(&o, given);
    REQUIRE(l != NULL);
    dscm_session_work done = since(&at);
    CHECK(done.passes == ITEMS * (1 + 3 * 4 - 1) && !done.gradients && !done.observations);
    predict(out, l, none, &o);
    done = since(&at);
    CHECK(done.passes == ITEMS * 4 && !done.gradients && !done.observations);
    dscm_latent_free(l);
    /* A bundle may name the rounds of each step; whatever they are, the corrections bring the image back. */
    unsigned char own[4] = {1, 3, 1, 2};
    REQUIRE(o.steps == 4 && session->bundle->defaults.steps == 4);
    ((dscm_bundle *)session->bundle)->rounds = own;
    l = abduct(&o, given);
    REQUIRE(l != NULL);
    done = since(&at);
    CHECK(done.passes == ITEMS * (1 + 7) && !done.gradients && !done.observations);
    predict(out, l, none, &o);
    dscm_images_round(out, ITEMS * PIXELS);
    for (size_t i = 0; i < ITEMS * PIXELS; i++) CHECK_NEAR(out[i], images[i], 1.01 / 255);
    (void)since(&at);
    ((dscm_bundle *)session->bundle)->rounds = NULL;
    dscm_latent_free(l);
    o = resolved("implicit", 2, DSCM_GUIDANCE_ANTI_CAUSAL);
    l = abduct(&o, given);
    REQUIRE(l != NULL);
    set_both(acts, queries, to);
    for (size_t i = 0; i < ITEMS; i++) queries[i].factual = given + i * VARIABLES;
    (void)since(&at);
    double flops = dscm_session_flops(session);
    predict(out, l, queries, &o);
    done = since(&at);
    CHECK(done.passes == ITEMS * 4 && done.gradients == 2 * ITEMS * 4);
    CHECK(done.observations == done.gradients);
    const dscm_bundle *b = session->bundle;
    double guides = 0; /* each is run forward and backward */
    for (size_t e = 0; e < b->edges_count; e++) guides += dscm_net_flops(b->edges[e].predictor.net);
    CHECK_NEAR((dscm_session_flops(session) - flops) /
                   (ITEMS * 4 * (dscm_net_flops(session->image->score.net) + 2 * guides)),
               1, 1e-12);
    dscm_latent_free(l);
}

/* A label that is held at a strength w above 1, beside a number that moves: eps_J + (w - 1) (eps_J -
 * eps_J without a label), where J has all values; at 1 it is as if nothing were held. */
static void held_labels_are_strengthened(void)
{
    const dscm_bundle *b = session->bundle;
    size_t conditions = dscm_bundle_conditions(b);
    guidance *guided = dscm_alloc(b->edges_count, sizeof *guided, "guidance", NULL);
    double told[2] = {0}, joint[2] = {0}, without[2] = {0};
    float eps[PIXELS], of_joint[PIXELS], of_without[PIXELS];
    dscm_options o = resolved("implicit", 1, DSCM_GUIDANCE_CONDITIONAL);
    dscm_path path;
    REQUIRE(guided && conditions == 2 && dscm_session_path(session, &o, &path, NULL) == DSCM_OK);
    for (size_t m = 0; m < conditions; m++) {
        size_t e = (size_t)b->condition_edges[m];
        bool label = b->edges[e].parent == SHAPE;
        told[m] = label ? 1 : 3;
        joint[m] = label ? 1 : 5;
        without[m] = label ? NONE : 5;
        guided[e] = (guidance){
            .target = joint[m], .scale = label ? 2.5 : 1, .held = label, .follows = label};
    }
    for (int low = 0; low < 2; low++) { /* with the factual estimate, and where it cancels */
        double t = low ? 100 : 800;
        walk_call call = {.path = &path, .guided = guided, .told = told};
        const walk_call all = {.told = joint}, some = {.told = without};
        REQUIRE(scm_estimate(session, &all, of_joint, images, t, 1));
        REQUIRE(scm_estimate(session, &some, of_without, images, t, 1));
        CHECK(distance(of_joint, of_without, PIXELS) > 1e-4);
        for (double w = 2.5; w >= 1; w -= 1.5) {
            for (size_t e = 0; e < b->edges_count; e++)
                if (guided[e].held) guided[e].scale = w;
            dscm_session_work at = dscm_session_done(session);
            REQUIRE(scm_estimate_changes(session, &call, eps, images, t, 1));
            CHECK_INT(since(&at).passes, (w > 1 ? 2 : 1) + !low);
            double bar = session->image->schedule.alphas_cumprod[(size_t)t];
            for (size_t i = 0; i < PIXELS; i++) {
                double both = (double)eps[i] - sqrt(1 - bar) * (double)session->walk.grad[i];
                double want =
                    (double)of_joint[i] + (w - 1) * ((double)of_joint[i] - (double)of_without[i]);
                CHECK_NEAR(both, want, 1e-5 * (1 + fabs(want)));
            }
        }
    }
    dscm_path_close(&path);
    dscm_free(guided);
}

/* Three mixed items, at scales times `factor`: a number at scale 1, whose shares sum to 1; a label at 2,
 * which keeps its factual row; and both, of which the factual row cancels at any scales. */
static void mix(dscm_intervention *acts, dscm_query *queries, double factor)
{
    const dscm_intervention own[2 * ITEMS] = {
        {SHAPE, DSCM_DO, 0, 1},     {THICKNESS, DSCM_DO, 6, factor}, {SHAPE, DSCM_DO, 2, 2},
        {THICKNESS, DSCM_DO, 4, 1}, {SHAPE, DSCM_DO, 1, 1.5},        {THICKNESS, DSCM_DO, 3, 0.5}};
    memcpy(acts, own, sizeof own);
    for (size_t i = 0; i < ITEMS; i++) queries[i] = (dscm_query){.items = acts + 2 * i, .count = 2};
}

/* Where the factual estimate cancels it is not asked for at the levels below half of the schedule, item by
 * item: nothing of a result depends on what else is in the batch, and the algebra is that of the full
 * formula, which a scale next to 1 still takes. */
static void rows_that_cancel_are_left_out(void)
{
    static const size_t above[ITEMS] = {2, 2, 4}, below[ITEMS] = {1, 2, 3};
    dscm_intervention acts[2 * ITEMS];
    dscm_query queries[ITEMS];
    float together[ITEMS * PIXELS], alone[PIXELS], next[ITEMS * PIXELS];
    dscm_options o = resolved("implicit", 1, DSCM_GUIDANCE_CONDITIONAL);
    dscm_path path;
    dscm_error err = {0};
    dscm_latent *l = abduct(&o, given), *one = NULL;
    REQUIRE(l && dscm_session_path(session, &o, &path, &err) == DSCM_OK);
    size_t low = 0, expected = 0;
    for (size_t k = 1; k <= path.steps; k++) low += path.t[k] < 500;
    CHECK(low > 0 && low < path.steps);
    mix(acts, queries, 1);
    dscm_session_work at = dscm_session_done(session);
    predict(together, l, queries, &o);
    size_t done = since(&at).passes;
    for (size_t i = 0; i < ITEMS; i++) expected += above[i] * (path.steps - low) + below[i] * low;
    CHECK_INT(done, expected);
    for (size_t i = 0; i < ITEMS; i++) {
        REQUIRE(dscm_latent_select(&one, l, &i, 1, &err) == DSCM_OK);
        (void)since(&at);
        predict(alone, one, &queries[i], &o);
        CHECK_INT(since(&at).passes, above[i] * (path.steps - low) + below[i] * low);
        CHECK(memcmp(alone, together + i * PIXELS, sizeof alone) == 0);
        CHECK(distance(alone, images + i * PIXELS, PIXELS) > 1e-3);
        dscm_latent_free(one);
    }
    dscm_latent_free(l);
    o = resolved("ddim", 1, DSCM_GUIDANCE_CONDITIONAL);
    l = abduct(&o, given);
    REQUIRE(l != NULL);
    predict(together, l, queries, &o);
    mix(acts, queries, 1 + 1e-6);
    (void)since(&at);
    predict(next, l, queries, &o);
    CHECK_INT(since(&at).passes, expected + low);
    CHECK_NEAR(distance(next, together, ITEMS * PIXELS), 0, 1e-3);
    dscm_latent_free(l);
    dscm_path_close(&path);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"own_values_return_the_image_at_any_scale", own_values_return_the_image_at_any_scale},
        {"factuals_are_kept", factuals_are_kept},
        {"changes_add_up", changes_add_up},
        {"anti_causal_guidance_tells_nothing", anti_causal_guidance_tells_nothing},
        {"forgetting_takes_the_stored_terms", forgetting_takes_the_stored_terms},
        {"work_is_counted", work_is_counted},
        {"held_labels_are_strengthened", held_labels_are_strengthened},
        {"rows_that_cancel_are_left_out", rows_that_cancel_are_left_out}};
    two_parents_conditional = true;
    two_parents_images(images, ITEMS, 1);
    return two_parents_main("test_conditional", dir, &bundle, &session, 8, argc, argv, cases,
                            TEST_COUNT(cases));
}
