#include "server/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/pictures.h"
#include "core/base/memory.h"
#include "server/batch.h"
#include "server/clock.h"

/* Events are not made more often, nor more than so many in a run that takes long; previews neither,
 * and those only while somebody looks. */
#define PROGRESS_MS   80
#define PREVIEW_MS    250
#define PROGRESS_MOST 250
#define PREVIEW_MOST  80
/* Pixels from which on a picture makes its job long: decoding holds a worker, too. */
#define LONG_PIXELS 1000000

const dscm_engine_calls dscm_engine_real = {dscm_session_open, dscm_session_free, dscm_run};

/* ---- payloads ---- */

static void task_free(void *data)
{
    dscm_task *task = data;
    dscm_request_free(task->request);
    dscm_quota_return(&task->bytes);
    dscm_quota_return(&task->cost);
    dscm_cache_entry_unref(task->cache, task->cached);
    dscm_free(task);
}

dscm_code dscm_task_make(dscm_payload *out, dscm_request *request, dscm_cache_entry *cached,
                         dscm_abduction_cache *cache, dscm_error *err)
{
    dscm_task *task = dscm_alloc(1, sizeof *task, "a task", err);
    if (!task) return DSCM_E_MEMORY;
    *task =
        (dscm_task){.work = request->work, .request = request, .cached = cached, .cache = cache};
    *out = (dscm_payload){task, task_free, sizeof *task + sizeof *request};
    return DSCM_OK;
}

dscm_code dscm_task_make_bare(dscm_payload *out, dscm_work work, dscm_error *err)
{
    dscm_task *task = dscm_alloc(1, sizeof *task, "a task", err);
    if (!task) return DSCM_E_MEMORY;
    task->work = work;
    *out = (dscm_payload){task, task_free, sizeof *task};
    return DSCM_OK;
}

void dscm_task_hand_away(dscm_job *job)
{
    dscm_task *task = job->task.data;
    dscm_request_free(task->request);
    dscm_quota_return(&task->bytes);
    dscm_cache_entry_unref(task->cache, task->cached);
    task->request = NULL;
    task->cached = NULL;
    dscm_job_shrink(job, sizeof *task);
}

void dscm_task_drop(dscm_job *job)
{
    dscm_task *task = job->task.data;
    dscm_task_hand_away(job);
    dscm_quota_return(&task->cost);
}

static void outcome_free(void *data)
{
    dscm_blob_unref(data);
}

dscm_payload dscm_outcome_payload(dscm_blob *outcome)
{
    return (dscm_payload){outcome, outcome_free, outcome->size};
}

static void abduction_free(void *data)
{
    dscm_abduction_free(data);
}

static const dscm_request *request_of(const dscm_job *job)
{
    return ((const dscm_task *)job->task.data)->request;
}

/* ---- a worker's state ---- */

typedef struct worker_state {
    dscm_engine *engine;
    dscm_session **sessions; /* by model; opened when first needed, the first at start */
} worker_state;

static dscm_code session_of(worker_state *state, size_t model, dscm_session **out, dscm_error *err)
{
    dscm_engine *engine = state->engine;
    dscm_code code = DSCM_OK;
    if (!state->sessions[model])
        code = engine->calls.session_open(&state->sessions[model],
                                          engine->catalogue->models[model].bundle, engine->batch,
                                          engine->threads, err);
    *out = state->sessions[model];
    return code;
}

static void engine_close(void *data)
{
    worker_state *state = data;
    if (!state) return;
    for (size_t i = 0; state->sessions && i < state->engine->catalogue->count; i++)
        state->engine->calls.session_free(state->sessions[i]);
    dscm_free(state->sessions);
    dscm_free(state);
}

static dscm_code engine_open(void *arg, void **out, dscm_error *err)
{
    dscm_engine *engine = arg;
    dscm_session *first;
    worker_state *state = dscm_alloc(1, sizeof *state, "a worker", err);
    if (!state) return DSCM_E_MEMORY;
    state->engine = engine;
    state->sessions =
        dscm_alloc(engine->catalogue->count, sizeof *state->sessions, "a worker", err);
    dscm_code code = state->sessions ? session_of(state, 0, &first, err) : DSCM_E_MEMORY;
    if (code != DSCM_OK) {
        engine_close(state);
        return code;
    }
    *out = state;
    return DSCM_OK;
}

bool dscm_engine_is_long(void *arg, const dscm_job *job)
{
    const dscm_engine *engine = arg;
    const dscm_task *task = job->task.data;
    if (!engine->long_cost) return false;
    return dscm_request_cost(task->request) > engine->long_cost ||
           task->request->file_pixels > LONG_PIXELS;
}

/* A long job would make those of a short one wait, and nobody count it. */
static bool engine_fits(void *arg, const dscm_job *first, const dscm_job *other)
{
    if (dscm_engine_is_long(arg, other) && !dscm_engine_is_long(arg, first)) return false;
    const dscm_task *a = first->task.data, *b = other->task.data;
    if (dscm_job_suspect(first) || dscm_job_suspect(other)) return false;
    return !a->cached && !b->cached && dscm_request_compatible(a->request, b->request);
}

static size_t engine_weight(void *arg, const dscm_job *job)
{
    (void)arg;
    const dscm_request *request = request_of(job);
    size_t images = request->work == DSCM_WORK_SAMPLE ? request->count : request->targets_count;
    return images ? images : 1;
}

/* ---- progress ---- */

typedef struct watch {
    dscm_job **jobs;
    size_t count;
    int64_t progress_ms, preview_ms;
} watch;

static void tell(watch *w, dscm_job *job, size_t item, const dscm_run_event *event, bool progress,
                 bool preview)
{
    char *data = progress ? dscm_event_progress(event) : NULL;
    bool go = dscm_job_progress(job, event->step, event->steps, DSCM_EVENT_PROGRESS, data);
    free(data);
    if (go && preview && event->preview && atomic_load(&job->readers) > 0) {
        data = dscm_event_preview(event, request_of(job)->info, item);
        go = dscm_job_progress(job, event->step, event->steps, DSCM_EVENT_PREVIEW, data);
        free(data);
        w->preview_ms = dscm_clock_ms();
    }
    if (!go) dscm_job_stopped(job); /* its client hears at once, though the batch may go on */
}

static int64_t pause_of(double length_ms, int64_t least, int most)
{
    double share = fmin(length_ms / most, 5000);
    return share > (double)least ? (int64_t)share : least;
}

/* A batch stops when nobody is left who wants it. */
static bool on_step(void *arg, const dscm_run_event *event)
{
    watch *w = arg;
    int64_t now = dscm_clock_ms();
    double length = event->elapsed_ms + (event->eta_ms > 0 ? event->eta_ms : 0);
    int64_t progress_pause = pause_of(length, PROGRESS_MS, PROGRESS_MOST);
    bool progress = now - w->progress_ms >= progress_pause || event->step == event->steps;
    bool preview = now - w->preview_ms >= pause_of(length, PREVIEW_MS, PREVIEW_MOST);
    bool wanted = false;
    for (size_t i = 0; i < w->count; i++) {
        dscm_job *job = w->jobs[i];
        if (job->deadline_ms <= now) dscm_job_cancel(job, DSCM_REASON_DEADLINE);
        tell(w, job, i, event, progress, preview);
        if (!atomic_load(&job->stop)) wanted = true;
    }
    if (progress) w->progress_ms = now;
    return wanted;
}

/* Asked between the layers of a network: a step of a large model takes seconds. */
static bool still_wanted(void *arg)
{
    watch *w = arg;
    int64_t now = dscm_clock_ms();
    bool wanted = false;
    for (size_t i = 0; i < w->count; i++) {
        dscm_job *job = w->jobs[i];
        if (job->deadline_ms <= now) dscm_job_cancel(job, DSCM_REASON_DEADLINE);
        if (atomic_load(&job->stop))
            dscm_job_stopped(job); /* its client hears at once, though the batch may go on */
        else
            wanted = true;
    }
    return wanted;
}

/* ---- ends ---- */

static void fail_with(dscm_job *job, const dscm_problem *problem)
{
    size_t size;
    char *data = dscm_problem_json(problem, NULL, NULL, &size);
    if (data) data[strcspn(data, "\n")] = 0; /* data of an event is one line */
    dscm_job_fail(job, problem, data);
    free(data);
}

static void fail_job(dscm_job *job, dscm_code code, const dscm_error *err)
{
    if (code == DSCM_E_CANCELED || atomic_load(&job->stop)) {
        dscm_job_cancel(job, DSCM_REASON_CLIENT); /* keeps an earlier reason */
        dscm_job_stopped(job);
        return;
    }
    dscm_problem problem = {0};
    dscm_problem_from_error(&problem, err);
    fail_with(job, &problem);
}

static char *reply_of(const dscm_engine *engine, dscm_job *job, const dscm_result *result,
                      const dscm_cache_entry *cached, size_t *size)
{
    dscm_reply_ids ids = {job->id, cached ? cached->id : NULL};
    const dscm_abduction *abduction = cached ? cached->value.data : NULL;
    switch (request_of(job)->work) {
    case DSCM_WORK_ABDUCTION:
        return dscm_reply_abduction(abduction, &ids, engine->abduction_age_s, size);
    case DSCM_WORK_SAMPLE:
        return dscm_reply_samples(result, &ids, size);
    default:
        return dscm_reply_counterfactual(result, abduction, &ids, size);
    }
}

/* Takes `result` and the reference `kept`. */
static void finish_job(const dscm_engine *engine, dscm_job *job, dscm_result *result,
                       dscm_cache_entry *cached)
{
    dscm_error err = {0};
    dscm_code code = DSCM_OK;
    size_t json_size = 0;
    if (result) {
        result->times.queue = (double)(job->started_us - job->created_us) * 1e-3;
        result->times.decode = request_of(job)->decode_ms;
        code = dscm_result_render(result, cached ? cached->value.data : NULL, &err);
    }
    char *json = code == DSCM_OK ? reply_of(engine, job, result, cached, &json_size) : NULL;
    dscm_cache_entry_unref(engine->cache, cached);
    dscm_blob *outcome = json ? dscm_outcome_pack(json, json_size, result) : NULL;
    dscm_result_free(result);
    if (!outcome) {
        free(json);
        if (code == DSCM_OK) code = dscm_fail(&err, DSCM_E_MEMORY, "no memory for the reply");
        fail_job(job, code, &err);
        return;
    }
    json[strcspn(json, "\n")] = 0; /* data of an event is one line */
    dscm_job_succeed(job, dscm_outcome_payload(outcome), json);
    free(json);
}

/* ---- running ---- */

/* To be freed; NULL without memory. */
static uint8_t *key_of(const dscm_request *request, size_t *size)
{
    *size = dscm_request_abduction_key(request, NULL, 0);
    uint8_t *key = malloc(*size ? *size : 1);
    if (key) dscm_request_abduction_key(request, key, *size);
    return key;
}

static void digest_of(const dscm_request *request, uint8_t digest[DSCM_DIGEST_SIZE], bool *made)
{
    size_t size;
    uint8_t *key = key_of(request, &size);
    *made = key != NULL;
    if (!key) return;
    dscm_crypto_digest(key, size, digest);
    free(key);
}

/* So that the abduction can be inferred again when the cache or the process has lost it. */
static void record_abduction(const dscm_engine *engine, const dscm_job *job,
                             const dscm_cache_entry *entry)
{
    size_t size;
    /* Nobody asks for those of a batch. */
    bool wanted = (engine->journal || engine->shared) && strcmp(job->owner, DSCM_BATCH_OWNER) != 0;
    uint8_t *key = wanted ? key_of(request_of(job), &size) : NULL;
    if (key && engine->journal)
        dscm_journal_keep_abduction(engine->journal, entry->id, job->owner, key, size);
    if (key && engine->shared)
        dscm_shared_keep_abduction(engine->shared, entry->id, job->owner, key, size);
    free(key);
}

/* Jobs that run now, each with the abduction it uses or is to fill. */
typedef struct batch {
    dscm_job *jobs[DSCM_BATCH_MAX];
    dscm_cache_entry
        *entries[DSCM_BATCH_MAX]; /* empty ones to be filled; NULL: given, or a sample */
    dscm_run_item items[DSCM_BATCH_MAX];
    size_t count;
} batch;

/* Gives item i its abduction: published in the cache entry, whose reference is returned. */
static dscm_cache_entry *publish(dscm_engine *engine, batch *l, size_t i)
{
    dscm_abduction *fresh = l->items[i].abduction;
    if (!fresh) return NULL; /* a sample */
    dscm_payload value = {fresh, abduction_free, dscm_abduction_bytes(fresh)};
    const dscm_task *task = l->jobs[i]->task.data;
    if (*task->abduction) memcpy(l->entries[i]->id, task->abduction, DSCM_ID_SIZE);
    record_abduction(engine, l->jobs[i], l->entries[i]);
    dscm_abduction_cache_publish(engine->cache, l->entries[i], value);
    return l->entries[i];
}

/* kept: what a single job runs with (its reference is taken), else NULL. */
static void run_batch(worker_state *state, batch *l, dscm_cache_entry *cached)
{
    dscm_engine *engine = state->engine;
    dscm_error err = {0};
    dscm_session *session;
    watch w = {l->jobs, l->count, dscm_clock_ms(), 0};
    dscm_run_progress progress = {on_step, &w, still_wanted};
    for (size_t i = 0; i < l->count; i++)
        l->items[i] = (dscm_run_item){.ask = dscm_request_case(request_of(l->jobs[i])),
                                      .cached = cached ? cached->value.data : NULL};
    size_t model = request_of(l->jobs[0])->model;
    dscm_code code = session_of(state, model, &session, &err);
    if (code == DSCM_OK)
        code = engine->calls.run(session, engine->catalogue->models[model].bundle, l->items,
                                 l->count, &progress, &err);
    for (size_t i = 0; i < l->count; i++) {
        if (code == DSCM_OK) {
            finish_job(engine, l->jobs[i], l->items[i].result,
                       cached ? cached : publish(engine, l, i));
            continue;
        }
        if (l->entries[i]) dscm_abduction_cache_abandon(engine->cache, l->entries[i]);
        dscm_cache_entry_unref(engine->cache, cached);
        fail_job(l->jobs[i], code, &err);
    }
    l->count = 0;
}

static void add_to_batch(batch *l, dscm_job *job, dscm_cache_entry *entry)
{
    l->jobs[l->count] = job;
    l->entries[l->count++] = entry;
}

/* Canceled, or its time is over, before anything was done for it. */
static bool ended_before(dscm_job *job)
{
    if (job->deadline_ms <= dscm_clock_ms()) dscm_job_cancel(job, DSCM_REASON_DEADLINE);
    if (!atomic_load(&job->stop)) return false;
    dscm_job_stopped(job);
    return true;
}

/* A job whose abduction the request names, or that has none. */
static bool ready_made(worker_state *state, dscm_job *job, batch *alone)
{
    dscm_task *task = job->task.data;
    dscm_cache_entry *cached = task->cached;
    if (!cached) return false;
    task->cached = NULL; /* its reference moves on to the reply */
    add_to_batch(alone, job, NULL);
    run_batch(state, alone, cached);
    return true;
}

static bool no_memory(dscm_job *job)
{
    dscm_error err = {0};
    fail_job(job, dscm_fail(&err, DSCM_E_MEMORY, "no memory to keep the abduction"), &err);
    return true;
}

/* Jobs that know their abduction; each runs alone. */
typedef struct hits {
    dscm_job *jobs[DSCM_BATCH_MAX];
    dscm_cache_entry *cached[DSCM_BATCH_MAX]; /* references */
    size_t count;
} hits;

static void run_hits(worker_state *state, hits *h)
{
    batch alone = {.count = 0};
    for (size_t i = 0; i < h->count; i++) {
        if (ended_before(h->jobs[i])) {
            dscm_cache_entry_unref(state->engine->cache, h->cached[i]);
            continue;
        }
        add_to_batch(&alone, h->jobs[i], NULL);
        run_batch(state, &alone, h->cached[i]);
    }
    h->count = 0;
}

/* Looks one job's abduction up. Misses join the batch. A hit waits until the batch has run, so that it
 * does not delay the jobs before it, and runs at once when there are none. False: it has to wait for
 * another's computation. Only the first of a batch may wait in here, since one that holds an empty
 * entry while waiting for another's could wait for ever. */
static bool place_job(worker_state *state, dscm_job *job, batch *l, hits *h)
{
    static const atomic_bool never_wait = true;
    dscm_engine *engine = state->engine;
    uint8_t digest[DSCM_DIGEST_SIZE];
    bool made = false;
    if (request_of(job)->work == DSCM_WORK_SAMPLE) {
        add_to_batch(l, job, NULL);
        return true;
    }
    digest_of(request_of(job), digest, &made);
    if (!made) return no_memory(job);
    dscm_cache_entry *entry;
    switch (dscm_abduction_cache_acquire(engine->cache, job->owner, digest,
                                         l->count ? &never_wait : &job->stop, job->deadline_ms,
                                         &entry)) {
    case DSCM_ACQUIRE_HIT:
        atomic_fetch_add(&engine->metrics->cache_hits, 1);
        h->jobs[h->count] = job;
        h->cached[h->count++] = entry;
        if (engine->shared) record_abduction(engine, job, entry); /* its time there runs anew */
        if (!l->count) run_hits(state, h);
        return true;
    case DSCM_ACQUIRE_MISS:
        atomic_fetch_add(&engine->metrics->cache_misses, 1);
        add_to_batch(l, job, entry);
        return true;
    case DSCM_ACQUIRE_FAILED:
        return no_memory(job);
    case DSCM_ACQUIRE_STOPPED:
        break;
    }
    return ended_before(job);
}

/* Decodes the pictures, which HTTP threads must not do. Returns the jobs that go on. */
static size_t decode_pictures(dscm_job **jobs, size_t count, dscm_job **out)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        dscm_task *task = jobs[i]->task.data;
        dscm_problem problem = {0};
        if (ended_before(jobs[i])) continue;
        if (!dscm_request_decode(task->request, &problem)) {
            fail_with(jobs[i], &problem);
            continue;
        }
        dscm_quota_return(&task->bytes);
        out[left++] = jobs[i];
    }
    return left;
}

static void engine_run(void *data, dscm_job **jobs, size_t count)
{
    worker_state *state = data;
    batch l = {.count = 0}, alone = {.count = 0};
    hits h = {.count = 0};
    dscm_job *pending[DSCM_BATCH_MAX];
    size_t pending_count = decode_pictures(jobs, count, pending);
    while (pending_count) {
        size_t left = 0;
        for (size_t i = 0; i < pending_count; i++) {
            dscm_job *job = pending[i];
            if (!ended_before(job) && !ready_made(state, job, &alone) &&
                !place_job(state, job, &l, &h))
                pending[left++] = job;
        }
        if (l.count) run_batch(state, &l, NULL);
        run_hits(state, &h);
        pending_count = left;
    }
}

static void engine_starting(void *arg, dscm_job *const *jobs, size_t count)
{
    const dscm_engine *engine = arg;
    if (engine->journal) dscm_journal_start(engine->journal, jobs, count);
    if (engine->shared) dscm_shared_start(engine->shared, jobs, count);
}

dscm_job_runner dscm_engine_runner(dscm_engine *engine)
{
    return (dscm_job_runner){.arg = engine,
                             .open = engine_open,
                             .close = engine_close,
                             .fits = engine_fits,
                             .weight = engine_weight,
                             .starting = engine_starting,
                             .run = engine_run,
                             .drop = dscm_task_drop};
}
