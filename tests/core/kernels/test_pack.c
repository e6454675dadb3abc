/* Weights in 16 bits and their packing: every instruction set against the scalar conversions, plain
 * loops and packing of the widened values. */
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/base/team.h"
#include "core/kernels/conv.h"
#include "core/kernels/simd/pack_simd.h"
#include "tests/harness.h"

static uint32_t bits_of(float v)
{
    return dscm_float_bits(v);
}

/* All 65536 patterns of both types, from an odd address. */
static void widen(void)
{
    enum { ALL = 65536 };
    unsigned char *in = malloc(2 * ALL + 1);
    float *out = malloc(ALL * sizeof *out);
    REQUIRE(in && out);
    for (uint32_t i = 0; i < ALL; i++) {
        uint16_t h = (uint16_t)i;
        memcpy(in + 1 + 2 * i, &h, 2);
    }
    for (int isa = 0; isa <= (int)dscm_cpu_best_isa(); isa++)
        for (int type = DSCM_STORE_F16; type <= DSCM_STORE_BF16; type++) {
            dscm_pack_kernels_of((dscm_isa)isa)->widen(out, in + 1, ALL, (dscm_store)type);
            for (uint32_t i = 0; i < ALL; i++) {
                uint16_t h = (uint16_t)i;
                float want = type == DSCM_STORE_F16 ? dscm_half_to_float(h) : dscm_bf16_to_float(h);
                if (isnan(want) ? !isnan(out[i]) : bits_of(out[i]) != bits_of(want)) {
                    TEST_FAIL_("isa %d type %d: %04x is %08x, expected %08x", isa, type, h,
                               bits_of(out[i]), bits_of(want));
                    break;
                }
            }
        }
    free(in);
    free(out);
}

/* Random bit patterns, and the neighbours of every float16 and of the points between two of them.
 */
static void narrow(void)
{
    enum { RANDOM = 200000, EDGES = 6 * 65536, COUNT = RANDOM + EDGES };
    float *in = malloc(COUNT * sizeof *in);
    uint16_t *out = malloc(COUNT * sizeof *out);
    REQUIRE(in && out);
    dscm_rng rng = dscm_rng_make(test_seed, 1);
    for (size_t i = 0; i < RANDOM; i++) in[i] = dscm_bits_float(dscm_rng_u32(&rng));
    for (uint32_t h = 0; h < 65536; h++) {
        uint32_t here = bits_of(dscm_half_to_float((uint16_t)h));
        uint32_t next = bits_of(dscm_half_to_float((uint16_t)(h + 1)));
        uint32_t middle = here / 2 + next / 2;
        const uint32_t edges[6] = {here, here + 1, here - 1, middle, middle + 1, middle - 1};
        for (size_t k = 0; k < 6; k++) in[RANDOM + 6 * h + k] = dscm_bits_float(edges[k]);
    }
    for (int isa = 0; isa <= (int)dscm_cpu_best_isa(); isa++)
        for (int type = DSCM_STORE_F16; type <= DSCM_STORE_BF16; type++) {
            dscm_pack_kernels_of((dscm_isa)isa)->narrow(out, in, COUNT, (dscm_store)type);
            for (size_t i = 0; i < COUNT; i++) {
                uint16_t want =
                    type == DSCM_STORE_F16 ? dscm_float_to_half(in[i]) : dscm_float_to_bf16(in[i]);
                if (isnan(in[i]) ? (out[i] & 0x7fff) <= (type == DSCM_STORE_F16 ? 0x7c00 : 0x7f80)
                                 : out[i] != want) {
                    TEST_FAIL_("isa %d type %d: %08x is %04x, expected %04x", isa, type,
                               bits_of(in[i]), out[i], want);
                    break;
                }
            }
        }
    free(in);
    free(out);
}

static void transpose(void)
{
    enum { ROWS = 37, COLUMNS = 45, IN = 50, OUT = 41 };
    static float in[ROWS * IN], out[COLUMNS * OUT];
    for (size_t i = 0; i < ROWS * IN; i++) in[i] = (float)i;
    for (int isa = 0; isa <= (int)dscm_cpu_best_isa(); isa++)
        for (size_t rows = 1; rows <= ROWS; rows += 4)
            for (size_t columns = 1; columns <= COLUMNS; columns += 4) {
                for (size_t i = 0; i < COLUMNS * OUT; i++) out[i] = -1;
                dscm_pack_kernels_of((dscm_isa)isa)->transpose(out, OUT, in, IN, rows, columns);
                bool right = true;
                for (size_t j = 0; j < COLUMNS; j++)
                    for (size_t r = 0; r < OUT; r++)
                        right &=
                            out[j * OUT + r] == (r < rows && j < columns ? in[r * IN + j] : -1.0f);
                CHECK(right);
            }
}

/* Packing from 16 bits by a team is packing of the widened values, bit for bit. */
static void pack_from_half(void)
{
    static const dscm_conv_shape shapes[] = {
        {8, 8, 5, 3, 3, 1, false},    {5, 7, 24, 40, 3, 1, false}, {32, 32, 48, 64, 3, 1, false},
        {1, 1, 70, 33, 1, 1, false},  {9, 9, 16, 4, 3, 2, false},  {40, 40, 352, 352, 3, 1, false},
        {16, 16, 1, 32, 3, 1, false}, {4, 4, 32, 32, 3, 1, false},
    };
    dscm_team *team = NULL;
    dscm_error err = {0};
    REQUIRE(dscm_team_open(&team, 3, &err) == DSCM_OK);
    for (size_t s = 0; s < TEST_COUNT(shapes); s++)
        for (int isa = 0; isa <= (int)dscm_cpu_best_isa(); isa++)
            for (int pass = DSCM_CONV_FORWARD; pass <= DSCM_CONV_INPUT_GRAD; pass++) {
                const dscm_conv_shape *c = &shapes[s];
                dscm_conv plan = dscm_conv_plan(*c, (dscm_isa)isa, DSCM_CONV_AUTO);
                size_t count = c->ci * c->co * (size_t)(c->kernel * c->kernel);
                size_t packed = dscm_conv_packed_floats(&plan, (dscm_conv_pass)pass);
                float *wide = dscm_alloc(count, sizeof(float), "test", &err);
                uint16_t *half = dscm_alloc(count, sizeof *half, "test", &err);
                float *a = dscm_alloc(packed, sizeof(float), "test", &err);
                float *b = dscm_alloc(packed, sizeof(float), "test", &err);
                REQUIRE(wide && half && a && b);
                dscm_rng rng = dscm_rng_make(test_seed, s);
                dscm_rng_normal(&rng, wide, count);
                const dscm_pack_kernels *k = dscm_pack_kernels_of(DSCM_ISA_BASE);
                k->narrow(half, wide, count, DSCM_STORE_F16);
                k->widen(wide, half, count, DSCM_STORE_F16);
                memset(b, 0xff, packed * sizeof *b); /* poison: everything is to be written */
                dscm_conv_pack(&plan, (dscm_conv_pass)pass, a, wide);
                dscm_conv_pack_from(&plan, (dscm_conv_pass)pass, b, half, DSCM_STORE_F16, team);
                CHECK_INT(memcmp(a, b, packed * sizeof *a), 0);
                dscm_free(wide);
                dscm_free(half);
                dscm_free(a);
                dscm_free(b);
            }
    dscm_team_free(team);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"widen", widen},
                                      {"narrow", narrow},
                                      {"transpose", transpose},
                                      {"pack_from_half", pack_from_half}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
