/* Structured log: one JSON object per line, written by a single write(2) so that lines never mix.
 *
 * Does not rotate, buffer or sample: that is the supervisor's work. Image bytes and keys never get
 * here. Threads: dscm_log is immutable after opening; every function may be called from any thread.
 */
#ifndef DSCM_SERVER_LOG_H
#define DSCM_SERVER_LOG_H

#include <jansson.h>

typedef enum dscm_log_level {
    DSCM_LOG_DEBUG,
    DSCM_LOG_INFO,
    DSCM_LOG_WARN,
    DSCM_LOG_ERROR,
    DSCM_LOG_SILENT
} dscm_log_level;

typedef struct dscm_log {
    int fd;               /* where lines go; not owned */
    dscm_log_level level; /* quieter ones are dropped */
} dscm_log;

/* Level by name ("debug", "info", "warn", "error", "silent"), or -1. */
int dscm_log_level_find(const char *name);

/* Writes {"time":…, "level":…, "event": event, …fields}. Takes `fields` (an object, or NULL), also
 * when the line is dropped. Failures are ignored: there is nowhere left to report them. */
void dscm_log_write(const dscm_log *log, dscm_log_level level, const char *event, json_t *fields);
/* The same with one text field "message". */
void dscm_log_message(const dscm_log *log, dscm_log_level level, const char *event,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
