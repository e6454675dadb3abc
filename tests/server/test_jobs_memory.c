/* Jobs kept in memory: owners, idempotency keys, limits of number, bytes and time. */
#include "server/clock.h"
#include "server/jobs.h"
#include "tests/harness.h"
#include "tests/server/fake_value.h"
#include "tests/server/make_job.h"

static void store_finds_by_owner_only(void)
{
    dscm_jobs *jobs;
    dscm_job *found = NULL, *existing = NULL;
    bool same;
    uint8_t body[DSCM_DIGEST_SIZE] = {1}, other[DSCM_DIGEST_SIZE] = {2};
    dscm_jobs_limits limits = {10, 1000, 1000000, NULL, NULL};
    REQUIRE(dscm_jobs_memory_open(&jobs, &limits, NULL) == DSCM_OK);
    dscm_job *job = make_job("alice", DSCM_NEVER), *again = make_job("alice", DSCM_NEVER);
    CHECK_INT(jobs->put(jobs, job, "key", body, &existing, &same, NULL), DSCM_OK);
    CHECK(!existing);
    CHECK_INT(jobs->find(jobs, job->id, "alice", &found), DSCM_FOUND);
    CHECK(found == job);
    dscm_job_unref(found);
    CHECK_INT(jobs->find(jobs, job->id, "bob", &found), DSCM_FIND_UNKNOWN);
    CHECK_INT(jobs->put(jobs, again, "key", body, &existing, &same, NULL), DSCM_OK);
    CHECK(existing == job && same);
    dscm_job_unref(existing);
    CHECK_INT(jobs->put(jobs, again, "key", other, &existing, &same, NULL), DSCM_OK);
    CHECK(existing == job && !same);
    dscm_job_unref(existing);
    jobs->forget(jobs, job);
    CHECK_INT(jobs->find(jobs, job->id, "alice", &found), DSCM_FIND_UNKNOWN);
    CHECK_INT(jobs->put(jobs, again, "key", other, &existing, &same, NULL), DSCM_OK);
    CHECK(!existing);
    jobs->free(jobs);
    dscm_job_unref(job);
    dscm_job_unref(again);
}

static void store_drops_the_oldest(void)
{
    dscm_jobs *jobs;
    dscm_job *list[5], *found, *existing;
    bool same;
    dscm_jobs_limits limits = {2, 1 << 20, INT64_MAX / 2, NULL, NULL};
    REQUIRE(dscm_jobs_memory_open(&jobs, &limits, NULL) == DSCM_OK);
    for (int i = 0; i < 5; i++) {
        list[i] = make_job("a", DSCM_NEVER);
        CHECK_INT(jobs->put(jobs, list[i], NULL, NULL, &existing, &same, NULL), DSCM_OK);
        if (i != 3) CHECK(dscm_job_cancel(list[i], DSCM_REASON_CLIENT)); /* job 3 goes on */
    }
    jobs->sweep(jobs, dscm_clock_us());
    size_t cached, bytes;
    jobs->count(jobs, &cached, &bytes);
    CHECK_INT(cached, 3); /* two ended ones and the living */
    CHECK_INT(jobs->find(jobs, list[0]->id, "a", &found), DSCM_FIND_EXPIRED);
    CHECK_INT(jobs->find(jobs, list[0]->id, "b", &found), DSCM_FIND_UNKNOWN);
    CHECK_INT(jobs->find(jobs, list[1]->id, "a", &found), DSCM_FIND_EXPIRED);
    for (int i = 2; i < 5; i++) { /* what still lives counts for nothing */
        CHECK_INT(jobs->find(jobs, list[i]->id, "a", &found), DSCM_FOUND);
        dscm_job_unref(found);
    }
    jobs->free(jobs);
    for (int i = 0; i < 5; i++) dscm_job_unref(list[i]);
}

/* The newest that fit into the bytes stay, and nothing stays longer than its time. */
static void the_store_has_a_limit_of_bytes_and_of_time(void)
{
    dscm_jobs *jobs;
    dscm_job *list[3], *found, *existing;
    bool same;
    size_t cached, bytes;
    dscm_jobs_limits limits = {10, 250, 60000000, NULL, NULL};
    REQUIRE(dscm_jobs_memory_open(&jobs, &limits, NULL) == DSCM_OK);
    for (int i = 0; i < 3; i++) {
        list[i] = make_job("a", DSCM_NEVER);
        CHECK_INT(jobs->put(jobs, list[i], NULL, NULL, &existing, &same, NULL), DSCM_OK);
        CHECK(dscm_job_start(list[i]));
        CHECK(dscm_job_succeed(list[i], fake_value(100), NULL));
    }
    int64_t now = dscm_clock_us();
    jobs->sweep(jobs, now);
    jobs->count(jobs, &cached, &bytes);
    CHECK_INT(cached, 2);
    CHECK_INT(bytes, 200);
    CHECK_INT(jobs->find(jobs, list[0]->id, "a", &found), DSCM_FIND_EXPIRED);
    CHECK_INT(jobs->find(jobs, list[2]->id, "a", &found), DSCM_FOUND);
    dscm_job_unref(found);
    jobs->sweep(jobs, now + 59000000);
    jobs->count(jobs, &cached, &bytes);
    CHECK_INT(cached, 2);
    jobs->sweep(jobs, now + 61000000);
    jobs->count(jobs, &cached, &bytes);
    CHECK_INT(cached, 0);
    CHECK_INT(bytes, 0);
    jobs->free(jobs);
    for (int i = 0; i < 3; i++) dscm_job_unref(list[i]);
}

static void an_idempotency_key_is_its_owners(void)
{
    dscm_jobs *jobs;
    dscm_job *existing, *alices = make_job("alice", DSCM_NEVER),
                        *bobs = make_job("bob", DSCM_NEVER);
    bool same;
    uint8_t body[DSCM_DIGEST_SIZE] = {1};
    dscm_jobs_limits limits = {10, 1000, 1000000, NULL, NULL};
    REQUIRE(dscm_jobs_memory_open(&jobs, &limits, NULL) == DSCM_OK);
    for (int turn = 0; turn < 2; turn++) {
        CHECK_INT(jobs->put(jobs, alices, "key", body, &existing, &same, NULL), DSCM_OK);
        CHECK(existing == (turn ? alices : NULL));
        if (existing) dscm_job_unref(existing);
        CHECK_INT(jobs->put(jobs, bobs, "key", body, &existing, &same, NULL), DSCM_OK);
        CHECK(existing == (turn ? bobs : NULL));
        if (existing) dscm_job_unref(existing);
    }
    jobs->free(jobs);
    dscm_job_unref(alices);
    dscm_job_unref(bobs);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"store_finds_by_owner_only", store_finds_by_owner_only},
        {"store_drops_the_oldest", store_drops_the_oldest},
        {"the_store_has_a_limit_of_bytes_and_of_time", the_store_has_a_limit_of_bytes_and_of_time},
        {"an_idempotency_key_is_its_owners", an_idempotency_key_is_its_owners},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
