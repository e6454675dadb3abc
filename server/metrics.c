#include "server/metrics.h"

#include <dirent.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const int statuses[DSCM_METRICS_STATUSES] = {200, 201, 202, 204, 304, 400, 401, 403, 404,
                                                    405, 406, 408, 409, 410, 411, 413, 415, 417,
                                                    422, 429, 499, 500, 501, 503, 504, 0};
static const char *const reject_names[] = {"queue_full",   "share_full",  "draining", "streams",
                                           "unauthorized", "strict",      "slow",     "too_large",
                                           "store",        "uploads_full"};
static const char *const phase_names[] = {"request", "queued", "running", "stream"};
static const double bounds[DSCM_METRICS_BUCKETS] = {.001, .0025, .005, .01, .025, .05, .1,
                                                    .25,  .5,    1,    2.5, 5,    10,  60};

void dscm_histogram_add(dscm_histogram *histogram, int64_t took_us)
{
    size_t bucket = 0;
    while (bucket < DSCM_METRICS_BUCKETS && (double)took_us > bounds[bucket] * 1e6) bucket++;
    atomic_fetch_add_explicit(&histogram->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_us, (unsigned long long)took_us,
                              memory_order_relaxed);
}

void dscm_metrics_request(dscm_metrics *metrics, size_t route, int status, int64_t took_us)
{
    size_t s = 0;
    while (statuses[s] && statuses[s] != status)
        s++; /* the 0 at the end takes what is not listed */
    if (route >= DSCM_METRICS_ROUTES) return;
    atomic_fetch_add_explicit(&metrics->requests[route][s], 1, memory_order_relaxed);
    dscm_histogram_add(&metrics->durations[route], took_us);
}

static void head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* label: `name="value"` or "" */
static void histogram(FILE *out, const char *name, const char *label, dscm_histogram *h)
{
    unsigned long long total = 0;
    const char *comma = *label ? "," : "";
    for (size_t b = 0; b < DSCM_METRICS_BUCKETS; b++) {
        total += atomic_load(&h->buckets[b]);
        fprintf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, label, comma, bounds[b], total);
    }
    total += atomic_load(&h->buckets[DSCM_METRICS_BUCKETS]);
    const char *open = *label ? "{" : "", *close = *label ? "}" : "";
    fprintf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, label, comma, total);
    fprintf(out, "%s_sum%s%s%s %.6f\n", name, open, label, close,
            (double)atomic_load(&h->sum_us) * 1e-6);
    fprintf(out, "%s_count%s%s%s %llu\n", name, open, label, close, total);
}

static void render_requests(dscm_metrics *m, const dscm_metrics_gauges *g, FILE *out)
{
    head(out, "diffscm_requests_total", "counter", "Requests by route and status.");
    for (size_t r = 0; g->routes[r] && r < DSCM_METRICS_ROUTES; r++)
        for (size_t s = 0; s < DSCM_METRICS_STATUSES; s++) {
            unsigned long long n = atomic_load(&m->requests[r][s]);
            if (!n) continue;
            char status[12] = "other";
            if (statuses[s]) snprintf(status, sizeof status, "%d", statuses[s]);
            fprintf(out, "diffscm_requests_total{route=\"%s\",status=\"%s\"} %llu\n", g->routes[r],
                    status, n);
        }
    head(out, "diffscm_request_duration_seconds", "histogram",
         "From the head of the request to the end of the reply.");
    for (size_t r = 0; g->routes[r] && r < DSCM_METRICS_ROUTES; r++) {
        char label[96];
        snprintf(label, sizeof label, "route=\"%s\"", g->routes[r]);
        histogram(out, "diffscm_request_duration_seconds", label, &m->durations[r]);
    }
}

static void render_jobs(dscm_metrics *m, FILE *out)
{
    head(out, "diffscm_jobs_accepted_total", "counter", "Jobs that entered the queue.");
    fprintf(out, "diffscm_jobs_accepted_total %llu\n", atomic_load(&m->jobs_accepted));
    head(out, "diffscm_jobs_started_total", "counter", "Jobs that a worker began.");
    fprintf(out, "diffscm_jobs_started_total %llu\n", atomic_load(&m->jobs_started));
    head(out, "diffscm_jobs_ended_total", "counter", "Jobs that ended, by state and reason.");
    for (int s = DSCM_JOB_SUCCEEDED; s <= DSCM_JOB_CANCELED; s++)
        for (int r = 0; r < DSCM_REASONS; r++) {
            if ((s == DSCM_JOB_CANCELED) == (r == DSCM_REASON_NONE)) continue;
            fprintf(out, "diffscm_jobs_ended_total{state=\"%s\",reason=\"%s\"} %llu\n",
                    dscm_job_state_name(s), dscm_job_reason_name(r), atomic_load(&m->jobs[s][r]));
        }
    head(out, "diffscm_queue_wait_seconds", "histogram", "Time that jobs waited for a worker.");
    histogram(out, "diffscm_queue_wait_seconds", "", &m->queue_wait);
    head(out, "diffscm_inference_seconds", "histogram", "Time that workers took per batch.");
    histogram(out, "diffscm_inference_seconds", "", &m->inference);
}

static void counter(FILE *out, const char *name, const char *help, unsigned long long value)
{
    head(out, name, "counter", help);
    fprintf(out, "%s %llu\n", name, value);
}

static void gauge(FILE *out, const char *name, const char *help, double value)
{
    head(out, name, "gauge", help);
    fprintf(out, "%s %.17g\n", name, value);
}

/* What cannot be read now has no line: zero would be a false figure. */
static void render_process(const dscm_metrics_gauges *g, FILE *out)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    head(out, "process_cpu_seconds_total", "counter", "Processor time used.");
    fprintf(out, "process_cpu_seconds_total %.3f\n",
            (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6);
    unsigned long pages = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm && fscanf(statm, "%lu %lu", &pages, &resident) == 2) {
        double page = (double)sysconf(_SC_PAGESIZE);
        gauge(out, "process_resident_memory_bytes", "Resident memory.", (double)resident * page);
        gauge(out, "process_virtual_memory_bytes", "Virtual memory.", (double)pages * page);
    }
    if (statm) fclose(statm);
    size_t descriptors = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir)) descriptors++;
    if (dir) closedir(dir);
    if (descriptors > 3)
        gauge(out, "process_open_fds", "Open file descriptors.",
              (double)(descriptors - 3)); /* ".", ".." and the folder's own */
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    gauge(out, "process_max_fds", "Limit of open file descriptors.", (double)files.rlim_cur);
    gauge(out, "process_start_time_seconds", "Unix time of the start.", g->start_wall);
}

static void render_labelled(dscm_metrics *m, FILE *out)
{
    head(out, "diffscm_rejects_total", "counter", "Requests turned away, by reason.");
    for (int r = 0; r < DSCM_REJECTS; r++)
        fprintf(out, "diffscm_rejects_total{reason=\"%s\"} %llu\n", reject_names[r],
                atomic_load(&m->rejects[r]));
    head(out, "diffscm_disconnects_total", "counter",
         "Clients that went away, by what they waited for.");
    for (int p = 0; p < DSCM_GONE_PHASES; p++)
        fprintf(out, "diffscm_disconnects_total{phase=\"%s\"} %llu\n", phase_names[p],
                atomic_load(&m->disconnects[p]));
}

static void render_store(dscm_metrics *m, const dscm_metrics_gauges *g, FILE *out)
{
    if (!g->journal) return;
    counter(out, "diffscm_store_operations_total", "Changes of jobs written to the store.",
            g->store_written);
    counter(out, "diffscm_store_commits_total", "Transactions of the store.", g->store_commits);
    counter(out, "diffscm_store_failures_total", "Transactions that the store refused.",
            g->store_failures);
    gauge(out, "diffscm_store_pending", "Changes not written yet.", (double)g->store_pending);
    gauge(out, "diffscm_store_sync_seconds", "Time of a synced transaction, moving average.",
          g->store_sync_s);
    gauge(out, "diffscm_store_backlog", "Stored jobs that wait for a place in the queue.",
          (double)g->store_backlog);
    counter(out, "diffscm_jobs_interrupted_total",
            "Jobs found at the start that ran when the process before it ended.",
            atomic_load(&m->interrupted));
    counter(out, "diffscm_jobs_crashed_total",
            "Jobs that failed since the process ended too often while they ran.",
            atomic_load(&m->crashed));
}

static void render_shared(dscm_metrics *m, const dscm_shared_figures *f, FILE *out)
{
    if (!f) return;
    gauge(out, "diffscm_store_up", "1 while the store answers.", f->connected);
    counter(out, "diffscm_store_operations_total", "Changes of jobs that the store answered.",
            f->operations);
    counter(out, "diffscm_store_failures_total", "Lost connections and refusals of the store.",
            f->failures);
    gauge(out, "diffscm_store_pending", "Changes not answered yet.", (double)f->pending);
    gauge(out, "diffscm_store_answer_seconds", "Time of a round of operations, moving average.",
          f->answer_us * 1e-6);
    gauge(out, "diffscm_store_running", "Jobs that any process has claimed.", (double)f->running);
    gauge(out, "diffscm_store_workers", "Processes alive that run jobs, once per model.",
          (double)f->workers);
    counter(out, "diffscm_claims_total", "Jobs that this process claimed.", f->claimed);
    counter(out, "diffscm_takeovers_total", "Jobs that this process found with a dead one.",
            f->taken_over);
    counter(out, "diffscm_claims_lost_total", "Jobs that another process took from this one.",
            f->lost);
    counter(out, "diffscm_jobs_crashed_total",
            "Jobs that failed since processes ended too often while they ran.",
            atomic_load(&m->crashed));
}

void dscm_metrics_render(dscm_metrics *m, const dscm_metrics_gauges *g, FILE *out)
{
    render_requests(m, g, out);
    render_jobs(m, out);
    render_labelled(m, out);
    counter(out, "diffscm_abduction_hits_total", "Abductions found in the cache.",
            atomic_load(&m->cache_hits));
    counter(out, "diffscm_abduction_misses_total", "Abductions computed.",
            atomic_load(&m->cache_misses));
    counter(out, "diffscm_idempotent_hits_total", "Requests answered by an earlier job.",
            atomic_load(&m->idempotent_hits));
    counter(out, "diffscm_batches_total", "Batches that workers ran.", atomic_load(&m->batches));
    counter(out, "diffscm_batched_jobs_total", "Jobs in those batches.",
            atomic_load(&m->batched_jobs));
    gauge(out, "diffscm_streams", "Open event streams.", (double)atomic_load(&m->streams));
    gauge(out, "diffscm_workers", "Workers.", (double)g->workers);
    gauge(out, "diffscm_workers_busy", "Workers that run a batch.",
          (double)atomic_load(&m->workers_busy));
    gauge(out, "diffscm_queue_depth", "Jobs that wait.", (double)g->queue_depth);
    gauge(out, "diffscm_queue_capacity", "Jobs that may wait.", (double)g->queue_capacity);
    gauge(out, "diffscm_jobs_kept", "Jobs in the store.", (double)g->jobs_kept);
    gauge(out, "diffscm_jobs_bytes", "Bytes of kept results at the last sweep.",
          (double)g->jobs_bytes);
    gauge(out, "diffscm_abductions_kept", "Abductions in the cache.", (double)g->abductions);
    gauge(out, "diffscm_abductions_bytes", "Bytes of kept abductions.", (double)g->abduction_bytes);
    gauge(out, "diffscm_connections", "Open public connections.", (double)g->connections);
    render_store(m, g, out);
    render_shared(m, g->shared, out);
    counter(out, "diffscm_log_dropped_total", "Lines of the log that were lost.", g->log_dropped);
    gauge(out, "diffscm_body_bytes", "Bytes of request bodies that arrive or wait.",
          (double)g->bodies_bytes);
    head(out, "diffscm_build_info", "gauge", "The program that runs.");
    fprintf(out, "diffscm_build_info{version=\"%s\"} 1\n", g->version);
    head(out, "diffscm_model_info", "gauge", "The bundles that are served.");
    for (size_t i = 0; g->models && g->models[i]; i += 3)
        fprintf(out, "diffscm_model_info{model=\"%s\",version=\"%s\",sha256=\"%s\"} 1\n",
                g->models[i], g->models[i + 1], g->models[i + 2]);
    render_process(g, out);
}
