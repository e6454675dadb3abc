/* The script that Redis runs for the shared store, and calls of it. A connection belongs to one thread. */
#ifndef DSCM_SERVER_SHARED_SCRIPT_H
#define DSCM_SERVER_SHARED_SCRIPT_H

#include "server/blob.h"
#include "server/redis.h"

dscm_span dscm_shared_script(void); /* static storage */

/* Under which name Redis knows it: its SHA-1, as Redis gave it. */
typedef struct dscm_script_id {
    char text[64];
} dscm_script_id;

/* Makes the script known to the server. */
dscm_code dscm_shared_script_load(dscm_redis *redis, dscm_script_id *out,
                                  dscm_error *err) DSCM_MUST_CHECK;
/* Appends a call of one of its operations; false: no memory, or too many arguments. */
bool dscm_shared_script_send(dscm_redis *redis, const dscm_script_id *id, const char *operation,
                             const dscm_span *args, size_t count) DSCM_MUST_CHECK;

#endif
