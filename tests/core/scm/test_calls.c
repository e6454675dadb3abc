/* What a caller gives a session, and what it takes: a share of the memory, a calibrated scale, and a
 * question whether to go on that may be asked in the call alone. */
#include <pthread.h>

#include "core/scm/session.h"
#include "tests/core/scm/two_parents.h"

static char dir[64];
static dscm_bundle *bundle;
static dscm_session *session;
static float images[2 * PIXELS];

/* The strength of the calibration whose steps are nearest on a log scale: of the same sampler if
 * there is one, else of any. |log(9/4)| > |log(9/16)|, though 9 - 4 < 16 - 9. */
static void the_nearest_calibration_counts(void)
{
    static dscm_calibration list[] = {{"residual", 4, 2}, {"residual", 16, 5}, {"ddim", 8, 9}};
    static const struct {
        const char *sampler;
        size_t steps;
        double scale;
    } cases[] = {{"residual", 7, 2},  {"residual", 9, 5}, {"residual", 8, 2}, {"residual", 100, 5},
                 {"residual", 16, 5}, {"ddim", 4, 9},     {"obelm", 7, 9},    {"obelm", 4, 2}};
    dscm_bundle own = *bundle;
    own.calibrations = list;
    own.info.calibrations = list;
    own.info.calibrations_count = TEST_COUNT(list);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        dscm_options o = dscm_options_defaults();
        o.sampler = cases[i].sampler;
        o.steps = cases[i].steps;
        REQUIRE(dscm_options_resolve(&own, &o, NULL) == DSCM_OK);
        CHECK_NEAR(o.scale, cases[i].scale, 0);
    }
}

/* With memory for n sessions, each takes the largest half of the batch that fits its share. */
static void sessions_share_the_memory(void)
{
    size_t four;
    REQUIRE(dscm_session_measure(bundle, 4, 1, &four, NULL) == DSCM_OK);
    size_t weights = bundle->info.bytes + bundle->info.mapped_bytes;
    const struct {
        size_t memory;
        int sessions;
        size_t batch;
    } cases[] = {{weights + 2 * four, 2, 4},
                 {weights + 2 * four - 2, 2, 2},
                 {weights + 2 * four, 1, 8},
                 {weights + four, 1, 4},
                 {weights + four - 1, 1, 2},
                 {1, 1, 1},
                 {0, 1, 8}};
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        dscm_bundle own = *bundle;
        dscm_session *s = NULL;
        own.options.memory = cases[i].memory;
        own.options.sessions = cases[i].sessions;
        REQUIRE(dscm_session_open(&s, &own, 8, 1, NULL) == DSCM_OK);
        CHECK_INT(s->batch_max, cases[i].batch);
        dscm_session_free(s);
    }
}

typedef struct asked {
    size_t times, stop_at; /* 0: never */
    pthread_t thread;      /* the caller's */
    bool elsewhere;        /* asked in another thread */
} asked;

typedef struct steps {
    size_t events, last, of, shown, stop_at; /* shown: with a preview; stop_at 0: never */
    bool grows;                              /* each event counts one step more */
} steps;

static bool ask(void *arg)
{
    asked *a = arg;
    a->elsewhere |= !pthread_equal(pthread_self(), a->thread);
    return ++a->times != a->stop_at;
}

static bool count_step(void *arg, const dscm_progress_event *event)
{
    steps *n = arg;
    n->grows &= event->step == n->last + 1 && event->step <= event->steps;
    n->last = event->step;
    n->of = event->steps;
    n->shown += event->preview != NULL;
    return ++n->events != n->stop_at;
}

/* A query that keeps or moves what was there looks at the image first, by a walk of its own. It can
 * be stopped as the prediction can, counts among the steps of the call and shows nothing; what the
 * caller knows already is not looked at. */
static void looking_first_is_part_of_the_call(void)
{
    const dscm_intervention act = {THICKNESS, DSCM_SHIFT, 1, (double)NAN};
    static double known[VARIABLES] = {1, 4, (double)NAN}, unseen[VARIABLES] = {1, (double)NAN, 0};
    const struct {
        const double *factual;
        size_t looks;
    } cases[] = {{NULL, 2}, {unseen, 2}, {known, 0}};
    dscm_latent *latent = NULL;
    float out[2 * PIXELS];
    dscm_scale_result found[2];
    dscm_options o = dscm_options_defaults();
    REQUIRE(dscm_options_resolve(bundle, &o, NULL) == DSCM_OK);
    REQUIRE(dscm_abduct(session, &latent, images, 2, &o, NULL, NULL) == DSCM_OK);
    for (size_t c = 0; c < TEST_COUNT(cases); c++) {
        dscm_query queries[2];
        for (int i = 0; i < 2; i++)
            queries[i] = (dscm_query){.items = &act, .count = 1, .factual = cases[c].factual};
        steps whole = {.grows = true};
        dscm_progress p = {.on_step = count_step, .arg = &whole};
        CHECK_INT(dscm_predict(session, out, latent, queries, &o, &p, NULL), DSCM_OK);
        size_t walk = whole.shown;
        CHECK(walk > 1 && whole.grows);
        CHECK_INT(whole.of, (cases[c].looks + 1) * walk);
        CHECK_INT(whole.last, whole.of);
        for (size_t stop = 1; stop <= whole.of; stop++) {
            steps n = {.grows = true, .stop_at = stop};
            p.arg = &n;
            CHECK_INT(dscm_predict(session, out, latent, queries, &o, &p, NULL), DSCM_E_CANCELED);
            CHECK_INT(n.events, stop);
        }
        if (!cases[c].looks) continue;
        asked a = {.thread = pthread_self(), .stop_at = 1};
        const dscm_progress quick = {.keep_going = ask, .arg = &a};
        CHECK_INT(dscm_predict(session, out, latent, queries, &o, &quick, NULL), DSCM_E_CANCELED);
        CHECK_INT(a.times, 1);
        steps search = {.grows = true, .stop_at = 1};
        p.arg = &search;
        CHECK_INT(dscm_predict_search(session, out, found, latent, queries, &o, NULL, &p, NULL),
                  DSCM_E_CANCELED);
        CHECK_INT(search.shown, 0);
        CHECK_INT(search.of, cases[c].looks * walk);
    }
    dscm_latent_free(latent);
}

/* Guided and up, alone and with networks side by side: the question is asked, in the caller's
 * thread, any answer "no" stops the walk, and nobody asks when the call is over. */
static void a_caller_is_asked_in_its_call_alone(void)
{
    const dscm_intervention act = {SHAPE, DSCM_DO, 2, (double)NAN};
    const dscm_query query = {.items = &act, .count = 1};
    dscm_options o = dscm_options_defaults();
    REQUIRE(dscm_options_resolve(bundle, &o, NULL) == DSCM_OK);
    for (int threads = 1; threads <= 2; threads++) {
        dscm_session *s = NULL;
        dscm_latent *latent = NULL, *none = NULL;
        float out[PIXELS], labels[3];
        REQUIRE(dscm_session_open(&s, bundle, 1, threads, NULL) == DSCM_OK);
        CHECK_INT(s->apart, threads == 2);
        REQUIRE(dscm_abduct(s, &latent, images, 1, &o, NULL, NULL) == DSCM_OK);
        for (int up = 0; up < 2; up++) {
            asked whole = {.thread = pthread_self()};
            dscm_progress p = {.keep_going = ask, .arg = &whole};
            for (size_t stop = 0, last = 1; stop <= last; stop += last > 9 ? last / 9 : 1) {
                asked a = {.thread = pthread_self(), .stop_at = stop};
                p.arg = &a;
                dscm_code code = up ? dscm_abduct(s, &none, images, 1, &o, &p, NULL)
                                    : dscm_predict(s, out, latent, &query, &o, &p, NULL);
                CHECK_INT(code, stop ? DSCM_E_CANCELED : DSCM_OK);
                CHECK(!a.elsewhere);
                if (!stop) whole = a, last = a.times;
                if (stop) CHECK_INT(a.times, stop);
                dscm_latent_free(none);
                none = NULL;
                size_t before = a.times;
                CHECK_INT(dscm_observe(s, SHAPE, labels, images, 1, NULL), DSCM_OK);
                CHECK_INT(a.times, before);
            }
            CHECK(whole.times >= o.steps);
        }
        dscm_latent_free(latent);
        dscm_session_free(s);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"the_nearest_calibration_counts", the_nearest_calibration_counts},
        {"sessions_share_the_memory", sessions_share_the_memory},
        {"looking_first_is_part_of_the_call", looking_first_is_part_of_the_call},
        {"a_caller_is_asked_in_its_call_alone", a_caller_is_asked_in_its_call_alone},
    };
    two_parents_images(images, 2, 9);
    return two_parents_main("test_calls", dir, &bundle, &session, 2, argc, argv, cases,
                            TEST_COUNT(cases));
}
