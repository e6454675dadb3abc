/* Counters and histograms, and their text form. */
#include "server/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"

static const char *const routes[] = {"a", "b", NULL};

/* The text of all metrics; release with free. */
static char *render(dscm_metrics *metrics, const dscm_metrics_gauges *gauges)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) abort();
    dscm_metrics_render(metrics, gauges, out);
    fclose(out);
    return text;
}

static void histogram_buckets_add_up(void)
{
    static dscm_metrics metrics;
    dscm_metrics_request(&metrics, 1, 200, 1500);
    dscm_metrics_request(&metrics, 1, 777, 90000000);
    dscm_metrics_request(&metrics, 0, 200, 1000); /* le: a bound belongs to its bucket */
    dscm_metrics_request(&metrics, DSCM_METRICS_ROUTES, 200, 1); /* no such route: not counted */
    CHECK_INT(atomic_load(&metrics.durations[0].buckets[0]), 1);
    CHECK_INT(atomic_load(&metrics.durations[1].buckets[1]), 1);
    CHECK_INT(atomic_load(&metrics.durations[1].buckets[DSCM_METRICS_BUCKETS]), 1);
    const dscm_metrics_gauges gauges = {.routes = routes, .version = "x"};
    char *text = render(&metrics, &gauges);
    CHECK_HAS(text, "diffscm_requests_total{route=\"b\",status=\"other\"} 1\n");
    CHECK_HAS(text, "diffscm_requests_total{route=\"b\",status=\"200\"} 1\n");
    CHECK_HAS(text, "diffscm_request_duration_seconds_bucket{route=\"b\",le=\"0.001\"} 0\n");
    CHECK_HAS(text, "diffscm_request_duration_seconds_bucket{route=\"b\",le=\"60\"} 1\n");
    CHECK_HAS(text, "diffscm_request_duration_seconds_bucket{route=\"b\",le=\"+Inf\"} 2\n");
    CHECK_HAS(text, "diffscm_request_duration_seconds_sum{route=\"b\"} 90.001500\n");
    CHECK_HAS(text, "diffscm_request_duration_seconds_count{route=\"b\"} 2\n");
    free(text);
}

static int times_in(const char *text, const char *part)
{
    int count = 0;
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) count += strncmp(text + i, part, strlen(part)) == 0;
    return count;
}

/* Every series has its help and type before it, each name once: what Prometheus asks of the text. */
static void every_series_is_described_once(void)
{
    static dscm_metrics metrics;
    static const char *const models[] = {"toy", "1", "abc", NULL};
    const dscm_shared_figures shared = {.connected = true};
    const dscm_metrics_gauges kinds[] = {
        {.routes = routes, .models = models, .version = "x"},
        {.routes = routes, .models = models, .version = "x", .journal = true},
        {.routes = routes, .models = models, .version = "x", .shared = &shared}};
    dscm_metrics_request(&metrics, 0, 200, 1);
    for (size_t k = 0; k < TEST_COUNT(kinds); k++) {
        char *text = render(&metrics, &kinds[k]), *rest = NULL, typed[128] = "", line[160];
        char *copy = strdup(text);
        REQUIRE(copy != NULL);
        for (char *l = strtok_r(copy, "\n", &rest); l; l = strtok_r(NULL, "\n", &rest)) {
            if (strncmp(l, "# TYPE ", 7) == 0) {
                snprintf(typed, sizeof typed, "%.*s", (int)strcspn(l + 7, " "), l + 7);
                snprintf(line, sizeof line, "# HELP %s ", typed);
                CHECK_INT(times_in(text, line), 1);
            } else if (*l != '#' && strncmp(l, typed, strlen(typed)) != 0) {
                TEST_FAIL_("%s follows the type of %s", l, typed);
            }
        }
        CHECK_HAS(text, "diffscm_model_info{model=\"toy\",version=\"1\",sha256=\"abc\"} 1\n");
        CHECK(!strstr(text, "diffscm_store_commits_total") == (k != 1));
        CHECK(!strstr(text, "diffscm_store_up 1\n") == (k != 2));
        free(copy);
        free(text);
    }
}

static void jobs_and_refusals_are_counted_by_reason(void)
{
    static dscm_metrics metrics;
    const dscm_metrics_gauges gauges = {
        .routes = routes, .version = "x", .queue_depth = 3, .workers = 2, .log_dropped = 5};
    atomic_store(&metrics.jobs[DSCM_JOB_CANCELED][DSCM_REASON_DEADLINE], 4);
    atomic_store(&metrics.jobs[DSCM_JOB_SUCCEEDED][DSCM_REASON_NONE], 6);
    atomic_store(&metrics.rejects[DSCM_REJECT_UPLOADS], 7);
    atomic_store(&metrics.disconnects[DSCM_GONE_STREAM], 8);
    char *text = render(&metrics, &gauges);
    CHECK_HAS(text, "diffscm_jobs_ended_total{state=\"canceled\",reason=\"deadline\"} 4\n");
    CHECK_HAS(text, "diffscm_jobs_ended_total{state=\"succeeded\",reason=\"\"} 6\n");
    CHECK_HAS(text, "diffscm_rejects_total{reason=\"uploads_full\"} 7\n");
    CHECK_HAS(text, "diffscm_disconnects_total{phase=\"stream\"} 8\n");
    CHECK_HAS(text, "diffscm_queue_depth 3\n");
    CHECK_HAS(text, "diffscm_workers 2\n");
    CHECK_HAS(text, "diffscm_log_dropped_total 5\n");
    free(text);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"histogram_buckets_add_up", histogram_buckets_add_up},
        {"every_series_is_described_once", every_series_is_described_once},
        {"jobs_and_refusals_are_counted_by_reason", jobs_and_refusals_are_counted_by_reason},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
