/* Heads of requests to a service with keys behind a trusted proxy, and to the admin listener: the input is
 * what stands behind "GET /models HTTP/1.1" and Host, so that most of it reaches the handlers. The first
 * byte chooses port and route. Without the key nothing but the page may be had. */
#include <stdio.h>

#include "tests/fuzz/service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char keys_flag[64] = "--keys-file=/tmp/diffscm-fuzz-XXXXXX";

static void remove_keys(void)
{
    unlink(strchr(keys_flag, '=') + 1);
}

static void start(void)
{
    static char *flags[] = {"--trusted-proxy", "--cors-origins=https://a.example", keys_flag};
    /* SHA-256 of "key" */
    static const char line[] =
        "fuzz 2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683\n";
    if (service) return;
    int fd = mkstemp(strchr(keys_flag, '=') + 1);
    if (fd < 0 || write(fd, line, sizeof line - 1) != (ssize_t)sizeof line - 1) abort();
    close(fd);
    atexit(remove_keys);
    fuzz_service_start(flags, sizeof flags / sizeof flags[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const routes[] = {"GET /models",      "POST /samples", "GET /jobs/x",
                                         "OPTIONS /samples", "GET /readyz",   "GET /metrics",
                                         "DELETE /jobs/x",   "GET /healthz"};
    char head[8192];
    int status;
    start();
    if (!size) return 0;
    bool admin = data[0] & 1;
    int length = snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: x\r\n", routes[data[0] / 2 % 8]);
    size_t most = sizeof head - (size_t)length - 4, rest = size - 1 < most ? size - 1 : most;
    memcpy(head + length, data + 1, rest);
    memcpy(head + length + rest, "\r\n\r\n", 4);
    fuzz_service_send(admin ? dscm_http_port(service->admin) : dscm_service_port(service), head,
                      (size_t)length + rest + 4, &status);
    const char *key = memmem(data, size, "key", 3);
    if (!admin && !key && status >= 200 && status < 300 && data[0] / 2 % 8 < 3) __builtin_trap();
    return 0;
}
