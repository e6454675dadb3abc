#include "server/settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/text.h"
#include "server/log.h"
#include "server/redis.h"

#define AT(field) offsetof(dscm_settings, field)
#define TEXT(name, field, value, help)                                                             \
    {                                                                                              \
        name, DSCM_SETTING_STRING, AT(field), value, 0, 0, help                                    \
    }
#define NUMBER(name, field, value, min, max, help)                                                 \
    {                                                                                              \
        name, DSCM_SETTING_INTEGER, AT(field), value, min, max, help                               \
    }
#define FLAG(name, field, help)                                                                    \
    {                                                                                              \
        name, DSCM_SETTING_FLAG, AT(field), "off", 0, 0, help                                      \
    }

static const dscm_setting table[] = {
    TEXT("host", host, "127.0.0.1", "address of the public listener"),
    NUMBER("port", port, "8080", 0, 65535, "public port; 0 lets the system choose"),
    TEXT("admin-host", admin_host, "127.0.0.1", "address of the admin listener"),
    NUMBER("admin-port", admin_port, "9090", 0, 65535,
           "port of health and metrics; 0 lets the system choose"),
    FLAG("allow-anonymous", allow_anonymous,
         "serve without keys on an address other than loopback"),
    TEXT("keys-file", keys_file, "", "bearer keys: lines of NAME SHA256; read again on SIGHUP"),
    TEXT("cors-origins", cors_origins, "",
         "origins allowed to call from a browser, separated by commas; * allows all"),
    FLAG("trusted-proxy", trusted_proxy,
         "take the client's address from the last X-Forwarded-For entry"),
    TEXT("data-dir", data_dir, "",
         "folder that holds models/ and static/; empty searches the usual places"),
    TEXT("models", models, "",
         "bundles to serve, names or folders separated by commas; empty serves all in models/"),
    TEXT("static-dir", static_dir, "",
         "folder of the page; empty takes static/ of the data folder"),
    NUMBER("workers", workers, "0", 0, 1024,
           "jobs run at the same time; 0 is processors divided by threads"),
    NUMBER("threads", threads, "0", 0, 256,
           "threads of each worker; 0 is 1, or all processors for images of 64 pixels and more"),
    NUMBER("batch", batch, "16", 1, 256, "images that one network pass of a worker takes at most"),
    NUMBER("memory-mb", memory_mb, "0", 0, 16777216,
           "megabytes for weights and workers: large weights stay mapped; 0 is no limit"),
    NUMBER("queue-capacity", queue_capacity, "256", 1, 100000, "jobs that may wait; more get 429"),
    NUMBER("client-share", client_share, "50", 1, 100,
           "percent of the queue that one client may fill"),
    NUMBER(
        "client-cost", client_cost, "250000", 0, 1000000000,
        "network passes (images x steps x passes) that the waiting and running jobs of one client "
        "may cost together; a single job may cost more; more get 429; 0 is no limit"),
    NUMBER("long-cost", long_cost, "20000", 0, 1000000000,
           "network passes beyond which a job is long; 0: none is"),
    NUMBER("client-long", client_long, "0", 0, 1024,
           "workers that the long jobs of one client may hold at the same time; 0 is all but one"),
    NUMBER("deadline-ms", deadline_ms, "120000", 1, 86400000,
           "deadline of a job whose request names none"),
    NUMBER("deadline-max-ms", deadline_max_ms, "3600000", 1, 86400000,
           "largest deadline_ms a request may ask for"),
    NUMBER("wait-s", wait_s, "10", 0, 600,
           "seconds a request waits for its result before it gets 202"),
    NUMBER("wait-max-s", wait_max_s, "60", 0, 600, "largest wait that Prefer: wait=N may ask for"),
    NUMBER("drain-s", drain_s, "20", 0, 3600,
           "seconds that accepted jobs get to finish after SIGTERM"),
    TEXT("store", store, "memory",
         "memory: jobs end with the process; sqlite:PATH: they are kept in that file; "
         "redis://[USER@]HOST[:PORT][/DB] or redis+unix:///PATH[?db=N]: several processes share "
         "them"),
    TEXT("store-password-file", store_password_file, "",
         "file with the password of a redis store; empty: it asks for none"),
    TEXT("role", role, "both",
         "with a redis store: both accepts and runs jobs, api only accepts, work only runs"),
    NUMBER("claim-ms", claim_ms, "10000", 200, 600000,
           "milliseconds without a sign of life after which others take a worker's jobs over"),
    NUMBER("store-ms", store_ms, "5000", 500, 60000,
           "milliseconds after which a call is told that a redis store does not answer"),
    NUMBER("no-worker-s", no_worker_s, "300", 1, 86400,
           "seconds that jobs of a redis store wait for a model which no process runs"),
    NUMBER("jobs-max", jobs_max, "4096", 1, 1000000, "finished jobs that are kept at most"),
    NUMBER("jobs-age-s", jobs_age_s, "900", 1, 604800, "seconds that a finished job is kept"),
    NUMBER("jobs-mb", jobs_mb, "256", 1, 1048576, "megabytes of results that are kept at most"),
    NUMBER("abductions-mb", abductions_mb, "64", 1, 1048576,
           "megabytes of inferred noise that are kept at most"),
    NUMBER("abductions-age-s", abductions_age_s, "900", 1, 604800,
           "seconds that an unused abduction is kept"),
    NUMBER("http-threads", http_threads, "1", 1, 16, "threads of the public listener"),
    NUMBER("connections", connections, "4096", 16, 1000000, "open connections at most"),
    NUMBER(
        "client-connections", client_connections, "3072", 0, 1000000,
        "open connections of one address at most, of more an idle one is closed; 0, and behind a "
        "trusted proxy, is no limit"),
    NUMBER("streams", streams, "512", 1, 100000, "event streams at most; more get 429"),
    NUMBER("idle-s", idle_s, "120", 1, 86400, "seconds after which an idle connection is closed"),
    NUMBER("header-ms", header_ms, "10000", 50, 600000, "total time for the head of a request"),
    NUMBER("body-ms", body_ms, "30000", 50, 3600000, "total time for the body of a request"),
    NUMBER("reply-ms", reply_ms, "60000", 50, 3600000, "total time for a client to take a reply"),
    NUMBER("body-kb", body_kb, "16384", 1, 1048576,
           "largest body in KiB that is not JSON (a picture, a form); JSON is held to 1024"),
    NUMBER("bodies-mb", bodies_mb, "256", 1, 1048576,
           "megabytes of request bodies that arrive or wait at the same time; client-share percent "
           "of them from one client; more get 503"),
    TEXT("log-level", log_level, "info", "debug, info, warn, error or silent"),
};

const dscm_setting *dscm_setting_at(size_t index)
{
    return index < sizeof table / sizeof table[0] ? &table[index] : NULL;
}

static const dscm_setting *find(const char *name)
{
    for (size_t i = 0; dscm_setting_at(i); i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

static dscm_code set_flag(bool *out, const dscm_setting *setting, const char *value,
                          const char *source, dscm_error *err)
{
    static const char *const yes[] = {"on", "true", "yes", "1"};
    static const char *const no[] = {"off", "false", "no", "0"};
    for (size_t i = 0; i < 4; i++) {
        if (strcmp(value, yes[i]) == 0) return *out = true, DSCM_OK;
        if (strcmp(value, no[i]) == 0) return *out = false, DSCM_OK;
    }
    return dscm_fail(err, DSCM_E_INVALID, "%s: %s is \"%s\", allowed are on and off", source,
                     setting->name, value);
}

static dscm_code set_integer(long *out, const dscm_setting *setting, const char *value,
                             const char *source, dscm_error *err)
{
    char *end;
    errno = 0;
    long number = strtol(value, &end, 10);
    if (!isdigit((unsigned char)value[0]) || *end || errno || number < setting->min ||
        number > setting->max)
        return dscm_fail(err, DSCM_E_INVALID,
                         "%s: %s is \"%s\", allowed are whole numbers from %ld to %ld", source,
                         setting->name, value, setting->min, setting->max);
    *out = number;
    return DSCM_OK;
}

static dscm_code set_value(dscm_settings *settings, const dscm_setting *setting, const char *value,
                           const char *source, dscm_error *err)
{
    void *field = (char *)settings + setting->offset;
    if (setting->type == DSCM_SETTING_FLAG) return set_flag(field, setting, value, source, err);
    if (setting->type == DSCM_SETTING_INTEGER)
        return set_integer(field, setting, value, source, err);
    if (strlen(value) >= DSCM_SETTING_TEXT)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: %s is longer than %d bytes", source, setting->name,
                         DSCM_SETTING_TEXT - 1);
    memcpy(field, value, strlen(value) + 1);
    return DSCM_OK;
}

void dscm_settings_defaults(dscm_settings *settings)
{
    memset(settings, 0, sizeof *settings);
    for (size_t i = 0; dscm_setting_at(i); i++) {
        dscm_code code = set_value(settings, &table[i], table[i].value, "default", NULL);
        (void)code; /* defaults are checked by a test */
    }
}

dscm_code dscm_settings_set(dscm_settings *settings, const char *name, const char *value,
                            const char *source, dscm_error *err)
{
    const dscm_setting *setting = find(name);
    if (!setting)
        return dscm_fail(err, DSCM_E_UNKNOWN,
                         "%s: there is no setting \"%s\" (--print-config lists all)", source, name);
    return set_value(settings, setting, value, source, err);
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text)) text++;
    size_t length = strlen(text);
    while (length && isspace((unsigned char)text[length - 1])) text[--length] = 0;
    return text;
}

static dscm_code read_file(dscm_settings *settings, const char *path, dscm_error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return dscm_fail(err, DSCM_E_NOT_FOUND, "configuration file %s: %s", path, strerror(errno));
    dscm_code code = DSCM_OK;
    char *line = NULL;
    size_t room = 0;
    for (size_t number = 1; code == DSCM_OK && getline(&line, &room, file) >= 0; number++) {
        char source[DSCM_SETTING_TEXT + 32];
        snprintf(source, sizeof source, "%.*s:%zu", DSCM_SETTING_TEXT, path, number);
        char *name = trim(number == 1 ? line + dscm_text_mark(line, strlen(line)) : line);
        if (!*name || *name == '#') continue;
        char *equals = strchr(name, '=');
        if (!equals) {
            code = dscm_fail(err, DSCM_E_FORMAT, "%s: expected NAME = VALUE", source);
            break;
        }
        *equals = 0;
        code = dscm_settings_set(settings, trim(name), trim(equals + 1), source, err);
    }
    if (code == DSCM_OK && ferror(file)) /* a folder opens, too */
        code = dscm_fail(err, DSCM_E_IO, "configuration file %s: %s", path, strerror(errno));
    free(line);
    fclose(file);
    return code;
}

/* DIFFSCM_QUEUE_CAPACITY=… -> "queue-capacity". False when the name does not fit. */
static bool name_of_variable(const char *variable, size_t length, char *name, size_t size)
{
    if (length >= size) return false;
    for (size_t i = 0; i < length; i++)
        name[i] = variable[i] == '_' ? '-' : (char)tolower((unsigned char)variable[i]);
    name[length] = 0;
    return true;
}

/* What Kubernetes puts into every container beside a Service named diffscm: DIFFSCM_SERVICE_*,
 * DIFFSCM_PORT_<number>_* and DIFFSCM_PORT=tcp://…. `rest` follows the prefix DIFFSCM_. */
static bool is_service_link(const char *rest)
{
    if (strncmp(rest, "SERVICE_", 8) == 0) return true;
    if (strncmp(rest, "PORT=", 5) == 0)
        return strncmp(rest + 5, "tcp://", 6) == 0 || strncmp(rest + 5, "udp://", 6) == 0;
    if (strncmp(rest, "PORT_", 5) != 0) return false;
    size_t digits = strspn(rest + 5, "0123456789");
    return digits > 0 && rest[5 + digits] == '_';
}

/* Every NAME=VALUE of `environment` that starts with DIFFSCM_, but for the file's path. */
static dscm_code read_environment(dscm_settings *settings, char *const *environment,
                                  dscm_error *err)
{
    static const char prefix[] = "DIFFSCM_";
    for (size_t i = 0; environment && environment[i]; i++) {
        const char *entry = environment[i], *equals = strchr(entry, '=');
        if (strncmp(entry, prefix, sizeof prefix - 1) != 0 || !equals) continue;
        if (strncmp(entry, "DIFFSCM_CONFIG=", 15) == 0) continue;
        char name[64], source[80];
        const char *rest = entry + sizeof prefix - 1;
        if (is_service_link(rest)) {
            settings->service_links++;
            continue;
        }
        snprintf(source, sizeof source, "environment variable %.*s", (int)(equals - entry), entry);
        if (!name_of_variable(rest, (size_t)(equals - rest), name, sizeof name))
            return dscm_fail(err, DSCM_E_UNKNOWN, "%s: there is no such setting", source);
        dscm_code code = dscm_settings_set(settings, name, equals + 1, source, err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

static dscm_code read_flags(dscm_settings *settings, int argc, char *const *argv, dscm_error *err)
{
    for (int i = 0; i < argc; i++) {
        const char *flag = argv[i];
        if (strncmp(flag, "--", 2) != 0)
            return dscm_fail(err, DSCM_E_UNKNOWN,
                             flag[0] == '-' ? "unknown option %s (see serve --help)"
                                            : "serve takes no argument \"%s\"",
                             flag);
        char name[64];
        const char *equals = strchr(flag, '=');
        size_t length = equals ? (size_t)(equals - flag - 2) : strlen(flag + 2);
        snprintf(name, sizeof name, "%.*s", (int)length, flag + 2);
        const dscm_setting *setting = find(name);
        bool config = strcmp(name, "config") == 0;
        if (!setting && !config)
            return dscm_fail(err, DSCM_E_UNKNOWN, "unknown option --%s (see serve --help)", name);
        const char *value = equals ? equals + 1 : "on";
        if (!equals && (config || setting->type != DSCM_SETTING_FLAG)) {
            if (i + 1 >= argc)
                return dscm_fail(err, DSCM_E_INVALID, "option --%s needs a value", name);
            value = argv[++i];
        }
        if (config) continue;
        char source[80];
        snprintf(source, sizeof source, "option --%s", name);
        dscm_code code = set_value(settings, setting, value, source, err);
        if (code != DSCM_OK) return code;
    }
    return DSCM_OK;
}

/* The path of the configuration file: the last --config wins over DIFFSCM_CONFIG; NULL: none. */
static const char *config_path(int argc, char *const *argv, char *const *environment)
{
    const char *path = NULL;
    for (size_t i = 0; environment && environment[i]; i++)
        if (strncmp(environment[i], "DIFFSCM_CONFIG=", 15) == 0) path = environment[i] + 15;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0) path = argv[i] + 9;
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) path = argv[i + 1];
    }
    return path;
}

/* Browsers send SCHEME://HOST[:PORT] (or null) without a path; anything else would never match. */
static dscm_code check_origins(const dscm_settings *s, dscm_error *err)
{
    char list[DSCM_SETTING_TEXT], *rest = NULL;
    memcpy(list, s->cors_origins, sizeof list);
    for (char *one = strtok_r(list, ", ", &rest); one; one = strtok_r(NULL, ", ", &rest)) {
        const char *host = strstr(one, "://");
        if (strcmp(one, "*") == 0 || strcmp(one, "null") == 0) continue;
        if (!host || host == one || !host[3] || strchr(host + 3, '/'))
            return dscm_fail(err, DSCM_E_INVALID,
                             "cors-origins: \"%s\" is not an origin such as "
                             "https://example.org or http://localhost:3000, nor *",
                             one);
    }
    return DSCM_OK;
}

static dscm_code check_store(const dscm_settings *s, dscm_error *err)
{
    static const char *const roles[] = {"both", "api", "work"};
    dscm_redis_address address;
    size_t role = 0;
    while (role < 3 && strcmp(s->role, roles[role]) != 0) role++;
    if (role == 3)
        return dscm_fail(err, DSCM_E_INVALID, "role is \"%s\", allowed are both, api and work",
                         s->role);
    bool single =
        strcmp(s->store, "memory") == 0 || (strncmp(s->store, "sqlite:", 7) == 0 && s->store[7]);
    if (single && role)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "role is \"%s\", which needs a store that processes share, and store is "
                         "\"%s\": give --store redis://HOST",
                         s->role, s->store);
    return single ? DSCM_OK : dscm_redis_parse(&address, s->store, err);
}

/* What no single value can tell. */
static dscm_code check_together(const dscm_settings *s, dscm_error *err)
{
    if (s->deadline_ms > s->deadline_max_ms)
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "deadline-ms is %ld, more than deadline-max-ms (%ld)", s->deadline_ms,
                         s->deadline_max_ms);
    if (s->wait_s > s->wait_max_s)
        return dscm_fail(err, DSCM_E_MISMATCH, "wait-s is %ld, more than wait-max-s (%ld)",
                         s->wait_s, s->wait_max_s);
    dscm_code code = check_store(s, err);
    if (code != DSCM_OK) return code;
    if (dscm_log_level_find(s->log_level) < 0)
        return dscm_fail(err, DSCM_E_INVALID,
                         "log-level is \"%s\", allowed are debug, info, warn, error and silent",
                         s->log_level);
    bool listens = strcmp(s->role, "work") != 0;
    if (listens && !s->keys_file[0] && !s->allow_anonymous && !dscm_settings_loopback(s->host))
        return dscm_fail(err, DSCM_E_MISMATCH,
                         "host \"%s\" can be reached by others: give --keys-file, or "
                         "--allow-anonymous when that is wanted",
                         s->host);
    return check_origins(s, err);
}

dscm_code dscm_settings_load(dscm_settings *settings, int argc, char *const *argv,
                             char *const *environment, dscm_error *err)
{
    dscm_settings_defaults(settings);
    const char *path = config_path(argc, argv, environment);
    dscm_code code = DSCM_OK;
    if (path) code = read_file(settings, path, err);
    if (code == DSCM_OK) code = read_environment(settings, environment, err);
    if (code == DSCM_OK) code = read_flags(settings, argc, argv, err);
    if (code == DSCM_OK) code = check_together(settings, err);
    return code;
}

static void print_value(const dscm_settings *settings, const dscm_setting *setting, FILE *out)
{
    const void *field = (const char *)settings + setting->offset;
    if (setting->type == DSCM_SETTING_FLAG)
        fputs(*(const bool *)field ? "on" : "off", out);
    else if (setting->type == DSCM_SETTING_INTEGER)
        fprintf(out, "%ld", *(const long *)field);
    else
        fputs((const char *)field, out);
}

void dscm_settings_print(const dscm_settings *settings, FILE *out)
{
    for (size_t i = 0; dscm_setting_at(i); i++) {
        fprintf(out, "# %s\n%s = ", table[i].help, table[i].name);
        print_value(settings, &table[i], out);
        fputc('\n', out);
    }
}

void dscm_settings_document(FILE *out)
{
    fputs("| option | environment | default | allowed | what |\n|---|---|---|---|---|\n", out);
    for (size_t i = 0; dscm_setting_at(i); i++) {
        const dscm_setting *s = &table[i];
        fprintf(out, "| `--%s` | `DIFFSCM_", s->name);
        for (const char *c = s->name; *c; c++)
            fputc(*c == '-' ? '_' : toupper((unsigned char)*c), out);
        fprintf(out, "` | %s | ", *s->value ? s->value : "(empty)");
        if (s->type == DSCM_SETTING_INTEGER)
            fprintf(out, "%ld – %ld", s->min, s->max);
        else
            fputs(s->type == DSCM_SETTING_FLAG ? "on, off" : "text", out);
        fprintf(out, " | %s |\n", s->help);
    }
}

bool dscm_settings_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strcmp(host, "localhost") == 0;
}
