/* The builder: see graph.h. */
#include "core/nn/graph.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/nn/graph_internal.h"

dscm_code dscm_graph_open(dscm_graph **out, dscm_params *params, dscm_error *err)
{
    *out = dscm_alloc(1, sizeof **out, "network", err);
    if (!*out) return DSCM_E_MEMORY;
    (*out)->params = params;
    return DSCM_OK;
}

void dscm_graph_free(dscm_graph *g)
{
    if (!g) return;
    dscm_free(g->tensors);
    dscm_free(g->ops);
    dscm_free(g);
}

/* Room for one more item of `size` bytes; false with the graph's error set when there is none. */
static bool grow(dscm_graph *g, void **items, size_t count, size_t *capacity, size_t size)
{
    if (g->error.code != DSCM_OK) return false;
    if (count < *capacity) return true;
    size_t more = *capacity ? 2 * *capacity : 64;
    void *bigger = dscm_alloc(more, size, "network", &g->error);
    if (!bigger) return false;
    if (count) memcpy(bigger, *items, count * size);
    dscm_free(*items);
    *items = bigger;
    *capacity = more;
    return true;
}

static int add_tensor(dscm_graph *g, size_t h, size_t w, size_t c, bool per_condition, int producer)
{
    if (!grow(g, (void **)&g->tensors, g->tensors_count, &g->tensors_capacity, sizeof *g->tensors))
        return -1;
    if (!h || !w || !c) {
        dscm_fail(&g->error, DSCM_E_INVALID, "network: a tensor of %zux%zux%zu is empty", h, w, c);
        return -1;
    }
    g->tensors[g->tensors_count] = (node_tensor){.h = h,
                                                 .w = w,
                                                 .c = c,
                                                 .per_condition = per_condition,
                                                 .view_of = -1,
                                                 .producer = producer};
    return (int)g->tensors_count++;
}

/* Appends an operation on x whose output has the given dims. */
static node_op *add_op(dscm_graph *g, op_kind kind, dscm_tensor x, size_t h, size_t w, size_t c)
{
    if (!grow(g, (void **)&g->ops, g->ops_count, &g->ops_capacity, sizeof *g->ops)) return NULL;
    int out = add_tensor(g, h, w, c, g->tensors[x].per_condition, (int)g->ops_count);
    if (out < 0) return NULL;
    node_op *op = &g->ops[g->ops_count++];
    *op = (node_op){.kind = kind, .in = {x, -1, -1}, .out = out, .w = -1, .b = -1};
    return op;
}

static int add_param(dscm_graph *g, const char *prefix, const char *suffix, const size_t *dims,
                     int ndim, dscm_init init, size_t fan_in)
{
    char name[DSCM_PARAM_NAME_MAX + 16];
    snprintf(name, sizeof name, "%s%s", prefix, suffix);
    return dscm_params_add(g->params, name, dims, ndim, init, fan_in, &g->error);
}

/* A handle is unusable after the first error; builders then do nothing. */
static bool broken(const dscm_graph *g, dscm_tensor x)
{
    return g->error.code != DSCM_OK || x < 0;
}

/* ---- inputs and outputs ---- */
static dscm_tensor add_input(dscm_graph *g, const char *name, size_t h, size_t w, size_t c,
                             bool cond)
{
    int t = add_tensor(g, h, w, c, cond, -1);
    if (t < 0) return t;
    g->tensors[t].is_input = true;
    snprintf(g->tensors[t].name, NAME_MAX_BYTES, "%s", name);
    return t;
}

dscm_tensor dscm_graph_image(dscm_graph *g, const char *name, size_t h, size_t w, size_t c)
{
    return add_input(g, name, h, w, c, false);
}

dscm_tensor dscm_graph_condition(dscm_graph *g, const char *name, size_t c)
{
    return add_input(g, name, 1, 1, c, true);
}

void dscm_graph_output(dscm_graph *g, const char *name, dscm_tensor x)
{
    if (broken(g, x)) return;
    assert(!g->tensors[x].is_output && !g->tensors[x].is_input);
    g->tensors[x].is_output = true;
    snprintf(g->tensors[x].name, NAME_MAX_BYTES, "%s", name);
}

dscm_tensor dscm_graph_find(const dscm_graph *g, const char *name)
{
    for (size_t t = 0; t < g->tensors_count; t++)
        if (strcmp(g->tensors[t].name, name) == 0) return (int)t;
    return -1;
}

void dscm_graph_dims(const dscm_graph *g, dscm_tensor x, size_t *h, size_t *w, size_t *c)
{
    bool bad = broken(g, x);
    *h = bad ? 1 : g->tensors[x].h;
    *w = bad ? 1 : g->tensors[x].w;
    *c = bad ? 1 : g->tensors[x].c;
}

dscm_conv_shape dscm_graph_conv_shape(const dscm_graph *g, const node_op *op)
{
    const node_tensor *in = &g->tensors[op->in[0]];
    bool doubled = in->producer >= 0 && g->ops[in->producer].kind == OP_UPSAMPLE;
    return (dscm_conv_shape){.h = in->h,
                             .w = in->w,
                             .ci = in->c,
                             .co = g->tensors[op->out].c,
                             .kernel = op->kernel,
                             .stride = op->stride,
                             .doubled = doubled && op->stride == 1};
}

double dscm_graph_flops(const dscm_graph *g)
{
    double sum = 0;
    for (size_t i = 0; i < g->ops_count; i++) {
        const node_op *op = &g->ops[i];
        const node_tensor *out = &g->tensors[op->out];
        double pixels = (double)(out->h * out->w);
        if (op->kind == OP_CONV) {
            dscm_conv_shape shape = dscm_graph_conv_shape(g, op);
            sum += dscm_conv_flops(&shape);
        } else if (op->kind == OP_ATTENTION) {
            sum += 4 * pixels * pixels * (double)out->c;
        }
    }
    return sum;
}

bool dscm_graph_conv(const dscm_graph *g, size_t index, dscm_conv_shape *shape)
{
    for (size_t i = 0; i < g->ops_count; i++) {
        const node_op *op = &g->ops[i];
        if (op->kind != OP_CONV || g->tensors[op->in[0]].per_condition || index--) continue;
        *shape = dscm_graph_conv_shape(g, op);
        shape->doubled = false;
        return true;
    }
    return false;
}

/* ---- operations ---- */
dscm_tensor dscm_op_conv(dscm_graph *g, dscm_tensor x, const char *name, size_t co, int kernel,
                         int stride, bool zero_init, bool conv1d)
{
    if (broken(g, x)) return -1;
    node_tensor in = g->tensors[x];
    size_t s = (size_t)stride, k = (size_t)kernel;
    node_op *op = add_op(g, OP_CONV, x, (in.h - 1) / s + 1, (in.w - 1) / s + 1, co);
    if (!op) return -1;
    size_t dims[4] = {co, in.c, k, k}, fan = in.c * k * k;
    dscm_init init = zero_init ? DSCM_INIT_ZERO : DSCM_INIT_FAN_IN;
    op->kernel = kernel;
    op->stride = stride;
    op->w = add_param(g, name, ".weight", dims, conv1d ? 3 : 4, init, fan);
    op->b = add_param(g, name, ".bias", &co, 1, init, fan);
    return op->out;
}

dscm_tensor dscm_op_groupnorm(dscm_graph *g, dscm_tensor x, const char *name, size_t groups,
                              dscm_tensor emb, dscm_act act)
{
    if (broken(g, x)) return -1;
    node_tensor in = g->tensors[x];
    if (in.c % groups) {
        dscm_fail(&g->error, DSCM_E_INVALID, "%s: %zu channels are not a multiple of %zu groups",
                  name, in.c, groups);
        return -1;
    }
    node_op *op = add_op(g, OP_NORM, x, in.h, in.w, in.c);
    if (!op) return -1;
    op->in[1] = emb;
    op->groups = groups;
    op->act = act;
    op->w = add_param(g, name, ".weight", &in.c, 1, DSCM_INIT_ONE, 0);
    op->b = add_param(g, name, ".bias", &in.c, 1, DSCM_INIT_ZERO, 0);
    return op->out;
}

dscm_tensor dscm_op_linear(dscm_graph *g, dscm_tensor x, const char *name, size_t co,
                           bool zero_init)
{
    if (broken(g, x)) return -1;
    node_tensor in = g->tensors[x];
    assert(in.h == 1 && in.w == 1);
    /* A 1x1 convolution of one pixel: the same kernels, packed weights and gradients. */
    node_op *op = add_op(g, OP_CONV, x, 1, 1, co);
    if (!op) return -1;
    size_t dims[2] = {co, in.c};
    dscm_init init = zero_init ? DSCM_INIT_ZERO : DSCM_INIT_FAN_IN;
    op->kernel = op->stride = 1;
    op->w = add_param(g, name, ".weight", dims, 2, init, in.c);
    op->b = add_param(g, name, ".bias", &co, 1, init, in.c);
    return op->out;
}

dscm_tensor dscm_op_act(dscm_graph *g, dscm_tensor x, dscm_act act)
{
    if (broken(g, x)) return -1;
    node_op *op = add_op(g, OP_ACT, x, g->tensors[x].h, g->tensors[x].w, g->tensors[x].c);
    if (!op) return -1;
    op->act = act;
    return op->out;
}

dscm_tensor dscm_op_add(dscm_graph *g, dscm_tensor a, dscm_tensor b)
{
    if (broken(g, a) || broken(g, b)) return -1;
    node_tensor ta = g->tensors[a], tb = g->tensors[b];
    assert(ta.c == tb.c && ((ta.h == tb.h && ta.w == tb.w) || (tb.h == 1 && tb.w == 1)));
    /* A convolution that has just been built adds its residual itself. */
    node_op *last = g->ops_count ? &g->ops[g->ops_count - 1] : NULL;
    bool same = ta.h == tb.h && ta.w == tb.w && ta.per_condition == tb.per_condition;
    if (same && last && last->kind == OP_CONV && last->out == a && last->in[1] < 0 &&
        !ta.is_output && a != b) {
        last->in[1] = b;
        return a;
    }
    node_op *op = add_op(g, OP_ADD, a, ta.h, ta.w, ta.c);
    if (!op) return -1;
    op->in[1] = b;
    return op->out;
}

dscm_tensor dscm_op_concat(dscm_graph *g, dscm_tensor a, dscm_tensor b)
{
    if (broken(g, a) || broken(g, b)) return -1;
    node_tensor ta = g->tensors[a], tb = g->tensors[b];
    if (ta.h != tb.h || ta.w != tb.w) {
        dscm_fail(&g->error, DSCM_E_INVALID,
                  "skip connection: %zux%zu meets %zux%zu; image_size does not fit the levels",
                  ta.h, ta.w, tb.h, tb.w);
        return -1;
    }
    node_op *op = add_op(g, OP_CONCAT, a, ta.h, ta.w, ta.c + tb.c);
    if (!op) return -1;
    op->in[1] = b;
    return op->out;
}

static dscm_tensor shape_op(dscm_graph *g, op_kind kind, dscm_tensor x, size_t h, size_t w,
                            size_t c)
{
    if (broken(g, x)) return -1;
    node_op *op = add_op(g, kind, x, h, w, c);
    return op ? op->out : -1;
}

dscm_tensor dscm_op_upsample(dscm_graph *g, dscm_tensor x)
{
    size_t h, w, c;
    dscm_graph_dims(g, x, &h, &w, &c);
    return shape_op(g, OP_UPSAMPLE, x, 2 * h, 2 * w, c);
}

dscm_tensor dscm_op_avgpool(dscm_graph *g, dscm_tensor x)
{
    size_t h, w, c;
    dscm_graph_dims(g, x, &h, &w, &c);
    return shape_op(g, OP_AVGPOOL, x, h / 2, w / 2, c);
}

dscm_tensor dscm_op_maxpool(dscm_graph *g, dscm_tensor x)
{
    size_t h, w, c;
    dscm_graph_dims(g, x, &h, &w, &c);
    return shape_op(g, OP_MAXPOOL, x, h / 2, w / 2, c);
}

dscm_tensor dscm_op_mean(dscm_graph *g, dscm_tensor x)
{
    size_t h, w, c;
    dscm_graph_dims(g, x, &h, &w, &c);
    return shape_op(g, OP_MEAN, x, 1, 1, c);
}

dscm_tensor dscm_op_reshape(dscm_graph *g, dscm_tensor x, size_t h, size_t w, size_t c)
{
    size_t xh, xw, xc;
    dscm_graph_dims(g, x, &xh, &xw, &xc);
    assert(broken(g, x) || xh * xw * xc == h * w * c);
    return shape_op(g, OP_RESHAPE, x, h, w, c);
}

dscm_tensor dscm_op_dropout(dscm_graph *g, dscm_tensor x, float rate)
{
    assert(rate >= 0 && rate < 1);
    if (broken(g, x) || rate <= 0) return x;
    size_t h, w, c;
    dscm_graph_dims(g, x, &h, &w, &c);
    dscm_tensor out = shape_op(g, OP_DROPOUT, x, h, w, c);
    if (out >= 0) g->ops[g->ops_count - 1].rate = rate;
    return out;
}

dscm_tensor dscm_op_attention(dscm_graph *g, dscm_tensor qkv, size_t heads, bool new_order)
{
    size_t h, w, c;
    dscm_graph_dims(g, qkv, &h, &w, &c);
    if (broken(g, qkv)) return -1;
    if (heads < 1 || c % (3 * heads)) {
        dscm_fail(
            &g->error, DSCM_E_INVALID,
            "attention: %zu channels do not split into %zu heads (num_heads, num_head_channels)",
            c / 3, heads);
        return -1;
    }
    dscm_tensor out = shape_op(g, OP_ATTENTION, qkv, h, w, c / 3);
    if (out < 0) return -1;
    g->ops[g->ops_count - 1].heads = heads;
    g->ops[g->ops_count - 1].new_order = new_order;
    return out;
}

dscm_tensor dscm_op_pool_tokens(dscm_graph *g, dscm_tensor x, const char *name)
{
    size_t h, w, c;
    dscm_graph_dims(g, x, &h, &w, &c);
    dscm_tensor out = shape_op(g, OP_POOL_TOKENS, x, 1, h * w + 1, c);
    if (out < 0) return -1;
    size_t dims[2] = {c, h * w + 1};
    g->ops[g->ops_count - 1].w =
        add_param(g, name, ".positional_embedding", dims, 2, DSCM_INIT_NORMAL, 0);
    return out;
}

dscm_tensor dscm_op_first_token(dscm_graph *g, dscm_tensor x)
{
    size_t h, w, c;
    dscm_graph_dims(g, x, &h, &w, &c);
    return shape_op(g, OP_FIRST_TOKEN, x, 1, 1, c);
}

dscm_tensor dscm_op_time_embedding(dscm_graph *g, dscm_tensor t, size_t c)
{
    return shape_op(g, OP_TIME, t, 1, 1, c);
}

dscm_tensor dscm_op_label_embedding(dscm_graph *g, dscm_tensor label, const char *name,
                                    size_t classes, size_t c)
{
    dscm_tensor out = shape_op(g, OP_LABEL, label, 1, 1, c);
    if (out < 0) return -1;
    size_t dims[2] = {classes, c};
    g->ops[g->ops_count - 1].w = add_param(g, name, ".weight", dims, 2, DSCM_INIT_NORMAL, 0);
    return out;
}

dscm_tensor dscm_op_reparam(dscm_graph *g, dscm_tensor mu, dscm_tensor logvar, dscm_tensor noise)
{
    size_t h, w, c;
    dscm_graph_dims(g, mu, &h, &w, &c);
    dscm_tensor out = shape_op(g, OP_REPARAM, mu, h, w, c);
    if (out < 0) return -1;
    g->ops[g->ops_count - 1].in[1] = logvar;
    g->ops[g->ops_count - 1].in[2] = noise;
    return out;
}

/* ---- finishing ---- */
/* A tensor may live inside the concat buffer when it is written by an operation, is no input or
 * output (their storage is dense), is in no other buffer, and every other reader comes before the
 * buffer's readers: then backward writes the whole gradient buffer before anybody adds to a part of
 * it. */
static bool may_be_view(const dscm_graph *g, int t, size_t concat)
{
    const node_tensor *n = &g->tensors[t];
    if (n->producer < 0 || n->is_input || n->is_output || n->view_of >= 0) return false;
    if (g->ops[n->producer].kind == OP_CONCAT) return false;
    size_t first_reader = g->ops_count;
    for (size_t i = concat + 1; i < g->ops_count; i++)
        for (int k = 0; k < OP_INPUTS; k++)
            if (g->ops[i].in[k] == g->ops[concat].out && i < first_reader) first_reader = i;
    for (size_t i = 0; i < g->ops_count; i++)
        for (int k = 0; k < OP_INPUTS; k++)
            if (g->ops[i].in[k] == t && i != concat && i >= first_reader) return false;
    return true;
}

static void place_concats(dscm_graph *g)
{
    for (size_t i = 0; i < g->ops_count; i++) {
        const node_op *op = &g->ops[i];
        if (op->kind != OP_CONCAT || op->in[0] == op->in[1]) continue;
        if (g->tensors[op->out].is_output) continue;
        size_t at = 0;
        for (int k = 0; k < 2; k++) {
            node_tensor *n = &g->tensors[op->in[k]];
            if (may_be_view(g, op->in[k], i)) {
                n->view_of = op->out;
                n->view_at = at;
            }
            at += n->c;
        }
    }
}

dscm_code dscm_graph_finish(dscm_graph *g, dscm_error *err)
{
    if (g->error.code != DSCM_OK) return dscm_fail(err, g->error.code, "%s", g->error.message);
    place_concats(g);
    return DSCM_OK;
}
