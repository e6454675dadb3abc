/* Counters and histograms, and their text form. */
#include "server/metrics.h"
#include "tests/harness.h"

static void histogram_buckets_add_up(void)
{
    static dscm_metrics metrics;
    dscm_metrics_request(&metrics, 1, 200, 1500);
    dscm_metrics_request(&metrics, 1, 777, 90000000);
    dscm_metrics_request(&metrics, 0, 200, 1000); /* le: a bound belongs to its bucket */
    CHECK_INT(atomic_load(&metrics.durations[0].buckets[0]), 1);
    CHECK_INT(atomic_load(&metrics.durations[1].buckets[1]), 1);
    CHECK_INT(atomic_load(&metrics.durations[1].buckets[DSCM_METRICS_BUCKETS]), 1);
    static const char *const routes[] = {"a", "b", NULL};
    dscm_metrics_gauges gauges = {.routes = routes, .version = "x"};
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    dscm_metrics_render(&metrics, &gauges, out);
    fclose(out);
    CHECK_HAS(text, "diffscm_requests_total{route=\"b\",status=\"other\"} 1\n");
    CHECK_HAS(text, "diffscm_request_duration_seconds_bucket{route=\"b\",le=\"+Inf\"} 2\n");
    free(text);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"histogram_buckets_add_up", histogram_buckets_add_up},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
