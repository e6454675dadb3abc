/* Tables: what is read, and that each mistake is told with file, line and column. */
#include "core/data/table.h"
#include "tests/harness.h"

static dscm_code parse(dscm_table *t, const char *text, dscm_error *err)
{
    *err = (dscm_error){0};
    return dscm_table_parse(t, text, strlen(text), "v.csv", err);
}

static void reads_quotes_unicode_and_a_mark(void)
{
    dscm_table t;
    dscm_error err;
    REQUIRE(parse(&t,
                  "\xEF\xBB\xBFgr\xC3\xB6\xC3\x9F"
                  "e,\"a \"\"b\"\"\"\r\n\"1,5\",x\r\n\"two\nlines\",\n\n",
                  &err) == DSCM_OK);
    CHECK_INT(t.rows, 2);
    CHECK_INT(t.columns, 2);
    CHECK_STR(t.header[0], "gr\xC3\xB6\xC3\x9F"
                           "e");
    CHECK_STR(t.header[1], "a \"b\"");
    CHECK_STR(t.cells[0], "1,5");
    CHECK_STR(t.cells[1], "x");
    CHECK_STR(t.cells[2], "two\nlines");
    CHECK_STR(t.cells[3], "");
    CHECK_INT(t.lines[0], 2);
    CHECK_INT(t.lines[1], 3);
    CHECK_INT(dscm_table_find(&t, "a \"b\""), 1);
    CHECK_INT(dscm_table_find(&t, "b"), -1);
    dscm_table_free(&t);
}

static void one_column_keeps_empty_lines(void)
{
    dscm_table t;
    dscm_error err;
    REQUIRE(parse(&t, "a\n\n2\n", &err) == DSCM_OK);
    CHECK_INT(t.rows, 2);
    CHECK_STR(t.cells[0], "");
    CHECK_STR(t.cells[1], "2");
    dscm_table_free(&t);
    REQUIRE(parse(&t, "a,b\r1,2\r3,4", &err) == DSCM_OK);
    CHECK_INT(t.rows, 2);
    CHECK_STR(t.cells[3], "4");
    dscm_table_free(&t);
}

static void refused(const char *text, const char *message)
{
    dscm_table t;
    dscm_error err;
    CHECK(parse(&t, text, &err) != DSCM_OK);
    CHECK_STR(err.message, message);
    CHECK(t.text == NULL && t.name == NULL);
}

static void refuses_what_is_no_table(void)
{
    refused("", "v.csv: empty; a header line is needed");
    refused("a,,c\n", "v.csv: line 1, column 2: the name is empty");
    refused("a,b,a\n", "v.csv: line 1, column 3: \"a\" is the name of column 1 too");
    refused("a,b\n1,2\n3\n", "v.csv: line 3: 1 cells; the header has 2 columns");
    refused("a,b\n1,2,3\n", "v.csv: line 2: 3 cells; the header has 2 columns");
    refused("a,b\n\n1,2\n", "v.csv: line 2: 1 cells; the header has 2 columns");
    refused("a,b\n1,\"2\n", "v.csv: line 2, column 2: a quote is never closed");
    refused("a,b\n\"1\"x,2\n", "v.csv: line 2, column 1: text behind a closing quote");
    dscm_table t;
    dscm_error err = {0};
    CHECK(dscm_table_parse(&t, "a\0b", 3, "v.csv", &err) == DSCM_E_FORMAT);
    CHECK_HAS(err.message, "zero byte");
}

static void reads_columns(void)
{
    static const char *const labels[] = {"cat", "dog"};
    const dscm_column kind = {
        .name = "kind", .kind = DSCM_CATEGORICAL, .labels_count = 2, .labels = labels};
    const dscm_column size = {
        .name = "size", .kind = DSCM_CONTINUOUS, .min = 0, .max = 10, .missing = true};
    dscm_table t;
    dscm_error err;
    double out[3];
    REQUIRE(parse(&t, "size,kind\n1.5,dog\n,0\n10,1\n", &err) == DSCM_OK);
    CHECK_INT(dscm_table_column(&t, &kind, out, &err), DSCM_OK);
    CHECK_NEAR(out[0], 1, 0);
    CHECK_NEAR(out[1], 0, 0);
    CHECK_NEAR(out[2], 1, 0);
    CHECK_INT(dscm_table_column(&t, &size, out, &err), DSCM_OK);
    CHECK_NEAR(out[0], 1.5, 0);
    CHECK(isnan(out[1]));
    CHECK_INT(dscm_table_check_rows(&t, 3, "images", &err), DSCM_OK);
    CHECK(dscm_table_check_rows(&t, 4, "images", &err) == DSCM_E_MISMATCH);
    CHECK_STR(err.message, "v.csv: 3 rows for 4 images; the last row is in line 4");
    dscm_table_free(&t);
}

static void bad_cell(const char *text, const dscm_column *column, const char *message)
{
    dscm_table t;
    dscm_error err;
    double out[4];
    REQUIRE(parse(&t, text, &err) == DSCM_OK);
    CHECK(dscm_table_column(&t, column, out, &err) != DSCM_OK);
    CHECK_STR(err.message, message);
    dscm_table_free(&t);
}

static void tells_wrong_cells_by_line_and_column(void)
{
    const dscm_column size = {.name = "s", .kind = DSCM_CONTINUOUS, .min = 0, .max = 10};
    const dscm_column digit = {.name = "d", .kind = DSCM_CATEGORICAL, .labels_count = 10};
    bad_cell("s,d\n1,2\n11,2\n", &size,
             "v.csv: line 3, column 1 (s): \"11\" is not a number in 0..10");
    bad_cell("s,d\nnan,2\n", &size,
             "v.csv: line 2, column 1 (s): \"nan\" is not a number in 0..10");
    bad_cell("s,d\n1x,2\n", &size, "v.csv: line 2, column 1 (s): \"1x\" is not a number in 0..10");
    bad_cell("s,d\n,2\n", &size, "v.csv: line 2, column 1 (s): the cell is empty");
    bad_cell("s,d\n\"1\",10\n", &digit,
             "v.csv: line 2, column 2 (d): \"10\" is not an integer in 0..9");
    bad_cell("size,d\n1,1\n", &size, "v.csv: line 1: there is no column \"s\"; there are: size, d");
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"reads_quotes_unicode_and_a_mark", reads_quotes_unicode_and_a_mark},
        {"one_column_keeps_empty_lines", one_column_keeps_empty_lines},
        {"refuses_what_is_no_table", refuses_what_is_no_table},
        {"reads_columns", reads_columns},
        {"tells_wrong_cells_by_line_and_column", tells_wrong_cells_by_line_and_column}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
