/* Parts of the server that need no socket: jobs, store, cache, settings, headers, keys. */
#include <pthread.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "server/abduction_cache.h"
#include "server/clock.h"
#include "server/jobs.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/negotiate.h"
#include "server/queue.h"
#include "server/settings.h"
#include "tests/harness.h"
#include "tests/server/fake_value.h"
#include "tests/server/make_job.h"

/* ---- jobs ---- */

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

/* ---- store ---- */

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

/* ---- abductions ---- */

static void cache_keeps_within_bytes(void)
{
    dscm_abduction_cache *cache;
    dscm_cache_entry *entry;
    atomic_bool stop = false;
    uint8_t digest[DSCM_DIGEST_SIZE] = {0};
    released = 0;
    REQUIRE(dscm_abduction_cache_open(&cache, 250, 1000, NULL) == DSCM_OK);
    for (uint8_t i = 0; i < 4; i++) {
        digest[0] = i;
        CHECK_INT(dscm_abduction_cache_acquire(cache, "a", digest, &stop, DSCM_NEVER, &entry),
                  DSCM_ACQUIRE_MISS);
        dscm_abduction_cache_publish(cache, entry, fake_value(100));
        dscm_cache_entry_unref(cache, entry);
    }
    size_t entries, bytes;
    dscm_abduction_cache_count(cache, &entries, &bytes);
    CHECK_INT(entries, 2);
    CHECK_INT(bytes, 200);
    CHECK_INT(released, 2);
    CHECK_INT(dscm_abduction_cache_acquire(cache, "a", digest, &stop, DSCM_NEVER, &entry),
              DSCM_ACQUIRE_HIT);
    CHECK(dscm_abduction_cache_find(cache, entry->id, "b") == NULL);
    CHECK(dscm_abduction_cache_delete(cache, entry->id, "a"));
    CHECK_INT(released, 2); /* still in use */
    dscm_cache_entry_unref(cache, entry);
    CHECK_INT(released, 3);
    dscm_abduction_cache_sweep(cache, dscm_clock_ms() + 2000);
    dscm_abduction_cache_count(cache, &entries, &bytes);
    CHECK_INT(entries, 0);
    dscm_abduction_cache_free(cache);
}

typedef struct flight {
    dscm_abduction_cache *cache;
    dscm_acquire_result result;
} flight;

static void *fly(void *arg)
{
    flight *f = arg;
    uint8_t digest[DSCM_DIGEST_SIZE] = {7};
    atomic_bool stop = false;
    dscm_cache_entry *entry;
    f->result = dscm_abduction_cache_acquire(f->cache, "a", digest, &stop, DSCM_NEVER, &entry);
    if (f->result == DSCM_ACQUIRE_MISS)
        dscm_abduction_cache_publish(f->cache, entry, fake_value(1));
    dscm_cache_entry_unref(f->cache, entry);
    return NULL;
}

static void cache_computes_once(void)
{
    dscm_abduction_cache *cache;
    dscm_cache_entry *entry;
    atomic_bool stop = false, stopped = true;
    uint8_t digest[DSCM_DIGEST_SIZE] = {7};
    REQUIRE(dscm_abduction_cache_open(&cache, 1000, 1000, NULL) == DSCM_OK);
    CHECK_INT(dscm_abduction_cache_acquire(cache, "a", digest, &stop, DSCM_NEVER, &entry),
              DSCM_ACQUIRE_MISS);
    dscm_cache_entry *none;
    CHECK_INT(dscm_abduction_cache_acquire(cache, "a", digest, &stopped, DSCM_NEVER, &none),
              DSCM_ACQUIRE_STOPPED);
    flight flights[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        flights[i] = (flight){cache, DSCM_ACQUIRE_FAILED};
        REQUIRE(pthread_create(&threads[i], NULL, fly, &flights[i]) == 0);
    }
    usleep(30000);
    dscm_abduction_cache_abandon(cache, entry); /* one of the waiting computes in its stead */
    int misses = 0, hits = 0;
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        misses += flights[i].result == DSCM_ACQUIRE_MISS;
        hits += flights[i].result == DSCM_ACQUIRE_HIT;
    }
    CHECK_INT(misses, 1);
    CHECK_INT(hits, 3);
    dscm_abduction_cache_free(cache);
}

/* ---- settings, headers, keys, metrics ---- */

static void settings_have_sound_defaults(void)
{
    dscm_settings settings;
    dscm_error err = {0};
    dscm_settings_defaults(&settings);
    for (size_t i = 0; dscm_setting_at(i); i++) {
        const dscm_setting *s = dscm_setting_at(i);
        CHECK_INT(dscm_settings_set(&settings, s->name, s->value, "default", &err), DSCM_OK);
    }
    CHECK_STR(err.message, "");
    CHECK_INT(settings.port, 8080);
    CHECK_STR(settings.host, "127.0.0.1");
}

static void settings_refuse_what_is_wrong(void)
{
    dscm_settings settings;
    static const char *const bad[][2] = {
        {"--port", "65536"},    {"--port", "-1"},      {"--port", "80x"},
        {"--port", ""},         {"--batch", "0"},      {"--trusted-proxy=maybe", "x"},
        {"--log-level", "all"}, {"--host", "0.0.0.0"}, {"--host", "1270.0.0.1"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        dscm_error err = {0};
        char *argv[] = {(char *)(uintptr_t)bad[i][0], (char *)(uintptr_t)bad[i][1]};
        int argc = strchr(bad[i][0], '=') ? 1 : 2;
        CHECK(dscm_settings_load(&settings, argc, argv, NULL, &err) != DSCM_OK);
        CHECK(err.message[0]);
    }
    dscm_error err = {0};
    char name[DSCM_SETTING_TEXT + 1], *long_name[] = {"--data-dir", name};
    for (size_t length = DSCM_SETTING_TEXT - 1; length <= DSCM_SETTING_TEXT; length++) {
        memset(name, 'x', length);
        name[length] = 0;
        CHECK_INT(dscm_settings_load(&settings, 2, long_name, NULL, &err),
                  length < DSCM_SETTING_TEXT ? DSCM_OK : DSCM_E_LIMIT);
    }
    CHECK_HAS(err.message, "longer than 255");
    err = (dscm_error){0};
    char *argv[] = {"--port"};
    CHECK_INT(dscm_settings_load(&settings, 1, argv, NULL, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "needs a value");
}

static void accept_chooses_by_quality(void)
{
    CHECK_INT(dscm_media_negotiate(NULL), DSCM_MEDIA_JSON);
    CHECK_INT(dscm_media_negotiate("*/*"), DSCM_MEDIA_JSON);
    CHECK_INT(dscm_media_negotiate("image/png"), DSCM_MEDIA_PNG);
    CHECK_INT(dscm_media_negotiate("image/*;q=0.5, application/json;q=0.4"), DSCM_MEDIA_PNG);
    CHECK_INT(dscm_media_negotiate("text/event-stream, */*;q=0.1"), DSCM_MEDIA_EVENTS);
    CHECK_INT(dscm_media_negotiate("text/html"), DSCM_MEDIA_NONE);
    CHECK_INT(dscm_media_negotiate("image/png;q=0"), DSCM_MEDIA_NONE);
    CHECK_INT(dscm_media_negotiate(""), DSCM_MEDIA_NONE);
    CHECK_INT(dscm_media_negotiate(",,;q=;,"), DSCM_MEDIA_NONE);
    dscm_prefer prefer = dscm_prefer_parse("handling=lenient, wait=7, respond-async");
    CHECK(prefer.async);
    CHECK_INT(prefer.wait_s, 7);
    CHECK_INT(dscm_prefer_parse("wait=-1").wait_s, -1);
    CHECK_INT(dscm_prefer_parse("wait=5s").wait_s, -1);
    CHECK_INT(dscm_prefer_parse("wait=99999999999999999999").wait_s, -1);
    CHECK(dscm_media_is("image/png; charset=x", "image/png"));
    CHECK(dscm_media_is("IMAGE/PNG", "image/"));
    CHECK(!dscm_media_is("image/", "image/"));
    CHECK(!dscm_media_is("imagex/png", "image/png"));
}

static void keys_are_compared_by_digest(void)
{
    char path[] = "/tmp/diffscm-keys-XXXXXX", name[DSCM_KEY_NAME_SIZE];
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    /* SHA-256 of "secret" */
    dprintf(fd, "# keys\nalice "
                "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n");
    close(fd);
    dscm_keys *keys;
    REQUIRE(dscm_keys_open(&keys, path, NULL) == DSCM_OK);
    CHECK(dscm_keys_check(keys, "Bearer secret", name));
    CHECK_STR(name, "alice");
    CHECK(dscm_keys_check(keys, "Bearer   secret", name));
    CHECK(!dscm_keys_check(keys, "Bearer secret2", name));
    CHECK(!dscm_keys_check(keys, "Basic secret", name));
    CHECK(!dscm_keys_check(keys, NULL, name));
    CHECK(!dscm_keys_check(keys, "Bearer ", name));
    CHECK(!dscm_keys_check(keys, "Bearer    ", name));
    unlink(path);
    size_t count;
    dscm_error err = {0};
    CHECK(dscm_keys_reload(keys, &count, &err) != DSCM_OK);
    CHECK(dscm_keys_check(keys, "bearer secret", name)); /* the old ones stay */
    dscm_keys_free(keys);
}

static void digest_of_an_empty_key_is_refused(void)
{
    char path[] = "/tmp/diffscm-keys-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    dprintf(fd, "alice e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n");
    close(fd);
    dscm_keys *keys = NULL;
    dscm_error err = {0};
    CHECK_INT(dscm_keys_open(&keys, path, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, ":1: key alice");
    unlink(path);
}

static void service_links_are_ignored(void)
{
    dscm_settings settings;
    dscm_error err = {0};
    char *links[] = {"DIFFSCM_SERVICE_HOST=10.96.0.12",
                     "DIFFSCM_SERVICE_PORT=8080",
                     "DIFFSCM_PORT=tcp://10.96.0.12:8080",
                     "DIFFSCM_PORT_8080_TCP=tcp://10.96.0.12:8080",
                     "DIFFSCM_PORT_8080_TCP_ADDR=10.96.0.12",
                     "DIFFSCM_QUEUE_CAPACITY=7",
                     NULL};
    CHECK_INT(dscm_settings_load(&settings, 0, NULL, links, &err), DSCM_OK);
    CHECK_INT(settings.port, 8080);
    CHECK_INT(settings.queue_capacity, 7);
    CHECK_INT(settings.service_links, 5);
    char *unknown[] = {"DIFFSCM_PORTS=1", NULL}, *wrong[] = {"DIFFSCM_PORT_TCP=1", NULL};
    CHECK_INT(dscm_settings_load(&settings, 0, NULL, unknown, &err), DSCM_E_UNKNOWN);
    CHECK_INT(dscm_settings_load(&settings, 0, NULL, wrong, &err), DSCM_E_UNKNOWN);
}

static void histogram_buckets_add_up(void)
{
    static dscm_metrics metrics;
    dscm_metrics_request(&metrics, 1, 200, 1500);
    dscm_metrics_request(&metrics, 1, 777, 90000000);
    dscm_metrics_request(&metrics, 0, 200, 1000); /* le: a bound belongs to its bucket */
    CHECK_INT(atomic_load(&metrics.durations[0].buckets[0]), 1);
    CHECK_INT(atomic_load(&metrics.durations[1].buckets[1]), 1);
    CHECK_INT(atomic_load(&metrics.durations[1].buckets[DSCM_METRICS_BUCKETS]), 1);
    static const char *const routes[] = {"a", "b", NULL};
    dscm_metrics_gauges gauges = {.routes = routes, .version = "x"};
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    dscm_metrics_render(&metrics, &gauges, out);
    fclose(out);
    CHECK_HAS(text, "diffscm_requests_total{route=\"b\",status=\"other\"} 1\n");
    CHECK_HAS(text, "diffscm_request_duration_seconds_bucket{route=\"b\",le=\"+Inf\"} 2\n");
    free(text);
}

static void waiting_for_an_abduction_ends_with_the_deadline(void)
{
    dscm_abduction_cache *cache;
    dscm_cache_entry *entry, *none;
    atomic_bool stop = false;
    uint8_t digest[DSCM_DIGEST_SIZE] = {1};
    REQUIRE(dscm_abduction_cache_open(&cache, 1000, 1000000, NULL) == DSCM_OK);
    CHECK_INT(dscm_abduction_cache_acquire(cache, "a", digest, &stop, DSCM_NEVER, &entry),
              DSCM_ACQUIRE_MISS);
    int64_t start = dscm_clock_ms();
    CHECK_INT(dscm_abduction_cache_acquire(cache, "a", digest, &stop, start + 100, &none),
              DSCM_ACQUIRE_STOPPED);
    CHECK(dscm_clock_ms() - start >= 100);
    dscm_abduction_cache_abandon(cache, entry);
    dscm_abduction_cache_free(cache);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"waiting_for_an_abduction_ends_with_the_deadline",
         waiting_for_an_abduction_ends_with_the_deadline},

        {"job_wakes_each_waiter_once", job_wakes_each_waiter_once},
        {"first_end_of_a_job_wins", first_end_of_a_job_wins},
        {"events_survive_small_buffers", events_survive_small_buffers},
        {"an_event_begun_is_sent_to_its_end", an_event_begun_is_sent_to_its_end},
        {"events_are_bounded", events_are_bounded},
        {"store_finds_by_owner_only", store_finds_by_owner_only},
        {"store_drops_the_oldest", store_drops_the_oldest},
        {"cache_keeps_within_bytes", cache_keeps_within_bytes},
        {"cache_computes_once", cache_computes_once},
        {"settings_have_sound_defaults", settings_have_sound_defaults},
        {"settings_refuse_what_is_wrong", settings_refuse_what_is_wrong},
        {"accept_chooses_by_quality", accept_chooses_by_quality},
        {"keys_are_compared_by_digest", keys_are_compared_by_digest},
        {"digest_of_an_empty_key_is_refused", digest_of_an_empty_key_is_refused},
        {"service_links_are_ignored", service_links_are_ignored},
        {"histogram_buckets_add_up", histogram_buckets_add_up},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
