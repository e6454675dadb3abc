/* A connection to Redis (or Valkey): commands out, replies in. The only part of the program that
 * knows hiredis. Does not know what the commands mean, and does not reconnect by itself: after a
 * failure the connection is closed and another one opened.
 *
 * Threads: a connection belongs to one thread at a time. Ownership: replies are the caller's until
 * dscm_redis_reply_free; what is read from one lives as long as it.
 */
#ifndef DSCM_SERVER_REDIS_H
#define DSCM_SERVER_REDIS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"
#include "server/blob.h"

#define DSCM_REDIS_ARGS_MAX 512

/* Where the server is: redis://[USER@]HOST[:PORT][/DB] or redis+unix:///PATH[?db=N]. */
typedef struct dscm_redis_address {
    char host[256], path[108]; /* one of them is empty */
    int port, db;
    char user[64], password[256]; /* empty: none */
} dscm_redis_address;

/* An error names the address and what is allowed. The password is never part of it. */
dscm_code dscm_redis_parse(dscm_redis_address *out, const char *url,
                           dscm_error *err) DSCM_MUST_CHECK;

/* The password from the first line of a file; path "": none. */
dscm_code dscm_redis_password(dscm_redis_address *address, const char *path,
                              dscm_error *err) DSCM_MUST_CHECK;

typedef struct dscm_redis dscm_redis;
typedef struct redisReply dscm_redis_reply;

/* Connects, authenticates and chooses the database within timeout_ms; every later wait for the
 * server is held to it too. */
dscm_code dscm_redis_open(dscm_redis **out, const dscm_redis_address *address, int timeout_ms,
                          dscm_error *err) DSCM_MUST_CHECK;
void dscm_redis_close(dscm_redis *redis); /* takes NULL */

/* Appends a command of up to DSCM_REDIS_ARGS_MAX arguments; false: no memory. */
bool dscm_redis_send(dscm_redis *redis, const dscm_span *args, size_t count) DSCM_MUST_CHECK;
/* The reply to the oldest command not answered yet, sending first what was appended. NULL: the
 * connection failed, or nothing came in time; close it. */
dscm_redis_reply *dscm_redis_receive(dscm_redis *redis);
/* Waits up to wait_ms for a message that nobody asked for (subscriptions), or until wake_fd can be read
 * (-1: none). False: the connection failed. *out is NULL when none came. */
bool dscm_redis_listen(dscm_redis *redis, int wake_fd, int wait_ms,
                       dscm_redis_reply **out) DSCM_MUST_CHECK;
const char *dscm_redis_error(const dscm_redis *redis); /* why it failed */

void dscm_redis_reply_free(dscm_redis_reply *reply);           /* takes NULL */
const char *dscm_redis_failure(const dscm_redis_reply *reply); /* its error, NULL when it is none */
size_t dscm_redis_count(const dscm_redis_reply *reply);        /* elements; 0: no array */
/* Element `index`, NULL when there is none. */
const dscm_redis_reply *dscm_redis_at(const dscm_redis_reply *reply, size_t index);
/* Text or status of an element, followed by a zero byte; empty when it is none. */
dscm_span dscm_redis_bytes(const dscm_redis_reply *reply);
static inline const char *dscm_redis_text(const dscm_redis_reply *reply, size_t index)
{
    return dscm_redis_bytes(dscm_redis_at(reply, index)).data;
}

#endif
