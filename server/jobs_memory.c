#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "server/jobs.h"

#define BUCKETS ((size_t)4096)
#define GHOSTS  ((size_t)DSCM_JOBS_EXPIRED_MAX) /* ids of dropped jobs that still answer "expired" */

typedef struct entry {
    dscm_job *job;
    char *key; /* idempotency key, NULL without */
    uint8_t body[DSCM_DIGEST_SIZE];
    struct entry *next_id, *next_key; /* chains of the two tables */
    struct entry *older, *newer;      /* by arrival */
} entry;

typedef struct ghost {
    char id[DSCM_ID_SIZE];
    uint8_t owner[8]; /* start of the owner's digest: an expired id is nobody else's business */
} ghost;

typedef struct store {
    dscm_jobs face; /* first: the interface is the object */
    dscm_jobs_limits limits;
    pthread_mutex_t lock; /* everything below */
    entry *by_id[BUCKETS], *by_key[BUCKETS];
    entry *oldest, *newest;
    size_t kept, bytes;
    ghost ghosts[GHOSTS];
    size_t ghosts_count;
} store;

/* FNV-1a; ids are random and keys bounded, so nothing stronger is needed to spread them. */
static size_t hash(const char *text, size_t start)
{
    uint64_t h = 14695981039346656037u ^ start;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 1099511628211u;
    return (size_t)(h % BUCKETS);
}

static entry **key_chain(store *s, const char *owner, const char *key)
{
    return &s->by_key[hash(key, hash(owner, 0))];
}

static void owner_mark(const char *owner, uint8_t out[8])
{
    uint8_t digest[DSCM_DIGEST_SIZE];
    dscm_crypto_digest(owner, strlen(owner), digest);
    memcpy(out, digest, 8);
}

/* The result's size once the job has ended; 0 before. *age_us: since it ended, -1 when it runs. */
static size_t weigh(dscm_job *job, int64_t now_us, int64_t *age_us)
{
    pthread_mutex_lock(&job->lock);
    bool ended = job->state >= DSCM_JOB_SUCCEEDED;
    size_t bytes = ended ? job->result.bytes + job->task.bytes : 0;
    *age_us = ended ? now_us - job->finished_us : -1;
    pthread_mutex_unlock(&job->lock);
    return bytes;
}

/* With the lock held. */
static void add_ghost(store *s, const char *id, const char *owner)
{
    ghost *g = &s->ghosts[s->ghosts_count++ % GHOSTS];
    snprintf(g->id, sizeof g->id, "%s", id);
    owner_mark(owner, g->owner);
}

/* With the lock held: takes the entry out of all lists and frees it. */
static void drop(store *s, entry *e, bool expired)
{
    entry **link = &s->by_id[hash(e->job->id, 0)];
    while (*link != e) link = &(*link)->next_id;
    *link = e->next_id;
    if (e->key) {
        link = key_chain(s, e->job->owner, e->key);
        while (*link != e) link = &(*link)->next_key;
        *link = e->next_key;
    }
    if (e->older)
        e->older->newer = e->newer;
    else
        s->oldest = e->newer;
    if (e->newer)
        e->newer->older = e->older;
    else
        s->newest = e->older;
    s->kept--;
    if (expired) {
        add_ghost(s, e->job->id, e->job->owner);
        if (s->limits.expired) s->limits.expired(s->limits.arg, e->job->id);
    }
    dscm_job_unref(e->job);
    dscm_free(e->key);
    dscm_free(e);
}

static entry *find_key(store *s, const char *owner, const char *key)
{
    entry *e = *key_chain(s, owner, key);
    while (e && (strcmp(e->key, key) != 0 || strcmp(e->job->owner, owner) != 0)) e = e->next_key;
    return e;
}

static dscm_code store_put(dscm_jobs *jobs, dscm_job *job, const char *key, const uint8_t *body,
                           dscm_job **existing, bool *same, dscm_error *err)
{
    store *s = (store *)jobs;
    *existing = NULL;
    entry *e = dscm_alloc(1, sizeof *e, "a job", err);
    if (!e) return DSCM_E_MEMORY;
    if (key && !(e->key = dscm_strdup(key, err))) {
        dscm_free(e);
        return DSCM_E_MEMORY;
    }
    if (key) memcpy(e->body, body, sizeof e->body);
    pthread_mutex_lock(&s->lock);
    entry *before = key ? find_key(s, job->owner, key) : NULL;
    if (before) {
        *existing = dscm_job_ref(before->job);
        *same = memcmp(before->body, e->body, sizeof e->body) == 0;
        pthread_mutex_unlock(&s->lock);
        dscm_free(e->key);
        dscm_free(e);
        return DSCM_OK;
    }
    e->job = dscm_job_ref(job);
    entry **chain = &s->by_id[hash(job->id, 0)];
    e->next_id = *chain;
    *chain = e;
    if (key) {
        chain = key_chain(s, job->owner, key);
        e->next_key = *chain;
        *chain = e;
    }
    e->older = s->newest;
    if (s->newest)
        s->newest->newer = e;
    else
        s->oldest = e;
    s->newest = e;
    s->kept++;
    pthread_mutex_unlock(&s->lock);
    return DSCM_OK;
}

static entry *find_id(store *s, const char *id)
{
    entry *e = s->by_id[hash(id, 0)];
    while (e && strcmp(e->job->id, id) != 0) e = e->next_id;
    return e;
}

static dscm_find_result store_find(dscm_jobs *jobs, const char *id, const char *owner,
                                   dscm_job **out)
{
    store *s = (store *)jobs;
    dscm_find_result result = DSCM_FIND_UNKNOWN;
    uint8_t mark[8];
    owner_mark(owner, mark);
    pthread_mutex_lock(&s->lock);
    entry *e = find_id(s, id);
    if (e && strcmp(e->job->owner, owner) == 0) {
        *out = dscm_job_ref(e->job);
        result = DSCM_FOUND;
    }
    size_t ghosts = s->ghosts_count < GHOSTS ? s->ghosts_count : GHOSTS;
    for (size_t i = 0; !e && i < ghosts; i++)
        if (strcmp(s->ghosts[i].id, id) == 0 && memcmp(s->ghosts[i].owner, mark, 8) == 0)
            result = DSCM_FIND_EXPIRED;
    pthread_mutex_unlock(&s->lock);
    return result;
}

static dscm_job *store_get(dscm_jobs *jobs, const char *id)
{
    store *s = (store *)jobs;
    pthread_mutex_lock(&s->lock);
    const entry *e = find_id(s, id);
    dscm_job *job = e ? dscm_job_ref(e->job) : NULL;
    pthread_mutex_unlock(&s->lock);
    return job;
}

static void store_forget(dscm_jobs *jobs, dscm_job *job)
{
    store *s = (store *)jobs;
    pthread_mutex_lock(&s->lock);
    entry *e = find_id(s, job->id);
    if (e) drop(s, e, false);
    pthread_mutex_unlock(&s->lock);
}

static void store_put_expired(dscm_jobs *jobs, const char *id, const char *owner)
{
    store *s = (store *)jobs;
    pthread_mutex_lock(&s->lock);
    add_ghost(s, id, owner);
    pthread_mutex_unlock(&s->lock);
}

static void store_sweep(dscm_jobs *jobs, int64_t now_us)
{
    store *s = (store *)jobs;
    pthread_mutex_lock(&s->lock);
    size_t ended = 0, bytes = 0;
    /* Newest first: what is left of a limit goes to the newest, and the oldest are dropped. */
    for (entry *e = s->newest, *older; e; e = older) {
        int64_t age;
        older = e->older;
        size_t weight = weigh(e->job, now_us, &age);
        if (age < 0) continue;
        ended++;
        bytes += weight;
        if (ended <= s->limits.count && bytes <= s->limits.bytes && age <= s->limits.age_us)
            continue;
        bytes -= weight;
        ended--;
        drop(s, e, true);
    }
    s->bytes = bytes;
    pthread_mutex_unlock(&s->lock);
}

static void store_each_live(dscm_jobs *jobs, void (*fn)(void *arg, dscm_job *job), void *arg)
{
    store *s = (store *)jobs;
    pthread_mutex_lock(&s->lock);
    size_t count = 0;
    dscm_job **live = malloc((s->kept ? s->kept : 1) * sizeof *live);
    for (entry *e = s->oldest; live && e; e = e->newer)
        if (!dscm_job_over(e->job)) live[count++] = dscm_job_ref(e->job);
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < count; i++) {
        fn(arg, live[i]);
        dscm_job_unref(live[i]);
    }
    free(live);
}

static void store_count(dscm_jobs *jobs, size_t *kept, size_t *bytes)
{
    store *s = (store *)jobs;
    pthread_mutex_lock(&s->lock);
    *kept = s->kept;
    *bytes = s->bytes;
    pthread_mutex_unlock(&s->lock);
}

static void store_free(dscm_jobs *jobs)
{
    store *s = (store *)jobs;
    if (!s) return;
    while (s->oldest) drop(s, s->oldest, false);
    pthread_mutex_destroy(&s->lock);
    dscm_free(s);
}

dscm_code dscm_jobs_memory_open(dscm_jobs **out, const dscm_jobs_limits *limits, dscm_error *err)
{
    store *s = dscm_alloc(1, sizeof *s, "the job store", err);
    if (!s) return DSCM_E_MEMORY;
    s->limits = *limits;
    pthread_mutex_init(&s->lock, NULL);
    s->face = (dscm_jobs){.put = store_put,
                          .put_expired = store_put_expired,
                          .find = store_find,
                          .get = store_get,
                          .forget = store_forget,
                          .sweep = store_sweep,
                          .each_live = store_each_live,
                          .count = store_count,
                          .free = store_free};
    *out = &s->face;
    return DSCM_OK;
}
