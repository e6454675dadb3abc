/* What a client asks for in its headers: Accept, Prefer, media types. Pure functions on text. */
#ifndef DSCM_SERVER_NEGOTIATE_H
#define DSCM_SERVER_NEGOTIATE_H

#include <stdbool.h>

typedef enum dscm_media {
    DSCM_MEDIA_NONE,
    DSCM_MEDIA_JSON,
    DSCM_MEDIA_PNG,
    DSCM_MEDIA_EVENTS
} dscm_media;

/* The form with the highest quality value; JSON wins a tie and where nothing is said. NONE: none of
 * ours is acceptable. `header` may be NULL. */
dscm_media dscm_media_negotiate(const char *header);

typedef struct dscm_prefer {
    bool async;
    long wait_s; /* -1: not given */
} dscm_prefer;
/* RFC 7240: what is not understood is ignored. `header` may be NULL. */
dscm_prefer dscm_prefer_parse(const char *header);

/* The header's media type without parameters is `type`; a type that ends in "/" matches all of its
 * kind. `header` may be NULL. */
bool dscm_media_is(const char *header, const char *type);

#endif
