#include "server/queue.h"

#include <string.h>

#include "core/base/memory.h"

/* A place in a line. Places come from one block taken when the queue opens, so that a push cannot
 * fail for want of memory. */
typedef struct place {
    dscm_job *job;
    struct place *next;
    uint64_t cost; /* at least 1 */
    bool is_long;
} place;

/* A long job that a taker holds; job NULL: an unused entry. */
typedef struct held {
    const dscm_job *job;
    char client[DSCM_OWNER_SIZE];
} held;

/* Turns are start-time fair queueing: the line with the least turn is next, and what its job costs is added.
 * The clock is the turn of the job that was taken last. A line begins as much after it as its first job
 * costs: clients that come anew again and again do not keep the others waiting, nor does one gain by
 * going between its jobs. */
typedef struct line {
    char client[DSCM_OWNER_SIZE];
    place *first, *last;
    size_t count;
    uint64_t turn, number; /* number: in the order of beginning, decides between equal turns */
    struct line *next, *previous; /* ring of lines that have jobs, by turn */
} line;

struct dscm_queue {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    place *places, *free_places; /* capacity */
    line *lines, *free_lines;    /* capacity: at most one line per job */
    line *turn;                  /* whose turn it is; NULL: empty */
    uint64_t clock, begun;       /* begun: lines so far */
    size_t capacity, share, depth, idle;
    bool closed;
    void (*on_idle)(void *arg); /* NULL: nobody asks */
    void *on_idle_arg;
    bool (*is_long)(void *arg, const dscm_job *job); /* NULL: no job is */
    void *is_long_arg;
    size_t long_most, takers;
    held *held; /* (takers) */
};

dscm_code dscm_queue_open(dscm_queue **out, size_t capacity, size_t share, dscm_error *err)
{
    dscm_queue *queue = dscm_alloc(1, sizeof *queue, "the queue", err);
    if (!queue) return DSCM_E_MEMORY;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->arrived, NULL);
    queue->capacity = capacity;
    queue->share = share ? share : 1;
    queue->places = dscm_alloc(capacity, sizeof *queue->places, "the queue", err);
    queue->lines = dscm_alloc(capacity, sizeof *queue->lines, "the queue", err);
    if (!queue->places || !queue->lines) {
        dscm_queue_free(queue);
        return DSCM_E_MEMORY;
    }
    for (size_t i = 0; i < capacity; i++) {
        queue->places[i].next = queue->free_places;
        queue->free_places = &queue->places[i];
        queue->lines[i].next = queue->free_lines;
        queue->free_lines = &queue->lines[i];
    }
    *out = queue;
    return DSCM_OK;
}

dscm_code dscm_queue_limit_long(dscm_queue *queue, bool (*is_long)(void *arg, const dscm_job *job),
                                void *arg, size_t most, size_t takers, dscm_error *err)
{
    queue->held = dscm_alloc(takers, sizeof *queue->held, "the queue", err);
    if (!queue->held) return DSCM_E_MEMORY;
    queue->is_long = is_long;
    queue->is_long_arg = arg;
    queue->long_most = most;
    queue->takers = takers;
    return DSCM_OK;
}

void dscm_queue_free(dscm_queue *queue)
{
    if (!queue) return;
    for (dscm_job *job; queue->lines && (job = dscm_queue_take_any(queue));) dscm_job_unref(job);
    pthread_mutex_destroy(&queue->lock);
    pthread_cond_destroy(&queue->arrived);
    dscm_free(queue->places);
    dscm_free(queue->lines);
    dscm_free(queue->held);
    dscm_free(queue);
}

static line *line_of(dscm_queue *queue, const char *client)
{
    line *l = queue->turn;
    do {
        if (l && strcmp(l->client, client) == 0) return l;
        if (l) l = l->next;
    } while (l && l != queue->turn);
    return NULL;
}

static bool goes_before(const line *a, const line *b)
{
    return a->turn != b->turn ? a->turn < b->turn : a->number < b->number;
}

static void ring_insert(dscm_queue *queue, line *l)
{
    line *first = queue->turn, *before = first ? first->previous : NULL;
    if (!first) {
        l->next = l->previous = l;
        queue->turn = l;
        return;
    }
    while (goes_before(l, before) && before != first) before = before->previous;
    if (goes_before(l, before)) { /* the first of all */
        queue->turn = l;
        before = before->previous;
    }
    l->previous = before;
    l->next = before->next;
    before->next = l->next->previous = l;
}

static void ring_remove(dscm_queue *queue, line *l)
{
    if (queue->turn == l) queue->turn = l->next == l ? NULL : l->next;
    l->previous->next = l->next;
    l->next->previous = l->previous;
}

/* After turns have changed. */
static void ring_sort(dscm_queue *queue)
{
    line *l = queue->turn;
    if (!l) return;
    l->previous->next = NULL;
    queue->turn = NULL;
    for (line *next; l; l = next) {
        next = l->next;
        ring_insert(queue, l);
    }
}

static line *line_add(dscm_queue *queue, const dscm_job *job, uint64_t cost)
{
    line *l = queue->free_lines;
    queue->free_lines = l->next;
    memset(l, 0, sizeof *l);
    memcpy(l->client, job->client, sizeof l->client);
    l->turn = queue->clock + cost;
    l->number = queue->begun++;
    ring_insert(queue, l);
    return l;
}

/* Takes the place after `before` (NULL: the first) out of a line; an empty line leaves the ring. */
static dscm_job *line_cut(dscm_queue *queue, line *l, place *before)
{
    place *p = before ? before->next : l->first;
    dscm_job *job = p->job;
    if (before)
        before->next = p->next;
    else
        l->first = p->next;
    if (l->last == p) l->last = before;
    p->next = queue->free_places;
    queue->free_places = p;
    queue->depth--;
    if (--l->count == 0) {
        ring_remove(queue, l);
        l->next = queue->free_lines;
        queue->free_lines = l;
    }
    return job;
}

/* The same for a job that is to run: the line's turn moves on, but not its place in the ring. */
static dscm_job *line_serve(dscm_queue *queue, line *l, place *before)
{
    const place *p = before ? before->next : l->first;
    if (l->turn < queue->clock)
        l->turn = queue->clock; /* it was kept waiting: that saves nothing */
    l->turn += p->cost;
    return line_cut(queue, l, before);
}

/* For a taker's own job: moves the clock and the line's place. */
static dscm_job *line_take(dscm_queue *queue, line *l, place *before)
{
    bool last = l->count == 1;
    if (queue->clock < l->turn) queue->clock = l->turn;
    dscm_job *job = line_serve(queue, l, before);
    if (last) return job;
    ring_remove(queue, l);
    ring_insert(queue, l);
    return job;
}

/* With the lock held; l: the client's line or NULL. */
static dscm_push_result room(const dscm_queue *queue, const line *l)
{
    if (queue->closed) return DSCM_QUEUE_CLOSED;
    if (queue->depth == queue->capacity) return DSCM_QUEUE_FULL;
    /* Two clients that fill their shares must not keep a third one out. */
    if (queue->share < queue->capacity && l &&
        queue->depth + dscm_queue_reserve(queue->capacity) >= queue->capacity &&
        l->count >= dscm_queue_few(queue->capacity))
        return DSCM_QUEUE_FULL;
    return l && l->count >= queue->share ? DSCM_SHARE_FULL : DSCM_PUSHED;
}

dscm_push_result dscm_queue_room(dscm_queue *queue, const char *client)
{
    pthread_mutex_lock(&queue->lock);
    dscm_push_result result = room(queue, line_of(queue, client));
    pthread_mutex_unlock(&queue->lock);
    return result;
}

/* With the lock held. */
static dscm_push_result push(dscm_queue *queue, dscm_job *job, void (*ready)(void *arg), void *arg)
{
    line *l = line_of(queue, job->client);
    dscm_push_result result = room(queue, l);
    if (result == DSCM_PUSHED) {
        if (ready) ready(arg);
        uint64_t cost = job->cost ? job->cost : 1;
        if (!l) l = line_add(queue, job, cost);
        place *p = queue->free_places;
        queue->free_places = p->next;
        *p = (place){job, NULL, cost, queue->is_long && queue->is_long(queue->is_long_arg, job)};
        if (l->last)
            l->last->next = p;
        else
            l->first = p;
        l->last = p;
        l->count++;
        queue->depth++;
        pthread_cond_signal(&queue->arrived);
    }
    return result;
}

dscm_push_result dscm_queue_push(dscm_queue *queue, dscm_job *job, void (*ready)(void *arg),
                                 void *arg)
{
    pthread_mutex_lock(&queue->lock);
    dscm_push_result result = push(queue, job, ready, arg);
    pthread_mutex_unlock(&queue->lock);
    return result;
}

size_t dscm_queue_push_all(dscm_queue *queue, dscm_job *const *jobs, size_t count)
{
    size_t pushed = 0;
    pthread_mutex_lock(&queue->lock);
    while (pushed < count && push(queue, jobs[pushed], NULL, NULL) == DSCM_PUSHED) pushed++;
    pthread_mutex_unlock(&queue->lock);
    return pushed;
}

/* With the lock held and a job inside. */
static dscm_job *take_next(dscm_queue *queue)
{
    return line_take(queue, queue->turn, NULL);
}

void dscm_queue_watch(dscm_queue *queue, void (*idle)(void *arg), void *arg)
{
    queue->on_idle = idle;
    queue->on_idle_arg = arg;
}

/* Whether another long job of the client may be taken. */
static bool long_fits(const dscm_queue *queue, const char *client)
{
    size_t count = 0;
    for (size_t i = 0; i < queue->takers; i++)
        count += queue->held[i].job && strcmp(queue->held[i].client, client) == 0;
    return count < queue->long_most;
}

static void hold(dscm_queue *queue, const dscm_job *job)
{
    size_t i = 0;
    while (i < queue->takers && queue->held[i].job) i++;
    if (i == queue->takers) return; /* more takers than were said: nobody is kept waiting */
    queue->held[i].job = job;
    memcpy(queue->held[i].client, job->client, sizeof job->client);
}

/* With the lock held: the first job in turn that may run; NULL: none of those inside. */
static dscm_job *take_runnable(dscm_queue *queue)
{
    if (!queue->depth) return NULL;
    if (!queue->is_long || queue->closed) return take_next(queue);
    line *l = queue->turn;
    do {
        bool fits = long_fits(queue, l->client);
        place *before = NULL, *p = l->first;
        while (p && p->is_long && !fits) before = p, p = p->next;
        if (p) {
            bool is_long = p->is_long;
            dscm_job *job = line_take(queue, l, before);
            if (is_long) hold(queue, job);
            return job;
        }
        l = l->next;
    } while (l != queue->turn);
    return NULL;
}

dscm_job *dscm_queue_take(dscm_queue *queue)
{
    dscm_job *job = NULL;
    pthread_mutex_lock(&queue->lock);
    queue->idle++;
    job = take_runnable(queue);
    if (!job && !queue->closed && queue->on_idle) queue->on_idle(queue->on_idle_arg);
    while (!job && !queue->closed) {
        pthread_cond_wait(&queue->arrived, &queue->lock);
        job = take_runnable(queue);
    }
    queue->idle--;
    pthread_mutex_unlock(&queue->lock);
    return job;
}

void dscm_queue_done(dscm_queue *queue, const dscm_job *job)
{
    pthread_mutex_lock(&queue->lock);
    for (size_t i = 0; i < queue->takers; i++)
        if (queue->held[i].job == job) {
            queue->held[i].job = NULL;
            pthread_cond_signal(&queue->arrived);
            break;
        }
    pthread_mutex_unlock(&queue->lock);
}

dscm_job *dscm_queue_take_any(dscm_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    dscm_job *job = queue->depth ? take_next(queue) : NULL;
    pthread_mutex_unlock(&queue->lock);
    return job;
}

/* With the lock held: jobs of a line that no taker may take now. */
static bool kept_waiting(const dscm_queue *queue, const line *l, const place *p)
{
    return p->is_long && !queue->closed && !long_fits(queue, l->client);
}

static size_t count_runnable(const dscm_queue *queue)
{
    size_t count = queue->depth;
    line *l = queue->is_long ? queue->turn : NULL;
    for (line *first = l; l; l = l->next == first ? NULL : l->next)
        for (place *p = l->first; p; p = p->next) count -= kept_waiting(queue, l, p);
    return count;
}

size_t dscm_queue_take_more(dscm_queue *queue, dscm_job **jobs, size_t max, size_t leave,
                            bool (*fits)(void *arg, const dscm_job *job), void *arg)
{
    size_t count = 0;
    pthread_mutex_lock(&queue->lock);
    size_t runnable = count_runnable(queue);
    /* One fitting job from each line in turn, until a whole round finds none. */
    for (bool found = true; found && count < max && queue->depth;) {
        found = false;
        line *l = queue->turn;
        size_t lines = 0;
        for (line *r = l; r && (lines == 0 || r != l); r = r->next) lines++;
        for (; lines && count < max; lines--) {
            line *next = l->next;
            place *before = NULL, *p = l->first;
            /* What idle takers could have is left to them. */
            while (p && !((runnable > leave || kept_waiting(queue, l, p)) && fits(arg, p->job)))
                before = p, p = p->next;
            if (p) {
                runnable -= !kept_waiting(queue, l, p);
                jobs[count++] = line_serve(queue, l, before);
                found = true;
            }
            l = next;
        }
    }
    ring_sort(queue);
    pthread_mutex_unlock(&queue->lock);
    return count;
}

/* The first job that `wanted` says yes to, taken out; NULL when there is none. */
static dscm_job *cut_first(dscm_queue *queue, const dscm_job *wanted, int64_t late_ms)
{
    line *l = queue->turn;
    do {
        place *before = NULL;
        for (place *p = l ? l->first : NULL; p; before = p, p = p->next)
            if (wanted ? p->job == wanted : p->job->deadline_ms <= late_ms)
                return line_cut(queue, l, before);
        if (l) l = l->next;
    } while (l && l != queue->turn);
    return NULL;
}

bool dscm_queue_remove(dscm_queue *queue, dscm_job *job)
{
    pthread_mutex_lock(&queue->lock);
    bool found = cut_first(queue, job, 0) != NULL;
    pthread_mutex_unlock(&queue->lock);
    return found;
}

dscm_job *dscm_queue_take_late(dscm_queue *queue, int64_t now_ms)
{
    pthread_mutex_lock(&queue->lock);
    dscm_job *job = cut_first(queue, NULL, now_ms);
    pthread_mutex_unlock(&queue->lock);
    return job;
}

void dscm_queue_close(dscm_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->arrived);
    pthread_mutex_unlock(&queue->lock);
}

size_t dscm_queue_depth(dscm_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    size_t depth = queue->depth;
    pthread_mutex_unlock(&queue->lock);
    return depth;
}

size_t dscm_queue_idle(dscm_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    size_t idle = queue->idle;
    pthread_mutex_unlock(&queue->lock);
    return idle;
}

/* Jobs of a line that are taken before one of `own` whose turn is `turn`. */
static size_t count_before(const dscm_queue *queue, const line *l, const line *own, uint64_t turn)
{
    size_t count = 0;
    uint64_t at = l->turn < queue->clock ? queue->clock : l->turn;
    for (const place *p = l->first; p; p = p->next, count++) {
        if (at > turn || (at == turn && l->number > own->number)) break;
        at += p->cost;
    }
    return count;
}

size_t dscm_queue_position(dscm_queue *queue, const dscm_job *job)
{
    size_t ahead = 0;
    pthread_mutex_lock(&queue->lock);
    line *own = line_of(queue, job->client);
    uint64_t turn = own && own->turn > queue->clock ? own->turn : queue->clock;
    const place *p = own ? own->first : NULL;
    for (; p && p->job != job; p = p->next) {
        turn += p->cost;
        ahead++;
    }
    if (!p) ahead = 0;
    for (const line *l = p ? own->next : own; l != own; l = l->next)
        ahead += count_before(queue, l, own, turn);
    pthread_mutex_unlock(&queue->lock);
    return ahead;
}
