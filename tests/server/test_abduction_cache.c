/* The cache of abductions: what it computes once, keeps and drops. */
#include <pthread.h>
#include <unistd.h>

#include "server/abduction_cache.h"
#include "server/clock.h"
#include "tests/harness.h"
#include "tests/server/fake_value.h"

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

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"cache_keeps_within_bytes", cache_keeps_within_bytes},
        {"cache_computes_once", cache_computes_once},
        {"waiting_for_an_abduction_ends_with_the_deadline",
         waiting_for_an_abduction_ends_with_the_deadline},
        {"the_cache_drops_what_was_used_longest_ago", the_cache_drops_what_was_used_longest_ago},
        {"the_cache_leaves_what_is_being_computed", the_cache_leaves_what_is_being_computed},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
