/* Configuration of the service: one table, three sources.
 *
 * Strongest first: command line flag (--queue-capacity 64), environment (DIFFSCM_QUEUE_CAPACITY),
 * file (queue-capacity = 64; lines that begin with '#' are comments), default. Unknown names are errors
 * in all three, so a misspelt limit is never silently without effect. The table also prints the
 * reference in docs/operations.md. Does not interpret what the values mean beyond type and range. Threads: plain
 * data, immutable once read.
 */
#ifndef DSCM_SERVER_SETTINGS_H
#define DSCM_SERVER_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "core/base/error.h"

#define DSCM_SETTING_TEXT 256

typedef struct dscm_settings {
    /* listeners */
    char host[DSCM_SETTING_TEXT], admin_host[DSCM_SETTING_TEXT];
    long port, admin_port; /* 0: the system chooses */
    bool allow_anonymous;
    char keys_file[DSCM_SETTING_TEXT], cors_origins[DSCM_SETTING_TEXT];
    bool trusted_proxy;
    /* data */
    char data_dir[DSCM_SETTING_TEXT], models[DSCM_SETTING_TEXT], static_dir[DSCM_SETTING_TEXT];
    /* work */
    long workers, threads, batch; /* workers 0: from processors and threads; threads 0: from the
                                     size of the models' images */
    long memory_mb;               /* of weights and sessions; 0: no limit */
    long queue_capacity, client_share, client_cost, long_cost, client_long;
    long deadline_ms, deadline_max_ms, wait_s, wait_max_s, drain_s;
    /* kept results */
    char store[DSCM_SETTING_TEXT]; /* "memory", "sqlite:PATH", "redis://…" or "redis+unix://…" */
    char store_password_file[DSCM_SETTING_TEXT];
    char role[DSCM_SETTING_TEXT]; /* "both", "api" or "work" */
    long claim_ms, store_ms, no_worker_s;
    long jobs_max, jobs_age_s, jobs_mb, abductions_mb, abductions_age_s;
    /* transport */
    long http_threads, connections, client_connections, streams;
    long idle_s, header_ms, body_ms, reply_ms, body_kb, bodies_mb;
    char log_level[DSCM_SETTING_TEXT];
    size_t service_links; /* environment variables of Kubernetes service links that were ignored */
} dscm_settings;

typedef enum dscm_setting_type {
    DSCM_SETTING_STRING,
    DSCM_SETTING_INTEGER,
    DSCM_SETTING_FLAG
} dscm_setting_type;

typedef struct dscm_setting {
    const char *name; /* as on the command line, without the dashes */
    dscm_setting_type type;
    size_t offset;     /* in dscm_settings */
    const char *value; /* default, as text */
    long min, max;     /* integers */
    const char *help;  /* one line */
} dscm_setting;

/* Settings by index, NULL after the last. */
const dscm_setting *dscm_setting_at(size_t index);

void dscm_settings_defaults(dscm_settings *settings);
/* Sets one value; `source` names where it came from in messages. */
dscm_code dscm_settings_set(dscm_settings *settings, const char *name, const char *value,
                            const char *source, dscm_error *err) DSCM_MUST_CHECK;
/* Defaults, then file (--config or DIFFSCM_CONFIG), environment, flags. argv holds only flags:
 * "--name value", "--name=value", and "--name" alone for on/off ones. DSCM_E_UNKNOWN for a flag
 * that does not exist, with its name. */
dscm_code dscm_settings_load(dscm_settings *settings, int argc, char *const *argv,
                             char *const *environment, dscm_error *err) DSCM_MUST_CHECK;
/* All values in the form of the file. */
void dscm_settings_print(const dscm_settings *settings, FILE *out);
/* The reference table in Markdown. */
void dscm_settings_document(FILE *out);
/* host names a loopback address ("127.…", "::1", "localhost"). */
bool dscm_settings_loopback(const char *host);

#endif
