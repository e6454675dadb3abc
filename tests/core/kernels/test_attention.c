/* Attention of one head: every instruction set against loops in double, from poisoned memory, and
 * the same bits however the queries are shared. */
#include <stdbool.h>

#include "core/base/rng.h"
#include "core/kernels/attention.h"
#include "tests/harness.h"

#define LD    200 /* row stride of q, k, v in one buffer */
#define LDO   80
#define GUARD 16

typedef struct head {
    size_t n, ch;
    float *qkv, *out, *scratch;
    size_t out_floats, scratch_floats;
} head;

static bool open_head(head *h, dscm_isa isa, size_t n, size_t ch)
{
    *h = (head){.n = n, .ch = ch, .out_floats = n * LDO + GUARD};
    h->scratch_floats = dscm_attention_scratch(isa, n, ch) / sizeof(float);
    h->qkv = malloc(n * LD * sizeof(float));
    h->out = malloc(h->out_floats * sizeof(float));
    h->scratch = malloc((h->scratch_floats + GUARD) * sizeof(float));
    if (!h->qkv || !h->out || !h->scratch) return false;
    dscm_rng rng = dscm_rng_make(test_seed, n * 1000 + ch);
    dscm_rng_normal(&rng, h->qkv, n * LD);
    for (size_t i = 0; i < n * LD; i++) h->qkv[i] *= 2; /* uneven scores */
    for (size_t i = 0; i < h->out_floats; i++) h->out[i] = -777;
    for (size_t i = 0; i < h->scratch_floats + GUARD; i++)
        h->scratch[i] = i < h->scratch_floats ? NAN : -777;
    return true;
}

static void close_head(head *h)
{
    free(h->qkv);
    free(h->out);
    free(h->scratch);
}

static void run(head *h, dscm_isa isa, size_t first, size_t count)
{
    dscm_attention_rows(isa, h->out, LDO, h->qkv, h->qkv + h->ch, h->qkv + 2 * h->ch, LD, h->n,
                        h->ch, 0.3f, first, count, h->scratch);
}

static double expected(const head *h, size_t row, size_t channel)
{
    double top = -1e30, total = 0, sum = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t j = 0; j < h->n; j++) {
            double s = 0;
            for (size_t c = 0; c < h->ch; c++)
                s += (double)h->qkv[row * LD + c] * (double)h->qkv[j * LD + h->ch + c];
            s *= 0.3;
            if (pass == 0) top = s > top ? s : top;
            if (pass == 0) continue;
            total += exp(s - top);
            sum += exp(s - top) * (double)h->qkv[j * LD + 2 * h->ch + channel];
        }
    return sum / total;
}

static const size_t sizes[][2] = {{1, 1},   {1, 64}, {3, 5},   {16, 32}, {31, 33},
                                  {49, 64}, {57, 8}, {64, 48}, {113, 3}, {130, 64}};

static void against_loops(void)
{
    for (int isa = 0; isa <= (int)dscm_cpu_best_isa(); isa++)
        for (size_t s = 0; s < TEST_COUNT(sizes); s++) {
            head h;
            REQUIRE(open_head(&h, (dscm_isa)isa, sizes[s][0], sizes[s][1]));
            run(&h, (dscm_isa)isa, 0, h.n);
            for (size_t r = 0; r < h.n; r++)
                for (size_t c = 0; c < LDO; c++)
                    if (c < h.ch)
                        CHECK_NEAR(h.out[r * LDO + c], expected(&h, r, c), 2e-5);
                    else
                        CHECK(h.out[r * LDO + c] == -777);
            for (size_t i = 0; i < GUARD; i++) {
                CHECK(h.out[h.n * LDO + i] == -777);
                CHECK(h.scratch[h.scratch_floats + i] == -777);
            }
            close_head(&h);
        }
}

static void any_share(void)
{
    static const size_t ends[] = {1, 8, 9, 70, 71, 130};
    head whole, parts;
    dscm_isa isa = dscm_cpu_best_isa();
    REQUIRE(open_head(&whole, isa, 130, 64) && open_head(&parts, isa, 130, 64));
    run(&whole, isa, 0, 130);
    for (size_t i = 0, first = 0; i < TEST_COUNT(ends); first = ends[i++])
        run(&parts, isa, first, ends[i] - first);
    CHECK(memcmp(whole.out, parts.out, whole.out_floats * sizeof(float)) == 0);
    close_head(&whole);
    close_head(&parts);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"against loops", against_loops}, {"any share", any_share}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
