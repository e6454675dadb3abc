/* The test harness: a test program lists its cases and calls test_main.
 *
 *   static void adds(void) { CHECK_INT(1 + 1, 2); }
 *   int main(int argc, char **argv)
 *   {
 *       static const test_case cases[] = {{"adds", adds}};
 *       return test_main(argc, argv, cases, TEST_COUNT(cases));
 *   }
 *
 * Options: -l lists the cases, -s SEED sets test_seed (printed), any other argument is a filter on
 * case names. A failed check prints both values and fails its case; the case goes on. TEST_SKIP
 * ends a case as skipped and says why. Exit status 0 only when no case failed. */
#ifndef DSCM_TESTS_HARNESS_H
#define DSCM_TESTS_HARNESS_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct test_case {
    const char *name;
    void (*run)(void);
} test_case;

/* Under a sanitizer, where the same numbers cost many times as much. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_INSTRUMENTED 1
#else
#define TEST_INSTRUMENTED 0
#endif

#define TEST_COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int test_failures;
static const char *test_skipped;
static uint64_t test_seed = 1;

#define TEST_FAIL_(...)                                                                            \
    do {                                                                                           \
        if (test_failures++ < 20) {                                                                \
            printf("    %s:%d: ", __FILE__, __LINE__);                                             \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
        }                                                                                          \
    } while (0)

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) TEST_FAIL_("not true: %s", #cond);                                            \
    } while (0)

/* Ends the case when the condition fails: for what the following lines depend on. */
#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            TEST_FAIL_("not true: %s", #cond);                                                     \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#define CHECK_INT(got, want)                                                                       \
    do {                                                                                           \
        long long got_ = (long long)(got), want_ = (long long)(want);                              \
        if (got_ != want_) TEST_FAIL_("%s = %lld, expected %lld", #got, got_, want_);              \
    } while (0)

#define CHECK_STR(got, want)                                                                       \
    do {                                                                                           \
        const char *got_ = (got), *want_ = (want);                                                 \
        if (strcmp(got_, want_) != 0)                                                              \
            TEST_FAIL_("%s = \"%s\", expected \"%s\"", #got, got_, want_);                         \
    } while (0)

/* The text contains the part. */
#define CHECK_HAS(text, part)                                                                      \
    do {                                                                                           \
        const char *got_ = (text), *want_ = (part);                                                \
        if (!strstr(got_, want_))                                                                  \
            TEST_FAIL_("%s = \"%s\" does not contain \"%s\"", #text, got_, want_);                 \
    } while (0)

/* |got - want| <= tol; NaN fails. */
#define CHECK_NEAR(got, want, tol)                                                                 \
    do {                                                                                           \
        double got_ = (got), want_ = (want), tol_ = (tol);                                         \
        if (!(fabs(got_ - want_) <= tol_))                                                         \
            TEST_FAIL_("%s = %.9g, expected %.9g within %.3g", #got, got_, want_, tol_);           \
    } while (0)

#define TEST_SKIP(why)                                                                             \
    do {                                                                                           \
        test_skipped = (why);                                                                      \
        return;                                                                                    \
    } while (0)

static inline int test_main(int argc, char **argv, const test_case *cases, size_t count)
{
    const char *filter = "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-l") == 0) {
            for (size_t c = 0; c < count; c++) printf("%s\n", cases[c].name);
            return 0;
        }
        if (strcmp(argv[i], "-s") == 0 && i + 1 < argc)
            test_seed = strtoull(argv[++i], NULL, 10);
        else
            filter = argv[i];
    }
    const char *program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    size_t passed = 0, failed = 0, skipped = 0;
    for (size_t c = 0; c < count; c++) {
        if (!strstr(cases[c].name, filter)) continue;
        test_failures = 0;
        test_skipped = NULL;
        cases[c].run();
        if (test_failures) {
            failed++;
            printf("  FAIL %s/%s (seed %llu)\n", program, cases[c].name,
                   (unsigned long long)test_seed);
        } else if (test_skipped) {
            skipped++;
            printf("  skip %s/%s: %s\n", program, cases[c].name, test_skipped);
        } else {
            passed++;
        }
    }
    printf("%-28s %zu passed, %zu failed, %zu skipped\n", program, passed, failed, skipped);
    return failed != 0;
}

#endif
