#include "server/watchdog.h"

#include <errno.h>
#include <linux/tcp.h> /* struct tcp_info with tcpi_bytes_received, which glibc's copy lacks */
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "server/clock.h"

#define TICK_MS     50
#define LINK_MS     250 /* links are looked at less often: their limits are seconds */
#define WAKES_BATCH 64
#define STALLED_MS  1000                /* a body may be late by this before it makes room */
#define ROOM_TICK   16                  /* connections closed for others in one look */
#define DRAIN_MAX   ((size_t)4 << 20)   /* bytes taken from a refused client */
#define DRAIN_TICK  ((size_t)512 << 10) /* of them in one tick */

/* A refused connection: the library's descriptor is closed, this is a copy. */
typedef struct lingering {
    int fd;
    int64_t until_ms;
    size_t drained;
} lingering;

struct dscm_watchdog {
    dscm_watchdog_options options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stirred;
    bool stop;
    dscm_park *parks;
    dscm_link *links;
    size_t parks_count;
    bool crowded;                       /* no room was found for the last connection */
    lingering lingers[DSCM_LINGER_MAX]; /* oldest first */
    size_t lingers_count;
    struct pollfd *polls; /* watchdog thread only */
    size_t polls_size;
};

/* Nothing more will come from the client: it closed, or its end is gone. Bytes that wait to be read
 * hide the end behind them; then we cannot tell and go on. */
static bool client_gone(int fd, short events)
{
    char byte;
    if (events & (POLLERR | POLLNVAL)) return true;
    if (!(events & (POLLRDHUP | POLLHUP | POLLIN))) return false;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void park_cut(dscm_watchdog *watchdog, dscm_park *park)
{
    if (park->previous)
        park->previous->next = park->next;
    else
        watchdog->parks = park->next;
    if (park->next) park->next->previous = park->previous;
    park->next = park->previous = NULL;
    park->linked = false;
    watchdog->parks_count--;
}

static bool polls_reserve(dscm_watchdog *watchdog)
{
    if (watchdog->parks_count <= watchdog->polls_size) return true;
    size_t size = watchdog->parks_count * 2;
    struct pollfd *polls = realloc(watchdog->polls, size * sizeof *polls);
    if (!polls) return false;
    watchdog->polls = polls;
    watchdog->polls_size = size;
    return true;
}

/* With the lock held: takes out up to WAKES_BATCH parks that are to be woken. Polling under the
 * lock costs microseconds and spares every question about reused descriptors. */
static size_t collect(dscm_watchdog *watchdog, dscm_park **wakes, bool *gone)
{
    size_t count = 0, n = 0;
    int64_t now = dscm_clock_ms();
    bool polled = polls_reserve(watchdog);
    for (dscm_park *park = watchdog->parks; polled && park; park = park->next)
        watchdog->polls[n++] = (struct pollfd){park->fd, POLLRDHUP | POLLIN, 0};
    if (n) poll(watchdog->polls, n, 0);
    n = 0;
    for (dscm_park *park = watchdog->parks, *next; park && count < WAKES_BATCH; park = next, n++) {
        next = park->next;
        bool left = polled && client_gone(park->fd, watchdog->polls[n].revents);
        if (!left && park->wake_ms > now) continue;
        park_cut(watchdog, park);
        gone[count] = left;
        wakes[count++] = park;
    }
    return count;
}

static uint64_t bytes_received(int fd)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
    return size >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received
               ? info.tcpi_bytes_received
               : 0;
}

/* The time since which the link owes us something, or 0. */
static int64_t owes_since(dscm_link *link, int phase, int64_t now, int64_t *limit,
                          const dscm_watchdog_options *options)
{
    if (phase == DSCM_LINK_BODY) *limit = options->body_ms;
    if (phase == DSCM_LINK_REPLY) *limit = options->reply_ms;
    if (phase == DSCM_LINK_BODY || phase == DSCM_LINK_REPLY) return atomic_load(&link->since_ms);
    if (phase != DSCM_LINK_IDLE) return 0;
    /* Idle connections are welcome: the clock starts with the first byte of a head. */
    uint64_t bytes = bytes_received(link->fd);
    int64_t since = atomic_load(&link->since_ms);
    if (link->idle_ms != since) {
        link->idle_ms = since; /* idle anew: what came until now belongs to earlier requests */
        link->idle_bytes = bytes;
        link->head_ms = 0;
    }
    if (bytes == link->idle_bytes) return 0;
    if (!link->head_ms) link->head_ms = now;
    *limit = options->header_ms;
    return link->head_ms;
}

static void check_links(dscm_watchdog *watchdog)
{
    int64_t now = dscm_clock_ms();
    for (dscm_link *link = watchdog->links; link; link = link->next) {
        int phase = atomic_load(&link->phase);
        int64_t limit = 0, since = owes_since(link, phase, now, &limit, &watchdog->options);
        if (!since || now - since < limit) continue;
        if (!atomic_compare_exchange_strong(&link->phase, &phase, DSCM_LINK_EXPIRED)) continue;
        watchdog->options.late(watchdog->options.arg, link, (dscm_link_phase)phase);
        shutdown(link->fd, SHUT_RDWR); /* the HTTP library sees the end and closes */
    }
}

/* Takes what has come; true when nothing more is to be waited for. */
static bool drain(lingering *l, int64_t now)
{
    static const size_t piece = 65536;
    char bytes[65536];
    for (size_t taken = 0; taken < DRAIN_TICK;) {
        ssize_t n = recv(l->fd, bytes, piece, MSG_DONTWAIT);
        if (n == 0) return true;
        if (n < 0) return (errno != EAGAIN && errno != EINTR) || now >= l->until_ms;
        taken += (size_t)n;
        l->drained += (size_t)n;
        if (l->drained > DRAIN_MAX) return true;
    }
    return now >= l->until_ms;
}

static void drain_all(dscm_watchdog *watchdog)
{
    int64_t now = dscm_clock_ms();
    size_t left = 0;
    for (size_t i = 0; i < watchdog->lingers_count; i++) {
        lingering *l = &watchdog->lingers[i];
        if (drain(l, now))
            close(l->fd);
        else
            watchdog->lingers[left++] = *l;
    }
    watchdog->lingers_count = left;
}

void dscm_watchdog_linger(dscm_watchdog *watchdog, int fd)
{
    pthread_mutex_lock(&watchdog->lock);
    if (watchdog->lingers_count == DSCM_LINGER_MAX) {
        close(watchdog->lingers[0].fd);
        watchdog->lingers_count--;
        memmove(watchdog->lingers, watchdog->lingers + 1,
                watchdog->lingers_count * sizeof watchdog->lingers[0]);
    }
    watchdog->lingers[watchdog->lingers_count++] =
        (lingering){fd, dscm_clock_ms() + DSCM_LINGER_MS, 0};
    pthread_mutex_unlock(&watchdog->lock);
}

/* A request has arrived that the HTTP library has not read yet. */
static bool has_unread(const dscm_link *link)
{
    int bytes = 0;
    return ioctl(link->fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

/* The link that has been longest in a phase; links are listed newest first: of equal ones the older is
 * taken. look: not one with a request that waits to be read. */
static dscm_link *longest_in(dscm_watchdog *watchdog, dscm_link_phase phase, const char *address,
                             bool look)
{
    dscm_link *oldest = NULL;
    for (dscm_link *link = watchdog->links; link; link = link->next)
        if (atomic_load(&link->phase) == (int)phase &&
            (!address || strcmp(link->address, address) == 0) &&
            (!oldest || atomic_load(&link->since_ms) <= atomic_load(&oldest->since_ms)) &&
            !(look && has_unread(link)))
            oldest = link;
    return oldest;
}

/* With the lock held. */
static bool evict(dscm_watchdog *watchdog, const char *address)
{
    int phase = DSCM_LINK_IDLE;
    /* A system call for each only when needed. */
    dscm_link *oldest = longest_in(watchdog, DSCM_LINK_IDLE, address, false);
    if (oldest && has_unread(oldest)) oldest = longest_in(watchdog, DSCM_LINK_IDLE, address, true);
    if (!oldest) {
        phase = DSCM_LINK_BODY;
        oldest = longest_in(watchdog, DSCM_LINK_BODY, address, false);
        if (oldest && dscm_clock_ms() - atomic_load(&oldest->since_ms) < STALLED_MS) oldest = NULL;
    }
    bool done = oldest && atomic_compare_exchange_strong(&oldest->phase, &phase, DSCM_LINK_EXPIRED);
    if (done) shutdown(oldest->fd, SHUT_RDWR);
    return done;
}

/* Connections wait to be accepted: bodies that have become late since make room. */
static void make_room(dscm_watchdog *watchdog)
{
    size_t count = 0;
    while (watchdog->crowded && count < ROOM_TICK && evict(watchdog, NULL)) count++;
    if (count) watchdog->crowded = false;
}

static void *run(void *arg)
{
    dscm_watchdog *watchdog = arg;
    dscm_park *wakes[WAKES_BATCH];
    bool gone[WAKES_BATCH];
    int64_t links_at = 0;
    pthread_mutex_lock(&watchdog->lock);
    while (!watchdog->stop) {
        size_t count = collect(watchdog, wakes, gone);
        if (count) {
            pthread_mutex_unlock(&watchdog->lock);
            for (size_t i = 0; i < count; i++) wakes[i]->wake(wakes[i], gone[i]);
            pthread_mutex_lock(&watchdog->lock);
            if (count == WAKES_BATCH) continue;
        }
        drain_all(watchdog);
        int64_t now = dscm_clock_ms();
        if (now >= links_at) {
            check_links(watchdog);
            make_room(watchdog);
            links_at = now + LINK_MS;
        }
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += TICK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&watchdog->stirred, &watchdog->lock, &until);
    }
    pthread_mutex_unlock(&watchdog->lock);
    return NULL;
}

dscm_code dscm_watchdog_open(dscm_watchdog **out, const dscm_watchdog_options *options,
                             dscm_error *err)
{
    dscm_watchdog *watchdog = dscm_alloc(1, sizeof *watchdog, "the watchdog", err);
    if (!watchdog) return DSCM_E_MEMORY;
    watchdog->options = *options;
    pthread_mutex_init(&watchdog->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watchdog->stirred, &attributes);
    pthread_condattr_destroy(&attributes);
    int failure = pthread_create(&watchdog->thread, NULL, run, watchdog);
    if (failure != 0) {
        pthread_mutex_destroy(&watchdog->lock);
        pthread_cond_destroy(&watchdog->stirred);
        dscm_free(watchdog);
        return dscm_fail(err, DSCM_E_SYSTEM, "cannot start the watchdog's thread: %s",
                         strerror(failure));
    }
    *out = watchdog;
    return DSCM_OK;
}

void dscm_watchdog_free(dscm_watchdog *watchdog)
{
    if (!watchdog) return;
    pthread_mutex_lock(&watchdog->lock);
    watchdog->stop = true;
    pthread_cond_signal(&watchdog->stirred);
    pthread_mutex_unlock(&watchdog->lock);
    pthread_join(watchdog->thread, NULL);
    pthread_mutex_destroy(&watchdog->lock);
    pthread_cond_destroy(&watchdog->stirred);
    for (size_t i = 0; i < watchdog->lingers_count; i++) close(watchdog->lingers[i].fd);
    free(watchdog->polls);
    dscm_free(watchdog);
}

void dscm_watchdog_park(dscm_watchdog *watchdog, dscm_park *park)
{
    pthread_mutex_lock(&watchdog->lock);
    park->previous = NULL;
    park->next = watchdog->parks;
    if (park->next) park->next->previous = park;
    park->linked = true;
    watchdog->parks = park;
    watchdog->parks_count++;
    pthread_mutex_unlock(&watchdog->lock);
}

bool dscm_watchdog_unpark(dscm_watchdog *watchdog, dscm_park *park)
{
    pthread_mutex_lock(&watchdog->lock);
    bool linked = park->linked;
    if (linked) park_cut(watchdog, park);
    pthread_mutex_unlock(&watchdog->lock);
    return linked;
}

void dscm_watchdog_link(dscm_watchdog *watchdog, dscm_link *link, int fd, bool admitted)
{
    link->fd = fd;
    atomic_init(&link->phase, admitted ? DSCM_LINK_IDLE : DSCM_LINK_EXPIRED);
    if (!admitted) shutdown(fd, SHUT_RDWR);
    link->idle_ms = dscm_clock_ms();
    atomic_init(&link->since_ms, link->idle_ms);
    link->idle_bytes = 0; /* of a new connection: nothing was received before */
    link->head_ms = 0;
    pthread_mutex_lock(&watchdog->lock);
    link->previous = NULL;
    link->next = watchdog->links;
    if (link->next) link->next->previous = link;
    watchdog->links = link;
    pthread_mutex_unlock(&watchdog->lock);
}

void dscm_watchdog_unlink(dscm_watchdog *watchdog, dscm_link *link)
{
    pthread_mutex_lock(&watchdog->lock);
    if (link->previous)
        link->previous->next = link->next;
    else
        watchdog->links = link->next;
    if (link->next) link->next->previous = link->previous;
    pthread_mutex_unlock(&watchdog->lock);
}

bool dscm_watchdog_evict(dscm_watchdog *watchdog, const char *address)
{
    pthread_mutex_lock(&watchdog->lock);
    bool done = evict(watchdog, address);
    if (!address) watchdog->crowded = !done;
    pthread_mutex_unlock(&watchdog->lock);
    return done;
}

bool dscm_link_enter(dscm_link *link, dscm_link_phase phase)
{
    int now = atomic_load(&link->phase);
    atomic_store(&link->since_ms, dscm_clock_ms());
    while (now != DSCM_LINK_EXPIRED)
        if (atomic_compare_exchange_weak(&link->phase, &now, phase)) return true;
    return false;
}
