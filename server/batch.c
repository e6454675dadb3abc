#include "server/batch.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/memory.h"
#include "server/clock.h"
#include "server/outcome.h"
#include "server/queue.h"
#include "server/shared_script.h"

#define WINDOW    256  /* jobs sent and not taken yet */
#define ROUND     32   /* of one exchange with the store */
#define TRIES_MAX 5    /* times that an item is sent again after its job was lost or canceled */
#define IO_MS     5000 /* that Redis may take for an answer */
#define PAUSE_MS  500  /* between attempts while the store is away */
#define NAP_MS    20   /* while nothing ends; up to five times as long */

typedef struct slot {
    size_t index;
    char id[DSCM_ID_SIZE];
    bool sent;
    int tries;
} slot;

typedef struct batch {
    const dscm_batch_options *options;
    const dscm_batch_calls *calls;
    dscm_redis_address address;
    dscm_redis *redis; /* NULL: not connected */
    dscm_script_id script;
    slot slots[WINDOW];
    size_t slots_count, next, count;
    int64_t answered_ms, worked_ms; /* when the store answered last, when a worker was there */
    bool told;
} batch;

void dscm_batch_id(const dscm_blob *request, char out[DSCM_ID_SIZE])
{
    uint8_t digest[DSCM_DIGEST_SIZE];
    dscm_crypto_digest(request->bytes, request->size, digest);
    for (size_t i = 0; i + 1 < DSCM_ID_SIZE; i += 2) snprintf(out + i, 3, "%02x", digest[i / 2]);
}

static void nap(int64_t ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* ---- waiting for what is away ---- */

/* Notes that nothing goes on; an error once that lasts longer than the patience, since `since_ms`. */
static dscm_code wait_for(batch *b, int64_t since_ms, const char *why, dscm_error *err)
{
    if (dscm_clock_ms() - since_ms > b->options->patience_s * 1000)
        return dscm_fail(err, DSCM_E_IO, "%s, for %ld s; the same command goes on from here later",
                         why, b->options->patience_s);
    if (!b->told) b->calls->tell(b->calls->arg, why);
    b->told = true;
    nap(PAUSE_MS);
    return DSCM_OK;
}

static void goes_on(batch *b)
{
    if (b->told) b->calls->tell(b->calls->arg, NULL);
    b->told = false;
}

static dscm_code connection(batch *b, dscm_error *err)
{
    dscm_error why = {0};
    if (b->redis) return DSCM_OK;
    dscm_code code = dscm_redis_open(&b->redis, &b->address, IO_MS, &why);
    if (code == DSCM_OK) code = dscm_shared_script_load(b->redis, &b->script, &why);
    if (code == DSCM_OK) return DSCM_OK;
    dscm_redis_close(b->redis);
    b->redis = NULL;
    return wait_for(b, b->answered_ms, why.message, err);
}

/* What an answer is worth: true when it can be read. Else the connection may be closed, and the caller
 * tries again; *code tells when the patience is over. */
static bool answered(batch *b, dscm_redis_reply *reply, dscm_code *code, dscm_error *err)
{
    char why[DSCM_MESSAGE_MAX];
    const char *failure = reply ? dscm_redis_failure(reply) : dscm_redis_error(b->redis);
    if (!failure) {
        b->answered_ms = dscm_clock_ms();
        return true;
    }
    snprintf(why, sizeof why, "store: %.200s", failure);
    if (!reply || strncmp(failure, "NOSCRIPT", 8) == 0) {
        dscm_redis_close(b->redis);
        b->redis = NULL;
    }
    *code = wait_for(b, b->answered_ms, why, err);
    return false;
}

/* ---- sending ---- */

static dscm_code fill(batch *b, dscm_error *err)
{
    while (b->slots_count < WINDOW && b->next < b->count) {
        dscm_blob *request = NULL;
        size_t index = b->next++;
        if (b->calls->done(b->calls->arg, index)) continue;
        dscm_code code = b->calls->ask(b->calls->arg, index, &request, err);
        if (code != DSCM_OK) return code;
        slot *s = &b->slots[b->slots_count++];
        *s = (slot){.index = index};
        dscm_batch_id(request, s->id);
        dscm_blob_unref(request);
    }
    return DSCM_OK;
}

/* One acceptance; the request stays with the connection until it is answered. */
static dscm_code send_one(batch *b, const slot *s, dscm_error *err)
{
    dscm_blob *request = NULL;
    char capacity[24], share[24], age[24], reserve[24], few[24], cost[24];
    size_t places = (size_t)b->options->capacity;
    dscm_code code = b->calls->ask(b->calls->arg, s->index, &request, err);
    if (code != DSCM_OK) return code;
    snprintf(capacity, sizeof capacity, "%ld", b->options->capacity);
    snprintf(share, sizeof share, "%ld", b->options->share);
    snprintf(age, sizeof age, "%ld", b->options->age_s);
    snprintf(reserve, sizeof reserve, "%zu",
             b->options->share < b->options->capacity ? dscm_queue_reserve(places) : 0);
    snprintf(few, sizeof few, "%zu", dscm_queue_few(places));
    snprintf(cost, sizeof cost, "%zu", b->calls->cost(b->calls->arg, s->index));
    /* As op.accept of shared.lua has them. */
    const dscm_span args[] = {dscm_span_text(s->id),
                              dscm_span_text(DSCM_BATCH_OWNER),
                              dscm_span_text(DSCM_BATCH_OWNER),
                              dscm_span_text(b->options->model),
                              dscm_span_text("0"),
                              dscm_span_text(""),
                              dscm_span_text("1"),
                              dscm_span_text(""),
                              dscm_span_of(request->bytes, request->size),
                              dscm_span_text(""),
                              dscm_span_text(""),
                              dscm_span_text(capacity),
                              dscm_span_text(share),
                              dscm_span_text(age),
                              dscm_span_text(reserve),
                              dscm_span_text(few),
                              dscm_span_text(cost),
                              dscm_span_text("0")}; /* of batches no limit but their share */
    if (!dscm_shared_script_send(b->redis, &b->script, "accept", args, sizeof args / sizeof *args))
        code = dscm_fail(err, DSCM_E_MEMORY, "no memory for a job");
    dscm_blob_unref(request);
    return code;
}

/* Sends some of what was not sent. *held: the queue has no room at present. */
static dscm_code send_some(batch *b, bool *held, dscm_error *err)
{
    slot *round[ROUND];
    size_t count = 0;
    bool worker = true, broken = false;
    dscm_code code = DSCM_OK;
    for (size_t i = 0; i < b->slots_count && count < ROUND && code == DSCM_OK; i++)
        if (!b->slots[i].sent) {
            code = send_one(b, &b->slots[i], err);
            round[count++] = &b->slots[i];
        }
    for (size_t i = 0; i < count && code == DSCM_OK && !broken; i++) {
        dscm_redis_reply *reply = dscm_redis_receive(b->redis);
        broken = !answered(b, reply, &code, err) && !b->redis;
        const char *word = broken ? "" : dscm_redis_text(reply, 0);
        round[i]->sent = strcmp(word, "ok") == 0;
        *held = *held || strcmp(word, "full") == 0 || strcmp(word, "share") == 0;
        worker = worker && strcmp(word, "no-worker") != 0;
        dscm_redis_reply_free(reply);
    }
    if (code != DSCM_OK || broken || !count) return code;
    if (worker) {
        b->worked_ms = dscm_clock_ms();
        goes_on(b);
        return DSCM_OK;
    }
    *held = true;
    char why[DSCM_MESSAGE_MAX];
    snprintf(why, sizeof why, "no worker runs the bundle with SHA-256 %s", b->options->model);
    return wait_for(b, b->worked_ms, why, err);
}

/* ---- collecting ---- */

static dscm_code failed(const slot *s, const dscm_redis_reply *reply, dscm_error *err)
{
    dscm_span packed = dscm_redis_bytes(dscm_redis_at(reply, 4));
    const char *code = dscm_redis_text(reply, 2), *detail = dscm_redis_text(reply, 3);
    if (!*code && dscm_blob_valid(packed.data, packed.size) &&
        dscm_blob_count_in(packed.data) > 1) {
        code = dscm_blob_field_in(packed.data, 0).data;
        detail = dscm_blob_field_in(packed.data, 1).data;
    }
    return dscm_fail(err, DSCM_E_SYSTEM, "image %zu: %s: %s", s->index, code, detail);
}

/* Whether the item's job has to be sent again: the store lost it, somebody canceled it, or its workers
 * went away. */
static bool lost(const dscm_redis_reply *reply)
{
    const char *word = dscm_redis_text(reply, 0);
    return strcmp(word, "none") == 0 || strcmp(word, "canceled") == 0 ||
           (strcmp(word, "failed") == 0 && strcmp(dscm_redis_text(reply, 2), "no-worker") == 0);
}

static dscm_code take_outcome(batch *b, const slot *s, const dscm_redis_reply *reply,
                              dscm_error *err)
{
    dscm_span result = dscm_redis_bytes(dscm_redis_at(reply, 1));
    if (!dscm_outcome_valid(result.data, result.size))
        return dscm_fail(err, DSCM_E_FORMAT, "image %zu: the stored result cannot be read",
                         s->index);
    dscm_blob *outcome = dscm_blob_copy(result.data, result.size);
    if (!outcome) return dscm_fail(err, DSCM_E_MEMORY, "no memory for a result");
    dscm_code code = b->calls->take(b->calls->arg, s->index, outcome, err);
    dscm_blob_unref(outcome);
    return code;
}

/* What became of the job of one slot; *over: the store may forget it. *taken: the slot is free. */
static dscm_code settle(batch *b, slot *s, const dscm_redis_reply *reply, bool *over, bool *taken,
                        dscm_error *err)
{
    const char *word = dscm_redis_text(reply, 0);
    *over = *taken = false;
    if (strcmp(word, "succeeded") == 0) {
        *over = *taken = true;
        return take_outcome(b, s, reply, err);
    }
    if (!lost(reply) && strcmp(word, "failed") != 0) return DSCM_OK;
    *over = true;
    if (!lost(reply)) return failed(s, reply, err);
    s->sent = false;
    if (++s->tries > TRIES_MAX)
        return dscm_fail(err, DSCM_E_SYSTEM, "image %zu: its job was lost or canceled %d times",
                         s->index, s->tries);
    return DSCM_OK;
}

/* A call for jobs named by their ids. NULL: no answer; *code as in answered(). */
static dscm_redis_reply *call(batch *b, const char *operation, const char (*ids)[DSCM_ID_SIZE],
                              size_t count, dscm_code *code, dscm_error *err)
{
    dscm_span args[ROUND + 1] = {dscm_span_text(DSCM_BATCH_OWNER)};
    for (size_t i = 0; i < count; i++) args[i + 1] = dscm_span_text(ids[i]);
    bool sent = dscm_shared_script_send(b->redis, &b->script, operation, args, count + 1);
    dscm_redis_reply *reply = sent ? dscm_redis_receive(b->redis) : NULL;
    if (answered(b, reply, code, err)) return reply;
    dscm_redis_reply_free(reply);
    return NULL;
}

/* Asks for up to ROUND slots from `first` on that were sent. *ended counts those that had an end. */
static dscm_code collect_some(batch *b, size_t *first, size_t *ended, dscm_error *err)
{
    char ids[ROUND][DSCM_ID_SIZE], over[ROUND][DSCM_ID_SIZE];
    size_t which[ROUND], count = 0, overs = 0, i = *first;
    dscm_code code = DSCM_OK, kept = DSCM_OK;
    for (; i < b->slots_count && count < ROUND; i++)
        if (b->slots[i].sent) {
            memcpy(ids[count], b->slots[i].id, DSCM_ID_SIZE);
            which[count++] = i;
        }
    *first = i;
    if (!count) return DSCM_OK;
    dscm_redis_reply *reply = call(b, "collect", ids, count, &code, err);
    for (size_t k = count; reply && k-- > 0 && code == DSCM_OK;) { /* slots close up behind it */
        bool done, taken;
        slot *s = &b->slots[which[k]];
        code = settle(b, s, dscm_redis_at(reply, k), &done, &taken, err);
        if (done) memcpy(over[overs++], s->id, DSCM_ID_SIZE);
        if (taken) memmove(s, s + 1, (size_t)(b->slots + --b->slots_count - s) * sizeof *s);
        *first -= taken;
    }
    dscm_redis_reply_free(reply);
    *ended += overs;
    if (overs) kept = b->calls->keep(b->calls->arg, code == DSCM_OK ? err : NULL);
    if (overs && kept == DSCM_OK && b->redis) {
        dscm_code later = DSCM_OK; /* what is not forgotten now expires */
        dscm_redis_reply_free(call(b, "forget", over, overs, &later, NULL));
    }
    return code == DSCM_OK ? kept : code;
}

static dscm_code collect(batch *b, size_t *ended, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    for (size_t first = 0; code == DSCM_OK && b->redis && first < b->slots_count;)
        code = collect_some(b, &first, ended, err);
    return code;
}

/* ---- the whole ---- */

/* The user wants no more: what has not ended is canceled. */
static void cancel_all(batch *b)
{
    char age[24];
    size_t sent = 0;
    snprintf(age, sizeof age, "%ld", b->options->age_s);
    for (size_t i = 0; i < b->slots_count && b->redis; i++) {
        dscm_span args[] = {dscm_span_text(b->slots[i].id), dscm_span_text("client"),
                            dscm_span_text(age)};
        sent +=
            b->slots[i].sent && dscm_shared_script_send(b->redis, &b->script, "cancel", args, 3);
    }
    for (dscm_redis_reply *reply; sent && (reply = dscm_redis_receive(b->redis)); sent--)
        dscm_redis_reply_free(reply);
}

static dscm_code step(batch *b, int64_t *pause_ms, dscm_error *err)
{
    bool held = false;
    size_t ended = 0, unsent = 0;
    dscm_code code = fill(b, err);
    if (code == DSCM_OK) code = connection(b, err);
    if (code != DSCM_OK || !b->redis) return code;
    code = send_some(b, &held, err);
    if (code == DSCM_OK && b->redis) code = collect(b, &ended, err);
    for (size_t i = 0; i < b->slots_count; i++) unsent += !b->slots[i].sent;
    bool idle = !ended && (held || !unsent);
    *pause_ms = !idle ? NAP_MS : *pause_ms < 5 * NAP_MS ? *pause_ms + NAP_MS / 4 : *pause_ms;
    if (code == DSCM_OK && idle && b->slots_count) nap(*pause_ms);
    return code;
}

dscm_code dscm_batch_run(const dscm_batch_options *options, const dscm_batch_calls *calls,
                         size_t count, dscm_error *err)
{
    batch *b = dscm_alloc(1, sizeof *b, "the jobs", err);
    if (!b) return DSCM_E_MEMORY;
    int64_t pause_ms = NAP_MS;
    b->options = options;
    b->calls = calls;
    b->count = count;
    b->answered_ms = b->worked_ms = dscm_clock_ms();
    dscm_code code = dscm_redis_parse(&b->address, options->store, err);
    if (code == DSCM_OK) code = dscm_redis_password(&b->address, options->password_file, err);
    while (code == DSCM_OK && (b->next < b->count || b->slots_count)) {
        if (calls->keep_going(calls->arg))
            code = step(b, &pause_ms, err);
        else
            code = dscm_fail(err, DSCM_E_CANCELED, "stopped");
    }
    if (code == DSCM_E_CANCELED) cancel_all(b);
    dscm_redis_close(b->redis);
    dscm_free(b);
    return code;
}
