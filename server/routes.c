#include "server/routes.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/json.h"
#include "server/clock.h"
#include "server/origin.h"

typedef struct route {
    const char *method, *pattern; /* {}: one part of the path */
    dscm_handler *handler;
    bool open;  /* needs no key */
    bool works; /* refused while draining; takes JSON or an image */
} route;

/* The last two lines have no pattern: files of the page, and everything else (for the metrics).
 * dscm_route_names, below, has the same lines in the same order. */
static const route table[] = {
    {"POST", "/counterfactual", dscm_post_counterfactual, false, true},
    {"POST", "/abductions", dscm_post_abduction, false, true},
    {"POST", "/samples", dscm_post_sample, false, true},
    {"DELETE", "/abductions/{}", dscm_delete_abduction, false, false},
    {"GET", "/jobs/{}", dscm_get_job, false, false},
    {"DELETE", "/jobs/{}", dscm_delete_job, false, false},
    {"GET", "/jobs/{}/events", dscm_get_job_events, false, false},
    {"GET", "/jobs/{}/images/{}", dscm_get_job_image, false, false},
    {"GET", "/models", dscm_get_models, false, false},
    {"GET", "/models/{}", dscm_get_model, false, false},
    {"GET", "/openapi.json", dscm_get_openapi, true, false},
    {"GET", NULL, dscm_get_asset, true, false},
    {NULL, NULL, NULL, true, false},
};
enum { ROUTES = sizeof table / sizeof table[0], ROUTE_ASSET = ROUTES - 2, ROUTE_OTHER };

const char *const dscm_route_names[] = {"POST /counterfactual",
                                        "POST /abductions",
                                        "POST /samples",
                                        "DELETE /abductions/{id}",
                                        "GET /jobs/{id}",
                                        "DELETE /jobs/{id}",
                                        "GET /jobs/{id}/events",
                                        "GET /jobs/{id}/images/{name}",
                                        "GET /models",
                                        "GET /models/{name}",
                                        "GET /openapi.json",
                                        "GET /",
                                        "other",
                                        NULL};
static_assert(sizeof dscm_route_names / sizeof dscm_route_names[0] == ROUTES + 1,
              "every line of the table has a name for the metrics, and NULL follows");
static_assert((int)ROUTES <= DSCM_METRICS_ROUTES, "the metrics have room for every route");

/* Every route is served with and without the version in front. */
static const char *without_version(const char *path)
{
    return strncmp(path, "/v1/", 4) == 0 ? path + 3 : path;
}

static bool matches(const char *pattern, const char *path, dscm_captures *captures)
{
    size_t n = 0;
    while (*pattern) {
        if (pattern[0] == '{') {
            size_t length = strcspn(path, "/");
            if (!length || length >= DSCM_CAPTURE_MAX) return false;
            if (captures)
                snprintf(captures->text[n++], DSCM_CAPTURE_MAX, "%.*s", (int)length, path);
            path += length;
            pattern += 2;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == 0;
}

static const char *method_of(const dscm_exchange *exchange)
{
    return strcmp(exchange->method, "HEAD") == 0 ? "GET" : exchange->method;
}

/* Finds the route; `allowed` collects the methods of a path that exists under others. */
static size_t find_route(const dscm_service *service, const dscm_exchange *exchange, char *allowed,
                         size_t size)
{
    const char *path = without_version(exchange->path), *method = method_of(exchange);
    size_t used = 0;
    *allowed = 0;
    for (size_t r = 0; r < ROUTE_ASSET; r++) {
        if (!matches(table[r].pattern, path, NULL)) continue;
        if (strcmp(table[r].method, method) == 0) return r;
        used += (size_t)snprintf(allowed + used, size - used, "%s%s%s", used ? ", " : "",
                                 table[r].method, strcmp(table[r].method, "GET") ? "" : ", HEAD");
    }
    if (used || !dscm_assets_find(service->assets, exchange->path)) return ROUTE_OTHER;
    if (strcmp(method, "GET") == 0) return ROUTE_ASSET;
    snprintf(allowed, size, "GET, HEAD");
    return ROUTE_OTHER;
}

/* ---- before the body ---- */

static void preflight(dscm_exchange *exchange, const char *allowed)
{
    char methods[128];
    snprintf(methods, sizeof methods, "%s%sOPTIONS", allowed, *allowed ? ", " : "");
    dscm_exchange_reply(exchange, 204, NULL, NULL, 0, DSCM_BODY_STATIC);
    dscm_exchange_header_set(exchange, "Allow", methods);
    if (!dscm_exchange_header(exchange, "Access-Control-Request-Method")) return;
    dscm_exchange_header_set(exchange, "Access-Control-Allow-Methods", methods);
    dscm_exchange_header_set(exchange, "Access-Control-Allow-Headers",
                             "Authorization, Content-Type, Accept, Prefer, Idempotency-Key, "
                             "Last-Event-ID, X-Request-Id");
    dscm_exchange_header_set(exchange, "Access-Control-Max-Age", "600");
}

static bool admit_body(dscm_service *service, dscm_exchange *exchange)
{
    const char *type = dscm_exchange_header(exchange, "Content-Type");
    const char *length = dscm_exchange_header(exchange, "Content-Length");
    bool body =
        dscm_exchange_header(exchange, "Transfer-Encoding") || (length && strcmp(length, "0") != 0);
    if (!body) return true; /* what needs one says so when it is parsed */
    const char *encoding = dscm_exchange_header(exchange, "Content-Encoding");
    if (encoding && *encoding && strcasecmp(encoding, "identity") != 0) {
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_UNSUPPORTED_MEDIA_TYPE,
                             "Content-Encoding is \"%.80s\": send the body as it is, without it",
                             encoding);
        dscm_exchange_header_set(exchange, "Accept-Encoding", "identity");
        return false;
    }
    if (dscm_media_is(type, "application/json"))
        exchange->body_max = DSCM_JSON_SIZE_MAX;
    else if (dscm_media_is(type, "image/") || dscm_media_is(type, "application/octet-stream") ||
             dscm_media_is(type, "multipart/form-data"))
        exchange->body_max = (size_t)service->settings.body_kb << 10;
    else
        dscm_exchange_refuse(
            exchange, DSCM_PROBLEM_UNSUPPORTED_MEDIA_TYPE,
            "Content-Type is \"%.80s\", allowed are application/json, image/png, image/jpeg "
            "and multipart/form-data. "
            "A picture works with: curl --data-binary @seven.png -H 'Content-Type: image/png' "
            "'http://localhost:8080/counterfactual?do.digit=8' -H 'Accept: image/png' -o eight.png",
            type ? type : "");
    return exchange->body_max != 0;
}

/* A page of others must not use the service through its visitor's browser, except with a key. */
static bool admit_page(dscm_service *service, dscm_exchange *exchange, bool key)
{
    const dscm_settings *o = &service->settings;
    const char *origin = dscm_exchange_header(exchange, "Origin");
    const char *site = dscm_exchange_header(exchange, "Sec-Fetch-Site");
    const char *host = dscm_exchange_header(exchange, "Host");
    if (!key && !dscm_origin_allowed(o->cors_origins, origin, site, host)) {
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_FORBIDDEN,
                             "Origin is \"%.80s\"%s%.20s, which is neither this service's own nor "
                             "among cors-origins",
                             origin ? origin : "", site ? ", Sec-Fetch-Site " : "",
                             site ? site : "");
        return false;
    }
    if (o->keys_file[0] || o->trusted_proxy || !dscm_settings_loopback(o->host) ||
        !dscm_origin_rebound(o->cors_origins, host, o->host))
        return true;
    dscm_exchange_refuse(exchange, DSCM_PROBLEM_FORBIDDEN,
                         "Host is \"%.80s\"; a service without keys on loopback answers to "
                         "localhost, addresses and the hosts of cors-origins only",
                         host);
    return false;
}

void dscm_routes_head(void *arg, dscm_exchange *exchange)
{
    dscm_service *service = arg;
    char allowed[96];
    exchange->service = service;
    exchange->route = find_route(service, exchange, allowed, sizeof allowed);
    const route *r = &table[exchange->route];
    if (strcmp(exchange->method, "OPTIONS") == 0 && *allowed) {
        preflight(exchange, allowed);
        return;
    }
    if (exchange->route == ROUTE_OTHER) {
        dscm_exchange_refuse(
            exchange, *allowed ? DSCM_PROBLEM_METHOD_NOT_ALLOWED : DSCM_PROBLEM_NOT_FOUND, "%s",
            *allowed ? "this path does not take that method" : "there is nothing at this path");
        if (*allowed) dscm_exchange_header_set(exchange, "Allow", allowed);
        return;
    }
    const char *authorization = dscm_exchange_header(exchange, "Authorization");
    if (!r->open && !dscm_keys_check(service->keys, authorization, exchange->owner)) {
        atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_UNAUTHORIZED], 1);
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_UNAUTHORIZED,
                             authorization ? "the key is not known"
                                           : "a key is needed: Authorization: Bearer KEY");
        dscm_exchange_header_set(exchange, "WWW-Authenticate", "Bearer");
        return;
    }
    if (!r->open && !admit_page(service, exchange, authorization != NULL)) return;
    /* Files of the page may be linked to with what others add to links. */
    bool takes_query = r->works || exchange->route == ROUTE_ASSET;
    if (!takes_query && dscm_exchange_refuse_query(exchange)) return;
    if (!r->open && !atomic_load(&service->ready)) {
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_LOADING, "the models are being loaded");
        return;
    }
    if (r->works && atomic_load(&service->draining)) {
        atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_DRAINING], 1);
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_DRAINING, "the service is being stopped");
        dscm_exchange_close(exchange);
        return;
    }
    if (r->works) admit_body(service, exchange);
}

void dscm_routes_handle(void *arg, dscm_exchange *exchange)
{
    const route *r = &table[exchange->route];
    dscm_captures captures = {0};
    if (r->pattern && !matches(r->pattern, without_version(exchange->path), &captures)) return;
    r->handler(arg, exchange, &captures);
}

/* ---- with every reply ---- */

void dscm_routes_decorate(void *arg, dscm_exchange *exchange)
{
    dscm_service *service = arg;
    const char *origin = dscm_exchange_header(exchange, "Origin");
    if (service->settings.cors_origins[0]) dscm_exchange_header_set(exchange, "Vary", "Origin");
    if (origin && dscm_origin_listed(service->settings.cors_origins, origin)) {
        dscm_exchange_header_set(exchange, "Access-Control-Allow-Origin", origin);
        dscm_exchange_header_set(exchange, "Access-Control-Expose-Headers", "*");
    }
    if (exchange->status == 429 || exchange->status == 503) {
        char seconds[24];
        snprintf(seconds, sizeof seconds, "%ld", dscm_service_retry_after(service));
        dscm_exchange_header_set(exchange, "Retry-After", seconds);
    }
}

static void note_leaving(dscm_service *service, dscm_exchange *exchange)
{
    size_t phase = exchange->flags[DSCM_FLAG_READER] ? DSCM_GONE_STREAM : DSCM_GONE_REQUEST;
    if (exchange->job && exchange->status == 499)
        phase = dscm_job_peek(exchange->job, NULL, NULL, NULL) == DSCM_JOB_QUEUED
                    ? DSCM_GONE_QUEUED
                    : DSCM_GONE_RUNNING;
    atomic_fetch_add(&service->metrics.disconnects[phase], 1);
    if (exchange->job && exchange->flags[DSCM_FLAG_SUBMITTER] &&
        !atomic_load(&exchange->job->detached))
        dscm_service_cancel(service, exchange->job, DSCM_REASON_DISCONNECT);
}

/* Ids of jobs and abductions are all that protects them without keys: the log has their starts. */
#define DSCM_LOGGED_ID   8
#define DSCM_LOGGED_PATH 128

static const char *logged_path(const dscm_exchange *exchange, char out[DSCM_LOGGED_PATH])
{
    size_t length = strlen(exchange->path), used = 0;
    if (length >= DSCM_LOGGED_PATH || exchange->route == ROUTE_ASSET) return exchange->path;
    for (const char *part = exchange->path; *part;) {
        size_t size = strcspn(part + 1, "/") + 1;
        bool id = size == DSCM_ID_SIZE && strspn(part + 1, "0123456789abcdef") >= size - 1;
        size_t kept = id ? DSCM_LOGGED_ID + 1 : size;
        memcpy(out + used, part, kept);
        used += kept;
        part += size;
    }
    out[used] = 0;
    return out;
}

void dscm_routes_done(void *arg, dscm_exchange *exchange, int64_t took_us)
{
    dscm_service *service = arg;
    bool left = exchange->status == 499 ||
                (exchange->flags[DSCM_FLAG_READER] && atomic_load(&exchange->gone));
    if (left) note_leaving(service, exchange);
    if (exchange->status == 413)
        atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_TOO_LARGE], 1);
    if (exchange->status == 408) atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_SLOW], 1);
    if (exchange->uploads_full) atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_UPLOADS], 1);
    if (!exchange->service) { /* refused for its form, before any route was looked for */
        exchange->route = ROUTE_OTHER;
        atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_STRICT], 1);
    }
    dscm_metrics_request(&service->metrics, exchange->route, exchange->status, took_us);
    if (service->log.level > DSCM_LOG_INFO) return;
    char path[DSCM_LOGGED_PATH];
    unsigned long mark = dscm_json_failures();
    json_t *line = json_pack("{s:o, s:o, s:s, s:i, s:I, s:I, s:f, s:s}", "method",
                             dscm_json_string(exchange->method), "path",
                             dscm_json_string(logged_path(exchange, path)), "client",
                             exchange->address, "status", exchange->status, "received",
                             (json_int_t)exchange->body_size, "sent", (json_int_t)exchange->sent,
                             "ms", (double)took_us * 1e-3, "request_id", exchange->request_id);
    if (line && exchange->owner[0]) json_object_set_new(line, "key", json_string(exchange->owner));
    if (line && exchange->job)
        json_object_set_new(line, "job", json_stringn(exchange->job->id, DSCM_LOGGED_ID));
    dscm_log_write(&service->log, DSCM_LOG_INFO, "request", dscm_json_whole(line, mark));
}

void dscm_routes_slow(void *arg, int status)
{
    dscm_service *service = arg;
    atomic_fetch_add(&service->metrics.rejects[DSCM_REJECT_SLOW], 1);
    dscm_metrics_request(&service->metrics, ROUTE_OTHER, status, 0);
    dscm_log_message(&service->log, DSCM_LOG_INFO, "slow", "a head took too long: %d", status);
}
