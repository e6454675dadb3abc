/* The table beside a data set: which file, which rows. */
#include "core/data/variables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/data/idx.h"
#include "tests/harness.h"

static char dir[64] = "/tmp/diffscm-variables-XXXXXX";

static void write_text(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (f) fputs(text, f), fclose(f);
}

/* Six images of 2x2; image i is all i, its label i % 2. */
static void write_images(void)
{
    char path[512];
    uint8_t pixels[24], labels[6];
    dscm_error err = {0};
    for (int i = 0; i < 24; i++) pixels[i] = (uint8_t)(i / 4);
    for (int i = 0; i < 6; i++) labels[i] = (uint8_t)(i % 2);
    dscm_idx images = {.dims = {6, 2, 2}, .ndim = 3, .count = 24, .data = pixels};
    dscm_idx classes = {.dims = {6}, .ndim = 1, .count = 6, .data = labels};
    snprintf(path, sizeof path, "%s/train-images-idx3-ubyte", dir);
    CHECK(dscm_idx_write(&images, path, &err) == DSCM_OK);
    snprintf(path, sizeof path, "%s/train-labels-idx1-ubyte", dir);
    CHECK(dscm_idx_write(&classes, path, &err) == DSCM_OK);
}

static const char *const splits[] = {"train", "train[2:5]", "train[50%:]"};
static const char *const first_cells[] = {"10", "12", NULL};

/* Whatever part of a split is read, a row says which image it belongs to: its value is 10 + i. */
static void rows_follow_their_images(void)
{
    dscm_error err = {0};
    write_text("train-variables.csv", "v\n10\n11\n12\n13\n14\n15\n");
    write_text("variables.csv", "v\n0\n");
    for (int k = 0; k < 3; k++) {
        dscm_dataset set;
        dscm_table table;
        REQUIRE(dscm_dataset_open(&set, dir, splits[k], &err) == DSCM_OK);
        CHECK_INT(set.whole, 6);
        if (dscm_variables_read(&table, &set, dir, splits[k], NULL, &err) != DSCM_OK)
            TEST_FAIL_("%s", err.message);
        CHECK_INT(table.rows, set.count);
        for (size_t i = 0; i < table.rows; i++) {
            CHECK_INT(atoi(table.cells[i]), 10 + set.pixels[4 * i]);
            CHECK_INT(table.lines[i], 2 + set.pixels[4 * i]);
        }
        if (first_cells[k]) CHECK(strcmp(table.cells[0], first_cells[k]) == 0);
        dscm_table_free(&table);
        dscm_dataset_free(&set);
    }
}

/* variables.csv serves where the split has no table of its own; a table of another length is refused
 * with both numbers, also where a slice would fit. */
static void tables_must_fit(void)
{
    dscm_error err = {0};
    dscm_dataset set;
    dscm_table table;
    char path[512];
    snprintf(path, sizeof path, "%s/train-variables.csv", dir);
    unlink(path);
    write_text("variables.csv", "v\n1\n2\n3\n");
    REQUIRE(dscm_dataset_open(&set, dir, "train[0:3]", &err) == DSCM_OK);
    CHECK_INT(dscm_variables_read(&table, &set, dir, "train[0:3]", NULL, &err), DSCM_E_MISMATCH);
    CHECK(strstr(err.message, "/variables.csv: 3 rows for 6 images; the last row is in line 4"));
    write_text("own.csv", "v\n0\n1\n2\n3\n4\n5\n");
    snprintf(path, sizeof path, "%s/own.csv", dir);
    REQUIRE(dscm_variables_read(&table, &set, dir, "train[0:3]", path, &err) == DSCM_OK);
    CHECK_INT(table.rows, 3);
    dscm_table_free(&table);
    dscm_dataset_free(&set);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"rows_follow_their_images", rows_follow_their_images},
                                      {"tables_must_fit", tables_must_fit}};
    if (!mkdtemp(dir)) return 1;
    write_images();
    int status = test_main(argc, argv, cases, TEST_COUNT(cases));
    static const char *const files[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                        "variables.csv", "own.csv", "train-variables.csv"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    return status;
}
