/* Packed blobs: what goes in comes out, and nothing else passes for one. */
#include "server/blob.h"

#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"

static dscm_blob *three(void)
{
    const dscm_span fields[] = {dscm_span_text("first"), dscm_span_text(NULL),
                                dscm_span_of("a\0b", 3)};
    return dscm_blob_pack(fields, TEST_COUNT(fields));
}

static void fields_come_back(void)
{
    dscm_blob *blob = three();
    REQUIRE(blob != NULL);
    CHECK(dscm_blob_valid(blob->bytes, blob->size));
    CHECK_INT(dscm_blob_count(blob), 3);
    CHECK_STR(dscm_blob_text(blob, 0), "first");
    CHECK_INT(dscm_blob_field(blob, 0).size, 5);
    CHECK_INT(dscm_blob_field(blob, 1).size, 0);
    CHECK_STR(dscm_blob_text(blob, 1), "");
    CHECK_INT(dscm_blob_field(blob, 2).size, 3);
    CHECK(memcmp(dscm_blob_field(blob, 2).data, "a\0b", 4) == 0); /* with the zero behind it */
    CHECK_INT(dscm_blob_field(blob, 3).size, 0);
    CHECK_STR(dscm_blob_text(blob, 3), "");
    dscm_blob *copy = dscm_blob_copy(blob->bytes, blob->size);
    REQUIRE(copy != NULL);
    dscm_blob_unref(blob);
    CHECK_STR(dscm_blob_text(copy, 0), "first"); /* owns its bytes */
    dscm_blob_unref(copy);
}

static void an_empty_list_is_a_blob(void)
{
    dscm_blob *blob = dscm_blob_pack(NULL, 0);
    REQUIRE(blob != NULL);
    CHECK(dscm_blob_valid(blob->bytes, blob->size));
    CHECK_INT(dscm_blob_count(blob), 0);
    dscm_blob_unref(blob);
}

static void there_are_at_most_so_many_fields(void)
{
    static dscm_span fields[DSCM_BLOB_FIELDS_MAX + 1];
    for (size_t i = 0; i < TEST_COUNT(fields); i++) fields[i] = dscm_span_text("x");
    dscm_blob *blob = dscm_blob_pack(fields, DSCM_BLOB_FIELDS_MAX);
    REQUIRE(blob != NULL);
    CHECK(dscm_blob_valid(blob->bytes, blob->size));
    CHECK_STR(dscm_blob_text(blob, DSCM_BLOB_FIELDS_MAX - 1), "x");
    dscm_blob_unref(blob);
    CHECK(dscm_blob_pack(fields, DSCM_BLOB_FIELDS_MAX + 1) == NULL);
}

/* Every length cut off, and every byte of the head changed: none is valid but the whole. */
static void damaged_bytes_are_no_blob(void)
{
    dscm_blob *blob = three();
    REQUIRE(blob != NULL);
    const size_t head = 8 + 3 * 8;
    for (size_t size = 0; size < blob->size; size++) {
        uint8_t *cut = malloc(size ? size : 1); /* its own block: reading past it is seen */
        REQUIRE(cut != NULL);
        memcpy(cut, blob->bytes, size);
        CHECK(!dscm_blob_valid(cut, size));
        free(cut);
    }
    for (size_t i = 0; i < head; i++)
        for (int bit = 0; bit < 8; bit++) {
            blob->bytes[i] ^= (uint8_t)(1 << bit);
            CHECK(!dscm_blob_valid(blob->bytes, blob->size));
            blob->bytes[i] ^= (uint8_t)(1 << bit);
        }
    blob->bytes[head + 5] = 'x'; /* the zero behind "first" */
    CHECK(!dscm_blob_valid(blob->bytes, blob->size));
    dscm_blob_unref(blob);
}

static void references_keep_it(void)
{
    dscm_blob *blob = three();
    REQUIRE(blob != NULL);
    CHECK(dscm_blob_ref(blob) == blob);
    CHECK_INT(atomic_load(&blob->references), 2);
    dscm_blob_unref(blob);
    CHECK_STR(dscm_blob_text(blob, 0), "first");
    dscm_blob_unref(blob);
    CHECK(dscm_blob_ref(NULL) == NULL);
    dscm_blob_unref(NULL);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"fields_come_back", fields_come_back},
        {"an_empty_list_is_a_blob", an_empty_list_is_a_blob},
        {"there_are_at_most_so_many_fields", there_are_at_most_so_many_fields},
        {"damaged_bytes_are_no_blob", damaged_bytes_are_no_blob},
        {"references_keep_it", references_keep_it},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
