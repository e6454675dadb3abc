/* What the server keeps and when it lets go: results of jobs, the store's limits, the cache's order,
 * keys, and a queue whose last place is taken back. */
#include <unistd.h>

#include "server/abduction_cache.h"
#include "server/clock.h"
#include "server/jobs.h"
#include "server/keys.h"
#include "server/queue.h"
#include "tests/harness.h"
#include "tests/server/fake_value.h"

static dscm_job *make_job(const char *owner)
{
    dscm_job *job = NULL;
    if (dscm_job_create(&job, owner, owner, (dscm_payload){0}, DSCM_NEVER, false, NULL)) abort();
    return job;
}

static void a_queue_goes_on_behind_a_place_taken_back(void)
{
    dscm_queue *queue;
    dscm_job *jobs[3];
    REQUIRE(dscm_queue_open(&queue, 4, 4, NULL) == DSCM_OK);
    for (int i = 0; i < 3; i++) jobs[i] = make_job("a");
    for (int i = 0; i < 2; i++) CHECK_INT(dscm_queue_push(queue, jobs[i], NULL, NULL), DSCM_PUSHED);
    CHECK(dscm_queue_remove(queue, jobs[1]));
    CHECK_INT(dscm_queue_push(queue, jobs[2], NULL, NULL), DSCM_PUSHED);
    CHECK(dscm_queue_take_any(queue) == jobs[0]);
    CHECK(dscm_queue_take_any(queue) == jobs[2]);
    CHECK(dscm_queue_take_any(queue) == NULL);
    for (int i = 0; i < 3; i++) dscm_job_unref(jobs[i]);
    dscm_queue_free(queue);
}

static void results_live_as_long_as_their_job(void)
{
    dscm_job *job = make_job("a");
    released = 0;
    CHECK(dscm_job_start(job));
    CHECK(dscm_job_succeed(job, fake_value(1), NULL));
    CHECK_INT(released, 0);
    CHECK(!dscm_job_succeed(job, fake_value(1), NULL)); /* too late: not kept */
    CHECK_INT(released, 1);
    dscm_job_unref(job);
    CHECK_INT(released, 2);
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
        list[i] = make_job("a");
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
    dscm_job *existing, *alices = make_job("alice"), *bobs = make_job("bob");
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

static dscm_acquire_result acquire(dscm_abduction_cache *cache, const char *owner, uint8_t what,
                                   dscm_cache_entry **entry)
{
    atomic_bool stop = false;
    uint8_t digest[DSCM_DIGEST_SIZE] = {what};
    return dscm_abduction_cache_acquire(cache, owner, digest, &stop, DSCM_NEVER, entry);
}

static void fill(dscm_abduction_cache *cache, const char *owner, uint8_t what)
{
    dscm_cache_entry *entry;
    if (acquire(cache, owner, what, &entry) != DSCM_ACQUIRE_MISS) {
        TEST_FAIL_("%d of %s is there already", what, owner);
        return;
    }
    dscm_abduction_cache_publish(cache, entry, fake_value(100));
    dscm_cache_entry_unref(cache, entry);
}

static bool has(dscm_abduction_cache *cache, const char *owner, uint8_t what)
{
    dscm_cache_entry *entry;
    bool hit = acquire(cache, owner, what, &entry) == DSCM_ACQUIRE_HIT;
    if (hit)
        dscm_cache_entry_unref(cache, entry);
    else
        dscm_abduction_cache_abandon(cache, entry);
    return hit;
}

static void the_cache_drops_what_was_used_longest_ago(void)
{
    dscm_abduction_cache *cache;
    REQUIRE(dscm_abduction_cache_open(&cache, 200, 1000, NULL) == DSCM_OK); /* two of 100 */
    fill(cache, "a", 1);
    fill(cache, "a", 2);
    CHECK(has(cache, "a", 1)); /* used again */
    fill(cache, "a", 3);
    CHECK(has(cache, "a", 1));
    CHECK(!has(cache, "a", 2));
    CHECK(has(cache, "a", 3));
    CHECK(!has(cache, "b", 3)); /* the same picture, of somebody else */
    dscm_cache_entry *entry;
    REQUIRE(acquire(cache, "a", 1, &entry) == DSCM_ACQUIRE_HIT);
    char id[DSCM_ID_SIZE];
    memcpy(id, entry->id, sizeof id);
    dscm_cache_entry_unref(cache, entry);
    CHECK(has(cache, "a", 3));
    CHECK(dscm_abduction_cache_find(cache, id, "b") == NULL);
    entry = dscm_abduction_cache_find(cache, id, "a"); /* a use as well */
    CHECK(entry != NULL);
    dscm_cache_entry_unref(cache, entry);
    fill(cache, "a", 4);
    CHECK(has(cache, "a", 1));
    CHECK(!has(cache, "a", 3));
    dscm_abduction_cache_free(cache);
}

/* What is being computed weighs nothing yet and is not swept: its worker still holds it. */
static void the_cache_leaves_what_is_being_computed(void)
{
    dscm_abduction_cache *cache;
    dscm_cache_entry *first, *found;
    REQUIRE(dscm_abduction_cache_open(&cache, 150, 1000, NULL) == DSCM_OK);
    CHECK_INT(acquire(cache, "a", 1, &first), DSCM_ACQUIRE_MISS);
    CHECK(dscm_abduction_cache_find(cache, first->id, "a") == NULL); /* not yet */
    fill(cache, "a", 2);
    fill(cache, "a", 3);
    dscm_abduction_cache_sweep(cache, dscm_clock_ms() + 2000);
    dscm_abduction_cache_publish(cache, first, fake_value(100));
    found = dscm_abduction_cache_find(cache, first->id, "a");
    CHECK(found == first);
    dscm_cache_entry_unref(cache, found);
    dscm_cache_entry_unref(cache, first);
    dscm_abduction_cache_free(cache);
}

/* Opens a file of keys that holds `text`. */
static dscm_code open_keys(dscm_keys **keys, const char *text, dscm_error *err)
{
    char path[] = "/tmp/diffscm-keys-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) abort();
    dprintf(fd, "%s", text);
    close(fd);
    dscm_code code = dscm_keys_open(keys, path, err);
    unlink(path);
    return code;
}

#define SECRET "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"

static void only_whole_files_of_keys_open(void)
{
    static const struct {
        const char *text, *part;
    } wrong[] = {{"# nobody\n\n", "holds no key"},          {"alice " SECRET " bob\n", ":1:"},
                 {"alice " SECRET "\nbob\n", ":2:"},        {"alice abc\n", "64 hexadecimal"},
                 {"alice " SECRET "0\n", "64 hexadecimal"}, {"al!ce " SECRET "\n", "name"}};
    char name[DSCM_KEY_NAME_SIZE];
    dscm_keys *keys;
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        dscm_error err = {0};
        CHECK_INT(open_keys(&keys, wrong[i].text, &err), DSCM_E_FORMAT);
        CHECK_HAS(err.message, wrong[i].part);
    }
    REQUIRE(open_keys(&keys, "alice " SECRET " # hers\n", NULL) == DSCM_OK);
    CHECK(dscm_keys_check(keys, "Bearer secret", name));
    CHECK(!dscm_keys_check(keys, "Digest secret", name)); /* another scheme of as many letters */
    dscm_keys_free(keys);
    char text[2000]; /* a long line is one line */
    snprintf(text, sizeof text, "# %*s alice\nalice " SECRET " # %*s bob", 900, "", 600, "");
    REQUIRE(open_keys(&keys, text, NULL) == DSCM_OK);
    CHECK(dscm_keys_check(keys, "Bearer secret", name));
    dscm_keys_free(keys);
    REQUIRE(dscm_keys_open(&keys, "", NULL) == DSCM_OK); /* no file: everybody is let in, unnamed */
    CHECK(dscm_keys_check(keys, NULL, name));
    CHECK_STR(name, "");
    dscm_keys_free(keys);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"a_queue_goes_on_behind_a_place_taken_back", a_queue_goes_on_behind_a_place_taken_back},
        {"results_live_as_long_as_their_job", results_live_as_long_as_their_job},
        {"the_store_has_a_limit_of_bytes_and_of_time", the_store_has_a_limit_of_bytes_and_of_time},
        {"an_idempotency_key_is_its_owners", an_idempotency_key_is_its_owners},
        {"the_cache_drops_what_was_used_longest_ago", the_cache_drops_what_was_used_longest_ago},
        {"the_cache_leaves_what_is_being_computed", the_cache_leaves_what_is_being_computed},
        {"only_whole_files_of_keys_open", only_whole_files_of_keys_open},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
