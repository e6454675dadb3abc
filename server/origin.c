#include "server/origin.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#define HOST_MAX 256

/* The next entry of a list, NULL at its end; *length without the separators. */
static const char *next_entry(const char **list, size_t *length)
{
    *list += strspn(*list, ", ");
    const char *entry = *list;
    *length = strcspn(entry, ", ");
    *list += *length;
    return *length ? entry : NULL;
}

bool dscm_origin_listed(const char *list, const char *origin)
{
    size_t length;
    for (const char *entry; (entry = next_entry(&list, &length));)
        if ((length == 1 && *entry == '*') ||
            (strncmp(entry, origin, length) == 0 && !origin[length]))
            return true;
    return false;
}

bool dscm_origin_allowed(const char *list, const char *origin, const char *fetch_site,
                         const char *host)
{
    if (origin && dscm_origin_listed(list, origin)) return true;
    if (fetch_site) /* what the browser found: certain, whatever a proxy did to Host */
        return strcasecmp(fetch_site, "same-origin") == 0 || strcasecmp(fetch_site, "none") == 0;
    if (!origin) return true;
    const char *name = strstr(origin, "://");
    return name && host && strcasecmp(name + 3, host) == 0;
}

/* The name of HOST[:PORT] or [ADDRESS]:PORT; false when it does not fit. */
static bool host_name(const char *host, size_t length, char out[HOST_MAX])
{
    const char *end = memchr(host, *host == '[' ? ']' : ':', length);
    if (*host == '[') host++, length--;
    if (end) length = (size_t)(end - host);
    if (length >= HOST_MAX) return false;
    memcpy(out, host, length);
    out[length] = 0;
    if (length && out[length - 1] == '.') out[length - 1] = 0;
    return true;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcasecmp(text + a - b, end) == 0;
}

bool dscm_origin_rebound(const char *list, const char *host, const char *own)
{
    char name[HOST_MAX], other[HOST_MAX];
    struct in6_addr address;
    size_t length;
    if (!host || !*host) return false;
    if (!host_name(host, strlen(host), name)) return true;
    if (!strchr(name, '.') || ends_with(name, ".localhost") || strcasecmp(name, own) == 0)
        return false;
    if (inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1)
        return false;
    for (const char *entry; (entry = next_entry(&list, &length));) {
        const char *at = strstr(entry, "://");
        if (!at || at + 3 >= entry + length) continue;
        if (host_name(at + 3, (size_t)(entry + length - at - 3), other) &&
            strcasecmp(other, name) == 0)
            return false;
    }
    return true;
}
