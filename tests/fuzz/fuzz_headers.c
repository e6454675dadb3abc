/* Heads of requests to a service with keys behind a trusted proxy, and to the admin listener: the input is
 * what stands behind "GET /models HTTP/1.1" and Host, so that most of it reaches the handlers. The first
 * byte chooses port and route. Without the key nothing but the page may be had. */
#include <stdio.h>

#include "server/negotiate.h"
#include "server/origin.h"
#include "tests/fuzz/service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char keys_flag[64] = "--keys-file=/tmp/diffscm-fuzz-XXXXXX", store_flag[96];

static void remove_files(void)
{
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
    char path[128];
    unlink(strchr(keys_flag, '=') + 1);
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s%s", strchr(store_flag, ':') + 1, ends[i]);
        unlink(path);
    }
}

static void start(void)
{
    static char *flags[] = {"--trusted-proxy", "--cors-origins=https://a.example", keys_flag,
                            store_flag};
    /* SHA-256 of "key" */
    static const char line[] =
        "fuzz 2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683\n";
    if (service) return;
    int fd = mkstemp(strchr(keys_flag, '=') + 1);
    if (fd < 0 || write(fd, line, sizeof line - 1) != (ssize_t)sizeof line - 1) abort();
    close(fd);
    snprintf(store_flag, sizeof store_flag, "--store=sqlite:%s.db", strchr(keys_flag, '=') + 1);
    atexit(remove_files);
    fuzz_service_start(flags, sizeof flags / sizeof flags[0]);
}

/* Functions over the text of a header: the first line, and the second as another one. */
static void parse(const char *text)
{
    static const char list[] = "https://a.example http://b.example:8080,null";
    char first[256];
    size_t length = strcspn(text, "\r\n");
    const char *second = text + length + strspn(text + length, "\r\n");
    snprintf(first, sizeof first, "%.*s", (int)(length < 255 ? length : 255), text);
    dscm_media media = dscm_media_negotiate(first);
    dscm_prefer prefer = dscm_prefer_parse(first);
    if (media < DSCM_MEDIA_NONE || media > DSCM_MEDIA_EVENTS || prefer.wait_s > 86400)
        __builtin_trap();
    (void)dscm_media_is(first, "image/");
    (void)dscm_media_is(first, "application/json");
    if (dscm_origin_listed(list, first) && !dscm_origin_allowed(list, first, NULL, second))
        __builtin_trap();
    (void)dscm_origin_allowed("", *first ? first : NULL, second, "localhost:8080");
    (void)dscm_origin_allowed("", first, NULL, second);
    (void)dscm_origin_rebound(list, first, "c.example");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const routes[] = {
        "GET /models",  "POST /samples",  "GET /jobs/x",  "OPTIONS /samples", "GET /readyz",
        "GET /metrics", "DELETE /jobs/x", "GET /healthz", "GET /livez",       "POST /livez"};
    char head[8192];
    int status;
    start();
    if (!size) return 0;
    memcpy(head, data + 1, size - 1 < sizeof head ? size - 1 : sizeof head - 1);
    head[size - 1 < sizeof head ? size - 1 : sizeof head - 1] = 0;
    parse(head);
    bool admin = data[0] & 1;
    int length =
        snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: x\r\n", routes[data[0] / 2 % 10]);
    size_t most = sizeof head - (size_t)length - 4, rest = size - 1 < most ? size - 1 : most;
    memcpy(head + length, data + 1, rest);
    memcpy(head + length + rest, "\r\n\r\n", 4);
    fuzz_service_send(admin ? dscm_http_port(service->admin) : dscm_service_port(service), head,
                      (size_t)length + rest + 4, &status);
    const char *key = memmem(data, size, "key", 3);
    if (!admin && !key && status >= 200 && status < 300 && data[0] / 2 % 10 < 3) __builtin_trap();
    return 0;
}
