/* The queue: turns, limits, deadlines, companions. */
#include "server/clock.h"
#include "server/queue.h"
#include "tests/harness.h"
#include "tests/server/make_job.h"

static void push(dscm_queue *queue, dscm_job *job)
{
    CHECK_INT(dscm_queue_push(queue, dscm_job_ref(job), NULL, NULL), DSCM_PUSHED);
}

static void queue_serves_clients_in_turn(void)
{
    dscm_queue *queue;
    REQUIRE(dscm_queue_open(&queue, 10, 5, NULL) == DSCM_OK);
    dscm_job *a[3], *b[2];
    for (int i = 0; i < 3; i++) push(queue, a[i] = make_job("a", DSCM_NEVER));
    for (int i = 0; i < 2; i++) push(queue, b[i] = make_job("b", DSCM_NEVER));
    CHECK_INT(dscm_queue_position(queue, a[0]), 0);
    CHECK_INT(dscm_queue_position(queue, b[0]), 1);
    CHECK_INT(dscm_queue_position(queue, a[1]), 2);
    CHECK_INT(dscm_queue_position(queue, b[1]), 3);
    CHECK_INT(dscm_queue_position(queue, a[2]), 4);
    dscm_job *order[] = {a[0], b[0], a[1], b[1], a[2]};
    for (int i = 0; i < 5; i++) {
        dscm_job *got = dscm_queue_take(queue);
        CHECK(got == order[i]);
        dscm_job_unref(got);
    }
    CHECK(dscm_queue_take_any(queue) == NULL);
    for (int i = 0; i < 3; i++) dscm_job_unref(a[i]);
    for (int i = 0; i < 2; i++) dscm_job_unref(b[i]);
    dscm_queue_free(queue);
}

static dscm_job *push_cost(dscm_queue *queue, const char *client, size_t cost)
{
    dscm_job *job = make_job(client, DSCM_NEVER);
    job->cost = cost;
    CHECK_INT(dscm_queue_push(queue, job, NULL, NULL), DSCM_PUSHED);
    return job; /* the queue's */
}

/* Whose job is next. */
static char take_one(dscm_queue *queue)
{
    dscm_job *job = dscm_queue_take_any(queue);
    char client = job ? job->client[0] : 0;
    dscm_job_unref(job);
    return client;
}

/* Three jobs of 90 passes and twelve of 10: both clients get the same number of passes. */
static void turns_go_by_cost(void)
{
    dscm_queue *queue;
    dscm_job *jobs[15];
    size_t places[15], served[2] = {0}, n = 0;
    char order[16] = "";
    REQUIRE(dscm_queue_open(&queue, 20, 20, NULL) == DSCM_OK);
    for (; n < 3; n++) jobs[n] = push_cost(queue, "a", 90);
    for (; n < 15; n++) jobs[n] = push_cost(queue, "b", 10);
    for (size_t i = 0; i < n; i++) places[i] = dscm_queue_position(queue, jobs[i]);
    for (size_t i = 0; i < n; i++) {
        dscm_job *job = dscm_queue_take_any(queue);
        size_t which = 0;
        while (jobs[which] != job) which++;
        CHECK_INT(places[which], i); /* as was foretold */
        order[i] = job->client[0];
        served[order[i] - 'a'] += job->cost;
        if (i < 9) CHECK(served[0] <= 90 && served[1] <= 90);
        dscm_job_unref(job);
    }
    CHECK_STR(order, "bbbbbbbbabbbbaa");
    dscm_queue_free(queue);
}

/* One short job after the other of clients that were never there before. */
static void newcomers_do_not_starve_who_waits(void)
{
    dscm_queue *queue;
    char name[] = "n0";
    size_t turns = 0;
    REQUIRE(dscm_queue_open(&queue, 64, 64, NULL) == DSCM_OK);
    for (int i = 0; i < 3; i++) push_cost(queue, "a", 20);
    CHECK_INT(take_one(queue), 'a');
    do {
        push_cost(queue, name, 5);
        name[1]++;
        turns++;
    } while (take_one(queue) == 'n' && turns < 30);
    CHECK(turns >= 3 && turns <= 5); /* 20 passes of others, then a's second job */
    push_cost(queue, "c", 5);        /* nor does a keep them waiting */
    CHECK(take_one(queue) != 'a');
    dscm_queue_free(queue);
}

static bool takes_a_week(void *arg, const dscm_job *job)
{
    return strcmp(job->owner, arg) == 0 && job->deadline_ms == 7;
}

static bool any(void *arg, const dscm_job *job)
{
    (void)arg, (void)job;
    return true;
}

/* Two takers: the second long job of a client waits for the first, and lets later ones pass. */
static void queue_limits_long_jobs(void)
{
    dscm_queue *queue;
    char owner[] = "a";
    REQUIRE(dscm_queue_open(&queue, 10, 10, NULL) == DSCM_OK);
    REQUIRE(dscm_queue_limit_long(queue, takes_a_week, owner, 1, 2, NULL) == DSCM_OK);
    dscm_job *first = make_job("a", 7), *second = make_job("a", 7), *third = make_job("a", 7);
    dscm_job *brief = make_job("a", DSCM_NEVER), *other = make_job("b", 7), *more[4];
    push(queue, first);
    push(queue, second);
    push(queue, third);
    push(queue, brief);
    dscm_job *got = dscm_queue_take(queue);
    CHECK(got == first);
    CHECK(dscm_queue_take(queue) == brief);
    push(queue, other);
    /* What an idle taker could have is left to it; what it may not have is not. */
    CHECK_INT(dscm_queue_take_more(queue, more, 1, 1, any, NULL), 1);
    CHECK(more[0] == second);
    CHECK(dscm_queue_take(queue) == other);
    dscm_queue_done(queue, other); /* holds nothing that is counted */
    CHECK_INT(dscm_queue_depth(queue), 1);
    dscm_queue_done(queue, first);
    CHECK(dscm_queue_take(queue) == third); /* would wait for ever */
    push(queue, dscm_job_ref(second));
    dscm_queue_close(queue);
    CHECK(dscm_queue_take(queue) == second); /* a closed queue is emptied */
    CHECK(dscm_queue_take(queue) == NULL);
    dscm_job *const all[] = {first, second, second, third, brief, other};
    for (size_t i = 0; i < TEST_COUNT(all); i++) {
        dscm_job_unref(all[i]); /* the queue's */
        dscm_job_unref(all[i]);
    }
    dscm_queue_free(queue);
}

static void queue_has_limits(void)
{
    dscm_queue *queue;
    REQUIRE(dscm_queue_open(&queue, 3, 2, NULL) == DSCM_OK);
    dscm_job *a = make_job("a", DSCM_NEVER), *b = make_job("b", DSCM_NEVER);
    push(queue, a);
    push(queue, a);
    CHECK_INT(dscm_queue_push(queue, a, NULL, NULL), DSCM_SHARE_FULL);
    push(queue, b);
    CHECK_INT(dscm_queue_push(queue, b, NULL, NULL), DSCM_QUEUE_FULL);
    CHECK_INT(dscm_queue_depth(queue), 3);
    CHECK(dscm_queue_remove(queue, b));
    dscm_job_unref(b);
    CHECK(!dscm_queue_remove(queue, b));
    dscm_queue_close(queue);
    CHECK_INT(dscm_queue_push(queue, b, NULL, NULL), DSCM_QUEUE_CLOSED);
    dscm_job_unref(dscm_queue_take(queue));
    dscm_job_unref(dscm_queue_take(queue));
    CHECK(dscm_queue_take(queue) == NULL);
    dscm_job_unref(a);
    dscm_job_unref(b);
    dscm_queue_free(queue);
}

static void queue_finds_late_jobs(void)
{
    dscm_queue *queue;
    REQUIRE(dscm_queue_open(&queue, 4, 4, NULL) == DSCM_OK);
    dscm_job *late = make_job("a", 100), *fine = make_job("a", 200);
    push(queue, fine);
    push(queue, late);
    CHECK(dscm_queue_take_late(queue, 99) == NULL);
    CHECK(dscm_queue_take_late(queue, 100) == late);
    CHECK(dscm_queue_take_late(queue, 100) == NULL);
    dscm_job_unref(late);
    dscm_job_unref(late);
    dscm_job_unref(fine);
    dscm_queue_free(queue); /* drops what is inside */
}

static void a_queue_goes_on_behind_a_place_taken_back(void)
{
    dscm_queue *queue;
    dscm_job *jobs[3];
    REQUIRE(dscm_queue_open(&queue, 4, 4, NULL) == DSCM_OK);
    for (int i = 0; i < 3; i++) jobs[i] = make_job("a", DSCM_NEVER);
    for (int i = 0; i < 2; i++) CHECK_INT(dscm_queue_push(queue, jobs[i], NULL, NULL), DSCM_PUSHED);
    CHECK(dscm_queue_remove(queue, jobs[1]));
    CHECK_INT(dscm_queue_push(queue, jobs[2], NULL, NULL), DSCM_PUSHED);
    CHECK(dscm_queue_take_any(queue) == jobs[0]);
    CHECK(dscm_queue_take_any(queue) == jobs[2]);
    CHECK(dscm_queue_take_any(queue) == NULL);
    for (int i = 0; i < 3; i++) dscm_job_unref(jobs[i]);
    dscm_queue_free(queue);
}

static bool other_client(void *arg, const dscm_job *job)
{
    return strcmp(job->client, arg) != 0;
}

static void queue_gives_companions(void)
{
    dscm_queue *queue;
    dscm_job *got[8];
    REQUIRE(dscm_queue_open(&queue, 8, 8, NULL) == DSCM_OK);
    const char *clients[] = {"a", "x", "a", "b", "x"};
    for (int i = 0; i < 5; i++) {
        dscm_job *job = make_job(clients[i], DSCM_NEVER);
        push(queue, job);
        dscm_job_unref(job);
    }
    CHECK_INT(dscm_queue_take_more(queue, got, 8, 4, other_client, "x"), 1); /* leaves four */
    CHECK_STR(got[0]->client, "a");
    dscm_job_unref(got[0]);
    CHECK_INT(dscm_queue_take_more(queue, got, 8, 0, other_client, "x"), 2);
    dscm_job_unref(got[0]);
    dscm_job_unref(got[1]);
    CHECK_INT(dscm_queue_depth(queue), 2);
    dscm_queue_free(queue);
}

/* What a client gets as a companion of others counts. */
static void companions_count_as_turns(void)
{
    dscm_queue *queue;
    dscm_job *got[4];
    REQUIRE(dscm_queue_open(&queue, 8, 8, NULL) == DSCM_OK);
    for (int i = 0; i < 2; i++) push_cost(queue, "a", 10);
    for (int i = 0; i < 2; i++) push_cost(queue, "b", 10);
    for (int i = 0; i < 2; i++) push_cost(queue, "x", 10);
    CHECK_INT(take_one(queue), 'a');
    REQUIRE(dscm_queue_take_more(queue, got, 1, 0, other_client, "a") == 1);
    CHECK_STR(got[0]->client, "b");
    dscm_job_unref(got[0]);
    CHECK_INT(take_one(queue), 'x');
    CHECK_INT(take_one(queue), 'a');
    CHECK_INT(take_one(queue), 'b');
    dscm_queue_free(queue);
}

/* Two clients fill their shares of a queue of 32: eight places are left for those with few jobs. */
static void the_last_places_are_for_clients_with_few_jobs(void)
{
    dscm_queue *queue;
    dscm_job *job;
    REQUIRE(dscm_queue_open(&queue, 32, 16, NULL) == DSCM_OK);
    for (int i = 0; i < 24; i++) {
        job = make_job(i % 2 ? "a" : "b", DSCM_NEVER);
        push(queue, job);
        dscm_job_unref(job);
    }
    job = make_job("a", DSCM_NEVER);
    CHECK_INT(dscm_queue_push(queue, job, NULL, NULL), DSCM_QUEUE_FULL);
    dscm_job_unref(job);
    for (int i = 0; i < 3; i++) { /* two are few, a third is not */
        job = make_job("c", DSCM_NEVER);
        CHECK_INT(dscm_queue_push(queue, job, NULL, NULL), i < 2 ? DSCM_PUSHED : DSCM_QUEUE_FULL);
        if (i == 2) dscm_job_unref(job); /* else it is the queue's */
    }
    dscm_queue_free(queue);
    REQUIRE(dscm_queue_open(&queue, 32, 32, NULL) == DSCM_OK);
    for (int i = 0; i < 32; i++) { /* where one client may fill it all, nothing is kept */
        job = make_job("a", DSCM_NEVER);
        push(queue, job);
        dscm_job_unref(job);
    }
    dscm_queue_free(queue);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"queue_serves_clients_in_turn", queue_serves_clients_in_turn},
        {"turns_go_by_cost", turns_go_by_cost},
        {"newcomers_do_not_starve_who_waits", newcomers_do_not_starve_who_waits},
        {"companions_count_as_turns", companions_count_as_turns},
        {"queue_limits_long_jobs", queue_limits_long_jobs},
        {"queue_has_limits", queue_has_limits},
        {"queue_finds_late_jobs", queue_finds_late_jobs},
        {"queue_gives_companions", queue_gives_companions},
        {"the_last_places_are_for_clients_with_few_jobs",
         the_last_places_are_for_clients_with_few_jobs},
        {"a_queue_goes_on_behind_a_place_taken_back", a_queue_goes_on_behind_a_place_taken_back},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
