/* Work of a command line handed to the workers of a shared store (shared.h): each item is a job, sent
 * ahead as far as the queue's bound and the client's share allow, collected as it ends, and forgotten by
 * the store once the caller has it safe.
 *
 * A job's id is a digest of its request, so a batch that is begun again finds what it sent before, and
 * nothing runs twice while the store knows it. What the store lost is sent again. Keeps no files and
 * knows no images. Threads: one call, in the caller's thread.
 */
#ifndef DSCM_SERVER_BATCH_H
#define DSCM_SERVER_BATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"
#include "server/blob.h"
#include "server/crypto.h"

#define DSCM_BATCH_OWNER "batch:" /* of its jobs: no key's name, since keys have no colon */

typedef struct dscm_batch_options {
    const char *store;         /* redis://… or redis+unix://… */
    const char *password_file; /* "": none */
    const char *model;         /* SHA-256 of the bundle that workers need */
    long capacity, share;      /* jobs that may wait, of all and of one client */
    long age_s;                /* that an ended job is kept */
    long patience_s;           /* without the store, or without a worker for the model */
} dscm_batch_options;

typedef struct dscm_batch_calls {
    void *arg;
    /* Whether item `index` needs no job (any more). */
    bool (*done)(void *arg, size_t index);
    /* Its request: the same bytes each time. One reference for the caller. */
    dscm_code (*ask)(void *arg, size_t index, dscm_blob **out, dscm_error *err);
    /* What it is thought to take, in network passes. */
    size_t (*cost)(void *arg, size_t index);
    /* Its outcome (outcome.h), borrowed. */
    dscm_code (*take)(void *arg, size_t index, const dscm_blob *outcome, dscm_error *err);
    /* Makes safe what was taken: the store forgets it afterwards. */
    dscm_code (*keep)(void *arg, dscm_error *err);
    /* Asked often; false stops: jobs that wait or run are canceled, DSCM_E_CANCELED. */
    bool (*keep_going)(void *arg);
    /* Why nothing goes on at present, for people; NULL: it goes on again. */
    void (*tell)(void *arg, const char *why);
} dscm_batch_calls;

/* The job's id of a request. */
void dscm_batch_id(const dscm_blob *request, char out[DSCM_ID_SIZE]);

/* Until each of `count` items is taken. Errors: the first job that fails, by its problem and the index
 * of its item; the store or a worker away for longer than the patience. What was kept stays so. */
dscm_code dscm_batch_run(const dscm_batch_options *options, const dscm_batch_calls *calls,
                         size_t count, dscm_error *err) DSCM_MUST_CHECK;

#endif
