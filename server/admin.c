/* The admin listener: health and metrics, apart from the public one so that its connections can
 * never starve a probe. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/version.h"
#include "core/io/text_stream.h"
#include "server/service.h"

void dscm_admin_head(void *service, dscm_exchange *exchange)
{
    static const char *const paths[] = {"/livez", "/readyz", "/metrics"};
    exchange->service = service;
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(exchange->path, paths[i]) != 0) continue;
        if (dscm_exchange_refuse_query(exchange)) return;
        if (strcmp(exchange->method, "GET") == 0 || strcmp(exchange->method, "HEAD") == 0) return;
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_METHOD_NOT_ALLOWED, "only GET and HEAD");
        dscm_exchange_header_set(exchange, "Allow", "GET, HEAD");
        return;
    }
    dscm_exchange_refuse(exchange, DSCM_PROBLEM_NOT_FOUND, "here are /livez, /readyz and /metrics");
}

static void text(dscm_exchange *exchange, int status, const char *body)
{
    dscm_exchange_reply(exchange, status, "text/plain; charset=utf-8", (void *)(uintptr_t)body,
                        strlen(body), DSCM_BODY_STATIC);
    dscm_exchange_header_set(exchange, "Cache-Control", "no-store");
}

/* A listener whose thread is that long inside one call serves nobody. */
#define STALLED_MS 2000

static void ready(dscm_service *s, dscm_exchange *exchange)
{
    if (atomic_load(&s->draining))
        text(exchange, 503, "draining\n");
    else if (!atomic_load(&s->ready))
        text(exchange, 503, "loading\n");
    else if (!s->shared && dscm_queue_depth(s->queue) >= (size_t)s->settings.queue_capacity)
        text(exchange, 503, "full\n");
    else if (s->http && dscm_http_busy_ms(s->http) > STALLED_MS)
        text(exchange, 503, "stalled\n");
    else
        text(exchange, 200, "ready\n");
}

static void metrics(dscm_service *s, dscm_exchange *exchange)
{
    bool loaded = atomic_load(&s->ready);
    dscm_metrics_gauges gauges = {.routes = dscm_route_names,
                                  .models = loaded ? s->model_labels : NULL,
                                  .queue_depth = dscm_service_depth(s),
                                  .queue_capacity = (size_t)s->settings.queue_capacity,
                                  .workers = loaded ? s->workers : 0,
                                  .connections =
                                      loaded && s->http ? dscm_http_connections(s->http) : 0,
                                  .bodies_bytes = dscm_quota_used(s->bodies),
                                  .log_dropped = dscm_log_dropped(&s->log),
                                  .start_wall = s->start_wall,
                                  .version = DSCM_VERSION};
    s->jobs->count(s->jobs, &gauges.jobs_kept, &gauges.jobs_bytes);
    dscm_abduction_cache_count(s->abductions, &gauges.abductions, &gauges.abduction_bytes);
    if (s->journal) {
        dscm_journal_figures f;
        dscm_journal_count(s->journal, &f);
        gauges.journal = true;
        gauges.store_pending = f.pending;
        gauges.store_written = f.written;
        gauges.store_commits = f.commits;
        gauges.store_failures = f.failures;
        gauges.store_sync_s = f.sync_us * 1e-6;
        gauges.store_backlog = atomic_load(&s->backlog_waiting);
    }
    dscm_shared_figures shared;
    if (s->shared) {
        dscm_shared_count(s->shared, &shared);
        gauges.shared = &shared;
    }
    dscm_text_stream body;
    dscm_code code = dscm_text_stream_open(&body, "metrics", NULL);
    if (code == DSCM_OK) {
        dscm_metrics_render(&s->metrics, &gauges, body.file);
        code = dscm_text_stream_close(&body, "metrics", NULL);
    }
    if (code == DSCM_OK)
        dscm_exchange_reply(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", body.data,
                            body.size, DSCM_BODY_FREE);
    else
        dscm_exchange_refuse(exchange, DSCM_PROBLEM_INTERNAL, "out of memory");
}

void dscm_admin_handle(void *service, dscm_exchange *exchange)
{
    if (strcmp(exchange->path, "/livez") == 0)
        text(exchange, 200, "alive\n");
    else if (strcmp(exchange->path, "/readyz") == 0)
        ready(service, exchange);
    else
        metrics(service, exchange);
}

void dscm_admin_done(void *arg, dscm_exchange *exchange, int64_t took_us)
{
    dscm_service *service = arg;
    if (service->log.level > DSCM_LOG_DEBUG) return; /* probes would drown the log */
    dscm_log_write(&service->log, DSCM_LOG_DEBUG, "admin",
                   json_pack("{s:s, s:i, s:f}", "path", exchange->path, "status", exchange->status,
                             "ms", (double)took_us * 1e-3));
}
