#include "server/redis.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"

struct dscm_redis {
    redisContext *context;
};

/* ---- addresses ---- */

static dscm_code refuse(const char *url, dscm_error *err)
{
    return dscm_fail(err, DSCM_E_INVALID,
                     "store is \"%s\", allowed are memory, sqlite:PATH, "
                     "redis://[USER@]HOST[:PORT][/DB] and redis+unix:///PATH[?db=N]",
                     url);
}

/* A number from 0 to `most` that fills `text`; -1 otherwise. */
static int number_of(const char *text, long most)
{
    size_t digits = strspn(text, "0123456789");
    if (!digits || digits > 6 || text[digits]) return -1;
    long value = atol(text);
    return value <= most ? (int)value : -1;
}

static dscm_code parse_path(dscm_redis_address *out, const char *url, const char *path,
                            dscm_error *err)
{
    const char *query = strchr(path, '?');
    size_t length = query ? (size_t)(query - path) : strlen(path);
    if (path[0] != '/' || length < 2 || length >= sizeof out->path) return refuse(url, err);
    memcpy(out->path, path, length);
    if (!query) return DSCM_OK;
    out->db = strncmp(query, "?db=", 4) == 0 ? number_of(query + 4, 999999) : -1;
    return out->db < 0 ? refuse(url, err) : DSCM_OK;
}

dscm_code dscm_redis_parse(dscm_redis_address *out, const char *url, dscm_error *err)
{
    char rest[sizeof out->host + sizeof out->user + 16];
    *out = (dscm_redis_address){.port = 6379};
    if (strncmp(url, "redis+unix://", 13) == 0) return parse_path(out, url, url + 13, err);
    if (strncmp(url, "rediss://", 9) == 0)
        return dscm_fail(err, DSCM_E_INVALID,
                         "store is \"%s\": encrypted links are left to a tunnel beside the process "
                         "(stunnel, a service mesh); give its address as redis://",
                         url);
    if (strncmp(url, "redis://", 8) != 0 || strlen(url + 8) >= sizeof rest) return refuse(url, err);
    strcpy(rest, url + 8);
    char *host = rest, *at = strchr(rest, '@'), *slash = strchr(rest, '/');
    if (at) {
        *at = 0;
        host = at + 1;
        slash = strchr(host, '/');
        if (strchr(rest, ':'))
            return dscm_fail(err, DSCM_E_INVALID,
                             "store: a password has no place in the address, which others can "
                             "read: put it into the file that store-password-file names");
        if (!*rest || strlen(rest) >= sizeof out->user) return refuse(url, err);
        strcpy(out->user, rest);
    }
    if (slash) *slash = 0;
    if (slash && slash[1] && (out->db = number_of(slash + 1, 999999)) < 0) return refuse(url, err);
    char *bracket = *host == '[' ? strchr(host, ']') : NULL; /* an IPv6 address */
    char *colon = strchr(bracket ? bracket : host, ':');
    if (colon) {
        *colon = 0;
        if ((out->port = number_of(colon + 1, 65535)) < 1) return refuse(url, err);
    }
    if (bracket) *bracket = 0, host++;
    if (!*host || strlen(host) >= sizeof out->host) return refuse(url, err);
    strcpy(out->host, host);
    return DSCM_OK;
}

dscm_code dscm_redis_password(dscm_redis_address *address, const char *path, dscm_error *err)
{
    if (!*path) return DSCM_OK;
    FILE *file = fopen(path, "re");
    if (!file)
        return dscm_fail(err, DSCM_E_NOT_FOUND, "store-password-file %s: %s", path,
                         strerror(errno));
    char *got = fgets(address->password, sizeof address->password, file);
    int next = got && !strchr(got, '\n') ? fgetc(file) : EOF;
    fclose(file);
    if (next != EOF && next != '\n')
        return dscm_fail(err, DSCM_E_LIMIT,
                         "store-password-file %s: its first line is longer than %zu bytes", path,
                         sizeof address->password - 1);
    if (got) got[strcspn(got, "\r\n")] = 0;
    if (got && *got) return DSCM_OK;
    return dscm_fail(err, DSCM_E_FORMAT, "store-password-file %s: its first line is empty", path);
}

/* ---- connections ---- */

static dscm_code command(dscm_redis *redis, const dscm_span *args, size_t count, dscm_error *err)
{
    dscm_redis_reply *reply =
        dscm_redis_send(redis, args, count) ? dscm_redis_receive(redis) : NULL;
    const char *failure = reply ? dscm_redis_failure(reply) : dscm_redis_error(redis);
    dscm_code code = DSCM_OK;
    if (failure)
        code =
            dscm_fail(err, DSCM_E_IO, "store: %s refused: %s", (const char *)args[0].data, failure);
    dscm_redis_reply_free(reply);
    return code;
}

static dscm_code greet(dscm_redis *redis, const dscm_redis_address *a, dscm_error *err)
{
    dscm_code code = DSCM_OK;
    char db[16];
    snprintf(db, sizeof db, "%d", a->db);
    dscm_span login[] = {dscm_span_text("AUTH"), dscm_span_text(a->user),
                         dscm_span_text(a->password)};
    dscm_span choose[] = {dscm_span_text("SELECT"), dscm_span_text(db)};
    if (a->password[0] && a->user[0]) code = command(redis, login, 3, err);
    login[1] = login[2];
    if (a->password[0] && !a->user[0]) code = command(redis, login, 2, err);
    if (code == DSCM_OK && a->db) code = command(redis, choose, 2, err);
    return code;
}

dscm_code dscm_redis_open(dscm_redis **out, const dscm_redis_address *address, int timeout_ms,
                          dscm_error *err)
{
    dscm_redis *redis = dscm_alloc(1, sizeof *redis, "a connection to the store", err);
    if (!redis) return DSCM_E_MEMORY;
    struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    redis->context = address->path[0]
                         ? redisConnectUnixWithTimeout(address->path, limit)
                         : redisConnectWithTimeout(address->host, address->port, limit);
    dscm_code code = DSCM_OK;
    if (!redis->context || redis->context->err)
        code = dscm_fail(err, DSCM_E_IO, "store: cannot connect: %s", dscm_redis_error(redis));
    else if (redisSetTimeout(redis->context, limit) != REDIS_OK)
        code = dscm_fail(err, DSCM_E_IO, "store: %s", dscm_redis_error(redis));
    if (code == DSCM_OK && !address->path[0]) (void)redisEnableKeepAlive(redis->context);
    if (code == DSCM_OK) code = greet(redis, address, err);
    if (code != DSCM_OK) {
        dscm_redis_close(redis);
        return code;
    }
    *out = redis;
    return DSCM_OK;
}

void dscm_redis_close(dscm_redis *redis)
{
    if (!redis) return;
    if (redis->context) redisFree(redis->context);
    dscm_free(redis);
}

const char *dscm_redis_error(const dscm_redis *redis)
{
    const redisContext *c = redis->context;
    if (!c) return "no memory";
    if (c->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK))
        return "no answer in time";
    return c->err ? c->errstr : "no reply";
}

bool dscm_redis_send(dscm_redis *redis, const dscm_span *args, size_t count)
{
    const char *texts[DSCM_REDIS_ARGS_MAX];
    size_t sizes[DSCM_REDIS_ARGS_MAX];
    if (count > DSCM_REDIS_ARGS_MAX) return false;
    for (size_t i = 0; i < count; i++) {
        texts[i] = args[i].size ? args[i].data : "";
        sizes[i] = args[i].size;
    }
    return redisAppendCommandArgv(redis->context, (int)count, texts, sizes) == REDIS_OK;
}

dscm_redis_reply *dscm_redis_receive(dscm_redis *redis)
{
    void *reply = NULL;
    return redisGetReply(redis->context, &reply) == REDIS_OK ? reply : NULL;
}

bool dscm_redis_listen(dscm_redis *redis, int wake_fd, int wait_ms, dscm_redis_reply **out)
{
    redisContext *c = redis->context;
    void *reply = NULL;
    *out = NULL;
    if (redisGetReplyFromReader(c, &reply) != REDIS_OK) return false;
    if (!reply) {
        struct pollfd two[] = {{c->fd, POLLIN, 0}, {wake_fd, POLLIN, 0}};
        int ready = poll(two, 2, wait_ms);
        if (ready == 0 || (ready < 0 && errno == EINTR)) return true;
        if (ready > 0 && !two[0].revents) return true;
        if (ready < 0 || redisBufferRead(c) != REDIS_OK ||
            redisGetReplyFromReader(c, &reply) != REDIS_OK)
            return false;
    }
    *out = reply;
    return true;
}

/* ---- replies ---- */

void dscm_redis_reply_free(dscm_redis_reply *reply)
{
    if (reply) freeReplyObject(reply);
}

const char *dscm_redis_failure(const dscm_redis_reply *reply)
{
    return reply->type == REDIS_REPLY_ERROR ? reply->str : NULL;
}

size_t dscm_redis_count(const dscm_redis_reply *reply)
{
    return reply && reply->type == REDIS_REPLY_ARRAY ? reply->elements : 0;
}

const dscm_redis_reply *dscm_redis_at(const dscm_redis_reply *reply, size_t index)
{
    return index < dscm_redis_count(reply) ? reply->element[index] : NULL;
}

dscm_span dscm_redis_bytes(const dscm_redis_reply *reply)
{
    if (!reply || (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS))
        return (dscm_span){"", 0};
    return (dscm_span){reply->str, (size_t)reply->len};
}
