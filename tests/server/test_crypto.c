/* Digests, identifiers, comparison, hexadecimal digits. */
#include "server/crypto.h"

#include <string.h>

#include "tests/harness.h"

static void digests_are_sha256(void)
{
    static const struct {
        const char *text, *hex;
    } known[] = {/* FIPS 180-4, examples; and of nothing */
                 {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
                 {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
                 {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"}};
    for (size_t i = 0; i < TEST_COUNT(known); i++) {
        uint8_t got[DSCM_DIGEST_SIZE], want[DSCM_DIGEST_SIZE];
        dscm_crypto_digest(known[i].text, strlen(known[i].text), got);
        REQUIRE(dscm_crypto_unhex(known[i].hex, want, sizeof want));
        CHECK(dscm_crypto_equal(got, want, sizeof got));
    }
}

static void identifiers_differ(void)
{
    enum { COUNT = 64 };
    char ids[COUNT][DSCM_ID_SIZE];
    unsigned seen[16] = {0};
    dscm_error err = {0};
    for (int i = 0; i < COUNT; i++) {
        CHECK_INT(dscm_crypto_id(ids[i], &err), DSCM_OK);
        CHECK_INT(strlen(ids[i]), DSCM_ID_SIZE - 1);
        CHECK_INT(strspn(ids[i], "0123456789abcdef"), DSCM_ID_SIZE - 1);
        for (int k = 0; k < i; k++) CHECK(strcmp(ids[i], ids[k]) != 0);
        for (const char *c = ids[i]; *c; c++) seen[*c <= '9' ? *c - '0' : *c - 'a' + 10]++;
    }
    /* 2048 digits, 128 of each expected: below 64 in one of 10^8 runs */
    for (int digit = 0; digit < 16; digit++) CHECK(seen[digit] > 64);
}

static void comparison_looks_at_every_byte(void)
{
    uint8_t a[DSCM_DIGEST_SIZE] = {0}, b[DSCM_DIGEST_SIZE] = {0};
    CHECK(dscm_crypto_equal(a, b, sizeof a));
    for (size_t i = 0; i < sizeof a; i++) {
        b[i] = 0x80;
        CHECK(!dscm_crypto_equal(a, b, sizeof a));
        CHECK(dscm_crypto_equal(a, b, i));
        b[i] = 0;
    }
}

static void only_hexadecimal_digits_are_read(void)
{
    static const char *const wrong[] = {"", "0", "012", "01020", "0102 ", "01 2", "0g02", "-102"};
    uint8_t out[2];
    CHECK(dscm_crypto_unhex("0aF9", out, 2));
    CHECK_INT(out[0], 0x0a);
    CHECK_INT(out[1], 0xf9);
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) CHECK(!dscm_crypto_unhex(wrong[i], out, 2));
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"digests_are_sha256", digests_are_sha256},
        {"identifiers_differ", identifiers_differ},
        {"comparison_looks_at_every_byte", comparison_looks_at_every_byte},
        {"only_hexadecimal_digits_are_read", only_hexadecimal_digits_are_read},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
