#include "server/abduction_cache.h"

#include <string.h>

#include "core/base/memory.h"
#include "server/clock.h"

struct dscm_abduction_cache {
    size_t limit; /* bytes */
    int64_t age_ms;
    pthread_mutex_t lock;
    pthread_cond_t settled;            /* an entry became ready or was abandoned */
    dscm_cache_entry *oldest, *newest; /* by last use */
    size_t count, bytes;
};

dscm_code dscm_abduction_cache_open(dscm_abduction_cache **out, size_t bytes, int64_t age_ms,
                                    dscm_error *err)
{
    dscm_abduction_cache *cache = dscm_alloc(1, sizeof *cache, "the abduction cache", err);
    if (!cache) return DSCM_E_MEMORY;
    cache->limit = bytes;
    cache->age_ms = age_ms;
    pthread_mutex_init(&cache->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cache->settled, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = cache;
    return DSCM_OK;
}

/* With the lock held. */
static void give_back(dscm_cache_entry *entry)
{
    if (--entry->references) return;
    if (entry->value.release && entry->value.data) entry->value.release(entry->value.data);
    dscm_free(entry);
}

static void unlink_entry(dscm_abduction_cache *cache, dscm_cache_entry *entry)
{
    if (entry->older)
        entry->older->newer = entry->newer;
    else
        cache->oldest = entry->newer;
    if (entry->newer)
        entry->newer->older = entry->older;
    else
        cache->newest = entry->older;
    entry->older = entry->newer = NULL;
}

static void link_newest(dscm_abduction_cache *cache, dscm_cache_entry *entry)
{
    entry->older = cache->newest;
    entry->newer = NULL;
    if (cache->newest)
        cache->newest->newer = entry;
    else
        cache->oldest = entry;
    cache->newest = entry;
}

/* Takes the entry out of the cache and drops the cache's reference. */
static void drop(dscm_abduction_cache *cache, dscm_cache_entry *entry)
{
    unlink_entry(cache, entry);
    entry->dropped = true;
    cache->count--;
    if (entry->ready) cache->bytes -= entry->value.bytes;
    give_back(entry);
}

static void touch(dscm_abduction_cache *cache, dscm_cache_entry *entry)
{
    entry->used_ms = dscm_clock_ms();
    unlink_entry(cache, entry);
    link_newest(cache, entry);
}

void dscm_abduction_cache_free(dscm_abduction_cache *cache)
{
    if (!cache) return;
    while (cache->oldest) drop(cache, cache->oldest);
    pthread_mutex_destroy(&cache->lock);
    pthread_cond_destroy(&cache->settled);
    dscm_free(cache);
}

static dscm_cache_entry *by_digest(dscm_abduction_cache *cache, const char *owner,
                                   const uint8_t *digest)
{
    dscm_cache_entry *entry = cache->newest;
    while (entry && (memcmp(entry->digest, digest, DSCM_DIGEST_SIZE) != 0 ||
                     strcmp(entry->owner, owner) != 0))
        entry = entry->older;
    return entry;
}

static dscm_cache_entry *add(dscm_abduction_cache *cache, const char *owner, const uint8_t *digest)
{
    dscm_cache_entry *entry = dscm_alloc(1, sizeof *entry, "an abduction", NULL);
    if (!entry) return NULL;
    if (dscm_crypto_id(entry->id, NULL) != DSCM_OK) {
        dscm_free(entry);
        return NULL;
    }
    memcpy(entry->digest, digest, DSCM_DIGEST_SIZE);
    strncpy(entry->owner, owner, sizeof entry->owner - 1);
    entry->references = 2; /* the cache's and the caller's */
    entry->used_ms = dscm_clock_ms();
    link_newest(cache, entry);
    cache->count++;
    return entry;
}

dscm_acquire_result dscm_abduction_cache_acquire(dscm_abduction_cache *cache, const char *owner,
                                                 const uint8_t digest[DSCM_DIGEST_SIZE],
                                                 const atomic_bool *stop, int64_t deadline_ms,
                                                 dscm_cache_entry **out)
{
    dscm_acquire_result result = DSCM_ACQUIRE_STOPPED;
    pthread_mutex_lock(&cache->lock);
    dscm_cache_entry *entry;
    while ((entry = by_digest(cache, owner, digest)) && !entry->ready && !atomic_load(stop) &&
           dscm_clock_ms() < deadline_ms) {
        /* Timed, because nobody signals when `stop` is set. */
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 20000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&cache->settled, &cache->lock, &until);
    }
    if (entry && entry->ready) {
        entry->references++;
        touch(cache, entry);
        result = DSCM_ACQUIRE_HIT;
    } else if (!entry) {
        entry = add(cache, owner, digest);
        result = entry ? DSCM_ACQUIRE_MISS : DSCM_ACQUIRE_FAILED;
    }
    pthread_mutex_unlock(&cache->lock);
    *out = result == DSCM_ACQUIRE_HIT || result == DSCM_ACQUIRE_MISS ? entry : NULL;
    return result;
}

/* The least recently used go first; entries being computed stay, they weigh nothing yet. */
static void trim(dscm_abduction_cache *cache)
{
    dscm_cache_entry *entry = cache->oldest;
    while (entry && cache->bytes > cache->limit) {
        dscm_cache_entry *newer = entry->newer;
        if (entry->ready) drop(cache, entry);
        entry = newer;
    }
}

void dscm_abduction_cache_publish(dscm_abduction_cache *cache, dscm_cache_entry *entry,
                                  dscm_payload value)
{
    pthread_mutex_lock(&cache->lock);
    entry->value = value;
    entry->ready = true;
    if (!entry->dropped) cache->bytes += value.bytes;
    trim(cache);
    pthread_cond_broadcast(&cache->settled);
    pthread_mutex_unlock(&cache->lock);
}

void dscm_abduction_cache_abandon(dscm_abduction_cache *cache, dscm_cache_entry *entry)
{
    pthread_mutex_lock(&cache->lock);
    if (!entry->dropped) drop(cache, entry);
    give_back(entry);
    pthread_cond_broadcast(&cache->settled);
    pthread_mutex_unlock(&cache->lock);
}

static dscm_cache_entry *by_id(dscm_abduction_cache *cache, const char *id, const char *owner)
{
    dscm_cache_entry *entry = cache->newest;
    while (entry &&
           (!entry->ready || strcmp(entry->id, id) != 0 || strcmp(entry->owner, owner) != 0))
        entry = entry->older;
    return entry;
}

dscm_cache_entry *dscm_abduction_cache_find(dscm_abduction_cache *cache, const char *id,
                                            const char *owner)
{
    pthread_mutex_lock(&cache->lock);
    dscm_cache_entry *entry = by_id(cache, id, owner);
    if (entry) {
        entry->references++;
        touch(cache, entry);
    }
    pthread_mutex_unlock(&cache->lock);
    return entry;
}

bool dscm_abduction_cache_delete(dscm_abduction_cache *cache, const char *id, const char *owner)
{
    pthread_mutex_lock(&cache->lock);
    dscm_cache_entry *entry = by_id(cache, id, owner);
    if (entry) drop(cache, entry);
    pthread_mutex_unlock(&cache->lock);
    return entry != NULL;
}

void dscm_abduction_cache_forget(dscm_abduction_cache *cache, const char *id)
{
    pthread_mutex_lock(&cache->lock);
    dscm_cache_entry *entry = cache->newest;
    while (entry && (!entry->ready || strcmp(entry->id, id) != 0)) entry = entry->older;
    if (entry) drop(cache, entry);
    pthread_mutex_unlock(&cache->lock);
}

void dscm_cache_entry_unref(dscm_abduction_cache *cache, dscm_cache_entry *entry)
{
    if (!entry) return;
    pthread_mutex_lock(&cache->lock);
    give_back(entry);
    pthread_mutex_unlock(&cache->lock);
}

void dscm_abduction_cache_sweep(dscm_abduction_cache *cache, int64_t now_ms)
{
    pthread_mutex_lock(&cache->lock);
    dscm_cache_entry *entry = cache->oldest;
    while (entry && now_ms - entry->used_ms > cache->age_ms) {
        dscm_cache_entry *newer = entry->newer;
        if (entry->ready) drop(cache, entry);
        entry = newer;
    }
    pthread_mutex_unlock(&cache->lock);
}

void dscm_abduction_cache_count(dscm_abduction_cache *cache, size_t *entries, size_t *bytes)
{
    pthread_mutex_lock(&cache->lock);
    *entries = cache->count;
    *bytes = cache->bytes;
    pthread_mutex_unlock(&cache->lock);
}
