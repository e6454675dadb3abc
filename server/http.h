/* The transport: connections, requests and replies over libmicrohttpd. The only user of that
 * library, and the one place that makes replies.
 *
 * An exchange is one request and its reply. Two hooks serve it: `head` once the headers are in (it
 * may answer early and sets the limit of the body) and `handle` once the body is. A handler either
 * makes a reply or parks the exchange on a job and is called back through `resume`. Does not know
 * routes, models or what jobs compute.
 *
 * Threads. Hooks, `resume` and stream readers run on one of the listener's threads and must not
 * block. While an exchange is parked only `gone` and `timed_out` are written, by whoever wakes it;
 * all else belongs to the listener's thread. The connection is suspended before the exchange can
 * be seen by a worker, and taken from the watchdog before it is resumed.
 *
 * Ownership. Exchanges are reference counted: the library's share ends with the request, the watchdog,
 * the job's list of waiters and a streaming reply hold one each while they know the exchange.
 */
#ifndef DSCM_SERVER_HTTP_H
#define DSCM_SERVER_HTTP_H

#include <sys/types.h>

#include "api/problem.h"
#include "server/job.h"
#include "server/quota.h"
#include "server/watchdog.h"

#define DSCM_REQUEST_ID_SIZE 65

typedef struct dscm_http dscm_http;
typedef struct dscm_exchange dscm_exchange;

/* How a body's memory is released. */
typedef enum dscm_body { DSCM_BODY_STATIC, DSCM_BODY_FREE } dscm_body;

struct dscm_exchange {
    /* the request; strings live as long as the exchange */
    const char *method, *path;
    const char *query; /* raw, after the '?'; NULL without */
    const uint8_t *body;
    size_t body_size;
    size_t body_max; /* set by `head`; 0: a body is refused */
    char request_id[DSCM_REQUEST_ID_SIZE];
    char address[DSCM_OWNER_SIZE];
    int64_t arrived_us;
    /* for the layer above */
    void *service;
    size_t route;
    char owner[DSCM_OWNER_SIZE]; /* key name, "" anonymous */
    dscm_job *job;               /* reference, dropped with the exchange; NULL */
    void (*resume)(dscm_exchange *exchange);
    ssize_t (*read)(dscm_exchange *exchange, char *out, size_t size);
    void (*finished)(dscm_exchange *exchange); /* end of a stream; NULL */
    dscm_event_reader events;                  /* closed by `finished` */
    dscm_quota_share stream; /* of the open streams; given back with the exchange at the latest */
    bool flags[6];           /* meaning by handler */
    long wait_s;             /* that the request waits for its result; meaning by handler */
    bool keep_body;          /* parked by `handle`, whose `resume` reads the body again */
    int status;              /* of the reply; 0 before, 499 when the client left */
    size_t sent;             /* bytes of the body, 0 for streams */
    bool uploads_full;       /* refused because the quota of bodies was used up */
    /* set by whoever wakes a parked exchange */
    atomic_bool gone, timed_out;
};

typedef struct dscm_http_options {
    const char *host;
    int port; /* 0: the system chooses */
    int threads;
    size_t connections, client_connections; /* 0: no limit per address */
    dscm_quota *bodies;                     /* bytes of request bodies; borrowed; NULL: no limit */
    long idle_s, header_ms, body_ms, reply_ms;
    bool trusted_proxy;
    void *arg;
    void (*head)(void *arg, dscm_exchange *exchange);
    void (*handle)(void *arg, dscm_exchange *exchange);
    /* Last chance to add headers, just before any reply leaves. May be NULL. */
    void (*decorate)(void *arg, dscm_exchange *exchange);
    void (*done)(void *arg, dscm_exchange *exchange, int64_t took_us);
    /* A connection was closed for slowness before it became an exchange. */
    void (*slow)(void *arg, int status);
    /* No file descriptor is left for a new connection; at most once in ten seconds. */
    void (*starved)(void *arg);
} dscm_http_options;

dscm_code dscm_http_open(dscm_http **out, const dscm_http_options *options,
                         dscm_error *err) DSCM_MUST_CHECK;
int dscm_http_port(const dscm_http *http); /* the port listened on */
/* Stops accepting; open connections go on. */
void dscm_http_quiesce(dscm_http *http);
/* Exchanges that are parked or being answered. */
size_t dscm_http_active(dscm_http *http);
size_t dscm_http_connections(dscm_http *http);
/* How long the thread that is longest inside one hook or handler has been there; 0: none is. */
int64_t dscm_http_busy_ms(dscm_http *http);
/* Closes. No exchange may be parked: all their jobs must have ended. */
void dscm_http_free(dscm_http *http); /* takes NULL */

/* ---- reading ---- */
const char *dscm_exchange_header(dscm_exchange *exchange, const char *name); /* NULL: not given */

/* Hands the body over, which is otherwise freed when `handle` returns, with what it takes of the
 * quota. The caller frees it with free(). */
uint8_t *dscm_exchange_body_take(dscm_exchange *exchange, dscm_quota_share *share);

/* ---- replying: exactly one of reply, file, problem, stream per exchange ---- */
/* A header of the reply; to be called after the reply was made. */
void dscm_exchange_header_set(dscm_exchange *exchange, const char *name, const char *value);
/* body NULL means that making it failed for want of memory: 500. Takes a DSCM_BODY_FREE body. */
void dscm_exchange_reply(dscm_exchange *exchange, int status, const char *type, void *body,
                         size_t size, dscm_body ownership);
/* Bytes that belong to `holder`, which `release` gives back after sending. */
void dscm_exchange_reply_shared(dscm_exchange *exchange, int status, const char *type,
                                const void *body, size_t size, void *holder,
                                void (*release)(void *holder));
void dscm_exchange_problem(dscm_exchange *exchange, const dscm_problem *problem);
void dscm_exchange_refuse(dscm_exchange *exchange, dscm_problem_code code, const char *format, ...)
    DSCM_PRINTF(3, 4);
/* Of a call without parameters: true, with a refusal that names them, where there is a query. */
bool dscm_exchange_refuse_query(dscm_exchange *exchange);
/* A reply of unknown length: exchange->read gives bytes (> 0), -1 at the end, or 0 after it parked
 * the exchange. */
void dscm_exchange_stream(dscm_exchange *exchange, const char *type);
void dscm_exchange_close(dscm_exchange *exchange); /* the connection ends with this reply */

/* ---- waiting ---- */
/* Suspends the connection until the job ends (after UINT64_MAX) or has an event newer than `after`,
 * or wake_ms comes, or the client leaves; then calls `resume`, or the stream's reader again. */
void dscm_exchange_park(dscm_exchange *exchange, dscm_job *job, uint64_t after, int64_t wake_ms);

#endif
