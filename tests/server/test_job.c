/* Jobs: waiters, ends, events, and what they own. */
#include "server/clock.h"
#include "server/job.h"
#include "tests/harness.h"
#include "tests/server/fake_value.h"
#include "tests/server/make_job.h"

typedef struct counter {
    dscm_waiter waiter; /* first */
    int woken;
} counter;

static void count_wake(dscm_waiter *waiter)
{
    ((counter *)waiter)->woken++;
}

static void job_wakes_each_waiter_once(void)
{
    dscm_job *job = make_job("a", DSCM_NEVER);
    counter all[50] = {0}, end = {.waiter.wake = count_wake};
    for (int i = 0; i < 50; i++) {
        all[i].waiter.wake = count_wake;
        CHECK(dscm_job_wait(job, &all[i].waiter, 1)); /* event 1 is "queued" */
    }
    CHECK(dscm_job_wait(job, &end.waiter, UINT64_MAX));
    CHECK(dscm_job_start(job));
    for (int i = 0; i < 50; i++) CHECK_INT(all[i].woken, 1);
    CHECK_INT(end.woken, 0);
    CHECK(!dscm_job_unwait(job, &all[0].waiter));
    CHECK(!dscm_job_wait(job, &all[0].waiter, 1)); /* "started" is newer */
    CHECK(dscm_job_succeed(job, (dscm_payload){0}, "{}"));
    CHECK_INT(end.woken, 1);
    CHECK(!dscm_job_wait(job, &end.waiter, UINT64_MAX));
    dscm_job_unref(job);
}

static void first_end_of_a_job_wins(void)
{
    dscm_job_reason reason;
    dscm_problem problem = {0};
    dscm_job *job = make_job("a", DSCM_NEVER);
    CHECK(dscm_job_start(job));
    CHECK(dscm_job_progress(job, 1, 4, DSCM_EVENT_PROGRESS, NULL));
    CHECK(!dscm_job_cancel(job, DSCM_REASON_DEADLINE)); /* running: told to stop */
    CHECK(!dscm_job_cancel(job, DSCM_REASON_CLIENT));
    CHECK(!dscm_job_progress(job, 2, 4, DSCM_EVENT_PROGRESS, NULL));
    dscm_job_stopped(job);
    CHECK(!dscm_job_succeed(job, (dscm_payload){0}, NULL));
    CHECK(!dscm_job_fail(job, &problem, NULL));
    uint64_t last = job->last_event; /* the end is the last word */
    CHECK(!dscm_job_progress(job, 3, 4, DSCM_EVENT_PROGRESS, "{}"));
    CHECK_INT(job->last_event, last);
    CHECK_INT(dscm_job_peek(job, NULL, NULL, &reason), DSCM_JOB_CANCELED);
    CHECK_INT(reason, DSCM_REASON_DEADLINE);
    dscm_job_unref(job);
    job = make_job("a", DSCM_NEVER);
    CHECK(dscm_job_cancel(job, DSCM_REASON_CLIENT)); /* queued: ended at once */
    CHECK(!dscm_job_start(job));
    dscm_job_unref(job);
}

static void results_live_as_long_as_their_job(void)
{
    dscm_job *job = make_job("a", DSCM_NEVER);
    released = 0;
    CHECK(dscm_job_start(job));
    CHECK(dscm_job_succeed(job, fake_value(1), NULL));
    CHECK_INT(released, 0);
    CHECK(!dscm_job_succeed(job, fake_value(1), NULL)); /* too late: not kept */
    CHECK_INT(released, 1);
    dscm_job_unref(job);
    CHECK_INT(released, 2);
}

static void events_survive_small_buffers(void)
{
    char all[4096] = "", piece[7];
    dscm_event_reader reader = {.after = 0};
    size_t used = 0, count;
    bool ended;
    dscm_job *job = make_job("a", DSCM_NEVER);
    CHECK(dscm_job_start(job));
    for (int i = 0; i < 3; i++)
        CHECK(dscm_job_progress(job, 1, 2, DSCM_EVENT_PREVIEW, "{\"preview\":1}"));
    CHECK(dscm_job_succeed(job, (dscm_payload){0}, "{\"done\":true}"));
    while ((count = dscm_job_events_read(job, &reader, piece, sizeof piece, &ended))) {
        memcpy(all + used, piece, count);
        used += count;
    }
    CHECK(ended);
    CHECK_STR(all, "id: 1\nevent: queued\ndata: {}\n\n"
                   "id: 2\nevent: started\ndata: {}\n\n"
                   "id: 5\nevent: preview\ndata: {\"preview\":1}\n\n"
                   "id: 6\nevent: succeeded\ndata: {\"done\":true}\n\n");
    dscm_job_unref(job);
}

/* A slow reader is in the middle of a preview when the next one takes its place. */
static void an_event_begun_is_sent_to_its_end(void)
{
    static char all[1 << 12];
    dscm_event_reader reader = {.after = 0};
    size_t used = 0, count;
    bool ended;
    dscm_job *job = make_job("a", DSCM_NEVER);
    CHECK(dscm_job_start(job));
    CHECK(dscm_job_progress(job, 1, 2, DSCM_EVENT_PREVIEW, "{\"images\":[\"first\"]}"));
    used += dscm_job_events_read(job, &reader, all, 90, &ended);
    CHECK(dscm_job_progress(job, 2, 2, DSCM_EVENT_PREVIEW, "{\"images\":[\"second\"]}"));
    CHECK(dscm_job_succeed(job, (dscm_payload){0}, "{}"));
    while ((count = dscm_job_events_read(job, &reader, all + used, 20, &ended))) used += count;
    CHECK_STR(all, "id: 1\nevent: queued\ndata: {}\n\n"
                   "id: 2\nevent: started\ndata: {}\n\n"
                   "id: 3\nevent: preview\ndata: {\"images\":[\"first\"]}\n\n"
                   "id: 4\nevent: preview\ndata: {\"images\":[\"second\"]}\n\n"
                   "id: 5\nevent: succeeded\ndata: {}\n\n");
    dscm_job_unref(job);
}

static void events_are_bounded(void)
{
    static char all[1 << 16];
    dscm_event_reader reader = {.after = 0};
    bool ended;
    dscm_job *job = make_job("a", DSCM_NEVER);
    CHECK(dscm_job_start(job));
    for (int i = 0; i < 10 * DSCM_EVENTS_MAX; i++)
        CHECK(dscm_job_progress(job, 1, 2, DSCM_EVENT_PROGRESS, "{}"));
    CHECK(dscm_job_succeed(job, (dscm_payload){0}, "{}"));
    CHECK(job->events_count <= DSCM_EVENTS_MAX);
    all[dscm_job_events_read(job, &reader, all, sizeof all - 1, &ended)] = 0;
    CHECK(ended);
    CHECK_HAS(all, "event: queued");
    CHECK_HAS(all, "event: succeeded");
    dscm_job_unref(job);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"job_wakes_each_waiter_once", job_wakes_each_waiter_once},
        {"first_end_of_a_job_wins", first_end_of_a_job_wins},
        {"results_live_as_long_as_their_job", results_live_as_long_as_their_job},
        {"events_survive_small_buffers", events_survive_small_buffers},
        {"an_event_begun_is_sent_to_its_end", an_event_begun_is_sent_to_its_end},
        {"events_are_bounded", events_are_bounded},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
