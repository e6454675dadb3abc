#include "server/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/clock.h"

static const char *const level_names[] = {"debug", "info", "warn", "error", "silent"};

int dscm_log_level_find(const char *name)
{
    for (int i = 0; i <= DSCM_LOG_SILENT; i++)
        if (strcmp(name, level_names[i]) == 0) return i;
    return -1;
}

static void timestamp(char *out, size_t size)
{
    double wall = dscm_clock_wall();
    time_t seconds = (time_t)wall;
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t used = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out + used, size - used, ".%03dZ", (int)((wall - (double)seconds) * 1000));
}

void dscm_log_write(const dscm_log *log, dscm_log_level level, const char *event, json_t *fields)
{
    if (!log || level < log->level || level >= DSCM_LOG_SILENT) {
        json_decref(fields);
        return;
    }
    char when[40];
    timestamp(when, sizeof when);
    json_t *line =
        json_pack("{s:s, s:s, s:s}", "time", when, "level", level_names[level], "event", event);
    if (line && fields) json_object_update(line, fields);
    char *text =
        line ? json_dumps(line, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6)) : NULL;
    if (text) {
        size_t length = strlen(text);
        text[length] = '\n'; /* the line is written by length: its end mark is not needed */
        ssize_t written = write(log->fd, text, length + 1);
        (void)written;
    }
    free(text);
    json_decref(line);
    json_decref(fields);
}

void dscm_log_message(const dscm_log *log, dscm_log_level level, const char *event,
                      const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    dscm_log_write(log, level, event, json_pack("{s:s}", "message", text));
}
