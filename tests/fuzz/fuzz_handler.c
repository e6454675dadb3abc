/* The whole handler: raw bytes over a loopback connection to the service on its fake engine.
 * Whatever is sent, the answer is HTTP or the end of the connection, and it comes soon. */
#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/service.h"
#include "tests/http/fake_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static dscm_service *service;

static void stop(void)
{
    dscm_service_stop(service);
}

static void start(void)
{
    static char *flags[] = {"--port=0",          "--admin-port=0",  "--workers=1",
                            "--log-level=error", "--header-ms=200", "--body-ms=200",
                            "--wait-s=1",        "--wait-max-s=1",  "--deadline-max-ms=500",
                            "--deadline-ms=500"};
    dscm_settings settings;
    uint8_t digest[DSCM_DIGEST_SIZE];
    setenv("FAKE_STEP_MS", "0", 1);
    dscm_crypto_digest("", 0, digest); /* libcrypto's own exit handler must come after `stop` */
    if (dscm_settings_load(&settings, sizeof flags / sizeof flags[0], flags, NULL, NULL) !=
            DSCM_OK ||
        dscm_service_open(&service, &settings, &fake_engine_calls, &fake_catalogue, NULL) !=
            DSCM_OK)
        abort();
    atexit(stop);
}

static int connect_service(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)dscm_service_port(service)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) abort();
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char reply[4096];
    if (!service) start();
    int fd = connect_service();
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    /* An unfinished request is answered by the guard (408) within a second; most inputs are refused
     * at once. Waiting only a little keeps the fuzzer quick and adds clients that leave. */
    if (sent > 0 && poll(&wait, 1, 3) > 0) {
        ssize_t got = recv(fd, reply, sizeof reply, 0);
        if (got >= 9 && memcmp(reply, "HTTP/1.", 7) != 0) __builtin_trap();
    }
    close(fd);
    return 0;
}
