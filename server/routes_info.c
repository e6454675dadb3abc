#include <stdlib.h>
#include <string.h>

#include "server/routes.h"

static dscm_model_limits limits_of(const dscm_service *service)
{
    return (dscm_model_limits){(size_t)service->settings.body_kb << 10,
                               service->settings.deadline_max_ms,
                               service->catalogue.image_side_max};
}

void dscm_get_models(dscm_service *service, dscm_exchange *exchange, const dscm_captures *captures)
{
    (void)captures;
    size_t size = 0;
    dscm_model_limits limits = limits_of(service);
    char *body = dscm_reply_models(&service->catalogue, &limits, &size);
    dscm_exchange_reply(exchange, 200, "application/json", body, size, DSCM_BODY_FREE);
}

void dscm_get_model(dscm_service *service, dscm_exchange *exchange, const dscm_captures *captures)
{
    const dscm_catalogue *catalogue = &service->catalogue;
    for (size_t i = 0; i < catalogue->count; i++) {
        if (strcmp(catalogue->models[i].info->name, captures->text[0]) != 0) continue;
        size_t size = 0;
        dscm_model_limits limits = limits_of(service);
        char *body = dscm_reply_model(&catalogue->models[i], &limits, &size);
        dscm_exchange_reply(exchange, 200, "application/json", body, size, DSCM_BODY_FREE);
        return;
    }
    dscm_exchange_refuse(exchange, DSCM_PROBLEM_NOT_FOUND,
                         "there is no model \"%s\"; GET /models lists them", captures->text[0]);
}

void dscm_get_openapi(dscm_service *service, dscm_exchange *exchange, const dscm_captures *captures)
{
    (void)service, (void)captures;
    size_t size;
    const char *text = dscm_openapi_text(&size);
    dscm_exchange_reply(exchange, 200, "application/json", (void *)(uintptr_t)text, size,
                        DSCM_BODY_STATIC);
}

void dscm_get_asset(dscm_service *service, dscm_exchange *exchange, const dscm_captures *captures)
{
    (void)captures;
    const dscm_asset *asset = dscm_assets_find(service->assets, exchange->path);
    if (!asset) return;
    bool fresh =
        dscm_etag_matches(dscm_exchange_header(exchange, "If-None-Match"), asset->etag) != 0;
    if (fresh)
        dscm_exchange_reply(exchange, 304, NULL, NULL, 0, DSCM_BODY_STATIC);
    else
        dscm_exchange_reply(exchange, 200, asset->type, asset->data, asset->size, DSCM_BODY_STATIC);
    dscm_exchange_header_set(exchange, "ETag", asset->etag);
    dscm_exchange_header_set(exchange, "Cache-Control", "no-cache");
    dscm_exchange_header_set(exchange, "Referrer-Policy", "no-referrer");
    dscm_exchange_header_set(exchange, "Content-Security-Policy",
                             "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; "
                             "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
}
