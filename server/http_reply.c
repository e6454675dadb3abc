#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/query.h"
#include "server/clock.h"
#include "server/http_internal.h"

/* ---- making replies ---- */

static char no_memory_body[] =
    "{\"type\":\"about:blank\",\"title\":\"Internal error\",\"status\":503,"
    "\"detail\":\"out of memory\"}\n";

struct MHD_Response *dscm_http_no_memory_(void)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        sizeof no_memory_body - 1, no_memory_body, MHD_RESPMEM_PERSISTENT);
    if (!response) return NULL;
    if (MHD_add_response_header(response, "Content-Type", "application/problem+json") == MHD_YES &&
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") == MHD_YES &&
        MHD_add_response_header(response, "Retry-After", "1") == MHD_YES &&
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES)
        return response;
    MHD_destroy_response(response);
    return NULL;
}

/* Records the decision first: a refusal stays one when its reply cannot be allocated. */
static void made(exchange *e, int status, const char *type, size_t size,
                 struct MHD_Response *response)
{
    e->answered = true;
    e->response = response ? response : e->http->no_memory;
    e->base.status = response ? status : 503;
    e->base.sent = response ? size : sizeof no_memory_body - 1;
    if (!response) return;
    if (type) dscm_exchange_header_set(&e->base, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    dscm_exchange_header_set(&e->base, "X-Content-Type-Options", "nosniff");
    dscm_exchange_header_set(&e->base, "X-Request-Id", e->base.request_id);
}

void dscm_exchange_header_set(dscm_exchange *base, const char *name, const char *value)
{
    exchange *e = exchange_of(base);
    /* Without memory the header is left out: the reply is still right without it. */
    if (e->response && e->response != e->http->no_memory &&
        MHD_add_response_header(e->response, name, value) == MHD_NO)
        return;
}

void dscm_exchange_reply(dscm_exchange *base, int status, const char *type, void *body, size_t size,
                         dscm_body ownership)
{
    static char no_memory[] =
        "{\"type\":\"about:blank\",\"title\":\"Internal error\",\"status\":500,"
        "\"detail\":\"out of memory\"}\n";
    if (!body && size == 0 && (status == 204 || status == 304)) {
        body = (void *)"";
        ownership = DSCM_BODY_STATIC;
    }
    if (!body) {
        status = 500;
        type = "application/problem+json";
        body = no_memory;
        size = sizeof no_memory - 1;
        ownership = DSCM_BODY_STATIC;
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(
        size, body, ownership == DSCM_BODY_FREE ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!response && ownership == DSCM_BODY_FREE) free(body);
    made(exchange_of(base), status, type, size, response);
}

void dscm_exchange_reply_shared(dscm_exchange *base, int status, const char *type, const void *body,
                                size_t size, void *holder, void (*release)(void *holder))
{
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        size, (void *)(uintptr_t)body, release, holder);
    if (!response) release(holder);
    made(exchange_of(base), status, type, size, response);
}

void dscm_exchange_problem(dscm_exchange *base, const dscm_problem *problem)
{
    size_t size = 0;
    char *body = dscm_problem_json(problem, base->path, base->request_id, &size);
    dscm_exchange_reply(base, dscm_problem_kind_of(problem->code)->status,
                        "application/problem+json", body, size, DSCM_BODY_FREE);
}

void dscm_exchange_refuse(dscm_exchange *base, dscm_problem_code code, const char *format, ...)
{
    char detail[DSCM_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    dscm_problem problem = {0};
    dscm_problem_set(&problem, code, "%s", detail);
    dscm_exchange_problem(base, &problem);
}

bool dscm_exchange_refuse_query(dscm_exchange *base)
{
    dscm_query_string pairs;
    dscm_problem problem = {0};
    if (dscm_query_parse(&pairs, base->query, &problem) && !pairs.count) return false;
    for (size_t i = 0; i < pairs.count; i++) {
        char place[DSCM_PROBLEM_POINTER_MAX];
        snprintf(place, sizeof place, "?%s", pairs.names[i]);
        dscm_problem_add(&problem, DSCM_PROBLEM_MALFORMED_QUERY, place,
                         "The query parameter '%.64s' does not exist here: this call takes none.",
                         pairs.names[i]);
    }
    dscm_exchange_problem(base, &problem);
    return true;
}

static ssize_t stream_read(void *arg, uint64_t position, char *out, size_t size)
{
    exchange *e = arg;
    (void)position;
    if (atomic_load(&e->base.gone)) return MHD_CONTENT_READER_END_WITH_ERROR;
    dscm_http_enter_(e->http);
    ssize_t count = e->base.read(&e->base, out, size);
    dscm_http_leave_(e->http);
    return count < 0 ? MHD_CONTENT_READER_END_OF_STREAM : count;
}

static void stream_end(void *arg)
{
    exchange *e = arg;
    if (e->base.finished) e->base.finished(&e->base);
    dscm_exchange_unref_(e);
}

void dscm_exchange_stream(dscm_exchange *base, const char *type)
{
    exchange *e = exchange_of(base);
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, 4096, stream_read, dscm_exchange_ref_(e), stream_end);
    if (!response) {
        stream_end(e);
        dscm_exchange_reply(base, 500, NULL, NULL, 0, DSCM_BODY_STATIC);
        return;
    }
    e->streaming = true;
    made(e, 200, type, 0, response);
    dscm_exchange_header_set(base, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    dscm_exchange_header_set(base, "X-Accel-Buffering", "no");
}

void dscm_exchange_close(dscm_exchange *base)
{
    exchange_of(base)->must_close = true;
}

enum MHD_Result dscm_exchange_respond_(exchange *e)
{
    if (e->queued) return MHD_YES;
    if (!e->response) return MHD_NO;
    /* When every connection is busy, the first to become idle makes room. */
    if (atomic_load(&e->http->connections) >= e->http->options.connections) e->must_close = true;
    if (e->must_close) dscm_exchange_header_set(&e->base, MHD_HTTP_HEADER_CONNECTION, "close");
    char timing[48];
    snprintf(timing, sizeof timing, "total;dur=%.3f",
             (double)(dscm_clock_us() - e->base.arrived_us) * 1e-3);
    dscm_exchange_header_set(&e->base, "Server-Timing", timing);
    if (e->http->options.decorate) e->http->options.decorate(e->http->options.arg, &e->base);
    if (e->link && !dscm_link_enter(e->link, e->streaming ? DSCM_LINK_WORK : DSCM_LINK_REPLY))
        return MHD_NO;
    e->queued = true;
    enum MHD_Result result =
        MHD_queue_response(e->connection, (unsigned)e->base.status, e->response);
    struct MHD_Response *response = e->response;
    e->response = NULL; /* the library holds its own share; `queued` remembers the reply */
    if (response != e->http->no_memory) MHD_destroy_response(response);
    return result;
}

void dscm_http_last_words_(int fd, const exchange *e, dscm_problem_code code, const char *detail)
{
    if (fd < 0) return;
    const dscm_problem_kind *kind = dscm_problem_kind_of(code);
    dscm_problem problem = {0};
    char text[2048];
    size_t size = 0;
    dscm_problem_set(&problem, code, "%s", detail);
    char *body = dscm_problem_json(&problem, NULL, e ? e->base.request_id : NULL, &size);
    int length =
        snprintf(text, sizeof text,
                 "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\n"
                 "X-Content-Type-Options: nosniff\r\nConnection: close\r\n%s"
                 "Content-Length: %zu\r\n\r\n%s",
                 kind->status, kind->title, kind->status == 503 ? "Retry-After: 1\r\n" : "",
                 body ? size : 0, body ? body : "");
    free(body);
    if (length < 0 || (size_t)length >= sizeof text) return;
    ssize_t sent = send(fd, text, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)sent; /* the connection ends either way */
}

/* ---- waiting ---- */

/* Whoever took the waiter off the job, or found it taken off, resumes; nobody else does. */
static void unpark(exchange *e)
{
    if (dscm_watchdog_unpark(e->http->watchdog, &e->park)) dscm_exchange_unref_(e);
    MHD_resume_connection(e->connection);
    dscm_exchange_unref_(e); /* the waiter's share; the connection may be gone by now */
}

void dscm_exchange_changed_(dscm_waiter *waiter)
{
    unpark((exchange *)((char *)waiter - offsetof(exchange, waiter)));
}

void dscm_exchange_woken_(dscm_park *park, bool gone)
{
    exchange *e = (exchange *)((char *)park - offsetof(exchange, park));
    atomic_store(gone ? &e->base.gone : &e->base.timed_out, true);
    if (dscm_job_unwait(e->base.job, &e->waiter)) unpark(e);
    dscm_exchange_unref_(e); /* the watchdog's share */
}

void dscm_exchange_park(dscm_exchange *base, dscm_job *job, uint64_t after, int64_t wake_ms)
{
    exchange *e = exchange_of(base);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(e->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    e->park.fd = info->connect_fd;
    if (!base->job) base->job = dscm_job_ref(job);
    atomic_store(&base->timed_out, false);
    e->park.wake_ms = wake_ms;
    dscm_exchange_ref_(e); /* the waiter's */
    dscm_exchange_ref_(e); /* the watchdog's */
    MHD_suspend_connection(e->connection);
    dscm_watchdog_park(e->http->watchdog, &e->park);
    bool waits = dscm_job_wait(job, &e->waiter, after);
    /* The watchdog may have come in between, when there was no waiter yet that it could take off. */
    bool missed = atomic_load(&base->timed_out) || atomic_load(&base->gone);
    if (!waits || (missed && dscm_job_unwait(job, &e->waiter))) unpark(e);
}
