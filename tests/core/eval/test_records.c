#include <unistd.h>

#include "core/base/memory.h"
#include "core/eval/records.h"
#include "tests/harness.h"

static const char *scratch_path(void)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/dscm-records-%d.csv", (int)getpid());
    return path;
}

static void rows_survive_a_cut(void)
{
    const char *path = scratch_path();
    dscm_error err = {0};
    dscm_record in[2];
    for (int i = 0; i < 2; i++)
        for (int c = 0; c < DSCM_COLUMNS; c++) in[i].values[c] = c == 5 ? NAN : i + c / 8.0;
    REQUIRE(dscm_records_append(path, in, 1, &err) == DSCM_OK);
    REQUIRE(dscm_records_append(path, in + 1, 1, &err) == DSCM_OK);
    FILE *f = fopen(path, "a");
    REQUIRE(f != NULL);
    fputs("3,4,", f);
    fclose(f);
    dscm_record *rows = NULL;
    size_t count = 0;
    REQUIRE(dscm_records_read(path, &rows, &count, 10, &err) == DSCM_OK);
    CHECK_INT(count, 2);
    CHECK_NEAR(rows[1].values[4], 1.5, 0);
    CHECK(isnan(rows[1].values[5]));
    dscm_free(rows);
    REQUIRE(dscm_records_read(path, &rows, &count, 1, &err) == DSCM_OK);
    CHECK_INT(count, 1);
    dscm_free(rows);
    REQUIRE(dscm_records_append(path, in, 1, &err) == DSCM_OK); /* not behind the half line */
    REQUIRE(dscm_records_read(path, &rows, &count, 10, &err) == DSCM_OK);
    CHECK_INT(count, 3);
    CHECK_NEAR(rows[2].values[4], 0.5, 0);
    dscm_free(rows);
    f = fopen(path, "a");
    REQUIRE(f != NULL);
    fputs("\n", f);
    fclose(f);
    CHECK_INT(dscm_records_read(path, &rows, &count, 10, &err), DSCM_E_FORMAT);
    CHECK_HAS(err.message, "line 5");
    unlink(path);
}

static void a_missing_file_is_empty(void)
{
    dscm_record *rows = NULL;
    size_t count = 9;
    dscm_error err = {0};
    REQUIRE(dscm_records_read("/nonexistent/x.csv", &rows, &count, 10, &err) == DSCM_OK);
    CHECK_INT(count, 0);
    CHECK_INT(dscm_records_append("/nonexistent/x.csv", NULL, 0, &err), DSCM_E_IO);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"rows_survive_a_cut", rows_survive_a_cut},
        {"a_missing_file_is_empty", a_missing_file_is_empty},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
