/* The watchdog watches what the HTTP library does not: sockets of connections that are parked while a
 * job runs (their clients may leave), wake-up times, the total time a client takes to send a
 * request or to take a reply (a byte a second defeats an idle timeout), and what refused clients
 * still send (closing at once would reset the connection and may take the answer with it).
 *
 * Knows sockets, not HTTP. One thread, one tick every 50 ms.
 *
 * Threads: `lock` guards both lists. It is held while sockets are polled, so that an entry removed
 * is never looked at again and its descriptor may be closed at once. Callbacks of `park` entries
 * run without the lock; `late` of a link runs with it and must not call the watchdog.
 */
#ifndef DSCM_SERVER_WATCHDOG_H
#define DSCM_SERVER_WATCHDOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "server/quota.h"

typedef struct dscm_watchdog dscm_watchdog;

#define DSCM_ADDRESS_SIZE 64

/* A parked request. The owner keeps the memory until dscm_watchdog_unpark returned true or `wake` ran.
 */
typedef struct dscm_park {
    int fd;
    int64_t wake_ms; /* DSCM_NEVER: only when the client leaves */
    void (*wake)(struct dscm_park *park, bool gone);
    /* watchdog lock */
    struct dscm_park *next, *previous;
    bool linked;
} dscm_park;

/* What a connection is busy with. The watchdog moves a late one to DSCM_LINK_EXPIRED and nobody else
 * does, an evicted one too; whoever serves the connection must find it so (compare and exchange) and give up. */
typedef enum dscm_link_phase {
    DSCM_LINK_IDLE,  /* nothing of a request has arrived */
    DSCM_LINK_BODY,  /* the head is complete */
    DSCM_LINK_WORK,  /* the request is complete; no limit here, jobs have their deadlines */
    DSCM_LINK_REPLY, /* a reply of known length is being sent */
    DSCM_LINK_EXPIRED
} dscm_link_phase;

/* A connection, from accept to close. */
typedef struct dscm_link {
    int fd;
    char address[DSCM_ADDRESS_SIZE]; /* of the client, set before dscm_watchdog_link */
    atomic_int phase;
    atomic_llong since_ms;  /* start of the phase */
    dscm_quota_share share; /* of the address; the owner's, the watchdog does not look */
    /* watchdog lock */
    int64_t idle_ms;     /* since_ms of the idle phase that the next two belong to */
    uint64_t idle_bytes; /* received when that phase was first seen */
    int64_t head_ms;     /* first byte of a head seen, 0: none yet */
    struct dscm_link *next, *previous;
} dscm_link;

typedef struct dscm_watchdog_options {
    int64_t header_ms, body_ms, reply_ms;
    /* A link in that phase is late and has been marked expired; its socket is shut down afterwards.
     * May write a last reply to the descriptor. */
    void (*late)(void *arg, dscm_link *link, dscm_link_phase phase);
    void *arg;
} dscm_watchdog_options;

dscm_code dscm_watchdog_open(dscm_watchdog **out, const dscm_watchdog_options *options,
                             dscm_error *err) DSCM_MUST_CHECK;
void dscm_watchdog_free(dscm_watchdog *watchdog); /* takes NULL; lists must be empty */

void dscm_watchdog_park(dscm_watchdog *watchdog, dscm_park *park);
/* False when it is being woken or was never in: the callback has the say then. */
bool dscm_watchdog_unpark(dscm_watchdog *watchdog, dscm_park *park);

/* admitted false: the connection is closed at once, with EXPIRED as its phase. */
void dscm_watchdog_link(dscm_watchdog *watchdog, dscm_link *link, int fd, bool admitted);
void dscm_watchdog_unlink(dscm_watchdog *watchdog, dscm_link *link);
/* Closes the connection that has been idle longest, or else the one that has waited longest for its
 * body (a second at least), to make room for another. address: only of that client; NULL: of any. False
 * when there is none. */
bool dscm_watchdog_evict(dscm_watchdog *watchdog, const char *address);
/* Takes a descriptor of a refused connection whose client is still sending: what comes is thrown
 * away until the client ends or DSCM_LINGER_MS have passed, then it is closed. */
#define DSCM_LINGER_MAX ((size_t)256) /* at a time; of more the oldest is closed at once */
#define DSCM_LINGER_MS  2000
void dscm_watchdog_linger(dscm_watchdog *watchdog, int fd);
/* Moves the link on; false when it has expired. */
bool dscm_link_enter(dscm_link *link, dscm_link_phase phase);

#endif
