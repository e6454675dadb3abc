#include "server/http.h"

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

#include "core/base/memory.h"
#include "server/clock.h"
#include "server/crypto.h"
#include "server/http_internal.h"

#if MHD_VERSION < 0x00097001
#error "libmicrohttpd 0.9.71 or later is needed"
#endif

#define THREAD_STACK ((size_t)2 << 20) /* deep JSON needs more than 512 KiB */

/* ---- exchanges ---- */

exchange *dscm_exchange_ref_(exchange *e)
{
    atomic_fetch_add(&e->references, 1);
    return e;
}

void dscm_exchange_unref_(exchange *e)
{
    if (atomic_fetch_sub(&e->references, 1) != 1) return;
    dscm_job_unref(e->base.job);
    if (e->response && e->response != e->http->no_memory) MHD_destroy_response(e->response);
    free(e->body);
    dscm_quota_return(&e->body_share);
    dscm_quota_return(&e->base.stream);
    dscm_free(e->uri);
    dscm_free(e);
}

/* Called when the request line is in. What it returns becomes the exchange of the connection. */
static void *on_uri(void *arg, const char *uri, struct MHD_Connection *connection)
{
    dscm_http *http = arg;
    exchange *e = dscm_alloc(1, sizeof *e, "a request", NULL);
    if (!e) return NULL;
    e->uri = dscm_strdup(dscm_http_local_target_(uri), NULL);
    if (!e->uri) {
        dscm_free(e);
        return NULL;
    }
    char *question = strchr(e->uri, '?');
    if (question) *question = 0;
    dscm_http_decode_path_(e->uri);
    e->base.path = e->uri;
    e->base.query = question ? question + 1 : NULL;
    e->base.method = "";
    e->base.arrived_us = dscm_clock_us();
    e->waiter.wake = dscm_exchange_changed_;
    e->park.wake = dscm_exchange_woken_;
    e->http = http;
    e->connection = connection;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    e->link = info ? info->socket_context : NULL;
    atomic_init(&e->references, 1);
    atomic_init(&e->base.gone, false);
    atomic_init(&e->base.timed_out, false);
    return e;
}

/* ---- strictness ---- */

typedef struct header_counts {
    int hosts, lengths, encodings;
    const char *length, *encoding;
    bool bad, bad_name;
} header_counts;

/* A name with a space before its colon is another header to one reader and the same to the next. */
static bool is_token(const char *name)
{
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz";
    return *name && !name[strspn(name, allowed)];
}

static enum MHD_Result count_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    header_counts *counts = arg;
    (void)kind;
    if (!is_token(name)) counts->bad_name = true;
    if (strcasecmp(name, "Host") == 0) counts->hosts++;
    if (strcasecmp(name, "Content-Length") == 0) counts->lengths++, counts->length = value;
    if (strcasecmp(name, "Transfer-Encoding") == 0) counts->encodings++, counts->encoding = value;
    for (const char *c = value ? value : ""; *c; c++)
        if ((unsigned char)*c < 32 && *c != '\t') counts->bad = true;
    return MHD_YES;
}

/* What lets two parties read one message differently is refused: libmicrohttpd takes the first. */
static bool strict(exchange *e, const char *version, size_t *length, bool *has_body)
{
    header_counts counts = {0};
    const char *why = NULL;
    MHD_get_connection_values(e->connection, MHD_HEADER_KIND, count_header, &counts);
    if (counts.hosts > 1) why = "more than one Host header";
    if (counts.lengths > 1) why = "more than one Content-Length header";
    if (counts.encodings > 1) why = "more than one Transfer-Encoding header";
    if (counts.lengths && counts.encodings)
        why = "both Content-Length and Transfer-Encoding: the end of the body is not certain";
    if (counts.encodings && strcasecmp(version, MHD_HTTP_VERSION_1_1) != 0)
        why = "Transfer-Encoding needs HTTP/1.1";
    if (counts.encodings && counts.encoding && strcasecmp(counts.encoding, "chunked") != 0)
        why = "the only Transfer-Encoding understood is chunked";
    if (counts.length &&
        (!*counts.length || strspn(counts.length, "0123456789") != strlen(counts.length)))
        why = "Content-Length is not a number";
    if (counts.bad) why = "a header holds a control character";
    if (counts.bad_name) why = "a header name holds a space or another sign it may not";
    *length = counts.length && !why ? strtoull(counts.length, NULL, 10) : 0;
    *has_body = counts.encodings || *length;
    if (!why) return true;
    dscm_exchange_refuse(&e->base, DSCM_PROBLEM_BAD_REQUEST, "%s", why);
    e->must_close = true;
    return false;
}

/* ---- the life of a request ---- */

static void choose_request_id(exchange *e)
{
    char fresh[DSCM_ID_SIZE] = "0";
    const char *given = dscm_exchange_header(&e->base, "X-Request-Id");
    size_t length = given ? strlen(given) : 0;
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:/+=";
    if (length && length < DSCM_REQUEST_ID_SIZE && strspn(given, allowed) == length) {
        memcpy(e->base.request_id, given, length + 1);
        return;
    }
    if (dscm_crypto_id(fresh, NULL) == DSCM_OK) memcpy(e->base.request_id, fresh, sizeof fresh);
}

/* The client of a refused request is still sending its body: the library closes the connection after
 * the answer, and a copy of the descriptor takes what comes, so that the answer is not lost. */
static void linger(exchange *e)
{
    int copy = e->link ? fcntl(e->link->fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (copy >= 0) dscm_watchdog_linger(e->http->watchdog, copy);
}

/* Headers are complete. */
static enum MHD_Result begin(exchange *e, const char *method, const char *version)
{
    size_t length;
    bool has_body;
    e->opened = true;
    e->base.method = method;
    atomic_fetch_add(&e->http->active, 1);
    e->counted = true;
    if (e->link && !dscm_link_enter(e->link, DSCM_LINK_BODY)) return MHD_NO;
    choose_request_id(e);
    dscm_http_find_address_(e->connection, e->base.address);
    if (e->http->options.trusted_proxy) dscm_http_find_forwarded_(e);
    if (strict(e, version, &length, &has_body)) {
        e->http->options.head(e->http->options.arg, &e->base);
        if (!e->answered && has_body && length > e->base.body_max)
            dscm_exchange_refuse(&e->base, DSCM_PROBLEM_TOO_LARGE,
                                 "the body has %zu bytes, allowed are %zu", length,
                                 e->base.body_max);
        e->body_most = length ? length : e->base.body_max;
    }
    if (!e->answered) return MHD_YES;
    if (has_body) { /* an early answer does not wait for a body that nobody wants */
        e->must_close = true;
        linger(e);
    }
    return dscm_exchange_respond_(e);
}

static void body_free(exchange *e)
{
    free(e->body);
    e->body = NULL;
    e->base.body = NULL;
    dscm_quota_return(&e->body_share);
}

uint8_t *dscm_exchange_body_take(dscm_exchange *base, dscm_quota_share *share)
{
    exchange *e = exchange_of(base);
    uint8_t *body = e->body;
    *share = e->body_share;
    e->body = NULL;
    e->base.body = NULL;
    e->body_share = (dscm_quota_share){0};
    return body;
}

/* Answers in the middle of a body, which the library cannot, and ends the connection. */
static enum MHD_Result hang_up(exchange *e, dscm_problem_code code, const char *format, ...)
{
    char detail[DSCM_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    e->answered = true;
    e->base.status = dscm_problem_kind_of(code)->status;
    e->base.uploads_full = code == DSCM_PROBLEM_UPLOADS_FULL;
    body_free(e);
    dscm_http_last_words_(e->link ? e->link->fd : -1, e, code, detail);
    linger(e);
    return MHD_NO;
}

/* Room for `size` bytes, within the quota of bodies; what the quota or malloc says. */
static dscm_quota_result body_reserve(exchange *e, size_t size)
{
    if (size <= e->body_capacity) return DSCM_QUOTA_TAKEN;
    size_t capacity = e->body_capacity ? e->body_capacity : 4096;
    while (capacity < size) capacity *= 2;
    if (capacity > e->body_most && size <= e->body_most) capacity = e->body_most;
    const char *client = *e->base.owner ? e->base.owner : e->base.address;
    dscm_quota_result result = e->http->options.bodies
                                   ? dscm_quota_take(e->http->options.bodies, client,
                                                     &e->body_share, capacity - e->body_capacity)
                                   : DSCM_QUOTA_TAKEN;
    if (result != DSCM_QUOTA_TAKEN) return result;
    uint8_t *body = realloc(e->body, capacity);
    if (!body) return DSCM_QUOTA_NO_MEMORY;
    e->body = body;
    e->body_capacity = capacity;
    return DSCM_QUOTA_TAKEN;
}

/* A piece of the body. */
static enum MHD_Result collect(exchange *e, const char *data, size_t size)
{
    if (e->answered || (e->link && atomic_load(&e->link->phase) == DSCM_LINK_EXPIRED))
        return MHD_NO;
    if (e->base.body_size + size > e->base.body_max) /* chunked bodies tell no length */
        return hang_up(e, DSCM_PROBLEM_TOO_LARGE,
                       "the body has more than the %zu bytes that are allowed", e->base.body_max);
    switch (body_reserve(e, e->base.body_size + size)) {
    case DSCM_QUOTA_TAKEN:
        break;
    case DSCM_QUOTA_FULL:
        return hang_up(e, DSCM_PROBLEM_UPLOADS_FULL,
                       "the bodies of all requests fill the memory kept for them (bodies-mb): try "
                       "again in a moment");
    case DSCM_QUOTA_CLIENT_FULL:
        return hang_up(e, DSCM_PROBLEM_UPLOADS_FULL,
                       "the bodies of your requests fill the memory that one client may have "
                       "(client-share of bodies-mb): try again when some are answered");
    default:
        return hang_up(e, DSCM_PROBLEM_UPLOADS_FULL, "no memory for the body");
    }
    memcpy(e->body + e->base.body_size, data, size);
    e->base.body_size += size;
    return MHD_YES;
}

/* The request is complete, or a parked one was woken. */
static enum MHD_Result proceed(exchange *e)
{
    if (!e->answered && !e->dispatched) {
        e->dispatched = true;
        e->base.body = e->body;
        if (e->link && !dscm_link_enter(e->link, DSCM_LINK_WORK)) return MHD_NO;
        e->http->options.handle(e->http->options.arg, &e->base);
        if (e->answered || !e->base.keep_body) body_free(e);
    } else if (!e->answered && e->base.resume) {
        if (atomic_load(&e->base.gone)) {
            e->base.status = 499;
            return MHD_NO;
        }
        e->base.resume(&e->base);
        if (e->answered || !e->base.keep_body) body_free(e);
    }
    return e->answered ? dscm_exchange_respond_(e) : MHD_YES; /* else it is parked */
}

/* ---- calls of the library ---- */

/* A thread serves one listener all its life. */
static _Thread_local size_t loop_slot;

void dscm_http_enter_(dscm_http *http)
{
    if (!loop_slot) loop_slot = 1 + atomic_fetch_add(&http->loops, 1) % DSCM_HTTP_LOOPS;
    atomic_store(&http->busy_since[loop_slot - 1], dscm_clock_ms());
}

void dscm_http_leave_(dscm_http *http)
{
    atomic_store(&http->busy_since[loop_slot - 1], 0);
}

int64_t dscm_http_busy_ms(dscm_http *http)
{
    int64_t longest = 0, now = dscm_clock_ms();
    for (size_t i = 0; i < DSCM_HTTP_LOOPS; i++) {
        int64_t since = atomic_load(&http->busy_since[i]);
        if (since && now - since > longest) longest = now - since;
    }
    return longest;
}

static enum MHD_Result serve(exchange *e, const char *method, const char *version, const char *data,
                             size_t *data_size)
{
    if (!e) return MHD_NO; /* no memory when the request line came */
    if (!e->opened) return begin(e, method, version);
    if (*data_size) {
        size_t size = *data_size;
        *data_size = 0;
        return collect(e, data, size);
    }
    return proceed(e);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **context)
{
    (void)connection, (void)url;
    dscm_http_enter_(arg);
    enum MHD_Result result = serve(*context, method, version, data, data_size);
    dscm_http_leave_(arg);
    return result;
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code)
{
    dscm_http *http = arg;
    exchange *e = *context;
    (void)connection;
    if (!e) return;
    *context = NULL;
    dscm_http_enter_(http);
    bool late = e->link && atomic_load(&e->link->phase) == DSCM_LINK_EXPIRED;
    if (late && !e->queued) e->base.status = 408;
    if (!late && code != MHD_REQUEST_TERMINATED_COMPLETED_OK && !e->streaming)
        e->base.status = e->queued || e->answered ? e->base.status : 499;
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK && e->streaming)
        atomic_store(&e->base.gone, true);
    if (e->opened)
        http->options.done(http->options.arg, &e->base, dscm_clock_us() - e->base.arrived_us);
    if (e->counted) atomic_fetch_sub(&http->active, 1);
    if (e->link) dscm_link_enter(e->link, DSCM_LINK_IDLE);
    dscm_exchange_unref_(e);
    dscm_http_leave_(http);
}

/* ---- connections ---- */

/* Counts the connection for its address. One too many takes the place of an idle one of the same
 * address; false when there is none. */
static bool admit_address(dscm_http *http, dscm_link *link)
{
    if (!http->addresses ||
        dscm_quota_take(http->addresses, link->address, &link->share, 1) != DSCM_QUOTA_TAKEN ||
        dscm_quota_held(&link->share) <= http->options.client_connections)
        return true; /* without memory to count it, too */
    return dscm_watchdog_evict(http->watchdog, link->address);
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    dscm_http *http = arg;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        int fd = info ? info->connect_fd : -1; /* the next call overwrites *info since 1.0 */
        /* At its limit the library accepts nothing more: silent connections must not keep others
         * out. The new one is not in the list yet, so it does not make room for itself. */
        if (atomic_fetch_add(&http->connections, 1) + 1 >= http->options.connections)
            dscm_watchdog_evict(http->watchdog, NULL);
        dscm_link *link = fd >= 0 ? dscm_alloc(1, sizeof *link, "a connection", NULL) : NULL;
        if (link) {
            dscm_http_find_address_(connection, link->address);
            dscm_watchdog_link(http->watchdog, link, fd, admit_address(http, link));
        }
        *context = link;
        return;
    }
    atomic_fetch_sub(&http->connections, 1);
    dscm_link *link = *context;
    *context = NULL;
    if (!link) return;
    dscm_watchdog_unlink(http->watchdog, link);
    dscm_quota_return(&link->share);
    dscm_free(link);
}

/* From the watchdog, with its lock held. */
static void on_late(void *arg, dscm_link *link, dscm_link_phase phase)
{
    dscm_http *http = arg;
    if (phase == DSCM_LINK_REPLY) return; /* the client does not read: nothing more to say */
    dscm_http_last_words_(link->fd, NULL, DSCM_PROBLEM_REQUEST_TIMEOUT,
                          phase == DSCM_LINK_IDLE ? "the head of the request took too long"
                                                  : "the body of the request took too long");
    if (phase == DSCM_LINK_IDLE) http->options.slow(http->options.arg, 408);
}

static dscm_code listen_on(int *out, int *port, const char *host, dscm_error *err)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char service[8];
    snprintf(service, sizeof service, "%d", *port);
    int found = getaddrinfo(*host ? host : NULL, service, &hints, &list);
    if (found != 0) return dscm_fail(err, DSCM_E_INVALID, "host %s: %s", host, gai_strerror(found));
    int fd = -1, one = 1, saved = 0;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
        if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (fd >= 0 && bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 1024) == 0) break;
        saved = errno;
        if (fd >= 0) close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    if (fd < 0)
        return dscm_fail(err, DSCM_E_SYSTEM, "cannot listen on %s port %d: %s", host, *port,
                         strerror(saved));
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &size) == 0) {
        char text[8];
        if (getnameinfo((struct sockaddr *)&bound, size, NULL, 0, text, sizeof text,
                        NI_NUMERICSERV) == 0)
            *port = atoi(text);
    }
    *out = fd;
    return DSCM_OK;
}

/* What the library says about itself. One thing matters: that accept() fails for want of descriptors
 * (somebody lowered the limit under us, or the system has none). The library waits until one of its
 * connections closes; without any it would spin. */
static void on_words(void *arg, const char *format, va_list args)
{
    enum { SILENCE_MS = 10000 };
    dscm_http *http = arg;
    (void)args;
    if (!strstr(format, "resource limit")) return;
    int64_t now = dscm_clock_ms(), last = atomic_load(&http->starved_ms);
    if ((!last || now - last >= SILENCE_MS) &&
        atomic_compare_exchange_strong(&http->starved_ms, &last, now))
        http->options.starved(http->options.arg);
    if (strstr(format, "busy waiting")) nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
}

static struct MHD_Daemon *start_daemon(dscm_http *http)
{
    const dscm_http_options *o = &http->options;
    struct MHD_OptionItem more[3] = {{MHD_OPTION_END, 0, NULL}};
    size_t n = 0;
    if (o->threads > 1)
        more[n++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, o->threads, NULL};
#if MHD_VERSION >= 0x01000000
    more[n++] = (struct MHD_OptionItem){MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1, NULL};
#else
    more[n++] = (struct MHD_OptionItem){MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL};
#endif
    more[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    return MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
        on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_words, http, MHD_OPTION_LISTEN_SOCKET,
        http->listener, MHD_OPTION_URI_LOG_CALLBACK, on_uri, http, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, http, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->connections, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)o->idle_s, MHD_OPTION_THREAD_STACK_SIZE, THREAD_STACK, MHD_OPTION_ARRAY, more,
        MHD_OPTION_END);
}

dscm_code dscm_http_open(dscm_http **out, const dscm_http_options *options, dscm_error *err)
{
    dscm_http *http = dscm_alloc(1, sizeof *http, "the HTTP listener", err);
    if (!http) return DSCM_E_MEMORY;
    http->options = *options;
    http->listener = -1;
    http->port = options->port;
    dscm_code code = listen_on(&http->listener, &http->port, options->host, err);
    if (code != DSCM_OK) goto fail;
    http->no_memory = dscm_http_no_memory_();
    if (!http->no_memory) {
        code = dscm_fail(err, DSCM_E_MEMORY, "no memory for the HTTP listener");
        goto fail;
    }
    if (options->client_connections) {
        code = dscm_quota_open(&http->addresses, 0, 0, err);
        if (code != DSCM_OK) goto fail;
    }
    dscm_watchdog_options watchdog = {options->header_ms, options->body_ms, options->reply_ms,
                                      on_late, http};
    code = dscm_watchdog_open(&http->watchdog, &watchdog, err);
    if (code != DSCM_OK) goto fail;
    errno = 0;
    http->daemon = start_daemon(http);
    if (!http->daemon) {
        code =
            dscm_fail(err, DSCM_E_SYSTEM, "cannot start the HTTP listener on %s port %d%s%s",
                      options->host, http->port, errno ? ": " : "", errno ? strerror(errno) : "");
        goto fail;
    }
    *out = http;
    return DSCM_OK;
fail:
    dscm_http_free(http);
    return code;
}

int dscm_http_port(const dscm_http *http)
{
    return http->port;
}

void dscm_http_quiesce(dscm_http *http)
{
    MHD_socket fd = MHD_quiesce_daemon(http->daemon);
    if (fd == MHD_INVALID_SOCKET) return;
    /* Refuses connections from now on, but keeps the descriptor: the daemon's thread may still
     * name it, and a new file must not get its number. */
    shutdown(fd, SHUT_RDWR);
    http->quiesced = true;
}

size_t dscm_http_active(dscm_http *http)
{
    return atomic_load(&http->active);
}

size_t dscm_http_connections(dscm_http *http)
{
    return atomic_load(&http->connections);
}

void dscm_http_free(dscm_http *http)
{
    if (!http) return;
    if (http->daemon)
        MHD_stop_daemon(http->daemon); /* closes the listening socket unless it was quiesced */
    if (http->listener >= 0 && (!http->daemon || http->quiesced)) close(http->listener);
    dscm_watchdog_free(http->watchdog);
    dscm_quota_free(http->addresses);
    if (http->no_memory) MHD_destroy_response(http->no_memory);
    dscm_free(http);
}

const char *dscm_exchange_header(dscm_exchange *base, const char *name)
{
    return MHD_lookup_connection_value(exchange_of(base)->connection, MHD_HEADER_KIND, name);
}
