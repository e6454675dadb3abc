/* Each operation: gradients against differences, and the forward of those with a formula of their
 * own against plain loops in double. */
#include "tests/core/nn/gradcheck.h"

/* Finishes the graph, checks all gradients with one condition row per image and with a shared one.
 */
static void check(rig *r, dscm_tensor out, const char *what)
{
    dscm_error err = {0};
    dscm_graph_output(r->graph, "out", out);
    r->out = out;
    CHECK_INT(dscm_graph_finish(r->graph, &err), DSCM_OK);
    if (err.code == DSCM_OK) {
        rig_open(r, dscm_cpu_best_isa(), DSCM_EXEC_PARAM_GRAD, NULL);
        rig_check(r, what);
    }
    rig_close(r);
}

static void convolution(void)
{
    const struct {
        int kernel, stride;
        size_t h, w, ci, co;
    } cases[] = {{3, 1, 5, 6, 3, 7}, {3, 2, 7, 5, 4, 16}, {1, 1, 3, 3, 5, 2}, {3, 1, 8, 8, 32, 32}};
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        rig r;
        rig_start(&r, 2, 1);
        dscm_tensor x = rig_image(&r, cases[i].h, cases[i].w, cases[i].ci);
        check(&r,
              dscm_op_conv(r.graph, x, "c", cases[i].co, cases[i].kernel, cases[i].stride, false,
                           cases[i].kernel == 1),
              "conv");
    }
}

/* The residual is fused into the convolution, and its source is read twice more. */
static void residual(void)
{
    rig r;
    rig_start(&r, 3, 1);
    dscm_tensor x = rig_image(&r, 4, 4, 4);
    dscm_tensor a = dscm_op_conv(r.graph, x, "a", 4, 3, 1, false, false);
    dscm_tensor n = dscm_op_act(r.graph, a, DSCM_ACT_SILU);
    dscm_tensor b = dscm_op_conv(r.graph, n, "b", 4, 3, 1, false, false);
    dscm_tensor sum = dscm_op_add(r.graph, b, a);
    check(&r, dscm_op_add(r.graph, sum, a), "residual");
}

static void norm(void)
{
    for (int act = 0; act < 3; act++)
        for (size_t conditions = 0; conditions < 3; conditions++) {
            rig r;
            rig_start(&r, 2, conditions == 2 ? 2 : 1);
            dscm_tensor x = rig_image(&r, 5, 3, 12), emb = -1;
            if (conditions) {
                dscm_tensor c = rig_condition(&r, 3);
                emb = dscm_op_linear(r.graph, c, "e", 24, false);
            }
            if (act == DSCM_ACT_RELU) x = dscm_op_add(r.graph, x, x);
            check(&r, dscm_op_groupnorm(r.graph, x, "n", 4, emb, (dscm_act)act), "norm");
        }
}

static void pointwise(void)
{
    rig r;
    rig_start(&r, 2, 2);
    dscm_tensor x = rig_image(&r, 1, 1, 5), c = rig_condition(&r, 5);
    dscm_tensor h = dscm_op_linear(r.graph, x, "l", 9, false);
    h = dscm_op_act(r.graph, h, DSCM_ACT_SILU);
    dscm_tensor e = dscm_op_linear(r.graph, c, "e", 9, false);
    check(&r, dscm_op_add(r.graph, h, e), "linear, act, add");
    for (size_t conditions = 1; conditions <= 3; conditions += 2) {
        rig_start(&r, 3, conditions);
        x = rig_image(&r, 3, 2, 4);
        c = rig_condition(&r, 4);
        e = dscm_op_linear(r.graph, c, "e", 4, false);
        check(&r, dscm_op_add(r.graph, x, e), "add of one pixel");
    }
}

/* Skips as in a UNet: views of the buffer, a view read before and after, copies of inputs. */
static void concat(void)
{
    for (int kind = 0; kind < 4; kind++) {
        rig r;
        rig_start(&r, 2, 1);
        dscm_tensor x = rig_image(&r, 4, 4, 3), y = rig_image(&r, 4, 4, 5);
        dscm_tensor a = dscm_op_conv(r.graph, x, "a", 4, 3, 1, false, false);
        dscm_tensor b = dscm_op_conv(r.graph, kind == 2 ? y : a, "b", 6, 3, 1, false, false);
        dscm_tensor cat = kind == 2   ? dscm_op_concat(r.graph, x, b)
                          : kind == 3 ? dscm_op_concat(r.graph, a, a)
                                      : dscm_op_concat(r.graph, b, a);
        dscm_tensor out = dscm_op_conv(r.graph, cat, "c", 4, 3, 1, false, false);
        if (kind == 1) { /* the skip is read again after the buffer */
            out = dscm_op_act(r.graph, out, DSCM_ACT_SILU);
            out = dscm_op_add(r.graph, out, a);
        }
        if (kind == 3)
            out = dscm_op_add(r.graph, out, dscm_op_conv(r.graph, b, "d", 4, 1, 1, false, false));
        check(&r, out, "concat");
    }
}

static void resampling(void)
{
    dscm_tensor (*const ops[])(dscm_graph *, dscm_tensor) = {dscm_op_upsample, dscm_op_avgpool,
                                                             dscm_op_mean};
    for (size_t i = 0; i < TEST_COUNT(ops); i++)
        for (int twice = 0; twice < 2; twice++) {
            rig r;
            rig_start(&r, 2, 1);
            dscm_tensor x = rig_image(&r, 5, 7, 3), out = ops[i](r.graph, x);
            if (twice) { /* its source is read again, and its output is reshaped */
                size_t h, w, c;
                dscm_tensor again = ops[i](r.graph, x);
                dscm_graph_dims(r.graph, out, &h, &w, &c);
                out = dscm_op_add(r.graph, dscm_op_reshape(r.graph, out, 1, h * w, c),
                                  dscm_op_reshape(r.graph, again, 1, h * w, c));
            }
            check(&r, out, "resample");
        }
}

/* A convolution of a doubled image leaves products out; what else reads that image must not notice. */
static void doubled(void)
{
    for (int again = 0; again < 2; again++) {
        rig r;
        rig_start(&r, 2, 1);
        dscm_tensor x = rig_image(&r, 3, 5, 16), big = dscm_op_upsample(r.graph, x);
        dscm_tensor out = dscm_op_conv(r.graph, big, "c", 16, 3, 1, false, false);
        if (again) out = dscm_op_add(r.graph, dscm_op_act(r.graph, big, DSCM_ACT_SILU), out);
        check(&r, out, "doubled");
    }
}

/* Inputs far apart: a step of the differences must not change which of four is the largest. */
static void maxpool(void)
{
    rig r;
    uint32_t order[210];
    rig_start(&r, 2, 1);
    dscm_tensor x = rig_image(&r, 5, 7, 3);
    r.out = dscm_op_add(r.graph, dscm_op_maxpool(r.graph, x), dscm_op_maxpool(r.graph, x));
    dscm_graph_output(r.graph, "out", r.out);
    REQUIRE(dscm_graph_finish(r.graph, NULL) == DSCM_OK);
    rig_open(&r, dscm_cpu_best_isa(), DSCM_EXEC_PARAM_GRAD, NULL);
    dscm_rng rng = dscm_rng_make(test_seed, 1);
    dscm_rng_permute(&rng, order, 210);
    for (int i = 0; i < 210; i++) dscm_exec_data(r.exec, x)[i] = 0.25f * (float)order[i];
    rig_check(&r, "maxpool");
    rig_close(&r);
}

static void tokens(void)
{
    rig r;
    rig_start(&r, 2, 1);
    dscm_tensor x = rig_image(&r, 3, 3, 8);
    dscm_tensor h = dscm_op_pool_tokens(r.graph, x, "pool");
    h = dscm_op_conv(r.graph, h, "qkv", 24, 1, 1, false, true);
    h = dscm_op_attention(r.graph, h, 2, true);
    check(&r, dscm_op_first_token(r.graph, h), "token pool");
}

static void embeddings(void)
{
    rig r;
    dscm_error err = {0};
    rig_start(&r, 2, 2);
    dscm_tensor t = rig_condition(&r, 1), label = rig_condition(&r, 1);
    dscm_tensor e = dscm_op_time_embedding(r.graph, t, 8);
    e = dscm_op_add(r.graph, dscm_op_linear(r.graph, e, "l", 6, false),
                    dscm_op_label_embedding(r.graph, label, "label", 5, 6));
    dscm_tensor x = rig_image(&r, 2, 2, 6);
    r.out = dscm_op_add(r.graph, x, e);
    dscm_graph_output(r.graph, "out", r.out);
    REQUIRE(dscm_graph_finish(r.graph, &err) == DSCM_OK);
    rig_open(&r, dscm_cpu_best_isa(), DSCM_EXEC_PARAM_GRAD, NULL);
    dscm_exec_data(r.exec, t)[0] = 7;
    dscm_exec_data(r.exec, t)[1] = 990;
    dscm_exec_data(r.exec, label)[0] = 4;
    dscm_exec_data(r.exec, label)[1] = 0;
    rig_check(&r, "embeddings");
    rig_close(&r);
}

static void time_embedding(void)
{
    rig r;
    rig_start(&r, 2, 2);
    dscm_tensor t = rig_condition(&r, 1), x = rig_image(&r, 1, 1, 10);
    r.out = dscm_op_add(r.graph, x, dscm_op_time_embedding(r.graph, t, 10));
    dscm_graph_output(r.graph, "out", r.out);
    REQUIRE(dscm_graph_finish(r.graph, NULL) == DSCM_OK);
    rig_open(&r, dscm_cpu_best_isa(), DSCM_EXEC_INFER, NULL);
    memset(dscm_exec_data(r.exec, x), 0, 20 * sizeof(float));
    dscm_exec_data(r.exec, t)[0] = 3;
    dscm_exec_data(r.exec, t)[1] = 999;
    rig_forward(&r);
    for (int row = 0; row < 2; row++)
        for (int i = 0; i < 5; i++) {
            double angle = (row ? 999 : 3) * exp(-log(10000.0) * i / 5);
            const float *out = dscm_exec_data(r.exec, r.out) + row * 10;
            CHECK_NEAR(out[i], cos(angle), 1e-4);
            CHECK_NEAR(out[5 + i], sin(angle), 1e-4);
        }
    rig_close(&r);
}

static void reparam(void)
{
    rig r;
    rig_start(&r, 2, 1);
    dscm_tensor mu = rig_image(&r, 1, 1, 4), logvar = rig_image(&r, 1, 1, 4),
                noise = rig_image(&r, 1, 1, 4);
    check(&r, dscm_op_reparam(r.graph, mu, logvar, noise), "reparam");
    /* Each input also has another way to the output, whose gradient is there before. */
    rig_start(&r, 2, 1);
    mu = rig_image(&r, 1, 1, 4);
    logvar = rig_image(&r, 1, 1, 4);
    noise = rig_image(&r, 1, 1, 4);
    dscm_tensor z = dscm_op_reparam(r.graph, mu, logvar, noise);
    z = dscm_op_add(r.graph, dscm_op_add(r.graph, z, mu), dscm_op_add(r.graph, logvar, noise));
    check(&r, z, "reparam beside");
}

/* Dropout draws the same mask for the same seed and sample, keeps the mean and has its gradient. */
static void dropout(void)
{
    rig r;
    rig_start(&r, 2, 1);
    r.drop_seed = 9;
    dscm_tensor x = rig_image(&r, 6, 6, 8);
    r.out = dscm_op_dropout(r.graph, dscm_op_conv(r.graph, x, "c", 8, 1, 1, false, false), 0.25f);
    dscm_graph_output(r.graph, "out", r.out);
    REQUIRE(dscm_graph_finish(r.graph, NULL) == DSCM_OK);
    rig_open(&r, dscm_cpu_best_isa(), DSCM_EXEC_PARAM_GRAD, NULL);
    rig_check(&r, "dropout");
    float dropped[576];
    size_t zeros = 0;
    rig_forward(&r); /* the check left another one's output */
    memcpy(dropped, dscm_exec_data(r.exec, r.out), sizeof dropped);
    for (size_t i = 0; i < 576; i++) zeros += dropped[i] == 0.0f;
    CHECK(zeros > 576 * 0.18 && zeros < 576 * 0.32);
    r.drop_seed = 0;
    rig_forward(&r);
    for (size_t i = 0; i < 576; i++) {
        double whole = (double)dscm_exec_data(r.exec, r.out)[i];
        CHECK(whole != 0);
        if (dropped[i] != 0.0f) CHECK_NEAR(dropped[i], whole / (1 - 0.25), 1e-5);
    }
    rig_close(&r);
}

/* ---- forward against plain loops ---- */
#define TOKENS 9
#define HEADS  2
#define WIDTH  3 /* channels of a head */

/* out channel h*WIDTH+i of token s; parts by their rows in the two published orders. */
static double attention_reference(const float *qkv, bool new_order, size_t s, size_t head, size_t i)
{
    const size_t c = HEADS * WIDTH, row = 3 * c;
    size_t at[3];
    for (size_t part = 0; part < 3; part++)
        at[part] = new_order ? part * c + head * WIDTH : head * 3 * WIDTH + part * WIDTH;
    double weight[TOKENS], total = 0, sum = 0;
    for (size_t u = 0; u < TOKENS; u++) {
        double dot = 0;
        for (size_t k = 0; k < WIDTH; k++)
            dot += (double)qkv[s * row + at[0] + k] * (double)qkv[u * row + at[1] + k];
        total += weight[u] = exp(dot / sqrt(WIDTH));
    }
    for (size_t u = 0; u < TOKENS; u++) sum += weight[u] / total * (double)qkv[u * row + at[2] + i];
    return sum;
}

static void attention(void)
{
    for (int order = 0; order < 2; order++) {
        rig r;
        rig_start(&r, 2, 1);
        dscm_tensor x = rig_image(&r, 3, 3, 3 * HEADS * WIDTH);
        r.out = dscm_op_attention(r.graph, x, HEADS, order);
        dscm_graph_output(r.graph, "out", r.out);
        REQUIRE(dscm_graph_finish(r.graph, NULL) == DSCM_OK);
        rig_open(&r, dscm_cpu_best_isa(), DSCM_EXEC_PARAM_GRAD, NULL);
        const float *in = dscm_exec_data(r.exec, x), *out = dscm_exec_data(r.exec, r.out);
        for (size_t p = 0; p < 2 * TOKENS; p++)
            for (size_t c = 0; c < HEADS * WIDTH; c++)
                CHECK_NEAR(out[p * HEADS * WIDTH + c],
                           attention_reference(in + p / TOKENS * TOKENS * 3 * HEADS * WIDTH, order,
                                               p % TOKENS, c / WIDTH, c % WIDTH),
                           1e-5);
        rig_check(&r, "attention");
        rig_close(&r);
    }
}

/* Scale is the first half of the embedding; a mean of 1000 must not swallow the variance; more
 * pixels than one block of float sums. Every instruction set. */
static void norm_forward(void)
{
    for (int isa = 0; isa <= (int)dscm_cpu_best_isa(); isa++) {
        const size_t pixels = 48 * 48, c = 20, groups = 5;
        rig r;
        rig_start(&r, 1, 1);
        dscm_tensor x = rig_image(&r, 48, 48, c), emb = rig_condition(&r, 2 * c);
        r.out = dscm_op_groupnorm(r.graph, x, "n", groups, emb, DSCM_ACT_SILU);
        dscm_graph_output(r.graph, "out", r.out);
        REQUIRE(dscm_graph_finish(r.graph, NULL) == DSCM_OK);
        rig_open(&r, (dscm_isa)isa, DSCM_EXEC_INFER, NULL);
        float *in = dscm_exec_data(r.exec, x);
        const float *e = dscm_exec_data(r.exec, emb);
        for (size_t i = 0; i < pixels * c; i++) in[i] += i % c < 4 ? 1000 : 1;
        rig_forward(&r);
        double worst = 0;
        for (size_t g = 0; g < groups; g++) {
            double mean = 0, square = 0, n = (double)(pixels * 4);
            for (size_t i = 0; i < pixels * 4; i++)
                mean += (double)in[i / 4 * c + g * 4 + i % 4] / n;
            for (size_t i = 0; i < pixels * 4; i++)
                square += pow((double)in[i / 4 * c + g * 4 + i % 4] - mean, 2) / n;
            for (size_t i = 0; i < pixels * 4; i++) {
                size_t k = g * 4 + i % 4, at = i / 4 * c + k;
                double y = ((double)in[at] - mean) / sqrt(square + 1e-5);
                y = y * (double)r.values[k] + (double)r.values[c + k];
                y = y * (1 + (double)e[k]) + (double)e[c + k];
                worst = fmax(worst,
                             fabs(y / (1 + exp(-y)) - (double)dscm_exec_data(r.exec, r.out)[at]));
            }
        }
        CHECK_NEAR(worst, 0, 1e-3); /* 1000 carries 6e-5 of rounding into x - mean */
        rig_close(&r);
    }
}

static void impossible_shapes(void)
{
    for (int kind = 0; kind < 3; kind++) {
        rig r;
        dscm_error err = {0};
        rig_start(&r, 1, 1);
        dscm_tensor x = rig_image(&r, 5, 5, 6), out = x;
        if (kind == 0) out = dscm_op_groupnorm(r.graph, x, "n", 4, -1, DSCM_ACT_NONE);
        if (kind == 1) out = dscm_op_concat(r.graph, x, dscm_op_avgpool(r.graph, x));
        if (kind == 2) out = dscm_op_attention(r.graph, x, 4, true);
        out = dscm_op_conv(r.graph, out, "after", 3, 3, 1, false, false); /* harmless */
        dscm_graph_output(r.graph, "out", out);
        CHECK_INT(dscm_graph_finish(r.graph, &err), DSCM_E_INVALID);
        CHECK(err.message[0] != 0);
        rig_close(&r);
    }
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {{"convolution", convolution},
                                      {"residual", residual},
                                      {"norm", norm},
                                      {"pointwise", pointwise},
                                      {"concat", concat},
                                      {"resampling", resampling},
                                      {"doubled", doubled},
                                      {"maxpool", maxpool},
                                      {"tokens", tokens},
                                      {"embeddings", embeddings},
                                      {"time_embedding", time_embedding},
                                      {"reparam", reparam},
                                      {"dropout", dropout},
                                      {"attention", attention},
                                      {"norm_forward", norm_forward},
                                      {"impossible_shapes", impossible_shapes}};
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
