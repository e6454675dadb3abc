/* The connection watchdog on real loopback sockets: parked requests, late links, room for others, refused
 * clients that still send. Nothing waits for a time but for what is to happen. */
#include "server/watchdog.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/clock.h"
#include "tests/harness.h"

typedef struct connection {
    int client, server;
} connection;

static connection connect_pair(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct timeval limit = {.tv_sec = 60}; /* what never happens fails then */
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    connection c = {.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 ||
        connect(c.client, (struct sockaddr *)&address, size) != 0)
        abort();
    c.server = accept(listener, NULL, NULL);
    if (c.server < 0) abort();
    close(listener);
    setsockopt(c.client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return c;
}

static void disconnect(const connection *c)
{
    close(c->client);
    close(c->server);
}

/* The client sees the end of the connection. */
static bool ended(const connection *c)
{
    char byte;
    return recv(c->client, &byte, 1, 0) == 0;
}

static bool open_now(const connection *c)
{
    char byte;
    return recv(c->client, &byte, 1, MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

static atomic_int late_count, late_phase;

static void count_late(void *arg, dscm_link *link, dscm_link_phase phase)
{
    (void)arg;
    CHECK_INT(atomic_load(&link->phase), DSCM_LINK_EXPIRED); /* marked before anybody is told */
    atomic_store(&late_phase, (int)phase);
    atomic_fetch_add(&late_count, 1);
}

/* A limit in ms for what is late; the other two are never reached. */
static dscm_watchdog *open_watchdog(int64_t header_ms, int64_t body_ms, int64_t reply_ms)
{
    const dscm_watchdog_options options = {
        .header_ms = header_ms, .body_ms = body_ms, .reply_ms = reply_ms, .late = count_late};
    dscm_watchdog *watchdog = NULL;
    if (dscm_watchdog_open(&watchdog, &options, NULL) != DSCM_OK) abort();
    atomic_store(&late_count, 0);
    return watchdog;
}

#define LONG ((int64_t)1000000)

/* ---- parked requests ---- */

typedef struct parked {
    dscm_park park; /* first */
    atomic_int woken, gone;
} parked;

static void note_wake(dscm_park *park, bool gone)
{
    parked *p = (parked *)park;
    atomic_store(&p->gone, gone);
    atomic_fetch_add(&p->woken, 1);
}

static void await(atomic_int *value)
{
    int64_t until = dscm_clock_ms() + 60000;
    while (!atomic_load(value) && dscm_clock_ms() < until) usleep(1000);
    CHECK_INT(atomic_load(value), 1);
}

static void a_parked_request_wakes_at_its_time_or_when_its_client_leaves(void)
{
    dscm_watchdog *watchdog = open_watchdog(LONG, LONG, LONG);
    connection timed = connect_pair(), leaving = connect_pair(), staying = connect_pair();
    const int64_t start = dscm_clock_ms();
    parked a = {.park = {.fd = timed.server, .wake_ms = start + 60, .wake = note_wake}};
    parked b = {.park = {.fd = leaving.server, .wake_ms = DSCM_NEVER, .wake = note_wake}};
    parked c = {.park = {.fd = staying.server, .wake_ms = DSCM_NEVER, .wake = note_wake}};
    dscm_watchdog_park(watchdog, &a.park);
    dscm_watchdog_park(watchdog, &b.park);
    dscm_watchdog_park(watchdog, &c.park);
    await(&a.woken);
    CHECK(dscm_clock_ms() >= start + 60);
    CHECK_INT(atomic_load(&a.gone), 0);
    CHECK_INT(atomic_load(&b.woken), 0);
    shutdown(leaving.client, SHUT_WR);
    await(&b.woken);
    CHECK_INT(atomic_load(&b.gone), 1);
    CHECK(!dscm_watchdog_unpark(watchdog, &a.park)); /* was woken: the callback had the say */
    CHECK(dscm_watchdog_unpark(watchdog, &c.park));
    CHECK(!dscm_watchdog_unpark(watchdog, &c.park));
    dscm_watchdog_free(watchdog);
    CHECK_INT(atomic_load(&c.woken), 0);
    disconnect(&timed);
    disconnect(&leaving);
    disconnect(&staying);
}

/* The next request of a client that does not wait for its reply hides its end; it is no end itself. */
static void bytes_that_wait_are_no_end(void)
{
    dscm_watchdog *watchdog = open_watchdog(LONG, LONG, LONG);
    connection pipelined = connect_pair(), other = connect_pair();
    parked p = {.park = {.fd = pipelined.server, .wake_ms = DSCM_NEVER, .wake = note_wake}};
    parked tick = {.park = {.fd = other.server, .wake_ms = 0, .wake = note_wake}};
    CHECK_INT(send(pipelined.client, "GET", 3, 0), 3);
    dscm_watchdog_park(watchdog, &p.park);
    for (int ticks = 0; ticks < 2; ticks++) { /* the watchdog has looked at both */
        atomic_store(&tick.woken, 0);
        dscm_watchdog_park(watchdog, &tick.park);
        await(&tick.woken);
    }
    CHECK_INT(atomic_load(&p.woken), 0);
    CHECK(dscm_watchdog_unpark(watchdog, &p.park));
    dscm_watchdog_free(watchdog);
    disconnect(&pipelined);
    disconnect(&other);
}

/* More than one look wakes at once. */
static void many_are_woken_together(void)
{
    enum { COUNT = 150 };
    static parked all[COUNT];
    dscm_watchdog *watchdog = open_watchdog(LONG, LONG, LONG);
    connection c = connect_pair();
    const int64_t at = dscm_clock_ms() + 100;
    for (int i = 0; i < COUNT; i++) {
        all[i] = (parked){.park = {.fd = c.server, .wake_ms = at, .wake = note_wake}};
        dscm_watchdog_park(watchdog, &all[i].park);
    }
    for (int i = 0; i < COUNT; i++) await(&all[i].woken);
    dscm_watchdog_free(watchdog);
    disconnect(&c);
}

/* ---- links ---- */

static void a_slow_head_body_or_reply_is_late(void)
{
    static const struct {
        dscm_link_phase phase;
        int64_t header_ms, body_ms, reply_ms;
    } slow[] = {{DSCM_LINK_IDLE, 50, LONG, LONG},
                {DSCM_LINK_BODY, LONG, 50, LONG},
                {DSCM_LINK_REPLY, LONG, LONG, 50}};
    for (size_t i = 0; i < TEST_COUNT(slow); i++) {
        dscm_watchdog *watchdog =
            open_watchdog(slow[i].header_ms, slow[i].body_ms, slow[i].reply_ms);
        connection c = connect_pair();
        dscm_link link = {0};
        dscm_watchdog_link(watchdog, &link, c.server, true);
        if (slow[i].phase == DSCM_LINK_IDLE)
            CHECK_INT(send(c.client, "G", 1, 0), 1); /* the first byte of a head */
        else
            CHECK(dscm_link_enter(&link, slow[i].phase));
        CHECK(ended(&c));
        await(&late_count);
        CHECK_INT(atomic_load(&late_phase), slow[i].phase);
        CHECK(!dscm_link_enter(&link, DSCM_LINK_WORK)); /* whoever serves it must give up */
        CHECK_INT(atomic_load(&link.phase), DSCM_LINK_EXPIRED);
        dscm_watchdog_unlink(watchdog, &link);
        dscm_watchdog_free(watchdog);
        disconnect(&c);
    }
}

/* Silence between requests and work of any length are welcome, while another link is late. */
static void idle_and_working_links_have_no_limit(void)
{
    dscm_watchdog *watchdog = open_watchdog(1, 1, 1);
    connection idle = connect_pair(), working = connect_pair(), late = connect_pair();
    dscm_link links[3] = {{0}};
    dscm_watchdog_link(watchdog, &links[0], idle.server, true);
    dscm_watchdog_link(watchdog, &links[1], working.server, true);
    CHECK(dscm_link_enter(&links[1], DSCM_LINK_WORK));
    for (int round = 0; round < 2; round++) {
        atomic_store(&late_count, 0);
        dscm_watchdog_link(watchdog, &links[2], late.server, true);
        CHECK(dscm_link_enter(&links[2], DSCM_LINK_BODY));
        await(&late_count);
        dscm_watchdog_unlink(watchdog, &links[2]);
    }
    CHECK(open_now(&idle) && open_now(&working));
    CHECK_INT(atomic_load(&links[0].phase), DSCM_LINK_IDLE);
    CHECK_INT(atomic_load(&links[1].phase), DSCM_LINK_WORK);
    dscm_watchdog_unlink(watchdog, &links[0]);
    dscm_watchdog_unlink(watchdog, &links[1]);
    dscm_watchdog_free(watchdog);
    disconnect(&idle);
    disconnect(&working);
    disconnect(&late);
}

static void one_that_is_not_admitted_is_closed_at_once(void)
{
    dscm_watchdog *watchdog = open_watchdog(LONG, LONG, LONG);
    connection c = connect_pair();
    dscm_link link = {0};
    dscm_watchdog_link(watchdog, &link, c.server, false);
    CHECK(ended(&c));
    CHECK(!dscm_link_enter(&link, DSCM_LINK_BODY));
    dscm_watchdog_unlink(watchdog, &link);
    dscm_watchdog_free(watchdog);
    disconnect(&c);
}

/* ---- making room ---- */

static void link_as(dscm_watchdog *watchdog, dscm_link *link, const connection *c,
                    const char *address, dscm_link_phase phase, int64_t since_ms)
{
    snprintf(link->address, sizeof link->address, "%s", address);
    dscm_watchdog_link(watchdog, link, c->server, true);
    CHECK(dscm_link_enter(link, phase));
    atomic_store(&link->since_ms, since_ms);
}

static void the_longest_idle_makes_room(void)
{
    enum { COUNT = 6 };
    dscm_watchdog *watchdog = open_watchdog(LONG, LONG, LONG);
    connection c[COUNT];
    dscm_link links[COUNT] = {{0}};
    const int64_t now = dscm_clock_ms();
    for (int i = 0; i < COUNT; i++) c[i] = connect_pair();
    link_as(watchdog, &links[0], &c[0], "10.0.0.1", DSCM_LINK_WORK, now - 90000);
    link_as(watchdog, &links[1], &c[1], "10.0.0.1", DSCM_LINK_IDLE, now - 200);
    link_as(watchdog, &links[2], &c[2], "10.0.0.2", DSCM_LINK_IDLE, now - 50000);
    link_as(watchdog, &links[3], &c[3], "10.0.0.2", DSCM_LINK_BODY, now - 500);
    link_as(watchdog, &links[4], &c[4], "10.0.0.2", DSCM_LINK_BODY, now - 5000);
    link_as(watchdog, &links[5], &c[5], "10.0.0.2", DSCM_LINK_REPLY, now - 90000);
    CHECK(
        dscm_watchdog_evict(watchdog, "10.0.0.1")); /* its own, though another is idle for longer */
    CHECK(ended(&c[1]) && open_now(&c[2]));
    CHECK(!dscm_watchdog_evict(watchdog, "10.0.0.1")); /* who works or is served is not closed */
    CHECK(dscm_watchdog_evict(watchdog, NULL));
    CHECK(ended(&c[2]));
    CHECK(dscm_watchdog_evict(watchdog, NULL)); /* then a body that is late by more than a second */
    CHECK(ended(&c[4]));
    CHECK(!dscm_watchdog_evict(watchdog, "10.0.0.2"));
    CHECK(open_now(&c[0]) && open_now(&c[3]) && open_now(&c[5]));
    for (int i = 0; i < COUNT; i++) dscm_watchdog_unlink(watchdog, &links[i]);
    dscm_watchdog_free(watchdog);
    for (int i = 0; i < COUNT; i++) disconnect(&c[i]);
}

/* An idle connection whose next request has arrived, though nobody has read it, is not closed. */
static void a_request_that_waits_to_be_read_is_not_cut_off(void)
{
    dscm_watchdog *watchdog = open_watchdog(LONG, LONG, LONG);
    connection asking = connect_pair(), silent = connect_pair();
    dscm_link links[2] = {{0}};
    const int64_t now = dscm_clock_ms();
    CHECK_INT(send(asking.client, "GET / HTTP/1.1\r\n", 16, 0), 16);
    char byte;
    CHECK_INT(recv(asking.server, &byte, 1, MSG_PEEK), 1); /* it has arrived */
    link_as(watchdog, &links[0], &asking, "a", DSCM_LINK_IDLE, now - 9000);
    link_as(watchdog, &links[1], &silent, "a", DSCM_LINK_IDLE, now - 10);
    CHECK(dscm_watchdog_evict(watchdog, "a"));
    CHECK(ended(&silent) && open_now(&asking));
    CHECK(!dscm_watchdog_evict(watchdog, "a"));
    for (int i = 0; i < 2; i++) dscm_watchdog_unlink(watchdog, &links[i]);
    dscm_watchdog_free(watchdog);
    disconnect(&asking);
    disconnect(&silent);
}

/* ---- refused clients ---- */

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* Its answer reaches a client that goes on sending: the connection is read, not reset. */
static void what_a_refused_client_sends_is_thrown_away(void)
{
    static const char body[65536];
    dscm_watchdog *watchdog = open_watchdog(LONG, LONG, LONG);
    connection c = connect_pair();
    CHECK_INT(send(c.server, "no", 2, 0), 2);
    shutdown(c.server, SHUT_WR);
    dscm_watchdog_linger(watchdog, c.server);
    for (int i = 0; i < 16; i++) CHECK_INT(send(c.client, body, sizeof body, 0), sizeof body);
    char got[3] = "";
    CHECK_INT(recv(c.client, got, 2, 0), 2);
    CHECK_STR(got, "no");
    CHECK(is_open(c.server));
    close(c.client); /* the end of the client is the end of it, long before two seconds */
    int64_t start = dscm_clock_ms();
    while (is_open(c.server) && dscm_clock_ms() < start + 60000) usleep(1000);
    CHECK(!is_open(c.server));
    dscm_watchdog_free(watchdog);
}

static void of_too_many_the_oldest_is_closed(void)
{
    static connection c[DSCM_LINGER_MAX + 1];
    dscm_watchdog *watchdog = open_watchdog(LONG, LONG, LONG);
    for (size_t i = 0; i < TEST_COUNT(c); i++) c[i] = connect_pair();
    for (size_t i = 0; i < DSCM_LINGER_MAX; i++) dscm_watchdog_linger(watchdog, c[i].server);
    CHECK(open_now(&c[0]));
    dscm_watchdog_linger(watchdog, c[DSCM_LINGER_MAX].server);
    CHECK(ended(&c[0]));
    CHECK(open_now(&c[1]));
    dscm_watchdog_free(watchdog); /* closes what lingers */
    CHECK(ended(&c[1]));
    CHECK(ended(&c[DSCM_LINGER_MAX]));
    for (size_t i = 0; i < TEST_COUNT(c); i++) close(c[i].client);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"a_parked_request_wakes_at_its_time_or_when_its_client_leaves",
         a_parked_request_wakes_at_its_time_or_when_its_client_leaves},
        {"bytes_that_wait_are_no_end", bytes_that_wait_are_no_end},
        {"many_are_woken_together", many_are_woken_together},
        {"a_slow_head_body_or_reply_is_late", a_slow_head_body_or_reply_is_late},
        {"idle_and_working_links_have_no_limit", idle_and_working_links_have_no_limit},
        {"one_that_is_not_admitted_is_closed_at_once", one_that_is_not_admitted_is_closed_at_once},
        {"the_longest_idle_makes_room", the_longest_idle_makes_room},
        {"a_request_that_waits_to_be_read_is_not_cut_off",
         a_request_that_waits_to_be_read_is_not_cut_off},
        {"what_a_refused_client_sends_is_thrown_away", what_a_refused_client_sends_is_thrown_away},
        {"of_too_many_the_oldest_is_closed", of_too_many_the_oldest_is_closed},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
