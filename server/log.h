/* Structured log: one JSON object per line, each written by a write(2) of its own so that lines never
 * mix.
 *
 * Whoever logs never waits: lines go into a buffer of DSCM_LOG_BUFFER bytes that a thread of the log
 * writes out. When the reader of the log stops reading and the buffer is full, lines are dropped and
 * counted. A line that could be written only in part (a full disk) ends before the next one begins. Does
 * not rotate or sample: that is the supervisor's work. Image bytes and keys never get here. Threads:
 * dscm_log is immutable between open and close; every function may be called from any thread.
 */
#ifndef DSCM_SERVER_LOG_H
#define DSCM_SERVER_LOG_H

#include <jansson.h>

#include "core/base/error.h"

typedef enum dscm_log_level {
    DSCM_LOG_DEBUG,
    DSCM_LOG_INFO,
    DSCM_LOG_WARN,
    DSCM_LOG_ERROR,
    DSCM_LOG_SILENT
} dscm_log_level;

#define DSCM_LOG_BUFFER ((size_t)1 << 20)

typedef struct dscm_log {
    dscm_log_level level;           /* quieter ones are dropped */
    struct dscm_log_writer *writer; /* NULL: not open, every line is dropped */
} dscm_log;

/* Lines go to `fd`, which stays the caller's and is never made non-blocking: others may share it. */
dscm_code dscm_log_open(dscm_log *log, int fd, dscm_log_level level,
                        dscm_error *err) DSCM_MUST_CHECK;
/* Writes what is left for at most `wait_ms` and ends. Takes a log that is not open. */
void dscm_log_close(dscm_log *log, long wait_ms);
/* Lines that were lost since the start: there was no memory for them, the buffer was full, or the file could not
 * take them. */
unsigned long long dscm_log_dropped(const dscm_log *log);

/* Level by name ("debug", "info", "warn", "error", "silent"), or -1. */
int dscm_log_level_find(const char *name);

/* Writes {"time":…, "level":…, "event": event, …fields}. Takes `fields`, also when the line is
 * dropped: it is not of this level, or `fields` is NULL because there was no memory for them. */
void dscm_log_write(const dscm_log *log, dscm_log_level level, const char *event, json_t *fields);
/* The same with one text field "message". */
void dscm_log_message(const dscm_log *log, dscm_log_level level, const char *event,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
