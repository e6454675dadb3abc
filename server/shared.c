#include "server/shared_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "server/clock.h"
#include "server/shared_script.h"

#define ROUND_MAX   64   /* operations sent before their answers are read */
#define RETRY_MS    200  /* between attempts while Redis is away or refuses */
#define PENDING_MAX 4096 /* from which progress is left out */
#define CLOSE_MS    3000
#define LATER_MS    60000  /* for what nobody waits for */
#define FINISH_MS   600000 /* for results */

/* ---- operations ---- */

dscm_shared_op *dscm_shared_op_make_(shared_kind kind, dscm_job *job, const char *id)
{
    static const int patience[] = {[OP_CANCEL] = LATER_MS,
                                   [OP_START] = LATER_MS,
                                   [OP_FINISH] = FINISH_MS,
                                   [OP_RELEASE] = LATER_MS,
                                   [OP_DROP] = 0};
    dscm_shared_op *op = dscm_alloc(1, sizeof *op, "an operation of the store", NULL);
    if (!op) return NULL;
    op->kind = kind;
    op->job = job ? dscm_job_ref(job) : NULL;
    snprintf(op->id, sizeof op->id, "%s", id ? id : job->id);
    if (patience[kind]) op->until_ms = dscm_clock_ms() + patience[kind];
    return op;
}

void dscm_shared_op_free(dscm_shared_op *op)
{
    if (!op) return;
    dscm_job_unref(op->job);
    dscm_job_unref(op->ticket);
    dscm_blob_unref(op->blob);
    dscm_blob_unref(op->problem);
    dscm_free(op->data);
    dscm_free(op);
}

void dscm_shared_enqueue_(dscm_shared *shared, dscm_shared_op *op)
{
    /* Somebody waits for the others, and is told when the store is away. */
    if (!op->until_ms) op->until_ms = dscm_clock_ms() + shared->service->settings.store_ms;
    pthread_mutex_lock(&shared->lock);
    bool dropped = op->kind == OP_EVENT && shared->figures.pending > PENDING_MAX;
    if (!dropped) {
        if (shared->last)
            shared->last->next = op;
        else
            shared->first = op;
        shared->last = op;
        shared->figures.pending++;
        pthread_cond_signal(&shared->arrived);
    }
    pthread_mutex_unlock(&shared->lock);
    if (dropped) dscm_shared_op_free(op);
}

/* ---- connections ---- */

dscm_code dscm_shared_connect_(dscm_shared *shared, dscm_redis **out, dscm_error *err)
{
    dscm_redis *redis;
    dscm_code code = dscm_redis_open(&redis, &shared->address, dscm_shared_io_ms_(shared), err);
    if (code != DSCM_OK) return code;
    dscm_script_id script = {""};
    code = dscm_shared_script_load(redis, &script, err);
    if (code == DSCM_OK && !shared->script.text[0]) shared->script = script;
    if (code == DSCM_OK)
        *out = redis;
    else
        dscm_redis_close(redis);
    return code;
}

bool dscm_shared_send_(dscm_shared *shared, dscm_redis *redis, const char *operation,
                       const dscm_span *args, size_t count)
{
    return dscm_shared_script_send(redis, &shared->script, operation, args, count);
}

void dscm_shared_note_(dscm_shared *shared, const char *why)
{
    dscm_log *log = &shared->service->log;
    pthread_mutex_lock(&shared->lock);
    bool news = shared->troubled != (why != NULL);
    shared->troubled = why != NULL;
    shared->figures.connected = why == NULL;
    if (why) shared->figures.failures++;
    pthread_mutex_unlock(&shared->lock);
    if (news && why)
        dscm_log_message(log, DSCM_LOG_ERROR, "store", "cannot use the store: %s", why);
    if (news && !why) dscm_log_message(log, DSCM_LOG_INFO, "store", "the store works again");
}

/* ---- the thread that writes ---- */

/* What waited too long is given up. */
static void expire(dscm_shared *shared, dscm_shared_op **list, bool all, const char *why)
{
    int64_t now = dscm_clock_ms();
    for (dscm_shared_op **link = list; *link;) {
        dscm_shared_op *op = *link;
        if (!all && op->until_ms > now) {
            link = &op->next;
            continue;
        }
        *link = op->next;
        dscm_shared_settle_(shared, op, NULL, why);
    }
}

static size_t send_round(dscm_shared *shared, dscm_redis *redis, dscm_shared_op *list)
{
    dscm_span args[DSCM_SHARED_ARGS];
    size_t sent = 0, count;
    for (dscm_shared_op *op = list; op && sent < ROUND_MAX; op = op->next) {
        const char *operation = dscm_shared_encode_(shared, op, args, &count);
        if (!dscm_shared_send_(shared, redis, operation, args, count)) break;
        op->sent = true;
        sent++;
    }
    return sent;
}

/* A round: false when the connection failed. What is to be tried again stays in the list. */
static bool write_round(dscm_shared *shared, dscm_redis *redis, dscm_shared_op **list,
                        bool *refused)
{
    int64_t start = dscm_clock_us();
    size_t sent = send_round(shared, redis, *list);
    dscm_shared_op **link = list;
    for (size_t i = 0; i < sent; i++) {
        dscm_redis_reply *reply = dscm_redis_receive(redis);
        const char *failure = reply ? dscm_redis_failure(reply) : NULL;
        if (!reply || (failure && strncmp(failure, "NOSCRIPT", 8) == 0)) {
            dscm_shared_note_(shared, failure ? failure : dscm_redis_error(redis));
            dscm_redis_reply_free(reply);
            return false;
        }
        dscm_shared_op *op = *link;
        if (failure) dscm_shared_note_(shared, failure);
        if (failure && dscm_shared_again_(op, failure)) {
            *refused = true;
            link = &op->next;
        } else {
            *link = op->next;
            dscm_shared_settle_(shared, op, failure ? NULL : reply, failure);
        }
        dscm_redis_reply_free(reply);
    }
    double took = (double)(dscm_clock_us() - start);
    pthread_mutex_lock(&shared->lock);
    double before = shared->figures.answer_us;
    shared->figures.answer_us = before > 0 ? before + (took - before) / 8 : took;
    shared->figures.operations += sent;
    pthread_mutex_unlock(&shared->lock);
    return sent > 0 || !*list;
}

/* Moves what arrived behind what is left; waits for something when there is nothing, or for the next
 * attempt. Returns false when the thread is to end. */
static bool collect(dscm_shared *shared, dscm_shared_op **list, bool pause)
{
    int64_t until = dscm_clock_ms() + RETRY_MS;
    struct timespec time = {until / 1000, until % 1000 * 1000000};
    pthread_mutex_lock(&shared->lock);
    while (pause && dscm_clock_ms() < until)
        pthread_cond_timedwait(&shared->arrived, &shared->lock, &time);
    while (!*list && !shared->first && !shared->stop)
        pthread_cond_wait(&shared->arrived, &shared->lock);
    dscm_shared_op **end = list;
    size_t count = 0;
    for (; *end; end = &(*end)->next) count++;
    *end = shared->first;
    for (; *end; end = &(*end)->next) count++;
    shared->first = shared->last = NULL;
    shared->figures.pending = count;
    bool over = shared->stop && (!*list || dscm_clock_ms() >= shared->stop_ms);
    pthread_mutex_unlock(&shared->lock);
    return !over;
}

static void *write_loop(void *arg)
{
    dscm_shared *shared = arg;
    dscm_shared_op *list = NULL;
    dscm_redis *redis = NULL;
    bool pause = false;
    while (collect(shared, &list, pause)) {
        dscm_error err = {0};
        pause = false;
        if (!redis && dscm_shared_connect_(shared, &redis, &err) != DSCM_OK) {
            dscm_shared_note_(shared, err.message);
            pause = true;
        } else if (!write_round(shared, redis, &list, &pause)) {
            dscm_redis_close(redis);
            redis = NULL;
            pause = list != NULL;
        } else if (!pause) {
            dscm_shared_note_(shared, NULL);
        }
        if (pause) expire(shared, &list, false, "the store does not answer");
    }
    expire(shared, &list, true, "the service is being stopped");
    dscm_redis_close(redis);
    return NULL;
}

/* ---- what jobs say ---- */

static void job_event(void *arg, dscm_job *job, uint64_t id, dscm_event_kind kind, const char *data)
{
    dscm_shared *shared = arg;
    dscm_shared_op *op = dscm_shared_op_make_(OP_EVENT, job, NULL);
    if (!op) return; /* progress is not worth failing for */
    op->data = dscm_strdup(data, NULL);
    op->event = kind;
    op->number = id;
    (void)dscm_job_peek(job, &op->step, &op->steps, NULL);
    if (op->data)
        dscm_shared_enqueue_(shared, op);
    else
        dscm_shared_op_free(op);
}

static void job_end(void *arg, dscm_job *job, const dscm_job_end *end)
{
    dscm_shared *shared = arg;
    dscm_shared_op *op = dscm_shared_op_make_(OP_FINISH, job, NULL);
    if (op && end->problem) op->problem = dscm_shared_problem_pack_(end->problem);
    if (!op) { /* the claim runs out, and another one runs the job again */
        dscm_job_end_free(end);
        dscm_shared_lost_(shared, job);
        return;
    }
    op->end = *end;
    pthread_mutex_lock(&job->lock);
    op->number = job->last_event + 1;
    pthread_mutex_unlock(&job->lock);
    dscm_shared_enqueue_(shared, op);
}

static void job_release(void *arg, dscm_job *job)
{
    dscm_shared_op *op = dscm_shared_op_make_(OP_RELEASE, job, NULL);
    if (op) dscm_shared_enqueue_(arg, op); /* else its claim runs out */
}

/* ---- opening and closing ---- */

static void init_locks(dscm_shared *shared)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&shared->lock, NULL);
    pthread_mutex_init(&shared->claims_lock, NULL);
    pthread_mutex_init(&shared->keeper_lock, NULL);
    pthread_mutex_init(&shared->claiming_lock, NULL);
    pthread_cond_init(&shared->arrived, &attributes);
    pthread_cond_init(&shared->started, &attributes);
    pthread_cond_init(&shared->keeper_wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

static dscm_code start_thread(pthread_t *thread, bool *started, void *(*run)(void *), void *arg,
                              dscm_error *err)
{
    int failure = pthread_create(thread, NULL, run, arg);
    *started = failure == 0;
    if (*started) return DSCM_OK;
    return dscm_fail(err, DSCM_E_SYSTEM, "cannot start a thread of the store: %s",
                     strerror(failure));
}

/* HOST:PID:RANDOM: never the name of an earlier process. */
static dscm_code name_worker(dscm_shared *shared, dscm_error *err)
{
    char random[DSCM_ID_SIZE], host[24] = "";
    dscm_code code = dscm_crypto_id(random, err);
    if (code != DSCM_OK) return code;
    (void)gethostname(host, sizeof host - 1);
    snprintf(shared->worker, sizeof shared->worker, "%s:%ld:%.8s", host, (long)getpid(), random);
    return DSCM_OK;
}

dscm_code dscm_shared_open(dscm_shared **out, dscm_service *service, dscm_error *err)
{
    dscm_shared *shared = dscm_alloc(1, sizeof *shared, "the store", err);
    dscm_redis *redis = NULL;
    if (!shared) return DSCM_E_MEMORY;
    shared->service = service;
    shared->sink =
        (dscm_job_sink){.end = job_end, .release = job_release, .event = job_event, .arg = shared};
    init_locks(shared);
    shared->ending_fd = eventfd(0, EFD_CLOEXEC);
    dscm_code code = DSCM_OK;
    if (shared->ending_fd < 0)
        code = dscm_fail(err, DSCM_E_SYSTEM, "store: eventfd: %s", strerror(errno));
    if (code == DSCM_OK) code = dscm_redis_parse(&shared->address, service->settings.store, err);
    if (code == DSCM_OK)
        code = dscm_redis_password(&shared->address, service->settings.store_password_file, err);
    if (code == DSCM_OK) code = name_worker(shared, err);
    if (code == DSCM_OK) code = dscm_shared_connect_(shared, &redis, err);
    dscm_redis_close(redis);
    shared->figures.connected = true;
    if (code == DSCM_OK)
        code = start_thread(&shared->writer, &shared->writing, write_loop, shared, err);
    if (code == DSCM_OK)
        code =
            start_thread(&shared->listener, &shared->listening, dscm_shared_listen_, shared, err);
    if (code != DSCM_OK) {
        dscm_shared_free(shared);
        return code;
    }
    *out = shared;
    return DSCM_OK;
}

dscm_code dscm_shared_begin(dscm_shared *shared, dscm_error *err)
{
    dscm_redis *redis;
    atomic_store(&shared->claiming, shared->service->pool != NULL);
    dscm_code code = dscm_shared_connect_(shared, &redis, err);
    if (code != DSCM_OK) return code;
    bool ok = dscm_shared_register_(shared, redis);
    dscm_redis_close(redis);
    if (!ok) return dscm_fail(err, DSCM_E_IO, "store: it does not take changes");
    return start_thread(&shared->keeper, &shared->keeping, dscm_shared_keep_, shared, err);
}

void dscm_shared_free(dscm_shared *shared)
{
    if (!shared) return;
    pthread_mutex_lock(&shared->lock);
    shared->stop = true;
    shared->stop_ms = dscm_clock_ms() + CLOSE_MS;
    pthread_cond_signal(&shared->arrived);
    pthread_mutex_unlock(&shared->lock);
    if (shared->writing) pthread_join(shared->writer, NULL);
    atomic_store(&shared->ending, true);
    if (shared->ending_fd >= 0) (void)eventfd_write(shared->ending_fd, 1);
    dscm_shared_wake_(shared, false);
    if (shared->keeping) pthread_join(shared->keeper, NULL);
    if (shared->listening) pthread_join(shared->listener, NULL);
    while (shared->first) { /* what the other threads said last */
        dscm_shared_op *op = shared->first;
        shared->first = op->next;
        dscm_shared_settle_(shared, op, NULL, "the service is being stopped");
    }
    shared->last = NULL;
    while (shared->claims) dscm_shared_unclaim_(shared, shared->claims->job);
    pthread_mutex_destroy(&shared->lock);
    pthread_mutex_destroy(&shared->claims_lock);
    pthread_mutex_destroy(&shared->keeper_lock);
    pthread_mutex_destroy(&shared->claiming_lock);
    pthread_cond_destroy(&shared->arrived);
    pthread_cond_destroy(&shared->started);
    pthread_cond_destroy(&shared->keeper_wake);
    if (shared->ending_fd >= 0) close(shared->ending_fd);
    dscm_free(shared);
}

void dscm_shared_count(dscm_shared *shared, dscm_shared_figures *out)
{
    pthread_mutex_lock(&shared->lock);
    *out = shared->figures;
    pthread_mutex_unlock(&shared->lock);
}
