/* What http.c (daemon, connections, requests) and http_reply.c (replies, parking) share. Not for
 * anyone else: it names libmicrohttpd's types. */
#ifndef DSCM_SERVER_HTTP_INTERNAL_H
#define DSCM_SERVER_HTTP_INTERNAL_H

#include <microhttpd.h>

#include "server/http.h"

#define DSCM_HTTP_LOOPS 16 /* the most threads a listener may have */

struct dscm_http {
    dscm_http_options options;
    struct MHD_Daemon *daemon;
    dscm_watchdog *watchdog;
    int listener; /* -1 before there is one; the daemon's to close unless quiesced */
    bool quiesced;
    dscm_quota *addresses; /* connections of each address; NULL: no limit */
    int port;
    atomic_size_t active, connections;
    atomic_size_t loops;                      /* threads seen so far */
    atomic_llong busy_since[DSCM_HTTP_LOOPS]; /* by thread; 0: it waits for events */
    _Atomic int64_t starved_ms;               /* of the last word about it; 0: none yet */
    struct MHD_Response
        *no_memory; /* sent where a reply cannot be allocated; shared, never changed */
};

/* The exchange as http*.c sees it: `base` is what everyone else sees. */
typedef struct exchange {
    dscm_exchange base; /* first: the two convert into each other */
    dscm_http *http;
    struct MHD_Connection *connection;
    dscm_link *link;
    atomic_size_t references;
    char *uri; /* copy; base.path and base.query point into it */
    uint8_t *body;
    size_t body_capacity, body_most; /* body_most: as long as it can become */
    dscm_quota_share body_share;     /* of options.bodies */
    bool opened, dispatched, queued, must_close, streaming, counted;
    bool answered; /* a reply was decided, also one that could not be allocated: never infer it from
                      `response` */
    struct MHD_Response *response;
    dscm_waiter waiter;
    dscm_park park;
} exchange;

static inline exchange *exchange_of(dscm_exchange *base)
{
    return (exchange *)base;
}

/* Address of the peer, and as the trusted proxy's header has it, into the exchange. */
void dscm_http_find_address_(struct MHD_Connection *connection, char out[DSCM_ADDRESS_SIZE]);
void dscm_http_find_forwarded_(exchange *e);
/* In place: percent-encoded octets of a path. */
void dscm_http_decode_path_(char *path);
/* The path and query of an absolute request target; others as they are. */
const char *dscm_http_local_target_(const char *uri);
exchange *dscm_exchange_ref_(exchange *e);
void dscm_exchange_unref_(exchange *e);
/* The reply kept for want of memory: 503, which closes the connection. NULL without memory. */
struct MHD_Response *dscm_http_no_memory_(void);
/* Around what a thread of the listener does for a call of the library. */
void dscm_http_enter_(dscm_http *http);
void dscm_http_leave_(dscm_http *http);
/* Queues the reply that was made; what MHD_queue_response says. */
enum MHD_Result dscm_exchange_respond_(exchange *e);
/* Callbacks of `waiter` and `park`, set once: the watchdog may read them while the next wait begins.
 */
void dscm_exchange_changed_(dscm_waiter *waiter);
void dscm_exchange_woken_(dscm_park *park, bool gone);
/* Writes a whole problem reply to a socket that the library will not answer any more. e NULL: there is
 * no request yet. */
void dscm_http_last_words_(int fd, const exchange *e, dscm_problem_code code, const char *detail);

#endif
