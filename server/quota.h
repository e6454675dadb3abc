/* Amounts that clients hold of something limited (bytes of request bodies, connections): a limit in
 * all and one for each client. Does not know what is counted, and does not wait: what would go
 * beyond a limit is refused.
 *
 * Threads: `lock` guards everything inside; functions take it themselves and call nothing under it.
 * A share belongs to one thread at a time. Ownership: a share is a value of its holder; what it
 * counts is given back by dscm_quota_return alone.
 */
#ifndef DSCM_SERVER_QUOTA_H
#define DSCM_SERVER_QUOTA_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"

typedef struct dscm_quota dscm_quota;

typedef enum dscm_quota_result {
    DSCM_QUOTA_TAKEN,
    DSCM_QUOTA_FULL,        /* the limit of all clients together */
    DSCM_QUOTA_CLIENT_FULL, /* this client's limit */
    DSCM_QUOTA_NO_MEMORY
} dscm_quota_result;

/* What one holder has taken. All zero: nothing. May be moved by copying it and zeroing the source. */
typedef struct dscm_quota_share {
    dscm_quota *quota; /* NULL: nothing is held */
    struct dscm_quota_client *client;
    size_t amount;
} dscm_quota_share;

/* Limits of all clients together and of each one; 0: none. */
dscm_code dscm_quota_open(dscm_quota **out, size_t total, size_t each,
                          dscm_error *err) DSCM_MUST_CHECK;
void dscm_quota_free(dscm_quota *quota); /* takes NULL; no share may be left */
/* Adds `amount` to the share of `client`, always the same one for a share. On any other result the
 * share is as it was. */
dscm_quota_result dscm_quota_take(dscm_quota *quota, const char *client, dscm_quota_share *share,
                                  size_t amount) DSCM_MUST_CHECK;
/* Gives back everything of the share. */
void dscm_quota_return(dscm_quota_share *share);
size_t dscm_quota_used(dscm_quota *quota);
/* What the client of the share holds in all its shares; 0 for an empty share. */
size_t dscm_quota_held(const dscm_quota_share *share);

#endif
