/* The log never waits for its reader, loses whole lines only, and says how many. */
#include "server/log.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "server/clock.h"
#include "tests/failing_json.h"
#include "tests/harness.h"

static void log_number(const dscm_log *log, int number)
{
    dscm_log_write(
        log, DSCM_LOG_INFO, "test",
        json_pack("{s:i, s:s}", "number", number, "text", "some words to fill the line"));
}

/* Reads everything and checks that each line is a whole object; counts them. */
static size_t count_lines(int fd, size_t *broken)
{
    size_t count = 0, used = 0, capacity = (size_t)8 << 20;
    char *text = malloc(capacity);
    if (!text) abort();
    for (ssize_t n; used < capacity && (n = read(fd, text + used, capacity - used)) > 0;)
        used += (size_t)n;
    *broken = 0;
    for (char *line = text, *end; (end = memchr(line, '\n', used - (size_t)(line - text)));
         line = end + 1) {
        json_t *value = json_loadb(line, (size_t)(end - line), 0, NULL);
        if (value)
            count++;
        else
            ++*broken;
        json_decref(value);
    }
    free(text);
    return count;
}

static void a_reader_that_stops_costs_lines_not_time(void)
{
    enum { LINES = 20000 }; /* more than pipe and buffer take */
    int ends[2];
    dscm_log log;
    size_t broken;
    REQUIRE(pipe(ends) == 0);
    REQUIRE(dscm_log_open(&log, ends[1], DSCM_LOG_INFO, NULL) == DSCM_OK);
    for (int i = 0; i < LINES; i++) log_number(&log, i);
    unsigned long long dropped = dscm_log_dropped(&log);
    CHECK(dropped > 0 && dropped < LINES);
    int64_t start = dscm_clock_ms();
    dscm_log_close(&log, 200);
    CHECK(dscm_clock_ms() - start < 10000);
    close(ends[1]);
    CHECK(count_lines(ends[0], &broken) > 100);
    CHECK_INT(broken, 0); /* at most the last one is cut off, and has no end */
    close(ends[0]);
}

static void everything_arrives_in_order_when_it_is_read(void)
{
    char name[] = "/tmp/diffscm-log-XXXXXX";
    dscm_log log;
    size_t broken;
    int fd = mkstemp(name);
    REQUIRE(fd >= 0);
    unlink(name);
    REQUIRE(dscm_log_open(&log, fd, DSCM_LOG_INFO, NULL) == DSCM_OK);
    for (int i = 0; i < 300; i++) log_number(&log, i);
    json_t *long_line = json_object();
    char *text = malloc(20001);
    memset(text, 'x', 20000);
    text[20000] = 0;
    json_object_set_new(long_line, "text", json_string(text));
    free(text);
    dscm_log_write(&log, DSCM_LOG_INFO, "long", long_line);
    dscm_log_write(&log, DSCM_LOG_DEBUG, "quiet", NULL);
    CHECK_INT(dscm_log_dropped(&log), 0);
    dscm_log_close(&log, 10000);
    lseek(fd, 0, SEEK_SET);
    CHECK_INT(count_lines(fd, &broken), 301);
    CHECK_INT(broken, 0);
    close(fd);
}

/* A file that takes no more (here by a limit, as on a full disk) and later does again. */
static void a_fragment_ends_before_the_next_line(void)
{
    char name[] = "/tmp/diffscm-log-XXXXXX";
    dscm_log log;
    size_t broken;
    struct rlimit before, limit;
    int fd = mkstemp(name);
    REQUIRE(fd >= 0 && getrlimit(RLIMIT_FSIZE, &before) == 0);
    unlink(name);
    signal(SIGXFSZ, SIG_IGN);
    limit = before;
    limit.rlim_cur = 150; /* in the middle of the second line */
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    REQUIRE(dscm_log_open(&log, fd, DSCM_LOG_INFO, NULL) == DSCM_OK);
    for (int i = 0; i < 5; i++) log_number(&log, i);
    while (dscm_log_dropped(&log) < 4) usleep(1000);
    CHECK_INT(lseek(fd, 0, SEEK_END), 150);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    for (int i = 5; i < 8; i++) log_number(&log, i);
    dscm_log_close(&log, 10000);
    lseek(fd, 0, SEEK_SET);
    CHECK_INT(count_lines(fd, &broken), 4);
    CHECK_INT(broken, 1);
    close(fd);
}

/* Without memory for all of a line it is lost and counted, never written in part. */
static void lines_are_whole_or_lost(void)
{
    char name[] = "/tmp/diffscm-log-XXXXXX", line[300];
    dscm_log log;
    int fd = mkstemp(name);
    REQUIRE(fd >= 0);
    REQUIRE(dscm_log_open(&log, fd, DSCM_LOG_INFO, NULL) == DSCM_OK);
    fail_nth(0);
    log_number(&log, 7);
    long all = failing_calls;
    for (long n = 1; n <= all; n++) {
        fail_nth(n);
        log_number(&log, 7);
        fail_nth(0);
    }
    dscm_log_message(&log, DSCM_LOG_INFO, "test", "number 7, some words and \xff to fill the line");
    unsigned long long lost = dscm_log_dropped(&log);
    CHECK(lost > (unsigned long long)all / 2);
    dscm_log_close(&log, 10000);
    FILE *file = fopen(name, "r");
    REQUIRE(file != NULL);
    long lines = 0;
    for (; fgets(line, sizeof line, file); lines++) {
        CHECK_HAS(line, "\"time\":\"20");
        CHECK_HAS(line, "\"level\":\"info\",\"event\":\"test\",\"");
        CHECK_HAS(line, "7");
        CHECK_HAS(line, " to fill the line\"}\n");
    }
    CHECK_INT(lines, all + 2 - (long)lost);
    fclose(file);
    close(fd);
    unlink(name);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"a_reader_that_stops_costs_lines_not_time", a_reader_that_stops_costs_lines_not_time},
        {"everything_arrives_in_order_when_it_is_read",
         everything_arrives_in_order_when_it_is_read},
        {"a_fragment_ends_before_the_next_line", a_fragment_ends_before_the_next_line},
        {"lines_are_whole_or_lost", lines_are_whole_or_lost}};
    failing_install();
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
