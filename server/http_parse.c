/* Addresses of callers and targets of requests. */
#include "core/base/memory.h"
#include "server/clock.h"
#include "server/crypto.h"
#include "server/http.h"
#include "server/http_internal.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

void dscm_http_find_address_(struct MHD_Connection *connection, char out[DSCM_ADDRESS_SIZE])
{
    snprintf(out, DSCM_ADDRESS_SIZE, "unknown");
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (!info || !info->client_addr) return;
    socklen_t size = info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                              : sizeof(struct sockaddr_in);
    getnameinfo(info->client_addr, size, out, DSCM_ADDRESS_SIZE, NULL, 0, NI_NUMERICHOST);
}

static enum MHD_Result last_forwarded(void *arg, enum MHD_ValueKind kind, const char *name,
                                      const char *value)
{
    (void)kind;
    if (strcasecmp(name, "X-Forwarded-For") == 0) *(const char **)arg = value;
    return MHD_YES;
}

/* An address as proxies write it: 192.0.2.1, 192.0.2.1:1234, 2001:db8::1, [2001:db8::1],
 * [2001:db8::1]:443, with or without quotes; its usual spelling goes to `out`. What is no address leaves
 * `out` as it is. */
static void take_address(const char *text, char out[DSCM_ADDRESS_SIZE])
{
    char copy[DSCM_ADDRESS_SIZE], usual[INET6_ADDRSTRLEN];
    struct in6_addr binary; /* room for both families */
    text += strspn(text, " \t\"");
    size_t length = strcspn(text, " \t\"");
    if (length >= sizeof copy || text[length + strspn(text + length, " \t\"")]) return;
    memcpy(copy, text, length);
    copy[length] = 0;
    char *start = copy, *end = copy + length, *colon = strchr(copy, ':');
    if (*copy == '[') {
        start++;
        end = strchr(copy, ']');
    } else if (colon && !strchr(colon + 1, ':')) {
        end = colon;
    }
    if (!end) return;
    const char *port = *end == ']' ? end + 1 : end;
    if (*port && (*port != ':' || !port[1] || port[1 + strspn(port + 1, "0123456789")])) return;
    *end = 0;
    int family = strchr(start, ':') ? AF_INET6 : AF_INET;
    if (inet_pton(family, start, &binary) == 1 && inet_ntop(family, &binary, usual, sizeof usual))
        snprintf(out, DSCM_ADDRESS_SIZE, "%s", usual);
}

/* The nearest proxy appended the address it saw, to the line or as a line of its own: earlier entries
 * are the client's own words. */
void dscm_http_find_forwarded_(exchange *e)
{
    const char *list = NULL;
    MHD_get_connection_values(e->connection, MHD_HEADER_KIND, last_forwarded, &list);
    if (!list) return;
    const char *last = strrchr(list, ',');
    take_address(last ? last + 1 : list, e->base.address);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Undoes percent escapes in place; those of a slash or NUL stay, they would make another path. */
void dscm_http_decode_path_(char *path)
{
    char *out = path;
    for (; *path; path++) {
        int high = *path == '%' ? hex_digit(path[1]) : -1;
        int low = high < 0 ? -1 : hex_digit(path[2]);
        int c = high << 4 | low;
        if (low < 0 || c == 0 || c == '/') {
            *out++ = *path;
            continue;
        }
        *out++ = (char)c;
        path += 2;
    }
    *out = 0;
}

/* The path and query of a request target, which may be absolute: http://host/path?query. */
const char *dscm_http_local_target_(const char *uri)
{
    size_t scheme = strncasecmp(uri, "http://", 7) == 0    ? 7
                    : strncasecmp(uri, "https://", 8) == 0 ? 8
                                                           : 0;
    if (!scheme) return uri;
    const char *rest = uri + scheme + strcspn(uri + scheme, "/?");
    return *rest == '/' ? rest : "/";
}
