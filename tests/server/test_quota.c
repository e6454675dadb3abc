/* Amounts that clients hold: both limits, giving back, clients with and without shares. */
#include "server/quota.h"

#include <stdint.h>
#include <stdlib.h>

#include "tests/harness.h"

static dscm_quota *open_quota(size_t total, size_t each)
{
    dscm_quota *quota = NULL;
    if (dscm_quota_open(&quota, total, each, NULL) != DSCM_OK) abort();
    return quota;
}

static void both_limits_hold(void)
{
    dscm_quota *quota = open_quota(100, 60);
    dscm_quota_share anna = {0}, more = {0}, bert = {0};
    CHECK_INT(dscm_quota_take(quota, "anna", &anna, 40), DSCM_QUOTA_TAKEN);
    CHECK_INT(dscm_quota_take(quota, "anna", &more, 21), DSCM_QUOTA_CLIENT_FULL);
    CHECK(!more.quota && !more.client && more.amount == 0);                 /* as it was */
    CHECK_INT(dscm_quota_take(quota, "anna", &more, 20), DSCM_QUOTA_TAKEN); /* to the limit */
    CHECK_INT(dscm_quota_held(&anna), 60);
    CHECK_INT(dscm_quota_held(&more), 60);
    CHECK_INT(dscm_quota_take(quota, "bert", &bert, 41), DSCM_QUOTA_FULL);
    CHECK_INT(dscm_quota_take(quota, "bert", &bert, 40), DSCM_QUOTA_TAKEN);
    CHECK_INT(dscm_quota_used(quota), 100);
    CHECK_INT(dscm_quota_take(quota, "bert", &bert, 1), DSCM_QUOTA_FULL);
    CHECK_INT(bert.amount, 40);
    dscm_quota_return(&anna);
    CHECK_INT(dscm_quota_used(quota), 60);
    CHECK_INT(dscm_quota_take(quota, "bert", &bert, 20), DSCM_QUOTA_TAKEN); /* the share grows */
    CHECK_INT(bert.amount, 60);
    CHECK_INT(dscm_quota_take(quota, "bert", &bert, 1), DSCM_QUOTA_CLIENT_FULL);
    dscm_quota_return(&more);
    dscm_quota_return(&bert);
    CHECK_INT(dscm_quota_used(quota), 0);
    dscm_quota_free(quota);
}

static void a_share_is_given_back_once(void)
{
    dscm_quota *quota = open_quota(10, 10);
    dscm_quota_share share = {0}, moved;
    CHECK_INT(dscm_quota_take(quota, "anna", &share, 7), DSCM_QUOTA_TAKEN);
    moved = share;
    share = (dscm_quota_share){0};
    dscm_quota_return(&share); /* holds nothing any more */
    CHECK_INT(dscm_quota_used(quota), 7);
    dscm_quota_return(&moved);
    dscm_quota_return(&moved);
    CHECK_INT(dscm_quota_used(quota), 0);
    CHECK_INT(dscm_quota_held(&moved), 0);
    dscm_quota_free(quota);
}

/* Amounts near the largest number do not wrap around. */
static void no_limit_is_the_largest_number(void)
{
    dscm_quota *quota = open_quota(0, 0);
    dscm_quota_share a = {0}, b = {0};
    CHECK_INT(dscm_quota_take(quota, "anna", &a, SIZE_MAX - 1), DSCM_QUOTA_TAKEN);
    CHECK_INT(dscm_quota_take(quota, "bert", &b, 2), DSCM_QUOTA_FULL);
    CHECK_INT(dscm_quota_take(quota, "anna", &a, 2), DSCM_QUOTA_CLIENT_FULL);
    CHECK_INT(dscm_quota_take(quota, "bert", &b, 1), DSCM_QUOTA_TAKEN);
    dscm_quota_return(&a);
    dscm_quota_return(&b);
    dscm_quota_free(quota);
}

/* More clients than the table has buckets, of which some share one, come and go in another order. */
static void clients_are_told_apart(void)
{
    enum { CLIENTS = 5000 };
    static dscm_quota_share shares[CLIENTS];
    char name[32];
    dscm_quota *quota = open_quota(0, 3);
    for (int i = 0; i < CLIENTS; i++) {
        snprintf(name, sizeof name, "10.0.%d.%d", i / 250, i % 250);
        CHECK_INT(dscm_quota_take(quota, name, &shares[i], 3), DSCM_QUOTA_TAKEN);
    }
    CHECK_INT(dscm_quota_used(quota), 3 * CLIENTS);
    for (int i = 0; i < CLIENTS; i += 7) dscm_quota_return(&shares[i]);
    for (int i = 0; i < CLIENTS; i++) {
        dscm_quota_share again = {0};
        snprintf(name, sizeof name, "10.0.%d.%d", i / 250, i % 250);
        CHECK_INT(dscm_quota_take(quota, name, &again, 1),
                  i % 7 ? DSCM_QUOTA_CLIENT_FULL : DSCM_QUOTA_TAKEN);
        dscm_quota_return(&again);
    }
    for (int i = 0; i < CLIENTS; i++) dscm_quota_return(&shares[i]);
    CHECK_INT(dscm_quota_used(quota), 0);
    dscm_quota_free(quota); /* an account left over is a leak that AddressSanitizer sees */
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"both_limits_hold", both_limits_hold},
        {"a_share_is_given_back_once", a_share_is_given_back_once},
        {"no_limit_is_the_largest_number", no_limit_is_the_largest_number},
        {"clients_are_told_apart", clients_are_told_apart},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
