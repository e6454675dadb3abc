/* The shared store for handlers: accepting, canceling, and questions. */
#include <stdio.h>
#include <string.h>

#include "server/clock.h"
#include "server/shared_internal.h"

static void hex(char *out, const uint8_t digest[DSCM_DIGEST_SIZE])
{
    for (size_t i = 0; i < DSCM_DIGEST_SIZE; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

/* Keys are long and anything: Redis has their digest, with the owner's. */
static void name_key(dscm_shared_op *op, const char *owner, const char *key)
{
    uint8_t digest[DSCM_DIGEST_SIZE];
    char text[DSCM_OWNER_SIZE + DSCM_IDEMPOTENCY_KEY_MAX + 2], digits[2 * DSCM_DIGEST_SIZE + 1];
    int length = snprintf(text, sizeof text, "%s\n%s", owner, key);
    dscm_crypto_digest(text, (size_t)length, digest);
    hex(digits, digest);
    snprintf(op->key, sizeof op->key, "diffscm:k:%s", digits);
}

dscm_shared_op *dscm_shared_prepare(dscm_shared *shared, dscm_job *job, const char *sha256,
                                    dscm_work work, dscm_blob *request, const char *key,
                                    const uint8_t digest[DSCM_DIGEST_SIZE])
{
    (void)shared;
    dscm_shared_op *op = dscm_shared_op_make_(OP_ACCEPT, job, NULL);
    if (!op) return NULL;
    job->mirror = true;
    job->record = DSCM_RECORD_PENDING;
    op->blob = dscm_blob_ref(request);
    op->work = work;
    op->promise = atomic_load(&job->detached);
    snprintf(op->sha256, sizeof op->sha256, "%s", sha256);
    if (key) name_key(op, job->owner, key);
    if (key) hex(op->digest, digest);
    return op;
}

void dscm_shared_accept(dscm_shared *shared, dscm_shared_op *op)
{
    dscm_shared_enqueue_(shared, op);
}

void dscm_shared_promise(dscm_shared *shared, dscm_job *job)
{
    dscm_shared_op *op = dscm_shared_op_make_(OP_PROMISE, job, NULL);
    dscm_job_record(job, op ? DSCM_RECORD_PENDING : DSCM_RECORD_FAILED);
    if (op) dscm_shared_enqueue_(shared, op);
}

void dscm_shared_cancel(dscm_shared *shared, dscm_job *job, dscm_job_reason reason)
{
    dscm_shared_op *op = dscm_shared_op_make_(OP_CANCEL, job, NULL);
    if (!op) return; /* it ends by itself, and its deadline holds */
    op->reason = reason;
    dscm_shared_enqueue_(shared, op);
}

void dscm_shared_view(dscm_shared *shared, const dscm_job *job)
{
    dscm_shared_op *op = dscm_shared_op_make_(OP_VIEW, NULL, job->id);
    if (op) dscm_shared_enqueue_(shared, op); /* else there are no previews for a while */
}

static dscm_job *ask(dscm_shared *shared, shared_kind kind, const char *id, const char *owner)
{
    dscm_payload nothing = {0};
    dscm_job *ticket = NULL;
    if (dscm_job_create(&ticket, owner, "", nothing, DSCM_NEVER, true, NULL) != DSCM_OK)
        return NULL;
    dscm_shared_op *op = dscm_shared_op_make_(kind, NULL, id);
    if (!op) {
        dscm_job_unref(ticket);
        return NULL;
    }
    op->ticket = dscm_job_ref(ticket);
    snprintf(op->owner, sizeof op->owner, "%s", owner);
    dscm_shared_enqueue_(shared, op);
    return ticket;
}

dscm_job *dscm_shared_load(dscm_shared *shared, const char *id, const char *owner)
{
    return ask(shared, OP_LOAD, id, owner);
}

dscm_job *dscm_shared_find_abduction(dscm_shared *shared, const char *id, const char *owner)
{
    return ask(shared, OP_FIND, id, owner);
}

dscm_job *dscm_shared_drop_abduction(dscm_shared *shared, const char *id, const char *owner)
{
    return ask(shared, OP_DROP, id, owner);
}
