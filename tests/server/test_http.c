/* A refusal stays one when its reply cannot be allocated. This program's own
 * MHD_create_response_from_buffer stands before the library's and fails when told to. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/http.h"
#include "tests/harness.h"

static atomic_bool failing;
static atomic_int handled;

typedef struct MHD_Response *create_fn(size_t size, void *body, enum MHD_ResponseMemoryMode mode);

struct MHD_Response *MHD_create_response_from_buffer(size_t size, void *body,
                                                     enum MHD_ResponseMemoryMode mode)
{
    create_fn *real = NULL;
    if (atomic_load(&failing)) return NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "MHD_create_response_from_buffer");
    return real(size, body, mode);
}

static void refuse(void *arg, dscm_exchange *exchange)
{
    (void)arg;
    exchange->body_max = 64;
    dscm_exchange_refuse(exchange, DSCM_PROBLEM_UNAUTHORIZED, "no key");
    dscm_exchange_header_set(exchange, "WWW-Authenticate", "Bearer");
}

static void handle(void *arg, dscm_exchange *exchange)
{
    (void)arg;
    atomic_fetch_add(&handled, 1);
    dscm_exchange_reply(exchange, 200, "text/plain", "in", 2, DSCM_BODY_STATIC);
}

static void done(void *arg, dscm_exchange *exchange, int64_t took_us)
{
    (void)arg, (void)exchange, (void)took_us;
}

static void note(void *arg)
{
    (void)arg;
}

static void slow(void *arg, int status)
{
    (void)arg, (void)status;
}

/* Sends a request and reads the whole reply into out. */
static void ask(int port, const char *request, char *out, size_t size)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 10};
    size_t used = 0;
    out[0] = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    CHECK_INT(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    CHECK_INT(send(fd, request, strlen(request), 0), strlen(request));
    for (ssize_t n; used + 1 < size && (n = recv(fd, out + used, size - 1 - used, 0)) > 0;)
        used += (size_t)n;
    out[used] = 0;
    close(fd);
}

static const dscm_http_options listener = {.host = "127.0.0.1",
                                           .threads = 1,
                                           .connections = 16,
                                           .idle_s = 10,
                                           .header_ms = 10000,
                                           .body_ms = 10000,
                                           .reply_ms = 10000,
                                           .done = done,
                                           .slow = slow,
                                           .starved = note};

static void refusals_survive_failing_allocations(void)
{
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"};
    dscm_http_options options = listener;
    options.head = refuse;
    options.handle = handle;
    dscm_http *http = NULL;
    char reply[4096];
    dscm_error err = {0};
    atomic_store(&failing, false);
    REQUIRE(dscm_http_open(&http, &options, &err) == DSCM_OK);
    for (int round = 0; round < 2; round++) {
        atomic_store(&failing, round == 1);
        for (size_t i = 0; i < TEST_COUNT(requests); i++) {
            ask(dscm_http_port(http), requests[i], reply, sizeof reply);
            CHECK(strncmp(reply, round ? "HTTP/1.1 503" : "HTTP/1.1 401", 12) == 0);
        }
    }
    CHECK_INT(atomic_load(&handled), 0);
    atomic_store(&failing, false);
    dscm_http_free(http);
}

static atomic_bool hold;

static void accept_all(void *arg, dscm_exchange *exchange)
{
    (void)arg, (void)exchange;
}

static void handle_slowly(void *arg, dscm_exchange *exchange)
{
    while (atomic_load(&hold)) usleep(1000);
    handle(arg, exchange);
}

static void *ask_in_thread(void *arg)
{
    char reply[4096];
    ask(*(int *)arg, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", reply, sizeof reply);
    CHECK(strncmp(reply, "HTTP/1.1 200", 12) == 0);
    return NULL;
}

/* What /readyz asks: a handler that does not return is seen from outside while it lasts. */
static void a_stalled_listener_is_seen(void)
{
    dscm_http_options options = listener;
    options.head = accept_all;
    options.handle = handle_slowly;
    dscm_http *http = NULL;
    dscm_error err = {0};
    pthread_t client;
    REQUIRE(dscm_http_open(&http, &options, &err) == DSCM_OK);
    int port = dscm_http_port(http);
    CHECK_INT(dscm_http_busy_ms(http), 0);
    atomic_store(&hold, true);
    REQUIRE(pthread_create(&client, NULL, ask_in_thread, &port) == 0);
    while (dscm_http_busy_ms(http) < 50) usleep(1000);
    atomic_store(&hold, false);
    pthread_join(client, NULL);
    while (dscm_http_busy_ms(http)) usleep(1000);
    dscm_http_free(http);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"refusals_survive_failing_allocations", refusals_survive_failing_allocations},
        {"a_stalled_listener_is_seen", a_stalled_listener_is_seen}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
