/* What guides a prediction: the gradient itself, values that nobody gave and the predictors see, and
 * the class that a conditional score network is told. */
#include "core/scm/session.h"
#include "tests/core/scm/two_parents.h"

#define NONE ((double)NAN)

enum { ITEMS = 3 };

static char dir[64], conditional_dir[64];
static dscm_bundle *bundle, *conditional;
static dscm_session *session, *told;
static float images[ITEMS * PIXELS];

static dscm_options resolved(const dscm_bundle *b, const char *sampler, double scale)
{
    dscm_options o = dscm_options_defaults();
    dscm_error err = {0};
    o.sampler = sampler;
    o.steps = 4;
    o.scale = scale;
    CHECK_INT(dscm_options_resolve(b, &o, &err), DSCM_OK);
    return o;
}

static void predict(dscm_session *s, float *out, const dscm_latent *l, const dscm_query *q,
                    const dscm_options *o)
{
    dscm_error err = {0};
    if (dscm_predict(s, out, l, q, o, NULL, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
}

/* ---- the gradient ---- */
/* log p(value | x, t) by the predictor of an edge. */
static double log_probability(size_t edge, double value, const float *x, double t)
{
    const dscm_net *net = bundle->edges[edge].predictor.net;
    dscm_exec *exec = session->predictors[edge];
    memcpy(dscm_exec_data(exec, net->x), x, PIXELS * sizeof *x);
    *dscm_exec_data(exec, net->t) = (float)t;
    if (!dscm_exec_forward(exec, 1, 1)) return NONE;
    const float *out = dscm_exec_data(exec, net->out);
    if (bundle->edges[edge].parent == THICKNESS) {
        double gap = value - (double)out[0];
        return -0.5 * (gap * gap * exp(-(double)out[1]) + (double)out[1]);
    }
    double sum = 0;
    for (int k = 0; k < 3; k++) sum += exp((double)out[k]);
    return (double)out[(int)value] - log(sum);
}

/* The guess of the clean image after the first step down; looking at the image first shows none. */
static bool keep_first(void *arg, const dscm_progress_event *event)
{
    if (event->walk_step == 1 && event->preview)
        memcpy(arg, event->preview, PIXELS * sizeof(float));
    return true;
}

/* eps falls by sqrt(1-a) times the gradient, so the guess of the clean image rises by
 * (1-a)/sqrt(a) times it: at the first step down it can be read off, and must be the sum over the
 * edges of scale times the gradient of log p, by central differences. */
static void the_gradient_is_of_log_p(void)
{
    static const dscm_intervention acts[] = {{SHAPE, DSCM_DO, 2, 0.5},
                                             {THICKNESS, DSCM_DO, 4, 0.2}};
    static const struct {
        size_t first, count;
    } cases[] = {{0, 1}, {1, 1}, {0, 2}};
    dscm_options o = resolved(bundle, "ddim", 0); /* what shape does to thickness is not guided */
    dscm_path path;
    dscm_latent *latent = NULL;
    float out[PIXELS], plain[PIXELS], guided[PIXELS];
    const dscm_query none = {0};
    REQUIRE(dscm_session_path(session, &o, &path, NULL) == DSCM_OK);
    double a = path.alpha_bar[path.steps], t = path.t[path.steps];
    REQUIRE(dscm_abduct(session, &latent, images, 1, &o, NULL, NULL) == DSCM_OK);
    dscm_progress first = {.on_step = keep_first, .arg = plain};
    REQUIRE(dscm_predict(session, out, latent, &none, &o, &first, NULL) == DSCM_OK);
    for (size_t c = 0; c < TEST_COUNT(cases); c++) {
        const dscm_query query = {.items = acts + cases[c].first, .count = cases[c].count};
        double largest = 0, worst = 0;
        first.arg = guided;
        REQUIRE(dscm_predict(session, out, latent, &query, &o, &first, NULL) == DSCM_OK);
        for (size_t i = 0; i < PIXELS; i++) {
            double got = ((double)guided[i] - (double)plain[i]) * sqrt(a) / (1 - a), want = 0;
            for (size_t k = 0; k < query.count; k++) {
                const dscm_intervention *act = &query.items[k];
                int edge = dscm_bundle_edge(bundle, act->variable, IMAGE);
                const float step = 0.02f;
                float x[PIXELS];
                memcpy(x, latent->x, sizeof x);
                x[i] += step;
                double above = log_probability((size_t)edge, act->value, x, t);
                x[i] = latent->x[i] - step;
                want += act->scale * (above - log_probability((size_t)edge, act->value, x, t)) /
                        (2 * (double)step);
            }
            largest = fmax(largest, fabs(want));
            worst = fmax(worst, fabs(got - want));
        }
        CHECK(largest > 1e-3);
        CHECK(worst < 0.02 * largest);
    }
    dscm_latent_free(latent);
    dscm_path_close(&path);
}

/* ---- values that nobody gave ---- */
static size_t likeliest(const float *p, size_t count)
{
    size_t best = 0;
    for (size_t k = 1; k < count; k++)
        if (p[k] > p[best]) best = k;
    return best;
}

/* A shift, and a change that reaches another parent, start from what the predictors see in each
 * item's own image: the same as setting the values by hand. */
static void what_is_not_given_is_seen(void)
{
    static const double levels[3] = {0, 1, 3}; /* of shape in thickness */
    dscm_options o = resolved(bundle, "residual", 3);
    dscm_latent *all = NULL;
    float shapes[ITEMS * 3], sizes[ITEMS * 2], got[ITEMS * PIXELS], want[ITEMS * PIXELS];
    dscm_intervention shift = {THICKNESS, DSCM_SHIFT, 1.5, NONE}, act[ITEMS], by_hand[ITEMS][2];
    dscm_query asked[ITEMS], told_all[ITEMS];
    REQUIRE(dscm_observe(session, SHAPE, shapes, images, ITEMS, NULL) == DSCM_OK);
    REQUIRE(dscm_observe(session, THICKNESS, sizes, images, ITEMS, NULL) == DSCM_OK);
    REQUIRE(dscm_abduct(session, &all, images, ITEMS, &o, NULL, NULL) == DSCM_OK);
    for (int change = 0; change < 2; change++) {
        for (size_t i = 0; i < ITEMS; i++) {
            size_t shape = likeliest(shapes + 3 * i, 3), to = (shape + 1 + i % 2) % 3;
            double size = (double)sizes[2 * i];
            act[i] = (dscm_intervention){SHAPE, DSCM_DO, (double)to, NONE};
            asked[i] = (dscm_query){.items = change ? &act[i] : &shift, .count = 1};
            double moved = change ? levels[to] - levels[shape] : 1.5;
            by_hand[i][0] = (dscm_intervention){THICKNESS, DSCM_DO, size + moved, NONE};
            by_hand[i][1] = act[i];
            told_all[i] = (dscm_query){.items = by_hand[i], .count = change ? 2 : 1};
        }
        predict(session, got, all, asked, &o);
        predict(session, want, all, told_all, &o);
        for (size_t i = 0; i < ITEMS * PIXELS; i++) CHECK_NEAR(got[i], want[i], 1e-3);
    }
    dscm_latent_free(all);
    CHECK(fabsf(sizes[0] - sizes[2]) > 0.02f && fabsf(sizes[0] - sizes[4]) > 0.02f);
    CHECK(sizes[1] > 0); /* a variance */
}

/* ---- a score network that is told a class ---- */
static void classes_are_seen_kept_and_set(void)
{
    dscm_options o = resolved(conditional, "residual", 0);
    dscm_latent *l = NULL, *part = NULL, *again = NULL;
    float p[ITEMS * 3], got[ITEMS * PIXELS], want[ITEMS * PIXELS];
    dscm_intervention acts[ITEMS];
    dscm_query queries[ITEMS], none[ITEMS] = {{0}};
    void *bytes = NULL;
    size_t size = 0;
    dscm_error err = {0};
    REQUIRE(dscm_observe(told, SHAPE, p, images, ITEMS, NULL) == DSCM_OK);
    REQUIRE(dscm_abduct(told, &l, images, ITEMS, &o, NULL, NULL) == DSCM_OK);
    for (size_t i = 0; i < ITEMS; i++) CHECK_NEAR(l->factuals[i], likeliest(p + 3 * i, 3), 0);
    predict(told, got, l, none, &o);
    for (size_t i = 0; i < ITEMS * PIXELS; i++) CHECK_NEAR(got[i], images[i], 1e-3);
    /* as values */
    REQUIRE(dscm_latent_select(&part, l, (const size_t[]){2, 0}, 2, NULL) == DSCM_OK);
    CHECK_NEAR(part->factuals[0], l->factuals[2], 0);
    CHECK_NEAR(part->factuals[1], l->factuals[0], 0);
    for (size_t i = 0; i < ITEMS; i++) l->factuals[i] = (double)((i + 1) % 3);
    REQUIRE(dscm_latent_write(l, &bytes, &size, NULL) == DSCM_OK);
    REQUIRE(dscm_latent_read(&again, conditional, bytes, size, &err) == DSCM_OK);
    for (size_t i = 0; i < ITEMS; i++) CHECK_NEAR(again->factuals[i], l->factuals[i], 0);
    dscm_latent_free(again);
    memcpy((unsigned char *)bytes + size - 8, &(double){3}, 8); /* the last item's class */
    CHECK_INT(dscm_latent_read(&again, conditional, bytes, size, &err), DSCM_E_FORMAT);
    CHECK_HAS(err.message, "shape: 3 is no value of it");
    /* an intervention tells its own class, even at scale 0 */
    predict(told, want, l, none, &o); /* down by the labels that were set above */
    for (size_t i = 0; i < ITEMS; i++) {
        acts[i] = (dscm_intervention){SHAPE, DSCM_DO, l->factuals[i], NONE};
        queries[i] = (dscm_query){.items = &acts[i], .count = 1};
        l->factuals[i] = (double)likeliest(p + 3 * i, 3);
    }
    predict(told, got, l, queries, &o);
    double apart = 0;
    for (size_t i = 0; i < ITEMS * PIXELS; i++) {
        CHECK_NEAR(got[i], want[i], 1e-4);
        apart = fmax(apart, fabs((double)got[i] - (double)images[i]));
    }
    CHECK(apart > 0.05);
    dscm_latent_free(part);
    dscm_latent_free(l);
    dscm_free(bytes);
}

/* What the predictors see of an item is its image by its own class, in a batch as alone. */
static void each_is_seen_by_its_own_class(void)
{
    dscm_options o = resolved(conditional, "ddim", 30);
    const dscm_intervention shift = {THICKNESS, DSCM_SHIFT, 1.5, NONE};
    dscm_query queries[ITEMS];
    dscm_latent *l = NULL, *one = NULL;
    float all[ITEMS * PIXELS], alone[PIXELS];
    REQUIRE(dscm_abduct(told, &l, images, ITEMS, &o, NULL, NULL) == DSCM_OK);
    for (size_t i = 0; i < ITEMS; i++) {
        l->factuals[i] = (double)i;
        memcpy(l->x + i * PIXELS, l->x, PIXELS * sizeof(float)); /* the class is all that differs */
        queries[i] = (dscm_query){.items = &shift, .count = 1};
    }
    predict(told, all, l, queries, &o);
    for (size_t i = 0; i < ITEMS; i++) {
        REQUIRE(dscm_latent_select(&one, l, &i, 1, NULL) == DSCM_OK);
        predict(told, alone, one, queries, &o);
        for (size_t p = 0; p < PIXELS; p++) CHECK_NEAR(all[i * PIXELS + p], alone[p], 1e-4);
        dscm_latent_free(one);
    }
    dscm_latent_free(l);
}

static void drawn_classes_are_of_all_kinds(void)
{
    dscm_options o = resolved(conditional, "ddim", 1);
    dscm_latent *l = NULL;
    size_t seen[3] = {0};
    REQUIRE(dscm_latent_draw(told, &l, 60, 3, 0, &o, NULL) == DSCM_OK);
    for (size_t i = 0; i < 60; i++) {
        REQUIRE(l->factuals[i] >= 0 && l->factuals[i] < 3);
        seen[(size_t)l->factuals[i]]++;
    }
    CHECK(seen[0] > 5 && seen[1] > 5 && seen[2] > 5);
    dscm_latent_free(l);
}

static bool open_all(dscm_error *err)
{
    two_parents_sharpness = 20;
    if (!two_parents_open(dir, &bundle, &session, 2, err)) return false;
    two_parents_classes = 3;
    return two_parents_open(conditional_dir, &conditional, &told, 2, err);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"the_gradient_is_of_log_p", the_gradient_is_of_log_p},
        {"what_is_not_given_is_seen", what_is_not_given_is_seen},
        {"classes_are_seen_kept_and_set", classes_are_seen_kept_and_set},
        {"each_is_seen_by_its_own_class", each_is_seen_by_its_own_class},
        {"drawn_classes_are_of_all_kinds", drawn_classes_are_of_all_kinds},
    };
    dscm_error err = {0};
    two_parents_images(images, ITEMS, 12);
    if (!open_all(&err)) {
        printf("set-up: %s\ntest_guidance 0 passed, 1 failed, 0 skipped\n", err.message);
        return 1;
    }
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    dscm_session_free(session);
    dscm_session_free(told);
    dscm_bundle_free(bundle);
    dscm_bundle_free(conditional);
    two_parents_remove(dir);
    two_parents_remove(conditional_dir);
    return status;
}
