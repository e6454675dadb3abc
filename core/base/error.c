#include "core/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const code_names[DSCM_E_COUNT] = {
    [DSCM_OK] = "ok",
    [DSCM_E_INVALID] = "invalid",
    [DSCM_E_UNKNOWN] = "unknown",
    [DSCM_E_FORMAT] = "format",
    [DSCM_E_LIMIT] = "limit",
    [DSCM_E_MISMATCH] = "mismatch",
    [DSCM_E_NOT_FOUND] = "not-found",
    [DSCM_E_IO] = "io",
    [DSCM_E_MEMORY] = "memory",
    [DSCM_E_SYSTEM] = "system",
    [DSCM_E_CANCELED] = "canceled",
};

const char *dscm_code_name(dscm_code code)
{
    if ((int)code < 0 || code >= DSCM_E_COUNT) return "unknown-code";
    return code_names[code];
}

dscm_code dscm_fail(dscm_error *err, dscm_code code, const char *format, ...)
{
    if (err && err->code == DSCM_OK) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        err->code = code;
    }
    return code;
}

void dscm_error_prefix(dscm_error *err, const char *format, ...)
{
    if (!err || err->code == DSCM_OK) return;
    char old[DSCM_MESSAGE_MAX];
    memcpy(old, err->message, sizeof old);
    va_list args;
    va_start(args, format);
    int used = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (used < 0) used = 0;
    if ((size_t)used < sizeof err->message)
        snprintf(err->message + used, sizeof err->message - (size_t)used, ": %s", old);
}
