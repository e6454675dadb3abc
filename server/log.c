#include "server/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/json.h"
#include "core/base/memory.h"
#include "server/clock.h"

#define POLL_MS 100 /* how often a stalled writer looks whether it is to end */

struct dscm_log_writer {
    int fd;
    bool torn; /* writer's thread only: the last line was cut off */
    pthread_t thread;
    atomic_ullong dropped;
    pthread_mutex_t lock; /* everything below */
    pthread_cond_t arrived;
    size_t start, used; /* of the ring */
    bool closing;
    int64_t until_ms; /* when closing */
    char ring[DSCM_LOG_BUFFER];
};

static const char *const level_names[] = {"debug", "info", "warn", "error", "silent"};

int dscm_log_level_find(const char *name)
{
    for (int i = 0; i <= DSCM_LOG_SILENT; i++)
        if (strcmp(name, level_names[i]) == 0) return i;
    return -1;
}

/* ---- the writer ---- */

static void put(struct dscm_log_writer *w, const char *line, size_t size)
{
    pthread_mutex_lock(&w->lock);
    if (size > DSCM_LOG_BUFFER - w->used) {
        atomic_fetch_add(&w->dropped, 1);
    } else {
        size_t at = (w->start + w->used) % DSCM_LOG_BUFFER, first = DSCM_LOG_BUFFER - at;
        if (first > size) first = size;
        memcpy(w->ring + at, line, first);
        memcpy(w->ring, line + first, size - first);
        w->used += size;
        pthread_cond_signal(&w->arrived);
    }
    pthread_mutex_unlock(&w->lock);
}

/* Waits for something to write and copies it: a line, or what of it fits. 0: nothing will come. */
static size_t peek(struct dscm_log_writer *w, char *out, size_t most)
{
    size_t size = 0;
    pthread_mutex_lock(&w->lock);
    while (!w->used && !w->closing) pthread_cond_wait(&w->arrived, &w->lock);
    if (w->closing && dscm_clock_ms() >= w->until_ms) w->used = 0;
    while (size < w->used && size < most) {
        out[size] = w->ring[(w->start + size) % DSCM_LOG_BUFFER];
        if (out[size++] == '\n') break;
    }
    pthread_mutex_unlock(&w->lock);
    return size;
}

static void advance(struct dscm_log_writer *w, size_t size)
{
    pthread_mutex_lock(&w->lock);
    w->start = (w->start + size) % DSCM_LOG_BUFFER;
    w->used -= size;
    pthread_mutex_unlock(&w->lock);
}

/* Drops the line at hand up to its end. */
static void drop_line(struct dscm_log_writer *w)
{
    bool end = false;
    pthread_mutex_lock(&w->lock);
    while (w->used && !end) {
        end = w->ring[w->start] == '\n';
        w->start = (w->start + 1) % DSCM_LOG_BUFFER;
        w->used--;
    }
    pthread_mutex_unlock(&w->lock);
    atomic_fetch_add(&w->dropped, 1);
}

/* A pipe that is ready takes PIPE_BUF bytes without blocking, whoever else may have it open. */
static bool writable(const struct dscm_log_writer *w)
{
    struct pollfd p = {w->fd, POLLOUT, 0};
    return poll(&p, 1, POLL_MS) > 0;
}

static void *write_lines(void *arg)
{
    struct dscm_log_writer *w = arg;
    static const size_t most = PIPE_BUF;
    char piece[PIPE_BUF + 1];
    bool inside = false; /* a line is written in part */
    for (size_t size; (size = peek(w, piece + 1, most));) {
        if (!writable(w)) continue;
        size_t extra = w->torn && !inside; /* ends what is left of an earlier line */
        piece[0] = '\n';
        ssize_t n = write(w->fd, piece + 1 - extra, size + extra);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) {
            if (inside) w->torn = true;
            inside = false;
            drop_line(w);
            continue;
        }
        w->torn = false;
        n -= (ssize_t)extra;
        if (n) advance(w, (size_t)n);
        inside = n ? piece[n] != '\n' : false;
    }
    return NULL;
}

dscm_code dscm_log_open(dscm_log *log, int fd, dscm_log_level level, dscm_error *err)
{
    *log = (dscm_log){level, NULL};
    if (level >= DSCM_LOG_SILENT) return DSCM_OK;
    struct dscm_log_writer *w = dscm_alloc(1, sizeof *w, "the log", err);
    if (!w) return DSCM_E_MEMORY;
    w->fd = fd;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->arrived, NULL);
    int failure = pthread_create(&w->thread, NULL, write_lines, w);
    if (failure) {
        pthread_mutex_destroy(&w->lock);
        pthread_cond_destroy(&w->arrived);
        dscm_free(w);
        return dscm_fail(err, DSCM_E_SYSTEM, "cannot start the thread of the log: %s",
                         strerror(failure));
    }
    log->writer = w;
    return DSCM_OK;
}

void dscm_log_close(dscm_log *log, long wait_ms)
{
    struct dscm_log_writer *w = log->writer;
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    w->until_ms = dscm_clock_ms() + wait_ms;
    pthread_cond_signal(&w->arrived);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->arrived);
    dscm_free(w);
    log->writer = NULL;
}

unsigned long long dscm_log_dropped(const dscm_log *log)
{
    return log->writer ? atomic_load(&log->writer->dropped) : 0;
}

/* ---- lines ---- */

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
    if (!log || !log->writer || level < log->level || level >= DSCM_LOG_SILENT) {
        json_decref(fields);
        return;
    }
    const size_t flags = JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6);
    char when[40];
    timestamp(when, sizeof when);
    unsigned long mark = dscm_json_failures();
    json_t *line =
        json_pack("{s:s, s:s, s:s}", "time", when, "level", level_names[level], "event", event);
    if (fields) json_object_update(line, fields);
    char *text = fields ? dscm_json_write(line, flags, mark) : NULL;
    if (text) {
        size_t length = strlen(text);
        text[length] = '\n'; /* the line is written by length: its end mark is not needed */
        put(log->writer, text, length + 1);
    } else {
        atomic_fetch_add(&log->writer->dropped, 1);
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
    dscm_log_write(log, level, event, json_pack("{s:o}", "message", dscm_json_string(text)));
}
