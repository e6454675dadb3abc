/* A service on its fake engine inside a fuzz target, and one exchange of raw bytes with it. */
#ifndef DSCM_TESTS_FUZZ_SERVICE_H
#define DSCM_TESTS_FUZZ_SERVICE_H

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/service.h"
#include "tests/http/fake_engine.h"

static dscm_service *service;

static void fuzz_service_stop(void)
{
    dscm_service_stop(service);
}

/* Starts it once with these flags besides those that keep it quick. */
static void fuzz_service_start(char *const *flags, size_t count)
{
    char *all[32] = {
        "--port=0",       "--admin-port=0",        "--workers=1",      "--log-level=error",
        "--body-kb=16",   "--header-ms=200",       "--body-ms=200",    "--wait-s=1",
        "--wait-max-s=1", "--deadline-max-ms=500", "--deadline-ms=500"};
    enum { OWN = 11 };
    if (getenv("FUZZ_WAIT_MS")) all[3] = "--log-level=debug";
    dscm_settings settings;
    uint8_t digest[DSCM_DIGEST_SIZE];
    if (service) return;
    for (size_t i = 0; i < count; i++) all[OWN + i] = flags[i];
    setenv("FAKE_STEP_MS", "0", 1);
    dscm_crypto_digest("", 0, digest); /* libcrypto's own exit handler must come after `stop` */
    if (dscm_settings_load(&settings, (int)(OWN + count), all, NULL, NULL) != DSCM_OK ||
        dscm_service_open(&service, &settings, &fake_engine_calls, &fake_catalogue, NULL) !=
            DSCM_OK)
        abort();
    atexit(fuzz_service_stop);
}

/* Sends the bytes over a connection of their own. Whatever they are, the answer is HTTP or the end of
 * the connection, and it comes soon. *status: of the answer, 0 without one. */
static void fuzz_service_send(int port, const void *data, size_t size, int *status)
{
    char reply[4096];
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *status = 0;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) abort();
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    const char *patience = getenv("FUZZ_WAIT_MS"); /* of a run over seeds alone */
    /* An unfinished request is answered by the watchdog (408) within a second; most inputs are refused
     * at once. Waiting only a little keeps the fuzzer quick and adds clients that leave. */
    if (sent > 0 && poll(&wait, 1, patience ? atoi(patience) : 3) > 0) {
        ssize_t got = recv(fd, reply, sizeof reply - 1, 0);
        if (got >= 12 && memcmp(reply, "HTTP/1.", 7) != 0) __builtin_trap();
        if (got >= 12) *status = atoi(reply + 9);
    }
    close(fd);
}

#endif
