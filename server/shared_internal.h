/* What the files of the shared store share: shared.c (operations and the thread that writes them),
 * shared_answer.c (what is sent and what answers mean), shared_mirror.c (jobs as others changed
 * them) and shared_work.c (claims). Not for anyone else. */
#ifndef DSCM_SERVER_SHARED_INTERNAL_H
#define DSCM_SERVER_SHARED_INTERNAL_H

#include "server/redis.h"
#include "server/service.h"
#include "server/shared.h"
#include "server/shared_script.h"

#define DSCM_SHARED_ARGS    24
#define DSCM_SHARED_ID_SIZE 48

typedef enum shared_kind {
    OP_ACCEPT,
    OP_PROMISE,
    OP_LOAD,
    OP_VIEW,
    OP_CANCEL,
    OP_START,
    OP_EVENT,
    OP_FINISH,
    OP_RELEASE,
    OP_KEEP,
    OP_FIND,
    OP_DROP
} shared_kind;

struct dscm_shared_op {
    shared_kind kind;
    struct dscm_shared_op *next;
    int64_t until_ms; /* given up then */
    bool sent;        /* may have been carried out, though no answer came */
    dscm_job *job;    /* reference, or NULL */
    dscm_job *ticket; /* reference, or NULL: ended with the answer */
    char id[DSCM_ID_SIZE], owner[DSCM_OWNER_SIZE];
    char sha256[72], key[80]; /* of an acceptance; key "": none */
    char digest[2 * DSCM_DIGEST_SIZE + 1];
    dscm_work work;
    bool promise;
    dscm_blob *blob,
        *problem;     /* references or NULL: request or key of an abduction; packed problem */
    dscm_job_end end; /* owned until it is published */
    dscm_job_reason reason;
    dscm_event_kind event;
    uint64_t number; /* of an event, or of the last one known */
    char *data;      /* of an event; owned */
    size_t step, steps;
    size_t *starting; /* claims lock: counted down when it is settled; the caller waits for it */
    char numbers[8][24];
};

typedef struct claim {
    dscm_job *job; /* reference */
    struct claim *next;
} claim;

struct dscm_shared {
    dscm_service *service;
    dscm_job_sink sink; /* of claimed jobs */
    dscm_redis_address address;
    char worker[DSCM_SHARED_ID_SIZE]; /* name of this process */
    char channels[4][24];             /* bell, work, cancel, drop */
    dscm_script_id script;
    pthread_t writer, listener, keeper;
    bool writing, listening, keeping;

    pthread_mutex_t lock; /* operations and figures */
    pthread_cond_t arrived;
    dscm_shared_op *first, *last;
    dscm_shared_figures figures;
    bool stop;
    int64_t stop_ms; /* what is pending then is given up */
    bool troubled;   /* the last attempt to use the store failed */

    pthread_mutex_t claims_lock;
    pthread_cond_t started; /* a start was settled */
    claim *claims;
    size_t claims_count;

    /* The keeper's wake; taken under the queue's lock, so nothing is called with it held. */
    pthread_mutex_t keeper_lock;
    pthread_cond_t keeper_wake;
    bool wake, beat_now; /* keeper_lock */
    int64_t
        clock_ms; /* Redis' clock less the monotonic one, when it was heard last; the keeper's */
    atomic_bool claiming, ending;
    pthread_mutex_t claiming_lock; /* held while jobs are claimed */
    int ending_fd;                 /* can be read once `ending` is set: wakes the listener */
};

/* What Redis may take for one answer, so that there is time for a second attempt. */
static inline int dscm_shared_io_ms_(const dscm_shared *shared)
{
    return (int)(shared->service->settings.store_ms * 2 / 5);
}

/* ---- shared.c ---- */
dscm_shared_op *dscm_shared_op_make_(shared_kind kind, dscm_job *job, const char *id);
void dscm_shared_enqueue_(dscm_shared *shared, dscm_shared_op *op);
dscm_code dscm_shared_connect_(dscm_shared *shared, dscm_redis **out, dscm_error *err);
/* Sends the operation with its arguments to the script. */
bool dscm_shared_send_(dscm_shared *shared, dscm_redis *redis, const char *operation,
                       const dscm_span *args, size_t count);
/* Counts a failure and logs it when the last attempt had succeeded; why NULL: success. */
void dscm_shared_note_(dscm_shared *shared, const char *why);

/* ---- shared_answer.c ---- */
/* The operation's name; its arguments, up to DSCM_SHARED_ARGS, in args. */
const char *dscm_shared_encode_(dscm_shared *shared, dscm_shared_op *op, dscm_span *args,
                                size_t *count);
/* Takes over the op. reply NULL: given up, `why` tells. */
void dscm_shared_settle_(dscm_shared *shared, dscm_shared_op *op, const dscm_redis_reply *reply,
                         const char *why);
/* Whether an operation that Redis refused for now is tried again. */
bool dscm_shared_again_(const dscm_shared_op *op, const char *failure);
void dscm_shared_orders_(dscm_shared *shared, dscm_job *job, const dscm_redis_reply *reply);

/* ---- shared_mirror.c ---- */
void dscm_shared_refresh_(dscm_shared *shared, dscm_job *mirror);
void dscm_shared_refresh_all_(dscm_shared *shared);
void dscm_shared_loaded_(dscm_shared *shared, dscm_shared_op *op, const dscm_redis_reply *reply);
dscm_blob *dscm_shared_problem_pack_(const dscm_problem *problem);
void *dscm_shared_listen_(void *shared); /* a thread */

/* ---- shared_work.c ---- */
void *dscm_shared_keep_(void *shared); /* a thread */
/* Tells that this process is alive, and which models it runs. False: the connection failed. */
bool dscm_shared_register_(dscm_shared *shared, dscm_redis *redis);
void dscm_shared_wake_(dscm_shared *shared, bool beat);
bool dscm_shared_unclaim_(dscm_shared *shared, dscm_job *job); /* false: it was not claimed */
/* Another process has the job now. */
void dscm_shared_lost_(dscm_shared *shared, dscm_job *job);

#endif
