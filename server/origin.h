/* Which web pages may call: a browser sends what a page asks for with the user's address, so that a service
 * on loopback would do the work of any page. Pure functions over the headers of a request. */
#ifndef DSCM_SERVER_ORIGIN_H
#define DSCM_SERVER_ORIGIN_H

#include <stdbool.h>

/* `origin` (scheme://host[:port] or null) is in the list, separated by commas or blanks; * allows all. */
bool dscm_origin_listed(const char *list, const char *origin);
/* A call with these headers (NULL: absent) is not of a browser, of the service's own page, of the user
 * himself, or of a listed origin. */
bool dscm_origin_allowed(const char *list, const char *origin, const char *fetch_site,
                         const char *host);
/* A Host that a page of others can only have by pointing a name of its own at this machine (DNS
 * rebinding): a name with a dot that is no address, not of localhost, not `own`, not of a listed origin. */
bool dscm_origin_rebound(const char *list, const char *host, const char *own);

#endif
