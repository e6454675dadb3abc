#include "server/service.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/json.h"
#include "core/base/cpu.h"
#include "core/base/memory.h"
#include "server/clock.h"

#define HOUSEKEEPING_MS 50
#define SWEEP_MS        1000
#define LOG_MS          1000 /* for the last lines, when nobody reads the log */
#define STREAMS_MIN     16   /* that a client may have in any case */
#define LINGER_MS       3000 /* for replies to get out once all jobs have ended */
#define LEAVE_MS        5000 /* for a shared store to be told what does not end here */
#define CLAIMS_MAX      8192

/* ---- models ---- */

#define LARGE_SIDE 64 /* pixels from which one image keeps all processors busy */

/* Threads of a worker, and workers, for images of this side (0: not known yet, the worst case). */
static void settle_workers(const dscm_settings *o, size_t side, size_t *threads, size_t *workers)
{
    size_t processors = (size_t)dscm_cpu_count();
    *threads = o->threads ? (size_t)o->threads : side && side < LARGE_SIDE ? 1 : processors;
    *workers = o->workers ? (size_t)o->workers : processors / *threads ? processors / *threads : 1;
}

/* What the models loaded so far leave of the limit. */
static dscm_load_options load_options(const dscm_service *service)
{
    dscm_load_options options = dscm_load_defaults();
    size_t threads, workers, used = 0, limit = (size_t)service->settings.memory_mb << 20;
    settle_workers(&service->settings, 0, &threads, &workers);
    options.threads = (int)threads;
    options.sessions = (int)workers;
    for (size_t i = 0; i < service->catalogue.count; i++)
        used += service->models[i].info->bytes + service->models[i].info->mapped_bytes;
    if (limit) options.memory = limit > used ? limit - used : 1;
    return options;
}

static dscm_code load_model(dscm_service *service, const char *dir, dscm_error *err)
{
    size_t index = service->catalogue.count;
    if (index == DSCM_MODELS_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "models: more than %d", DSCM_MODELS_MAX);
    int64_t start = dscm_clock_us();
    dscm_load_options options = load_options(service);
    dscm_code code = dscm_bundle_load(&service->bundles[index], dir, &options, err);
    if (code != DSCM_OK) return code;
    const dscm_bundle_info *info = dscm_bundle_describe(service->bundles[index]);
    for (size_t i = 0; i < index; i++)
        if (strcmp(service->models[i].info->name, info->name) == 0)
            return dscm_fail(err, DSCM_E_INVALID, "models: %s and %s are both named %s", dir,
                             service->models[i].info->dir, info->name);
    service->models[index] = (dscm_model_entry){info, service->bundles[index]};
    service->catalogue.count++;
    dscm_log_write(&service->log, DSCM_LOG_INFO, "model",
                   json_pack("{s:s, s:s, s:s, s:f}", "name", info->name, "version", info->version,
                             "sha256", info->sha256, "load_ms",
                             (double)(dscm_clock_us() - start) * 1e-3));
    return DSCM_OK;
}

/* A name means models/NAME of the data folder; anything with a slash is a folder itself. */
static dscm_code load_named(dscm_service *service, const char *name, dscm_error *err)
{
    char dir[1024];
    if (strchr(name, '/'))
        snprintf(dir, sizeof dir, "%s", name);
    else
        snprintf(dir, sizeof dir, "%s/models/%s", service->settings.data_dir, name);
    return load_model(service, dir, err);
}

static bool is_bundle(const char *root, const char *name)
{
    char manifest[1400];
    snprintf(manifest, sizeof manifest, "%s/%s/manifest.json", root, name);
    return name[0] != '.' && access(manifest, F_OK) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All folders of models/ that hold a manifest, in the order of their names, so that the default
 * model (the first) does not depend on the file system. mnist goes first where it is present. */
static dscm_code load_all(dscm_service *service, dscm_error *err)
{
    char root[1024], *names[DSCM_MODELS_MAX];
    size_t count = 0;
    dscm_code code = DSCM_OK;
    snprintf(root, sizeof root, "%s/models", service->settings.data_dir);
    DIR *folder = opendir(root);
    if (!folder)
        return dscm_fail(err, DSCM_E_NOT_FOUND, "no models: %s: %s", root, strerror(errno));
    for (struct dirent *entry; code == DSCM_OK && (entry = readdir(folder));) {
        if (!is_bundle(root, entry->d_name)) continue;
        if (count == DSCM_MODELS_MAX)
            code = dscm_fail(err, DSCM_E_LIMIT, "models: %s holds more than %d; name those wanted",
                             root, DSCM_MODELS_MAX);
        else if ((names[count] = dscm_strdup(entry->d_name, err)))
            count++;
        else
            code = DSCM_E_MEMORY;
    }
    closedir(folder);
    qsort(names, count, sizeof names[0], by_name);
    for (size_t pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < count && code == DSCM_OK; i++)
            if ((strcmp(names[i], "mnist") == 0) == (pass == 0))
                code = load_named(service, names[i], err);
    for (size_t i = 0; i < count; i++) dscm_free(names[i]);
    if (code == DSCM_OK && !count)
        code = dscm_fail(err, DSCM_E_NOT_FOUND, "no models: %s holds no bundle that can be read",
                         root);
    return code;
}

static dscm_code load_models(dscm_service *service, dscm_error *err)
{
    service->catalogue.models = service->models;
    if (!service->settings.models[0]) return load_all(service, err);
    char list[DSCM_SETTING_TEXT], *rest = NULL;
    memcpy(list, service->settings.models, sizeof list);
    dscm_code code = DSCM_OK;
    for (char *name = strtok_r(list, ",", &rest); name && code == DSCM_OK;
         name = strtok_r(NULL, ",", &rest))
        code = load_named(service, name, err);
    if (code == DSCM_OK && !service->catalogue.count)
        code =
            dscm_fail(err, DSCM_E_INVALID,
                      "models is \"%s\", which names none; allowed are names or folders separated "
                      "by commas, or nothing",
                      service->settings.models);
    return code;
}

/* ---- housekeeping ---- */

void dscm_service_cancel(dscm_service *service, dscm_job *job, dscm_job_reason reason)
{
    if (job->mirror) {
        dscm_shared_cancel(service->shared, job, reason);
        return;
    }
    if (!dscm_job_cancel(job, reason)) return; /* a worker ends it, or it had ended */
    atomic_fetch_add(&service->metrics.jobs[DSCM_JOB_CANCELED][reason], 1);
    if (!dscm_queue_remove(service->queue, job)) return;
    dscm_task_drop(job);
    dscm_job_unref(job);
}

static void *keep_house(void *arg)
{
    dscm_service *service = arg;
    int64_t sweep_at = 0;
    while (!atomic_load(&service->housekeeping_stop)) {
        int64_t now = dscm_clock_ms();
        for (dscm_job *job; (job = dscm_queue_take_late(service->queue, now));) {
            if (dscm_job_cancel(job, DSCM_REASON_DEADLINE))
                atomic_fetch_add(&service->metrics.jobs[DSCM_JOB_CANCELED][DSCM_REASON_DEADLINE],
                                 1);
            dscm_task_drop(job);
            dscm_job_unref(job);
        }
        dscm_service_queue_backlog(service);
        if (now >= sweep_at) {
            service->jobs->sweep(service->jobs, dscm_clock_us());
            dscm_abduction_cache_sweep(service->abductions, now);
            sweep_at = now + SWEEP_MS;
        }
        struct timespec nap = {0, HOUSEKEEPING_MS * 1000000L};
        nanosleep(&nap, NULL);
    }
    return NULL;
}

/* ---- start ---- */

/* Connections need descriptors: as many as the process may open, less what all else takes. */
static dscm_code raise_descriptors(dscm_service *s, dscm_error *err)
{
    enum { REST = 192, CONNECTIONS_MIN = 16 };
    struct rlimit limit;
    rlim_t need = (rlim_t)s->settings.connections + REST;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need) return DSCM_OK;
    if (limit.rlim_max < REST + CONNECTIONS_MIN)
        return dscm_fail(err, DSCM_E_LIMIT,
                         "the process may open %llu files, needed are %d at least: raise the limit "
                         "(ulimit -n)",
                         (unsigned long long)limit.rlim_max, REST + CONNECTIONS_MIN);
    if (limit.rlim_max < need) {
        long fewer = (long)(limit.rlim_max - REST);
        dscm_log_message(&s->log, DSCM_LOG_WARN, "connections",
                         "connections is lowered from %ld to %ld, as the process may open only "
                         "%llu files (ulimit -n)",
                         s->settings.connections, fewer, (unsigned long long)limit.rlim_max);
        s->settings.connections = fewer;
        need = limit.rlim_max;
    }
    limit.rlim_cur = need;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return dscm_fail(err, DSCM_E_SYSTEM, "cannot raise the limit of open files: %s",
                         strerror(errno));
    return DSCM_OK;
}

static void job_expired(void *journal, const char *id)
{
    dscm_journal_expire(journal, id);
}

static dscm_code open_stores(dscm_service *s, dscm_error *err)
{
    const dscm_settings *o = &s->settings;
    bool redis = strncmp(o->store, "redis", 5) == 0;
    size_t share = (size_t)(o->queue_capacity * o->client_share / 100);
    dscm_jobs_limits limits = {(size_t)o->jobs_max, (size_t)o->jobs_mb << 20,
                               (int64_t)o->jobs_age_s * 1000000, NULL, NULL};
    char examples[sizeof o->data_dir + sizeof "/examples"];
    snprintf(examples, sizeof examples, "%s/examples", o->data_dir);
    dscm_code code = dscm_keys_open(&s->keys, o->keys_file, err);
    if (code == DSCM_OK)
        code = dscm_assets_open(&s->assets, o->static_dir, o->data_dir[0] ? examples : NULL, err);
    if (code == DSCM_OK) code = dscm_service_journal_open(s, err);
    limits.expired = s->journal ? job_expired : NULL;
    limits.arg = s->journal;
    if (code == DSCM_OK) code = dscm_jobs_memory_open(&s->jobs, &limits, err);
    /* The bounds of a shared queue are kept where it is; here is what this process has claimed. */
    size_t capacity = redis ? CLAIMS_MAX : (size_t)o->queue_capacity;
    if (code == DSCM_OK) code = dscm_queue_open(&s->queue, capacity, redis ? capacity : share, err);
    size_t streams = (size_t)(o->streams * o->client_share / 100);
    if (streams < STREAMS_MIN) streams = STREAMS_MIN;
    if (code == DSCM_OK) code = dscm_quota_open(&s->streams, (size_t)o->streams, streams, err);
    if (code == DSCM_OK && o->client_cost) code = dscm_quota_open(&s->costs, 0, 0, err);
    if (code == DSCM_OK) {
        size_t most = (size_t)o->bodies_mb << 20, largest = (size_t)o->body_kb << 10;
        size_t each = most / 100 * (size_t)o->client_share;
        code = dscm_quota_open(&s->bodies, most > largest ? most : largest,
                               each > largest ? each : largest, err);
    }
    if (code == DSCM_OK)
        code = dscm_abduction_cache_open(&s->abductions, (size_t)o->abductions_mb << 20,
                                         (int64_t)o->abductions_age_s * 1000, err);
    if (code == DSCM_OK && redis) code = dscm_shared_open(&s->shared, s, err);
    return code;
}

static void starved(void *arg)
{
    const dscm_service *service = arg;
    struct rlimit limit = {0};
    getrlimit(RLIMIT_NOFILE, &limit);
    dscm_log_message(&service->log, DSCM_LOG_WARN, "no-descriptors",
                     "a connection waits: this process (limit %llu) or the system can open no more "
                     "files",
                     (unsigned long long)limit.rlim_cur);
}

static dscm_code open_listeners(dscm_service *s, dscm_error *err)
{
    const dscm_settings *o = &s->settings;
    dscm_http_options admin = {.host = o->admin_host,
                               .port = (int)o->admin_port,
                               .threads = 1,
                               .connections = 64,
                               .idle_s = o->idle_s,
                               .header_ms = o->header_ms,
                               .body_ms = o->body_ms,
                               .reply_ms = o->reply_ms,
                               .arg = s,
                               .head = dscm_admin_head,
                               .handle = dscm_admin_handle,
                               .done = dscm_admin_done,
                               .slow = dscm_routes_slow,
                               .starved = starved};
    dscm_http_options public = admin;
    public.host = o->host;
    public.port = (int)o->port;
    public.threads = (int)o->http_threads;
    public.connections = (size_t)o->connections;
    /* Behind a proxy all connections come from its address. */
    public.client_connections = o->trusted_proxy ? 0 : (size_t)o->client_connections;
    public.bodies = s->bodies;
    public.trusted_proxy = o->trusted_proxy;
    public.head = dscm_routes_head;
    public.handle = dscm_routes_handle;
    public.decorate = dscm_routes_decorate;
    public.done = dscm_routes_done;
    dscm_code code = dscm_http_open(&s->admin, &admin, err);
    if (code == DSCM_E_SYSTEM) dscm_error_prefix(err, "--admin-port (DIFFSCM_ADMIN_PORT)");
    if (code != DSCM_OK) return code;
    if (strcmp(o->role, "work") == 0) return DSCM_OK;
    code = dscm_http_open(&s->http, &public, err);
    if (code == DSCM_E_SYSTEM) dscm_error_prefix(err, "--port (DIFFSCM_PORT)");
    return code;
}

static void worker_idle(void *shared)
{
    dscm_shared_wake(shared);
}

static dscm_code open_workers(dscm_service *s, const dscm_engine_calls *calls,
                              const dscm_catalogue *catalogue, dscm_error *err)
{
    const dscm_settings *o = &s->settings;
    dscm_code code = DSCM_OK;
    if (catalogue)
        s->catalogue = *catalogue;
    else
        code = load_models(s, err);
    if (code != DSCM_OK) return code;
    for (size_t i = 0; i < s->catalogue.count; i++) {
        const dscm_bundle_info *info = s->catalogue.models[i].info;
        s->model_labels[3 * i] = info->name;
        s->model_labels[3 * i + 1] = info->version;
        s->model_labels[3 * i + 2] = info->sha256;
    }
    size_t threads, side = 1;
    for (size_t i = 0; i < s->catalogue.count; i++) {
        const dscm_bundle_info *info = s->catalogue.models[i].info;
        if (info->variables[info->image].h > side) side = info->variables[info->image].h;
    }
    settle_workers(o, side, &threads, &s->workers);
    s->engine = (dscm_engine){.calls = calls ? *calls : dscm_engine_real,
                              .catalogue = &s->catalogue,
                              .cache = s->abductions,
                              .metrics = &s->metrics,
                              .journal = s->journal,
                              .shared = s->shared,
                              .batch = (size_t)o->batch,
                              .threads = (int)threads,
                              .abduction_age_s = o->abductions_age_s,
                              .long_cost = (size_t)o->long_cost};
    size_t others = s->workers > 1 ? s->workers - 1 : 1;
    /* What is claimed from a shared store is for workers that are idle: none of it may wait here. */
    if (s->shared) others = s->workers;
    code = dscm_queue_limit_long(s->queue, dscm_engine_is_long, &s->engine,
                                 o->client_long && !s->shared ? (size_t)o->client_long : others,
                                 s->workers, err);
    if (code != DSCM_OK) return code;
    dscm_job_runner runner = dscm_engine_runner(&s->engine);
    code = dscm_service_recover(s, err);
    if (s->shared) dscm_queue_watch(s->queue, worker_idle, s->shared);
    if (strcmp(o->role, "api") == 0)
        s->workers = 0;
    else if (code == DSCM_OK)
        code = dscm_worker_pool_open(&s->pool, s->queue, &runner, s->workers, (size_t)o->batch,
                                     &s->metrics, err);
    if (code == DSCM_OK && s->shared) code = dscm_shared_begin(s->shared, err);
    return code;
}

dscm_code dscm_service_open(dscm_service **out, const dscm_settings *settings,
                            const dscm_engine_calls *calls, const dscm_catalogue *catalogue,
                            dscm_error *err)
{
    dscm_service *s = dscm_alloc(1, sizeof *s, "the service", err);
    if (!s) return DSCM_E_MEMORY;
    s->settings = *settings;
    dscm_code code = dscm_log_open(&s->log, STDERR_FILENO,
                                   (dscm_log_level)dscm_log_level_find(settings->log_level), err);
    if (settings->service_links)
        dscm_log_message(&s->log, DSCM_LOG_INFO, "settings",
                         "%zu environment variables of Kubernetes service links ignored",
                         settings->service_links);
    s->start_wall = dscm_clock_wall();
    dscm_json_init();
    if (code == DSCM_OK) code = raise_descriptors(s, err);
    if (code == DSCM_OK) code = open_stores(s, err);
    if (code == DSCM_OK) code = open_listeners(s, err); /* answer "loading" from here on */
    if (code == DSCM_OK) code = open_workers(s, calls, catalogue, err);
    if (code == DSCM_OK) {
        int failure = pthread_create(&s->housekeeper, NULL, keep_house, s);
        s->housekeeping = failure == 0;
        if (!s->housekeeping)
            code = dscm_fail(err, DSCM_E_SYSTEM, "cannot start the housekeeping thread: %s",
                             strerror(failure));
    }
    if (code != DSCM_OK) {
        dscm_service_stop(s);
        return code;
    }
    atomic_store(&s->ready, true);
    dscm_log_write(&s->log, DSCM_LOG_INFO, "ready",
                   json_pack("{s:s, s:i, s:i, s:I, s:I, s:I}", "host", settings->host, "port",
                             dscm_service_port(s), "admin_port", dscm_http_port(s->admin),
                             "workers", (json_int_t)s->workers, "threads",
                             (json_int_t)s->engine.threads, "models",
                             (json_int_t)s->catalogue.count));
    *out = s;
    return DSCM_OK;
}

/* ---- stop ---- */

static void nap(void)
{
    struct timespec time = {0, 5000000};
    nanosleep(&time, NULL);
}

/* Promised jobs of a shared store are no affair of this process; those it runs are no mirrors. */
static void count_live(void *arg, dscm_job *job)
{
    if (!job->mirror || !atomic_load(&job->detached)) ++*(size_t *)arg;
}

static size_t awaited_jobs(dscm_service *s)
{
    size_t live = 0;
    s->jobs->each_live(s->jobs, count_live, &live);
    return live;
}

static size_t live_jobs(dscm_service *s)
{
    return awaited_jobs(s) + (s->shared ? dscm_shared_running(s->shared) : 0);
}

static void end_waits(void *arg, dscm_job *job)
{
    (void)arg;
    dscm_job_release(job);
}

/* A job that was promised and is on disk is left for the next start. */
static void leave(void *arg, dscm_job *job)
{
    dscm_service *service = arg;
    bool kept = service->journal || job->mirror;
    if (!kept || !atomic_load(&job->detached)) {
        dscm_service_cancel(service, job, DSCM_REASON_SHUTDOWN);
        return;
    }
    dscm_job_release(job);
    if (!dscm_queue_remove(service->queue, job)) return;
    dscm_task_drop(job);
    dscm_job_unref(job);
}

/* Accepted jobs get until `until_ms` to finish; what is left is canceled, or left to the journal,
 * and ends within a step. */
static void drain(dscm_service *s, int64_t until_ms)
{
    /* Jobs that clients of this process wait for may find no other worker. */
    while (s->shared && awaited_jobs(s) && dscm_clock_ms() < until_ms) nap();
    if (s->shared) dscm_shared_quiesce(s->shared);
    while (live_jobs(s) && dscm_clock_ms() < until_ms) nap();
    int64_t leave_ms = dscm_clock_ms() + LEAVE_MS;
    if (s->shared) dscm_shared_release(s->shared);
    /* A shared store that is away takes no cancel: its jobs end by their deadlines. */
    while (live_jobs(s) && (!s->shared || dscm_clock_ms() < leave_ms)) {
        s->jobs->each_live(s->jobs, leave, s);
        nap();
    }
    if (s->shared) s->jobs->each_live(s->jobs, end_waits, NULL);
}

void dscm_service_stop(dscm_service *s)
{
    if (!s) return;
    bool served = atomic_load(&s->ready);
    atomic_store(&s->draining, true);        /* 1. not ready any more, new jobs get 503 */
    if (s->http) dscm_http_quiesce(s->http); /* 2. no new connections */
    if (served) {                            /* 3. accepted jobs finish or are canceled */
        dscm_log_message(&s->log, DSCM_LOG_INFO, "draining", "%zu jobs left", live_jobs(s));
        drain(s, dscm_clock_ms() + (int64_t)s->settings.drain_s * 1000);
    }
    if (s->queue) dscm_queue_close(s->queue); /* 4. workers find nothing more and end */
    dscm_worker_pool_join(s->pool);
    int64_t until = dscm_clock_ms() + LINGER_MS; /* 5. replies get out */
    while (s->http && dscm_http_active(s->http) && dscm_clock_ms() < until) nap();
    dscm_http_free(s->http); /* 6. nobody is parked: all jobs have ended */
    atomic_store(&s->housekeeping_stop, true);
    if (s->housekeeping) pthread_join(s->housekeeper, NULL);
    dscm_worker_pool_free(s->pool);      /* replies asked it for waiting times */
    dscm_http_free(s->admin);            /* 7. health answers until here */
    dscm_journal_free(s->journal);       /* writes what is pending */
    dscm_shared_free(s->shared);         /* so does this */
    if (s->jobs) s->jobs->free(s->jobs); /* 8. results let go of abductions … */
    for (size_t i = 0; i < s->backlog_count; i++) dscm_job_unref(s->backlog[i]);
    free(s->backlog);
    dscm_queue_free(s->queue);
    dscm_abduction_cache_free(s->abductions); /* … which are freed after them */
    for (size_t i = 0; i < DSCM_MODELS_MAX; i++) dscm_bundle_free(s->bundles[i]);
    dscm_quota_free(s->bodies);
    dscm_quota_free(s->costs);
    dscm_quota_free(s->streams);
    dscm_assets_free(s->assets);
    dscm_keys_free(s->keys);
    if (served) dscm_log_message(&s->log, DSCM_LOG_INFO, "stopped", "all done");
    dscm_log_close(&s->log, LOG_MS);
    dscm_free(s);
}

void dscm_service_reload(dscm_service *service)
{
    dscm_error err = {0};
    size_t count;
    if (dscm_keys_reload(service->keys, &count, &err) == DSCM_OK)
        dscm_log_message(&service->log, DSCM_LOG_INFO, "reload", "%zu keys in force", count);
    else
        dscm_log_message(&service->log, DSCM_LOG_ERROR, "reload", "%s; the old keys stay",
                         err.message);
}

double dscm_service_estimate_ms(dscm_service *service, size_t position)
{
    double each = service->pool ? dscm_worker_pool_job_ms(service->pool) : 0;
    if (each <= 0) return NAN;
    return each * (double)(position / (service->workers ? service->workers : 1) + 1);
}

size_t dscm_service_depth(dscm_service *service)
{
    dscm_shared_figures figures;
    if (!service->shared) return dscm_queue_depth(service->queue);
    dscm_shared_count(service->shared, &figures);
    return figures.waiting;
}

long dscm_service_retry_after(dscm_service *service)
{
    double ms = dscm_service_estimate_ms(service, dscm_service_depth(service));
    if (!(ms > 1000)) return 1;
    return ms > 60000 ? 60 : (long)ceil(ms * 1e-3);
}

int dscm_service_port(const dscm_service *service)
{
    return service->http ? dscm_http_port(service->http) : 0;
}
