#include "core/base/team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/memory.h"

/* A loop is announced by raising `round`; workers spin on it briefly and then sleep on `wake`,
 * since layers of small networks follow each other within microseconds. A worker counts itself in
 * `sleepers` before it looks at `round` for the last time, and the announcer raises `round` before
 * it looks at `sleepers`: one of them sees the other, and nobody is woken who is awake. The caller waits
 * for the last worker in the same way, by `remaining` and `waiting`. With more threads than processors
 * nobody spins: that would take the processor from the one that is waited for. */
#define SPINS 4000

typedef void loop_fn(void *arg, size_t index, int worker);

typedef struct member {
    struct dscm_team *team;
    pthread_t thread;
    int worker;
} member;

struct dscm_team {
    int size;
    member *members; /* size - 1 of them; worker 0 is the caller */
    int started;
    pthread_mutex_t lock; /* guards sleeping on wake; fn, arg, count are published by `round` */
    pthread_cond_t wake, done; /* a round began; its last worker has finished */
    int spins;
    atomic_bool waiting; /* the caller sleeps on `done`, or is about to */
    atomic_uint round;
    atomic_int sleepers;
    atomic_bool quit;
    atomic_size_t next;   /* next index to take */
    atomic_int remaining; /* members that have not finished the round */
    loop_fn *fn;
    void *arg;
    size_t count;
};

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void take_indices(dscm_team *team, int worker)
{
    for (;;) {
        size_t index = atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed);
        if (index >= team->count) return;
        team->fn(team->arg, index, worker);
    }
}

static void wait_for_round(dscm_team *team, unsigned seen)
{
    for (int i = 0; i < team->spins; i++) {
        if (atomic_load_explicit(&team->round, memory_order_acquire) != seen) return;
        pause_cpu();
    }
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(&team->round) == seen) pthread_cond_wait(&team->wake, &team->lock);
    atomic_fetch_sub(&team->sleepers, 1);
    pthread_mutex_unlock(&team->lock);
}

static void *member_main(void *opaque)
{
    member *self = opaque;
    dscm_team *team = self->team;
    unsigned seen = 0;
    for (;;) {
        wait_for_round(team, seen);
        seen++;
        if (atomic_load_explicit(&team->quit, memory_order_acquire)) return NULL;
        take_indices(team, self->worker);
        if (atomic_fetch_sub(&team->remaining, 1) != 1 || !atomic_load(&team->waiting)) continue;
        pthread_mutex_lock(&team->lock);
        pthread_cond_signal(&team->done);
        pthread_mutex_unlock(&team->lock);
    }
}

static void announce(dscm_team *team)
{
    atomic_fetch_add(&team->round, 1);
    if (!atomic_load(&team->sleepers)) return;
    pthread_mutex_lock(&team->lock);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
}

dscm_code dscm_team_open(dscm_team **out, int threads, dscm_error *err)
{
    *out = NULL;
    if (threads < 1 || threads > DSCM_TEAM_MAX)
        return dscm_fail(err, DSCM_E_INVALID, "threads: %d is not in 1..%d", threads,
                         DSCM_TEAM_MAX);
    dscm_team *team = dscm_alloc(1, sizeof *team, "thread team", err);
    if (!team) return DSCM_E_MEMORY;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    pthread_cond_init(&team->done, NULL);
    team->size = threads;
    team->spins = threads > dscm_cpu_count() ? 0 : SPINS;
    team->members = dscm_alloc((size_t)threads, sizeof *team->members, "thread team", err);
    if (!team->members) {
        dscm_team_free(team);
        return DSCM_E_MEMORY;
    }
    for (int i = 0; i < threads - 1; i++) {
        member *m = &team->members[i];
        *m = (member){.team = team, .worker = i + 1};
        int failure = pthread_create(&m->thread, NULL, member_main, m);
        if (failure != 0) {
            dscm_team_free(team);
            return dscm_fail(err, DSCM_E_SYSTEM, "threads: cannot start thread %d of %d: %s", i + 2,
                             threads, strerror(failure));
        }
        team->started++;
    }
    *out = team;
    return DSCM_OK;
}

void dscm_team_free(dscm_team *team)
{
    if (!team) return;
    atomic_store_explicit(&team->quit, true, memory_order_release);
    announce(team);
    for (int i = 0; i < team->started; i++) pthread_join(team->members[i].thread, NULL);
    pthread_cond_destroy(&team->wake);
    pthread_cond_destroy(&team->done);
    pthread_mutex_destroy(&team->lock);
    dscm_free(team->members);
    dscm_free(team);
}

int dscm_team_size(const dscm_team *team)
{
    return team ? team->size : 1;
}

static void wait_for_members(dscm_team *team)
{
    for (int i = 0; i < team->spins; i++) {
        if (!atomic_load_explicit(&team->remaining, memory_order_acquire)) return;
        pause_cpu();
    }
    pthread_mutex_lock(&team->lock);
    atomic_store(&team->waiting, true);
    while (atomic_load(&team->remaining)) pthread_cond_wait(&team->done, &team->lock);
    atomic_store(&team->waiting, false);
    pthread_mutex_unlock(&team->lock);
}

void dscm_team_run(dscm_team *team, size_t count, void (*fn)(void *, size_t, int), void *arg)
{
    if (!team || team->size == 1 || count <= 1) {
        for (size_t i = 0; i < count; i++) fn(arg, i, 0);
        return;
    }
    team->fn = fn;
    team->arg = arg;
    team->count = count;
    atomic_store_explicit(&team->next, 0, memory_order_relaxed);
    atomic_store_explicit(&team->remaining, team->size - 1, memory_order_relaxed);
    announce(team);
    take_indices(team, 0);
    wait_for_members(team);
}
