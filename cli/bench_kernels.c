/* Single kernels: the convolutions that the bundle's networks are made of, norm with activation,
 * and matrix products. */
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/kernels/gemm.h"

#define SHAPES_MAX 128
#define BATCH      ((size_t)16)

static void fill(float *x, size_t count)
{
    dscm_rng rng = dscm_rng_make(1, count);
    dscm_rng_normal(&rng, x, count);
}

/* ---- convolutions ---- */
typedef struct shape_list {
    dscm_conv_shape items[SHAPES_MAX];
    size_t count;
} shape_list;

/* Convolutions of a network that read an image of more than one pixel, each shape once. */
static void collect(shape_list *list, const dscm_net *net)
{
    dscm_conv_shape s;
    for (size_t i = 0; net && dscm_graph_conv(net->graph, i, &s); i++) {
        bool known = s.h * s.w == 1 || list->count == SHAPES_MAX;
        for (size_t k = 0; k < list->count && !known; k++) {
            const dscm_conv_shape *o = &list->items[k];
            known = o->h == s.h && o->w == s.w && o->ci == s.ci && o->co == s.co &&
                    o->kernel == s.kernel && o->stride == s.stride;
        }
        if (!known) list->items[list->count++] = s;
    }
}

typedef struct conv_job {
    dscm_conv plan;
    dscm_conv_pass pass;
    size_t batch;
    float *in, *out, *w, *packed, *dw, *sums;
    void *scratch;
} conv_job;

static void run_conv(void *arg)
{
    conv_job *j = arg;
    size_t ci = j->plan.shape.ci, co = j->plan.shape.co;
    dscm_conv_args a = {.packed = j->packed, .batch = j->batch, .scratch = j->scratch};
    if (j->pass == DSCM_CONV_WEIGHT_GRAD) {
        dscm_conv_weight_grad(&j->plan, j->sums, NULL, j->out, co, j->in, ci, j->batch, j->scratch,
                              NULL);
        dscm_conv_weight_grad_finish(&j->plan, j->dw, j->sums);
        return;
    }
    bool forward = j->pass == DSCM_CONV_FORWARD;
    a.in = forward ? j->in : j->out;
    a.ldi = forward ? ci : co;
    a.out = forward ? j->out : j->in;
    a.ldo = forward ? co : ci;
    dscm_conv_run(&j->plan, j->pass, &a);
}

static dscm_code conv_memory(conv_job *j, dscm_error *err)
{
    const dscm_conv_shape *s = &j->plan.shape;
    size_t weights = s->ci * s->co * (size_t)(s->kernel * s->kernel);
    size_t in = j->batch * s->h * s->w * s->ci;
    size_t out = j->batch * dscm_conv_out_h(s) * dscm_conv_out_w(s) * s->co;
    size_t packed = dscm_conv_packed_floats(&j->plan, j->pass);
    size_t scratch = dscm_conv_scratch_bytes(&j->plan, j->pass, j->batch, 1);
    j->in = dscm_alloc(in, sizeof *j->in, "convolution", err);
    j->out = dscm_alloc(out, sizeof *j->out, "convolution", err);
    j->w = dscm_alloc(weights, sizeof *j->w, "convolution", err);
    j->dw = dscm_alloc(weights, sizeof *j->dw, "convolution", err);
    j->sums = dscm_alloc(dscm_conv_sums_floats(&j->plan), sizeof *j->sums, "convolution", err);
    j->packed = dscm_alloc(packed + 1, sizeof *j->packed, "convolution", err);
    j->scratch = dscm_alloc(scratch + 1, 1, "convolution", err);
    if (!j->in || !j->out || !j->w || !j->dw || !j->sums || !j->packed || !j->scratch)
        return DSCM_E_MEMORY;
    fill(j->in, in);
    fill(j->out, out);
    fill(j->w, weights);
    if (packed) dscm_conv_pack(&j->plan, j->pass, j->packed, j->w);
    return DSCM_OK;
}

static dscm_code bench_conv(bench *b, const dscm_conv_shape *s, dscm_conv_pass pass, size_t batch,
                            dscm_error *err)
{
    static const char *const passes[] = {"forward", "input grad", "weight grad"};
    static const char *const algorithms[] = {"auto", "plain", "direct", "winograd", "gemm"};
    char name[64];
    conv_job j = {.plan = dscm_conv_plan(*s, b->isa, DSCM_CONV_AUTO), .pass = pass, .batch = batch};
    dscm_code code = conv_memory(&j, err);
    snprintf(name, sizeof name, "%zux%zu %zu>%zu %dx%d%s", s->h, s->w, s->ci, s->co, s->kernel,
             s->kernel, s->stride == 2 ? "/2" : "");
    if (code == DSCM_OK) {
        bench_time t = bench_measure(run_conv, &j, bench_budget(b) / 2);
        bench_add(b,
                  &(bench_row){.section = "convolutions",
                               .name = name,
                               .pass = passes[pass],
                               .algorithm = algorithms[j.plan.algo[pass]],
                               .batch = batch,
                               .threads = 1,
                               .time = t,
                               .flops = dscm_conv_flops(s) * (double)batch,
                               .memory_bytes = dscm_conv_scratch_bytes(&j.plan, pass, batch, 1)});
    }
    dscm_free(j.in);
    dscm_free(j.out);
    dscm_free(j.w);
    dscm_free(j.dw);
    dscm_free(j.sums);
    dscm_free(j.packed);
    dscm_free(j.scratch);
    return code;
}

/* ---- norm ---- */
/* A network of one operation, so that what is timed is what networks run. */
typedef struct norm_job {
    dscm_params params;
    dscm_graph *graph;
    dscm_weights *weights;
    dscm_exec *exec;
    size_t batch;
} norm_job;

static void run_norm(void *arg)
{
    norm_job *j = arg;
    dscm_exec_forward(j->exec, j->batch, 1);
}

static dscm_code open_norm(norm_job *j, const bench *b, size_t side, size_t channels,
                           dscm_error *err)
{
    dscm_code code = dscm_graph_open(&j->graph, &j->params, err);
    if (code != DSCM_OK) return code;
    dscm_tensor x = dscm_graph_image(j->graph, "x", side, side, channels);
    dscm_tensor y = dscm_op_groupnorm(j->graph, x, "norm", 32, -1, DSCM_ACT_SILU);
    dscm_graph_output(j->graph, "out", y);
    code = dscm_graph_finish(j->graph, err);
    float *values = dscm_alloc(j->params.floats + 1, sizeof *values, "norm", err);
    if (code == DSCM_OK && !values) code = DSCM_E_MEMORY;
    if (code == DSCM_OK) {
        dscm_params_init(&j->params, values, 1);
        code = dscm_weights_open(&j->weights, j->graph, values, b->isa, DSCM_EXEC_INFER, err);
    }
    dscm_free(values);
    dscm_exec_options options = {.mode = DSCM_EXEC_INFER, .batch = j->batch};
    if (code == DSCM_OK) code = dscm_exec_open(&j->exec, j->graph, j->weights, &options, err);
    if (code == DSCM_OK) fill(dscm_exec_data(j->exec, x), j->batch * side * side * channels);
    return code;
}

static dscm_code bench_norm(bench *b, size_t side, size_t channels, dscm_error *err)
{
    char name[64];
    norm_job j = {.batch = BATCH};
    dscm_code code = open_norm(&j, b, side, channels, err);
    snprintf(name, sizeof name, "%zux%zu x%zu group norm + SiLU", side, side, channels);
    if (code == DSCM_OK) {
        bench_time t = bench_measure(run_norm, &j, bench_budget(b) / 2);
        bench_add(b,
                  &(bench_row){.section = "norm and products",
                               .name = name,
                               .pass = "",
                               .algorithm = "",
                               .batch = BATCH,
                               .threads = 1,
                               .time = t,
                               .memory_bytes = dscm_exec_bytes(j.exec),
                               .moved_bytes = 2 * BATCH * side * side * channels * sizeof(float)});
    }
    dscm_exec_free(j.exec);
    dscm_weights_free(j.weights);
    dscm_graph_free(j.graph);
    dscm_params_free(&j.params);
    return code;
}

/* ---- matrix products ---- */
typedef struct gemm_job {
    size_t n;
    float *a, *b, *c;
} gemm_job;

static void run_gemm(void *arg)
{
    gemm_job *j = arg;
    dscm_gemm(false, false, j->n, j->n, j->n, 1, j->a, j->n, j->b, j->n, 0, j->c, j->n);
}

static dscm_code bench_gemm(bench *b, size_t n, dscm_error *err)
{
    char name[64];
    float *block = dscm_alloc(3 * n * n, sizeof *block, "matrix product", err);
    if (!block) return DSCM_E_MEMORY;
    gemm_job j = {.n = n, .a = block, .b = block + n * n, .c = block + 2 * n * n};
    fill(block, 3 * n * n);
    snprintf(name, sizeof name, "product %zux%zux%zu (BLAS)", n, n, n);
    bench_time t = bench_measure(run_gemm, &j, bench_budget(b) / 2);
    bench_add(b, &(bench_row){.section = "norm and products",
                              .name = name,
                              .pass = "",
                              .algorithm = "",
                              .batch = 1,
                              .threads = 1,
                              .time = t,
                              .flops = 2.0 * (double)n * (double)n * (double)n});
    dscm_free(block);
    return DSCM_OK;
}

dscm_code bench_kernels(bench *b, dscm_error *err)
{
    static const struct {
        size_t side, channels;
    } norms[] = {{28, 32}, {14, 64}, {7, 128}};
    static const size_t products[] = {64, 256, 512};
    shape_list list = {.count = 0};
    dscm_code code = DSCM_OK;
    collect(&list, b->image->score.net);
    for (size_t e = 0; e < b->bundle->edges_count; e++)
        collect(&list, b->bundle->edges[e].predictor.net);
    for (size_t batch = b->quick ? BATCH : 1; batch <= BATCH; batch *= BATCH)
        for (size_t i = 0; i < list.count; i++)
            for (int pass = 0; code == DSCM_OK && pass < DSCM_CONV_PASSES; pass++)
                code = bench_conv(b, &list.items[i], (dscm_conv_pass)pass, batch, err);
    for (size_t i = 0; code == DSCM_OK && i < sizeof norms / sizeof norms[0]; i++)
        code = bench_norm(b, norms[i].side, norms[i].channels, err);
    for (size_t i = 0; code == DSCM_OK && i < sizeof products / sizeof products[0]; i++)
        code = bench_gemm(b, products[i], err);
    return code;
}
