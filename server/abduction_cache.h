/* Inferred noise that is kept: "abduct once, intervene many times".
 *
 * An entry is found by its id (by its owner only) or by what it was computed from (a digest over
 * owner, model, image and options). Values are opaque payloads. Whoever asks for a digest that is
 * being computed waits for it instead of computing it again (single flight). Bounded by bytes and
 * by time since last use.
 *
 * Threads: `lock` guards everything; waits give it up. Nothing else is called with it held except
 * the payload's release. Ownership: entries are reference counted; acquire and find return a
 * reference that dscm_cache_entry_unref gives back, so a dropped entry lives on while it is used.
 */
#ifndef DSCM_SERVER_ABDUCTION_CACHE_H
#define DSCM_SERVER_ABDUCTION_CACHE_H

#include "server/job.h"

typedef struct dscm_abduction_cache dscm_abduction_cache;

typedef struct dscm_cache_entry {
    char id[DSCM_ID_SIZE]; /* who computes the value may give it another until it is published */
    char owner[DSCM_OWNER_SIZE];
    uint8_t digest[DSCM_DIGEST_SIZE];
    dscm_payload value; /* immutable once the entry is ready */
    /* private to abduction_cache.c, guarded by its lock */
    struct dscm_cache_entry *older, *newer;
    size_t references;
    int64_t used_ms;
    bool ready, dropped;
} dscm_cache_entry;

dscm_code dscm_abduction_cache_open(dscm_abduction_cache **out, size_t bytes, int64_t age_ms,
                                    dscm_error *err) DSCM_MUST_CHECK;
void dscm_abduction_cache_free(
    dscm_abduction_cache *cache); /* takes NULL; no reference may be left */

typedef enum dscm_acquire_result {
    DSCM_ACQUIRE_HIT,     /* *out is ready */
    DSCM_ACQUIRE_MISS,    /* *out is empty: compute, then publish or abandon it */
    DSCM_ACQUIRE_STOPPED, /* `stop` was set, or the deadline passed, while waiting for another's
                             computation */
    DSCM_ACQUIRE_FAILED   /* no memory */
} dscm_acquire_result;

dscm_acquire_result dscm_abduction_cache_acquire(dscm_abduction_cache *cache, const char *owner,
                                                 const uint8_t digest[DSCM_DIGEST_SIZE],
                                                 const atomic_bool *stop, int64_t deadline_ms,
                                                 dscm_cache_entry **out);
/* After a miss: gives the entry its value and wakes the waiting. The caller keeps its reference. */
void dscm_abduction_cache_publish(dscm_abduction_cache *cache, dscm_cache_entry *entry,
                                  dscm_payload value);
/* After a miss that came to nothing: a waiting one computes in its stead. Drops the reference. */
void dscm_abduction_cache_abandon(dscm_abduction_cache *cache, dscm_cache_entry *entry);

/* A ready entry with a reference, or NULL. */
dscm_cache_entry *dscm_abduction_cache_find(dscm_abduction_cache *cache, const char *id,
                                            const char *owner);
bool dscm_abduction_cache_delete(dscm_abduction_cache *cache, const char *id, const char *owner);
void dscm_abduction_cache_forget(dscm_abduction_cache *cache, const char *id); /* whoever owns it */
void dscm_cache_entry_unref(dscm_abduction_cache *cache, dscm_cache_entry *entry); /* takes NULL */
void dscm_abduction_cache_sweep(dscm_abduction_cache *cache, int64_t now_ms);
void dscm_abduction_cache_count(dscm_abduction_cache *cache, size_t *entries, size_t *bytes);

#endif
